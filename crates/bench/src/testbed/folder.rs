//! The folder of an experiment's results: what is written is there after any end, and goes on from there.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead as _, BufReader, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use rustix::fs::{FlockOperation, flock};

use super::plan::Outline;
use crate::results::Run;

const EXPERIMENT: &str = "experiment.toml";
const OUTLINE: &str = "outline.json";
const RUNS: &str = "runs.jsonl";
/// Longest line of runs: a histogram has some thousands of entries.
const LINE_BYTES_MAX: usize = 16 << 20;

/// Results, open for more.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    file: File,
    pub(super) runs: Vec<Run>,
}

impl Folder {
    /// Opens the folder of an experiment, which is made when it is not there. Fails when it has another one.
    pub(super) fn open(path: &Path, text: &str, outline: &Outline) -> Result<Self> {
        fs::create_dir_all(path).with_context(|| format!("cannot make {}", path.display()))?;
        let runs_path = path.join(RUNS);
        let open = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&runs_path);
        let file = open.with_context(|| format!("cannot open {}", runs_path.display()))?;
        flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
            anyhow!(
                "another run writes to {}: wait for it, or write --out OTHER",
                path.display()
            )
        })?;
        let experiment = path.join(EXPERIMENT);
        match fs::read(&experiment) {
            Ok(there) => {
                let there_is = read_outline(path)?;
                let same = there == text.as_bytes() && there_is.variant == outline.variant;
                ensure!(
                    same,
                    "{} has results of another experiment, or of an earlier text of this one: write --out OTHER, or remove it",
                    path.display()
                );
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let bytes = file.metadata()?.len();
                ensure!(
                    bytes == 0,
                    "{} has runs and no {EXPERIMENT}: write --out OTHER",
                    path.display()
                );
                write(&path.join(OUTLINE), &serde_json::to_vec_pretty(outline)?)?;
                // Last, since it says that the rest is there.
                write(&experiment, text.as_bytes())?;
            }
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", experiment.display()));
            }
        }
        let (runs, whole) = read_runs(path)?;
        // What a paper published may have been corrected since; what was noted about runs that are there stays true.
        let mut outline = outline.clone();
        if !runs.is_empty() {
            let earlier = read_outline(path)?.notes;
            let missing = earlier
                .into_iter()
                .filter(|note| !outline.notes.contains(note));
            let missing: Vec<String> = missing.collect();
            outline.notes.extend(missing);
        }
        write(&path.join(OUTLINE), &serde_json::to_vec_pretty(&outline)?)?;
        // A line that was cut off is done again.
        file.set_len(whole)?;
        Ok(Self {
            path: path.to_owned(),
            file,
            runs,
        })
    }

    /// Keeps a run. When it cannot, as on a full disk, the earlier ones are as they were.
    pub(super) fn add(&mut self, run: Run) -> Result<()> {
        let mut line = serde_json::to_vec(&run)?;
        line.push(b'\n');
        let before = self.file.metadata()?.len();
        let written = self
            .file
            .write_all(&line)
            .and_then(|()| self.file.sync_data());
        if let Err(error) = written {
            let restored = self.file.set_len(before);
            let message = format!(
                "cannot write to {}; the runs before it are kept",
                self.path.join(RUNS).display()
            );
            restored.context("nor undo what was written of it")?;
            return Err(error).context(message);
        }
        self.runs.push(run);
        Ok(())
    }

    /// Whether this run was measured already.
    pub(super) fn has(&self, run: &Run) -> bool {
        self.runs
            .iter()
            .any(|there| there.measured.is_some() && same(there, run))
    }

    /// Whether a run that is to be made may stand beside those that are there: a platform is the same program in all of
    /// them, and a point has the same kind of network in all repetitions.
    pub(super) fn fits(&self, run: &Run) -> Result<()> {
        let stamp = &run.environment;
        for there in self.runs.iter().filter(|there| there.measured.is_some()) {
            let platforms = stamp.platform.iter().zip(&there.environment.platform);
            for (platform, earlier) in platforms.filter(|(a, b)| a.name == b.name) {
                if let (Some(program), Some(other)) = (&platform.program, &earlier.program)
                    && program != other
                {
                    bail!(
                        "{} has runs of platform `{}` with another build of its program (BLAKE3 {other}, now {program}): \
                         write --out OTHER for this one, or remove it",
                        self.path.display(),
                        platform.name
                    );
                }
            }
            let (kind, other) = (&stamp.network, &there.environment.network);
            ensure!(
                kind == other || there.test != run.test || there.axes != run.axes,
                "{} has runs of this point over a network of kind `{}`, which is `{}` now: write --out OTHER, or choose \
                 the `kind` of the link",
                self.path.display(),
                other.as_deref().unwrap_or("unknown"),
                kind.as_deref().unwrap_or("none")
            );
        }
        Ok(())
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// An experiment and its runs, from its folder. Of runs that were made again, the last.
pub(super) fn read(path: &Path) -> Result<(Outline, Vec<Run>)> {
    let outline = read_outline(path)?;
    let mut runs: Vec<Run> = Vec::new();
    for run in read_runs(path)?.0 {
        match runs.iter_mut().find(|there| same(there, &run)) {
            Some(there) => *there = run,
            None => runs.push(run),
        }
    }
    Ok((outline, runs))
}

/// Whether two runs are the same repetition of the same test at the same point.
fn same(a: &Run, b: &Run) -> bool {
    a.repetition == b.repetition && a.test == b.test && a.axes == b.axes
}

fn read_outline(path: &Path) -> Result<Outline> {
    let file = path.join(OUTLINE);
    let text = fs::read(&file)
        .with_context(|| format!("{} is no folder of results: no {OUTLINE}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{} cannot be read", file.display()))
}

/// The runs, and how many bytes of the file are whole lines.
fn read_runs(path: &Path) -> Result<(Vec<Run>, u64)> {
    let name = path.join(RUNS);
    let file = match File::open(&name) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok((Vec::new(), 0)),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", name.display())),
    };
    let (mut runs, mut whole, mut number) = (Vec::new(), 0, 0);
    let mut reader = BufReader::new(file);
    loop {
        let mut line = Vec::new();
        let length =
            std::io::Read::take(&mut reader, LINE_BYTES_MAX as u64).read_until(b'\n', &mut line)?;
        number += 1;
        if !line.ends_with(b"\n") {
            if length >= LINE_BYTES_MAX {
                bail!(
                    "{}: line {number} is longer than {LINE_BYTES_MAX} bytes",
                    name.display()
                );
            }
            return Ok((runs, whole));
        }
        let run = serde_json::from_slice(&line)
            .with_context(|| format!("{}: line {number}", name.display()))?;
        runs.push(run);
        whole += length as u64;
    }
}

