//! One figure or table of the page: heading, legend, panels, and what must be known to read it right.

mod boxes;
mod cdf;
mod lines;
mod remarks;
mod slots;
mod strip;
mod table;

use maud::{Markup, html};

use super::Material;
use super::chart::mark::Swatch;
use super::chart::{self, px};
use super::matrix::{Matrix, Place};
use super::units::Unit;
use crate::results::{Figure, Kind};

/// Beside everything that was made of a run that has a warning.
pub(super) const DOUBT: &str = "†";

/// A figure while it is drawn.
struct Drawing<'a> {
    material: &'a Material,
    matrix: Matrix<'a>,
    /// What ids on the page begin with.
    id: &'a str,
}

/// A picture for each panel.
#[derive(Default)]
struct Drawn {
    panels: Vec<Markup>,
    /// How series look, or nothing when there is no need to tell them apart.
    legend: Option<Swatch>,
    /// Names of the paper's lines, in the order of their looks.
    papers: Vec<String>,
    notes: Vec<String>,
}

/// Draws a figure. `number` is what the page calls it, `id` is unique on it.
pub(super) fn draw(material: &Material, figure: &Figure, number: &str, id: &str) -> Markup {
    let drawing = Drawing {
        material,
        matrix: Matrix::new(material, figure),
        id,
    };
    let matrix = &drawing.matrix;
    let mut notes = matrix.left_out.clone();
    notes.extend(remarks::all(matrix));
    let heading = html! {
        h2 { span.number { (number) } " " (figure.title) }
        @if !figure.caption.is_empty() { p { (figure.caption) } }
    };
    if matrix.is_empty() {
        return html! {
            figure #(id) {
                figcaption { (heading) }
                p.empty { "Nothing was measured for this." }
                (listed(&notes))
            }
        };
    }
    let drawn = match figure.kind {
        Kind::Table => {
            return html! {
                figure #(id) {
                    figcaption { (heading) }
                    (table::draw(&drawing))
                    (listed(&notes))
                }
            };
        }
        Kind::Cdf => cdf::draw(&drawing),
        Kind::Lines => lines::draw(&drawing),
        Kind::Box => boxes::draw(&drawing),
        Kind::Strip => strip::draw(&drawing),
    };
    notes.extend(drawn.notes.iter().cloned());
    let several = drawn.panels.len() > 1;
    html! {
        figure #(id) {
            figcaption { (heading) }
            (legend(&drawing.matrix, &drawn))
            div.panels.several[several] {
                @for (index, panel) in drawn.panels.iter().enumerate() {
                    div.panel {
                        @if let Some(name) = drawing.matrix.panel_name(index) { h3 { (name) } }
                        div.scroll { (panel) }
                    }
                }
            }
            (listed(&notes))
        }
    }
}

fn legend(matrix: &Matrix<'_>, drawn: &Drawn) -> Markup {
    let axis = matrix.figure.series.as_deref();
    let swatch = drawn.legend.filter(|_| axis.is_some());
    html! {
        @if swatch.is_some() || !drawn.papers.is_empty() {
            ul.legend {
                @if let (Some(swatch), Some(axis)) = (swatch, axis) {
                    @if axis != "test" { li.axis { (axis) } }
                    @for (index, series) in matrix.series.iter().enumerate() {
                        li {
                            (swatch.draw(series.look)) (named(series.name))
                            @if matrix.is_doubtful(index) { (DOUBT) }
                        }
                    }
                }
                @for (index, name) in drawn.papers.iter().enumerate() {
                    li { (Swatch::Paper.draw(index)) (name) " (paper)" }
                }
            }
        }
    }
}

fn listed(notes: &[String]) -> Markup {
    html! {
        @if !notes.is_empty() {
            ul.notes { @for note in notes { li { (note) } } }
        }
    }
}

/// A value that has a name, or a dash for one that has none.
fn named(value: &str) -> &str {
    if value.is_empty() { "–" } else { value }
}

impl<'a> Matrix<'a> {
    fn panel_name(&self, panel: usize) -> Option<String> {
        let axis = self.figure.each.as_deref()?;
        let value = named(self.panels[panel]);
        Some(if axis == "test" {
            value.to_owned()
        } else {
            format!("{axis} {value}")
        })
    }

    /// Whether any run of a series has a warning.
    fn is_doubtful(&self, series: usize) -> bool {
        self.cells()
            .any(|(place, sample)| place.1 == series && sample.is_doubtful())
    }

    /// Labels along the bottom.
    fn labels(&self) -> Vec<String> {
        let label = |column: &Vec<&'a str>| {
            let values: Vec<&str> = column.iter().map(|value| named(value)).collect();
            values.join(" · ")
        };
        self.columns.iter().map(label).collect()
    }

    /// The name of the axis along the bottom.
    fn bottom_name(&self) -> String {
        let axes: Vec<&str> = self.figure.x.iter().map(String::as_str).collect();
        match axes.as_slice() {
            ["test"] => String::new(),
            axes => axes.join(" · "),
        }
    }
}

impl Drawing<'_> {
    /// Width of a panel.
    fn width(&self) -> f64 {
        chart::Frame::width(self.matrix.panels.len() > 1)
    }

    /// The picture of a panel, described by its numbers.
    fn picture(&self, panel: usize, frame: &chart::Frame, told: &str, drawn: &Markup) -> Markup {
        let figure = self.matrix.figure;
        let title = match self.matrix.panel_name(panel) {
            Some(name) => format!("{}, {name}", figure.title),
            None => figure.title.clone(),
        };
        frame.picture(&format!("{}-{panel}", self.id), &title, told, drawn)
    }

    /// What a panel shows, in words: one number of each place, of the first places.
    fn told(&self, panel: usize, what: &str, number: impl Fn(Place) -> Option<String>) -> String {
        const PLACES_MAX: usize = 40;
        let places = self.matrix.cells().map(|(place, _)| place);
        let words: Vec<String> = places
            .filter(|place| place.0 == panel)
            .filter_map(|place| Some(format!("{}: {}", self.matrix.name(place), number(place)?)))
            .collect();
        let more = words.len().saturating_sub(PLACES_MAX);
        let mut told = format!("{what}. {}", words[..words.len() - more].join("; "));
        if more > 0 {
            told.push_str(&format!("; and {more} more"));
        }
        told
    }
}

/// One scale for all panels where they can share one, so that panels can be held against each other, or one for each.
///
/// Panels share unless a curve would lie flat on the ground because another panel reaches five times as high.
fn largest_of_panels(largest: &[f64], notes: &mut Vec<String>) -> Vec<f64> {
    let high = largest.iter().copied().fold(0.0, f64::max);
    let flat = largest.iter().any(|one| *one > 0.0 && *one * 5.0 < high);
    if flat {
        notes.push("Each panel has a scale of its own.".to_owned());
        return largest.to_vec();
    }
    vec![high; largest.len()]
}

/// The sign of doubt above a place.
fn doubt(x: f64, y: f64) -> Markup {
    html! { text.doubt x=(px(x)) y=(px(y)) text-anchor="middle" { (DOUBT) } }
}

/// The name of an axis of latency.
fn latency_name(unit: Unit) -> String {
    format!("latency, {}", unit.name)
}
