//! CoAP by hand: messages as bytes (RFC 7252 §3) and a socket that sends what it is told, for what
//! no client library would do.

#![allow(dead_code, reason = "each test uses a part of it")]
#![expect(
    clippy::unwrap_used,
    reason = "this is test code: it stops at the first surprise"
)]

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

/// Longest wait for a datagram.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) const CON: u8 = 0;
pub(crate) const NON: u8 = 1;
pub(crate) const ACK: u8 = 2;
pub(crate) const RST: u8 = 3;

pub(crate) const EMPTY: (u8, u8) = (0, 0);
pub(crate) const GET: (u8, u8) = (0, 1);
pub(crate) const POST: (u8, u8) = (0, 2);
pub(crate) const CONTENT: (u8, u8) = (2, 5);

pub(crate) const ETAG: u16 = 4;
pub(crate) const OBSERVE: u16 = 6;
pub(crate) const URI_PATH: u16 = 11;
pub(crate) const URI_QUERY: u16 = 15;
pub(crate) const ACCEPT: u16 = 17;
pub(crate) const SIZE1: u16 = 60;

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    /// [`CON`], [`NON`], [`ACK`] or [`RST`].
    pub(crate) kind: u8,
    /// Class and detail.
    pub(crate) code: (u8, u8),
    /// Message id.
    pub(crate) id: u16,
    /// At most eight bytes.
    pub(crate) token: Vec<u8>,
    /// Numbers, rising, and values.
    pub(crate) options: Vec<(u16, Vec<u8>)>,
    /// Body.
    pub(crate) payload: Vec<u8>,
}

impl Message {
    /// A message without token, options and payload.
    pub(crate) fn empty(kind: u8, id: u16) -> Self {
        Self {
            kind,
            code: EMPTY,
            id,
            token: Vec::new(),
            options: Vec::new(),
            payload: Vec::new(),
        }
    }

    /// A request for a path, with a token made of its id.
    pub(crate) fn request(kind: u8, code: (u8, u8), id: u16, path: &str) -> Self {
        let segments = path.split('/');
        Self {
            code,
            token: id.to_be_bytes().to_vec(),
            options: segments
                .map(|segment| (URI_PATH, segment.as_bytes().to_vec()))
                .collect(),
            ..Self::empty(kind, id)
        }
    }

    /// With an option more.
    #[must_use]
    pub(crate) fn option(mut self, number: u16, value: &[u8]) -> Self {
        self.options.push((number, value.to_vec()));
        self.options.sort_by_key(|(number, _)| *number);
        self
    }

    /// With a payload.
    #[must_use]
    pub(crate) fn payload(mut self, payload: &[u8]) -> Self {
        self.payload = payload.to_vec();
        self
    }

    /// The first value of an option, as a number.
    pub(crate) fn number(&self, option: u16) -> Option<u64> {
        let (_, value) = self.options.iter().find(|(number, _)| *number == option)?;
        let digits = value.iter();
        Some(digits.fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
    }

    /// The payload as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.payload).into_owned()
    }

    /// The message on the wire.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![
            0b0100_0000 | self.kind << 4 | u8::try_from(self.token.len()).unwrap(),
            self.code.0 << 5 | self.code.1,
        ];
        bytes.extend(self.id.to_be_bytes());
        bytes.extend(&self.token);
        let mut previous = 0;
        for (number, value) in &self.options {
            let (delta, delta_more) = nibble(number - previous);
            let (length, length_more) = nibble(u16::try_from(value.len()).unwrap());
            bytes.push(delta << 4 | length);
            bytes.extend(delta_more);
            bytes.extend(length_more);
            bytes.extend(value);
            previous = *number;
        }
        if !self.payload.is_empty() {
            bytes.push(0xff);
            bytes.extend(&self.payload);
        }
        bytes
    }

    /// Reads a message; `None` if it is none.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let (head, rest) = bytes.split_at_checked(4)?;
        let (token, mut rest) = rest.split_at_checked(usize::from(head[0] & 0x0f))?;
        let mut message = Self {
            kind: head[0] >> 4 & 3,
            code: (head[1] >> 5, head[1] & 0x1f),
            id: u16::from_be_bytes([head[2], head[3]]),
            token: token.to_vec(),
            options: Vec::new(),
            payload: Vec::new(),
        };
        let mut number = 0;
        while let Some((first, after)) = rest.split_first() {
            if *first == 0xff {
                message.payload = after.to_vec();
                break;
            }
            let (delta, after) = extended(first >> 4, after)?;
            let (length, after) = extended(first & 0x0f, after)?;
            let (value, after) = after.split_at_checked(usize::from(length))?;
            number += delta;
            message.options.push((number, value.to_vec()));
            rest = after;
        }
        (head[0] >> 6 == 1).then_some(message)
    }
}

