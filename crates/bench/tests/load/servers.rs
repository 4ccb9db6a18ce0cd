//! Servers that the tests put load on, and what they share.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use mote_bench::baseline;
use mote_bench::load::{Options, Report};
use tokio::runtime::{Builder, Runtime};

pub(crate) const LOCAL: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// A baseline server on a thread of its own, for as long as the test runs.
pub(crate) struct Baseline {
    _runtime: Runtime,
    pub(crate) target: String,
}

impl Baseline {
    pub(crate) fn http() -> Self {
        let runtime = runtime();
        let listener = runtime
            .block_on(tokio::net::TcpListener::bind(LOCAL))
            .unwrap();
        let target = format!("http://{}/hello", listener.local_addr().unwrap());
        runtime.spawn(baseline::http(listener));
        Self {
            _runtime: runtime,
            target,
        }
    }

    pub(crate) fn coap() -> Self {
        let runtime = runtime();
        let socket = {
            let _inside = runtime.enter();
            baseline::coap_socket(LOCAL).unwrap()
        };
        let target = format!("coap://{}/hello", socket.local_addr().unwrap());
        runtime.spawn(baseline::coap(socket));
        Self {
            _runtime: runtime,
            target,
        }
    }
}

pub(crate) fn runtime() -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
}

/// Generous, because the machine that runs the tests may be busy.
pub(crate) fn options(target: &str, clients: usize, requests: u64) -> Options {
    let mut options = Options::new(target);
    options.clients = clients;
    options.requests = Some(requests);
    options.timeout = Duration::from_secs(30);
    options.expect_body = Some("hello, world".into());
    options
}

/// Answers each datagram on a socket of its own with what `answer` makes of it, until the test ends.
pub(crate) fn responder(mut answer: impl FnMut(&[u8]) -> Vec<Vec<u8>> + Send + 'static) -> String {
    let socket = UdpSocket::bind(LOCAL).unwrap();
    let target = format!("coap://{}/x", socket.local_addr().unwrap());
    thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((length, peer)) = socket.recv_from(&mut buffer) {
            for reply in answer(&buffer[..length]) {
                socket.send_to(&reply, peer).unwrap();
            }
        }
    });
    target
}

/// A response with the token of `request`; `first` holds version, type and token length.
pub(crate) fn response(first: u8, id: [u8; 2], request: &[u8], payload: &str) -> Vec<u8> {
    let mut reply = vec![first, 0x45, id[0], id[1]];
    reply.extend(&request[4..8]);
    reply.push(0xff);
    reply.extend(payload.bytes());
    reply
}

pub(crate) fn piggybacked(request: &[u8]) -> Vec<u8> {
    response(0x64, [request[2], request[3]], request, "hello, world")
}

pub(crate) fn all_ok(report: &Report, expected: u64) {
    assert_eq!(
        (report.sent, report.ok, report.failed.total),
        (expected, expected, 0),
        "{report}"
    );
}

/// Answers each HTTP request on a connection of its own with what `answer` makes of its body, until the test ends.
pub(crate) fn http_responder(answer: impl Fn(&[u8]) -> Vec<u8> + Clone + Send + 'static) -> String {
    http_server(move |_, body| answer(body)) + "x"
}

/// Tells the path of each HTTP request, and answers as the baseline does.
pub(crate) fn http_paths(tell: impl Fn(&str) + Clone + Send + 'static) -> String {
    http_server(move |path, _| {
        tell(path);
        b"hello, world".to_vec()
    })
}

fn http_server(answer: impl Fn(&str, &[u8]) -> Vec<u8> + Clone + Send + 'static) -> String {
    let listener = std::net::TcpListener::bind(LOCAL).unwrap();
    let target = format!("http://{}/", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let answer = answer.clone();
            thread::spawn(move || serve(&stream.unwrap(), &answer));
        }
    });
    target
}

/// One connection, until it is closed or says that it will be.
fn serve(stream: &TcpStream, answer: &impl Fn(&str, &[u8]) -> Vec<u8>) {
    let mut input = BufReader::new(stream);
    loop {
        let (mut length, mut close, mut path) = (0, false, String::new());
        loop {
            let mut line = String::new();
            if input.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            let line = line.trim_end();
            if let Some(digits) = line.strip_prefix("content-length: ") {
                length = digits.parse().unwrap();
            }
            close |= line == "connection: close";
            if path.is_empty() {
                path = line.split(' ').nth(1).unwrap().to_owned();
            } else if line.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        input.read_exact(&mut body).unwrap();
        let reply = answer(&path, &body);
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", reply.len());
        { stream }
            .write_all(&[head.as_bytes(), &reply].concat())
            .unwrap();
        if close {
            return;
        }
    }
}
