//! Every language does what `tests/languages/README.md` says: its function is built with `mote build`, deployed
//! twice, and taken through every case over HTTP and over CoAP.
//!
//! And the tests that each SDK has of its own, which need no node, are run with the language's own means.
//! A language whose toolchain is missing is not run, and says so; with `MOTE_REQUIRE_GUESTS=1` that is a failure.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails where it stands, and what it did before that is shown with it"
)]

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::thread;

use mote_tests::eventually::eventually;
use mote_tests::node::Node;
use mote_tests::program::repository;
use mote_tests::project::{Project, has_toolchain};
use serde::Deserialize;

#[path = "../cases/doors.rs"]
#[allow(dead_code, reason = "nothing is observed here")]
mod doors;
#[path = "../cases/step.rs"]
#[allow(
    dead_code,
    reason = "a function is not replaced while it is called here, nor observed"
)]
mod step;
#[path = "../interop/tools.rs"]
mod tools;

use doors::Door;
use step::Step;

#[test]
fn rust() {
    check("rust");
}

#[test]
fn c() {
    check("c");
}

#[test]
fn go() {
    check("go");
}

#[test]
fn javascript() {
    check("javascript");
}

#[test]
fn typescript() {
    check("typescript");
}

#[test]
fn python() {
    check("python");
}

#[test]
fn every_folder_is_a_test() {
    let mut languages: Vec<String> = fs::read_dir(languages())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("mote.toml").is_file())
        .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
        .collect();
    languages.sort();
    assert_eq!(
        languages,
        ["c", "go", "javascript", "python", "rust", "typescript"]
    );
}

#[test]
fn the_examples_without_an_sdk_do_what_they_say() {
    for language in ["zig", "assemblyscript"] {
        if has_toolchain(language) {
            let example = repository().join("examples").join(language);
            let tested = Project::copy_of(&example).mote(&["test"]).ok();
            assert!(tested.contains(" 0 failed"), "{tested}");
        }
    }
}

#[test]
fn the_sdk_of_go_passes_its_own_tests() {
    if !has_toolchain("go") {
        return;
    }
    own_tests("go", "go", &["vet", "./..."]);
    own_tests("go", "go", &["test", "./..."]);
}

#[test]
fn the_sdk_of_javascript_passes_its_own_tests() {
    if tools::program("node").is_some() {
        let tests = fs::read_dir(repository().join("sdk/javascript/tests")).unwrap();
        let names = tests.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let tests = names.filter(|name| name.ends_with(".test.mjs"));
        let tests: Vec<String> = tests.map(|name| format!("tests/{name}")).collect();
        assert!(!tests.is_empty());
        let mut arguments = vec!["--import", "./tests/host.mjs", "--test"];
        arguments.extend(tests.iter().map(String::as_str));
        own_tests("javascript", "node", &arguments);
    }
}

#[test]
fn the_sdk_of_python_passes_its_own_tests() {
    if tools::program("python3").is_some() {
        // Compiled modules are not left beside the sources.
        let arguments = ["-B", "-m", "unittest", "discover", "-s", "tests"];
        own_tests("python", "python3", &arguments);
    }
}

#[track_caller]
fn own_tests(language: &str, program: &str, arguments: &[&str]) {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(repository().join("sdk").join(language))
        // The tests are of this module alone, wherever the repository is.
        .env("GOWORK", "off")
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}",
        String::from_utf8_lossy(&said)
    );
}

/// A file of `tests/languages/cases`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    /// What holds, in words.
    about: String,
    step: Vec<Step>,
}

impl Case {
    /// Every file, in the order of their names.
    fn all() -> Vec<(String, Self)> {
        let entries = fs::read_dir(languages().join("cases")).unwrap();
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        let read = |path: PathBuf| {
            let text = fs::read_to_string(&path).unwrap();
            let case =
                toml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            (name, case)
        };
        let all: Vec<_> = paths.into_iter().map(read).collect();
        assert!(all.len() >= 10, "{}", all.len());
        all
    }
}

fn languages() -> PathBuf {
    repository().join("tests/languages")
}

#[track_caller]
fn check(language: &str) {
    if !has_toolchain(language) {
        return;
    }
    let project = Project::copy_of(&languages().join(language));
    println!("{}", project.mote(&["build"]).ok());
    let node = Node::start();
    node.deploy_folder(&project.path());
    let function = format!("main.{language}");
    let mut doors = vec![Door::Http];
    doors.extend(tools::program("coap-client-notls").map(Door::Coap));
    let mut failed = Vec::new();
    for (name, case) in Case::all() {
        for door in &doors {
            for (number, step) in case.step.iter().enumerate() {
                let label = door.label();
                if step.refused(language, label).is_some() {
                    continue;
                }
                let place = format!("{name}, step {} over {label}", number + 1);
                if let Err(wrong) = take(step, door, &node, &function, &place) {
                    failed.push(format!("{place}: {wrong}"));
                }
            }
        }
        println!("{language}: {name}: {}", case.about);
    }
    headers_with_several_values(&node, &function);
    levels(&node, &function);
    assert!(failed.is_empty(), "{language}:\n{}", failed.join("\n"));
}

/// Takes a step; `Err` says what is wrong.
fn take(step: &Step, door: &Door, node: &Node, function: &str, place: &str) -> Result<(), String> {
    let once = || step.take(door, node, function);
    let count = |line: &str| node.log_of(function).matches(line).count();
    let before = step.once.as_deref().map(count);
    if step.until {
        eventually(place, || once().is_ok());
    } else {
        thread::scope(|scope| {
            let calls: Vec<_> = (0..step.at_once.unwrap_or(1))
                .map(|_| scope.spawn(once))
                .collect();
            calls.into_iter().try_for_each(|call| call.join().unwrap())
        })?;
    }
    if let (Some(line), Some(before)) = (&step.once, before) {
        eventually(place, || count(line) == before + 1);
    }
    if let Some(line) = &step.log {
        eventually(place, || node.log_of(function).contains(line));
    }
    Ok(())
}

/// What a case cannot say.
#[track_caller]
fn headers_with_several_values(node: &Node, function: &str) {
    let headers = [("x-many", "one"), ("X-Many", "two")];
    let reply = node.call("GET", &format!("/{function}/headers"), &headers, b"");
    assert_eq!(reply.text(), "x-test: -\nx-many: one, two\n");
    let several = reply.headers.iter().filter(|(name, _)| name == "x-several");
    let values: Vec<&str> = several.map(|(_, value)| value.as_str()).collect();
    assert_eq!(values, ["one", "two"]);
}

/// After the case `log`.
#[track_caller]
fn levels(node: &Node, function: &str) {
    let log = node.log_of(function);
    for level in ["trace", "debug", "info", "warn", "error"] {
        let message = format!("this is {level}");
        let line = log.lines().find(|line| line.ends_with(&message));
        let line = line.unwrap_or_else(|| panic!("`{message}` is not in the log:\n{log}"));
        let word = line.split_whitespace().nth(1);
        assert_eq!(word, Some(level), "{line}");
    }
}
