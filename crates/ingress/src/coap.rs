//! The CoAP door: functions over UDP (RFC 7252), block-wise (RFC 7959), observable (RFC 7641),
//! discoverable (RFC 6690), and useless for amplification (RFC 9175).
//!
//! Each shard is one task with its own socket on the same address; the kernel gives an endpoint's
//! datagrams always to the same one. All state of a shard belongs to its task, so there is no lock.
//! The protocol is a state machine without I/O ([`endpoint::Endpoint`]): datagrams, replies and the
//! time go in, datagrams and calls come out. Around it, `shard` moves batches between the socket,
//! the state machine and the engine.
//!
//! Everything that a peer can make grow has a bound in [`Bounds`], and running into one is counted
//! in [`counters::Counters`] and answered 5.03, never with a silent loss.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::time::Duration;

pub mod block;
pub mod counters;
pub mod dedup;
pub mod discovery;
mod door;
pub mod echo;
pub mod endpoint;
pub mod exchange;
pub mod functions;
pub mod mapping;
pub mod message;
pub mod observe;
pub mod request;
pub mod response;
mod shard;
mod udp;

pub use door::Door;

/// Milliseconds since the door was bound.
pub type Time = u64;

/// How long a message id must not be used again, with the transmission parameters of RFC 7252
/// §4.8.2: the longest that a copy of a message can still arrive.
pub const EXCHANGE_LIFETIME_MS: Time = 247_000;

/// The other side: where a datagram came from, and which of our addresses it came to. Both belong
/// to an endpoint (RFC 7252 §1.2), and a reply must leave from the address that was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Peer {
    /// Address and port of the other side.
    pub address: SocketAddr,
    /// Our own address, if the system told.
    pub local: Option<IpAddr>,
}

impl From<SocketAddr> for Peer {
    fn from(address: SocketAddr) -> Self {
        Self {
            address,
            local: None,
        }
    }
}

/// What the door is to do.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen; `[::]` means IPv4 as well, port 0 picks one.
    pub address: SocketAddr,
    /// How many sockets share the address, each with a task on a worker.
    pub shards: NonZeroUsize,
    /// When a call takes longer, the client gets an empty acknowledgement first (RFC 7252 §5.2.2).
    /// Well below ACK_TIMEOUT, 2 s, after which it would send again.
    pub separate_after: Duration,
    /// Largest block of a block-wise transfer: 16 to 1024, a power of two.
    pub block_size: u16,
    /// Who has to show first that it receives what we send.
    pub echo: EchoMode,
    /// What the door may hold.
    pub bounds: Bounds,
}

impl Config {
    /// The defaults.
    pub fn new(address: SocketAddr) -> Self {
        Self {
            address,
            shards: NonZeroUsize::MIN,
            separate_after: Duration::from_millis(200),
            block_size: 1024,
            echo: EchoMode::PrivateExempt,
            bounds: Bounds::default(),
        }
    }
}

/// Which endpoints have to pass the Echo of RFC 9175 before they are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EchoMode {
    /// All but loopback, private, link-local and unique-local addresses.
    PrivateExempt,
    /// All.
    Always,
    /// None: for networks that nobody can send forged datagrams into.
    Never,
}

/// What the door holds at most, over all shards.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// Calls under way.
    pub calls: usize,
    /// Bytes that remember requests for EXCHANGE_LIFETIME, about 10 to 20 for each; without a number,
    /// a 32nd of the machine's memory, at least 4 MiB and at most 256 MiB.
    pub facts_bytes: Option<usize>,
    /// Bytes of replies kept for copies of their requests.
    pub replies_bytes: usize,
    /// Confirmable messages waiting for their acknowledgement.
    pub exchanges: usize,
    /// Uploads under way, in all and for one endpoint, and their bytes.
    pub uploads: block::Bounds,
    /// Replies under way block by block, in all and for one endpoint, and their bytes.
    pub transfers: block::Bounds,
    /// Observers, in all and for one endpoint.
    pub observers: observe::Bounds,
    /// Endpoints that are remembered to have passed the Echo.
    pub verified: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        let blocks = block::Bounds {
            count: 1024,
            count_per_peer: 8,
            bytes: 64 << 20,
        };
        Self {
            calls: 16_384,
            facts_bytes: None,
            replies_bytes: 16 << 20,
            exchanges: 16_384,
            uploads: blocks,
            transfers: block::Bounds {
                count_per_peer: 64,
                ..blocks
            },
            observers: observe::Bounds {
                count: 65_536,
                count_per_peer: 256,
            },
            verified: 65_536,
        }
    }
}
