//! A node as those meet it who run one: starting, stopping, what it says of itself, and what it
//! does when the machine does not give it what it needs.

#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::collections::{BTreeMap, HashSet};
use std::env;
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use mote_tests::eventually::eventually;
use mote_tests::guest;
use mote_tests::http::Connection;
use mote_tests::node::{Node, Up};
use mote_tests::program::{clean, command, run};
use serde_json::{Value, json};

#[test]
fn a_port_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let udp_address = udp.local_addr().unwrap().to_string();
    for (flag, address) in [
        ("--http", &address),
        ("--admin", &address),
        ("--coap", &udp_address),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let up = Up::new().flag(flag, address);
        let ended = run(up.command(folder.path()), b"");
        ended.failed(5, &["error: ", address, "hint: ", flag]);
        assert_eq!(ended.stdout, "", "it said that it listens");
        assert!(!folder.path().join("addresses").exists());
    }
}

#[test]
fn a_folder_belongs_to_one_node() {
    let mut node = Node::start();
    node.answers_hello();
    let ended = run(Up::new().command(node.data_dir()), b"");
    let owner = format!("process {}", node.pid());
    ended.failed(5, &["in use", &owner, "hint: ", "--data-dir"]);
    node.answers_hello();
    // Its end, however it came, frees the folder.
    node.kill();
    node.restart();
    node.answers_hello();
}

#[test]
fn a_folder_that_is_not_ours_is_left_alone() {
    let newer = tempfile::tempdir().unwrap();
    fs::write(newer.path().join("format"), "999\n").unwrap();
    let foreign = tempfile::tempdir().unwrap();
    fs::write(foreign.path().join("thesis.txt"), "years of work").unwrap();
    for (folder, code, said) in [(&newer, 2, "999"), (&foreign, 5, "thesis.txt")] {
        let ended = run(Up::new().command(folder.path()), b"");
        ended.failed(code, &["error: ", said, "hint: "]);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "{said}");
    }
    assert_eq!(
        fs::read_to_string(newer.path().join("format")).unwrap(),
        "999\n"
    );
}

#[test]
fn a_wrong_value_is_named_with_who_wrote_it() {
    let folder = tempfile::tempdir().unwrap();
    let up = Up::new().flag("--calls-max", "many");
    run(up.command(folder.path()), b"").failed(2, &["many", "--calls-max"]);
    let up = Up::new().variable("MOTE_DRAIN", "soon");
    run(up.command(folder.path()), b"").failed(2, &["soon", "MOTE_DRAIN"]);
    fs::write(folder.path().join("node.toml"), "\ncalls_mix = 3\n").unwrap();
    let up = Up::new();
    run(up.command(folder.path()), b"").failed(2, &["node.toml", "2", "calls_max"]);
}

#[test]
fn the_configuration_says_where_it_comes_from() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("node.toml");
    fs::write(&file, "queue_max = 7\ncalls_max = 8\ndrain = \"3s\"\n").unwrap();
    let mut show = command(&["config", "show", "--json", "--calls-max", "9"]);
    show.env("MOTE_DATA_DIR", folder.path())
        .env("MOTE_DRAIN", "4s");
    let rows: Value = serde_json::from_str(&run(show, b"").ok()).unwrap();
    let rows = rows.as_array().unwrap();
    let row = |key: &str| rows.iter().find(|row| row["key"] == key).unwrap();
    for (key, value, origin) in [
        ("calls_max", "9", "--calls-max".to_owned()),
        ("drain", "4s", "MOTE_DRAIN".to_owned()),
        ("queue_max", "7", format!("{}:1", file.display())),
        ("body_timeout", "30s", "default".to_owned()),
    ] {
        assert_eq!(
            (&row(key)["value"], &row(key)["origin"]),
            (&json!(value), &json!(origin))
        );
    }
    // What is shown is what a node takes.
    let node = Up::new().data_dir(folder.path()).start();
    node.answers_hello();
}

