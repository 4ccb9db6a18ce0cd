//! The contract `http`: the program listens for HTTP/1.1, and the node is its client.
//!
//! Connections are kept and used again, each by one call at a time. How many calls there are at once
//! is decided above; bounded here are the connections that wait, the head of a reply, and the bytes
//! of both bodies. A call has no time limit of its own: dropping its future, or the reply's stream,
//! closes the connection.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Method, Request, Response, Uri, header};
use hyper::body::Incoming;
use mote_core::body::Body;
use mote_core::error::{Error, ErrorKind};
use mote_core::invocation::{Invocation, Meta};
use mote_core::name::FunctionName;
use mote_core::reply::Reply;
use mote_core::runtime::{BoxFuture, take};
use tokio::time::Instant;

use self::body::{ReplyBody, RequestBody};
use self::connection::{Connection, Failure, failed, no_body};
use self::pool::Pool;
use super::headers::{remove_hop_by_hop, take_publish};

mod body;
mod connection;
mod pool;
mod stream;

pub use stream::Stream;

/// Makes connections to one program.
pub trait Connect: Send + Sync {
    /// A new connection, on the caller's runtime: to a process by a socket made inside of its network namespace, to a
    /// container by its address. Cancel-safe.
    fn connect(&self) -> BoxFuture<'_, io::Result<Stream>>;
}

/// How a program is called.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Whose program it is: what it sees as `Host`.
    pub function: FunctionName,
    /// Most connections that wait for their next call.
    pub connections: usize,
}

/// The client of one program.
pub struct HttpClient {
    connect: Arc<dyn Connect>,
    pool: Arc<Pool>,
    host: HeaderValue,
}

/// The call's id, for the program's own logs.
static CALL_ID: HeaderName = HeaderName::from_static("mote-call-id");
/// How long the caller waits.
static TIMEOUT_MS: HeaderName = HeaderName::from_static("mote-timeout-ms");

/// Time between two looks whether a program is ready: twice as long each time, from here…
const READY_PAUSE_MIN: Duration = Duration::from_millis(1);
/// … to here.
const READY_PAUSE_MAX: Duration = Duration::from_millis(100);
/// One look takes no longer: a connection that was taken before the program was there may hang.
const READY_TRY_MAX: Duration = Duration::from_secs(1);

impl HttpClient {
    /// A client that makes its connections with `connect`.
    pub fn new(connect: Arc<dyn Connect>, settings: &Settings) -> Self {
        let host = HeaderValue::from_str(settings.function.full());
        Self {
            connect,
            pool: Pool::new(settings.connections),
            host: host.expect("a name is letters, digits, hyphens and a dot"),
        }
    }

