//! `mote deploy`: a .wasm file, or every function of a folder with a manifest.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use mote_api::client::Client;
use mote_api::manifest;
use mote_api::spec::FunctionSpec;
use mote_api::units::{Period, Size};
use mote_api::wire::{self, Doors, FunctionInfo};
use mote_core::digest::Digest;
use mote_core::error::{Error, ErrorKind};
use mote_core::name::{DEFAULT_APP, FunctionName};
use serde::Serialize;

use super::output::{columns, json, size};
use super::target::{Target, doors};

/// Largest file that is read; a node takes less unless told otherwise.
const SOURCE_BYTES_MAX: u64 = 1 << 30;

/// Deploy a .wasm file, or every function of a folder with a mote.toml.
///
/// Prints name, version, size and addresses of each. Code that the node has already is not sent.
#[derive(Debug, Args)]
pub(super) struct Deploy {
    /// A .wasm file, a folder with a mote.toml, or the mote.toml itself.
    path: PathBuf,
    #[command(flatten)]
    bare: Bare,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

/// What a manifest would say, for a file without one.
#[derive(Debug, Args)]
#[command(next_help_heading = "For a .wasm file without a manifest")]
struct Bare {
    /// Name of the function; by default the file's.
    #[arg(long)]
    name: Option<String>,
    /// Its app.
    #[arg(long)]
    app: Option<String>,
    /// Memory of one call, such as 64MiB.
    #[arg(long)]
    memory: Option<Size>,
    /// Wall time of one call, such as 10s.
    #[arg(long)]
    timeout: Option<Period>,
    /// Calls that one store serves.
    #[arg(long)]
    reuse: Option<u32>,
    /// It has published values that can be observed.
    #[arg(long)]
    observable: bool,
    /// An environment variable; may be given more than once.
    #[arg(long, value_name = "KEY=VALUE")]
    env: Vec<String>,
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
            std::fs::metadata(&self.path).map_err(|error| unreadable(&self.path, &error))?;
        if about.is_dir() {
            return self.folder(&self.path, &self.path.join(manifest::FILE_NAME));
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
            return self.folder(folder.unwrap_or(Path::new(".")), &self.path);
        }
        Ok(vec![self.bare.unit(&self.path)?])
    }

    fn folder(&self, folder: &Path, path: &Path) -> Result<Vec<Unit>, Error> {
        self.bare.refuse_with_manifest()?;
        let text = std::fs::read_to_string(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Error::new(
                ErrorKind::BadRequest,
                format!("{} has no {}", folder.display(), manifest::FILE_NAME),
            )
            .with_hint("name a .wasm file, or write a manifest: version = 1, [function.NAME], source = \"NAME.wasm\""),
            _ => unreadable(path, &error),
        })?;
        let manifest = manifest::parse(&text).map_err(|error| error.context(path.display()))?;
        let mut units = Vec::new();
        for function in manifest.functions {
            let code = inside(folder, &function.source).and_then(|path| read_code(&path))?;
            units.push(Unit {
                name: function.spec.name.clone(),
                spec: FunctionSpec::from(&function.spec),
                code,
            });
        }
        Ok(units)
    }
}

impl Bare {
    fn unit(&self, path: &Path) -> Result<Unit, Error> {
        let name = match &self.name {
            Some(name) => name.clone(),
            None => {
                let stem = path.file_stem().unwrap_or_default().to_string_lossy();
                stem.to_lowercase().replace(['_', ' '], "-")
            }
        };
        let name = match (name.parse::<FunctionName>(), &self.app) {
            (Ok(name), None) => Ok(name),
            (_, app) => FunctionName::new(&name, app.as_deref().unwrap_or(DEFAULT_APP)),
        }
        .map_err(|error| match &self.name {
            Some(_) => error,
            None => error.with_hint("choose a name with --name"),
        })?;
        let mut spec = FunctionSpec {
            observable: self.observable,
            ..FunctionSpec::default()
        };
        if let Some(memory) = self.memory {
            spec.memory = memory;
        }
        if let Some(timeout) = self.timeout {
            spec.timeout = timeout;
        }
        if let Some(reuse) = self.reuse {
            spec.reuse = reuse;
        }
        for pair in &self.env {
            let Some((key, value)) = pair.split_once('=') else {
                return Err(Error::new(
                    ErrorKind::BadRequest,
                    format!("--env {pair} has no value"),
                )
                .with_hint("write --env KEY=VALUE"));
            };
            spec.env.insert(key.to_owned(), value.to_owned());
        }
        // Checked here, before anything is sent.
        spec.clone().into_core(name.clone())?;
        let code = read_code(path)?;
        Ok(Unit { name, spec, code })
    }

    /// A manifest says all of this itself; a flag beside it would be forgotten next time.
    fn refuse_with_manifest(&self) -> Result<(), Error> {
        let given = [
            ("name", self.name.is_some()),
            ("app", self.app.is_some()),
            ("memory", self.memory.is_some()),
            ("timeout", self.timeout.is_some()),
            ("reuse", self.reuse.is_some()),
            ("observable", self.observable),
            ("env", !self.env.is_empty()),
        ];
        match given.iter().find(|(_, given)| *given) {
            Some((flag, _)) => Err(Error::new(
                ErrorKind::BadRequest,
                format!("--{flag} is for a .wasm file without a manifest"),
            )
            .with_hint(format!("write it into {}", manifest::FILE_NAME))),
            None => Ok(()),
        }
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
    bar.set_message("compiling");
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

/// A source of a manifest, which no link may lead out of its folder.
fn inside(folder: &Path, source: &Path) -> Result<PathBuf, Error> {
    let path = folder.join(source);
    let real = path
        .canonicalize()
        .map_err(|error| unreadable(&path, &error))?;
    let home = folder
        .canonicalize()
        .map_err(|error| unreadable(folder, &error))?;
    if real.starts_with(&home) {
        return Ok(real);
    }
    Err(Error::new(
        ErrorKind::BadRequest,
        format!(
            "source `{}` is a link out of {}",
            source.display(),
            folder.display()
        ),
    )
    .with_hint("copy the file into the folder"))
}

fn read_code(path: &Path) -> Result<Bytes, Error> {
    let about = std::fs::metadata(path).map_err(|error| unreadable(path, &error))?;
    if about.len() > SOURCE_BYTES_MAX || !about.is_file() {
        return Err(Error::new(
            ErrorKind::TooLarge,
            format!(
                "{} is not a file of at most {SOURCE_BYTES_MAX} bytes",
                path.display()
            ),
        ));
    }
    let code = std::fs::read(path).map_err(|error| unreadable(path, &error))?;
    if !code.starts_with(b"\0asm") {
        return Err(Error::new(
            ErrorKind::BadRequest,
            format!("{} is not WebAssembly", path.display()),
        )
        .with_hint("build the function first; `mote deploy` takes a .wasm file or a folder with a mote.toml"));
    }
    Ok(code.into())
}

fn unreadable(path: &Path, error: &std::io::Error) -> Error {
    let kind = match error.kind() {
        std::io::ErrorKind::NotFound => ErrorKind::NotFound,
        _ => ErrorKind::BadRequest,
    };
    Error::new(kind, format!("cannot read {}: {error}", path.display()))
        .with_hint("check path and permissions")
}
