//! Numbers in rows and columns, and a paper's where they can be compared.
//!
//! A number of the paper that is of the very cell stands in it. One that is of all values of the last axis of rows, as
//! hardware of the paper's own is, has a row of its own below the group; one that is of a row whatever the column, a
//! column at the end.

use maud::{Markup, html};

use super::super::matrix::Place;
use super::super::papers::{self, names};
use super::super::sample::Value;
use super::super::units::{self, MILLISECONDS, Unit, number, percent};
use super::{DOUBT, Drawing, named};
use crate::results::{Metric, Published};

/// The numbers of the paper, by where they go.
struct Placed<'a> {
    in_cell: Vec<&'a Published>,
    in_row: Vec<&'a Published>,
    in_column: Vec<&'a Published>,
    /// Whose numbers have columns.
    column_names: Vec<&'a str>,
}

/// A table for each panel.
pub(super) fn draw(drawing: &Drawing<'_>) -> Markup {
    let matrix = &drawing.matrix;
    let placed = Placed::new(drawing);
    let unit = unit(drawing);
    html! {
        @for (panel, _) in matrix.panels.iter().enumerate() {
            div.scroll.wide tabindex="0" role="region" aria-label=(drawing.matrix.figure.title) {
                table {
                    caption {
                        @if let Some(name) = matrix.panel_name(panel) { strong { (name) } ": " }
                        (units::label(matrix.figure.y)) ", " (unit.name)
                        @if !drawing.material.published.is_empty() && placed.has_any() { "; the paper’s numbers in italics" }
                    }
                    (head(drawing, &placed))
                    (body(drawing, &placed, panel, unit))
                }
            }
        }
    }
}

/// Milliseconds beside a paper, which prints them.
fn unit(drawing: &Drawing<'_>) -> Unit {
    let matrix = &drawing.matrix;
    let metric = matrix.figure.y;
    if units::is_latency(metric)
        && papers::of_metric(matrix, &drawing.material.published)
            .next()
            .is_some()
    {
        return MILLISECONDS;
    }
    let values = matrix
        .cells()
        .filter_map(|(_, sample)| sample.value(metric));
    units::unit(metric, values.map(|value| value.value).fold(0.0, f64::max))
}

impl<'a> Placed<'a> {
    fn new(drawing: &'a Drawing<'_>) -> Self {
        let matrix = &drawing.matrix;
        let mut placed = Self {
            in_cell: Vec::new(),
            in_row: Vec::new(),
            in_column: Vec::new(),
            column_names: Vec::new(),
        };
        let last = matrix.figure.x.last();
        for one in papers::of_metric(matrix, &drawing.material.published) {
            let of_row = last.is_none_or(|axis| names(one, axis));
            let of_series = matrix
                .figure
                .series
                .as_ref()
                .is_none_or(|axis| names(one, axis));
            if !of_row {
                placed.in_row.push(one);
            } else if of_series {
                placed.in_cell.push(one);
            } else {
                placed.in_column.push(one);
                if !placed.column_names.contains(&one.of.as_str()) {
                    placed.column_names.push(&one.of);
                }
            }
        }
        placed
    }

    fn has_any(&self) -> bool {
        !(self.in_cell.is_empty() && self.in_row.is_empty() && self.in_column.is_empty())
    }
}

/// The name of the axis stands above its values, once.
fn head(drawing: &Drawing<'_>, placed: &Placed<'_>) -> Markup {
    let matrix = &drawing.matrix;
    let axis = matrix
        .figure
        .series
        .as_deref()
        .filter(|axis| *axis != "test");
    let rows = if axis.is_some() { "2" } else { "1" };
    let values = html! {
        @for one in &matrix.series {
            th.number scope="col" {
                @if matrix.figure.series.is_some() { (named(one.name)) } @else { (units::label(matrix.figure.y)) }
            }
        }
    };
    html! {
        thead {
            tr {
                @for axis in &matrix.figure.x { th scope="col" rowspan=(rows) { (axis) } }
                @match axis {
                    Some(axis) => { th.axis scope="colgroup" colspan=(matrix.series.len()) { (axis) } },
                    None => { (values) },
                }
                @for name in &placed.column_names { th.number.paper scope="col" rowspan=(rows) { (name) " (paper)" } }
            }
            @if axis.is_some() { tr { (values) } }
        }
    }
}

