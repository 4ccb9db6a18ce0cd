//! `report.html`: one page that stands alone, for a screen of any size and for paper.
//!
//! No script and nothing from outside, which a policy in its head enforces too. All text is escaped where it is put in;
//! the page is well-formed XML, so a test can read it whole. What grows with the experiment is bounded in `matrix`,
//! in the figures, and here.

use std::collections::BTreeMap;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{Material, figure, points};
use crate::environment::System;
use crate::results::Kind;

/// Lines of the lists at the end of the page.
const LISTED_MAX: usize = 60;

/// The page.
pub(super) fn html(material: &Material) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            (head(&material.title))
            body {
                header {
                    p.over { "Mote testbed · " (material.name) }
                    h1 { (heading(material)) }
                    @for paragraph in material.about.split("\n\n").filter(|text| !text.trim().is_empty()) {
                        p.about { (paragraph) }
                    }
                    @if !material.source.is_empty() { p.source { "After " cite { (material.source) } } }
                }
                main {
                    (banners(material))
                    (stamp(material))
                    (figures(material))
                    (remarks(material))
                    (method())
                }
                (footer(material))
            }
        }
    };
    readable(&page.into_string())
}

/// What begins every page of the testbed.
pub(super) fn head(title: &str) -> Markup {
    // Closed, which HTML does not need and XML does.
    const META: &str = concat!(
        r#"<meta charset="utf-8"/>"#,
        r#"<meta name="viewport" content="width=device-width, initial-scale=1"/>"#,
        r#"<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'"/>"#,
    );
    html! {
        head {
            (PreEscaped(META))
            title { (title) }
            style { (PreEscaped(include_str!("page.css"))) }
        }
    }
}

/// Characters that XML forbids, or that turn the order of what follows, are shown as what they are: not text.
pub(super) fn readable(page: &str) -> String {
    let is_text = |character: char| match character {
        '\n' | '\t' => true,
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{fffe}' | '\u{ffff}' => false,
        character => !character.is_control(),
    };
    page.chars()
        .map(|character| {
            if is_text(character) {
                character
            } else {
                '\u{fffd}'
            }
        })
        .collect()
}

fn heading(material: &Material) -> &str {
    if material.title.is_empty() {
        "Results"
    } else {
        &material.title
    }
}

/// What nobody may overlook.
fn banners(material: &Material) -> Markup {
    let failed = material
        .runs
        .iter()
        .filter(|run| run.measured.is_none())
        .count();
    let doubtful = material
        .runs
        .iter()
        .filter(|run| {
            run.measured
                .as_ref()
                .is_some_and(|one| !one.warnings.is_empty())
        })
        .count();
    let places = points::environments(material).len();
    html! {
        @if material.missing > 0 {
            p.banner role="note" {
                strong { "Partial report." } " "
                (material.missing) " of " (material.missing + material.runs.len()) " runs were not done yet."
            }
        }
        @if material.quick {
            p.banner role="note" {
                strong { "Quick run." } " "
                "Runs were cut short to try the experiment out; the numbers are not results."
            }
        }
        @if places > 1 {
            p.banner role="note" {
                strong { "Several environments." } " "
                "Runs were taken on " (places) " machines or versions; what differs below may be that."
            }
        }
        @if failed > 0 {
            p.banner role="note" {
                strong { (failed) " of " (material.runs.len()) " runs failed." } " "
                "Their places are empty; the reasons are below."
            }
        }
        @if doubtful > 0 {
            p.banner.mild role="note" {
                strong { (figure::DOUBT) " " (doubtful) " of " (material.runs.len()) " runs have a warning." } " "
                "What is made of them has this mark."
            }
        }
    }
}

/// What was run, where and when.
fn stamp(material: &Material) -> Markup {
    let environments = points::environments(material);
    let tests: Vec<String> = tests(material);
    html! {
        dl.stamp {
            div { dt { "Runs" } dd { (material.runs.len()) @if !tests.is_empty() { ": " (tests.join(", ")) } } }
            @for environment in &environments {
                (machine("Machine", &environment.system))
                div { dt { "Software" } dd { "Linux " (environment.system.kernel) ", testbed " (environment.version) } }
                @if let Some(system) = environment.platform.as_ref().and_then(|platform| platform.system.as_ref()) {
                    (machine("Machine of the platform", system))
                    div { dt { "Its software" } dd { "Linux " (system.kernel) } }
                }
                @if let Some(network) = &environment.network {
                    div { dt { "Emulated network" } dd { (network) } }
                }
            }
            @for (platform, program) in &points::programs(material) {
                div { dt { "Program of " (platform) } dd { "BLAKE3 " code { (program) } } }
            }
            @if let Some(times) = times(material) { div { dt { "Time" } dd { (times) } } }
            @if let Some(load) = load(material) { div { dt { "Load average before a run" } dd { (load) } } }
            div { dt { "Seed" } dd { (material.seed) } }
            @if let Some(environment) = environments.first() {
                div.command { dt { "Command" } dd { code { (environment.command) } } }
            }
        }
    }
}

