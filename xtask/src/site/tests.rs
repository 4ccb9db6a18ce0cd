//! A small tree becomes a site: which files there are, where links lead, and what is refused.

use super::{Options, build, file_of, render};
use std::fs;
use std::path::Path;
use tempfile::TempDir;

fn tree(files: &[(&str, &str)]) -> TempDir {
    let tree = TempDir::new().unwrap();
    let manifest = "[workspace.package]\nversion = \"1.2.3\"\n";
    for (path, text) in [("Cargo.toml", manifest), ("README.md", "# Home\n")]
        .iter()
        .chain(files)
    {
        let path = tree.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    tree
}

fn options(out: &Path) -> Options {
    Options {
        out: Some(out.to_owned()),
        api: false,
    }
}

/// Builds a site and gives one of its files.
#[track_caller]
fn made(files: &[(&str, &str)], file: &str) -> String {
    let tree = tree(files);
    let out = TempDir::new().unwrap();
    build(tree.path(), tree.path(), &options(out.path())).unwrap();
    fs::read_to_string(out.path().join(file)).unwrap()
}

#[track_caller]
fn refused(files: &[(&str, &str)], said: &str) {
    let tree = tree(files);
    let out = TempDir::new().unwrap();
    let error = build(tree.path(), tree.path(), &options(out.path())).unwrap_err();
    assert!(format!("{error:#}").contains(said), "{error:#}");
}

#[test]
fn links_lead_from_file_to_file() {
    let files = [
        (
            "docs/a.md",
            "# A\n[b](b.md#part-two), [home](../README.md), [code](../src/x.rs), [all](../src/)\n",
        ),
        ("docs/b.md", "# B\n## Part `two`\n"),
        ("src/x.rs", "if a < b {}\n"),
    ];
    let page = made(&files, "docs/a.html");
    for link in [
        "b.html#part-two",
        "../index.html",
        "../src/x.rs.html",
        "../src/index.html",
    ] {
        assert!(page.contains(&format!("href=\"{link}\"")), "{link}: {page}");
    }
    assert!(page.contains("<title>A · Mote</title>"), "{page}");
    assert!(page.contains("1.2.3"));
    assert!(made(&files, "docs/b.html").contains("<h2 id=\"part-two\">Part <code>two</code>"));
    assert!(made(&files, "src/x.rs.html").contains("if a &lt; b {}"));
    assert!(made(&files, "src/index.html").contains("<code>x.rs</code>"));
}

#[test]
fn a_link_that_leads_nowhere_is_refused() {
    refused(
        &[("a.md", "[b](b.md)")],
        "a.md: the link `b.md` leads nowhere",
    );
    refused(
        &[("a.md", "[b](#none)")],
        "a.html: the link `#none` leads nowhere",
    );
    refused(
        &[("a.md", "[b](b.md#none)"), ("b.md", "# B\n")],
        "`b.html#none` leads nowhere",
    );
    refused(&[("a.md", "[b](../../etc/passwd)")], "leads nowhere");
}

#[test]
fn the_guide_is_in_the_order_of_its_index() {
    let index = ("docs/guide/README.md", "# Guide\n[Z](z.md) [A](a.md)\n");
    let pages = [
        index,
        ("docs/guide/a.md", "# A\n## One\n## Two\n"),
        ("docs/guide/z.md", "# Z\n"),
    ];
    let page = made(&pages, "docs/guide/a.html");
    let place = |text: &str| {
        page.find(text)
            .unwrap_or_else(|| panic!("no {text}: {page}"))
    };
    assert!(place("href=\"z.html\">Z") < place("href=\"a.html\" aria-current=\"page\">A"));
    assert!(place("href=\"a.html\" aria-current") < place("<a href=\"#one\">One</a>"));
    assert!(page.contains("<a class=\"before\" href=\"z.html\">← Z</a>"));
    refused(
        &[index, pages[1], pages[2], ("docs/guide/b.md", "# B\n")],
        "docs/guide/b.md is not in",
    );
}

#[test]
fn comments_are_left_out_and_consoles_marked() {
    let text =
        "# A\n<!-- node -->\n```console\n$ ls <x>\nfile\n```\n\n| a | b |\n| - | - |\n| 1 | 2 |\n";
    let page = made(&[("a.md", text)], "a.html");
    assert!(!page.contains("<!--"), "{page}");
    let block = "<pre class=\"console\"><code><span class=\"prompt\">$ </span><b>ls &lt;x&gt;</b>\nfile\n</code></pre>";
    assert!(page.contains(block), "{page}");
    assert!(page.contains("<div class=\"table\"><table>"), "{page}");
}

#[test]
fn only_a_site_is_replaced() {
    let tree = tree(&[]);
    let out = TempDir::new().unwrap();
    build(tree.path(), tree.path(), &options(out.path())).unwrap();
    fs::write(out.path().join("old.html"), "").unwrap();
    build(tree.path(), tree.path(), &options(out.path())).unwrap();
    assert!(!out.path().join("old.html").exists());

    let other = TempDir::new().unwrap();
    fs::write(other.path().join("letter.txt"), "mine").unwrap();
    let error = build(tree.path(), tree.path(), &options(other.path())).unwrap_err();
    assert!(
        error.to_string().contains("holds something else"),
        "{error}"
    );
    assert!(other.path().join("letter.txt").exists());
}

#[test]
fn files_are_named_after_their_pages() {
    for (path, file) in [
        ("README.md", "index.html"),
        ("docs/a.md", "docs/a.html"),
        ("docs/guide/README.md", "docs/guide/index.html"),
        ("LICENSE", "LICENSE.html"),
    ] {
        assert_eq!(file_of(path), file);
    }
    assert_eq!(render::way("a/b/c.html", "a/d.html"), "../d.html");
    assert_eq!(render::way("c.html", "a/d.html"), "a/d.html");
    assert_eq!(render::way("a/c.html", "a/d.html"), "d.html");
}
