//! A CoAP client: requests, block-wise bodies and observation (RFC 7252, 7959, 7641, 9175).
//!
//! One client is one UDP socket that talks to one endpoint, one exchange at a time. Bounded by the
//! time a caller gives and by [`BODY_BYTES_MAX`]; what does not parse or does not belong to the
//! exchange is ignored.

mod exchange;
mod observation;
mod transfer;

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use coap_lite::{CoapOption, Packet};
use mote_core::error::{Error, ErrorKind};
use tokio::net::UdpSocket;

pub use observation::Observation;

/// The port of `coap:` addresses without one (RFC 7252 §6.1).
pub const PORT: u16 = 5683;
/// Largest body, sent or received.
pub const BODY_BYTES_MAX: usize = 64 << 20;

/// Echo (RFC 9175 §2.2): repeated to prove that the client is where its datagrams say.
const ECHO: u16 = 252;
/// Request-Tag (RFC 9175 §3.2): keeps the blocks of one body apart from another's.
const REQUEST_TAG: u16 = 292;

/// How long to wait, and how often to try (RFC 7252 §4.8).
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// First wait for an answer; multiplied by a random factor up to 1.5, doubled each time.
    pub ack_timeout: Duration,
    /// How often a message is sent again.
    pub retransmit_max: u32,
    /// Longest wait for the answer of one exchange.
    pub answer_timeout: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            ack_timeout: Duration::from_secs(2),
            retransmit_max: 4,
            answer_timeout: Duration::from_secs(60),
        }
    }
}

/// What to ask.
#[derive(Clone, Debug)]
pub struct Request {
    /// Request code: 1 GET, 2 POST, 3 PUT, 4 DELETE, 5 FETCH, 6 PATCH, 7 iPATCH.
    pub code: u8,
    /// Path segments, decoded.
    pub path: Vec<String>,
    /// Query items, decoded.
    pub query: Vec<String>,
    /// Content-Format of the payload.
    pub content_format: Option<u16>,
    /// Content-Format wanted.
    pub accept: Option<u16>,
    /// Body; sent block-wise when it is longer than a block.
    pub payload: Bytes,
    /// Largest block: a power of two from 16 to 1024.
    pub block_size: usize,
}

/// What was answered, all blocks together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// Response code, class in the upper three bits.
    pub code: u8,
    /// Content-Format of the payload.
    pub content_format: Option<u16>,
    /// Sequence number of a notification.
    pub observe: Option<u32>,
    /// Seconds for which the answer is fresh.
    pub max_age: Option<u32>,
    /// Body.
    pub payload: Bytes,
}

/// The host and port of an address, and what to ask there.
#[derive(Clone, Debug)]
pub struct Target {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Path segments, decoded.
    pub path: Vec<String>,
    /// Query items, decoded.
    pub query: Vec<String>,
}

/// A client of one endpoint.
#[derive(Debug)]
pub struct Client {
    socket: UdpSocket,
    endpoint: SocketAddr,
    timing: Timing,
    next_message_id: u16,
    /// The last Echo value the endpoint gave.
    echo: Option<Vec<u8>>,
}

impl Target {
    /// Takes a `coap:` address apart (RFC 7252 §6.4).
    pub fn parse(url: &str) -> Result<Self, Error> {
        let bad = || {
            Error::new(
                ErrorKind::BadRequest,
                format!("`{}` is not a coap address", url.escape_debug()),
            )
            .with_hint("write coap://HOST[:PORT]/FUNCTION")
        };
        let uri: http::Uri = url.parse().map_err(|_| bad())?;
        if uri.scheme_str() != Some("coap") {
            return Err(bad());
        }
        let host = uri.host().ok_or_else(bad)?;
        let decode = |part: &str| decoded(part).ok_or_else(bad);
        let path = uri.path().trim_start_matches('/');
        Ok(Self {
            host: host
                .trim_start_matches('[')
                .trim_end_matches(']')
                .to_owned(),
            port: uri.port_u16().unwrap_or(PORT),
            path: if path.is_empty() {
                Vec::new()
            } else {
                path.split('/').map(decode).collect::<Result<_, _>>()?
            },
            query: match uri.query() {
                Some(query) if !query.is_empty() => {
                    query.split('&').map(decode).collect::<Result<_, _>>()?
                }
                _ => Vec::new(),
            },
        })
    }
}

