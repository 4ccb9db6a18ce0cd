//! Bodies in blocks, both ways (RFC 7959). Blocks here are of 64 bytes, exponent 2.

use super::*;
use mote_core::body::Body;

fn body(size: usize) -> Vec<u8> {
    (0..size)
        .map(|place| u8::try_from(place % 251).unwrap())
        .collect()
}

/// The request with one block of a body.
fn upload(id: u16, whole: &[u8], number: u32, exponent: u8) -> Ask {
    let size = 16 << exponent;
    let start = number as usize * size;
    let end = (start + size).min(whole.len());
    con(Code::POST, id, "/hello")
        .block(option::BLOCK1, (number, end < whole.len(), exponent))
        .payload(&whole[start..end])
}

#[track_caller]
fn sent_body(call: &Call) -> &[u8] {
    match &call.invocation.body {
        Body::Bytes(bytes) => bytes,
        Body::Stream(_) => panic!("bodies are collected"),
    }
}

#[test]
fn an_upload_is_put_together_and_the_reply_cut_up() {
    let mut bench = Bench::new();
    let whole = body(1000);
    let mut id = 0;
    for number in 0..15 {
        let bytes = upload(id, &whole, number, 2).bytes();
        // Every block is sent twice, as if the acknowledgement was lost.
        for _ in 0..2 {
            let seen = bench.receive(&bytes).remove(0);
            assert_eq!(
                (seen.kind, seen.code, seen.id),
                (Kind::Acknowledgement, Code::CONTINUE, id)
            );
            let block = seen.block(option::BLOCK1).unwrap();
            assert_eq!(
                (block.number, block.more, block.exponent),
                (number, true, 2)
            );
        }
        id += 1;
    }
    let last = upload(id, &whole, 15, 2).bytes();
    assert_eq!(bench.receive(&last), []);
    let call = bench.call();
    assert_eq!(sent_body(&call), whole);
    let first = bench.answer(call.key, ok(whole.clone())).remove(0);
    let granted = first.block(option::BLOCK1).unwrap();
    assert_eq!((granted.number, granted.more), (15, false));
    assert_eq!(first.number(option::SIZE2), Some(1000));
    assert_eq!(
        bench.receive(&last),
        std::slice::from_ref(&first),
        "the last block sent twice runs nothing"
    );
    let etag = first.bytes(option::ETAG).unwrap().to_vec();
    let mut received = first.payload;
    while received.len() < 1000 {
        id += 1;
        let number = u32::try_from(received.len() / 64).unwrap();
        let ask = con(Code::POST, id, "/hello").block(option::BLOCK2, (number, false, 2));
        let seen = bench.receive(&ask.bytes()).remove(0);
        assert_eq!(
            (seen.code, seen.bytes(option::ETAG)),
            (Code::CONTENT, Some(&etag[..]))
        );
        received.extend_from_slice(&seen.payload);
        assert_eq!(
            seen.block(option::BLOCK2).unwrap().more,
            received.len() < 1000
        );
    }
    assert_eq!(received, whole);
    assert!(bench.out.calls.is_empty(), "later blocks run nothing");
}

#[test]
fn smaller_blocks_are_negotiated() {
    let mut bench = Bench::new();
    let whole = body(400);
    // The client begins with blocks of 128, and is asked for 64 (§2.3).
    let seen = bench.receive(&upload(0, &whole, 0, 3).bytes()).remove(0);
    assert_eq!(seen.block(option::BLOCK1).unwrap().exponent, 2);
    for number in 2..6 {
        let seen = bench
            .receive(&upload(number, &whole, number.into(), 2).bytes())
            .remove(0);
        assert_eq!(seen.code, Code::CONTINUE);
    }
    bench.receive(&upload(6, &whole, 6, 2).bytes());
    let call = bench.call();
    assert_eq!(sent_body(&call), whole);
    // It asks for replies in blocks of 16 from the beginning (§2.4).
    bench.receive(
        &con(Code::GET, 9, "/hello")
            .block(option::BLOCK2, (0, false, 0))
            .bytes(),
    );
    let seen = bench.answer_with(whole.clone()).remove(0);
    assert_eq!(
        (
            seen.payload.len(),
            seen.block(option::BLOCK2).unwrap().exponent
        ),
        (16, 0)
    );
    // A larger block than ours, later, is given in our size at the same place.
    let seen = bench.receive(
        &con(Code::GET, 10, "/hello")
            .block(option::BLOCK2, (1, false, 3))
            .bytes(),
    );
    let block = seen[0].block(option::BLOCK2).unwrap();
    assert_eq!(
        (block.number, block.exponent, &seen[0].payload[..]),
        (2, 2, &whole[128..192])
    );
    // A small reply to someone who asked for blocks says that it is whole.
    bench.receive(
        &con(Code::GET, 11, "/hello")
            .block(option::BLOCK2, (0, false, 1))
            .bytes(),
    );
    let seen = bench.answer_with("x").remove(0);
    assert!(!seen.block(option::BLOCK2).unwrap().more);
}

