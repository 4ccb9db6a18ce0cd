//! The protocol of one shard as a state machine without I/O: what comes in and the time are
//! arguments, what goes out is written to an [`Output`].
//!
//! The path of a request: [`Endpoint::datagram`] reads the message, asks the guard and the table of
//! known requests, and routes it (`route`). What needs a function leaves as a [`Call`], and comes
//! back through [`Endpoint::answered`], is rendered (`render`) and delivered: piggybacked if it
//! was quick, as a separate response otherwise. Published values go to observers (`notify`).

mod notify;
mod outbox;
mod render;
mod route;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;

use bytes::Bytes;
use foldhash::quality::RandomState;
use hashbrown::HashMap;
use http::{HeaderMap, StatusCode};
use mote_core::error::Error;
use mote_core::invocation::Invocation;

pub use self::outbox::Outbox;
use crate::coap::block::{Assemblies, Block, Transfers};
use crate::coap::counters::Counters;
use crate::coap::dedup::{Facts, Replies};
use crate::coap::echo::Guard;
use crate::coap::exchange::{Due, Exchanges, MessageIds, Purpose};
use crate::coap::functions::Functions;
use crate::coap::message::{Code, Header, Kind, Malformed, Message, option, write_empty};
use crate::coap::observe::{Observer, ObserverKey, Observers};
use crate::coap::response::Response;
use crate::coap::{Bounds, Peer, Time, block};

/// What a state machine is made with. Bounds are those of this shard alone.
#[derive(Debug)]
pub struct Settings {
    /// When an empty acknowledgement goes ahead of a response.
    pub separate_after: Time,
    /// Largest block.
    pub block_size: u16,
    /// What may be held.
    pub bounds: Bounds,
    /// Bytes for [`Facts`].
    pub facts_bytes: usize,
    /// Who may be answered.
    pub guard: Guard,
    /// Makes ids and timeouts unpredictable.
    pub seed: u64,
}

/// What the state machine wants done.
#[derive(Debug, Default)]
pub struct Output {
    /// Datagrams to send.
    pub sends: Outbox,
    /// Calls to run.
    pub calls: Vec<Call>,
}

/// A call to run; its answer is given back with its key.
#[derive(Debug)]
pub struct Call {
    /// Names it.
    pub key: u64,
    /// What to run.
    pub invocation: Invocation,
    /// Largest reply.
    pub body_bytes: u64,
}

/// What a function answered, with its whole body.
#[derive(Debug, Default)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

/// The state of one shard.
#[derive(Debug)]
pub struct Endpoint {
    separate_after: Time,
    exponent: u8,
    calls_max: usize,
    hasher: RandomState,
    guard: Guard,
    facts: Facts,
    replies: Replies,
    calls: HashMap<u64, Pending, foldhash::fast::FixedState>,
    /// When calls that still run are acknowledged.
    acknowledge: BTreeSet<(Time, u64)>,
    exchanges: Exchanges,
    ids: MessageIds,
    assemblies: Assemblies,
    transfers: Transfers,
    observers: Observers,
    counters: Arc<Counters>,
    dedup_bytes: usize,
    closing: bool,
}

/// A call under way, with what is needed to answer it.
#[derive(Clone, Copy, Debug)]
struct Pending {
    origin: From,
    accept: Option<u16>,
    block1: Option<Block>,
    block2: Option<Block>,
    /// The key of its block-wise transfers.
    transfer: u64,
    /// Whether the answer is the first for an observer.
    observes: bool,
    /// When an empty acknowledgement is due, and whether it was sent.
    due: Option<Time>,
    acknowledged: bool,
}

/// Where a request came from.
#[derive(Clone, Copy, Debug)]
struct From {
    peer: Peer,
    /// Hash of the peer.
    peer_hash: u64,
    header: Header,
    /// Classes of responses that are not wanted.
    unwanted: u32,
}

