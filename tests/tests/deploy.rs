//! Deploying, rolling back, removing, and what of it a restart brings back.

#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Instant, SystemTime};

use mote_tests::deploy::{digest, example};
use mote_tests::eventually::eventually;
use mote_tests::guest;
use mote_tests::node::Node;
use mote_tests::program::repository;
use serde_json::{Value, json};

/// A node with a function `f` of one version that answers `one`.
#[track_caller]
fn node_with_one() -> Node {
    let node = Node::start();
    node.deploy("f", &guest::says("one"), &json!({}));
    assert_eq!(node.get("/f").expect(200).text(), "one");
    node
}

fn versions(function: &Value) -> Vec<u64> {
    let versions = function["versions"].as_array().unwrap().iter();
    versions.map(|v| v["version"].as_u64().unwrap()).collect()
}

#[test]
fn a_failed_deploy_changes_nothing() {
    let mut node = node_with_one();
    let before = node.function("f");
    let unknown = json!({"artifact": digest(b"never uploaded")}).to_string();
    let good = json!({"artifact": digest(&guest::says("one"))});
    for (what, status, reply) in [
        (
            "no wasm",
            400,
            node.try_deploy("f", b"nonsense", &json!({})),
        ),
        (
            "traps at start",
            400,
            node.try_deploy("f", &traps_at_start(), &json!({})),
        ),
        (
            "memory",
            400,
            node.try_deploy("f", &guest::says("two"), &json!({"memory": "5GiB"})),
        ),
        (
            "unit",
            400,
            node.try_deploy("f", &guest::says("two"), &json!({"memory": "5 bananas"})),
        ),
        (
            "unknown key",
            400,
            node.try_deploy("f", &guest::says("two"), &json!({"memroy": 1})),
        ),
        (
            "runtime",
            400,
            node.try_deploy("f", &guest::says("two"), &json!({"runtime": "process"})),
        ),
        (
            "not uploaded",
            404,
            node.ask("PUT", "/v1/functions/f", unknown.as_bytes()),
        ),
        (
            "no JSON",
            400,
            node.ask("PUT", "/v1/functions/f", b"{\"artifact\":"),
        ),
        (
            "not there",
            404,
            node.ask("POST", "/v1/functions/f/rollback", b"{\"version\":9}"),
        ),
        (
            "none before",
            404,
            node.ask("POST", "/v1/functions/f/rollback", b"{}"),
        ),
        (
            "name",
            400,
            node.ask("PUT", "/v1/functions/F", good.to_string().as_bytes()),
        ),
    ] {
        assert_eq!(reply.status, status, "{what}: {}", reply.text());
        assert_eq!(
            reply.header("content-type"),
            Some("application/problem+json"),
            "{what}"
        );
        assert_eq!(versions(&node.function("f")), [1], "{what}");
        assert_eq!(node.get("/f").expect(200).text(), "one", "{what}");
    }
    let mut after = node.function("f");
    for counted in ["calls", "loaded"] {
        after[counted] = before[counted].clone();
    }
    assert_eq!(after, before);
    node.stop();
    node.restart();
    assert_eq!(node.functions(), ["f"]);
    assert_eq!(node.get("/f").expect(200).text(), "one");
}

fn traps_at_start() -> Vec<u8> {
    guest::component(&format!(
        r#"{} (func $start unreachable) (start $start)
        (func (export "handle") (param i32 i32) (result i32) (i32.const 0))"#,
        guest::MEMORY_AND_REALLOC
    ))
}

#[test]
fn an_older_version_can_be_made_live_again() {
    let mut node = node_with_one();
    node.deploy("f", &guest::says("two"), &json!({"memory": "1MiB"}));
    assert_eq!(node.get("/f").expect(200).text(), "two");
    let said = node.mote(&["rollback", "f"]).ok();
    assert!(!said.is_empty());
    assert_eq!(node.get("/f").expect(200).text(), "one");
    let function = node.function("f");
    assert_eq!(
        (&function["version"], &function["spec"]["memory"]),
        (&json!(1), &json!("64MiB"))
    );
    node.mote(&["rollback", "f", "--to", "2"]).ok();
    assert_eq!(node.get("/f").expect(200).text(), "two");
    assert_eq!(node.function("f")["spec"]["memory"], "1MiB");

    node.mote(&["rollback", "f"]).ok();
    node.mote(&["rollback", "f"])
        .failed(4, &["error: ", "no version", "hint: kept versions: 1, 2"]);
    node.mote(&["rollback", "nobody"]).failed(4, &["`nobody`"]);
    // It is what a restart brings back, and the next deploy gets a number of its own.
    node.stop();
    node.restart();
    assert_eq!(node.get("/f").expect(200).text(), "one");
    node.deploy("f", &guest::says("three"), &json!({}));
    assert_eq!(node.function("f")["version"], 3);
    assert_eq!(node.get("/f").expect(200).text(), "three");
}

