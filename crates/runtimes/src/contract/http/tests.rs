//! The client against servers of raw bytes: what a good program may do. Bad ones are in [`hostile`],
//! servers that people use in [`real`].

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::HeaderMap;
use mote_core::invocation::{FunctionId, InvocationId, Origin};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

mod hostile;
mod real;

struct To {
    address: SocketAddr,
    made: AtomicUsize,
}

impl Connect for To {
    fn connect(&self) -> BoxFuture<'_, io::Result<Stream>> {
        Box::pin(async {
            let stream = TcpStream::connect(self.address).await?;
            self.made.fetch_add(1, Ordering::Relaxed);
            Ok(stream.into())
        })
    }
}

fn client(address: SocketAddr) -> (HttpClient, Arc<To>) {
    let to = Arc::new(To {
        address,
        made: AtomicUsize::new(0),
    });
    let settings = Settings {
        function: "hello.home".parse().unwrap(),
        connections: 4,
    };
    (HttpClient::new(Arc::<To>::clone(&to), &settings), to)
}

fn invocation(method: Method, target: &'static str, body: impl Into<Body>) -> Invocation {
    Invocation {
        id: InvocationId {
            sequence: 7,
            node: 1,
        },
        function: FunctionId(1),
        meta: Meta {
            method,
            target: PathAndQuery::from_static(target),
            prefix: 6,
            headers: HeaderMap::new(),
        },
        body: body.into(),
        budget: Duration::from_secs(2),
        origin: Origin::Http,
        hops: 0,
    }
}

/// Serves each connection with `serve`; tells how many there were.
async fn server<F, S>(serve: S) -> SocketAddr
where
    S: Fn(TcpStream, usize) -> F + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        for number in 0.. {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(serve(stream, number));
        }
    });
    address
}

/// Reads up to the end of a head.
async fn head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8(head).unwrap())
}

#[tokio::test]
async fn a_connection_is_kept() {
    let address = server(|mut stream, _| async move {
        while let Some(head) = head(&mut stream).await {
            let text = head.to_ascii_lowercase();
            assert!(text.contains("host: hello.home\r\n"), "{text}");
            assert!(text.contains("mote-timeout-ms: 2000\r\n"), "{text}");
            let length = text
                .split_once("content-length: ")
                .map_or(0, |(_, rest)| rest.split_once('\r').unwrap().0.parse().unwrap());
            let mut body = vec![0; length];
            stream.read_exact(&mut body).await.unwrap();
            let line = head.lines().next().unwrap();
            let reply = format!(
                "HTTP/1.1 200 OK\r\nMote-Publish: true\r\nConnection: x-hop\r\nX-Hop: 1\r\nContent-Length: {}\r\n\r\n{line}",
                line.len()
            );
            stream.write_all(reply.as_bytes()).await.unwrap();
        }
    })
    .await;
    let (client, to) = client(address);
    client.ready(None, Duration::from_secs(1)).await.unwrap();
    for _ in 0..3 {
        let mut offered = Some(invocation(Method::POST, "/hello/a?b=c", "body"));
        let reply = client.call(&mut offered, 1000).await.unwrap();
        assert!(offered.is_none() && reply.publish);
        assert!(
            !reply.headers.contains_key("x-hop") && !reply.headers.contains_key("mote-publish")
        );
        let body = reply.body.collect(1000).await.unwrap();
        assert_eq!(body, Bytes::from_static(b"POST /a?b=c HTTP/1.1"));
    }
    assert_eq!(to.made.load(Ordering::Relaxed), 1);
}

/// Answers every request with `reply` as it is.
async fn answering(reply: Vec<u8>) -> SocketAddr {
    server(move |mut stream, _| {
        let reply = reply.clone();
        async move {
            while head(&mut stream).await.is_some() {
                if stream.write_all(&reply).await.is_err() {
                    return;
                }
            }
        }
    })
    .await
}

fn get() -> Option<Invocation> {
    Some(invocation(Method::GET, "/hello", Body::empty()))
}

fn frame(
    stream: &mut mote_core::body::BodyStream,
) -> impl Future<Output = Option<Result<Bytes, Error>>> {
    std::future::poll_fn(|cx| stream.as_mut().poll_frame(cx))
        .map(|frame| frame.map(|frame| frame.map(|frame| frame.into_data().unwrap_or_default())))
}

