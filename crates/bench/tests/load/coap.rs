//! What the generator does with CoAP: retransmission, separate responses, ids.

use std::sync::mpsc;
use std::time::Duration;

use mote_bench::load;

use crate::servers::{Baseline, all_ok, options, piggybacked, responder, response};

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