#[test]
fn five_versions_are_kept() {
    let node = Node::start();
    for number in 1..=8 {
        let function = node.deploy("f", &guest::says(&format!("version {number}")), &json!({}));
        assert_eq!(function["version"], number);
    }
    assert_eq!(versions(&node.function("f")), [4, 5, 6, 7, 8]);
    for number in [4, 8, 6] {
        node.mote(&["rollback", "f", "--to", &number.to_string()])
            .ok();
        assert_eq!(
            node.get("/f").expect(200).text(),
            format!("version {number}")
        );
    }
    node.mote(&["rollback", "f", "--to", "3"])
        .failed(4, &["no version 3"]);
    let shown = node.mote(&["show", "f"]).ok();
    assert!(shown.contains('4') && shown.contains("live"), "{shown}");
}

/// When each file of a folder was last written.
fn written(folder: &Path) -> BTreeMap<String, SystemTime> {
    fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            (name, entry.metadata().unwrap().modified().unwrap())
        })
        .collect()
}

#[test]
fn a_restart_brings_everything_back_without_compiling() {
    let mut node = Node::start();
    for name in ["hello", "echo", "light", "sieve"] {
        node.deploy_example(name);
    }
    node.deploy(
        "tuned.home",
        &guest::says("home"),
        &json!({"memory": "2MiB", "env": {"A": "b"}}),
    );
    let images = node.data_dir().join("images");
    let before = (
        written(&images),
        node.functions(),
        node.function("tuned.home")["spec"].clone(),
    );
    assert_eq!(before.0.len(), 5);
    for end in [Node::stop, Node::kill] {
        end(&mut node);
        node.restart();
        let after = (
            written(&images),
            node.functions(),
            node.function("tuned.home")["spec"].clone(),
        );
        assert_eq!(after, before);
        assert_eq!(node.get("/hello").expect(200).text(), "hello, world\n");
        assert_eq!(node.get("/tuned.home").expect(200).text(), "home");
        assert_eq!(node.post("/echo", b"back").expect(200).text(), "back");
    }
}

#[test]
fn an_image_that_was_changed_is_not_run() {
    let mut node = node_with_one();
    node.stop();
    let folder = node.data_dir().join("images");
    let image = fs::read_dir(&folder)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let whole = fs::read(&image).unwrap();
    let mut changed = whole.clone();
    let middle = changed.len() / 2;
    changed[middle] ^= 0xff;
    for bytes in [&changed[..], &whole[..whole.len() / 3], b"", b"\x7fELF"] {
        fs::write(&image, bytes).unwrap();
        node.restart();
        // Compiled again, or refused by name; never run.
        let reply = node.get("/f");
        assert!(
            reply.status == 200 && reply.text() == "one" || reply.status >= 500,
            "{reply:?}"
        );
        node.answers_hello();
        node.stop();
    }
    // Gone altogether, it is made again from the artifact.
    fs::remove_file(&image).unwrap();
    node.restart();
    assert_eq!(node.get("/f").expect(200).text(), "one");
}

#[test]
fn a_removed_function_is_gone_for_good() {
    let mut node = node_with_one();
    node.deploy_example("hello");
    node.mote(&["rm", "f"]).ok();
    node.get("/f").problem(404, "not_found");
    assert_eq!(node.functions(), ["hello"]);
    node.mote(&["rm", "f"]).failed(4, &["`f`"]);
    node.ask("DELETE", "/v1/functions/f", b"")
        .problem(404, "not_found");
    node.stop();
    node.restart();
    assert_eq!(node.functions(), ["hello"]);
    // Deployed again it begins anew.
    let function = node.deploy("f", &guest::says("again"), &json!({}));
    assert_eq!(
        (&function["version"], &function["calls"]),
        (&json!(1), &json!(0))
    );
}

