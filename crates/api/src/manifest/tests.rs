//! What manifests say, and what is said about wrong ones.

use std::time::Duration;

use mote_core::error::ErrorKind;
use proptest::prelude::*;

use super::{Build, By, Source, parse};

const WHOLE: &str = r#"version = 1
app = "home"

[function.light]
runtime = "wasm"
source = "light.wasm"
memory = "64MiB"
timeout = "10s"
cpu = "1s"
concurrency = 64
queue = 10
body = "1MiB"
log = 4096
table = 1000
observable = true
reuse = 3
env = { ROOM = "kitchen" }
allow.http = ["https://api.example.org"]
allow.read = [{ host = "/srv/data", guest = "/data" }]
allow.keyvalue = true
allow.secrets = ["MQTT_PASSWORD"]

[function.alarm]
source = "./build/alarm.wasm"
"#;

#[test]
fn a_whole_manifest_is_read() {
    let manifest = parse(WHOLE).unwrap();
    let names: Vec<&str> = manifest
        .functions
        .iter()
        .map(|f| f.spec.name.full())
        .collect();
    assert_eq!(names, ["alarm.home", "light.home"]);
    let light = &manifest.functions[1];
    assert_eq!(light.source, Source::Path("light.wasm".into()));
    assert_eq!(light.spec.limits.timeout, Duration::from_secs(10));
    assert_eq!(light.spec.limits.log_bytes, 4096);
    assert_eq!(light.spec.env["ROOM"], "kitchen");
    assert_eq!(light.spec.allow.read[0].guest, "/data");
    assert!(light.spec.allow.keyvalue);
    assert_eq!(light.spec.allow.secrets, ["MQTT_PASSWORD"]);
    assert!(light.spec.observable);
    assert_eq!(light.spec.reuse, 3);
}

#[test]
fn a_build_is_by_a_language_or_a_command() {
    let manifest = parse(
        "version = 1
        [function.a]
        source = \"a.wasm\"
        build = { language = \"javascript\", entry = \"src/main.js\", preinit = true }
        [function.b]
        source = \"b.wasm\"
        build.command = \"make b.wasm\"
        build.optimise = true
        [function.c]
        source = \"c.wasm\"",
    )
    .unwrap();
    let builds: Vec<Option<&Build>> = manifest
        .functions
        .iter()
        .map(|f| f.build.as_ref())
        .collect();
    assert_eq!(
        builds,
        [
            Some(&Build {
                by: By::Language {
                    name: "javascript".to_owned(),
                    entry: Some("src/main.js".into())
                },
                preinit: true,
                optimise: false,
            }),
            Some(&Build {
                by: By::Command("make b.wasm".to_owned()),
                preinit: false,
                optimise: true,
            }),
            None,
        ]
    );
}

#[test]
fn a_build_that_cannot_be_is_named() {
    let light =
        |line: &str| format!("version = 1\n[function.light]\nsource = \"l.wasm\"\n{line}\n");
    for (line, message, hint) in [
        (
            "build = { langauge = \"rust\" }",
            "line 4: unknown key `langauge` of `build` of function `light`",
            "did you mean `language`?",
        ),
        (
            "build = \"rust\"",
            "line 4: `build` of function `light` is not a table",
            "build = { language = \"rust\" }",
        ),
        (
            "build = { preinit = true }",
            "line 4: `build` of function `light` says neither language nor command",
            "command = \"make\"",
        ),
        (
            "build = { language = \"c\", command = \"make\" }",
            "line 4: `build` of function `light` has `language` and `command`",
            "take one of the two away",
        ),
        (
            "build = { language = \"c\", entry = \"../main.c\" }",
            "line 4: source `../main.c` leads out of the manifest's folder",
            "below the folder of mote.toml",
        ),
        (
            "build = { command = \"make\", entry = \"main.c\" }",
            "line 4: `build.entry` of function `light` is for a language",
            "in the command",
        ),
        (
            "build = { language = \"c\", optimise = 1 }",
            "line 4: `build.optimise` is neither true nor false",
            "optimise = true",
        ),
        (
            "build = { command = \" \" }",
            "line 4: `build.command` = ` ` is not a text of 1 to 4096 bytes",
            "",
        ),
        (
            "runtime = \"process\"\nbuild = { language = \"c\" }",
            "line 5: `build.language` of function `light` makes WebAssembly",
            "command = \"make\"",
        ),
        (
            "biuld = { language = \"c\" }",
            "line 4: unknown key `biuld` of function `light`",
            "did you mean `build`?",
        ),
    ] {
        refused(&light(line), ErrorKind::BadRequest, message, hint);
    }
    refused(
        "version = 1\n[function.x]\nruntime = \"container\"\nimage = \"a:1\"\nbuild = { command = \"make\" }",
        ErrorKind::BadRequest,
        "line 2: function `x` has `build` and no `source`",
        "source =",
    );
}

/// Checks kind, the start of the message and a part of the hint.
#[track_caller]
fn refused(text: &str, kind: ErrorKind, message: &str, hint: &str) {
    let error = parse(text).expect_err(text);
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.message().starts_with(message), "{error}");
    let said = error.hint().unwrap_or_default();
    assert!(said.contains(hint), "hint: {said}");
}

