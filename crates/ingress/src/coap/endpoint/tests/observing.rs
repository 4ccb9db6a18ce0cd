//! Observers (RFC 7641).

use super::*;

fn get(id: u16, observe: u32) -> Ask {
    con(Code::GET, id, "/light").number(option::OBSERVE, observe)
}

fn ack(bench: &mut Bench, seen: &Seen) -> Vec<Seen> {
    let [high, low] = seen.id.to_be_bytes();
    bench.receive_from(seen.to, &[0x60, 0, high, low])
}

#[track_caller]
fn is_notification(seen: &Seen, body: &str, after: &mut u32) {
    assert_eq!(
        (seen.kind, seen.code, seen.text()),
        (Kind::Confirmable, Code::CONTENT, body)
    );
    let sequence = seen.number(option::OBSERVE).expect("an Observe option");
    assert!(sequence > *after, "numbers rise");
    *after = sequence;
}

#[test]
fn an_observer_sees_the_value_and_its_changes() {
    let mut bench = Bench::new();
    bench.publish("", "on", 1);
    let first = bench.receive(&get(1, 0).bytes()).remove(0);
    assert_eq!(
        (first.kind, first.code, first.text()),
        (Kind::Acknowledgement, Code::CONTENT, "on")
    );
    let mut sequence = first.number(option::OBSERVE).unwrap();
    assert_eq!(first.bytes(option::ETAG), Some(&1_u64.to_be_bytes()[..]));
    assert!(first.number(option::MAX_AGE).is_some());
    assert!(bench.out.calls.is_empty(), "a published value runs nothing");
    let changed = bench.publish("", "off", 2).remove(0);
    is_notification(&changed, "off", &mut sequence);
    assert_eq!(changed.token.as_slice(), [0xaa, 1]);
    // One at a time, and the newest next.
    assert_eq!(bench.publish("", "on", 3), []);
    assert_eq!(bench.publish("", "dim", 4), []);
    let next = ack(&mut bench, &changed).remove(0);
    is_notification(&next, "dim", &mut sequence);
    assert_eq!(ack(&mut bench, &next), []);
    assert_eq!(
        bench.publish("", "dim", 4),
        [],
        "equal values are not repeated"
    );
    assert_eq!(bench.counters.observers_now.get(), 1);
}

#[test]
fn without_a_value_the_function_gives_the_first_answer() {
    let mut bench = Bench::new();
    assert_eq!(bench.receive(&get(1, 0).bytes()), []);
    let key = bench.call().key;
    // Published while the function runs, by itself: told after the answer, if it is another value.
    assert_eq!(bench.publish("", "shared", 1), []);
    let seen = bench.answer(key, ok("private"));
    assert_eq!(
        (seen[0].kind, seen[0].text()),
        (Kind::Acknowledgement, "private")
    );
    let mut sequence = seen[0].number(option::OBSERVE).unwrap();
    is_notification(&seen[1], "shared", &mut sequence);
    // Another one is told what is published, and not what was private.
    let other = bench.receive_from(peer(2), &get(1, 0).bytes()).remove(0);
    assert_eq!(other.text(), "shared");
}

#[test]
fn an_answer_that_is_published_itself_is_told_once() {
    let mut bench = Bench::new();
    bench.receive(&get(1, 0).bytes());
    let key = bench.call().key;
    bench.publish("", "same", 1);
    assert_eq!(bench.answer(key, ok("same")).len(), 1);
    assert_eq!(bench.publish("", "other", 2).len(), 1);
}

#[test]
fn a_failure_is_no_observation() {
    let mut bench = Bench::new();
    bench.receive(&get(1, 0).bytes());
    let key = bench.call().key;
    let answer = Answer {
        status: StatusCode::NOT_FOUND,
        ..Answer::default()
    };
    let seen = bench.answer(key, Ok(answer)).remove(0);
    assert_eq!(
        (seen.code, seen.number(option::OBSERVE)),
        (Code::NOT_FOUND, None)
    );
    assert_eq!(bench.publish("", "on", 1), []);
    assert!(bench.functions.watched.is_empty());
}

#[test]
fn observations_end() {
    // Cancelled by the client, refused by it, not acknowledged, or its token used anew.
    for how in ["cancel", "reset", "silence"] {
        let mut bench = Bench::new();
        bench.publish("", "on", 1);
        bench.receive(&get(1, 0).bytes());
        let changed = bench.publish("", "off", 2).remove(0);
        match how {
            "cancel" => {
                bench.receive(&get(2, 1).bytes());
                let plain = bench.answer_with("x").remove(0);
                assert_eq!(plain.number(option::OBSERVE), None);
            }
            "reset" => {
                let [high, low] = changed.id.to_be_bytes();
                bench.receive(&[0x70, 0, high, low]);
            }
            _ => assert_eq!(bench.pass(100_000).len(), 4),
        }
        assert_eq!(bench.publish("", "dim", 3), [], "{how}");
        assert!(bench.functions.watched.is_empty());
        assert_eq!(bench.endpoint.exchanges_under_way(), 0);
        assert_eq!(bench.counters.observers_now.get(), 0);
    }
}

#[test]
fn registering_again_is_one_observation() {
    let mut bench = Bench::new();
    bench.publish("", "on", 1);
    let mut sequence = 0;
    for id in 0..3 {
        let seen = bench.receive(&get(id, 0).bytes()).remove(0);
        let next = seen.number(option::OBSERVE).unwrap();
        assert!(next > sequence, "numbers rise over registrations");
        sequence = next;
    }
    assert_eq!(bench.publish("", "off", 2).len(), 1);
    assert_eq!(bench.counters.observers_now.get(), 1);
}

