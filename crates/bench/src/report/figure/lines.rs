//! One number of each point over an axis, with the range of its repetitions, and a paper's numbers where it has some.

use std::fmt::Write;

use maud::{Markup, html};

use super::super::chart::mark::{self, Swatch};
use super::super::chart::scale::Scale;
use super::super::chart::{Frame, Places, px};
use super::super::papers;
use super::super::units::{self, Unit, number};
use super::{Drawing, Drawn, doubt, largest_of_panels};
use crate::results::Metric;

/// With more points than these, markers would hide the lines.
const MARKED_MAX: usize = 40;
/// Lines of papers in one figure; each has a shape of its own.
const PAPERS_MAX: usize = 4;

/// A value where there is one, and the range around it.
type Point = (f64, Option<(f64, f64)>);

pub(super) fn draw(drawing: &Drawing<'_>) -> Drawn {
    let matrix = &drawing.matrix;
    let metric = matrix.figure.y;
    let mut papers = papers::lines(matrix, &drawing.material.published);
    let mut drawn = Drawn {
        legend: Some(Swatch::Line),
        ..Drawn::default()
    };
    if papers.len() > PAPERS_MAX {
        drawn.notes.push(format!(
            "Of {} lines of the paper, {PAPERS_MAX} are drawn.",
            papers.len()
        ));
        papers.truncate(PAPERS_MAX);
    }
    drawn.papers = papers.iter().map(|line| line.name.clone()).collect();

    let numbers = |panel: usize| -> Vec<f64> {
        let ours = (0..matrix.series.len()).flat_map(|series| ours(drawing, panel, series));
        let ends = ours.flatten().flat_map(|(value, range)| {
            let (low, high) = range.unwrap_or((value, value));
            [value, low, high]
        });
        let theirs = papers.iter().flat_map(|line| line.values[panel].clone());
        ends.chain(theirs.flatten()).collect()
    };
    let of_panels: Vec<Vec<f64>> = (0..matrix.panels.len()).map(numbers).collect();
    let largest: Vec<f64> = of_panels
        .iter()
        .map(|numbers| numbers.iter().copied().fold(0.0, f64::max))
        .collect();
    let high = largest.iter().copied().fold(0.0, f64::max);
    let unit = units::unit(metric, high);
    let scales: Vec<Scale> = if matrix.figure.log && units::is_latency(metric) {
        let positive = of_panels.iter().flatten().copied().filter(|one| *one > 0.0);
        let low = positive.fold(f64::INFINITY, f64::min);
        vec![Scale::logarithmic(low / unit.divisor, high / unit.divisor); largest.len()]
    } else if metric == Metric::Success {
        vec![Scale::linear(100.0, 5); largest.len()]
    } else {
        largest_of_panels(&largest, &mut drawn.notes)
            .iter()
            .map(|largest| Scale::linear(largest / unit.divisor, 5))
            .collect()
    };
    for (panel, y) in scales.iter().enumerate() {
        drawn
            .panels
            .push(draw_panel(drawing, panel, y, unit, &papers));
    }
    if matrix
        .cells()
        .any(|(_, sample)| sample.spread(metric).is_some())
    {
        drawn
            .notes
            .push("Bars reach from the lowest to the highest repetition.".to_owned());
    }
    drawn
}

fn ours(drawing: &Drawing<'_>, panel: usize, series: usize) -> Vec<Option<Point>> {
    let matrix = &drawing.matrix;
    let metric = matrix.figure.y;
    (0..matrix.columns.len())
        .map(|column| {
            let sample = matrix.cell((panel, series, column))?;
            Some((sample.value(metric)?.value, sample.spread(metric)))
        })
        .collect()
}

