//! `mote kv`: the key-value data of apps.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use clap::{Args, Subcommand};
use mote_api::client::Client;
use mote_api::client::data::Part;
use mote_api::wire::data::{AppUsage, UsageList};
use mote_core::error::{Error, ErrorKind};
use mote_core::key_value::{DEFAULT_BUCKET, VALUE_BYTES_MAX, check_bucket, check_key, check_value};
use mote_core::name::AppName;
use serde::Serialize;

use super::output::{bytes, columns, json, line, size};
use super::target::Anywhere;
use super::{value, wipe};
use crate::report::{say, visible};

/// Look at and clean up the key-value data of apps.
#[derive(Debug, Args)]
pub(super) struct Kv {
    #[command(subcommand)]
    action: Action,
    /// The app.
    #[arg(long, global = true, default_value_t)]
    app: AppName,
    /// The bucket; `default` where none is named.
    #[arg(long, global = true)]
    bucket: Option<String>,
    #[command(flatten)]
    target: Anywhere,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the keys of a bucket.
    Ls(Page),
    /// List the buckets of an app.
    Buckets(Page),
    /// Show what every app keeps.
    Usage {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print the value of a key, as it is.
    Get {
        /// The key.
        key: String,
        /// Print JSON, with the value as text, or in base64 when it is none.
        #[arg(long)]
        json: bool,
    },
    /// Set a key.
    Set {
        /// The key.
        key: String,
        /// The value; without it, what standard input says.
        #[arg(allow_hyphen_values = true)]
        value: Option<String>,
        /// Read the value from this file; `-` is standard input.
        #[arg(long, value_name = "FILE", conflicts_with = "value")]
        value_file: Option<String>,
    },
    /// Remove keys.
    Rm {
        /// The keys.
        #[arg(required = true)]
        keys: Vec<String>,
    },
    /// Remove every key of a bucket, or of an app.
    Clear {
        /// Every bucket of the app.
        #[arg(long, conflicts_with = "bucket")]
        all: bool,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
}

/// Which part of a list.
#[derive(Debug, Args)]
struct Page {
    /// Begin after this one.
    #[arg(long)]
    after: Option<String>,
    /// Print at most so many, up to 1000.
    #[arg(long, value_name = "N")]
    max: Option<u32>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// A key with its value, as `--json` prints it.
#[derive(Serialize)]
struct Entry<'a> {
    app: &'a str,
    bucket: &'a str,
    key: &'a str,
    /// When it is text.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    /// When it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
}

impl Kv {
    pub(super) async fn run(self) -> Result<(), Error> {
        let bucket = self.bucket.as_deref().unwrap_or(DEFAULT_BUCKET);
        // Before the names become parts of an address, which would say it less clearly.
        check_bucket(bucket)?;
        let place = Place {
            client: self.target.0.client()?,
            app: self.app,
            bucket,
        };
        match self.action {
            Action::Ls(page) => place.ls(&page).await,
            Action::Buckets(page) => place.buckets(&page).await,
            Action::Usage { json } => place.usage(json).await,
            Action::Get { key, json } => place.get(&key, json).await,
            Action::Set {
                key,
                value,
                value_file,
            } => place.set(&key, value, value_file.as_deref()).await,
            Action::Rm { keys } => place.rm(&keys).await,
            Action::Clear { all, yes } => {
                let bucket = self.bucket.as_deref();
                place.clear(bucket, all, yes).await
            }
        }
    }
}

/// Whose data, and in which bucket.
struct Place<'a> {
    client: Client,
    app: AppName,
    bucket: &'a str,
}

impl Place<'_> {
    async fn ls(&self, page: &Page) -> Result<(), Error> {
        let keys = self.client.kv_keys(&self.app, self.bucket, page.part());
        let found = keys.await?;
        if page.json {
            return json(&found);
        }
        print(&found.keys, found.next.as_deref())
    }

    async fn buckets(&self, page: &Page) -> Result<(), Error> {
        let found = self.client.kv_buckets(&self.app, page.part()).await?;
        if page.json {
            return json(&found);
        }
        print(&found.buckets, found.next.as_deref())
    }

    async fn usage(&self, as_json: bool) -> Result<(), Error> {
        let apps = self.client.kv_usage().await?;
        if as_json {
            return json(&UsageList { apps });
        }
        let row = |app: AppUsage| vec![app.app, app.keys.to_string(), size(app.bytes)];
        columns(
            &["APP", "KEYS", "SIZE"],
            apps.into_iter().map(row).collect(),
        )
    }

    async fn get(&self, key: &str, as_json: bool) -> Result<(), Error> {
        check_key(key)?;
        let value = self.client.kv_get(&self.app, self.bucket, key).await?;
        if !as_json {
            return bytes(&value);
        }
        let text = std::str::from_utf8(&value).ok();
        json(&Entry {
            app: self.app.as_str(),
            bucket: self.bucket,
            key,
            text,
            base64: text.is_none().then(|| STANDARD.encode(&value)),
        })
    }

    async fn set(
        &self,
        key: &str,
        value: Option<String>,
        value_file: Option<&str>,
    ) -> Result<(), Error> {
        check_key(key)?;
        let value = match value {
            Some(value) => Bytes::from(value),
            None => value::read(value_file, VALUE_BYTES_MAX)?.into(),
        };
        check_value(key, value.len())?;
        let set = self.client.kv_set(&self.app, self.bucket, key, value);
        set.await
    }

    async fn rm(&self, keys: &[String]) -> Result<(), Error> {
        keys.iter().try_for_each(|key| check_key(key))?;
        for key in keys {
            self.client.kv_remove(&self.app, self.bucket, key).await?;
            say(&format!("removed {}", visible(key)));
        }
        Ok(())
    }

    async fn clear(&self, bucket: Option<&str>, all: bool, yes: bool) -> Result<(), Error> {
        let app = &self.app;
        let what = match bucket {
            Some(bucket) => format!("bucket `{bucket}` of app `{app}`"),
            None if all => format!("every bucket of app `{app}`"),
            None => {
                let error = Error::new(ErrorKind::BadRequest, "no bucket was named");
                return Err(error.with_hint("write --bucket NAME, or --all for the whole app"));
            }
        };
        if !yes {
            wipe::confirm(&format!("every key in {what}"), "clear")?;
        }
        let keys = self.client.kv_clear(app, bucket).await?;
        say(&format!("removed {keys} keys"));
        Ok(())
    }
}

impl Page {
    fn part(&self) -> Part<'_> {
        Part {
            after: self.after.as_deref(),
            max: self.max,
        }
    }
}

fn print(names: &[String], next: Option<&str>) -> Result<(), Error> {
    names.iter().try_for_each(|name| line(&visible(name)))?;
    if let Some(next) = next {
        let next = visible(next);
        say(&format!("there are more: go on with --after '{next}'"));
    }
    Ok(())
}
