//! CoAP messages as a load client needs them: a request that is built once and patched, and a reader that copies nothing.
//!
//! A full codec allocates for every option of every message; at some hundred thousand messages a second that would be
//! most of the generator's work. Only what matching needs is read: type, code, id, token and payload (RFC 7252 §3).
//! A datagram bounds everything here.

use anyhow::{Context, Result, bail};
use coap_lite::{CoapOption, MessageClass, MessageType, Packet, RequestType};

/// Enough to tell the requests of one socket apart, and sent in every message.
pub(super) const TOKEN_BYTES: usize = 4;
/// Larger bodies need block-wise transfer (RFC 7959), which would measure round trips and not the server.
pub(super) const BODY_BYTES_MAX: usize = 1024;

/// Type of a message (RFC 7252 §4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Confirmable,
    NonConfirmable,
    Acknowledgement,
    Reset,
}

/// A message in the datagram it came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Message<'a> {
    pub(super) kind: Kind,
    pub(super) code: u8,
    pub(super) id: u16,
    pub(super) token: &'a [u8],
    pub(super) payload: &'a [u8],
}

impl<'a> Message<'a> {
    /// Reads a datagram; `None` for what RFC 7252 §4.2 tells a receiver to ignore.
    pub(super) fn parse(datagram: &'a [u8]) -> Option<Self> {
        let (&[first, code, id_high, id_low], rest) = datagram.split_first_chunk()?;
        if first >> 6 != 1 {
            return None;
        }
        let token_bytes = usize::from(first & 0x0f);
        // RFC 7252 §3: lengths 9 to 15 are reserved and a format error.
        if token_bytes > 8 {
            return None;
        }
        let (token, options) = rest.split_at_checked(token_bytes)?;
        // RFC 7252 §4.1: an empty message is four bytes.
        if code == 0 && !rest.is_empty() {
            return None;
        }
        Some(Self {
            kind: match first >> 4 & 0x03 {
                0 => Kind::Confirmable,
                1 => Kind::NonConfirmable,
                2 => Kind::Acknowledgement,
                _ => Kind::Reset,
            },
            code,
            id: u16::from_be_bytes([id_high, id_low]),
            token,
            payload: skip_options(options)?,
        })
    }

    /// Whether it answers a request: codes of class 2, 4 and 5 (RFC 7252 §5.9).
    pub(super) fn is_response(&self) -> bool {
        matches!(self.code >> 5, 2 | 4 | 5)
    }

    /// The code as a number of three digits: 2.05 is 205.
    pub(super) fn status(&self) -> u16 {
        u16::from(self.code >> 5) * 100 + u16::from(self.code & 0x1f)
    }
}

/// The empty message that acknowledges or rejects the message `id`.
pub(super) fn empty(kind: Kind, id: u16) -> [u8; 4] {
    let kind = match kind {
        Kind::Confirmable => 0,
        Kind::NonConfirmable => 1,
        Kind::Acknowledgement => 2,
        Kind::Reset => 3,
    };
    let [high, low] = id.to_be_bytes();
    [0x40 | kind << 4, 0, high, low]
}

/// What a request says, before an id and a token are put into it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request<'a> {
    pub(super) method: &'a str,
    /// The host, when the address does not say it all.
    pub(super) host: Option<&'a str>,
    pub(super) path: &'a str,
    pub(super) query: Option<&'a str>,
    pub(super) body: &'a [u8],
    pub(super) confirmable: bool,
}

impl Request<'_> {
    /// Encodes the request; [`stamp`] makes each copy its own.
    pub(super) fn encode(&self) -> Result<Vec<u8>> {
        if self.body.len() > BODY_BYTES_MAX {
            bail!(
                "body of {} bytes does not fit one datagram, use at most {BODY_BYTES_MAX}",
                self.body.len()
            );
        }
        let mut packet = Packet::new();
        packet.header.set_version(1);
        packet.header.set_type(if self.confirmable {
            MessageType::Confirmable
        } else {
            MessageType::NonConfirmable
        });
        packet.header.code = MessageClass::Request(self.request_type()?);
        packet.set_token(vec![0; TOKEN_BYTES]);
        if let Some(host) = self.host {
            packet.add_option(CoapOption::UriHost, host.as_bytes().to_vec());
        }
        // RFC 7252 §6.4: one option for each segment, without the escapes; a lone slash is no segment.
        let path = self.path.strip_prefix('/').unwrap_or(self.path);
        if !path.is_empty() {
            for segment in path.split('/') {
                packet.add_option(CoapOption::UriPath, decode_percent(segment)?);
            }
        }
        for part in self.query.iter().flat_map(|query| query.split('&')) {
            packet.add_option(CoapOption::UriQuery, decode_percent(part)?);
        }
        packet.payload = self.body.to_vec();
        packet
            .to_bytes()
            .ok()
            .context("request does not fit one datagram, shorten the path or the body")
    }

    fn request_type(&self) -> Result<RequestType> {
        Ok(match self.method.to_ascii_uppercase().as_str() {
            "GET" => RequestType::Get,
            "POST" => RequestType::Post,
            "PUT" => RequestType::Put,
            "DELETE" => RequestType::Delete,
            "FETCH" => RequestType::Fetch,
            "PATCH" => RequestType::Patch,
            "IPATCH" => RequestType::IPatch,
            other => bail!(
                "method `{other}` is not a CoAP method, use GET, POST, PUT, DELETE, FETCH, PATCH or IPATCH"
            ),
        })
    }
}

/// Puts an id and a token into an encoded request.
pub(super) fn stamp(request: &mut [u8], id: u16, token: [u8; TOKEN_BYTES]) {
    request[2..4].copy_from_slice(&id.to_be_bytes());
    request[4..4 + TOKEN_BYTES].copy_from_slice(&token);
}

