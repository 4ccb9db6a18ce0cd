//! Starts a program: everything between the fork and the `exec`.
//!
//! Whatever needs memory or can be refused is done before the fork. After it the new process takes
//! its cgroup, root, user and files, gives up everything else, and becomes the program; if one step
//! fails it writes that into a pipe that the node reads, and ends. The pipe's other end is closed by
//! `exec`, so that an empty pipe means success.

use std::ffi::{CString, c_int};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};

use libc::sock_filter;
use rustix::io::Errno;
use rustix::pipe::PipeFlags;
use rustix::process::{Gid, Pid, Resource, Rlimit, Signal, Uid, WaitOptions};
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::super::kernel::{self, Fork, Words};
use super::super::message::{Failure, Program, Step};
use super::super::tier::{Layer, Tier};
use super::network::Home;
use super::slot::Slot;

/// The user that a program is, as it sees itself.
const INNER_ID: u32 = 1000;

/// Where programs without a path are looked for when there is no `PATH`.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// Most folders of `PATH` that are looked at.
const PATH_FOLDERS_MAX: usize = 64;

/// From here on up descriptors are kept while the final ones are laid out; above all that a message
/// carries.
const ASIDE: c_int = 256;

/// The end of the table of capabilities; the kernel refuses what it does not know.
const CAPABILITIES_MAX: u64 = 64;

/// What all programs of a sandbox have in common.
#[derive(Debug)]
pub(super) struct Common {
    user: User,
    filter: Option<Vec<sock_filter>>,
    pid_namespace: bool,
}

/// Who a program runs as.
#[derive(Debug)]
enum User {
    /// A user of this namespace; `groups`: whether it can give up the node's groups.
    Inner { namespace: OwnedFd, groups: bool },
    /// Another user of the host.
    Other(u32),
    /// The node's own.
    Same,
}

/// A program that was started, or is about to be.
#[derive(Debug)]
pub(super) struct Started {
    pub(super) pid: Pid,
    pub(super) pidfd: OwnedFd,
    /// Says why it was not, in the end.
    pub(super) report: OwnedFd,
    /// Its own network, if it has one.
    pub(super) network: Option<OwnedFd>,
}

impl Common {
    /// Finds out what can be had, and adds it to the tier. `restricts_paths`: whether there will be
    /// rules for Landlock.
    pub(super) fn new(
        uid: u32,
        unprivileged: bool,
        restricts_paths: Option<&OwnedFd>,
        tier: Tier,
    ) -> (Self, Tier) {
        let outer_id = if unprivileged { 0 } else { uid };
        let root = rustix::process::geteuid().is_root();
        let user = match user_namespace(outer_id) {
            Ok(namespace) => User::Inner {
                namespace,
                groups: !unprivileged,
            },
            Err(_) if root && !unprivileged => User::Other(uid),
            Err(_) => User::Same,
        };
        let mut common = Self {
            user,
            filter: filter_or_none(),
            pid_namespace: tier.has(Layer::PidNamespace),
        };
        let probed = common.probe(restricts_paths);
        if !probed.has(Layer::Seccomp) {
            common.filter = None;
        }
        if !probed.has(Layer::UserNamespace) {
            common.user = if root && !unprivileged {
                User::Other(uid)
            } else {
                User::Same
            };
        }
        (common, tier.and(probed))
    }

    /// Tries the layers that a process takes by itself, in one that ends at once.
    fn probe(&self, ruleset: Option<&OwnedFd>) -> Tier {
        let layers = [
            Layer::UserNamespace,
            Layer::NoNewPrivileges,
            Layer::Landlock,
            Layer::Seccomp,
        ];
        let pid = match kernel::fork(0) {
            Ok(Fork::Parent { pid, .. }) => pid,
            Ok(Fork::Child) => kernel::exit(self.try_layers(ruleset)),
            Err(_) => return Tier::default(),
        };
        let status = rustix::process::waitpid(Some(pid), WaitOptions::empty());
        let bits = match status {
            Ok(Some((_, status))) => status.exit_status().unwrap_or(0),
            _ => 0,
        };
        layers
            .iter()
            .enumerate()
            .fold(Tier::default(), |tier, (index, layer)| {
                tier.with(*layer, bits >> index & 1 != 0)
            })
    }

