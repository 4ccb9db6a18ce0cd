//! Streams of HTTP/2 connections without TLS, begun with prior knowledge (RFC 9113 §3.3), often called h2c.
//!
//! A connection carries several streams, and each stream is a client with one request in flight. The protocol is the
//! `h2` crate's; it is polled from the load thread's own loop, whose timers are exact and whose accounting is the same
//! for all protocols. What would wake a task puts the stream's place on the thread's list instead, and the first stream
//! of a connection drives it. A connection that ends is replaced when the next request is due.

use std::future::Future;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use anyhow::Result;
use bytes::Bytes;
use h2::RecvStream;
use h2::client::{Builder, Connection, ResponseFuture, SendRequest};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::client::{Client, Job, Lane};
use super::http;
use super::place::Place;
use super::plan::Plan;
use super::tally::Outcome;

pub(super) mod request;

use request::Target;

/// As much as a server may send before it is told that it was taken: large bodies shall not wait for that.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
/// Enough for every body that a function may return.
const BODY_BYTES_MAX: usize = 64 << 20;

/// One stream at a time of one connection.
#[derive(Debug)]
pub(super) struct Stream {
    place: Place,
    plan: Arc<Plan>,
    target: Arc<Target>,
    link: Arc<Mutex<Link>>,
    waker: Waker,
    /// To begin a stream with; of the connection with this number.
    sender: Option<(u64, SendRequest<Bytes>)>,
    stage: Stage,
    /// Body of the request, and what has come of the reply.
    sent: Bytes,
    status: u16,
    reply: Vec<u8>,
    function: u32,
    deadline: Option<Instant>,
}

#[derive(Debug)]
enum Stage {
    Idle,
    /// The connection is not ready for one more stream.
    Opening,
    Head(ResponseFuture),
    Body(RecvStream),
}

impl Stream {
    /// The streams of one connection to `target`. It connects if that is `wanted` at the start.
    pub(super) fn open(
        first: Place,
        plan: &Arc<Plan>,
        target: &Arc<Target>,
        lane: &Lane,
        wanted: bool,
    ) -> Result<Vec<Self>> {
        let mut link = Link::new(first, target.address, lane);
        if wanted {
            link.begin(http::connect_now(target.address)?, lane)?;
        }
        let link = Arc::new(Mutex::new(link));
        let streams = (0..plan.streams).map(|stream| {
            let place = Place {
                client: first.client + stream,
                ..first
            };
            Self {
                place,
                plan: Arc::clone(plan),
                target: Arc::clone(target),
                link: Arc::clone(&link),
                waker: lane.woken.waker(place),
                sender: None,
                stage: Stage::Idle,
                sent: Bytes::new(),
                status: 0,
                reply: Vec::new(),
                function: 0,
                deadline: None,
            }
        });
        Ok(streams.collect())
    }

    fn link(&self) -> MutexGuard<'_, Link> {
        self.link
            .lock()
            .expect("only this thread locks it, and it would have ended")
    }

    /// Goes on as far as it can.
    fn progress(&mut self, lane: &mut Lane) -> Option<Outcome> {
        let waker = self.waker.clone();
        let mut ctx = Context::from_waker(&waker);
        loop {
            match &mut self.stage {
                Stage::Idle => return None,
                Stage::Opening => match self.send(&mut ctx) {
                    Poll::Pending => return None,
                    Poll::Ready(Some(response)) => self.stage = Stage::Head(response),
                    Poll::Ready(None) => return Some(self.end(Outcome::Transport)),
                },
                Stage::Head(response) => match Pin::new(response).poll(&mut ctx) {
                    Poll::Pending => return None,
                    Poll::Ready(Ok(response)) => {
                        self.status = response.status().as_u16();
                        self.stage = Stage::Body(response.into_body());
                    }
                    Poll::Ready(Err(error)) => return Some(self.fail(&error, lane)),
                },
                Stage::Body(body) => match body.poll_data(&mut ctx) {
                    Poll::Pending => return None,
                    Poll::Ready(Some(Ok(data))) => {
                        self.reply.extend_from_slice(&data);
                        // An error here shows again with the next poll.
                        let _told = body.flow_control().release_capacity(data.len());
                        if self.reply.len() > BODY_BYTES_MAX {
                            lane.wire.malformed += 1;
                            return Some(self.end(Outcome::Transport));
                        }
                    }
                    Poll::Ready(Some(Err(error))) => return Some(self.fail(&error, lane)),
                    Poll::Ready(None) => {
                        let expect = &self.plan.expect;
                        let outcome = expect.judge(self.status, &self.reply, &self.sent);
                        return Some(self.end(outcome));
                    }
                },
            }
        }
    }

    /// Sends the request once the connection takes it; nothing when that failed.
    fn send(&mut self, ctx: &mut Context<'_>) -> Poll<Option<ResponseFuture>> {
        let (number, sender) = {
            let mut link = self.link();
            match &link.phase {
                Phase::Closed => return Poll::Ready(None),
                Phase::Greeting(_) => {
                    link.waiting.push(ctx.waker().clone());
                    return Poll::Pending;
                }
                Phase::Open(_, sender) => match &self.sender {
                    Some((number, _)) if *number == link.number => (link.number, None),
                    _ => (link.number, Some(sender.clone())),
                },
            }
        };
        if let Some(sender) = sender {
            self.sender = Some((number, sender));
        }
        let Some((_, sender)) = &mut self.sender else {
            return Poll::Ready(None);
        };
        match sender.poll_ready(ctx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Err(_)) => return Poll::Ready(None),
            Poll::Ready(Ok(())) => {}
        }
        let Some(request) = self.target.request(self.function, self.sent.len()) else {
            return Poll::Ready(None);
        };
        let Ok((response, mut stream)) = sender.send_request(request, self.sent.is_empty()) else {
            return Poll::Ready(None);
        };
        // The crate keeps what the server has no room for yet.
        if !self.sent.is_empty() && stream.send_data(self.sent.clone(), true).is_err() {
            return Poll::Ready(None);
        }
        Poll::Ready(Some(response))
    }

    fn fail(&mut self, error: &h2::Error, lane: &mut Lane) -> Outcome {
        if !error.is_io() && !error.is_remote() {
            lane.wire.malformed += 1;
        }
        self.end(Outcome::Transport)
    }

    /// What is dropped while it is under way is cancelled at the server.
    fn end(&mut self, outcome: Outcome) -> Outcome {
        self.stage = Stage::Idle;
        self.deadline = None;
        outcome
    }
}

