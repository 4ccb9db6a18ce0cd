//! One HTTP/1.1 connection to a program, driven by whoever uses it.
//!
//! No task of its own: the call's future, and later the reply's body, poll the connection. So a
//! call costs no hop between tasks, and dropping it closes the connection there and then.

use std::error::Error as _;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body as _, Frame};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use mote_core::body::Body;
use mote_core::error::{Error, ErrorKind};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::body::RequestBody;
use super::stream::Stream;

/// Most bytes of a reply's head; the most that is read at once, as well.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// Most interim replies (RFC 9110 §15.2) before the one that counts.
const INTERIM_MAX: u64 = 32;

/// A connection, and the halves of it that hyper hands out.
pub(super) struct Connection {
    sender: http1::SendRequest<RequestBody>,
    driver: Box<http1::Connection<TokioIo<Metered>, RequestBody>>,
    meter: Arc<Meter>,
    /// The driver is done: there is nothing more to come.
    ended: bool,
    /// Exchanges that went well.
    served: u32,
}

/// Why a request got no reply.
pub(super) enum Failure {
    /// Nothing of it was written; here it is again.
    Unsent(Box<Request<RequestBody>>),
    /// It broke after that. `untouched`: without a byte of an answer.
    Broken { error: Error, untouched: bool },
}

impl Connection {
    pub(super) async fn open(stream: Stream) -> Result<Self, Error> {
        let broken =
            |error: &dyn std::fmt::Display| failed(format!("cannot talk to the program: {error}"));
        stream.set_nodelay().map_err(|error| broken(&error))?;
        let meter = Arc::new(Meter::default());
        let io = Metered {
            stream,
            meter: Arc::clone(&meter),
        };
        let (sender, driver) = http1::Builder::new()
            .max_buf_size(HEAD_BYTES_MAX)
            .handshake(TokioIo::new(io))
            .await
            .map_err(|error| broken(&error))?;
        Ok(Self {
            sender,
            driver: Box::new(driver),
            meter,
            ended: false,
            served: 0,
        })
    }

