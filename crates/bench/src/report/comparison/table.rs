//! The comparison for a terminal.

use std::fmt;

use super::super::points;
use super::{Comparison, Contrast, Side};

/// Points of one report alone that are named; the page has all.
const NAMED_MAX: usize = 20;

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "A  {}", self.a)?;
        writeln!(f, "B  {}", self.b)?;
        for difference in &self.differences {
            writeln!(
                f,
                "different {}: {} in A, {} in B",
                difference.what,
                plain(&difference.a),
                plain(&difference.b)
            )?;
        }
        writeln!(f)?;
        if self.points.is_empty() {
            writeln!(f, "no point was measured by both")?;
        } else {
            write_points(self, f)?;
        }
        for remark in self.remarks() {
            writeln!(f, "{remark}")?;
        }
        for (side, names) in [("A", &self.only_a), ("B", &self.only_b)] {
            for name in names.iter().take(NAMED_MAX) {
                writeln!(f, "only in {side}: {}", plain(name))?;
            }
            if names.len() > NAMED_MAX {
                writeln!(f, "only in {side}: {} more", names.len() - NAMED_MAX)?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {} runs", plain(&self.name), self.runs)?;
        if self.time.is_empty() {
            return Ok(());
        }
        write!(f, ", first at {} UTC", self.time)
    }
}

fn write_points(comparison: &Comparison, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let heading = ["point", "median latency B/A", "p99 latency B/A", "rate B/A"].map(str::to_owned);
    let mut rows = vec![heading];
    for point in &comparison.points {
        rows.push([
            plain(&points::name(&point.test, &point.axes)),
            cell(&point.median),
            cell(&point.p99),
            cell(&point.rate),
        ]);
    }
    let width = |column: usize| {
        let widths = rows.iter().map(|row| row[column].chars().count());
        widths.max().unwrap_or(0)
    };
    let widths: [usize; 4] = std::array::from_fn(width);
    for row in &rows {
        let mut line = String::new();
        for (text, width) in row.iter().zip(widths) {
            line.push_str(text);
            line.push_str(&" ".repeat(width - text.chars().count() + 2));
        }
        writeln!(f, "{}", line.trim_end())?;
    }
    writeln!(f)
}

fn cell(contrast: &Contrast) -> String {
    format!("{} {}", contrast.ratio(), contrast.verdict.name())
}

/// A name that comes from a file must not move the cursor of a terminal.
fn plain(name: &str) -> String {
    name.replace(char::is_control, "\u{fffd}")
}
