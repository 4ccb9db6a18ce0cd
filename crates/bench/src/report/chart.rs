//! Drawing: small pictures as SVG in the page, in its colours, light or dark.
//!
//! Nothing here knows what is drawn. A picture is a [`Frame`] with two [`scale::Scale`]s and whatever is drawn into it
//! at their places; `mark` has the looks that tell series apart.

pub(super) mod mark;
pub(super) mod scale;

use std::fmt::Write;

use maud::{Markup, html};

use scale::Scale;

/// Widths of a picture that stands alone and of one among several, in its own units, in which text has a size of 12:
/// both are as wide as a phone shows them readable.
const WIDTHS: (f64, f64) = (440.0, 340.0);
/// How much larger than in its own units a picture is shown at most.
const LARGEST: f64 = 1.35;
/// Width of the average character of a label, and of one that fills a square.
const CHARACTER: (f64, f64) = (6.2, 12.0);
/// Sine and cosine of the 35 degrees by which labels are turned that have too little room.
const TURN: (f64, f64) = (0.574, 0.819);
/// Longest label before it is cut.
const LABEL_WIDTH_MAX: f64 = 130.0;

/// The area that is drawn into, and what stands around it.
#[derive(Debug, Clone)]
pub(super) struct Frame {
    pub(super) width: f64,
    pub(super) height: f64,
    pub(super) left: f64,
    pub(super) right: f64,
    pub(super) top: f64,
    pub(super) bottom: f64,
}

/// Names along the bottom, each at its place.
#[derive(Debug)]
pub(super) struct Places<'a> {
    pub(super) labels: &'a [String],
    pub(super) centers: Vec<f64>,
    turned: bool,
}

impl Frame {
    /// The width of a picture that stands beside others or not.
    pub(super) fn width(several: bool) -> f64 {
        if several { WIDTHS.1 } else { WIDTHS.0 }
    }

    /// For labels of `y` on the left and room of `below` for those at the bottom.
    pub(super) fn new(width: f64, y: &Scale, below: f64) -> Self {
        let widest = y.labels().map(text_width).fold(0.0, f64::max);
        let height = width * 0.44 + 56.0 + below;
        Self {
            width,
            height,
            left: widest + 12.0,
            right: width - 14.0,
            top: 26.0,
            bottom: height - below,
        }
    }

    /// With room for half of the last label along the bottom.
    pub(super) fn ending_with(mut self, x: &Scale) -> Self {
        let last = x.labels().last().map_or(0.0, text_width);
        self.right = self.width - (last / 2.0 + 2.0).max(14.0);
        self
    }

    /// With room on the left for a first label that is turned there from the place `within` the plot.
    pub(super) fn beginning_with(mut self, labels: &[String], slot: f64, within: f64) -> Self {
        if let Some(first) = labels.first().filter(|_| are_turned(labels, slot)) {
            let reach = text_width(&shortened(first)) * TURN.1;
            self.left = self.left.max(reach - within);
        }
        self
    }

    /// Where a share of the width is.
    pub(super) fn across(&self, share: f64) -> f64 {
        self.left + (self.right - self.left) * share
    }

    /// Where a value of `y` is.
    pub(super) fn up(&self, y: &Scale, value: f64) -> f64 {
        self.bottom - (self.bottom - self.top) * y.share(value)
    }

    /// Lines and labels of the scale on the left, and its name above.
    pub(super) fn left_axis(&self, y: &Scale, name: &str) -> Markup {
        html! {
            text.name x="2" y="13" { (name) }
            @for value in y.between() {
                line.faint x1=(px(self.left)) x2=(px(self.right)) y1=(px(self.up(y, *value))) y2=(px(self.up(y, *value))) {}
            }
            @for (value, label) in y.ticks() {
                @let at = self.up(y, *value);
                line.grid x1=(px(self.left)) x2=(px(self.right)) y1=(px(at)) y2=(px(at)) {}
                text.tick x=(px(self.left - 6.0)) y=(px(at + 4.0)) text-anchor="end" { (label) }
            }
        }
    }

