//! From an empty folder to an answer, with the real compilers, and what is said when something is wrong.

#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use mote_tests::deploy::digest;
use mote_tests::node::Node;
use mote_tests::program::{Ended, run};
use mote_tests::project::{Project, has_toolchain};
use mote_tests::source::Source;

/// Builds and deploys a new function, and calls it through both doors.
#[track_caller]
fn from_nothing_to_an_answer(language: &str) {
    if !has_toolchain(language) {
        return;
    }
    let project = Project::new(language, "greet-me");
    let path = project.path();
    let built = project.mote(&["build", "--json"]).ok();
    let built: serde_json::Value = serde_json::from_str(&built).unwrap();
    assert_eq!(built[0]["function"], "greet-me.default");
    assert_eq!(built[0]["language"], language);
    assert_eq!(built[0]["misfits"], serde_json::json!([]));
    let wasm = fs::read(path.join("greet-me.wasm")).unwrap();
    assert_eq!(built[0]["bytes"], wasm.len());

    let node = Node::start();
    node.deploy_folder(&path);
    let reply = node.get("/greet-me?name=Ada+L%C3%B6").expect(200);
    assert_eq!(reply.text(), "hello, Ada Lö\n");
    let kind = reply.header("content-type").unwrap_or_default();
    assert!(kind.starts_with("text/plain"), "{kind}");
    assert_eq!(node.get("/greet-me").expect(200).text(), "hello, world\n");
    // What is recorded passes.
    fs::remove_file(path.join("tests/hello.http")).unwrap();
    let record = path.join("tests/hello.http");
    let record = ["--record", record.to_str().unwrap()];
    for call in [&["greet-me?name=Ada"][..], &["greet-me", "a body"]] {
        node.mote(&[&["invoke"], call, &record[..]].concat()).ok();
    }
    let recorded = project.read("tests/hello.http");
    let coap = "###\nGET /greet-me?name=Zoe CoAP\n\n### 2.05\nhello, Zoe\n";
    project.write("tests/hello.http", recorded + coap);
    let coap = format!("coap://{}/greet-me?name=Bob", node.coap());
    assert_eq!(node.mote(&["invoke", &coap]).ok(), "hello, Bob\n");
    assert!(node.log_of("greet-me").contains("hello to Bob"));

    // Nothing has changed, so nothing is written.
    let time = fs::metadata(path.join("greet-me.wasm"))
        .unwrap()
        .modified()
        .unwrap();
    project.mote(&["build"]).ok();
    let again = fs::metadata(path.join("greet-me.wasm"))
        .unwrap()
        .modified()
        .unwrap();
    assert_eq!(again, time);
    assert!(project.mote(&["test"]).ok().contains("3 passed, 0 failed"));
    project.edit("tests/hello.http", "hello, Ada", "hello, Eve");
    let failed = project.mote(&["test", "--no-build"]);
    failed.failed(7, &["1 of 3 replies are not as expected"]);
    assert!(
        failed.stdout.contains("instead of `hello, Eve`"),
        "{failed:?}"
    );
}

#[test]
fn rust_from_nothing_to_an_answer() {
    from_nothing_to_an_answer("rust");
}

#[test]
fn c_from_nothing_to_an_answer() {
    from_nothing_to_an_answer("c");
}

#[test]
fn go_from_nothing_to_an_answer() {
    from_nothing_to_an_answer("go");
}

#[test]
fn javascript_from_nothing_to_an_answer() {
    from_nothing_to_an_answer("javascript");
}

#[test]
fn typescript_from_nothing_to_an_answer() {
    from_nothing_to_an_answer("typescript");
}

#[test]
fn python_from_nothing_to_an_answer() {
    from_nothing_to_an_answer("python");
}

#[test]
fn zig_from_nothing_to_an_answer() {
    from_nothing_to_an_answer("zig");
}

#[test]
fn assemblyscript_from_nothing_to_an_answer() {
    from_nothing_to_an_answer("assemblyscript");
}

