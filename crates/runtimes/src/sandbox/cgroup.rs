//! Limits on memory, processors and processes, for everything that runs in one instance.
//!
//! Below the node's own cgroup of each controller there is a folder `mote-<tag>`, and in it one for
//! each [`Cgroup`]. Both versions of the kernel's interface are used, whichever has a controller.
//! A cgroup outlives the processes in it and the node; so folders are removed by a thread when they
//! are dropped, and what a node that was killed left is cleared by the next ([`Cgroups::clear`]).

mod place;

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use mote_core::error::{Error, ErrorKind};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, PidfdFlags, Signal};

use super::tier::{Layer, Tier};
use place::Places;

/// Before the tag in the names of folders; nothing in folders without it is ever killed.
const PREFIX: &str = "mote-";

/// The period in which a share of the processors is counted: the kernel's default.
const CPU_PERIOD_US: u32 = 100_000;

/// The least share that the kernel takes.
const CPU_QUOTA_US_MIN: f64 = 1000.0;

/// How often everything in a cgroup is killed before it is left alone: each time waits until what
/// was killed has gone, or for [`KILL_WAIT`].
const KILLS_MAX: u32 = 20;
const KILL_WAIT: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 100_000_000,
};

/// How often the removal of a folder is tried, and how long it rests in between. The kernel removes
/// the last process of a cgroup some time after it has ended, and has nothing to wait for that.
const REMOVALS_MAX: u32 = 100;
const REMOVAL_PAUSE: Duration = Duration::from_millis(10);

/// What the processes of a cgroup may use; a limit that the system does not have is left out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Bytes of memory, files in `/tmp` included, and none of it swapped.
    pub memory_bytes: u64,
    /// Processors.
    pub cpus: f64,
    /// Processes and threads.
    pub processes: u32,
}

/// The cgroups of a node.
#[derive(Debug)]
pub struct Cgroups {
    hierarchies: Vec<Hierarchy>,
    sweeper: Sweeper,
}

/// The cgroup of one instance. Dropping it kills what is in it and removes it, in the background.
#[derive(Debug)]
pub struct Cgroup {
    folders: Vec<(Hierarchy, PathBuf)>,
    joins: Vec<OwnedFd>,
    sweep: mpsc::Sender<Vec<PathBuf>>,
}

/// A folder in which cgroups can be made, and which limits they have there.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Hierarchy {
    folder: PathBuf,
    unified: bool,
    layers: Vec<Layer>,
}

impl Cgroups {
    /// Finds what the system has, by making a folder in it. `tag`: tells nodes of one system apart;
    /// letters, digits and `-`.
    pub fn open(tag: &str) -> Result<Self, Error> {
        let name = folder_name(tag)?;
        let hierarchies = hierarchies(&Places::own(), &name);
        let sweeper = Sweeper::start()?;
        Ok(Self {
            hierarchies,
            sweeper,
        })
    }

    /// Kills and removes what a node with this tag left, if there is anything. Blocks.
    pub fn clear(tag: &str) -> Result<(), Error> {
        let name = folder_name(tag)?;
        let mut failed = None;
        for parent in parents(&Places::own()) {
            let folder = parent.join(&name);
            let Ok(entries) = std::fs::read_dir(&folder) else {
                continue;
            };
            let left: Vec<PathBuf> = entries
                .flatten()
                .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
                .map(|entry| entry.path())
                .collect();
            for path in left.into_iter().chain([folder]) {
                if let Err(error) = sweep(&path) {
                    failed = Some((path, error));
                }
            }
        }
        match failed {
            None => Ok(()),
            Some((path, error)) => Err(refused("removing", &path, &error)),
        }
    }

    /// The limits that can be had.
    pub fn tier(&self) -> Tier {
        let layers = self.hierarchies.iter().flat_map(|one| &one.layers);
        layers.fold(Tier::default(), |tier, layer| tier.with(*layer, true))
    }

    /// Makes a cgroup. `name` is new among those of this node; letters, digits, `.`, `-` and `_`.
    pub fn create(&self, name: &str, limits: &Limits) -> Result<Cgroup, Error> {
        check_name(name)?;
        let mut cgroup = Cgroup {
            folders: Vec::new(),
            joins: Vec::new(),
            sweep: self.sweeper.jobs(),
        };
        for hierarchy in &self.hierarchies {
            let folder = hierarchy.folder.join(name);
            std::fs::create_dir(&folder).map_err(|error| refused("making", &folder, &error))?;
            // From here on dropping it removes the folder.
            cgroup.folders.push((hierarchy.clone(), folder.clone()));
            hierarchy
                .limit(&folder, limits)
                .map_err(|error| refused("limiting", &folder, &error))?;
            let entry = folder.join(hierarchy.entry());
            let flags = OFlags::WRONLY | OFlags::CLOEXEC;
            let join = rustix::fs::open(&entry, flags, Mode::empty())
                .map_err(|error| refused("opening", &entry, &error.into()))?;
            cgroup.joins.push(join);
        }
        Ok(cgroup)
    }