fn body(drawing: &Drawing<'_>, placed: &Placed<'_>, panel: usize, unit: Unit) -> Markup {
    let matrix = &drawing.matrix;
    let rows = &matrix.columns;
    let depth = matrix.figure.x.len();
    // How many of its first axes a row has in common with the one before.
    let shared = |row: usize| {
        if row == 0 || row >= rows.len() {
            return 0;
        }
        let pairs = rows[row].iter().zip(&rows[row - 1]);
        pairs.take_while(|(a, b)| a == b).count()
    };
    html! {
        tbody {
            @for (row, values) in rows.iter().enumerate() {
                @let same = shared(row);
                tr.first[row > 0 && depth > 1 && same + 1 < depth] {
                    @for (level, value) in values.iter().enumerate() {
                        @if level + 1 < depth && level < same {
                            td.again {}
                        } @else {
                            th.short[value.len() < 28] scope="row" { (named(value)) }
                        }
                    }
                    @for series in 0..matrix.series.len() {
                        (cell(drawing, placed, (panel, series, row), unit))
                    }
                    @for name in &placed.column_names {
                        td.number.paper { (theirs(first_for(drawing, &placed.in_column, (panel, row), name), unit)) }
                    }
                }
                @if row + 1 == rows.len() || shared(row + 1) + 1 < depth {
                    (paper_rows(drawing, placed, (panel, row), unit))
                }
            }
        }
    }
}

fn cell(drawing: &Drawing<'_>, placed: &Placed<'_>, place: Place, unit: Unit) -> Markup {
    let matrix = &drawing.matrix;
    let sample = matrix.cell(place);
    let value = sample.and_then(|sample| sample.value(matrix.figure.y));
    let doubtful = sample.is_some_and(|sample| sample.is_doubtful());
    html! {
        td.number {
            @match value {
                Some(value) => { (shown(value, matrix.figure.y, unit)) @if doubtful { (DOUBT) } },
                None => { span.missing { "–" } },
            }
            @for one in placed.in_cell.iter().filter(|one| papers::is_for(matrix, one, place)) {
                div.paper { (theirs(Some(one), unit)) " " span.of { (one.of) } }
            }
        }
    }
}

/// Rows of the paper below a group of ours.
fn paper_rows(
    drawing: &Drawing<'_>,
    placed: &Placed<'_>,
    (panel, row): (usize, usize),
    unit: Unit,
) -> Markup {
    let matrix = &drawing.matrix;
    let mut names_here: Vec<&str> = Vec::new();
    for one in &placed.in_row {
        let here = (0..matrix.series.len())
            .any(|series| papers::is_for(matrix, one, (panel, series, row)));
        if here && !names_here.contains(&one.of.as_str()) {
            names_here.push(&one.of);
        }
    }
    let of_series = matrix
        .figure
        .series
        .as_deref()
        .is_none_or(|axis| placed.in_row.iter().any(|one| names(one, axis)));
    html! {
        @for name in names_here {
            tr.paper {
                @for _ in 1..matrix.figure.x.len() { td.again {} }
                th.short[name.len() < 20] scope="row" { (name) " (paper)" }
                @if of_series {
                    @for series in 0..matrix.series.len() {
                        @let here = placed.in_row.iter().copied().find(|one| one.of == name && papers::is_for(matrix, one, (panel, series, row)));
                        td.number { (theirs(here, unit)) }
                    }
                } @else {
                    td.number colspan=(matrix.series.len()) { (theirs(first_for(drawing, &placed.in_row, (panel, row), name), unit)) }
                }
                @for _ in &placed.column_names { td {} }
            }
        }
    }
}

/// The number of a name that stands for any cell of a row.
fn first_for<'a>(
    drawing: &Drawing<'_>,
    published: &[&'a Published],
    (panel, row): (usize, usize),
    name: &str,
) -> Option<&'a Published> {
    let matrix = &drawing.matrix;
    let named = published.iter().copied().filter(|one| one.of == name);
    let mut here = named.filter(|one| {
        (0..matrix.series.len()).any(|series| papers::is_for(matrix, one, (panel, series, row)))
    });
    here.next()
}

fn theirs(published: Option<&Published>, unit: Unit) -> String {
    let Some(published) = published else {
        return "–".to_owned();
    };
    // The digits are the paper's.
    let plain = |value: f64| {
        if unit == MILLISECONDS || !units::is_latency(published.metric) {
            value.to_string()
        } else {
            number(value * MILLISECONDS.divisor / unit.divisor)
        }
    };
    match published.iqr {
        Some(iqr) => format!("{} – {}", plain(published.value), plain(iqr)),
        None => plain(published.value),
    }
}

fn shown(value: Value, metric: Metric, unit: Unit) -> String {
    if metric == Metric::Success {
        return percent(value.value);
    }
    if metric == Metric::InstancesMax && value.value.fract() == 0.0 {
        // A number of things, and not a measurement with three digits.
        return value.value.to_string();
    }
    let text = number(value.value / unit.divisor);
    match value.iqr {
        Some(iqr) => {
            let digits = units::digits_like(iqr / unit.divisor, &text);
            format!("{text} – {digits}")
        }
        None => text,
    }
}
