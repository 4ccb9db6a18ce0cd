//! The codec, by cases and against `coap-lite`.

use coap_lite::Packet;
use proptest::prelude::*;

use super::*;

#[track_caller]
fn refused(datagram: &[u8], why: Malformed) {
    assert_eq!(Message::parse(datagram).unwrap_err(), why);
}

#[test]
fn malformed_messages_are_told_apart() {
    refused(&[], Malformed::Ignore);
    refused(&[0x40, 1, 0], Malformed::Ignore);
    // Versions 0, 2 and 3 are not ours to answer (§3).
    refused(&[0x00, 1, 0, 7], Malformed::Ignore);
    refused(&[0x80, 1, 0, 7], Malformed::Ignore);
    refused(&[0xc0, 1, 0, 7], Malformed::Ignore);
    // A token length of 9, and a token that is cut off.
    refused(
        &[0x49, 1, 0, 7, 1, 2, 3, 4, 5, 6, 7, 8, 9],
        Malformed::Reset(7),
    );
    refused(&[0x42, 1, 0, 7, 1], Malformed::Reset(7));
    refused(&[0x52, 1, 0, 7, 1], Malformed::Ignore);
    // A marker without a payload, reserved nibbles, values that are cut off.
    refused(&[0x40, 1, 0, 7, 0xff], Malformed::Reset(7));
    refused(&[0x40, 1, 0, 7, 0xf0], Malformed::Reset(7));
    refused(&[0x40, 1, 0, 7, 0x0f], Malformed::Reset(7));
    refused(&[0x40, 1, 0, 7, 0xb5, b'l'], Malformed::Reset(7));
    refused(&[0x40, 1, 0, 7, 0xe0, 0xff], Malformed::Reset(7));
    // Option numbers end at 65535.
    refused(&[0x40, 1, 0, 7, 0xe0, 0xff, 0xff], Malformed::Reset(7));
    // An empty message with anything behind it (§4.1).
    refused(&[0x40, 0, 0, 7, 0xff, 1], Malformed::Reset(7));
    refused(&[0x41, 0, 0, 7, 1], Malformed::Reset(7));
}

#[test]
fn numbers_use_as_few_bytes_as_they_need() {
    for (value, bytes) in [
        (0, 0),
        (1, 1),
        (255, 1),
        (256, 2),
        (70_000, 3),
        (u32::MAX, 4),
    ] {
        let mut buffer = Vec::new();
        let header = Header {
            kind: Kind::Confirmable,
            code: Code::GET,
            id: 1,
            token: Opaque::default(),
        };
        Writer::new(&mut buffer, &header).uint(option::MAX_AGE, value);
        let message = Message::parse(&buffer).unwrap();
        let (_, found) = message.options().next().unwrap();
        assert_eq!((found.len(), uint(found)), (bytes, Some(value)));
    }
    assert_eq!(uint(&[0; 5]), None);
}

/// Bytes that are often nearly a message.
fn datagrams() -> impl Strategy<Value = Vec<u8>> {
    let head = (0_u8..16, 0_u8..10, any::<u8>(), any::<u16>());
    (head, prop::collection::vec(any::<u8>(), 0..80)).prop_map(|((kind, tkl, code, id), tail)| {
        let mut bytes = vec![(kind % 4) << 4 | 0x40 | tkl, code];
        bytes.extend(id.to_be_bytes());
        bytes.extend(tail);
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(message) = Message::parse(&bytes) {
            prop_assert!(message.options().count() <= bytes.len());
        }
    }

    #[test]
    fn reads_what_coap_lite_reads(bytes in datagrams()) {
        let ours = Message::parse(&bytes);
        let theirs = Packet::from_bytes(&bytes);
        if let Ok(message) = &ours {
            let packet = theirs.as_ref().unwrap();
            prop_assert_eq!(message.header.token.as_slice(), packet.get_token());
            prop_assert_eq!(message.header.id, packet.header.message_id);
            prop_assert_eq!(message.payload, &packet.payload[..]);
            let mut all = packet.options().flat_map(|(number, values)| values.iter().map(|v| (*number, v.as_slice())));
            for found in message.options() {
                prop_assert_eq!(Some(found), all.next());
            }
            prop_assert_eq!(all.next(), None);
        } else if theirs.is_ok() {
            // Stricter in two places only.
            let empty = bytes[1] == 0 && bytes.len() > 4;
            let marker = bytes.last() == Some(&0xff);
            prop_assert!(empty || marker, "{:?}", ours);
        }
    }

    #[test]
    fn what_is_written_is_read_back(
        token in prop::collection::vec(any::<u8>(), 0..=8),
        mut options in prop::collection::vec((any::<u16>(), prop::collection::vec(any::<u8>(), 0..300)), 0..8),
        payload in prop::collection::vec(any::<u8>(), 0..50),
        id: u16,
        code in 1_u8..,
    ) {
        options.sort_by_key(|(number, _)| *number);
        let header = Header { kind: Kind::NonConfirmable, code: Code(code), id, token: Opaque::new(&token).unwrap() };
        let mut buffer = Vec::new();
        let mut writer = Writer::new(&mut buffer, &header);
        for (number, value) in &options {
            writer.option(*number, value);
        }
        writer.payload(&payload);
        let message = Message::parse(&buffer).unwrap();
        prop_assert_eq!(message.header, header);
        prop_assert_eq!(message.payload, &payload[..]);
        let back: Vec<_> = message.options().map(|(n, v)| (n, v.to_vec())).collect();
        prop_assert_eq!(back, options);
    }
}
