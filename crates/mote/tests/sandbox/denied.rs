//! System calls that must fail in a sandbox, each with the error it must fail with, and some that
//! must not.

use libc::c_long;

/// A call, and the error that it must fail with; zero for one that must not fail.
struct Case {
    name: &'static str,
    number: c_long,
    arguments: [c_long; 4],
    expected: i32,
}

fn case(name: &'static str, number: c_long, arguments: &[c_long], expected: i32) -> Case {
    let mut all = [0; 4];
    for (to, from) in all.iter_mut().zip(arguments) {
        *to = *from;
    }
    Case {
        name,
        number,
        arguments: all,
        expected,
    }
}

/// Tries all of them, and says for each what came of it: `ok`, or the error instead.
pub(super) fn all(say: impl Fn(&str)) {
    for case in filtered().into_iter().chain(others()) {
        let errno = errno_of(case.number, case.arguments);
        if errno == case.expected {
            say(&format!("{} ok", case.name));
        } else {
            say(&format!("{} {errno}", case.name));
        }
    }
}

/// Those that the filter denies.
fn filtered() -> Vec<Case> {
    let denied = |name, number, arguments: &[c_long]| case(name, number, arguments, libc::EPERM);
    let none = c"none".as_ptr() as c_long;
    let root = c"/".as_ptr() as c_long;
    let tmp = c"/tmp".as_ptr() as c_long;
    let tmpfs = c"tmpfs".as_ptr() as c_long;
    let here = c_long::from(libc::AT_FDCWD);
    let flags = |flag: i32| c_long::from(flag | libc::SIGCHLD);
    let socket = |name, family: i32, kind: i32, protocol: i32| {
        let arguments = [family.into(), kind.into(), protocol.into()];
        denied(name, libc::SYS_socket, &arguments)
    };
    vec![
        denied("mount", libc::SYS_mount, &[none, tmp, tmpfs, 0]),
        denied("umount", libc::SYS_umount2, &[root]),
        denied("open_tree", libc::SYS_open_tree, &[here, root, 1]),
        denied("fsopen", libc::SYS_fsopen, &[tmpfs]),
        denied("pivot_root", libc::SYS_pivot_root, &[root, root]),
        denied("chroot", libc::SYS_chroot, &[tmp]),
        denied(
            "unshare user",
            libc::SYS_unshare,
            &[libc::CLONE_NEWUSER.into()],
        ),
        denied(
            "unshare mount",
            libc::SYS_unshare,
            &[libc::CLONE_NEWNS.into()],
        ),
        denied("setns", libc::SYS_setns, &[]),
        denied("clone user", libc::SYS_clone, &[flags(libc::CLONE_NEWUSER)]),
        denied("clone net", libc::SYS_clone, &[flags(libc::CLONE_NEWNET)]),
        case("clone3", libc::SYS_clone3, &[], libc::ENOSYS),
        denied("ptrace", libc::SYS_ptrace, &[]),
        denied("process_vm_readv", libc::SYS_process_vm_readv, &[1]),
        denied("bpf", libc::SYS_bpf, &[]),
        denied("perf_event_open", libc::SYS_perf_event_open, &[]),
        denied("keyctl", libc::SYS_keyctl, &[]),
        denied("add_key", libc::SYS_add_key, &[]),
        denied("userfaultfd", libc::SYS_userfaultfd, &[]),
        denied("io_uring", libc::SYS_io_uring_setup, &[1]),
        denied("reboot", libc::SYS_reboot, &[]),
        denied("init_module", libc::SYS_init_module, &[]),
        denied("kexec", libc::SYS_kexec_load, &[]),
        denied("swapon", libc::SYS_swapon, &[none]),
        denied("open_by_handle_at", libc::SYS_open_by_handle_at, &[]),
        denied("clock_settime", libc::SYS_clock_settime, &[]),
        denied("personality", libc::SYS_personality, &[0x0004_0000]),
        denied("sethostname", libc::SYS_sethostname, &[none, 4]),
        denied("syslog", libc::SYS_syslog, &[3]),
        denied("tiocsti", libc::SYS_ioctl, &[0, 0x5412, none]),
        socket("raw", libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP),
        socket("packet", libc::AF_PACKET, libc::SOCK_RAW, 0),
        socket("netlink", libc::AF_NETLINK, libc::SOCK_RAW, 0),
        socket("vsock", libc::AF_VSOCK, libc::SOCK_STREAM, 0),
        socket("sctp", libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_SCTP),
        socket("ping", libc::AF_INET, libc::SOCK_DGRAM, libc::IPPROTO_ICMP),
        #[cfg(target_arch = "x86_64")]
        denied("x32 mount", libc::SYS_mount | 0x4000_0000, &[]),
    ]
}

