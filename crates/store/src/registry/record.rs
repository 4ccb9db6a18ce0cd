//! How a record is stored: a version byte, then JSON.
//!
//! These are the store's own types, so that a change of a domain type cannot silently change what
//! is on disk: encoding takes every domain type apart by name, and a new field does not compile
//! until it has a place here. Any change of these types raises [`VERSION`]. Unknown fields are
//! refused instead of dropped, because a record is written back whole.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use mote_core::error::{Error, ErrorKind};
use mote_core::name::FunctionName;
use mote_core::registry::FunctionRecord;
use mote_core::spec::{self, DirectoryGrant, FunctionSpec, Grants, Limits, RuntimeKind};
use serde::{Deserialize, Serialize};

/// The version this code writes, and the newest it reads. Older ones are read for as long as a
/// release that wrote them is supported.
const VERSION: u8 = 3;

/// The oldest version this code reads. Version 1 has no programs and no scale, version 2 no grants of
/// data and secrets; what a version has not is absent.
const VERSION_OLDEST: u8 = 1;

/// Most bytes of one record. Five versions with all the environment they may have are a third of it.
const RECORD_BYTES_MAX: usize = 1 << 20;

/// The bytes for a record. Fails with `BadRequest` when it contradicts itself or names what cannot
/// be stored, and with `TooLarge` over the limit.
pub(super) fn encode(record: &FunctionRecord) -> Result<Vec<u8>, Error> {
    check(record)?;
    let versions = record.versions.iter().map(Version::store);
    let stored = Record {
        live: record.live,
        versions: versions.collect::<Result<_, _>>()?,
    };
    let mut bytes = vec![VERSION];
    serde_json::to_writer(&mut bytes, &stored)
        .expect("maps have string keys and writing to memory does not fail");
    if bytes.len() > RECORD_BYTES_MAX {
        return Err(Error::new(
            ErrorKind::TooLarge,
            format!(
                "the record of function `{}` has {} bytes, more than {RECORD_BYTES_MAX}",
                record.name,
                bytes.len()
            ),
        )
        .with_hint("shorten its environment or its grants"));
    }
    Ok(bytes)
}

/// The record in these bytes. Whatever they are, this returns.
pub(super) fn decode(name: &str, bytes: &[u8]) -> Result<FunctionRecord, Error> {
    let json = readable(name, bytes)?;
    let stored: Record =
        serde_json::from_slice(json).map_err(|error| damaged(name, &error.to_string()))?;
    let parsed: FunctionName = name
        .parse()
        .map_err(|error: Error| damaged(name, error.message()))?;
    let versions = stored
        .versions
        .into_iter()
        .map(|version| version.restore(&parsed));
    let record = FunctionRecord {
        live: stored.live,
        versions: versions.collect::<Result<_, _>>()?,
        name: parsed,
    };
    check(&record).map_err(|error| damaged(name, error.message()))?;
    Ok(record)
}

/// The JSON part of these bytes, if they are of a version this code knows. Asked before a record is
/// replaced or removed too: what a newer node wrote is never thrown away unread.
pub(super) fn readable<'a>(name: &str, bytes: &'a [u8]) -> Result<&'a [u8], Error> {
    match bytes.split_first() {
        Some((VERSION_OLDEST..=VERSION, json)) => Ok(json),
        Some((version, _)) if *version > VERSION => Err(Error::new(
            ErrorKind::Unsupported,
            format!(
                "the record of function `{}` has version {version}, and this version of mote knows versions up to {VERSION}",
                name.escape_debug()
            ),
        )
        .with_hint("start the newer version of mote that wrote it; nothing was changed")),
        _ => Err(damaged(name, "it has no version")),
    }
}

/// What must hold of a record on both sides: when it is written, and when it is read back.
fn check(record: &FunctionRecord) -> Result<(), Error> {
    let name = &record.name;
    let bad = |what: String| {
        Err(Error::new(
            ErrorKind::BadRequest,
            format!("the record of function `{name}` {what}"),
        ))
    };
    if record.live().is_none() {
        return bad(format!(
            "says version {} is live, which it does not hold",
            record.live
        ));
    }
    if !record.versions.is_sorted_by(|a, b| a.number < b.number) {
        return bad("does not hold its versions by rising number".to_owned());
    }
    if let Some(other) = record.versions.iter().find(|v| v.spec.name != *name) {
        return bad(format!("holds a version of function `{}`", other.spec.name));
    }
    Ok(())
}

