//! A call as the event that a program gets.
//!
//! What was posted as plain JSON is the event itself, as with `aws lambda invoke`. All other calls
//! become the event of a function URL (payload format 2.0). The caller may choose: `Mote-Event: raw`
//! or `Mote-Event: http`.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header};
use mote_core::invocation::{Invocation, InvocationId};
use mote_core::name::FunctionName;
use serde::Serialize;

use crate::contract::headers::{joined, percent_decoded};

/// What `next` answers.
pub(super) struct Event {
    pub(super) id: InvocationId,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// The header by which a caller chooses the event.
const CHOICE: &str = "mote-event";
/// The caller's trace (W3C Trace Context).
const TRACEPARENT: &str = "traceparent";

impl Event {
    pub(super) fn new(invocation: &Invocation, body: &Bytes, function: &FunctionName) -> Self {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let event = match is_raw(invocation, body) {
            true if body.is_empty() => Bytes::from_static(b"{}"),
            true => body.clone(),
            false => url_event(invocation, body, function, now),
        };
        Self {
            id: invocation.id,
            headers: event_headers(invocation, function, now),
            body: event,
        }
    }
}

fn is_raw(invocation: &Invocation, body: &Bytes) -> bool {
    let meta = &invocation.meta;
    match meta.headers.get(CHOICE).map(HeaderValue::as_bytes) {
        Some(b"raw") => true,
        Some(b"http") => false,
        _ => {
            meta.method == Method::POST
                && matches!(meta.path(), "" | "/")
                && meta.query().is_none()
                && serde_json::from_slice::<serde::de::IgnoredAny>(body).is_ok()
        }
    }
}

fn event_headers(invocation: &Invocation, function: &FunctionName, now: Duration) -> HeaderMap {
    let id = invocation.id.to_string();
    let deadline = now.saturating_add(invocation.budget).as_millis();
    let arn = format!(
        "arn:aws:lambda:local:000000000000:function:{}",
        function.full()
    );
    let mut headers = HeaderMap::with_capacity(8);
    let mut set = |name, text: String| {
        let value = HeaderValue::try_from(text);
        headers.insert(
            name,
            value.expect("ids, names and numbers are valid headers"),
        );
    };
    set("lambda-runtime-trace-id", trace(invocation, &id, now));
    set("lambda-runtime-aws-request-id", id);
    set("lambda-runtime-deadline-ms", deadline.to_string());
    set("lambda-runtime-invoked-function-arn", arn);
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    headers
}

/// The caller's trace, or one that is the call, in the spelling of X-Ray.
fn trace(invocation: &Invocation, id: &str, now: Duration) -> String {
    let parent = invocation.meta.headers.get(TRACEPARENT);
    let parts: Vec<&str> = parent
        .and_then(|value| value.to_str().ok())
        .map(|text| text.split('-').collect())
        .unwrap_or_default();
    let hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    match parts[..] {
        [_, trace, span, flags, ..]
            if trace.len() == 32 && span.len() == 16 && hex(trace) && hex(span) =>
        {
            let (time, unique) = trace.split_at(8);
            let sampled = u8::from(flags.ends_with(['1', '3', '5', '7', '9', 'b', 'd', 'f']));
            format!("Root=1-{time}-{unique};Parent={span};Sampled={sampled}")
        }
        _ => format!("Root=1-{:08x}-{id}", now.as_secs()),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct UrlEvent<'a> {
    version: &'static str,
    route_key: &'static str,
    raw_path: &'a str,
    raw_query_string: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cookies: Vec<String>,
    headers: BTreeMap<&'a str, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    query_string_parameters: BTreeMap<String, String>,
    request_context: RequestContext<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    is_base64_encoded: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RequestContext<'a> {
    account_id: &'static str,
    api_id: &'a str,
    domain_name: &'a str,
    domain_prefix: &'a str,
    http: Http<'a>,
    request_id: String,
    route_key: &'static str,
    stage: &'static str,
    time_epoch: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Http<'a> {
    method: &'a str,
    path: &'a str,
    protocol: &'static str,
    source_ip: String,
    user_agent: String,
}

/// The one route that a function URL has.
const ROUTE: &str = "$default";

fn url_event(
    invocation: &Invocation,
    body: &Bytes,
    function: &FunctionName,
    now: Duration,
) -> Bytes {
    let meta = &invocation.meta;
    let path = match meta.path() {
        "" => "/",
        path => path,
    };
    let mut headers: BTreeMap<&str, String> = meta
        .headers
        .keys()
        .filter(|name| **name != header::COOKIE && name.as_str() != CHOICE)
        .map(|name| (name.as_str(), joined(&meta.headers, name).into_owned()))
        .collect();
    headers.insert("host", function.full().to_owned());
    let said = |name: &str| headers.get(name).cloned().unwrap_or_default();
    let source_ip = match said("x-forwarded-for").split(',').next().map(str::trim) {
        Some(first) if !first.is_empty() => first.to_owned(),
        _ => "127.0.0.1".to_owned(),
    };
    let user_agent = said("user-agent");
    let cookies = meta.headers.get_all(header::COOKIE).iter();
    let cookies = cookies
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split("; "))
        .map(str::to_owned)
        .collect();
    let (text, is_base64_encoded) = match std::str::from_utf8(body) {
        _ if body.is_empty() => (None, false),
        Ok(text) => (Some(text.to_owned()), false),
        Err(_) => (Some(STANDARD.encode(body)), true),
    };
    let event = UrlEvent {
        version: "2.0",
        route_key: ROUTE,
        raw_path: path,
        raw_query_string: meta.query().unwrap_or_default(),
        cookies,
        headers,
        query_string_parameters: parameters(meta.query().unwrap_or_default()),
        request_context: RequestContext {
            account_id: "000000000000",
            api_id: function.full(),
            domain_name: function.full(),
            domain_prefix: function.function(),
            http: Http {
                method: meta.method.as_str(),
                path,
                protocol: "HTTP/1.1",
                source_ip,
                user_agent,
            },
            request_id: invocation.id.to_string(),
            route_key: ROUTE,
            stage: ROUTE,
            time_epoch: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
        },
        body: text,
        is_base64_encoded,
    };
    let bytes = serde_json::to_vec(&event).expect("texts and numbers are valid JSON");
    bytes.into()
}

/// A query's names and values; values of one name are joined by commas.
fn parameters(query: &str) -> BTreeMap<String, String> {
    let mut all: BTreeMap<String, String> = BTreeMap::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let text = |part: &str| percent_decoded(&part.replace('+', " ")).into_owned();
        all.entry(text(name))
            .and_modify(|all| {
                all.push(',');
                all.push_str(&text(value));
            })
            .or_insert_with(|| text(value));
    }
    all
}
