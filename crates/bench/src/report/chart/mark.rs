//! Looks that tell series apart: a colour, a dash and a shape, so that no one of them is needed.
//!
//! Colours are those of Okabe and Ito, which people with any kind of colour vision can tell apart; the page has them as
//! variables, for light and dark.

use std::fmt::Write;

use maud::{Markup, html};

use super::px;

/// Colours of the page's style.
const COLORS: usize = 7;
/// Dashes of its style; with the colours, each pair comes once in 28.
const DASHES: usize = 4;

/// Classes of the colour and dash of a series.
pub(in super::super) fn classes(look: usize) -> String {
    let dash = (look % COLORS + look / COLORS) % DASHES;
    format!("{} d{dash}", color(look))
}

/// Class of the colour alone.
pub(in super::super) fn color(look: usize) -> String {
    format!("c{}", look % COLORS)
}

/// Classes of a box, whose border is whole while its colour is its own.
pub(in super::super) fn box_classes(look: usize) -> String {
    format!("{} d{}", color(look), look / COLORS % DASHES)
}

/// The shape of a series around a place.
pub(in super::super) fn marker(look: usize, x: f64, y: f64) -> Markup {
    let path = |shape: &str| html! { path.marker.(color(look)) d=(format!("M{} {}{shape}", px(x), px(y))) {} };
    match look % 6 {
        0 => html! { circle.marker.(color(look)) cx=(px(x)) cy=(px(y)) r="3.6" {} },
        1 => path("m-3.3-3.3h6.6v6.6h-6.6z"),
        2 => path("m0-4.3l4 7.2h-8z"),
        3 => path("m0-4.6l4 4.6-4 4.6-4-4.6z"),
        4 => path("m0 4.3l4-7.2h-8z"),
        _ => path("m-3.4-3.4l6.8 6.8m0-6.8l-6.8 6.8"),
    }
}

/// Many dots as one path, of a shape by series: a few bytes for each.
pub(in super::super) fn dots(look: usize, places: impl Iterator<Item = (f64, f64)>) -> Markup {
    let (class, shape) = [
        ("dots round", "h0"),
        // Readers of PDF draw no square around a line without a length.
        ("dots", "h.1"),
        ("dots thin", "m-1.6-1.6l3.2 3.2"),
        ("dots thin", "m-1.8 0h3.6"),
        ("dots thin", "m0-1.8v3.6"),
        ("dots thin", "m-1.6 1.6l3.2-3.2"),
    ][look % 6];
    let d = path_of(places, shape);
    html! { path.(class).(color(look)) d=(d) {} }
}

/// The same in one shape for all series.
pub(in super::super) fn round_dots(
    look: usize,
    places: impl Iterator<Item = (f64, f64)>,
) -> Markup {
    html! { path.dots.round.(color(look)) d=(path_of(places, "h0")) {} }
}

fn path_of(places: impl Iterator<Item = (f64, f64)>, shape: &str) -> String {
    let mut path = String::new();
    for (x, y) in places {
        let _ = write!(path, "M{} {}{shape}", px(x), px(y));
    }
    path
}

/// How a series looks in a legend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Swatch {
    /// A line with its marker.
    Line,
    /// A box.
    Box,
    /// Dots.
    Dots,
    /// The line of a paper's numbers.
    Paper,
}

impl Swatch {
    /// A small picture that says nothing more than the name beside it.
    pub(in super::super) fn draw(self, look: usize) -> Markup {
        html! {
            svg.swatch aria-hidden="true" viewBox="0 0 34 14" {
                @match self {
                    Self::Line => {
                        path.line.(classes(look)) d="M1 7h32" {}
                        (marker(look, 17.0, 7.0))
                    }
                    Self::Box => {
                        rect.box.(box_classes(look)) x="7" y="2" width="20" height="10" {}
                        path.median.(color(look)) d="M17 2v10" {}
                    }
                    Self::Dots => {
                        (dots(look, [(9.0, 8.0), (17.0, 5.0), (25.0, 9.0)].into_iter()))
                    }
                    Self::Paper => {
                        path.line.paper d="M1 7h32" {}
                        (paper_marker(look, 17.0, 7.0))
                    }
                }
            }
        }
    }
}

/// The marker of a paper's number: hollow, without a colour of its own.
pub(in super::super) fn paper_marker(look: usize, x: f64, y: f64) -> Markup {
    let shape = [
        "m-3-3h6v6h-6z",
        "m0-4l3.6 6.6h-7.2z",
        "m0-4l3.6 4-3.6 4-3.6-4z",
        "m0 4l3.6-6.6h-7.2z",
    ][look % 4];
    html! { path.marker.paper d=(format!("M{} {}{shape}", px(x), px(y))) {} }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pair_of_colour_and_dash_comes_once() {
        let looks: std::collections::HashSet<String> = (0..COLORS * DASHES).map(classes).collect();
        assert_eq!(looks.len(), COLORS * DASHES);
    }
}
