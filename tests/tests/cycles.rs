//! From zero to load and back, again and again, with the node killed in between: nothing is left.

#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use mote_tests::deploy::digest;
use mote_tests::eventually::eventually;
use mote_tests::node::Node;
use mote_tests::source::{python, server, shell};

/// How often the node is killed.
const KILLS: usize = 3;

/// The folders of cgroups that carry the node's tag, in every hierarchy.
fn cgroups(node: &Node) -> Vec<PathBuf> {
    let path = node.data_dir().canonicalize().unwrap();
    let tag = digest(path.as_os_str().as_encoded_bytes())[..12].to_owned();
    let mut found = Vec::new();
    walk(
        Path::new("/sys/fs/cgroup"),
        &format!("mote-{tag}"),
        &mut found,
        0,
    );
    found
}

fn walk(folder: &Path, name: &str, found: &mut Vec<PathBuf>, depth: usize) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten().filter(|entry| entry.path().is_dir()) {
        if entry.file_name() == name {
            found.push(entry.path());
        } else if depth < 6 && !entry.path().is_symlink() {
            walk(&entry.path(), name, found, depth + 1);
        }
    }
}

/// Every process below this one, with the time at which it began, since numbers come back.
fn descendants(pid: u32) -> BTreeSet<(u32, String)> {
    let mut all = BTreeSet::new();
    let tasks = format!("/proc/{pid}/task");
    for task in std::fs::read_dir(tasks).into_iter().flatten().flatten() {
        let children = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
        for child in children
            .split_whitespace()
            .filter_map(|text| text.parse().ok())
        {
            if let Some(began) = began(child) {
                all.insert((child, began));
            }
            all.extend(descendants(child));
        }
    }
    all
}

fn began(pid: u32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let after_name = stat.rsplit_once(')')?.1;
    after_name.split_whitespace().nth(19).map(str::to_owned)
}

#[track_caller]
fn gone(processes: &BTreeSet<(u32, String)>) {
    eventually("every process of the node is gone", || {
        processes
            .iter()
            .all(|(pid, then)| began(*pid).as_ref() != Some(then))
    });
}

#[test]
fn cycles_leave_nothing() {
    let full = std::env::var_os("MOTE_FULL").is_some();
    let cycles = if full { 100 } else { 10 };
    let mut node = Node::start();
    let idle = "scale = { idle = \"100ms\" }";
    node.deploy_example("hello");
    node.deploy_source(&shell("s", idle, "cat; echo x > /tmp/left"));
    node.deploy_source(&python(
        "z",
        idle,
        "def fn(i, h):\n    open('/tmp/left', 'w').write('x')\n    return 'z'\n",
    ));
    node.deploy_source(&server("w.other", idle, "answer(h, 'w')"));
    let mounts = || {
        std::fs::read_to_string("/proc/self/mountinfo")
            .unwrap()
            .lines()
            .count()
    };
    let mounted = mounts();
    for cycle in 0..cycles {
        std::thread::scope(|scope| {
            for name in ["hello", "s", "z", "w.other"] {
                let node = &node;
                scope.spawn(move || {
                    for _ in 0..5 {
                        node.post(&format!("/{name}"), b"x").expect(200);
                    }
                });
            }
        });
        let killed = cycle % (cycles / KILLS) == cycles / KILLS - 1;
        if killed {
            let below = descendants(node.pid());
            assert!(!below.is_empty(), "programs run");
            node.kill();
            gone(&below);
            node.restart();
        }
        for name in ["s", "z", "w.other"] {
            node.await_instances(name, 0);
        }
        let memory = || node.status_field("memory_reserved_bytes");
        eventually("all memory is given back", || memory() == 0);
        let below = || descendants(node.pid());
        eventually("no sandbox is left", || below().is_empty());
    }
    for name in ["s", "z", "w.other"] {
        node.mote(&["rm", name]).ok();
    }
    let trees = node.data_dir().join("trees");
    assert_eq!(std::fs::read_dir(trees).unwrap().count(), 0);
    node.stop();
    assert_eq!(cgroups(&node), Vec::<PathBuf>::new());
    assert_eq!(mounts(), mounted);
}

/// The kernel gives up on a path with `..` in it when anything is renamed meanwhile (openat2(2)).
#[test]
fn sandboxes_are_made_while_files_are_renamed() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (here, there) = (folder.path().join("here"), folder.path().join("there"));
            std::fs::write(&here, "").unwrap();
            while !done.load(Ordering::Relaxed) {
                std::fs::rename(&here, &there).unwrap();
                std::fs::rename(&there, &here).unwrap();
            }
        });
        // Also when a check fails, so that the other thread ends.
        let _end = End(&done);
        for number in 0..20 {
            let name = format!("s.app{number}");
            node.deploy_source(&shell(&name, "", "cat"));
            let reply = node.post(&format!("/{name}"), b"x").expect(200);
            assert_eq!(reply.text(), "x");
        }
    });
}

/// Ends what looks at it.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
