//! The first process of a sandbox: makes its roots ready, starts its programs, and says how they
//! ended.
//!
//! One loop, one request at a time. It keeps at most [`PROCESSES_MAX`] programs and [`ROOTS_MAX`]
//! roots, and ends when the node does.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};
use rustix::process::{Pid, WaitOptions};

use super::super::channel;
use super::super::kernel;
use super::super::message::{Build, Event, Failure, Program, Request};
use super::super::process::PROCESSES_MAX;
use super::super::root::{ROOTS_MAX, Root};
use super::super::tier::{Layer, Tier};
use super::launch::Common;
use super::network::Home;
use super::slot::{Made, Slot};
use super::{HOST, Left, Terms, build, slot};

/// The devices that programs have.
const DEVICES: [&str; 5] = ["null", "zero", "full", "random", "urandom"];

/// Links in `/dev`.
const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("shm", "/tmp"),
];

/// Serves the node until it has gone.
pub(super) fn run(node: OwnedFd, builder: OwnedFd, terms: &Terms, left: &Left) -> io::Result<()> {
    kernel::end_with_parent()?;
    let ended = kernel::child_signals()?;
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    let private = left.tier.has(Layer::PrivateRoot);
    if private {
        leave_host(left.tier.has(Layer::PidNamespace))?;
    }
    let ruleset = slot::any_ruleset();
    let (common, tier) = Common::new(terms.uid, left.unprivileged, ruleset.as_ref(), left.tier);
    drop(ruleset);
    let init = Init {
        node,
        builder,
        ended,
        common,
        home: Home::new(),
        private,
        pid_namespace: tier.has(Layer::PidNamespace),
        uts_namespace: tier.has(Layer::UtsNamespace),
        host_name: terms.name.clone(),
        roots: HashMap::new(),
        running: HashMap::new(),
        pids: HashMap::new(),
        used: Vec::new(),
    };
    init.serve(tier)
}

/// Makes what roots need of this mount namespace, and lets go of the host's files.
fn leave_host(pid_namespace: bool) -> io::Result<()> {
    kernel::unshare(libc::CLONE_NEWNS)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let mut mounted = Err(Errno::PERM);
    if pid_namespace {
        // Programs see only the processes that they could trace, and that is their own.
        for options in [Some(c"hidepid=2"), None] {
            mounted = rustix::mount::mount("proc", "/proc", "proc", flags, options);
            if mounted.is_ok() {
                break;
            }
        }
    }
    // Where a container hides parts of `/proc`, a whole one cannot be had; programs live without.
    let _ = mounted;

    let own = build::tmpfs(64 << 10, 64, "755")?;
    build::attach(own.as_fd(), Path::new("/dev"))?;
    for name in DEVICES {
        let target = Path::new("/dev").join(name);
        let source = Path::new(HOST).join("dev").join(name);
        std::fs::write(&target, "")?;
        let bound =
            build::clone_at(&source).and_then(|device| build::attach(device.as_fd(), &target));
        if bound.is_err() {
            // A container without this device has programs that live without it.
            std::fs::remove_file(&target)?;
        }
    }
    for (name, target) in LINKS {
        std::os::unix::fs::symlink(target, Path::new("/dev").join(name))?;
    }
    rustix::mount::mount_remount(
        "/dev",
        MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV,
        c"",
    )?;
    rustix::mount::unmount(HOST, UnmountFlags::DETACH)?;
    Ok(())
}

struct Init {
    node: OwnedFd,
    builder: OwnedFd,
    ended: OwnedFd,
    common: Common,
    home: Home,
    private: bool,
    pid_namespace: bool,
    uts_namespace: bool,
    host_name: String,
    roots: HashMap<u64, Made>,
    running: HashMap<u64, Running>,
    pids: HashMap<Pid, u64>,
    /// Slots that processes have left, with their roots.
    used: Vec<(u64, Slot)>,
}

