//! CoAP messages as a load client reads them: without a copy.
//!
//! A full codec allocates for every option of every message; at some hundred thousand messages a second that would be
//! most of the generator's work. Only what matching and block-wise transfer need is read (RFC 7252 §3).
//! A datagram bounds everything here.

use super::option::{self, Block};

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
    /// Empty when there is none.
    pub(super) etag: &'a [u8],
    pub(super) block1: Option<Block>,
    pub(super) block2: Option<Block>,
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
        let mut message = Self {
            kind: match first >> 4 & 0x03 {
                0 => Kind::Confirmable,
                1 => Kind::NonConfirmable,
                2 => Kind::Acknowledgement,
                _ => Kind::Reset,
            },
            code,
            id: u16::from_be_bytes([id_high, id_low]),
            token,
            etag: &[],
            block1: None,
            block2: None,
            payload: &[],
        };
        message.read_options(options)?;
        Some(message)
    }

    /// Takes what matters of the options, which must be well formed (RFC 7252 §3.1), and the payload after them.
    fn read_options(&mut self, mut rest: &'a [u8]) -> Option<()> {
        let mut number = 0usize;
        while let Some((&byte, after)) = rest.split_first() {
            if byte == 0xff {
                self.payload = after;
                // A marker with nothing behind it is a format error.
                return (!after.is_empty()).then_some(());
            }
            let (delta, after) = extended(byte >> 4, after)?;
            let (length, after) = extended(byte & 0x0f, after)?;
            let (value, after) = after.split_at_checked(length)?;
            number += delta;
            match u16::try_from(number) {
                Ok(option::ETAG) => self.etag = value,
                Ok(option::BLOCK1) => self.block1 = Some(Block::from_option(value)?),
                Ok(option::BLOCK2) => self.block2 = Some(Block::from_option(value)?),
                _ => {}
            }
            rest = after;
        }
        Some(())
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

#[cfg(test)]
mod tests {
    use coap_lite::{CoapOption, MessageClass, MessageType, Packet};
    use proptest::prelude::*;

    use super::*;

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
                    let etags = packet.get_option(CoapOption::ETag);
                    prop_assert_eq!(message.etag, etags.and_then(|all| all.back()).map_or(&[][..], |etag| etag));
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
            // What is in those has rules of its own.
            for (number, value) in options.into_iter().filter(|(number, _)| ![option::BLOCK1, option::BLOCK2].contains(number)) {
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
