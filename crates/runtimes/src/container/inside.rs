//! What this system's kernel has of a container: its network and its processes.
//!
//! A connection that begins in the container's network skips the engine's bridge and packet filter.
//! Known only where the engine runs on this system and the node may join namespaces; elsewhere the
//! container's address is what there is.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read as _};
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, openat};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use rustix::process::Pid;
use tokio::net::{TcpSocket, TcpStream};

use crate::sandbox::kernel;

/// Most processes of a container that are looked at.
const PROCESSES_MAX: usize = 4096;

/// A running container. Keeps its network, not its processes.
#[derive(Debug)]
pub(super) struct Inside {
    pid: Pid,
    network: OwnedFd,
}

impl Inside {
    /// The container of this id whose first process has this number, both as the engine says.
    /// `None` when that process is not one of that container here.
    pub(super) fn of(id: &str, pid: i64) -> Option<Self> {
        let pid = Pid::from_raw(i32::try_from(pid).ok()?)?;
        let path = format!("/proc/{}", pid.as_raw_nonzero());
        // All is read of one process, also when its number is another's by then.
        let folder = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let process = rustix::fs::open(path, folder, Mode::empty()).ok()?;
        let open = |name| {
            let flags = OFlags::RDONLY | OFlags::CLOEXEC;
            openat(&process, name, flags, Mode::empty()).ok()
        };
        let network = open("ns/net")?;
        let mut cgroups = String::new();
        let read = fs::File::from(open("cgroup")?).read_to_string(&mut cgroups);
        (read.is_ok() && id.len() >= 12 && cgroups.contains(id)).then_some(Self { pid, network })
    }

    /// Connects from within its network.
    pub(super) async fn connect(self: &Arc<Self>, address: SocketAddr) -> io::Result<TcpStream> {
        let (made, socket) = tokio::sync::oneshot::channel();
        let inside = Arc::clone(self);
        // A thread of its own, which stays in that network and ends there.
        std::thread::Builder::new()
            .name("in-network".to_owned())
            .spawn(move || drop(made.send(inside.socket(address))))?;
        let socket = socket
            .await
            .map_err(|_| io::Error::other("no socket in the container's network"))??;
        TcpSocket::from_std_stream(socket.into())
            .connect(address)
            .await
    }

    fn socket(&self, address: SocketAddr) -> io::Result<OwnedFd> {
        kernel::join(self.network.as_fd(), libc::CLONE_NEWNET)?;
        let family = match address {
            SocketAddr::V4(_) => AddressFamily::INET,
            SocketAddr::V6(_) => AddressFamily::INET6,
        };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        Ok(socket_with(family, SocketType::STREAM, flags, None)?)
    }

    /// Lets its processes, and those they start, wait for the node as programs in the sandbox do.
    /// Blocks for a moment.
    pub(super) fn wait_for_the_node(&self) {
        let mut seen = BTreeSet::new();
        let mut next = vec![self.pid.as_raw_nonzero().get()];
        while let Some(pid) = next.pop() {
            if seen.len() >= PROCESSES_MAX || !seen.insert(pid) {
                continue;
            }
            let tasks = fs::read_dir(format!("/proc/{pid}/task"));
            for task in tasks.into_iter().flatten().flatten() {
                let task = task.path();
                let number = task
                    .file_name()
                    .and_then(|name| name.to_str()?.parse().ok());
                if let Some(number) = number.and_then(Pid::from_raw) {
                    // One that has ended meanwhile, or may not be changed, stays as it is.
                    let _ = kernel::make_batch(Some(number));
                }
                let children = fs::read_to_string(task.join("children")).unwrap_or_default();
                next.extend(
                    children
                        .split(' ')
                        .filter_map(|child| child.parse::<i32>().ok()),
                );
            }
        }
    }
}
