//! What a function is: its limits and grants. A checked value; the manifest and the admin API have
//! their own types and convert into this one.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::error::{Error, ErrorKind};
use crate::name::FunctionName;
use crate::secrets::check_name;

mod program;
mod scale;

pub use program::{Contract, Isolation, Program, RuntimeKind};
pub use scale::{INSTANCES_MAX, Scale};

/// One version of a function, without its code.
#[derive(Clone, Debug, PartialEq)]
pub struct FunctionSpec {
    /// Full name.
    pub name: FunctionName,
    /// How its code runs.
    pub runtime: RuntimeKind,
    /// What one call, and all calls together, may use.
    pub limits: Limits,
    /// How many calls one store serves before it is thrown away; 1 is a fresh store for each call.
    pub reuse: u32,
    /// Whether it has published values that can be observed.
    pub observable: bool,
    /// Environment variables.
    pub env: BTreeMap<String, String>,
    /// What it may reach besides its own memory.
    pub allow: Grants,
    /// What to run and how to talk to it: always there for processes and containers, never for Wasm.
    pub program: Option<Program>,
    /// How many instances there may be. Without meaning for Wasm, whose one instance takes all calls.
    pub scale: Scale,
}

/// Limits of a function. Every field is per call unless it says otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of all linear memories together; of an instance that serves many calls, all it uses.
    pub memory_bytes: u64,
    /// Elements of all tables together.
    pub table_elements: u64,
    /// Wall time.
    pub timeout: Duration,
    /// CPU time.
    pub cpu: Duration,
    /// Bytes of the request's body, and of the reply's.
    pub body_bytes: u64,
    /// Bytes of log.
    pub log_bytes: u64,
    /// Calls at once on this node.
    pub concurrency: u32,
    /// Calls that may wait for one of those.
    pub queue: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes: 64 << 20,
            table_elements: 100_000,
            timeout: Duration::from_secs(10),
            cpu: Duration::from_secs(1),
            body_bytes: 1 << 20,
            log_bytes: 64 << 10,
            concurrency: 64,
            queue: 1024,
        }
    }
}

/// Capabilities, all of them denied unless named here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    /// Origins (`https://api.example.org`, `http://10.0.0.7:8080`) that outbound HTTP may reach.
    pub http: Vec<String>,
    /// Directories of the node that the guest may read.
    pub read: Vec<DirectoryGrant>,
    /// Whether it may read and write the key-value data of its app.
    pub keyvalue: bool,
    /// Secrets of its app, by name, that it may see.
    pub secrets: Vec<String>,
}

/// One read-only directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryGrant {
    /// Where it is on the node.
    pub host: PathBuf,
    /// Where the guest finds it.
    pub guest: String,
}

/// Most bytes of memory a Wasm call may be given: what a 32-bit guest can address.
pub const MEMORY_BYTES_MAX: u64 = 4 << 30;
/// Most bytes of memory an instance of a program may be given. A node refuses more than it has.
pub const PROGRAM_MEMORY_BYTES_MAX: u64 = 1 << 40;
/// Largest body limit; larger things belong in a stream or a store.
pub const BODY_BYTES_MAX: u64 = 256 << 20;
/// Longest call.
pub const TIMEOUT_MAX: Duration = Duration::from_secs(3600);
/// Most calls at once of one function.
pub const CONCURRENCY_MAX: u32 = 10_000;
/// Most secrets that a function may be granted.
pub const SECRETS_MAX: usize = 256;
/// Most environment variables, and most bytes of all of them.
pub const ENV_MAX: (usize, usize) = (256, 64 << 10);

impl FunctionSpec {
    /// A spec with default limits and no grants.
    pub fn new(name: FunctionName) -> Self {
        Self {
            name,
            runtime: RuntimeKind::Wasm,
            limits: Limits::default(),
            reuse: 1,
            observable: false,
            env: BTreeMap::new(),
            allow: Grants::default(),
            program: None,
            scale: Scale::default(),
        }
    }

    /// Checks every value against its bounds. Fails with `BadRequest`, naming key and value.
    pub fn check(&self) -> Result<(), Error> {
        let limits = &self.limits;
        let memory_max = match self.runtime {
            RuntimeKind::Wasm => MEMORY_BYTES_MAX,
            RuntimeKind::Process | RuntimeKind::Container => PROGRAM_MEMORY_BYTES_MAX,
        };
        within("memory", limits.memory_bytes, 64 << 10, memory_max)?;
        within("table", limits.table_elements, 0, 10_000_000)?;
        within("body", limits.body_bytes, 0, BODY_BYTES_MAX)?;
        within("log", limits.log_bytes, 0, 16 << 20)?;
        within(
            "timeout (ms)",
            millis(limits.timeout),
            1,
            millis(TIMEOUT_MAX),
        )?;
        within("cpu (ms)", millis(limits.cpu), 1, millis(TIMEOUT_MAX))?;
        within(
            "concurrency",
            limits.concurrency.into(),
            1,
            CONCURRENCY_MAX.into(),
        )?;
        within("queue", limits.queue.into(), 0, 100_000)?;
        within("reuse", self.reuse.into(), 1, 1_000_000)?;
        self.scale.check()?;
        self.check_program()?;
        self.check_env()?;
        self.allow
            .http
            .iter()
            .try_for_each(|origin| check_origin(origin))?;
        for directory in &self.allow.read {
            if !directory.host.is_absolute() || !directory.guest.starts_with('/') {
                return Err(bad(format!(
                    "allow.read `{}` is not an absolute path",
                    directory.host.display()
                )));
            }
        }
        self.check_secrets()
    }

