//! What a program may ask of its node: calls of siblings, the data of its app, settings, its log.
//!
//! The same that the world in `sdk/wit` gives to WebAssembly, over HTTP on the program's own network. The program
//! finds it at `$MOTE_API` and shows `$MOTE_TOKEN`, which only its own instance was told; what it may reach, the
//! [`Host`] of its function decides. A call of a sibling is nested in the call that the program serves, which it
//! names by the `Mote-Call-Id` that came with it; when it serves just one, that one is meant.
//!
//! | request | does |
//! | --- | --- |
//! | any method, `/call/FUNCTION[/PATH][?QUERY]` | calls a sibling; with `Prefer: respond-async` hands the call over and answers 202 |
//! | `GET /kv/BUCKET?after=KEY&max=N` | lists keys as JSON |
//! | `GET`, `PUT`, `DELETE /kv/BUCKET/KEY` | reads, writes, removes; a write with `If-Match: ETAG` or `If-None-Match: *` only if nothing changed |
//! | `POST /kv/BUCKET/KEY?increment=N` | adds to a number |
//! | `GET /config`, `GET /config/KEY` | settings, as JSON; one, as text |
//! | `POST /log?level=LEVEL` | writes lines to the log |
//!
//! What the node itself refuses has the header `Mote-Error` with its kind; without it a status is a sibling's own.
//! Bounded: connections, heads, bodies, and the time for a head.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use mote_core::error::{Error, ErrorKind};
use mote_core::host::{Caller, Host};
use mote_core::invocation::InvocationId;
use mote_core::runtime::CallContext;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::accept;

mod answer;
mod data;
mod sibling;

use self::answer::{Answer, refused};

/// Connections at once of one instance; more wait.
const CONNECTIONS_MAX: usize = 64;
/// Most bytes of a request's head.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// Longest wait for a head; a connection that is kept alive and quiet is closed.
const HEAD_TIME_MAX: Duration = Duration::from_secs(60);

/// The node's side of one instance.
pub struct Inward {
    token: String,
    host: Arc<dyn Host>,
    /// Most bytes of a request to a sibling: what the program itself may be sent.
    body_bytes_max: u64,
    calls: Mutex<BTreeMap<InvocationId, Caller>>,
}

/// A call while the instance serves it.
#[derive(Debug)]
pub struct Serving<'a> {
    inward: &'a Inward,
    id: InvocationId,
}

impl Inward {
    /// For one instance of a function that may reach this.
    pub fn new(host: Arc<dyn Host>, body_bytes_max: u64) -> Result<Arc<Self>, Error> {
        Ok(Arc::new(Self {
            token: token()?,
            host,
            body_bytes_max,
            calls: Mutex::default(),
        }))
    }

    /// The variables that tell a program of it; `base` is where it reaches the listener: `http://127.0.0.1:9000`.
    pub fn variables(&self, base: &str) -> [(&'static str, String); 2] {
        [
            ("MOTE_API", base.to_owned()),
            ("MOTE_TOKEN", self.token.clone()),
        ]
    }

    /// Notes a call that the instance is given, until what is returned is dropped.
    pub fn serving(&self, id: InvocationId, context: &CallContext) -> Serving<'_> {
        self.calls().insert(id, context.caller.clone());
        Serving { inward: self, id }
    }

    /// Answers the program until the shutdown; then its connections are closed.
    pub async fn serve(self: Arc<Self>, listener: TcpListener, shutdown: CancellationToken) {
        let accepting = accept::run(listener, CONNECTIONS_MAX, |stream| {
            let inward = Arc::clone(&self);
            async move {
                let service = service_fn(|request| async {
                    Ok::<_, Infallible>(inward.answer(request).await)
                });
                let served = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEAD_TIME_MAX)
                    .max_buf_size(HEAD_BYTES_MAX)
                    .serve_connection(TokioIo::new(stream), service);
                // The program hung up, or does not speak HTTP.
                let _ = served.await;
            }
        });
        shutdown.run_until_cancelled(accepting).await;
    }

    async fn answer(&self, request: Request<Incoming>) -> Answer {
        let answered = match self.check(&request) {
            Ok(()) => self.route(request).await,
            Err(error) => Err(error),
        };
        answered.unwrap_or_else(|error| refused(&error))
    }

    fn check(&self, request: &Request<Incoming>) -> Result<(), Error> {
        let shown = request.headers().get(http::header::AUTHORIZATION);
        let shown = shown.and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
        if shown.is_some_and(|shown| same(shown, self.token.as_bytes())) {
            return Ok(());
        }
        let message = "the token of this instance is missing or wrong";
        Err(Error::new(ErrorKind::Unauthorized, message)
            .with_hint("send the header `Authorization: Bearer $MOTE_TOKEN`"))
    }

    async fn route(&self, request: Request<Incoming>) -> Result<Answer, Error> {
        let path = request.uri().path().to_owned();
        let (place, rest) = match path.trim_start_matches('/').split_once('/') {
            Some((place, rest)) => (place, rest),
            None => (path.trim_start_matches('/'), ""),
        };
        match place {
            "call" => self.call(request, rest).await,
            "kv" => self.data(request, rest).await,
            "config" => self.config(&request, rest),
            "log" => self.log(request).await,
            _ => Err(Error::new(
                ErrorKind::NotFound,
                format!("`{path}` is nothing that a program may ask for"),
            )
            .with_hint("there are /call, /kv, /config and /log")),
        }
    }

    /// The call that a request belongs to: the one it names, or the only one.
    fn caller(&self, request: &Request<Incoming>) -> Result<(InvocationId, Caller), Error> {
        let calls = self.calls();
        let Some(id) = request.headers().get(CALL_ID) else {
            let mut all = calls.iter();
            return match (all.next(), all.next()) {
                (Some((id, caller)), None) => Ok((*id, caller.clone())),
                (None, _) => Err(Error::new(
                    ErrorKind::BadRequest,
                    "this instance serves no call now, so that nothing can be part of one",
                )),
                _ => Err(Error::new(
                    ErrorKind::BadRequest,
                    "this instance serves several calls, and the request does not say to which it belongs",
                )
                .with_hint("pass on the header Mote-Call-Id of the call")),
            };
        };
        let named = calls
            .iter()
            .find(|(known, _)| known.hex() == *id.as_bytes());
        let caller = named.map(|(id, caller)| (*id, caller.clone()));
        caller.ok_or_else(|| {
            let message = format!(
                "this instance serves no call `{}` now",
                id.as_bytes().escape_ascii()
            );
            Error::new(ErrorKind::BadRequest, message)
        })
    }

    fn calls(&self) -> MutexGuard<'_, BTreeMap<InvocationId, Caller>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const CALL_ID: &str = "mote-call-id";

/// 128 bits that nobody can guess.
fn token() -> Result<String, Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| {
        Error::new(
            ErrorKind::Internal,
            format!("the system has no random numbers: {error}"),
        )
    })?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}

/// Compares without telling by its time where a guess is wrong.
fn same(shown: &[u8], token: &[u8]) -> bool {
    let different = shown.iter().zip(token).fold(0, |all, (a, b)| all | (a ^ b));
    shown.len() == token.len() && different == 0
}

impl Drop for Serving<'_> {
    fn drop(&mut self) {
        self.inward.calls().remove(&self.id);
    }
}

impl fmt::Debug for Inward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inward")
            .field("calls", &self.calls().len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
