//! `mote bench`: put load on a server and report what happened.

use clap::Subcommand;
use mote_bench::load;
use mote_core::error::{Error, ErrorKind};

use super::output::{json, line};

/// Measure.
#[derive(Debug, Subcommand)]
pub(super) enum Bench {
    /// Put load on an HTTP or CoAP server and report rate, latency and failures.
    Load(load::Options),
}

impl Bench {
    pub(super) fn run(self) -> Result<(), Error> {
        let Self::Load(options) = self;
        let report = load::run(&options).map_err(|error| {
            Error::new(ErrorKind::BadRequest, format!("{error:#}"))
                .with_hint("check the address, and that the server runs")
        })?;
        if options.json {
            return json(&report);
        }
        line(report.to_string().trim_end())
    }
}
