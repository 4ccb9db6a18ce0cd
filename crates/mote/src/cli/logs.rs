//! `mote logs`: what a function wrote.

use clap::Args;
use mote_api::client::LogQuery;
use mote_api::wire;
use mote_core::error::{Error, ErrorKind};
use mote_core::log::Level;
use mote_core::name::FunctionName;

use super::output::{line, moment};
use super::target::Target;
use crate::report::visible;

/// Print what a function wrote, oldest first.
#[derive(Debug, Args)]
pub(super) struct Logs {
    /// `function`, or `function.app`.
    name: FunctionName,
    /// Go on with new lines.
    #[arg(short, long)]
    follow: bool,
    /// At most this many past lines.
    #[arg(short = 'n', long, value_name = "LINES")]
    tail: Option<u32>,
    /// The least important level: trace, debug, info, warn or error.
    #[arg(long, value_parser = wire::level)]
    level: Option<Level>,
    /// Print one JSON value per line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

impl Logs {
    pub(super) async fn run(self) -> Result<(), Error> {
        let query = LogQuery {
            follow: self.follow,
            tail: self.tail,
            level: self.level,
        };
        let mut logs = self.target.client()?.logs(&self.name, query).await?;
        while let Some(entry) = logs.next().await? {
            if self.json {
                let text = serde_json::to_string(&entry).map_err(|error| {
                    Error::new(ErrorKind::Internal, format!("cannot write JSON: {error}"))
                })?;
                line(&text)?;
                continue;
            }
            // The end of an id tells the calls of one node apart.
            let call = entry.call.get(8..16).unwrap_or("-");
            let time = moment(entry.time_ms, "%H:%M:%S%.3f");
            line(&format!(
                "{time} {:5} {} {}",
                visible(&entry.level),
                visible(call),
                visible(&entry.text)
            ))?;
        }
        Ok(())
    }
}
