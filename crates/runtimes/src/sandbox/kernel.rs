//! The system calls that have no safe wrapper elsewhere, one function each.
//!
//! Those below "after the fork" are all that a new process uses besides `rustix`: none of them
//! allocates or takes a lock.

use std::ffi::{CStr, c_char, c_int};
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use rustix::process::Pid;

/// Attributes of mounts, from `linux/mount.h`.
pub(super) const MOUNT_READ_ONLY: u64 = 0x1;
pub(super) const MOUNT_NO_SUID: u64 = 0x2;
pub(super) const MOUNT_NO_DEV: u64 = 0x4;

/// Both sides of a fork.
#[derive(Debug)]
pub(super) enum Fork {
    /// In the new process.
    Child,
    /// In the old one.
    Parent { pid: Pid, pidfd: OwnedFd },
}

/// Forks, with new namespaces for the child as `flags` say (`CLONE_NEW…`).
///
/// The caller must be single-threaded, as every process of a sandbox is that calls it: then the
/// child may do whatever the parent could.
pub(super) fn fork(flags: c_int) -> io::Result<Fork> {
    let mut pidfd: c_int = -1;
    let none = std::ptr::null_mut::<c_int>();
    #[expect(unsafe_code, reason = "clone has no wrapper that works like fork")]
    // SAFETY: Without CLONE_VM and without a stack this is a fork of a single-threaded process. The
    // kernel writes one descriptor into `pidfd`, which is where the parent's thread id would go. The
    // last two differ in order between machines, and are null.
    let result = unsafe {
        libc::syscall(
            libc::SYS_clone,
            libc::c_long::from(flags | libc::CLONE_PIDFD | libc::SIGCHLD),
            none,
            &raw mut pidfd,
            none,
            none,
        )
    };
    match result {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Fork::Child),
        pid => {
            let pid = c_int::try_from(pid)
                .ok()
                .and_then(Pid::from_raw)
                .expect("the kernel's process ids are positive and fit");
            #[expect(unsafe_code, reason = "to own what clone3 returned")]
            // SAFETY: CLONE_PIDFD made this descriptor for us, and nobody else knows it.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Fork::Parent { pid, pidfd })
        }
    }
}

/// Leaves namespaces for new ones (`CLONE_NEW…`).
pub(super) fn unshare(flags: c_int) -> io::Result<()> {
    #[expect(unsafe_code, reason = "a plain system call")]
    // SAFETY: The flags name namespaces only; no memory is passed.
    let result = unsafe { libc::unshare(flags) };
    checked(result)
}

/// Sets attributes on a detached tree of mounts, all of them.
pub(super) fn restrict_mounts(tree: BorrowedFd<'_>, attributes: u64) -> io::Result<()> {
    let change = libc::mount_attr {
        attr_set: attributes,
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    #[expect(unsafe_code, reason = "mount_setattr has no wrapper")]
    // SAFETY: The path and the structure outlive the call, and the length is the structure's.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | libc::AT_RECURSIVE,
            &raw const change,
            size_of::<libc::mount_attr>(),
        )
    };
    checked_long(result)
}

/// Brings the loopback interface of this network namespace up.
pub(super) fn loopback_up() -> io::Result<()> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType};
    let socket = rustix::net::socket_with(
        AddressFamily::INET,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    let mut name = [0; libc::IFNAMSIZ];
    for (to, from) in name.iter_mut().zip(c"lo".to_bytes()) {
        *to = from.cast_signed();
    }
    let flags = libc::IFF_UP | libc::IFF_RUNNING;
    let request = libc::ifreq {
        ifr_name: name,
        ifr_ifru: libc::__c_anonymous_ifr_ifru {
            ifru_flags: flags.try_into().expect("both flags fit into a short"),
        },
    };
    #[expect(unsafe_code, reason = "this ioctl has no wrapper")]
    // SAFETY: SIOCSIFFLAGS reads an `ifreq`, which outlives the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    checked(result)
}

/// Blocks the end-of-child signal, and gives a descriptor that is readable when it is pending.
pub(super) fn child_signals() -> io::Result<OwnedFd> {
    #[expect(unsafe_code, reason = "signal sets are filled through pointers")]
    // SAFETY: The set is initialised by `sigemptyset` before it is read, and outlives the calls; the
    // descriptor that `signalfd` returns is ours.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGCHLD);
        checked(libc::sigprocmask(
            libc::SIG_BLOCK,
            &raw const set,
            std::ptr::null_mut(),
        ))?;
        let fd = libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
        checked(fd.min(0))?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// Makes every signal do what it does by default: a node that ignores some, as `nohup` makes it,
/// would pass that on.
pub(super) fn default_signals() {
    for signal in 1..=libc::SIGRTMAX() {
        #[expect(unsafe_code, reason = "a plain system call")]
        // SAFETY: SIG_DFL is no function of ours; the two signals that cannot be changed are refused.
        let _ = unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

/// Lets this process end when the one that forked it ends.
pub(super) fn end_with_parent() -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    Ok(())
}

// After the fork.

/// Joins a namespace of kind `CLONE_NEW…`.
pub(crate) fn join(namespace: BorrowedFd<'_>, kind: c_int) -> io::Result<()> {
    #[expect(unsafe_code, reason = "a plain system call")]
    // SAFETY: The descriptor is open; no memory is passed.
    let result = unsafe { libc::setns(namespace.as_raw_fd(), kind) };
    checked(result)
}

/// Restricts this process to what a Landlock ruleset allows.
pub(super) fn restrict_paths(ruleset: BorrowedFd<'_>) -> io::Result<()> {
    #[expect(
        unsafe_code,
        reason = "landlock_restrict_self has no wrapper that takes a descriptor"
    )]
    // SAFETY: The descriptor is open; no memory is passed.
    let result = unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0) };
    checked_long(result)
}

