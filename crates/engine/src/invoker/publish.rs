//! Publishing: a reply becomes the value that observers see, and a GET is answered with it.

use std::sync::atomic::Ordering;

use http::{HeaderMap, Method, header};
use mote_core::body::Body;
use mote_core::error::Error;
use mote_core::invocation::{Invocation, InvocationId};
use mote_core::log::{Level, LogSink};
use mote_core::reply::Reply;

use crate::plan::Entry;
use crate::published::VALUE_BYTES_MAX;

/// Which value a reply becomes if the guest publishes it. Kept beside the invocation, which the
/// runtime consumes.
pub(super) struct Publication {
    path: String,
    query: Option<String>,
}

impl Publication {
    pub(super) fn of(invocation: &Invocation) -> Self {
        Self {
            path: invocation.meta.path().to_owned(),
            query: invocation.meta.query().map(str::to_owned),
        }
    }
}

/// A GET of an observable function that has a published value is answered with it (RFC 7641 §4.1:
/// what observers see and what a plain GET returns is the same resource).
pub(super) fn published_reply(entry: &Entry, invocation: &Invocation) -> Option<Reply> {
    if !entry.spec.observable || !matches!(invocation.meta.method, Method::GET | Method::HEAD) {
        return None;
    }
    let value = entry
        .state
        .published
        .get(invocation.meta.path(), invocation.meta.query())?;
    let mut headers = HeaderMap::new();
    if let Some(content_type) = &value.content_type {
        headers.insert(header::CONTENT_TYPE, content_type.clone());
    }
    let etag = format!("\"{:016x}\"", value.etag);
    headers.insert(
        header::ETAG,
        etag.try_into()
            .expect("quoted hexadecimal digits are a valid header"),
    );
    Some(Reply {
        headers,
        ..Reply::ok(value.body.clone())
    })
}

/// Publishes a reply whose function asked for it.
pub(super) async fn publish(
    entry: &Entry,
    id: InvocationId,
    publication: Option<Publication>,
    reply: Reply,
) -> Result<Reply, Error> {
    let Some(Publication { path, query }) = publication else {
        entry.state.log.line(
            id,
            Level::Warn,
            "published nothing: the function is not `observable = true`",
        );
        return Ok(reply);
    };
    if !reply.status.is_success() {
        entry.state.log.line(
            id,
            Level::Warn,
            "published nothing: only a 2xx reply can be published",
        );
        return Ok(reply);
    }
    let body = reply.body.collect(VALUE_BYTES_MAX).await?;
    let content_type = reply.headers.get(header::CONTENT_TYPE).cloned();
    let counters = &entry.state.counters;
    match entry
        .state
        .published
        .publish(&path, query.as_deref(), body.clone(), content_type)
    {
        Ok(true) => _ = counters.published.fetch_add(1, Ordering::Relaxed),
        Ok(false) => {}
        Err(error) => {
            counters.publish_refused.fetch_add(1, Ordering::Relaxed);
            entry
                .state
                .log
                .line(id, Level::Warn, &format!("published nothing: {error}"));
        }
    }
    Ok(Reply {
        body: Body::Bytes(body),
        ..reply
    })
}
