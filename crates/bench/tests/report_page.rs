//! The page as a browser shows it: on a phone, on a desk, in the dark and on paper.
//!
//! With `MOTE_REPORT_PICTURES=FOLDER` the pictures stay there, for people to look at.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail where they are")]

use std::path::{Path, PathBuf};

use mote_bench::report::{self, comparison};

use chromium::{Chromium, Picture};

#[path = "report_page/chromium.rs"]
mod chromium;
#[path = "report/example.rs"]
mod example;

const PHONE: u32 = 360;
const DESK: u32 = 1200;

/// A browser and the folder of a report; nothing, with a visible reason, where there is no browser.
fn browser() -> Option<(Chromium, tempfile::TempDir)> {
    let browser = match Chromium::start() {
        Ok(browser) => browser,
        Err(reason) => {
            let required = std::env::var_os("MOTE_REQUIRE_TOOLS").is_some();
            assert!(!required, "MOTE_REQUIRE_TOOLS is set, and {reason}");
            eprintln!("skipped: {reason}");
            return None;
        }
    };
    let folder = tempfile::tempdir().unwrap();
    report::write(&example::material(), folder.path()).unwrap();
    Some((browser, folder))
}

fn page(folder: &tempfile::TempDir) -> PathBuf {
    folder.path().join("report.html")
}

/// Keeps what was drawn, when asked to.
fn keep(name: &str, bytes: &[u8]) {
    if let Some(folder) = std::env::var_os("MOTE_REPORT_PICTURES") {
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(Path::new(&folder).join(name), bytes).unwrap();
    }
}

#[test]
fn a_phone_shows_it_without_moving_sideways() {
    let Some((mut browser, folder)) = browser() else {
        return;
    };
    browser.open(&page(&folder), PHONE, "light");
    let width = browser.evaluate("document.documentElement.scrollWidth");
    assert_eq!(width, PHONE, "the page is wider than the window");
    // Text of a figure, as large as it is shown.
    let smallest = browser.evaluate(
        "Math.min(...[...document.querySelectorAll('svg[role=img]')].map(svg => 12 * svg.getBoundingClientRect().width / svg.viewBox.baseVal.width))",
    );
    assert!(smallest.as_f64().unwrap() > 8.0, "{smallest} px");
    let bytes = browser.screenshot();
    keep("phone.png", &bytes);
    let picture = Picture::read(&bytes);
    assert_eq!(picture.width, PHONE);
    assert!(picture.height > 2000, "it is cut off");
    for color in ["#0072b2", "#d55e00", "#009e73"] {
        assert!(picture.count(color) > 200, "{color} is not there");
    }
}

#[test]
fn light_and_dark_have_their_own_ground_and_colours() {
    let Some((mut browser, folder)) = browser() else {
        return;
    };
    let mut shown = |scheme| {
        browser.open(&page(&folder), DESK, scheme);
        let bytes = browser.screenshot();
        keep(&format!("desk-{scheme}.png"), &bytes);
        Picture::read(&bytes)
    };
    let light = shown("light");
    let dark = shown("dark");
    assert!(light.share("#ffffff") > 0.7, "{}", light.share("#ffffff"));
    assert!(dark.share("#14171b") > 0.7, "{}", dark.share("#14171b"));
    assert_eq!(dark.count("#ffffff"), 0, "something stayed light");
    for (in_light, in_dark) in [
        ("#0072b2", "#56b4e9"),
        ("#d55e00", "#e69f00"),
        ("#009e73", "#1fbf92"),
    ] {
        assert!(light.count(in_light) > 500, "{in_light} is not there");
        assert!(dark.count(in_dark) > 500, "{in_dark} is not there");
    }
}

#[test]
fn no_text_of_a_figure_lies_on_another() {
    let Some((mut browser, folder)) = browser() else {
        return;
    };
    texts_have_room(&mut browser, &page(&folder));
    let crowded = tempfile::tempdir().unwrap();
    report::write(&example::crowded(), crowded.path()).unwrap();
    texts_have_room(&mut browser, &page(&crowded));
    keep("crowded.png", &browser.screenshot());
    browser.open(&page(&crowded), PHONE, "dark");
    keep("crowded-phone.png", &browser.screenshot());
    let width = browser.evaluate("document.documentElement.scrollWidth");
    assert_eq!(width, PHONE, "the page is wider than the window");
}

/// Opens a page and measures all labels; those that are turned may come close to each other.
#[track_caller]
fn texts_have_room(browser: &mut Chromium, page: &Path) {
    browser.open(page, DESK, "light");
    let overlaps = browser.evaluate(
        "[...document.querySelectorAll('svg[role=img]')].flatMap(svg => {
            const texts = [...svg.querySelectorAll('text:not([transform])')].map(text => [text.textContent, text.getBBox()]);
            const inside = (a, b) => a.x < b.x + b.width && b.x < a.x + a.width && a.y + 3 < b.y + b.height - 3 && b.y + 3 < a.y + a.height - 3;
            return texts.flatMap(([name, box], i) => texts.slice(i + 1).filter(other => inside(box, other[1])).map(other => name + ' / ' + other[0]));
        }).join('; ')",
    );
    assert_eq!(overlaps, "");
    let outside = browser.evaluate(
        "[...document.querySelectorAll('svg[role=img]')].flatMap(svg => {
            const frame = svg.getBoundingClientRect();
            return [...svg.querySelectorAll('text')].filter(text => {
                const box = text.getBoundingClientRect();
                return box.left < frame.left - 1 || box.right > frame.right + 1 || box.bottom > frame.bottom + 1;
            }).map(text => text.textContent);
        }).join('; ')",
    );
    assert_eq!(outside, "");
}

#[test]
fn a_comparison_fits_a_phone_too() {
    let Some((mut browser, folder)) = browser() else {
        return;
    };
    let a = example::material();
    let mut b = example::material();
    for run in &mut b.runs {
        run.environment.system.kernel = "6.19.0".to_owned();
        if let Some(measured) = &mut run.measured {
            for (latency, _) in &mut measured.latency {
                *latency *= if run.test == "overhead" { 0.93 } else { 1.02 };
            }
        }
    }
    let file = folder.path().join("comparison.html");
    std::fs::write(&file, comparison::compare(&a, &b).to_html()).unwrap();
    browser.open(&file, PHONE, "dark");
    let width = browser.evaluate("document.documentElement.scrollWidth");
    assert_eq!(width, PHONE, "the page is wider than the window");
    browser.open(&file, DESK, "light");
    let bytes = browser.screenshot();
    keep("comparison.png", &bytes);
    let picture = Picture::read(&bytes);
    assert!(picture.count("#0072b2") > 100, "nothing is faster");
    assert!(picture.count("#d55e00") > 100, "nothing is slower");
}

#[test]
fn paper_has_it_too() {
    let Some((mut browser, folder)) = browser() else {
        return;
    };
    browser.open(&page(&folder), DESK, "dark");
    let ground = browser.evaluate("getComputedStyle(document.body).backgroundColor");
    assert_eq!(ground, "rgb(20, 23, 27)", "the screen is dark");
    let bytes = browser.print();
    keep("paper.pdf", &bytes);
    assert!(bytes.starts_with(b"%PDF-"));
    let text = String::from_utf8_lossy(&bytes);
    let pages = text.matches("/Type /Page\n").count();
    assert!((2..12).contains(&pages), "{pages} pages");
}
