//! `mote build`: every function of a project, from source to what a node takes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use clap::Args;
use mote_api::manifest::By;
use mote_core::error::{Error, ErrorKind};
use mote_core::spec::RuntimeKind;
use serde::Serialize;

use crate::component::{self, Kind};
use crate::language::{self, Job, Output, World};
use crate::project::{Built, Project};
use crate::report::{print, size};
use crate::sdk;
use crate::segments;
use crate::snapshot;
use crate::tools::Tools;

/// The folder in a project for what is kept between builds.
pub(crate) const WORK_FOLDER: &str = ".mote";

/// Build the functions of a folder.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The folder of a mote.toml, or the mote.toml itself.
    #[arg(default_value = ".")]
    path: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What came of one function.
#[derive(Debug, Serialize)]
pub(crate) struct Outcome {
    /// Its full name.
    pub(crate) function: String,
    /// The language, when it is one.
    pub(crate) language: Option<String>,
    /// What was made, below the folder.
    pub(crate) output: PathBuf,
    /// Its size.
    pub(crate) bytes: u64,
    /// Time of the compiler alone.
    pub(crate) compiler_ms: u64,
    /// All of it.
    pub(crate) total_ms: u64,
}

impl Options {
    /// Builds, and prints what came of it.
    pub(crate) fn run(&self) -> Result<(), Error> {
        let project = Project::read(&self.path)?;
        let tools = Tools::of_this_machine(sdk::cache()?);
        let outcomes = all(&project, &tools)?;
        if self.json {
            let text = serde_json::to_string_pretty(&outcomes).map_err(|error| {
                Error::new(ErrorKind::Internal, format!("cannot write JSON: {error}"))
            })?;
            return print(&text);
        }
        for outcome in &outcomes {
            print(&outcome.to_string())?;
        }
        Ok(())
    }
}

/// Builds every function that is built; ends with the first that fails.
pub(crate) fn all(project: &Project, tools: &Tools) -> Result<Vec<Outcome>, Error> {
    let outcomes: Vec<Outcome> = project
        .built()
        .map(|built| {
            one(project, &built, tools).map_err(|error| {
                error.context(format_args!("function `{}`", built.function.spec.name))
            })
        })
        .collect::<Result<_, _>>()?;
    if outcomes.is_empty() {
        return Err(Error::new(
            ErrorKind::NotFound,
            format!("{} has no function to build", project.folder.display()),
        )
        .with_hint("write build = { language = \"rust\" } below [function.NAME]"));
    }
    Ok(outcomes)
}

/// Builds one function.
fn one(project: &Project, built: &Built<'_>, tools: &Tools) -> Result<Outcome, Error> {
    let start = Instant::now();
    let name = &built.function.spec.name;
    let target = project.folder.join(built.output);
    let mut compiler = Duration::ZERO;
    let mut run = |command: &mut Command| {
        let start = Instant::now();
        let result = run(command);
        compiler += start.elapsed();
        result
    };
    let wit = sdk::materialise(tools.cache(), "wit", sdk::WIT)?;
    let (output, language) = match &built.build.by {
        By::Command(line) => {
            run(Command::new("sh")
                .args(["-c", line])
                .current_dir(&project.folder))?;
            (Output::Finished(target.clone()), None)
        }
        By::Language {
            name: language,
            entry,
        } => {
            let language = language::named(language)?;
            let work = project.folder.join(WORK_FOLDER).join(name.full());
            fs::create_dir_all(&work).map_err(|error| unwritable(&work, &error))?;
            let entry = entry.clone().unwrap_or_else(|| language.entry().into());
            let recipe = language.recipe(&Job {
                function: name,
                folder: &project.folder,
                entry: &entry,
                sdk: &sdk::materialise(tools.cache(), language.sdk_name(), language.sdk())?,
                wit: &wit,
                work: &work,
                tools,
            })?;
            for mut step in recipe.steps {
                run(&mut step)?;
            }
            (recipe.output, Some(language.name().to_owned()))
        }
    };
    if built.function.spec.runtime == RuntimeKind::Wasm {
        finish(&output, &target, &wit)?;
    }
    let about = fs::metadata(&target).map_err(|error| {
        Error::new(
            ErrorKind::BadRequest,
            format!("the build did not make {}: {error}", built.output.display()),
        )
        .with_hint("write source = and the file that the build makes")
    })?;
    Ok(Outcome {
        function: name.full().to_owned(),
        language,
        output: built.output.to_owned(),
        bytes: about.len(),
        compiler_ms: millis(compiler),
        total_ms: millis(start.elapsed()),
    })
}

/// Brings what a toolchain left to where the manifest says, as a component.
fn finish(output: &Output, target: &Path, wit: &Path) -> Result<(), Error> {
    let (file, world, grows_memory, starts) = match output {
        Output::Finished(file) => (file, None, false, None),
        Output::Module {
            file,
            world,
            grows_memory,
        } => (file, Some(*world), *grows_memory, None),
        Output::Started { file, world, by } => (file, Some(*world), false, Some(*by)),
    };
    let mut left = fs::read(file).map_err(|error| {
        Error::new(
            ErrorKind::BadRequest,
            format!("the build did not make {}: {error}", file.display()),
        )
        .with_hint("write source = and the file that the build makes")
    })?;
    if let Some(starts) = starts {
        left = snapshot::take(&left, starts)?;
    }
    let wasm = match (component::kind(&left)?, world) {
        (Kind::Component | Kind::Command, _) => left,
        (Kind::Module { .. }, Some(world)) => component::encode(&left, world, grows_memory, wit)?,
        (Kind::Module { has_world: true }, None) => {
            component::encode(&left, World::Written, false, wit)?
        }
        (Kind::Module { has_world: false }, None) => {
            component::encode(&left, World::Named("function"), false, wit)?
        }
    };
    let wasm = segments::join(&wasm)?;
    // A file that is as it was keeps its time, so that nobody takes it for new.
    if fs::read(target).is_ok_and(|found| found == wasm) {
        return Ok(());
    }
    let folder = target.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)
        .and_then(|()| fs::write(target, wasm))
        .map_err(|error| unwritable(target, &error))
}

/// Runs a compiler. What it says is for the person as it is; standard output is for our data.
fn run(command: &mut Command) -> Result<(), Error> {
    let program = Path::new(command.get_program());
    let name = program
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let status = command
        .stdin(Stdio::null())
        .stdout(Stdio::from(std::io::stderr()))
        .status()
        .map_err(|error| {
            Error::new(ErrorKind::NotFound, format!("cannot run `{name}`: {error}"))
        })?;
    if status.success() {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::BadRequest,
        format!("`{name}` ended with {status}"),
    )
    .with_hint("what it says above is the reason"))
}

fn unwritable(path: &Path, error: &std::io::Error) -> Error {
    Error::new(
        ErrorKind::BadRequest,
        format!("cannot write {}: {error}", path.display()),
    )
    .with_hint("check disk and owner")
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        #[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
        let seconds = |ms: u64| ms as f64 / 1000.0;
        write!(
            f,
            "{}  {}  {}  in {:.2} s, of which the compiler {:.2} s",
            self.function,
            self.output.display(),
            size(self.bytes),
            seconds(self.total_ms),
            seconds(self.compiler_ms)
        )
    }
}
