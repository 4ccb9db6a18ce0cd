//! The testbed's controller: one experiment file in, a folder of results and a report out.
//!
//! It does what BenchFaaS's controller does (§II-A, steps 0 to 5): machines, the network between them, services that
//! platforms need, platforms, their functions, and then tests, at every point of a matrix and as often as asked for.
//! Repetitions go around the whole matrix, so that a machine that gets slower does so for everybody. A run that is
//! done is on the disk; after any end the same command goes on where it was, and nothing else is left.

mod file;
mod fill;
mod folder;
pub mod keep;
mod machine;
mod measure;
mod network;
mod plan;
mod platform;
mod progress;
mod test;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::Args;
use tempfile::TempDir;

use self::file::Source;
use self::folder::Folder;
use self::machine::Machines;
use self::plan::{Case, Group, Plan, Setup};
use self::platform::{Ground, Running};
use self::progress::Progress;
use crate::environment::Environment;
use crate::link::Abilities;
use crate::process;
use crate::report::{self, Material};
use crate::results::{Measured, Run};

pub use self::plan::Outline;

/// How folders for what platforms write begin, before the id of the process that made them.
const SCRATCH: &str = "mote-bench-scratch-";
/// Longest time that a command of a service may take: an engine may have to be installed.
const COMMAND_MAX: Duration = Duration::from_secs(600);
/// So much of the end of what it writes is looked at.
const LAST_BYTES_MAX: u64 = 64 << 10;
const COMMAND_POLL: Duration = Duration::from_millis(20);
/// Of a service: it cannot be had on this system.
const CANNOT: i32 = 3;

/// An experiment to run.
#[derive(Debug, Args)]
pub struct Settings {
    /// The experiment file
    pub file: PathBuf,

    /// The file's variant `quick`: the same in minutes
    #[arg(long, conflicts_with = "variant")]
    pub quick: bool,

    /// A variant of the file
    #[arg(long)]
    pub variant: Option<String>,

    /// The folder for results; one that has some of this experiment is gone on with [default: results/NAME]
    #[arg(long)]
    pub out: Option<PathBuf>,

    /// The node's program [default: `mote` beside this program]
    #[arg(long)]
    pub mote: Option<PathBuf>,

    /// Only say what would be run
    #[arg(long)]
    pub check: bool,
}

/// Runs an experiment to its end, or as far as it comes. Returns whether every run was measured.
pub fn run(settings: &Settings) -> Result<bool> {
    let quick = settings.quick.then_some("quick");
    let variant = settings.variant.as_deref().or(quick);
    let source = Source::read(&settings.file, variant)?;
    let mut plan = Plan::new(&source).with_context(|| settings.file.display().to_string())?;
    let mut progress = Progress::new(&plan);
    if settings.check {
        progress.outline(&plan);
        return Ok(true);
    }
    let default = || {
        let suffix = variant
            .map(|variant| format!("-{variant}"))
            .unwrap_or_default();
        PathBuf::from("results").join(format!("{}{suffix}", plan.outline.name))
    };
    let out = settings.out.clone().unwrap_or_else(default);
    let stop = Arc::new(AtomicBool::new(false));
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    for signal in [SIGHUP, SIGINT, SIGTERM] {
        // The second time it ends at once.
        signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&stop))?;
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    let mote = node_program(settings.mote.as_deref())?;
    let abilities = abilities(&mut plan)?;
    let mut controller = Controller {
        source: &source,
        mote,
        abilities,
        folder: Folder::open(&out, &source.text, &plan.outline)?,
        stop,
    };
    let done = controller.all(&plan, &mut progress);
    let folder = controller.folder;
    // Whatever happened, what there is is reported.
    let reported = write_report(folder.path());
    let whole = done?;
    reported?;
    progress.end(folder.path());
    Ok(whole)
}

/// Writes the report of a folder of results again.
pub fn write_report(folder: &Path) -> Result<()> {
    report::write(&material(folder)?, folder)
}

