//! What counts as good, as failed, and as late.

use std::net::UdpSocket;
use std::thread;
use std::time::Duration;

use mote_bench::load::{self, Options, Report};

use crate::servers::{Baseline, LOCAL, all_ok, options, responder};

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
