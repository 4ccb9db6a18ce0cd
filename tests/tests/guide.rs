//! What the guide, the README and the READMEs of the examples tell people to type is typed here, page by page, with
//! the real programs, and what they show is compared with what is said.
//!
//! `MOTE_GUIDE=start` runs the pages whose path contains that.

#![expect(
    clippy::unwrap_used,
    reason = "this is test code: it stops at the first surprise"
)]

use std::io::Write as _;
use std::sync::Mutex;
use std::thread;

use mote_api::manifest;
use mote_tests::guide::page::Page;
use mote_tests::guide::{self, Report, session};
use mote_tests::source::skipped;

/// Pages that are run at once.
const AT_ONCE: usize = 2;

/// Whether pages can be run here; otherwise says so.
fn possible() -> bool {
    let Err(reason) = session::possible() else {
        return true;
    };
    let required = std::env::var_os("MOTE_REQUIRE_TOOLS").is_some();
    assert!(!required, "MOTE_REQUIRE_TOOLS is set, and {reason}");
    skipped(&reason);
    false
}

#[test]
fn every_block_does_what_its_page_says() {
    if !possible() {
        return;
    }
    let only = std::env::var("MOTE_GUIDE").unwrap_or_default();
    let pages = guide::pages();
    let pages: Vec<&Page> = pages
        .iter()
        .filter(|page| page.name.contains(&only))
        .collect();
    assert!(!pages.is_empty(), "no page is called `{only}`");
    let left = Mutex::new(pages.iter());
    let reports = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let Some(page) = left.lock().unwrap().next() else {
                        break;
                    };
                    let report = guide::run(page);
                    tell(&report);
                    reports.lock().unwrap().push(report);
                }
            });
        }
    });
    let reports = reports.into_inner().unwrap();
    let run: usize = reports.iter().map(|report| report.run).sum();
    let not_run: usize = reports.iter().map(|report| report.not_run.len()).sum();
    say(&format!(
        "guide: {} pages, {run} blocks run, {not_run} not run",
        reports.len()
    ));
    let failures: Vec<String> = reports
        .into_iter()
        .filter_map(|report| report.failure)
        .collect();
    assert!(failures.is_empty(), "\n{}", failures.join("\n\n"));
    assert!(run > 0, "nothing was run");
}

fn tell(report: &Report) {
    let failed = if report.failure.is_some() {
        ", then one failed"
    } else {
        ""
    };
    say(&format!(
        "guide: {}: {} blocks run{failed}",
        report.page, report.run
    ));
    for (line, reason) in &report.not_run {
        say(&format!("guide: {}:{line} not run: {reason}", report.page));
    }
}

/// Not by `println!`, which a test that passes does not show.
fn say(line: &str) {
    std::io::stderr()
        .write_all(format!("{line}\n").as_bytes())
        .unwrap();
}

#[test]
fn every_manifest_of_a_page_is_one() {
    let pages = guide::pages();
    let manifests = pages.iter().flat_map(|page| {
        page.manifests
            .iter()
            .map(|(line, text)| (&page.name, line, text))
    });
    let mut count = 0;
    for (page, line, text) in manifests {
        manifest::parse(text).unwrap_or_else(|error| panic!("{page}:{line}: {error}"));
        count += 1;
    }
    assert!(count > 0);
}

/// Runs a page of these blocks and gives what went wrong.
#[track_caller]
fn wrong(text: &str) -> String {
    let page = Page::parse("page.md", text).unwrap();
    guide::run(&page)
        .failure
        .unwrap_or_else(|| panic!("{text} is right"))
}

#[test]
fn a_page_that_is_wrong_is_found_out() {
    if !possible() {
        return;
    }
    let said = wrong("```console\n$ cd /tmp\n$ echo one; echo two\none\nthree\n```");
    assert!(said.starts_with("page.md:3: $ echo one"), "{said}");
    assert!(said.contains("    two"), "{said}");
    let said = wrong("```console\n$ false\n```");
    assert!(
        said.starts_with("page.md:2: $ false\nended with status 1"),
        "{said}"
    );
    let said = wrong("```console\n$ echo 'error: it'\nerror: it\n```");
    assert!(said.contains("it succeeded"), "{said}");
    let said = wrong("```sh\ntrue\nfalse\necho not this\n```");
    assert!(
        said.contains("ended the shell") && !said.contains("not this\n\n"),
        "{said}"
    );
}

#[test]
fn a_page_has_a_shell_a_network_and_files_of_its_own() {
    if !possible() {
        return;
    }
    let system = std::fs::read_link("/proc/self/ns/net").unwrap();
    let text = "\
<!-- file: a/words -->
```text
hello, file
```
```sh
word=hello
cd a
```
```console
$ echo $word $(cat words)
hello hello, file
$ ls /var/lib
mote
$ ip -o link | wc -l
1
$ mote ls
error: …
hint: …
```
<!-- another terminal -->
```console
$ pwd; tail -f --retry more 2>/dev/null
…/folder
```
```console
$ echo news > ../more
```
<!-- the other terminal shows -->
```text
news
```
<!-- network -->
```console
$ readlink /proc/self/ns/net
SYSTEM
```
<!-- not run: nobody has it -->
```sh
false
```
<!-- needs: no-such-program -->
```sh
false
```
";
    let text = text.replace("SYSTEM", system.to_str().unwrap());
    let page = Page::parse("page.md", &text).unwrap();
    let report = guide::run(&page);
    assert_eq!(report.failure, None);
    assert_eq!(report.run, 7);
    let reasons: Vec<&str> = report.not_run.iter().map(|(_, why)| why.as_str()).collect();
    assert_eq!(
        reasons,
        ["nobody has it", "no-such-program is not installed"]
    );
}

#[test]
fn what_a_test_could_misunderstand_is_refused() {
    for (text, said) in [
        ("```bash\nls\n```", "write `sh` or `console`"),
        ("```\n$ ls\n```", "marked `console`"),
        ("```console\nls\n```", "behind `$ `"),
        ("```console\n$ mote up &\n```", "show a line"),
        ("```sh\nmote up &\nmote ls\n```", "`console`"),
        ("<!-- notrun: x -->\n```sh\nls\n```", "means nothing"),
        ("<!-- not run: -->\n```sh\nls\n```", "means nothing"),
        ("<!-- needs: go -->\n```toml\na = 1\n```", "is not run"),
        (
            "<!-- another terminal -->\n```console\n$ mote up\n```",
            "show a line",
        ),
    ] {
        let wrong = Page::parse("page.md", text).unwrap_err();
        assert!(
            wrong.starts_with("page.md:") && wrong.contains(said),
            "{wrong}"
        );
    }
}
