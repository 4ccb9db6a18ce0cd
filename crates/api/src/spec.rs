//! A function's limits and grants as they are written in JSON and in the manifest.
//!
//! Every key has a default, unknown keys are refused, and values are checked when they become the
//! domain's own [`mote_core::spec::FunctionSpec`].

use std::collections::BTreeMap;
use std::path::PathBuf;

use mote_core::error::Error;
use mote_core::name::FunctionName;
use mote_core::spec::{DirectoryGrant, Grants, Limits};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::units::{Period, Size};

mod program;

pub use program::{ProgramKeys, Scale};

/// Limits and grants of a function. Its name stands in the address, or in the manifest's table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FunctionSpec {
    /// How its code runs: `wasm`, `process` or `container`.
    pub runtime: String,
    /// All linear memories of one call together; of a process or container, all it uses.
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
    /// How many instances there may be, of a process or container.
    pub scale: Scale,
    /// How a process or container takes calls: `stdio`, `http` or `lambda`.
    pub contract: Option<String>,
    /// The program and its arguments; empty for what the image or the environment says.
    pub command: Vec<String>,
    /// The environment that serves plain source, such as `python3`.
    pub environment: Option<String>,
    /// The port on which it listens; by default the one that `$PORT` says.
    pub port: Option<u16>,
    /// The path that answers with 2xx when it is ready; by default it is ready when it listens.
    pub ready: Option<String>,
    /// Size of `/tmp` of an instance.
    pub tmp: Option<Size>,
    /// Processes and threads of an instance.
    pub processes: Option<u32>,
    /// Processors that an instance may use; fractions are fine.
    pub cpus: Option<f64>,
    /// `best-effort`, or `required` to refuse where the system cannot isolate it in every way.
    pub isolation: Option<String>,
    /// Of containers: the image that serves plain source.
    pub image: Option<String>,
    /// Whether an image that is not on the node may be pulled.
    pub pull: Option<bool>,
}

/// Capabilities; everything not named is denied.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Allow {
    /// Origins that outbound HTTP may reach, such as `https://api.example.org`.
    pub http: Vec<String>,
    /// Directories of the node that the function may read.
    pub read: Vec<Directory>,
    /// Whether it may read and write the key-value data of its app.
    pub keyvalue: bool,
    /// Names of secrets of its app that it may see.
    pub secrets: Vec<String>,
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
        "scale",
        "contract",
        "command",
        "environment",
        "port",
        "ready",
        "tmp",
        "processes",
        "cpus",
        "isolation",
        "image",
        "pull",
    ];

    /// Names and checks the spec. Fails with `BadRequest` on a value outside its bounds, and with
    /// `Unsupported` on a runtime this version does not have.
    pub fn into_core(self, name: FunctionName) -> Result<mote_core::spec::FunctionSpec, Error> {
        let runtime = program::runtime(&self.runtime)?;
        let program = ProgramKeys {
            contract: self.contract,
            command: self.command,
            environment: self.environment,
            port: self.port,
            ready: self.ready,
            tmp: self.tmp,
            processes: self.processes,
            cpus: self.cpus,
            isolation: self.isolation,
            image: self.image,
            pull: self.pull,
        };
        let spec = mote_core::spec::FunctionSpec {
            name,
            runtime,
            program: program.into_core(runtime)?,
            scale: self.scale.into(),
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
                keyvalue: self.allow.keyvalue,
                secrets: self.allow.secrets,
            },
        };
        spec.check()?;
        Ok(spec)
    }
}

impl From<&mote_core::spec::FunctionSpec> for FunctionSpec {
    fn from(spec: &mote_core::spec::FunctionSpec) -> Self {
        let program = ProgramKeys::from(spec.program.as_ref());
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
                keyvalue: spec.allow.keyvalue,
                secrets: spec.allow.secrets.clone(),
            },
            scale: Scale::from(&spec.scale),
            contract: program.contract,
            command: program.command,
            environment: program.environment,
            port: program.port,
            ready: program.ready,
            tmp: program.tmp,
            processes: program.processes,
            cpus: program.cpus,
            isolation: program.isolation,
            image: program.image,
            pull: program.pull,
        }
    }
}

impl Default for FunctionSpec {
    fn default() -> Self {
        let name = FunctionName::new("default", "default").expect("both are labels");
        Self::from(&mote_core::spec::FunctionSpec::new(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mote_core::error::ErrorKind;

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
            "read":[{"host":"/srv/data","guest":"/data"}],"keyvalue":true,"secrets":["KEY"]}}"#;
        let wire: FunctionSpec = serde_json::from_str(text).unwrap();
        let core = wire.clone().into_core(name()).unwrap();
        assert_eq!(core.limits.body_bytes, 4096);
        assert!(core.allow.keyvalue && core.allow.secrets == ["KEY"]);
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
    fn a_program_survives_the_way_there_and_back() {
        let text = r#"{"runtime":"process","contract":"http","command":["./serve","-v"],"port":8080,
            "ready":"/health","tmp":"8MiB","processes":9,"cpus":0.5,"isolation":"required",
            "scale":{"min":1,"max":3,"target":2,"idle":"1m"}}"#;
        let wire: FunctionSpec = serde_json::from_str(text).unwrap();
        let core = wire.into_core(name()).unwrap();
        let program = core.program.clone().unwrap();
        assert_eq!(program.contract, Some(mote_core::spec::Contract::Http));
        assert_eq!((program.tmp_bytes, program.cpus), (8 << 20, 0.5));
        assert_eq!((core.scale.min, core.scale.target), (1, Some(2)));
        let again = FunctionSpec::from(&core).into_core(name()).unwrap();
        assert_eq!(again, core);
    }

    #[test]
    fn what_does_not_fit_is_said() {
        for (text, said) in [
            (r#"{"runtime":"wsam"}"#, "did you mean `wasm`?"),
            (
                r#"{"runtime":"wasm","command":["x"]}"#,
                "runtime = \"process\"",
            ),
            (
                r#"{"runtime":"process","contract":"htp"}"#,
                "did you mean `http`?",
            ),
            (
                r#"{"runtime":"container","contract":"stdio"}"#,
                "runtime = \"process\"",
            ),
            (
                r#"{"runtime":"process","isolation":"always"}"#,
                "best-effort",
            ),
        ] {
            let spec: FunctionSpec = serde_json::from_str(text).unwrap();
            let error = spec.into_core(name()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::BadRequest, "{text}");
            assert!(
                error.hint().unwrap().contains(said),
                "{text}: {error:?} {:?}",
                error.hint()
            );
        }
        assert!(serde_json::from_str::<FunctionSpec>(r#"{"memroy":"1MiB"}"#).is_err());
    }
}
