//! `mote show`: one function.

use clap::Args;
use mote_core::error::Error;
use mote_core::name::FunctionName;

use super::output::{json, moment, pairs};
use super::target::{Target, doors};

/// Show one function.
#[derive(Debug, Args)]
pub(super) struct Show {
    /// `function`, or `function.app`.
    name: FunctionName,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

impl Show {
    pub(super) async fn run(self) -> Result<(), Error> {
        let client = self.target.client()?;
        let function = client.function(&self.name).await?;
        if self.json {
            return json(&function);
        }
        let doors = doors(&client).await?;
        let url = |door: Option<String>| {
            door.map_or_else(
                || "off".to_owned(),
                |door| format!("{door}/{}", function.name),
            )
        };
        let spec = &function.spec;
        let list = |items: Vec<String>| {
            if items.is_empty() {
                "none".to_owned()
            } else {
                items.join(", ")
            }
        };
        let mut lines = vec![
            ("name", function.name.clone()),
            ("app", function.app.clone()),
            ("http", url(doors.http)),
            ("coap", url(doors.coap)),
            ("runtime", format!("{} ({})", spec.runtime, function.shape)),
            ("memory", spec.memory.to_string()),
            ("timeout", spec.timeout.to_string()),
            ("cpu", spec.cpu.to_string()),
            ("body", spec.body.to_string()),
            ("log", spec.log.to_string()),
            ("concurrency", spec.concurrency.to_string()),
            ("queue", spec.queue.to_string()),
            ("reuse", spec.reuse.to_string()),
            (
                "observable",
                if spec.observable { "yes" } else { "no" }.to_owned(),
            ),
            // Values may be secrets; their names are not.
            ("env", list(spec.env.keys().cloned().collect())),
            ("allow.http", list(spec.allow.http.clone())),
            (
                "allow.read",
                list(
                    spec.allow
                        .read
                        .iter()
                        .map(|read| format!("{} as {}", read.host, read.guest))
                        .collect(),
                ),
            ),
            (
                "loaded",
                if function.loaded { "yes" } else { "no" }.to_owned(),
            ),
            ("running", function.in_flight.to_string()),
            ("waiting", function.waiting.to_string()),
            ("calls", function.calls.to_string()),
            ("failed", function.failures.to_string()),
        ];
        for version in function.versions.iter().rev() {
            let live = if version.live { "live" } else { "kept" };
            let artifact: String = version.artifact.chars().take(12).collect();
            lines.push((
                "version",
                format!(
                    "{} {live}  {artifact}  {}",
                    version.version,
                    moment(version.deployed_ms, "%Y-%m-%d %H:%M:%S")
                ),
            ));
        }
        pairs(&lines)
    }
}
