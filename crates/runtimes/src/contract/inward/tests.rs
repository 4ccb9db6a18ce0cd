//! A program's requests, over a real connection, to a host that keeps data in memory.

use std::sync::Mutex;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use mote_core::host::{Bucket, SiblingReply, SiblingRequest};
use mote_core::key_value::{KeyPage, KeyValue, incremented};
use mote_core::log::{Level, LogSink};
use mote_core::name::AppName;
use mote_core::runtime::BoxFuture;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_util::sync::DropGuard;

use super::*;

/// Answers calls with what was asked; keeps one bucket.
#[derive(Default)]
struct Fake {
    lines: Mutex<Vec<String>>,
    data: Arc<Memory>,
}

#[derive(Default)]
struct Memory(Mutex<BTreeMap<String, Bytes>>);

impl LogSink for Fake {
    fn line(&self, call: InvocationId, level: Level, text: &str) {
        self.lines
            .lock()
            .unwrap()
            .push(format!("{} {level} {text}", call.sequence));
    }
}

impl Host for Fake {
    fn call(
        &self,
        caller: &Caller,
        request: SiblingRequest,
    ) -> BoxFuture<'static, Result<SiblingReply, Error>> {
        let mut names: Vec<_> = request
            .headers
            .keys()
            .map(|name| name.to_string())
            .collect();
        names.sort();
        let said = format!(
            "{} {} {} {} {:?} {names:?}",
            caller.hops, request.method, request.function, request.target, request.body
        );
        let reply = match request.function.as_str() {
            "gone" => Err(Error::new(
                ErrorKind::NotFound,
                "function `gone` is not deployed",
            )),
            _ => Ok(SiblingReply {
                status: StatusCode::IM_A_TEAPOT,
                headers: HeaderMap::new(),
                body: said.into(),
            }),
        };
        Box::pin(std::future::ready(reply))
    }

    fn start(
        &self,
        caller: &Caller,
        request: SiblingRequest,
    ) -> BoxFuture<'static, Result<SiblingReply, Error>> {
        self.call(caller, request)
    }

    fn spawn(&self, _caller: &Caller, _request: SiblingRequest) -> Result<InvocationId, Error> {
        Ok(id(255))
    }

    fn bucket(&self, name: &str) -> Result<Bucket, Error> {
        let app: AppName = "home".parse()?;
        Bucket::new(Arc::clone(&self.data) as Arc<dyn KeyValue>, app, name)
    }

    fn setting(&self, key: &str) -> Option<Arc<str>> {
        (key == "ROOM").then(|| "kitchen".into())
    }

    fn settings(&self) -> Vec<(String, Arc<str>)> {
        vec![("ROOM".to_owned(), "kitchen".into())]
    }
}

impl Memory {
    fn all(&self) -> MutexGuard<'_, BTreeMap<String, Bytes>> {
        self.0.lock().unwrap()
    }
}

fn now<'a, T: Send + 'a>(value: Result<T, Error>) -> BoxFuture<'a, Result<T, Error>> {
    Box::pin(std::future::ready(value))
}

impl KeyValue for Memory {
    fn get<'a>(
        &'a self,
        _: &'a AppName,
        _: &'a str,
        key: &'a str,
    ) -> BoxFuture<'a, Result<Option<Bytes>, Error>> {
        now(Ok(self.all().get(key).cloned()))
    }

    fn set<'a>(
        &'a self,
        _: &'a AppName,
        _: &'a str,
        key: &'a str,
        value: Bytes,
    ) -> BoxFuture<'a, Result<(), Error>> {
        self.all().insert(key.to_owned(), value);
        now(Ok(()))
    }

    fn delete<'a>(
        &'a self,
        _: &'a AppName,
        _: &'a str,
        key: &'a str,
    ) -> BoxFuture<'a, Result<bool, Error>> {
        now(Ok(self.all().remove(key).is_some()))
    }

    fn increment<'a>(
        &'a self,
        _: &'a AppName,
        _: &'a str,
        key: &'a str,
        by: i64,
    ) -> BoxFuture<'a, Result<i64, Error>> {
        let mut all = self.all();
        let sum = incremented(key, all.get(key).map(|value| &value[..]), by);
        if let Ok(sum) = sum {
            all.insert(key.to_owned(), sum.to_string().into());
        }
        now(sum)
    }

    fn swap<'a>(
        &'a self,
        _: &'a AppName,
        _: &'a str,
        key: &'a str,
        expected: Option<Bytes>,
        new: Bytes,
    ) -> BoxFuture<'a, Result<bool, Error>> {
        let mut all = self.all();
        let is_so = all.get(key) == expected.as_ref();
        if is_so {
            all.insert(key.to_owned(), new);
        }
        now(Ok(is_so))
    }

    fn list<'a>(
        &'a self,
        _: &'a AppName,
        _: &'a str,
        after: Option<&'a str>,
        max: u32,
    ) -> BoxFuture<'a, Result<KeyPage, Error>> {
        let keys = self
            .all()
            .keys()
            .filter(|key| after.is_none_or(|after| key.as_str() > after))
            .take(max as usize)
            .cloned()
            .collect();
        now(Ok(KeyPage { keys, next: None }))
    }
}

