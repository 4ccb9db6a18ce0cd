//! A request's options, read once (RFC 7252 §5.4, §5.10).

use std::hash::{BuildHasher, Hasher};

use foldhash::quality::RandomState;
use http::header::{self, HeaderMap};
use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue};
use mote_core::error::{Error, ErrorKind};

use crate::coap::block::Block;
use crate::coap::mapping;
use crate::coap::message::{Header, Message, Opaque, option, uint};

/// Longest path and query, percent-encoded.
const TARGET_BYTES_MAX: usize = 8 << 10;

/// A request with the options that the door looks at.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    message: Message<'a>,
    /// Type, method, id and token.
    pub header: Header,
    /// The body, or a block of it.
    pub payload: &'a [u8],
    /// The first Uri-Path.
    pub name: &'a [u8],
    /// The second Uri-Path.
    pub second: Option<&'a [u8]>,
    /// How many Uri-Path there are.
    pub segments: usize,
    /// Content-Format.
    pub content_format: Option<u16>,
    /// Accept.
    pub accept: Option<u16>,
    /// Observe.
    pub observe: Option<u32>,
    /// Block1.
    pub block1: Option<Block>,
    /// Block2.
    pub block2: Option<Block>,
    /// Size1.
    pub size1: Option<u32>,
    /// Classes of responses that are not wanted, one bit each (RFC 7967 §2.1).
    pub unwanted: u32,
    /// Whether there is an ETag.
    pub has_etag: bool,
    has_conditions: bool,
}

/// Why a request is refused before its path is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A critical option that is not known, or used wrongly (RFC 7252 §5.4.1, §5.4.3, §5.4.5).
    Critical(u16),
    /// The request is meant for a proxy (RFC 7252 §5.7.2).
    Proxy,
    /// The reserved block size (RFC 7959 §2.2).
    BlockSize,
}

impl<'a> Request<'a> {
    /// Reads the options.
    pub fn read(message: Message<'a>) -> Result<Self, Refusal> {
        let mut request = Self {
            message,
            header: message.header,
            payload: message.payload,
            name: &[],
            second: None,
            segments: 0,
            content_format: None,
            accept: None,
            observe: None,
            block1: None,
            block2: None,
            size1: None,
            unwanted: 0,
            has_etag: false,
            has_conditions: false,
        };
        let mut previous = None;
        for (number, value) in message.options() {
            request.take(number, value, previous == Some(number))?;
            previous = Some(number);
        }
        Ok(request)
    }

    fn take(&mut self, number: u16, value: &'a [u8], again: bool) -> Result<(), Refusal> {
        let repeatable = matches!(
            number,
            option::IF_MATCH
                | option::ETAG
                | option::URI_PATH
                | option::URI_QUERY
                | option::REQUEST_TAG
        );
        if again && !repeatable {
            return refuse_critical(number);
        }
        let ok = match number {
            option::URI_PATH => {
                match self.segments {
                    0 => self.name = value,
                    1 => self.second = Some(value),
                    _ => {}
                }
                self.segments += 1;
                value.len() <= 255
            }
            option::URI_QUERY | option::URI_HOST => value.len() <= 255,
            option::URI_PORT => value.len() <= 2,
            option::CONTENT_FORMAT => set(&mut self.content_format, value),
            option::ACCEPT => set(&mut self.accept, value),
            option::OBSERVE => {
                self.observe = uint(value).filter(|_| value.len() <= 3);
                true
            }
            option::BLOCK1 => return block(&mut self.block1, number, value),
            option::BLOCK2 => return block(&mut self.block2, number, value),
            option::SIZE1 => {
                self.size1 = uint(value);
                true
            }
            option::NO_RESPONSE => {
                self.unwanted = uint(value).filter(|_| value.len() <= 1).unwrap_or(0);
                true
            }
            option::ETAG => {
                self.has_etag |= (1..=8).contains(&value.len());
                true
            }
            option::IF_MATCH => {
                self.has_conditions = true;
                value.len() <= 8
            }
            option::IF_NONE_MATCH => {
                self.has_conditions = true;
                value.is_empty()
            }
            option::PROXY_URI | option::PROXY_SCHEME => return Err(Refusal::Proxy),
            // Elective options that are not known are ignored (§5.4.1).
            _ => !option::is_critical(number),
        };
        if ok { Ok(()) } else { refuse_critical(number) }
    }

    /// The path is `/`.
    pub fn is_root(&self) -> bool {
        self.segments == 0 || (self.segments == 1 && self.name.is_empty())
    }

    /// The path is `/.well-known/core` (RFC 6690 §4).
    pub fn is_discovery(&self) -> bool {
        self.segments == 2 && self.name == b".well-known" && self.second == Some(b"core")
    }