/// A file that is there as a whole, or not at all.
fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let context = || format!("cannot write {}", path.display());
    let readable = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    let mut file = tempfile::Builder::new()
        .permissions(readable)
        .tempfile_in(folder)
        .with_context(context)?;
    file.write_all(bytes).with_context(context)?;
    file.as_file().sync_all().with_context(context)?;
    file.persist(path).with_context(context)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::environment::{Environment, Platform};
    use crate::results::Measured;

    fn outline() -> Outline {
        Outline {
            name: "n".to_owned(),
            title: "t".to_owned(),
            about: String::new(),
            source: String::new(),
            seed: 1,
            variant: None,
            repetitions: 2,
            axes: Vec::new(),
            tests: vec!["a".to_owned()],
            figures: Vec::new(),
            published: Vec::new(),
            runs: 2,
            notes: Vec::new(),
        }
    }

    fn run(repetition: u32, measured: bool) -> Run {
        Run {
            test: "a".to_owned(),
            axes: BTreeMap::new(),
            repetition,
            measured: measured.then(Measured::default),
            failure: None,
            environment: Environment::read(),
        }
    }

    #[test]
    fn goes_on_after_a_line_that_was_cut_off() {
        let place = tempfile::tempdir().unwrap();
        let open = || Folder::open(place.path(), "text", &outline());
        let mut folder = open().unwrap();
        folder.add(run(1, true)).unwrap();
        folder.add(run(2, true)).unwrap();
        drop(folder);
        let path = place.path().join(RUNS);
        let length = fs::metadata(&path).unwrap().len();
        File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(length - 3)
            .unwrap();
        let mut folder = open().unwrap();
        assert!(folder.has(&run(1, true)) && !folder.has(&run(2, true)));
        folder.add(run(2, false)).unwrap();
        assert!(
            !folder.has(&run(2, true)),
            "a run that failed is made again"
        );
        folder.add(run(2, true)).unwrap();
        let (_, runs) = read(place.path()).unwrap();
        assert!(runs.len() == 2 && runs.iter().all(|run| run.measured.is_some()));
    }

    #[test]
    fn another_build_or_network_is_not_mixed_with_this_one() {
        let place = tempfile::tempdir().unwrap();
        let mut folder = Folder::open(place.path(), "text", &outline()).unwrap();
        let stamped = |repetition, measured, program: &str, network: &str| {
            let mut run = run(repetition, measured);
            run.environment.network = Some(network.to_owned());
            run.environment.platform = Some(Platform {
                name: "mote".to_owned(),
                program: Some(program.to_owned()),
                system: None,
            });
            run
        };
        let other = stamped(1, true, "old", "relay");
        folder.fits(&other).unwrap();
        // One that measured nothing binds nobody.
        folder.add(stamped(1, false, "older", "tun")).unwrap();
        folder.fits(&other).unwrap();
        folder.add(other).unwrap();
        folder.fits(&stamped(2, true, "old", "relay")).unwrap();
        let error = |run| folder.fits(&run).unwrap_err().to_string();
        let built = error(stamped(2, true, "new", "relay"));
        assert!(
            built.contains("`mote`") && built.contains("--out"),
            "{built}"
        );
        let linked = error(stamped(2, true, "old", "tun"));
        assert!(
            linked.contains("`relay`") && linked.contains("`tun`"),
            "{linked}"
        );
        // Another point may have another network, as where its kind is an axis.
        let mut elsewhere = stamped(2, true, "old", "tun");
        elsewhere.test = "b".to_owned();
        folder.fits(&elsewhere).unwrap();
    }

    #[test]
    fn another_experiment_is_not_mixed_with_this_one() {
        let place = tempfile::tempdir().unwrap();
        Folder::open(place.path(), "text", &outline()).unwrap();
        let error = Folder::open(place.path(), "other text", &outline())
            .unwrap_err()
            .to_string();
        assert!(error.contains("--out"), "{error}");
        let quick = Outline {
            variant: Some(("quick".to_owned(), String::new())),
            ..outline()
        };
        assert!(Folder::open(place.path(), "text", &quick).is_err());
    }
}
