//! Groups side by side: a place along the bottom for each column, and in it one for each series.

use maud::{Markup, html};

use super::super::chart::scale::Scale;
use super::super::chart::{Frame, Places, px};
use super::super::matrix::Place;
use super::Drawing;

/// Narrowest slot in which a group can still be told from its neighbours.
const SLOT_MIN: f64 = 15.0;
/// Room beside the plot for the axis.
const BESIDE: f64 = 60.0;
/// The part of a column that its groups fill; the rest is between columns.
const FILLED: f64 = 0.84;

/// The places of one panel.
pub(super) struct Slots {
    pub(super) frame: Frame,
    labels: Vec<String>,
    column: f64,
    /// The room of a label, as it was known before the frame.
    slot: f64,
    series: f64,
}

impl Slots {
    pub(super) fn new(drawing: &Drawing<'_>, y: &Scale) -> Self {
        let labels = drawing.matrix.labels();
        let columns = labels.len().max(1) as f64;
        let series = drawing.matrix.series.len().max(1) as f64;
        let width = (columns * series * SLOT_MIN / FILLED + BESIDE).max(drawing.width());
        let slot = (width - BESIDE) / columns;
        let frame = Frame::new(width, y, Places::room(&labels, slot)).beginning_with(
            &labels,
            slot,
            slot / 2.0,
        );
        Self {
            column: (frame.right - frame.left) / columns,
            slot,
            frame,
            labels,
            series,
        }
    }

    /// Room of one group.
    pub(super) fn width(&self) -> f64 {
        self.column * FILLED / self.series
    }

    /// The middle of a group.
    pub(super) fn center(&self, place: Place) -> f64 {
        let (_, series, column) = place;
        let within = (series as f64 + 0.5) / self.series - 0.5;
        self.middle(column) + within * self.column * FILLED
    }

    fn middle(&self, column: usize) -> f64 {
        self.frame.left + (column as f64 + 0.5) * self.column
    }

    /// Axes, and a line between columns.
    pub(super) fn axes(&self, y: &Scale, name: &str, bottom: &str) -> Markup {
        let centers = (0..self.labels.len())
            .map(|column| self.middle(column))
            .collect();
        let places = Places::new(&self.labels, centers, self.slot);
        html! {
            (self.frame.left_axis(y, name))
            @for column in 1..self.labels.len() {
                @let x = px(self.frame.left + column as f64 * self.column);
                line.faint x1=(x) x2=(x) y1=(px(self.frame.top)) y2=(px(self.frame.bottom)) {}
            }
            (self.frame.bottom_places(&places, bottom))
        }
    }
}