    /// The values of Uri-Query.
    pub fn queries(&self) -> impl Iterator<Item = &'a [u8]> {
        self.message.values(option::URI_QUERY)
    }

    /// The entity tags of representations that the client has (RFC 7252 §5.10.6.2).
    pub fn etags(&self) -> Option<impl Iterator<Item = Opaque>> {
        let values = || self.message.values(option::ETAG).filter_map(Opaque::new);
        self.has_etag.then(values)
    }

    /// Path and query as a function sees them, and how many bytes of it are the function's name
    /// (RFC 7252 §6.5).
    pub fn target(&self) -> Result<(PathAndQuery, u16), Error> {
        let mut text = String::with_capacity(64);
        let mut prefix = 0;
        for segment in self.message.values(option::URI_PATH) {
            text.push('/');
            encode(&mut text, segment, PATH_SAFE);
            if prefix == 0 {
                prefix = text.len();
            }
        }
        for (place, query) in self.queries().enumerate() {
            text.push(if place == 0 { '?' } else { '&' });
            encode(&mut text, query, QUERY_SAFE);
        }
        let too_long = || {
            let message = format!("path and query are longer than {TARGET_BYTES_MAX} bytes");
            Error::new(ErrorKind::BadRequest, message)
        };
        if text.len() > TARGET_BYTES_MAX {
            return Err(too_long());
        }
        let prefix = u16::try_from(prefix).map_err(|_| too_long())?;
        let target =
            PathAndQuery::from_maybe_shared(bytes::Bytes::from(text)).map_err(|error| {
                Error::new(
                    ErrorKind::BadRequest,
                    format!("the path is not valid: {error}"),
                )
            })?;
        Ok((target, prefix))
    }

    /// The headers that options map to (RFC 8075 §6, the other way round). No map is made for a
    /// request that needs none.
    pub fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let mut set = |name: HeaderName, value: Option<HeaderValue>| {
            if let Some(value) = value {
                headers.append(name, value);
            }
        };
        if let Some(format) = self.content_format {
            set(header::CONTENT_TYPE, mapping::media_type(format));
        }
        if let Some(format) = self.accept {
            set(header::ACCEPT, mapping::media_type(format));
        }
        if self.has_conditions {
            for value in self.message.values(option::IF_MATCH) {
                let any = value.is_empty().then(|| HeaderValue::from_static("*"));
                set(
                    header::IF_MATCH,
                    any.or_else(|| mapping::etag_header(value)),
                );
            }
            for _ in self.message.values(option::IF_NONE_MATCH) {
                set(header::IF_NONE_MATCH, Some(HeaderValue::from_static("*")));
            }
        }
        if let Some(etags) = self.etags() {
            for etag in etags {
                set(header::IF_NONE_MATCH, mapping::etag_header(etag.as_slice()));
            }
        }
        headers
    }

    /// What the blocks of one body have in common, as a hash: endpoint, method, and every option
    /// that is part of what is asked (RFC 7959 §2.4: all but the block options themselves).
    /// Request-Tag tells uploads apart (RFC 9175 §3.3); it is not repeated when the blocks of a
    /// reply are fetched, so it is left out there.
    pub fn key(&self, state: &RandomState, peer: u64, purpose: KeyOf) -> u64 {
        let mut hasher = state.build_hasher();
        hasher.write_u64(peer);
        hasher.write_u8(self.header.code.0);
        for (number, value) in self.message.options() {
            let part = match number {
                option::URI_PATH | option::URI_QUERY | option::ACCEPT => true,
                option::CONTENT_FORMAT
                | option::REQUEST_TAG
                | option::IF_MATCH
                | option::IF_NONE_MATCH => purpose == KeyOf::Upload,
                _ => false,
            };
            if part {
                hasher.write_u16(number);
                hasher.write_usize(value.len());
                hasher.write(value);
            }
        }
        hasher.write_u8(u8::from(purpose == KeyOf::Upload));
        hasher.finish()
    }
}

/// What a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyOf {
    /// The body of a request.
    Upload,
    /// The body of a reply.
    Reply,
}

fn refuse_critical(number: u16) -> Result<(), Refusal> {
    if option::is_critical(number) {
        return Err(Refusal::Critical(number));
    }
    Ok(())
}

fn set(place: &mut Option<u16>, value: &[u8]) -> bool {
    *place = uint(value).and_then(|number| u16::try_from(number).ok());
    value.len() <= 2
}

fn block(place: &mut Option<Block>, number: u16, value: &[u8]) -> Result<(), Refusal> {
    let value = uint(value)
        .filter(|_| value.len() <= 3)
        .ok_or(Refusal::Critical(number))?;
    *place = Some(Block::from_option(value).ok_or(Refusal::BlockSize)?);
    Ok(())
}

/// Bytes that stand for themselves in a path segment: unreserved, sub-delims, `:` and `@`
/// (RFC 3986 §3.3).
const PATH_SAFE: &[bool; 256] = &safe(b"-._~!$&'()*+,;=:@");
/// Those in an argument of a query: the same with `/` and `?`, without the `&` between arguments.
const QUERY_SAFE: &[bool; 256] = &safe(b"-._~!$'()*+,;=:@/?");

const fn safe(others: &[u8]) -> [bool; 256] {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        #[expect(clippy::cast_possible_truncation, reason = "less than 256")]
        let letter = byte as u8;
        table[byte] = letter.is_ascii_alphanumeric();
        byte += 1;
    }
    let mut place = 0;
    while place < others.len() {
        table[others[place] as usize] = true;
        place += 1;
    }
    table
}

fn encode(text: &mut String, bytes: &[u8], safe: &[bool; 256]) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for byte in bytes {
        if safe[usize::from(*byte)] {
            text.push(char::from(*byte));
        } else {
            text.push('%');
            text.push(char::from(DIGITS[usize::from(byte >> 4)]));
            text.push(char::from(DIGITS[usize::from(byte & 0xf)]));
        }
    }
}
