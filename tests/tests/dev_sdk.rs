//! The SDKs: one function in each language that uses every part once, and answers alike.

#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use mote_tests::eventually::eventually;
use mote_tests::node::Node;
use mote_tests::program::repository;
use mote_tests::project::{Project, has_toolchain};

/// Deploys `tests/sdk/everything.<ending>` in place of the template's source.
#[track_caller]
fn everything(language: &str, source: &str) -> Option<Node> {
    if !has_toolchain(language) {
        return None;
    }
    let ending = source.rsplit('.').next().unwrap();
    let path = repository().join(format!("tests/sdk/everything.{ending}"));
    let project = Project::new(language, "everything");
    project.write(source, std::fs::read(path).unwrap());
    let manifest = project.read("mote.toml");
    let grants = "observable = true\nenv = { ROOM = \"kitchen\" }\nallow.keyvalue = true\n";
    project.write("mote.toml", format!("{manifest}{grants}"));
    project.mote(&["build", "--check"]).ok();
    let node = Node::start();
    node.deploy_folder(&project.path());
    Some(node)
}

fn answers_alike(language: &str, source: &str) {
    let Some(node) = everything(language, source) else {
        return;
    };
    let headers = [("x-one", "1"), ("x-two", "2"), ("X-Two", "3")];
    let reply = node.call(
        "PUT",
        "/everything/request?b=2&a=%C3%A9+%41",
        &headers,
        b"body",
    );
    let said = "PUT /request Some(\"b=2&a=%C3%A9+%41\") Some(\"é A\") Some(\"1\") 2 ";
    assert_eq!(
        reply.clone().expect(200).text().split_at(said.len()).0,
        said
    );
    assert!(reply.text().ends_with(" body"), "{}", reply.text());
    let bare = node.get("/everything/request").expect(200).text();
    assert!(bare.starts_with("GET /request None None None 0 "), "{bare}");

    let reply = node.get("/everything/reply").expect(201);
    assert_eq!(reply.text(), "<p>");
    assert_eq!(
        reply.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    let outs = reply.headers.iter().filter(|(name, _)| name == "x-out");
    assert_eq!(
        outs.map(|(_, value)| value.as_str()).collect::<Vec<_>>(),
        ["a", "b"]
    );
    // It was published, so observers are shown it.
    let url = format!("coap://{}/everything/reply", node.coap());
    let seen = node
        .mote(&["invoke", &url, "--observe", "--count", "1"])
        .ok();
    assert_eq!(seen.trim(), "<p>");

    assert!(
        node.get("/everything/fail")
            .expect(500)
            .text()
            .contains("no luck")
    );
    node.get("/everything/panic").expect(502);
    node.get("/everything/log").expect(204);
    for (level, text) in [
        ("error", "no luck"),
        ("error", "out of luck"),
        ("error", "the function failed"),
        ("trace", "one 1"),
        ("debug", "two"),
        ("info", "three"),
        ("warn", "four"),
        ("error", "five"),
    ] {
        eventually(&format!("{level} `{text}` is logged"), || {
            let log = node.mote(&["logs", "everything", "--level", "trace"]).ok();
            log.lines()
                .any(|line| line.contains(level) && line.contains(text))
        });
    }

    let config = node.get("/everything/config").expect(200).text();
    assert_eq!(config, "Some(\"kitchen\") None 1");
    for _ in 0..2 {
        let data = node.get("/everything/data").expect(200).text();
        assert_eq!(
            data,
            "None Some(\"one\") Some([0, 255]) false 5 -2 [\"a\", \"b\", \"n\"] Some(3) true Some(\"three\")"
        );
    }
    let call = node.get("/everything/call").expect(200).text();
    assert!(
        call.starts_with("POST /request Some(\"a=1\") Some(\"1\") Some(\"1\") 0 "),
        "{call}"
    );
    assert!(
        call.ends_with(" one | 201 Some(\"a\") <p> | true | 500"),
        "{call}"
    );
    assert_eq!(
        node.get("/everything/call-nobody").expect(200).text(),
        "NotFound"
    );
    assert_eq!(node.get("/everything").status, 404);
}

#[test]
fn everything_in_rust() {
    answers_alike("rust", "src/lib.rs");
}

#[test]
fn everything_in_c() {
    answers_alike("c", "src/main.c");
}

/// What was made while building is there in every call, and only with the key.
#[test]
fn a_function_can_be_started_while_it_is_built() {
    let source = "#include \"mote.h\"\nstatic int warm;\nMOTE_PREINIT void warm_up(void) { warm += 1; }\n\
        void handle(mote_text body) { (void)body; mote_printf(\"%d\", warm++); }\n";
    if !has_toolchain("c") {
        return;
    }
    let project = Project::new("c", "hello");
    project.write("src/main.c", source);
    project.mote(&["build"]).ok();
    let plain = std::fs::metadata(project.path().join("hello.wasm"))
        .unwrap()
        .len();
    let node = Node::start();
    node.deploy_folder(&project.path());
    assert_eq!(node.get("/hello").expect(200).text(), "0");
    if !has_toolchain("wasm-opt") {
        return;
    }
    let build = "build = { language = \"c\", preinit = true, optimise = true }";
    project.edit("mote.toml", "build = { language = \"c\" }", build);
    project.mote(&["build", "--check"]).ok();
    node.deploy_folder(&project.path());
    for _ in 0..2 {
        assert_eq!(node.get("/hello").expect(200).text(), "1");
    }
    let optimised = std::fs::metadata(project.path().join("hello.wasm"))
        .unwrap()
        .len();
    assert!(optimised < plain, "{optimised} of {plain} bytes");
}

#[test]
fn a_tool_for_what_comes_after_the_compiler_is_named_when_it_is_missing() {
    if !has_toolchain("c") {
        return;
    }
    let project = Project::new("c", "hello");
    let build = "build = { language = \"c\", optimise = true }";
    project.edit("mote.toml", "build = { language = \"c\" }", build);
    let folder = project.with_only(&["python-zig", "zig", "python3", "sh"]);
    let mut command = project.command(&["build"]);
    command.env("PATH", folder.path());
    let ended = mote_tests::program::run(command, &[]);
    let said = "binaryen, which `build.optimise` needs, is missing: there is no `wasm-opt`";
    ended.failed(4, &[said, "hint: "]);
}
