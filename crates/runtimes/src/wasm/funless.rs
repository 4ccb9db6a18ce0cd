//! A call of a module that was compiled for FunLess: JSON in, JSON out.
//!
//! Such a module exports `__invoke`, is told how long the input is, and asks for the rest through the
//! imports of `fl_imps`; beside them it has WASI preview 1, with standard output and error in the
//! log. The body of the request is the input, `{}` when there is none. What `__invoke` returns says
//! whether the function answered (0, a reply of JSON) or failed (1, status 500 with its words).
//!
//! A fresh memory for each call, as there. Differences, each of them a bound that FunLess lacks: the
//! limits of the function's manifest; outgoing requests go only where `allow.http` says; and the
//! node writes only where the module made room (see `http`). Every address and length is checked;
//! one that is outside of the memory ends the call. `_initialize` is called when there is one,
//! `_start` is not. Its service calls (method -1) are not known here, and fail like any other
//! request.

use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use mote_core::body::Body;
use mote_core::error::{Error, ErrorKind};
use mote_core::invocation::Invocation;
use mote_core::log::Level;
use mote_core::reply::Reply;
use mote_core::runtime::CallContext;
use wasmtime::{Caller, Engine, Extern, InstancePre, Linker, Memory, Module};
use wasmtime_wasi::{I32Exit, p1};

use super::failure::{ReplyTooLarge, guest_error};
use super::function::TEXT;
use super::prepared::{Loaded, Shard, checked_body};
use super::store::{Call, CallState, context};

mod http_request;

/// The module of its imports.
const IMPORTS: &str = "fl_imps";
/// What such a module exports, and what tells it from others: `(input length) -> outcome`.
pub(super) const INVOKE: &str = "__invoke";
/// Set-up code of a WASI module that is not a command.
const INITIALIZE: &str = "_initialize";

/// A module that is linked.
pub(super) struct FunlessPre(InstancePre<CallState>);

/// The input of a call, and what the module answered.
pub(super) struct Exchange {
    input: Bytes,
    response: Option<Vec<u8>>,
    error: Option<Vec<u8>>,
}

impl FunlessPre {
    pub(super) fn new(engine: &Engine, module: &Module) -> wasmtime::Result<Self> {
        let mut linker = Linker::new(engine);
        p1::add_to_linker_async(&mut linker, |state: &mut CallState| {
            &mut **state
                .command
                .as_mut()
                .expect("the store of such a module is made with its context")
        })?;
        linker.func_wrap(IMPORTS, "__get_input_data", input_data)?;
        linker.func_wrap(IMPORTS, "__insert_response", insert_response)?;
        linker.func_wrap(IMPORTS, "__insert_error", insert_error)?;
        linker.func_wrap(IMPORTS, "__console_log", console_log)?;
        http_request::add_to_linker(&mut linker)?;
        Ok(Self(linker.instantiate_pre(module)?))
    }

    /// Instantiates it once, for a call that is none.
    pub(super) async fn try_out(
        &self,
        store: &mut wasmtime::Store<CallState>,
    ) -> wasmtime::Result<()> {
        prepare(store.data_mut(), Bytes::new());
        self.0.instantiate_async(store).await.map(drop)
    }
}

pub(super) async fn call(
    loaded: &Loaded,
    shard: &Shard,
    pre: &FunlessPre,
    invocation: Invocation,
    context: CallContext,
) -> Result<Reply, Error> {
    let spec = &loaded.function.spec;
    let mut input = invocation.body.collect(spec.limits.body_bytes).await?;
    if input.is_empty() {
        input = Bytes::from_static(b"{}");
    }
    let length = i32::try_from(input.len())
        .map_err(|_| Error::new(ErrorKind::TooLarge, "the body has more than 2 GiB"))?;
    let call = Call::new(invocation.id, invocation.meta, context, spec);
    let mut store = loaded.fresh_store(shard, call)?;
    prepare(store.data_mut(), input);

    let meter = Arc::clone(&store.data().meter);
    let done = {
        let run = pin!(async {
            let instance = pre.0.instantiate_async(&mut store).await?;
            if let Ok(initialize) = instance.get_typed_func::<(), ()>(&mut store, INITIALIZE) {
                initialize.call_async(&mut store, ()).await?;
            }
            let invoke = instance.get_typed_func::<i32, i32>(&mut store, INVOKE)?;
            invoke.call_async(&mut store, length).await
        });
        meter.run(loaded.ticker(), shard.number, run).await
    };
    let outcome = done.map_err(|error| match error.downcast_ref::<I32Exit>() {
        Some(I32Exit(code)) => failed(format!("the function ended with exit code {code}")),
        None => guest_error(&error, Some(store.data())),
    })?;
    let state = store.data_mut();
    let Some(exchange) = state.exchange.take() else {
        return Err(Error::new(ErrorKind::Internal, "an answer was taken twice"));
    };
    match (outcome, exchange.response, exchange.error) {
        (0, Some(json), _) => Ok(said(StatusCode::OK, JSON, checked_body(json, spec)?)),
        (1, _, error) => {
            let error = error.unwrap_or_else(|| b"the function failed without a word".to_vec());
            let log = state.call.log();
            log.line(Level::Error, &String::from_utf8_lossy(&error));
            let status = StatusCode::INTERNAL_SERVER_ERROR;
            Ok(said(status, TEXT, checked_body(error, spec)?))
        }
        (0, None, _) => Err(failed("the function ended without an answer".to_owned())),
        (other, ..) => Err(failed(format!(
            "the function returned {other}, which is neither 0 nor 1"
        ))),
    }
}

