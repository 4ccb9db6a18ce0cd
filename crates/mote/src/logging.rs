//! The node's own log, on standard error.

use std::io::IsTerminal as _;

use mote_core::error::{Error, ErrorKind};
use tracing_subscriber::EnvFilter;

use crate::config::Config;
use crate::config::value::LogFormat;

/// Starts logging as the configuration says. Once per process.
pub(crate) fn start(config: &Config) -> Result<(), Error> {
    // Checked when the configuration was read.
    let filter = EnvFilter::builder().parse_lossy(&config.log_level);
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // They would go to standard error too, which panics when it is closed.
        .log_internal_errors(false)
        .with_ansi(!plain && std::io::stderr().is_terminal());
    let started = match config.log_format {
        LogFormat::Text => log.try_init(),
        LogFormat::Json => log.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| {
        Error::new(
            ErrorKind::Internal,
            format!("cannot start the log: {error}"),
        )
    })
}
