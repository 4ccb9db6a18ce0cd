//! The client against real servers, and against hostile ones over raw sockets.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::HeaderMap;
use mote_core::invocation::{FunctionId, InvocationId, Origin};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

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
