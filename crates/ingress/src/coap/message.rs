//! The message format of RFC 7252 §3: read in place without a copy, written into a buffer.
//!
//! An own reader, because the packet type of `coap-lite` makes a tree of lists of vectors for every
//! datagram, and because it lets an empty payload after the marker and unknown versions pass. A
//! property test holds the two against each other. Reading is bounded by the datagram and never
//! fails halfway: options that were parsed once are only walked afterwards.

use std::fmt;

/// How a message is delivered (RFC 7252 §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Wants an acknowledgement.
    Confirmable,
    /// Wants none.
    NonConfirmable,
    /// Acknowledges a confirmable message.
    Acknowledgement,
    /// Refuses a message.
    Reset,
}

/// A method or response code, class and detail in one byte (RFC 7252 §3).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Code(pub u8);

#[expect(missing_docs, reason = "the names are those of RFC 7252 §12.1")]
impl Code {
    pub const EMPTY: Self = Self::new(0, 0);
    pub const GET: Self = Self::new(0, 1);
    pub const POST: Self = Self::new(0, 2);
    pub const PUT: Self = Self::new(0, 3);
    pub const DELETE: Self = Self::new(0, 4);
    pub const FETCH: Self = Self::new(0, 5);
    pub const PATCH: Self = Self::new(0, 6);
    pub const IPATCH: Self = Self::new(0, 7);
    pub const CREATED: Self = Self::new(2, 1);
    pub const DELETED: Self = Self::new(2, 2);
    pub const VALID: Self = Self::new(2, 3);
    pub const CHANGED: Self = Self::new(2, 4);
    pub const CONTENT: Self = Self::new(2, 5);
    pub const CONTINUE: Self = Self::new(2, 31);
    pub const BAD_REQUEST: Self = Self::new(4, 0);
    pub const UNAUTHORIZED: Self = Self::new(4, 1);
    pub const BAD_OPTION: Self = Self::new(4, 2);
    pub const NOT_FOUND: Self = Self::new(4, 4);
    pub const METHOD_NOT_ALLOWED: Self = Self::new(4, 5);
    pub const NOT_ACCEPTABLE: Self = Self::new(4, 6);
    pub const INCOMPLETE: Self = Self::new(4, 8);
    pub const TOO_LARGE: Self = Self::new(4, 13);
    pub const INTERNAL: Self = Self::new(5, 0);
    pub const UNAVAILABLE: Self = Self::new(5, 3);
    pub const NO_PROXY: Self = Self::new(5, 5);

    /// A code from its class and detail.
    pub const fn new(class: u8, detail: u8) -> Self {
        Self(class << 5 | (detail & 0x1f))
    }

    /// 0 is a method, 2 success, 4 and 5 errors.
    pub const fn class(self) -> u8 {
        self.0 >> 5
    }

    /// The two digits after the dot.
    pub const fn detail(self) -> u8 {
        self.0 & 0x1f
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:02}", self.class(), self.detail())
    }
}

/// Numbers of options (RFC 7252 §5.10, and the RFC named at each).
#[expect(missing_docs, reason = "the names are those of the RFCs")]
pub mod option {
    pub const IF_MATCH: u16 = 1;
    pub const URI_HOST: u16 = 3;
    pub const ETAG: u16 = 4;
    pub const IF_NONE_MATCH: u16 = 5;
    /// RFC 7641 §2.
    pub const OBSERVE: u16 = 6;
    pub const URI_PORT: u16 = 7;
    pub const URI_PATH: u16 = 11;
    pub const CONTENT_FORMAT: u16 = 12;
    pub const MAX_AGE: u16 = 14;
    pub const URI_QUERY: u16 = 15;
    pub const ACCEPT: u16 = 17;
    /// RFC 7959 §2.1.
    pub const BLOCK2: u16 = 23;
    pub const BLOCK1: u16 = 27;
    pub const SIZE2: u16 = 28;
    pub const PROXY_URI: u16 = 35;
    pub const PROXY_SCHEME: u16 = 39;
    pub const SIZE1: u16 = 60;
    /// RFC 9175 §2.2.
    pub const ECHO: u16 = 252;
    /// RFC 7967 §2.
    pub const NO_RESPONSE: u16 = 258;
    /// RFC 9175 §3.2.
    pub const REQUEST_TAG: u16 = 292;

