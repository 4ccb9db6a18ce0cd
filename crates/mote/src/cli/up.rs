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
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(config.workers.get())
            // A busy CoAP shard runs for some milliseconds at a time; by default a worker looks at
            // its sockets every 61 turns, which would make the others wait for a tenth of a second.
            .event_interval(8)
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