/// Those that something else denies, and those that nothing does.
fn others() -> Vec<Case> {
    let device = c"/tmp/device".as_ptr() as c_long;
    let here = c_long::from(libc::AT_FDCWD);
    let mode = c_long::from(libc::S_IFCHR | 0o666);
    let socket = |name, family: i32, kind: i32| {
        case(name, libc::SYS_socket, &[family.into(), kind.into()], 0)
    };
    vec![
        // The device is what /dev/null is, for which no rights are left.
        case(
            "mknod",
            libc::SYS_mknodat,
            &[here, device, mode, 0x103],
            libc::EPERM,
        ),
        // No user but its own exists.
        case("setuid", libc::SYS_setuid, &[0], libc::EINVAL),
        case("kill", libc::SYS_kill, &[500], libc::ESRCH),
        socket("tcp", libc::AF_INET, libc::SOCK_STREAM),
        socket(
            "tcp 6",
            libc::AF_INET6,
            libc::SOCK_STREAM | libc::SOCK_CLOEXEC,
        ),
        socket("udp", libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_NONBLOCK),
        socket("unix", libc::AF_UNIX, libc::SOCK_SEQPACKET),
    ]
}

/// Makes the calls fail that make namespaces, as containers do.
#[expect(
    clippy::cast_possible_truncation,
    reason = "codes and numbers of the kernel's that fit by definition"
)]
pub(super) fn deny_namespaces() -> std::io::Result<()> {
    let step = |code: u32, jt, jf, k| libc::sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    };
    let equals = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    let any_bit = libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K;
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let answer = libc::BPF_RET | libc::BPF_K;
    let denied = libc::SECCOMP_RET_ERRNO | libc::EPERM.cast_unsigned();
    let mut steps = [
        step(load, 0, 0, 0),
        step(equals, 4, 0, libc::SYS_unshare as u32),
        step(equals, 0, 2, libc::SYS_clone as u32),
        // The lower half of the first argument.
        step(load, 0, 0, 16),
        step(any_bit, 1, 0, libc::CLONE_NEWUSER.cast_unsigned()),
        step(answer, 0, 0, libc::SECCOMP_RET_ALLOW),
        step(answer, 0, 0, denied),
    ];
    let program = libc::sock_fprog {
        len: steps.len() as u16,
        filter: steps.as_mut_ptr(),
    };
    #[expect(unsafe_code, reason = "there is no wrapper")]
    // SAFETY: The program and its steps outlive the call.
    let result = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        let set = libc::SECCOMP_SET_MODE_FILTER;
        libc::syscall(libc::SYS_seccomp, set, 0, &raw const program)
    };
    if result == 0 {
        Ok(())
    } else {
        Err(std::io::Error::last_os_error())
    }
}

fn errno_of(number: c_long, [a, b, c, d]: [c_long; 4]) -> i32 {
    #[expect(unsafe_code, reason = "the calls themselves are what is tested")]
    // SAFETY: Every pointer among the arguments is to a static string or null, and the calls are
    // expected to be refused before they do anything.
    let result = unsafe { libc::syscall(number, a, b, c, d, 0) };
    if result == -1 {
        std::io::Error::last_os_error().raw_os_error().unwrap_or(0)
    } else {
        0
    }
}