#[test]
fn a_node_that_is_told_to_stop_finishes_what_it_began() {
    let mut node = Node::start();
    let spec = json!({"cpu": "30s", "timeout": "60s"});
    node.deploy("busy", &guest::busy(200, "finished"), &spec);
    node.deploy_example("light");
    // A connection between two requests, and one that watches: neither holds the node up.
    let mut idle = Connection::open(node.http());
    idle.request("GET", "/light", &[], b"");
    idle.reply("GET").unwrap().expect(200);
    let mut watcher = Connection::open(node.http());
    watcher.request("GET", "/light", &[("accept", "text/event-stream")], b"");
    watcher.head().unwrap().expect(200);

    let mut call = Connection::open(node.http());
    call.request("GET", "/busy", &[], b"");
    eventually("the call runs", || node.function("busy")["in_flight"] == 1);
    let address = node.http();
    node.terminate();
    let reply = call.reply("GET").expect("the call under way is answered");
    let answered = Instant::now();
    assert_eq!(reply.expect(200).text(), "finished");
    assert!(node.wait().success());
    let after = answered.elapsed();
    assert!(
        after < Duration::from_secs(5),
        "it ended {after:?} after its last call"
    );
    assert!(idle.ends() && watcher.ends());
    assert!(std::net::TcpStream::connect(address).is_err());
    assert!(!node.data_dir().join("addresses").exists());
    node.mote(&["ls"])
        .failed(6, &["no node is running", "hint: ", "mote up"]);
}

#[test]
fn a_call_longer_than_the_grace_is_cut_off() {
    let mut node = Up::new().flag("--drain", "300ms").start();
    node.deploy(
        "loops",
        &guest::loops(),
        &json!({"cpu": "60s", "timeout": "60s"}),
    );
    let mut call = Connection::open(node.http());
    call.request("GET", "/loops", &[], b"");
    eventually("the call runs", || node.function("loops")["in_flight"] == 1);
    let start = Instant::now();
    node.stop();
    assert!(
        start.elapsed() < Duration::from_secs(10),
        "{:?}",
        start.elapsed()
    );
    assert!(call.ends());
}

