//! Bodies of replies, cut up for Block2 (RFC 7959 §2.4).
//!
//! A large reply is kept here after its first block, and later blocks are served from it, so that no
//! function runs twice for one body. A later block of a transfer that is not here is answered 4.08:
//! running the function again could give another body, and the client begins anew.

use std::sync::Arc;

use bytes::Bytes;
use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::{IDLE_MS, assembly::Bounds};
use crate::coap::Time;
use crate::coap::message::{Code, Opaque};

/// A reply, whole.
#[derive(Clone, Debug)]
pub struct Transfer {
    /// Its code.
    pub code: Code,
    /// Tells the blocks of one body from those of another.
    pub etag: Option<Opaque>,
    /// What the body is.
    pub format: Option<u16>,
    /// How long it stays fresh.
    pub max_age: Option<u32>,
    /// All of it.
    pub body: Bytes,
}

/// Replies of which the client may still ask for blocks.
#[derive(Debug)]
pub struct Transfers {
    known: HashMap<u64, Known, RandomState>,
    bytes: usize,
    sweep: Option<Time>,
    bounds: Bounds,
}

#[derive(Debug)]
struct Known {
    peer: u64,
    touched: Time,
    transfer: Arc<Transfer>,
}

impl Transfers {
    /// None, within bounds.
    pub fn new(bounds: Bounds) -> Self {
        Self {
            known: HashMap::default(),
            bytes: 0,
            sweep: None,
            bounds,
        }
    }

    /// Keeps a reply for an endpoint and resource (`key`). The longest unused ones make room. False
    /// when the body alone is over the bound.
    pub fn keep(&mut self, now: Time, key: u64, peer: u64, transfer: Transfer) -> bool {
        self.forget(key);
        let size = transfer.body.len();
        if size > self.bounds.bytes {
            return false;
        }
        let own = self.known.values().filter(|known| known.peer == peer);
        if own.count() >= self.bounds.count_per_peer {
            self.forget_oldest(|known| known.peer == peer);
        }
        while self.known.len() >= self.bounds.count || self.bytes + size > self.bounds.bytes {
            self.forget_oldest(|_| true);
        }
        self.bytes += size;
        let known = Known {
            peer,
            touched: now,
            transfer: Arc::new(transfer),
        };
        self.known.insert(key, known);
        self.sweep.get_or_insert(now + IDLE_MS / 4);
        true
    }

    /// The reply that a later block is asked of.
    pub fn get(&mut self, now: Time, key: u64) -> Option<Arc<Transfer>> {
        let known = self.known.get_mut(&key)?;
        known.touched = now;
        Some(Arc::clone(&known.transfer))
    }

    /// Lets go of what was not asked for, for too long.
    pub fn advance(&mut self, now: Time) {
        if self.sweep.is_none_or(|due| due > now) {
            return;
        }
        let bytes = &mut self.bytes;
        self.known.retain(|_, known| {
            let keep = known.touched + IDLE_MS > now;
            if !keep {
                *bytes -= known.transfer.body.len();
            }
            keep
        });
        self.sweep = (!self.known.is_empty()).then_some(now + IDLE_MS / 4);
    }

    /// When [`advance`](Self::advance) may have something to do next.
    pub fn due(&self) -> Option<Time> {
        self.sweep
    }

    /// Replies and bytes kept.
    pub fn size(&self) -> (usize, usize) {
        (self.known.len(), self.bytes)
    }

    fn forget_oldest(&mut self, which: impl Fn(&Known) -> bool) {
        let candidates = self.known.iter().filter(|(_, known)| which(known));
        let oldest = candidates.min_by_key(|(_, known)| known.touched);
        if let Some(key) = oldest.map(|(key, _)| *key) {
            self.forget(key);
        }
    }

    fn forget(&mut self, key: u64) {
        if let Some(known) = self.known.remove(&key) {
            self.bytes -= known.transfer.body.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transfer(size: usize) -> Transfer {
        Transfer {
            code: Code::CONTENT,
            etag: Some(Opaque::from_u64(1)),
            format: None,
            max_age: None,
            body: Bytes::from(vec![0; size]),
        }
    }

    #[test]
    fn the_longest_unused_make_room() {
        let bounds = Bounds {
            count: 3,
            count_per_peer: 2,
            bytes: 1000,
        };
        let mut all = Transfers::new(bounds);
        assert!(!all.keep(0, 1, 1, transfer(1001)));
        for (now, key) in [(1, 1), (2, 2), (3, 3)] {
            assert!(all.keep(now, key, 1, transfer(100)));
        }
        assert!(all.get(4, 1).is_none(), "an endpoint has its own bound");
        assert!(all.get(5, 2).is_some());
        all.keep(6, 4, 2, transfer(100));
        all.keep(7, 5, 3, transfer(100));
        assert!(all.get(8, 3).is_none() && all.get(9, 2).is_some());
        all.keep(10, 6, 4, transfer(950));
        assert_eq!(all.size(), (1, 950));
        all.advance(10 + IDLE_MS);
        assert_eq!(all.size(), (0, 0));
    }
}
