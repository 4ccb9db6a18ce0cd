//! The state machine by tables of datagrams, with a clock of its own.

mod blockwise;
mod calls;
mod guarding;
mod messages;
mod observing;
mod random;

use std::collections::BTreeMap;
use std::hash::RandomState;
use std::net::SocketAddr;
use std::time::Duration;

use mote_core::error::ErrorKind;
use mote_core::invocation::{FunctionId, InvocationId};
use mote_core::name::FunctionName;
use mote_engine::published::{Published, Resource};

use super::*;
use crate::coap::echo::Guard;
use crate::coap::functions::{Function, Functions, Link};
use crate::coap::message::{Opaque, Writer, uint};
use crate::coap::{EchoMode, observe};

/// Largest body of the functions here.
const BODY_BYTES: u64 = 4096;

/// Functions `hello` and `light` (which is observable), and the published values of the latter.
#[derive(Debug, Default)]
struct Stub {
    values: BTreeMap<String, Arc<Published>>,
    watched: Vec<Resource>,
    ids: std::cell::Cell<u64>,
    refused: std::cell::RefCell<Vec<ErrorKind>>,
}

impl Functions for Stub {
    fn resolve(&self, name: &str) -> Option<Function> {
        let place = ["hello", "light"].iter().position(|known| *known == name)?;
        Some(Function {
            id: FunctionId(u32::try_from(place).unwrap()),
            body_bytes: BODY_BYTES,
            timeout: Duration::from_secs(10),
            observable: name == "light",
        })
    }

    fn links(&self, visit: &mut dyn FnMut(Link<'_>)) {
        for (name, observable) in [("hello", false), ("light", true)] {
            let name: FunctionName = name.parse().unwrap();
            visit(Link {
                name: &name,
                observable,
            });
        }
    }

    fn next_id(&self) -> InvocationId {
        self.ids.set(self.ids.get() + 1);
        InvocationId {
            sequence: self.ids.get(),
            node: 1,
        }
    }

    fn refused(&self, kind: ErrorKind) {
        self.refused.borrow_mut().push(kind);
    }

    fn watch(&mut self, resource: &Resource) -> Result<Option<Arc<Published>>, Error> {
        assert!(!self.watched.contains(resource), "watched twice");
        self.watched.push(resource.clone());
        Ok(self.values.get(&resource.path).cloned())
    }

    fn unwatch(&mut self, resource: &Resource) {
        self.watched.retain(|watched| watched != resource);
    }
}

/// A state machine with everything around it.
struct Bench {
    endpoint: Endpoint,
    functions: Stub,
    out: Output,
    now: Time,
    counters: Arc<Counters>,
}

/// A message as it was sent: its header, its options, and its payload.
#[derive(Clone, Debug, PartialEq)]
struct Seen {
    to: Peer,
    kind: Kind,
    code: Code,
    id: u16,
    token: Opaque,
    options: Vec<(u16, Vec<u8>)>,
    payload: Vec<u8>,
    size: usize,
}

impl Seen {
    fn number(&self, option: u16) -> Option<u32> {
        let (_, value) = self.options.iter().find(|(number, _)| *number == option)?;
        uint(value)
    }

    fn bytes(&self, option: u16) -> Option<&[u8]> {
        let (_, value) = self.options.iter().find(|(number, _)| *number == option)?;
        Some(value)
    }

    fn block(&self, option: u16) -> Option<Block> {
        Block::from_option(self.number(option)?)
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.payload).unwrap()
    }
}

fn bounds() -> Bounds {
    let blocks = block::Bounds {
        count: 4,
        count_per_peer: 2,
        bytes: 16 << 10,
    };
    Bounds {
        calls: 8,
        facts_bytes: None,
        replies_bytes: 4 << 10,
        exchanges: 8,
        uploads: blocks,
        transfers: blocks,
        observers: observe::Bounds {
            count: 4,
            count_per_peer: 3,
        },
        verified: 8,
    }
}

impl Bench {
    fn new() -> Self {
        Self::with(EchoMode::Never, 64 << 10)
    }

    fn with(mode: EchoMode, facts_bytes: usize) -> Self {
        let counters = Arc::<Counters>::default();
        let settings = Settings {
            separate_after: 200,
            block_size: 64,
            bounds: bounds(),
            facts_bytes,
            guard: Guard::new(mode, RandomState::new(), 8),
            seed: 7,
        };
        Self {
            endpoint: Endpoint::new(0, settings, Arc::clone(&counters)),
            functions: Stub::default(),
            out: Output::default(),
            now: 0,
            counters,
        }
    }

    fn receive(&mut self, bytes: &[u8]) -> Vec<Seen> {
        self.receive_from(peer(1), bytes)
    }

    fn receive_from(&mut self, peer: Peer, bytes: &[u8]) -> Vec<Seen> {
        self.endpoint
            .datagram(self.now, peer, bytes, &mut self.functions, &mut self.out);
        self.sent()
    }

