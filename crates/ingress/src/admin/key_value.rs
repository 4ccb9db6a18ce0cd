//! Key-value data of apps: what they keep, and looking, setting and cleaning up by hand.

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use mote_api::wire::data::{AppUsage, BucketPage, Cleared, KeyPage, UsageList};
use mote_core::error::{Error, ErrorKind};
use mote_core::key_value::{PAGE_KEYS_MAX, VALUE_BYTES_MAX};
use mote_core::name::AppName;
use serde::Deserialize;

use super::Admin;
use super::description::{InApp, InBucket, OfKey, PageOfList, Refused};
use super::reply::{Answer, json, read, typed};

/// Which part of a list.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Part {
    after: Option<String>,
    max: Option<u32>,
}

impl Part {
    fn read(query: Result<Query<Self>, QueryRejection>) -> Result<(Option<String>, u32), Error> {
        let Query(part) = query.map_err(|rejection| {
            let message = format!("the query is not valid: {}", rejection.body_text());
            Error::new(ErrorKind::BadRequest, message).with_hint("it takes after and max")
        })?;
        match part.max {
            Some(max) if !(1..=PAGE_KEYS_MAX).contains(&max) => {
                let message = format!("max = {max} is outside 1 to {PAGE_KEYS_MAX}");
                Err(Error::new(ErrorKind::BadRequest, message))
            }
            max => Ok((part.after, max.unwrap_or(PAGE_KEYS_MAX))),
        }
    }
}

/// What every app keeps.
#[utoipa::path(
    get, path = "/v1/kv", security(("token" = [])),
    responses((status = 200, body = UsageList), Refused)
)]
pub(super) async fn usage(State(admin): State<Admin>) -> Answer {
    let apps = admin.data.key_value.usage().into_iter();
    let apps = apps.map(|(app, usage)| AppUsage {
        app: app.to_string(),
        keys: usage.keys,
        bytes: usage.bytes,
    });
    let apps = apps.collect();
    json(StatusCode::OK, &UsageList { apps })
}

/// The buckets of an app that have keys, a page at a time.
#[utoipa::path(
    get, path = "/v1/apps/{app}/kv", security(("token" = [])),
    params(InApp, PageOfList),
    responses((status = 200, body = BucketPage), Refused)
)]
pub(super) async fn buckets(
    State(admin): State<Admin>,
    Path(app): Path<String>,
    query: Result<Query<Part>, QueryRejection>,
) -> Answer {
    let app: AppName = app.parse()?;
    let (after, max) = Part::read(query)?;
    let data = &admin.data.key_value;
    let page = data.buckets(&app, after.as_deref(), max).await?;
    let page = BucketPage {
        buckets: page.keys,
        next: page.next,
    };
    json(StatusCode::OK, &page)
}

/// Remove every key of an app.
#[utoipa::path(
    delete, path = "/v1/apps/{app}/kv", security(("token" = [])),
    params(InApp),
    responses((status = 200, body = Cleared), Refused)
)]
pub(super) async fn clear_app(State(admin): State<Admin>, Path(app): Path<String>) -> Answer {
    clear(&admin, app.parse()?, None).await
}

/// Keys of a bucket, a page at a time.
#[utoipa::path(
    get, path = "/v1/apps/{app}/kv/{bucket}", security(("token" = [])),
    params(InBucket, PageOfList),
    responses((status = 200, body = KeyPage), Refused)
)]
pub(super) async fn keys(
    State(admin): State<Admin>,
    Path((app, bucket)): Path<(String, String)>,
    query: Result<Query<Part>, QueryRejection>,
) -> Answer {
    let app: AppName = app.parse()?;
    let (after, max) = Part::read(query)?;
    let data = &admin.data.key_value;
    let page = data.list(&app, &bucket, after.as_deref(), max).await?;
    let page = KeyPage {
        keys: page.keys,
        next: page.next,
    };
    json(StatusCode::OK, &page)
}

/// Remove every key of a bucket.
#[utoipa::path(
    delete, path = "/v1/apps/{app}/kv/{bucket}", security(("token" = [])),
    params(InBucket),
    responses((status = 200, body = Cleared), Refused)
)]
pub(super) async fn clear_bucket(
    State(admin): State<Admin>,
    Path((app, bucket)): Path<(String, String)>,
) -> Answer {
    clear(&admin, app.parse()?, Some(bucket)).await
}

async fn clear(admin: &Admin, app: AppName, bucket: Option<String>) -> Answer {
    let permit = admin.change()?;
    let data = admin.data.key_value.clone();
    let clear = async move { data.clear(&app, bucket.as_deref()).await };
    let keys = admin.finish(permit, clear).await?;
    json(StatusCode::OK, &Cleared { keys })
}

/// The value of a key, as it is.
#[utoipa::path(
    get, path = "/v1/apps/{app}/kv/{bucket}/{key}", security(("token" = [])),
    params(OfKey),
    responses((status = 200, body = Vec<u8>, content_type = "application/octet-stream"), Refused)
)]
pub(super) async fn get(
    State(admin): State<Admin>,
    Path((app, bucket, key)): Path<(String, String, String)>,
) -> Answer {
    let app: AppName = app.parse()?;
    match admin.data.key_value.get(&app, &bucket, &key).await? {
        Some(value) => Ok(typed("application/octet-stream", value)),
        None => Err(no_key(&app, &bucket, &key).into()),
    }
}

/// Set a key to the bytes of the body.
#[utoipa::path(
    put, path = "/v1/apps/{app}/kv/{bucket}/{key}", security(("token" = [])),
    params(OfKey),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 204, description = "it is set"), Refused)
)]
pub(super) async fn set(
    State(admin): State<Admin>,
    Path((app, bucket, key)): Path<(String, String, String)>,
    body: Body,
) -> Answer {
    let app: AppName = app.parse()?;
    let limit = VALUE_BYTES_MAX as u64;
    let value = read(body, limit, admin.config.body_timeout).await?;
    admin.data.key_value.set(&app, &bucket, &key, value).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Remove a key.
#[utoipa::path(
    delete, path = "/v1/apps/{app}/kv/{bucket}/{key}", security(("token" = [])),
    params(OfKey),
    responses((status = 204, description = "it is gone"), Refused)
)]
pub(super) async fn remove(
    State(admin): State<Admin>,
    Path((app, bucket, key)): Path<(String, String, String)>,
) -> Answer {
    let app: AppName = app.parse()?;
    if admin.data.key_value.delete(&app, &bucket, &key).await? {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    Err(no_key(&app, &bucket, &key).into())
}

fn no_key(app: &AppName, bucket: &str, key: &str) -> Error {
    let key: String = key.chars().take(64).collect();
    let message = format!(
        "app `{app}` has no key `{}` in bucket `{bucket}`",
        key.escape_debug()
    );
    Error::new(ErrorKind::NotFound, message).with_hint(format!(
        "`mote kv ls --app {app} --bucket {bucket}` lists them"
    ))
}
