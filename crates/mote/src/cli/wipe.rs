//! `mote wipe`: remove every function.

use std::io::IsTerminal as _;

use clap::Args;
use mote_api::wire::WIPE_WORD;
use mote_core::error::{Error, ErrorKind};

use super::target::Target;
use crate::report::say;

/// Remove every function of the node.
#[derive(Debug, Args)]
pub(super) struct Wipe {
    /// Do not ask.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    target: Target,
}

impl Wipe {
    pub(super) async fn run(self) -> Result<(), Error> {
        let client = self.target.client()?;
        if !self.yes {
            confirm(&client.node().admin)?;
        }
        let count = client.wipe().await?;
        say(&format!("removed {count} functions"));
        Ok(())
    }
}

fn confirm(node: &str) -> Result<(), Error> {
    let refused = |message: &'static str| {
        Err(Error::new(ErrorKind::BadRequest, message)
            .with_hint("give --yes to wipe without being asked"))
    };
    if !std::io::stdin().is_terminal() {
        return refused("nobody is there to confirm a wipe");
    }
    say(&format!(
        "this removes every function of {node}; write `{WIPE_WORD}` to go on:"
    ));
    let mut answer = String::new();
    match std::io::stdin().read_line(&mut answer) {
        Ok(_) if answer.trim() == WIPE_WORD => Ok(()),
        _ => refused("the wipe was not confirmed"),
    }
}
