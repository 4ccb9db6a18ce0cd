//! `mote show`: one function.

use clap::Args;
use mote_api::spec::FunctionSpec;
use mote_api::wire::InstancesInfo;
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
                "allow.keyvalue",
                if spec.allow.keyvalue { "yes" } else { "no" }.to_owned(),
            ),
            ("allow.secrets", list(spec.allow.secrets.clone())),
            ("state", function.state.clone()),
            ("isolation", function.isolation.clone()),
            ("running", function.in_flight.to_string()),
            ("waiting", function.waiting.to_string()),
            ("calls", function.calls.to_string()),
            ("failed", function.failures.to_string()),
        ];
        lines.extend(
            function
                .warnings
                .iter()
                .map(|line| ("warning", line.clone())),
        );
        lines.extend(program(spec));
        if let Some(instances) = &function.instances {
            lines.extend(self::instances(spec, instances));
        }
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

/// What is said of a process or container alone.
fn program(spec: &FunctionSpec) -> Vec<(&'static str, String)> {
    let written = [
        ("contract", spec.contract.clone()),
        (
            "command",
            (!spec.command.is_empty()).then(|| spec.command.join(" ")),
        ),
        ("environment", spec.environment.clone()),
        ("port", spec.port.map(|port| port.to_string())),
        ("ready", spec.ready.clone()),
        ("tmp", spec.tmp.map(|tmp| tmp.to_string())),
        (
            "processes",
            spec.processes.map(|processes| processes.to_string()),
        ),
        ("cpus", spec.cpus.map(|cpus| cpus.to_string())),
    ];
    let lines = written.into_iter();
    lines
        .filter_map(|(key, value)| Some((key, value?)))
        .collect()
}

fn instances(spec: &FunctionSpec, instances: &InstancesInfo) -> Vec<(&'static str, String)> {
    let scale = &spec.scale;
    let target = scale.target.map_or_else(
        || "as many calls as one takes".to_owned(),
        |target| format!("{target} calls each"),
    );
    let mut lines = vec![
        (
            "scale",
            format!(
                "{} to {}, {target}, idle {}",
                scale.min, scale.max, scale.idle
            ),
        ),
        (
            "instances",
            format!(
                "{} running, {} paused, {} starting, {} died",
                instances.running, instances.paused, instances.starting, instances.deaths
            ),
        ),
        ("scaling", instances.decision.clone()),
    ];
    if let Some(why) = &instances.unhealthy {
        lines.push(("unhealthy", why.clone()));
    }
    lines
}