fn id(sequence: u64) -> InvocationId {
    InvocationId { sequence, node: 1 }
}

fn caller(hops: u8) -> CallContext {
    CallContext {
        host: Arc::new(Fake::default()),
        caller: Caller {
            hops,
            ..Caller::root(Duration::from_secs(1))
        },
    }
}

struct Node {
    inward: Arc<Inward>,
    host: Arc<Fake>,
    port: u16,
    _end: DropGuard,
}

impl Node {
    async fn start() -> Self {
        let host = Arc::new(Fake::default());
        let inward = Inward::new(Arc::clone(&host) as Arc<dyn Host>, 100).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let end = CancellationToken::new();
        tokio::spawn(Arc::clone(&inward).serve(listener, end.clone()));
        Self {
            inward,
            host,
            port,
            _end: end.drop_guard(),
        }
    }

    /// Status and body of a request with the right token.
    async fn ask(&self, method: &Method, target: &str, headers: &str, body: &str) -> (u16, String) {
        let token = self
            .inward
            .variables("")
            .into_iter()
            .find(|(name, _)| *name == "MOTE_TOKEN")
            .unwrap()
            .1;
        let headers = format!("authorization: Bearer {token}\r\n{headers}");
        let (status, _, body) = self.send(method, target, &headers, body).await;
        (status, body)
    }

    async fn send(
        &self,
        method: &Method,
        target: &str,
        headers: &str,
        body: &str,
    ) -> (u16, String, String) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        let length = body.len();
        let request = format!(
            "{method} {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).await.unwrap();
        let (head, body) = reply.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, head.to_owned(), body.to_owned())
    }
}

#[tokio::test]
async fn only_the_instance_itself_is_answered() {
    let node = Node::start().await;
    for headers in [
        "",
        "authorization: Bearer 0123\r\n",
        "authorization: Basic x\r\n",
    ] {
        let (status, head, body) = node.send(&Method::GET, "/config", headers, "").await;
        assert_eq!(status, 401, "{headers}");
        assert!(
            head.contains("mote-error: unauthorized") && body.contains("$MOTE_TOKEN"),
            "{head}\n{body}"
        );
    }
    let other = Node::start().await;
    let stolen = other.inward.variables("").map(|(_, value)| value)[1].clone();
    let (status, ..) = node
        .send(
            &Method::GET,
            "/config",
            &format!("authorization: Bearer {stolen}\r\n"),
            "",
        )
        .await;
    assert_eq!(status, 401);
}

#[tokio::test]
async fn a_call_of_a_sibling_is_part_of_the_call_that_is_served() {
    let node = Node::start().await;
    let (get, post) = (Method::GET, Method::POST);
    let (status, said) = node.ask(&get, "/call/light", "", "").await;
    assert_eq!(
        (status, said.contains("serves no call now")),
        (400, true),
        "{said}"
    );

    let first = node.inward.serving(id(1), &caller(3));
    let asked = node
        .ask(
            &post,
            "/call/light/a%20b?c=d",
            "content-type: text/plain\r\nte: x\r\n",
            "on",
        )
        .await;
    assert_eq!(
        asked,
        (
            418,
            "3 POST light /a%20b?c=d b\"on\" [\"content-type\"]".to_owned()
        )
    );

    let second = node.inward.serving(id(2), &caller(5));
    let (status, said) = node.ask(&get, "/call/light", "", "").await;
    assert_eq!(
        (status, said.contains("Mote-Call-Id")),
        (400, true),
        "{said}"
    );
    let named = format!("mote-call-id: {}\r\n", id(2));
    let (_, said) = node.ask(&get, "/call/light?x", &named, "").await;
    assert_eq!(said, "5 GET light ?x b\"\" []");
    drop(second);
    let (status, said) = node.ask(&get, "/call/light", &named, "").await;
    assert_eq!(
        (status, said.contains("serves no call `")),
        (400, true),
        "{said}"
    );

    let (status, said) = node.ask(&get, "/call/gone", "", "").await;
    assert_eq!(
        (status, said.as_str()),
        (404, "function `gone` is not deployed\n")
    );
    let (status, _) = node
        .ask(&post, "/call/light", "prefer: respond-async\r\n", "on")
        .await;
    assert_eq!(status, 202);
    let (status, _) = node.ask(&post, "/call/light", "", &"x".repeat(101)).await;
    assert_eq!(status, 413);
    drop(first);
}