impl Client for Stream {
    fn begin(&mut self, lane: &mut Lane, job: Job) -> Option<Outcome> {
        self.sent = if job.follows {
            Bytes::from(std::mem::take(&mut self.reply))
        } else {
            self.target.body.clone()
        };
        self.reply.clear();
        self.function = job.function;
        self.deadline = Some(job.deadline);
        self.stage = Stage::Opening;
        let opened = self.link().ensure(lane);
        if opened.is_err() {
            return Some(self.end(Outcome::Transport));
        }
        self.progress(lane)
    }

    fn ready(&mut self, lane: &mut Lane, _now: Instant) -> Option<Outcome> {
        let mut link = self.link();
        if link.first == self.place {
            link.drive();
        }
        drop(link);
        self.progress(lane)
    }

    fn wake(&mut self, _lane: &mut Lane, now: Instant) -> Option<Outcome> {
        let late = self.deadline.is_some_and(|deadline| deadline <= now);
        late.then(|| self.end(Outcome::Timeout))
    }

    fn next_wake(&self) -> Option<Instant> {
        self.deadline
    }
}

/// A connection that streams share.
#[derive(Debug)]
struct Link {
    /// Whose place it is reported at.
    first: Place,
    address: SocketAddr,
    waker: Waker,
    phase: Phase,
    /// Counts connections, so that nobody uses an old one.
    number: u64,
    /// Who wants to begin a stream once it is open.
    waiting: Vec<Waker>,
}

enum Phase {
    Closed,
    /// Connecting, and writing what a connection begins with.
    Greeting(Greeting),
    Open(Box<Connection<Socket, Bytes>>, SendRequest<Bytes>),
}

type Greeting = Pin<
    Box<
        dyn Future<Output = Result<(SendRequest<Bytes>, Connection<Socket, Bytes>), h2::Error>>
            + Send,
    >,
>;

impl std::fmt::Debug for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Closed => "Closed",
            Self::Greeting(_) => "Greeting",
            Self::Open(..) => "Open",
        })
    }
}

impl Link {
    fn new(first: Place, address: SocketAddr, lane: &Lane) -> Self {
        Self {
            first,
            address,
            waker: lane.woken.waker(first),
            phase: Phase::Closed,
            number: 0,
            waiting: Vec::new(),
        }
    }

    /// Starts to connect if there is no connection.
    fn ensure(&mut self, lane: &mut Lane) -> io::Result<()> {
        if !matches!(self.phase, Phase::Closed) {
            return Ok(());
        }
        match http::connect(self.address) {
            Ok(socket) => {
                lane.wire.connects += 1;
                self.begin(socket, lane)
            }
            Err(error) => {
                lane.wire.no_port += u64::from(error.kind() == io::ErrorKind::AddrNotAvailable);
                Err(error)
            }
        }
    }

    fn begin(&mut self, socket: TcpStream, lane: &Lane) -> io::Result<()> {
        lane.poller.watch(&socket, self.first)?;
        let greeting = Builder::new()
            .enable_push(false)
            .initial_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .handshake(Socket(socket));
        self.phase = Phase::Greeting(Box::pin(greeting));
        self.number += 1;
        self.drive();
        Ok(())
    }

    /// Reads and writes what it can; the streams that it concerns are woken.
    fn drive(&mut self) {
        let waker = self.waker.clone();
        let mut ctx = Context::from_waker(&waker);
        if let Phase::Greeting(greeting) = &mut self.phase {
            self.phase = match greeting.as_mut().poll(&mut ctx) {
                Poll::Pending => return,
                Poll::Ready(Ok((sender, connection))) => Phase::Open(Box::new(connection), sender),
                Poll::Ready(Err(_)) => Phase::Closed,
            };
            for waiting in self.waiting.drain(..) {
                waiting.wake();
            }
        }
        if let Phase::Open(connection, _) = &mut self.phase
            && Pin::new(connection.as_mut()).poll(&mut ctx).is_ready()
        {
            self.phase = Phase::Closed;
        }
    }
}

/// Does not wait: the thread's poller reports when there is more to do.
#[derive(Debug)]
struct Socket(TcpStream);

fn now_or_later<T>(result: io::Result<T>) -> Poll<io::Result<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
        result => Poll::Ready(result),
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _ctx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        now_or_later(self.0.read(buffer.initialize_unfilled()))
            .map_ok(|length| buffer.advance(length))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _ctx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        now_or_later(self.0.write(bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        _ctx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        now_or_later(self.0.write_vectored(parts))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _ctx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _ctx: &mut Context<'_>) -> Poll<io::Result<()>> {
        now_or_later(self.0.shutdown(std::net::Shutdown::Write))
    }
}