#[test]
fn a_wipe_asks_first() {
    let mut node = node_with_one();
    node.mote(&["wipe"]).failed(2, &["confirm", "--yes"]);
    node.ask("POST", "/v1/wipe", b"{}")
        .problem(400, "bad_request");
    node.ask("POST", "/v1/wipe", b"{\"confirm\":\"yes\"}")
        .problem(400, "bad_request");
    assert_eq!(node.functions(), ["f"]);
    node.mote(&["wipe", "--yes"]).ok();
    assert!(node.functions().is_empty());
    node.stop();
    node.restart();
    assert!(node.functions().is_empty());
}

/// A folder with a manifest, and `f.wasm` beside it.
fn folder(manifest: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("mote.toml"), manifest).unwrap();
    fs::write(folder.path().join("f.wasm"), example("hello")).unwrap();
    folder
}

#[test]
fn a_manifest_with_a_mistake_is_refused_with_line_and_remedy() {
    let node = Node::start();
    let f = "version = 1\n[function.f]\nsource = \"f.wasm\"\n";
    for (manifest, code, said) in [
        (
            format!("{f}memry = \"1MiB\"\n"),
            2,
            ["line 4", "`memry`", "hint: did you mean `memory`?"],
        ),
        (
            format!("{f}timeout = \"1 fortnight\"\n"),
            2,
            ["line 4", "fortnight", "mote.toml"],
        ),
        (
            f.replace("[function.f]", "[function.\"a/b\"]"),
            2,
            ["line 2", "`a/b`", "hint: "],
        ),
        (
            f.replace("f.wasm", "../f.wasm"),
            2,
            ["line 3", "`../f.wasm`", "hint: "],
        ),
        (
            f.replace("f.wasm", "/etc/passwd"),
            2,
            ["line 3", "`/etc/passwd`", "hint: "],
        ),
        (
            f.replace("f.wasm", "g.wasm"),
            4,
            ["g.wasm", "cannot read", "hint: "],
        ),
        (
            f.replace("version = 1", "version = 9"),
            2,
            ["line 1", "version 9", "hint: "],
        ),
        (
            format!("{f}allow.http = [\"*\"]\n"),
            2,
            ["allow.http", "`*`", "hint: "],
        ),
        (
            format!("{f}runtime = \"container\"\n"),
            2,
            ["Docker", "no container engine", "hint: "],
        ),
        (
            "version = 1\n[function.f\n".to_owned(),
            2,
            ["line 2", "mote.toml", "error: "],
        ),
    ] {
        let folder = folder(&manifest);
        let ended = node.mote(&["deploy", folder.path().to_str().unwrap()]);
        ended.failed(code, &said);
        assert_eq!(ended.stdout, "");
        // The error, and perhaps a hint: no more.
        assert!(ended.stderr.lines().count() <= 2, "{}", ended.stderr);
    }
    assert!(node.functions().is_empty());
}

#[test]
fn nothing_outside_of_the_folder_is_deployed() {
    let node = Node::start();
    let folder = folder("version = 1\n[function.f]\nsource = \"link.wasm\"\n");
    let elsewhere = tempfile::tempdir().unwrap();
    let target = elsewhere.path().join("secret.wasm");
    fs::write(&target, example("hello")).unwrap();
    std::os::unix::fs::symlink(&target, folder.path().join("link.wasm")).unwrap();
    let path = folder.path().to_str().unwrap();
    node.mote(&["deploy", path])
        .failed(2, &["`link.wasm`", "link out of"]);
    assert!(node.functions().is_empty());
}

#[test]
fn deploying_a_folder_a_file_and_a_manifest() {
    let node = Node::start();
    let folder = folder(
        "version = 1\napp = \"home\"\n[function.a]\nsource = \"f.wasm\"\nmemory = \"2MiB\"\n[function.b]\nsource = \"./f.wasm\"\n",
    );
    let path = folder.path();
    let said = node.deploy_folder(path);
    assert!(said.contains("a.home") && said.contains("b.home"), "{said}");
    assert_eq!(node.functions(), ["a.home", "b.home"]);
    assert_eq!(node.function("a.home")["spec"]["memory"], "2MiB");
    node.mote(&["deploy", path.join("mote.toml").to_str().unwrap()])
        .ok();
    assert_eq!(node.function("a.home")["version"], 2);
    let file = path.join("f.wasm");
    let file = file.to_str().unwrap();
    node.mote(&["deploy", file, "--memory", "3MiB", "--env", "A=b=c"])
        .ok();
    let spec = node.function("f")["spec"].clone();
    assert_eq!(
        (&spec["memory"], &spec["env"]["A"]),
        (&json!("3MiB"), &json!("b=c"))
    );
    node.mote(&["deploy", file, "--name", "Not/A/Name"])
        .failed(2, &["Not/A/Name"]);
    let json = node.mote(&["deploy", file, "--name", "g", "--json"]).ok();
    let json: Value = serde_json::from_str(&json).unwrap();
    assert!(json[0]["http"].as_str().unwrap().ends_with("/g"), "{json}");
    let invoked = node.mote(&["invoke", "a.home"]).ok();
    assert_eq!(invoked, "hello, world\n");
}

