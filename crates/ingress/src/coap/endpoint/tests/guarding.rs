//! Nobody can be flooded through the door.

use super::*;

#[test]
fn an_unknown_endpoint_is_asked_before_anything_runs() {
    let mut bench = Bench::with(EchoMode::PrivateExempt, 64 << 10);
    let ask = con(Code::POST, 1, "/hello").payload(b"x");
    let challenge = bench.receive(&ask.clone().bytes()).remove(0);
    assert_eq!(
        (challenge.kind, challenge.code),
        (Kind::Acknowledgement, Code::UNAUTHORIZED)
    );
    assert!(bench.out.calls.is_empty());
    let echo = challenge.bytes(option::ECHO).unwrap().to_vec();
    // Another endpoint cannot use it.
    let with_echo = Ask { id: 2, ..ask }.option(option::ECHO, &echo).bytes();
    assert_eq!(
        bench.receive_from(peer(2), &with_echo)[0].code,
        Code::UNAUTHORIZED
    );
    assert_eq!(bench.receive(&with_echo), []);
    bench.answer_with("x");
    // It is remembered.
    bench.receive(&con(Code::POST, 3, "/hello").bytes());
    bench.call();
    assert_eq!(bench.counters.challenged.get(), 2);
}

#[test]
fn private_endpoints_are_served_at_once() {
    let mut bench = Bench::with(EchoMode::PrivateExempt, 64 << 10);
    let local = Peer::from(SocketAddr::from(([192, 168, 0, 9], 5683)));
    bench.receive_from(local, &con(Code::POST, 1, "/hello").bytes());
    bench.call();
}

#[test]
fn no_answer_to_an_unverified_endpoint_is_three_times_its_request() {
    let mut bench = Bench::with(EchoMode::Always, 64 << 10);
    let mut asked = 0;
    for path in ["", "/", "/.well-known/core", "/hello", "/light", "/nothing"] {
        for token in [&[][..], &[1], &[1; 8]] {
            for kind in [Kind::Confirmable, Kind::NonConfirmable] {
                for option in [option::OBSERVE, 9, option::PROXY_URI, option::BLOCK2] {
                    asked += 1;
                    let ask = Ask {
                        kind,
                        ..con(Code::GET, asked, path)
                    };
                    let bytes = ask.token(token).option(option, b"").bytes();
                    let sent: usize = bench.receive(&bytes).iter().map(|seen| seen.size).sum();
                    assert!(sent <= 3 * bytes.len(), "{sent} for {}", bytes.len());
                }
            }
        }
    }
    assert!(bench.out.calls.is_empty());
}
