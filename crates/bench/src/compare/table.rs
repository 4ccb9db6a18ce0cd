//! One line per promise, and how a measurement becomes a verdict.

use std::fmt;

use serde::Serialize;

/// A promise, what was measured for it, and whether it is kept.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// What was measured.
    pub name: &'static str,
    /// Unit of `ours` and `theirs`.
    pub unit: &'static str,
    /// The node's value.
    pub ours: Option<f64>,
    /// The other's value, where the promise is a ratio.
    pub theirs: Option<f64>,
    /// What the limit holds for: the ratio, or the node's value.
    pub value: Option<f64>,
    /// The promise.
    pub limit: Limit,
    /// Whether it is kept.
    pub verdict: Verdict,
    /// What a reader must know to believe the row.
    pub notes: Vec<String>,
}

/// What was promised.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// Smaller is better.
    AtMost(f64),
    /// Larger is better.
    AtLeast(f64),
}

/// What became of a promise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Kept.
    Ok,
    /// Measured, and not kept.
    Broken,
    /// Not measured, because something is not installed here.
    Skipped(String),
    /// Could not be measured, which is as bad as broken.
    Failed(String),
}

impl Limit {
    /// Whether `value` keeps the promise. What is not a number keeps none.
    #[must_use]
    pub fn holds(self, value: f64) -> bool {
        match self {
            Self::AtMost(limit) => value <= limit,
            Self::AtLeast(limit) => value >= limit,
        }
    }
}

/// Middle of `values`; the lower one of two. Not a number without values.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
        .get(sorted.len().saturating_sub(1) / 2)
        .copied()
        .unwrap_or(f64::NAN)
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ", self.name, self.unit)?;
        match (self.ours, self.theirs, self.value) {
            (Some(ours), Some(theirs), Some(value)) => {
                write!(f, "{} / {} = {value:.2} ", Short(ours), Short(theirs))?;
            }
            (Some(ours), _, _) => write!(f, "{} ", Short(ours))?,
            _ => write!(f, "- ")?,
        }
        match self.limit {
            Limit::AtMost(limit) => write!(f, "(limit {limit})")?,
            Limit::AtLeast(limit) => write!(f, "(at least {limit})")?,
        }
        match &self.verdict {
            Verdict::Ok => write!(f, " ok")?,
            Verdict::Broken => write!(f, " BROKEN")?,
            Verdict::Skipped(reason) => write!(f, " SKIPPED: {reason}")?,
            Verdict::Failed(reason) => write!(f, " FAILED: {reason}")?,
        }
        for note in &self.notes {
            write!(f, "\n  note: {note}")?;
        }
        Ok(())
    }
}

/// A number with as many digits as it deserves.
pub(crate) struct Short(pub(crate) f64);

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = if self.0.abs() >= 1000.0 {
            0
        } else if self.0.abs() >= 10.0 {
            1
        } else {
            2
        };
        write!(f, "{:.digits$}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_reads_as_one_line() {
        let mut row = Row {
            name: "http hello fresh, 64 connections",
            unit: "CPU µs/req",
            ours: Some(11.2),
            theirs: Some(5.0),
            value: Some(2.24),
            limit: Limit::AtMost(2.6),
            verdict: Verdict::Ok,
            notes: Vec::new(),
        };
        assert_eq!(
            row.to_string(),
            "http hello fresh, 64 connections: CPU µs/req 11.2 / 5.00 = 2.24 (limit 2.6) ok"
        );
        row.verdict = Verdict::Skipped("no node here".into());
        (row.ours, row.theirs, row.value) = (None, None, None);
        assert_eq!(
            row.to_string(),
            "http hello fresh, 64 connections: CPU µs/req - (limit 2.6) SKIPPED: no node here"
        );
    }

    #[test]
    fn limits_hold_on_their_side() {
        assert!(Limit::AtMost(2.0).holds(2.0) && !Limit::AtMost(2.0).holds(2.1));
        assert!(Limit::AtLeast(2.0).holds(2.0) && !Limit::AtLeast(2.0).holds(1.9));
        assert!(!Limit::AtMost(2.0).holds(f64::NAN) && !Limit::AtLeast(2.0).holds(f64::NAN));
    }

    #[test]
    fn the_median_is_a_value_that_was_measured() {
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!((median(&[4.0, 1.0, 2.0, 3.0]) - 2.0).abs() < f64::EPSILON);
        assert!(median(&[]).is_nan());
    }
}
