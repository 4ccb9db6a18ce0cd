//! Key-value data and secrets of apps, from the command line and the admin API: values, pages,
//! quotas, kills and restarts, and who may do what.

#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use mote_tests::guest;
use mote_tests::http::request;
use mote_tests::node::{Node, Up};
use mote_tests::program::{Ended, run};
use serde_json::{Value, json};

/// Runs the program with this standard input.
#[track_caller]
fn with_input(node: &Node, arguments: &[&str], input: &[u8]) -> Ended {
    run(node.mote_command(arguments), input)
}

#[track_caller]
fn printed(node: &Node, arguments: &[&str]) -> Value {
    serde_json::from_str(&node.mote(arguments).ok()).unwrap()
}

#[test]
fn values_are_set_looked_at_and_removed() {
    let node = Node::start();
    node.mote(&["kv", "set", "light", "on"]).ok();
    node.mote(&["kv", "set", "number", "-5"]).ok();
    with_input(&node, &["kv", "set", "typed"], b"two\nlines\n").ok();
    let file = node.data_dir().join("../value-of-a-test");
    fs::write(&file, b"\x00\xff").unwrap();
    let path = file.to_str().unwrap();
    node.mote(&["kv", "set", "a/b c", "--value-file", path])
        .ok();
    fs::remove_file(&file).unwrap();
    node.mote(&[
        "kv", "set", "light", "off", "--app", "home", "--bucket", "b2",
    ])
    .ok();

    assert_eq!(node.mote(&["kv", "get", "light"]).ok(), "on");
    assert_eq!(node.mote(&["kv", "get", "number"]).ok(), "-5");
    assert_eq!(node.mote(&["kv", "get", "typed"]).ok(), "two\nlines\n");
    let entry = printed(&node, &["kv", "get", "light", "--json"]);
    let expected = json!({"app": "default", "bucket": "default", "key": "light", "text": "on"});
    assert_eq!(entry, expected);
    let entry = printed(&node, &["kv", "get", "a/b c", "--json"]);
    assert_eq!(entry["base64"], "AP8=");
    let reply = node.ask("GET", "/v1/apps/default/kv/default/a%2Fb%20c", b"");
    assert_eq!(reply.expect(200).body, b"\x00\xff");

    assert_eq!(
        node.mote(&["kv", "ls"]).ok(),
        "a/b c\nlight\nnumber\ntyped\n"
    );
    assert_eq!(
        node.mote(&["kv", "ls", "--app", "home", "--bucket", "b2"])
            .ok(),
        "light\n"
    );
    assert_eq!(node.mote(&["kv", "buckets", "--app", "home"]).ok(), "b2\n");
    let usage = printed(&node, &["kv", "usage", "--json"]);
    let bytes = [(5, 2), (5, 2), (6, 2), (5, 10)].map(|(key, value)| key + value + 64);
    let expected = json!({"apps": [
        {"app": "default", "keys": 4, "bytes": bytes.iter().sum::<u64>()},
        {"app": "home", "keys": 1, "bytes": 5 + 3 + 64},
    ]});
    assert_eq!(usage, expected);
    assert_eq!(node.metric("mote_kv_keys", &["app=\"default\""]), 4.0);
    assert_eq!(node.metric("mote_kv_bytes", &["app=\"home\""]), 72.0);
    let sets = ["operation=\"set\"", "outcome=\"ok\""];
    assert_eq!(node.metric("mote_kv_operations_total", &sets), 5.0);

    node.mote(&["kv", "rm", "light", "number"]).ok();
    node.mote(&["kv", "get", "light"])
        .failed(4, &["`light`", "hint: ", "mote kv ls"]);
    node.mote(&["kv", "rm", "light"]).failed(4, &["`light`"]);
    node.mote(&["kv", "clear"])
        .failed(2, &["--bucket", "--all"]);
    node.mote(&["kv", "clear", "--all"]).failed(2, &["--yes"]);
    let cleared = node.mote(&["kv", "clear", "--all", "--yes"]);
    assert!(cleared.stderr.contains("removed 2 keys"), "{cleared:?}");
    assert_eq!(node.mote(&["kv", "ls"]).ok(), "");
    let other = ["kv", "clear", "--app", "home", "--bucket", "other", "--yes"];
    assert!(node.mote(&other).stderr.contains("removed 0 keys"));
    assert_eq!(
        node.mote(&["kv", "ls", "--app", "home", "--bucket", "b2"])
            .ok(),
        "light\n"
    );
}

