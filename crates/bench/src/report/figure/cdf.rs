//! How many operations were faster, over latency. A curve ends at the share that was answered well and in time, as in
//! the tinyFaaS thesis, so that a system is not faster for having dropped what was slow.

use std::fmt::Write;

use maud::{Markup, html};

use super::super::chart::mark::{self, Swatch};
use super::super::chart::scale::Scale;
use super::super::chart::{Frame, px};
use super::super::sample::Sample;
use super::super::statistics::{count, whole};
use super::super::units::{self, Unit, number};
use super::{Drawing, Drawn, largest_of_panels, latency_name};

/// Steps smaller than this are put together: no screen and no printer shows them.
const STEP_MIN: f64 = 0.4;
/// Shares of the operations at which a curve has its marker.
const MARKERS: [f64; 3] = [0.25, 0.5, 0.75];
/// On an axis that is not logarithmic: the slowest operations would take all of it.
const LINEAR_QUANTILE: f64 = 0.995;

pub(super) fn draw(drawing: &Drawing<'_>) -> Drawn {
    let matrix = &drawing.matrix;
    let mut drawn = Drawn {
        legend: Some(Swatch::Line),
        ..Drawn::default()
    };
    let all = || matrix.cells().map(|(_, sample)| &sample.latency);
    let smallest = all()
        .filter_map(|latency| {
            latency
                .steps()
                .map(|(value, _)| value)
                .find(|value| *value > 0.0)
        })
        .fold(f64::INFINITY, f64::min);
    let largest = all()
        .filter_map(|latency| latency.max())
        .fold(0.0, f64::max);
    let ends: Vec<f64> = (0..matrix.panels.len())
        .map(|panel| end(drawing, panel))
        .collect();
    let unit = if matrix.figure.log {
        units::latency(largest)
    } else {
        units::latency(ends.iter().copied().fold(0.0, f64::max))
    };
    let scales: Vec<Scale> = if matrix.figure.log {
        let scale = Scale::logarithmic(smallest / unit.divisor, largest / unit.divisor);
        vec![scale; matrix.panels.len()]
    } else {
        largest_of_panels(&ends, &mut drawn.notes)
            .iter()
            .map(|end| Scale::linear(end / unit.divisor, 5))
            .collect()
    };
    for (panel, x) in scales.iter().enumerate() {
        drawn.panels.push(draw_panel(drawing, panel, x, unit));
    }
    drawn
}

fn end(drawing: &Drawing<'_>, panel: usize) -> f64 {
    let cells = drawing.matrix.cells().filter(|(place, _)| place.0 == panel);
    cells
        .filter_map(|(_, sample)| sample.latency.quantile(LINEAR_QUANTILE))
        .fold(0.0, f64::max)
}

fn draw_panel(drawing: &Drawing<'_>, panel: usize, x: &Scale, unit: Unit) -> Markup {
    let matrix = &drawing.matrix;
    let y = Scale::linear(100.0, 5);
    let frame = Frame::new(drawing.width(), &y, 42.0).ending_with(x);
    let curves = matrix
        .series
        .iter()
        .enumerate()
        .filter_map(|(index, series)| {
            let sample = matrix.cell((panel, index, 0))?;
            (sample.ok() > 0).then_some((series.look, sample))
        });
    let body = html! {
        (frame.left_axis(&y, "% of operations"))
        (frame.bottom_axis(x, &latency_name(unit)))
        @for (look, sample) in curves {
            path.line.(mark::classes(look)) d=(curve(sample, &frame, x, unit)) {}
            @for share in MARKERS {
                @if let Some(value) = at_share(sample, share) {
                    @if value / unit.divisor <= x.high() {
                        (mark::marker(look, frame.across(x.share(value / unit.divisor)), frame.up(&y, share * 100.0)))
                    }
                }
            }
        }
    };
    let told = drawing.told(panel, "Median latency", |place| {
        let median = matrix.cell(place)?.latency.quantile(0.5)?;
        Some(format!("{} {}", number(median / unit.divisor), unit.name))
    });
    drawing.picture(panel, &frame, &told, &body)
}

/// The latency that a share of all operations, failed ones too, did not exceed.
fn at_share(sample: &Sample<'_>, share: f64) -> Option<f64> {
    let rank = whole(count(due(sample)) * share);
    (rank < sample.ok()).then(|| sample.latency.at_rank(rank))?
}

fn due(sample: &Sample<'_>) -> u64 {
    sample.due().max(sample.ok()).max(1)
}

fn curve(sample: &Sample<'_>, frame: &Frame, x: &Scale, unit: Unit) -> String {
    let height = frame.bottom - frame.top;
    let due = count(due(sample));
    let ok = sample.ok();
    let mut path = String::new();
    let (mut last_x, mut last_y) = (f64::NEG_INFINITY, frame.bottom);
    for (value, up_to) in sample.latency.steps() {
        let value = value / unit.divisor;
        if value > x.high() {
            break;
        }
        let to_x = frame.across(x.share(value));
        // Those that came too late have a latency, and are not answered.
        let to_y = frame.bottom - height * count(up_to.min(ok)) / due;
        let is_last = up_to >= ok;
        if path.is_empty() {
            let _ = write!(path, "M{} {}", px(to_x), px(frame.bottom));
        } else if to_x - last_x < STEP_MIN && last_y - to_y < STEP_MIN && !is_last {
            continue;
        }
        let _ = write!(path, "H{}V{}", px(to_x), px(to_y));
        (last_x, last_y) = (to_x, to_y);
        if is_last {
            break;
        }
    }
    if !path.is_empty() {
        let _ = write!(path, "H{}", px(frame.right));
    }
    path
}
