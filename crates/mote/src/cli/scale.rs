//! `mote scale`: how many instances a function may have.

use clap::Args;
use mote_api::wire::Rescale;
use mote_core::error::{Error, ErrorKind};
use mote_core::name::FunctionName;

use super::output::json;
use super::target::Target;
use crate::report::say;

/// Change how many instances a function may have.
///
/// `mote scale NAME 3` holds it at three; `--min` and `--max` set the bounds between which it goes
/// up and down with its load. It holds for the live version, also after a restart.
#[derive(Debug, Args)]
pub(super) struct Scale {
    /// `function`, or `function.app`.
    name: FunctionName,
    /// Exactly so many.
    #[arg(conflicts_with_all = ["min", "max"])]
    instances: Option<u32>,
    /// Instances that are always there.
    #[arg(long)]
    min: Option<u32>,
    /// Most instances.
    #[arg(long)]
    max: Option<u32>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

impl Scale {
    pub(super) async fn run(self) -> Result<(), Error> {
        let rescale = match self.instances {
            // None at all would refuse every call; nought lets it go to zero and come back.
            Some(0) => Rescale {
                min: Some(0),
                max: None,
            },
            exact @ Some(_) => Rescale {
                min: exact,
                max: exact,
            },
            None => Rescale {
                min: self.min,
                max: self.max,
            },
        };
        if rescale == Rescale::default() {
            let error = Error::new(ErrorKind::BadRequest, "no number of instances was given");
            return Err(error.with_hint("write `mote scale NAME 3`, or --min and --max"));
        }
        let function = self.target.client()?.rescale(&self.name, &rescale).await?;
        if self.json {
            return json(&function);
        }
        let scale = &function.spec.scale;
        say(&format!(
            "{} has {} to {} instances",
            function.name, scale.min, scale.max
        ));
        Ok(())
    }
}
