//! Loopback networks: the app's, and those of instances that have one of their own.
//!
//! A socket belongs to the namespace that it was made in, whoever uses it later; so sockets are made
//! here and handed to the node.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::super::kernel;

/// Connections that wait until the node takes them.
const BACKLOG: i32 = 128;

/// The network namespaces of a sandbox.
#[derive(Debug)]
pub(super) struct Home(Option<OwnedFd>);

impl Home {
    /// The namespace of this process; without `/proc` there is no way back into it, so that no other
    /// can be made.
    pub(super) fn new() -> Self {
        Self(super::open(Path::new("/proc/self/ns/net")).ok())
    }

    /// Makes a network, runs something in it, and comes back.
    pub(super) fn in_new<T>(
        &self,
        run: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<(T, OwnedFd)> {
        let home = self.0.as_ref().ok_or(io::ErrorKind::Unsupported)?;
        kernel::unshare(libc::CLONE_NEWNET)?;
        let done = kernel::loopback_up()
            .and_then(|()| super::open(Path::new("/proc/self/ns/net")))
            .and_then(|network| Ok((run()?, network)));
        kernel::join(home.as_fd(), libc::CLONE_NEWNET)?;
        done
    }

    /// Runs something in a network; without one in that of this process.
    fn within<T>(
        &self,
        network: Option<&OwnedFd>,
        run: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        let Some(network) = network else {
            return run();
        };
        let home = self.0.as_ref().ok_or(io::ErrorKind::Unsupported)?;
        kernel::join(network.as_fd(), libc::CLONE_NEWNET)?;
        let done = run();
        kernel::join(home.as_fd(), libc::CLONE_NEWNET)?;
        done
    }

    /// A socket that is connected to a port, or about to be.
    pub(super) fn connect(&self, network: Option<&OwnedFd>, port: u16) -> io::Result<OwnedFd> {
        self.within(network, || {
            let socket = socket()?;
            let to = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
            match rustix::net::connect(&socket, &to) {
                Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
                Err(error) => Err(error.into()),
            }
        })
    }

    /// A socket that listens on a free port.
    pub(super) fn listen(&self, network: Option<&OwnedFd>) -> io::Result<OwnedFd> {
        self.within(network, || {
            let socket = socket()?;
            rustix::net::bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0))?;
            rustix::net::listen(&socket, BACKLOG)?;
            Ok(socket)
        })
    }
}

fn socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(rustix::net::socket_with(
        AddressFamily::INET,
        SocketType::STREAM,
        flags,
        None,
    )?)
}