    fn sent(&mut self) -> Vec<Seen> {
        let seen = self
            .out
            .sends
            .iter()
            .map(|(to, bytes)| seen(to, bytes))
            .collect();
        self.out.sends.sent(usize::MAX);
        seen
    }

    /// The one call that was made.
    #[track_caller]
    fn call(&mut self) -> Call {
        let call = self.out.calls.pop().expect("a call");
        assert!(self.out.calls.is_empty(), "one call only");
        call
    }

    fn answer(&mut self, key: u64, result: Result<Answer, Error>) -> Vec<Seen> {
        self.endpoint
            .answered(self.now, key, result, &mut self.functions, &mut self.out);
        self.sent()
    }

    /// Answers the one call that was made.
    #[track_caller]
    fn answer_with(&mut self, body: impl Into<Bytes>) -> Vec<Seen> {
        let key = self.call().key;
        self.answer(key, ok(body))
    }

    /// Lets time pass, doing what is due when it is due.
    fn pass(&mut self, until: Time) -> Vec<(Time, Seen)> {
        let mut all = Vec::new();
        while let Some(due) = self.endpoint.due().filter(|due| *due <= until) {
            assert!(due >= self.now, "what is due is never in the past");
            self.now = due;
            self.endpoint.tick(due, &mut self.functions, &mut self.out);
            all.extend(self.sent().into_iter().map(|seen| (due, seen)));
            assert_ne!(self.endpoint.due(), Some(due), "a tick does what was due");
        }
        self.now = until;
        all
    }

    fn publish(&mut self, path: &str, body: &str, etag: u64) -> Vec<Seen> {
        let value = Arc::new(Published {
            body: Bytes::copy_from_slice(body.as_bytes()),
            content_type: Some(http::HeaderValue::from_static("text/plain")),
            sequence: etag,
            etag,
        });
        self.functions
            .values
            .insert(path.to_owned(), Arc::clone(&value));
        let resource = resource(path);
        self.endpoint.published(
            self.now,
            &resource,
            Some(value),
            &mut self.functions,
            &mut self.out,
        );
        self.sent()
    }
}

fn resource(path: &str) -> Resource {
    Resource {
        function: FunctionId(1),
        path: path.to_owned(),
        query: None,
    }
}

fn peer(number: u8) -> Peer {
    Peer::from(SocketAddr::from(([8, 8, 8, number], 5683)))
}

fn ok(body: impl Into<Bytes>) -> Result<Answer, Error> {
    Ok(Answer {
        body: body.into(),
        ..Answer::default()
    })
}

fn seen(to: Peer, bytes: &[u8]) -> Seen {
    let message = Message::parse(bytes).expect("what is sent is a message");
    Seen {
        to,
        kind: message.header.kind,
        code: message.header.code,
        id: message.header.id,
        token: message.header.token,
        options: message
            .options()
            .map(|(number, value)| (number, value.to_vec()))
            .collect(),
        payload: message.payload.to_vec(),
        size: bytes.len(),
    }
}

/// A request in the making.
#[derive(Clone, Debug)]
struct Ask {
    kind: Kind,
    code: Code,
    id: u16,
    token: Vec<u8>,
    options: Vec<(u16, Vec<u8>)>,
    payload: Vec<u8>,
}

/// A confirmable request with this method, id and path.
fn con(code: Code, id: u16, path: &str) -> Ask {
    let segments = path.split('/').filter(|segment| !segment.is_empty());
    Ask {
        kind: Kind::Confirmable,
        code,
        id,
        token: vec![0xaa, 1],
        options: segments
            .map(|segment| (option::URI_PATH, segment.as_bytes().to_vec()))
            .collect(),
        payload: Vec::new(),
    }
}

/// The same, not confirmable.
fn non(code: Code, id: u16, path: &str) -> Ask {
    Ask {
        kind: Kind::NonConfirmable,
        ..con(code, id, path)
    }
}

impl Ask {
    fn token(mut self, token: &[u8]) -> Self {
        self.token = token.to_vec();
        self
    }

    fn option(mut self, number: u16, value: &[u8]) -> Self {
        self.options.push((number, value.to_vec()));
        self
    }

    fn number(self, number: u16, value: u32) -> Self {
        let skipped = (value.leading_zeros() / 8) as usize;
        self.option(number, &value.to_be_bytes()[skipped..])
    }

    fn block(self, number: u16, block: (u32, bool, u8)) -> Self {
        let block = Block {
            number: block.0,
            more: block.1,
            exponent: block.2,
        };
        self.number(number, block.to_option())
    }

    fn payload(mut self, payload: &[u8]) -> Self {
        self.payload = payload.to_vec();
        self
    }

    fn bytes(mut self) -> Vec<u8> {
        self.options.sort_by_key(|(number, _)| *number);
        let header = Header {
            kind: self.kind,
            code: self.code,
            id: self.id,
            token: Opaque::new(&self.token).unwrap(),
        };
        let mut bytes = Vec::new();
        let mut writer = Writer::new(&mut bytes, &header);
        for (number, value) in &self.options {
            writer.option(*number, value);
        }
        writer.payload(&self.payload);
        bytes
    }
}
