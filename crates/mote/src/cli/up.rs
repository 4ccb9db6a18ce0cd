//! `mote up`: run a node.

use clap::Args;
use mote_core::error::{Error, ErrorKind};

use crate::config::{self, Flags};
use crate::{logging, serve};

/// Run a node, until it is told to stop.
///
/// Once it listens, prints one line each on standard output: `http URL`, `coap URL`, `admin URL`,
/// `token FILE`.
#[derive(Debug, Args)]
pub(super) struct Up {
    #[command(flatten)]
    flags: Flags,
}

impl Up {
    pub(super) fn run(self) -> Result<(), Error> {
        let config = config::load(&self.flags)?;
        logging::start(&config)?;
        // This thread looks after the node; calls are served by others.
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| {
                Error::new(
                    ErrorKind::Internal,
                    format!("cannot start threads: {error}"),
                )
            })?
            .block_on(serve::run(config))
    }
}
