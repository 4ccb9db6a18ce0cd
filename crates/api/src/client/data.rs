//! Key-value data and secrets of apps.

use bytes::Bytes;
use http::Method;
use mote_core::error::Error;
use mote_core::name::AppName;

use super::http::Upload;
use super::{Client, parse};
use crate::wire::data::{AppUsage, BucketPage, Cleared, KeyPage, SecretList, UsageList};

const BYTES: &str = "application/octet-stream";

/// Which part of a list: what comes after this, and how much at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Part<'a> {
    /// The last of the part before.
    pub after: Option<&'a str>,
    /// How many at most; without it, as many as the node gives.
    pub max: Option<u32>,
}

impl Client {
    /// What every app keeps.
    pub async fn kv_usage(&self) -> Result<Vec<AppUsage>, Error> {
        let list: UsageList = self.get("/v1/kv").await?;
        Ok(list.apps)
    }

    /// The buckets of an app that have keys.
    pub async fn kv_buckets(&self, app: &AppName, part: Part<'_>) -> Result<BucketPage, Error> {
        self.get(&format!("{}{}", kv_path(app), part.query())).await
    }

    /// Keys of a bucket.
    pub async fn kv_keys(
        &self,
        app: &AppName,
        bucket: &str,
        part: Part<'_>,
    ) -> Result<KeyPage, Error> {
        let path = format!("{}/{}{}", kv_path(app), segment(bucket), part.query());
        self.get(&path).await
    }

    /// The value of a key. `NotFound` when there is none.
    pub async fn kv_get(&self, app: &AppName, bucket: &str, key: &str) -> Result<Bytes, Error> {
        let path = key_path(app, bucket, key);
        self.answer(Method::GET, &path, None, Upload::empty()).await
    }

    /// Sets a key.
    pub async fn kv_set(
        &self,
        app: &AppName,
        bucket: &str,
        key: &str,
        value: Bytes,
    ) -> Result<(), Error> {
        self.put(&key_path(app, bucket, key), value).await
    }

    /// Removes a key. `NotFound` when there is none.
    pub async fn kv_remove(&self, app: &AppName, bucket: &str, key: &str) -> Result<(), Error> {
        self.delete(&key_path(app, bucket, key)).await.map(drop)
    }

    /// Removes every key of a bucket, or of the app. Returns how many there were.
    pub async fn kv_clear(&self, app: &AppName, bucket: Option<&str>) -> Result<u64, Error> {
        let mut path = kv_path(app);
        if let Some(bucket) = bucket {
            path.push('/');
            path.push_str(&segment(bucket));
        }
        let cleared: Cleared = parse(&self.delete(&path).await?)?;
        Ok(cleared.keys)
    }

    /// The names of an app's secrets.
    pub async fn secrets(&self, app: &AppName) -> Result<Vec<String>, Error> {
        let list: SecretList = self.get(&secrets_path(app)).await?;
        Ok(list.names)
    }

    /// Sets a secret.
    pub async fn set_secret(&self, app: &AppName, name: &str, value: Bytes) -> Result<(), Error> {
        self.put(&format!("{}/{}", secrets_path(app), segment(name)), value)
            .await
    }

    /// Removes a secret. `NotFound` when there is none.
    pub async fn remove_secret(&self, app: &AppName, name: &str) -> Result<(), Error> {
        let path = format!("{}/{}", secrets_path(app), segment(name));
        self.delete(&path).await.map(drop)
    }

    async fn put(&self, path: &str, value: Bytes) -> Result<(), Error> {
        self.answer(Method::PUT, path, Some(BYTES), Upload::from(value))
            .await
            .map(drop)
    }

    async fn delete(&self, path: &str) -> Result<Bytes, Error> {
        self.answer(Method::DELETE, path, None, Upload::empty())
            .await
    }
}

impl Part<'_> {
    fn query(self) -> String {
        let after = self.after.map(|after| format!("after={}", segment(after)));
        let max = self.max.map(|max| format!("max={max}"));
        let parts: Vec<_> = after.into_iter().chain(max).collect();
        match parts.is_empty() {
            true => String::new(),
            false => format!("?{}", parts.join("&")),
        }
    }
}

fn kv_path(app: &AppName) -> String {
    format!("/v1/apps/{app}/kv")
}

fn key_path(app: &AppName, bucket: &str, key: &str) -> String {
    format!("{}/{}/{}", kv_path(app), segment(bucket), segment(key))
}

fn secrets_path(app: &AppName) -> String {
    format!("/v1/apps/{app}/secrets")
}

/// A text as one segment of a path, or one value of a query: everything but what RFC 3986 §2.3
/// leaves alone is encoded.
fn segment(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte));
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_one_segment() {
        let path = key_path(&AppName::default(), "default", "a/b?c#d ä%");
        assert_eq!(
            path,
            "/v1/apps/default/kv/default/a%2Fb%3Fc%23d%20%C3%A4%25"
        );
        let part = Part {
            after: Some("a&b"),
            max: Some(5),
        };
        assert_eq!(part.query(), "?after=a%26b&max=5");
        assert_eq!(Part::default().query(), "");
    }
}