/// The same source in two folders gives the same bytes.
#[track_caller]
fn same_bytes_anywhere(language: &str) {
    if !has_toolchain(language) {
        return;
    }
    let build = || {
        let project = Project::new(language, "hello");
        project.mote(&["build"]).ok();
        digest(&fs::read(project.path().join("hello.wasm")).unwrap())
    };
    assert_eq!(build(), build());
}

#[test]
fn a_rust_build_is_reproducible() {
    same_bytes_anywhere("rust");
}

#[test]
fn a_c_build_is_reproducible() {
    same_bytes_anywhere("c");
}

#[test]
fn go_gives_the_same_bytes_anywhere() {
    same_bytes_anywhere("go");
}

#[test]
fn zig_gives_the_same_bytes_anywhere() {
    same_bytes_anywhere("zig");
}

#[test]
fn assemblyscript_gives_the_same_bytes_anywhere() {
    same_bytes_anywhere("assemblyscript");
}

/// A program that is not there is named, with what to do.
#[track_caller]
fn without_a_toolchain(language: &str, said: &str) {
    let project = Project::new(language, "hello");
    let empty = tempfile::tempdir().unwrap();
    let mut command = project.command(&["build"]);
    command.env("PATH", empty.path());
    let ended = run(command, &[]);
    ended.failed(4, &["error: function `hello`: ", said, "hint: "]);
}

#[test]
fn a_missing_toolchain_is_named_with_what_to_install() {
    without_a_toolchain("rust", "is missing: there is no `");
    without_a_toolchain("c", "a C compiler for WebAssembly is missing");
}

/// The compiler's own words are what a person sees.
#[track_caller]
fn with_a_mistake(language: &str, file: &str, said: &str) {
    if !has_toolchain(language) {
        return;
    }
    let project = Project::new(language, "hello");
    let text = project.read(file);
    project.write(file, format!("{text}\n}}\n"));
    project.mote(&["build"]).failed(
        2,
        &[said, "error: function `hello`: `", "ended with exit code"],
    );
    assert!(!project.path().join("hello.wasm").exists());
}

#[test]
fn the_compilers_words_are_shown_as_they_are() {
    with_a_mistake("rust", "src/lib.rs", "unexpected closing delimiter: `}`");
    with_a_mistake("c", "src/main.c", "extraneous closing brace ('}')");
}

/// A folder that is built by copying a file, so that no compiler is needed.
fn copied(wasm: &[u8], lines: &str) -> Source {
    let lines = format!(
        "source = \"made/out.wasm\"\nbuild.command = \"mkdir -p made && cp in.wasm made/out.wasm\"\n{lines}"
    );
    Source::new().manifest("f", &lines).file("in.wasm", wasm)
}

#[track_caller]
fn build(source: &Source, flags: &[&str]) -> Ended {
    let project = Project::new("c", "beside");
    let path = source.path().to_str().unwrap();
    project.mote(&[&["build", path], flags].concat())
}

/// A component that answers nothing and imports one interface.
fn importing(interface: &str) -> Vec<u8> {
    wat::parse_str(format!(
        "(component (import \"{interface}\" (instance)) (instance $h) (export \"wasi:http/incoming-handler@0.2.0\" (instance $h)))"
    ))
    .unwrap()
}

#[test]
fn what_does_not_fit_is_said_before_a_deploy() {
    for (interface, said) in [
        (
            "wasi:clocks/wall-clock@0.3.0",
            "that is WASI 0.3, and this mote runs WASI 0.2",
        ),
        (
            "wasi:nn/graph@0.2.0",
            "imports `wasi:nn/graph@0.2.0`, which a node does not have",
        ),
        (
            "wasi:http/outgoing-handler@0.2.3",
            "write allow.http = [\"https://api.example.org\"]",
        ),
        (
            "wasi:keyvalue/store@0.2.0-draft2",
            "write allow.keyvalue = true",
        ),
    ] {
        let source = copied(&importing(interface), "");
        build(&source, &["--check"]).failed(2, &["error: function `f.default`: ", said]);
        let ended = build(&source, &[]);
        assert!(
            ended.stderr.contains("warning: function `f.default`: "),
            "{ended:?}"
        );
        ended.ok();
    }
    let granted = copied(
        &importing("wasi:http/outgoing-handler@0.2.3"),
        "allow.http = [\"https://api.example.org\"]",
    );
    build(&granted, &["--check"]).ok();
}

