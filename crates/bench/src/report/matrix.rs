//! The runs of one figure in their places: panel, series, and column along the bottom.
//!
//! Bounded: what an experiment has more of than a page can show is left out, and said.

use std::collections::BTreeMap;

use super::Material;
use super::points::order;
use super::sample::Sample;
use crate::results::{Figure, Kind, Run};

/// Panels of one figure; more of them nobody compares.
const PANELS_MAX: usize = 24;
/// Curves or groups of one panel: each pair of colour and dash once.
const SERIES_MAX: usize = 28;
/// Places along the bottom.
const COLUMNS_MAX: usize = 64;
/// Rows of a table.
const ROWS_MAX: usize = 400;

/// Where a run stands: panel, series, column.
pub(super) type Place = (usize, usize, usize);

/// The runs of a figure.
#[derive(Debug)]
pub(super) struct Matrix<'a> {
    pub(super) figure: &'a Figure,
    /// Values of the axis `each`, one without a name when the figure has none.
    pub(super) panels: Vec<&'a str>,
    /// Values of the axis `series`, likewise.
    pub(super) series: Vec<Series<'a>>,
    /// Values of the axes `x`, likewise.
    pub(super) columns: Vec<Vec<&'a str>>,
    /// What was left out, in sentences.
    pub(super) left_out: Vec<String>,
    cells: BTreeMap<Place, Sample<'a>>,
}

/// A curve or group.
#[derive(Debug, Clone, Copy)]
pub(super) struct Series<'a> {
    pub(super) name: &'a str,
    /// Chooses colour, dash and marker: the place in the axis, so that a value looks the same in all figures.
    pub(super) look: usize,
}

impl<'a> Matrix<'a> {
    pub(super) fn new(material: &'a Material, figure: &'a Figure) -> Self {
        let runs: Vec<&Run> = material
            .runs
            .iter()
            .filter(|run| is_of(figure, run))
            .collect();
        let mut left_out = Vec::new();
        let mut axis_values = |axis: &'a Option<String>, most: usize| match axis {
            None => vec![""],
            Some(axis) => {
                let mut values: Vec<&str> = runs.iter().map(|run| value(run, axis)).collect();
                values.sort_by(|a, b| order(material, axis, a, b));
                values.dedup();
                bounded(&mut values, most, axis, &mut left_out);
                values
            }
        };
        let panels = axis_values(&figure.each, PANELS_MAX);
        let names = axis_values(&figure.series, SERIES_MAX);
        let columns = columns(material, figure, &runs, &mut left_out);
        let series: Vec<Series<'_>> = names
            .iter()
            .enumerate()
            .map(|(index, name)| Series {
                name,
                look: look(material, figure, name).unwrap_or(index),
            })
            .collect();

