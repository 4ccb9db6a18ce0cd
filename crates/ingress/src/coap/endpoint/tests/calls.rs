//! Requests that become calls: what the function sees, what the client gets, and that it is called
//! once.

use super::*;
use http::{HeaderValue, Method, header};
use mote_core::body::Body;
use mote_core::invocation::Origin;

#[test]
fn a_request_becomes_an_invocation() {
    let mut bench = Bench::new();
    let ask = con(Code::POST, 1, "/hello/a b/c%2")
        .option(option::URI_HOST, b"node.local")
        .number(option::URI_PORT, 5683)
        .option(option::URI_QUERY, b"x=1&2")
        .option(option::URI_QUERY, "ü=/?".as_bytes())
        .number(option::CONTENT_FORMAT, 50)
        .number(option::ACCEPT, 60)
        .option(option::IF_MATCH, b"a1")
        .option(option::IF_NONE_MATCH, b"")
        .payload(b"{}");
    assert_eq!(bench.receive(&ask.bytes()), []);
    let call = bench.call();
    let Call {
        invocation,
        body_bytes,
        ..
    } = call;
    assert_eq!(body_bytes, BODY_BYTES);
    let meta = &invocation.meta;
    assert_eq!(meta.method, Method::POST);
    assert_eq!(meta.target.as_str(), "/hello/a%20b/c%252?x=1%262&%C3%BC=/?");
    assert_eq!(
        (meta.path(), meta.query()),
        ("/a%20b/c%252", Some("x=1%262&%C3%BC=/?"))
    );
    assert_eq!(meta.headers[header::CONTENT_TYPE], "application/json");
    assert_eq!(meta.headers[header::ACCEPT], "application/cbor");
    assert_eq!(meta.headers[header::IF_MATCH], "\"a1\"");
    assert_eq!(meta.headers[header::IF_NONE_MATCH], "*");
    assert!(matches!(&invocation.body, Body::Bytes(bytes) if &bytes[..] == b"{}"));
    assert_eq!((invocation.origin, invocation.hops), (Origin::Coap, 0));
    assert_eq!(invocation.budget, Duration::from_secs(10));
}

#[test]
fn all_methods_are_passed_on() {
    for (code, name) in [
        (Code::GET, "GET"),
        (Code::POST, "POST"),
        (Code::PUT, "PUT"),
        (Code::DELETE, "DELETE"),
        (Code::FETCH, "FETCH"),
        (Code::PATCH, "PATCH"),
        (Code::IPATCH, "IPATCH"),
    ] {
        let mut bench = Bench::new();
        bench.receive(&con(code, 1, "/hello").bytes());
        assert_eq!(bench.call().invocation.meta.method.as_str(), name);
    }
}

#[test]
fn a_reply_becomes_a_response() {
    let mut bench = Bench::new();
    bench.receive(&con(Code::GET, 1, "/hello").bytes());
    let key = bench.call().key;
    let headers = HeaderMap::from_iter([
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        ),
        (header::CACHE_CONTROL, HeaderValue::from_static("max-age=5")),
        (header::ETAG, HeaderValue::from_static("\"v1\"")),
    ]);
    let answer = Answer {
        status: StatusCode::OK,
        headers,
        body: Bytes::from_static(b"{}"),
    };
    let seen = bench.answer(key, Ok(answer)).remove(0);
    assert_eq!(
        (seen.kind, seen.code, seen.id),
        (Kind::Acknowledgement, Code::CONTENT, 1)
    );
    assert_eq!(seen.number(option::CONTENT_FORMAT), Some(50));
    assert_eq!(seen.number(option::MAX_AGE), Some(5));
    assert_eq!(seen.bytes(option::ETAG), Some(&b"v1"[..]));
    assert_eq!(seen.text(), "{}");
    assert_eq!(bench.endpoint.calls_under_way(), 0);
}

#[test]
fn errors_become_codes_with_a_text() {
    for (kind, code, max_age) in [
        (ErrorKind::FunctionFailed, Code::new(5, 2), None),
        (ErrorKind::Timeout, Code::new(5, 4), None),
        (ErrorKind::Throttled, Code::new(4, 29), Some(2)),
        (ErrorKind::Overloaded, Code::new(5, 3), Some(2)),
        (ErrorKind::NotFound, Code::NOT_FOUND, None),
    ] {
        let mut bench = Bench::new();
        bench.receive(&con(Code::GET, 1, "/hello").bytes());
        let key = bench.call().key;
        let error = Error::new(kind, "ö".repeat(200));
        let seen = bench.answer(key, Err(error)).remove(0);
        assert_eq!((seen.code, seen.number(option::MAX_AGE)), (code, max_age));
        assert_eq!(seen.text(), "ö".repeat(128));
    }
    let mut bench = Bench::new();
    bench.receive(&con(Code::GET, 1, "/hello").bytes());
    let key = bench.call().key;
    let error = Error::new(ErrorKind::Overloaded, "x").with_retry_after(Duration::from_secs(9));
    let seen = bench.answer(key, Err(error)).remove(0);
    assert_eq!(seen.number(option::MAX_AGE), Some(9));
}