#[test]
fn a_build_that_is_none_says_so() {
    let nothing = Source::new().manifest("f", "source = \"f.wasm\"");
    build(&nothing, &[]).failed(4, &["has no function to build", "build = { language ="]);
    let unknown = Source::new().manifest("f", "source = \"f.wasm\"\nbuild.language = \"rsut\"");
    build(&unknown, &[]).failed(2, &["language `rsut` is not known", "did you mean `rust`?"]);
    let elsewhere = Source::new().manifest("f", "source = \"f.wasm\"\nbuild.command = \"true\"");
    build(&elsewhere, &[]).failed(2, &["the build did not make", "f.wasm"]);
    let fails = Source::new().manifest(
        "f",
        "source = \"f.wasm\"\nbuild.command = \"echo no >&2; exit 3\"",
    );
    build(&fails, &[]).failed(2, &["no\n", "`sh` ended with exit code 3"]);
    let whole = copied(&importing("wasi:cli/exit@0.2.0"), "build.optimise = true");
    build(&whole, &[]).failed(2, &["`build.optimise` is for modules"]);
}

#[test]
fn a_deploy_of_what_is_not_built_says_how() {
    let node = Node::start();
    let source = Source::new().manifest("f", "source = \"f.wasm\"\nbuild.language = \"c\"");
    let hint = format!("hint: run `mote build {}`", source.path().display());
    node.try_deploy_source(&source)
        .failed(4, &["function `f`: cannot read ", "f.wasm", &hint]);
}

#[test]
fn nothing_is_written_over_and_nothing_leads_out() {
    let project = Project::new("c", "hello");
    let path = project.path();
    let again = project.mote(&["new", "--lang", "c", path.to_str().unwrap()]);
    again.failed(5, &["is there and not an empty folder"]);
    project
        .mote(&["new", "--lang", "cobol", "x"])
        .failed(2, &["language `cobol` is not known", "there are "]);
    project
        .mote(&["new", "--lang", "c", "Hello"])
        .failed(2, &["function name `Hello`"]);

    let template = Source::new().manifest("{{name}}", "source = \"{{name}}.wasm\"");
    symlink("/etc", template.path().join("etc")).unwrap();
    let from = template.path().to_str().unwrap();
    let ended = project.mote(&["new", "--template", from, "lamp"]);
    ended.failed(
        2,
        &["is refused: etc is a link, which may lead out of its folder"],
    );
    assert!(!path.join("lamp").exists());
}

#[test]
fn a_template_comes_from_a_git_repository() {
    let template = Source::new()
        .manifest("{{name}}", "source = \"{{name}}.wasm\"")
        .file("{{name}}.txt", "of {{name}}");
    git(template.path(), &["init", "--quiet"]);
    git(template.path(), &["add", "."]);
    git(
        template.path(),
        &[
            "-c",
            "user.name=A",
            "-c",
            "user.email=a@example.org",
            "commit",
            "--quiet",
            "-m",
            "lamp",
        ],
    );
    let project = Project::new("c", "hello");
    let address = format!("file://{}", template.path().display());
    project.mote(&["new", "--template", &address, "lamp"]).ok();
    assert_eq!(project.read("lamp/lamp.txt"), "of lamp");
    assert!(!project.path().join("lamp/.git").exists());
    let nowhere = project.mote(&["new", "--template", "file:///nonexistent/lamp.git", "lamp2"]);
    nowhere.failed(4, &["cannot be fetched", "git ls-remote"]);
}

#[track_caller]
fn git(folder: &Path, arguments: &[&str]) {
    let status = Command::new("git")
        .current_dir(folder)
        .args(arguments)
        .status();
    assert!(status.unwrap().success(), "git {arguments:?}");
}