    /// In a process of its own: which of those layers could be taken, as bits.
    fn try_layers(&self, ruleset: Option<&OwnedFd>) -> c_int {
        let user = matches!(self.user, User::Inner { .. }) && self.user.become_it().is_ok();
        let rights = rustix::thread::set_no_new_privs(true).is_ok();
        let paths = ruleset.is_some_and(|ruleset| kernel::restrict_paths(ruleset.as_fd()).is_ok());
        let filter = self.filter.as_ref();
        let calls = filter.is_some_and(|filter| kernel::restrict_calls(filter).is_ok());
        [user, rights, paths, calls]
            .iter()
            .rev()
            .fold(0, |bits, had| bits << 1 | c_int::from(*had))
    }

    /// Starts a program. `fds` are standard input, output and error, the extra ones, and the
    /// files of cgroups to join.
    pub(super) fn start(
        &self,
        program: &Program,
        slot: &Slot,
        fds: &[OwnedFd],
        home: &Home,
    ) -> Result<Started, Failure> {
        let failed = |doing: &str, error: io::Error| Failure::new(doing, &error);
        let kept = 3 + program.extra;
        if fds.len() < kept {
            return Err(failed(
                "taking its files",
                io::ErrorKind::InvalidInput.into(),
            ));
        }
        let (files, cgroups) = fds.split_at(kept);
        let (report, failures) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)
            .map_err(|error| failed("making a pipe", error.into()))?;
        let plan = Plan::new(self, program, slot, files, cgroups)
            .map_err(|error| failed("reading its command", error))?;
        let flags = if self.pid_namespace {
            libc::CLONE_NEWPID
        } else {
            0
        };
        let fork = || -> io::Result<(Pid, OwnedFd)> {
            match kernel::fork(flags)? {
                Fork::Parent { pid, pidfd } => Ok((pid, pidfd)),
                Fork::Child => plan.become_it(&failures),
            }
        };
        let forked = if program.own_network {
            home.in_new(fork)
                .map(|(forked, network)| (forked, Some(network)))
        } else {
            fork().map(|forked| (forked, None))
        };
        let ((pid, pidfd), network) = forked.map_err(|error| failed("forking", error))?;
        Ok(Started {
            pid,
            pidfd,
            report,
            network,
        })
    }
}

impl User {
    /// Becomes this user, in the process that calls it.
    fn become_it(&self) -> io::Result<()> {
        let id = match self {
            Self::Inner { namespace, groups } => {
                kernel::join(namespace.as_fd(), libc::CLONE_NEWUSER)?;
                if *groups {
                    rustix::thread::set_thread_groups(&[])?;
                }
                INNER_ID
            }
            Self::Other(id) => {
                rustix::thread::set_thread_groups(&[])?;
                *id
            }
            Self::Same => return Ok(()),
        };
        let (uid, gid) = (Uid::from_raw(id), Gid::from_raw(id));
        rustix::thread::set_thread_res_gid(gid, gid, gid)?;
        rustix::thread::set_thread_res_uid(uid, uid, uid)?;
        Ok(())
    }
}

/// A user namespace in which [`INNER_ID`] is this user of the one around it. It lives as long as the
/// descriptor; joining it later costs a program far less than making its own.
fn user_namespace(outer_id: u32) -> io::Result<OwnedFd> {
    let Fork::Parent { pid, pidfd } = kernel::fork(libc::CLONE_NEWUSER)? else {
        // Only something to write the maps of; ended below, or with its parent.
        let _ = kernel::end_with_parent();
        loop {
            let _ = rustix::event::poll(&mut [], None);
        }
    };
    let of = |file: &str| format!("/proc/{}/{file}", pid.as_raw_nonzero());
    let map = format!("{INNER_ID} {outer_id} 1");
    let namespace = std::fs::write(of("uid_map"), &map)
        .and_then(|()| std::fs::write(of("gid_map"), &map))
        .and_then(|()| super::open(of("ns/user").as_ref()));
    let _ = rustix::process::pidfd_send_signal(&pidfd, Signal::KILL);
    let _ = rustix::process::waitpid(Some(pid), WaitOptions::empty());
    namespace
}

