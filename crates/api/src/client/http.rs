//! One HTTP request and its reply, for the admin client and for calls through the HTTP door.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use mote_core::error::{Error, ErrorKind};

/// A node is near: one that does not take the connection by then is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes handed to the socket at once, so that progress is heard of often enough.
const PIECE_BYTES: usize = 64 << 10;

/// A pool of connections. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Http {
    client: legacy::Client<HttpConnector, Upload>,
}

/// A request.
#[derive(Debug)]
pub struct Request {
    /// Method.
    pub method: Method,
    /// `http://host:port/path?query`.
    pub url: String,
    /// Names and values.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Upload,
}

/// A reply, its body still on the way.
#[derive(Debug)]
pub struct Reply {
    /// Status.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    body: Incoming,
}

impl Default for Http {
    fn default() -> Self {
        Self::new()
    }
}

impl Http {
    /// A pool without connections.
    pub fn new() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        connector.set_nodelay(true);
        let client = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(30))
            .build(connector);
        Self { client }
    }

    /// Sends a request and waits for the head of the reply. A server that does not take the
    /// connection is `Overloaded`: trying again later may help.
    pub async fn send(&self, request: Request) -> Result<Reply, Error> {
        let Request {
            method,
            url,
            headers,
            body,
        } = request;
        let uri: http::Uri = url.parse().map_err(|_| bad_url(&url))?;
        if uri.scheme_str() != Some("http") || uri.host().is_none() {
            return Err(bad_url(&url));
        }
        let mut builder = http::Request::builder().method(method).uri(uri);
        for (name, value) in &headers {
            builder = builder.header(name, value);
        }
        let request = builder.body(body).map_err(|error| {
            Error::new(
                ErrorKind::BadRequest,
                format!("a header is not valid: {error}"),
            )
        })?;
        let response = self.client.request(request).await.map_err(|error| {
            if error.is_connect() {
                Error::new(ErrorKind::Overloaded, root_cause(&error))
            } else {
                broken(&root_cause(&error))
            }
        })?;
        let (head, body) = response.into_parts();
        Ok(Reply {
            status: head.status,
            headers: head.headers,
            body,
        })
    }
}

impl Reply {
    /// The next piece of the body; `None` at its end. Cancel-safe.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        while let Some(frame) = self.body.frame().await {
            let frame = frame.map_err(|error| broken(&error.to_string()))?;
            if let Ok(data) = frame.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }

    /// The whole body. Fails with `TooLarge` as soon as more than `limit` bytes came.
    pub async fn collect(mut self, limit: u64) -> Result<Bytes, Error> {
        let mut all = BytesMut::new();
        while let Some(data) = self.next().await? {
            if (all.len() + data.len()) as u64 > limit {
                return Err(Error::new(
                    ErrorKind::TooLarge,
                    format!("the answer is larger than {limit} bytes"),
                ));
            }
            all.extend_from_slice(&data);
        }
        Ok(all.freeze())
    }
}

/// Hears how many bytes have gone out.
pub type Progress = Box<dyn FnMut(u64) + Send>;

/// The body of a request, from memory.
pub struct Upload {
    rest: Bytes,
    sent: u64,
    progress: Option<Progress>,
}

impl Upload {
    /// No body.
    pub fn empty() -> Self {
        Self::from(Bytes::new())
    }

    /// A body that tells how far it is.
    pub fn with_progress(bytes: Bytes, progress: Progress) -> Self {
        Self {
            rest: bytes,
            sent: 0,
            progress: Some(progress),
        }
    }
}

impl From<Bytes> for Upload {
    fn from(bytes: Bytes) -> Self {
        Self {
            rest: bytes,
            sent: 0,
            progress: None,
        }
    }
}

impl hyper::body::Body for Upload {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        let length = self.rest.len().min(PIECE_BYTES);
        let piece = self.rest.split_to(length);
        self.sent += length as u64;
        let sent = self.sent;
        if let Some(progress) = &mut self.progress {
            progress(sent);
        }
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Upload({})", self.rest.len())
    }
}

fn bad_url(url: &str) -> Error {
    let kind = if url.starts_with("https:") {
        ErrorKind::Unsupported
    } else {
        ErrorKind::BadRequest
    };
    Error::new(
        kind,
        format!("`{}` is not an http address", url.escape_debug()),
    )
    .with_hint("write http://HOST:PORT/FUNCTION")
}

fn broken(cause: &str) -> Error {
    Error::new(
        ErrorKind::Overloaded,
        format!("the connection broke: {cause}"),
    )
    .with_hint("try again")
}

/// The innermost cause: `connection refused` says more than `client error`.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string().to_lowercase()
}
