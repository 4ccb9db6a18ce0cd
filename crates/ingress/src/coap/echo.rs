//! The amplification guard of RFC 9175 §2.3: before anything is done for an address that could be
//! forged, it has to show that it receives what we send.
//!
//! The challenge is stateless, a time and a keyed hash of the endpoint and that time, so a flood of
//! forged requests costs no memory. Endpoints that passed are remembered in two halves of a bounded
//! table; the older half goes as a whole, and whoever is forgotten is asked again.

use std::collections::HashSet;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::mem;
use std::net::IpAddr;

use crate::coap::{EchoMode, Peer, Time};

/// How long a challenge can be answered.
const VALID_SECONDS: u32 = 300;
/// How long an endpoint is remembered, at least, if there is room.
const REMEMBERED_MS: Time = 600_000;
/// A challenge: four bytes of time and eight of hash.
pub type Challenge = [u8; 12];

/// Knows who may be answered.
#[derive(Debug)]
pub struct Guard {
    mode: EchoMode,
    /// SipHash, because the hash is shown to others and must not reveal its key.
    key: RandomState,
    young: HashSet<Peer>,
    old: HashSet<Peer>,
    turned: Time,
    count_max: usize,
}

impl Guard {
    /// Remembers at most `count_max` endpoints. All guards of a door share a key.
    pub fn new(mode: EchoMode, key: RandomState, count_max: usize) -> Self {
        Self {
            mode,
            key,
            young: HashSet::new(),
            old: HashSet::new(),
            turned: 0,
            count_max,
        }
    }

    /// Whether this endpoint may be served: it is exempt, or passed before, or passes now.
    pub fn admits(&mut self, now: Time, peer: Peer, echo: Option<&[u8]>) -> bool {
        let exempt = match self.mode {
            EchoMode::Never => true,
            EchoMode::PrivateExempt => is_private(peer.address.ip()),
            EchoMode::Always => false,
        };
        if exempt || self.young.contains(&peer) {
            return true;
        }
        let passes =
            self.old.contains(&peer) || echo.is_some_and(|echo| self.check(now, peer, echo));
        if passes {
            self.remember(now, peer);
        }
        passes
    }

    /// What the endpoint has to send back.
    pub fn challenge(&self, now: Time, peer: Peer) -> Challenge {
        self.sign(peer, seconds(now))
    }

    /// How many endpoints are remembered.
    pub fn count(&self) -> usize {
        self.young.len() + self.old.len()
    }

    fn check(&self, now: Time, peer: Peer, echo: &[u8]) -> bool {
        let Some((time, _)) = echo.split_first_chunk::<4>() else {
            return false;
        };
        let then = u32::from_be_bytes(*time);
        let age = seconds(now).checked_sub(then);
        // The time that a comparison takes tells nothing here: a challenge is for one endpoint, and
        // whoever can measure that endpoint's replies has passed already.
        age.is_some_and(|age| age <= VALID_SECONDS) && self.sign(peer, then) == echo
    }

    fn sign(&self, peer: Peer, time: u32) -> Challenge {
        let mut hasher = self.key.build_hasher();
        match peer.address.ip() {
            IpAddr::V4(ip) => hasher.write(&ip.octets()),
            IpAddr::V6(ip) => hasher.write(&ip.octets()),
        }
        hasher.write_u16(peer.address.port());
        hasher.write_u32(time);
        let mut challenge = [0; 12];
        challenge[..4].copy_from_slice(&time.to_be_bytes());
        challenge[4..].copy_from_slice(&hasher.finish().to_be_bytes());
        challenge
    }

    fn remember(&mut self, now: Time, peer: Peer) {
        let full = self.young.len() >= self.count_max / 2;
        if full || now >= self.turned + REMEMBERED_MS {
            self.old = mem::take(&mut self.young);
            self.turned = now;
        }
        self.young.insert(peer);
    }
}

fn seconds(now: Time) -> u32 {
    // A door that is up for 136 years asks everyone again.
    u32::try_from((now / 1000) & u64::from(u32::MAX)).expect("masked to 32 bits")
}

/// Addresses that a sender outside of the local network cannot forge usefully: loopback, private
/// (RFC 1918), link-local and unique-local ones.
fn is_private(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_private() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;

    fn peer(address: &str) -> Peer {
        Peer::from(address.parse::<SocketAddr>().unwrap())
    }

    #[test]
    fn only_private_addresses_are_exempt() {
        let mut guard = Guard::new(EchoMode::PrivateExempt, RandomState::new(), 8);
        for (address, exempt) in [
            ("127.0.0.1:1", true),
            ("10.1.2.3:1", true),
            ("172.16.0.1:1", true),
            ("192.168.1.1:1", true),
            ("169.254.1.1:1", true),
            ("[::1]:1", true),
            ("[fe80::1]:1", true),
            ("[fd00::1]:1", true),
            ("[::ffff:10.0.0.1]:1", true),
            ("[::ffff:8.8.8.8]:1", false),
            ("8.8.8.8:1", false),
            ("[2001:db8::1]:1", false),
        ] {
            assert_eq!(guard.admits(0, peer(address), None), exempt, "{address}");
        }
        let mut always = Guard::new(EchoMode::Always, RandomState::new(), 8);
        assert!(!always.admits(0, peer("127.0.0.1:1"), None));
        let mut never = Guard::new(EchoMode::Never, RandomState::new(), 8);
        assert!(never.admits(0, peer("8.8.8.8:1"), None));
    }

    #[test]
    fn a_challenge_is_for_one_endpoint_and_ends() {
        let mut guard = Guard::new(EchoMode::Always, RandomState::new(), 8);
        let (a, b) = (peer("8.8.8.8:1"), peer("8.8.8.8:2"));
        let challenge = guard.challenge(1000, a);
        assert!(!guard.admits(1000, b, Some(&challenge)));
        assert!(!guard.admits(302_000, a, Some(&challenge)), "too late");
        assert!(!guard.admits(1000, a, Some(&challenge[..11])));
        assert!(guard.admits(300_000, a, Some(&challenge)));
        assert!(guard.admits(500_000, a, None), "it is remembered");
    }

    #[test]
    fn the_table_is_bounded() {
        let mut guard = Guard::new(EchoMode::Always, RandomState::new(), 8);
        for port in 1..100 {
            let peer = peer(&format!("8.8.8.8:{port}"));
            let challenge = guard.challenge(0, peer);
            assert!(guard.admits(0, peer, Some(&challenge)));
            assert!(guard.count() <= 8);
        }
    }
}