    /// Waits until the folders of dropped cgroups are gone, and removes the node's own. Blocks until
    /// every [`Cgroup`] was dropped, so drop them first.
    pub fn close(self) {
        self.sweeper.finish();
        for hierarchy in &self.hierarchies {
            // Fails when it is used by another node with the same tag, which is then right.
            let _ = std::fs::remove_dir(&hierarchy.folder);
        }
    }
}

impl Cgroup {
    /// Files to write `0` to, in a process that is to join while it has one thread.
    pub(super) fn joins(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.joins.iter().map(|join| join.as_fd())
    }

    /// Gives it other limits. Fails when it uses more memory already and the kernel cannot take it
    /// back.
    pub fn relimit(&self, limits: &Limits) -> Result<(), Error> {
        for (hierarchy, folder) in &self.folders {
            if !hierarchy.unified && hierarchy.layers.contains(&Layer::CgroupMemory) {
                // Never less than the limit of memory alone, so it rises before that, and is refused
                // here when it is to fall.
                let memory = limits.memory_bytes.to_string();
                let _ = write_if_there(folder, "memory.memsw.limit_in_bytes", &memory);
            }
            hierarchy
                .limit(folder, limits)
                .map_err(|error| refused("limiting", folder, &error))?;
        }
        Ok(())
    }

    /// Kills everything in it, until it is empty or two seconds have passed. Nothing can be started
    /// in it afterwards. Blocks.
    pub fn kill_all(&self) {
        for (hierarchy, folder) in &self.folders {
            if hierarchy.layers.contains(&Layer::CgroupPids) {
                // A fork bomb that cannot fork any more is only a number of processes.
                let _ = write(folder, "pids.max", "0");
            }
        }
        for (_, folder) in &self.folders {
            kill(folder);
        }
    }

    /// How many processes were killed because the memory was used up.
    pub fn oom_kills(&self) -> u64 {
        let Some((hierarchy, folder)) = self.with(Layer::CgroupMemory) else {
            return 0;
        };
        let file = if hierarchy.unified {
            "memory.events"
        } else {
            "memory.oom_control"
        };
        let text = std::fs::read_to_string(folder.join(file)).unwrap_or_default();
        text.lines()
            .find_map(|line| line.strip_prefix("oom_kill "))
            .and_then(|count| count.trim().parse().ok())
            .unwrap_or(0)
    }

    /// Bytes of memory in use, where they are counted.
    pub fn memory_bytes(&self) -> Option<u64> {
        let (hierarchy, folder) = self.with(Layer::CgroupMemory)?;
        let file = if hierarchy.unified {
            "memory.current"
        } else {
            "memory.usage_in_bytes"
        };
        let text = std::fs::read_to_string(folder.join(file)).ok()?;
        text.trim().parse().ok()
    }

    fn with(&self, layer: Layer) -> Option<(&Hierarchy, &Path)> {
        self.folders
            .iter()
            .find(|(hierarchy, _)| hierarchy.layers.contains(&layer))
            .map(|(hierarchy, folder)| (hierarchy, folder.as_path()))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let folders = self.folders.drain(..).map(|(_, folder)| folder).collect();
        // Without the thread nothing can be done here that would not keep the caller waiting.
        let _ = self.sweep.send(folders);
    }
}