#[test]
fn a_format_that_was_not_asked_for_is_not_acceptable() {
    for (accept, content_type, code) in [
        (50, "application/json;charset=utf-8", Code::CONTENT),
        (60, "application/json", Code::NOT_ACCEPTABLE),
        (60, "application/unheard-of", Code::NOT_ACCEPTABLE),
    ] {
        let mut bench = Bench::new();
        bench.receive(
            &con(Code::GET, 1, "/hello")
                .number(option::ACCEPT, accept)
                .bytes(),
        );
        let key = bench.call().key;
        let content_type = HeaderValue::from_static(content_type);
        let answer = Answer {
            headers: HeaderMap::from_iter([(header::CONTENT_TYPE, content_type)]),
            ..Answer::default()
        };
        assert_eq!(bench.answer(key, Ok(answer))[0].code, code);
    }
}

#[test]
fn five_copies_run_a_function_once() {
    for ask in [con(Code::POST, 1, "/hello"), non(Code::POST, 1, "/hello")] {
        let confirmable = ask.kind == Kind::Confirmable;
        let mut bench = Bench::new();
        let bytes = ask.bytes();
        assert_eq!(bench.receive(&bytes), []);
        let key = bench.call().key;
        bench.endpoint.still_running(bench.now, key);
        for _ in 0..4 {
            assert_eq!(
                bench.receive(&bytes),
                [],
                "it runs, and is not acknowledged yet"
            );
        }
        let reply = bench.answer(key, ok("x"));
        for _ in 0..5 {
            assert_eq!(bench.receive(&bytes), reply, "the same reply again");
        }
        // The same datagram of another endpoint is another request.
        assert_eq!(bench.receive_from(peer(2), &bytes), []);
        assert_eq!(bench.out.calls.len(), 1);
        bench.out.calls.clear();
        bench.pass(246_000);
        assert_eq!(bench.receive(&bytes).len(), 1, "within EXCHANGE_LIFETIME");
        assert!(bench.out.calls.is_empty(), "confirmable: {confirmable}");
        bench.pass(300_000);
        assert_eq!(bench.receive(&bytes), [], "a new request, after it");
        assert_eq!(bench.out.calls.len(), 1);
    }
}

#[test]
fn a_message_id_that_comes_back_is_another_request() {
    let mut bench = Bench::new();
    for token in 0..3_u8 {
        bench.receive(&con(Code::GET, 1, "/hello").token(&[token]).bytes());
        let seen = bench.answer_with(vec![token]).remove(0);
        assert_eq!(
            (seen.token.as_slice(), &seen.payload[..]),
            (&[token][..], &[token][..])
        );
    }
}

#[test]
fn a_slow_call_is_acknowledged_first_and_answered_later() {
    let mut bench = Bench::new();
    let bytes = con(Code::POST, 5, "/hello").bytes();
    bench.receive(&bytes);
    let key = bench.call().key;
    bench.endpoint.still_running(bench.now, key);
    let sent = bench.pass(1000);
    let [(200, ack)] = &sent[..] else {
        panic!("{sent:?}");
    };
    assert_eq!(
        (ack.kind, ack.code, ack.id, ack.size),
        (Kind::Acknowledgement, Code::EMPTY, 5, 4)
    );
    assert_eq!(
        bench.receive(&bytes),
        std::slice::from_ref(ack),
        "a copy gets the same"
    );
    let response = bench.answer(key, ok("late")).remove(0);
    assert_eq!(
        (response.kind, response.code),
        (Kind::Confirmable, Code::CONTENT)
    );
    assert_eq!(
        (response.token.as_slice(), response.text()),
        (&[0xaa, 1][..], "late")
    );
    assert_eq!(
        bench.receive(&bytes),
        std::slice::from_ref(ack),
        "the function did not run again"
    );
    // It is sent again until it is acknowledged.
    let again = bench.pass(11_000);
    assert_eq!(again.len(), 2);
    assert!(again.iter().all(|(_, seen)| *seen == response));
    let [high, low] = response.id.to_be_bytes();
    assert_eq!(bench.receive(&[0x60, 0, high, low]), []);
    assert_eq!(bench.pass(200_000), []);
    assert_eq!(bench.endpoint.exchanges_under_way(), 0);
    assert!(bench.out.calls.is_empty());
}

#[test]
fn a_separate_response_that_nobody_takes_is_given_up() {
    for reset in [false, true] {
        let mut bench = Bench::new();
        bench.receive(&con(Code::POST, 5, "/hello").bytes());
        let key = bench.call().key;
        bench.endpoint.still_running(bench.now, key);
        bench.pass(300);
        let response = bench.answer(key, ok("late")).remove(0);
        if reset {
            let [high, low] = response.id.to_be_bytes();
            bench.receive(&[0x70, 0, high, low]);
        }
        let again = bench.pass(100_000);
        assert_eq!(again.len(), if reset { 0 } else { 4 });
        assert_eq!(bench.endpoint.exchanges_under_way(), 0);
        assert_eq!(bench.counters.given_up.get(), u64::from(!reset));
    }
}

