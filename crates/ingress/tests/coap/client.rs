//! A CoAP client on another codec than the door's.

use std::net::SocketAddr;
use std::time::Duration;

use coap_lite::{CoapOption, MessageClass, MessageType, Packet, RequestType, ResponseType};
use tokio::net::UdpSocket;
use tokio::time::timeout;

/// How long a test waits for a datagram before it fails. Loopback loses none, the machine may be
/// slow.
const PATIENCE: Duration = Duration::from_secs(20);

/// One endpoint.
pub(crate) struct Client {
    socket: UdpSocket,
    id: u16,
}

impl Client {
    /// A socket that only hears from this address.
    pub(crate) async fn new(node: SocketAddr) -> Self {
        let any = if node.is_ipv6() {
            "[::]:0"
        } else {
            "0.0.0.0:0"
        };
        let socket = UdpSocket::bind(any).await.unwrap();
        socket.connect(node).await.unwrap();
        Self { socket, id: 100 }
    }

    /// Sends a request and takes the piggybacked response.
    pub(crate) async fn call(&mut self, method: &str, path: &str, payload: &[u8]) -> Packet {
        self.id += 1;
        self.send(&Self::request(self.id, method, path, payload))
            .await;
        let reply = self.receive().await;
        assert_eq!(reply.header.message_id, self.id);
        reply
    }

    /// A confirmable request whose token is its id.
    pub(crate) fn request(id: u16, method: &str, path: &str, payload: &[u8]) -> Vec<u8> {
        let mut packet = packet(id, method, path);
        packet.payload = payload.to_vec();
        encode(&packet)
    }

    /// A GET with Observe 0.
    pub(crate) fn observe(id: u16, path: &str) -> Vec<u8> {
        let mut packet = packet(id, "GET", path);
        packet.set_observe_value(0);
        encode(&packet)
    }

    pub(crate) async fn send(&self, bytes: &[u8]) {
        self.socket.send(bytes).await.unwrap();
    }

    pub(crate) async fn receive(&self) -> Packet {
        let mut buffer = vec![0; 65_536];
        let received = timeout(PATIENCE, self.socket.recv(&mut buffer)).await;
        let length = received.expect("no datagram came").unwrap();
        Packet::from_bytes(&buffer[..length]).unwrap()
    }

    /// Acknowledges a confirmable message.
    pub(crate) async fn acknowledge(&self, message: &Packet) {
        let [high, low] = message.header.message_id.to_be_bytes();
        self.send(&[0x60, 0, high, low]).await;
    }

    /// Sends a body in blocks of 1024 bytes and takes the reply's (RFC 7959).
    pub(crate) async fn echo(&mut self, path: &str, body: &[u8]) -> Vec<u8> {
        let blocks = body.len().div_ceil(1024);
        let mut reply = Packet::new();
        for number in 0..blocks {
            let more = number + 1 < blocks;
            let end = body.len().min((number + 1) * 1024);
            self.id += 1;
            let mut packet = packet(self.id, "POST", path);
            packet.add_option(CoapOption::Block1, block(number, more));
            packet.payload = body[number * 1024..end].to_vec();
            self.send(&encode(&packet)).await;
            reply = self.receive().await;
            let code = if more {
                ResponseType::Continue
            } else {
                ResponseType::Content
            };
            assert_eq!(
                reply.header.code,
                MessageClass::Response(code),
                "block {number}"
            );
        }
        let mut received = reply.payload.clone();
        while reply
            .get_first_option(CoapOption::Block2)
            .is_some_and(|value| more(value))
        {
            self.id += 1;
            let mut packet = packet(self.id, "POST", path);
            packet.add_option(CoapOption::Block2, block(received.len() / 1024, false));
            self.send(&encode(&packet)).await;
            reply = self.receive().await;
            assert_eq!(
                reply.header.code,
                MessageClass::Response(ResponseType::Content)
            );
            received.extend_from_slice(&reply.payload);
        }
        received
    }
}

fn packet(id: u16, method: &str, path: &str) -> Packet {
    let mut packet = Packet::new();
    packet.header.set_type(MessageType::Confirmable);
    packet.header.code = MessageClass::Request(match method {
        "GET" => RequestType::Get,
        "PUT" => RequestType::Put,
        _ => RequestType::Post,
    });
    packet.header.message_id = id;
    packet.set_token(id.to_le_bytes().to_vec());
    for segment in path.split('/').skip(1) {
        packet.add_option(CoapOption::UriPath, segment.as_bytes().to_vec());
    }
    packet
}

fn encode(packet: &Packet) -> Vec<u8> {
    packet.to_bytes_with_limit(64_000).unwrap()
}

/// A block option of size 1024.
fn block(number: usize, more: bool) -> Vec<u8> {
    let value = u32::try_from(number).unwrap() << 4 | u32::from(more) << 3 | 6;
    value.to_be_bytes()[(value.leading_zeros() / 8) as usize..].to_vec()
}

fn more(value: &[u8]) -> bool {
    value.last().is_some_and(|byte| byte & 8 != 0)
}
