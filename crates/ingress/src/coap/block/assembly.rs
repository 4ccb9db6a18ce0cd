//! Bodies of requests, put together from Block1 (RFC 7959 §2.5).

use bytes::Bytes;
use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::{Block, IDLE_MS};
use crate::coap::Time;

/// A transfer that was idle for this long may be dropped in favour of a new one. A client that still
/// works on its transfer repeats itself sooner (RFC 7252 §4.2: after 2, 4, then 8 s).
const IDLE_EVICT_MS: Time = 16_000;

/// Uploads under way.
#[derive(Debug)]
pub struct Assemblies {
    under_way: HashMap<u64, Assembly, RandomState>,
    bytes: usize,
    sweep: Option<Time>,
    bounds: Bounds,
}

/// How much may be under way.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Transfers in all.
    pub count: usize,
    /// Transfers of one endpoint.
    pub count_per_peer: usize,
    /// Bytes in all.
    pub bytes: usize,
}

#[derive(Debug)]
struct Assembly {
    peer: u64,
    /// The datagram that began it, to tell a copy of it from a new beginning.
    first: u64,
    body: Vec<u8>,
    touched: Time,
}

/// One block of a request.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a> {
    /// What the blocks of one body have in common: endpoint, method, and the options that matter,
    /// Request-Tag included (RFC 9175 §3.3).
    pub key: u64,
    /// Hash of the endpoint.
    pub peer: u64,
    /// Hash of the datagram.
    pub datagram: u64,
    /// Which block it is.
    pub block: Block,
    /// Its bytes.
    pub payload: &'a [u8],
    /// The largest body.
    pub limit: u64,
}

/// Why a block was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It makes no sense: a block in the middle that is not full.
    Invalid,
    /// The blocks before it are not here (4.08).
    Incomplete,
    /// The body is larger than it may be (4.13).
    TooLarge,
    /// There is no room (5.03).
    Full,
}

impl Assemblies {
    /// None, within bounds.
    pub fn new(bounds: Bounds) -> Self {
        Self {
            under_way: HashMap::default(),
            bytes: 0,
            sweep: None,
            bounds,
        }
    }

    /// Takes a block. The whole body, once the last block is here; nothing while others follow.
    pub fn take(&mut self, now: Time, part: Part<'_>) -> Result<Option<Bytes>, Refusal> {
        let Part { block, payload, .. } = part;
        let full = payload.len() == block.size();
        if payload.len() > block.size() || (block.more && !full) {
            return Err(Refusal::Invalid);
        }
        if (block.offset() + payload.len()) as u64 > part.limit {
            self.forget(part.key);
            return Err(Refusal::TooLarge);
        }
        if block.number == 0 && !block.more {
            self.forget(part.key);
            return Ok(Some(Bytes::copy_from_slice(payload)));
        }
        let copy_of_first = |known: &Assembly| known.first == part.datagram;
        if block.number == 0 && !self.under_way.get(&part.key).is_some_and(copy_of_first) {
            self.begin(now, &part)?;
        }
        let known = self.under_way.get_mut(&part.key);
        let known = known.ok_or(Refusal::Incomplete)?;
        known.touched = now;
        if block.offset() > known.body.len() {
            self.forget(part.key);
            return Err(Refusal::Incomplete);
        }
        // What is here already was sent twice.
        let end = block.offset() + payload.len();
        let fresh = end.saturating_sub(known.body.len()).min(payload.len());
        if known.body.capacity() < end {
            // Twice as much as before, so that a body is moved a few times only, within the limit.
            let limit = usize::try_from(part.limit).unwrap_or(usize::MAX);
            let wanted = (2 * known.body.capacity()).clamp(end, limit.max(end));
            let growth = wanted - known.body.capacity();
            if self.bytes + growth > self.bounds.bytes {
                self.forget(part.key);
                return Err(Refusal::Full);
            }
            known.body.reserve_exact(wanted - known.body.len());
            self.bytes += growth;
        }
        known
            .body
            .extend_from_slice(&payload[payload.len() - fresh..]);
        if block.more {
            return Ok(None);
        }
        let body = self.forget(part.key).ok_or(Refusal::Incomplete)?;
        Ok(Some(body.into()))
    }

    /// Lets go of what was idle for too long.
    pub fn advance(&mut self, now: Time) {
        if self.sweep.is_none_or(|due| due > now) {
            return;
        }
        let bytes = &mut self.bytes;
        self.under_way.retain(|_, known| {
            let keep = known.touched + IDLE_MS > now;
            if !keep {
                *bytes -= known.body.capacity();
            }
            keep
        });
        self.sweep = (!self.under_way.is_empty()).then_some(now + IDLE_MS / 4);
    }

