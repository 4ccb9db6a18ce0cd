//! The CoAP door over real sockets, with the engine behind it and a scripted runtime behind that.
#![expect(
    clippy::unwrap_used,
    reason = "a test may stop at the first surprise, its helpers too"
)]

mod client;
mod libcoap;
mod node;

use std::num::NonZeroUsize;
use std::time::Duration;

use coap_lite::{MessageClass, MessageType, ResponseType};
use mote_core::error::ErrorKind;
use mote_ingress::coap::{Config, Door};

use client::Client;
use node::Node;

fn body(size: usize) -> Vec<u8> {
    (0..=250).cycle().take(size).collect()
}

#[tokio::test]
async fn get_and_post() {
    let node = Node::start().await;
    let mut client = Client::new(node.address).await;
    let reply = client.call("POST", "/echo", b"hello").await;
    assert_eq!(
        reply.header.code,
        MessageClass::Response(ResponseType::Content)
    );
    assert_eq!(reply.payload, b"hello");
    let reply = client.call("GET", "/echo", b"").await;
    assert_eq!(
        (reply.header.get_type(), reply.payload.len()),
        (MessageType::Acknowledgement, 0)
    );
    let reply = client.call("GET", "/none", b"").await;
    assert_eq!(
        reply.header.code,
        MessageClass::Response(ResponseType::NotFound)
    );
    node.stop().await;
}

#[tokio::test]
async fn five_copies_run_once() {
    let node = Node::start().await;
    let client = Client::new(node.address).await;
    let bytes = Client::request(1, "POST", "/echo", b"x");
    let mut replies = Vec::new();
    for _ in 0..5 {
        client.send(&bytes).await;
    }
    for _ in 0..5 {
        replies.push(client.receive().await);
    }
    assert!(replies.windows(2).all(|pair| pair[0] == pair[1]));
    assert_eq!(node.calls(), 1);
    node.stop().await;
}

#[tokio::test]
async fn a_slow_call_is_answered_separately() {
    let node = Node::start().await;
    let client = Client::new(node.address).await;
    let bytes = Client::request(7, "GET", "/slow/400", b"");
    client.send(&bytes).await;
    let ack = client.receive().await;
    assert_eq!(ack.header.get_type(), MessageType::Acknowledgement);
    assert_eq!(
        (ack.header.code, ack.header.message_id),
        (MessageClass::Empty, 7)
    );
    client.send(&bytes).await;
    assert_eq!(client.receive().await, ack, "a copy is acknowledged again");
    let response = client.receive().await;
    assert_eq!(response.header.get_type(), MessageType::Confirmable);
    assert_eq!(
        (response.get_token(), &response.payload[..]),
        (&[7, 0][..], &b"late"[..])
    );
    let again = client.receive().await;
    assert_eq!(again, response, "it is sent again until it is acknowledged");
    client.acknowledge(&response).await;
    assert_eq!(node.calls(), 1);
    node.stop().await;
}

#[tokio::test]
async fn large_bodies_are_echoed_block_by_block() {
    let node = Node::start().await;
    let mut client = Client::new(node.address).await;
    for size in [1024, 1025, 100 << 10, 1 << 20] {
        let body = body(size);
        let echoed = client.echo("/echo", &body).await;
        assert!(echoed == body, "{size} bytes came back as {}", echoed.len());
    }
    assert_eq!(node.calls(), 4);
    let too_large = client.call("POST", "/small", &body(600)).await;
    assert_eq!(
        too_large.header.code,
        MessageClass::Response(ResponseType::RequestEntityTooLarge)
    );
    node.stop().await;
}

#[tokio::test]
async fn observers_are_notified() {
    let node = Node::start().await;
    let client = Client::new(node.address).await;
    let mut publisher = Client::new(node.address).await;
    client.send(&Client::observe(1, "/light")).await;
    let first = client.receive().await;
    assert_eq!(
        (&first.payload[..], first.get_observe_value().is_some()),
        (&b"dark"[..], true)
    );
    let mut sequence = first.get_observe_value().unwrap().unwrap();
    for value in ["on", "off"] {
        publisher.call("PUT", "/light", value.as_bytes()).await;
        let changed = client.receive().await;
        assert_eq!(changed.header.get_type(), MessageType::Confirmable);
        assert_eq!(
            (changed.get_token(), &changed.payload[..]),
            (&[1, 0][..], value.as_bytes())
        );
        let next = changed.get_observe_value().unwrap().unwrap();
        assert!(next > sequence);
        sequence = next;
        client.acknowledge(&changed).await;
    }
    assert_eq!(publisher.call("GET", "/light", b"").await.payload, b"off");
    let calls = node.calls();
    assert_eq!(calls, 3, "published values run nothing");
    node.remove("light").await;
    let gone = client.receive().await;
    assert_eq!(
        gone.header.code,
        MessageClass::Response(ResponseType::NotFound)
    );
    client.acknowledge(&gone).await;
    assert_eq!(node.counter("observers_now"), 0);
    node.stop().await;
}

