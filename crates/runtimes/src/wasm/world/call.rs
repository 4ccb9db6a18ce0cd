//! Calls of siblings: `mote:function/call`.
//!
//! A guest that waits for a sibling spends no CPU time. A started call is a task of the node; what
//! the guest holds is its number, which is never used again in its store, so that a number that a
//! guest kept from an earlier call means nothing in the next one.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use mote_core::error::{Error, ErrorKind};
use mote_core::host::{STARTED_MAX, SiblingReply, SiblingRequest};
use mote_core::runtime::BoxFuture;
use wasmtime::Result;
use wasmtime::component::Resource;

use super::bindings::mote::function::call as wit;
use super::text;
use crate::wasm::meter::Meter;
use crate::wasm::store::{CallState, RESOURCES_MAX};

/// A started call, as the guest's handles are typed. What it is lies in [`Started`].
#[expect(unreachable_pub, reason = "the generated code names it so")]
#[derive(Debug)]
pub enum Pending {}

type Running = BoxFuture<'static, Result<SiblingReply, Error>>;

/// The calls that one call has started, by number; `None` for one that was waited for. Dropping
/// this ends those that run.
#[derive(Default)]
pub(in crate::wasm) struct Started(BTreeMap<u32, Option<Running>>);

impl Started {
    /// Whether one more may be started.
    fn has_room(&self) -> Result<(), Error> {
        let running = self.0.values().flatten().count();
        if running < STARTED_MAX && self.0.len() < RESOURCES_MAX {
            return Ok(());
        }
        let message = format!(
            "the call has {running} started calls it has not waited for, and holds {} handles: the limits are {STARTED_MAX} and {RESOURCES_MAX}",
            self.0.len()
        );
        Err(Error::new(ErrorKind::Overloaded, message).with_hint("wait for some of them first"))
    }
}

impl wit::Host for CallState {
    async fn invoke(&mut self, request: wit::Request) -> Result<Answer> {
        let request = match sibling_request(request) {
            Ok(request) => request,
            Err(error) => return Ok(Err(error.into())),
        };
        let context = &self.call.context;
        let call = context.host.call(&context.caller, request);
        let meter = Arc::clone(&self.meter);
        Ok(aside(&meter, call).await)
    }

    fn start(&mut self, request: wit::Request) -> Result<Result<Resource<Pending>, wit::Error>> {
        let started = self
            .call
            .started
            .has_room()
            .and_then(|()| sibling_request(request));
        let request = match started {
            Ok(request) => request,
            Err(error) => return Ok(Err(error.into())),
        };
        let Some(next) = self.next_started.checked_add(1) else {
            let message = "the store has started as many calls as it has numbers for";
            return Ok(Err(Error::new(ErrorKind::Overloaded, message).into()));
        };
        let number = std::mem::replace(&mut self.next_started, next);
        let context = &self.call.context;
        let running = context.host.start(&context.caller, request);
        self.call.started.0.insert(number, Some(running));
        Ok(Ok(Resource::new_own(number)))
    }

    fn spawn(&mut self, request: wit::Request) -> Result<Result<String, wit::Error>> {
        let context = &self.call.context;
        let id = sibling_request(request)
            .and_then(|request| context.host.spawn(&context.caller, request));
        Ok(id.map(|id| id.to_string()).map_err(Into::into))
    }
}

impl wit::HostPending for CallState {
    async fn wait(&mut self, pending: Resource<Pending>) -> Result<Answer> {
        let running = self.call.started.0.get_mut(&pending.rep());
        let gone = match running {
            Some(running) => match running.take() {
                Some(running) => {
                    let meter = Arc::clone(&self.meter);
                    return Ok(aside(&meter, running).await);
                }
                None => "this call was waited for already",
            },
            None => "this call was started by another call of the function, and ended with it",
        };
        Ok(Err(Error::new(ErrorKind::BadRequest, gone).into()))
    }

    fn drop(&mut self, pending: Resource<Pending>) -> Result<()> {
        self.call.started.0.remove(&pending.rep());
        Ok(())
    }
}

type Answer = Result<wit::Reply, wit::Error>;

/// Waits for a sibling; its time is not this guest's.
async fn aside(meter: &Meter, mut call: Running) -> Answer {
    let reply = meter.aside(Pin::new(&mut call)).await?;
    let headers = reply.headers.iter();
    Ok(wit::Reply {
        status: reply.status.as_u16(),
        headers: headers
            .map(|(name, value)| (name.as_str().to_owned(), text(value)))
            .collect(),
        body: reply.body.into(),
    })
}

fn sibling_request(request: wit::Request) -> Result<SiblingRequest, Error> {
    let shown =
        |text: &str| -> String { text.chars().take(64).flat_map(char::escape_debug).collect() };
    let method = Method::from_bytes(request.method.as_bytes()).map_err(|_| {
        let message = format!("method `{}` is not valid", shown(&request.method));
        Error::new(ErrorKind::BadRequest, message)
    })?;
    let mut headers = HeaderMap::new();
    for (name, value) in request.headers {
        let parsed = HeaderName::from_bytes(name.as_bytes())
            .ok()
            .zip(HeaderValue::try_from(value).ok());
        let added = parsed.map(|(name, value)| headers.try_append(name, value));
        if !matches!(added, Some(Ok(_))) {
            let message = format!("header `{}` or its value is not valid", shown(&name));
            return Err(Error::new(ErrorKind::BadRequest, message));
        }
    }
    Ok(SiblingRequest {
        function: request.function,
        method,
        target: request.target,
        headers,
        body: request.body.into(),
    })
}

impl From<Error> for wit::Error {
    fn from(error: Error) -> Self {
        let kind = match error.kind() {
            ErrorKind::BadRequest
            | ErrorKind::MethodNotAllowed
            | ErrorKind::Conflict
            | ErrorKind::Unsupported => wit::ErrorKind::BadRequest,
            ErrorKind::Unauthorized | ErrorKind::Forbidden => wit::ErrorKind::Forbidden,
            ErrorKind::NotFound => wit::ErrorKind::NotFound,
            ErrorKind::TooLarge => wit::ErrorKind::TooLarge,
            ErrorKind::Throttled => wit::ErrorKind::Throttled,
            ErrorKind::FunctionFailed => wit::ErrorKind::FunctionFailed,
            ErrorKind::Overloaded => wit::ErrorKind::Overloaded,
            ErrorKind::Timeout => wit::ErrorKind::Timeout,
            ErrorKind::StorageFull => wit::ErrorKind::StorageFull,
            ErrorKind::Internal => wit::ErrorKind::Internal,
        };
        let hint = error.hint().map(|hint| format!("; {hint}"));
        let message = format!("{error}{}", hint.unwrap_or_default());
        Self { kind, message }
    }
}