#[test]
fn uploads_that_make_no_sense_are_refused() {
    let mut bench = Bench::new();
    let whole = body(300);
    let code = |bench: &mut Bench, ask: Ask| bench.receive(&ask.bytes()).remove(0).code;
    assert_eq!(code(&mut bench, upload(1, &whole, 1, 2)), Code::INCOMPLETE);
    code(&mut bench, upload(2, &whole, 0, 2));
    assert_eq!(code(&mut bench, upload(3, &whole, 2, 2)), Code::INCOMPLETE);
    let half = upload(4, &whole, 0, 2).payload(&[0; 63]);
    assert_eq!(code(&mut bench, half), Code::BAD_REQUEST);
    let unknown = Ask {
        options: vec![],
        ..upload(5, &whole, 0, 2)
    }
    .option(option::URI_PATH, b"no");
    assert_eq!(code(&mut bench, unknown), Code::NOT_FOUND);
    assert!(bench.out.calls.is_empty());
}

#[test]
fn bodies_over_the_limit_are_refused_early() {
    let limit = usize::try_from(BODY_BYTES).unwrap();
    let mut bench = Bench::new();
    let announced = upload(1, &body(300), 0, 2).number(option::SIZE1, 5000);
    let seen = bench.receive(&announced.bytes()).remove(0);
    assert_eq!(
        (seen.code, seen.number(option::SIZE1)),
        (Code::TOO_LARGE, Some(4096))
    );
    let whole = body(limit + 1);
    let last = (0..=64).map(|number| {
        let id = u16::try_from(number).unwrap() + 10;
        bench
            .receive(&upload(id, &whole, number, 2).bytes())
            .remove(0)
    });
    let seen = last.last().unwrap();
    assert_eq!(
        (seen.code, seen.number(option::SIZE1)),
        (Code::TOO_LARGE, Some(4096))
    );
    let one_piece = con(Code::POST, 200, "/hello").payload(&whole).bytes();
    assert_eq!(bench.receive(&one_piece)[0].code, Code::TOO_LARGE);
    assert!(bench.out.calls.is_empty());
    let exact = con(Code::POST, 201, "/hello").payload(&whole[1..]).bytes();
    assert_eq!(bench.receive(&exact), []);
    bench.call();
}

#[test]
fn request_tags_keep_uploads_apart() {
    let mut bench = Bench::new();
    let (one, two) = (body(128), vec![7; 128]);
    let tagged = |id, whole: &[u8], number, tag: &[u8]| {
        upload(id, whole, number, 2)
            .option(option::REQUEST_TAG, tag)
            .bytes()
    };
    bench.receive(&tagged(1, &one, 0, b"1"));
    bench.receive(&tagged(2, &two, 0, b"2"));
    bench.receive(&tagged(3, &one, 1, b"1"));
    assert_eq!(sent_body(&bench.call()), one);
    bench.receive(&tagged(4, &two, 1, b"2"));
    assert_eq!(sent_body(&bench.call()), two);
}

#[test]
fn a_later_block_of_nothing_is_incomplete() {
    let mut bench = Bench::new();
    let ask = |id, number| {
        con(Code::GET, id, "/hello")
            .block(option::BLOCK2, (number, false, 2))
            .bytes()
    };
    assert_eq!(bench.receive(&ask(1, 3))[0].code, Code::INCOMPLETE);
    bench.receive(&ask(2, 0));
    bench.answer_with(body(100));
    assert_eq!(
        bench.receive_from(peer(2), &ask(3, 1))[0].code,
        Code::INCOMPLETE
    );
    assert_eq!(bench.receive(&ask(4, 2))[0].code, Code::BAD_REQUEST);
    assert_eq!(bench.receive(&ask(5, 1))[0].payload.len(), 36);
    bench.pass(200_000);
    assert_eq!(
        bench.receive(&ask(6, 1))[0].code,
        Code::INCOMPLETE,
        "it was let go"
    );
    assert!(bench.out.calls.is_empty());
}

#[test]
fn a_reply_that_cannot_be_kept_is_an_error() {
    let mut bench = Bench::new();
    bench.receive(&con(Code::GET, 1, "/hello").bytes());
    assert_eq!(bench.answer_with(vec![0; 20 << 10])[0].code, Code::INTERNAL);
    assert_eq!(bench.counters.refused_transfers.get(), 1);
}