#[tokio::test]
async fn a_large_reply_is_a_stream_and_its_connection_returns_when_it_was_read() {
    let body = vec![b'x'; 200_000];
    let mut reply = b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n".to_vec();
    reply.extend_from_slice(&body);
    let (client, to) = client(answering(reply).await);
    let reply = client.call(&mut get(), 1 << 20).await.unwrap();
    assert!(matches!(reply.body, Body::Stream(_)));
    assert_eq!(reply.body.length(), Some(200_000));
    let during = client.call(&mut get(), 1 << 20).await.unwrap();
    assert_eq!(to.made.load(Ordering::Relaxed), 2);
    assert_eq!(reply.body.collect(1 << 20).await.unwrap(), body);
    // One that is dropped has no connection to give back.
    drop(during);
    let after = client.call(&mut get(), 1 << 20).await.unwrap();
    assert_eq!(after.body.collect(1 << 20).await.unwrap(), body);
    // More of them, since the client learns to read much at once.
    for _ in 0..20 {
        let reply = client.call(&mut get(), 1 << 20).await.unwrap();
        assert_eq!(reply.body.collect(1 << 20).await.unwrap(), body);
    }
    assert_eq!(to.made.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_stream_is_handed_on_as_it_comes() {
    let address = server(|mut stream, _| async move {
        head(&mut stream).await;
        let begin = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n";
        stream.write_all(begin).await.unwrap();
        // The test asks for the rest.
        head(&mut stream).await;
    })
    .await;
    let (client, _) = client(address);
    let reply = client.call(&mut get(), 100).await.unwrap();
    let Body::Stream(mut stream) = reply.body else {
        panic!("its length is not known");
    };
    assert_eq!(frame(&mut stream).await.unwrap().unwrap(), "one");
    assert!(frame(&mut stream).now_or_never().is_none());
}

#[tokio::test]
async fn a_short_reply_of_unknown_length_is_bytes() {
    let reply = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n0\r\n\r\n";
    let (client, to) = client(answering(reply.to_vec()).await);
    for _ in 0..2 {
        let reply = client.call(&mut get(), 100).await.unwrap();
        let Body::Bytes(bytes) = reply.body else {
            panic!("all of it was there");
        };
        assert_eq!(bytes, "one");
        assert!(!reply.headers.contains_key("transfer-encoding"));
    }
    assert_eq!(to.made.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn replies_without_a_body_keep_the_connection() {
    for (method, reply) in [
        (Method::HEAD, &b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"[..]),
        (Method::GET, b"HTTP/1.1 204 No Content\r\n\r\n"),
        (Method::GET, b"HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n"),
        (Method::GET, b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    ] {
        let (client, to) = client(answering(reply.to_vec()).await);
        for _ in 0..2 {
            let mut offered = Some(invocation(method.clone(), "/hello", Body::empty()));
            let reply = client.call(&mut offered, 100).await.unwrap();
            assert_eq!(reply.body.length(), Some(0));
        }
        assert_eq!(to.made.load(Ordering::Relaxed), 1, "{method}");
    }
}

#[tokio::test]
async fn a_body_is_sent_as_it_comes_and_within_its_limit() {
    let address = server(|mut stream, _| async move {
        let text = head(&mut stream).await.unwrap().to_ascii_lowercase();
        assert!(text.contains("transfer-encoding: chunked"), "{text}");
        let mut all = Vec::new();
        while !all.ends_with(b"0\r\n\r\n") {
            let Ok(byte) = stream.read_u8().await else {
                return;
            };
            all.push(byte);
        }
        let reply = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", all.len());
        stream.write_all(reply.as_bytes()).await.unwrap();
        stream.write_all(&all).await.unwrap();
    })
    .await;
    let (client, _) = client(address);
    let stream = || {
        let parts = ["one", "two"].map(|part| Ok::<_, Error>(http_body::Frame::data(part.into())));
        let parts = futures_util::stream::iter(parts);
        Body::Stream(Box::pin(http_body_util::StreamBody::new(parts)))
    };
    let mut offered = Some(invocation(Method::POST, "/hello", stream()));
    let reply = client.call(&mut offered, 100).await.unwrap();
    let body = reply.body.collect(100).await.unwrap();
    assert_eq!(body, "3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n");
    let mut offered = Some(invocation(Method::POST, "/hello", stream()));
    let error = client.call(&mut offered, 5).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");
}

#[tokio::test]
async fn what_is_said_about_the_connection_stays_on_it() {
    let address = server(|mut stream, _| async move {
        let text = head(&mut stream).await.unwrap().to_ascii_lowercase();
        for gone in [
            "x-hop",
            "te:",
            "upgrade",
            "proxy-",
            "expect",
            "evil",
            "keep-alive",
        ] {
            assert!(!text.contains(gone), "{gone} in {text}");
        }
        assert!(text.starts_with("post /?q http/1.1\r\n"), "{text}");
        assert!(text.contains("\r\nx-kept: 1\r\n"), "{text}");
        assert!(text.contains("\r\ncontent-length: 0\r\n"), "{text}");
        let reply = "HTTP/1.1 200 OK\r\nKeep-Alive: timeout=5\r\nContent-Length: 0\r\n\r\n";
        stream.write_all(reply.as_bytes()).await.unwrap();
    })
    .await;
    let (client, _) = client(address);
    let mut call = invocation(Method::POST, "/hello?q", Body::empty());
    for (name, value) in [
        ("host", "evil.example.org"),
        ("connection", "x-hop, keep-alive"),
        ("x-hop", "1"),
        ("te", "trailers"),
        ("upgrade", "h2c"),
        ("proxy-authorization", "x"),
        ("expect", "100-continue"),
        ("content-length", "99"),
        ("x-kept", "1"),
    ] {
        call.meta.headers.append(name, value.parse().unwrap());
    }
    let reply = client.call(&mut Some(call), 100).await.unwrap();
    assert!(!reply.headers.contains_key("keep-alive"));
}

#[tokio::test]
async fn a_kept_connection_that_was_closed_is_not_used() {
    // The server has a thread of its own, and this one waits for it: so the runtime has no turn
    // in which to learn of the close.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (client, to) = client(listener.local_addr().unwrap());
    let (close, closing) = std::sync::mpsc::channel();
    let (closed, is_closed) = std::sync::mpsc::channel();
    let server = std::thread::spawn(move || {
        for _ in 0..3 {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\nbody") {
                let mut byte = [0; 1];
                stream.read_exact(&mut byte).unwrap();
                request.extend_from_slice(&byte);
            }
            let reply = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
            stream.write_all(reply).unwrap();
            closing.recv().unwrap();
            drop(stream);
            closed.send(()).unwrap();
        }
    });
    for number in 1..=3 {
        let mut offered = Some(invocation(Method::POST, "/hello", "body"));
        client.call(&mut offered, 100).await.unwrap();
        assert_eq!(to.made.load(Ordering::Relaxed), number);
        close.send(()).unwrap();
        is_closed.recv().unwrap();
    }
    server.join().unwrap();
}

#[tokio::test(start_paused = true)]
async fn only_calls_that_may_be_repeated_use_what_may_be_closing() {
    let reply = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    let (client, to) = client(answering(reply.to_vec()).await);
    let call = async |method| {
        let mut offered = Some(invocation(method, "/hello", Body::empty()));
        client.call(&mut offered, 100).await.unwrap();
        to.made.load(Ordering::Relaxed)
    };
    assert_eq!(call(Method::POST).await, 1);
    tokio::time::advance(Duration::from_millis(900)).await;
    assert_eq!(call(Method::POST).await, 1);
    tokio::time::advance(Duration::from_millis(1100)).await;
    assert_eq!(call(Method::GET).await, 1);
    tokio::time::advance(Duration::from_millis(1100)).await;
    assert_eq!(call(Method::POST).await, 2);
}

/// A server that takes a second request of a connection and closes it without a byte.
async fn forgetting() -> SocketAddr {
    server(|mut stream, _| async move {
        head(&mut stream).await;
        let reply = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        stream.write_all(reply).await.unwrap();
        head(&mut stream).await;
    })
    .await
}

#[tokio::test]
async fn what_may_be_repeated_is_tried_once_more() {
    let address = forgetting().await;
    let (client, to) = client(address);
    client.call(&mut get(), 100).await.unwrap();
    client.call(&mut get(), 100).await.unwrap();
    assert_eq!(to.made.load(Ordering::Relaxed), 2);
    let mut offered = Some(invocation(Method::PUT, "/hello", "body"));
    client.call(&mut offered, 100).await.unwrap();
    assert_eq!(to.made.load(Ordering::Relaxed), 3);
    let mut offered = Some(invocation(Method::POST, "/hello", "body"));
    let error = client.call(&mut offered, 100).await.unwrap_err();
    let message = "the program closed the connection without a reply";
    assert_eq!(error.message(), message);
    assert!(offered.is_none());
    assert_eq!(to.made.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn a_connection_that_showed_readiness_may_be_closed_as_well() {
    let address = server(|mut stream, number| async move {
        head(&mut stream).await;
        if number > 0 {
            let reply = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
            stream.write_all(reply).await.unwrap();
        }
    })
    .await;
    let (client, to) = client(address);
    client.ready(None, Duration::from_secs(10)).await.unwrap();
    client.call(&mut get(), 100).await.unwrap();
    assert_eq!(to.made.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn only_a_call_that_was_never_sent_stays_on_offer() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (client, _) = client(listener.local_addr().unwrap());
    let program = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        head(&mut stream).await;
        let reply = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        stream.write_all(reply).await.unwrap();
        drop(listener);
        // The next request comes by this connection, which ends then.
        head(&mut stream).await;
    };
    let calls = async {
        client.call(&mut get(), 100).await.unwrap();
        let mut offered = Some(invocation(Method::PUT, "/hello", "body"));
        let error = client.call(&mut offered, 100).await.unwrap_err();
        (error, offered)
    };
    let ((error, offered), ()) = tokio::join!(calls, program);
    let refused = "the program does not accept connections: ";
    assert!(error.message().starts_with(refused), "{error}");
    // The program has read it, and may have ended because of it.
    assert!(offered.is_none());
    let mut offered = get();
    client.call(&mut offered, 100).await.unwrap_err();
    assert!(offered.is_some());
}

#[tokio::test(start_paused = true)]
async fn connections_that_wait_are_bounded_in_number_and_time() {
    let open = Arc::new(AtomicUsize::new(0));
    let address = {
        let open = Arc::clone(&open);
        server(move |mut stream, _| {
            let open = Arc::clone(&open);
            async move {
                open.fetch_add(1, Ordering::Relaxed);
                while head(&mut stream).await.is_some() {
                    let reply = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
                    stream.write_all(reply).await.unwrap();
                }
                open.fetch_sub(1, Ordering::Relaxed);
            }
        })
        .await
    };
    let (client, to) = client(address);
    let mut held: Vec<_> = std::iter::repeat_with(get).take(7).collect();
    let calls = held.iter_mut().map(|offered| client.call(offered, 100));
    futures_util::future::try_join_all(calls).await.unwrap();
    assert_eq!(to.made.load(Ordering::Relaxed), 7);
    let settled = |count| {
        let open = Arc::clone(&open);
        async move {
            while open.load(Ordering::Relaxed) != count {
                tokio::task::yield_now().await;
            }
        }
    };
    settled(4).await;
    tokio::time::advance(Duration::from_secs(59)).await;
    client.call(&mut get(), 100).await.unwrap();
    assert_eq!(
        to.made.load(Ordering::Relaxed),
        7,
        "one that waited is used"
    );
    tokio::time::advance(Duration::from_secs(2)).await;
    settled(1).await;
    tokio::time::advance(Duration::from_secs(60)).await;
    settled(0).await;
}

#[test]
fn a_client_is_used_from_several_threads() {
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().build().unwrap()
    };
    let (one, other) = (runtime(), runtime());
    let reply = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec();
    let (client, to) = client(one.block_on(answering(reply)));
    let client = Arc::new(client);
    let calls = async |client: Arc<HttpClient>| {
        for _ in 0..100 {
            client.call(&mut get(), 100).await.unwrap();
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| other.block_on(calls(Arc::clone(&client))));
        one.block_on(calls(Arc::clone(&client)));
        // The server runs here; the other thread needs it to.
        one.block_on(async {
            while Arc::strong_count(&client) > 1 {
                tokio::task::yield_now().await;
            }
        });
    });
    assert!(to.made.load(Ordering::Relaxed) <= 2);
}

#[tokio::test]
async fn a_program_is_ready_when_it_says_so() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let (late, _) = client(address);
    let error = late
        .ready(None, Duration::from_millis(30))
        .await
        .unwrap_err();
    let message = "not ready after 30 ms: the program does not accept connections: ";
    assert!(error.message().starts_with(message), "{error}");
    assert!(error.hint().is_some());
    let listens = async {
        // Only after the client has been refused.
        while late.connect.connect().await.is_ok() {}
        TcpListener::bind(address).await.unwrap()
    };
    let (ready, _listener) = tokio::join!(late.ready(None, Duration::from_secs(10)), listens);
    ready.unwrap();

    let asked = Arc::new(AtomicUsize::new(0));
    let address = {
        let asked = Arc::clone(&asked);
        server(move |mut stream, _| {
            let asked = Arc::clone(&asked);
            async move {
                while let Some(head) = head(&mut stream).await {
                    assert!(head.starts_with("GET /health?x HTTP/1.1\r\n"), "{head}");
                    let status = match asked.fetch_add(1, Ordering::Relaxed) {
                        0 | 1 => 503,
                        _ => 204,
                    };
                    let reply = format!("HTTP/1.1 {status} x\r\nContent-Length: 0\r\n\r\n");
                    stream.write_all(reply.as_bytes()).await.unwrap();
                }
            }
        })
        .await
    };
    let (probed, _) = client(address);
    let path = Some("/health?x");
    probed.ready(path, Duration::from_secs(10)).await.unwrap();
    assert_eq!(asked.swap(0, Ordering::Relaxed), 3);
    let error = probed.ready(path, Duration::ZERO).await.unwrap_err();
    assert!(
        error.message().starts_with("not ready after 0 ms: "),
        "{error}"
    );
}