/// A client's socket.
#[derive(Debug)]
pub(crate) struct Socket(UdpSocket);

impl Socket {
    /// A socket for one door.
    pub(crate) fn open(door: SocketAddr) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(door).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(socket)
    }

    /// Sends a message.
    #[track_caller]
    pub(crate) fn send(&self, message: &Message) {
        self.send_bytes(&message.bytes());
    }

    /// Sends bytes, whatever they are.
    #[track_caller]
    pub(crate) fn send_bytes(&self, bytes: &[u8]) {
        self.0.send(bytes).unwrap();
    }

    /// The next message.
    #[track_caller]
    pub(crate) fn receive(&self) -> Message {
        self.receive_within(PATIENCE)
            .unwrap_or_else(|| panic!("nothing came within {PATIENCE:?}"))
    }

    /// The next message, if one comes within this time.
    #[track_caller]
    pub(crate) fn receive_within(&self, longest: Duration) -> Option<Message> {
        self.0.set_read_timeout(Some(longest)).unwrap();
        let mut bytes = [0; 2048];
        let length = self.0.recv(&mut bytes).ok()?;
        let message = Message::parse(&bytes[..length]);
        Some(message.unwrap_or_else(|| panic!("no message: {:?}", &bytes[..length])))
    }

    /// Sends a request and gives the response that comes for it, acknowledged if it asks for that.
    #[track_caller]
    pub(crate) fn ask(&self, request: &Message) -> Message {
        self.send(request);
        loop {
            let response = self.receive();
            if response.kind == CON {
                self.send(&Message::empty(ACK, response.id));
            }
            if response.code != EMPTY {
                assert_eq!(response.token, request.token, "{response:?}");
                return response;
            }
        }
    }

    /// Pings (RFC 7252 §4.3), and gives what came before the answer. What a door has to say at
    /// once it says in the order in which it was asked, so nothing more is under way.
    #[track_caller]
    pub(crate) fn drain(&self, id: u16) -> Vec<Message> {
        self.send(&Message::empty(CON, id));
        let mut before = Vec::new();
        loop {
            let message = self.receive();
            if message == Message::empty(RST, id) {
                return before;
            }
            before.push(message);
        }
    }
}

/// A delta or length as its four bits and what follows them (RFC 7252 §3.1).
fn nibble(value: u16) -> (u8, Vec<u8>) {
    match value {
        0..13 => (u8::try_from(value).unwrap(), Vec::new()),
        13..269 => (13, vec![u8::try_from(value - 13).unwrap()]),
        _ => (14, (value - 269).to_be_bytes().to_vec()),
    }
}

fn extended(nibble: u8, rest: &[u8]) -> Option<(u16, &[u8])> {
    match (nibble, rest) {
        (0..13, _) => Some((u16::from(nibble), rest)),
        (13, [more, rest @ ..]) => Some((u16::from(*more) + 13, rest)),
        (14, [high, low, rest @ ..]) => Some((u16::from_be_bytes([*high, *low]) + 269, rest)),
        _ => None,
    }
}
