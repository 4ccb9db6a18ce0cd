//! The Runtime API as raw requests see it. Streams are in [`streams`], the
//! runtimes of the languages in [`runtimes`].

use std::net::SocketAddr;
use std::sync::Mutex;

use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use mote_core::invocation::{FunctionId, Meta, Origin};
use mote_core::log::Level;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;

mod runtimes;
mod streams;

const LIMIT: u64 = 1 << 20;

#[derive(Default)]
struct Lines(Mutex<Vec<String>>);

impl LogSink for Lines {
    fn line(&self, _: InvocationId, _: Level, text: &str) {
        self.0.lock().unwrap().push(text.to_owned());
    }
}

/// An API that is served, its address, and what was logged of calls and of the start.
struct Served {
    api: Arc<LambdaApi>,
    address: SocketAddr,
    lines: Arc<Lines>,
    log: Arc<dyn LogSink>,
    start_lines: Arc<Mutex<Vec<String>>>,
    shutdown: CancellationToken,
}

async fn served() -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let lines: Arc<Lines> = Arc::default();
    let start_lines: Arc<Mutex<Vec<String>>> = Arc::default();
    let settings = Settings {
        function: "hello.home".parse().unwrap(),
        connections: 16,
        log: {
            let lines = Arc::clone(&start_lines);
            Arc::new(move |line| lines.lock().unwrap().push(line.to_owned()))
        },
    };
    let api = LambdaApi::new(settings);
    let shutdown = CancellationToken::new();
    tokio::spawn(Arc::clone(&api).serve(listener, shutdown.clone()));
    Served {
        api,
        address,
        log: Arc::<Lines>::clone(&lines),
        lines,
        start_lines,
        shutdown,
    }
}

impl Served {
    async fn call(&self, invocation: Invocation) -> Result<Reply, Error> {
        self.api.call(&mut Some(invocation), LIMIT, &self.log).await
    }

    /// Calls, and answers the call that the program gets then.
    async fn answered(
        &self,
        invocation: Invocation,
        path: &str,
        headers: &str,
        body: &[u8],
    ) -> (Result<Reply, Error>, Answered) {
        let answer = async {
            let (id, ..) = self.next().await;
            let path = format!("invocation/{id}/{path}");
            send(self.address, "POST", &path, headers, body).await
        };
        tokio::join!(self.call(invocation), answer)
    }

    /// Asks for a call: its id, the other headers, its event.
    async fn next(&self) -> (String, String, Vec<u8>) {
        let answer = send(self.address, "GET", "invocation/next", "", b"").await;
        assert_eq!(answer.status, 200);
        let id = header(&answer.head, "lambda-runtime-aws-request-id");
        (id.unwrap().to_owned(), answer.head, answer.body)
    }
}

#[derive(Debug)]
struct Answered {
    status: u16,
    head: String,
    body: Vec<u8>,
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines()
        .filter_map(|line| line.split_once(": "))
        .find(|(found, _)| found.eq_ignore_ascii_case(name))
        .map(|(_, value)| value)
}