#[tokio::test]
async fn data_is_read_and_written() {
    let node = Node::start().await;
    let ask = |method: Method, target: &'static str, headers: String, body: &'static str| {
        let node = &node;
        async move { node.ask(&method, target, &headers, body).await }
    };
    let none = String::new;
    assert_eq!(ask(Method::GET, "/kv/default/a", none(), "").await.0, 404);
    assert_eq!(
        ask(Method::PUT, "/kv/default/a%2Fb/c", none(), "one")
            .await
            .0,
        204
    );
    assert_eq!(
        ask(Method::GET, "/kv/default/a/b/c", none(), "").await,
        (200, "one".to_owned())
    );
    let tag = etag_of("one");
    assert_eq!(
        ask(
            Method::PUT,
            "/kv/default/a/b/c",
            format!("if-match: {tag}\r\n"),
            "two"
        )
        .await
        .0,
        204
    );
    assert_eq!(
        ask(
            Method::PUT,
            "/kv/default/a/b/c",
            format!("if-match: {tag}\r\n"),
            "three"
        )
        .await
        .0,
        412
    );
    assert_eq!(
        ask(
            Method::PUT,
            "/kv/default/a/b/c",
            "if-none-match: *\r\n".to_owned(),
            "x"
        )
        .await
        .0,
        412
    );
    assert_eq!(
        ask(
            Method::PUT,
            "/kv/default/n",
            "if-none-match: *\r\n".to_owned(),
            "40"
        )
        .await
        .0,
        204
    );
    assert_eq!(
        ask(Method::POST, "/kv/default/n?increment=2", none(), "").await,
        (200, "42".to_owned())
    );
    assert_eq!(ask(Method::POST, "/kv/default/n", none(), "").await.0, 400);
    let keys = ask(Method::GET, "/kv/default?max=1&after=a", none(), "").await;
    assert_eq!(
        keys,
        (200, "{\"keys\":[\"a/b/c\"],\"next\":null}".to_owned())
    );
    assert_eq!(
        ask(Method::DELETE, "/kv/default/n", none(), "").await.0,
        204
    );
    assert_eq!(
        ask(Method::DELETE, "/kv/default/n", none(), "").await.0,
        404
    );
    assert_eq!(ask(Method::PATCH, "/kv/default/n", none(), "").await.0, 405);
    assert_eq!(ask(Method::GET, "/kv/Bad_Name/n", none(), "").await.0, 400);
}

fn etag_of(value: &str) -> String {
    format!("\"{}\"", &blake3::hash(value.as_bytes()).to_hex()[..32])
}

#[tokio::test]
async fn settings_and_lines() {
    let node = Node::start().await;
    assert_eq!(
        node.ask(&Method::GET, "/config/ROOM", "", "").await,
        (200, "kitchen".to_owned())
    );
    assert_eq!(
        node.ask(&Method::GET, "/config", "", "").await,
        (200, "{\"ROOM\":\"kitchen\"}".to_owned())
    );
    assert_eq!(node.ask(&Method::GET, "/config/OTHER", "", "").await.0, 404);
    assert_eq!(node.ask(&Method::GET, "/nothing", "", "").await.0, 404);
    let _serving = node.inward.serving(id(7), &caller(0));
    assert_eq!(
        node.ask(&Method::POST, "/log?level=warn", "", "one\ntwo\n")
            .await
            .0,
        204
    );
    assert_eq!(
        node.ask(&Method::POST, "/log?level=loud", "", "one")
            .await
            .0,
        400
    );
    assert_eq!(
        *node.host.lines.lock().unwrap(),
        ["7 warn one", "7 warn two"]
    );
}