#[test]
fn mistakes_are_named_with_line_and_remedy() {
    use ErrorKind::{BadRequest, Unsupported};
    let light =
        |line: &str| format!("version = 1\n[function.light]\nsource = \"l.wasm\"\n{line}\n");
    refused(
        &light("memry = \"1MiB\""),
        BadRequest,
        "line 4: unknown key `memry` of function `light`",
        "did you mean `memory`?",
    );
    refused(
        &light("sclae = { min = 0 }"),
        BadRequest,
        "line 4: unknown key `sclae`",
        "did you mean `scale`?",
    );
    refused(
        &light("memory = \"64M\""),
        BadRequest,
        "line 4: `64M` is not a size",
        "",
    );
    refused(
        &light("timeout = 10"),
        BadRequest,
        "line 4: invalid type",
        "",
    );
    refused(
        &light("env = { A = 1 }"),
        BadRequest,
        "line 4: invalid type",
        "",
    );
    refused(
        &light("allow.net = []"),
        BadRequest,
        "line 4: unknown field `net`",
        "",
    );
    refused(
        &light("allow.secrets = [\"mqtt password\"]"),
        BadRequest,
        "line 2: function `light`: allow.secrets: secret name `mqtt password`",
        "capital letters",
    );
    refused(
        &light("memory = \"5GiB\""),
        BadRequest,
        "line 2: function `light`: memory = 5368709120 is outside",
        "",
    );
    refused(
        &light("runtime = \"proces\""),
        BadRequest,
        "line 2: function `light`: runtime `proces` is not known",
        "did you mean `process`?",
    );
    refused(
        "ap = \"x\"\nversion = 1",
        BadRequest,
        "line 1: unknown key `ap`",
        "did you mean `app`?",
    );
    refused(
        "version = 2\nnew = true",
        Unsupported,
        "line 1: version 2 ",
        "this mote reads version 1",
    );
    refused(
        "app = \"home\"",
        BadRequest,
        "the manifest has no `version`",
        "version = 1",
    );
    refused(
        "version = 1",
        BadRequest,
        "the manifest names no function",
        "[function.NAME]",
    );
    refused(
        "version = 1\n[function.Light]\nsource = \"l.wasm\"",
        BadRequest,
        "line 2: function name `Light`",
        "lower-case",
    );
    refused(
        "version = 1\napp = \"\"\n",
        BadRequest,
        "line 2: app name ``",
        "",
    );
    refused(
        "version = 1\n[function.light]\n",
        BadRequest,
        "line 2: function `light` has no `source`",
        "source = \"light.wasm\"",
    );
    refused("version = 1\n[function.light\n", BadRequest, "line 2: ", "");
    refused(
        "version = 1\nfunction = 1\n",
        BadRequest,
        "line 2: `function` is not a table",
        "",
    );
}

