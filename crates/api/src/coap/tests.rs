//! The client against a scripted server on a real UDP socket.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use coap_lite::{CoapOption, MessageClass, MessageType, Packet, ResponseType};
use mote_core::error::ErrorKind;
use proptest::prelude::*;
use tokio::net::UdpSocket;

use super::transfer::Block;
use super::{Client, ECHO, Request, Target, Timing, decoded, read_uint, uint};

/// A server's socket and a client of it that does not wait long.
async fn pair() -> (UdpSocket, Client) {
    let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let port = server.local_addr().unwrap().port();
    let timing = Timing {
        ack_timeout: Duration::from_millis(100),
        retransmit_max: 4,
        answer_timeout: Duration::from_secs(20),
    };
    let client = Client::connect("127.0.0.1", port, timing).await.unwrap();
    (server, client)
}

async fn receive(server: &UdpSocket) -> (Packet, std::net::SocketAddr) {
    let mut buffer = [0; 2048];
    let (length, from) = server.recv_from(&mut buffer).await.unwrap();
    (Packet::from_bytes(&buffer[..length]).unwrap(), from)
}

fn answer(to: &Packet, kind: MessageType, code: ResponseType, payload: &[u8]) -> Packet {
    let mut packet = Packet::new();
    packet.header.set_version(1);
    packet.header.set_type(kind);
    packet.header.code = MessageClass::Response(code);
    packet.header.message_id = to.header.message_id;
    packet.set_token(to.get_token().to_vec());
    packet.payload = payload.to_vec();
    packet
}

fn get(path: &str) -> Request {
    let target = Target::parse(&format!("coap://localhost/{path}")).unwrap();
    Request::new(1, &target)
}

#[tokio::test]
async fn a_lost_request_is_sent_again_with_the_same_id() {
    let (server, mut client) = pair().await;
    let script = async {
        let (lost, _) = receive(&server).await;
        let (again, from) = receive(&server).await;
        assert_eq!(lost, again);
        assert_eq!(again.header.get_type(), MessageType::Confirmable);
        let reply = answer(
            &again,
            MessageType::Acknowledgement,
            ResponseType::Content,
            b"hi",
        );
        server.send_to(b"\xff\xff", from).await.unwrap();
        server
            .send_to(&reply.to_bytes().unwrap(), from)
            .await
            .unwrap();
    };
    let request = get("light");
    let (response, ()) = tokio::join!(client.request(&request), script);
    let response = response.unwrap();
    assert_eq!(
        (response.class(), &response.payload[..]),
        ((2, 5), &b"hi"[..])
    );
}

#[tokio::test]
async fn a_separate_answer_is_waited_for_and_acknowledged() {
    let (server, mut client) = pair().await;
    let script = async {
        let (request, from) = receive(&server).await;
        let mut empty = Packet::new();
        empty.header.set_version(1);
        empty.header.set_type(MessageType::Acknowledgement);
        empty.header.code = MessageClass::Empty;
        empty.header.message_id = request.header.message_id;
        server
            .send_to(&empty.to_bytes().unwrap(), from)
            .await
            .unwrap();
        // An answer to somebody else comes between.
        let mut other = answer(
            &request,
            MessageType::NonConfirmable,
            ResponseType::Content,
            b"no",
        );
        other.set_token(vec![1]);
        server
            .send_to(&other.to_bytes().unwrap(), from)
            .await
            .unwrap();
        let mut reply = answer(
            &request,
            MessageType::Confirmable,
            ResponseType::NotFound,
            b"gone",
        );
        reply.header.message_id = 4711;
        server
            .send_to(&reply.to_bytes().unwrap(), from)
            .await
            .unwrap();
        let (ack, _) = receive(&server).await;
        assert_eq!(
            (ack.header.get_type(), ack.header.message_id),
            (MessageType::Acknowledgement, 4711)
        );
    };
    let request = get("light");
    let (response, ()) = tokio::join!(client.request(&request), script);
    assert_eq!(response.unwrap().failure(), Some(ErrorKind::NotFound));
}

