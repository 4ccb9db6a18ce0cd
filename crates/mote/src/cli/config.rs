//! `mote config`: the configuration, and where each value comes from.

use clap::{Args, Subcommand};
use mote_core::error::Error;
use serde::Serialize;

use super::output::{columns, json};
use crate::config::{Flags, KEYS, Settings};

/// Look at the configuration.
#[derive(Debug, Subcommand)]
pub(super) enum Config {
    /// Print every key with its value and who said so.
    Show(Show),
}

/// Print every key with its value and who said so: the default, the file, the environment or a flag.
#[derive(Debug, Args)]
pub(super) struct Show {
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    flags: Flags,
}

#[derive(Serialize)]
struct Row<'a> {
    key: &'a str,
    value: &'a str,
    origin: String,
    variable: String,
    default: String,
    takes: &'a str,
    doc: &'a str,
}

impl Config {
    pub(super) fn run(self) -> Result<(), Error> {
        let Self::Show(show) = self;
        let settings = Settings::gather(&show.flags, |name| std::env::var_os(name))?;
        // What is shown is what a node would take.
        settings.check()?;
        let rows = KEYS.iter().map(|key| Row {
            key: key.name,
            value: &settings.0[key.name].text,
            origin: settings.0[key.name].origin.to_string(),
            variable: key.variable(),
            default: key.default_shown(),
            takes: key.takes,
            doc: key.doc.trim(),
        });
        if show.json {
            return json(&rows.collect::<Vec<_>>());
        }
        let rows = rows
            .map(|row| vec![row.key.to_owned(), row.value.to_owned(), row.origin])
            .collect();
        columns(&["KEY", "VALUE", "ORIGIN"], rows)
    }
}
