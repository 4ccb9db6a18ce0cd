//! CoAP messages as a load client needs them: a request that is built once and patched, and a reader that copies nothing.
//!
//! A full codec allocates for every option of every message; at some hundred thousand messages a second that would be
//! most of the generator's work. Only what matching needs is read: type, code, id, token and payload (RFC 7252 §3).
//! A datagram bounds everything here.

use anyhow::{Context, Result, bail, ensure};

/// Option numbers (RFC 7252 §5.10).
mod option {
    pub(super) const URI_HOST: u16 = 3;
    pub(super) const URI_PATH: u16 = 11;
    pub(super) const URI_QUERY: u16 = 15;
}

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

/// What a request says, before an id, a token and a body are put into it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    code: u8,
    confirmable: bool,
    /// By number, and those of one number in their order.
    options: Vec<(u16, Vec<u8>)>,
}

impl Head {
    /// `host` is the host of the URL when the address does not say it all.
    pub(super) fn new(
        method: &str,
        host: Option<&str>,
        path: &str,
        query: Option<&str>,
        confirmable: bool,
    ) -> Result<Self> {
        let mut options = Vec::new();
        if let Some(host) = host {
            options.push((option::URI_HOST, host.as_bytes().to_vec()));
        }
        // RFC 7252 §6.4: one option for each segment, without the escapes; a lone slash is no segment.
        let path = path.strip_prefix('/').unwrap_or(path);
        if !path.is_empty() {
            for segment in path.split('/') {
                options.push((option::URI_PATH, decode_percent(segment)?));
            }
        }
        for part in query.iter().flat_map(|query| query.split('&')) {
            options.push((option::URI_QUERY, decode_percent(part)?));
        }
        for (_, value) in &options {
            // RFC 7252 §5.10.
            ensure!(
                value.len() <= 255,
                "`{}` has more than 255 bytes, which no CoAP option holds: shorten it",
                value.escape_ascii()
            );
        }
        Ok(Self {
            code: method_code(method)?,
            confirmable,
            options,
        })
    }

    /// The message with `body`; [`stamp`] makes each copy its own.
    pub(super) fn with(&self, body: &[u8]) -> Vec<u8> {
        let mut message = Vec::new();
        self.write(&[], body, &mut message);
        message
    }

    /// Replaces `message` by this one, with further options that are in the order of their numbers, and a payload.
    pub(super) fn write(&self, further: &[(u16, &[u8])], payload: &[u8], message: &mut Vec<u8>) {
        let kind = if self.confirmable { 0 } else { 1 };
        message.clear();
        message.push(0x40 | kind << 4 | u8::try_from(TOKEN_BYTES).expect("at most 8"));
        message.push(self.code);
        message.extend_from_slice(&[0; 2 + TOKEN_BYTES]);
        let mut own = self.options.iter().peekable();
        let mut further = further.iter().peekable();
        let mut number = 0;
        loop {
            let own_first = match (own.peek(), further.peek()) {
                (Some((own, _)), Some((further, _))) => own <= further,
                (own, _) => own.is_some(),
            };
            let next = if own_first {
                own.next().map(|(number, value)| (*number, &value[..]))
            } else {
                further.next().copied()
            };
            let Some((next, value)) = next else {
                break;
            };
            write_option(next - number, value, message);
            number = next;
        }
        if !payload.is_empty() {
            message.push(0xff);
            message.extend_from_slice(payload);
        }
    }
}

/// RFC 7252 §3.1.
fn write_option(delta: u16, value: &[u8], message: &mut Vec<u8>) {
    let (delta_nibble, delta_bytes, delta_more) = extend(delta);
    let length = u16::try_from(value.len()).expect("checked to be at most 255");
    let (length_nibble, length_bytes, length_more) = extend(length);
    message.push(delta_nibble << 4 | length_nibble);
    message.extend_from_slice(&delta_more[2 - delta_bytes..]);
    message.extend_from_slice(&length_more[2 - length_bytes..]);
    message.extend_from_slice(value);
}

/// The nibble for a number, and how many of the two bytes follow it.
fn extend(number: u16) -> (u8, usize, [u8; 2]) {
    match number {
        0..=12 => (u8::try_from(number).expect("at most 12"), 0, [0; 2]),
        13..=268 => (13, 1, (number - 13).to_be_bytes()),
        _ => (14, 2, (number - 269).to_be_bytes()),
    }
}

/// RFC 7252 §12.1.1 and RFC 8132 §4.
fn method_code(method: &str) -> Result<u8> {
    Ok(match method.to_ascii_uppercase().as_str() {
        "GET" => 1,
        "POST" => 2,
        "PUT" => 3,
        "DELETE" => 4,
        "FETCH" => 5,
        "PATCH" => 6,
        "IPATCH" => 7,
        other => bail!(
            "method `{other}` is not a CoAP method, use GET, POST, PUT, DELETE, FETCH, PATCH or IPATCH"
        ),
    })
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
    use coap_lite::{CoapOption, MessageClass, MessageType, Packet};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_request_carries_path_query_id_and_token() {
        let head = Head::new("post", None, "/a%20b//c", Some("x=1&y"), true).unwrap();
        let mut bytes = head.with(b"hi");
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
        assert!(Head::new("HEAD", None, "/", None, true).is_err());
        assert!(Head::new("GET", None, "/%zz", None, true).is_err());
        assert!(Head::new("GET", None, &"a".repeat(256), None, true).is_err());
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
        #[test]
        fn the_full_codec_reads_what_this_writes(
            path in proptest::collection::vec("[a-z]{0,255}", 0..4),
            further in proptest::collection::btree_map(1u16..3000, proptest::collection::vec(any::<u8>(), 0..255), 0..4),
            payload in proptest::collection::vec(any::<u8>(), 0..100),
        ) {
            let head = Head::new("PUT", Some("host"), &format!("/{}", path.join("/")), Some("q"), false).unwrap();
            let options: Vec<(u16, &[u8])> = further.iter().map(|(number, value)| (*number, &value[..])).collect();
            let mut bytes = Vec::new();
            head.write(&options, &payload, &mut bytes);
            let packet = Packet::from_bytes(&bytes).unwrap();
            prop_assert_eq!(packet.header.get_type(), MessageType::NonConfirmable);
            prop_assert_eq!(&packet.payload, &payload);
            for (number, value) in &further {
                let found = packet.get_option(CoapOption::from(*number)).unwrap();
                prop_assert!(found.contains(value));
            }
            let segments = packet.get_option(CoapOption::UriPath).map_or(0, |path| path.len());
            let own = if path.join("/").is_empty() { 0 } else { path.len() };
            prop_assert_eq!(segments, own + usize::from(further.contains_key(&11)));
        }

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
