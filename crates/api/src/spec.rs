//! A function's limits and grants as they are written in JSON and in the manifest.
//!
//! Every key has a default, unknown keys are refused, and values are checked when they become the
//! domain's own [`mote_core::spec::FunctionSpec`].

use std::collections::BTreeMap;
use std::path::PathBuf;

use mote_core::error::{Error, ErrorKind};
use mote_core::name::FunctionName;
use mote_core::spec::{DirectoryGrant, Grants, Limits, RuntimeKind};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::nearest::nearest;
use crate::units::{Period, Size};

/// Limits and grants of a function. Its name stands in the address, or in the manifest's table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FunctionSpec {
    /// How its code runs; `wasm` in this version.
    pub runtime: String,
    /// All linear memories of one call together.
    pub memory: Size,
    /// Elements of all tables of one call together.
    pub table: u64,
    /// Wall time of one call.
    pub timeout: Period,
    /// CPU time of one call.
    pub cpu: Period,
    /// Calls at once on a node.
    pub concurrency: u32,
    /// Calls that may wait for one of those.
    pub queue: u32,
    /// Largest body of a request, and of a reply.
    pub body: Size,
    /// Largest log of one call.
    pub log: Size,
    /// Whether it has published values that can be observed.
    pub observable: bool,
    /// How many calls one store serves; 1 is a fresh store for each call.
    pub reuse: u32,
    /// Environment variables.
    pub env: BTreeMap<String, String>,
    /// What it may reach besides its own memory.
    pub allow: Allow,
}

/// Capabilities; everything not named is denied.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Allow {
    /// Origins that outbound HTTP may reach, such as `https://api.example.org`.
    pub http: Vec<String>,
    /// Directories of the node that the function may read.
    pub read: Vec<Directory>,
}

/// One read-only directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Directory {
    /// Where it is on the node.
    pub host: String,
    /// Where the function finds it.
    pub guest: String,
}

impl FunctionSpec {
    /// Every key, for hints.
    pub(crate) const KEYS: &'static [&'static str] = &[
        "runtime",
        "memory",
        "table",
        "timeout",
        "cpu",
        "concurrency",
        "queue",
        "body",
        "log",
        "observable",
        "reuse",
        "env",
        "allow",
    ];

    /// Names and checks the spec. Fails with `BadRequest` on a value outside its bounds, and with
    /// `Unsupported` on a runtime this version does not have.
    pub fn into_core(self, name: FunctionName) -> Result<mote_core::spec::FunctionSpec, Error> {
        let spec = mote_core::spec::FunctionSpec {
            name,
            runtime: runtime(&self.runtime)?,
            limits: Limits {
                memory_bytes: self.memory.0,
                table_elements: self.table,
                timeout: self.timeout.0,
                cpu: self.cpu.0,
                body_bytes: self.body.0,
                log_bytes: self.log.0,
                concurrency: self.concurrency,
                queue: self.queue,
            },
            reuse: self.reuse,
            observable: self.observable,
            env: self.env,
            allow: Grants {
                http: self.allow.http,
                read: self
                    .allow
                    .read
                    .into_iter()
                    .map(|directory| DirectoryGrant {
                        host: PathBuf::from(directory.host),
                        guest: directory.guest,
                    })
                    .collect(),
            },
        };
        spec.check()?;
        Ok(spec)
    }
}

/// The runtime of this name.
fn runtime(name: &str) -> Result<RuntimeKind, Error> {
    match name {
        "wasm" => Ok(RuntimeKind::Wasm),
        "process" | "container" => Err(Error::new(
            ErrorKind::Unsupported,
            format!("runtime `{name}` is not available in this version"),
        )
        .with_hint("build the function as a WebAssembly component and write runtime = \"wasm\"")),
        other => {
            let shown: String = other.chars().take(64).collect();
            let hint = match nearest(other, &["wasm", "process", "container"]) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "write runtime = \"wasm\"".to_owned(),
            };
            Err(Error::new(
                ErrorKind::BadRequest,
                format!("runtime `{}` is not known", shown.escape_debug()),
            )
            .with_hint(hint))
        }
    }
}

