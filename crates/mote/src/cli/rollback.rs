//! `mote rollback`: make an older version live again.

use clap::Args;
use mote_core::error::Error;
use mote_core::name::FunctionName;

use super::output::{json, line};
use super::target::Target;

/// Make an older version of a function live again.
#[derive(Debug, Args)]
pub(super) struct Rollback {
    /// `function`, or `function.app`.
    name: FunctionName,
    /// The version; without it, the one before the live one.
    #[arg(long)]
    version: Option<u32>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

impl Rollback {
    pub(super) async fn run(self) -> Result<(), Error> {
        let client = self.target.client()?;
        let function = client.rollback(&self.name, self.version).await?;
        if self.json {
            return json(&function);
        }
        line(&format!("{}  version {}", function.name, function.version))
    }
}