/// What a folder of results has for a report.
pub fn material(folder: &Path) -> Result<Material> {
    let (outline, runs) = folder::read(folder)?;
    let mut notes = outline.notes;
    if let Some((name, about)) = &outline.variant {
        notes.push(format!("variant `{name}`: {about}"));
    }
    Ok(Material {
        name: outline.name,
        title: outline.title,
        about: outline.about,
        source: outline.source,
        seed: outline.seed,
        quick: outline.variant.is_some_and(|(name, _)| name == "quick"),
        axes: outline.axes,
        tests: outline.tests,
        figures: outline.figures,
        published: outline.published,
        missing: outline.runs.saturating_sub(runs.len()),
        runs,
        notes,
    })
}

/// What this system can emulate of the links that a plan has, and in the plan's notes what a reader has to know of that.
fn abilities(plan: &mut Plan) -> Result<Option<Abilities>> {
    if plan.groups.iter().all(|group| group.setup.links.is_empty()) {
        return Ok(None);
    }
    let abilities = Abilities::probe();
    for group in &plan.groups {
        let notes = network::notes(&group.setup.links, &abilities)?;
        let known = &mut plan.outline.notes;
        for note in notes {
            if !known.contains(&note) {
                known.push(note);
            }
        }
    }
    Ok(Some(abilities))
}

struct Controller<'a> {
    source: &'a Source,
    mote: PathBuf,
    /// Where the plan has links.
    abilities: Option<Abilities>,
    folder: Folder,
    stop: Arc<AtomicBool>,
}

impl Controller<'_> {
    fn all(&mut self, plan: &Plan, progress: &mut Progress) -> Result<bool> {
        let mut whole = true;
        for repetition in 1..=plan.repetitions {
            for group in &plan.groups {
                whole &= self.group(group, repetition, plan.seed, progress)?;
                if self.stop.load(Ordering::Relaxed) {
                    progress.stopped(self.folder.path());
                    return Ok(false);
                }
            }
        }
        Ok(whole)
    }

    /// Sets up what a group needs, makes its runs that are not there yet, and takes everything down.
    fn group(
        &mut self,
        group: &Group,
        repetition: u32,
        seed: u64,
        progress: &mut Progress,
    ) -> Result<bool> {
        let (done, due): (Vec<&Case>, Vec<&Case>) = group
            .cases
            .iter()
            .partition(|case| self.folder.has(&blank(case, repetition)));
        for case in done {
            progress.known(case);
        }
        if due.is_empty() {
            return Ok(true);
        }
        let kinds = self.abilities.as_ref();
        let kinds = kinds.map(|abilities| network::kinds(&group.setup.links, abilities));
        let kind = kinds.transpose()?.and_then(|kinds| network::named(&kinds));
        progress.setting_up(&group.setup, kind.as_deref());
        let seed = seed.wrapping_add(u64::from(repetition));
        let mut site = match Site::up(&group.setup, self, seed) {
            Ok(site) => site,
            Err(error) => {
                progress.not_set_up(&error);
                for case in due {
                    self.failed(blank(case, repetition), case, &error, progress)?;
                }
                return Ok(false);
            }
        };
        let mut whole = true;
        for case in due {
            progress.begin(case, repetition);
            let mut run = blank(case, repetition);
            site.stamp(&mut run, case);
            self.folder.fits(&run)?;
            match self.measure(case, &mut site, &group.setup, seed) {
                Ok(measured) => {
                    progress.measured(case, &measured);
                    run.measured = Some(measured);
                    self.folder.add(run)?;
                }
                // Not a result.
                Err(_) if self.stop.load(Ordering::Relaxed) => return Ok(false),
                Err(error) => {
                    whole = false;
                    progress.not_measured(&error);
                    self.failed(run, case, &error, progress)?;
                }
            }
        }
        Ok(whole)
    }

    /// Makes a run. A platform that has ended before is set up again, with everything else.
    fn measure(&self, case: &Case, site: &mut Site, setup: &Setup, seed: u64) -> Result<Measured> {
        if let Err(error) = site.check() {
            *site = Site::up(setup, self, seed).context(error)?;
        }
        let before = site.machines.kept_up();
        let folder = self.source.folder();
        let mut measured = measure::measure(case, site, folder, seed, &self.stop)?;
        if let (Some(before), Some(after)) = (before, site.machines.kept_up()) {
            let (warnings, values) = measure::network(before, after);
            measured.warnings.extend(warnings);
            measured.values.extend(values);
        }
        if let Err(error) = site.check() {
            measured.warnings.push(format!("{error:#} during this run"));
        }
        Ok(measured)
    }

    fn failed(
        &mut self,
        mut run: Run,
        case: &Case,
        error: &anyhow::Error,
        progress: &mut Progress,
    ) -> Result<()> {
        if self.stop.load(Ordering::Relaxed) {
            return Ok(());
        }
        run.failure = Some(format!("{error:#}"));
        progress.failed(case);
        self.folder.add(run)
    }
}

