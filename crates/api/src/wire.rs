//! What the admin API sends and takes, beside the spec.
//!
//! Input refuses unknown keys, so a slip is an answer and not a silence. Output may grow: readers
//! ignore keys they do not know.

pub mod data;

use mote_core::digest::Digest;
use mote_core::error::{Error, ErrorKind};
use mote_core::log::Level;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::spec::FunctionSpec;

/// What `PUT /v1/functions/{name}` takes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Deploy {
    /// Limits and grants; missing keys have their defaults.
    #[serde(default)]
    pub spec: FunctionSpec,
    /// Digest of the code, which must be on the node already.
    pub artifact: String,
}

impl Deploy {
    /// The digest, parsed.
    pub fn digest(&self) -> Result<Digest, Error> {
        self.artifact
            .parse()
            .map_err(|error: Error| error.context("artifact"))
    }
}

/// What `POST /v1/functions/{name}/rollback` takes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Rollback {
    /// The version to make live; without it, the one before the live one.
    pub version: Option<u32>,
}

/// What `POST /v1/functions/{name}/scale` takes; what is missing stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Rescale {
    /// Instances that are always there.
    pub min: Option<u32>,
    /// Most instances.
    pub max: Option<u32>,
}

/// What `POST /v1/wipe` takes: the word that nobody writes by accident.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Wipe {
    /// Must be `wipe`.
    pub confirm: String,
}

/// The only value of [`Wipe::confirm`] that wipes.
pub const WIPE_WORD: &str = "wipe";

/// What `POST /v1/wipe` answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Wiped {
    /// How many functions were removed.
    pub functions: u64,
}

/// What `PUT /v1/artifacts/{digest}` answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Artifact {
    /// BLAKE3 of the bytes, 64 hexadecimal digits.
    pub digest: String,
    /// Their number.
    pub bytes: u64,
}

/// What `GET /v1/functions` answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FunctionList {
    /// Every function, by name.
    pub functions: Vec<FunctionInfo>,
}

/// One function, as it is and as it does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FunctionInfo {
    /// Shortest full name: `light`, or `light.home`.
    pub name: String,
    /// Its app.
    pub app: String,
    /// The number of the live version.
    pub version: u32,
    /// What the code turned out to be: `mote:function`, `wasi:http`, `wasi command`.
    pub shape: String,
    /// Limits and grants of the live version.
    pub spec: FunctionSpec,
    /// Kept versions, by rising number.
    pub versions: Vec<VersionInfo>,
    /// `hot` when it can answer at once, `warm` when it only has to be woken, `cold` when it has to
    /// be started, `unhealthy` when its instances die, `broken` when it could not be brought back.
    pub state: String,
    /// Whether its code is in memory.
    pub loaded: bool,
    /// Its instances outside of the node; `None` for WebAssembly.
    pub instances: Option<InstancesInfo>,
    /// What keeps it apart from others, in one line.
    pub isolation: String,
    /// What it lacks that it may need, each in one line: a secret that it is granted and that is not
    /// set.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// Calls that run now.
    pub in_flight: u32,
    /// Calls that wait now.
    pub waiting: u32,
    /// Calls since the node started.
    pub calls: u64,
    /// Those of them that failed.
    pub failures: u64,
}

/// The instances of a process or container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InstancesInfo {
    /// Those that run.
    pub running: u32,
    /// Those that are paused.
    pub paused: u32,
    /// Those on their way.
    pub starting: u32,
    /// Those that died by themselves or did not start, since the live version was deployed.
    pub deaths: u64,
    /// How many there should be, and why.
    pub decision: String,
    /// Why calls are refused, if they are.
    pub unhealthy: Option<String>,
}

/// One kept version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VersionInfo {
    /// Its number.
    pub version: u32,
    /// Whether calls go to it.
    pub live: bool,
    /// Digest of its code.
    pub artifact: String,
    /// When it was deployed, milliseconds of Unix time.
    pub deployed_ms: u64,
}

