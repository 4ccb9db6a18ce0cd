//! Chains of requests, and connections that serve one request.

use std::sync::mpsc;

use mote_bench::load;

use crate::servers::{Baseline, all_ok, http_responder, options, responder, response};

#[test]
fn without_keep_alive_each_request_has_its_connection() {
    let server = Baseline::http();
    for rate in [None, Some(2000.0)] {
        let mut options = options(&server.target, 3, 20);
        options.no_keep_alive = true;
        options.rate = rate;
        let report = load::run(&options).unwrap();
        all_ok(&report, 60);
        assert_eq!(report.reconnects, 60, "{report}");
        assert!(!report.keep_alive);
    }
}

#[test]
fn a_chain_hands_each_reply_to_the_next_request() {
    let (tell, told) = mpsc::channel();
    let tell_http = tell.clone();
    let http = http_responder(move |body| {
        tell_http.send(body.to_vec()).unwrap();
        [body, b"x"].concat()
    });
    let coap = responder(move |request| {
        // After four bytes of header, the token, the path option and the marker.
        let body = &request[11..];
        tell.send(body.to_vec()).unwrap();
        let body = format!("{}x", std::str::from_utf8(body).unwrap());
        vec![response(0x64, [request[2], request[3]], request, &body)]
    });
    for target in [http, coap] {
        for no_keep_alive in [false, true] {
            let mut options = options(&target, 1, 2);
            options.body = Some("a".into());
            options.chain = 3;
            options.expect_body = None;
            options.no_keep_alive = no_keep_alive && target.starts_with("http");
            let report = load::run(&options).unwrap();
            all_ok(&report, 2);
            assert_eq!(
                report.histogram.iter().map(|(_, count)| count).sum::<u64>(),
                2
            );
            let bodies: Vec<_> = told.iter().take(6).collect();
            assert_eq!(bodies, [&b"a"[..], b"ax", b"axx", b"a", b"ax", b"axx"]);
        }
    }
}

#[test]
fn a_chain_fails_with_its_first_failing_request() {
    let (tell, told) = mpsc::channel();
    let target = http_responder(move |body| {
        tell.send(()).unwrap();
        if body.len() == 2 {
            b"no".to_vec()
        } else {
            vec![b'a'; body.len() + 1]
        }
    });
    let mut options = options(&target, 1, 4);
    options.chain = 5;
    options.rate = Some(1000.0);
    options.expect_body = Some("a".into());
    let report = load::run(&options).unwrap();
    assert_eq!(
        (report.sent, report.ok, report.failed.wrong_body),
        (4, 0, 4),
        "{report}"
    );
    // The first reply is good, the second is not.
    assert_eq!(told.try_iter().count(), 8);
}
