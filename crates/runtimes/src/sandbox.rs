//! The application sandbox: what programs of one app run in, and nothing of any other.
//!
//! A sandbox is a child process of the node that runs the node's own program ([`child`]) and is the
//! first process of its namespaces. The node asks it over a socket, with descriptors beside the
//! words, to make roots and to start programs; whatever starts in it is below it. So whichever way
//! the node ends, the kernel ends every process, mount and network of its sandboxes; only folders of
//! [`cgroup`]s can be left behind, and are cleared at the next start.
//!
//! What the system denies is left out and named by the [`tier`]; whether that is good enough is the
//! caller's decision. Bounds: [`root::ROOTS_MAX`] roots and [`process::PROCESSES_MAX`] processes of
//! one sandbox, and five seconds for every answer of it.

pub mod cgroup;
mod channel;
mod child;
pub(crate) mod kernel;
mod link;
mod message;
pub mod process;
pub mod root;
pub mod tier;

use std::ffi::OsString;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;

use mote_core::error::{Error, ErrorKind};

use link::{ANSWER_MAX, Handed, Link};
use message::Request;
use process::{Network, Process, Spawn};
use root::{Root, RootId};
use tier::Tier;

/// The first argument with which the node starts itself as a sandbox.
pub const CHILD_ARGUMENT: &str = "__sandbox";

/// The entry point of a sandbox's process, with the arguments after [`CHILD_ARGUMENT`]: to be called
/// first thing in `main`, while there is one thread. The result is the exit code.
pub fn child(arguments: &[OsString]) -> u8 {
    child::run(arguments)
}

/// What a sandbox is made of.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The program that calls [`child`]: the node's own.
    pub program: PathBuf,
    /// The app, which is its host name.
    pub name: String,
    /// The user and group of its programs as the host sees them, where the node may choose: one that
    /// nobody else has.
    pub uid: u32,
}

/// The sandbox of one app. It ends, with everything in it, when the last reference goes, of which
/// every [`Process`] holds one.
#[derive(Debug)]
pub struct Sandbox {
    link: Arc<Link>,
    tier: Tier,
}

