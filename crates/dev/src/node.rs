//! A node of the developer's own: `mote up` in a folder that goes when it goes.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use clap::Args;
use mote_api::client::Client;
use mote_api::client::node;
use mote_api::wire::FunctionInfo;
use mote_core::error::{Error, ErrorKind};
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};

use crate::keep;

/// The node's program.
const PROGRAM: &str = "mote";

/// Where a node of the developer's own listens and keeps its data.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "The node")]
pub(crate) struct Settings {
    /// Keep the node's data in this folder instead of one that is removed.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Where functions are called over HTTP; port 0 picks one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8000")]
    http: String,
    /// Where functions are called over CoAP.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:5683")]
    coap: String,
    /// Where the admin API answers.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    admin: String,
    /// More flags for `mote up`.
    #[arg(last = true, value_name = "FLAGS")]
    flags: Vec<OsString>,
}

impl Settings {
    /// A node that nobody but this program calls.
    pub(crate) fn hidden() -> Self {
        let any = || "127.0.0.1:0".to_owned();
        Self {
            data_dir: None,
            http: any(),
            coap: any(),
            admin: any(),
            flags: Vec::new(),
        }
    }
}

/// A node that runs for as long as this value.
#[derive(Debug)]
pub(crate) struct Node {
    /// Where commands find it.
    pub(crate) place: Place,
    child: Child,
    /// Dropping it ends the node.
    hold: Option<ChildStdin>,
    /// Read to the end, so that the node never waits for a reader.
    lines: Lines<BufReader<ChildStdout>>,
}

/// The data directory of a node, by which it is found.
#[derive(Clone, Debug)]
pub(crate) struct Place(PathBuf);

/// What `mote deploy --json` prints for each function.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Deployed {
    /// What the node says about it.
    pub(crate) function: FunctionInfo,
    /// Where it is called over HTTP.
    pub(crate) http: Option<String>,
    /// Where it is called over CoAP.
    pub(crate) coap: Option<String>,
}

impl Node {
    /// Starts it and waits until it listens. What it logs goes to standard error.
    pub(crate) async fn start(settings: &Settings) -> Result<Self, Error> {
        let (data_dir, remove) = match &settings.data_dir {
            Some(folder) => (folder.clone(), None),
            None => {
                let folder = tempfile::Builder::new()
                    .prefix("mote-dev-")
                    .tempdir()
                    .map_err(|error| failed("make a folder for the node", &error))?
                    .keep();
                (folder.clone(), Some(folder))
            }
        };
        let mut command = Command::new(program());
        command
            .arg("up")
            .arg("--data-dir")
            .arg(&data_dir)
            .args(["--http", &settings.http, "--coap", &settings.coap])
            .args([
                "--admin",
                &settings.admin,
                "--drain",
                "1s",
                "--log-level",
                "warn",
            ])
            .args(&settings.flags);
        let mut keeper = keep::kept(&command, remove.as_deref())?;
        keeper.stdout(Stdio::piped());
        let mut child = tokio::process::Command::from(keeper)
            .spawn()
            .map_err(|error| failed("start a node", &error))?;
        let stdout = child.stdout.take().expect("its output was set to a pipe");
        let mut node = Self {
            place: Place(data_dir),
            hold: child.stdin.take(),
            child,
            lines: BufReader::new(stdout).lines(),
        };
        node.listens().await?;
        Ok(node)
    }

    /// Reads the lines that say where it listens; the last is its token's.
    async fn listens(&mut self) -> Result<(), Error> {
        loop {
            let line = self.lines.next_line().await;
            match line.map_err(|error| failed("read from the node", &error))? {
                Some(line) if line.starts_with("token ") => return Ok(()),
                Some(_) => {}
                None => break,
            }
        }
        let status = self.ended().await;
        // It has said why itself, with its own hint.
        Err(Error::new(
            ErrorKind::Conflict,
            format!("the node did not start: `{PROGRAM} up` ended with {status}"),
        )
        .with_hint("see above; ports are chosen with --http, --coap and --admin"))
    }

    /// Waits until it ends by itself, for a text about how. Cancel-safe.
    pub(crate) async fn ended(&mut self) -> String {
        while let Ok(Some(_)) = self.lines.next_line().await {}
        match self.child.wait().await {
            Ok(status) => shown(status),
            Err(error) => error.to_string(),
        }
    }

    /// Ends it and waits until nothing of it is left.
    pub(crate) async fn stop(mut self) {
        self.hold = None;
        self.ended().await;
    }
}

impl Place {
    /// The folder.
    pub(crate) fn folder(&self) -> &Path {
        &self.0
    }

    /// A client of its admin API.
    pub(crate) fn client(&self) -> Result<Client, Error> {
        Ok(Client::new(node::Node::local(&self.0)?))
    }

    /// Deploys every function of a folder with `mote deploy`, which says itself why it cannot.
    pub(crate) async fn deploy(&self, folder: &Path) -> Result<Vec<Deployed>, Error> {
        let mut command = tokio::process::Command::new(program());
        let output = command
            .arg("deploy")
            .arg(folder)
            .arg("--json")
            .arg("--data-dir")
            .arg(&self.0)
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .output()
            .await
            .map_err(|error| failed("run `mote deploy`", &error))?;
        if !output.status.success() {
            let kind = ErrorKind::ALL
                .iter()
                .find(|kind| Some(i32::from(kind.exit_code())) == output.status.code());
            return Err(Error::new(
                kind.copied().unwrap_or(ErrorKind::BadRequest),
                format!(
                    "not deployed: `mote deploy` ended with {}",
                    shown(output.status)
                ),
            )
            .with_hint("what it says above is the reason"));
        }
        serde_json::from_slice(&output.stdout).map_err(|error| {
            Error::new(
                ErrorKind::Unsupported,
                format!(
                    "`mote deploy` printed something this mote-dev does not understand: {error}"
                ),
            )
            .with_hint("compare `mote --version` and `mote-dev --version`")
        })
    }
}

/// The node's program: beside this one, or on the path.
fn program() -> PathBuf {
    let beside = std::env::current_exe().map(|own| own.with_file_name(PROGRAM));
    let beside = beside.ok().filter(|path| path.is_file());
    beside.unwrap_or_else(|| PROGRAM.into())
}

fn shown(status: ExitStatus) -> String {
    match status.code() {
        Some(code) => format!("exit code {code}"),
        None => status.to_string(),
    }
}

fn failed(what: &str, error: &std::io::Error) -> Error {
    Error::new(ErrorKind::NotFound, format!("cannot {what}: {error}"))
        .with_hint("`mote` must be beside `mote-dev`, or on PATH")
}