impl Request {
    /// A request for a target, without a body.
    pub fn new(code: u8, target: &Target) -> Self {
        Self {
            code,
            path: target.path.clone(),
            query: target.query.clone(),
            content_format: None,
            accept: None,
            payload: Bytes::new(),
            block_size: 1024,
        }
    }

    /// The code of a method, by its HTTP name.
    pub fn code(method: &str) -> Option<u8> {
        const METHODS: [&str; 7] = ["GET", "POST", "PUT", "DELETE", "FETCH", "PATCH", "IPATCH"];
        let place = METHODS
            .iter()
            .position(|name| name.eq_ignore_ascii_case(method))?;
        u8::try_from(place + 1).ok()
    }

    /// The message without what an exchange adds.
    fn packet(&self) -> Packet {
        let mut packet = Packet::new();
        packet.header.set_version(1);
        packet.header.code = self.code.into();
        for segment in &self.path {
            packet.add_option(CoapOption::UriPath, segment.clone().into_bytes());
        }
        for item in &self.query {
            packet.add_option(CoapOption::UriQuery, item.clone().into_bytes());
        }
        if let Some(format) = self.accept {
            packet.add_option(CoapOption::Accept, uint(format.into()));
        }
        packet
    }
}

impl Response {
    fn from_packet(packet: &Packet, payload: Bytes) -> Self {
        let number = |option| {
            packet
                .get_first_option(option)
                .and_then(|value| read_uint(value))
        };
        Self {
            code: packet.header.code.into(),
            content_format: number(CoapOption::ContentFormat)
                .and_then(|format| u16::try_from(format).ok()),
            observe: number(CoapOption::Observe),
            max_age: number(CoapOption::MaxAge),
            payload,
        }
    }

    /// Class and detail, `(2, 5)` for 2.05.
    pub fn class(&self) -> (u8, u8) {
        (self.code >> 5, self.code & 0x1f)
    }

    /// The kind of failure, or `None` for class 2.
    pub fn failure(&self) -> Option<ErrorKind> {
        let class = self.class();
        let exact = ErrorKind::ALL.iter().find(|kind| kind.coap_code() == class);
        match (class.0, exact) {
            (2, _) => None,
            (_, Some(ErrorKind::StorageFull)) => Some(ErrorKind::FunctionFailed),
            (_, Some(kind)) => Some(*kind),
            (4, None) => Some(ErrorKind::BadRequest),
            _ => Some(ErrorKind::FunctionFailed),
        }
    }
}

impl Client {
    /// A socket for this host and port. Nothing is sent yet.
    pub async fn connect(host: &str, port: u16, timing: Timing) -> Result<Self, Error> {
        let failed = |error: std::io::Error| {
            Error::new(
                ErrorKind::Overloaded,
                format!("cannot reach {host}:{port}: {error}"),
            )
            .with_hint("check host and port")
        };
        let endpoint = tokio::net::lookup_host((host, port))
            .await
            .map_err(failed)?
            .next()
            .ok_or_else(|| failed(std::io::ErrorKind::NotFound.into()))?;
        let local = match endpoint {
            SocketAddr::V4(_) => "0.0.0.0:0",
            SocketAddr::V6(_) => "[::]:0",
        };
        let socket = UdpSocket::bind(local).await.map_err(failed)?;
        socket.connect(endpoint).await.map_err(failed)?;
        Ok(Self {
            socket,
            endpoint,
            timing,
            next_message_id: fastrand::u16(..),
            echo: None,
        })
    }
}

/// An option's number as bytes (RFC 7252 §3.2): big-endian without leading zeros.
fn uint(value: u32) -> Vec<u8> {
    let bytes = value.to_be_bytes();
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    bytes[zeros..].to_vec()
}

fn read_uint(bytes: &[u8]) -> Option<u32> {
    (bytes.len() <= 4).then(|| {
        bytes
            .iter()
            .fold(0, |value, byte| value << 8 | u32::from(*byte))
    })
}

/// Undoes percent-encoding. `None` when the result is no UTF-8 or an escape is broken.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let high = char::from(rest.next()?).to_digit(16)?;
        let low = char::from(rest.next()?).to_digit(16)?;
        bytes.push(u8::try_from(high << 4 | low).ok()?);
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests;
