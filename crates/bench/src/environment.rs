//! Where a measurement was taken: a number without its environment is not a result.
//!
//! Everything is read from the kernel at the time of the run; what cannot be read is reported as `unknown`.
//! A platform is stamped too: its program by what is in its file, and its system where that is another.

use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;
use serde::{Deserialize, Deserializer, Serialize};

/// The machine, its state and the command that repeats the measurement.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Environment {
    /// Of this system.
    #[serde(flatten)]
    pub system: System,
    /// Version of the testbed.
    pub version: String,
    /// The command line that repeats the measurement.
    pub command: String,
    /// Seconds since 1970 when the stamp was taken.
    pub unix_seconds: u64,
    /// How the network between machines was emulated, such as `tun` or `relay`; nothing where there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// What was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
}

/// A system and its state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct System {
    /// Kernel release, as `uname -r` prints it.
    pub kernel: String,
    /// Model name of the first processor.
    pub cpu: String,
    /// Processors this process may use.
    pub cores: usize,
    /// Load average of the last minute when the stamp was taken, so a busy machine shows.
    #[serde(deserialize_with = "number_or_nothing")]
    pub load_average: f64,
}

/// A platform of an experiment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Platform {
    /// In the experiment file.
    pub name: String,
    /// BLAKE3 of its program, where that could be read, followed by the script that it runs, if any.
    pub program: Option<String>,
    /// Its system when it was started, where that is not the controller's.
    pub system: Option<System>,
}

/// What a machine says about itself and a program on it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Stamp {
    pub(crate) system: System,
    pub(crate) program: Option<String>,
}

/// A program to stamp, as it would be started from here.
#[derive(Debug, Args)]
pub struct Settings {
    /// The program and what it is told
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

/// What this system says about itself and a program on it, as JSON.
pub fn stamp(settings: &Settings) -> anyhow::Result<String> {
    let stamp = Stamp::read(&settings.command, Path::new("."));
    Ok(serde_json::to_string(&stamp)?)
}

impl Environment {
    /// Reads the stamp now.
    #[must_use]
    pub fn read() -> Self {
        Self {
            system: System::read(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            command: std::env::args().collect::<Vec<_>>().join(" "),
            unix_seconds: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_secs()),
            network: None,
            platform: None,
        }
    }
}

impl System {
    /// This one, now.
    #[must_use]
    pub fn read() -> Self {
        Self {
            kernel: first_line("/proc/sys/kernel/osrelease"),
            cpu: cpu_model(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            load_average: first_line("/proc/loadavg")
                .split(' ')
                .next()
                .and_then(|word| word.parse().ok())
                .unwrap_or(f64::NAN),
        }
    }
}

impl Stamp {
    /// Of this system. `folder`: from which the words of a command count.
    pub(crate) fn read(command: &[String], folder: &Path) -> Self {
        Self {
            system: System::read(),
            program: digest(command, folder),
        }
    }
}

/// BLAKE3 of the file of a command's program and, because that may be an interpreter, of the first word that is no
/// option and names a file.
fn digest(command: &[String], folder: &Path) -> Option<String> {
    let (program, words) = command.split_first()?;
    let mut hasher = blake3::Hasher::new();
    hasher
        .update_reader(File::open(found(program, folder)?).ok()?)
        .ok()?;
    let word = words.iter().find(|word| !word.starts_with('-'));
    if let Some(script) = word
        .map(|word| folder.join(word))
        .filter(|path| path.is_file())
    {
        hasher.update_reader(File::open(script).ok()?).ok()?;
    }
    Some(hasher.finalize().to_hex().to_string())
}

/// Where a program is, as a shell finds it.
fn found(program: &str, folder: &Path) -> Option<PathBuf> {
    if program.contains('/') {
        return Some(folder.join(program));
    }
    let path = std::env::var_os("PATH")?;
    let mut places = std::env::split_paths(&path).map(|place| place.join(program));
    places.find(|place| place.is_file())
}

impl fmt::Display for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "environment   linux {}, {}, {} cores, load {:.2}, mote-bench {}",
            self.system.kernel,
            self.system.cpu,
            self.system.cores,
            self.system.load_average,
            self.version
        )?;
        write!(f, "command       {}", self.command)
    }
}

/// JSON has no word for a number that is none, and writes `null`.
fn number_or_nothing<'a, D: Deserializer<'a>>(stored: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(stored)?.unwrap_or(f64::NAN))
}

fn first_line(path: &str) -> String {
    fs::read_to_string(path)
        .ok()
        .and_then(|text| text.lines().next().map(str::to_owned))
        .unwrap_or_else(|| "unknown".to_owned())
}

/// ARM kernels name no model, so the first of several keys that exists is taken.
fn cpu_model() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    for key in ["model name", "Model", "Hardware", "CPU part"] {
        let value = text
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| name.trim() == key);
        if let Some((_, value)) = value {
            return value.trim().to_owned();
        }
    }
    "unknown".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_and_its_script_are_told_from_others() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        let of = |command: &str| {
            let words: Vec<String> = command.split(' ').map(str::to_owned).collect();
            digest(&words, folder.path())
        };
        write("server", "one");
        let one = of("./server --address 127.0.0.1:0").unwrap();
        assert_eq!(one, blake3::hash(b"one").to_hex().to_string());
        write("server", "two");
        assert_ne!(of("./server").unwrap(), one);
        write("script", "one");
        let script = of("sh -e script").unwrap();
        assert_ne!(of("sh").unwrap(), script);
        write("script", "two");
        assert_ne!(of("sh -e script").unwrap(), script);
        assert_eq!(of("./nothing"), None);
        assert_eq!(of("no-such-program-anywhere"), None);
    }

    #[test]
    fn stamps_of_earlier_versions_are_read() {
        let text = r#"{"kernel":"6.1","cpu":"x","cores":2,"load_average":null,"version":"0.1.0","command":"c","unix_seconds":1}"#;
        let stamp: Environment = serde_json::from_str(text).unwrap();
        assert_eq!((stamp.system.cores, stamp.network), (2, None));
        assert!(stamp.system.load_average.is_nan() && stamp.platform.is_none());
    }
}
