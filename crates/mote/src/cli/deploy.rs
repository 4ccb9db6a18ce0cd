//! `mote deploy`: a .wasm file, a program, a folder of plain source, or every function of a folder
//! with a manifest.

mod bare;
mod code;
mod source;

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use mote_api::client::Client;
use mote_api::manifest;
use mote_api::spec::FunctionSpec;
use mote_api::wire::{self, Doors, FunctionInfo};
use mote_core::digest::Digest;
use mote_core::error::{Error, ErrorKind};
use mote_core::name::FunctionName;
use serde::Serialize;

use self::bare::Bare;
use super::output::{columns, json, size};
use super::target::{Target, doors};
use crate::report::say;

/// Deploy a .wasm file, a program, a folder of plain source, or every function of a mote.toml.
///
/// Plain source is a folder with a handler.py, a handler.js or an fn.sh. Prints name, version, size
/// and addresses of each. Code that the node has already is not sent.
#[derive(Debug, Args)]
pub(super) struct Deploy {
    /// A .wasm file, a program, a folder with source or a mote.toml, or the mote.toml itself.
    path: PathBuf,
    #[command(flatten)]
    bare: Bare,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

/// One function, ready to go.
struct Unit {
    name: FunctionName,
    spec: FunctionSpec,
    code: Bytes,
}

#[derive(Serialize)]
struct Deployed {
    function: FunctionInfo,
    bytes: u64,
    http: Option<String>,
    coap: Option<String>,
}

impl Deploy {
    pub(super) async fn run(self) -> Result<(), Error> {
        let units = self.units()?;
        let client = self.target.client()?;
        let mut functions = Vec::new();
        for unit in &units {
            let deploying = format!("function `{}`", unit.name);
            let function = deploy(&client, unit).await.map_err(|error| {
                let named = error.message().contains(&deploying);
                if named {
                    error
                } else {
                    error.context(deploying)
                }
            })?;
            functions.push((function, unit.code.len() as u64));
        }
        self.print(functions, &doors(&client).await?)
    }

    fn print(&self, functions: Vec<(FunctionInfo, u64)>, doors: &Doors) -> Result<(), Error> {
        let deployed: Vec<Deployed> = functions
            .into_iter()
            .map(|(function, bytes)| Deployed {
                http: doors
                    .http
                    .as_ref()
                    .map(|door| format!("{door}/{}", function.name)),
                coap: doors
                    .coap
                    .as_ref()
                    .map(|door| format!("{door}/{}", function.name)),
                function,
                bytes,
            })
            .collect();
        if self.json {
            return json(&deployed);
        }
        for one in &deployed {
            for warning in &one.function.warnings {
                say(&format!("warning: {}: {warning}", one.function.name));
            }
        }
        for one in deployed
            .iter()
            .filter(|one| one.function.instances.is_some())
        {
            say(&format!(
                "{}: isolation {}",
                one.function.name, one.function.isolation
            ));
        }
        let off = || "off".to_owned();
        let rows = deployed
            .into_iter()
            .map(|one| {
                vec![
                    one.function.name,
                    one.function.version.to_string(),
                    size(one.bytes),
                    one.http.unwrap_or_else(off),
                    one.coap.unwrap_or_else(off),
                ]
            })
            .collect();
        columns(&["NAME", "VERSION", "SIZE", "HTTP", "COAP"], rows)
    }

    fn units(&self) -> Result<Vec<Unit>, Error> {
        let about =
            std::fs::metadata(&self.path).map_err(|error| code::unreadable(&self.path, &error))?;
        let manifest = self.path.join(manifest::FILE_NAME);
        if about.is_dir() && manifest.exists() {
            return self.manifest(&self.path, &manifest);
        }
        if self
            .path
            .file_name()
            .is_some_and(|name| name == manifest::FILE_NAME)
        {
            let folder = self
                .path
                .parent()
                .filter(|folder| !folder.as_os_str().is_empty());
            return self.manifest(folder.unwrap_or(Path::new(".")), &self.path);
        }
        Ok(vec![self.bare.unit(&self.path)?])
    }

    fn manifest(&self, folder: &Path, path: &Path) -> Result<Vec<Unit>, Error> {
        self.bare.refuse_with_manifest()?;
        let text = std::fs::read_to_string(path).map_err(|error| code::unreadable(path, &error))?;
        let manifest = manifest::parse(&text).map_err(|error| error.context(path.display()))?;
        let mut units = Vec::new();
        for function in manifest.functions {
            let name = function.spec.name.clone();
            let code = code::of(folder, &function.source, function.spec.runtime)
                .map_err(|error| match (&function.build, error.kind()) {
                    (Some(_), ErrorKind::NotFound) => error.with_hint(to_build(folder)),
                    _ => error,
                })
                .map_err(|error| error.context(format_args!("function `{name}`")))?;
            units.push(Unit {
                name,
                spec: FunctionSpec::from(&function.spec),
                code,
            });
        }
        Ok(units)
    }
}

/// What makes a source that is not there.
fn to_build(folder: &Path) -> String {
    match folder.to_str() {
        None | Some(".") => "run `mote build`".to_owned(),
        Some(folder) => format!("run `mote build {folder}`"),
    }
}

/// Names the code first, and sends it only when the node does not have it.
async fn deploy(client: &Client, unit: &Unit) -> Result<FunctionInfo, Error> {
    let hash = blake3::hash(&unit.code);
    let digest = Digest::from_bytes(*hash.as_bytes());
    let deploy = wire::Deploy {
        spec: unit.spec.clone(),
        artifact: digest.to_string(),
    };
    match client.deploy(&unit.name, &deploy).await {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        done => return done,
    }
    let bar = progress(&unit.name, unit.code.len() as u64);
    let heard = bar.clone();
    client
        .put_artifact(&digest, unit.code.clone(), move |sent| {
            heard.set_position(sent)
        })
        .await?;
    bar.set_message("preparing");
    let done = client.deploy(&unit.name, &deploy).await;
    bar.finish_and_clear();
    done
}

/// A bar on a terminal, nothing elsewhere.
fn progress(name: &FunctionName, length: u64) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(length).with_prefix(name.to_string());
    if let Ok(style) = ProgressStyle::with_template("{prefix} {msg} {bar:30} {bytes}/{total_bytes}")
    {
        bar.set_style(style);
    }
    bar.set_message("uploading");
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}
