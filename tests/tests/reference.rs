//! The reference is what the programs say. `cargo xtask reference` writes it, which runs this test with
//! `MOTE_REFERENCE=write`.

use mote_tests::reference::{self, Page};

#[test]
fn the_reference_is_what_the_programs_say() {
    let write = std::env::var_os("MOTE_REFERENCE").is_some_and(|what| what == "write");
    let mut stale = Vec::new();
    for page in reference::pages() {
        if write {
            std::fs::write(reference::path(&page), &page.text).unwrap();
        } else if let Some(line) = difference(&page) {
            stale.push(line);
        }
    }
    assert!(
        stale.is_empty(),
        "run `cargo xtask reference`:\n{}",
        stale.join("\n")
    );
}

/// The first line of a page that the programs do not say.
fn difference(page: &Page) -> Option<String> {
    let path = reference::path(page);
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    if written == page.text {
        return None;
    }
    let mut written = written.lines();
    let mut lines = page.text.lines().zip(1..);
    let (line, number) = lines
        .find(|(line, _)| written.next() != Some(line))
        .unwrap_or(("nothing more", page.text.lines().count() + 1));
    let file = page.file;
    Some(format!(
        "docs/reference/{file}:{number}: the programs say `{line}`"
    ))
}
