//! The function's log, which `mote logs` shows.
//!
//! ```no_run
//! use mote_function::{info, warn};
//!
//! info!("switched on");
//! warn!("lamp {} does not answer", 7);
//! ```
//!
//! What one call may log is bounded by the manifest (`log`); what is over it is counted and dropped.

use crate::bindings::mote::function::log as host;

/// How important a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Every step.
    Trace,
    /// For whoever looks for a fault.
    Debug,
    /// What happens.
    Info,
    /// What should not happen.
    Warn,
    /// What must not happen.
    Error,
}

/// Writes a line; the macros of this crate are shorter. Outside of a node it goes to standard error.
pub fn log(level: Level, line: &str) {
    if cfg!(target_arch = "wasm32") {
        let level = match level {
            Level::Trace => host::Level::Trace,
            Level::Debug => host::Level::Debug,
            Level::Info => host::Level::Info,
            Level::Warn => host::Level::Warn,
            Level::Error => host::Level::Error,
        };
        host::log(level, line);
    } else {
        eprintln!("{level:?}: {line}");
    }
}

/// Logs every step: `trace!("x = {x}")`.
#[macro_export]
macro_rules! trace {
    ($($line:tt)*) => { $crate::log::log($crate::log::Level::Trace, &::std::format!($($line)*)) };
}

/// Logs for whoever looks for a fault: `debug!("x = {x}")`.
#[macro_export]
macro_rules! debug {
    ($($line:tt)*) => { $crate::log::log($crate::log::Level::Debug, &::std::format!($($line)*)) };
}

/// Logs what happens: `info!("switched on")`.
#[macro_export]
macro_rules! info {
    ($($line:tt)*) => { $crate::log::log($crate::log::Level::Info, &::std::format!($($line)*)) };
}

/// Logs what should not happen: `warn!("lamp {id} does not answer")`.
#[macro_export]
macro_rules! warn {
    ($($line:tt)*) => { $crate::log::log($crate::log::Level::Warn, &::std::format!($($line)*)) };
}

/// Logs what must not happen: `error!("no lamp at all")`.
#[macro_export]
macro_rules! error {
    ($($line:tt)*) => { $crate::log::log($crate::log::Level::Error, &::std::format!($($line)*)) };
}
