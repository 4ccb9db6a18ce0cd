//! The sandboxes of a node, one for each app that has something running.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
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
    /// By app, held by what runs in them.
    apps: Mutex<HashMap<String, Weak<Sandbox>>>,
    made: AtomicU32,
    /// The layers that this system grants, found out once.
    tier: OnceCell<Tier>,
}

impl Apps {
    pub(super) fn new(program: PathBuf) -> Self {
        Self {
            program,
            apps: Mutex::default(),
            made: AtomicU32::new(0),
            tier: OnceCell::new(),
        }
    }

    /// The sandbox of an app, made when there is none. It lives as long as somebody holds it.
    pub(super) async fn join(&self, app: &str) -> Result<Arc<Sandbox>, Error> {
        // Held while one is made, so that there are never two for an app.
        let mut apps = self.apps.lock().await;
        if let Some(sandbox) = running(&apps, app) {
            return Ok(sandbox);
        }
        let sandbox = self.start(app).await?;
        insert(&mut apps, app, &sandbox);
        Ok(sandbox)
    }

    /// Makes what `adopting` gives the sandbox of an app. It is not asked when the app has one.
    pub(super) async fn adopt<T>(
        &self,
        app: &str,
        adopting: impl Future<Output = Option<(Arc<Sandbox>, T)>>,
    ) -> Option<T> {
        let mut apps = self.apps.lock().await;
        if running(&apps, app).is_some() {
            return None;
        }
        let (sandbox, adopted) = adopting.await?;
        insert(&mut apps, app, &sandbox);
        Some(adopted)
    }

    /// A sandbox that is no app's yet.
    pub(super) async fn start(&self, name: &str) -> Result<Arc<Sandbox>, Error> {
        let sandbox = Sandbox::start(Settings {
            program: self.program.clone(),
            name: name.to_owned(),
            uid: UID_FIRST + self.made.fetch_add(1, Ordering::Relaxed) % UIDS,
        })
        .await?;
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

fn running(apps: &HashMap<String, Weak<Sandbox>>, app: &str) -> Option<Arc<Sandbox>> {
    let sandbox = apps.get(app).and_then(Weak::upgrade);
    sandbox.filter(|sandbox| !has_ended(sandbox))
}

fn insert(apps: &mut HashMap<String, Weak<Sandbox>>, app: &str, sandbox: &Arc<Sandbox>) {
    apps.retain(|_, sandbox| sandbox.strong_count() > 0);
    apps.insert(app.to_owned(), Arc::downgrade(sandbox));
}

fn has_ended(sandbox: &Sandbox) -> bool {
    use futures_util::FutureExt as _;
    Box::pin(sandbox.ended()).now_or_never().is_some()
}