        let mut groups: BTreeMap<Place, Vec<&Run>> = BTreeMap::new();
        for run in runs {
            let panel = place(&panels, figure.each.as_deref(), run);
            let one = place(&names, figure.series.as_deref(), run);
            let column = columns
                .iter()
                .position(|column| *column == key(figure, run));
            if let (Some(panel), Some(one), Some(column)) = (panel, one, column) {
                groups.entry((panel, one, column)).or_default().push(run);
            }
        }
        let cells = groups
            .into_iter()
            .map(|(place, runs)| (place, Sample::new(runs)))
            .collect();
        Self {
            figure,
            panels,
            series,
            columns,
            left_out,
            cells,
        }
    }

    /// What was run there, if anything was.
    pub(super) fn cell(&self, place: Place) -> Option<&Sample<'a>> {
        self.cells.get(&place)
    }

    /// All places that have runs, in order.
    pub(super) fn cells(&self) -> impl Iterator<Item = (Place, &Sample<'a>)> {
        self.cells.iter().map(|(place, sample)| (*place, sample))
    }

    /// Whether nothing at all was measured.
    pub(super) fn is_empty(&self) -> bool {
        self.cells.values().all(|sample| sample.measured.is_empty())
    }

    /// Places where nothing was run, in panels and series that have something.
    pub(super) fn gaps(&self) -> Vec<Place> {
        let mut gaps = Vec::new();
        for panel in 0..self.panels.len() {
            for series in 0..self.series.len() {
                for column in 0..self.columns.len() {
                    if !self.cells.contains_key(&(panel, series, column)) {
                        gaps.push((panel, series, column));
                    }
                }
            }
        }
        gaps
    }

    /// The axes that a place fixes, with their values there.
    pub(super) fn coordinates(&self, place: Place) -> Vec<(&'a str, &'a str)> {
        let (panel, series, column) = place;
        let mut axes: Vec<(&str, &str)> = Vec::new();
        if let Some(axis) = &self.figure.series {
            axes.push((axis, self.series[series].name));
        }
        for (axis, value) in along(self.figure).iter().zip(&self.columns[column]) {
            axes.push((axis, value));
        }
        if let Some(axis) = &self.figure.each {
            axes.push((axis, self.panels[panel]));
        }
        axes
    }

    /// A place in words, such as `system mote, clients 16`.
    pub(super) fn name(&self, place: Place) -> String {
        let words: Vec<String> = self
            .coordinates(place)
            .iter()
            .map(|(axis, value)| match *axis {
                "test" => (*value).to_owned(),
                axis => format!("{axis} {value}"),
            })
            .collect();
        if words.is_empty() {
            "all runs".to_owned()
        } else {
            words.join(", ")
        }
    }
}

/// The axes along the bottom; a distribution has latency there.
fn along(figure: &Figure) -> &[String] {
    match figure.kind {
        Kind::Cdf => &[],
        _ => &figure.x,
    }
}

fn is_of(figure: &Figure, run: &Run) -> bool {
    let of_test = figure.tests.is_empty() || figure.tests.contains(&run.test);
    of_test
        && figure
            .only
            .iter()
            .all(|(axis, wanted)| value(run, axis) == wanted)
}

/// The value of an axis, of which the test is one; empty where the test has no such axis.
fn value<'a>(run: &'a Run, axis: &str) -> &'a str {
    if axis == "test" {
        return &run.test;
    }
    run.axes.get(axis).map_or("", String::as_str)
}

fn key<'a>(figure: &Figure, run: &'a Run) -> Vec<&'a str> {
    along(figure).iter().map(|axis| value(run, axis)).collect()
}

fn columns<'a>(
    material: &Material,
    figure: &Figure,
    runs: &[&'a Run],
    left_out: &mut Vec<String>,
) -> Vec<Vec<&'a str>> {
    let axes = along(figure);
    let mut columns: Vec<Vec<&str>> = runs.iter().map(|run| key(figure, run)).collect();
    columns.sort_by(|a, b| {
        let each = axes.iter().zip(a.iter().zip(b));
        each.fold(std::cmp::Ordering::Equal, |so_far, (axis, (a, b))| {
            so_far.then_with(|| order(material, axis, a, b))
        })
    });
    columns.dedup();
    let most = match figure.kind {
        Kind::Table => ROWS_MAX,
        Kind::Lines => usize::MAX,
        Kind::Box | Kind::Strip | Kind::Cdf => COLUMNS_MAX,
    };
    bounded(&mut columns, most, &axes.join(", "), left_out);
    columns
}

fn bounded<T>(values: &mut Vec<T>, most: usize, axis: &str, left_out: &mut Vec<String>) {
    if values.len() > most {
        left_out.push(format!(
            "Only the first {most} of {} values of {axis} are shown; runs.csv has all.",
            values.len()
        ));
        values.truncate(most);
    }
}

fn place(values: &[&str], axis: Option<&str>, run: &Run) -> Option<usize> {
    match axis {
        None => Some(0),
        Some(axis) => values.iter().position(|one| *one == value(run, axis)),
    }
}

fn look(material: &Material, figure: &Figure, name: &str) -> Option<usize> {
    let axis = figure.series.as_deref()?;
    let listed = if axis == "test" {
        &material.tests
    } else {
        &material.axes.iter().find(|(known, _)| known == axis)?.1
    };
    listed.iter().position(|value| value == name)
}