#[test]
fn a_slow_non_confirmable_request_is_answered_once() {
    let mut bench = Bench::new();
    bench.receive(&non(Code::GET, 5, "/hello").bytes());
    let key = bench.call().key;
    bench.endpoint.still_running(bench.now, key);
    assert_eq!(bench.pass(5000), []);
    let response = bench.answer(key, ok("late")).remove(0);
    assert_eq!(response.kind, Kind::NonConfirmable);
    assert_eq!(bench.pass(20_000), []);
}

#[test]
fn responses_that_are_not_wanted_are_left_out() {
    // RFC 7967 §2.1: 2 is success, 8 client errors, 16 server errors.
    for (unwanted, answered) in [(2, false), (8, true), (24, true), (26, false)] {
        let mut bench = Bench::new();
        bench.receive(
            &non(Code::POST, 1, "/hello")
                .number(option::NO_RESPONSE, unwanted)
                .bytes(),
        );
        assert_eq!(
            bench.answer_with("x").len(),
            usize::from(answered),
            "{unwanted}"
        );
        bench.receive(
            &con(Code::POST, 2, "/hello")
                .number(option::NO_RESPONSE, unwanted)
                .bytes(),
        );
        let seen = bench.answer_with("x").remove(0);
        let code = if answered { Code::CONTENT } else { Code::EMPTY };
        assert_eq!((seen.kind, seen.code), (Kind::Acknowledgement, code));
    }
}

#[test]
fn too_many_calls_are_refused() {
    let mut bench = Bench::new();
    for id in 0..8 {
        assert_eq!(bench.receive(&con(Code::GET, id, "/hello").bytes()), []);
    }
    let refused = bench
        .receive(&con(Code::GET, 9, "/hello").bytes())
        .remove(0);
    assert_eq!(
        (refused.code, refused.number(option::MAX_AGE)),
        (Code::UNAVAILABLE, Some(2))
    );
    assert_eq!(bench.counters.refused_calls.get(), 1);
    assert_eq!(bench.functions.refused.take(), [ErrorKind::Overloaded]);
    let key = bench.out.calls.pop().unwrap().key;
    bench.answer(key, ok("x"));
    bench.receive(&con(Code::GET, 10, "/hello").bytes());
    assert_eq!(bench.out.calls.len(), 8);
}

#[test]
fn what_cannot_be_remembered_is_not_run() {
    let mut bench = Bench::with(EchoMode::Never, 1 << 10);
    let mut accepted = Vec::new();
    let refused = loop {
        let bytes = con(Code::POST, u16::try_from(accepted.len()).unwrap(), "/hello").bytes();
        let seen = bench.receive(&bytes);
        if let Some(refused) = seen.first() {
            break refused.clone();
        }
        bench.answer_with("x");
        accepted.push(bytes);
    };
    assert_eq!(
        (refused.code, refused.number(option::MAX_AGE)),
        (Code::UNAVAILABLE, Some(2))
    );
    assert!(accepted.len() > 20, "{}", accepted.len());
    for bytes in &accepted {
        assert_eq!(bench.receive(bytes).len(), 1);
        assert!(bench.out.calls.is_empty(), "none runs twice");
    }
}

#[test]
fn a_copy_whose_reply_is_forgotten_is_refused() {
    let mut bench = Bench::new();
    let first = con(Code::POST, 0, "/hello").bytes();
    bench.receive(&first);
    bench.answer_with(vec![b'x'; 60]);
    for id in 1..100 {
        bench.receive(&con(Code::POST, id, "/hello").bytes());
        bench.answer_with(vec![b'x'; 60]);
    }
    let seen = bench.receive(&first).remove(0);
    assert_eq!((seen.code, seen.id), (Code::UNAVAILABLE, 0));
    assert!(bench.out.calls.is_empty());
    assert_eq!(bench.counters.refused_reply_gone.get(), 1);
}

#[test]
fn a_door_that_closes_finishes_and_takes_nothing_new() {
    let mut bench = Bench::new();
    bench.receive(&con(Code::GET, 1, "/hello").bytes());
    let key = bench.call().key;
    bench.endpoint.close(&mut bench.functions, &mut bench.out);
    let refused = bench
        .receive(&con(Code::GET, 2, "/hello").bytes())
        .remove(0);
    assert_eq!(refused.code, Code::UNAVAILABLE);
    assert_eq!(bench.endpoint.calls_under_way(), 1);
    assert_eq!(bench.answer(key, ok("x"))[0].code, Code::CONTENT);
    assert_eq!(bench.endpoint.calls_under_way(), 0);
}
