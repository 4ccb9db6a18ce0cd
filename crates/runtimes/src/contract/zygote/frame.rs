//! Frames on a worker's stream: four bytes of length (big-endian), a JSON head, a body.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use mote_core::body::too_large;
use mote_core::error::{Error, ErrorKind};
use mote_core::invocation::{InvocationId, Meta};
use mote_core::reply::Reply;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

/// Longest head, in both directions.
const HEAD_BYTES_MAX: usize = 1 << 20;
/// Most headers of a reply.
const HEADERS_MAX: usize = 256;
/// Requests up to this long are written in one go with their head.
const JOINED_BYTES_MAX: usize = 16 << 10;
/// Says that the reply is to be published.
const PUBLISH: &str = "mote-publish";

#[derive(Serialize)]
struct RequestHead<'a> {
    method: &'a str,
    path: &'a str,
    query: Option<&'a str>,
    headers: Vec<(&'a str, std::borrow::Cow<'a, str>)>,
    call_id: String,
    timeout_ms: u64,
    body_length: usize,
}

#[derive(Deserialize)]
struct ReplyHead {
    #[serde(default)]
    status: u16,
    #[serde(default)]
    headers: Vec<(String, String)>,
    #[serde(default)]
    publish: bool,
    #[serde(default)]
    error: Option<String>,
    #[serde(default)]
    last: bool,
    body_length: u64,
}

/// What a worker answered.
pub(super) struct Answer {
    pub(super) reply: Result<Reply, Error>,
    /// Whether it ends now.
    pub(super) last: bool,
}

/// Why a call has no answer.
pub(super) enum Lost {
    /// The worker is gone, or closed its stream.
    Ended,
    /// It broke a limit or the protocol.
    Broken(Error),
}

impl From<io::Error> for Lost {
    fn from(_: io::Error) -> Self {
        Self::Ended
    }
}

/// Writes a request. `head` is what [`request`] made.
pub(super) async fn write(
    stream: &mut UnixStream,
    mut head: Vec<u8>,
    body: &Bytes,
) -> Result<(), Lost> {
    if body.len() <= JOINED_BYTES_MAX {
        head.extend_from_slice(body);
        stream.write_all(&head).await?;
    } else {
        stream.write_all(&head).await?;
        stream.write_all(body).await?;
    }
    Ok(())
}

/// The head of a request, with its length.
pub(super) fn request(
    meta: &Meta,
    id: InvocationId,
    budget: Duration,
    body_length: usize,
) -> Result<Vec<u8>, Error> {
    let path = meta.path();
    let head = RequestHead {
        method: meta.method.as_str(),
        path: if path.is_empty() { "/" } else { path },
        query: meta.query(),
        headers: meta
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), String::from_utf8_lossy(value.as_bytes())))
            .collect(),
        call_id: id.to_string(),
        timeout_ms: u64::try_from(budget.as_millis()).unwrap_or(u64::MAX),
        body_length,
    };
    let mut bytes = vec![0; 4];
    serde_json::to_writer(&mut bytes, &head).map_err(|error| {
        Error::new(
            ErrorKind::Internal,
            format!("cannot write a request: {error}"),
        )
    })?;
    let length = bytes.len() - 4;
    match u32::try_from(length) {
        Ok(word) if length <= HEAD_BYTES_MAX => bytes[..4].copy_from_slice(&word.to_be_bytes()),
        _ => {
            return Err(Error::new(
                ErrorKind::TooLarge,
                format!("path and headers are {length} bytes, more than {HEAD_BYTES_MAX}"),
            ));
        }
    }
    Ok(bytes)
}

/// Reads an answer.
pub(super) async fn read(stream: &mut UnixStream, body_bytes_max: u64) -> Result<Answer, Lost> {
    let length = stream.read_u32().await? as usize;
    if length > HEAD_BYTES_MAX {
        let message =
            format!("the head of the answer is {length} bytes, more than {HEAD_BYTES_MAX}");
        return Err(broken(message));
    }
    let mut head = vec![0; length];
    stream.read_exact(&mut head).await?;
    let head: ReplyHead = serde_json::from_slice(&head)
        .map_err(|error| broken(format!("the head of the answer is not valid: {error}")))?;
    if head.body_length > body_bytes_max {
        return Err(Lost::Broken(
            too_large(body_bytes_max).context("the answer"),
        ));
    }
    // Grows as the bytes come: a length that is only claimed costs nothing.
    let mut body = Vec::new();
    (&mut *stream)
        .take(head.body_length)
        .read_to_end(&mut body)
        .await?;
    if body.len() as u64 != head.body_length {
        return Err(Lost::Ended);
    }
    let last = head.last;
    Ok(Answer {
        reply: head.into_reply(body.into()),
        last,
    })
}

impl ReplyHead {
    fn into_reply(self, body: Bytes) -> Result<Reply, Error> {
        if let Some(why) = self.error {
            let message = format!("the handler failed: {why}");
            return Err(Error::new(ErrorKind::FunctionFailed, message)
                .with_hint("the traceback is in the function's log"));
        }
        let invalid = |what: String| Error::new(ErrorKind::FunctionFailed, what);
        let status = StatusCode::from_u16(self.status)
            .ok()
            .filter(|status| status.as_u16() >= 200)
            .ok_or_else(|| invalid(format!("the handler answered status {}", self.status)))?;
        if self.headers.len() > HEADERS_MAX {
            let message = format!("the handler answered more than {HEADERS_MAX} headers");
            return Err(invalid(message));
        }
        let mut publish = self.publish;
        let mut headers = HeaderMap::with_capacity(self.headers.len());
        for (name, value) in self.headers {
            let (Ok(key), Ok(value)) = (
                HeaderName::from_bytes(name.as_bytes()),
                HeaderValue::from_bytes(value.as_bytes()),
            ) else {
                let shown: String = name.chars().take(64).collect();
                let message = format!(
                    "the handler answered the header `{}`, which is not valid",
                    shown.escape_debug()
                );
                return Err(invalid(message));
            };
            if key.as_str() == PUBLISH {
                publish |= value.as_bytes().eq_ignore_ascii_case(b"true");
            } else if key != http::header::CONTENT_LENGTH {
                headers.append(key, value);
            }
        }
        Ok(Reply {
            status,
            headers,
            body: body.into(),
            publish,
        })
    }
}

fn broken(message: String) -> Lost {
    Lost::Broken(Error::new(ErrorKind::FunctionFailed, message))
}
