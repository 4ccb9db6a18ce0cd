//! What a node keeps in its databases: the registry, secrets and key-value data, and what of it is
//! on the metrics page.

use std::sync::Arc;

use mote_core::error::Error;
use mote_core::key_value::{KeyValueAdmin as _, Usage};
use mote_engine::metrics::{Family, Probe};
use mote_ingress::admin::Data;
use mote_store::data_dir::DataDir;
use mote_store::key_value::{self, Counts, Quotas, RedbKeyValue};
use mote_store::registry::RedbRegistry;
use mote_store::secrets::RedbSecrets;

use crate::config::Config;

/// Most apps that have a series of their own; those that keep most do, the others share one.
const SERIES_MAX: usize = 1000;
/// The label of the series that the others share. No app has this name.
const OTHERS: &str = "(others)";

/// The databases, open.
pub(crate) struct Stored {
    pub(crate) registry: Arc<RedbRegistry>,
    pub(crate) secrets: Arc<RedbSecrets>,
    pub(crate) key_value: Arc<RedbKeyValue>,
}

impl Stored {
    /// Opens them. After a crash that reads each of them once, and blocks for as long.
    pub(crate) async fn open(config: &Config, data_dir: &DataDir) -> Result<Self, Error> {
        let registry = RedbRegistry::open(data_dir)?;
        let secrets = RedbSecrets::open(&registry).await?;
        let kept = key_value::Config {
            quotas: Quotas {
                app_bytes_max: config.kv_app_bytes_max,
                app_keys_max: config.kv_app_keys_max.into(),
                node_bytes_max: config.kv_bytes_max,
            },
            synced: config.kv_synced.clone(),
        };
        Ok(Self {
            registry: Arc::new(registry),
            secrets: Arc::new(secrets),
            key_value: Arc::new(RedbKeyValue::open(data_dir, kept)?),
        })
    }

    /// What the admin API works on.
    pub(crate) fn data(&self) -> Data {
        Data {
            key_value: self.key_value.clone(),
            secrets: self.secrets.clone(),
        }
    }

    /// Takes what functions wrote to the disk. Called last.
    pub(crate) async fn close(&self) {
        if let Err(error) = self.key_value.sync().await {
            tracing::error!(%error, "the last writes of key-value data are not on the disk");
        }
    }

    pub(crate) fn probes(&self) -> Vec<Probe> {
        let probe = |name, help, counter, read: fn(Counts) -> u64| {
            let data = Arc::clone(&self.key_value);
            Probe {
                name,
                help,
                counter,
                read: Box::new(move || read(data.counts())),
            }
        };
        vec![
            probe(
                "kv_syncs",
                "Times that key-value data was synced to the disk",
                true,
                |counts| counts.syncs,
            ),
            probe(
                "kv_unsynced",
                "Acknowledged writes of key-value data that are not on the disk yet",
                false,
                |counts| counts.unsynced,
            ),
            probe(
                "kv_lost",
                "Acknowledged writes of key-value data that a failing disk took",
                true,
                |counts| counts.lost,
            ),
        ]
    }

    pub(crate) fn families(&self) -> Vec<Family> {
        let usage = |name, help, read: fn(Usage) -> u64| {
            let data = Arc::clone(&self.key_value);
            Family {
                name,
                help,
                counter: false,
                labels: &["app"],
                read: Box::new(move || {
                    let apps = data.usage().into_iter();
                    largest(
                        apps.map(|(app, usage)| (app.to_string(), usage)).collect(),
                        read,
                    )
                }),
            }
        };
        let (operations, refused) = (Arc::clone(&self.key_value), Arc::clone(&self.key_value));
        vec![
            usage("kv_keys", "Keys that the app keeps", |usage| usage.keys),
            usage(
                "kv_bytes",
                "Bytes of key-value data that the app keeps, 64 for each key included",
                |usage| usage.bytes,
            ),
            Family {
                name: "kv_operations",
                help: "Operations on key-value data, by outcome",
                counter: true,
                labels: &["operation", "outcome"],
                read: Box::new(move || {
                    let counts = operations.counts().operations.into_iter();
                    counts
                        .map(|(name, outcome, count)| (vec![name.into(), outcome.into()], count))
                        .collect()
                }),
            },
            Family {
                name: "kv_refused",
                help: "Operations on key-value data that were refused, by what was full",
                counter: true,
                labels: &["full"],
                read: Box::new(move || {
                    let counts = refused.counts().refused.into_iter();
                    counts
                        .map(|(full, count)| (vec![full.into()], count))
                        .collect()
                }),
            },
        ]
    }
}

fn largest(mut apps: Vec<(String, Usage)>, read: fn(Usage) -> u64) -> Vec<(Vec<String>, u64)> {
    let mut others = 0;
    if apps.len() > SERIES_MAX {
        apps.sort_by_key(|(_, usage)| std::cmp::Reverse(usage.bytes));
        others = apps.drain(SERIES_MAX..).map(|(_, usage)| read(usage)).sum();
    }
    let mut series: Vec<_> = apps
        .into_iter()
        .map(|(app, usage)| (vec![app], read(usage)))
        .collect();
    if others > 0 {
        series.push((vec![OTHERS.to_owned()], others));
    }
    series
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_series_of_many_apps_are_bounded_and_add_up() {
        let apps = |count: u64| {
            let usage = |bytes| Usage { keys: 1, bytes };
            let apps = (0..count).map(|number| (format!("a{number}"), usage(number)));
            largest(apps.collect(), |usage| usage.bytes)
        };
        assert_eq!(apps(3).len(), 3);
        let many = apps(3000);
        assert_eq!(many.len(), SERIES_MAX + 1);
        assert_eq!(
            many.iter().map(|(_, bytes)| bytes).sum::<u64>(),
            2999 * 1500
        );
        let others = &many[SERIES_MAX];
        assert_eq!(others, &(vec![OTHERS.to_owned()], 1999 * 1000));
    }
}