/// A run about which nothing is known yet.
fn blank(case: &Case, repetition: u32) -> Run {
    Run {
        test: case.test.name.clone(),
        axes: case.point.clone(),
        repetition,
        measured: None,
        failure: None,
        environment: Environment::read(),
    }
}

/// A set-up at work. What was started last ends first.
struct Site {
    platforms: BTreeMap<String, Running>,
    _services: Services,
    machines: Machines,
    places: BTreeMap<String, String>,
    mote: PathBuf,
    scratch: TempDir,
}

impl Site {
    fn up(setup: &Setup, controller: &Controller<'_>, seed: u64) -> Result<Self> {
        let abilities = controller.abilities.as_ref();
        let machines = Machines::up(&setup.machines, &setup.links, abilities, seed)?;
        let mut places = machines.places();
        let folder = controller.source.folder();
        let services = Services::up(setup, folder, &mut places, &controller.stop)?;
        let mut site = Self {
            platforms: BTreeMap::new(),
            _services: services,
            machines,
            places,
            mote: controller.mote.clone(),
            scratch: scratch().context("no folder for the data of platforms")?,
        };
        for (name, platform) in &setup.platforms {
            let ground = site.ground(folder, &controller.stop);
            let running = Running::up(name, platform, &ground);
            let running = running.with_context(|| format!("platform `{name}`"))?;
            for (word, text) in &running.words {
                site.places.insert(format!("{name}.{word}"), text.clone());
            }
            site.platforms.insert(name.clone(), running);
        }
        Ok(site)
    }

    /// Writes down what a run is made with.
    fn stamp(&self, run: &mut Run, case: &Case) {
        run.environment.network = self.machines.network_kind();
        let platform = case.test.platform.as_ref();
        let platform = platform.and_then(|name| self.platforms.get(name));
        run.environment.platform = platform.map(|running| running.stamp.clone());
    }

    /// Whether all platforms are there still.
    fn check(&mut self) -> Result<()> {
        for (name, platform) in &mut self.platforms {
            ensure!(platform.is_running()?, "platform `{name}` has ended");
        }
        Ok(())
    }

    fn ground<'a>(&'a self, folder: &'a Path, stop: &'a AtomicBool) -> Ground<'a> {
        Ground {
            machines: &self.machines,
            folder,
            mote: &self.mote,
            scratch: self.scratch.path(),
            places: &self.places,
            stop,
        }
    }
}

/// A folder for what platforms write. Those of runs that were killed go.
fn scratch() -> std::io::Result<TempDir> {
    let place = std::env::temp_dir();
    for entry in std::fs::read_dir(&place)?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let process = name
            .strip_prefix(SCRATCH)
            .and_then(|rest| rest.split('-').next());
        let process = process.and_then(|process| process.parse::<u32>().ok());
        if process.is_some_and(|process| !Path::new("/proc").join(process.to_string()).exists()) {
            // One of another user stays.
            let _removed = std::fs::remove_dir_all(entry.path());
        }
    }
    let own = format!("{SCRATCH}{}-", std::process::id());
    tempfile::Builder::new().prefix(&own).tempdir()
}