    /// Sends a request and waits for the head of its reply.
    pub(super) async fn send(
        &mut self,
        mut request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, Failure> {
        self.meter.read.store(0, Ordering::Relaxed);
        self.meter.interim.store(0, Ordering::Relaxed);
        let meter = Arc::clone(&self.meter);
        hyper::ext::on_informational(&mut request, move |_| {
            meter.interim.fetch_add(1, Ordering::Relaxed);
        });
        let mut response = std::pin::pin!(self.sender.try_send_request(request));
        let (driver, ended) = (&mut self.driver, &mut self.ended);
        let sent = std::future::poll_fn(|cx| {
            if !*ended {
                // What went wrong with the connection, the response tells.
                *ended = Pin::new(&mut **driver).poll(cx).is_ready();
            }
            response.as_mut().poll(cx)
        });
        let mut error = match sent.await {
            Ok(response) => return Ok(response),
            Err(error) => error,
        };
        if let Some(request) = error.take_message() {
            return Err(Failure::Unsent(Box::new(request)));
        }
        let untouched = self.meter.read.load(Ordering::Relaxed) == 0;
        let error = describe(&error.into_error(), untouched);
        Err(Failure::Broken { error, untouched })
    }

    /// The next piece of a reply's body.
    pub(super) fn poll_frame(
        &mut self,
        body: &mut Incoming,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        // Asking for a piece is what makes the driver read one.
        let mut frame = Pin::new(&mut *body).poll_frame(cx);
        if frame.is_pending() && !self.ended {
            self.ended = Pin::new(&mut *self.driver).poll(cx).is_ready();
            frame = Pin::new(body).poll_frame(cx);
        }
        let frame = ready!(frame);
        let broken = |error: hyper::Error| describe(&error, false);
        Poll::Ready(frame.map(|frame| frame.map_err(broken)))
    }

    /// After a whole exchange: whether it can serve another.
    pub(super) fn settle(&mut self, cx: &mut Context<'_>) -> bool {
        self.served = self.served.saturating_add(1);
        self.is_ready(cx)
    }

    /// Before a new exchange, after so much time: whether the other side kept it open as well.
    pub(super) async fn is_open(&mut self, waited: Duration) -> bool {
        // What the runtime knows may be one turn old. That matters for a program that closes after
        // each reply without a word; one that did not, twice, needs no further question.
        let ask = self.served <= TRUSTED_AFTER || waited >= TRUSTED_FOR;
        self.meter.ask_kernel.store(ask, Ordering::Relaxed);
        let open = std::future::poll_fn(|cx| Poll::Ready(self.is_ready(cx))).await;
        self.meter.ask_kernel.store(false, Ordering::Relaxed);
        open
    }

    fn is_ready(&mut self, cx: &mut Context<'_>) -> bool {
        if !self.ended {
            self.ended = Pin::new(&mut *self.driver).poll(cx).is_ready();
        }
        !self.ended && self.sender.is_ready()
    }
}

/// So many exchanges show that a program keeps its connections open.
const TRUSTED_AFTER: u32 = 2;
/// For so long after an exchange.
const TRUSTED_FOR: Duration = Duration::from_millis(10);

/// What passed through a connection since its last request began.
#[derive(Default)]
struct Meter {
    read: AtomicU64,
    interim: AtomicU64,
    /// The next read is to ask the kernel first.
    ask_kernel: AtomicBool,
}

struct Metered {
    stream: Stream,
    meter: Arc<Meter>,
}

impl AsyncRead for Metered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let meter = &this.meter;
        // No data is the end of the stream.
        if meter.ask_kernel.swap(false, Ordering::Relaxed) && this.stream.is_spoilt() {
            return Poll::Ready(Ok(()));
        }
        if meter.interim.load(Ordering::Relaxed) > INTERIM_MAX {
            return Poll::Ready(Err(io::Error::other(Flood)));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
        let read = (buf.filled().len() - before) as u64;
        meter.read.fetch_add(read, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Metered {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[derive(Debug)]
struct Flood;

impl std::fmt::Display for Flood {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "the program sent more than {INTERIM_MAX} interim replies"
        )
    }
}

impl std::error::Error for Flood {}

/// What went wrong, for people.
fn describe(error: &hyper::Error, untouched: bool) -> Error {
    let mut cause = error.source();
    while let Some(inner) = cause {
        // A request whose body broke off has its own reason.
        if let Some(error) = inner.downcast_ref::<Error>() {
            return error.clone();
        }
        if let Some(io) = inner.downcast_ref::<io::Error>()
            && io.get_ref().is_some_and(|inner| inner.is::<Flood>())
        {
            return failed(Flood.to_string());
        }
        cause = inner.source();
    }
    if error.is_parse_too_large() {
        return failed(format!(
            "the reply's head is larger than {HEAD_BYTES_MAX} bytes"
        ));
    }
    if error.is_parse() {
        return failed(format!("the program's reply is not HTTP/1.1: {error}"));
    }
    let closed = error.is_incomplete_message() || error.is_canceled() || error.is_closed();
    if closed || is_reset(error) {
        return failed(if untouched {
            "the program closed the connection without a reply"
        } else {
            "the program closed the connection in the middle of its reply"
        });
    }
    let reason = error.source().map(|source| format!(": {source}"));
    failed(format!(
        "the connection to the program broke: {error}{}",
        reason.unwrap_or_default()
    ))
}

fn is_reset(error: &hyper::Error) -> bool {
    let io = error
        .source()
        .and_then(|source| source.downcast_ref::<io::Error>());
    io.is_some_and(|io| {
        matches!(
            io.kind(),
            io::ErrorKind::ConnectionReset
                | io::ErrorKind::BrokenPipe
                | io::ErrorKind::UnexpectedEof
        )
    })
}

pub(super) fn failed(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::FunctionFailed, message)
}

/// A body without a byte.
pub(super) fn no_body() -> RequestBody {
    RequestBody::new(Body::empty(), 0)
}
