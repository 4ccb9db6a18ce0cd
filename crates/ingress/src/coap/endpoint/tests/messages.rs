//! Messages that are no calls: pings, refusals, and requests that the door answers itself.

use super::*;

#[track_caller]
fn one(mut seen: Vec<Seen>) -> Seen {
    assert_eq!(seen.len(), 1, "{seen:?}");
    seen.remove(0)
}

#[test]
fn a_ping_is_answered_by_a_reset() {
    let mut bench = Bench::new();
    let pong = one(bench.receive(&[0x40, 0, 0x12, 0x34]));
    assert_eq!(
        (pong.kind, pong.code, pong.id, pong.size),
        (Kind::Reset, Code::EMPTY, 0x1234, 4)
    );
}

#[test]
fn what_is_malformed_is_refused_or_ignored() {
    let mut bench = Bench::new();
    for confirmable in [
        &[0x49, 1, 0, 7][..],
        &[0x40, 1, 0, 7, 0xff],
        // Responses that nobody asked for, and a reserved class.
        &[0x40, 0x45, 0, 7],
        &[0x40, 0x20, 0, 7],
        &[0x40, 0xe1, 0, 7],
    ] {
        let reset = one(bench.receive(confirmable));
        assert_eq!((reset.kind, reset.id), (Kind::Reset, 7), "{confirmable:?}");
    }
    for ignored in [
        &[][..],
        &[0x40],
        &[0x80, 1, 0, 7],
        &[0x59, 1, 0, 7],
        &[0x50, 0, 0, 7],
        &[0x50, 0x45, 0, 7],
        // Acknowledgements and resets of what we never sent.
        &[0x60, 0, 0, 7],
        &[0x60, 0x45, 0, 7],
        &[0x70, 0, 0, 7],
        // A request cannot be an acknowledgement or a reset (§4.2).
        &[0x60, 1, 0, 7],
        &[0x70, 1, 0, 7],
    ] {
        assert_eq!(bench.receive(ignored), [], "{ignored:?}");
    }
    assert!(bench.out.calls.is_empty());
}

/// Sends a confirmable request and checks the code of what comes back, piggybacked.
#[track_caller]
fn check(ask: Ask, code: Code) -> Seen {
    let mut bench = Bench::new();
    let (id, token) = (ask.id, ask.token.clone());
    let seen = one(bench.receive(&ask.bytes()));
    assert_eq!(
        (seen.kind, seen.code, seen.id),
        (Kind::Acknowledgement, code, id),
        "{}",
        seen.text()
    );
    assert_eq!(seen.token.as_slice(), token);
    assert!(bench.out.calls.is_empty());
    seen
}

#[test]
fn refusals_name_their_reason() {
    let hello = || con(Code::GET, 1, "/hello");
    let unknown = check(con(Code::GET, 1, "/nothing"), Code::NOT_FOUND);
    assert_eq!(unknown.text(), "no function `nothing` on this node");
    check(con(Code::GET, 1, "/.well-known/other"), Code::NOT_FOUND);
    check(con(Code::new(0, 8), 1, "/hello"), Code::METHOD_NOT_ALLOWED);
    check(con(Code::new(0, 31), 1, "/hello"), Code::METHOD_NOT_ALLOWED);
    check(hello().option(9, b"oscore"), Code::BAD_OPTION);
    check(hello().option(65_001, b""), Code::BAD_OPTION);
    check(
        hello().option(option::PROXY_URI, b"coap://x/"),
        Code::NO_PROXY,
    );
    check(
        hello().option(option::PROXY_SCHEME, b"http"),
        Code::NO_PROXY,
    );
    // A critical option that may not be repeated, or is too long (§5.4.3, §5.4.5).
    check(
        hello().number(option::ACCEPT, 0).number(option::ACCEPT, 0),
        Code::BAD_OPTION,
    );
    check(
        hello().option(option::URI_PORT, &[1, 2, 3]),
        Code::BAD_OPTION,
    );
    check(
        hello().option(option::URI_PATH, &[b'x'; 256]),
        Code::BAD_OPTION,
    );
    check(
        hello().option(option::BLOCK2, &[1, 2, 3, 4]),
        Code::BAD_OPTION,
    );
    check(hello().number(option::BLOCK1, 7), Code::BAD_REQUEST);
    check(hello().number(option::BLOCK2, 0x17), Code::BAD_REQUEST);
    // A format that no function can make.
    check(hello().number(option::ACCEPT, 65_000), Code::NOT_ACCEPTABLE);
    let long = (0..40).fold(hello(), |ask, _| ask.option(option::URI_PATH, &[0xff; 255]));
    check(long, Code::BAD_REQUEST);
}

