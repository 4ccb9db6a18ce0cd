//! Whatever datagrams come in, in whatever order and at whatever time, the CoAP state machine does
//! not panic, and what it sends is well-formed.
//!
//! The input is a list of events: a byte that says which, a length, and so many bytes.

#![no_main]

use std::hash::RandomState;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use mote_core::error::{Error, ErrorKind};
use mote_core::invocation::{FunctionId, InvocationId};
use mote_engine::published::{Published, Resource};
use mote_ingress::coap::echo::Guard;
use mote_ingress::coap::endpoint::{Answer, Endpoint, Output, Settings};
use mote_ingress::coap::functions::{Function, Functions, Link};
use mote_ingress::coap::message::Message;
use mote_ingress::coap::{Bounds, EchoMode, Peer, block, observe};

/// One observable function, under every name.
#[derive(Default)]
struct Every {
    value: Option<Arc<Published>>,
    watched: Vec<Resource>,
}

impl Functions for Every {
    fn resolve(&self, _name: &str) -> Option<Function> {
        Some(Function {
            id: FunctionId(1),
            body_bytes: 1000,
            timeout: Duration::from_secs(1),
            observable: true,
        })
    }

    fn links(&self, visit: &mut dyn FnMut(Link<'_>)) {
        let name = "light".parse().expect("a valid name");
        visit(Link {
            name: &name,
            observable: true,
        });
    }

    fn next_id(&self) -> InvocationId {
        InvocationId {
            sequence: 1,
            node: 1,
        }
    }

    fn refused(&self, _kind: ErrorKind) {}

    fn watch(&mut self, resource: &Resource) -> Result<Option<Arc<Published>>, Error> {
        assert!(!self.watched.contains(resource), "watched twice");
        self.watched.push(resource.clone());
        Ok(self.value.clone())
    }

    fn unwatch(&mut self, resource: &Resource) {
        self.watched.retain(|watched| watched != resource);
    }
}

fn settings() -> Settings {
    let blocks = block::Bounds {
        count: 4,
        count_per_peer: 2,
        bytes: 8 << 10,
    };
    Settings {
        separate_after: 200,
        block_size: 64,
        facts_bytes: 4 << 10,
        guard: Guard::new(EchoMode::Never, RandomState::new(), 8),
        seed: 1,
        bounds: Bounds {
            calls: 8,
            facts_bytes: None,
            replies_bytes: 4 << 10,
            exchanges: 8,
            uploads: blocks,
            transfers: blocks,
            observers: observe::Bounds {
                count: 8,
                count_per_peer: 4,
            },
            verified: 8,
        },
    }
}

fuzz_target!(|data: &[u8]| {
    let mut endpoint = Endpoint::new(0, settings(), Arc::default());
    let mut functions = Every::default();
    let mut out = Output::default();
    let mut calls = Vec::new();
    let mut now = 0;
    let mut rest = data;
    while let [event, length, after @ ..] = rest {
        let (bytes, after) = after.split_at(usize::from(*length).min(after.len()));
        rest = after;
        let peer = Peer::from(SocketAddr::from(([10, 0, 0, event >> 6], 5683)));
        match event % 8 {
            0..=3 => endpoint.datagram(now, peer, bytes, &mut functions, &mut out),
            4 => endpoint.oversized(peer, bytes, &mut out),
            5 => {
                if let Some(key) = calls.pop() {
                    let body = bytes.repeat(3).into();
                    let answer = Answer {
                        body,
                        ..Answer::default()
                    };
                    endpoint.answered(now, key, Ok(answer), &mut functions, &mut out);
                }
            }
            6 => {
                now += 100 * u64::from(*length);
                endpoint.tick(now, &mut functions, &mut out);
            }
            _ => {
                let value = (!bytes.is_empty()).then(|| {
                    Arc::new(Published {
                        body: bytes.to_vec().into(),
                        content_type: None,
                        sequence: now,
                        etag: u64::from(bytes[0]),
                    })
                });
                functions.value = value.clone();
                for resource in functions.watched.clone() {
                    endpoint.published(now, &resource, value.clone(), &mut functions, &mut out);
                }
            }
        }
        for call in out.calls.drain(..) {
            endpoint.still_running(now, call.key);
            calls.push(call.key);
        }
        for (_, datagram) in out.sends.iter() {
            Message::parse(datagram).expect("what is sent is a message");
        }
        out.sends.sent(usize::MAX);
    }
});
