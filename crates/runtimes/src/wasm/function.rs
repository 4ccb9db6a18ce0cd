//! A call of a component of our own world: bytes in, bytes out.

use std::pin::pin;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue, StatusCode, header};
use mote_core::body::Body;
use mote_core::error::Error;
use mote_core::invocation::Invocation;
use mote_core::log::Level;
use mote_core::reply::Reply;
use mote_core::runtime::CallContext;

use super::failure::guest_error;
use super::prepared::{Guest, Loaded, Shard, Warm, checked_body};
use super::store::{Call, CallState};
use super::world::FunctionPre;

pub(super) async fn call(
    loaded: &Loaded,
    shard: &Shard,
    pre: &FunctionPre<CallState>,
    invocation: Invocation,
    context: CallContext,
) -> Result<Reply, Error> {
    let spec = &loaded.function.spec;
    let body = invocation.body.collect(spec.limits.body_bytes).await?;
    let call = Call::new(invocation.id, invocation.meta, context, spec);
    let (mut store, warm) = loaded.store(shard, call)?;
    let meter = Arc::clone(&store.data().meter);
    let done = {
        let run = pin!(async {
            let (guest, calls) = match warm {
                Some((Guest::Function(guest), calls)) => (guest, calls),
                _ => (pre.instantiate_async(&mut store).await?, 0),
            };
            let result = guest.call_handle(&mut store, &body).await?;
            Ok((result, guest, calls + 1))
        });
        meter.run(loaded.ticker(), shard.number, run).await
    };
    let (result, guest, calls) = done.map_err(|error| guest_error(&error, Some(store.data())))?;
    let reply = match result {
        Ok(bytes) => answer(store.data_mut(), checked_body(bytes, spec)?),
        Err(reason) => {
            store.data().call.log().line(Level::Error, &reason);
            refusal(checked_body(reason.into_bytes(), spec)?)
        }
    };
    if spec.reuse > 1 {
        loaded.keep(
            shard,
            Warm {
                store,
                guest: Guest::Function(guest),
                calls,
            },
        );
    }
    Ok(reply)
}

fn answer(state: &mut CallState, body: Body) -> Reply {
    let mut headers = std::mem::take(&mut state.call.headers);
    if !headers.contains_key(header::CONTENT_TYPE)
        && let Body::Bytes(bytes) = &body
        && !bytes.is_empty()
    {
        let text = std::str::from_utf8(bytes).is_ok();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static(if text { TEXT } else { BYTES }),
        );
    }
    Reply {
        status: state.call.status,
        headers,
        body,
        publish: state.call.publish,
    }
}

/// The guest says that it could not answer, and why.
fn refusal(reason: Body) -> Reply {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(TEXT));
    Reply {
        status: StatusCode::INTERNAL_SERVER_ERROR,
        headers,
        body: reason,
        publish: false,
    }
}

/// What a body is that the guest says nothing about: text if it is text.
pub(super) const TEXT: &str = "text/plain; charset=utf-8";
pub(super) const BYTES: &str = "application/octet-stream";
