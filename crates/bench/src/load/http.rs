//! One HTTP/1.1 connection that sends the same request again and again, or a new connection for each request.
//!
//! The request is a fixed string of bytes, so sending is one write and receiving mostly one read; only in a chain it
//! is put together anew, with the body of the last reply. A connection that
//! the server closes, that breaks or that did not answer in time is replaced when the next request is due; its
//! connecting counts into that request's latency, as it does for every client.

mod reply;
pub(super) mod request;

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use socket2::{Domain, Protocol, Socket, Type};

use super::client::{Client, Job, Lane};
use super::place::Place;
use super::plan::Plan;
use super::tally::Outcome;
use reply::{Reader, Reply};
use request::Head;

/// Before the run starts the server may be slow to accept a thousand connections.
const FIRST_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// One server and what to ask it.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) address: SocketAddr,
    pub(super) head: Head,
    /// All of the request.
    pub(super) request: Vec<u8>,
    body_bytes: usize,
}

impl Target {
    pub(super) fn new(address: SocketAddr, head: Head, body: &[u8]) -> Self {
        Self {
            address,
            request: head.with(body, 0),
            body_bytes: body.len(),
            head,
        }
    }

    fn body(&self) -> &[u8] {
        &self.request[self.request.len() - self.body_bytes..]
    }
}

#[derive(Debug)]
pub(super) struct Connection {
    place: Place,
    plan: Arc<Plan>,
    target: Arc<Target>,
    socket: Option<TcpStream>,
    reader: Reader,
    /// The request in flight when it is not the target's.
    own: Option<Vec<u8>>,
    /// Its body is `body`.
    follows: bool,
    written: usize,
    /// Body of the last reply, when a chain goes on with it.
    body: Vec<u8>,
    /// Set while a request is in flight.
    deadline: Option<Instant>,
}

impl Connection {
    /// Connects if it is `wanted` at the start, so that the run starts with open connections and a wrong address is
    /// found at once. Without keep-alive the connection has then shown what it is for.
    pub(super) fn open(
        place: Place,
        plan: &Arc<Plan>,
        target: &Arc<Target>,
        lane: &Lane,
        wanted: bool,
    ) -> Result<Self> {
        let mut socket = None;
        if wanted {
            let stream = connect_now(target.address)?;
            if plan.keep_alive {
                lane.poller.watch(&stream, place)?;
                socket = Some(stream);
            }
        }
        Ok(Self {
            place,
            plan: Arc::clone(plan),
            target: Arc::clone(target),
            socket,
            reader: Reader::new(plan.head_request),
            own: None,
            follows: false,
            written: 0,
            body: Vec::new(),
            deadline: None,
        })
    }

    fn progress(&mut self, lane: &mut Lane) -> Option<Outcome> {
        match self.exchange(lane) {
            Ok(None) => None,
            Ok(Some(reply)) => {
                let body = self.reader.body(&reply);
                let sent = if self.follows {
                    &self.body
                } else {
                    self.target.body()
                };
                let outcome = self.plan.expect.judge(reply.status, body, sent);
                if self.plan.chain > 1 {
                    self.body.clear();
                    self.body.extend_from_slice(body);
                }
                if !(reply.keep_alive && self.plan.keep_alive) {
                    self.socket = None;
                }
                self.deadline = None;
                Some(outcome)
            }
            Err(_) => Some(self.give_up(Outcome::Transport)),
        }
    }

    /// Writes what is left of the request and reads what is there of the reply.
    fn exchange(&mut self, lane: &mut Lane) -> io::Result<Option<Reply>> {
        let Some(socket) = &mut self.socket else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let request = self.own.as_ref().unwrap_or(&self.target.request);
        while self.written < request.len() {
            // A socket that is still connecting is not writable yet.
            match socket.write(&request[self.written..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => self.written += written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        loop {
            match socket.read(&mut lane.scratch) {
                Ok(0) => {
                    return match self.reader.end() {
                        Some(reply) => Ok(Some(reply)),
                        None => Err(io::ErrorKind::UnexpectedEof.into()),
                    };
                }
                Ok(length) => {
                    let fed = self.reader.feed(&lane.scratch[..length]);
                    let reply = fed.map_err(|malformed| {
                        lane.wire.malformed += 1;
                        io::Error::new(io::ErrorKind::InvalidData, malformed.0)
                    })?;
                    // The connection may have ended in the same event, which brings no second edge: read on
                    // unless the reply is whole.
                    if reply.is_some() {
                        return Ok(reply);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn give_up(&mut self, outcome: Outcome) -> Outcome {
        self.socket = None;
        self.deadline = None;
        outcome
    }

    /// Nobody asked for anything: the server closed the connection, or sent something that makes it useless.
    fn watch_idle(&mut self, lane: &mut Lane) {
        if let Some(socket) = &mut self.socket {
            match socket.read(&mut lane.scratch) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                _ => self.socket = None,
            }
        }
    }
}

impl Client for Connection {
    fn begin(&mut self, lane: &mut Lane, job: Job) -> Option<Outcome> {
        self.reader.reset();
        self.written = 0;
        self.deadline = Some(job.deadline);
        self.follows = job.follows;
        self.own = if job.follows {
            Some(self.target.head.with(&self.body, job.function))
        } else if self.target.head.names_function() {
            Some(self.target.head.with(self.target.body(), job.function))
        } else {
            None
        };
        if self.socket.is_none() {
            match connect(self.target.address) {
                Ok(socket) if lane.poller.watch(&socket, self.place).is_ok() => {
                    lane.wire.connects += 1;
                    self.socket = Some(socket);
                }
                Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => {
                    lane.wire.no_port += 1;
                    return Some(self.give_up(Outcome::Transport));
                }
                _ => return Some(self.give_up(Outcome::Transport)),
            }
        }
        // Nothing can have come back yet: leave the reading to the next event.
        let socket = self.socket.as_mut()?;
        match socket.write(self.own.as_ref().unwrap_or(&self.target.request)) {
            Ok(written) => {
                self.written = written;
                None
            }
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) =>
            {
                None
            }
            Err(_) => Some(self.give_up(Outcome::Transport)),
        }
    }

    fn ready(&mut self, lane: &mut Lane, _now: Instant) -> Option<Outcome> {
        if self.deadline.is_none() {
            self.watch_idle(lane);
            return None;
        }
        self.progress(lane)
    }

    fn wake(&mut self, _lane: &mut Lane, now: Instant) -> Option<Outcome> {
        let late = self.deadline.is_some_and(|deadline| deadline <= now);
        late.then(|| self.give_up(Outcome::Timeout))
    }

    fn next_wake(&self) -> Option<Instant> {
        self.deadline
    }
}

/// Connects before the run starts.
pub(super) fn connect_now(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, FIRST_CONNECT_TIMEOUT)
        .with_context(|| format!("cannot connect to {address}, is the server running?"))?;
    stream.set_nonblocking(true)?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Starts connecting without waiting for it.
pub(super) fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    match socket.connect(&address.into()) {
        Err(error)
            if error.raw_os_error() != Some(rustix::io::Errno::INPROGRESS.raw_os_error()) =>
        {
            Err(error)
        }
        _ => Ok(socket.into()),
    }
}