/// Filters the system calls of this process.
pub(super) fn restrict_calls(filter: &[libc::sock_filter]) -> io::Result<()> {
    let program = libc::sock_fprog {
        len: filter
            .len()
            .try_into()
            .map_err(|_| io::ErrorKind::InvalidInput)?,
        filter: filter.as_ptr().cast_mut(),
    };
    #[expect(unsafe_code, reason = "seccomp has no wrapper")]
    // SAFETY: The program and its instructions outlive the call; the kernel copies and checks them.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            0,
            &raw const program,
        )
    };
    checked_long(result)
}

/// Lets a thread, and what it starts, wait for the one that woke it: sched(7), `SCHED_BATCH`. `None`
/// is the caller's.
pub(crate) fn make_batch(thread: Option<Pid>) -> io::Result<()> {
    let thread = thread.map_or(0, |thread| thread.as_raw_nonzero().get());
    let priority: c_int = 0;
    #[expect(
        unsafe_code,
        reason = "musl has no sched_setscheduler, and others are threads' own"
    )]
    // SAFETY: The kernel only reads the one field of `sched_param`, which outlives the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_sched_setscheduler,
            thread,
            libc::SCHED_BATCH,
            &raw const priority,
        )
    };
    checked_long(result)
}

/// Lets every signal in again.
pub(super) fn unblock_signals() {
    #[expect(unsafe_code, reason = "signal sets are filled through pointers")]
    // SAFETY: The set is initialised by `sigemptyset` before it is read, and outlives the call.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut());
    }
}

/// Makes `to` the same open file as `from`, kept by `exec`; both are plain numbers because the
/// caller lays out the whole table.
pub(super) fn place(from: c_int, to: c_int) -> io::Result<()> {
    #[expect(
        unsafe_code,
        reason = "the target is a number, not a descriptor that somebody owns"
    )]
    // SAFETY: The new process owns its whole table, and closes all but what it lays out.
    let result = unsafe { libc::dup2(from, to) };
    checked(result.min(0))
}

/// Copies a descriptor to a free number that is not below `least`.
pub(super) fn place_above(from: BorrowedFd<'_>, least: c_int) -> io::Result<c_int> {
    use std::os::fd::IntoRawFd as _;
    Ok(rustix::io::fcntl_dupfd_cloexec(from, least)?.into_raw_fd())
}

/// Lets `exec` close a descriptor.
pub(super) fn close_on_exec(fd: c_int) -> io::Result<()> {
    #[expect(unsafe_code, reason = "the descriptor is a number that nobody owns")]
    // SAFETY: No memory is passed.
    let result = unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
    checked(result)
}

/// Writes as much as can be written at once.
pub(super) fn write(fd: c_int, bytes: &[u8]) {
    #[expect(unsafe_code, reason = "the descriptor is a number that nobody owns")]
    // SAFETY: The bytes outlive the call, and their length is passed.
    let _ = unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) };
}

/// Closes every descriptor from `first` to `last`.
pub(super) fn close_range(first: c_int, last: c_int) -> io::Result<()> {
    #[expect(unsafe_code, reason = "close_range has no wrapper")]
    // SAFETY: The new process owns its whole table, and uses none of these afterwards.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    checked_long(result)
}

/// Arguments or environment of `exec`: strings and the pointers to them.
#[derive(Debug)]
pub(super) struct Words {
    pointers: Vec<*const c_char>,
    _strings: Vec<std::ffi::CString>,
}

impl Words {
    pub(super) fn new(strings: Vec<std::ffi::CString>) -> Self {
        let pointers = strings
            .iter()
            .map(|string| string.as_ptr())
            .chain([std::ptr::null()])
            .collect();
        Self {
            pointers,
            _strings: strings,
        }
    }
}

/// Becomes another program. Returns only when that failed.
pub(super) fn exec(program: &CStr, arguments: &Words, environment: &Words) -> io::Error {
    #[expect(unsafe_code, reason = "exec takes pointers")]
    // SAFETY: Both lists end with a null pointer, and the strings they point to live in `Words`.
    unsafe {
        libc::execve(
            program.as_ptr(),
            arguments.pointers.as_ptr(),
            environment.pointers.as_ptr(),
        );
    }
    io::Error::last_os_error()
}

/// Ends this process without running anything.
pub(super) fn exit(code: c_int) -> ! {
    #[expect(unsafe_code, reason = "a plain system call")]
    // SAFETY: It does not return, and runs no handlers.
    unsafe {
        libc::_exit(code)
    }
}

fn checked(result: c_int) -> io::Result<()> {
    checked_long(result.into())
}

fn checked_long(result: libc::c_long) -> io::Result<()> {
    if result == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
