//! What has been received already, so that no function runs twice for one request.
//!
//! A request is known by a keyed 64-bit hash of who sent it and of the whole datagram, message id
//! included. RFC 7252 §4.5 asks for endpoint and message id only, but a client that sends more than
//! 65,536 requests within EXCHANGE_LIFETIME (265 a second) uses ids again, and would be answered
//! with an old reply. A client that repeats a message repeats it byte for byte, so nothing is lost.
//!
//! Two tables. [`Facts`] only knows that a request was seen: eight bytes, kept for the whole
//! EXCHANGE_LIFETIME and never forgotten early; when it is full, new requests are refused, because
//! running one that could not be remembered could run it twice. [`Replies`] holds what was answered,
//! as long as there is room, oldest out first; a copy whose reply is gone is refused, not run.

use std::collections::VecDeque;
use std::mem;

use foldhash::fast::FixedState;
use hashbrown::{HashMap, HashTable};

use crate::coap::{EXCHANGE_LIFETIME_MS, Time};

const GENERATIONS: usize = 8;
/// A generation goes when seven younger ones were filled, so its youngest member is by then at
/// least seven spans old, and that is EXCHANGE_LIFETIME.
const SPAN_MS: Time = EXCHANGE_LIFETIME_MS.div_ceil(GENERATIONS as Time - 1);
/// Endpoints are counted in this many buckets: an estimate that only errs upwards.
const BUCKETS: usize = 1024;
/// Message ids that an endpoint can have in use at once (RFC 7252 §4.4: they are 16 bits). Up to
/// here an endpoint is never refused while there is room; beyond, only while half the table is free,
/// so one that floods cannot take the room of all others.
const PEER_SHARE: u32 = 65_536;

/// The hashes of requests that were accepted, for EXCHANGE_LIFETIME.
#[derive(Debug)]
pub struct Facts {
    generations: [HashTable<u64>; GENERATIONS],
    peers: [Box<[u32]>; GENERATIONS],
    peers_total: Box<[u32]>,
    current: usize,
    /// When the current generation ends.
    turns: Time,
    bytes: usize,
    bytes_max: usize,
}

impl Facts {
    /// An empty table that stays within so many bytes.
    pub fn new(now: Time, bytes_max: usize) -> Self {
        Self {
            generations: Default::default(),
            peers: std::array::from_fn(|_| vec![0; BUCKETS].into()),
            peers_total: vec![0; BUCKETS].into(),
            current: 0,
            turns: now + SPAN_MS,
            bytes: 0,
            bytes_max,
        }
    }

    /// Forgets what is older than EXCHANGE_LIFETIME. To be called before anything else at a new time.
    pub fn advance(&mut self, now: Time) {
        let mut turned = 0;
        while now >= self.turns && turned <= GENERATIONS {
            self.turn();
            self.turns += SPAN_MS;
            turned += 1;
        }
        if now >= self.turns {
            self.turns = now + SPAN_MS;
        }
    }

    /// When [`advance`](Self::advance) has something to do next.
    pub fn due(&self) -> Option<Time> {
        (self.bytes > 0).then_some(self.turns)
    }

    /// Whether this request was accepted before.
    #[inline]
    pub fn contains(&self, hash: u64) -> bool {
        self.generations
            .iter()
            .any(|seen| seen.find(hash, |known| *known == hash).is_some())
    }

    /// Remembers a request of an endpoint (also a hash). False: there is no room.
    pub fn insert(&mut self, hash: u64, peer: u64) -> bool {
        let bucket = usize::try_from(peer % BUCKETS as u64).expect("less than BUCKETS");
        let seen = &self.generations[self.current];
        let growth = if seen.len() < seen.capacity() {
            0
        } else {
            grown_bytes(seen)
        };
        // Half the room belongs to those that stay within what the protocol can tell apart.
        let over_share = self.peers_total[bucket] >= PEER_SHARE;
        let allowed = if over_share {
            self.bytes_max / 2
        } else {
            self.bytes_max
        };
        if self.bytes + growth > allowed {
            return false;
        }
        let seen = &mut self.generations[self.current];
        let before = seen.allocation_size();
        seen.insert_unique(hash, hash, |known| *known);
        self.bytes += seen.allocation_size() - before;
        self.peers[self.current][bucket] += 1;
        self.peers_total[bucket] += 1;
        true
    }

    /// Bytes in use.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Begins the next generation in the place of the oldest.
    fn turn(&mut self) {
        let filled = self.generations[self.current].len();
        self.current = (self.current + 1) % GENERATIONS;
        let old = mem::take(&mut self.generations[self.current]);
        self.bytes -= old.allocation_size();
        for (total, count) in self
            .peers_total
            .iter_mut()
            .zip(&mut self.peers[self.current])
        {
            *total -= mem::take(count);
        }
        drop(old);
        // As large as the last one was, if that leaves room: growing while requests wait costs more.
        let fresh = HashTable::with_capacity(filled);
        if self.bytes + fresh.allocation_size() <= self.bytes_max / 2 {
            self.bytes += fresh.allocation_size();
            self.generations[self.current] = fresh;
        }
    }
}

