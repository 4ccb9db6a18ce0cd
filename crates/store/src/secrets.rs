//! Secrets of apps, in the registry's file and whole in memory.
//!
//! Reading one is a look at a snapshot that is swapped whole when something changes; a change is
//! durable before it is seen. The file is readable by the node's user alone; its values are not
//! encrypted, so whoever reads the disk reads them.

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
    all: ArcSwap<Snapshot>,
    /// Held by the one who changes them. An asynchronous lock, because a change waits for the disk.
    changing: tokio::sync::Mutex<()>,
}

/// Every secret, by app and name.
#[derive(Clone, Default)]
struct Snapshot(Vec<Secret>);

#[derive(Clone)]
struct Secret {
    app: AppName,
    name: Arc<str>,
    value: Arc<str>,
}

impl Secret {
    fn bytes(&self) -> usize {
        self.app.as_str().len() + self.name.len() + self.value.len()
    }
}

impl Snapshot {
    /// Where a secret is, or where it belongs.
    fn place(&self, app: &AppName, name: &str) -> Result<usize, usize> {
        self.0
            .binary_search_by(|secret| (&secret.app, &*secret.name).cmp(&(app, name)))
    }

    fn of(&self, app: &AppName) -> &[Secret] {
        let begin = self.0.partition_point(|secret| secret.app < *app);
        let end = self.0.partition_point(|secret| secret.app <= *app);
        &self.0[begin..end]
    }

    fn set(&mut self, secret: Secret) {
        match self.place(&secret.app, &secret.name) {
            Ok(place) => self.0[place] = secret,
            Err(place) => self.0.insert(place, secret),
        }
    }

    /// Whether there is room for a secret in the place of the one that is there.
    fn admit(&self, secret: &Secret) -> Result<(), Error> {
        let Secret { app, name, .. } = secret;
        let full = |message: String| {
            Err(Error::new(ErrorKind::StorageFull, message)
                .with_hint("remove some with `mote secret rm`"))
        };
        let old = self.place(app, name).ok().map(|place| &self.0[place]);
        if old.is_none() && self.of(app).len() >= PER_APP_MAX {
            return full(format!(
                "app `{app}` has {PER_APP_MAX} secrets, which is the limit"
            ));
        }
        let bytes: usize = self.0.iter().map(Secret::bytes).sum();
        if bytes - old.map_or(0, Secret::bytes) + secret.bytes() > BYTES_MAX {
            return full(format!(
                "the node's secrets have {bytes} of at most {BYTES_MAX} bytes: no room for `{name}`"
            ));
        }
        Ok(())
    }
}

impl RedbSecrets {
    /// Reads the secrets of this registry.
    pub async fn open(registry: &RedbRegistry) -> Result<Self, Error> {
        let commits = registry.commits();
        let mut all = Snapshot::default();
        for (key, value) in commits.list(Table::Secrets).await? {
            all.set(decode(&key, &value)?);
        }
        Ok(Self {
            commits,
            all: ArcSwap::from_pointee(all),
            changing: tokio::sync::Mutex::default(),
        })
    }

    /// On the disk, then in memory.
    async fn change(
        &self,
        app: &AppName,
        name: &str,
        value: Option<&str>,
        change: impl FnOnce(&mut Snapshot),
    ) -> Result<(), Error> {
        let written = Change {
            table: Table::Secrets,
            key: key(app, name),
            value: value.map(|value| [&[VERSION], value.as_bytes()].concat()),
        };
        self.commits.change(written).await?;
        let mut all = Snapshot::clone(&self.all.load());
        change(&mut all);
        self.all.store(Arc::new(all));
        Ok(())
    }
}

impl Secrets for RedbSecrets {
    fn get(&self, app: &AppName, name: &str) -> Option<Arc<str>> {
        let all = self.all.load();
        let place = all.place(app, name).ok()?;
        Some(Arc::clone(&all.0[place].value))
    }
}

impl SecretStore for RedbSecrets {
    fn names(&self, app: &AppName) -> Vec<String> {
        let all = self.all.load();
        let names = all.of(app).iter();
        names
            .map(|secret| secret.name.as_ref().to_owned())
            .collect()
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
            let secret = Secret {
                app: app.clone(),
                name: name.into(),
                value: Arc::clone(&value),
            };
            let _changing = self.changing.lock().await;
            self.all.load().admit(&secret)?;
            self.change(app, name, Some(&value), |all| all.set(secret))
                .await
        })
    }

    fn remove<'a>(&'a self, app: &'a AppName, name: &'a str) -> BoxFuture<'a, Result<bool, Error>> {
        Box::pin(async move {
            check_name(name)?;
            let _changing = self.changing.lock().await;
            let Ok(place) = self.all.load().place(app, name) else {
                return Ok(false);
            };
            let removed = self.change(app, name, None, |all| drop(all.0.remove(place)));
            removed.await.map(|()| true)
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
fn decode(key: &str, bytes: &[u8]) -> Result<Secret, Error> {
    let value = readable(key, bytes)?;
    let parsed = || {
        let (app, name) = key.split_once('/')?;
        let value = std::str::from_utf8(value).ok()?;
        check_name(name)
            .and_then(|()| check_value(name, value))
            .ok()?;
        Some(Secret {
            app: app.parse().ok()?,
            name: name.into(),
            value: value.into(),
        })
    };
    parsed().ok_or_else(|| damaged(key))
}

fn damaged(key: &str) -> Error {
    let message = format!("secret `{}` is damaged", key.escape_debug());
    Error::new(ErrorKind::Internal, message).with_hint(REPAIR)
}

#[cfg(test)]
mod tests;
