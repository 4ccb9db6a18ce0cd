//! `mote kv`: the key-value data of apps.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use clap::{Args, Subcommand};
use mote_api::client::data::Part;
use mote_api::wire::data::UsageList;
use mote_core::error::{Error, ErrorKind};
use mote_core::key_value::{DEFAULT_BUCKET, VALUE_BYTES_MAX, check_bucket, check_key, check_value};
use mote_core::name::AppName;
use serde::Serialize;

use super::output::{bytes, columns, json, line, size};
use super::target::Target;
use super::{value, wipe};
use crate::report::{say, visible};

/// Look at and clean up the key-value data of apps.
#[derive(Debug, Subcommand)]
pub(super) enum Kv {
    Ls(Ls),
    Buckets(Buckets),
    Usage(Usage),
    Get(Get),
    Set(Set),
    Rm(Rm),
    Clear(Clear),
}

/// Whose data, and in which bucket.
#[derive(Debug, Args)]
struct Place {
    /// The app.
    #[arg(long, default_value_t)]
    app: AppName,
    /// The bucket.
    #[arg(long, default_value = DEFAULT_BUCKET)]
    bucket: String,
    #[command(flatten)]
    target: Target,
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

/// List the keys of a bucket.
#[derive(Debug, Args)]
pub(super) struct Ls {
    #[command(flatten)]
    page: Page,
    #[command(flatten)]
    place: Place,
}

/// List the buckets of an app.
#[derive(Debug, Args)]
pub(super) struct Buckets {
    /// The app.
    #[arg(long, default_value_t)]
    app: AppName,
    #[command(flatten)]
    page: Page,
    #[command(flatten)]
    target: Target,
}

/// Show what every app keeps.
#[derive(Debug, Args)]
pub(super) struct Usage {
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

/// Print the value of a key, as it is.
#[derive(Debug, Args)]
pub(super) struct Get {
    /// The key.
    key: String,
    /// Print JSON, with the value as text, or in base64 when it is none.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

/// Set a key.
#[derive(Debug, Args)]
pub(super) struct Set {
    /// The key.
    key: String,
    /// The value; without it, what standard input says.
    #[arg(allow_hyphen_values = true)]
    value: Option<String>,
    /// Read the value from this file; `-` is standard input.
    #[arg(long, value_name = "FILE", conflicts_with = "value")]
    value_file: Option<String>,
    #[command(flatten)]
    place: Place,
}

/// Remove keys.
#[derive(Debug, Args)]
pub(super) struct Rm {
    /// The keys.
    #[arg(required = true)]
    keys: Vec<String>,
    #[command(flatten)]
    place: Place,
}

/// Remove every key of a bucket, or of an app.
#[derive(Debug, Args)]
pub(super) struct Clear {
    /// The app.
    #[arg(long, default_value_t)]
    app: AppName,
    /// The bucket.
    #[arg(long)]
    bucket: Option<String>,
    /// Every bucket of the app.
    #[arg(long, conflicts_with = "bucket")]
    all: bool,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    target: Target,
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
        match self {
            Self::Ls(ls) => ls.run().await,
            Self::Buckets(buckets) => buckets.run().await,
            Self::Usage(usage) => usage.run().await,
            Self::Get(get) => get.run().await,
            Self::Set(set) => set.run().await,
            Self::Rm(rm) => rm.run().await,
            Self::Clear(clear) => clear.run().await,
        }
    }
}

impl Place {
    /// Before the names become parts of an address, which would say it less clearly.
    fn check(&self, key: &str) -> Result<(), Error> {
        check_bucket(&self.bucket)?;
        check_key(key)
    }
}

impl Page {
    fn part(&self) -> Part<'_> {
        Part {
            after: self.after.as_deref(),
            max: self.max,
        }
    }

    fn print(&self, names: &[String], next: Option<&str>) -> Result<(), Error> {
        names.iter().try_for_each(|name| line(&visible(name)))?;
        if let Some(next) = next {
            say(&format!(
                "there are more: go on with --after '{}'",
                visible(next)
            ));
        }
        Ok(())
    }
}

impl Ls {
    async fn run(self) -> Result<(), Error> {
        check_bucket(&self.place.bucket)?;
        let Place {
            app,
            bucket,
            target,
        } = &self.place;
        let page = target
            .client()?
            .kv_keys(app, bucket, self.page.part())
            .await?;
        if self.page.json {
            return json(&page);
        }
        self.page.print(&page.keys, page.next.as_deref())
    }
}

impl Buckets {
    async fn run(self) -> Result<(), Error> {
        let client = self.target.client()?;
        let page = client.kv_buckets(&self.app, self.page.part()).await?;
        if self.page.json {
            return json(&page);
        }
        self.page.print(&page.buckets, page.next.as_deref())
    }
}

impl Usage {
    async fn run(self) -> Result<(), Error> {
        let apps = self.target.client()?.kv_usage().await?;
        if self.json {
            return json(&UsageList { apps });
        }
        let row = |app: mote_api::wire::data::AppUsage| {
            vec![app.app, app.keys.to_string(), size(app.bytes)]
        };
        columns(
            &["APP", "KEYS", "SIZE"],
            apps.into_iter().map(row).collect(),
        )
    }
}

impl Get {
    async fn run(self) -> Result<(), Error> {
        self.place.check(&self.key)?;
        let Place {
            app,
            bucket,
            target,
        } = &self.place;
        let value = target.client()?.kv_get(app, bucket, &self.key).await?;
        if !self.json {
            return bytes(&value);
        }
        let text = std::str::from_utf8(&value).ok();
        json(&Entry {
            app: app.as_str(),
            bucket,
            key: &self.key,
            text,
            base64: text.is_none().then(|| STANDARD.encode(&value)),
        })
    }
}

impl Set {
    async fn run(self) -> Result<(), Error> {
        self.place.check(&self.key)?;
        let value = match self.value {
            Some(value) => Bytes::from(value),
            None => value::read(self.value_file.as_deref(), VALUE_BYTES_MAX)?.into(),
        };
        check_value(&self.key, value.len())?;
        let Place {
            app,
            bucket,
            target,
        } = &self.place;
        target.client()?.kv_set(app, bucket, &self.key, value).await
    }
}

impl Rm {
    async fn run(self) -> Result<(), Error> {
        self.keys.iter().try_for_each(|key| self.place.check(key))?;
        let Place {
            app,
            bucket,
            target,
        } = &self.place;
        let client = target.client()?;
        for key in &self.keys {
            client.kv_remove(app, bucket, key).await?;
            say(&format!("removed {}", visible(key)));
        }
        Ok(())
    }
}

impl Clear {
    async fn run(self) -> Result<(), Error> {
        let app = &self.app;
        self.bucket.as_deref().map_or(Ok(()), check_bucket)?;
        let what = match &self.bucket {
            Some(bucket) => format!("bucket `{bucket}` of app `{app}`"),
            None if self.all => format!("every bucket of app `{app}`"),
            None => {
                let error = Error::new(ErrorKind::BadRequest, "no bucket was named");
                return Err(error.with_hint("write --bucket NAME, or --all for the whole app"));
            }
        };
        if !self.yes {
            wipe::confirm(&format!("every key in {what}"), "clear")?;
        }
        let client = self.target.client()?;
        let keys = client.kv_clear(app, self.bucket.as_deref()).await?;
        say(&format!("removed {keys} keys"));
        Ok(())
    }
}
