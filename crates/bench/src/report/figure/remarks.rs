//! What a reader must know about the runs of a figure: warnings, runs that failed, places where nothing was run.
//!
//! Bounded to a few lines; the page lists all warnings and failures once at its end.

use std::collections::BTreeMap;

use super::super::matrix::{Matrix, Place};
use super::super::sample::share;
use super::super::units::percent;
use super::DOUBT;
use crate::results::Kind;

/// Lines of one kind.
const LINES_MAX: usize = 5;
/// Places named in one line.
const PLACES_MAX: usize = 6;

/// All of them, in sentences.
pub(super) fn all(matrix: &Matrix<'_>) -> Vec<String> {
    let mut remarks = Vec::new();
    remarks.extend(grouped(matrix, DOUBT, |place| {
        let sample = matrix.cell(place);
        let warnings = sample.map(|sample| sample.warnings()).unwrap_or_default();
        warnings
            .into_iter()
            .map(|(_, text)| text.to_owned())
            .collect()
    }));
    remarks.extend(grouped(matrix, "Not measured:", |place| {
        let failures = matrix.cell(place).map(|sample| sample.failures());
        failures
            .into_iter()
            .flatten()
            .map(|(_, why)| why.to_owned())
            .collect()
    }));
    let gaps: Vec<String> = matrix
        .gaps()
        .into_iter()
        .map(|gap| matrix.name(gap))
        .collect();
    if !gaps.is_empty() {
        remarks.push(format!("No runs: {}.", some(&gaps)));
    }
    remarks.extend(unanswered(matrix));
    remarks
}

/// A line for each text, with the places that have it.
fn grouped(matrix: &Matrix<'_>, mark: &str, texts: impl Fn(Place) -> Vec<String>) -> Vec<String> {
    let mut places_of: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut order: Vec<String> = Vec::new();
    for (place, _) in matrix.cells() {
        for text in texts(place) {
            if !places_of.contains_key(&text) {
                order.push(text.clone());
            }
            let places = places_of.entry(text).or_default();
            let name = matrix.name(place);
            if places.last() != Some(&name) {
                places.push(name);
            }
        }
    }
    let mut lines: Vec<String> = order
        .iter()
        .take(LINES_MAX)
        .map(|text| format!("{mark} {}: {text}.", some(&places_of[text])))
        .collect();
    if order.len() > LINES_MAX {
        let more = order.len() - LINES_MAX;
        lines.push(format!(
            "{mark} and {more} more, listed at the end of the page."
        ));
    }
    lines
}

/// A curve that levels off below the top does so for a reason that its height alone does not say exactly.
fn unanswered(matrix: &Matrix<'_>) -> Option<String> {
    if matrix.figure.kind == Kind::Table {
        return None;
    }
    let short: Vec<String> = matrix
        .cells()
        .filter_map(|(place, sample)| {
            let share = share(sample.ok(), sample.due()).filter(|share| *share < 1.0)?;
            Some(format!(
                "{}: {} %",
                matrix.name(place),
                percent(share * 100.0)
            ))
        })
        .collect();
    (!short.is_empty()).then(|| {
        format!(
            "Answered well and in time: {}; all of the operations elsewhere.",
            some(&short)
        )
    })
}

fn some(places: &[String]) -> String {
    let mut text = places[..places.len().min(PLACES_MAX)].join("; ");
    if places.len() > PLACES_MAX {
        text.push_str(&format!("; and {} more", places.len() - PLACES_MAX));
    }
    text
}
