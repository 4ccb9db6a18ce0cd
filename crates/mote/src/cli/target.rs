//! Which node a command talks to.

use std::path::PathBuf;

use clap::{ArgMatches, Args, Command};
use mote_api::client::Client;
use mote_api::client::node::Node;
use mote_api::wire::Doors;
use mote_core::error::{Error, ErrorKind};

use crate::config::{Flags, Settings};

/// A node, by its address or by its data directory on this machine.
#[derive(Clone, Debug, Args)]
pub(crate) struct Target {
    /// Admin address of the node; its token is read from MOTE_TOKEN.
    #[arg(long, value_name = "URL", env = "MOTE_NODE", help_heading = "Node")]
    node: Option<String>,
    /// Data directory of a node on this machine [env: MOTE_DATA_DIR]
    #[arg(long, value_name = "DIR", help_heading = "Node")]
    data_dir: Option<PathBuf>,
}

impl Target {
    /// A client of the node. A data directory on the command line beats a node in the environment.
    pub(crate) fn client(&self) -> Result<Client, Error> {
        let token = std::env::var("MOTE_TOKEN")
            .ok()
            .filter(|token| !token.is_empty());
        let mut node = match (&self.node, &self.data_dir) {
            (Some(address), None) if !address.is_empty() => Node::remote(address, token.clone())?,
            _ => Node::local(&self.folder()?)?,
        };
        if token.is_some() {
            node.token = token;
        }
        Ok(Client::new(node))
    }

    /// The data directory: flag, environment or default, as for a node.
    fn folder(&self) -> Result<PathBuf, Error> {
        if let Some(folder) = &self.data_dir {
            return Ok(folder.clone());
        }
        let settings = Settings::gather(&Flags::default(), |name| {
            // The rest of a node's variables mean nothing to a client, and may be wrong.
            (name == "MOTE_DATA_DIR")
                .then(|| std::env::var_os(name))
                .flatten()
        })?;
        Ok(PathBuf::from(&settings.0["data_dir"].text))
    }
}

/// The same, for a command whose own commands take it.
#[derive(Clone, Debug)]
pub(crate) struct Anywhere(pub(crate) Target);

impl clap::FromArgMatches for Anywhere {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Target::from_arg_matches(matches).map(Self)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.0.update_from_arg_matches(matches)
    }
}

impl Args for Anywhere {
    fn augment_args(command: Command) -> Command {
        Target::augment_args(command).mut_args(|arg| arg.global(true))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

/// Where the node's doors are, as this machine can reach them.
pub(crate) async fn doors(client: &Client) -> Result<Doors, Error> {
    let node = client.node();
    let doors = match &node.addresses {
        Some(addresses) => Doors {
            http: addresses.http.clone(),
            coap: addresses.coap.clone(),
        },
        None => client.status().await?.doors,
    };
    let reachable = |door: Option<String>| door.map(|door| node.reachable(&door));
    Ok(Doors {
        http: reachable(doors.http),
        coap: reachable(doors.coap),
    })
}

/// An open door, or the error that it is closed.
pub(crate) fn open(door: Option<String>, name: &str) -> Result<String, Error> {
    door.ok_or_else(|| {
        Error::new(
            ErrorKind::Forbidden,
            format!("the node has its {name} door closed"),
        )
        .with_hint(format!("start it with --{name} and an address"))
    })
}
