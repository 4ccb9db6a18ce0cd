//! Where a paper's numbers stand in a figure: each once, beside what it can be held against.

use super::matrix::{Matrix, Place};
use super::units::is_latency;
use crate::results::{Metric, Published};

/// The numbers of one paper's system along the bottom of each panel.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Line {
    pub(super) name: String,
    /// Of each panel, of each column, as our runs have it: latencies in microseconds.
    pub(super) values: Vec<Vec<Option<f64>>>,
}

/// Lines for a figure of lines.
pub(super) fn lines(matrix: &Matrix<'_>, published: &[Published]) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    for one in of_metric(matrix, published) {
        for (place, series) in places(matrix, one) {
            let mut name = one.of.clone();
            if let Some(series) = series {
                name = format!("{series}, {name}");
            }
            let index = lines.iter().position(|line| line.name == name);
            let index = index.unwrap_or_else(|| {
                lines.push(Line {
                    name,
                    values: vec![vec![None; matrix.columns.len()]; matrix.panels.len()],
                });
                lines.len() - 1
            });
            lines[index].values[place.0][place.2] = Some(stored(one));
        }
    }
    lines
}

/// The number as our runs have it.
pub(super) fn stored(published: &Published) -> f64 {
    if is_latency(published.metric) {
        published.value * 1000.0
    } else {
        published.value
    }
}

/// Those that say the same of a point as the figure does.
pub(super) fn of_metric<'p>(
    matrix: &Matrix<'_>,
    published: &'p [Published],
) -> impl Iterator<Item = &'p Published> {
    let shown = matrix.figure.y;
    published.iter().filter(move |one| {
        one.metric == shown || (shown, one.metric) == (Metric::Median, Metric::MedianIqr)
    })
}

/// Whether a number stands for a place: whatever it is of is what the place, or every run there, is of.
pub(super) fn is_for(matrix: &Matrix<'_>, published: &Published, place: Place) -> bool {
    let coordinates = matrix.coordinates(place);
    let is = |axis: &str, wanted: &str| {
        if let Some((_, value)) = coordinates.iter().find(|(name, _)| *name == axis) {
            return *value == wanted;
        }
        if let Some(value) = matrix.figure.only.get(axis) {
            return value == wanted;
        }
        if axis == "test" && matrix.figure.tests.len() == 1 {
            return matrix.figure.tests[0] == wanted;
        }
        let Some(sample) = matrix.cell(place) else {
            return false;
        };
        sample.runs.iter().all(|run| {
            let value = if axis == "test" {
                Some(&run.test)
            } else {
                run.axes.get(axis)
            };
            value.is_some_and(|value| value == wanted)
        })
    };
    is("test", &published.test) && published.only.iter().all(|(axis, value)| is(axis, value))
}

/// Whether a number is of one value of the axis, rather than of all.
pub(super) fn names(published: &Published, axis: &str) -> bool {
    axis == "test" || published.only.contains_key(axis)
}

/// Places that a number stands for, once for all series unless it is of one.
fn places<'m>(matrix: &Matrix<'m>, published: &Published) -> Vec<(Place, Option<&'m str>)> {
    let of_series = matrix
        .figure
        .series
        .as_deref()
        .is_some_and(|axis| names(published, axis));
    let mut places = Vec::new();
    for panel in 0..matrix.panels.len() {
        for column in 0..matrix.columns.len() {
            for (series, known) in matrix.series.iter().enumerate() {
                let place = (panel, series, column);
                if is_for(matrix, published, place) {
                    places.push((place, of_series.then_some(known.name)));
                    if !of_series {
                        break;
                    }
                }
            }
        }
    }
    places
}
