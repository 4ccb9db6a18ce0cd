//! Confirmable messages that we sent, until they are acknowledged, refused or given up.

use std::collections::BTreeSet;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use crate::coap::observe::ObserverKey;
use crate::coap::{Peer, Time};

/// RFC 7252 §4.8.
const ACK_TIMEOUT_MS: Time = 2000;
/// RFC 7252 §4.8.
const MAX_RETRANSMIT: u8 = 4;

/// What a confirmable message was for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A separate response, or the last notification: nothing happens when it ends.
    Response,
    /// A notification to this observer.
    Notification(ObserverKey),
}

/// The messages under way, at most as many as it was made for.
#[derive(Debug)]
pub struct Exchanges {
    under_way: HashMap<(Peer, u16), Exchange, RandomState>,
    /// When each is due. Exact: an exchange that ends leaves nothing behind.
    timers: BTreeSet<(Time, u64, Peer, u16)>,
    count_max: usize,
    serial: u64,
    random: fastrand::Rng,
}

#[derive(Debug)]
struct Exchange {
    datagram: Box<[u8]>,
    purpose: Purpose,
    due: Time,
    timeout: Time,
    resent: u8,
    serial: u64,
}

/// What became due.
#[derive(Debug, PartialEq, Eq)]
pub enum Due {
    /// Send it again.
    Resend(Peer, Box<[u8]>),
    /// Nobody answered.
    GivenUp(Purpose),
}

impl Exchanges {
    /// No exchanges, at most `count_max`.
    pub fn new(count_max: usize, seed: u64) -> Self {
        Self {
            under_way: HashMap::default(),
            timers: BTreeSet::new(),
            count_max,
            serial: 0,
            random: fastrand::Rng::with_seed(seed),
        }
    }

    /// Whether one more would be too many.
    pub fn is_full(&self) -> bool {
        self.under_way.len() >= self.count_max
    }

    /// How many are under way.
    pub fn count(&self) -> usize {
        self.under_way.len()
    }

    /// Whether this id is in use towards this endpoint.
    pub fn uses(&self, peer: Peer, id: u16) -> bool {
        self.under_way.contains_key(&(peer, id))
    }

    /// Follows a confirmable message that was sent now. Not when full: the message goes out once.
    pub fn sent(&mut self, now: Time, peer: Peer, id: u16, datagram: &[u8], purpose: Purpose) {
        if self.is_full() {
            return;
        }
        // ACK_TIMEOUT times a random factor of 1 to ACK_RANDOM_FACTOR, 1.5 (§4.2).
        let timeout = self.random.u64(ACK_TIMEOUT_MS..=ACK_TIMEOUT_MS * 3 / 2);
        self.serial += 1;
        let exchange = Exchange {
            datagram: datagram.into(),
            purpose,
            due: now + timeout,
            timeout,
            resent: 0,
            serial: self.serial,
        };
        self.timers
            .insert((exchange.due, exchange.serial, peer, id));
        self.under_way.insert((peer, id), exchange);
    }

    /// Ends an exchange because the other side said something: an acknowledgement or a reset.
    pub fn end(&mut self, peer: Peer, id: u16) -> Option<Purpose> {
        let exchange = self.under_way.remove(&(peer, id))?;
        self.timers
            .remove(&(exchange.due, exchange.serial, peer, id));
        Some(exchange.purpose)
    }

    /// When the next one is due.
    pub fn due(&self) -> Option<Time> {
        self.timers.first().map(|(due, ..)| *due)
    }

    /// Takes one that is due: the timeout doubles each time, up to MAX_RETRANSMIT times (§4.2).
    pub fn take_due(&mut self, now: Time) -> Option<Due> {
        let (due, serial, peer, id) = *self.timers.first()?;
        if due > now {
            return None;
        }
        self.timers.pop_first();
        let exchange = self.under_way.get_mut(&(peer, id))?;
        if exchange.resent >= MAX_RETRANSMIT {
            let exchange = self.under_way.remove(&(peer, id))?;
            return Some(Due::GivenUp(exchange.purpose));
        }
        exchange.resent += 1;
        exchange.timeout *= 2;
        exchange.due = now + exchange.timeout;
        self.timers.insert((exchange.due, serial, peer, id));
        Some(Due::Resend(peer, exchange.datagram.clone()))
    }
}

/// Hands out message ids: a counter with a random start for each of many groups of endpoints, so an
/// id comes back to an endpoint as late as 16 bits allow (RFC 7252 §4.4), and cannot be guessed.
#[derive(Debug)]
pub struct MessageIds(Box<[u16]>);

impl MessageIds {
    /// Fresh counters.
    pub fn new(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        Self((0..1024).map(|_| random.u16(..)).collect())
    }

    /// The next id for an endpoint with this hash.
    pub fn next(&mut self, peer: u64) -> u16 {
        let group = usize::try_from(peer % 1024).expect("less than 1024");
        let id = &mut self.0[group];
        *id = id.wrapping_add(1);
        *id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer() -> Peer {
        Peer::from(std::net::SocketAddr::from(([10, 0, 0, 1], 5683)))
    }

    #[test]
    fn a_message_is_sent_five_times_and_given_up() {
        let mut exchanges = Exchanges::new(4, 1);
        exchanges.sent(0, peer(), 7, b"x", Purpose::Response);
        let mut times = Vec::new();
        let end = loop {
            let now = exchanges.due().unwrap();
            match exchanges.take_due(now).unwrap() {
                Due::Resend(..) => times.push(now),
                Due::GivenUp(purpose) => break (now, purpose),
            }
        };
        // §4.8.2: MAX_TRANSMIT_SPAN is 45 s, MAX_TRANSMIT_WAIT 93 s.
        assert_eq!(times.len(), 4);
        assert!((2000..=3000).contains(&times[0]));
        assert!((30_000..=45_000).contains(&times[3]));
        assert!((62_000..=93_000).contains(&end.0));
        assert_eq!((exchanges.count(), exchanges.due()), (0, None));
    }

    #[test]
    fn an_acknowledgement_ends_it() {
        let mut exchanges = Exchanges::new(1, 1);
        exchanges.sent(0, peer(), 7, b"x", Purpose::Response);
        exchanges.sent(0, peer(), 8, b"x", Purpose::Response);
        assert_eq!(
            exchanges.end(peer(), 8),
            None,
            "one more than fits is sent once only"
        );
        assert_eq!(exchanges.end(peer(), 7), Some(Purpose::Response));
        assert_eq!(exchanges.end(peer(), 7), None);
        assert_eq!((exchanges.due(), exchanges.take_due(1 << 40)), (None, None));
    }
}
