//! From a request to an invocation, and back.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::Body as _;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use mote_core::body::{Body, too_large};
use mote_core::error::{Error, ErrorKind};
use mote_core::invocation::{FunctionId, Invocation, InvocationId, Meta, Origin};
use mote_core::spec::TIMEOUT_MAX;
use mote_engine::invoker::Invoker;
use mote_engine::plan::Entry;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_util::sync::CancellationToken;

use super::Config;
use super::events;
use super::io::UnderWay;
use super::reply::{ReplyBody, error_response, plain, response};

/// What the door's connections share.
pub(super) struct Door {
    pub(super) config: Config,
    invoker: Invoker,
    collecting: Arc<Semaphore>,
    shutdown: CancellationToken,
}

/// The call's id, on every reply. Made once: a name that `http` does not know is allocated.
static CALL_ID: HeaderName = HeaderName::from_static("mote-call-id");
/// The caller's trace (W3C Trace Context).
const TRACEPARENT: &str = "traceparent";
/// The prefix that other platforms' clients use.
const ALIAS: &str = "/function/";
/// Paths of the platform itself.
const PLATFORM: &str = "/-/";
/// Methods that a function may be called with.
const ALLOW: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");

impl Door {
    pub(super) fn new(config: Config, invoker: Invoker, shutdown: CancellationToken) -> Self {
        let collecting = Arc::new(Semaphore::new(config.collecting_bytes_max as usize));
        Self {
            config,
            invoker,
            collecting,
            shutdown,
        }
    }

    /// Serves one request. Every way out is a response.
    pub(super) async fn handle(
        &self,
        request: Request<Incoming>,
        under_way: UnderWay,
    ) -> Response<ReplyBody> {
        let id = self.invoker.next_id();
        let (parts, body) = request.into_parts();
        let traceparent = parts.headers.get(TRACEPARENT).cloned();
        let mut response = match self.answer(id, parts, body).await {
            Ok(response) => response,
            Err(error) => error_response(&error),
        };
        let headers = response.headers_mut();
        let call =
            HeaderValue::from_bytes(&id.hex()).expect("hexadecimal digits are a valid header");
        headers.insert(CALL_ID.clone(), call);
        if let Some(traceparent) = traceparent {
            headers.entry(TRACEPARENT).or_insert(traceparent);
        }
        // While a stream goes on, so does its request; and a client that does not read it has no
        // longer for that than for a reply that is all there.
        if let ReplyBody::Stream {
            request, longest, ..
        } = response.body_mut()
        {
            under_way.lasts(longest.map(|longest| longest + self.config.body_timeout));
            *request = Some(under_way);
        }
        response
    }

    async fn answer(
        &self,
        id: InvocationId,
        parts: Parts,
        body: Incoming,
    ) -> Result<Response<ReplyBody>, Error> {
        // Apart, so that what reading a request needs takes no room beside its call.
        match self.read(id, parts, body).await? {
            Read::Call(call) => {
                let reply = self.invoker.invoke(call.invocation).await?;
                Ok(response(reply, call.timeout))
            }
            Read::Answer(response) => Ok(response),
        }
    }

