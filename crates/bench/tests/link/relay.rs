//! Relays: datagrams and streams of real sockets, in this process.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use mote_bench::link::relay::{Bounds, Protocol, Route, Side};
use mote_bench::link::{Direction, Impairments, Preset, Relay, Report};

use crate::accuracy::{is_the_cloud, one_way};

const PATIENCE: Duration = Duration::from_secs(30);
const MS: Duration = Duration::from_millis(1);

fn up(impairments: &Impairments, bounds: Bounds) -> Relay {
    Relay::up([impairments.clone(), impairments.clone()], 1, bounds).unwrap()
}

fn carry(relay: &Relay, protocol: Protocol, to: SocketAddr) -> SocketAddr {
    let route = Route {
        protocol,
        listen: "127.0.0.1:0".parse().unwrap(),
        to,
        from: Side::Near,
    };
    relay.carry(route).unwrap()
}

fn bound() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

fn connected(to: SocketAddr) -> UdpSocket {
    let socket = bound();
    socket.connect(to).unwrap();
    socket
}

/// Answers each datagram with itself, until it is told `end`.
fn echo() -> (SocketAddr, JoinHandle<()>) {
    let socket = bound();
    let address = socket.local_addr().unwrap();
    let thread = thread::spawn(move || {
        let mut packet = [0; 2048];
        loop {
            let (length, from) = socket.recv_from(&mut packet).unwrap();
            if &packet[..length] == b"end" {
                return;
            }
            socket.send_to(&packet[..length], from).unwrap();
        }
    });
    (address, thread)
}

fn end((address, thread): (SocketAddr, JoinHandle<()>)) {
    bound().send_to(b"end", address).unwrap();
    thread.join().unwrap();
}

/// A server of one connection, to which `serve` is done.
fn server<T: Send + 'static>(
    serve: impl FnOnce(TcpStream) -> T + Send + 'static,
) -> (SocketAddr, JoinHandle<T>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let thread = thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        serve(stream)
    });
    (address, thread)
}

