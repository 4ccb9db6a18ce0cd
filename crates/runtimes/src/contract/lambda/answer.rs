//! What a program answers, as a reply.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use http_body::Frame;
use mote_core::body::Body;
use mote_core::error::Error;
use mote_core::reply::Reply;
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::sync::mpsc;

use super::failed;
use crate::contract::headers::{remove_hop_by_hop, take_publish};

/// The reply that an answer in one piece makes: what a function URL would make of it when it has a
/// numeric `statusCode`, else the JSON itself.
pub(super) fn whole(bytes: Bytes) -> Result<Reply, Error> {
    if let Some(answer) = Whole::read(&bytes) {
        return answer.reply();
    }
    let mut reply = Reply::ok(bytes);
    reply.headers.insert(header::CONTENT_TYPE, JSON);
    Ok(reply)
}

/// The reply that a stream begins with. Its body is what comes after.
pub(super) fn prelude(json: &[u8]) -> Result<Reply, Error> {
    let prelude: Prelude = serde_json::from_slice(json)
        .map_err(|error| failed(format!("the answer's prelude is not valid: {error}")))?;
    let mut reply = Reply {
        status: status(prelude.status_code.unwrap_or(200))?,
        headers: headers(prelude.headers, prelude.cookies)?,
        ..Reply::default()
    };
    reply.publish = take_publish(&mut reply.headers);
    reply.headers.entry(header::CONTENT_TYPE).or_insert(BYTES);
    Ok(reply)
}

/// What a program says about a failure.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Failure {
    error_message: Value,
    error_type: Value,
    stack_trace: Value,
}

impl Failure {
    /// What it says in its body, or else in the header.
    pub(super) fn read(body: &[u8], kind: Option<&str>) -> Self {
        let mut failure: Self = serde_json::from_slice(body).unwrap_or_else(|_| Self {
            error_message: String::from_utf8_lossy(body).into(),
            ..Self::default()
        });
        if text(&failure.error_type).is_empty() {
            failure.error_type = kind.unwrap_or("Unhandled").into();
        }
        failure
    }

    pub(super) fn error(&self) -> Error {
        let (kind, message) = (text(&self.error_type), text(&self.error_message));
        let message = match message.is_empty() {
            true => kind,
            false => format!("{kind}: {message}"),
        };
        failed(shortened(message, MESSAGE_BYTES_MAX))
    }

    /// The stack trace, line by line.
    pub(super) fn lines(&self) -> Vec<String> {
        let lines = match &self.stack_trace {
            Value::Array(all) => all.iter().map(text).collect::<Vec<_>>().join("\n"),
            other => text(other),
        };
        lines
            .lines()
            .map(str::trim_end)
            .filter(|line| !line.is_empty())
            .take(STACK_LINES_MAX)
            .map(str::to_owned)
            .collect()
    }
}

/// Most bytes of a failure's message; more is for the log.
const MESSAGE_BYTES_MAX: usize = 1 << 10;
/// Most lines of a stack trace.
const STACK_LINES_MAX: usize = 100;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// Of a stream that does not say what it is.
pub(super) const BYTES: HeaderValue = HeaderValue::from_static("application/octet-stream");

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Whole {
    status_code: u64,
    #[serde(default)]
    headers: Option<Map<String, Value>>,
    #[serde(default)]
    multi_value_headers: Option<Map<String, Value>>,
    #[serde(default)]
    cookies: Option<Vec<String>>,
    #[serde(default)]
    body: Value,
    #[serde(default)]
    is_base64_encoded: Option<bool>,
}

impl Whole {
    /// Only if it is one; a large answer that cannot be one is not looked through.
    fn read(bytes: &[u8]) -> Option<Self> {
        let key = b"\"statusCode\"";
        let object = bytes.trim_ascii_start().starts_with(b"{");
        if !object || !bytes.windows(key.len()).any(|part| part == key) {
            return None;
        }
        serde_json::from_slice(bytes).ok()
    }