/// The text format of OpenMetrics 1.0: families with their samples together, names with the suffix
/// of their type, histograms that add up, an end mark.
#[track_caller]
fn check_openmetrics(page: &str) -> BTreeMap<String, f64> {
    let body = page.strip_suffix("# EOF\n").expect("the end mark is last");
    let (mut types, mut helped) = (BTreeMap::new(), HashSet::new());
    let mut family = String::new();
    let mut samples = BTreeMap::new();
    for line in body.lines() {
        if let Some(rest) = line.strip_prefix("# ") {
            let mut words = rest.splitn(3, ' ');
            let (what, name, value) = (
                words.next().unwrap(),
                words.next().unwrap(),
                words.next().unwrap(),
            );
            match what {
                "HELP" => assert!(helped.insert(name.to_owned()), "{line}"),
                "TYPE" => assert!(
                    types.insert(name.to_owned(), value.to_owned()).is_none(),
                    "{line}"
                ),
                "UNIT" => assert!(name.ends_with(value), "{line}"),
                _ => panic!("{line}"),
            }
            family = name.to_owned();
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap();
        let value: f64 = value.parse().unwrap_or_else(|_| panic!("{line}"));
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        assert!(labels.ends_with('}'), "{line}");
        let suffix = name
            .strip_prefix(&family)
            .unwrap_or_else(|| panic!("{line} is not of {family}"));
        let fits = match types[&family].as_str() {
            "counter" => suffix == "_total",
            "gauge" => suffix.is_empty(),
            "histogram" => matches!(suffix, "_sum" | "_count" | "_bucket"),
            other => panic!("type {other}"),
        };
        assert!(fits, "{line} is no sample of a {}", types[&family]);
        assert!(value >= 0.0 || types[&family] == "gauge", "{line}");
        assert!(
            samples.insert(series.to_owned(), value).is_none(),
            "twice: {line}"
        );
    }
    for (name, _) in types.iter().filter(|(_, kind)| *kind == "histogram") {
        let count = format!("{name}_count");
        for (series, count) in samples
            .iter()
            .filter(|(series, _)| series.starts_with(&count))
        {
            let labels = series
                .split_once('{')
                .map_or("", |(_, labels)| labels.trim_end_matches('}'));
            let mut buckets: Vec<(f64, f64)> = samples
                .iter()
                .filter(|(series, _)| {
                    series.starts_with(&format!("{name}_bucket{{")) && series.contains(labels)
                })
                .map(|(series, value)| {
                    let bound = series
                        .split("le=\"")
                        .nth(1)
                        .unwrap()
                        .split('"')
                        .next()
                        .unwrap();
                    (bound.parse().unwrap(), *value)
                })
                .collect();
            buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
            assert!(
                buckets.is_sorted_by(|a, b| a.1 <= b.1),
                "{series}: {buckets:?}"
            );
            assert_eq!(buckets.last(), Some(&(f64::INFINITY, *count)), "{series}");
        }
    }
    samples
}

#[test]
fn the_metrics_page_is_openmetrics_and_counts() {
    let node = Node::start();
    node.answers_hello();
    node.deploy("traps.home", &guest::does("unreachable", ""), &json!({}));
    check_openmetrics(&node.ask("GET", "/metrics", b"").expect(200).text());
    for _ in 0..10 {
        node.get("/hello").expect(200);
        node.get("/traps.home").expect(502);
    }
    let page = node.ask("GET", "/metrics", b"").expect(200);
    let kind = page.header("content-type").unwrap();
    assert!(
        kind.starts_with("application/openmetrics-text; version=1.0.0"),
        "{kind}"
    );
    let samples = check_openmetrics(&page.text());
    let count = |name: &str, labels: &[&str]| -> f64 {
        let fits = |series: &&String| {
            series.starts_with(name) && labels.iter().all(|label| series.contains(label))
        };
        samples
            .keys()
            .filter(fits)
            .map(|series| samples[series])
            .sum()
    };
    let hello = [
        "function=\"hello\"",
        "app=\"default\"",
        "outcome=\"ok\"",
        "door=\"http\"",
    ];
    assert_eq!(count("mote_calls_total", &hello), 11.0);
    let traps = [
        "function=\"traps\"",
        "app=\"home\"",
        "outcome=\"function_failed\"",
    ];
    assert_eq!(count("mote_calls_total", &traps), 10.0);
    assert_eq!(count("mote_functions", &[]), 2.0);
    assert!(count("mote_http_connections_total", &[]) >= 21.0);
}

/// Little address space: no room for reserving 4 GiB for each memory, so memories are made on
/// demand, and all else is as ever.
#[test]
fn little_address_space_is_enough() {
    let node = Up::new().address_space_kib(1 << 20).start();
    node.answers_hello();
    for name in ["echo", "sieve", "light"] {
        node.deploy_example(name);
    }
    let mut calls: Vec<_> = (0..64).map(|_| Connection::open(node.http())).collect();
    for _ in 0..5 {
        for call in &mut calls {
            call.request("POST", "/echo", &[], &[b'x'; 10_000]);
        }
        for call in &mut calls {
            let reply = call.reply("POST").unwrap().expect(200);
            assert_eq!(reply.body, [b'x'; 10_000]);
        }
    }
    node.post("/light", b"on").expect(200);
    assert_eq!(node.get("/light").text(), r#"{"light":"on"}"#);
    // Limits hold here too.
    let grows = guest::does(
        "(loop $more (br_if $more (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) unreachable",
        "",
    );
    node.deploy("grows", &grows, &json!({"memory": "20MiB"}));
    node.get("/grows").problem(502, "function_failed");
    node.answers_hello();
    assert!(
        node.log().contains("address space"),
        "it says so: {}",
        node.log()
    );
}

const FOLDER: &str = "MOTE_TEST_FULL_DISK";
/// Mounts a small disk on the first argument, and runs the rest on it.
const SCRIPT: &str = r#"mount -t tmpfs -o size=4m tmpfs "$1" && shift && exec "$@""#;

/// The disk is a tmpfs in a mount namespace of its own, in which this test starts itself again.
#[test]
fn a_full_disk_costs_the_deploy_and_nothing_else() {
    if let Ok(folder) = env::var(FOLDER) {
        return on_a_small_disk(folder.as_ref());
    }
    let root = tempfile::tempdir().unwrap();
    for namespaces in [&["--mount"][..], &["--mount", "--user", "--map-root-user"]] {
        let unshare = || {
            let mut command = Command::new("unshare");
            clean(&mut command);
            command
                .args(namespaces)
                .args(["sh", "-c", SCRIPT, "sh"])
                .arg(root.path());
            command
        };
        let mut possible = unshare();
        possible.arg("true");
        if !possible
            .output()
            .is_ok_and(|output| output.status.success())
        {
            continue;
        }
        let mut again = unshare();
        again
            .arg(env::current_exe().unwrap())
            .args(["--exact", "a_full_disk_costs_the_deploy_and_nothing_else"])
            .env(FOLDER, root.path());
        if let Some(program) = env::var_os("MOTE_BIN") {
            again.env("MOTE_BIN", program);
        }
        let ended = run(again, b"");
        assert!(
            ended.code == Some(0) && ended.stdout.contains("1 passed"),
            "{}{}",
            ended.stdout,
            ended.stderr
        );
        return;
    }
    eprintln!("not run: a full disk needs `unshare` and the right to mount a tmpfs");
    assert!(env::var_os("MOTE_REQUIRE_TOOLS").is_none());
}

fn on_a_small_disk(disk: &Path) {
    let ballast = disk.join("ballast");
    let node = Up::new().data_dir(&disk.join("data")).start();
    node.answers_hello();
    // Room for a small artifact and not for its image; then for nothing.
    for free in [16 << 10, 0] {
        let mut fill = vec![1; 8 << 20];
        loop {
            // What does not fit is cut off at the last byte that does.
            let _ = fs::write(&ballast, &fill);
            let filled = fs::metadata(&ballast).unwrap().len();
            if filled < fill.len() as u64 {
                fill.truncate(usize::try_from(filled).unwrap() - free);
                continue;
            }
            break;
        }
        for text in ["first", "second"] {
            let reply =
                node.try_deploy("full", &guest::says(&format!("{text} {free}")), &json!({}));
            let detail = reply.problem(507, "storage_full");
            assert!(!detail.is_empty());
            assert!(
                reply.json()["hint"]
                    .as_str()
                    .unwrap()
                    .contains("free space"),
                "{reply:?}"
            );
        }
        let file = disk.parent().unwrap().join("large.wasm");
        fs::write(&file, guest::says("from the command line")).unwrap();
        let ended = node.mote(&["deploy", "--name", "full", file.to_str().unwrap()]);
        fs::remove_file(&file).unwrap();
        ended.failed(9, &["error: ", "hint: free space"]);
        assert_eq!(node.functions(), ["hello"]);
        for _ in 0..20 {
            node.answers_hello();
        }
    }
    fs::remove_file(&ballast).unwrap();
    node.deploy("full", &guest::says("room again"), &json!({}));
    assert_eq!(node.get("/full").expect(200).text(), "room again");
}

#[test]
fn a_node_runs_without_the_doors_that_are_closed() {
    let node = Up::new().flag("--coap", "off").start();
    node.answers_hello();
    let status = node.ask("GET", "/v1/status", b"").json();
    assert_eq!(status["doors"]["coap"], Value::Null);
    assert!(node.mote(&["ls"]).ok().contains("hello"));
}

#[test]
fn nobody_reads_what_the_node_says() {
    // Standard output and error closed: a service manager may do that.
    let folder = tempfile::tempdir().unwrap();
    let mut up = Up::new()
        .flag("--log-level", "debug")
        .command(folder.path());
    up.stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    let mut child = up.spawn().unwrap();
    drop((child.stdout.take(), child.stderr.take()));
    let addresses = folder.path().join("addresses");
    eventually("it listens", || addresses.exists());
    let mut deploy = command(&["deploy", "--name", "hello"]);
    deploy
        .arg(mote_tests::program::repository().join("examples/hello/hello.wasm"))
        .env("MOTE_DATA_DIR", folder.path());
    run(deploy, b"").ok();
    let mut invoke = command(&["invoke", "hello"]);
    invoke.env("MOTE_DATA_DIR", folder.path());
    assert_eq!(run(invoke, b"").ok(), "hello, world\n");
    assert!(child.try_wait().unwrap().is_none());
    child.kill().unwrap();
    child.wait().unwrap();
}