#[test]
fn names_are_checked_wherever_they_come_in() {
    let node = node_with_one();
    let artifact = json!({"artifact": digest(&guest::says("one"))}).to_string();
    for name in [
        "a%2Fb",
        "A",
        "-a",
        "a..b",
        "a.b.c",
        "%00",
        "..%2F..%2Fetc",
        "a%20b",
        "1a",
        "",
    ] {
        let target = format!("/v1/functions/{name}");
        let reply = node.ask("PUT", &target, artifact.as_bytes());
        assert!(
            matches!(reply.status, 400 | 404 | 405),
            "{name}: {}",
            reply.text()
        );
    }
    let long = "a".repeat(64);
    node.ask("PUT", &format!("/v1/functions/{long}"), artifact.as_bytes())
        .problem(400, "bad_request");
    assert_eq!(node.functions(), ["f"]);
}

#[test]
fn many_functions_deploy_and_come_back() {
    let mut node = Node::start();
    let count = if std::env::var_os("MOTE_FULL").is_some() {
        1000
    } else {
        200
    };
    let start = Instant::now();
    for n in 0..count {
        // A few different artifacts: the others are compiled once.
        let text = format!("artifact {:02}", n % 20);
        node.deploy(&format!("f{n}"), &guest::says(&text), &json!({}));
    }
    println!("{count} deploys in {:?}", start.elapsed());
    assert_eq!(node.functions().len(), count);
    assert_eq!(written(&node.data_dir().join("images")).len(), 20);
    node.kill();
    let start = Instant::now();
    node.restart();
    println!("started with {count} functions in {:?}", start.elapsed());
    assert_eq!(node.functions().len(), count);
    for n in (0..count).step_by(7) {
        let text = node.get(&format!("/f{n}")).expect(200).text();
        assert_eq!(text, format!("artifact {:02}", n % 20));
    }
    assert!(node.memory_kib("VmRSS") < 200_000);
}

#[test]
fn deploys_at_once_do_not_mix() {
    let node = node_with_one();
    let threads: Vec<_> = (0..4).map(|n| format!("text {n}")).collect();
    std::thread::scope(|scope| {
        for text in &threads {
            let node = &node;
            scope.spawn(move || {
                let wasm = guest::says(text);
                for _ in 0..5 {
                    // More changes than the node makes at once are turned away, and tried again.
                    eventually("the deploy is taken", || {
                        let reply = node.try_deploy("f", &wasm, &json!({"env": {"TEXT": text}}));
                        assert!(matches!(reply.status, 200 | 429 | 503), "{}", reply.text());
                        reply.status == 200
                    });
                }
            });
        }
    });
    let function = node.function("f");
    assert_eq!(
        function["version"], 21,
        "every deploy has a number of its own"
    );
    let live = function["spec"]["env"]["TEXT"].as_str().unwrap();
    assert_eq!(
        node.get("/f").expect(200).text(),
        live,
        "spec and code are of one version"
    );
}

#[test]
fn the_examples_are_what_their_folders_say() {
    let node = Node::start();
    for name in ["hello", "echo", "sieve", "light"] {
        let said = node.deploy_folder(&repository().join("examples").join(name));
        assert!(
            said.contains(&format!("http://{}/{name}", node.http())),
            "{said}"
        );
        assert!(
            said.contains(&format!("coap://{}/{name}", node.coap())),
            "{said}"
        );
        node.get(&format!("/{name}")).expect(200);
    }
    assert_eq!(node.function("light")["spec"]["observable"], true);
}

#[test]
fn known_code_is_tried_with_the_limits_of_each_deploy() {
    let node = Node::start();
    let light = example("light");
    node.deploy("light", &light, &json!({}));
    let refused = node.try_deploy("light", &light, &json!({"table": 0}));
    refused.expect(400);
    let versions = node.function("light")["versions"].as_array().map(Vec::len);
    assert_eq!(versions, Some(1));
    node.get("/light").expect(200);
}
