//! `mote build`: every function of a project, from source to what a node takes.

mod compiling;
mod passes;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use clap::Args;
use mote_api::manifest::By;
use mote_core::error::{Error, ErrorKind};
use mote_core::spec::RuntimeKind;
use serde::Serialize;

use self::passes::Passes;
use crate::component::{self, Kind};
use crate::fit::{self, Misfit};
use crate::language::{self, Job, Memory, Output, World};
use crate::merge;
use crate::project::{Built, Project};
use crate::report::{print, say, size};
use crate::sdk;
use crate::segments;
use crate::snapshot;
use crate::tools::Tools;

pub(crate) use compiling::{Compiling, run};

/// The folder in a project for what is kept between builds.
const WORK_FOLDER: &str = ".mote";

/// How a step is run: [`run`], or one that can be ended.
pub(crate) type Run<'a> = &'a dyn Fn(&mut Command) -> Result<(), Error>;

/// Build the functions of a folder.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The folder of a mote.toml, or the mote.toml itself.
    #[arg(default_value = ".")]
    path: PathBuf,
    /// Fail when a function needs what a node does not have, or what its manifest does not grant.
    #[arg(long)]
    check: bool,
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
    /// What does not fit a node, or the manifest.
    pub(crate) misfits: Vec<Misfit>,
}

impl Options {
    /// Builds, and prints what came of it.
    pub(crate) fn run(&self) -> Result<ExitCode, Error> {
        let project = Project::read(&self.path)?;
        let tools = Tools::of_this_machine(sdk::cache()?);
        let outcomes = all(&project, &tools, &run)?;
        if self.json {
            let text = serde_json::to_string_pretty(&outcomes).map_err(|error| {
                Error::new(ErrorKind::Internal, format!("cannot write JSON: {error}"))
            })?;
            print(&text)?;
        } else {
            for outcome in &outcomes {
                print(&outcome.to_string())?;
            }
        }
        let mut faults = 0;
        for outcome in &outcomes {
            for misfit in &outcome.misfits {
                faults += u32::from(!misfit.is_note);
                misfit.say(&outcome.function, self.check);
            }
        }
        Ok(if self.check && faults > 0 {
            ExitCode::from(ErrorKind::BadRequest.exit_code())
        } else {
            ExitCode::SUCCESS
        })
    }
}

impl Misfit {
    /// Tells a person.
    pub(crate) fn say(&self, function: &str, is_checked: bool) {
        let word = match (self.is_note, is_checked) {
            (true, _) => "note",
            (false, true) => "error",
            (false, false) => "warning",
        };
        say(&format!("{word}: function `{function}`: {}", self.what));
        say(&format!("hint: {}", self.hint));
    }
}

/// Builds every function that is built; ends with the first that fails.
pub(crate) fn all(project: &Project, tools: &Tools, run: Run<'_>) -> Result<Vec<Outcome>, Error> {
    let outcomes: Vec<Outcome> = project
        .built()
        .map(|built| {
            one(project, &built, tools, run).map_err(|error| {
                error.context(format_args!("function `{}`", built.function.spec.name))
            })
        })
        .collect::<Result<_, _>>()?;
    if outcomes.is_empty() {
        let languages = language::marked(&project.folder);
        let language = languages.first().map_or("rust", |language| language.name());
        return Err(Error::new(
            ErrorKind::NotFound,
            format!("{} has no function to build", project.folder.display()),
        )
        .with_hint(format!(
            "write build = {{ language = \"{language}\" }} below [function.NAME]"
        )));
    }
    Ok(outcomes)
}