async fn send(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &str,
    body: &[u8],
) -> Answered {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let framing = if headers.contains("chunked") {
        String::new()
    } else {
        format!("Content-Length: {}\r\n", body.len())
    };
    let head = format!(
        "{method} /2018-06-01/runtime/{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}{framing}\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body).await.unwrap();
    read_answer(stream).await
}

async fn read_answer(mut stream: TcpStream) -> Answered {
    let mut all = Vec::new();
    stream.read_to_end(&mut all).await.unwrap();
    let end = all.windows(4).position(|part| part == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(all[..end].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let body = all[end + 4..].to_vec();
    Answered { status, head, body }
}

fn invocation(
    method: Method,
    target: &str,
    headers: &[(&'static str, &str)],
    body: &str,
) -> Invocation {
    let pair = |(name, value): &(&'static str, &str)| {
        (
            http::HeaderName::from_static(name),
            HeaderValue::from_str(value).unwrap(),
        )
    };
    Invocation {
        id: InvocationId {
            sequence: unused_number(),
            node: 1,
        },
        function: FunctionId(1),
        meta: Meta {
            method,
            target: target.parse::<PathAndQuery>().unwrap(),
            prefix: 6,
            headers: headers.iter().map(pair).collect::<HeaderMap>(),
        },
        body: Body::Bytes(body.as_bytes().to_vec().into()),
        budget: Duration::from_secs(5),
        origin: Origin::Http,
        hops: 0,
    }
}

/// A number that was not there before.
fn unused_number() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn post(body: &str) -> Invocation {
    invocation(Method::POST, "/hello", &[], body)
}

async fn bytes(reply: Reply) -> String {
    let bytes = reply.body.collect(LIMIT).await.unwrap();
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[tokio::test]
async fn posted_json_is_the_event_and_json_is_the_reply() {
    let served = served().await;
    let call = post(r#"{"a":1}"#);
    let id = call.id;
    let program = async {
        let (got, head, body) = served.next().await;
        assert_eq!(got, id.to_string());
        assert_eq!(body, br#"{"a":1}"#);
        let arn = "arn:aws:lambda:local:000000000000:function:hello.home";
        assert_eq!(
            header(&head, "lambda-runtime-invoked-function-arn"),
            Some(arn)
        );
        assert!(
            header(&head, "lambda-runtime-trace-id")
                .unwrap()
                .starts_with("Root=1-")
        );
        let deadline: u128 = header(&head, "lambda-runtime-deadline-ms")
            .unwrap()
            .parse()
            .unwrap();
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap();
        assert!((now.as_millis()..=now.as_millis() + 5000).contains(&deadline));
        assert!(served.api.busy());
        let path = format!("invocation/{got}/response");
        send(served.address, "POST", &path, "", br#"{"b":2}"#).await
    };
    let (reply, answered) = tokio::join!(served.call(call), program);
    assert_eq!(answered.status, 202);
    let reply = reply.unwrap();
    assert_eq!(reply.headers["content-type"], "application/json");
    assert_eq!(bytes(reply).await, r#"{"b":2}"#);
    served
        .api
        .initialized(Duration::from_secs(5))
        .await
        .unwrap();
    served.api.idle().await;
    assert!(!served.api.busy());
}

#[tokio::test]
async fn all_else_is_the_event_of_a_function_url() {
    let served = served().await;
    let cases = [
        invocation(
            Method::GET,
            "/hello/a%20b?x=1&x=2&y=%C3%A4+b",
            &[
                ("cookie", "c=1; d=2"),
                ("x-forwarded-for", "192.0.2.7, 10.0.0.1"),
            ],
            "",
        ),
        invocation(Method::POST, "/hello", &[("mote-event", "http")], "{}"),
        invocation(Method::POST, "/hello?x=1", &[], "{}"),
        invocation(Method::POST, "/hello", &[], "text"),
    ];
    let mut events = Vec::new();
    for case in cases {
        let program = async {
            let (id, _, body) = served.next().await;
            events.push(serde_json::from_slice::<serde_json::Value>(&body).unwrap());
            send(
                served.address,
                "POST",
                &format!("invocation/{id}/response"),
                "",
                b"null",
            )
            .await
        };
        tokio::join!(served.call(case), program).0.unwrap();
    }
    for event in &events {
        assert_eq!(event["version"], "2.0");
        assert_eq!(event["requestContext"]["stage"], "$default");
    }
    let get = &events[0];
    assert_eq!(get["rawPath"], "/a%20b");
    assert_eq!(get["rawQueryString"], "x=1&x=2&y=%C3%A4+b");
    assert_eq!(get["queryStringParameters"]["x"], "1,2");
    assert_eq!(get["queryStringParameters"]["y"], "ä b");
    assert_eq!(get["cookies"][1], "d=2");
    assert_eq!(get["requestContext"]["http"]["method"], "GET");
    assert_eq!(get["requestContext"]["http"]["sourceIp"], "192.0.2.7");
    assert!(get["headers"]["cookie"].is_null() && get["body"].is_null());
    assert_eq!(events[3]["body"], "text");
    // And the caller may have it the other way.
    let raw = invocation(Method::GET, "/hello", &[("mote-event", "raw")], "");
    let program = async {
        let (id, _, body) = served.next().await;
        assert_eq!(body, b"{}");
        send(
            served.address,
            "POST",
            &format!("invocation/{id}/response"),
            "",
            b"1",
        )
        .await
    };
    tokio::join!(served.call(raw), program).0.unwrap();
}

#[tokio::test]
async fn a_status_code_makes_an_answer_a_whole_reply() {
    let served = served().await;
    let answer = br#"{"statusCode":201,"headers":{"X-A":"b","Mote-Publish":"true","Connection":"close"},"cookies":["a=b"],"body":"aGk=","isBase64Encoded":true}"#;
    let (reply, _) = served.answered(post("{}"), "response", "", answer).await;
    let reply = reply.unwrap();
    assert_eq!(reply.status, StatusCode::CREATED);
    assert!(reply.publish && !reply.headers.contains_key("connection"));
    assert_eq!(reply.headers["x-a"], "b");
    assert_eq!(reply.headers["set-cookie"], "a=b");
    assert_eq!(bytes(reply).await, "hi");
    for (answer, message) in [
        (
            &br#"{"statusCode":99}"#[..],
            "the program answered statusCode 99, not within 200 to 599",
        ),
        (
            br#"{"statusCode":200,"headers":{"a b":"c"}}"#,
            "the answer's header `a b` is not valid",
        ),
        (
            br#"{"statusCode":200,"body":"*","isBase64Encoded":true}"#,
            "the answer's body is not base64: ",
        ),
    ] {
        let (reply, answered) = served.answered(post("{}"), "response", "", answer).await;
        assert_eq!(answered.status, 202);
        let error = reply.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FunctionFailed);
        assert!(error.message().starts_with(message), "{error}");
    }
    // What only looks like one is a value as any other.
    let text = br#"{"statusCode":"ok"}"#;
    let (reply, _) = served.answered(post("{}"), "response", "", text).await;
    assert_eq!(bytes(reply.unwrap()).await.as_bytes(), text);
}

#[tokio::test]
async fn what_a_program_says_about_its_failure_is_kept() {
    let served = served().await;
    let body = br#"{"errorType":"ValueError","errorMessage":"no","stackTrace":["  File \"a.py\"\n    raise\n","  File \"b.py\""]}"#;
    let (reply, answered) = served.answered(post("{}"), "error", "", body).await;
    assert_eq!(answered.status, 202);
    let error = reply.unwrap_err();
    assert_eq!(
        (error.kind(), error.message()),
        (ErrorKind::FunctionFailed, "ValueError: no")
    );
    let lines = served.lines.0.lock().unwrap().clone();
    assert_eq!(lines, ["  File \"a.py\"", "    raise", "  File \"b.py\""]);
    let kind = "Lambda-Runtime-Function-Error-Type: Odd.Kind\r\n";
    let (reply, _) = served
        .answered(post("{}"), "error", kind, b"not json")
        .await;
    assert_eq!(reply.unwrap_err().message(), "Odd.Kind: not json");
}

#[tokio::test]
async fn a_program_that_cannot_start_says_why() {
    let served = served().await;
    let never = served.api.initialized(Duration::from_millis(20)).await;
    assert!(
        never
            .unwrap_err()
            .message()
            .starts_with("not ready after 20 ms")
    );
    let body = br#"{"errorType":"ImportError","errorMessage":"no module","stackTrace":["a"]}"#;
    let waiting = served.api.initialized(Duration::from_secs(5));
    let says = send(served.address, "POST", "init/error", "", body);
    let (started, answered) = tokio::join!(waiting, says);
    assert_eq!(answered.status, 202);
    let message = "the program failed to start: ImportError: no module";
    assert_eq!(started.unwrap_err().message(), message);
    assert_eq!(*served.start_lines.lock().unwrap(), ["a"]);
    let mut offered = Some(post("{}"));
    let error = served
        .api
        .call(&mut offered, LIMIT, &served.log)
        .await
        .unwrap_err();
    assert_eq!(error.message(), message);
    assert!(offered.is_some());
}

#[tokio::test]
async fn an_instance_that_ends_keeps_only_the_call_it_has() {
    let served = served().await;
    let mut held = Some(post("1"));
    let mut waiting = Some(post("2"));
    let ends = async {
        served.next().await;
        served.api.gone();
    };
    let (first, second, ()) = tokio::join!(
        served.api.call(&mut held, LIMIT, &served.log),
        served.api.call(&mut waiting, LIMIT, &served.log),
        ends
    );
    assert_eq!(
        first.unwrap_err().message(),
        "the program ended during the call"
    );
    assert!(held.is_none());
    assert_eq!(
        second.unwrap_err().message(),
        "the program ended before it asked for the call"
    );
    assert_eq!(waiting.map(|call| call.body.length()), Some(Some(1)));
    let started = served.api.initialized(Duration::from_secs(5)).await;
    assert!(started.is_err());
}

#[tokio::test]
async fn wrong_requests_are_refused_and_harm_nothing() {
    let served = served().await;
    let program = async {
        let (id, ..) = served.next().await;
        let cases = [
            ("POST", "invocation/0/response".to_owned(), 400),
            ("POST", "invocation//response".to_owned(), 400),
            ("GET", format!("invocation/{id}/response"), 404),
            ("POST", format!("invocation/{id}/other"), 404),
            ("GET", "other".to_owned(), 404),
            ("POST", "init/error".to_owned(), 403),
        ];
        for (method, path, status) in cases {
            let answered = send(served.address, method, &path, "", b"").await;
            assert_eq!(answered.status, status, "{method} {path}");
            let error: serde_json::Value = serde_json::from_slice(&answered.body).unwrap();
            assert!(error["errorMessage"].is_string() && error["errorType"].is_string());
        }
        let path = format!("invocation/{id}/response");
        let first = send(served.address, "POST", &path, "", b"7").await;
        let second = send(served.address, "POST", &path, "", b"8").await;
        assert_eq!((first.status, second.status), (202, 400));
    };
    let (reply, ()) = tokio::join!(served.call(post("{}")), program);
    assert_eq!(bytes(reply.unwrap()).await, "7");
}

#[tokio::test]
async fn an_answer_over_its_limit_is_an_error_on_both_sides() {
    let served = served().await;
    let large = vec![b'1'; usize::try_from(LIMIT).unwrap() + 1];
    let (reply, answered) = served.answered(post("{}"), "response", "", &large).await;
    assert_eq!(answered.status, 413);
    assert_eq!(reply.unwrap_err().kind(), ErrorKind::TooLarge);
    served.api.idle().await;
    let (reply, answered) = served
        .answered(post("{}"), "response", "", &large[1..])
        .await;
    assert_eq!(answered.status, 202);
    assert_eq!(bytes(reply.unwrap()).await.len() as u64, LIMIT);
    // A body that is too large to be sent at all concerns no program.
    let body = String::from_utf8(large).unwrap();
    let error = served.call(post(&body)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
}

#[tokio::test]
async fn a_call_that_nobody_waits_for_keeps_the_program_busy() {
    let served = served().await;
    let (id, ..) = {
        let call = served.call(post("1"));
        tokio::pin!(call);
        tokio::select! {
            _ = &mut call => panic!("nobody answered"),
            next = served.next() => next,
        }
    };
    assert!(served.api.busy());
    let late = async {
        let path = format!("invocation/{id}/response");
        let answered = send(served.address, "POST", &path, "", b"old").await;
        assert_eq!(answered.status, 202);
        served.api.idle().await;
        let (next, _, body) = served.next().await;
        assert_eq!(body, b"2");
        send(
            served.address,
            "POST",
            &format!("invocation/{next}/response"),
            "",
            b"new",
        )
        .await
    };
    let (reply, _) = tokio::join!(served.call(post("2")), late);
    assert_eq!(bytes(reply.unwrap()).await, "new");
}

#[tokio::test]
async fn a_program_that_forgets_its_call_or_hangs_up_fails_it() {
    let served = served().await;
    let forgets = async {
        served.next().await;
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        let next = b"GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: x\r\n\r\n";
        stream.write_all(next).await.unwrap();
        stream
    };
    let (reply, asking) = tokio::join!(served.call(post("{}")), forgets);
    assert!(
        reply
            .unwrap_err()
            .message()
            .contains("asked for the next call")
    );
    // A request for a call that was hung up, as the server knows, takes none.
    drop(asking);
    let hung_up = || matches!(&served.api.lock().asking, Some(asking) if asking.is_closed());
    while !hung_up() {
        tokio::task::yield_now().await;
    }
    let half = async {
        let (id, ..) = served.next().await;
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        let head = format!(
            "POST /2018-06-01/runtime/invocation/{id}/response HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
    };
    let (reply, ()) = tokio::join!(served.call(post("{}")), half);
    assert_eq!(
        reply.unwrap_err().message(),
        "the program broke off its answer"
    );
}

#[tokio::test]
async fn the_server_ends_with_its_shutdown() {
    let served = served().await;
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    stream
        .write_all(b"GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    served
        .api
        .initialized(Duration::from_secs(5))
        .await
        .unwrap();
    served.shutdown.cancel();
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest).await;
    assert!(rest.is_empty());
}

proptest! {
    #[test]
    fn any_answer_is_a_reply_or_an_error(
        status in any::<i64>(),
        name in "[ -~]{0,12}",
        value in "\\PC{0,12}",
        rest in "\\PC{0,40}",
    ) {
        let object = serde_json::json!({
            "statusCode": status,
            "headers": { name: value.clone() },
            "cookies": [value],
            "body": rest.clone(),
            "isBase64Encoded": true,
        });
        for text in [object.to_string(), rest] {
            for reply in [answer::whole(text.clone().into()), answer::prelude(text.as_bytes())] {
                match reply {
                    Ok(reply) => prop_assert!((200..=599).contains(&reply.status.as_u16())),
                    Err(error) => prop_assert_eq!(error.kind(), ErrorKind::FunctionFailed),
                }
            }
            let failure = answer::Failure::read(text.as_bytes(), None);
            prop_assert!(!failure.error().message().is_empty());
            prop_assert!(failure.error().message().len() < 2048);
        }
    }
}