/// What `GET /v1/status` answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// Whether the node takes calls.
    pub ready: bool,
    /// Whether it is on its way down.
    pub draining: bool,
    /// The node's mark, as in the ids of calls.
    pub node: String,
    /// The version of the program.
    pub version: String,
    /// Seconds since it started.
    pub uptime_s: u64,
    /// How many functions are deployed.
    pub functions: u64,
    /// Calls that run now.
    pub in_flight: u32,
    /// Calls that wait now.
    pub waiting: u32,
    /// Calls since it started.
    pub calls: u64,
    /// Where its doors listen.
    pub doors: Doors,
    /// Bytes that instances outside of the node may reserve.
    pub memory_bytes: u64,
    /// Bytes that they have reserved.
    pub memory_reserved_bytes: u64,
    /// What keeps functions apart, by runtime, in one line each.
    pub isolation: std::collections::BTreeMap<String, String>,
    /// Instances of environments that wait for the code of a function.
    #[serde(default)]
    pub warm: Warm,
}

/// Instances of environments that wait for the code of a function.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Warm {
    /// How many wait, by environment.
    pub ready: std::collections::BTreeMap<String, u32>,
    /// How many were given to functions since the node started.
    pub taken: u64,
    /// Why there are none although `warm_instances` asks for some.
    pub off: Option<String>,
}

/// Where the doors of a node listen; `None` is a closed one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Doors {
    /// Functions over HTTP.
    pub http: Option<String>,
    /// Functions over CoAP.
    pub coap: Option<String>,
}

/// The file `addresses` in a node's data directory: where its doors are while it runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addresses {
    /// Functions over HTTP.
    #[serde(default)]
    pub http: Option<String>,
    /// Functions over CoAP.
    #[serde(default)]
    pub coap: Option<String>,
    /// The admin API.
    #[serde(default)]
    pub admin: Option<String>,
}

/// The name of that file.
pub const ADDRESSES_FILE: &str = "addresses";
/// The name of the file with the admin token.
pub const TOKEN_FILE: &str = "token";

/// One line of `GET /v1/functions/{name}/logs`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogLine {
    /// Milliseconds of Unix time.
    pub time_ms: u64,
    /// The call that wrote it.
    pub call: String,
    /// `trace`, `debug`, `info`, `warn` or `error`.
    pub level: String,
    /// What it wrote.
    pub text: String,
}

/// The level of this name.
pub fn level(name: &str) -> Result<Level, Error> {
    const LEVELS: [Level; 5] = [
        Level::Trace,
        Level::Debug,
        Level::Info,
        Level::Warn,
        Level::Error,
    ];
    LEVELS
        .into_iter()
        .find(|level| level.label() == name)
        .ok_or_else(|| {
            let shown: String = name.chars().take(32).collect();
            Error::new(
                ErrorKind::BadRequest,
                format!("level `{}` is not known", shown.escape_debug()),
            )
            .with_hint("write trace, debug, info, warn or error")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn input_refuses_what_it_does_not_know() {
        assert!(serde_json::from_str::<Wipe>(r#"{"confirm":"wipe","now":true}"#).is_err());
        assert!(serde_json::from_str::<Rollback>(r#"{"verison":1}"#).is_err());
        assert!(serde_json::from_str::<Deploy>(r#"{"artifact":"x","specs":{}}"#).is_err());
        assert_eq!(
            serde_json::from_str::<Rollback>("{}").unwrap().version,
            None
        );
        let deploy: Deploy = serde_json::from_str(r#"{"artifact":"xyz"}"#).unwrap();
        assert!(
            deploy
                .digest()
                .unwrap_err()
                .message()
                .starts_with("artifact: ")
        );
    }

    #[test]
    fn levels_are_named() {
        assert_eq!(level("warn").unwrap(), Level::Warn);
        assert!(level("loud").is_err());
    }
}
