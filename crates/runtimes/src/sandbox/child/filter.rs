//! The system calls that no function needs, and with which kernels have been broken: they fail with
//! EPERM.
//!
//! What a process may do without any right is not listed. `clone3` fails with ENOSYS, because its
//! flags are out of a filter's sight and C libraries then use `clone`, whose flags are not.

use std::collections::BTreeMap;

use libc::sock_filter;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

/// Calls that fail whatever their arguments are.
const DENIED: &[libc::c_long] = &[
    // Mounts and roots.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    OPEN_TREE_ATTR,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_acct,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    libc::SYS_fanotify_init,
    libc::SYS_fanotify_mark,
    libc::SYS_lookup_dcookie,
    libc::SYS_vhangup,
    libc::SYS_nfsservctl,
    // Namespaces.
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    // Other processes.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_move_pages,
    libc::SYS_migrate_pages,
    // Large, seldom used parts of the kernel.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    // The machine.
    libc::SYS_kexec_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_reboot,
    libc::SYS_syslog,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
];

#[cfg(target_arch = "x86_64")]
const DENIED_HERE: &[libc::c_long] = &[
    libc::SYS_iopl,
    libc::SYS_ioperm,
    libc::SYS_modify_ldt,
    libc::SYS_kexec_file_load,
    libc::SYS_uselib,
    libc::SYS_ustat,
    libc::SYS_sysfs,
    libc::SYS__sysctl,
];
#[cfg(not(target_arch = "x86_64"))]
const DENIED_HERE: &[libc::c_long] = &[];

/// Newer than the list of the C library; the same number on every machine.
const OPEN_TREE_ATTR: libc::c_long = 467;

/// Namespaces that `clone` may not make. Time namespaces share a bit with the exit signal there, and
/// can be had only from calls that are denied.
const NAMESPACES: [libc::c_int; 7] = [
    libc::CLONE_NEWNS,
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
];

/// Requests to terminals, whose type differs between C libraries.
const TIOCSTI: u64 = 0x5412;
const TIOCLINUX: u64 = 0x541c;

/// The bits of a socket's type that are not flags.
const SOCKET_TYPE_MASK: u64 = 0xf;

/// Compiles the filter for this machine; fails where the machine's system calls are not known.
pub(super) fn compile() -> Result<Vec<sock_filter>, String> {
    let target = std::env::consts::ARCH
        .try_into()
        .map_err(|_| format!("no system call filter for {}", std::env::consts::ARCH))?;
    let rules = rules().map_err(|error| error.to_string())?;
    let eperm = SeccompAction::Errno(libc::EPERM.cast_unsigned());
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, eperm, target)
        .map_err(|error| error.to_string())?;
    let listed: BpfProgram = filter
        .try_into()
        .map_err(|error: seccompiler::BackendError| error.to_string())?;
    let listed = listed.into_iter().map(|step| sock_filter {
        code: step.code,
        jt: step.jt,
        jf: step.jf,
        k: step.k,
    });
    Ok(first_steps().into_iter().chain(listed).collect())
}

/// What one list with one answer cannot say; it falls through to the list.
fn first_steps() -> Vec<sock_filter> {
    let step = |code: u32, jt, jf, k| sock_filter {
        code: code
            .try_into()
            .expect("the codes of instructions have 16 bits"),
        jt,
        jf,
        k,
    };
    let load_number = step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0);
    let jump = |test: u32, k, jt, jf| step(libc::BPF_JMP | test | libc::BPF_K, jt, jf, k);
    let answer = |errno: i32| {
        let value = libc::SECCOMP_RET_ERRNO | errno.cast_unsigned();
        step(libc::BPF_RET | libc::BPF_K, 0, 0, value)
    };
    let clone3 = libc::SYS_clone3
        .try_into()
        .expect("system calls are small numbers");
    let mut steps = vec![load_number];
    if cfg!(target_arch = "x86_64") {
        // The x32 calls have the same architecture and other numbers, from bit 30 on.
        steps.push(jump(libc::BPF_JGE, 0x4000_0000, 0, 1));
        steps.push(answer(libc::EPERM));
    }
    steps.push(jump(libc::BPF_JEQ, clone3, 0, 1));
    steps.push(answer(libc::ENOSYS));
    steps
}

fn rules() -> seccompiler::Result<BTreeMap<i64, Vec<SeccompRule>>> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = DENIED
        .iter()
        .chain(DENIED_HERE)
        .map(|call| (*call, Vec::new()))
        .collect();

    let clone = NAMESPACES
        .iter()
        .map(|flag| {
            let flag = u64::from(flag.cast_unsigned());
            all([argument(0, SeccompCmpOp::MaskedEq(flag), flag)])
        })
        .collect::<Result<_, _>>()?;
    rules.insert(libc::SYS_clone, clone);

    // Only the persona of Linux itself, and asking for it.
    rules.insert(
        libc::SYS_personality,
        vec![all([
            argument(0, SeccompCmpOp::Ne, 0),
            argument(0, SeccompCmpOp::Ne, 0xffff_ffff),
        ])?],
    );

    // Writing into a terminal's input.
    let inputs = [TIOCSTI, TIOCLINUX]
        .into_iter()
        .map(|request| all([argument(1, SeccompCmpOp::Eq, request)]))
        .collect::<Result<_, _>>()?;
    rules.insert(libc::SYS_ioctl, inputs);

    rules.insert(libc::SYS_socket, sockets()?);
    rules.insert(libc::SYS_socketpair, sockets()?);
    Ok(rules)
}

/// All sockets but Unix ones, TCP and UDP.
fn sockets() -> seccompiler::Result<Vec<SeccompRule>> {
    let number = |value: i32| u64::from(value.cast_unsigned());
    let unix = number(libc::AF_UNIX);
    let foreign = SeccompCmpOp::Ne;
    let mut rules = vec![all([
        argument(0, foreign.clone(), unix),
        argument(0, foreign.clone(), number(libc::AF_INET)),
        argument(0, foreign.clone(), number(libc::AF_INET6)),
    ])?];
    for kind in 0..=SOCKET_TYPE_MASK {
        if kind != number(libc::SOCK_STREAM) && kind != number(libc::SOCK_DGRAM) {
            rules.push(all([
                argument(0, foreign.clone(), unix),
                argument(1, SeccompCmpOp::MaskedEq(SOCKET_TYPE_MASK), kind),
            ])?);
        }
    }
    rules.push(all([
        argument(0, foreign.clone(), unix),
        argument(2, foreign.clone(), 0),
        argument(2, foreign.clone(), number(libc::IPPROTO_TCP)),
        argument(2, foreign, number(libc::IPPROTO_UDP)),
    ])?);
    Ok(rules)
}

type Condition = seccompiler::Result<SeccompCondition>;

fn all<const N: usize>(conditions: [Condition; N]) -> seccompiler::Result<SeccompRule> {
    let conditions = conditions.into_iter().collect::<Result<_, _>>()?;
    Ok(SeccompRule::new(conditions)?)
}

/// Every argument that is looked at is an `int`, of which the kernel ignores the upper half.
fn argument(index: u8, test: SeccompCmpOp, value: u64) -> Condition {
    Ok(SeccompCondition::new(
        index,
        SeccompCmpArgLen::Dword,
        test,
        value,
    )?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_compiles_into_what_the_kernel_takes() {
        let filter = compile().unwrap();
        // BPF_MAXINSNS.
        assert!((60..4096).contains(&filter.len()), "{}", filter.len());
    }
}