    async fn read(
        &self,
        id: InvocationId,
        parts: Parts,
        body: Incoming,
    ) -> Result<Read<'_>, Error> {
        let target = parts.uri.path_and_query().cloned();
        let target = target.unwrap_or_else(|| PathAndQuery::from_static("/"));
        let Some((name, prefix)) = function_name(target.path()) else {
            let page = self.platform(&target, &parts.method);
            return page.map(Read::Answer);
        };
        let Some(function) = self.invoker.look(|plan| plan.resolve(name).map(Facts::of)) else {
            return Err(self.refused(not_deployed(name)));
        };
        if matches!(parts.method, Method::CONNECT | Method::TRACE) {
            let message = format!("functions are not called with {}", parts.method);
            let error = self.refused(Error::new(ErrorKind::MethodNotAllowed, message));
            return Ok(Read::Answer(with_allow(error_response(&error))));
        }
        // Functions that know HTTP answer for themselves; for the others the door does.
        if parts.method == Method::OPTIONS && !function.streams {
            let allowed = with_allow(plain(StatusCode::NO_CONTENT, Bytes::new()));
            return Ok(Read::Answer(allowed));
        }
        // The room that a collected body takes is held as long as the body is: to the call's end.
        let (body, room) = if body.is_end_stream() {
            (Body::empty(), None)
        } else {
            let body = Box::pin(self.body(&function, &parts, body)).await;
            body.map_err(|error| self.refused(error))?
        };
        let meta = Meta {
            method: parts.method,
            target,
            prefix,
            headers: parts.headers,
        };
        if function.observable && events::wanted(&meta) {
            let events = events::response(&self.invoker, function.id, &meta, &self.shutdown);
            let events = events.map_err(|error| self.refused(error))?;
            return Ok(Read::Answer(events));
        }
        let invocation = Invocation {
            id,
            function: function.id,
            meta,
            body,
            budget: TIMEOUT_MAX,
            origin: Origin::Http,
            hops: 0,
        };
        Ok(Read::Call(Call {
            invocation,
            timeout: function.timeout,
            _room: room,
        }))
    }

    /// A function's request body: a stream for those that take one, collected for all others.
    async fn body(
        &self,
        function: &Facts,
        parts: &Parts,
        body: Incoming,
    ) -> Result<(Body, Option<SemaphorePermit<'_>>), Error> {
        let limit = function.body_bytes;
        // A client that says how much it will send is refused before it does.
        let announced = body.size_hint().lower();
        if announced > limit {
            return Err(too_large(limit));
        }
        let stream = Body::Stream(Box::pin(body.map_err(|error| broken(&error))));
        if function.streams {
            return Ok((stream, None));
        }
        let known = parts.headers.contains_key(header::CONTENT_LENGTH);
        let room = u32::try_from(if known { announced } else { limit }).unwrap_or(u32::MAX);
        let room = room.min(self.config.collecting_bytes_max);
        let Ok(room) = self.collecting.try_acquire_many(room) else {
            let message = "too many request bodies are on their way to this node";
            return Err(Error::new(ErrorKind::Overloaded, message)
                .with_retry_after(std::time::Duration::from_secs(1)));
        };
        match tokio::time::timeout(self.config.body_timeout, stream.collect(limit)).await {
            Ok(collected) => Ok((Body::Bytes(collected?), Some(room))),
            Err(_) => {
                let timeout = self.config.body_timeout;
                let message = format!("the request's body did not arrive within {timeout:?}");
                Err(Error::new(ErrorKind::Timeout, message))
            }
        }
    }

    fn platform(
        &self,
        target: &PathAndQuery,
        method: &Method,
    ) -> Result<Response<ReplyBody>, Error> {
        if target.path() == "/" && matches!(*method, Method::GET | Method::HEAD) {
            let text =
                "This is a Mote node. Functions are at /<function>[.<app>][/path][?query].\n";
            return Ok(plain(StatusCode::OK, Bytes::from_static(text.as_bytes())));
        }
        let shown: String = target.path().chars().take(128).collect();
        Err(self.refused(Error::new(
            ErrorKind::NotFound,
            format!("there is nothing at `{}`", shown.escape_debug()),
        )))
    }

    fn refused(&self, error: Error) -> Error {
        self.invoker.refused(Origin::Http, error.kind());
        error
    }
}

/// What became of a request that was read.
enum Read<'a> {
    Call(Call<'a>),
    /// The door answers itself.
    Answer(Response<ReplyBody>),
}

/// A call to make.
struct Call<'a> {
    invocation: Invocation,
    timeout: Duration,
    _room: Option<SemaphorePermit<'a>>,
}

/// What the door needs to know of a function.
struct Facts {
    id: FunctionId,
    streams: bool,
    observable: bool,
    body_bytes: u64,
    timeout: Duration,
}

impl Facts {
    fn of(entry: &Arc<Entry>) -> Self {
        Self {
            id: entry.id,
            streams: entry.streams,
            observable: entry.spec.observable,
            body_bytes: entry.spec.limits.body_bytes,
            timeout: entry.spec.limits.timeout,
        }
    }
}

fn not_deployed(name: &str) -> Error {
    let shown: String = name.chars().take(128).collect();
    let message = format!(
        "function `{}` is not deployed on this node",
        shown.escape_debug()
    );
    Error::new(ErrorKind::NotFound, message)
}

fn with_allow(mut response: Response<ReplyBody>) -> Response<ReplyBody> {
    response.headers_mut().insert(header::ALLOW, ALLOW);
    response
}

/// The function that a path names, and how many bytes of the path do so.
fn function_name(path: &str) -> Option<(&str, u16)> {
    if path.starts_with(PLATFORM) {
        return None;
    }
    let start = if path.starts_with(ALIAS) {
        ALIAS.len()
    } else {
        1
    };
    let rest = path.get(start..)?;
    let name = rest.split('/').next().filter(|name| !name.is_empty())?;
    Some((name, u16::try_from(start + name.len()).ok()?))
}

fn broken(error: &hyper::Error) -> Error {
    Error::new(
        ErrorKind::BadRequest,
        format!("the request's body broke off: {error}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_functions() {
        for (path, expected) in [
            ("/light", Some(("light", 6))),
            ("/light.home/a/b", Some(("light.home", 11))),
            ("/function/light", Some(("light", 15))),
            ("/function/light/x", Some(("light", 15))),
            ("/function", Some(("function", 9))),
            ("/", None),
            ("//x", None),
            ("/-/calls/1", None),
            ("*", None),
        ] {
            assert_eq!(function_name(path), expected, "{path}");
        }
    }
}
