//! `mote secret`: the secrets of apps.

use clap::{Args, Subcommand};
use mote_api::wire::data::SecretList;
use mote_core::error::Error;
use mote_core::name::AppName;
use mote_core::secrets::{VALUE_BYTES_MAX, check_name};

use super::output::{json, line};
use super::target::Anywhere;
use super::value;
use crate::report::say;

/// Set and remove the secrets of apps.
#[derive(Debug, Args)]
pub(super) struct Secret {
    #[command(subcommand)]
    action: Action,
    /// The app.
    #[arg(long, global = true, default_value_t)]
    app: AppName,
    #[command(flatten)]
    target: Anywhere,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Set a secret to what standard input says.
    ///
    /// A line end at the end of the value is not part of it. Functions whose manifest grants it,
    /// with allow.secrets = ["NAME"], see it from their next call.
    Set {
        /// Its name: capital letters, digits and underscores.
        name: String,
        /// Read the value from this file.
        #[arg(long, value_name = "FILE")]
        value_file: Option<String>,
    },
    /// List the names of the secrets.
    Ls {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Remove secrets.
    Rm {
        /// Their names.
        #[arg(required = true)]
        names: Vec<String>,
    },
}

impl Secret {
    pub(super) async fn run(self) -> Result<(), Error> {
        let (client, app) = (self.target.0.client()?, &self.app);
        match self.action {
            Action::Set { name, value_file } => {
                // Before somebody types a value for nothing.
                check_name(&name)?;
                let value = value(value_file.as_deref())?;
                client.set_secret(app, &name, value.into()).await?;
                say(&format!("set {name} of app {app}"));
            }
            Action::Ls { json: true } => {
                let names = client.secrets(app).await?;
                return json(&SecretList { names });
            }
            Action::Ls { json: false } => {
                let names = client.secrets(app).await?;
                return names.iter().try_for_each(|name| line(name));
            }
            Action::Rm { names } => {
                for name in &names {
                    client.remove_secret(app, name).await?;
                    say(&format!("removed {name} of app {app}"));
                }
            }
        }
        Ok(())
    }
}

fn value(file: Option<&str>) -> Result<Vec<u8>, Error> {
    // Two bytes for the line end that is not part of it.
    let mut value = value::read(file, VALUE_BYTES_MAX + 2)?;
    for end in [b'\n', b'\r'] {
        if value.last() == Some(&end) {
            value.pop();
        }
    }
    Ok(value)
}