fn connect(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn read_all(stream: &mut TcpStream) -> Vec<u8> {
    let mut read = Vec::new();
    stream.read_to_end(&mut read).unwrap();
    read
}

fn reset(stream: &mut TcpStream) {
    let error = stream.read(&mut [0; 16]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn delay_deviation_and_loss_are_as_asked() {
    is_the_cloud(|cloud, packets| {
        let relay = up(cloud, Bounds::default());
        let far = bound();
        let near = connected(carry(&relay, Protocol::Udp, far.local_addr().unwrap()));
        let delays = one_way(&near, far, packets);
        Some((delays, relay.down().unwrap()))
    });
}

#[test]
fn each_client_has_its_replies_and_no_other() {
    let slow = Impairments {
        delay: MS * 20,
        ..Preset::Loc.impairments()
    };
    let relay = up(&slow, Bounds::default());
    let server = echo();
    let door = carry(&relay, Protocol::Udp, server.0);
    let clients: Vec<UdpSocket> = (0..50).map(|_| connected(door)).collect();
    let begun = Instant::now();
    for (number, client) in clients.iter().enumerate() {
        client.send(&[u8::try_from(number).unwrap(); 700]).unwrap();
    }
    for (number, client) in clients.iter().enumerate() {
        let mut packet = [0; 2048];
        let length = client.recv(&mut packet).unwrap();
        assert_eq!(packet[..length], [u8::try_from(number).unwrap(); 700]);
    }
    // There and back; it may take longer, and not shorter.
    assert!(begun.elapsed() >= MS * 40);
    end(server);
    let Report { there, back, .. } = relay.down().unwrap();
    assert_eq!([there.arrived, back.arrived], [50, 50]);
}

#[test]
fn datagrams_without_room_are_dropped_and_counted() {
    // A datagram takes four seconds, and three may wait.
    let narrow = Impairments {
        rate: Some(8.0 * 32.0),
        queue: 3,
        ..Preset::Loc.impairments()
    };
    let relay = up(&narrow, Bounds::default());
    let far = bound();
    let near = connected(carry(&relay, Protocol::Udp, far.local_addr().unwrap()));
    for number in 0..10 {
        near.send(&[number; 100]).unwrap();
    }
    let mut packet = [0; 128];
    let length = far.recv(&mut packet).unwrap();
    assert_eq!(packet[..length], [0; 100]);
    let Direction { sent, dropped, .. } = relay.down().unwrap().there;
    // All had come before the first had left.
    assert_eq!((sent, dropped), (10, 7));
}

#[test]
fn datagrams_are_doubled() {
    let twice = Impairments {
        duplicate: 1.0,
        ..Preset::Loc.impairments()
    };
    let relay = up(&twice, Bounds::default());
    let far = bound();
    let near = connected(carry(&relay, Protocol::Udp, far.local_addr().unwrap()));
    near.send(b"once").unwrap();
    let mut packet = [0; 16];
    for _ in 0..2 {
        let length = far.recv(&mut packet).unwrap();
        assert_eq!(&packet[..length], b"once");
    }
    assert_eq!(relay.down().unwrap().there.doubled, 1);
}

#[test]
fn more_clients_than_there_may_be_are_refused_and_counted() {
    let bounds = Bounds {
        clients: 2,
        ..Bounds::default()
    };
    let relay = up(&Preset::Loc.impairments(), bounds);
    let server = echo();
    let door = carry(&relay, Protocol::Udp, server.0);
    let clients: Vec<UdpSocket> = (0..3).map(|_| connected(door)).collect();
    let ask = |client: &UdpSocket| client.send(b"hello").unwrap();
    let mut packet = [0; 16];
    for client in &clients[..2] {
        ask(client);
        assert_eq!(client.recv(&mut packet).unwrap(), 5);
    }
    ask(&clients[2]);
    // The relay has seen it when one that came after it is answered.
    ask(&clients[0]);
    assert_eq!(clients[0].recv(&mut packet).unwrap(), 5);
    end(server);

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let door = carry(&relay, Protocol::Tcp, listener.local_addr().unwrap());
    let streams: Vec<TcpStream> = (0..2).map(|_| connect(door)).collect();
    let _taken: Vec<_> = streams.iter().map(|_| listener.accept().unwrap()).collect();
    reset(&mut connect(door));
    let there = relay.down().unwrap().there;
    assert_eq!((there.refused, there.sent), (2, 3 + 2));
}

#[test]
fn a_client_that_was_quiet_makes_room_for_another() {
    let bounds = Bounds {
        clients: 1,
        idle: MS,
    };
    let relay = up(&Preset::Loc.impairments(), bounds);
    let server = echo();
    let door = carry(&relay, Protocol::Udp, server.0);
    let first = connected(door);
    let mut packet = [0; 16];
    first.send(b"hello").unwrap();
    assert_eq!(first.recv(&mut packet).unwrap(), 5);
    let second = connected(door);
    second.set_read_timeout(Some(MS * 50)).unwrap();
    let until = Instant::now() + PATIENCE;
    loop {
        second.send(b"hello").unwrap();
        match second.recv(&mut packet) {
            Ok(length) => break assert_eq!(length, 5),
            Err(_) => assert!(Instant::now() < until, "the first is remembered for ever"),
        }
    }
    end(server);
}

#[test]
fn a_megabyte_arrives_as_it_was_sent() {
    const BYTES: usize = 1 << 20;
    let cloud = Impairments {
        // Enough that some pieces are lost, and a queue that is full all the time.
        delay: MS * 2,
        deviation: MS,
        loss: 0.01,
        queue: 50,
        duplicate: 0.5,
        reorder: 0.5,
        ..Preset::Loc.impairments()
    };
    let relay = up(&cloud, Bounds::default());
    let (to, serving) = server(|mut stream| {
        let read = read_all(&mut stream);
        // Back, when all of it is there.
        stream.write_all(&read).unwrap();
    });
    let mut stream = connect(carry(&relay, Protocol::Tcp, to));
    let mut random = fastrand::Rng::with_seed(1);
    let sent: Vec<u8> = std::iter::repeat_with(|| random.u8(..))
        .take(BYTES)
        .collect();
    stream.write_all(&sent).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert!(read_all(&mut stream) == sent, "it is not what was sent");
    serving.join().unwrap();
    let Report { there, back, .. } = relay.down().unwrap();
    for way in [there, back] {
        assert!(way.arrived >= (BYTES / 1460) as u64, "{way:?}");
        assert_eq!((way.sent, way.doubled, way.dropped), (way.arrived, 0, 0));
        assert!(way.resent > 0, "{way:?}");
    }
}

#[test]
fn a_full_queue_holds_the_sender_of_a_stream_back() {
    // Two pieces a second.
    let narrow = Impairments {
        rate: Some(8.0 * 3000.0),
        queue: 2,
        ..Preset::Loc.impairments()
    };
    let relay = up(&narrow, Bounds::default());
    let (to, serving) = server(|stream| (stream.peek(&mut [0]).unwrap(), stream));
    let mut stream = connect(carry(&relay, Protocol::Tcp, to));
    stream.set_write_timeout(Some(MS * 300)).unwrap();
    let chunk = vec![0; 64 << 10];
    let written: usize = std::iter::from_fn(|| stream.write(&chunk).ok())
        .take(10_000)
        .sum();
    // What the sockets of this system hold, and not all that there was.
    assert!(written < 10_000 * chunk.len());
    serving.join().unwrap();
    let there = relay.down().unwrap().there;
    assert!(there.sent < 1000 && there.dropped == 0, "{there:?}");
}

#[test]
fn a_stream_opens_after_a_round_trip_of_its_own() {
    let slow = Impairments {
        delay: MS * 25,
        ..Preset::Loc.impairments()
    };
    let relay = up(&slow, Bounds::default());
    let (to, serving) = server(|mut stream| {
        let mut request = [0; 5];
        stream.read_exact(&mut request).unwrap();
        stream.write_all(b"world").unwrap();
    });
    let begun = Instant::now();
    let mut stream = connect(carry(&relay, Protocol::Tcp, to));
    stream.write_all(b"hello").unwrap();
    assert_eq!(read_all(&mut stream), b"world");
    // Two round trips; it may take longer, and not shorter.
    assert!(begun.elapsed() >= MS * 100, "{:?}", begun.elapsed());
    serving.join().unwrap();
}

#[test]
fn ends_and_failures_reach_the_other_side() {
    let relay = up(&Preset::Eopt.impairments(), Bounds::default());
    // Nobody listens there any more.
    let closed = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    reset(&mut connect(carry(&relay, Protocol::Tcp, closed)));

    // A client that resets what it began.
    let (to, serving) = server(|mut stream| {
        stream.write_all(b"ready").unwrap();
        reset(&mut stream);
    });
    let mut stream = connect(carry(&relay, Protocol::Tcp, to));
    stream.read_exact(&mut [0; 5]).unwrap();
    socket2::SockRef::from(&stream)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(stream);
    serving.join().unwrap();

    // A server that says something and ends.
    let (to, serving) = server(|mut stream| stream.write_all(b"bye").unwrap());
    let mut stream = connect(carry(&relay, Protocol::Tcp, to));
    assert_eq!(read_all(&mut stream), b"bye");
    serving.join().unwrap();
}

#[test]
fn clients_may_be_on_either_side() {
    let [there, back] = [40, 0].map(|millis| Impairments {
        delay: MS * millis,
        ..Preset::Loc.impairments()
    });
    let relay = Relay::up([there, back], 1, Bounds::default()).unwrap();
    let far = bound();
    let door = |from| {
        relay.carry(Route {
            protocol: Protocol::Udp,
            listen: "127.0.0.1:0".parse().unwrap(),
            to: far.local_addr().unwrap(),
            from,
        })
    };
    let sent = |from| {
        let near = connected(door(from).unwrap());
        one_way(&near, far.try_clone().unwrap(), 10)
    };
    assert!(sent(Side::Near).iter().all(|millis| *millis >= 40.0));
    // By the way back, which has no delay; some may be late.
    assert!(sent(Side::Far).iter().any(|millis| *millis < 40.0));
    let report = relay.down().unwrap();
    assert_eq!((report.there.arrived, report.back.arrived), (10, 10));
}
