//! The comparison as a page.

use maud::{DOCTYPE, Markup, html};

use super::super::page::{head, readable};
use super::super::points;
use super::super::units::number;
use super::{Comparison, Contrast, Side, Verdict};

/// Rows of the table, and names in a list.
const ROWS_MAX: usize = 1000;

pub(super) fn html(comparison: &Comparison) -> String {
    let title = format!("{} and {}", comparison.a.name, comparison.b.name);
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            (head(&format!("Comparison of {title}")))
            body {
                header {
                    p.over { "Mote testbed · comparison" }
                    h1 { "What changed from A to B" }
                }
                main {
                    @for difference in &comparison.differences {
                        p.banner role="note" {
                            strong { "Different " (difference.what) ". " }
                            (difference.a) " in A, " (difference.b) " in B."
                        }
                    }
                    dl.stamp {
                        (side("A", &comparison.a))
                        (side("B", &comparison.b))
                    }
                    section {
                        h2 { "Points that both have" }
                        @if comparison.points.is_empty() {
                            p.empty { "No point was measured by both." }
                        } @else {
                            (table(comparison))
                        }
                        ul.notes {
                            li { "Ratios are B/A of medians over repetitions, with an interval of 95 %. Latency that is less is faster, a rate that is more." }
                            @for remark in comparison.remarks() { li { (remark) } }
                        }
                    }
                    (only("A", &comparison.only_a))
                    (only("B", &comparison.only_b))
                }
            }
        }
    };
    readable(&page.into_string())
}

fn side(letter: &str, side: &Side) -> Markup {
    html! {
        div {
            dt { (letter) }
            dd { (side.name) ", " (side.runs) " runs" @if !side.time.is_empty() { ", first at " (side.time) " UTC" } }
        }
    }
}

fn table(comparison: &Comparison) -> Markup {
    let left_out = comparison.points.len().saturating_sub(ROWS_MAX);
    html! {
        div.scroll.wide tabindex="0" role="region" aria-label="Ratios" {
            table.ratios {
                caption { "latency in ms, rates per second" }
                thead {
                    tr {
                        th scope="col" { "point" }
                        th.number scope="col" { "median latency" }
                        th.number scope="col" { "99th percentile" }
                        th.number scope="col" { "good answers" }
                    }
                }
                tbody {
                    @for point in comparison.points.iter().take(ROWS_MAX) {
                        tr {
                            th scope="row" { (points::name(&point.test, &point.axes)) }
                            (cell(&point.median, 1000.0))
                            (cell(&point.p99, 1000.0))
                            (cell(&point.rate, 1.0))
                        }
                    }
                }
            }
        }
        @if left_out > 0 { p { "And " (left_out) " more points, which the JSON has." } }
    }
}

fn cell(contrast: &Contrast, divisor: f64) -> Markup {
    let shown =
        |value: Option<f64>| value.map_or("–".to_owned(), |value| number(value / divisor));
    let class = match contrast.verdict {
        Verdict::Faster => "faster",
        Verdict::Slower => "slower",
        Verdict::Noise | Verdict::TooFewRuns => "same",
    };
    html! {
        td.number {
            strong.(class) { (contrast.verdict.name()) }
            div { (contrast.ratio()) }
            div.of { (shown(contrast.a)) " → " (shown(contrast.b)) }
        }
    }
}

fn only(letter: &str, names: &[String]) -> Markup {
    html! {
        @if !names.is_empty() {
            section {
                h2 { "Only in " (letter) }
                ul { @for name in names.iter().take(ROWS_MAX) { li { (name) } } }
                @if names.len() > ROWS_MAX { p { "And " (names.len() - ROWS_MAX) " more." } }
            }
        }
    }
}
