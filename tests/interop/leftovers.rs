//! What a node has on its system, as a listing that can be compared: processes, mounts, cgroups,
//! descriptors, containers, networks, and files.
//!
//! Others work on the same system, so everything is found by what only this node and its functions
//! carry: the node's folder, a word in the names of its apps and in the variables of its programs,
//! and being below the node.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use mote_tests::deploy::digest;
use mote_tests::engine::Engine;
use mote_tests::node::Node;

use super::processes;

/// One line for each thing.
pub(crate) type Listing = BTreeSet<String>;

/// What a node has is found by these.
#[derive(Debug)]
pub(crate) struct Marks {
    /// The node's folder.
    data_dir: PathBuf,
    /// What its folders of cgroups are called.
    cgroups: String,
    /// In the name of every app, and in a variable of every program.
    word: String,
    /// The bridges of networks and the containers that there ever were.
    seen: BTreeSet<String>,
}

impl Marks {
    /// Of a node, and a word that its apps are called by.
    pub(crate) fn new(node: &Node, word: &str) -> Self {
        let data_dir = node.data_dir().canonicalize().unwrap();
        let tag = digest(data_dir.as_os_str().as_encoded_bytes());
        Self {
            cgroups: format!("mote-{}", &tag[..12]),
            data_dir,
            word: word.to_owned(),
            seen: BTreeSet::new(),
        }
    }

    /// Everything but files, of a node that runs or of one that has ended.
    pub(crate) fn running(&mut self, node: Option<&Node>, engine: Option<&Engine>) -> Listing {
        let mut all = Listing::new();
        self.processes(node, &mut all);
        self.mounts(node, &mut all);
        self.containers(engine, &mut all);
        self.cgroups(Path::new("/sys/fs/cgroup"), 0, &mut all);
        self.interfaces(&mut all);
        all
    }

    /// The folders and files of the node, and what it left in the system's folder for such.
    pub(crate) fn files(&self, temporary: &Path) -> Listing {
        let mut all = Listing::new();
        list(&self.data_dir, "data", &mut all);
        list(temporary, "temporary", &mut all);
        for entry in fs::read_dir("/tmp").unwrap().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.contains(&self.word) {
                all.insert(format!("file /tmp/{name}"));
            }
        }
        all
    }

    fn carries(&self, text: &[u8]) -> bool {
        let has = |mark: &[u8]| text.windows(mark.len()).any(|part| part == mark);
        has(self.word.as_bytes()) || has(self.data_dir.as_os_str().as_encoded_bytes())
    }

    fn processes(&self, node: Option<&Node>, all: &mut Listing) {
        let own = node.map(Node::pid);
        let mut found: BTreeSet<u32> = own
            .map(|pid| processes::below(pid).into_keys().map(|(pid, _)| pid))
            .into_iter()
            .flatten()
            .collect();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else {
                continue;
            };
            let file = |name: &str| fs::read(entry.path().join(name)).unwrap_or_default();
            if self.carries(&file("cmdline")) || self.carries(&file("environ")) {
                found.insert(pid);
            }
        }
        found.retain(|pid| Some(*pid) != own && *pid != std::process::id());
        for pid in found {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            all.insert(format!("process {pid} {line}"));
        }
    }

    fn mounts(&self, node: Option<&Node>, all: &mut Listing) {
        let of_node = node.map(|node| format!("/proc/{}/mountinfo", node.pid()));
        for path in ["/proc/self/mountinfo"]
            .into_iter()
            .chain(of_node.as_deref())
        {
            let text = fs::read_to_string(path).unwrap();
            let marked = text.lines().filter(|line| self.carries(line.as_bytes()));
            all.extend(marked.map(|line| format!("mount {line}")));
        }
    }

    /// The folders of cgroups that carry the node's tag, or the number of one of its containers, in
    /// every hierarchy.
    fn cgroups(&self, folder: &Path, depth: usize, all: &mut Listing) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = entry.path();
            if name == self.cgroups || self.seen.contains(&name) {
                list_folders(&path, all);
            } else if depth < 6 {
                self.cgroups(&path, depth + 1, all);
            }
        }
    }

    fn containers(&mut self, engine: Option<&Engine>, all: &mut Listing) {
        let Some(engine) = engine else { return };
        for id in engine.docker(&["ps", "-aq", "--no-trunc"]).lines() {
            all.insert(format!("container {id}"));
            self.seen.insert(id.to_owned());
        }
        // All but those that every engine has.
        let networks = engine.docker(&["network", "ls", "-q", "--filter", "type=custom"]);
        for network in networks.lines() {
            let bridge = "{{index .Options \"com.docker.network.bridge.name\"}}";
            let mut inspect = vec!["network", "inspect", "-f", bridge];
            inspect.push(network);
            // One that has gone meanwhile says nothing.
            let bridges = engine.try_docker(&inspect);
            self.seen.extend(bridges.lines().map(str::to_owned));
            let name = engine.try_docker(&["network", "inspect", "-f", "{{.Name}}", network]);
            all.insert(format!("network {}", name.trim()));
        }
    }

    fn interfaces(&self, all: &mut Listing) {
        for entry in fs::read_dir("/sys/class/net")
            .into_iter()
            .flatten()
            .flatten()
        {
            let name = entry.file_name().to_string_lossy().into_owned();
            if self.seen.contains(&name) {
                all.insert(format!("interface {name}"));
            }
        }
    }
}

/// How many descriptors of each kind a node has open that are no files: sockets, pipes, namespaces,
/// processes.
pub(crate) fn descriptors(node: &Node) -> BTreeMap<String, usize> {
    let mut kinds = BTreeMap::<String, usize>::new();
    let folder = format!("/proc/{}/fd", node.pid());
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        // One may be closed meanwhile.
        let target = fs::read_link(entry.path()).unwrap_or_default();
        let target = target.to_string_lossy();
        if !target.starts_with('/') {
            // Such as `socket:[123]` and `anon_inode:[pidfd]`; numbers come and go.
            let kind = target.trim_end_matches(|letter: char| !letter.is_ascii_alphabetic());
            *kinds.entry(kind.to_owned()).or_default() += 1;
        }
    }
    kinds
}

fn list_folders(folder: &Path, all: &mut Listing) {
    all.insert(format!("cgroup {}", folder.display()));
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            list_folders(&entry.path(), all);
        }
    }
}

fn list(folder: &Path, shown: &str, all: &mut Listing) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = format!("{shown}/{}", entry.file_name().to_string_lossy());
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            list(&entry.path(), &name, all);
        }
        all.insert(format!("file {name}"));
    }
}