struct Running {
    root: u64,
    slot: Slot,
    network: Option<OwnedFd>,
}

/// What a request gives back.
type Answer = Result<Vec<OwnedFd>, Failure>;

impl Init {
    fn serve(mut self, tier: Tier) -> io::Result<()> {
        self.tell(&Event::Ready { tier }, &[])?;
        let mut buffer = vec![0; channel::PACKET_BYTES_MAX];
        loop {
            let mut fds = [
                PollFd::new(&self.node, PollFlags::IN),
                PollFd::new(&self.ended, PollFlags::IN),
            ];
            let now = Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            };
            let wait = (!self.used.is_empty()).then_some(&now);
            match poll(&mut fds, wait) {
                Err(Errno::INTR) => continue,
                result => result?,
            };
            let [asked, ended] = fds.map(|fd| !fd.revents().is_empty());
            if ended {
                self.reap()?;
            }
            if asked {
                let Some((length, fds)) = channel::receive(self.node.as_fd(), &mut buffer)? else {
                    return Ok(());
                };
                let request = serde_json::from_slice(&buffer[..length])?;
                self.serve_one(request, &fds)?;
            }
            if !asked
                && !ended
                && let Some((root, slot)) = self.used.pop()
            {
                self.give_back(root, slot);
            }
        }
    }

    fn serve_one(&mut self, request: Request, fds: &[OwnedFd]) -> io::Result<()> {
        let (id, answer) = match request {
            Request::AddRoot { id, root } => (id, self.add_root(id, root)),
            Request::RemoveRoot { id, root } => {
                if let Some(made) = self.roots.remove(&root) {
                    made.remove();
                }
                (id, Ok(Vec::new()))
            }
            Request::Spawn { id, program } => (id, self.spawn(id, &program, fds)),
            Request::Connect { id, network, port } => {
                let connected = self
                    .network(network)
                    .and_then(|network| self.home.connect(network, port));
                (id, one(connected, "connecting"))
            }
            Request::Listen { id, network } => {
                let listening = self
                    .network(network)
                    .and_then(|network| self.home.listen(network));
                (id, one(listening, "listening"))
            }
            Request::Adopt {
                id,
                process,
                name,
                root,
            } => (id, self.adopt(id, process, name, root)),
        };
        let (failure, fds) = match answer {
            Ok(fds) => (None, fds),
            Err(failure) => (Some(failure), Vec::new()),
        };
        let fds: Vec<BorrowedFd<'_>> = fds.iter().map(|fd| fd.as_fd()).collect();
        self.tell(&Event::Done { id, failure }, &fds)
    }

    fn add_root(&mut self, id: u64, root: Root) -> Answer {
        if self.roots.len() >= ROOTS_MAX {
            return Err(full("adding a root"));
        }
        let tree = if self.private {
            Some(self.build(&root)?)
        } else {
            None
        };
        let made = Made::new(id, root, tree)?;
        self.roots.insert(id, made);
        Ok(Vec::new())
    }

    /// Becomes the sandbox of an app. Whatever is in the way, the sandbox is none of anybody's then,
    /// and the node ends it.
    fn adopt(&mut self, id: u64, process: u64, name: String, root: Root) -> Answer {
        let failed = |doing: &str, error: io::Error| Failure::new(doing, &error);
        if self.uts_namespace {
            rustix::system::sethostname(name.as_bytes())
                .map_err(|error| failed("taking a host name", error.into()))?;
        }
        self.host_name = name;
        let tmp_bytes = root.tmp_bytes;
        self.add_root(id, root)?;
        let (made, running) = (self.roots.get(&id), self.running.get(&process));
        let (Some(made), Some(running)) = (made, running) else {
            return Err(failed("finding a process", io::ErrorKind::NotFound.into()));
        };
        running
            .slot
            .adopt(made, tmp_bytes)
            .map_err(|error| failed("binding the code", error))?;
        Ok(Vec::new())
    }

    /// Asks the process that sees the host's files.
    fn build(&self, root: &Root) -> Result<OwnedFd, Failure> {
        let asked = || -> io::Result<Result<OwnedFd, Failure>> {
            let build = serde_json::to_vec(&Build {
                root: root.clone(),
                host_name: self.host_name.clone(),
            })?;
            channel::send(self.builder.as_fd(), &build, &[])?;
            let mut buffer = vec![0; channel::PACKET_BYTES_MAX];
            let (length, fds) = channel::receive(self.builder.as_fd(), &mut buffer)?
                .ok_or(io::ErrorKind::UnexpectedEof)?;
            let failure: Option<Failure> = serde_json::from_slice(&buffer[..length])?;
            Ok(match (failure, fds.into_iter().next()) {
                (Some(failure), _) => Err(failure),
                (None, Some(tree)) => Ok(tree),
                (None, None) => return Err(io::ErrorKind::InvalidData.into()),
            })
        };
        asked().map_err(|error| Failure::new("asking for a root", &error))?
    }

    fn spawn(&mut self, id: u64, program: &Program, fds: &[OwnedFd]) -> Answer {
        if self.running.len() >= PROCESSES_MAX {
            return Err(full("starting a process"));
        }
        let made = self.roots.get_mut(&program.root).ok_or_else(|| Failure {
            doing: format!("finding root {}", program.root),
            errno: libc::ENOENT,
        })?;
        if made.is_exhausted()
            && let Some(left) = self.used.iter().position(|(root, _)| *root == program.root)
        {
            let (_, slot) = self.used.swap_remove(left);
            made.give_back(slot);
        }
        let slot = made.slot()?;
        let started = match self.common.start(program, &slot, fds, &self.home) {
            Ok(started) => started,
            Err(failure) => {
                self.used.push((program.root, slot));
                return Err(failure);
            }
        };
        self.pids.insert(started.pid, id);
        self.running.insert(
            id,
            Running {
                root: program.root,
                slot,
                network: started.network,
            },
        );
        Ok(vec![started.pidfd, started.report])
    }

    /// The network of a process; nothing for that of the app.
    fn network(&self, id: u64) -> io::Result<Option<&OwnedFd>> {
        if id == 0 {
            return Ok(None);
        }
        let running = self.running.get(&id);
        let network = running.and_then(|running| running.network.as_ref());
        Ok(Some(
            network.ok_or(io::Error::from_raw_os_error(libc::ENETDOWN))?,
        ))
    }

    fn reap(&mut self) -> io::Result<()> {
        let mut signals = [0; 512];
        while rustix::io::read(&self.ended, &mut signals).is_ok() {}
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            // Others are what a process without a pid namespace left behind.
            let Some(id) = self.pids.remove(&pid) else {
                continue;
            };
            if !self.pid_namespace {
                let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
            }
            let status = status.as_raw();
            self.tell(&Event::Exited { id, status }, &[])?;
            if let Some(running) = self.running.remove(&id) {
                self.used.push((running.root, running.slot));
            }
        }
        Ok(())
    }

    fn give_back(&mut self, root: u64, slot: Slot) {
        match self.roots.get_mut(&root) {
            Some(made) => made.give_back(slot),
            None => slot.remove(),
        }
    }

    fn tell(&self, event: &Event, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let bytes = serde_json::to_vec(event)?;
        channel::send(self.node.as_fd(), &bytes, fds)?;
        Ok(())
    }
}

fn one(fd: io::Result<OwnedFd>, doing: &str) -> Answer {
    match fd {
        Ok(fd) => Ok(vec![fd]),
        Err(error) => Err(Failure::new(doing, &error)),
    }
}

fn full(doing: &str) -> Failure {
    Failure {
        doing: doing.to_owned(),
        errno: libc::EAGAIN,
    }
}
