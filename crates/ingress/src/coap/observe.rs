//! Who observes what (RFC 7641 §4.1): observers by endpoint and token, and the resources that they
//! observe. Bounded in all and for each endpoint; who comes on top is answered once.

use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::{HashMap, HashSet};
use mote_engine::published::{Published, Resource};

use crate::coap::Peer;
use crate::coap::message::Opaque;

/// Max-Age of a published value. It changes only by a notification, so it is fresh until then; the
/// bound lets a client notice that it was forgotten (RFC 7641 §4.3.1).
pub const MAX_AGE_SECONDS: u32 = 3600;

/// Names an observer: an endpoint and the token of its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ObserverKey {
    /// The endpoint.
    pub peer: Peer,
    /// The token.
    pub token: Opaque,
}

/// One observer.
#[derive(Debug)]
pub struct Observer {
    /// What it observes.
    pub resource: Arc<Resource>,
    /// The format that it asked for.
    pub accept: Option<u16>,
    /// The block size that it asked for.
    pub exponent: u8,
    /// The key of its block-wise transfers.
    pub transfer: u64,
    /// The number of the last notification (RFC 7641 §4.4).
    pub sequence: u32,
    /// The notification that is not acknowledged yet; there is one at a time (RFC 7641 §4.5.1).
    pub outstanding: Option<u16>,
    /// Whether its first answer is still being made by the function.
    pub answering: bool,
    /// Whether there is a newer value than the last that was sent.
    pub waiting: bool,
}

impl Observer {
    /// The number of the next notification; 24 bits that rise.
    pub fn next_sequence(&mut self) -> u32 {
        self.sequence = (self.sequence + 1) & 0x00ff_ffff;
        self.sequence
    }
}

/// How many there may be.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// In all.
    pub count: usize,
    /// Of one endpoint.
    pub count_per_peer: usize,
}

/// All observers of a shard.
#[derive(Debug)]
pub struct Observers {
    known: HashMap<ObserverKey, Observer, RandomState>,
    resources: HashMap<Arc<Resource>, Observed, RandomState>,
    peers: HashMap<Peer, usize, RandomState>,
    bounds: Bounds,
}

#[derive(Debug, Default)]
struct Observed {
    current: Option<Arc<Published>>,
    observers: HashSet<ObserverKey, RandomState>,
}

impl Observers {
    /// None, within bounds.
    pub fn new(bounds: Bounds) -> Self {
        Self {
            known: HashMap::default(),
            resources: HashMap::default(),
            peers: HashMap::default(),
            bounds,
        }
    }

    /// Adds an observer, which must not be there yet. False when there are too many.
    pub fn add(&mut self, key: ObserverKey, observer: Observer) -> bool {
        let of_peer = self.peers.get(&key.peer).copied().unwrap_or(0);
        if self.known.len() >= self.bounds.count || of_peer >= self.bounds.count_per_peer {
            return false;
        }
        self.peers.insert(key.peer, of_peer + 1);
        let observed = self.resources.entry(Arc::clone(&observer.resource));
        observed.or_default().observers.insert(key);
        self.known.insert(key, observer);
        true
    }

    /// Removes an observer; the resource too, and returned, if nobody else observes it.
    pub fn remove(&mut self, key: ObserverKey) -> Option<Arc<Resource>> {
        let observer = self.known.remove(&key)?;
        if let Some(count) = self.peers.get_mut(&key.peer) {
            *count -= 1;
            if *count == 0 {
                self.peers.remove(&key.peer);
            }
        }
        let observed = self.resources.get_mut(&observer.resource)?;
        observed.observers.remove(&key);
        if !observed.observers.is_empty() {
            return None;
        }
        self.resources.remove(&observer.resource);
        Some(observer.resource)
    }

    /// An observer.
    pub fn get_mut(&mut self, key: &ObserverKey) -> Option<&mut Observer> {
        self.known.get_mut(key)
    }

    /// The published value, as far as this shard was told.
    pub fn current(&self, resource: &Resource) -> Option<Arc<Published>> {
        self.resources.get(resource)?.current.clone()
    }

    /// Sets the published value, and returns who observes it.
    pub fn publish(&mut self, resource: &Resource, value: Arc<Published>) -> Vec<ObserverKey> {
        let Some(observed) = self.resources.get_mut(resource) else {
            return Vec::new();
        };
        observed.current = Some(value);
        observed.observers.iter().copied().collect()
    }

    /// Whether anybody observes it.
    pub fn is_observed(&self, resource: &Resource) -> bool {
        self.resources.contains_key(resource)
    }

    /// Who observes a resource.
    pub fn of(&self, resource: &Resource) -> Vec<ObserverKey> {
        let observed = self.resources.get(resource);
        observed.map_or_else(Vec::new, |observed| {
            observed.observers.iter().copied().collect()
        })
    }

    /// Everybody.
    pub fn all(&self) -> Vec<ObserverKey> {
        self.known.keys().copied().collect()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.known.len()
    }
}
