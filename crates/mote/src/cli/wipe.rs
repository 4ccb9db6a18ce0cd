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
            let what = format!("every function of {}", client.node().admin);
            confirm(&what, WIPE_WORD)?;
        }
        let count = client.wipe().await?;
        say(&format!("removed {count} functions"));
        Ok(())
    }
}

/// Asks whether something may be removed: goes on when the answer is the word.
pub(super) fn confirm(what: &str, word: &str) -> Result<(), Error> {
    let refused = |message: String| {
        Err(Error::new(ErrorKind::BadRequest, message)
            .with_hint(format!("give --yes to {word} without being asked")))
    };
    if !std::io::stdin().is_terminal() {
        return refused(format!("nobody is there to confirm a {word}"));
    }
    say(&format!("this removes {what}; write `{word}` to go on:"));
    let mut answer = String::new();
    match std::io::stdin().read_line(&mut answer) {
        Ok(_) if answer.trim() == word => Ok(()),
        _ => refused(format!("the {word} was not confirmed")),
    }
}
