//! One CoAP endpoint: a UDP socket with one request in flight, which keeps the rules of RFC 7252 §4 for a client.
//!
//! A confirmable request is sent again after 2 to 3 s, doubled each time, four times at most (§4.8). Its response
//! comes in the acknowledgement, or later in a message of its own that is acknowledged in turn (§5.2). Responses are
//! matched by token, acknowledgements by message id (§5.3.2).
//! What does not fit one datagram goes block by block, each block with an id and a token of its own (see `transfer`).
//! A message id must not be used twice within four minutes between the same two endpoints (§4.4). A socket therefore
//! sends at most 65,536 messages and is then replaced by one with another port. Ids start at a place that moves with
//! the clock, so that a later run that gets the same port does not meet its own earlier ids; where it does all the
//! same, the server answers from its memory with an old token, and the request is sent afresh and counted.

mod message;
mod option;
pub(super) mod request;
mod transfer;

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use socket2::{Domain, Protocol, Socket, Type};

use super::client::{Client, Job, Lane};
use super::place::Place;
use super::plan::Plan;
use super::tally::Outcome;
use message::{Kind, Message};
use request::{Head, TOKEN_BYTES};
use transfer::{Step, Transfer};

/// RFC 7252 §4.8, MAX_RETRANSMIT.
const RETRANSMISSIONS_MAX: u32 = 4;
/// RFC 7252 §4.8, ACK_RANDOM_FACTOR: the first wait is up to this many times ACK_TIMEOUT.
const RANDOM_FACTOR: f64 = 1.5;
/// A server repeats a response for at most 93 s, but a client that ended its exchange hardly sees one.
const TOKENS_KNOWN: u32 = 16;
/// All ids of 16 bits.
const IDS: u32 = 1 << 16;
/// Together the sockets can hold at least this much, and each one the system's default.
const BUFFER_BYTES_TOTAL: usize = 1 << 20;
const BUFFER_BYTES_MIN: usize = 256 << 10;

/// One server and what to ask it.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) address: SocketAddr,
    head: Head,
    body: Vec<u8>,
}

impl Target {
    pub(super) fn new(address: SocketAddr, head: Head, body: Vec<u8>) -> Self {
        Self {
            address,
            head,
            body,
        }
    }
}

#[derive(Debug)]
pub(super) struct Endpoint {
    place: Place,
    plan: Arc<Plan>,
    target: Arc<Target>,
    socket: UdpSocket,
    /// The request sent last, with its id and token.
    request: Vec<u8>,
    /// Whether `request` is the only one that an exchange of this endpoint ever needs.
    fixed: bool,
    transfer: Transfer,
    /// Body of the request in flight in a chain, which is the last reply's.
    body: Vec<u8>,
    follows: bool,
    function: u32,
    id: u16,
    ids_left: u32,
    /// How many the last exchange took: its blocks must all come from one socket.
    ids_used: u32,
    token: u32,
    flight: Option<Flight>,
    random: fastrand::Rng,
}

#[derive(Debug)]
struct Flight {
    deadline: Instant,
    /// When to send again; none once acknowledged, or for NON.
    resend_at: Option<Instant>,
    wait: Duration,
    resent: u32,
}

impl Endpoint {
    pub(super) fn open(
        place: Place,
        plan: &Arc<Plan>,
        target: &Arc<Target>,
        lane: &Lane,
    ) -> Result<Self> {
        let socket = open_socket(target.address, plan.clients).with_context(|| {
            format!(
                "cannot open a socket to {}, is it a local route?",
                target.address
            )
        })?;
        lane.poller.watch(&socket, place)?;
        let mut random = fastrand::Rng::new();
        Ok(Self {
            place,
            plan: Arc::clone(plan),
            target: Arc::clone(target),
            socket,
            request: target.head.with(&[]),
            fixed: false,
            transfer: Transfer::new(),
            body: Vec::new(),
            follows: false,
            function: 0,
            id: first_id(),
            ids_left: IDS,
            ids_used: 0,
            token: random.u32(..),
            flight: None,
            random,
        })
    }

