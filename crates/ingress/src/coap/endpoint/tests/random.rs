//! Whatever comes in: nothing panics, no table outgrows its bound, no request runs twice.

use proptest::prelude::*;

use super::*;

/// One thing that happens.
#[derive(Clone, Debug)]
enum Event {
    /// A datagram of one of a few endpoints.
    Datagram(u8, Vec<u8>),
    /// One of the datagrams before, again; maybe with an end missing.
    Again(prop::sample::Index, usize),
    /// A call ends.
    Answer(prop::sample::Index, usize, u16),
    /// Time passes.
    Pass(Time),
    /// A value is published, or its function removed.
    Publish(Option<String>),
}

fn options() -> impl Strategy<Value = (u16, Vec<u8>)> {
    let number = prop::sample::select(vec![
        option::URI_QUERY,
        option::OBSERVE,
        option::BLOCK1,
        option::BLOCK2,
        option::SIZE1,
        option::ETAG,
        option::ACCEPT,
        option::CONTENT_FORMAT,
        option::ECHO,
        option::REQUEST_TAG,
        option::NO_RESPONSE,
        option::IF_MATCH,
        9,
    ]);
    (number, prop::collection::vec(0_u8..32, 0..5))
}

fn requests() -> impl Strategy<Value = Vec<u8>> {
    let path = prop::sample::select(vec![
        "/hello",
        "/light",
        "/light/a",
        "/.well-known/core",
        "/",
        "/no",
    ]);
    let parts = (any::<bool>(), 0_u8..9, 0_u16..40, path);
    let rest = (
        prop::collection::vec(options(), 0..4),
        prop::collection::vec(any::<u8>(), 0..100),
    );
    (parts, rest).prop_map(|((confirmable, code, id, path), (options, payload))| {
        let kind = if confirmable {
            Kind::Confirmable
        } else {
            Kind::NonConfirmable
        };
        let mut ask = Ask {
            kind,
            ..con(Code(code.max(1)), id, path)
        };
        ask.options.extend(options);
        ask.payload(&payload).bytes()
    })
}

fn blocks() -> impl Strategy<Value = Vec<u8>> {
    (0_u16..40, 0_u32..4, any::<bool>(), 0_u8..3, any::<bool>()).prop_map(
        |(id, number, more, exponent, up)| {
            let which = if up { option::BLOCK1 } else { option::BLOCK2 };
            let size = if up { 16 << exponent } else { 0 };
            con(Code::POST, id, "/hello")
                .block(which, (number, more, exponent))
                .payload(&vec![1; size])
                .bytes()
        },
    )
}

fn events() -> impl Strategy<Value = Event> {
    let ids = (2_u8..4, any::<u16>()).prop_map(|(kind, id)| {
        let [high, low] = id.to_be_bytes();
        vec![0x40 | kind << 4, 0, high, low]
    });
    let datagram = prop_oneof![
        6 => requests(),
        4 => blocks(),
        1 => ids,
        1 => prop::collection::vec(any::<u8>(), 0..60),
    ];
    prop_oneof![
        8 => (1_u8..5, datagram).prop_map(|(from, bytes)| Event::Datagram(from, bytes)),
        4 => (any::<prop::sample::Index>(), 0_usize..40).prop_map(|(which, cut)| Event::Again(which, cut)),
        5 => (any::<prop::sample::Index>(), 0_usize..300, 200_u16..600)
            .prop_map(|(which, size, status)| Event::Answer(which, size, status)),
        2 => (0_u64..60_000).prop_map(Event::Pass),
        2 => prop::option::of("[a-z]{0,100}").prop_map(Event::Publish),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn nothing_panics_or_grows(events in prop::collection::vec(events(), 1..150), guarded: bool) {
        let mode = if guarded { EchoMode::Always } else { EchoMode::Never };
        let mut bench = Bench::with(mode, 2 << 10);
        let mut before: Vec<(u8, Vec<u8>)> = Vec::new();
        let mut calls: Vec<u64> = Vec::new();
        let mut keys = std::collections::HashMap::new();
        let mut etag = 0;
        for event in events {
            match event {
                Event::Datagram(from, bytes) => {
                    bench.receive_from(peer(from), &bytes);
                    before.push((from, bytes));
                }
                Event::Again(which, cut) if !before.is_empty() => {
                    let (from, bytes) = which.get(&before);
                    // Mostly whole.
                    let end = if cut < 30 { bytes.len() } else { bytes.len().saturating_sub(cut - 29) };
                    bench.receive_from(peer(*from), &bytes[..end]);
                }
                Event::Answer(which, size, status) if !calls.is_empty() => {
                    let key = calls.swap_remove(which.index(calls.len()));
                    let answer = Answer {
                        status: StatusCode::from_u16(status).unwrap(),
                        body: Bytes::from(vec![b'x'; size]),
                        ..Answer::default()
                    };
                    bench.answer(key, Ok(answer));
                }
                Event::Pass(time) => {
                    let until = bench.now + time;
                    bench.pass(until);
                }
                Event::Publish(Some(body)) => {
                    etag += 1;
                    bench.publish("", &body, etag);
                }
                Event::Publish(None) => {
                    let resource = resource("");
                    bench.endpoint.published(bench.now, &resource, None, &mut bench.functions, &mut bench.out);
                    bench.sent();
                }
                _ => {}
            }
            for call in std::mem::take(&mut bench.out.calls) {
                let ran = keys.insert(call.key, bench.now);
                let long_ago = |ran| ran + crate::coap::EXCHANGE_LIFETIME_MS <= bench.now;
                prop_assert!(ran.is_none_or(long_ago), "a request ran twice");
                bench.endpoint.still_running(bench.now, call.key);
                calls.push(call.key);
            }
            check_bounds(&bench);
        }
    }
}

#[track_caller]
fn check_bounds(bench: &Bench) {
    let bounds = bounds();
    let endpoint = &bench.endpoint;
    assert!(endpoint.facts.bytes() <= 2 << 10);
    assert!(endpoint.replies.bytes() <= bounds.replies_bytes);
    assert!(endpoint.calls.len() <= bounds.calls);
    assert!(endpoint.acknowledge.len() <= bounds.calls);
    assert!(endpoint.exchanges.count() <= bounds.exchanges);
    assert!(endpoint.observers.count() <= bounds.observers.count);
    assert!(endpoint.guard.count() <= bounds.verified);
    assert!(bench.functions.watched.len() <= bounds.observers.count);
    for ((count, bytes), bound) in [
        (endpoint.assemblies.size(), bounds.uploads),
        (endpoint.transfers.size(), bounds.transfers),
    ] {
        assert!(
            count <= bound.count && bytes <= bound.bytes,
            "{count} {bytes}"
        );
    }
}