/// The payload after the options, which must be well formed (RFC 7252 §3.1).
fn skip_options(mut rest: &[u8]) -> Option<&[u8]> {
    while let Some((&byte, after)) = rest.split_first() {
        if byte == 0xff {
            // A marker with nothing behind it is a format error.
            return (!after.is_empty()).then_some(after);
        }
        let (_, after) = extended(byte >> 4, after)?;
        let (length, after) = extended(byte & 0x0f, after)?;
        rest = after.get(length..)?;
    }
    Some(&[])
}

fn extended(nibble: u8, rest: &[u8]) -> Option<(usize, &[u8])> {
    match nibble {
        13 => rest
            .split_first()
            .map(|(&byte, rest)| (usize::from(byte) + 13, rest)),
        14 => rest
            .split_first_chunk()
            .map(|(&bytes, rest)| (usize::from(u16::from_be_bytes(bytes)) + 269, rest)),
        15 => None,
        small => Some((usize::from(small), rest)),
    }
}

fn decode_percent(text: &str) -> Result<Vec<u8>> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let digits = [bytes.next(), bytes.next()]
            .map(|digit| digit.and_then(|digit| char::from(digit).to_digit(16)));
        let [Some(high), Some(low)] = digits else {
            bail!(
                "`{text}` has a percent sign without two hex digits, write %25 for a percent sign"
            );
        };
        decoded.push(u8::try_from(high * 16 + low).context("two hex digits make a byte")?);
    }
    Ok(decoded)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn request() -> Request<'static> {
        Request {
            method: "post",
            host: None,
            path: "/a%20b//c",
            query: Some("x=1&y"),
            body: b"hi",
            confirmable: true,
        }
    }

    #[test]
    fn a_request_carries_path_query_id_and_token() {
        let mut bytes = request().encode().unwrap();
        stamp(&mut bytes, 0x1234, *b"abcd");
        let packet = Packet::from_bytes(&bytes).unwrap();
        assert_eq!(
            (packet.header.message_id, packet.get_token()),
            (0x1234, &b"abcd"[..])
        );
        let path: Vec<_> = packet
            .get_option(CoapOption::UriPath)
            .unwrap()
            .iter()
            .cloned()
            .collect();
        assert_eq!(path, [b"a b".to_vec(), b"".to_vec(), b"c".to_vec()]);
        assert_eq!(packet.get_option(CoapOption::UriQuery).unwrap().len(), 2);
        assert_eq!(packet.payload, b"hi");
    }

    #[test]
    fn refuses_what_cannot_be_sent() {
        assert!(
            Request {
                method: "HEAD",
                ..request()
            }
            .encode()
            .is_err()
        );
        assert!(
            Request {
                path: "/%zz",
                ..request()
            }
            .encode()
            .is_err()
        );
        assert!(
            Request {
                body: &[0; BODY_BYTES_MAX + 1],
                ..request()
            }
            .encode()
            .is_err()
        );
    }

    #[test]
    fn ignores_malformed_datagrams() {
        for bytes in [
            &b""[..],
            b"\x40\x45\x00",
            b"\x80\x45\x00\x01",
            b"\x49\x45\x00\x01123456789",
            b"\x42\x45\x00\x01a",
            b"\x40\x00\x00\x01x",
            b"\x40\x45\x00\x01\xff",
            b"\x40\x45\x00\x01\xf0",
            b"\x40\x45\x00\x01\x05abc",
        ] {
            assert_eq!(Message::parse(bytes), None, "{}", bytes.escape_ascii());
        }
        assert_eq!(
            Message::parse(&empty(Kind::Acknowledgement, 7)).unwrap().id,
            7
        );
    }

    proptest! {
        /// Whatever this reader accepts, the full codec reads the same way.
        #[test]
        fn agrees_with_the_full_codec(
            first in prop_oneof![Just(0x40u8), Just(0x52), Just(0x64), Just(0x78), any::<u8>()],
            rest in proptest::collection::vec(prop_oneof![any::<u8>(), 0u8..0x30, Just(0xff)], 0..80),
        ) {
            let mut bytes = vec![first];
            bytes.extend(&rest);
            if let Some(message) = Message::parse(&bytes) {
                // The full codec also refuses option numbers beyond 65,535, which only matters to whoever reads options.
                if let Ok(packet) = Packet::from_bytes(&bytes) {
                    prop_assert_eq!(message.id, packet.header.message_id);
                    prop_assert_eq!(message.token, packet.get_token());
                    prop_assert_eq!(message.payload, &packet.payload[..]);
                }
            }
        }

        #[test]
        fn reads_what_the_full_codec_writes(
            id in any::<u16>(),
            token in proptest::collection::vec(any::<u8>(), 0..=8),
            options in proptest::collection::vec((1u16..2000, proptest::collection::vec(any::<u8>(), 0..300)), 0..4),
            payload in proptest::collection::vec(any::<u8>(), 0..100),
        ) {
            let mut packet = Packet::new();
            packet.header.set_type(MessageType::Acknowledgement);
            packet.header.code = MessageClass::Response(coap_lite::ResponseType::Content);
            packet.header.message_id = id;
            packet.set_token(token.clone());
            for (number, value) in options {
                packet.add_option(CoapOption::Unknown(number), value);
            }
            packet.payload = payload.clone();
            let bytes = packet.to_bytes_unlimited().unwrap();
            let message = Message::parse(&bytes).unwrap();
            prop_assert_eq!((message.kind, message.status(), message.id), (Kind::Acknowledgement, 205, id));
            prop_assert_eq!((message.token, message.payload), (&token[..], &payload[..]));
            prop_assert!(message.is_response());
        }
    }
}
