//! Where a measurement was taken: a number without its environment is not a result.
//!
//! Everything is read from the kernel at the time of the run; what cannot be read is reported as `unknown`.

use std::fmt;
use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Deserializer, Serialize};

/// The machine, its state and the command that repeats the measurement.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Environment {
    /// Kernel release, as `uname -r` prints it.
    pub kernel: String,
    /// Model name of the first processor.
    pub cpu: String,
    /// Processors this process may use.
    pub cores: usize,
    /// Load average of the last minute when the stamp was taken, so a busy machine shows.
    #[serde(deserialize_with = "number_or_nothing")]
    pub load_average: f64,
    /// Version of the testbed.
    pub version: String,
    /// The command line that repeats the measurement.
    pub command: String,
    /// Seconds since 1970 when the stamp was taken.
    pub unix_seconds: u64,
}

impl Environment {
    /// Reads the stamp now.
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
            version: env!("CARGO_PKG_VERSION").to_owned(),
            command: std::env::args().collect::<Vec<_>>().join(" "),
            unix_seconds: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_secs()),
        }
    }
}

impl fmt::Display for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "environment   linux {}, {}, {} cores, load {:.2}, mote-bench {}",
            self.kernel, self.cpu, self.cores, self.load_average, self.version
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