impl Sandbox {
    /// Makes one. Must be called inside of an async runtime that lives as long as the sandbox.
    pub async fn start(settings: Settings) -> Result<Arc<Sandbox>, Error> {
        let failed = |doing: &str, error: io::Error| {
            let message = format!("sandbox of `{}`: {doing}: {error}", settings.name);
            Error::new(ErrorKind::Internal, message)
        };
        let (ours, theirs) =
            channel::pair().map_err(|error| failed("making a socket", error.into()))?;
        // The socket is its standard input, so that nothing has to run between fork and exec of a
        // process that has many threads. Not the death of the thread that forks, which may be one of
        // a pool, but the end of this socket is what ends it.
        let child = tokio::process::Command::new(&settings.program)
            .arg(CHILD_ARGUMENT)
            .arg(&settings.name)
            .arg(settings.uid.to_string())
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| failed("starting it", error))?;
        let link = Link::start(ours, child).map_err(|error| failed("reading from it", error))?;
        let mut sandbox = Self {
            link,
            tier: Tier::default(),
        };
        let Some(tier) = sandbox.link.ready().await else {
            sandbox.link.end();
            return Err(failed("setting it up", io::ErrorKind::UnexpectedEof.into()));
        };
        sandbox.tier = tier;
        Ok(Arc::new(sandbox))
    }

    /// The layers in force, besides those of [`cgroup`]s.
    pub fn tier(&self) -> &Tier {
        &self.tier
    }

    /// Makes a root. Cancel-safe, but what was asked for is made then too, and stays.
    pub async fn add_root(&self, root: Root) -> Result<RootId, Error> {
        root.check()?;
        let id = self.link.id();
        let answer = self
            .link
            .ask(id, &Request::AddRoot { id, root }, &[])
            .await?;
        answer.map_err(|failure| process::failed(&failure))?;
        Ok(RootId(id))
    }

    /// Becomes the sandbox of an app, once, where it was nobody's: takes the app's host name, makes
    /// a root, and lets `process`, which waits in a root of [`root::Base::System`] without any code,
    /// see the new root's `/app`. After a failure the sandbox is of no use to anybody.
    pub async fn adopt(&self, process: &Process, name: &str, root: Root) -> Result<RootId, Error> {
        root.check()?;
        let id = self.link.id();
        let request = Request::Adopt {
            id,
            process: process.id(),
            name: name.to_owned(),
            root,
        };
        let answer = self.link.ask(id, &request, &[]).await?;
        answer.map_err(|failure| process::failed(&failure))?;
        Ok(RootId(id))
    }

    /// Forgets a root; processes that run in it keep it.
    pub async fn remove_root(&self, root: RootId) {
        let id = self.link.id();
        // It can only fail with the whole sandbox.
        let _ = self
            .link
            .ask(id, &Request::RemoveRoot { id, root: root.0 }, &[])
            .await;
    }

    /// Starts a program, and waits until it runs. Cancel-safe: dropped before the end, nothing runs.
    pub async fn spawn(self: &Arc<Self>, spawn: Spawn<'_>) -> Result<Process, Error> {
        spawn.check()?;
        let id = self.link.id();
        let expected = self.link.expect(id)?;
        let (program, fds) = spawn.program();
        let request = Request::Spawn { id, program };
        let asked = self.link.ask(id, &request, &fds).await?;
        let fds = asked.map_err(|failure| process::failed(&failure))?;
        let [pidfd, report] = exactly(fds)?;
        let network = if spawn.own_network {
            Network(id)
        } else {
            Network::APP
        };
        let process = Process::new(id, Arc::clone(self), pidfd, network, expected.started());
        let command = spawn.command.first().map_or("", String::as_str);
        let started = process::started(report, command);
        match tokio::time::timeout(ANSWER_MAX, started).await {
            Ok(Ok(())) => Ok(process),
            Ok(Err(error)) => Err(error),
            Err(_) => {
                let seconds = ANSWER_MAX.as_secs();
                let message = format!("program `{command}` was not running after {seconds} s");
                Err(Error::new(ErrorKind::Overloaded, message))
            }
        }
    }

    /// Connects to a port of a network, on its loopback interface. The socket does not block.
    pub async fn connect(&self, network: Network, port: u16) -> io::Result<TcpStream> {
        let id = self.link.id();
        let request = Request::Connect {
            id,
            network: network.0,
            port,
        };
        let socket = self.ask_for_socket(id, &request).await?;
        let stream = tokio::net::TcpStream::from_std(TcpStream::from(socket))?;
        tokio::time::timeout(ANSWER_MAX, stream.writable()).await??;
        match stream.take_error()? {
            Some(error) => Err(error),
            None => stream.into_std(),
        }
    }

    /// Listens on a free port of a network, on its loopback interface. The socket does not block.
    pub async fn listen(&self, network: Network) -> io::Result<TcpListener> {
        let id = self.link.id();
        let request = Request::Listen {
            id,
            network: network.0,
        };
        Ok(TcpListener::from(self.ask_for_socket(id, &request).await?))
    }

    async fn ask_for_socket(&self, id: u64, request: &Request) -> io::Result<OwnedFd> {
        let answer = self.link.ask(id, request, &[]).await;
        let fds = answer
            .map_err(io::Error::other)?
            .map_err(|failure| failure.error())?;
        let [socket] = exactly(fds).map_err(io::Error::other)?;
        Ok(socket)
    }

    /// Resolves when the sandbox has ended by itself or was ended, and all its processes with it.
    /// Cancel-safe.
    pub fn ended(&self) -> impl Future<Output = ()> + Send + 'static {
        let link = Arc::clone(&self.link);
        async move { link.over().await }
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.link.hang_up();
    }
}

fn exactly<const N: usize>(fds: Handed) -> Result<[OwnedFd; N], Error> {
    fds.accept().try_into().map_err(|_| {
        Error::new(
            ErrorKind::Internal,
            "a sandbox answered with other descriptors",
        )
    })
}