impl Endpoint {
    /// A fresh state machine.
    pub fn new(now: Time, settings: Settings, counters: Arc<Counters>) -> Self {
        let bounds = settings.bounds;
        Self {
            separate_after: settings.separate_after,
            exponent: block::exponent(settings.block_size),
            calls_max: bounds.calls,
            hasher: RandomState::default(),
            guard: settings.guard,
            facts: Facts::new(now, settings.facts_bytes),
            replies: Replies::new(bounds.replies_bytes),
            calls: HashMap::default(),
            acknowledge: BTreeSet::new(),
            exchanges: Exchanges::new(bounds.exchanges, settings.seed),
            ids: MessageIds::new(settings.seed),
            assemblies: Assemblies::new(bounds.uploads),
            transfers: Transfers::new(bounds.transfers),
            observers: Observers::new(bounds.observers),
            counters,
            dedup_bytes: 0,
            closing: false,
        }
    }

    /// Takes a datagram. Time never goes back from one call to the next.
    pub fn datagram(
        &mut self,
        now: Time,
        peer: Peer,
        bytes: &[u8],
        functions: &mut dyn Functions,
        out: &mut Output,
    ) {
        self.counters.datagrams_in.add_one();
        let message = match Message::parse(bytes) {
            Ok(message) => message,
            Err(refused) => {
                self.counters.malformed.add_one();
                if let Malformed::Reset(id) = refused {
                    out.sends
                        .send(peer, |buffer| write_empty(buffer, Kind::Reset, id));
                }
                return;
            }
        };
        let header = message.header;
        match (header.kind, header.code.class()) {
            (Kind::Confirmable, _) if header.code == Code::EMPTY => {
                // A ping (RFC 7252 §4.3).
                out.sends
                    .send(peer, |buffer| write_empty(buffer, Kind::Reset, header.id));
            }
            (Kind::Confirmable | Kind::NonConfirmable, 0) if header.code != Code::EMPTY => {
                self.request(now, peer, bytes, message, functions, out);
            }
            (Kind::Acknowledgement, _) => {
                if let Some(purpose) = self.exchanges.end(peer, header.id) {
                    self.acknowledged(now, &purpose, functions, out);
                }
            }
            (Kind::Reset, _) => {
                if let Some(Purpose::Notification(key)) = self.exchanges.end(peer, header.id) {
                    self.cancel(key, functions);
                }
            }
            (kind, _) => {
                // Responses that nobody asked for, and reserved classes (§4.2, §4.3).
                self.counters.malformed.add_one();
                if kind == Kind::Confirmable {
                    out.sends
                        .send(peer, |buffer| write_empty(buffer, Kind::Reset, header.id));
                }
            }
        }
    }

    /// Takes a datagram of which only the beginning was received, because it is larger than any that
    /// the door takes (RFC 7252 §4.6).
    pub fn oversized(&mut self, peer: Peer, bytes: &[u8], out: &mut Output) {
        self.counters.datagrams_in.add_one();
        self.counters.refused_datagrams.add_one();
        let Ok((header, _)) = Header::parse(bytes) else {
            return;
        };
        let is_request = header.code.class() == 0 && header.code != Code::EMPTY;
        if !is_request || !matches!(header.kind, Kind::Confirmable | Kind::NonConfirmable) {
            return;
        }
        let peer_hash = self.hasher.hash_one(peer);
        let origin = From {
            peer,
            peer_hash,
            header,
            unwanted: 0,
        };
        let text = "the datagram is too large; send the body block by block";
        let response = Response::diagnostic(Code::TOO_LARGE, text);
        self.respond(&origin, &response, out);
    }

    /// Says that a call was not done at once. It is acknowledged after a while.
    pub fn still_running(&mut self, now: Time, key: u64) {
        let Some(pending) = self.calls.get_mut(&key) else {
            return;
        };
        if pending.origin.header.kind == Kind::Confirmable && pending.due.is_none() {
            let due = now + self.separate_after;
            pending.due = Some(due);
            self.acknowledge.insert((due, key));
        }
    }

