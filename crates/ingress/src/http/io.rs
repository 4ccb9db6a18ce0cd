//! A connection that gives up on a client that dawdles: that stays idle, that does not finish the
//! head of a request, or that does not read.
//!
//! Timers are set only when there is something to wait for, and one that is set already for an
//! earlier time is left alone: a connection under load looks at the clock and sets none.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};

/// How long a client may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// Between two requests.
    pub(super) idle: Duration,
    /// For the head of a request, from its first byte.
    pub(super) head: Duration,
    /// For making room in a full buffer.
    pub(super) unread: Duration,
}

/// What a connection does now; shared by the one that reads and the one that answers.
#[derive(Debug)]
pub(super) struct Activity {
    opened: Instant,
    requests: AtomicU32,
    /// When the last request ended, in milliseconds since the connection was opened.
    ended: AtomicU64,
    /// When the head of the next one began; 0 when it has not, [`JUST_NOW`] until somebody has to
    /// wait for the rest of it: most heads come in one piece, and need no look at the clock.
    began: AtomicU64,
    /// Until when the streams under way may last, 0 when there are none. hyper asks a stream for
    /// nothing while its client opens no HTTP/2 window, so nobody else would end those.
    streams_until: AtomicU64,
}

const FOR_EVER: u64 = u64::MAX;
const JUST_NOW: u64 = u64::MAX;

/// A request under way, until it is dropped.
#[derive(Debug)]
pub(super) struct UnderWay(Arc<Activity>);

impl Activity {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            opened: Instant::now(),
            requests: AtomicU32::new(0),
            ended: AtomicU64::new(0),
            began: AtomicU64::new(0),
            streams_until: AtomicU64::new(0),
        })
    }

    /// The head of a request is complete.
    pub(super) fn request(self: &Arc<Self>) -> UnderWay {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.began.store(0, Ordering::Relaxed);
        UnderWay(Arc::clone(self))
    }

    /// Bytes came. Only those between two requests matter: they begin a head.
    fn received(&self) {
        if self.requests.load(Ordering::Relaxed) == 0 && self.began.load(Ordering::Relaxed) == 0 {
            self.began.store(JUST_NOW, Ordering::Relaxed);
        }
    }

    /// When patience ends if nothing happens; `None` while a request is under way that has time.
    fn deadline(&self, patience: &Patience) -> Option<Instant> {
        if self.requests.load(Ordering::Relaxed) > 0 {
            let until = self.streams_until.load(Ordering::Relaxed);
            let late = until > 0 && self.now() > until;
            return late.then(|| self.opened + Duration::from_millis(until));
        }
        let (since, patience) = match self.began.load(Ordering::Relaxed) {
            0 => (self.ended.load(Ordering::Relaxed), patience.idle),
            JUST_NOW => {
                let now = self.now();
                self.began.store(now, Ordering::Relaxed);
                (now, patience.head)
            }
            began => (began, patience.head),
        };
        Some(self.opened + Duration::from_millis(since) + patience)
    }

    /// Never 0, which stands for "not yet".
    fn now(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_millis()).map_or(JUST_NOW - 1, |now| now.max(1))
    }
}

impl UnderWay {
    /// Says that its reply is a stream, and how long from now that may take.
    pub(super) fn lasts(&self, longest: Option<Duration>) {
        let longest = longest.and_then(|longest| u64::try_from(longest.as_millis()).ok());
        let until = longest.map_or(FOR_EVER, |longest| self.0.now().saturating_add(longest));
        self.0.streams_until.fetch_max(until, Ordering::Relaxed);
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.ended.store(self.0.now(), Ordering::Relaxed);
        if self.0.requests.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.streams_until.store(0, Ordering::Relaxed);
        }
    }
}

/// The connection.
pub(super) struct Guarded {
    stream: TokioIo<TcpStream>,
    patience: Patience,
    activity: Arc<Activity>,
    silent: Option<Pin<Box<Sleep>>>,
    unread: Option<Pin<Box<Sleep>>>,
}

impl Guarded {
    pub(super) fn new(stream: TcpStream, patience: Patience, activity: Arc<Activity>) -> Self {
        Self {
            stream: TokioIo::new(stream),
            patience,
            activity,
            silent: None,
            unread: None,
        }
    }

    /// Waits for bytes no longer than patience lasts.
    fn wait_for_bytes(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let idle = self.patience.idle;
        let Some(deadline) = self.activity.deadline(&self.patience) else {
            // Nobody may look here again when the request has ended, so time is kept meanwhile too.
            let start = || Box::pin(sleep_until(Instant::now() + idle));
            let silent = self.silent.get_or_insert_with(start);
            if silent.as_mut().poll(cx).is_ready() {
                silent.as_mut().reset(Instant::now() + idle);
                return silent.as_mut().poll(cx).map(Ok);
            }
            return Poll::Pending;
        };
        let silent = self
            .silent
            .get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if silent.deadline() > deadline {
            silent.as_mut().reset(deadline);
        }
        while silent.as_mut().poll(cx).is_ready() {
            if deadline <= Instant::now() {
                return Poll::Ready(Err(gave_up("the client sends nothing")));
            }
            // It was set for a request long done.
            silent.as_mut().reset(deadline);
        }
        Poll::Pending
    }

    fn watched<T>(
        &mut self,
        cx: &mut Context<'_>,
        poll: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if poll.is_ready() {
            self.unread = None;
            return poll;
        }
        let patience = self.patience.unread;
        let start = || Box::pin(sleep_until(Instant::now() + patience));
        match self.unread.get_or_insert_with(start).as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(gave_up("the client does not read"))),
            Poll::Pending => Poll::Pending,
        }
    }
}

fn gave_up(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, why)
}

impl Read for Guarded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.stream).poll_read(cx, buffer) {
            Poll::Ready(read) => {
                self.activity.received();
                Poll::Ready(read)
            }
            Poll::Pending => self.wait_for_bytes(cx),
        }
    }
}

impl Write for Guarded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.watched(cx, poll)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.stream).poll_flush(cx);
        self.watched(cx, poll)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.watched(cx, poll)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.watched(cx, poll)
    }
}
