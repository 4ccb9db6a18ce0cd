//! The sandboxes of a node, one for each app that has something running.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Weak};

use mote_core::error::Error;
use tokio::sync::{Mutex, OnceCell};

use crate::sandbox::tier::Tier;
use crate::sandbox::{Sandbox, Settings};

/// The first user id of programs. Far above those of people and services, and of the ranges that
/// systems hand out for containers of users.
const UID_FIRST: u32 = 0x7000_0000;
/// How many there are; each sandbox takes the next.
const UIDS: u32 = 0x0100_0000;

/// The sandboxes of a node.
#[derive(Debug)]
pub(super) struct Apps {
    program: PathBuf,
    apps: Mutex<Sandboxes>,
    /// The layers that this system grants, found out once.
    tier: OnceCell<Tier>,
}

#[derive(Debug, Default)]
struct Sandboxes {
    by_app: HashMap<String, Weak<Sandbox>>,
    made: u32,
}

impl Apps {
    pub(super) fn new(program: PathBuf) -> Self {
        Self {
            program,
            apps: Mutex::default(),
            tier: OnceCell::new(),
        }
    }

    /// The sandbox of an app, made when there is none. It lives as long as somebody holds it.
    pub(super) async fn join(&self, app: &str) -> Result<Arc<Sandbox>, Error> {
        // Held while one is made, so that there are never two for an app.
        let mut apps = self.apps.lock().await;
        if let Some(sandbox) = apps.by_app.get(app).and_then(Weak::upgrade)
            && !has_ended(&sandbox)
        {
            return Ok(sandbox);
        }
        apps.by_app.retain(|_, sandbox| sandbox.strong_count() > 0);
        let uid = UID_FIRST + apps.made % UIDS;
        apps.made = apps.made.wrapping_add(1);
        let sandbox = Sandbox::start(Settings {
            program: self.program.clone(),
            name: app.to_owned(),
            uid,
        })
        .await?;
        apps.by_app.insert(app.to_owned(), Arc::downgrade(&sandbox));
        let _ = self.tier.set(*sandbox.tier());
        Ok(sandbox)
    }

    /// What keeps apps apart here, in one line; a trial sandbox finds out when none was made yet.
    pub(super) async fn tier(&self, cgroups: Tier) -> String {
        if self.tier.get().is_none() {
            let trial = self.join("trial").await;
            if let Err(error) = trial {
                return format!("none: {error}");
            }
        }
        match self.tier.get() {
            Some(tier) => tier.and(cgroups).to_string(),
            None => "not known yet".to_owned(),
        }
    }
}

fn has_ended(sandbox: &Sandbox) -> bool {
    use futures_util::FutureExt as _;
    Box::pin(sandbox.ended()).now_or_never().is_some()
}