#[tokio::test]
async fn the_end_waits_for_calls_and_tells_observers() {
    let node = Node::start().await;
    let observer = Client::new(node.address).await;
    observer.send(&Client::observe(1, "/light")).await;
    observer.receive().await;
    let client = Client::new(node.address).await;
    client
        .send(&Client::request(2, "GET", "/slow/100", b""))
        .await;
    node.until_running(1).await;
    let stopped = tokio::spawn(node.stop());
    let response = client.receive().await;
    assert_eq!(response.payload, b"late");
    let told = observer.receive().await;
    assert_eq!(
        told.header.code,
        MessageClass::Response(ResponseType::ServiceUnavailable)
    );
    stopped.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shards_share_the_work() {
    let node = Node::start_with(|config| config.shards = NonZeroUsize::new(3).unwrap()).await;
    let mut clients = Vec::new();
    for _ in 0..100 {
        clients.push(Client::new(node.address).await);
    }
    for client in &mut clients {
        assert_eq!(client.call("POST", "/echo", b"x").await.payload, b"x");
    }
    assert_eq!(node.calls(), 100);
    assert_eq!(node.counter("datagrams_in"), 100);
    assert_eq!(node.counter("datagrams_out"), 100);
    node.stop().await;
}

#[tokio::test]
async fn a_crowd_leaves_the_thread_to_others() {
    let node = Node::start().await;
    // The door's only thread is this one, so all of them wait until the first await.
    let crowd = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    for id in 0..1000 {
        let request = Client::request(id, "GET", "/echo", b"");
        crowd.send_to(&request, node.address).unwrap();
    }
    let (mut taken, mut most) = (0, 0);
    while taken == 0 || node.counter("datagrams_in") > taken {
        let before = std::mem::replace(&mut taken, node.counter("datagrams_in"));
        most = most.max(taken - before);
        // Twice, because the first time may be when the door yields.
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
    }
    assert!(taken > 256, "the kernel kept {taken}");
    assert!(most <= 256, "{most} of {taken} in one turn");
    node.stop().await;
}

#[tokio::test]
async fn both_kinds_of_addresses_are_served() {
    let node = Node::start_with(|config| config.address = "[::]:0".parse().unwrap()).await;
    for local in ["127.0.0.1", "127.0.0.2", "::1"] {
        let address = std::net::SocketAddr::new(local.parse().unwrap(), node.address.port());
        // The socket is connected: a reply from another address than was asked would not arrive.
        let mut client = Client::new(address).await;
        assert_eq!(
            client.call("POST", "/echo", b"x").await.payload,
            b"x",
            "{local}"
        );
    }
    node.stop().await;
}

#[tokio::test]
async fn a_taken_port_is_an_error() {
    let node = Node::start_with(|config| config.shards = NonZeroUsize::new(2).unwrap()).await;
    let mut config = Config::new(node.address);
    for shards in [1, 2] {
        config.shards = NonZeroUsize::new(shards).unwrap();
        let error = Door::bind(&config).expect_err("somebody else's port");
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert!(error.message().contains("in use"), "{error}");
    }
    config.block_size = 100;
    assert_eq!(
        Door::bind(&config).unwrap_err().kind(),
        ErrorKind::BadRequest
    );
    node.stop().await;
}

#[tokio::test]
async fn a_large_datagram_is_refused_and_noise_is_survived() {
    let node = Node::start().await;
    let mut client = Client::new(node.address).await;
    client
        .send(&Client::request(1, "POST", "/echo", &body(20_000)))
        .await;
    let refused = client.receive().await;
    assert_eq!(
        refused.header.code,
        MessageClass::Response(ResponseType::RequestEntityTooLarge)
    );
    for size in 0..64 {
        client.send(&vec![0xff; size]).await;
    }
    assert_eq!(client.call("POST", "/echo", b"x").await.payload, b"x");
    node.stop().await;
    // Sending to nobody must not upset anyone either: the reply meets a closed socket.
    let node = Node::start().await;
    let gone = Client::new(node.address).await;
    gone.send(&Client::request(1, "GET", "/slow/50", b"")).await;
    node.until_running(1).await;
    drop(gone);
    let mut client = Client::new(node.address).await;
    assert_eq!(client.call("POST", "/echo", b"x").await.payload, b"x");
    tokio::time::timeout(Duration::from_secs(20), node.stop())
        .await
        .unwrap();
}