/// How many bytes more a full table takes when it grows: it doubles.
fn grown_bytes(table: &HashTable<u64>) -> usize {
    table.allocation_size().max(64)
}

/// What was answered, by the hash of the request.
#[derive(Debug)]
pub struct Replies {
    known: HashMap<u64, Box<[u8]>, FixedState>,
    order: VecDeque<(Time, u64)>,
    bytes: usize,
    bytes_max: usize,
}

/// What an entry takes besides its bytes: both tables, and the allocation.
const ENTRY_BYTES: usize = 80;

impl Replies {
    /// An empty table that stays within so many bytes.
    pub fn new(bytes_max: usize) -> Self {
        Self {
            known: HashMap::default(),
            order: VecDeque::new(),
            bytes: 0,
            bytes_max,
        }
    }

    /// The datagram that answered this request.
    pub fn get(&self, hash: u64) -> Option<&[u8]> {
        self.known.get(&hash).map(AsRef::as_ref)
    }

    /// Keeps a reply; the oldest ones go if there is no room.
    pub fn insert(&mut self, now: Time, hash: u64, datagram: &[u8]) {
        let size = datagram.len() + ENTRY_BYTES;
        while self.bytes + size > self.bytes_max && self.forget_oldest() {}
        if self.bytes + size > self.bytes_max {
            return;
        }
        if let Some(old) = self.known.insert(hash, datagram.into()) {
            self.bytes -= old.len() + ENTRY_BYTES;
        }
        self.bytes += size;
        self.order.push_back((now, hash));
    }

    /// Forgets what no copy can ask for any more.
    pub fn advance(&mut self, now: Time) {
        while self
            .order
            .front()
            .is_some_and(|(at, _)| at + EXCHANGE_LIFETIME_MS <= now)
        {
            self.forget_oldest();
        }
        if self.known.is_empty() && self.known.capacity() > 1024 {
            *self = Self::new(self.bytes_max);
        }
    }

    /// When [`advance`](Self::advance) has something to do next.
    pub fn due(&self) -> Option<Time> {
        self.order.front().map(|(at, _)| at + EXCHANGE_LIFETIME_MS)
    }

    /// Bytes in use.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn forget_oldest(&mut self) -> bool {
        let Some((_, hash)) = self.order.pop_front() else {
            return false;
        };
        if let Some(old) = self.known.remove(&hash) {
            self.bytes -= old.len() + ENTRY_BYTES;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(n: u64) -> u64 {
        n.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    #[test]
    fn facts_are_kept_for_the_exchange_lifetime() {
        let mut facts = Facts::new(0, 1 << 20);
        for second in 0..600 {
            let now = second * 1000;
            facts.advance(now);
            assert!(facts.insert(hash(second), 1));
            let oldest = now.saturating_sub(EXCHANGE_LIFETIME_MS).div_ceil(1000);
            for known in oldest..=second {
                assert!(facts.contains(hash(known)), "{known} at {second}");
            }
            let gone = now.saturating_sub(SPAN_MS * 8) / 1000;
            assert!(gone == 0 || !facts.contains(hash(gone - 1)));
        }
        facts.advance(600_000 + 10 * EXCHANGE_LIFETIME_MS);
        assert_eq!(facts.bytes(), 0, "an idle table holds nothing");
    }

    #[test]
    fn facts_refuse_when_full_and_never_forget() {
        let mut facts = Facts::new(0, 64 << 10);
        let accepted: Vec<u64> = (0..100_000)
            .filter(|n| facts.insert(hash(*n), *n))
            .collect();
        assert!(facts.bytes() <= 64 << 10);
        assert!(
            (1000..10_000).contains(&accepted.len()),
            "{}",
            accepted.len()
        );
        assert!(accepted.iter().all(|n| facts.contains(hash(*n))));
        facts.advance(SPAN_MS);
        assert!(accepted.iter().all(|n| facts.contains(hash(*n))));
        facts.advance(SPAN_MS * 8);
        assert!(facts.insert(hash(1), 1), "there is room again");
    }

    #[test]
    fn one_endpoint_cannot_take_all_room() {
        let mut facts = Facts::new(0, 16 << 20);
        let flood = (0..4_000_000)
            .take_while(|n| facts.insert(hash(*n), 7))
            .count();
        assert!(flood >= PEER_SHARE as usize);
        assert!(facts.bytes() <= 8 << 20);
        assert!(facts.insert(hash(u64::MAX), 8), "another one is served");
    }

    #[test]
    fn replies_go_oldest_first() {
        let mut replies = Replies::new(10 * (100 + ENTRY_BYTES));
        for n in 0..15 {
            replies.insert(n, hash(n), &[0; 100]);
        }
        assert!(replies.get(hash(4)).is_none() && replies.get(hash(5)).is_some());
        assert!(replies.bytes() <= 10 * (100 + ENTRY_BYTES));
        replies.advance(EXCHANGE_LIFETIME_MS + 14);
        assert_eq!(replies.bytes(), 0);
    }
}