#[test]
fn lists_come_in_pages() {
    let node = Node::start();
    let put = |key: &str| {
        let path = format!("/v1/apps/home/kv/default/{key}");
        node.ask("PUT", &path, b"v").expect(204);
    };
    let keys: Vec<_> = (0..25).map(|number| format!("k{number:02}")).collect();
    keys.iter().for_each(|key| put(key));
    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        let path = format!("/v1/apps/home/kv/default?max=10&after={after}");
        let path = path.trim_end_matches("&after=");
        let page = node.ask("GET", path, b"").expect(200).json();
        let page_keys = page["keys"].as_array().unwrap();
        assert!(page_keys.len() <= 10);
        seen.extend(page_keys.iter().map(|key| key.as_str().unwrap().to_owned()));
        match page["next"].as_str() {
            Some(next) => after = next.to_owned(),
            None => break,
        }
    }
    assert_eq!(seen, keys);
    let page = node.mote(&["kv", "ls", "--app", "home", "--max", "2", "--after", "k03"]);
    assert!(page.stderr.contains("--after 'k05'"), "{page:?}");
    assert_eq!(page.ok(), "k04\nk05\n");
    let last = printed(
        &node,
        &["kv", "ls", "--app", "home", "--after", "k23", "--json"],
    );
    assert_eq!(last, json!({"keys": ["k24"], "next": null}));
}

#[test]
fn what_is_too_much_is_refused_by_name() {
    let node = Up::new()
        .flag("--kv-app-bytes-max", "1000")
        .flag("--kv-app-keys-max", "3")
        .start();
    let long = "v".repeat(1000);
    node.mote(&["kv", "set", "long", &long]).failed(
        9,
        &[
            "key `long`",
            "1068 bytes",
            "1000 bytes",
            "hint: ",
            "kv_app_bytes_max",
        ],
    );
    for key in ["a", "b", "c"] {
        node.mote(&["kv", "set", key, "v"]).ok();
    }
    node.mote(&["kv", "set", "d", "v"])
        .failed(9, &["3 keys", "kv_app_keys_max"]);
    node.mote(&["kv", "set", "a", "other"]).ok();
    node.mote(&["kv", "set", "d", "v", "--app", "home"]).ok();
    assert_eq!(
        node.metric("mote_kv_refused_total", &["full=\"quota\""]),
        2.0
    );
    let large = vec![b'v'; 65_537];
    node.ask("PUT", "/v1/apps/home/kv/default/k", &large)
        .problem(413, "too_large");
    with_input(&node, &["kv", "set", "k"], &large).failed(2, &["65536 bytes"]);
    let large = "v".repeat(65_537);
    node.mote(&["kv", "set", "x", &large])
        .failed(2, &["value of 65537 bytes for key `x`"]);
    node.mote(&["kv", "set", "", "v"])
        .failed(2, &["the key is empty"]);
    node.mote(&["kv", "ls", "--bucket", "My"])
        .failed(2, &["bucket name `My`", "hint: "]);
    node.mote(&["kv", "ls", "--app", "My"])
        .failed(2, &["app name `My`"]);
    node.mote(&["kv", "get", &"k".repeat(513)])
        .failed(2, &["513 bytes", "512"]);
    node.mote(&["kv", "ls", "--max", "0"])
        .failed(2, &["max = 0"]);
}

