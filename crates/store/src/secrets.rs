//! Secrets of apps, in the registry's file and whole in memory.
//!
//! Reading one is a look at a snapshot that is swapped whole when something changes; a change is
//! durable before it is seen. The file is readable by the node's user alone; its values are not
//! encrypted, so whoever reads the disk reads them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use mote_core::error::{Error, ErrorKind};
use mote_core::name::AppName;
use mote_core::runtime::BoxFuture;
use mote_core::secrets::{PER_APP_MAX, SecretStore, Secrets, check_name, check_value};

use crate::registry::RedbRegistry;
use crate::registry::commits::Commits;
use crate::registry::database::{Change, REPAIR, Table};

/// Most bytes of all secrets of a node, names included: they are held in memory.
const BYTES_MAX: usize = 16 << 20;

/// The version of a stored secret: this byte, then the value.
const VERSION: u8 = 1;

/// The secrets in a registry's file.
pub struct RedbSecrets {
    commits: Arc<Commits>,
    all: ArcSwap<Apps>,
    /// Held by the one who changes them. An asynchronous lock, because a change waits for the disk.
    changing: tokio::sync::Mutex<()>,
}

/// Values by name, by app. No app is without a secret.
type Apps = BTreeMap<AppName, Arc<BTreeMap<String, Arc<str>>>>;

impl RedbSecrets {
    /// Reads the secrets of this registry.
    pub async fn open(registry: &RedbRegistry) -> Result<Self, Error> {
        let commits = registry.commits();
        let mut all = Apps::new();
        for (key, value) in commits.list(Table::Secrets).await? {
            let (app, name, value) = decode(&key, &value)?;
            Arc::make_mut(all.entry(app).or_default()).insert(name, value);
        }
        Ok(Self {
            commits,
            all: ArcSwap::from_pointee(all),
            changing: tokio::sync::Mutex::default(),
        })
    }

    async fn change(
        &self,
        app: &AppName,
        name: &str,
        value: Option<Arc<str>>,
    ) -> Result<(), Error> {
        let change = Change {
            table: Table::Secrets,
            key: key(app, name),
            value: value
                .as_deref()
                .map(|value| [&[VERSION], value.as_bytes()].concat()),
        };
        self.commits.change(change).await?;
        let mut all = Apps::clone(&self.all.load());
        let secrets = Arc::make_mut(all.entry(app.clone()).or_default());
        match value {
            Some(value) => drop(secrets.insert(name.to_owned(), value)),
            None => drop(secrets.remove(name)),
        }
        if secrets.is_empty() {
            all.remove(app);
        }
        self.all.store(Arc::new(all));
        Ok(())
    }

    /// Whether there is room for a value in the place of the one that is there.
    fn admit(&self, app: &AppName, name: &str, value: &str) -> Result<(), Error> {
        let all = self.all.load();
        let old = all.get(app).and_then(|secrets| secrets.get(name));
        let full = |message: String, remove: &str| {
            Err(Error::new(ErrorKind::StorageFull, message)
                .with_hint(format!("remove {remove} with `mote secret rm`")))
        };
        let count = all.get(app).map_or(0, |secrets| secrets.len());
        if old.is_none() && count >= PER_APP_MAX {
            let message = format!("app `{app}` has {PER_APP_MAX} secrets, which is the limit");
            return full(message, "one of its secrets");
        }
        let bytes: usize = all
            .iter()
            .flat_map(|(app, secrets)| secrets.iter().map(move |(name, value)| (app, name, value)))
            .map(|(app, name, value)| key(app, name).len() + value.len())
            .sum();
        let freed = old.map_or(0, |old| key(app, name).len() + old.len());
        if bytes - freed + key(app, name).len() + value.len() > BYTES_MAX {
            let message = format!(
                "the node's secrets have {bytes} of at most {BYTES_MAX} bytes: no room for `{name}`"
            );
            return full(message, "some");
        }
        Ok(())
    }
}

impl Secrets for RedbSecrets {
    fn get(&self, app: &AppName, name: &str) -> Option<Arc<str>> {
        self.all.load().get(app)?.get(name).cloned()
    }
}

impl SecretStore for RedbSecrets {
    fn names(&self, app: &AppName) -> Vec<String> {
        let all = self.all.load();
        let names = all.get(app).into_iter().flat_map(|secrets| secrets.keys());
        names.cloned().collect()
    }

    fn set<'a>(
        &'a self,
        app: &'a AppName,
        name: &'a str,
        value: Arc<str>,
    ) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            check_name(name)?;
            check_value(name, &value)?;
            let _changing = self.changing.lock().await;
            self.admit(app, name, &value)?;
            self.change(app, name, Some(value)).await
        })
    }

    fn remove<'a>(&'a self, app: &'a AppName, name: &'a str) -> BoxFuture<'a, Result<bool, Error>> {
        Box::pin(async move {
            check_name(name)?;
            let _changing = self.changing.lock().await;
            if self.get(app, name).is_none() {
                return Ok(false);
            }
            self.change(app, name, None).await.map(|()| true)
        })
    }
}

impl fmt::Debug for RedbSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Debug output ends up in logs; the values must not.
        f.debug_struct("RedbSecrets").finish_non_exhaustive()
    }
}

/// Neither an app's name nor a secret's has a slash in it.
fn key(app: &AppName, name: &str) -> String {
    format!("{app}/{name}")
}

/// The value in these bytes, if they are of a version this code knows.
pub(crate) fn readable<'a>(key: &str, bytes: &'a [u8]) -> Result<&'a [u8], Error> {
    match bytes.split_first() {
        Some((&VERSION, value)) => Ok(value),
        Some((version, _)) if *version > VERSION => Err(Error::new(
            ErrorKind::Unsupported,
            format!(
                "secret `{}` has version {version}, and this version of mote knows versions up to {VERSION}",
                key.escape_debug()
            ),
        )
        .with_hint("start the newer version of mote that wrote it; nothing was changed")),
        _ => Err(damaged(key)),
    }
}

/// A stored row. Whatever it holds, this returns.
fn decode(key: &str, bytes: &[u8]) -> Result<(AppName, String, Arc<str>), Error> {
    let value = readable(key, bytes)?;
    let parsed = || {
        let (app, name) = key.split_once('/')?;
        let value = std::str::from_utf8(value).ok()?;
        check_name(name)
            .and_then(|()| check_value(name, value))
            .ok()?;
        Some((app.parse().ok()?, name.to_owned(), value.into()))
    };
    parsed().ok_or_else(|| damaged(key))
}

fn damaged(key: &str) -> Error {
    let message = format!("secret `{}` is damaged", key.escape_debug());
    Error::new(ErrorKind::Internal, message).with_hint(REPAIR)
}

#[cfg(test)]
mod tests;