#[test]
fn a_removed_function_ends_its_observations() {
    let mut bench = Bench::new();
    bench.publish("", "on", 1);
    bench.receive(&get(1, 0).bytes());
    bench.receive_from(peer(2), &get(1, 0).bytes());
    bench.publish("", "off", 2);
    let resource = resource("");
    bench.endpoint.published(
        bench.now,
        &resource,
        None,
        &mut bench.functions,
        &mut bench.out,
    );
    let seen = bench.sent();
    assert_eq!(seen.len(), 2);
    for last in &seen {
        assert_eq!(
            (last.code, last.number(option::OBSERVE)),
            (Code::NOT_FOUND, None)
        );
        ack(&mut bench, last);
    }
    assert_eq!(bench.pass(100_000), []);
    assert!(bench.functions.watched.is_empty());
}

#[test]
fn observers_are_told_when_the_door_closes() {
    let mut bench = Bench::new();
    bench.publish("", "on", 1);
    bench.receive(&get(1, 0).bytes());
    bench.endpoint.close(&mut bench.functions, &mut bench.out);
    let seen = bench.sent().remove(0);
    assert_eq!(
        (seen.code, seen.number(option::OBSERVE)),
        (Code::UNAVAILABLE, None)
    );
    assert!(bench.functions.watched.is_empty());
}

#[test]
fn too_many_observers_are_answered_once() {
    let mut bench = Bench::new();
    bench.publish("", "on", 1);
    let observes = |bench: &mut Bench, from: u8, token: u8| {
        let bytes = get(token.into(), 0).token(&[token]).bytes();
        let seen = bench.receive_from(peer(from), &bytes);
        match seen.first() {
            Some(seen) => seen.number(option::OBSERVE).is_some(),
            None => bench.answer_with("on")[0].number(option::OBSERVE).is_some(),
        }
    };
    let stands: Vec<_> = (0..4).map(|token| observes(&mut bench, 1, token)).collect();
    assert_eq!(stands, [true, true, true, false], "three for one endpoint");
    assert!(observes(&mut bench, 2, 0));
    assert!(!observes(&mut bench, 3, 0), "four in all");
    assert_eq!(bench.counters.refused_observers.get(), 2);
}

#[test]
fn only_observable_functions_are_observed() {
    let mut bench = Bench::new();
    bench.receive(
        &con(Code::GET, 1, "/hello")
            .number(option::OBSERVE, 0)
            .bytes(),
    );
    assert_eq!(bench.answer_with("x")[0].number(option::OBSERVE), None);
    bench.receive(
        &con(Code::POST, 2, "/light")
            .number(option::OBSERVE, 0)
            .bytes(),
    );
    assert_eq!(bench.answer_with("x")[0].number(option::OBSERVE), None);
    assert!(bench.functions.watched.is_empty());
}

#[test]
fn a_large_value_is_told_by_its_first_block() {
    let mut bench = Bench::new();
    bench.publish("", "on", 1);
    bench.receive(&get(1, 0).block(option::BLOCK2, (0, false, 1)).bytes());
    let large = "0123456789".repeat(10);
    let seen = bench.publish("", &large, 2).remove(0);
    let block = seen.block(option::BLOCK2).unwrap();
    assert_eq!(
        (block.more, block.exponent, seen.payload.len()),
        (true, 1, 32)
    );
    let mut text = seen.text().to_owned();
    for number in 1..4 {
        let ask = con(Code::GET, 9 + number, "/light").token(&[9]);
        let next = bench
            .receive(&ask.block(option::BLOCK2, (number.into(), false, 1)).bytes())
            .remove(0);
        assert_eq!(next.bytes(option::ETAG), seen.bytes(option::ETAG));
        text.push_str(next.text());
    }
    assert_eq!(text, large);
    assert!(bench.out.calls.is_empty());
}

#[test]
fn a_value_that_the_client_has_is_valid() {
    let mut bench = Bench::new();
    bench.publish("", "on", 5);
    let tag = 5_u64.to_be_bytes();
    let ask = con(Code::GET, 1, "/light")
        .option(option::ETAG, b"old")
        .option(option::ETAG, &tag);
    let seen = bench.receive(&ask.bytes()).remove(0);
    assert_eq!((seen.code, seen.payload.len()), (Code::VALID, 0));
    assert_eq!(seen.bytes(option::ETAG), Some(&tag[..]));
    assert!(bench.functions.watched.is_empty());
    let observed = bench
        .receive(&get(2, 0).option(option::ETAG, &tag).bytes())
        .remove(0);
    assert_eq!(observed.code, Code::VALID);
    assert!(observed.number(option::OBSERVE).is_some());
    bench.publish("", "off", 6);
    let ask = con(Code::GET, 3, "/light").option(option::ETAG, &tag);
    assert_eq!(
        bench.receive(&ask.bytes()),
        [],
        "another value: the call answers"
    );
    bench.call();
}

#[test]
fn a_format_that_was_not_asked_for_ends_an_observation() {
    let mut bench = Bench::new();
    bench.publish("", "on", 1);
    let seen = bench
        .receive(&get(1, 0).number(option::ACCEPT, 60).bytes())
        .remove(0);
    assert_eq!(
        (seen.code, seen.number(option::OBSERVE)),
        (Code::NOT_ACCEPTABLE, None)
    );
    assert!(bench.functions.watched.is_empty());
}