#[test]
fn a_kill_takes_only_what_an_app_chose_to_risk() {
    let mut node = Up::new().flag("--kv-synced", "home").start();
    let path = |app: &str, number: u32| format!("/v1/apps/{app}/kv/default/k{number:03}");
    for kill in 0..5 {
        for number in kill * 20..(kill + 1) * 20 {
            for app in ["home", "shop"] {
                let value = format!("{app} {number}");
                node.ask("PUT", &path(app, number), value.as_bytes())
                    .expect(204);
            }
        }
        node.kill();
        node.restart();
        let mut whole = true;
        for number in 0..(kill + 1) * 20 {
            let reply = node.ask("GET", &path("home", number), b"").expect(200);
            assert_eq!(reply.text(), format!("home {number}"));
            // The newest may be gone, and none from the middle.
            let reply = node.ask("GET", &path("shop", number), b"");
            assert!(reply.status == 404 || whole && reply.text() == format!("shop {number}"));
            whole = reply.status == 200;
            if !whole {
                node.ask(
                    "PUT",
                    &path("shop", number),
                    format!("shop {number}").as_bytes(),
                )
                .expect(204);
            }
        }
        let usage = node.ask("GET", "/v1/kv", b"").expect(200).json();
        assert_eq!(usage["apps"][0]["keys"], (kill + 1) * 20);
    }
    // A stop takes nothing.
    node.ask("PUT", &path("shop", 999), b"last").expect(204);
    node.stop();
    node.restart();
    assert_eq!(
        node.ask("GET", &path("shop", 999), b"").expect(200).text(),
        "last"
    );
    let mode = fs::metadata(node.data_dir().join("kv.redb"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn data_outlives_the_functions_of_its_app() {
    let node = Node::start();
    assert!(
        !node.data_dir().join("kv.redb").exists(),
        "nothing was written yet"
    );
    node.deploy("f.home", &guest::says("one"), &json!({}));
    node.mote(&["kv", "set", "k", "v", "--app", "home"]).ok();
    node.mote(&["rm", "f.home"]).ok();
    assert_eq!(node.mote(&["kv", "get", "k", "--app", "home"]).ok(), "v");
    node.mote(&["wipe", "--yes"]).ok();
    assert_eq!(node.mote(&["kv", "get", "k", "--app", "home"]).ok(), "v");
}

#[test]
fn a_file_that_is_no_database_stops_the_start() {
    let folder = tempfile::tempdir().unwrap();
    Up::new().data_dir(folder.path()).start().stop();
    fs::write(folder.path().join("kv.redb"), "thesis").unwrap();
    let ended = run(Up::new().command(folder.path()), b"");
    ended.failed(70, &["key-value data"]);
    let left = fs::read_to_string(folder.path().join("kv.redb")).unwrap();
    assert_eq!(left, "thesis");
}

#[test]
fn a_secret_is_set_and_never_shown() {
    const VALUE: &str = "rosebud-4711";
    let mut node = Node::start();
    let set = ["secret", "set", "MQTT_PASSWORD", "--app", "home"];
    let said = with_input(&node, &set, format!("{VALUE}\n").as_bytes());
    assert!(
        said.stderr.contains("MQTT_PASSWORD of app home"),
        "{said:?}"
    );
    assert!(!said.stderr.contains(VALUE));
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), VALUE).unwrap();
    let path = file.path().to_str().unwrap();
    node.mote(&["secret", "set", "API_KEY", "--value-file", path])
        .ok();
    assert_eq!(node.mote(&["secret", "ls"]).ok(), "API_KEY\n");
    assert_eq!(
        node.mote(&["secret", "ls", "--app", "home"]).ok(),
        "MQTT_PASSWORD\n"
    );
    let listed = printed(&node, &["secret", "ls", "--app", "home", "--json"]);
    assert_eq!(listed, json!({"names": ["MQTT_PASSWORD"]}));

    // Nothing that answers a read has it.
    let description = node.ask("GET", "/openapi.json", b"").expect(200).json();
    for path in description["paths"].as_object().unwrap().keys() {
        let path = path
            .replace("{app}", "home")
            .replace("{name}", "MQTT_PASSWORD");
        let reply = node.ask("GET", &path.replace(['{', '}'], ""), b"");
        assert!(!reply.text().contains(VALUE), "{path}");
    }
    node.ask("GET", "/v1/apps/home/secrets/MQTT_PASSWORD", b"")
        .problem(405, "method_not_allowed");
    assert!(!node.log().contains(VALUE));
    let mode = fs::metadata(node.data_dir().join("registry.redb"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);

    // Acknowledged is durable.
    node.kill();
    node.restart();
    assert_eq!(node.mote(&["secret", "ls"]).ok(), "API_KEY\n");
    node.mote(&["secret", "rm", "API_KEY"]).ok();
    node.mote(&["secret", "rm", "API_KEY"])
        .failed(4, &["`API_KEY`", "mote secret ls"]);
    assert_eq!(node.mote(&["secret", "ls"]).ok(), "");

    for name in ["api-key", "1ST", "", "Ä"] {
        with_input(&node, &["secret", "set", name], b"v").failed(2, &["secret name", "hint: "]);
    }
    with_input(&node, &["secret", "set", "EMPTY"], b"\n").failed(2, &["empty"]);
    with_input(&node, &["secret", "set", "BINARY"], b"\xff").failed(2, &["UTF-8", "base64"]);
    with_input(&node, &["secret", "set", "LARGE"], &[b'v'; 65_539]).failed(2, &["larger"]);
    with_input(&node, &["secret", "set", "LARGE"], &[b'v'; 65_537]).failed(2, &["65536"]);
    // A value is not taken where everybody on the machine could read it.
    node.mote(&["secret", "set", "NAME", "value"])
        .failed(2, &["unexpected argument"]);
}

#[test]
fn a_secret_that_is_granted_and_not_set_is_warned_about() {
    let node = Node::start();
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("f.wasm"), guest::says("one")).unwrap();
    let manifest = "version = 1\napp = \"home\"\n[function.f]\nsource = \"f.wasm\"\nallow.secrets = [\"KEY\"]\n";
    fs::write(folder.path().join("mote.toml"), manifest).unwrap();
    let path = folder.path().to_str().unwrap();
    let warned = |ended: &Ended| ended.stderr.contains("warning: f.home: secret `KEY`");
    let deployed = node.mote(&["deploy", path]);
    assert_eq!(deployed.code, Some(0), "{deployed:?}");
    assert!(
        warned(&deployed) && deployed.stderr.contains("mote secret set KEY --app home"),
        "{deployed:?}"
    );
    assert!(node.mote(&["show", "f.home"]).ok().contains("secret `KEY`"));
    with_input(&node, &["secret", "set", "KEY", "--app", "home"], b"v").ok();
    let deployed = node.mote(&["deploy", path]);
    assert_eq!(deployed.code, Some(0), "{deployed:?}");
    assert!(!warned(&deployed), "{deployed:?}");
    let shown = printed(&node, &["show", "f.home", "--json"]);
    assert_eq!(shown.get("warnings"), None);
}

#[test]
fn only_the_token_opens_data_and_secrets() {
    let node = Node::start();
    node.mote(&["kv", "set", "k", "v"]).ok();
    for (method, path) in [
        ("GET", "/v1/kv"),
        ("GET", "/v1/apps/default/kv"),
        ("DELETE", "/v1/apps/default/kv"),
        ("GET", "/v1/apps/default/kv/default"),
        ("DELETE", "/v1/apps/default/kv/default"),
        ("GET", "/v1/apps/default/kv/default/k"),
        ("PUT", "/v1/apps/default/kv/default/k"),
        ("DELETE", "/v1/apps/default/kv/default/k"),
        ("GET", "/v1/apps/default/secrets"),
        ("PUT", "/v1/apps/default/secrets/K"),
        ("DELETE", "/v1/apps/default/secrets/K"),
    ] {
        for headers in [&[][..], &[("authorization", "Bearer wrong")]] {
            request(node.admin(), method, path, headers, b"x").problem(401, "unauthorized");
        }
    }
    assert_eq!(node.mote(&["kv", "get", "k"]).ok(), "v");
    assert_eq!(node.mote(&["secret", "ls"]).ok(), "");
}
