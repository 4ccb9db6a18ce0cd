//! The table of ratios, as far as it can be tried without measuring: what it leaves when it is killed.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(30);

fn eventually<T>(what: &str, find: impl Fn() -> Option<T>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = find() {
            return found;
        }
        assert!(Instant::now() < until, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_node_ends_with_whoever_measures_it() {
    let folder = tempfile::tempdir().unwrap();
    let (node, id) = (folder.path().join("mote"), folder.path().join("id"));
    // A node that never says where it is, so that it is waited for.
    let script = format!("#!/bin/sh\necho $$ >{}\nexec sleep 300\n", id.display());
    fs::write(&node, script).unwrap();
    fs::set_permissions(&node, fs::Permissions::from_mode(0o755)).unwrap();
    let mut ratios = Command::new(env!("CARGO_BIN_EXE_ratios"))
        .args(["--only", "memory at rest", "--examples", "../../examples"])
        .arg("--mote")
        .arg(&node)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let running = eventually("the node is not started", || {
        let text = fs::read_to_string(&id).ok()?;
        text.trim().parse::<u32>().ok()
    });
    let process = format!("/proc/{running}");
    assert!(Path::new(&process).exists());
    ratios.kill().unwrap();
    ratios.wait().unwrap();
    eventually("the node is left", || (!is_alive(&process)).then_some(()));
}

/// One that has ended and that nobody waits for is not.
fn is_alive(process: &str) -> bool {
    let stat = fs::read_to_string(format!("{process}/stat"));
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}