fn draw_panel(
    drawing: &Drawing<'_>,
    panel: usize,
    y: &Scale,
    unit: Unit,
    papers: &[papers::Line],
) -> Markup {
    let matrix = &drawing.matrix;
    let metric = matrix.figure.y;
    let labels = matrix.labels();
    let shares = shares(&labels);
    let gaps = shares.windows(2).map(|pair| (pair[1] - pair[0]).abs());
    let slot = gaps.fold(1.0, f64::min) * (drawing.width() - 70.0);
    let frame = Frame::new(drawing.width(), y, Places::room(&labels, slot))
        .beginning_with(&labels, slot, 0.0);
    let centers = shares.iter().map(|share| frame.across(*share)).collect();
    let places = Places::new(&labels, centers, slot);
    let at =
        |column: usize, value: f64| (places.centers[column], frame.up(y, value / unit.divisor));
    let marked = labels.len() <= MARKED_MAX;
    let body = html! {
        (frame.left_axis(y, &format!("{}, {}", units::label(metric), unit.name)))
        (frame.bottom_places(&places, &matrix.bottom_name()))
        @for (index, line) in papers.iter().enumerate() {
            @let values = &line.values[panel];
            path.line.paper d=(path(values.iter().enumerate().map(|(column, value)| value.map(|value| at(column, value))))) {}
            @for (column, value) in values.iter().enumerate() {
                @if let Some(value) = value {
                    @let (x, y) = at(column, *value);
                    (mark::paper_marker(index, x, y))
                }
            }
        }
        @for (index, series) in matrix.series.iter().enumerate() {
            @let points = ours(drawing, panel, index);
            @if marked {
                @for (column, point) in points.iter().enumerate() {
                    @if let Some((_, Some((low, high)))) = point {
                        @let ((x, from), (_, to)) = (at(column, *low), at(column, *high));
                        path.range.(mark::color(series.look)) d=(format!("M{} {}V{}", px(x), px(from), px(to))) {}
                    }
                }
            }
            path.line.(mark::classes(series.look)) d=(path(points.iter().enumerate().map(|(column, point)| point.map(|(value, _)| at(column, value))))) {}
            @for (column, point) in points.iter().enumerate() {
                @if let Some((value, _)) = point {
                    @let (x, y) = at(column, *value);
                    @if marked || is_alone(&points, column) { (mark::marker(series.look, x, y)) }
                }
            }
        }
        @for (place, sample) in matrix.cells().filter(|(place, sample)| place.0 == panel && sample.is_doubtful()) {
            @if let Some(value) = sample.value(metric) {
                @let (x, y) = at(place.2, value.value);
                (doubt(x, y - 7.0))
            }
        }
    };
    let told = drawing.told(panel, units::label(metric), |place| {
        let value = matrix.cell(place)?.value(metric)?.value;
        Some(format!("{} {}", number(value / unit.divisor), unit.name))
    });
    drawing.picture(panel, &frame, &told, &body)
}

/// A point between two gaps is no line, and must be seen all the same.
fn is_alone(points: &[Option<Point>], column: usize) -> bool {
    let there = |column: Option<usize>| {
        column.is_some_and(|column| points.get(column).is_some_and(Option::is_some))
    };
    !there(column.checked_sub(1)) && !there(Some(column + 1))
}

/// Where the columns are: at their numbers when they are numbers, else side by side.
fn shares(labels: &[String]) -> Vec<f64> {
    let inset = |share: f64| 0.04 + 0.92 * share;
    let numbers: Option<Vec<f64>> = labels
        .iter()
        .map(|label| {
            label
                .parse::<f64>()
                .ok()
                .filter(|number| number.is_finite())
        })
        .collect();
    if let Some(numbers) = numbers {
        let values: Vec<(f64, String)> = numbers.iter().copied().zip(labels.to_vec()).collect();
        let scale = Scale::through(&values);
        return numbers
            .iter()
            .map(|number| inset(scale.share(*number)))
            .collect();
    }
    let scale = Scale::through(&[
        (0.0, String::new()),
        ((labels.len() - 1) as f64, String::new()),
    ]);
    (0..labels.len())
        .map(|index| inset(scale.share(index as f64)))
        .collect()
}

/// A line that is interrupted where there is no point.
fn path(points: impl Iterator<Item = Option<(f64, f64)>>) -> String {
    let mut path = String::new();
    let mut pen = 'M';
    for point in points {
        let Some((x, y)) = point else {
            pen = 'M';
            continue;
        };
        let _ = write!(path, "{pen}{} {}", px(x), px(y));
        pen = 'L';
    }
    path
}
