//! A response before it is a datagram.

use bytes::Bytes;
use mote_core::error::{Error, ErrorKind};

use crate::coap::block::Block;
use crate::coap::echo::Challenge;
use crate::coap::mapping;
use crate::coap::message::{Code, Header, Opaque, Writer, option};

/// Longest diagnostic payload (RFC 7252 §5.5.2): for people, and within one small datagram.
const DIAGNOSTIC_BYTES_MAX: usize = 256;
/// Max-Age of a refusal that names no time itself.
pub const RETRY_SECONDS: u32 = 2;

/// Code, options and payload of a response.
#[derive(Clone, Debug, Default)]
pub struct Response {
    /// What happened; 0.00 until it is set.
    pub code: Code,
    /// The payload's tag.
    pub etag: Option<Opaque>,
    /// Its place in a row of notifications (RFC 7641 §3.4).
    pub observe: Option<u32>,
    /// What the payload is.
    pub format: Option<u16>,
    /// How long it is fresh, or when to try again, in seconds.
    pub max_age: Option<u32>,
    /// Which block of the reply this is.
    pub block2: Option<Block>,
    /// Which block of the request this answers.
    pub block1: Option<Block>,
    /// Size of the whole reply.
    pub size2: Option<u32>,
    /// Size that a request may have.
    pub size1: Option<u32>,
    /// What has to be sent back (RFC 9175 §2.2).
    pub echo: Option<Challenge>,
    /// The bytes.
    pub payload: Bytes,
}

impl Response {
    /// A response without anything else.
    pub fn new(code: Code) -> Self {
        Self {
            code,
            ..Self::default()
        }
    }

    /// An error with a text for people.
    pub fn diagnostic(code: Code, text: &str) -> Self {
        let end = text.floor_char_boundary(DIAGNOSTIC_BYTES_MAX);
        Self {
            payload: Bytes::copy_from_slice(&text.as_bytes()[..end]),
            ..Self::new(code)
        }
    }

    /// The door or the node has no room; try again later (RFC 7252 §5.9.3.4).
    pub fn unavailable(text: &str) -> Self {
        Self {
            max_age: Some(RETRY_SECONDS),
            ..Self::diagnostic(Code::UNAVAILABLE, text)
        }
    }

    /// An error of the platform.
    pub fn error(error: &Error) -> Self {
        let asked_to_wait = matches!(error.kind(), ErrorKind::Throttled | ErrorKind::Overloaded);
        let delay = error.retry_after().map(mapping::delay);
        Self {
            max_age: delay.or_else(|| asked_to_wait.then_some(RETRY_SECONDS)),
            ..Self::diagnostic(mapping::kind_code(error.kind()), error.message())
        }
    }

    /// Writes the response as a datagram.
    pub fn write(&self, buffer: &mut Vec<u8>, header: &Header) {
        let mut writer = Writer::new(buffer, header);
        if let Some(etag) = &self.etag {
            writer.option(option::ETAG, etag.as_slice());
        }
        let numbers = [
            (option::OBSERVE, self.observe),
            (option::CONTENT_FORMAT, self.format.map(u32::from)),
            (option::MAX_AGE, self.max_age),
            (option::BLOCK2, self.block2.map(Block::to_option)),
            (option::BLOCK1, self.block1.map(Block::to_option)),
            (option::SIZE2, self.size2),
            (option::SIZE1, self.size1),
        ];
        for (number, value) in numbers {
            if let Some(value) = value {
                writer.uint(number, value);
            }
        }
        if let Some(echo) = &self.echo {
            writer.option(option::ECHO, echo);
        }
        writer.payload(&self.payload);
    }
}
