//! Every experiment file, cut short: what a researcher runs first, from the file to the report.

#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::fs;
use std::path::Path;
use std::process::Command;

use mote_tests::program::{mote, repository};
use serde_json::Value;

/// What a run says that needs something which cannot be had on this system.
const CANNOT: &str = "it cannot be had here";

#[test]
fn every_experiment_ends_with_a_report() {
    let required = std::env::var_os("MOTE_REQUIRE_TOOLS").is_some();
    let files = fs::read_dir(repository().join("experiments")).unwrap();
    let mut files: Vec<_> = files.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| {
        path.extension()
            .is_some_and(|extension| extension == "toml")
    });
    files.sort();
    assert!(files.len() >= 3, "{files:?}");
    for file in files {
        let folder = tempfile::tempdir().unwrap();
        let output = Command::new(mote())
            .args(["bench", "run", "--quick", "--out"])
            .arg(folder.path())
            .arg(&file)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        let runs = runs(folder.path());
        assert!(!runs.is_empty(), "{}: {said}", file.display());
        let mut cannot = 0;
        for run in &runs {
            let failure = run["failure"].as_str().unwrap_or_default();
            // Networks and engines need root and more; a developer without has the rest.
            if (failure.contains(CANNOT) || failure.contains("need root")) && !required {
                eprintln!("skipped: {}: {failure}", file.display());
                cannot += 1;
                continue;
            }
            assert_eq!(failure, "", "{}: {run}", file.display());
            assert!(run["measured"]["ok"].as_u64().unwrap() > 0, "{run}");
        }
        let good = if cannot == 0 { Some(0) } else { Some(1) };
        assert_eq!(output.status.code(), good, "{}: {said}", file.display());
        let page = fs::read_to_string(folder.path().join("report.html")).unwrap();
        assert!(page.contains("Quick run"), "{}", file.display());
    }
}

fn runs(folder: &Path) -> Vec<Value> {
    let text = fs::read_to_string(folder.join("runs.jsonl")).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    lines.collect()
}
