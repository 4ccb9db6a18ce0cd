//! Published values as server-sent events (WHATWG HTML §9.2): what CoAP clients observe, for browsers.
//!
//! The stream begins with the current value, if there is one. A value that is text is sent as it
//! is; any other is an event named `binary` in hexadecimal digits.

use std::fmt::Write as _;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderValue, Method, Response, header};
use http_body::Frame;
use mote_core::error::Error;
use mote_core::invocation::{FunctionId, Meta};
use mote_engine::invoker::Invoker;
use mote_engine::published::{Published, Resource, Watch};
use tokio_util::sync::CancellationToken;

use super::reply::ReplyBody;

/// How often a silent stream shows that it is alive, so that a client that left is noticed.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Whether a request asks for events.
pub(super) fn wanted(meta: &Meta) -> bool {
    meta.method == Method::GET
        && meta.headers.get(header::ACCEPT).is_some_and(|accept| {
            accept.to_str().is_ok_and(|accept| {
                accept
                    .split(',')
                    .any(|range| range.trim().starts_with("text/event-stream"))
            })
        })
}

/// The stream of a path's published values.
pub(super) fn response(
    invoker: &Invoker,
    function: FunctionId,
    meta: &Meta,
    shutdown: &CancellationToken,
) -> Result<Response<ReplyBody>, Error> {
    let query = meta.query().map(str::to_owned);
    let resource = Resource {
        function,
        path: meta.path().to_owned(),
        query,
    };
    let watch = invoker.watch(&resource)?;
    let first = watch.current().map(|value| event(&value));
    let events = Events {
        first,
        next: next(watch, shutdown.clone()),
        shutdown: shutdown.clone(),
    };
    let mut response = Response::new(ReplyBody::stream(Box::pin(events), None));
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/event-stream"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

type Next = Pin<Box<dyn Future<Output = Option<(Bytes, Watch)>> + Send>>;

struct Events {
    first: Option<Bytes>,
    next: Next,
    shutdown: CancellationToken,
}

/// The next event; `None` when the function or the node goes.
fn next(mut watch: Watch, shutdown: CancellationToken) -> Next {
    Box::pin(async move {
        let changed = tokio::time::timeout(KEEP_ALIVE, watch.changed());
        let come = shutdown.run_until_cancelled(changed).await?;
        match come {
            Ok(Some(value)) => Some((event(&value), watch)),
            Ok(None) => None,
            Err(_) => Some((Bytes::from_static(b":\n\n"), watch)),
        }
    })
}

impl http_body::Body for Events {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        self.next.poll_unpin(cx).map(|come| {
            let (bytes, watch) = come?;
            self.next = next(watch, self.shutdown.clone());
            Some(Ok(Frame::data(bytes)))
        })
    }
}

fn event(value: &Published) -> Bytes {
    let mut text = format!("id: {}\n", value.sequence);
    match std::str::from_utf8(&value.body) {
        // A carriage return would end a line of the stream too.
        Ok(body) => body.split(['\n', '\r']).for_each(|line| {
            text.push_str("data: ");
            text.push_str(line);
            text.push('\n');
        }),
        Err(_) => {
            text.push_str("event: binary\ndata: ");
            value.body.iter().for_each(|byte| {
                write!(text, "{byte:02x}").expect("writing to a string does not fail")
            });
            text.push('\n');
        }
    }
    text.push('\n');
    Bytes::from(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(body: &'static [u8]) -> String {
        let value = Published {
            body: Bytes::from_static(body),
            content_type: None,
            sequence: 7,
            etag: 0,
        };
        String::from_utf8(event(&value).to_vec()).unwrap()
    }

    #[test]
    fn values_cannot_forge_events() {
        assert_eq!(rendered(b"on"), "id: 7\ndata: on\n\n");
        assert_eq!(
            rendered(b"a\nevent: x\rid: 9"),
            "id: 7\ndata: a\ndata: event: x\ndata: id: 9\n\n"
        );
        assert_eq!(
            rendered(&[0xff, 0x01]),
            "id: 7\nevent: binary\ndata: ff01\n\n"
        );
    }
}