fn machine(what: &str, system: &System) -> Markup {
    let cores = if system.cores == 1 { "core" } else { "cores" };
    html! { div { dt { (what) } dd { (system.cpu) ", " (system.cores) " " (cores) } } }
}

fn tests(material: &Material) -> Vec<String> {
    let mut tests: Vec<String> = Vec::new();
    let ran = material.runs.iter().map(|run| &run.test);
    for test in material.tests.iter().chain(ran) {
        if !tests.contains(test) {
            tests.push(test.clone());
        }
    }
    tests
}

fn times(material: &Material) -> Option<String> {
    let seconds = || material.runs.iter().map(|run| run.environment.unix_seconds);
    let (first, last) = (
        points::minute(seconds().min()?),
        points::minute(seconds().max()?),
    );
    // Of the same day, the time alone.
    let day = first.split(' ').next().unwrap_or_default();
    let shorter = last.strip_prefix(day).map(str::trim).map(str::to_owned);
    if first == last {
        return Some(format!("{first} UTC"));
    }
    Some(format!("{first} to {} UTC", shorter.unwrap_or(last)))
}

fn load(material: &Material) -> Option<String> {
    let loads = material
        .runs
        .iter()
        .map(|run| run.environment.system.load_average);
    let (low, high) = super::statistics::range(loads)?;
    if high - low < 0.005 {
        return Some(format!("{low:.2}"));
    }
    Some(format!("{low:.2} to {high:.2}"))
}

fn figures(material: &Material) -> Markup {
    let (mut drawn, mut tables) = (0, 0);
    html! {
        @for (index, figure) in material.figures.iter().enumerate() {
            @let number = if figure.kind == Kind::Table {
                tables += 1;
                format!("Table {tables}.")
            } else {
                drawn += 1;
                format!("Figure {drawn}.")
            };
            (figure::draw(material, figure, &number, &format!("f{}", index + 1)))
        }
    }
}

/// Notes of the experiment, and all warnings and failures once.
fn remarks(material: &Material) -> Markup {
    let points = points::all(material);
    let mut warnings: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let mut failures: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for point in &points {
        let name =
            |repetition: u32| format!("{} ({repetition})", points::name(point.test, point.axes));
        for (repetition, text) in point.sample.warnings() {
            warnings.entry(text).or_default().push(name(repetition));
        }
        for (repetition, text) in point.sample.failures() {
            failures.entry(text).or_default().push(name(repetition));
        }
    }
    html! {
        @if !material.notes.is_empty() {
            section {
                h2 { "Notes" }
                ul { @for note in &material.notes { li { (note) } } }
            }
        }
        (reasons("Warnings", &warnings))
        (reasons("Runs that failed", &failures))
    }
}

fn reasons(heading: &str, reasons: &BTreeMap<&str, Vec<String>>) -> Markup {
    html! {
        @if !reasons.is_empty() {
            section {
                h2 { (heading) }
                dl.reasons {
                    @for (text, runs) in reasons.iter().take(LISTED_MAX) {
                        dt { (text) }
                        dd {
                            (runs[..runs.len().min(LISTED_MAX)].join("; "))
                            @if runs.len() > LISTED_MAX { "; and " (runs.len() - LISTED_MAX) " more" }
                        }
                    }
                }
                @if reasons.len() > LISTED_MAX {
                    p { "And " (reasons.len() - LISTED_MAX) " more; runs.csv has all." }
                }
            }
        }
    }
}

fn method() -> Markup {
    html! {
        section.method {
            h2 { "How the numbers were made" }
            p {
                "Latencies of all repetitions of a point are taken together for quantiles, curves and boxes; their resolution is three digits. "
                "A mean is that of the repetition whose mean is the median one. "
                "Rates, processor time and memory are medians over repetitions. "
                "A request that was answered too late, wrongly or not at all counts as failed; curves level off at the share that did not fail. "
                "IQR is the distance between the first and the third quartile."
            }
        }
    }
}

fn footer(material: &Material) -> Markup {
    html! {
        footer {
            p {
                "Made by mote-bench " (env!("CARGO_PKG_VERSION")) " from the runs in this folder: "
                code { "runs.csv" } ", " code { "latencies.csv" } " and " code { "report.json" } " have the numbers of "
                (material.runs.len()) " runs for other programs."
            }
        }
    }
}
