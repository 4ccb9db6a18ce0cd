//! Connections to a program in a sandbox: to its port, or to a socket in its `/tmp`.

use std::io;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mote_core::runtime::BoxFuture;
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, open, openat2};
use tokio::net::{TcpStream, UnixStream};

use crate::contract::http::{Connect, Stream};
use crate::sandbox::Sandbox;
use crate::sandbox::process::{Network, Process};

/// Where a program may listen instead of on a port, as it sees it: `$MOTE_SOCKET`.
pub(super) const SOCKET: &str = "/tmp/mote.sock";

/// Connects to one program.
pub(super) struct Program {
    pub(super) sandbox: Arc<Sandbox>,
    pub(super) process: Arc<Process>,
    pub(super) network: Network,
    pub(super) port: u16,
    /// Whether the last connection was to its socket; the port is tried first until then.
    by_socket: AtomicBool,
}

impl Program {
    pub(super) fn new(
        sandbox: Arc<Sandbox>,
        process: Arc<Process>,
        network: Network,
        port: u16,
    ) -> Self {
        Self {
            sandbox,
            process,
            network,
            port,
            by_socket: AtomicBool::new(false),
        }
    }

    async fn tcp(&self) -> io::Result<Stream> {
        let stream = self.sandbox.connect(self.network, self.port).await?;
        Ok(Stream::Tcp(TcpStream::from_std(stream)?))
    }

    /// The socket is found below the program's own root, whatever links it has put there: a link
    /// could otherwise lead the node to a socket of the host.
    async fn unix(&self) -> io::Result<Stream> {
        let root = format!("/proc/{}/root", self.process.pid());
        let folder = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = open(root, folder, Mode::empty())?;
        let within = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
        let found = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let socket = openat2(&root, &SOCKET[1..], found, Mode::empty(), within)?;
        if FileType::from_raw_mode(fstat(&socket)?.st_mode) != FileType::Socket {
            return Err(io::ErrorKind::NotFound.into());
        }
        let path = format!("/proc/self/fd/{}", socket.as_raw_fd());
        Ok(Stream::Unix(UnixStream::connect(path).await?))
    }
}

impl Connect for Program {
    fn connect(&self) -> BoxFuture<'_, io::Result<Stream>> {
        Box::pin(async move {
            if self.by_socket.load(Ordering::Relaxed) {
                return self.unix().await;
            }
            let refused = match self.tcp().await {
                Ok(stream) => return Ok(stream),
                Err(refused) => refused,
            };
            match self.unix().await {
                Ok(stream) => {
                    self.by_socket.store(true, Ordering::Relaxed);
                    Ok(stream)
                }
                Err(_) => Err(refused),
            }
        })
    }
}