impl From<&mote_core::spec::FunctionSpec> for FunctionSpec {
    fn from(spec: &mote_core::spec::FunctionSpec) -> Self {
        Self {
            runtime: spec.runtime.label().to_owned(),
            memory: Size(spec.limits.memory_bytes),
            table: spec.limits.table_elements,
            timeout: Period(spec.limits.timeout),
            cpu: Period(spec.limits.cpu),
            concurrency: spec.limits.concurrency,
            queue: spec.limits.queue,
            body: Size(spec.limits.body_bytes),
            log: Size(spec.limits.log_bytes),
            observable: spec.observable,
            reuse: spec.reuse,
            env: spec.env.clone(),
            allow: Allow {
                http: spec.allow.http.clone(),
                read: spec
                    .allow
                    .read
                    .iter()
                    .map(|grant| Directory {
                        host: grant.host.to_string_lossy().into_owned(),
                        guest: grant.guest.clone(),
                    })
                    .collect(),
            },
        }
    }
}

impl Default for FunctionSpec {
    fn default() -> Self {
        let limits = Limits::default();
        Self {
            runtime: RuntimeKind::Wasm.label().to_owned(),
            memory: Size(limits.memory_bytes),
            table: limits.table_elements,
            timeout: Period(limits.timeout),
            cpu: Period(limits.cpu),
            concurrency: limits.concurrency,
            queue: limits.queue,
            body: Size(limits.body_bytes),
            log: Size(limits.log_bytes),
            observable: false,
            reuse: 1,
            env: BTreeMap::new(),
            allow: Allow::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name() -> FunctionName {
        "light.home".parse().unwrap()
    }

    #[test]
    fn the_list_of_keys_is_complete() {
        let value = serde_json::to_value(FunctionSpec::default()).unwrap();
        let mut written: Vec<&str> = value
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        let mut listed = FunctionSpec::KEYS.to_vec();
        written.sort_unstable();
        listed.sort_unstable();
        assert_eq!(written, listed);
    }

    #[test]
    fn a_spec_survives_the_way_there_and_back() {
        let text = r#"{"memory":"16MiB","timeout":"2s","body":4096,"reuse":7,"observable":true,
            "env":{"ROOM":"kitchen"},"allow":{"http":["https://api.example.org"],
            "read":[{"host":"/srv/data","guest":"/data"}]}}"#;
        let wire: FunctionSpec = serde_json::from_str(text).unwrap();
        let core = wire.clone().into_core(name()).unwrap();
        assert_eq!(core.limits.body_bytes, 4096);
        assert_eq!(FunctionSpec::from(&core), wire);
        let again: FunctionSpec =
            serde_json::from_str(&serde_json::to_string(&wire).unwrap()).unwrap();
        assert_eq!(again, wire);
    }

    #[test]
    fn defaults_are_those_of_the_domain() {
        let core = FunctionSpec::default().into_core(name()).unwrap();
        assert_eq!(core, mote_core::spec::FunctionSpec::new(name()));
    }

    #[test]
    fn what_this_version_does_not_have_is_said() {
        for (runtime, kind, hint) in [
            ("process", ErrorKind::Unsupported, "WebAssembly"),
            ("container", ErrorKind::Unsupported, "WebAssembly"),
            ("wsam", ErrorKind::BadRequest, "did you mean `wasm`?"),
        ] {
            let spec = FunctionSpec {
                runtime: runtime.to_owned(),
                ..FunctionSpec::default()
            };
            let error = spec.into_core(name()).unwrap_err();
            assert_eq!(error.kind(), kind, "{runtime}");
            assert!(error.hint().unwrap().contains(hint), "{runtime}");
        }
        assert!(serde_json::from_str::<FunctionSpec>(r#"{"memroy":"1MiB"}"#).is_err());
    }
}