fn filter_or_none() -> Option<Vec<sock_filter>> {
    super::filter::compile().ok()
}

/// All that a new process needs, laid out before it exists.
struct Plan<'a> {
    common: &'a Common,
    slot: &'a Slot,
    files: &'a [OwnedFd],
    cgroups: &'a [OwnedFd],
    /// Where the program may be, in the order to try.
    programs: Vec<CString>,
    arguments: Words,
    environment: Words,
    directory: CString,
    cpu_seconds: Option<u64>,
    files_max: u64,
}

impl<'a> Plan<'a> {
    fn new(
        common: &'a Common,
        program: &Program,
        slot: &'a Slot,
        files: &'a [OwnedFd],
        cgroups: &'a [OwnedFd],
    ) -> io::Result<Self> {
        let name = program.command.first().ok_or(io::ErrorKind::InvalidInput)?;
        let programs: Vec<String> = if name.contains('/') {
            vec![name.clone()]
        } else {
            let path = program.env.iter().find(|(key, _)| key == "PATH");
            path.map_or(PATH, |(_, value)| value)
                .split(':')
                .filter(|folder| !folder.is_empty())
                .take(PATH_FOLDERS_MAX)
                .map(|folder| format!("{folder}/{name}"))
                .collect()
        };
        let environment = program
            .env
            .iter()
            .map(|(key, value)| format!("{key}={value}"));
        let c_strings = |strings: &mut dyn Iterator<Item = String>| -> io::Result<Vec<CString>> {
            strings.map(|string| Ok(CString::new(string)?)).collect()
        };
        Ok(Self {
            common,
            slot,
            files,
            cgroups,
            programs: c_strings(&mut programs.into_iter())?,
            arguments: Words::new(c_strings(&mut program.command.iter().cloned())?),
            environment: Words::new(c_strings(&mut { environment })?),
            directory: CString::new(program.directory.as_str())?,
            cpu_seconds: program.cpu_seconds,
            files_max: program.files,
        })
    }

    /// In the new process: becomes the program, or says why not and ends.
    fn become_it(&self, failures: &OwnedFd) -> ! {
        let (step, error, pipe) = match self.take_place(failures) {
            Err((step, error)) => (step, error, failures.as_raw_fd()),
            Ok(()) => {
                let (step, error) = self.exec();
                (step, error, self.pipe())
            }
        };
        let errno = error.raw_os_error().unwrap_or(libc::EIO);
        kernel::write(pipe, &step.report(errno));
        kernel::exit(127)
    }

    /// Where the pipe is once the files are laid out: behind the last of them.
    fn pipe(&self) -> c_int {
        c_int::try_from(self.files.len()).expect("a message carries few descriptors")
    }

    fn take_place(&self, failures: &OwnedFd) -> Result<(), (Step, io::Error)> {
        fn at<E: Into<io::Error>>(step: Step) -> impl Fn(E) -> (Step, io::Error) {
            move |error| (step, error.into())
        }
        for cgroup in self.cgroups {
            rustix::io::write(cgroup, b"0").map_err(at(Step::Cgroup))?;
        }
        rustix::process::setsid().map_err(at(Step::Session))?;
        if !self.common.pid_namespace {
            kernel::end_with_parent().map_err(at(Step::Session))?;
        }
        if let Some(folder) = &self.slot.folder {
            rustix::process::fchdir(folder).map_err(at(Step::Root))?;
            rustix::process::chroot(".").map_err(at(Step::Root))?;
        }
        self.common.user.become_it().map_err(at(Step::User))?;
        if !self.common.pid_namespace {
            // Becoming another user had cleared it.
            kernel::end_with_parent().map_err(at(Step::Session))?;
        }
        rustix::process::chdir(self.directory.as_c_str()).map_err(at(Step::Directory))?;
        let _ = rustix::thread::set_no_new_privs(true);
        if let Some(ruleset) = &self.slot.ruleset {
            kernel::restrict_paths(ruleset.as_fd()).map_err(at(Step::Landlock))?;
        }
        give_up_rights().map_err(at(Step::Rights))?;
        self.lay_out_files(failures).map_err(at(Step::Files))
    }

