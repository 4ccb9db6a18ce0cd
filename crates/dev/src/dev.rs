//! `mote dev`: a node, the functions of a folder on it, and a new version of them whenever a file is saved.
//!
//! One loop: build, deploy, wait for a change. A build that fails leaves what runs alone. Whatever ends the loop, a
//! signal or the end of the node, ends the node too, and the compiler if one runs; when this process is killed, the
//! pipes that it held do the same.

mod logs;
mod watch;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use mote_core::error::{Error, ErrorKind};
use tokio::signal::unix::{SignalKind, signal};

use self::logs::Logs;
use self::watch::Watch;
use crate::build::{self, Compiling};
use crate::node::{self, Deployed, Node, Place};
use crate::project::Project;
use crate::report::{report, say};
use crate::sdk;
use crate::tools::Tools;

/// Build, run and try functions, again whenever a file is saved.
///
/// What the functions log goes to standard output. Ctrl-C ends everything, and nothing is left.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The folder of a mote.toml.
    #[arg(default_value = ".")]
    path: PathBuf,
    #[command(flatten)]
    node: node::Settings,
}

impl Options {
    /// Runs until it is told to stop.
    pub(crate) async fn run(&self) -> Result<(), Error> {
        let project = Project::read(&self.path)?;
        let mut watch = Watch::start(&project.folder, outputs(&project))?;
        let mut stop = Stop::listen()?;
        let mut node = tokio::select! {
            node = Node::start(&self.node) => node?,
            () = stop.heard() => return Ok(()),
        };
        say(&format!(
            "a node runs; other commands find it with MOTE_DATA_DIR={}",
            node.place.folder().display()
        ));
        let place = node.place.clone();
        let mut shown = Shown::default();
        let mut logs = Logs::default();
        let ended = loop {
            let before = watch.snapshot();
            let round = async {
                let result = round(&project.folder, &place).await;
                match result {
                    Ok((project, deployed)) => {
                        logs.follow(&place, &deployed)?;
                        shown.show(&deployed);
                        watch.set_outputs(outputs(&project));
                    }
                    Err(error) => {
                        let _ = report(&error);
                        shown.failed();
                    }
                }
                watch.changed(&before).await;
                Ok::<(), Error>(())
            };
            tokio::select! {
                result = round => result?,
                () = stop.heard() => break Ok(()),
                how = node.ended() => break Err(how),
            }
        };
        match ended {
            Ok(()) => {
                node.stop().await;
                Ok(())
            }
            Err(how) => Err(Error::new(
                ErrorKind::Overloaded,
                format!("the node ended by itself, with {how}"),
            )
            .with_hint("what it says above is the reason")),
        }
    }
}

/// Builds what is built and deploys all.
async fn round(folder: &Path, node: &Place) -> Result<(Project, Vec<Deployed>), Error> {
    // Read again: the manifest may be what has changed.
    let project = Project::read(folder)?;
    if project.built().next().is_some() {
        for outcome in compile(folder).await? {
            say(&outcome.to_string());
            for misfit in &outcome.misfits {
                misfit.say(&outcome.function, false);
            }
        }
    }
    let deployed = node.deploy(folder).await?;
    Ok((project, deployed))
}

/// Builds on a thread of its own. When this is dropped, the compiler ends.
async fn compile(folder: &Path) -> Result<Vec<build::Outcome>, Error> {
    let compiling = Arc::new(Compiling::default());
    struct End(Arc<Compiling>);
    impl Drop for End {
        fn drop(&mut self) {
            self.0.end();
        }
    }
    let _end = End(Arc::clone(&compiling));
    let folder = folder.to_owned();
    let task = tokio::task::spawn_blocking(move || {
        let project = Project::read(&folder)?;
        let tools = Tools::of_this_machine(sdk::cache()?);
        build::all(&project, &tools, &|command| compiling.run(command))
    });
    task.await.map_err(|error| {
        Error::new(
            ErrorKind::Internal,
            format!("the build came to an end of its own: {error}"),
        )
    })?
}

fn outputs(project: &Project) -> Vec<PathBuf> {
    project
        .built()
        .map(|built| built.output.components().collect())
        .collect()
}

/// What a person has been told.
#[derive(Default)]
struct Shown {
    addresses: Vec<String>,
    is_live: bool,
}

impl Shown {
    /// The addresses when they are new, otherwise that there is a new version.
    fn show(&mut self, deployed: &[Deployed]) {
        let addresses: Vec<String> = deployed.iter().flat_map(lines).collect();
        if self.addresses == addresses {
            let versions: Vec<String> = deployed
                .iter()
                .map(|one| format!("{} {}", one.function.name, one.function.version))
                .collect();
            say(&format!("live: version {}", versions.join(", ")));
        } else {
            for line in &addresses {
                say(line);
            }
            self.addresses = addresses;
        }
        self.is_live = true;
    }

    fn failed(&self) {
        say(if self.is_live {
            "the last version that was built goes on; waiting for a change"
        } else {
            "waiting for a change"
        });
    }
}

/// How a function is called.
fn lines(deployed: &Deployed) -> Vec<String> {
    let http = deployed.http.iter().map(|url| format!("  curl {url}"));
    let coap = deployed
        .coap
        .iter()
        .map(|url| format!("  coap-client -m get {url}"));
    http.chain(coap).collect()
}

/// The signals that end it.
struct Stop([tokio::signal::unix::Signal; 3]);

impl Stop {
    fn listen() -> Result<Self, Error> {
        let listen = |kind| {
            signal(kind).map_err(|error| {
                Error::new(
                    ErrorKind::Internal,
                    format!("cannot listen for signals: {error}"),
                )
            })
        };
        Ok(Self([
            listen(SignalKind::interrupt())?,
            listen(SignalKind::terminate())?,
            listen(SignalKind::hangup())?,
        ]))
    }

    /// Waits for one of them. Cancel-safe.
    async fn heard(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}
