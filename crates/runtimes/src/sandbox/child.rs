//! The two processes of a sandbox that run this program, before and beside the functions.
//!
//! The **outer** process makes the namespaces and forks once: the first process of a new pid
//! namespace is its child, the **init** process. Init lets go of the host's files and starts the
//! functions; the outer process keeps them in sight, but runs nothing: it builds roots for init, and
//! waits. When the node's end of the socket is closed, however that came about, the outer process
//! kills init, and with its first process the kernel ends everything in a pid namespace: processes,
//! mounts and network.
//!
//! Both are single-threaded and use no async runtime, so forking is safe.

mod build;
mod filter;
mod init;
mod launch;
mod network;
mod slot;
mod tree;

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{MountPropagationFlags, UnmountFlags};
use rustix::process::{Pid, Resource, Signal, WaitOptions};

use super::channel;
use super::kernel::{self, Fork};
use super::message::{Build, Failure};
use super::tier::{Layer, Tier};
use build::Builder;

/// Where the host's files are after the roots were changed.
const HOST: &str = "/host";

/// Where roots are built.
const SITE: &str = "/build";

/// How much rather the kernel should end a function than anything else when the machine's memory is
/// used up; of 1000.
const OOM_SCORE: &str = "300";

/// What both processes are told.
#[derive(Debug)]
struct Terms {
    name: String,
    uid: u32,
}

/// The namespaces that could be left.
#[derive(Debug)]
struct Left {
    tier: Tier,
    /// Whether this took a user namespace, in which the node's user is the only one.
    unprivileged: bool,
}

/// Runs the sandbox whose node holds the other end of standard input. Never returns before the
/// sandbox has ended; the result is an exit code.
pub(super) fn run(arguments: &[OsString]) -> u8 {
    let Some(terms) = terms(arguments) else {
        return 2;
    };
    match outer(&terms) {
        Ok(()) => 0,
        // The node sees that the socket is closed; there is nobody else to tell.
        Err(_) => 1,
    }
}

fn terms(arguments: &[OsString]) -> Option<Terms> {
    let [name, uid] = arguments else {
        return None;
    };
    Some(Terms {
        name: name.to_str()?.to_owned(),
        uid: uid.to_str()?.parse().ok()?,
    })
}

fn outer(terms: &Terms) -> io::Result<()> {
    kernel::default_signals();
    let node = take_standard_input()?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    raise_files_limit();
    // Where this is denied, functions are as likely to be ended as the node.
    let _ = std::fs::write("/proc/self/oom_score_adj", OOM_SCORE);

    let mut left = leave_namespaces(&terms.name);
    let private = left.tier.has(Layer::MountNamespace) && change_root().is_ok();
    left.tier = left.tier.with(Layer::PrivateRoot, private);
    let (ours, inits) = channel::pair()?;
    // Functions whose init is not the first of a pid namespace are at least its descendants.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    match kernel::fork(0)? {
        Fork::Child => {
            drop(ours);
            let code = match init::run(node, inits, terms, &left) {
                Ok(()) => 0,
                Err(_) => 1,
            };
            kernel::exit(code)
        }
        Fork::Parent { pid, pidfd } => {
            drop(inits);
            let builder = private
                .then(|| Builder::new(Path::new(HOST), Path::new(SITE)))
                .transpose()?;
            let watched = watch(&node, &ours, &pidfd, builder.as_ref());
            let _ = rustix::process::pidfd_send_signal(&pidfd, Signal::KILL);
            reap(pid);
            watched
        }
    }
}

/// Moves the node's socket out of the way of the standard descriptors, which lead nowhere from then
/// on; standard error is kept for panics.
fn take_standard_input() -> io::Result<OwnedFd> {
    let standard_input = io::stdin();
    let node = rustix::io::fcntl_dupfd_cloexec(standard_input.as_fd(), 3)?;
    let nowhere = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    rustix::stdio::dup2_stdin(&nowhere)?;
    rustix::stdio::dup2_stdout(&nowhere)?;
    Ok(node)
}

/// Every program that runs takes some descriptors of init, and gets a limit of its own.
fn raise_files_limit() {
    let mut limit = rustix::process::getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Fails only where it was the highest already.
    let _ = rustix::process::setrlimit(Resource::Nofile, limit);
}

