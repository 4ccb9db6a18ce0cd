//! Every operation as a dot. Where there are more than a page should hold, those drawn are spread evenly over all in
//! order of latency, the fastest and the slowest among them, so that the shape stays.

use fastrand::Rng;
use maud::{Markup, html};

use super::super::chart::mark::{self, Swatch};
use super::super::chart::px;
use super::super::chart::scale::Scale;
use super::super::matrix::Place;
use super::super::sample::Sample;
use super::super::units::{self, Unit, grouped, number};
use super::boxes::{scales, spread_over};
use super::slots::Slots;
use super::{Drawing, Drawn, doubt, latency_name};

/// Dots of one figure; about 60 kB.
const DOTS_MAX: usize = 4000;
/// The part of its room that a strip fills.
const SPREAD: f64 = 0.72;
/// Widest strip.
const WIDTH_MAX: f64 = 44.0;

pub(super) fn draw(drawing: &Drawing<'_>) -> Drawn {
    let matrix = &drawing.matrix;
    let mut drawn = Drawn {
        legend: Some(Swatch::Dots),
        ..Drawn::default()
    };
    let largest: Vec<f64> = (0..matrix.panels.len())
        .map(|panel| {
            let cells = matrix.cells().filter(|(place, _)| place.0 == panel);
            cells
                .filter_map(|(_, sample)| sample.latency.max())
                .fold(0.0, f64::max)
        })
        .collect();
    let unit = units::latency(largest.iter().copied().fold(0.0, f64::max));
    let groups = matrix.cells().count().max(1);
    let most = (DOTS_MAX / groups).max(2);
    let all: u64 = matrix
        .cells()
        .map(|(_, sample)| sample.latency.total())
        .sum();
    let shown: usize = matrix
        .cells()
        .map(|(_, sample)| {
            usize::try_from(sample.latency.total()).map_or(most, |all| all.min(most))
        })
        .sum();
    for (panel, y) in scales(drawing, &largest, unit, &mut drawn.notes)
        .iter()
        .enumerate()
    {
        drawn.panels.push(draw_panel(drawing, panel, y, unit, most));
    }
    drawn.notes.push(if shown as u64 == all {
        "Each dot is one operation; the bar is the median.".to_owned()
    } else {
        format!(
            "Of {} operations {} are drawn, spread evenly over all from the fastest to the slowest; the bar is the median of all.",
            grouped(&all.to_string()),
            grouped(&shown.to_string())
        )
    });
    drawn
}

fn draw_panel(drawing: &Drawing<'_>, panel: usize, y: &Scale, unit: Unit, most: usize) -> Markup {
    let matrix = &drawing.matrix;
    let slots = Slots::new(drawing, y);
    let half = (slots.width() * SPREAD).min(WIDTH_MAX) / 2.0;
    let body = html! {
        (slots.axes(y, &latency_name(unit), &matrix.bottom_name()))
        @for (place, sample) in matrix.cells().filter(|(place, _)| place.0 == panel) {
            @if let Some(median) = sample.latency.quantile(0.5) {
                @let center = slots.center(place);
                @let at = |value: f64| slots.frame.up(y, value / unit.divisor);
                (mark::dots(matrix.series[place.1].look, scattered(drawing, place, sample, most).into_iter().map(|(aside, value)| (center + aside * half, at(value)))))
                path.middle d=(format!("M{} {}h{}", px(center - half - 2.0), px(at(median)), px(half * 2.0 + 4.0))) {}
                @if sample.is_doubtful() {
                    (doubt(center, sample.latency.max().map_or(0.0, at) - 6.0))
                }
            }
        }
    };
    let told = drawing.told(panel, "Median latency", |place| {
        let median = matrix.cell(place)?.latency.quantile(0.5)?;
        Some(format!("{} {}", number(median / unit.divisor), unit.name))
    });
    drawing.picture(panel, &slots.frame, &told, &body)
}

/// How far aside from its middle each dot stands, from -1 to 1, and its latency. The seed puts it where it was before.
fn scattered(
    drawing: &Drawing<'_>,
    place: Place,
    sample: &Sample<'_>,
    most: usize,
) -> Vec<(f64, f64)> {
    let (panel, series, column) = place;
    let group = ((panel * 1000 + series) * 1000 + column) as u64;
    let mut random = Rng::with_seed(drawing.material.seed ^ group);
    let all = usize::try_from(sample.latency.total()).unwrap_or(usize::MAX / most);
    spread_over(all, most)
        .filter_map(|rank| {
            let value = sample.latency.at_rank(rank as u64)?;
            Some((random.f64() * 2.0 - 1.0, value))
        })
        .collect()
}
