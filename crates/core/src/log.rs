//! Where the lines of a function go.

use std::fmt;

use crate::invocation::InvocationId;

/// How important a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Finest detail.
    Trace,
    /// For the developer.
    Debug,
    /// What a person reads by default; standard output of a guest.
    Info,
    /// Something is off; standard error of a guest.
    Warn,
    /// A call failed.
    Error,
}

impl Level {
    /// The name in logs and on the command line.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// Takes the log lines of one function. Must not block: it is called from inside guests.
pub trait LogSink: Send + Sync {
    /// Takes one line of one call. `text` may hold anything a guest wrote; the sink bounds it.
    fn line(&self, call: InvocationId, level: Level, text: &str);
}
