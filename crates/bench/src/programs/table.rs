//! One line of Markdown for each promise, and what a reader must know below the table.

use std::fmt;
use std::io::Write;

use anyhow::{Context, Error, Result};
use serde::Serialize;

use crate::compare::{Limit, Short, Verdict};

/// A promise, what was measured for it, and whether it is kept.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// What was measured.
    pub name: String,
    /// Unit of both values.
    pub unit: &'static str,
    /// The node's value.
    pub ours: Option<f64>,
    /// What it is held against.
    pub beside: Beside,
    /// What the limit holds for.
    pub value: Option<f64>,
    /// The promise.
    pub limit: Option<Limit>,
    /// Whether it is kept.
    pub verdict: Verdict,
    /// What a reader must know to believe the row.
    pub notes: Vec<String>,
}

/// The other value of a row, and how the two are compared.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Beside {
    /// There is none: the limit is for the node's value.
    Nothing,
    /// The limit is for ours divided by this.
    Ratio(f64),
    /// The limit is for what ours is above this.
    Difference(f64),
    /// To compare it with; the limit is for the node's value.
    Shown(f64),
}

impl Row {
    /// A row that was measured.
    #[must_use]
    pub fn measured(
        name: impl Into<String>,
        unit: &'static str,
        (ours, beside): (f64, Beside),
        limit: Limit,
    ) -> Self {
        let value = match beside {
            Beside::Nothing | Beside::Shown(_) => ours,
            Beside::Ratio(other) => ours / other,
            Beside::Difference(other) => ours - other,
        };
        Self {
            name: name.into(),
            unit,
            ours: Some(ours),
            beside,
            value: Some(value),
            limit: Some(limit),
            verdict: if limit.holds(value) {
                Verdict::Ok
            } else {
                Verdict::Broken
            },
            notes: Vec::new(),
        }
    }

    /// With something to know.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    /// With more to know.
    #[must_use]
    pub fn notes(mut self, notes: impl IntoIterator<Item = String>) -> Self {
        self.notes.extend(notes);
        self
    }

    fn without_values(name: &str, verdict: Verdict) -> Self {
        Self {
            name: name.to_owned(),
            unit: "",
            ours: None,
            beside: Beside::Nothing,
            value: None,
            limit: None,
            verdict,
            notes: Vec::new(),
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let with_unit = |value: f64| format!("{} {}", Short(value), self.unit);
        let ours = self.ours.map(with_unit).unwrap_or_default();
        let (other, value) = match (self.beside, self.value) {
            (Beside::Nothing, _) | (_, None) => (String::new(), ours.clone()),
            (Beside::Shown(other), _) => (with_unit(other), ours.clone()),
            (Beside::Ratio(other), Some(value)) => (with_unit(other), format!("{value:.2} ×")),
            (Beside::Difference(other), Some(value)) => {
                (with_unit(other), format!("{} more", with_unit(value)))
            }
        };
        let of_limit = |limit: f64| match self.beside {
            Beside::Ratio(_) => format!("{limit} ×"),
            _ => format!("{limit} {}", self.unit),
        };
        let limit = match self.limit {
            Some(Limit::AtMost(limit)) => format!("≤ {}", of_limit(limit)),
            Some(Limit::AtLeast(limit)) => format!("≥ {}", of_limit(limit)),
            None => String::new(),
        };
        let verdict = match &self.verdict {
            Verdict::Ok => "holds".to_owned(),
            Verdict::Broken => "**BROKEN**".to_owned(),
            Verdict::Skipped(why) => format!("skipped: {}", cell(why)),
            Verdict::Failed(why) => format!("**FAILED**: {}", cell(why)),
        };
        write!(
            f,
            "| {} | {ours} | {other} | {value} | {limit} | {verdict} |",
            self.name
        )
    }
}

/// Text that stays in its cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

/// The rows so far, each written when it is known.
pub(super) struct Rows<'a> {
    rows: Vec<Row>,
    progress: &'a mut dyn Write,
}

impl<'a> Rows<'a> {
    pub(super) fn begin(progress: &'a mut dyn Write) -> Result<Self> {
        writeln!(progress, "| | node | beside it | compared | limit | |")?;
        writeln!(progress, "| --- | --- | --- | --- | --- | --- |")?;
        Ok(Self {
            rows: Vec::new(),
            progress,
        })
    }

    pub(super) fn add(&mut self, row: Row) -> Result<()> {
        writeln!(self.progress, "{row}").context("cannot write a row")?;
        self.progress.flush()?;
        self.rows.push(row);
        Ok(())
    }

    /// Something that is needed is not here.
    pub(super) fn skipped(&mut self, name: &str, why: &str) -> Result<()> {
        self.add(Row::without_values(name, Verdict::Skipped(why.to_owned())))
    }

    /// As bad as a broken promise.
    pub(super) fn failed(&mut self, name: &str, error: &Error) -> Result<()> {
        let why = format!("{error:#}");
        self.add(Row::without_values(name, Verdict::Failed(why)))
    }

    /// Writes the notes.
    pub(super) fn end(self) -> Result<Vec<Row>> {
        writeln!(self.progress)?;
        for row in self.rows.iter().filter(|row| !row.notes.is_empty()) {
            writeln!(
                self.progress,
                "- {}: {}.",
                row.name,
                cell(&row.notes.join("; "))
            )?;
        }
        Ok(self.rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_comparison_is_held_against_its_limit() {
        let row = |beside, limit| Row::measured("x", "µs", (300.0, beside), limit);
        let difference = row(Beside::Difference(160.0), Limit::AtMost(150.0));
        assert_eq!(difference.verdict, Verdict::Ok);
        assert_eq!(
            difference.to_string(),
            "| x | 300.0 µs | 160.0 µs | 140.0 µs more | ≤ 150 µs | holds |"
        );
        let ratio = row(Beside::Ratio(200.0), Limit::AtMost(1.3));
        assert_eq!(ratio.verdict, Verdict::Broken);
        assert_eq!(
            ratio.to_string(),
            "| x | 300.0 µs | 200.0 µs | 1.50 × | ≤ 1.3 × | **BROKEN** |"
        );
        let shown = row(Beside::Shown(9000.0), Limit::AtMost(299.0));
        assert_eq!(shown.verdict, Verdict::Broken);
        let nothing = row(Beside::Nothing, Limit::AtLeast(300.0));
        assert_eq!(nothing.verdict, Verdict::Ok);
        let unmeasured = row(Beside::Ratio(f64::NAN), Limit::AtMost(1.3));
        assert_eq!(unmeasured.verdict, Verdict::Broken);
    }

    #[test]
    fn notes_follow_the_table_and_reasons_stay_in_their_cell() {
        let mut out = Vec::new();
        let mut rows = Rows::begin(&mut out).unwrap();
        let measured = Row::measured("a", "ms", (1.0, Beside::Nothing), Limit::AtMost(2.0));
        rows.add(measured.note("one").note("two")).unwrap();
        rows.skipped("b", "no engine").unwrap();
        rows.failed("c", &anyhow::anyhow!("x | y\nz")).unwrap();
        assert_eq!(rows.end().unwrap().len(), 3);
        let text = String::from_utf8(out).unwrap();
        assert!(text.ends_with("\n- a: one; two.\n"), "{text}");
        assert!(
            text.contains("| b |  |  |  |  | skipped: no engine |"),
            "{text}"
        );
        assert!(text.contains("**FAILED**: x \\| y z |"), "{text}");
    }
}