    /// Waits until the program is ready: until it accepts connections and, with a path, answers a
    /// GET of it with 2xx. Fails with `FunctionFailed` and the last reason when it was not `within`
    /// that time. Cancel-safe.
    pub async fn ready(&self, path: Option<&str>, within: Duration) -> Result<(), Error> {
        let deadline = Instant::now() + within;
        let mut pause = READY_PAUSE_MIN;
        loop {
            let until = deadline.min(Instant::now() + READY_TRY_MAX);
            let tried = tokio::time::timeout_at(until, self.look(path)).await;
            let not_yet = match tried {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) => error,
                Err(_) => failed("the program does not answer"),
            };
            let next = Instant::now() + pause;
            if next >= deadline {
                return Err(not_yet
                    .context(format!("not ready after {} ms", within.as_millis()))
                    .with_hint("the program has to listen on the port that $PORT names"));
            }
            tokio::time::sleep_until(next).await;
            pause = (pause * 2).min(READY_PAUSE_MAX);
        }
    }

    /// Serves one call: takes the one that is offered as soon as there is a connection to send it
    /// on. When there is none, it fails and the call is still on offer.
    ///
    /// Both bodies may have `body_bytes_max` bytes. Dropping the future closes the connection.
    pub async fn call(
        &self,
        offered: &mut Option<Invocation>,
        body_bytes_max: u64,
    ) -> Result<Reply, Error> {
        let repeatable = offered
            .as_ref()
            .is_some_and(|call| call.meta.method.is_idempotent());
        let (mut connection, mut kept) = match self.kept(repeatable).await {
            Some(connection) => (connection, true),
            None => (self.fresh().await?, false),
        };
        let mut invocation = take(offered)?;
        let spare = match &invocation.body {
            Body::Bytes(bytes) if repeatable => Some(bytes.clone()),
            _ => None,
        };
        loop {
            let request = self.request(&mut invocation, body_bytes_max)?;
            let failure = match connection.send(request).await {
                Ok(response) => return self.reply(connection, response, body_bytes_max).await,
                Err(failure) => failure,
            };
            if !kept {
                return Err(failure.into());
            }
            // A program may close a connection that was kept at any time, also now.
            let unsent = matches!(failure, Failure::Unsent(_));
            invocation.body = match (failure, &spare) {
                (Failure::Unsent(request), _) => request.into_body().into_inner(),
                (Failure::Broken { untouched, .. }, Some(bytes)) if untouched => {
                    Body::Bytes(bytes.clone())
                }
                (failure, _) => return Err(failure.into()),
            };
            kept = false;
            connection = match self.fresh().await {
                Ok(connection) => connection,
                Err(error) => {
                    // One that was sent may be what ended the program: no other may get it too.
                    if unsent {
                        *offered = Some(invocation);
                    }
                    return Err(error);
                }
            };
        }
    }

    /// A connection that waited and is still open. A call that must not be sent twice gets one that
    /// the program is not about to close.
    async fn kept(&self, repeatable: bool) -> Option<Connection> {
        while let Some((mut connection, waited)) = self.pool.take(!repeatable) {
            if connection.is_open(waited).await {
                return Some(connection);
            }
        }
        None
    }

    async fn fresh(&self) -> Result<Connection, Error> {
        let stream =
            self.connect.connect().await.map_err(|error| {
                failed(format!("the program does not accept connections: {error}"))
            })?;
        Connection::open(stream).await
    }

    /// One look whether the program is ready.
    async fn look(&self, path: Option<&str>) -> Result<(), Error> {
        let mut connection = self.fresh().await?;
        let Some(path) = path else {
            self.pool.keep(connection);
            return Ok(());
        };
        let mut request = Request::new(no_body());
        *request.uri_mut() = path
            .parse()
            .map_err(|_| failed(format!("ready `{}` is not a path", path.escape_debug())))?;
        request
            .headers_mut()
            .insert(header::HOST, self.host.clone());
        let response = connection.send(request).await?;
        if !response.status().is_success() {
            return Err(failed(format!(
                "it answers {path} with status {}",
                response.status().as_u16()
            )));
        }
        // Whatever else it says decides nothing; a short answer leaves the connection for a call.
        let body = ReplyBody::new(
            response.into_body(),
            connection,
            &self.pool,
            READY_BYTES_MAX,
        );
        drop(body.gather().await);
        Ok(())
    }

    /// The request as the program sees it: paths begin after the function's name. Takes the body.
    fn request(
        &self,
        invocation: &mut Invocation,
        body_bytes_max: u64,
    ) -> Result<Request<RequestBody>, Error> {
        let meta = &invocation.meta;
        let uri = target(meta)?;
        let mut headers = meta.headers.clone();
        remove_hop_by_hop(&mut headers);
        // The door has answered it; the body comes at once.
        headers.remove(header::EXPECT);
        headers.remove(header::CONTENT_LENGTH);
        headers.insert(header::HOST, self.host.clone());
        let id = HeaderValue::from_bytes(&invocation.id.hex());
        headers.insert(
            CALL_ID.clone(),
            id.expect("hexadecimal digits are a valid header"),
        );
        let budget = u64::try_from(invocation.budget.as_millis()).unwrap_or(u64::MAX);
        headers.insert(TIMEOUT_MS.clone(), budget.into());
        let body = std::mem::take(&mut invocation.body);
        // Programs look for the length where a body is expected (RFC 9110 §8.6).
        let expected = matches!(meta.method, Method::POST | Method::PUT | Method::PATCH);
        if expected && body.length() == Some(0) {
            headers.insert(header::CONTENT_LENGTH, 0.into());
        }
        let mut request = Request::new(RequestBody::new(body, body_bytes_max));
        *request.method_mut() = meta.method.clone();
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        Ok(request)
    }

    async fn reply(
        &self,
        connection: Connection,
        response: Response<Incoming>,
        body_bytes_max: u64,
    ) -> Result<Reply, Error> {
        let (mut parts, body) = response.into_parts();
        if !(200..=599).contains(&parts.status.as_u16()) {
            return Err(failed(format!(
                "the program answered status {}, not within 200 to 599",
                parts.status.as_u16()
            )));
        }
        let publish = take_publish(&mut parts.headers);
        remove_hop_by_hop(&mut parts.headers);
        let body = ReplyBody::new(body, connection, &self.pool, body_bytes_max);
        Ok(Reply {
            status: parts.status,
            headers: parts.headers,
            body: body.gather().await?,
            publish,
        })
    }
}

/// Most bytes that are read of the answer to a look.
const READY_BYTES_MAX: u64 = 64 << 10;

fn target(meta: &Meta) -> Result<Uri, Error> {
    let path = meta.path();
    let rest = meta.target.as_str().get(usize::from(meta.prefix)..);
    let target: Result<PathAndQuery, _> = match rest.unwrap_or_default() {
        whole if whole.len() == meta.target.as_str().len() => Ok(meta.target.clone()),
        rest if path.is_empty() => format!("/{rest}").parse(),
        rest => rest.parse(),
    };
    let target = target.map_err(|_| Error::new(ErrorKind::BadRequest, "the path is not valid"))?;
    Ok(Uri::from(target))
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Unsent(_) => failed("the program closed the connection before the request"),
            Failure::Broken { error, .. } => error,
        }
    }
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClient")
            .field("host", &self.host)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