    /// Sends the request with a new id and a new token.
    fn send_fresh(&mut self, lane: &mut Lane, now: Instant, deadline: Instant) -> io::Result<()> {
        if self.ids_left == 0 {
            if self.ids_used > 0 {
                return Err(io::Error::other("more blocks than one socket has ids"));
            }
            self.replace_socket(lane)?;
        }
        self.ids_used += 1;
        self.ids_left -= 1;
        self.id = self.id.wrapping_add(1);
        self.token = self.token.wrapping_add(1);
        request::stamp(&mut self.request, self.id, self.token.to_be_bytes());
        let wait = self
            .plan
            .ack_timeout
            .mul_f64(1.0 + self.random.f64() * (RANDOM_FACTOR - 1.0));
        self.flight = Some(Flight {
            deadline,
            resend_at: self.plan.confirmable.then(|| now + wait),
            wait,
            resent: 0,
        });
        self.send()
    }

    fn replace_socket(&mut self, lane: &mut Lane) -> io::Result<()> {
        self.socket = open_socket(self.target.address, self.plan.clients)?;
        lane.poller.watch(&self.socket, self.place)?;
        lane.wire.connects += 1;
        self.ids_left = IDS;
        Ok(())
    }

    fn body(&self) -> &[u8] {
        if self.follows {
            &self.body
        } else {
            &self.target.body
        }
    }

    /// Makes `request` what the transfer needs next.
    fn write(&mut self) {
        let mut request = std::mem::take(&mut self.request);
        let (head, body) = (&self.target.head, self.body());
        if head.names_function() {
            let head = head.of_function(self.function);
            self.transfer.write(&head, body, &mut request);
        } else {
            self.transfer.write(head, body, &mut request);
        }
        self.request = request;
    }

    /// A full buffer loses the datagram, as the network may: retransmission is there for it.
    fn send(&self) -> io::Result<()> {
        match self.socket.send(&self.request) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(()),
        }
    }

    fn end(&mut self, outcome: Outcome) -> Outcome {
        self.flight = None;
        outcome
    }

    fn handle(&mut self, message: &Message<'_>, lane: &mut Lane, now: Instant) -> Option<Outcome> {
        let mine = message.id == self.id && self.flight.is_some();
        match message.kind {
            Kind::Reset => mine.then(|| self.end(Outcome::Transport)),
            Kind::Acknowledgement if !mine => None,
            Kind::Acknowledgement if message.code == 0 => {
                // RFC 7252 §5.2.2: the response comes by itself.
                if let Some(flight) = &mut self.flight {
                    flight.resend_at = None;
                }
                None
            }
            Kind::Acknowledgement if message.token != self.token_bytes() => {
                lane.wire.id_collisions += 1;
                let deadline = self.flight.as_ref()?.deadline;
                let sent = self.send_fresh(lane, now, deadline);
                sent.is_err().then(|| self.end(Outcome::Transport))
            }
            Kind::Acknowledgement => self.judge(message, lane, now),
            Kind::Confirmable => {
                // Tokens used lately stay known, so that a repeated response is acknowledged again.
                let known = message.is_response() && self.knows(message.token);
                let kind = if known {
                    Kind::Acknowledgement
                } else {
                    Kind::Reset
                };
                // A lost acknowledgement makes the server repeat its response.
                let _lost = self.socket.send(&message::empty(kind, message.id));
                if known {
                    self.judge(message, lane, now)
                } else {
                    None
                }
            }
            Kind::NonConfirmable if message.token == self.token_bytes() => {
                self.judge(message, lane, now)
            }
            Kind::NonConfirmable => None,
        }
    }

    fn judge(&mut self, message: &Message<'_>, lane: &mut Lane, now: Instant) -> Option<Outcome> {
        let deadline = self.flight.as_ref()?.deadline;
        if !message.is_response() || message.token != self.token_bytes() {
            return None;
        }
        let reply = match self.transfer.take(message, self.body().len()) {
            Step::Whole => message.payload,
            Step::Assembled => self.transfer.reply(),
            Step::Next => {
                self.fixed = false;
                self.write();
                let sent = self.send_fresh(lane, now, deadline);
                return sent.is_err().then(|| self.end(Outcome::Transport));
            }
            Step::Malformed => {
                lane.wire.malformed += 1;
                return Some(self.end(Outcome::Transport));
            }
            Step::Mixed => return Some(self.end(Outcome::WrongBody)),
        };
        let outcome = self.plan.expect.judge(message.status(), reply, self.body());
        if self.plan.chain > 1 {
            self.body = reply.to_vec();
        }
        Some(self.end(outcome))
    }

    /// Whether it is one of the last few tokens.
    fn knows(&self, token: &[u8]) -> bool {
        <[u8; TOKEN_BYTES]>::try_from(token)
            .is_ok_and(|token| self.token.wrapping_sub(u32::from_be_bytes(token)) < TOKENS_KNOWN)
    }

    fn token_bytes(&self) -> [u8; TOKEN_BYTES] {
        self.token.to_be_bytes()
    }
}