    fn reply(self) -> Result<Reply, Error> {
        let mut all = self.headers.unwrap_or_default();
        all.extend(self.multi_value_headers.unwrap_or_default());
        let mut headers = headers(Some(all), self.cookies)?;
        let body = match self.body {
            Value::Null => Bytes::new(),
            Value::String(text) if self.is_base64_encoded == Some(true) => {
                let bytes = STANDARD.decode(text.trim());
                let invalid = |error| failed(format!("the answer's body is not base64: {error}"));
                bytes.map_err(invalid)?.into()
            }
            Value::String(text) => text.into(),
            other => other.to_string().into(),
        };
        headers.entry(header::CONTENT_TYPE).or_insert(JSON);
        Ok(Reply {
            status: status(self.status_code)?,
            publish: take_publish(&mut headers),
            headers,
            body: Body::Bytes(body),
        })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Prelude {
    #[serde(default)]
    status_code: Option<u64>,
    #[serde(default)]
    headers: Option<Map<String, Value>>,
    #[serde(default)]
    cookies: Option<Vec<String>>,
}

fn status(code: u64) -> Result<StatusCode, Error> {
    let status = u16::try_from(code)
        .ok()
        .filter(|code| (200..=599).contains(code))
        .and_then(|code| StatusCode::from_u16(code).ok());
    status.ok_or_else(|| {
        failed(format!(
            "the program answered statusCode {code}, not within 200 to 599"
        ))
    })
}

fn headers(
    given: Option<Map<String, Value>>,
    cookies: Option<Vec<String>>,
) -> Result<HeaderMap, Error> {
    let mut headers = HeaderMap::new();
    let mut add = |name: &str, value: &str| {
        let pair = name
            .parse::<HeaderName>()
            .ok()
            .zip(value.parse::<HeaderValue>().ok());
        let (name, value) = pair.ok_or_else(|| {
            let name = shortened(name.to_owned(), 100);
            failed(format!(
                "the answer's header `{}` is not valid",
                name.escape_debug()
            ))
        })?;
        if headers.try_append(name, value).is_err() {
            return Err(failed("the answer has too many headers"));
        }
        Ok(())
    };
    for (name, value) in given.unwrap_or_default() {
        match value {
            Value::Null => {}
            Value::Array(values) => values
                .iter()
                .try_for_each(|value| add(&name, &text(value)))?,
            value => add(&name, &text(&value))?,
        }
    }
    for cookie in cookies.unwrap_or_default() {
        add("set-cookie", &cookie)?;
    }
    remove_hop_by_hop(&mut headers);
    // That of the body as it was encoded.
    headers.remove(header::CONTENT_LENGTH);
    Ok(headers)
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn shortened(mut text: String, bytes_max: usize) -> String {
    if text.len() > bytes_max {
        text.truncate(text.floor_char_boundary(bytes_max));
        text.push('…');
    }
    text
}

/// What a stream is made of.
pub(super) enum Piece {
    Data(Bytes),
    Failed(Error),
    End,
}

/// The body of a reply that the program writes while it is read.
pub(super) struct Streamed {
    pieces: mpsc::Receiver<Piece>,
    ended: bool,
}

impl Streamed {
    /// A body, and where its pieces go: one at a time, as they are read.
    pub(super) fn new() -> (mpsc::Sender<Piece>, Self) {
        let (sender, pieces) = mpsc::channel(1);
        let ended = false;
        (sender, Self { pieces, ended })
    }
}

impl http_body::Body for Streamed {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let piece = ready!(self.pieces.poll_recv(cx));
        self.ended = !matches!(piece, Some(Piece::Data(_)));
        Poll::Ready(match piece {
            Some(Piece::Data(data)) => Some(Ok(Frame::data(data))),
            Some(Piece::Failed(error)) => Some(Err(error)),
            Some(Piece::End) => None,
            None => Some(Err(failed("the program broke off its answer"))),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }
}