/// Services that were started, with what ends them.
struct Services {
    folder: PathBuf,
    places: BTreeMap<String, String>,
    stops: Vec<Vec<String>>,
}

impl Services {
    fn up(
        setup: &Setup,
        folder: &Path,
        places: &mut BTreeMap<String, String>,
        stop: &AtomicBool,
    ) -> Result<Self> {
        let mut services = Self {
            folder: folder.to_owned(),
            places: places.clone(),
            stops: Vec::new(),
        };
        for (name, service) in &setup.services {
            let context = || format!("service `{name}`");
            // Before it starts: one that is broken off half-way has to be ended too.
            services.stops.extend(service.stop.clone());
            let line = shell(&service.start, folder, places, Some(stop)).with_context(context)?;
            places.insert(name.clone(), line);
            services.places.clone_from(places);
            for words in &service.then {
                shell(words, folder, places, Some(stop)).with_context(context)?;
            }
        }
        Ok(services)
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        for words in self.stops.drain(..).rev() {
            // Nothing is left to do about a service that does not end.
            let _ended = shell(&words, &self.folder, &self.places, None);
        }
    }
}

/// Runs a command on this system; the last line that it writes. What it leaves running may keep its output open, which
/// therefore goes to files.
fn shell(
    words: &[String],
    folder: &Path,
    places: &BTreeMap<String, String>,
    stop: Option<&AtomicBool>,
) -> Result<String> {
    let words: Result<Vec<String>> = words
        .iter()
        .map(|word| fill::with_places(word, places))
        .collect();
    let words = words?;
    let (program, arguments) = words.split_first().context("no command")?;
    // A program beside the file, or one of the system.
    let beside = folder.join(program);
    let program = if program.contains('/') {
        beside.canonicalize().unwrap_or(beside)
    } else {
        PathBuf::from(program)
    };
    let what = words.join(" ");
    let (out, err) = (tempfile::tempfile()?, tempfile::tempfile()?);
    let mut child = Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(out.try_clone()?)
        .stderr(err.try_clone()?)
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot run `{what}`"))?;
    let until = Instant::now() + COMMAND_MAX;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        let stopped = stop.is_some_and(|stop| stop.load(Ordering::Relaxed));
        if stopped || Instant::now() >= until {
            process::stop(&what, &mut child)?;
            ensure!(!stopped, "it was stopped");
            bail!("`{what}` did not end within {} s", COMMAND_MAX.as_secs());
        }
        thread::sleep(COMMAND_POLL);
    };
    let last = |mut file: File| -> Result<String> {
        let mut text = Vec::new();
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(LAST_BYTES_MAX)))?;
        file.take(LAST_BYTES_MAX).read_to_end(&mut text)?;
        let text = String::from_utf8_lossy(&text);
        Ok(text.lines().last().unwrap_or_default().trim().to_owned())
    };
    if status.success() {
        return last(out);
    }
    let said = last(err)?;
    if status.code() == Some(CANNOT) {
        bail!("it cannot be had here: {said}");
    }
    bail!("`{what}` failed with {status}: {said}");
}

/// The node's program, absolute because platforms run elsewhere.
fn node_program(given: Option<&Path>) -> Result<PathBuf> {
    let path = match given {
        Some(path) => path.to_owned(),
        None => std::env::current_exe()
            .context("cannot find this program")?
            .with_file_name("mote"),
    };
    path.canonicalize().map_err(|_| {
        anyhow!(
            "no node program at {}: build it with `cargo build --release -p mote`, or write --mote FILE",
            path.display()
        )
    })
}