    /// Whether a message with this option must be refused when the option is not known (§5.4.6).
    pub const fn is_critical(number: u16) -> bool {
        number & 1 == 1
    }
}

/// Up to eight opaque bytes: a token or an entity tag.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Opaque {
    length: u8,
    bytes: [u8; 8],
}

impl Opaque {
    /// The bytes, or nothing if there are more than eight.
    pub fn new(slice: &[u8]) -> Option<Self> {
        let mut bytes = [0; 8];
        bytes.get_mut(..slice.len())?.copy_from_slice(slice);
        Some(Self {
            length: u8::try_from(slice.len()).ok()?,
            bytes,
        })
    }

    /// Eight bytes from a number.
    pub const fn from_u64(value: u64) -> Self {
        Self {
            length: 8,
            bytes: value.to_be_bytes(),
        }
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

impl fmt::Debug for Opaque {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_slice()
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The fixed part of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// How it is delivered.
    pub kind: Kind,
    /// What it is.
    pub code: Code,
    /// Pairs messages with their acknowledgements, and tells copies.
    pub id: u16,
    /// Pairs responses with requests.
    pub token: Opaque,
}

/// A message, read in place.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// The fixed part.
    pub header: Header,
    options: &'a [u8],
    /// What follows the options.
    pub payload: &'a [u8],
}

/// Why a datagram is not a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// Not to be answered at all (RFC 7252 §3: unknown versions; §4.3: not confirmable).
    Ignore,
    /// A confirmable message with this id: to be refused with a reset (RFC 7252 §4.2).
    Reset(u16),
}

impl Header {
    /// Reads the fixed part of a datagram, and returns what follows it.
    pub fn parse(datagram: &[u8]) -> Result<(Self, &[u8]), Malformed> {
        let [first, code, id_high, id_low, rest @ ..] = datagram else {
            return Err(Malformed::Ignore);
        };
        if first >> 6 != 1 {
            return Err(Malformed::Ignore);
        }
        let kind = match first >> 4 & 0b11 {
            0 => Kind::Confirmable,
            1 => Kind::NonConfirmable,
            2 => Kind::Acknowledgement,
            _ => Kind::Reset,
        };
        let id = u16::from_be_bytes([*id_high, *id_low]);
        let refused = Malformed::of(kind, id);
        let code = Code(*code);
        // An empty message is these four bytes and nothing else (§4.1).
        if code == Code::EMPTY && (datagram.len() > 4 || first & 0x0f != 0) {
            return Err(refused);
        }
        // Lengths 9 to 15 are reserved (§3).
        let token_length = usize::from(first & 0x0f);
        let (token, rest) = rest.split_at_checked(token_length).ok_or(refused)?;
        let token = Opaque::new(token).ok_or(refused)?;
        let header = Self {
            kind,
            code,
            id,
            token,
        };
        Ok((header, rest))
    }
}

impl Malformed {
    fn of(kind: Kind, id: u16) -> Self {
        match kind {
            Kind::Confirmable => Self::Reset(id),
            _ => Self::Ignore,
        }
    }
}

impl<'a> Message<'a> {
    /// Reads a datagram.
    pub fn parse(datagram: &'a [u8]) -> Result<Self, Malformed> {
        let (header, rest) = Header::parse(datagram)?;
        let refused = Malformed::of(header.kind, header.id);
        let (options, payload) = split_options(rest).ok_or(refused)?;
        Ok(Self {
            header,
            options,
            payload,
        })
    }

    /// The options in their order, numbers rising.
    pub fn options(&self) -> Options<'a> {
        Options {
            rest: self.options,
            number: 0,
        }
    }

    /// The values of one option.
    pub fn values(&self, number: u16) -> impl Iterator<Item = &'a [u8]> {
        self.options()
            .filter(move |(found, _)| *found == number)
            .map(|(_, value)| value)
    }
}

/// Walks options.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    rest: &'a [u8],
    number: u16,
}

impl<'a> Iterator for Options<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (delta, value, rest) = take_option(self.rest)?;
        self.number = self.number.checked_add(delta)?;
        self.rest = rest;
        Some((self.number, value))
    }
}

