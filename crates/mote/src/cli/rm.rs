//! `mote rm`: remove functions.

use clap::Args;
use mote_core::error::Error;
use mote_core::name::FunctionName;

use super::target::Target;
use crate::report::say;

/// Remove functions, with all their versions.
#[derive(Debug, Args)]
pub(super) struct Rm {
    /// `function`, or `function.app`.
    #[arg(required = true)]
    names: Vec<FunctionName>,
    #[command(flatten)]
    target: Target,
}

impl Rm {
    pub(super) async fn run(self) -> Result<(), Error> {
        let client = self.target.client()?;
        for name in &self.names {
            client.remove(name).await?;
            say(&format!("removed {name}"));
        }
        Ok(())
    }
}
