//! Datagrams on their way out, in one buffer: a reply costs no allocation of its own.

use std::ops::Range;

use crate::coap::Peer;

/// Datagrams that wait for the socket at most; more are dropped, as the network would.
const BYTES_MAX: usize = 4 << 20;

/// Datagrams to send, in their order.
#[derive(Debug, Default)]
pub struct Outbox {
    bytes: Vec<u8>,
    datagrams: Vec<(Peer, Range<usize>)>,
    dropped: u64,
}

impl Outbox {
    /// Adds a datagram that `write` appends to the buffer, and returns it.
    pub fn send(&mut self, peer: Peer, write: impl FnOnce(&mut Vec<u8>)) -> &[u8] {
        let start = self.bytes.len();
        write(&mut self.bytes);
        self.datagrams.push((peer, start..self.bytes.len()));
        &self.bytes[start..]
    }

    /// The datagrams.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (Peer, &[u8])> {
        self.datagrams
            .iter()
            .map(|(peer, range)| (*peer, &self.bytes[range.clone()]))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.datagrams.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.datagrams.is_empty()
    }

    /// Forgets the first ones, because they were sent.
    pub fn sent(&mut self, count: usize) {
        if count >= self.datagrams.len() {
            self.datagrams.clear();
            self.bytes.clear();
            // One large burst does not hold its memory for ever.
            self.bytes.shrink_to(64 << 10);
            return;
        }
        self.datagrams.drain(..count);
        // The bytes go when all are sent, or when there are too many of them.
        if self.bytes.len() > BYTES_MAX {
            self.dropped += self.datagrams.len() as u64;
            self.datagrams.clear();
            self.bytes.clear();
        }
    }

    /// How many were dropped since this was asked last.
    pub fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }
}