    /// Puts the files at 0, 1, 2 and on, the pipe behind them, and closes everything else.
    fn lay_out_files(&self, failures: &OwnedFd) -> io::Result<()> {
        // None of the sources may be in the way of a target, so all of them go aside first.
        let all = self.files.iter().chain([failures]);
        let mut aside = [-1; super::super::channel::FDS_MAX + 1];
        for (file, aside) in all.clone().zip(&mut aside) {
            *aside = kernel::place_above(file.as_fd(), ASIDE)?;
        }
        for (target, aside) in (0..=self.pipe()).zip(aside) {
            kernel::place(aside, target)?;
        }
        kernel::close_on_exec(self.pipe())?;
        kernel::close_range(self.pipe() + 1, c_int::MAX)
    }

    /// Limits, the filter, and the program; returns why it could not be run.
    fn exec(&self) -> (Step, io::Error) {
        let limit = |resource, value| {
            let limit = Rlimit {
                current: Some(value),
                maximum: Some(value),
            };
            rustix::process::setrlimit(resource, limit)
        };
        // Lowering a limit is always allowed; where the node's own is lower, that holds.
        let _ = limit(Resource::Core, 0);
        // A call that arrives must not push the node off the processor before it has sent the others
        // that wait. It costs the program none of its share, and is no protection, so that a kernel
        // without it will do.
        let _ = kernel::make_batch(None);
        let _ = limit(Resource::Nofile, self.files_max);
        if let Some(seconds) = self.cpu_seconds {
            // Both limits are the same, because the first process of a pid namespace ignores what
            // comes before the kill.
            if let Err(error) = limit(Resource::Cpu, seconds) {
                return (Step::Rights, error.into());
            }
        }
        if let Some(filter) = &self.common.filter
            && let Err(error) = kernel::restrict_calls(filter)
        {
            return (Step::Seccomp, error);
        }
        kernel::unblock_signals();

        let mut worst = (Step::Program, io::Error::from_raw_os_error(libc::ENOENT));
        for program in &self.programs {
            let error = kernel::exec(program, &self.arguments, &self.environment);
            match error.raw_os_error() {
                Some(libc::ENOENT) => {
                    let exists =
                        rustix::fs::access(program.as_c_str(), rustix::fs::Access::EXISTS).is_ok();
                    if exists {
                        return (Step::Interpreter, error);
                    }
                }
                Some(libc::ENOTDIR) => {}
                // Another folder may have one that may be run.
                Some(libc::EACCES) => worst = (Step::Program, error),
                _ => return (Step::Program, error),
            }
        }
        worst
    }
}

/// Drops every capability from every set.
fn give_up_rights() -> io::Result<()> {
    let mut bit = 1;
    for _ in 0..CAPABILITIES_MAX {
        let one = CapabilitySet::from_bits_retain(bit);
        match rustix::thread::remove_capability_from_bounding_set(one) {
            // Unknown to the kernel, as are all after it; or this process has no rights to begin with.
            Err(Errno::INVAL | Errno::PERM) => break,
            result => result?,
        }
        bit <<= 1;
    }
    // Kernels before 4.3 have no ambient set.
    let _ = rustix::thread::clear_ambient_capability_set();
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    rustix::thread::set_capabilities(None, none)?;
    Ok(())
}
