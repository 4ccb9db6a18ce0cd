//! What a process or a container runs, and how the node talks to it.

use crate::error::Error;

use super::{bad, within};

/// A way to run code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RuntimeKind {
    /// WebAssembly, in the node itself.
    Wasm,
    /// A program of this system, in a sandbox of its app.
    Process,
    /// An image, in a container engine.
    Container,
}

impl RuntimeKind {
    /// Every kind.
    pub const ALL: &'static [RuntimeKind] = &[Self::Wasm, Self::Process, Self::Container];

    /// The name in manifests.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Wasm => "wasm",
            Self::Process => "process",
            Self::Container => "container",
        }
    }
}

/// How a program takes calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Contract {
    /// A process for each call: body on standard input, reply on standard output.
    Stdio,
    /// It listens for HTTP and serves many calls at once.
    Http,
    /// It asks for calls, one after the other (AWS Lambda Runtime API, 2018-06-01).
    Lambda,
}

impl Contract {
    /// Every contract.
    pub const ALL: &'static [Contract] = &[Self::Stdio, Self::Http, Self::Lambda];

    /// The name in manifests.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Stdio => "stdio",
            Self::Http => "http",
            Self::Lambda => "lambda",
        }
    }
}

/// What to do where the system cannot isolate a program in every way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Isolation {
    /// Run it with what there is, and say which layers are missing.
    #[default]
    BestEffort,
    /// Refuse it.
    Required,
}

impl Isolation {
    /// Every choice.
    pub const ALL: &'static [Isolation] = &[Self::BestEffort, Self::Required];

    /// The name in manifests.
    pub const fn label(self) -> &'static str {
        match self {
            Self::BestEffort => "best-effort",
            Self::Required => "required",
        }
    }
}

/// What a process or a container runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Program {
    /// How it takes calls. `None`: its environment says so.
    pub contract: Option<Contract>,
    /// Program and arguments. Empty: what the image or the environment says.
    pub command: Vec<String>,
    /// The environment that serves plain source, such as `python3`. `None` with an empty command:
    /// found by the names of the files.
    pub environment: Option<String>,
    /// Of contract `http`: the port on which it listens. `None`: the one that `$PORT` says.
    pub port: Option<u16>,
    /// Of contract `http`: the path that answers with 2xx when it is ready. `None`: it is ready when it listens.
    pub ready: Option<String>,
    /// Bytes of `/tmp` of an instance.
    pub tmp_bytes: u64,
    /// Processes and threads of an instance.
    pub processes: u32,
    /// Processors that an instance may use; fractions are fine.
    pub cpus: f64,
    /// What to do where the system cannot isolate it in every way.
    pub isolation: Isolation,
    /// Of containers: the image that serves plain source, by its name in the engine. `None`: the
    /// artifact is or names the image.
    pub image: Option<String>,
    /// Of containers: whether an image that is not on the node may be pulled.
    pub pull: bool,
}

impl Default for Program {
    fn default() -> Self {
        Self {
            contract: None,
            command: Vec::new(),
            environment: None,
            port: None,
            ready: None,
            tmp_bytes: 64 << 20,
            processes: 64,
            cpus: 1.0,
            isolation: Isolation::BestEffort,
            image: None,
            pull: false,
        }
    }
}

/// Most arguments of a command, and most bytes of all of them.
const COMMAND_MAX: (usize, usize) = (256, 16 << 10);

impl Program {
    pub(super) fn check(&self, runtime: RuntimeKind) -> Result<(), Error> {
        let (count, bytes) = COMMAND_MAX;
        let total: usize = self.command.iter().map(String::len).sum();
        if self.command.len() > count || total > bytes {
            return Err(bad(format!(
                "command is longer than {count} words or {bytes} bytes"
            )));
        }
        if self.command.iter().any(|word| word.contains('\0'))
            || self.command.first().is_some_and(String::is_empty)
        {
            return Err(bad("command has an empty program or a zero byte".to_owned()));
        }
        if runtime == RuntimeKind::Container && self.contract == Some(Contract::Stdio) {
            return Err(bad(
                "contract `stdio` is not for containers, which serve many calls".to_owned(),
            )
            .with_hint("write contract = \"http\" or \"lambda\", or runtime = \"process\""));
        }
        if let Some(ready) = &self.ready {
            let path: Option<http::uri::PathAndQuery> = ready.parse().ok();
            if !ready.starts_with('/') || path.is_none() {
                return Err(
                    bad(format!("ready `{}` is not a path", ready.escape_debug()))
                        .with_hint("write a path such as ready = \"/health\""),
                );
            }
        }
        within("port", self.port.unwrap_or(1).into(), 1, 65_535)?;
        within("tmp", self.tmp_bytes, 0, 1 << 40)?;
        within("processes", self.processes.into(), 1, 100_000)?;
        if !(0.01..=1024.0).contains(&self.cpus) {
            return Err(bad(format!("cpus = {} is outside 0.01 to 1024", self.cpus)));
        }
        Ok(())
    }
}
