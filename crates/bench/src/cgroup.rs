//! A cgroup for a node and all that it starts: a small board on a large machine.
//!
//! Only the memory and processor controllers of cgroup v1 are used: of v2, a cgroup cannot hold processes and pass its
//! controllers on. Dropping it removes it together with what nodes that ended have left below it; what a program that
//! was killed has left is removed by the next.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

const ROOT: &str = "/sys/fs/cgroup/memory";
const CPU_ROOT: &str = "/sys/fs/cgroup/cpu";
/// How folders begin; the rest is the id of the process that made them, and a name.
const PREFIX: &str = "mote-bench-";
/// Of the processors' time, in which a quota is used up.
const PERIOD_US: f64 = 100_000.0;
/// The folder of all controllers.
const CONTROLLERS: &str = "/sys/fs/cgroup";
/// The kernel lets go of a cgroup some time after its last process.
const REMOVALS_MAX: u32 = 100;
const REMOVAL_PAUSE: Duration = Duration::from_millis(50);

/// What the processes of a cgroup may use together.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) memory_bytes: Option<u64>,
    /// Processors, such as 1.5.
    pub(crate) cpus: Option<f64>,
}

/// Below the cgroup of this program.
#[derive(Debug)]
pub(crate) struct Cgroup {
    folder: PathBuf,
    /// Of the processor controller, when processors are limited.
    cpu: Option<PathBuf>,
    /// A container engine makes folders of the same name for every other controller, and leaves them. Here is what
    /// was not there before, from the innermost outwards, for each controller.
    elsewhere: Vec<Vec<PathBuf>>,
}

impl Cgroup {
    /// With these limits, and no swap. Fails where this system has no such cgroup, or this user may not make one.
    pub(crate) fn new(name: &str, limits: Limits) -> Result<Self> {
        let own = fs::read_to_string("/proc/self/cgroup")?;
        let path = |controller| {
            let path = controller_path(&own, controller);
            path.with_context(|| format!("this system has no {controller} controller of cgroup v1"))
        };
        let parent = Path::new(ROOT).join(path("memory")?.trim_start_matches('/'));
        clear(&parent);
        let name = format!("{PREFIX}{}-{name}", std::process::id());
        let folder = parent.join(&name);
        fs::create_dir(&folder)
            .with_context(|| format!("cannot make the cgroup {}", folder.display()))?;
        let mut cgroup = Self {
            elsewhere: missing_elsewhere(&folder),
            folder,
            cpu: None,
        };
        if let Some(bytes) = limits.memory_bytes {
            fs::write(cgroup.file("limit_in_bytes"), bytes.to_string())
                .context("cannot limit the memory of a cgroup")?;
            // Not there when the kernel does not count swap.
            let _without_swap = fs::write(cgroup.file("memsw.limit_in_bytes"), bytes.to_string());
        }
        if let Some(cpus) = limits.cpus {
            let parent = Path::new(CPU_ROOT).join(path("cpu")?.trim_start_matches('/'));
            clear(&parent);
            let folder = parent.join(&name);
            fs::create_dir(&folder)
                .with_context(|| format!("cannot make the cgroup {}", folder.display()))?;
            let quota = format!("{:.0}", cpus * PERIOD_US);
            cgroup.cpu = Some(folder.clone());
            fs::write(folder.join("cpu.cfs_quota_us"), quota)
                .context("cannot limit the processors of a cgroup")?;
        }
        Ok(cgroup)
    }

    /// A process that writes its id to these files is in the cgroup.
    pub(crate) fn entries(&self) -> Vec<PathBuf> {
        let folders = [Some(&self.folder), self.cpu.as_ref()]
            .into_iter()
            .flatten();
        folders.map(|folder| folder.join("cgroup.procs")).collect()
    }

    /// Its name for a container engine.
    pub(crate) fn name(&self) -> String {
        let below = self.folder.strip_prefix(ROOT).unwrap_or(&self.folder);
        format!("/{}", below.display())
    }

    /// The most memory that was in use, in MB: caches of files included, which the kernel takes back when it must.
    pub(crate) fn peak_mb(&self) -> Result<f64> {
        let text = fs::read_to_string(self.file("max_usage_in_bytes"))?;
        let bytes: f64 = text.trim().parse()?;
        Ok(bytes / 1e6)
    }