#[tokio::test]
async fn silence_and_rejection_are_errors() {
    let (server, mut client) = pair().await;
    client.timing.ack_timeout = Duration::from_millis(5);
    let error = client.request(&get("light")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    for _ in 0..5 {
        receive(&server).await;
    }
    let mut nothing = [0; 1];
    assert!(
        server.try_recv(&mut nothing).is_err(),
        "sent more than five times"
    );

    let script = async {
        let (request, from) = receive(&server).await;
        let mut reset = Packet::new();
        reset.header.set_version(1);
        reset.header.set_type(MessageType::Reset);
        reset.header.code = MessageClass::Empty;
        reset.header.message_id = request.header.message_id;
        server
            .send_to(&reset.to_bytes().unwrap(), from)
            .await
            .unwrap();
    };
    client.timing.ack_timeout = Duration::from_secs(2);
    let request = get("light");
    let (response, ()) = tokio::join!(client.request(&request), script);
    assert_eq!(response.unwrap_err().kind(), ErrorKind::Unsupported);
}

#[tokio::test]
async fn a_challenge_is_answered_with_its_echo() {
    let (server, mut client) = pair().await;
    let script = async {
        let (first, from) = receive(&server).await;
        let mut challenge = answer(
            &first,
            MessageType::Acknowledgement,
            ResponseType::Unauthorized,
            b"",
        );
        challenge.add_option(CoapOption::Unknown(ECHO), b"prove".to_vec());
        server
            .send_to(&challenge.to_bytes().unwrap(), from)
            .await
            .unwrap();
        let (second, _) = receive(&server).await;
        assert_eq!(
            second.get_first_option(CoapOption::Unknown(ECHO)).unwrap(),
            b"prove"
        );
        assert_ne!(second.header.message_id, first.header.message_id);
        let reply = answer(
            &second,
            MessageType::Acknowledgement,
            ResponseType::Content,
            b"hi",
        );
        server
            .send_to(&reply.to_bytes().unwrap(), from)
            .await
            .unwrap();
    };
    let request = get("light");
    let (response, ()) = tokio::join!(client.request(&request), script);
    assert_eq!(&response.unwrap().payload[..], b"hi");
}

/// Echoes a body block by block; asks for 256-byte blocks after the first.
async fn block_echo(server: &UdpSocket, length: usize) -> Vec<u8> {
    let mut body = Vec::new();
    let mut blocks = BTreeMap::new();
    loop {
        let (request, from) = receive(server).await;
        let mut reply = answer(
            &request,
            MessageType::Acknowledgement,
            ResponseType::Continue,
            b"",
        );
        if let Some(block) = Block::read(&request, CoapOption::Block1) {
            assert_eq!(block.number * block.size, body.len());
            assert_eq!(
                request.get_first_option(CoapOption::Size1).is_some(),
                block.number == 0
            );
            body.extend_from_slice(&request.payload);
            *blocks.entry(block.size).or_insert(0) += 1;
            let value = u32::try_from(block.number).unwrap() << 4 | u32::from(block.more) << 3 | 4;
            reply.add_option(CoapOption::Block1, uint(value));
            if block.more {
                server
                    .send_to(&reply.to_bytes().unwrap(), from)
                    .await
                    .unwrap();
                continue;
            }
            assert!(blocks[&256] > 1 && blocks[&1024] == 1, "{blocks:?}");
        }
        let number = Block::read(&request, CoapOption::Block2).map_or(0, |block| block.number);
        let start = number * 512;
        let end = body.len().min(start + 512);
        let more = end < body.len();
        reply.header.code = MessageClass::Response(ResponseType::Content);
        reply.add_option(CoapOption::ETag, vec![7]);
        reply.add_option(
            CoapOption::Block2,
            uint(u32::try_from(number).unwrap() << 4 | u32::from(more) << 3 | 5),
        );
        reply.payload = body[start..end].to_vec();
        server
            .send_to(&reply.to_bytes_with_limit(2048).unwrap(), from)
            .await
            .unwrap();
        if !more {
            assert_eq!(body.len(), length);
            return body;
        }
    }
}

#[tokio::test]
async fn a_large_body_goes_and_comes_in_blocks() {
    let (server, mut client) = pair().await;
    let body: Bytes = (0..100_001u32).map(|n| n.to_le_bytes()[0]).collect();
    let mut request = get("echo");
    request.code = 2;
    request.content_format = Some(42);
    request.payload = body.clone();
    let (response, arrived) =
        tokio::join!(client.request(&request), block_echo(&server, body.len()));
    assert_eq!(arrived, body);
    assert_eq!(response.unwrap().payload, body);
}

#[tokio::test]
async fn an_observation_acknowledges_orders_and_ends() {
    let (server, client) = pair().await;
    let (sent, mut acknowledged) = (std::cell::Cell::new(0), Vec::new());
    let script = async {
        let (request, from) = receive(&server).await;
        assert_eq!(request.get_observe_value().unwrap().unwrap(), 0);
        let mut first = answer(
            &request,
            MessageType::Acknowledgement,
            ResponseType::Content,
            b"off",
        );
        first.add_option(CoapOption::Observe, uint(10));
        server
            .send_to(&first.to_bytes().unwrap(), from)
            .await
            .unwrap();
        for (id, number, payload) in [(1u16, 12u32, "on"), (2, 11, "stale"), (3, 13, "off")] {
            let mut notification = answer(
                &request,
                MessageType::Confirmable,
                ResponseType::Content,
                payload.as_bytes(),
            );
            notification.header.message_id = id;
            notification.add_option(CoapOption::Observe, uint(number));
            server
                .send_to(&notification.to_bytes().unwrap(), from)
                .await
                .unwrap();
            sent.set(sent.get() + 1);
            let (ack, _) = receive(&server).await;
            assert_eq!(ack.header.get_type(), MessageType::Acknowledgement);
            acknowledged.push(ack.header.message_id);
        }
        let mut gone = answer(
            &request,
            MessageType::Confirmable,
            ResponseType::NotFound,
            b"gone",
        );
        gone.header.message_id = 4;
        server
            .send_to(&gone.to_bytes().unwrap(), from)
            .await
            .unwrap();
        receive(&server).await;
    };
    let watching = async {
        let (first, mut observation) = client.observe(&get("light")).await.unwrap();
        let mut seen = vec![first.payload];
        while let Some(response) = observation.next().await.unwrap() {
            seen.push(response.payload);
        }
        seen
    };
    let (seen, ()) = tokio::join!(watching, script);
    assert_eq!(seen, ["off", "on", "off", "gone"]);
    assert_eq!(acknowledged, [1, 2, 3]);
}

#[test]
fn addresses_are_taken_apart() {
    let target = Target::parse("coap://[::1]:5700/light.home/a%20b?x=1&y").unwrap();
    assert_eq!((target.host.as_str(), target.port), ("::1", 5700));
    assert_eq!(target.path, ["light.home", "a b"]);
    assert_eq!(target.query, ["x=1", "y"]);
    assert_eq!(Target::parse("coap://edge").unwrap().port, 5683);
    for bad in [
        "http://x/",
        "coap://",
        "light",
        "coap://x/%zz",
        "coap://x/%f",
    ] {
        assert!(Target::parse(bad).is_err(), "{bad}");
    }
    assert_eq!(Request::code("ipatch"), Some(7));
    assert_eq!(Request::code("TRACE"), None);
}

proptest! {
    #[test]
    fn numbers_are_written_short_and_read_back(value in any::<u32>(), shift in 0u32..32) {
        let value = value >> shift;
        let bytes = uint(value);
        prop_assert!(bytes.first() != Some(&0));
        prop_assert_eq!(read_uint(&bytes), Some(value));
    }

    #[test]
    fn no_address_panics(text in "(coap://)?\\PC{0,40}") {
        let _ = Target::parse(&text);
        let _ = decoded(&text);
    }

    #[test]
    fn no_datagram_panics(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        if let Ok(packet) = Packet::from_bytes(&bytes) {
            let _ = Block::read(&packet, CoapOption::Block2);
            let _ = super::Response::from_packet(&packet, Bytes::new());
        }
    }
}
