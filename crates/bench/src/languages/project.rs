//! A project of one language, as a person begins and builds it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

/// A folder that `mote new` made.
#[derive(Debug)]
pub(super) struct Project {
    pub(super) language: String,
    /// Its function.
    pub(super) name: String,
    pub(super) folder: PathBuf,
    /// How long beginning it took.
    pub(super) begun: Duration,
}

/// What a build took and made.
#[derive(Debug)]
pub(super) struct Built {
    pub(super) total: Duration,
    pub(super) compiler: Duration,
    pub(super) bytes: u64,
}

/// What `mote build --json` says of one function.
#[derive(Debug, Deserialize)]
struct Said {
    bytes: u64,
    compiler_ms: u64,
}

impl Project {
    /// `mote new` in a folder.
    pub(super) fn begin(mote: &Path, below: &Path, language: &str) -> Result<Self> {
        let name = format!("hello-{language}");
        let mut command = Command::new(mote);
        command
            .args(["new", "--lang", language, &name])
            .current_dir(below);
        let (begun, _) = timed(|| output(&mut command))?;
        Ok(Self {
            language: language.to_owned(),
            folder: below.join(&name),
            name,
            begun,
        })
    }

    /// `mote build`.
    pub(super) fn build(&self, mote: &Path) -> Result<Built> {
        let mut command = Command::new(mote);
        command.args(["build", "--json"]).arg(&self.folder);
        let (total, said) = timed(|| output(&mut command))?;
        let said: Vec<Said> = serde_json::from_slice(&said)
            .context("`mote build` said something else than expected")?;
        Ok(Built {
            total,
            compiler: Duration::from_millis(said.iter().map(|one| one.compiler_ms).sum()),
            bytes: said.iter().map(|one| one.bytes).sum(),
        })
    }

    /// Writes into the manifest how many calls a store serves.
    pub(super) fn keep_stores(&self, reuse: Option<u32>) -> Result<()> {
        let path = self.folder.join("mote.toml");
        let text = fs::read_to_string(&path)?;
        let mut lines: Vec<&str> = text
            .lines()
            .filter(|line| !line.trim_start().starts_with("reuse ="))
            .collect();
        let line = reuse.map(|reuse| format!("reuse = {reuse}"));
        if let Some(line) = &line {
            let function = lines
                .iter()
                .position(|line| line.trim() == format!("[function.{}]", self.name));
            let function = function
                .with_context(|| format!("{} has no [function.{}]", path.display(), self.name))?;
            lines.insert(function + 1, line);
        }
        Ok(fs::write(&path, lines.join("\n") + "\n")?)
    }
}

/// How long something took, beside what it gave.
pub(super) fn timed<T>(what: impl FnOnce() -> Result<T>) -> Result<(Duration, T)> {
    let start = Instant::now();
    let done = what()?;
    Ok((start.elapsed(), done))
}

/// Bytes of the files in a folder.
pub(super) fn bytes_below(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in
        fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?
    {
        bytes += entry?.metadata()?.len();
    }
    Ok(bytes)
}

fn output(command: &mut Command) -> Result<Vec<u8>> {
    let ended = command
        .stdin(Stdio::null())
        .output()
        .context("cannot run mote")?;
    let said = String::from_utf8_lossy(&ended.stderr);
    let last: Vec<&str> = said.trim().lines().rev().take(2).collect();
    ensure!(
        ended.status.success(),
        "{}",
        last.into_iter().rev().collect::<Vec<_>>().join(" | ")
    );
    Ok(ended.stdout)
}
