//! What a program is answered.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use mote_core::body::too_large;
use mote_core::error::{Error, ErrorKind};

/// An answer, all of it.
pub(super) type Answer = Response<Full<Bytes>>;

/// The kind of what the node refused; a sibling's own failures do not have it.
pub(super) const ERROR: &str = "mote-error";

/// A status and nothing else.
pub(super) fn empty(status: StatusCode) -> Answer {
    with(status, Bytes::new())
}

/// A status and a body.
pub(super) fn with(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer
}

/// Text for people and programs.
pub(super) fn text(status: StatusCode, text: String) -> Answer {
    typed(status, "text/plain; charset=utf-8", text)
}

/// A JSON value.
pub(super) fn json(value: &serde_json::Value) -> Answer {
    typed(StatusCode::OK, "application/json", value.to_string())
}

fn typed(status: StatusCode, media_type: &'static str, body: String) -> Answer {
    let mut answer = with(status, body);
    let value = HeaderValue::from_static(media_type);
    answer.headers_mut().insert(header::CONTENT_TYPE, value);
    answer
}

/// What the node refuses: its kind as a header, message and next step as text.
pub(super) fn refused(error: &Error) -> Answer {
    let hint = error
        .hint()
        .map(|hint| format!("\n{hint}"))
        .unwrap_or_default();
    let mut answer = text(
        error.kind().http_status(),
        format!("{}{hint}\n", error.message()),
    );
    let kind = HeaderValue::from_static(error.kind().label());
    answer.headers_mut().insert(ERROR, kind);
    answer
}

/// The whole body of a request, up to a limit.
pub(super) async fn body(body: Incoming, bytes_max: u64) -> Result<Bytes, Error> {
    let limit = usize::try_from(bytes_max).unwrap_or(usize::MAX);
    match Limited::new(body, limit).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(too_large(bytes_max)),
        Err(error) => Err(Error::new(
            ErrorKind::BadRequest,
            format!("the request's body breaks off: {error}"),
        )),
    }
}

/// A method that a place does not take.
pub(super) fn no_method(method: &http::Method, takes: &str) -> Error {
    Error::new(
        ErrorKind::MethodNotAllowed,
        format!("{method} does nothing here"),
    )
    .with_hint(format!("it takes {takes}"))
}