/// Finds the end of the options, and checks each of them on the way.
fn split_options(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (mut rest, mut number) = (bytes, 0_u16);
    loop {
        match rest {
            [] => return Some((bytes, &[])),
            // A marker promises a payload (§3).
            [0xff] => return None,
            [0xff, payload @ ..] => return Some((&bytes[..bytes.len() - rest.len()], payload)),
            _ => {
                let (delta, _, after) = take_option(rest)?;
                number = number.checked_add(delta)?;
                rest = after;
            }
        }
    }
}

/// Takes one option off the front: its delta, its value, and what follows (RFC 7252 §3.1).
#[inline]
fn take_option(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let (first, rest) = bytes.split_first()?;
    let (delta, rest) = extended(first >> 4, rest)?;
    let (length, rest) = extended(first & 0x0f, rest)?;
    let (value, rest) = rest.split_at_checked(usize::from(length))?;
    Some((delta, value, rest))
}

#[inline]
fn extended(nibble: u8, rest: &[u8]) -> Option<(u16, &[u8])> {
    match (nibble, rest) {
        (0..=12, _) => Some((u16::from(nibble), rest)),
        (13, [byte, rest @ ..]) => Some((u16::from(*byte) + 13, rest)),
        (14, [high, low, rest @ ..]) => {
            let value = u16::from_be_bytes([*high, *low]).checked_add(269)?;
            Some((value, rest))
        }
        _ => None,
    }
}

/// An option's value as a number of at most four bytes (RFC 7252 §3.2).
pub fn uint(value: &[u8]) -> Option<u32> {
    if value.len() > 4 {
        return None;
    }
    Some(
        value
            .iter()
            .fold(0, |number, byte| number << 8 | u32::from(*byte)),
    )
}

/// Writes one message at the end of a buffer.
#[derive(Debug)]
pub struct Writer<'a> {
    buffer: &'a mut Vec<u8>,
    number: u16,
}

impl<'a> Writer<'a> {
    /// Begins a message.
    pub fn new(buffer: &'a mut Vec<u8>, header: &Header) -> Self {
        let kind = match header.kind {
            Kind::Confirmable => 0,
            Kind::NonConfirmable => 1,
            Kind::Acknowledgement => 2,
            Kind::Reset => 3,
        };
        let token = header.token.as_slice();
        buffer.push(1 << 6 | kind << 4 | header.token.length);
        buffer.push(header.code.0);
        buffer.extend_from_slice(&header.id.to_be_bytes());
        buffer.extend_from_slice(token);
        Self { buffer, number: 0 }
    }

    /// Adds an option; numbers must not fall.
    pub fn option(&mut self, number: u16, value: &[u8]) -> &mut Self {
        debug_assert!(number >= self.number, "options are written in their order");
        let length = u16::try_from(value.len()).expect("our option values are short");
        let (delta_nibble, delta_extra) = split(number - self.number);
        let (length_nibble, length_extra) = split(length);
        self.buffer.push(delta_nibble << 4 | length_nibble);
        self.extra(delta_nibble, delta_extra);
        self.extra(length_nibble, length_extra);
        self.buffer.extend_from_slice(value);
        self.number = number;
        self
    }

    /// Adds a number, in as few bytes as it needs.
    pub fn uint(&mut self, number: u16, value: u32) -> &mut Self {
        let skipped = (value.leading_zeros() / 8) as usize;
        self.option(number, &value.to_be_bytes()[skipped..])
    }

    /// Ends the message.
    pub fn payload(&mut self, payload: &[u8]) {
        if !payload.is_empty() {
            self.buffer.push(0xff);
            self.buffer.extend_from_slice(payload);
        }
    }

    fn extra(&mut self, nibble: u8, extra: u16) {
        let [high, low] = extra.to_be_bytes();
        match nibble {
            13 => self.buffer.push(low),
            14 => self.buffer.extend_from_slice(&[high, low]),
            _ => {}
        }
    }
}

fn split(value: u16) -> (u8, u16) {
    match value {
        0..=12 => (value.to_be_bytes()[1], 0),
        13..=268 => (13, value - 13),
        _ => (14, value - 269),
    }
}

/// Writes an empty message: an acknowledgement without a response, or a reset.
pub fn write_empty(buffer: &mut Vec<u8>, kind: Kind, id: u16) {
    let header = Header {
        kind,
        code: Code::EMPTY,
        id,
        token: Opaque::default(),
    };
    Writer::new(buffer, &header).payload(&[]);
}

#[cfg(test)]
mod tests;