    fn check_secrets(&self) -> Result<(), Error> {
        let names = &self.allow.secrets;
        if names.len() > SECRETS_MAX {
            let count = names.len();
            return Err(bad(format!(
                "allow.secrets names {count} secrets, more than {SECRETS_MAX}"
            )));
        }
        names
            .iter()
            .try_for_each(|name| check_name(name))
            .map_err(|error| error.context("allow.secrets"))
    }

    fn check_program(&self) -> Result<(), Error> {
        let needs_program = self.runtime != RuntimeKind::Wasm;
        match &self.program {
            None if needs_program => Err(bad(format!(
                "runtime `{}` has no program",
                self.runtime.label()
            ))),
            Some(_) if !needs_program => Err(bad(
                "a program is for the runtimes `process` and `container`".to_owned(),
            )),
            Some(program) => program.check(self.runtime),
            None => Ok(()),
        }
    }

    fn check_env(&self) -> Result<(), Error> {
        let (count, bytes) = ENV_MAX;
        if self.env.len() > count
            || self
                .env
                .iter()
                .map(|(k, v)| k.len() + v.len())
                .sum::<usize>()
                > bytes
        {
            return Err(bad(format!(
                "env is larger than {count} variables or {bytes} bytes"
            )));
        }
        for (key, value) in &self.env {
            if key.is_empty() || key.contains(['=', '\0']) || value.contains('\0') {
                return Err(bad(format!(
                    "env variable `{}` is not valid",
                    key.escape_debug()
                )));
            }
        }
        Ok(())
    }
}

fn check_origin(origin: &str) -> Result<(), Error> {
    let uri: Option<http::Uri> = origin.parse().ok();
    let valid = uri.is_some_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.host().is_some()
            && matches!(uri.path(), "" | "/")
            && uri.query().is_none()
            && !origin.ends_with('/')
    });
    if valid {
        return Ok(());
    }
    Err(bad(format!(
        "allow.http `{}` is not an origin",
        origin.escape_debug()
    ))
    .with_hint("write scheme, host and port only, such as \"https://api.example.org\""))
}

fn within(key: &str, value: u64, min: u64, max: u64) -> Result<(), Error> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    Err(bad(format!("{key} = {value} is outside {min} to {max}")))
}

fn bad(message: String) -> Error {
    Error::new(ErrorKind::BadRequest, message)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> FunctionSpec {
        FunctionSpec::new("light".parse().unwrap())
    }

    #[test]
    fn the_default_is_valid() {
        spec().check().unwrap();
    }

    #[test]
    fn values_outside_their_bounds_are_named() {
        let mut over = spec();
        over.limits.memory_bytes = 5 << 30;
        assert!(
            over.check()
                .unwrap_err()
                .message()
                .starts_with("memory = 5368709120")
        );
        let mut never = spec();
        never.limits.concurrency = 0;
        assert!(
            never
                .check()
                .unwrap_err()
                .message()
                .starts_with("concurrency = 0")
        );
    }

    #[test]
    fn only_names_of_secrets_can_be_granted() {
        let mut granted = spec();
        granted.allow.secrets = vec!["MQTT_PASSWORD".to_owned()];
        granted.check().unwrap();
        granted.allow.secrets.push("mqtt.password".to_owned());
        let error = granted.check().unwrap_err();
        assert!(
            error.message().starts_with("allow.secrets: secret name"),
            "{error}"
        );
        granted.allow.secrets = vec!["A".to_owned(); SECRETS_MAX + 1];
        assert!(granted.check().is_err());
    }

    #[test]
    fn only_origins_can_be_granted() {
        for (origin, valid) in [
            ("https://api.example.org", true),
            ("http://10.0.0.7:8080", true),
            ("http://[::1]:80", true),
            ("api.example.org", false),
            ("https://api.example.org/", false),
            ("https://api.example.org/path", false),
            ("ftp://x", false),
            ("*", false),
        ] {
            assert_eq!(check_origin(origin).is_ok(), valid, "{origin}");
        }
    }
}
