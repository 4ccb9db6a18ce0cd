//! `mote status`: how the node is.

use std::time::Duration;

use clap::Args;
use mote_api::wire::Warm;
use mote_core::error::Error;

use super::output::{json, pairs, size};
use super::target::Target;

/// Show how the node is.
#[derive(Debug, Args)]
pub(super) struct Status {
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

impl Status {
    pub(super) async fn run(self) -> Result<(), Error> {
        let client = self.target.client()?;
        let status = client.status().await?;
        if self.json {
            return json(&status);
        }
        let state = match (status.draining, status.ready) {
            (true, _) => "about to stop",
            (false, true) => "ready",
            (false, false) => "starting",
        };
        let door = |door: &Option<String>| door.clone().unwrap_or_else(|| "off".to_owned());
        let mut lines = vec![
            ("state", state.to_owned()),
            ("node", status.node.clone()),
            ("version", status.version.clone()),
            (
                "uptime",
                humantime::format_duration(Duration::from_secs(status.uptime_s)).to_string(),
            ),
            ("functions", status.functions.to_string()),
            ("running", status.in_flight.to_string()),
            ("waiting", status.waiting.to_string()),
            ("calls", status.calls.to_string()),
            ("http", door(&status.doors.http)),
            ("coap", door(&status.doors.coap)),
            ("admin", client.node().admin.clone()),
            (
                "memory",
                format!(
                    "{} of {} reserved by instances",
                    size(status.memory_reserved_bytes),
                    size(status.memory_bytes)
                ),
            ),
        ];
        if let Some(line) = warm(&status.warm) {
            lines.push(("warm", line));
        }
        for (runtime, line) in &status.isolation {
            lines.push((runtime, line.clone()));
        }
        pairs(&lines)
    }
}

/// Nothing on a node that keeps nothing warm.
fn warm(warm: &Warm) -> Option<String> {
    if let Some(why) = &warm.off {
        return Some(format!("off: {why}"));
    }
    if warm.ready.is_empty() && warm.taken == 0 {
        return None;
    }
    let ready = warm.ready.iter();
    let mut parts: Vec<_> = ready
        .map(|(name, count)| format!("{count} {name}"))
        .collect();
    parts.push(format!("{} taken so far", warm.taken));
    Some(parts.join(", "))
}
