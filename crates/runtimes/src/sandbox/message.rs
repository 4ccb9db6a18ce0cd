//! What the node and its sandbox say to each other, one JSON text in one packet.
//!
//! Both ends are the same executable, so there is no version to agree on. Descriptors travel beside
//! the text, in the order that each variant names.

use serde::{Deserialize, Serialize};

use super::root::Root;
use super::tier::Tier;

/// From the node. Every `id` is the node's and new; that of a spawn is the process's from then on.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Request {
    /// Make a root with this id.
    AddRoot { id: u64, root: Root },
    /// Forget a root; processes that use it keep it.
    RemoveRoot { id: u64, root: u64 },
    /// Start a program. Descriptors: standard input, output and error, the extra ones, then the
    /// files of cgroups to join. Answer: a pidfd, and a pipe that says why the program did not start.
    Spawn { id: u64, program: Program },
    /// Connect to a port of the loopback interface. Answer: a socket that may still be connecting.
    Connect { id: u64, network: u64, port: u16 },
    /// Listen on a free port of the loopback interface. Answer: the listener.
    Listen { id: u64, network: u64 },
    /// Become the sandbox of an app: take its host name, make a root with this id, and let a process
    /// that was started before see its code.
    Adopt {
        id: u64,
        process: u64,
        name: String,
        root: Root,
    },
}

/// A program to start.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Program {
    pub root: u64,
    pub command: Vec<String>,
    pub env: Vec<(String, String)>,
    pub directory: String,
    pub extra: usize,
    pub own_network: bool,
    pub cpu_seconds: Option<u64>,
    pub files: u64,
}

/// From the sandbox.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Event {
    /// The first message: it is ready, with these layers.
    Ready { tier: Tier },
    /// A request was done, or was not.
    Done { id: u64, failure: Option<Failure> },
    /// A process and everything it had started have ended; `status` as from `waitpid`.
    Exited { id: u64, status: i32 },
}

/// Why something was not done.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Failure {
    /// What was being done.
    pub doing: String,
    /// The system's error number.
    pub errno: i32,
}

impl Failure {
    /// Keeps what was being done when the system said no.
    pub(super) fn new(doing: impl Into<String>, error: &std::io::Error) -> Self {
        Self {
            doing: doing.into(),
            errno: error.raw_os_error().unwrap_or(libc::EIO),
        }
    }

    pub(super) fn error(&self) -> std::io::Error {
        std::io::Error::from_raw_os_error(self.errno)
    }
}

/// From the init process of a sandbox to the one that still sees the host's files, which answers
/// with a failure or with nothing and the tree.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Build {
    pub root: Root,
    pub host_name: String,
}

/// The step at which a new process failed, as it is written into its pipe beside the error number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Step {
    Cgroup = 1,
    Session,
    Root,
    User,
    Files,
    Directory,
    Landlock,
    Rights,
    Seccomp,
    Interpreter,
    Program,
}

impl Step {
    const ALL: [Step; 11] = [
        Self::Cgroup,
        Self::Session,
        Self::Root,
        Self::User,
        Self::Files,
        Self::Directory,
        Self::Landlock,
        Self::Rights,
        Self::Seccomp,
        Self::Interpreter,
        Self::Program,
    ];

    /// What a process writes when it fails.
    pub(super) fn report(self, errno: i32) -> [u8; 8] {
        let mut bytes = [0; 8];
        bytes[..4].copy_from_slice(&(self as u32).to_ne_bytes());
        bytes[4..].copy_from_slice(&errno.to_ne_bytes());
        bytes
    }

    /// Reads such a report.
    pub(super) fn parse(bytes: [u8; 8]) -> Option<(Self, i32)> {
        let [a, b, c, d, rest @ ..] = bytes;
        let number = u32::from_ne_bytes([a, b, c, d]);
        let step = Self::ALL.into_iter().find(|step| *step as u32 == number)?;
        Some((step, i32::from_ne_bytes(rest)))
    }

    /// What was being done, for people.
    pub(super) const fn doing(self) -> &'static str {
        match self {
            Self::Cgroup => "joining its cgroup",
            Self::Session => "starting its session",
            Self::Root => "entering its root",
            Self::User => "becoming its user",
            Self::Files => "taking its files",
            Self::Directory => "entering its directory",
            Self::Landlock => "restricting its paths",
            Self::Rights => "giving up its rights",
            Self::Seccomp => "restricting its system calls",
            Self::Interpreter => "running its interpreter",
            Self::Program => "running it",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_survive_the_pipe() {
        for step in Step::ALL {
            let report = step.report(libc::ENOEXEC);
            assert_eq!(Step::parse(report), Some((step, libc::ENOEXEC)));
        }
        assert_eq!(Step::parse([0; 8]), None);
        assert_eq!(Step::parse([255; 8]), None);
    }
}
