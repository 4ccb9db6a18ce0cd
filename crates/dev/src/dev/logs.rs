//! What functions log, on standard output as it comes.

use std::collections::BTreeSet;

use mote_api::client::{Client, LogQuery};
use mote_core::error::{Error, ErrorKind};
use mote_core::name::FunctionName;
use tokio::task::JoinSet;

use crate::node::{Deployed, Place};
use crate::report::{print, visible};

/// A follower for each function.
#[derive(Debug, Default)]
pub(super) struct Logs {
    followed: BTreeSet<String>,
    /// They end with this.
    followers: JoinSet<()>,
}

impl Logs {
    /// Follows those that are new.
    pub(super) fn follow(&mut self, node: &Place, deployed: &[Deployed]) -> Result<(), Error> {
        for one in deployed {
            let name = &one.function.name;
            if self.followed.insert(name.clone()) {
                let parsed: FunctionName = name.parse()?;
                self.followers.spawn(one_function(node.client()?, parsed));
            }
        }
        Ok(())
    }
}

/// Prints lines until the function is removed or the node ends.
async fn one_function(client: Client, name: FunctionName) {
    let query = LogQuery {
        follow: true,
        tail: None,
        level: None,
    };
    let Ok(mut logs) = client.logs(&name, query).await else {
        return;
    };
    while let Ok(Some(line)) = logs.next().await {
        let printed = print(&format!(
            "{name} {:5} {}",
            visible(&line.level),
            visible(&line.text)
        ));
        match printed {
            Err(error) if error.kind() == ErrorKind::Internal => return,
            _ => {}
        }
    }
}