    /// Takes the answer of a call.
    pub fn answered(
        &mut self,
        now: Time,
        key: u64,
        result: Result<Answer, Error>,
        functions: &mut dyn Functions,
        out: &mut Output,
    ) {
        let Some(pending) = self.calls.remove(&key) else {
            return;
        };
        if let Some(due) = pending.due {
            self.acknowledge.remove(&(due, key));
        }
        let mut response = self.render(now, &pending, result);
        response.block1 = pending.block1;
        if pending.observes {
            self.first_answer(now, key, &pending, response, functions, out);
        } else {
            self.deliver(now, key, &pending, &response, out);
        }
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Time, functions: &mut dyn Functions, out: &mut Output) {
        self.facts.advance(now);
        self.replies.advance(now);
        self.assemblies.advance(now);
        self.transfers.advance(now);
        while let Some((due, key)) = self.acknowledge.first().copied() {
            if due > now {
                break;
            }
            self.acknowledge.pop_first();
            self.acknowledge_first(now, key, out);
        }
        while let Some(due) = self.exchanges.take_due(now) {
            match due {
                Due::Resend(peer, datagram) => {
                    self.counters.retransmissions.add_one();
                    out.sends
                        .send(peer, |buffer| buffer.extend_from_slice(&datagram));
                }
                Due::GivenUp(purpose) => {
                    self.counters.given_up.add_one();
                    // Nobody is there any more (RFC 7641 §4.5).
                    if let Purpose::Notification(key) = purpose {
                        self.cancel(key, functions);
                    }
                }
            }
        }
        self.count_dedup_bytes();
    }

    /// When [`tick`](Self::tick) has something to do next.
    pub fn due(&self) -> Option<Time> {
        let dues = [
            self.facts.due(),
            self.replies.due(),
            self.assemblies.due(),
            self.transfers.due(),
            self.acknowledge.first().map(|(due, _)| *due),
            self.exchanges.due(),
        ];
        dues.into_iter().flatten().min()
    }

    /// Takes no new requests from now on, and tells observers.
    pub fn close(&mut self, functions: &mut dyn Functions, out: &mut Output) {
        self.closing = true;
        self.dismiss_observers(functions, out);
    }

    /// Calls that still run.
    pub fn calls_under_way(&self) -> usize {
        self.calls.len()
    }

    /// Messages that still wait for an acknowledgement.
    pub fn exchanges_under_way(&self) -> usize {
        self.exchanges.count()
    }

    /// The guard, the known requests, and then [`route`](Self::route).
    fn request(
        &mut self,
        now: Time,
        peer: Peer,
        bytes: &[u8],
        message: Message<'_>,
        functions: &mut dyn Functions,
        out: &mut Output,
    ) {
        let echo = message.values(option::ECHO).next();
        if !self.guard.admits(now, peer, echo) {
            return self.challenge(now, peer, bytes.len(), message.header, out);
        }
        let peer_hash = self.hasher.hash_one(peer);
        let key = self.key(peer_hash, bytes);
        let origin = From {
            peer,
            peer_hash,
            header: message.header,
            unwanted: 0,
        };
        self.facts.advance(now);
        if self.facts.contains(key) {
            return self.duplicate(key, &origin, out);
        }
        if let Some(response) = self.route(now, key, origin, message, functions, out) {
            self.respond(&origin, &response, out);
        }
    }