    /// Processes that were killed because the memory was used up, in it and below it.
    pub(crate) fn killed(&self) -> u64 {
        let counts = self.folders().into_iter().map(|folder| {
            // One that an instance had may go at any time; the node counts how its instances ended.
            let text = fs::read_to_string(folder.join("memory.oom_control"));
            text.map_or(0, |text| oom_kills(&text).unwrap_or(0))
        });
        counts.sum()
    }

    /// How many processes are in it and below it.
    pub(crate) fn processes(&self) -> usize {
        let counts = self.folders().into_iter().map(|folder| {
            let text = fs::read_to_string(folder.join("cgroup.procs"));
            text.map_or(0, |text| text.lines().count())
        });
        counts.sum()
    }

    /// Ends what is in it still although whoever started it has ended.
    fn end_processes(&self) {
        for folder in self.folders() {
            let text = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
            for pid in text.lines().filter_map(|line| line.parse().ok()) {
                if let Some(pid) = rustix::process::Pid::from_raw(pid) {
                    // One that has ended meanwhile is what was asked for.
                    let _ended = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
                }
            }
        }
    }

    /// Itself and all below it.
    fn folders(&self) -> Vec<PathBuf> {
        let mut folders = vec![self.folder.clone()];
        let mut visited = 0;
        while let Some(folder) = folders.get(visited) {
            let children = below(folder);
            visited += 1;
            folders.extend(children);
        }
        folders
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(format!("memory.{name}"))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        for attempt in 0..REMOVALS_MAX {
            if attempt == REMOVALS_MAX / 2 {
                self.end_processes();
            }
            remove(&self.folder);
            if let Some(folder) = &self.cpu {
                remove(folder);
            }
            for folders in &self.elsewhere {
                let Some((own, above)) = folders.split_first() else {
                    continue;
                };
                remove(own);
                for folder in above {
                    // One that somebody else uses by now stays.
                    let _removed = fs::remove_dir(folder);
                }
            }
            let mut own = self.elsewhere.iter().filter_map(|folders| folders.first());
            let mut made = [Some(&self.folder), self.cpu.as_ref()]
                .into_iter()
                .flatten();
            if made.all(|folder| !folder.exists()) && own.all(|folder| !folder.exists()) {
                return;
            }
            thread::sleep(REMOVAL_PAUSE);
        }
    }
}

/// From the innermost outwards; what still has a process stays.
fn remove(folder: &Path) {
    for child in below(folder) {
        remove(&child);
    }
    let _removed = fs::remove_dir(folder);
}

fn missing_elsewhere(folder: &Path) -> Vec<Vec<PathBuf>> {
    let Ok(name) = folder.strip_prefix(ROOT) else {
        return Vec::new();
    };
    let controllers = below(Path::new(CONTROLLERS));
    let others = controllers
        .into_iter()
        .filter(|path| path != Path::new(ROOT));
    let chain = |controller: PathBuf| {
        let whole = controller.join(name);
        let missing = whole.ancestors().take_while(|path| !path.exists());
        missing.map(Path::to_owned).collect()
    };
    others.map(chain).collect()
}

fn below(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

/// Removes what earlier runs have left that were killed.
fn clear(parent: &Path) {
    for folder in below(parent) {
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        let process = name
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split('-').next());
        let alive = |process: &str| Path::new("/proc").join(process).exists();
        if process.is_some_and(|process| !alive(process)) {
            remove(&folder);
        }
    }
}

/// The path of a controller in `/proc/PID/cgroup`, whose lines are `ID:CONTROLLERS:PATH`.
fn controller_path<'a>(text: &'a str, controller: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':');
        let controllers = fields.nth(1)?;
        let path = fields.next()?;
        controllers
            .split(',')
            .any(|name| name == controller)
            .then_some(path)
    })
}

/// The count in `memory.oom_control`; kernels before 4.13 have none.
fn oom_kills(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
    line?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_memory_controller_and_what_it_killed() {
        let own = "5:cpu,memory:/a:b\n4:memoryless:/x\n0::/\n";
        assert_eq!(controller_path(own, "memory"), Some("/a:b"));
        assert_eq!(controller_path("0::/user.slice\n", "memory"), None);
        let text = "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n";
        assert_eq!(oom_kills(text), Some(3));
        assert_eq!(oom_kills("under_oom 0\n"), None);
    }
}
