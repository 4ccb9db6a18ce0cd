//! Median, quartiles and whiskers, after Tukey: whiskers reach to the last operation within one and a half times the
//! distance of the quartiles; those beyond are dots, of which a few stand for all.

use maud::{Markup, html};

use super::super::chart::mark::{self, Swatch};
use super::super::chart::px;
use super::super::chart::scale::Scale;
use super::super::statistics::Histogram;
use super::super::units::{self, Unit, number};
use super::slots::Slots;
use super::{Drawing, Drawn, doubt, largest_of_panels, latency_name};

/// Dots beyond the whiskers of one box.
const DOTS_MAX: usize = 24;
/// Widest box.
const WIDTH_MAX: f64 = 34.0;
/// What lies above is not drawn on an axis that is not logarithmic, or the boxes would be lines.
const LINEAR_QUANTILE: f64 = 0.99;

/// The numbers of a box.
#[derive(Debug, PartialEq)]
struct Summary {
    low: f64,
    first: f64,
    median: f64,
    third: f64,
    high: f64,
    /// Values beyond the whiskers.
    beyond: Vec<f64>,
}

impl Summary {
    fn new(latency: &Histogram) -> Option<Self> {
        let first = latency.quantile(0.25)?;
        let third = latency.quantile(0.75)?;
        let reach = 1.5 * (third - first);
        let within = |value: f64| (first - reach..=third + reach).contains(&value);
        let values = || latency.steps().map(|(value, _)| value);
        Some(Self {
            low: values()
                .find(|value| within(*value))
                .unwrap_or(first)
                .min(first),
            first,
            median: latency.quantile(0.5)?,
            third,
            high: values()
                .filter(|value| within(*value))
                .last()
                .unwrap_or(third)
                .max(third),
            beyond: values().filter(|value| !within(*value)).collect(),
        })
    }
}

pub(super) fn draw(drawing: &Drawing<'_>) -> Drawn {
    let matrix = &drawing.matrix;
    let mut drawn = Drawn {
        legend: Some(Swatch::Box),
        ..Drawn::default()
    };
    let log = matrix.figure.log;
    let end = |latency: &Histogram| {
        if log {
            return latency.max();
        }
        let whisker = Summary::new(latency)?.high;
        Some(whisker.max(latency.quantile(LINEAR_QUANTILE)?))
    };
    let largest: Vec<f64> = (0..matrix.panels.len())
        .map(|panel| {
            let cells = matrix.cells().filter(|(place, _)| place.0 == panel);
            cells
                .filter_map(|(_, sample)| end(&sample.latency))
                .fold(0.0, f64::max)
        })
        .collect();
    let high = largest.iter().copied().fold(0.0, f64::max);
    let unit = units::latency(high);
    let scales = scales(drawing, &largest, unit, &mut drawn.notes);
    for (panel, y) in scales.iter().enumerate() {
        drawn.panels.push(draw_panel(drawing, panel, y, unit));
    }
    let above: u64 = matrix
        .cells()
        .map(|(place, sample)| above(&sample.latency, scales[place.0].high() * unit.divisor))
        .sum();
    if above > 0 {
        drawn.notes.push(format!(
            "{above} operations were slower than the axis shows."
        ));
    }
    drawn.notes.push(
        "Boxes reach from the first to the third quartile with the median in them, whiskers to the last operation within 1.5 times their distance; a few dots stand for those beyond.".to_owned(),
    );
    drawn
}

/// Scales of the panels of boxes and strips.
pub(super) fn scales(
    drawing: &Drawing<'_>,
    largest: &[f64],
    unit: Unit,
    notes: &mut Vec<String>,
) -> Vec<Scale> {
    if drawing.matrix.figure.log {
        let high = largest.iter().copied().fold(0.0, f64::max);
        let positive = drawing.matrix.cells().filter_map(|(_, sample)| {
            let mut values = sample.latency.steps().map(|(value, _)| value);
            values.find(|value| *value > 0.0)
        });
        let low = positive.fold(f64::INFINITY, f64::min);
        return vec![Scale::logarithmic(low / unit.divisor, high / unit.divisor); largest.len()];
    }
    largest_of_panels(largest, notes)
        .iter()
        .map(|largest| Scale::linear(largest / unit.divisor, 5))
        .collect()
}

fn above(latency: &Histogram, end: f64) -> u64 {
    let up_to = latency
        .steps()
        .take_while(|(value, _)| *value <= end * (1.0 + 1e-9))
        .last();
    latency.total() - up_to.map_or(0, |(_, up_to)| up_to)
}

fn draw_panel(drawing: &Drawing<'_>, panel: usize, y: &Scale, unit: Unit) -> Markup {
    let matrix = &drawing.matrix;
    let slots = Slots::new(drawing, y);
    let body = html! {
        (slots.axes(y, &latency_name(unit), &matrix.bottom_name()))
        @for (place, sample) in matrix.cells().filter(|(place, _)| place.0 == panel) {
            @if let Some(summary) = Summary::new(&sample.latency) {
                (draw_box(&summary, matrix.series[place.1].look, slots.center(place), &slots, y, unit))
                @if sample.is_doubtful() {
                    @let top = summary.beyond.last().copied().unwrap_or(0.0).max(summary.high);
                    (doubt(slots.center(place), slots.frame.up(y, top / unit.divisor) - 6.0))
                }
            }
        }
    };
    let told = drawing.told(panel, "Median and quartiles of latency", |place| {
        let summary = Summary::new(&matrix.cell(place)?.latency)?;
        let [first, median, third] = [summary.first, summary.median, summary.third]
            .map(|value| number(value / unit.divisor));
        Some(format!("{median} ({first} to {third}) {}", unit.name))
    });
    drawing.picture(panel, &slots.frame, &told, &body)
}

fn draw_box(
    summary: &Summary,
    look: usize,
    center: f64,
    slots: &Slots,
    y: &Scale,
    unit: Unit,
) -> Markup {
    let color = mark::color(look);
    let half = (slots.width() * 0.74).min(WIDTH_MAX) / 2.0;
    let at = |value: f64| slots.frame.up(y, value / unit.divisor);
    let (top, bottom) = (at(summary.third), at(summary.first));
    let whiskers = format!(
        "M{x} {}V{}M{x} {}V{}M{l} {low}h{w}M{l} {high}h{w}",
        px(top),
        px(at(summary.high)),
        px(bottom),
        px(at(summary.low)),
        x = px(center),
        l = px(center - half / 2.0),
        w = px(half),
        low = px(at(summary.low)),
        high = px(at(summary.high)),
    );
    let shown: Vec<f64> = summary
        .beyond
        .iter()
        .copied()
        .filter(|value| value / unit.divisor <= y.high())
        .collect();
    let dots = spread_over(shown.len(), DOTS_MAX).map(|index| (center, at(shown[index])));
    html! {
        path.whisker.(color) d=(whiskers) {}
        rect.box.(mark::box_classes(look)) x=(px(center - half)) width=(px(half * 2.0)) y=(px(top)) height=(px((bottom - top).max(0.8))) {}
        path.median.(color) d=(format!("M{} {}h{}", px(center - half), px(at(summary.median)), px(half * 2.0))) {}
        @if !shown.is_empty() { (mark::round_dots(look, dots)) }
    }
}

/// Up to `most` of `all` indices, evenly, the first and the last among them.
pub(super) fn spread_over(all: usize, most: usize) -> impl Iterator<Item = usize> {
    let shown = all.min(most);
    (0..shown).map(move |index| {
        if shown < 2 {
            0
        } else {
            index * (all - 1) / (shown - 1)
        }
    })
}
