//! Key-value data and settings.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use hyper::body::Incoming;
use mote_core::error::{Error, ErrorKind};
use mote_core::host::Bucket;
use mote_core::key_value::{PAGE_KEYS_MAX, VALUE_BYTES_MAX};
use serde_json::{Map, Value, json};

use super::Inward;
use super::answer::{self, Answer};
use crate::contract::headers::percent_decoded;

impl Inward {
    /// `/kv/BUCKET[/KEY]`. A key may have slashes.
    pub(super) async fn data(
        &self,
        request: Request<Incoming>,
        rest: &str,
    ) -> Result<Answer, Error> {
        let (name, key) = rest.split_once('/').unwrap_or((rest, ""));
        let bucket = self.host.bucket(&percent_decoded(name))?;
        let key = percent_decoded(key).into_owned();
        let query = request.uri().query().unwrap_or_default().to_owned();
        match (request.method().clone(), key.as_str()) {
            (Method::GET, "") => list(&bucket, &query).await,
            (method, "") => Err(answer::no_method(&method, "GET, or a key after the bucket")),
            (Method::GET, key) => {
                let value = bucket.get(key).await?;
                let value = value.ok_or_else(|| no_key(key))?;
                let mut answer = answer::with(StatusCode::OK, value.clone());
                answer.headers_mut().insert(header::ETAG, etag(&value));
                Ok(answer)
            }
            (Method::PUT, key) => put(&bucket, key, request).await,
            (Method::DELETE, key) => match bucket.delete(key).await? {
                true => Ok(answer::empty(StatusCode::NO_CONTENT)),
                false => Err(no_key(key)),
            },
            (Method::POST, key) => {
                let by = parameter(&query, "increment").unwrap_or_default();
                let by: i64 = by.parse().map_err(|_| {
                    let message = format!("`{}` is no whole number", by.escape_debug());
                    Error::new(ErrorKind::BadRequest, message)
                        .with_hint("write POST /kv/BUCKET/KEY?increment=1")
                })?;
                let sum = bucket.increment(key, by).await?;
                Ok(answer::text(StatusCode::OK, sum.to_string()))
            }
            (method, _) => Err(answer::no_method(&method, "GET, PUT, DELETE and POST")),
        }
    }

    /// `/config[/KEY]`.
    pub(super) fn config(&self, request: &Request<Incoming>, rest: &str) -> Result<Answer, Error> {
        if request.method() != Method::GET {
            return Err(answer::no_method(request.method(), "GET"));
        }
        if rest.is_empty() {
            let settings = self.host.settings().into_iter();
            let all: Map<String, Value> = settings
                .map(|(key, value)| (key, Value::from(&*value)))
                .collect();
            return Ok(answer::json(&Value::Object(all)));
        }
        let key = percent_decoded(rest);
        let value = self.host.setting(&key);
        let value = value.ok_or_else(|| {
            let message = format!("there is no setting `{}`", key.escape_debug());
            Error::new(ErrorKind::NotFound, message)
                .with_hint("settings are the variables of `env` and the secrets of `allow.secrets` in the manifest")
        })?;
        Ok(answer::text(StatusCode::OK, value.to_string()))
    }
}

async fn list(bucket: &Bucket, query: &str) -> Result<Answer, Error> {
    let after = parameter(query, "after");
    let max = match parameter(query, "max") {
        None => PAGE_KEYS_MAX,
        Some(max) => max.parse().ok().filter(|max| *max > 0).ok_or_else(|| {
            let message = format!("max={} is not a number of keys", max.escape_debug());
            Error::new(ErrorKind::BadRequest, message)
        })?,
    };
    let page = bucket.list(after.as_deref(), max).await?;
    Ok(answer::json(&json!({"keys": page.keys, "next": page.next})))
}

/// Writes a key, under the conditions of RFC 9110 §13.1.
async fn put(bucket: &Bucket, key: &str, request: Request<Incoming>) -> Result<Answer, Error> {
    let condition = Condition::of(request.headers())?;
    // One more than fits, so that the store names what is too large.
    let value = answer::body(request.into_body(), VALUE_BYTES_MAX as u64 + 1).await?;
    let tag = etag(&value);
    let written = match condition {
        Condition::None => bucket.set(key, value).await.map(|()| true)?,
        Condition::Absent => bucket.swap(key, None, value).await?,
        Condition::Is(expected) => match bucket.get(key).await? {
            Some(before) if etag(&before) == expected => {
                bucket.swap(key, Some(before), value).await?
            }
            _ => false,
        },
    };
    if !written {
        return Ok(answer::text(
            StatusCode::PRECONDITION_FAILED,
            format!("key `{}` is not as expected\n", key.escape_debug()),
        ));
    }
    let mut answer = answer::empty(StatusCode::NO_CONTENT);
    answer.headers_mut().insert(header::ETAG, tag);
    Ok(answer)
}

enum Condition {
    None,
    /// The key is not there.
    Absent,
    /// Its value has this tag.
    Is(HeaderValue),
}

impl Condition {
    fn of(headers: &HeaderMap) -> Result<Self, Error> {
        match (
            headers.get(header::IF_MATCH),
            headers.get(header::IF_NONE_MATCH),
        ) {
            (None, None) => Ok(Self::None),
            (Some(tag), None) => Ok(Self::Is(tag.clone())),
            (None, Some(any)) if any == "*" => Ok(Self::Absent),
            _ => Err(Error::new(
                ErrorKind::BadRequest,
                "the conditions of the write are not understood",
            )
            .with_hint("send If-Match with the ETag of a read, or If-None-Match: *")),
        }
    }
}

/// A strong tag: equal values have equal ones.
fn etag(value: &Bytes) -> HeaderValue {
    let digest = blake3::hash(value).to_hex();
    let tag = format!("\"{}\"", &digest[..32]);
    tag.try_into()
        .expect("quoted hexadecimal digits are a valid header")
}

/// A parameter of a query, decoded.
fn parameter(query: &str, name: &str) -> Option<String> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let value = pairs.into_iter().find(|(key, _)| *key == name)?.1;
    Some(percent_decoded(value).into_owned())
}

fn no_key(key: &str) -> Error {
    Error::new(
        ErrorKind::NotFound,
        format!("there is no key `{}`", key.escape_debug()),
    )
}
