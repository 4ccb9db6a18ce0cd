//! The load generator against real servers in this process: the baselines, and servers that misbehave on purpose.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail where they are")]

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use mote_bench::baseline;
use mote_bench::load::{self, Options, Report};
use tokio::runtime::{Builder, Runtime};

const LOCAL: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// A baseline server on a thread of its own, for as long as the test runs.
struct Baseline {
    _runtime: Runtime,
    target: String,
}

impl Baseline {
    fn http() -> Self {
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

    fn coap() -> Self {
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

fn runtime() -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
}

/// Generous, because the machine that runs the tests may be busy.
fn options(target: &str, clients: usize, requests: u64) -> Options {
    let mut options = Options::new(target);
    options.clients = clients;
    options.requests = Some(requests);
    options.timeout = Duration::from_secs(30);
    options.expect_body = Some("hello, world".into());
    options
}

/// Answers each datagram on a socket of its own with what `answer` makes of it, until the test ends.
fn responder(mut answer: impl FnMut(&[u8]) -> Vec<Vec<u8>> + Send + 'static) -> String {
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
fn response(first: u8, id: [u8; 2], request: &[u8], payload: &str) -> Vec<u8> {
    let mut reply = vec![first, 0x45, id[0], id[1]];
    reply.extend(&request[4..8]);
    reply.push(0xff);
    reply.extend(payload.bytes());
    reply
}

fn piggybacked(request: &[u8]) -> Vec<u8> {
    response(0x64, [request[2], request[3]], request, "hello, world")
}

fn all_ok(report: &Report, expected: u64) {
    assert_eq!(
        (report.sent, report.ok, report.failed.total),
        (expected, expected, 0),
        "{report}"
    );
}

#[test]
fn http_counts_are_exact() {
    let server = Baseline::http();
    let mut options = options(&server.target, 7, 30);
    options.threads = 2;
    options.server_pid = Some(std::process::id());
    let report = load::run(&options).unwrap();
    all_ok(&report, 210);
    assert_eq!((report.reconnects, report.malformed), (0, 0));
    assert!(report.latency_us.min > 0.0 && report.latency_us.max >= report.latency_us.p50);
    assert!(report.server.unwrap().pss_mb_after.unwrap() > 0.0);
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(
        (&json["ok"], &json["failed"]["total"]),
        (&210.into(), &0.into())
    );
    assert!(
        report.to_string().contains("210 sent, 210 ok, 0 failed"),
        "{report}"
    );
}

#[test]
fn a_stored_report_holds_the_whole_distribution() {
    let server = Baseline::http();
    let report = load::run(&options(&server.target, 3, 20)).unwrap();
    let counts: u64 = report.histogram.iter().map(|(_, count)| count).sum();
    assert_eq!(counts, 60, "{report}");
    assert!(report.histogram.is_sorted_by(|a, b| a.0 < b.0));
    let longest = report.histogram.last().unwrap().0;
    assert!((longest - report.latency_us.max).abs() < 1e-9, "{report}");
    let mut half = 0;
    let middle = report.histogram.iter().find(|(_, count)| {
        half += count;
        half >= 30
    });
    assert!((middle.unwrap().0 - report.latency_us.p50).abs() < 1e-9);
    let stored = serde_json::to_string(&report).unwrap();
    let again: Report = serde_json::from_str(&stored).unwrap();
    assert_eq!((again.ok, &again.failed), (60, &report.failed));
    assert_eq!(again.histogram, report.histogram);
    assert_eq!(again.environment.command, report.environment.command);
}

#[test]
fn coap_counts_are_exact_with_a_thousand_clients() {
    let server = Baseline::coap();
    let report = load::run(&options(&server.target, 1024, 5)).unwrap();
    all_ok(&report, 5120);
}

#[test]
fn non_confirmable_requests_are_answered() {
    let server = Baseline::coap();
    let mut options = options(&server.target, 3, 10);
    options.non = true;
    all_ok(&load::run(&options).unwrap(), 30);
}

#[test]
fn ids_of_one_socket_never_repeat() {
    let server = Baseline::coap();
    let report = load::run(&options(&server.target, 1, 70_000)).unwrap();
    all_ok(&report, 70_000);
    assert_eq!(
        report.reconnects, 1,
        "after 65,536 ids the socket is replaced"
    );
}

#[test]
fn open_loop_sends_every_due_request_once() {
    let server = Baseline::http();
    let mut options = options(&server.target, 4, 50);
    options.rate = Some(2000.0);
    options.threads = 2;
    let report = load::run(&options).unwrap();
    all_ok(&report, 200);
    assert!((report.seconds - 0.1).abs() < 1e-6, "{}", report.seconds);
}

#[test]
fn open_loop_charges_a_stalled_server_for_all_it_kept_waiting() {
    // Answers nothing: both clients wait, and what was due meanwhile must not vanish.
    let target = responder(|_| Vec::new());
    let mut options = Options::new(target);
    options.clients = 2;
    options.rate = Some(1000.0);
    options.requests = Some(50);
    options.timeout = Duration::from_millis(200);
    let report = load::run(&options).unwrap();
    assert_eq!((report.failed.total, report.ok), (100, 0), "{report}");
    assert_eq!(report.sent + report.failed.unsent, 100);
    assert_eq!(report.failed.unsent + report.failed.timeout, 100);
    assert!(
        report.fell_behind && report.generator.lag_us_max > 100_000.0,
        "{report}"
    );
    assert!(report.latency_us.p50 >= 199_000.0, "{report}");
}

#[test]
fn wrong_bodies_and_statuses_are_told_apart() {
    for server in [Baseline::http(), Baseline::coap()] {
        let mut wrong_body = options(&server.target, 2, 5);
        wrong_body.expect_body = Some("something else".into());
        let report = load::run(&wrong_body).unwrap();
        assert_eq!(
            (report.ok, report.failed.wrong_body, report.failed.total),
            (0, 10, 10)
        );
        let mut wrong_status = options(&server.target, 2, 5);
        wrong_status.expect_status = Some(
            if server.target.starts_with("coap") {
                "4.04"
            } else {
                "404"
            }
            .into(),
        );
        let report = load::run(&wrong_status).unwrap();
        let status = if server.target.starts_with("coap") {
            "2.05"
        } else {
            "200"
        };
        assert_eq!(
            (report.ok, report.failed.status.get(status)),
            (0, Some(&10)),
            "{report}"
        );
    }
}

#[test]
fn a_server_that_never_answers_times_out() {
    let listener = std::net::TcpListener::bind(LOCAL).unwrap();
    let http = format!("http://{}/", listener.local_addr().unwrap());
    for target in [http, responder(|_| Vec::new())] {
        let mut options = options(&target, 2, 2);
        options.timeout = Duration::from_millis(50);
        let report = load::run(&options).unwrap();
        assert_eq!(
            (report.sent, report.ok, report.failed.timeout),
            (4, 0, 4),
            "{report}"
        );
        assert!(
            report.latency_us.min >= 49_000.0,
            "a timeout counts as long as it took"
        );
    }
}

#[test]
fn nobody_there_is_said_at_once() {
    let free = std::net::TcpListener::bind(LOCAL)
        .unwrap()
        .local_addr()
        .unwrap();
    let error = load::run(&options(&format!("http://{free}/"), 1, 1)).unwrap_err();
    assert!(
        format!("{error:#}").contains("is the server running?"),
        "{error:#}"
    );
    // UDP finds out with the first datagram.
    let free = UdpSocket::bind(LOCAL).unwrap().local_addr().unwrap();
    let report = load::run(&options(&format!("coap://{free}/"), 1, 2)).unwrap();
    assert_eq!((report.ok, report.failed.transport), (0, 2), "{report}");
}

#[test]
fn closing_after_each_reply_costs_a_connection_each() {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind(LOCAL).unwrap();
    let target = format!("http://{}/", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 1024];
            if stream.read(&mut request).unwrap() > 0 {
                stream
                    .write_all(b"HTTP/1.1 200 OK\r\n\r\nhello, world")
                    .unwrap();
            }
        }
    });
    let report = load::run(&options(&target, 1, 5)).unwrap();
    all_ok(&report, 5);
    assert_eq!(report.reconnects, 4);
}