const JSON: &str = "application/json";

fn said(status: StatusCode, content_type: &'static str, body: Body) -> Reply {
    let content_type = HeaderValue::from_static(content_type);
    Reply {
        status,
        headers: HeaderMap::from_iter([(header::CONTENT_TYPE, content_type)]),
        body,
        publish: false,
    }
}

fn failed(message: String) -> Error {
    Error::new(ErrorKind::FunctionFailed, message)
}

/// Gives a store what such a module needs.
fn prepare(state: &mut CallState, input: Bytes) {
    let mut wasi = context(&state.spec, state.call.log());
    wasi.arg(state.spec.name.function());
    state.command = Some(Box::new(wasi.build_p1()));
    state.exchange = Some(Box::new(Exchange {
        input,
        response: None,
        error: None,
    }));
}

/// Writes the whole input; the module made room for what `__invoke` was told.
fn input_data(mut caller: Caller<'_, CallState>, at: u32) -> wasmtime::Result<()> {
    let input = exchange(&mut caller)?.input.clone();
    write(&mut caller, at, &input)
}

fn insert_response(
    mut caller: Caller<'_, CallState>,
    at: u32,
    length: u32,
) -> wasmtime::Result<()> {
    let response = read_answer(&mut caller, at, length)?;
    exchange(&mut caller)?.response = Some(response);
    Ok(())
}

fn insert_error(mut caller: Caller<'_, CallState>, at: u32, length: u32) -> wasmtime::Result<()> {
    let error = read_answer(&mut caller, at, length)?;
    exchange(&mut caller)?.error = Some(error);
    Ok(())
}

fn console_log(mut caller: Caller<'_, CallState>, at: u32, length: u32) -> wasmtime::Result<()> {
    // What is over the call's log is not looked at; one byte more, so that this is said.
    let log_bytes = caller.data().spec.limits.log_bytes + 1;
    let shown = u64::from(length).min(log_bytes);
    checked(&mut caller, at, length)?;
    let text = read(&mut caller, at, u32::try_from(shown).unwrap_or(length))?;
    let text = String::from_utf8_lossy(&text);
    let log = caller.data().call.log();
    text.lines().for_each(|line| log.line(Level::Info, line));
    Ok(())
}

fn exchange<'a>(caller: &'a mut Caller<'_, CallState>) -> wasmtime::Result<&'a mut Exchange> {
    let exchange = caller.data_mut().exchange.as_deref_mut();
    exchange.ok_or_else(|| wasmtime::Error::msg("asked for its call outside of one"))
}

/// An answer of the module, within what a reply may have.
fn read_answer(
    caller: &mut Caller<'_, CallState>,
    at: u32,
    length: u32,
) -> wasmtime::Result<Vec<u8>> {
    let limit = caller.data().spec.limits.body_bytes;
    if u64::from(length) > limit {
        return Err(ReplyTooLarge(limit).into());
    }
    read(caller, at, length)
}

fn memory(caller: &mut Caller<'_, CallState>) -> wasmtime::Result<Memory> {
    match caller.get_export("memory") {
        Some(Extern::Memory(memory)) => Ok(memory),
        _ => Err(wasmtime::Error::msg("it exports no memory")),
    }
}

/// The module's bytes in this range.
fn checked<'a>(
    caller: &'a mut Caller<'_, CallState>,
    at: u32,
    length: u32,
) -> wasmtime::Result<&'a mut [u8]> {
    let memory = memory(caller)?;
    let outside = || {
        let message = format!("{length} bytes at {at} are outside of its memory");
        wasmtime::Error::msg(message)
    };
    let (start, length_) = (usize::try_from(at)?, usize::try_from(length)?);
    let end = start.checked_add(length_).ok_or_else(outside)?;
    memory
        .data_mut(caller)
        .get_mut(start..end)
        .ok_or_else(outside)
}

fn read(caller: &mut Caller<'_, CallState>, at: u32, length: u32) -> wasmtime::Result<Vec<u8>> {
    Ok(checked(caller, at, length)?.to_vec())
}

fn write(caller: &mut Caller<'_, CallState>, at: u32, bytes: &[u8]) -> wasmtime::Result<()> {
    checked(caller, at, u32::try_from(bytes.len())?)?.copy_from_slice(bytes);
    Ok(())
}