    /// When [`advance`](Self::advance) may have something to do next.
    pub fn due(&self) -> Option<Time> {
        self.sweep
    }

    /// Transfers and bytes under way.
    pub fn size(&self) -> (usize, usize) {
        (self.under_way.len(), self.bytes)
    }

    fn begin(&mut self, now: Time, part: &Part<'_>) -> Result<(), Refusal> {
        self.forget(part.key);
        let same_peer = self
            .under_way
            .iter()
            .filter(|(_, known)| known.peer == part.peer);
        let (mut count, mut oldest) = (0, None);
        for (key, known) in same_peer {
            count += 1;
            if oldest.is_none_or(|(touched, _)| known.touched < touched) {
                oldest = Some((known.touched, *key));
            }
        }
        // An endpoint that begins one more gives up its own oldest.
        if let Some((_, key)) = oldest.filter(|_| count >= self.bounds.count_per_peer) {
            self.forget(key);
        }
        let full =
            |all: &Self| all.under_way.len() >= all.bounds.count || all.bytes >= all.bounds.bytes;
        if full(self) {
            let idle = self.under_way.iter().min_by_key(|(_, known)| known.touched);
            let idle = idle.filter(|(_, known)| known.touched + IDLE_EVICT_MS <= now);
            if let Some(key) = idle.map(|(key, _)| *key) {
                self.forget(key);
            }
        }
        if full(self) {
            return Err(Refusal::Full);
        }
        let fresh = Assembly {
            peer: part.peer,
            first: part.datagram,
            body: Vec::new(),
            touched: now,
        };
        self.under_way.insert(part.key, fresh);
        self.sweep.get_or_insert(now + IDLE_MS / 4);
        Ok(())
    }

    fn forget(&mut self, key: u64) -> Option<Vec<u8>> {
        let known = self.under_way.remove(&key)?;
        self.bytes -= known.body.capacity();
        Some(known.body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds {
        count: 4,
        count_per_peer: 2,
        bytes: 4096,
    };

    fn part(key: u64, number: u32, more: bool, payload: &[u8]) -> Part<'_> {
        let block = Block {
            number,
            more,
            exponent: 0,
        };
        let datagram = key << 32 | u64::from(number);
        Part {
            key,
            peer: key / 10,
            datagram,
            block,
            payload,
            limit: 100,
        }
    }

    #[test]
    fn blocks_become_a_body_also_when_repeated() {
        let mut all = Assemblies::new(BOUNDS);
        for number in [0, 0, 1, 0, 1, 1, 2, 1] {
            assert_eq!(all.take(0, part(1, number, true, &[7; 16])), Ok(None));
        }
        let body = all.take(0, part(1, 3, false, b"end")).unwrap().unwrap();
        assert_eq!(body.len(), 51);
        assert_eq!(all.size(), (0, 0));
    }

    #[test]
    fn a_gap_is_incomplete() {
        let mut all = Assemblies::new(BOUNDS);
        assert_eq!(
            all.take(0, part(1, 1, true, &[7; 16])),
            Err(Refusal::Incomplete)
        );
        all.take(0, part(1, 0, true, &[7; 16])).unwrap();
        assert_eq!(
            all.take(0, part(1, 2, true, &[7; 16])),
            Err(Refusal::Incomplete)
        );
        assert_eq!(all.size(), (0, 0));
    }

    #[test]
    fn sizes_are_checked() {
        let mut all = Assemblies::new(BOUNDS);
        assert_eq!(
            all.take(0, part(1, 0, true, &[7; 15])),
            Err(Refusal::Invalid)
        );
        assert_eq!(
            all.take(0, part(1, 0, false, &[7; 17])),
            Err(Refusal::Invalid)
        );
        for number in 0..6 {
            all.take(0, part(1, number, true, &[7; 16])).unwrap();
        }
        assert_eq!(
            all.take(0, part(1, 6, true, &[7; 16])),
            Err(Refusal::TooLarge)
        );
        assert_eq!(all.size(), (0, 0));
    }

    #[test]
    fn counts_and_bytes_are_bounded() {
        let mut all = Assemblies::new(BOUNDS);
        for key in [1, 2, 3] {
            all.take(key, part(key, 0, true, &[7; 16])).unwrap();
        }
        assert_eq!(all.size().0, 2, "one endpoint gives up its own oldest");
        for key in [10, 20] {
            all.take(5, part(key, 0, true, &[7; 16])).unwrap();
        }
        assert_eq!(all.take(6, part(30, 0, true, &[7; 16])), Err(Refusal::Full));
        let later = 5 + IDLE_EVICT_MS;
        assert_eq!(all.take(later, part(30, 0, true, &[7; 16])), Ok(None));
        all.advance(later + IDLE_MS);
        assert_eq!((all.size(), all.due()), ((0, 0), None));
    }
}