#[test]
fn a_lost_request_is_sent_again() {
    let mut last = None;
    let target = responder(move |request| {
        // Drops every first sending of an id; the second must be the same bytes.
        if last.as_deref() == Some(request) {
            return vec![piggybacked(request)];
        }
        last = Some(request.to_vec());
        Vec::new()
    });
    let mut options = options(&target, 1, 3);
    options.ack_timeout = Duration::from_millis(200);
    let report = load::run(&options).unwrap();
    all_ok(&report, 3);
    assert_eq!(report.retransmissions, 3, "{report}");
    assert!(report.latency_us.min >= 200_000.0, "{report}");
}

#[test]
fn retransmission_gives_up_after_four() {
    let (tell, told) = mpsc::channel();
    let target = responder(move |request| {
        tell.send(request.to_vec()).unwrap();
        Vec::new()
    });
    let mut options = options(&target, 1, 1);
    options.ack_timeout = Duration::from_millis(2);
    let report = load::run(&options).unwrap();
    assert_eq!(
        (report.failed.timeout, report.retransmissions),
        (1, 4),
        "{report}"
    );
    let received: Vec<_> = told.iter().take(5).collect();
    assert!(received.iter().all(|request| request == &received[0]));
}

#[test]
fn a_separate_response_is_acknowledged() {
    let (tell, told) = mpsc::channel();
    let target = responder(move |datagram| {
        if datagram[1] == 0 {
            tell.send(datagram.to_vec()).unwrap();
            return Vec::new();
        }
        let acknowledgement = vec![0x60, 0, datagram[2], datagram[3]];
        vec![
            acknowledgement,
            // Somebody else's: must be rejected and must not end the request.
            response(0x44, [0xbb, 0x01], b"....none", "no"),
            response(0x44, [0xaa, 0x01], datagram, "hello, world"),
        ]
    });
    let report = load::run(&options(&target, 1, 1)).unwrap();
    all_ok(&report, 1);
    assert_eq!(report.retransmissions, 0);
    assert_eq!(told.recv().unwrap(), [0x70, 0, 0xbb, 0x01]);
    assert_eq!(told.recv().unwrap(), [0x60, 0, 0xaa, 0x01]);
}