/// Leaves every namespace that can be left; the pid namespace is new for children only.
fn leave_namespaces(name: &str) -> Left {
    let mut unprivileged = false;
    let uid = rustix::process::geteuid().as_raw();
    let gid = rustix::process::getegid().as_raw();
    if kernel::unshare(libc::CLONE_NEWNS).is_err() {
        // Not privileged: as root of a new user namespace it may be.
        unprivileged = kernel::unshare(libc::CLONE_NEWUSER).is_ok()
            && std::fs::write("/proc/self/setgroups", "deny").is_ok()
            && std::fs::write("/proc/self/uid_map", format!("0 {uid} 1")).is_ok()
            && std::fs::write("/proc/self/gid_map", format!("0 {gid} 1")).is_ok();
        if !unprivileged || kernel::unshare(libc::CLONE_NEWNS).is_err() {
            let tier = Tier::default();
            return Left { tier, unprivileged };
        }
    }
    let others = [
        (Layer::PidNamespace, libc::CLONE_NEWPID),
        (Layer::IpcNamespace, libc::CLONE_NEWIPC),
        (Layer::UtsNamespace, libc::CLONE_NEWUTS),
        (Layer::NetworkNamespace, libc::CLONE_NEWNET),
    ];
    let mut tier = Tier::of(&[Layer::MountNamespace]);
    for (layer, flag) in others {
        tier = tier.with(layer, kernel::unshare(flag).is_ok());
    }
    if tier.has(Layer::UtsNamespace) {
        let _ = rustix::system::sethostname(name.as_bytes());
    }
    // Without its interface up, a namespace has no network at all, not even the node's way in.
    let up = tier.has(Layer::NetworkNamespace) && kernel::loopback_up().is_ok();
    tier = tier.with(Layer::NetworkNamespace, up);
    Left { tier, unprivileged }
}

/// Makes a small file system in memory the root of this mount namespace, with the host's below it.
fn change_root() -> io::Result<()> {
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", private)?;
    // Any folder that is sure to exist; the mount is moved away from it.
    let place = Path::new("/proc");
    let own = build::tmpfs(8 << 20, 65_536, "755")?;
    build::attach(own.as_fd(), place)?;
    for folder in [HOST, SITE, "/proc", "/dev", "/roots"] {
        rustix::fs::mkdir(
            place.join(folder.trim_start_matches('/')),
            Mode::from_raw_mode(0o755),
        )?;
    }
    rustix::process::chdir(place)?;
    if let Err(error) = rustix::process::pivot_root(".", HOST.trim_start_matches('/')) {
        rustix::process::chdir("/")?;
        let _ = rustix::mount::unmount(place, UnmountFlags::DETACH);
        return Err(error.into());
    }
    rustix::process::chdir("/")?;
    Ok(())
}

/// Builds roots for init until it or the node has gone.
fn watch(
    node: &OwnedFd,
    init: &OwnedFd,
    pidfd: &OwnedFd,
    builder: Option<&Builder>,
) -> io::Result<()> {
    let mut buffer = vec![0; channel::PACKET_BYTES_MAX];
    loop {
        let mut fds = [
            PollFd::new(node, PollFlags::empty()),
            PollFd::new(pidfd, PollFlags::IN),
            PollFd::new(init, PollFlags::IN),
        ];
        match poll(&mut fds, None) {
            Err(rustix::io::Errno::INTR) => continue,
            result => result?,
        };
        let [node_gone, init_ended, asked] = fds.map(|fd| !fd.revents().is_empty());
        if node_gone || init_ended {
            return Ok(());
        }
        if !asked {
            continue;
        }
        let Some((length, _)) = channel::receive(init.as_fd(), &mut buffer)? else {
            return Ok(());
        };
        let build: Build = serde_json::from_slice(&buffer[..length])?;
        let built = match builder {
            Some(builder) => builder.build(&build.root, &build.host_name),
            None => Err(Failure {
                doing: "building a root".to_owned(),
                errno: libc::ENOSYS,
            }),
        };
        let tree = built.as_ref().ok().map(|tree| tree.as_fd());
        let answer = serde_json::to_vec(&built.as_ref().err())?;
        channel::send(init.as_fd(), &answer, tree.as_slice())?;
    }
}

/// Waits for init, and for whatever it left behind where there is no pid namespace.
fn reap(init: Pid) {
    while let Err(rustix::io::Errno::INTR) =
        rustix::process::waitpid(Some(init), WaitOptions::empty())
    {}
    // Killing the children makes their children ours, until there are none.
    loop {
        let children = std::fs::read_to_string(format!(
            "{HOST}/proc/{0}/task/{0}/children",
            rustix::process::getpid().as_raw_nonzero()
        ))
        .or_else(|_| std::fs::read_to_string("/proc/thread-self/children"))
        .unwrap_or_default();
        let children: Vec<Pid> = children
            .split_whitespace()
            .filter_map(|pid| Pid::from_raw(pid.parse().ok()?))
            .collect();
        if children.is_empty() {
            return;
        }
        for child in children {
            let _ = rustix::process::kill_process(child, Signal::KILL);
            let _ = rustix::process::waitpid(Some(child), WaitOptions::empty());
        }
    }
}

/// Opens a file of this process's view for reading only, closed by `exec`.
fn open(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::openat(
        CWD,
        path,
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )?)
}
