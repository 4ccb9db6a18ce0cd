//! Answers: JSON, problems, and bounded reading of what was asked.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use mote_api::problem::{MEDIA_TYPE, Problem, kind_of};
use mote_core::error::{Error, ErrorKind};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Largest JSON body: a spec with its environment is far below.
const JSON_BYTES_MAX: u64 = 1 << 20;
/// Longest foreign error text that is passed on.
const DETAIL_BYTES_MAX: usize = 512;

/// An error on its way to the client.
#[derive(Debug)]
pub(super) struct Failure(Error);

/// What handlers return.
pub(super) type Answer = Result<Response, Failure>;

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        problem(self.0.kind().http_status(), HeaderMap::new(), &self.0)
    }
}

/// An answer with a value as JSON.
pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Answer {
    let body = serde_json::to_vec(value).map_err(|error| {
        Error::new(
            ErrorKind::Internal,
            format!("cannot write the answer: {error}"),
        )
    })?;
    let mut response = typed("application/json", body.into());
    *response.status_mut() = status;
    Ok(response)
}

/// An answer with these bytes of this type.
pub(super) fn typed(content_type: &'static str, body: Bytes) -> Response {
    let mut response = Response::new(Body::from(body));
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// The answer for an address that is none.
pub(super) async fn no_such_address(uri: Uri) -> Failure {
    let path: String = uri.path().chars().take(128).collect();
    let error = Error::new(ErrorKind::NotFound, format!("there is nothing at {path}"))
        .with_hint("GET /openapi.json describes the API");
    Failure(error)
}

/// Turns errors that the framework made (405, malformed queries) into problems. Keeps headers such
/// as `Allow`.
pub(super) async fn as_problem(response: Response) -> Response {
    let status = response.status();
    let typed = response.headers().get(header::CONTENT_TYPE);
    let good = !status.is_client_error() && !status.is_server_error();
    if good || typed.is_some_and(|value| value == MEDIA_TYPE) {
        return response;
    }
    let (mut head, body) = response.into_parts();
    let text = read(body, DETAIL_BYTES_MAX as u64, Duration::from_secs(1))
        .await
        .unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let kind = kind_of(status.as_u16());
    let error = match (kind, text.trim()) {
        (ErrorKind::MethodNotAllowed, _) => {
            Error::new(kind, "this address does not take that method")
                .with_hint("the Allow header names those it takes")
        }
        (_, "") => Error::new(kind, kind.title().to_lowercase()),
        (_, text) => Error::new(kind, text.trim_end_matches('.').to_owned()),
    };
    head.headers.remove(header::CONTENT_LENGTH);
    problem(status, head.headers, &error)
}

fn problem(status: StatusCode, headers: HeaderMap, error: &Error) -> Response {
    let problem = Problem {
        status: status.as_u16(),
        ..Problem::from(error)
    };
    // A struct of texts and numbers always serialises.
    let body = serde_json::to_vec(&problem).unwrap_or_default();
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
    if let Some(delay) = error.retry_after() {
        headers.insert(header::RETRY_AFTER, delay.as_secs().max(1).into());
    }
    if status == StatusCode::UNAUTHORIZED {
        // RFC 6750 §3.
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

/// Reads a JSON body. An empty one is `{}`.
pub(super) async fn read_json<T: DeserializeOwned>(
    headers: &HeaderMap,
    body: Body,
    idle: Duration,
) -> Result<T, Error> {
    if let Some(value) = headers.get(header::CONTENT_TYPE) {
        let media_type = value.to_str().unwrap_or_default();
        let essence = media_type.split(';').next().unwrap_or_default().trim();
        if !essence.eq_ignore_ascii_case("application/json") {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!(
                    "content type `{}` is not taken here",
                    media_type.escape_debug()
                ),
            )
            .with_hint("send application/json"));
        }
    }
    let bytes = read(body, JSON_BYTES_MAX, idle).await?;
    let text: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
    serde_json::from_slice(text).map_err(|error| {
        Error::new(
            ErrorKind::BadRequest,
            format!("the body is not valid: {error}"),
        )
        .with_hint("GET /openapi.json describes the API")
    })
}

/// Reads a whole body. `TooLarge` as soon as it is, also when only announced; `Timeout` when the
/// next piece takes longer than `idle`.
pub(super) async fn read(mut body: Body, limit: u64, idle: Duration) -> Result<Bytes, Error> {
    let too_large = || {
        Error::new(
            ErrorKind::TooLarge,
            format!("the body is larger than the limit of {limit} bytes"),
        )
    };
    let hint = axum::body::HttpBody::size_hint(&body);
    if hint.lower() > limit {
        return Err(too_large());
    }
    let mut all = Vec::new();
    // An announced length is reserved at once; memory is only taken as bytes come.
    all.reserve_exact(usize::try_from(hint.lower()).unwrap_or_default());
    loop {
        let frame = tokio::time::timeout(idle, body.frame())
            .await
            .map_err(|_| {
                Error::new(
                    ErrorKind::BadRequest,
                    format!("the body stopped coming for {} s", idle.as_secs()),
                )
            })?;
        let Some(frame) = frame else {
            return Ok(all.into());
        };
        let frame = frame.map_err(|error| {
            Error::new(
                ErrorKind::BadRequest,
                format!("the body broke off: {error}"),
            )
        })?;
        if let Ok(data) = frame.into_data() {
            if (all.len() + data.len()) as u64 > limit {
                return Err(too_large());
            }
            all.extend_from_slice(&data);
        }
    }
}