fn damaged(name: &str, why: &str) -> Error {
    Error::new(
        ErrorKind::Internal,
        format!(
            "the record of function `{}` is damaged: {why}",
            name.escape_debug()
        ),
    )
    .with_hint(super::database::REPAIR)
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    live: u32,
    versions: Vec<Version>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Version {
    number: u32,
    artifact: String,
    image: Option<Image>,
    deployed_ms: u64,
    spec: Spec,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Image {
    file: String,
    digest: String,
    bytes: u64,
}

/// A spec without its name, which is the record's key.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Spec {
    runtime: String,
    memory_bytes: u64,
    table_elements: u64,
    timeout: Duration,
    cpu: Duration,
    body_bytes: u64,
    log_bytes: u64,
    concurrency: u32,
    queue: u32,
    reuse: u32,
    observable: bool,
    env: BTreeMap<String, String>,
    allow_http: Vec<String>,
    allow_read: Vec<Directory>,
    /// Since version 3.
    #[serde(default)]
    allow_keyvalue: bool,
    /// Since version 3.
    #[serde(default)]
    allow_secrets: Vec<String>,
    /// Since version 2.
    #[serde(default)]
    program: Option<Program>,
    /// Since version 2.
    #[serde(default)]
    scale: Option<Scale>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Program {
    contract: Option<String>,
    command: Vec<String>,
    environment: Option<String>,
    port: Option<u16>,
    ready: Option<String>,
    tmp_bytes: u64,
    processes: u32,
    cpus: f64,
    isolation: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    image: Option<String>,
    pull: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Scale {
    min: u32,
    max: u32,
    target: Option<u32>,
    idle: Duration,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Directory {
    host: String,
    guest: String,
}

impl Version {
    fn store(version: &mote_core::registry::Version) -> Result<Self, Error> {
        let mote_core::registry::Version {
            number,
            spec,
            artifact,
            image,
            deployed_ms,
        } = version;
        Ok(Self {
            number: *number,
            artifact: artifact.to_string(),
            image: image.as_ref().map(Image::store),
            deployed_ms: *deployed_ms,
            spec: Spec::store(spec)?,
        })
    }

    fn restore(self, name: &FunctionName) -> Result<mote_core::registry::Version, Error> {
        let artifact = self.artifact.parse();
        let artifact = artifact.map_err(|e: Error| damaged(name.full(), e.message()))?;
        let image = self.image.map(|image| image.restore(name)).transpose()?;
        Ok(mote_core::registry::Version {
            number: self.number,
            spec: self.spec.restore(name)?,
            artifact,
            image,
            deployed_ms: self.deployed_ms,
        })
    }
}

impl Image {
    fn store(image: &mote_core::runtime::Image) -> Self {
        let mote_core::runtime::Image {
            file,
            digest,
            bytes,
        } = image;
        Self {
            file: file.clone(),
            digest: digest.to_string(),
            bytes: *bytes,
        }
    }

    fn restore(self, name: &FunctionName) -> Result<mote_core::runtime::Image, Error> {
        let digest = self.digest.parse();
        Ok(mote_core::runtime::Image {
            file: self.file,
            digest: digest.map_err(|e: Error| damaged(name.full(), e.message()))?,
            bytes: self.bytes,
        })
    }
}

impl Spec {
    fn store(spec: &FunctionSpec) -> Result<Self, Error> {
        let FunctionSpec {
            name: _,
            runtime,
            limits,
            reuse,
            observable,
            env,
            allow:
                Grants {
                    http,
                    read,
                    keyvalue,
                    secrets,
                },
            program,
            scale,
        } = spec;
        let Limits {
            memory_bytes,
            table_elements,
            timeout,
            cpu,
            body_bytes,
            log_bytes,
            concurrency,
            queue,
        } = limits;
        let allow_read = read.iter().map(Directory::store);
        Ok(Self {
            runtime: runtime.label().to_owned(),
            memory_bytes: *memory_bytes,
            table_elements: *table_elements,
            timeout: *timeout,
            cpu: *cpu,
            body_bytes: *body_bytes,
            log_bytes: *log_bytes,
            concurrency: *concurrency,
            queue: *queue,
            reuse: *reuse,
            observable: *observable,
            env: env.clone(),
            allow_http: http.clone(),
            allow_read: allow_read.collect::<Result<_, _>>()?,
            allow_keyvalue: *keyvalue,
            allow_secrets: secrets.clone(),
            program: program.as_ref().map(Program::store),
            scale: Some(Scale::store(scale)),
        })
    }

    fn restore(self, name: &FunctionName) -> Result<FunctionSpec, Error> {
        Ok(FunctionSpec {
            name: name.clone(),
            runtime: labelled(
                name,
                "runtime",
                &self.runtime,
                (RuntimeKind::ALL, RuntimeKind::label),
            )?,
            limits: Limits {
                memory_bytes: self.memory_bytes,
                table_elements: self.table_elements,
                timeout: self.timeout,
                cpu: self.cpu,
                body_bytes: self.body_bytes,
                log_bytes: self.log_bytes,
                concurrency: self.concurrency,
                queue: self.queue,
            },
            reuse: self.reuse,
            observable: self.observable,
            env: self.env,
            allow: Grants {
                http: self.allow_http,
                read: self
                    .allow_read
                    .into_iter()
                    .map(Directory::restore)
                    .collect(),
                keyvalue: self.allow_keyvalue,
                secrets: self.allow_secrets,
            },
            program: match self.program {
                Some(program) => Some(program.restore(name)?),
                None => None,
            },
            scale: self.scale.map(Scale::restore).unwrap_or_default(),
        })
    }
}

impl Program {
    fn store(program: &spec::Program) -> Self {
        let spec::Program {
            contract,
            command,
            environment,
            port,
            ready,
            tmp_bytes,
            processes,
            cpus,
            isolation,
            image,
            pull,
        } = program;
        Self {
            contract: contract.map(|contract| contract.label().to_owned()),
            command: command.clone(),
            environment: environment.clone(),
            port: *port,
            ready: ready.clone(),
            tmp_bytes: *tmp_bytes,
            processes: *processes,
            cpus: *cpus,
            isolation: isolation.label().to_owned(),
            image: image.clone(),
            pull: *pull,
        }
    }

    fn restore(self, name: &FunctionName) -> Result<spec::Program, Error> {
        let contracts = (
            spec::Contract::ALL,
            spec::Contract::label as fn(spec::Contract) -> _,
        );
        let isolations = (
            spec::Isolation::ALL,
            spec::Isolation::label as fn(spec::Isolation) -> _,
        );
        let contract = self.contract.as_ref();
        Ok(spec::Program {
            contract: contract
                .map(|label| labelled(name, "contract", label, contracts))
                .transpose()?,
            command: self.command,
            environment: self.environment,
            port: self.port,
            ready: self.ready,
            tmp_bytes: self.tmp_bytes,
            processes: self.processes,
            cpus: self.cpus,
            isolation: labelled(name, "isolation", &self.isolation, isolations)?,
            image: self.image,
            pull: self.pull,
        })
    }
}

impl Scale {
    fn store(scale: &spec::Scale) -> Self {
        let spec::Scale {
            min,
            max,
            target,
            idle,
        } = scale;
        Self {
            min: *min,
            max: *max,
            target: *target,
            idle: *idle,
        }
    }

    fn restore(self) -> spec::Scale {
        spec::Scale {
            min: self.min,
            max: self.max,
            target: self.target,
            idle: self.idle,
        }
    }
}

impl Directory {
    fn store(grant: &DirectoryGrant) -> Result<Self, Error> {
        let DirectoryGrant { host, guest } = grant;
        // Manifests and the admin API are UTF-8, so no other path gets here from outside.
        let host = host.to_str().ok_or_else(|| {
            Error::new(
                ErrorKind::BadRequest,
                format!("allow.read `{}` is not UTF-8", host.display()),
            )
        })?;
        Ok(Self {
            host: host.to_owned(),
            guest: guest.clone(),
        })
    }

    fn restore(self) -> DirectoryGrant {
        DirectoryGrant {
            host: PathBuf::from(self.host),
            guest: self.guest,
        }
    }
}

/// The one of these values with this label. A value that a later version adds comes with a later
/// record version, so any other label here is damage.
fn labelled<T: Copy>(
    name: &FunctionName,
    key: &str,
    label: &str,
    (all, label_of): (&[T], fn(T) -> &'static str),
) -> Result<T, Error> {
    let found = all.iter().find(|one| label_of(**one) == label);
    found.copied().ok_or_else(|| {
        damaged(
            name.full(),
            &format!("there is no {key} `{}`", label.escape_debug()),
        )
    })
}

#[cfg(test)]
mod tests;
