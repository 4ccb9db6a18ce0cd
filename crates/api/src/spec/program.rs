//! The keys of a spec that are for processes and containers.

use std::time::Duration;

use mote_core::error::{Error, ErrorKind};
use mote_core::spec::{Contract, Isolation, Program, RuntimeKind};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::nearest::nearest;
use crate::units::{Period, Size};

/// How many instances there may be, and when there are more or fewer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Scale {
    /// Instances that are always there.
    pub min: u32,
    /// Most instances.
    pub max: u32,
    /// Calls in flight for each instance; by default as many as one takes at once.
    pub target: Option<u32>,
    /// How long an instance goes without a call before it is stopped.
    pub idle: Period,
}

impl Default for Scale {
    fn default() -> Self {
        Self::from(&mote_core::spec::Scale::default())
    }
}

impl From<&mote_core::spec::Scale> for Scale {
    fn from(scale: &mote_core::spec::Scale) -> Self {
        Self {
            min: scale.min,
            max: scale.max,
            target: scale.target,
            idle: Period(scale.idle),
        }
    }
}

impl From<Scale> for mote_core::spec::Scale {
    fn from(scale: Scale) -> Self {
        let idle: Duration = scale.idle.0;
        Self {
            min: scale.min,
            max: scale.max,
            target: scale.target,
            idle,
        }
    }
}

/// Those keys together; each is `None` or empty when nobody wrote it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProgramKeys {
    /// See [`Program::contract`], and so on.
    pub contract: Option<String>,
    /// Program and arguments.
    pub command: Vec<String>,
    /// What serves plain source.
    pub environment: Option<String>,
    /// Where it listens.
    pub port: Option<u16>,
    /// What it answers when it is ready.
    pub ready: Option<String>,
    /// Size of `/tmp`.
    pub tmp: Option<Size>,
    /// Most processes and threads.
    pub processes: Option<u32>,
    /// Most processors.
    pub cpus: Option<f64>,
    /// What to do without isolation.
    pub isolation: Option<String>,
    /// What serves plain source in a container.
    pub image: Option<String>,
    /// Whether to pull.
    pub pull: Option<bool>,
}

impl ProgramKeys {
    /// The program of a function with this runtime. Fails with `BadRequest` when there is a key for
    /// a program and the runtime has none.
    pub(super) fn into_core(self, runtime: RuntimeKind) -> Result<Option<Program>, Error> {
        if runtime == RuntimeKind::Wasm {
            return match self.first_written() {
                None => Ok(None),
                Some(key) => Err(bad(format!("`{key}` is not for WebAssembly")).with_hint(
                    "take it away, or write runtime = \"process\" or runtime = \"container\"",
                )),
            };
        }
        if runtime == RuntimeKind::Process && self.image.is_some() {
            return Err(bad(
                "`image` names an image of a container engine, and this is a process".to_owned(),
            )
            .with_hint("write runtime = \"container\", or deploy the image as the code"));
        }
        let default = Program::default();
        let label = |contract: &Contract| contract.label();
        let isolation = match &self.isolation {
            Some(name) => one_of("isolation", name, Isolation::ALL, |one| one.label())?,
            None => default.isolation,
        };
        Ok(Some(Program {
            contract: match &self.contract {
                Some(name) => Some(one_of("contract", name, Contract::ALL, label)?),
                None => None,
            },
            command: self.command,
            environment: self.environment,
            port: self.port,
            ready: self.ready,
            tmp_bytes: self.tmp.map_or(default.tmp_bytes, |size| size.0),
            processes: self.processes.unwrap_or(default.processes),
            cpus: self.cpus.unwrap_or(default.cpus),
            isolation,
            image: self.image,
            pull: self.pull.unwrap_or(default.pull),
        }))
    }

    fn first_written(&self) -> Option<&'static str> {
        let written = [
            ("contract", self.contract.is_some()),
            ("command", !self.command.is_empty()),
            ("environment", self.environment.is_some()),
            ("port", self.port.is_some()),
            ("ready", self.ready.is_some()),
            ("tmp", self.tmp.is_some()),
            ("processes", self.processes.is_some()),
            ("cpus", self.cpus.is_some()),
            ("isolation", self.isolation.is_some()),
            ("image", self.image.is_some()),
            ("pull", self.pull.is_some()),
        ];
        let first = written.iter().find(|(_, written)| *written);
        first.map(|(key, _)| *key)
    }
}

impl From<Option<&Program>> for ProgramKeys {
    fn from(program: Option<&Program>) -> Self {
        let Some(program) = program else {
            return Self::default();
        };
        Self {
            contract: program.contract.map(|contract| contract.label().to_owned()),
            command: program.command.clone(),
            environment: program.environment.clone(),
            port: program.port,
            ready: program.ready.clone(),
            tmp: Some(Size(program.tmp_bytes)),
            processes: Some(program.processes),
            cpus: Some(program.cpus),
            isolation: Some(program.isolation.label().to_owned()),
            image: program.image.clone(),
            pull: Some(program.pull),
        }
    }
}

/// The runtime of this name.
pub(super) fn runtime(name: &str) -> Result<RuntimeKind, Error> {
    one_of("runtime", name, RuntimeKind::ALL, |kind| kind.label())
}

fn one_of<T: Copy>(
    key: &str,
    name: &str,
    all: &[T],
    label: impl Fn(&T) -> &'static str,
) -> Result<T, Error> {
    if let Some(found) = all.iter().find(|one| label(one) == name) {
        return Ok(*found);
    }
    let labels: Vec<&str> = all.iter().map(label).collect();
    let shown: String = name.chars().take(64).collect();
    let hint = match nearest(name, &labels) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("write one of {}", labels.join(", ")),
    };
    Err(bad(format!("{key} `{}` is not known", shown.escape_debug())).with_hint(hint))
}

fn bad(message: String) -> Error {
    Error::new(ErrorKind::BadRequest, message)
}