#[test]
fn an_acknowledged_request_is_not_sent_again() {
    let mut seen = 0;
    let target = responder(move |request| {
        seen += 1;
        match seen {
            1 => vec![vec![0x60, 0, request[2], request[3]]],
            _ => vec![piggybacked(request)],
        }
    });
    let mut options = options(&target, 1, 1);
    options.ack_timeout = Duration::from_millis(200);
    options.timeout = Duration::from_millis(500);
    let report = load::run(&options).unwrap();
    assert_eq!(
        (report.failed.timeout, report.retransmissions),
        (1, 0),
        "{report}"
    );
}

#[test]
fn an_answer_to_an_earlier_exchange_is_not_taken() {
    let mut seen = 0;
    let target = responder(move |request| {
        seen += 1;
        let mut reply = piggybacked(request);
        if seen == 1 {
            reply[4] ^= 0xff;
        }
        vec![vec![1, 2, 3], reply]
    });
    let report = load::run(&options(&target, 1, 2)).unwrap();
    all_ok(&report, 2);
    assert_eq!(report.id_collisions, 1, "{report}");
    assert!(report.malformed > 0);
}

#[test]
fn a_reset_is_a_failure() {
    let target = responder(|request| vec![vec![0x70, 0, request[2], request[3]]]);
    let report = load::run(&options(&target, 1, 2)).unwrap();
    assert_eq!((report.ok, report.failed.transport), (0, 2), "{report}");
}