#[test]
fn sources_stay_in_the_folder() {
    for source in [
        "../l.wasm",
        "/l.wasm",
        "a/../../l.wasm",
        "",
        ".",
        "a/..",
        "a\\u0000",
    ] {
        let text = format!("version = 1\n[function.light]\nsource = \"{source}\"\n");
        refused(
            &text,
            ErrorKind::BadRequest,
            "line 3: source",
            "below the folder",
        );
    }
}

proptest! {
    #[test]
    fn no_text_panics(text in "\\PC{0,200}") {
        let _ = parse(&text);
    }

    #[test]
    fn no_change_to_a_whole_manifest_panics(at in 0..WHOLE.len(), cut in 0usize..20, text in "[\\PC\n\"=\\[\\]{}]{0,6}") {
        let mut bytes = WHOLE.as_bytes().to_vec();
        let end = (at + cut).min(bytes.len());
        bytes.splice(at..end, text.bytes());
        let _ = parse(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn what_is_printed_parses_back(memory in 65_536u64..4 << 30, timeout_ms in 1u64..3_600_000, reuse in 1u32..1_000_000, value in "[a-z\"\\\\]{0,20}") {
        let mut spec = mote_core::spec::FunctionSpec::new("light.home".parse().unwrap());
        spec.limits.memory_bytes = memory;
        spec.limits.timeout = Duration::from_millis(timeout_ms);
        spec.reuse = reuse;
        spec.env.insert("KEY".to_owned(), value);
        let mut table = toml::Table::try_from(crate::spec::FunctionSpec::from(&spec)).unwrap();
        table.insert("source".to_owned(), "l.wasm".into());
        let mut function = toml::Table::new();
        function.insert("light".to_owned(), table.into());
        let mut whole = toml::Table::new();
        whole.insert("version".to_owned(), 1.into());
        whole.insert("app".to_owned(), "home".into());
        whole.insert("function".to_owned(), function.into());
        let text = toml::to_string(&whole).unwrap();
        prop_assert_eq!(&parse(&text).unwrap().functions[0].spec, &spec);
    }
}

#[test]
fn programs_name_their_code_in_several_ways() {
    let source = |lines: &str| {
        let text = format!("version = 1\n[function.f]\n{lines}\n");
        parse(&text).unwrap().functions.remove(0).source
    };
    let process = "runtime = \"process\"\n";
    let container = "runtime = \"container\"\n";
    assert_eq!(
        source(&format!("{process}source = \".\"")),
        Source::Path(".".into())
    );
    assert_eq!(
        source(&format!("{process}image = \"busybox.tar\"")),
        Source::Path("busybox.tar".into())
    );
    assert_eq!(
        source(&format!(
            "{process}command = [\"/usr/bin/wc\"]\ncontract = \"stdio\""
        )),
        Source::Nothing
    );
    assert_eq!(
        source(&format!("{container}image = \"python:3\"")),
        Source::Reference("python:3".to_owned())
    );
    let code =
        format!("version = 1\n[function.f]\n{container}source = \".\"\nimage = \"python:3\"\n");
    let function = parse(&code).unwrap().functions.remove(0);
    assert_eq!(function.source, Source::Path(".".into()));
    let program = function.spec.program.unwrap();
    assert_eq!(program.image.as_deref(), Some("python:3"));
    assert_eq!(
        source(&format!("{container}source = \"image.tar\"")),
        Source::Path("image.tar".into())
    );
}

#[test]
fn programs_without_code_are_told_how_to_name_it() {
    for (lines, said) in [
        ("runtime = \"process\"", "has no `source`"),
        ("runtime = \"container\"", "has no `image`"),
        ("image = \"x\"", "`image` is not for WebAssembly"),
        (
            "runtime = \"process\"\nimage = \"../x.tar\"",
            "leads out of",
        ),
        (
            "runtime = \"process\"\nsource = \".\"\nimage = \"x.tar\"",
            "has `source` and `image`",
        ),
        (
            "runtime = \"container\"\nimage = \"a b\"",
            "is not a reference",
        ),
    ] {
        let error = parse(&format!("version = 1\n[function.f]\n{lines}\n")).unwrap_err();
        assert!(error.message().contains(said), "{lines}: {error}");
        assert!(error.hint().is_some(), "{lines}");
    }
}