impl Client for Endpoint {
    fn begin(&mut self, lane: &mut Lane, job: Job) -> Option<Outcome> {
        self.follows = job.follows;
        self.function = job.function;
        if self.ids_left < self.ids_used && self.replace_socket(lane).is_err() {
            return Some(Outcome::Transport);
        }
        self.ids_used = 0;
        let length = self.body().len();
        let tag = self.token.wrapping_add(1);
        self.transfer.begin(length, self.plan.block_exponent, tag);
        if !self.fixed {
            self.write();
            // A body that fits one datagram is the same each time, until a reply comes in blocks.
            self.fixed = self.plan.chain == 1 && !self.target.head.names_function();
        }
        let sent = self.send_fresh(lane, job.now, job.deadline);
        sent.is_err().then(|| self.end(Outcome::Transport))
    }

    fn ready(&mut self, lane: &mut Lane, now: Instant) -> Option<Outcome> {
        let mut scratch = std::mem::take(&mut lane.scratch);
        let outcome = loop {
            match self.socket.recv(&mut scratch) {
                // Datagrams after the answer stay until the next one arrives: one call less for each request.
                Ok(length) => match Message::parse(&scratch[..length]) {
                    Some(message) => {
                        if let Some(outcome) = self.handle(&message, lane, now) {
                            break Some(outcome);
                        }
                    }
                    None => lane.wire.malformed += 1,
                },
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break None,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Nobody listens there (ICMP port unreachable).
                Err(_) => break self.flight.is_some().then(|| self.end(Outcome::Transport)),
            }
        };
        lane.scratch = scratch;
        outcome
    }

    fn wake(&mut self, lane: &mut Lane, now: Instant) -> Option<Outcome> {
        let flight = self.flight.as_mut()?;
        if flight.deadline <= now {
            return Some(self.end(Outcome::Timeout));
        }
        if flight.resend_at.is_none_or(|at| now < at) {
            return None;
        }
        if flight.resent == RETRANSMISSIONS_MAX {
            return Some(self.end(Outcome::Timeout));
        }
        flight.resent += 1;
        flight.wait *= 2;
        flight.resend_at = Some(now + flight.wait);
        lane.wire.retransmissions += 1;
        // The same bytes again: same id, same token.
        let sent = self.send();
        sent.is_err().then(|| self.end(Outcome::Transport))
    }

    fn next_wake(&self) -> Option<Instant> {
        let flight = self.flight.as_ref()?;
        Some(
            flight
                .resend_at
                .map_or(flight.deadline, |at| at.min(flight.deadline)),
        )
    }
}

/// Connected, so that the kernel drops what comes from elsewhere and reports a closed port.
fn open_socket(address: SocketAddr, clients: usize) -> io::Result<UdpSocket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::DGRAM,
        Some(Protocol::UDP),
    )?;
    let share = (BUFFER_BYTES_TOTAL / clients).max(BUFFER_BYTES_MIN);
    // The kernel lowers what exceeds its own limit, and one request in flight needs little.
    socket.set_recv_buffer_size(share)?;
    socket.set_nonblocking(true)?;
    socket.connect(&address.into())?;
    Ok(socket.into())
}

/// Moves on by 250 each second and comes back after 262 s, when RFC 7252 §4.8.2 (EXCHANGE_LIFETIME, 247 s) allows it.
fn first_id() -> u16 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let step = since.as_millis() / 4 % u128::from(IDS);
    u16::try_from(step).expect("a remainder of 2^16 fits 16 bits")
}
