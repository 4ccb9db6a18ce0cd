//! A call of a WASI preview-1 command: the body on standard input, the reply on standard output.
//!
//! The environment tells of the request as CGI does (RFC 3875 §4.1), headers as `HTTP_…`. Exit code
//! 0 is an answer, any other a failure; standard error goes to the log.

use std::pin::pin;
use std::sync::Arc;

use http::{HeaderValue, header};
use mote_core::error::{Error, ErrorKind};
use mote_core::invocation::Invocation;
use mote_core::reply::Reply;
use mote_core::runtime::CallContext;
use wasmtime::{Engine, InstancePre, Linker, Module};
use wasmtime_wasi::p2::pipe::{MemoryInputPipe, MemoryOutputPipe};
use wasmtime_wasi::{I32Exit, p1};

use super::failure::{ReplyTooLarge, guest_error};
use super::function::{BYTES, TEXT};
use super::prepared::{Loaded, Shard, checked_body};
use super::store::{Call, CallState, context};

/// A command that is linked.
pub(super) struct CommandPre(InstancePre<CallState>);

impl CommandPre {
    pub(super) fn new(engine: &Engine, module: &Module) -> wasmtime::Result<Self> {
        let mut linker = Linker::new(engine);
        p1::add_to_linker_async(&mut linker, |state: &mut CallState| {
            &mut **state
                .command
                .as_mut()
                .expect("a command's store is made with its context")
        })?;
        Ok(Self(linker.instantiate_pre(module)?))
    }
}

pub(super) async fn call(
    loaded: &Loaded,
    shard: &Shard,
    pre: &CommandPre,
    invocation: Invocation,
    context: CallContext,
) -> Result<Reply, Error> {
    let spec = &loaded.function.spec;
    let limit = usize::try_from(spec.limits.body_bytes).unwrap_or(usize::MAX);
    let body = invocation.body.collect(spec.limits.body_bytes).await?;
    let call = Call::new(invocation.id, invocation.meta, context, spec);
    let output = MemoryOutputPipe::new(limit);
    let mut store = loaded.fresh_store(shard, call)?;
    let command = command_context(store.data(), MemoryInputPipe::new(body), output.clone());
    store.data_mut().command = Some(Box::new(command));

    let meter = Arc::clone(&store.data().meter);
    let done = {
        let run = pin!(async {
            let instance = pre.0.instantiate_async(&mut store).await?;
            let start = instance.get_typed_func::<(), ()>(&mut store, "_start")?;
            start.call_async(&mut store, ()).await
        });
        meter.run(loaded.ticker(), shard.number, run).await
    };
    if let Err(error) = done {
        match error.downcast_ref::<I32Exit>() {
            Some(I32Exit(0)) => {}
            Some(I32Exit(code)) => {
                return Err(Error::new(
                    ErrorKind::FunctionFailed,
                    format!("the command ended with exit code {code}"),
                )
                .with_hint("its standard error is in the log: `mote logs`"));
            }
            None if output.contents().len() >= limit
                || error.to_string().contains("beyond capacity") =>
            {
                return Err(guest_error(
                    &ReplyTooLarge(spec.limits.body_bytes).into(),
                    None,
                ));
            }
            None => return Err(guest_error(&error, Some(store.data()))),
        }
    }
    drop(store);
    let bytes = output.try_into_inner().map(Vec::from).unwrap_or_default();
    let text = std::str::from_utf8(&bytes).is_ok();
    let mut reply = Reply::ok(checked_body(bytes, spec)?);
    reply.headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static(if text { TEXT } else { BYTES }),
    );
    Ok(reply)
}

fn command_context(
    state: &CallState,
    input: MemoryInputPipe,
    output: MemoryOutputPipe,
) -> p1::WasiP1Ctx {
    let meta = &state.call.meta;
    let mut builder = context(&state.spec, state.call.log());
    builder
        .stdin(input)
        .stdout(output)
        .arg(state.spec.name.function())
        .env("REQUEST_METHOD", meta.method.as_str())
        .env("PATH_INFO", meta.path())
        .env("QUERY_STRING", meta.query().unwrap_or_default())
        .env("MOTE_CALL_ID", state.call.id.to_string());
    for (name, value) in &meta.headers {
        let Ok(value) = value.to_str() else { continue };
        let name = name.as_str().to_ascii_uppercase().replace('-', "_");
        // A proxy's variable must not be set by a stranger (RFC 3875 leaves the trap open).
        if name == "PROXY" {
            continue;
        }
        if name == "CONTENT_TYPE" {
            builder.env(&name, value);
        }
        builder.env(format!("HTTP_{name}"), value);
    }
    builder.build_p1()
}