impl Hierarchy {
    /// The file through which a process joins. In version 1 that of its threads, since it has only
    /// one: the kernel then need not stop every fork on the system, for which it waits 10 ms and more
    /// when that is rare. Version 2 moves a thread alone only within the cgroup of its process.
    const fn entry(&self) -> &'static str {
        if self.unified {
            "cgroup.procs"
        } else {
            "tasks"
        }
    }

    fn limit(&self, folder: &Path, limits: &Limits) -> io::Result<()> {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "shares are at most thousands of processors"
        )]
        let quota = (limits.cpus * f64::from(CPU_PERIOD_US)).max(CPU_QUOTA_US_MIN) as i64;
        let memory = limits.memory_bytes.to_string();
        for layer in &self.layers {
            match (layer, self.unified) {
                (Layer::CgroupMemory, true) => {
                    write(folder, "memory.max", &memory)?;
                    write_if_there(folder, "memory.swap.max", "0")?;
                    // An instance that lost one of its processes is no instance any more.
                    write_if_there(folder, "memory.oom.group", "1")?;
                }
                (Layer::CgroupMemory, false) => {
                    write(folder, "memory.limit_in_bytes", &memory)?;
                    write_if_there(folder, "memory.memsw.limit_in_bytes", &memory)?;
                }
                (Layer::CgroupCpu, true) => {
                    write(folder, "cpu.max", &format!("{quota} {CPU_PERIOD_US}"))?;
                }
                (Layer::CgroupCpu, false) => {
                    write(folder, "cpu.cfs_period_us", &CPU_PERIOD_US.to_string())?;
                    write(folder, "cpu.cfs_quota_us", &quota.to_string())?;
                }
                (Layer::CgroupPids, _) => {
                    write(folder, "pids.max", &limits.processes.to_string())?;
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// The controllers that are used: their layer, their name, and a file that says whether they work,
/// of version 1 and of version 2.
const CONTROLLERS: [(Layer, &str, &str, &str); 3] = [
    (
        Layer::CgroupMemory,
        "memory",
        "memory.limit_in_bytes",
        "memory.max",
    ),
    (Layer::CgroupCpu, "cpu", "cpu.cfs_quota_us", "cpu.max"),
    (Layer::CgroupPids, "pids", "pids.max", "pids.max"),
];

/// Makes the node's folder wherever a controller is, and sees which of them work there.
fn hierarchies(places: &Places, name: &str) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = Vec::new();
    let unified = places.v2.as_deref().and_then(|own| make_unified(own, name));
    for (layer, controller, v1_file, v2_file) in CONTROLLERS {
        let (folder, unified, file) = match (places.v1(controller), &unified) {
            (Some(own), _) => (own.join(name), false, v1_file),
            (None, Some(folder)) => (folder.clone(), true, v2_file),
            (None, None) => continue,
        };
        if !make_folder(&folder) || !works(&folder, file) {
            continue;
        }
        match found.iter_mut().find(|one| one.folder == folder) {
            Some(one) => one.layers.push(layer),
            None => found.push(Hierarchy {
                folder,
                unified,
                layers: vec![layer],
            }),
        }
    }
    found
}

/// Whether cgroups in a folder have a file: tried with one of them, because the folder of a root
/// cgroup lacks files that those below have.
fn works(folder: &Path, file: &str) -> bool {
    let probe = folder.join("probe");
    let made = make_folder(&probe);
    let works = made && probe.join(file).exists();
    let _ = std::fs::remove_dir(&probe);
    works
}

/// The node's folder of version 2, with the controllers passed on to what is in it.
///
/// A cgroup passes controllers on only while no process is in it itself, so the node moves into one
/// of its own beside, if it is alone.
fn make_unified(own: &Path, name: &str) -> Option<PathBuf> {
    let own = unified_parent(own);
    let folder = own.join(name);
    let controllers = std::fs::read_to_string(own.join("cgroup.controllers")).ok()?;
    let wanted: Vec<String> = CONTROLLERS
        .iter()
        .map(|(_, controller, ..)| *controller)
        .filter(|wanted| controllers.split_whitespace().any(|one| one == *wanted))
        .map(|controller| format!("+{controller}"))
        .collect();
    if wanted.is_empty() {
        return None;
    }
    let wanted = wanted.join(" ");
    if write(own, "cgroup.subtree_control", &wanted).is_err() {
        let node = own.join(NODE);
        let alone = pids(own) == [std::process::id()];
        let moved = alone && make_folder(&node) && write(&node, "cgroup.procs", "0").is_ok();
        if !moved || write(own, "cgroup.subtree_control", &wanted).is_err() {
            return None;
        }
    }
    if !make_folder(&folder) || write(&folder, "cgroup.subtree_control", &wanted).is_err() {
        return None;
    }
    Some(folder)
}

/// The cgroup into which a node moves itself.
const NODE: &str = "node";

/// Where cgroups are made: where this process is, or above if it has moved itself already.
fn unified_parent(own: &Path) -> &Path {
    match own.parent() {
        Some(parent) if own.file_name().is_some_and(|name| name == NODE) => parent,
        _ => own,
    }
}

/// Every folder in which a node of this place makes its own.
fn parents(places: &Places) -> Vec<PathBuf> {
    let mut parents: Vec<PathBuf> = CONTROLLERS
        .iter()
        .filter_map(|(_, controller, ..)| places.v1(controller).map(Path::to_owned))
        .chain(
            places
                .v2
                .as_deref()
                .map(|own| unified_parent(own).to_owned()),
        )
        .collect();
    parents.sort();
    parents.dedup();
    parents
}

fn folder_name(tag: &str) -> Result<String, Error> {
    check_name(tag)?;
    Ok(format!("{PREFIX}{tag}"))
}

fn check_name(name: &str) -> Result<(), Error> {
    let good = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if (1..=128).contains(&name.len()) && name.chars().all(good) && !name.starts_with('.') {
        return Ok(());
    }
    let name = name.escape_debug();
    Err(Error::new(
        ErrorKind::Internal,
        format!("`{name}` is no name for a cgroup"),
    ))
}

fn refused(doing: &str, path: &Path, error: &io::Error) -> Error {
    let message = format!("{doing} cgroup `{}`: {error}", path.display());
    Error::new(ErrorKind::Internal, message)
}

fn make_folder(path: &Path) -> bool {
    match std::fs::create_dir(path) {
        Ok(()) => true,
        Err(error) => error.kind() == io::ErrorKind::AlreadyExists,
    }
}

fn write(folder: &Path, file: &str, value: &str) -> io::Result<()> {
    use std::io::Write as _;
    // Not created where it is not there, and written at once.
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .open(folder.join(file))?;
    file.write_all(value.as_bytes())
}

fn write_if_there(folder: &Path, file: &str, value: &str) -> io::Result<()> {
    match write(folder, file, value) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

fn pids(folder: &Path) -> Vec<u32> {
    let text = std::fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

/// Kills what is in a folder of ours, until it is empty or it was tried often enough.
fn kill(folder: &Path) {
    let ours = folder
        .parent()
        .and_then(Path::file_name)
        .is_some_and(|name| name.as_encoded_bytes().starts_with(PREFIX.as_bytes()));
    if !ours {
        return;
    }
    for _ in 0..KILLS_MAX {
        // Handles first and the list again after that: then a number that another process got
        // meanwhile is not mistaken for one of these.
        let mut handles: HashMap<u32, OwnedFd> = HashMap::new();
        for pid in pids(folder) {
            // 0 is a process that cannot be seen from here.
            if pid > 1
                && pid != std::process::id()
                && let Some(named) = i32::try_from(pid).ok().and_then(Pid::from_raw)
                && let Ok(handle) = rustix::process::pidfd_open(named, PidfdFlags::empty())
            {
                handles.insert(pid, handle);
            }
        }
        let still: Vec<OwnedFd> = pids(folder)
            .iter()
            .filter_map(|pid| handles.remove(pid))
            .collect();
        if still.is_empty() {
            return;
        }
        let _ = write_if_there(folder, "cgroup.kill", "1");
        for handle in &still {
            let _ = rustix::process::pidfd_send_signal(handle, Signal::KILL);
        }
        for handle in &still {
            let _ = poll(&mut [PollFd::new(handle, PollFlags::IN)], Some(&KILL_WAIT));
        }
    }
}

/// Kills what is in a folder and removes it.
fn sweep(folder: &Path) -> io::Result<()> {
    for _ in 1..REMOVALS_MAX {
        match std::fs::remove_dir(folder) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(_) => kill(folder),
        }
        std::thread::sleep(REMOVAL_PAUSE);
    }
    std::fs::remove_dir(folder)
}

/// The thread that removes folders. It ends when nobody can have any more of them.
#[derive(Debug)]
struct Sweeper {
    jobs: mpsc::Sender<Vec<PathBuf>>,
    thread: JoinHandle<()>,
}

impl Sweeper {
    fn start() -> Result<Self, Error> {
        let (jobs, to_do) = mpsc::channel::<Vec<PathBuf>>();
        let work = move || {
            for folder in to_do.into_iter().flatten() {
                if let Err(error) = sweep(&folder) {
                    tracing::warn!(folder = %folder.display(), %error, "a cgroup was not removed");
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name("cgroup-sweeper".to_owned())
            .spawn(work)
            .map_err(|error| Error::new(ErrorKind::Internal, format!("a thread: {error}")))?;
        Ok(Self { jobs, thread })
    }

    /// What dropped cgroups are given to: at most one message for each.
    fn jobs(&self) -> mpsc::Sender<Vec<PathBuf>> {
        self.jobs.clone()
    }

    fn finish(self) {
        drop(self.jobs);
        let _ = self.thread.join();
    }
}

#[cfg(test)]
mod tests;
