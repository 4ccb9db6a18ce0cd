//! `mote ls`: every function.

use clap::Args;
use mote_api::wire::FunctionList;
use mote_core::error::Error;

use super::output::{columns, json, moment};
use super::target::Target;

/// List the functions.
#[derive(Debug, Args)]
pub(super) struct Ls {
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

impl Ls {
    pub(super) async fn run(self) -> Result<(), Error> {
        let functions = self.target.client()?.functions().await?;
        if self.json {
            return json(&FunctionList { functions });
        }
        let rows = functions
            .iter()
            .map(|function| {
                let live = function.versions.iter().find(|version| version.live);
                vec![
                    function.name.clone(),
                    function.version.to_string(),
                    function.shape.clone(),
                    function.state.clone(),
                    function
                        .instances
                        .as_ref()
                        .map_or_else(String::new, |all| (all.running + all.paused).to_string()),
                    function.calls.to_string(),
                    function.failures.to_string(),
                    function.in_flight.to_string(),
                    live.map_or_else(String::new, |live| {
                        moment(live.deployed_ms, "%Y-%m-%d %H:%M")
                    }),
                ]
            })
            .collect();
        columns(
            &[
                "NAME",
                "VERSION",
                "SHAPE",
                "STATE",
                "INSTANCES",
                "CALLS",
                "FAILED",
                "RUNNING",
                "DEPLOYED",
            ],
            rows,
        )
    }
}