#[test]
fn an_unknown_critical_option_of_a_non_confirmable_request_is_a_reset() {
    let mut bench = Bench::new();
    let reset = one(bench.receive(&non(Code::GET, 9, "/hello").option(9, b"x").bytes()));
    assert_eq!((reset.kind, reset.id), (Kind::Reset, 9));
}

#[test]
fn a_non_confirmable_request_gets_a_non_confirmable_response() {
    let mut bench = Bench::new();
    let seen = one(bench.receive(&non(Code::GET, 9, "/nothing").bytes()));
    assert_eq!(
        (seen.kind, seen.code),
        (Kind::NonConfirmable, Code::NOT_FOUND)
    );
    assert_eq!(seen.token.as_slice(), [0xaa, 1]);
}

#[test]
fn the_root_says_what_this_is() {
    let seen = check(con(Code::GET, 1, "/"), Code::CONTENT);
    assert_eq!(seen.number(option::CONTENT_FORMAT), Some(0));
    assert!(seen.text().contains(".well-known/core"));
    check(
        con(Code::GET, 1, "").option(option::URI_PATH, b""),
        Code::CONTENT,
    );
    check(con(Code::POST, 1, "/"), Code::METHOD_NOT_ALLOWED);
    check(
        con(Code::GET, 1, "/").number(option::ACCEPT, 50),
        Code::NOT_ACCEPTABLE,
    );
}

#[test]
fn functions_are_listed_block_by_block() {
    let mut bench = Bench::new();
    let mut text = String::new();
    for number in 0.. {
        let ask = con(Code::GET, number, "/.well-known/core");
        let seen =
            one(bench.receive(&ask.block(option::BLOCK2, (number.into(), false, 2)).bytes()));
        assert_eq!(
            (seen.code, seen.number(option::CONTENT_FORMAT)),
            (Code::CONTENT, Some(40))
        );
        let block = seen.block(option::BLOCK2).unwrap();
        text.push_str(seen.text());
        if !block.more {
            break;
        }
        assert_eq!((block.size(), seen.payload.len()), (64, 64));
    }
    assert_eq!(
        text,
        "</hello>;rt=\"mote.function\";title=\"hello.default\",\
         </light>;rt=\"mote.function\";title=\"light.default\";obs"
    );
    let filtered = con(Code::GET, 1, "/.well-known/core").option(option::URI_QUERY, b"href=/li*");
    assert!(
        one(bench.receive(&filtered.bytes()))
            .text()
            .starts_with("</light>")
    );
    let none = con(Code::GET, 1, "/.well-known/core").option(option::URI_QUERY, b"rt=other");
    let empty = one(bench.receive(&none.bytes()));
    assert_eq!((empty.code, empty.payload.len()), (Code::CONTENT, 0));
}

#[test]
fn a_datagram_that_was_cut_off_is_too_large() {
    let mut bench = Bench::new();
    let bytes = con(Code::POST, 3, "/hello").payload(&[0; 100]).bytes();
    bench.endpoint.oversized(peer(1), &bytes, &mut bench.out);
    let seen = one(bench.sent());
    assert_eq!(
        (seen.kind, seen.code, seen.id),
        (Kind::Acknowledgement, Code::TOO_LARGE, 3)
    );
    for ignored in [&[0x60, 1, 0, 7][..], &[0x40, 0x45, 0, 7], &[0x40]] {
        bench.endpoint.oversized(peer(1), ignored, &mut bench.out);
        assert_eq!(bench.sent(), []);
    }
}