    /// The hash that a request is known by.
    fn key(&self, peer_hash: u64, datagram: &[u8]) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write_u64(peer_hash);
        hasher.write(datagram);
        hasher.finish()
    }

    /// Asks an endpoint that could be forged to show itself (RFC 9175 §2.3): an answer of at most
    /// three times the request's size (§2.4), or none if that is too little.
    fn challenge(&mut self, now: Time, peer: Peer, size: usize, header: Header, out: &mut Output) {
        self.counters.challenged.add_one();
        let response = Response {
            echo: Some(self.guard.challenge(now, peer)),
            ..Response::new(Code::UNAUTHORIZED)
        };
        let reply_size = 4 + header.token.as_slice().len() + 2 + 12;
        if reply_size > 3 * size {
            return;
        }
        let peer_hash = self.hasher.hash_one(peer);
        let origin = From {
            peer,
            peer_hash,
            header,
            unwanted: 0,
        };
        self.respond(&origin, &response, out);
    }

    /// A copy of a request that was accepted: the same reply again, nothing while it still runs and
    /// is not acknowledged yet, and a refusal if the reply is forgotten (RFC 7252 §4.2, §4.5).
    fn duplicate(&mut self, key: u64, origin: &From, out: &mut Output) {
        self.counters.duplicates.add_one();
        if let Some(datagram) = self.replies.get(key) {
            out.sends
                .send(origin.peer, |buffer| buffer.extend_from_slice(datagram));
        } else if !self.calls.contains_key(&key) {
            self.counters.refused_reply_gone.add_one();
            let response =
                Response::unavailable("the reply to this message is forgotten; send a new one");
            self.respond(origin, &response, out);
        }
    }

    /// Sends a response that needed no function, and remembers nothing.
    fn respond(&mut self, origin: &From, response: &Response, out: &mut Output) {
        let header = match origin.header.kind {
            Kind::Confirmable => Header {
                kind: Kind::Acknowledgement,
                code: response.code,
                ..origin.header
            },
            _ => Header {
                kind: Kind::NonConfirmable,
                code: response.code,
                id: self.ids.next(origin.peer_hash),
                ..origin.header
            },
        };
        out.sends
            .send(origin.peer, |buffer| response.write(buffer, &header));
    }

    /// Sends the response of a call, and keeps it for copies of the request. Returns the message id
    /// of a separate response.
    fn deliver(
        &mut self,
        now: Time,
        key: u64,
        pending: &Pending,
        response: &Response,
        out: &mut Output,
    ) {
        let origin = &pending.origin;
        let header = Header {
            code: response.code,
            ..origin.header
        };
        // RFC 7967 §2: the classes that the client does not want; a request is acknowledged anyway.
        let class = u32::from(response.code.class());
        let unwanted = origin.unwanted & (1 << (class - 1)) != 0;
        let sent = match (header.kind, pending.acknowledged) {
            (Kind::Confirmable, false) if unwanted => out.sends.send(origin.peer, |buffer| {
                write_empty(buffer, Kind::Acknowledgement, header.id)
            }),
            _ if unwanted => return,
            (Kind::Confirmable, false) => {
                let header = Header {
                    kind: Kind::Acknowledgement,
                    ..header
                };
                out.sends
                    .send(origin.peer, |buffer| response.write(buffer, &header))
            }
            (Kind::Confirmable, true) => {
                return self.send_confirmable(now, origin, header, response, out);
            }
            _ => {
                let id = self.ids.next(origin.peer_hash);
                out.sends.send(origin.peer, |buffer| {
                    response.write(buffer, &Header { id, ..header })
                })
            }
        };
        self.replies.insert(now, key, sent);
    }

    /// A separate response (RFC 7252 §5.2.2). Copies of the request go on to be answered by the empty
    /// acknowledgement; the response itself is sent again until it is acknowledged.
    fn send_confirmable(
        &mut self,
        now: Time,
        origin: &From,
        header: Header,
        response: &Response,
        out: &mut Output,
    ) {
        let (kind, id) = self.fresh_message(origin.peer, origin.peer_hash);
        let header = Header { kind, id, ..header };
        let sent = out
            .sends
            .send(origin.peer, |buffer| response.write(buffer, &header));
        if kind == Kind::Confirmable {
            self.exchanges
                .sent(now, origin.peer, id, sent, Purpose::Response);
        }
    }

    /// An id for a message of our own, which is confirmable while there is room to follow it.
    fn fresh_message(&mut self, peer: Peer, peer_hash: u64) -> (Kind, u16) {
        let mut id = self.ids.next(peer_hash);
        if self.exchanges.is_full() {
            self.counters.refused_exchanges.add_one();
            return (Kind::NonConfirmable, id);
        }
        // At most as many steps as exchanges with this endpoint are under way.
        while self.exchanges.uses(peer, id) {
            id = id.wrapping_add(1);
        }
        (Kind::Confirmable, id)
    }

    /// Acknowledges a request whose function still runs.
    fn acknowledge_first(&mut self, now: Time, key: u64, out: &mut Output) {
        let Some(pending) = self.calls.get_mut(&key) else {
            return;
        };
        pending.acknowledged = true;
        self.counters.separate.add_one();
        let (peer, id) = (pending.origin.peer, pending.origin.header.id);
        let sent = out.sends.send(peer, |buffer| {
            write_empty(buffer, Kind::Acknowledgement, id)
        });
        self.replies.insert(now, key, sent);
    }

    fn count_dedup_bytes(&mut self) {
        let bytes = self.facts.bytes() + self.replies.bytes();
        self.counters.dedup_bytes_now.shift(self.dedup_bytes, bytes);
        self.dedup_bytes = bytes;
    }
}