    /// The same along the bottom.
    pub(super) fn bottom_axis(&self, x: &Scale, name: &str) -> Markup {
        html! {
            @for value in x.between() {
                @let at = px(self.across(x.share(*value)));
                line.faint x1=(at) x2=(at) y1=(px(self.top)) y2=(px(self.bottom)) {}
            }
            @for (value, label) in x.ticks() {
                @let at = px(self.across(x.share(*value)));
                line.grid x1=(at) x2=(at) y1=(px(self.top)) y2=(px(self.bottom)) {}
                text.tick x=(at) y=(px(self.bottom + 17.0)) text-anchor="middle" { (label) }
            }
            (self.bottom_name(name, 34.0))
            (self.base())
        }
    }

    /// Names instead of numbers along the bottom.
    pub(super) fn bottom_places(&self, places: &Places<'_>, name: &str) -> Markup {
        html! {
            @for (label, &at) in places.shown() {
                @let y = self.bottom + 17.0;
                @if places.turned {
                    text.tick x=(px(at + 4.0)) y=(px(y)) text-anchor="end" transform=(format!("rotate(-35 {} {})", px(at + 4.0), px(y))) { (shortened(label)) }
                } @else {
                    text.tick x=(px(at)) y=(px(y)) text-anchor="middle" { (shortened(label)) }
                }
            }
            (self.bottom_name(name, self.height - self.bottom - 6.0))
            (self.base())
        }
    }

    fn bottom_name(&self, name: &str, below: f64) -> Markup {
        html! {
            text.name x=(px(f64::midpoint(self.left, self.right))) y=(px(self.bottom + below)) text-anchor="middle" { (name) }
        }
    }

    fn base(&self) -> Markup {
        html! { line.base x1=(px(self.left)) x2=(px(self.right)) y1=(px(self.bottom)) y2=(px(self.bottom)) {} }
    }

    /// The picture, with what it shows in words for those who do not see it.
    pub(super) fn picture(
        &self,
        id: &str,
        title: &str,
        description: &str,
        drawn: &Markup,
    ) -> Markup {
        let size = format!("0 0 {} {}", px(self.width), px(self.height));
        let mut style = format!("--most:{}px", px(self.width * LARGEST));
        if self.width > WIDTHS.0 {
            // Wider than a phone: moved under the finger instead of shrunk until nobody can read it.
            let _ = write!(style, ";min-width:{}px", px(self.width * 0.75));
        }
        html! {
            svg role="img" aria-labelledby=(format!("{id}-t {id}-d")) viewBox=(size) style=(style) {
                title id=(format!("{id}-t")) { (title) }
                desc id=(format!("{id}-d")) { (description) }
                (drawn)
            }
        }
    }
}

impl<'a> Places<'a> {
    /// Room that labels need below, when there is `slot` of width for each.
    pub(super) fn room(labels: &[String], slot: f64) -> f64 {
        if are_turned(labels, slot) {
            40.0 + widest(labels) * TURN.0
        } else {
            42.0
        }
    }

    pub(super) fn new(labels: &'a [String], centers: Vec<f64>, slot: f64) -> Self {
        Self {
            turned: are_turned(labels, slot),
            labels,
            centers,
        }
    }

    /// As many as do not overlap.
    fn shown(&self) -> impl Iterator<Item = (&String, &f64)> {
        let least = if self.turned { 13.0 } else { 0.0 };
        let mut last = f64::NEG_INFINITY;
        self.labels
            .iter()
            .zip(&self.centers)
            .filter(move |(_, at)| {
                let fits = **at - last >= least;
                if fits {
                    last = **at;
                }
                fits
            })
    }
}

/// Whether there is too little room for them side by side.
fn are_turned(labels: &[String], slot: f64) -> bool {
    widest(labels) > slot - 4.0
}

fn widest(labels: &[String]) -> f64 {
    let widths = labels.iter().map(|label| text_width(&shortened(label)));
    widths.fold(0.0, f64::max)
}

/// An estimate: the browser's fonts are not known here.
pub(super) fn text_width(text: &str) -> f64 {
    let width = |character: char| {
        if character > '\u{2e80}' {
            CHARACTER.1
        } else {
            CHARACTER.0
        }
    };
    text.chars().map(width).sum()
}

fn shortened(label: &str) -> String {
    if text_width(label) <= LABEL_WIDTH_MAX {
        return label.to_owned();
    }
    let mut short = String::new();
    for character in label.chars() {
        if text_width(&short) > LABEL_WIDTH_MAX - 2.0 * CHARACTER.1 {
            break;
        }
        short.push(character);
    }
    format!("{}…", short.trim_end())
}

/// A coordinate, a tenth of a unit exact.
pub(super) fn px(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}
