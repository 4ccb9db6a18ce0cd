//! Key-value data and secrets, as the admin API sends them. Values go as they are, not as JSON.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What `GET /v1/kv` answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UsageList {
    /// Every app that has keys, by name.
    pub apps: Vec<AppUsage>,
}

/// What one app keeps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AppUsage {
    /// The app.
    pub app: String,
    /// Keys in all its buckets.
    pub keys: u64,
    /// Bytes of keys and values, and 64 for each key.
    pub bytes: u64,
}

/// What `GET /v1/apps/{app}/kv` answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BucketPage {
    /// Buckets that have keys, by name.
    pub buckets: Vec<String>,
    /// What to give as `after` for the next page; `None` at the end.
    pub next: Option<String>,
}

/// What `GET /v1/apps/{app}/kv/{bucket}` answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeyPage {
    /// Keys, in the order of their bytes.
    pub keys: Vec<String>,
    /// What to give as `after` for the next page; `None` at the end.
    pub next: Option<String>,
}

/// What clearing a bucket or an app answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Cleared {
    /// How many keys were removed.
    pub keys: u64,
}

/// What `GET /v1/apps/{app}/secrets` answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SecretList {
    /// Names, in order. Values are never sent.
    pub names: Vec<String>,
}
