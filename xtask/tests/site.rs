//! The site as a browser shows it: on a phone, in light and dark, on paper, and from page to page without a server.
//!
//! With `MOTE_SITE_PICTURES=FOLDER` the pictures stay there, for people to look at.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail where they are")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use chromium::{Chromium, Picture};

#[allow(dead_code, reason = "this test uses a part of it")]
#[path = "../../crates/bench/tests/report_page/chromium.rs"]
mod chromium;

const PHONE: u32 = 360;
const DESK: u32 = 1200;

/// A browser, or nothing, with a visible reason.
fn browser() -> Option<Chromium> {
    match Chromium::start() {
        Ok(browser) => Some(browser),
        Err(reason) => {
            let required = std::env::var_os("MOTE_REQUIRE_TOOLS").is_some();
            assert!(!required, "MOTE_REQUIRE_TOOLS is set, and {reason}");
            // Not by `eprintln!`, which a test that passes does not show.
            let line = format!("skipped: xtask site: {reason}\n");
            std::io::stderr().write_all(line.as_bytes()).unwrap();
            None
        }
    }
}

/// This repository as a site.
fn site() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let ended = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(["docs", "--out"])
        .arg(folder.path())
        .output()
        .unwrap();
    assert!(
        ended.status.success(),
        "{}",
        String::from_utf8_lossy(&ended.stderr)
    );
    folder
}

/// Keeps a picture, when asked to.
fn keep(name: &str, bytes: &[u8]) {
    if let Some(folder) = std::env::var_os("MOTE_SITE_PICTURES") {
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(Path::new(&folder).join(name), bytes).unwrap();
    }
}

/// Every page of the site.
fn pages(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(pages(&path));
        } else if path.extension().is_some_and(|ending| ending == "html") {
            found.push(path);
        }
    }
    found.sort();
    found
}

#[test]
fn no_page_is_wider_than_a_phone() {
    let Some(mut browser) = browser() else {
        return;
    };
    let site = site();
    let pages = pages(&site.path().join("docs"));
    assert!(pages.len() > 20, "{pages:?}");
    for page in &pages {
        browser.open(page, PHONE, "light");
        let width = browser.evaluate("document.documentElement.scrollWidth");
        assert_eq!(width, PHONE, "{}", page.display());
    }
    browser.open(&site.path().join("docs/guide/start.html"), PHONE, "light");
    keep("phone.png", &browser.screenshot());
    // The list of pages is below the text, one touch away.
    let below = browser.evaluate(
        "document.querySelector('nav').getBoundingClientRect().top > document.querySelector('main').getBoundingClientRect().bottom - 1",
    );
    assert_eq!(below, true);
    let shown = browser
        .evaluate("getComputedStyle(document.querySelector('.to-contents')).display !== 'none'");
    assert_eq!(shown, true);
}

#[test]
fn light_dark_and_paper_have_their_own_ground() {
    let Some(mut browser) = browser() else {
        return;
    };
    let site = site();
    let page = site.path().join("docs/guide/start.html");
    for (scheme, ground, other) in [
        ("light", "#ffffff", "#14171b"),
        ("dark", "#14171b", "#ffffff"),
    ] {
        browser.open(&page, DESK, scheme);
        let bytes = browser.screenshot();
        keep(&format!("desk-{scheme}.png"), &bytes);
        let picture = Picture::read(&bytes);
        assert!(
            picture.share(ground) > 0.6,
            "{scheme}: {}",
            picture.share(ground)
        );
        assert!(
            picture.share(other) < 0.01,
            "{scheme}: {}",
            picture.share(other)
        );
    }
    let paper = browser.print();
    keep("paper.pdf", &paper);
    assert!(paper.starts_with(b"%PDF-"));
}

#[test]
fn the_list_of_pages_leads_through_the_site() {
    let Some(mut browser) = browser() else {
        return;
    };
    let site = site();
    browser.open(&site.path().join("index.html"), DESK, "light");
    let links = browser
        .evaluate("[...document.querySelectorAll('nav a')].map(link => link.href).join(' ')");
    let links = links.as_str().unwrap().to_owned();
    let files: Vec<&str> = links
        .split(' ')
        .filter_map(|link| link.strip_prefix("file://"))
        .collect();
    assert!(files.len() > 20, "{links}");
    for file in files.iter().filter(|file| !file.contains('#')) {
        browser.open(Path::new(file), DESK, "light");
        let here = browser.evaluate("document.querySelector('nav [aria-current]').href");
        assert_eq!(here, format!("file://{file}"));
    }
    let scripts = browser.evaluate("document.scripts.length");
    assert_eq!(scripts, 0);
}
