//! CoAP requests as bytes: built once and patched, or with other options and another body each time.

use anyhow::{Context, Result, bail, ensure};

use super::option;
use crate::load::target::FUNCTION;

/// Enough to tell the requests of one socket apart, and sent in every message.
pub(super) const TOKEN_BYTES: usize = 4;

/// What a request says, before an id, a token and a body are put into it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::load) struct Head {
    code: u8,
    confirmable: bool,
    named: bool,
    /// By number, and those of one number in their order.
    options: Vec<(u16, Vec<u8>)>,
}

impl Head {
    /// `host` is the host of the URL when the address does not say it all.
    pub(in crate::load) fn new(
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
            named: path.contains(FUNCTION) || query.is_some_and(|query| query.contains(FUNCTION)),
            options,
        })
    }

    /// Whether requests differ by function.
    pub(super) fn names_function(&self) -> bool {
        self.named
    }

    /// The request for this one.
    pub(super) fn of_function(&self, function: u32) -> Self {
        let number = function.to_string();
        let options = self.options.iter().map(|(option, value)| {
            let value = match std::str::from_utf8(value) {
                Ok(text) => text.replace(FUNCTION, &number).into_bytes(),
                Err(_) => value.clone(),
            };
            (*option, value)
        });
        Self {
            options: options.collect(),
            ..*self
        }
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
    use coap_lite::{CoapOption, MessageType, Packet};
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
    fn a_path_and_a_query_can_name_the_function() {
        let head = Head::new("GET", None, "/f{function}/%ff", Some("n={function}"), true).unwrap();
        assert!(head.names_function());
        let packet = Packet::from_bytes(&head.of_function(42).with(&[])).unwrap();
        let path: Vec<_> = packet
            .get_option(CoapOption::UriPath)
            .unwrap()
            .iter()
            .collect();
        assert_eq!(path, [&b"f42"[..], b"\xff"]);
        let query = packet.get_first_option(CoapOption::UriQuery).unwrap();
        assert_eq!(query, b"n=42");
    }

    #[test]
    fn refuses_what_cannot_be_sent() {
        assert!(Head::new("HEAD", None, "/", None, true).is_err());
        assert!(Head::new("GET", None, "/%zz", None, true).is_err());
        assert!(Head::new("GET", None, &"a".repeat(256), None, true).is_err());
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
    }
}