/// Builds one function.
fn one(
    project: &Project,
    built: &Built<'_>,
    tools: &Tools,
    run: Run<'_>,
) -> Result<Outcome, Error> {
    let start = Instant::now();
    let name = &built.function.spec.name;
    let target = project.folder.join(built.output);
    let work = project.folder.join(WORK_FOLDER).join(name.full());
    fs::create_dir_all(&work).map_err(|error| unwritable(&work, &error))?;
    passes::forget(&work);
    let compiler = std::cell::Cell::new(Duration::ZERO);
    let timed = |command: &mut Command| {
        let start = Instant::now();
        let result = run(command);
        compiler.set(compiler.get() + start.elapsed());
        result
    };
    let wit = sdk::materialise(tools.cache(), "wit", sdk::WIT)?;
    let (output, language) = match &built.build.by {
        By::Command(line) => {
            let mut shell = Command::new("sh");
            timed(shell.args(["-c", line]).current_dir(&project.folder))?;
            (Output::Finished(target.clone()), None)
        }
        By::Language {
            name: language,
            entry,
        } => {
            let language = language::named(language)?;
            let entry = entry.clone().unwrap_or_else(|| language.entry().into());
            let recipe = language.recipe(&Job {
                folder: &project.folder,
                entry: &entry,
                sdk: &sdk::materialise(tools.cache(), language.sdk_name(), language.sdk())?,
                wit: &wit,
                work: &work,
                tools,
            })?;
            for mut step in recipe.steps {
                timed(&mut step)?;
            }
            (recipe.output, Some(language.name().to_owned()))
        }
    };
    let passes = Passes {
        preinit: built.build.preinit,
        optimise: built.build.optimise,
    };
    let mut misfits = Vec::new();
    if built.function.spec.runtime == RuntimeKind::Wasm {
        let wasm = component(&output, passes, &work, tools, &wit, &timed)?;
        misfits = fit::misfits(&wasm, &built.function.spec)?;
        replace(&target, &wasm)?;
    } else {
        passes.refuse()?;
    }
    let about = fs::metadata(&target).map_err(|error| not_made(built.output, &error))?;
    Ok(Outcome {
        function: name.full().to_owned(),
        language,
        output: built.output.to_owned(),
        bytes: about.len(),
        compiler_ms: millis(compiler.get()),
        total_ms: millis(start.elapsed()),
        misfits,
    })
}

/// What a node takes, of what a toolchain left.
fn component(
    output: &Output,
    passes: Passes,
    work: &Path,
    tools: &Tools,
    wit: &Path,
    run: Run<'_>,
) -> Result<Vec<u8>, Error> {
    let (file, world, memory) = match output {
        Output::Finished(file) => (file, None, Memory::Untouched),
        Output::Module {
            file,
            world,
            memory,
        } => (file, Some(*world), *memory),
    };
    let read = |file: &Path| fs::read(file).map_err(|error| not_made(file, &error));
    let kind = component::kind(&read(file)?)?;
    if kind == Kind::Component {
        passes.refuse()?;
        return finished(&read(file)?);
    }
    let mut file = file.clone();
    if let Memory::StartedBy(starts) = memory {
        let started = work.join("started.wasm");
        let module = snapshot::take(&read(&file)?, starts)?;
        fs::write(&started, module).map_err(|error| unwritable(&started, &error))?;
        file = started;
    }
    let mut module = read(&passes.over(&file, work, tools, run)?)?;
    if matches!(memory, Memory::WithRoom)
        && let Ok(roomy) = snapshot::with_room(&module)
    {
        // Another kind of module works without, only slower.
        module = roomy;
    }
    let world = match (kind, world) {
        (Kind::Module { .. }, Some(world)) => world,
        (Kind::Module { has_world: true }, None) => World::Written,
        (Kind::Module { has_world: false }, None) => World::Named("function"),
        (Kind::Component | Kind::Command, _) => return segments::join(&module),
    };
    finished(&component::encode(&module, world, wit)?)
}

/// A component as a node sets it up in the least time.
fn finished(component: &[u8]) -> Result<Vec<u8>, Error> {
    segments::join(&merge::merge(component))
}

/// A file that is as it was keeps its time, so that nobody takes it for new.
fn replace(target: &Path, wasm: &[u8]) -> Result<(), Error> {
    if fs::read(target).is_ok_and(|found| found == wasm) {
        return Ok(());
    }
    let folder = target.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)
        .and_then(|()| fs::write(target, wasm))
        .map_err(|error| unwritable(target, &error))
}

fn not_made(file: &Path, error: &std::io::Error) -> Error {
    Error::new(
        ErrorKind::BadRequest,
        format!("the build did not make {}: {error}", file.display()),
    )
    .with_hint("write source = and the file that the build makes")
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
