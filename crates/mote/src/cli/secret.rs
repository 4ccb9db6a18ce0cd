//! `mote secret`: the secrets of apps.

use clap::{Args, Subcommand};
use mote_api::wire::data::SecretList;
use mote_core::error::Error;
use mote_core::name::AppName;
use mote_core::secrets::{VALUE_BYTES_MAX, check_name};

use super::output::{json, line};
use super::target::Target;
use super::value;
use crate::report::say;

/// Set and remove the secrets of apps.
#[derive(Debug, Subcommand)]
pub(super) enum Secret {
    Set(Set),
    Ls(Ls),
    Rm(Rm),
}

/// Set a secret to what standard input says.
///
/// A line end at the end of the value is not part of it. Functions whose manifest grants it, with
/// allow.secrets = ["NAME"], see it from their next call.
#[derive(Debug, Args)]
pub(super) struct Set {
    /// Its name: capital letters, digits and underscores.
    name: String,
    /// Read the value from this file.
    #[arg(long, value_name = "FILE")]
    value_file: Option<String>,
    /// The app.
    #[arg(long, default_value_t)]
    app: AppName,
    #[command(flatten)]
    target: Target,
}

/// List the names of the secrets.
#[derive(Debug, Args)]
pub(super) struct Ls {
    /// The app.
    #[arg(long, default_value_t)]
    app: AppName,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

/// Remove secrets.
#[derive(Debug, Args)]
pub(super) struct Rm {
    /// Their names.
    #[arg(required = true)]
    names: Vec<String>,
    /// The app.
    #[arg(long, default_value_t)]
    app: AppName,
    #[command(flatten)]
    target: Target,
}

impl Secret {
    pub(super) async fn run(self) -> Result<(), Error> {
        match self {
            Self::Set(set) => set.run().await,
            Self::Ls(ls) => ls.run().await,
            Self::Rm(rm) => rm.run().await,
        }
    }
}

impl Set {
    async fn run(self) -> Result<(), Error> {
        // Before somebody types a value for nothing.
        check_name(&self.name)?;
        // Two bytes for the line end that is not part of it.
        let mut value = value::read(self.value_file.as_deref(), VALUE_BYTES_MAX + 2)?;
        for end in [b'\n', b'\r'] {
            if value.last() == Some(&end) {
                value.pop();
            }
        }
        let client = self.target.client()?;
        client
            .set_secret(&self.app, &self.name, value.into())
            .await?;
        say(&format!("set {} of app {}", self.name, self.app));
        Ok(())
    }
}

impl Ls {
    async fn run(self) -> Result<(), Error> {
        let names = self.target.client()?.secrets(&self.app).await?;
        if self.json {
            return json(&SecretList { names });
        }
        names.iter().try_for_each(|name| line(name))
    }
}

impl Rm {
    async fn run(self) -> Result<(), Error> {
        let client = self.target.client()?;
        for name in &self.names {
            client.remove_secret(&self.app, name).await?;
            say(&format!("removed {name} of app {}", self.app));
        }
        Ok(())
    }
}
