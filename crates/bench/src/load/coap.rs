//! One CoAP endpoint: a UDP socket with one request in flight, which keeps the rules of RFC 7252 §4 for a client.
//!
//! A confirmable request is sent again after 2 to 3 s, doubled each time, four times at most (§4.8). Its response
//! comes in the acknowledgement, or later in a message of its own that is acknowledged in turn (§5.2). Responses are
//! matched by token, acknowledgements by message id (§5.3.2).
//! A message id must not be used twice within four minutes between the same two endpoints (§4.4). A socket therefore
//! sends at most 65,536 messages and is then replaced by one with another port. Ids start at a place that moves with
//! the clock, so that a later run that gets the same port does not meet its own earlier ids; where it does all the
//! same, the server answers from its memory with an old token, and the request is sent afresh and counted.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use socket2::{Domain, Protocol, Socket, Type};

use super::coap_message::{self, BODY_BYTES_MAX, Head, Kind, Message, TOKEN_BYTES};
use super::drive::{Client, Job, Lane};
use super::plan::Plan;
use super::tally::Outcome;

/// RFC 7252 §4.8, MAX_RETRANSMIT.
const RETRANSMISSIONS_MAX: u32 = 4;
/// RFC 7252 §4.8, ACK_RANDOM_FACTOR: the first wait is up to this many times ACK_TIMEOUT.
const RANDOM_FACTOR: f64 = 1.5;
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
    /// All of the request, without id and token.
    request: Vec<u8>,
}

impl Target {
    pub(super) fn new(address: SocketAddr, head: Head, body: &[u8]) -> Result<Self> {
        ensure!(
            body.len() <= BODY_BYTES_MAX,
            "body of {} bytes does not fit one datagram, use at most {BODY_BYTES_MAX}",
            body.len()
        );
        Ok(Self {
            address,
            request: head.with(body),
            head,
        })
    }
}

#[derive(Debug)]
pub(super) struct Endpoint {
    index: usize,
    plan: Arc<Plan>,
    target: Arc<Target>,
    socket: UdpSocket,
    /// The request of this endpoint, with the id and token of the last sending.
    request: Vec<u8>,
    /// Body of the last reply, when a chain goes on with it.
    body: Vec<u8>,
    id: u16,
    ids_left: u32,
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
        index: usize,
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
        lane.poller.watch(&socket, index)?;
        let mut random = fastrand::Rng::new();
        Ok(Self {
            index,
            plan: Arc::clone(plan),
            target: Arc::clone(target),
            socket,
            request: target.request.clone(),
            body: Vec::new(),
            id: first_id(),
            ids_left: IDS,
            token: random.u32(..),
            flight: None,
            random,
        })
    }

    /// Sends the request with a new id and a new token.
    fn send_fresh(&mut self, lane: &mut Lane, now: Instant, deadline: Instant) -> io::Result<()> {
        if self.ids_left == 0 {
            self.socket = open_socket(self.target.address, self.plan.clients)?;
            lane.poller.watch(&self.socket, self.index)?;
            lane.wire.connects += 1;
            self.ids_left = IDS;
        }
        self.ids_left -= 1;
        self.id = self.id.wrapping_add(1);
        self.token = self.token.wrapping_add(1);
        coap_message::stamp(&mut self.request, self.id, self.token.to_be_bytes());
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
            Kind::Acknowledgement => self.judge(message),
            Kind::Confirmable => {
                // The token of the last exchange stays known, so that a repeated response is acknowledged again.
                let known = message.is_response() && message.token == self.token_bytes();
                let kind = if known {
                    Kind::Acknowledgement
                } else {
                    Kind::Reset
                };
                // A lost acknowledgement makes the server repeat its response.
                let _lost = self.socket.send(&coap_message::empty(kind, message.id));
                if known { self.judge(message) } else { None }
            }
            Kind::NonConfirmable if message.token == self.token_bytes() => self.judge(message),
            Kind::NonConfirmable => None,
        }
    }

    fn judge(&mut self, message: &Message<'_>) -> Option<Outcome> {
        if self.flight.is_none() || !message.is_response() {
            return None;
        }
        if self.plan.chain > 1 {
            self.body.clear();
            self.body.extend_from_slice(message.payload);
        }
        let outcome = self.plan.expect.judge(message.status(), message.payload);
        Some(self.end(outcome))
    }

    fn token_bytes(&self) -> [u8; TOKEN_BYTES] {
        self.token.to_be_bytes()
    }
}

impl Client for Endpoint {
    fn begin(&mut self, lane: &mut Lane, job: Job) -> Option<Outcome> {
        if job.follows {
            self.target.head.write(&[], &self.body, &mut self.request);
        } else if self.plan.chain > 1 {
            self.request.clone_from(&self.target.request);
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
