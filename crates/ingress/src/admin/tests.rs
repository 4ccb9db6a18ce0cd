//! The admin API over real sockets, with the client that the command line uses and without it.

mod data;
mod fake;

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use http::uri::PathAndQuery;
use mote_api::client::node::Node;
use mote_api::client::{Client, LogQuery};
use mote_api::problem::Problem;
use mote_api::spec::FunctionSpec;
use mote_api::wire::Deploy;
use mote_core::body::Body;
use mote_core::error::ErrorKind;
use mote_core::invocation::{Invocation, Meta, Origin};
use mote_core::log::Level;
use mote_core::name::FunctionName;
use mote_engine::control::Control;
use mote_engine::invoker::Invoker;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{AdminConfig, openapi, run};

const TOKEN: &str = "0123456789abcdef";

struct Running {
    address: String,
    client: Client,
    control: Control,
    invoker: Invoker,
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), mote_core::error::Error>>,
}

async fn start_with(change: impl FnOnce(&mut AdminConfig)) -> Running {
    let (control, invoker) = fake::node();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut config = AdminConfig::new(TOKEN.to_owned());
    config.doors.http = Some("http://0.0.0.0:8000".to_owned());
    change(&mut config);
    let shutdown = CancellationToken::new();
    let data = data::Memory::data();
    let task = tokio::spawn(run(
        listener,
        control.clone(),
        data,
        config,
        shutdown.clone(),
    ));
    let client = Client::new(Node::remote(&address, Some(TOKEN.to_owned())).unwrap());
    Running {
        address,
        client,
        control,
        invoker,
        shutdown,
        task,
    }
}

async fn start() -> Running {
    start_with(|_| ()).await
}

fn name() -> FunctionName {
    "light.home".parse().unwrap()
}

fn deploy_of(code: &[u8]) -> Deploy {
    Deploy {
        spec: FunctionSpec::default(),
        artifact: fake::digest(code).to_string(),
    }
}

impl Running {
    async fn upload(&self, code: &'static [u8]) {
        let digest = fake::digest(code);
        let artifact = self
            .client
            .put_artifact(&digest, Bytes::from_static(code), |_| ())
            .await
            .unwrap();
        assert_eq!(artifact.bytes, code.len() as u64);
    }

    async fn deployed(&self) {
        self.upload(b"code").await;
        self.client
            .deploy(&name(), &deploy_of(b"code"))
            .await
            .unwrap();
    }

    /// Calls the function, which logs what follows the first word.
    async fn call(&self, body: &'static str) {
        let entry = self.invoker.resolve(name().full()).unwrap();
        let invocation = Invocation {
            id: self.invoker.next_id(),
            function: entry.id,
            meta: Meta {
                method: Method::POST,
                target: PathAndQuery::from_static("/light.home"),
                prefix: 11,
                headers: http::HeaderMap::new(),
            },
            body: Body::from(body),
            budget: Duration::from_secs(5),
            origin: Origin::Http,
            hops: 0,
        };
        self.invoker.invoke(invocation).await.unwrap();
    }

    /// Sends bytes as they are and reads the answer to the end of the connection.
    async fn raw(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    async fn ask(
        &self,
        method: &str,
        path: &str,
        token: Option<&str>,
        body: &str,
    ) -> (u16, String, Option<Problem>) {
        let authorization = token.map_or(String::new(), |token| {
            format!("authorization: Bearer {token}\r\n")
        });
        let answer = self
            .raw(&format!(
                "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{authorization}content-length: {}\r\n\r\n{body}",
                body.len()
            ))
            .await;
        let (head, body) = answer.split_once("\r\n\r\n").expect(&answer);
        let status = head[9..12].parse().unwrap();
        (status, head.to_lowercase(), serde_json::from_str(body).ok())
    }
}

#[tokio::test]
async fn a_function_lives_through_its_versions() {
    let node = start().await;
    let missing = node
        .client
        .deploy(&name(), &deploy_of(b"code"))
        .await
        .unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);

    node.deployed().await;
    node.upload(b"more").await;
    let second = node
        .client
        .deploy(&name(), &deploy_of(b"more"))
        .await
        .unwrap();
    assert_eq!((second.version, second.versions.len()), (2, 2));
    assert_eq!(second.name, "light.home");
    assert_eq!(second.shape, "fake");

    node.upload(b"bad").await;
    let refused = node
        .client
        .deploy(&name(), &deploy_of(b"bad"))
        .await
        .unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::BadRequest);
    assert_eq!(node.client.function(&name()).await.unwrap().version, 2);

    let first = node.client.rollback(&name(), None).await.unwrap();
    assert_eq!(first.version, 1);
    assert!(first.versions[0].live);
    assert_eq!(
        node.client
            .rollback(&name(), Some(2))
            .await
            .unwrap()
            .version,
        2
    );
    let never = node.client.rollback(&name(), Some(9)).await.unwrap_err();
    assert_eq!(never.kind(), ErrorKind::NotFound);

    let list = node.client.functions().await.unwrap();
    assert_eq!(list.len(), 1);
    node.client.remove(&name()).await.unwrap();
    let gone = node.client.function(&name()).await.unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::NotFound);
    assert!(gone.hint().is_some());
}

#[tokio::test]
async fn the_node_tells_how_it_is() {
    let node = start().await;
    node.deployed().await;
    node.call("info x").await;
    let status = node.client.status().await.unwrap();
    assert_eq!((status.functions, status.calls), (1, 1));
    assert_eq!(status.node, "00000007");
    assert_eq!(status.doors.http.as_deref(), Some("http://0.0.0.0:8000"));
    let metrics = node.client.metrics().await.unwrap();
    assert!(metrics.ends_with("# EOF\n"), "{metrics}");
    assert_eq!(node.client.wipe().await.unwrap(), 1);
    assert!(node.client.functions().await.unwrap().is_empty());
}

#[tokio::test]
async fn only_health_is_open() {
    let node = start().await;
    for (path, token, expect) in [
        ("/healthz", None, 200),
        ("/readyz", None, 200),
        ("/v1/status", None, 401),
        ("/v1/status", Some("0123456789abcdeg"), 401),
        ("/v1/status", Some(TOKEN), 200),
        ("/metrics", None, 401),
        ("/openapi.json", None, 401),
        ("/openapi.json", Some(TOKEN), 200),
        ("/nothing", None, 401),
        ("/nothing", Some(TOKEN), 404),
    ] {
        let (status, head, problem) = node.ask("GET", path, token, "").await;
        assert_eq!(status, expect, "{path} {token:?}");
        if status == 401 {
            assert!(head.contains("www-authenticate: bearer"), "{head}");
            assert_eq!(problem.unwrap().kind, "unauthorized");
        }
    }
    node.control.set_draining();
    assert_eq!(node.ask("GET", "/readyz", None, "").await.0, 503);
}

#[tokio::test]
async fn every_error_is_a_problem() {
    let node = start().await;
    node.deployed().await;
    let function = "/v1/functions/light.home";
    let wrong_digest = format!("/v1/artifacts/{}", "ab".repeat(32));
    for (method, path, body, expect, detail) in [
        ("PATCH", function, "", 405, "does not take that method"),
        (
            "GET",
            "/v1/nothing",
            "",
            404,
            "there is nothing at /v1/nothing",
        ),
        (
            "GET",
            "/v1/functions/Light",
            "",
            400,
            "function name `Light` is not valid",
        ),
        ("GET", "/v1/functions/%ff", "", 400, ""),
        ("PUT", function, "{", 400, "the body is not valid"),
        (
            "PUT",
            function,
            r#"{"artifact":"x"}"#,
            400,
            "artifact: a digest is",
        ),
        (
            "PUT",
            function,
            r#"{"artifact":"x","spec":{"memroy":"1MiB"}}"#,
            400,
            "unknown field `memroy`",
        ),
        (
            "PUT",
            wrong_digest.as_str(),
            "code",
            400,
            "the bytes have digest",
        ),
        ("PUT", "/v1/artifacts/x", "code", 400, "a digest is 64"),
        (
            "POST",
            "/v1/wipe",
            r#"{"confirm":"yes"}"#,
            400,
            "a wipe was not confirmed",
        ),
        ("POST", "/v1/wipe", "", 400, "missing field `confirm`"),
        (
            "GET",
            "/v1/functions/light.home/logs?level=loud",
            "",
            400,
            "level `loud` is not known",
        ),
        (
            "GET",
            "/v1/functions/light.home/logs?tial=1",
            "",
            400,
            "the query is not valid",
        ),
        ("GET", "/v1/functions/dark/logs", "", 404, "not deployed"),
    ] {
        let (status, head, problem) = node.ask(method, path, Some(TOKEN), body).await;
        assert_eq!(status, expect, "{method} {path}");
        assert!(
            head.contains("content-type: application/problem+json"),
            "{head}"
        );
        let problem = problem.expect(path);
        assert_eq!(problem.status, expect);
        assert!(
            problem.detail.contains(detail),
            "{method} {path}: {}",
            problem.detail
        );
        if status == 405 {
            let allow = head
                .lines()
                .find(|line| line.starts_with("allow:"))
                .expect(&head);
            assert!(allow.contains("put") && allow.contains("delete"), "{allow}");
        }
    }
    assert_eq!(
        node.client.functions().await.unwrap().len(),
        1,
        "nothing was wiped"
    );
}

#[tokio::test]
async fn bodies_are_bounded() {
    let node = start_with(|config| config.artifact_bytes_max = 100).await;
    let path = format!("/v1/artifacts/{}", "ab".repeat(32));
    let (status, _, problem) = node.ask("PUT", &path, Some(TOKEN), &"x".repeat(101)).await;
    assert_eq!((status, problem.unwrap().kind.as_str()), (413, "too_large"));
    // Not announced: refused when it gets there.
    let chunk = "x".repeat(101);
    let answer = node
        .raw(&format!(
            "PUT {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {TOKEN}\r\n\
             transfer-encoding: chunked\r\n\r\n65\r\n{chunk}\r\n0\r\n\r\n"
        ))
        .await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
}

#[tokio::test]
async fn slow_clients_and_crowds_are_shown_the_door() {
    let node = start_with(|config| {
        config.connections_max = 1;
        config.header_timeout = Duration::from_millis(200);
    })
    .await;
    // Holds the only connection, without ever finishing its head.
    let mut slow = TcpStream::connect(&node.address).await.unwrap();
    slow.write_all(b"GET /healthz HT").await.unwrap();
    let mut byte = [0; 256];
    // The second is turned away with an answer while the first is held.
    let answer = node.raw("").await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    // The first ends by the time limit, not by itself.
    while slow.read(&mut byte).await.unwrap() > 0 {}
    // Its place is free again as soon as its task has ended.
    let mut freed = false;
    for _ in 0..100 {
        let answer = node
            .raw("GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            .await;
        freed = answer.starts_with("HTTP/1.1 200");
        if freed {
            break;
        }
        tokio::task::yield_now().await;
    }
    assert!(freed);
}

#[tokio::test]
async fn logs_are_cut_filtered_and_followed() {
    let node = start().await;
    node.deployed().await;
    for body in ["info one", "warn two", "info three"] {
        node.call(body).await;
    }
    let query = LogQuery {
        follow: false,
        tail: Some(2),
        level: None,
    };
    let mut logs = node.client.logs(&name(), query).await.unwrap();
    let mut texts = Vec::new();
    while let Some(line) = logs.next().await.unwrap() {
        texts.push((line.level, line.text));
    }
    assert_eq!(
        texts,
        [
            ("warn".into(), "two".into()),
            ("info".into(), "three".into())
        ]
    );

    let query = LogQuery {
        follow: true,
        tail: None,
        level: Some(Level::Warn),
    };
    let mut logs = node.client.logs(&name(), query).await.unwrap();
    assert_eq!(logs.next().await.unwrap().unwrap().text, "two");
    node.call("info quiet").await;
    node.call("warn four").await;
    let line = logs.next().await.unwrap().unwrap();
    assert_eq!(line.text, "four");
    assert_eq!(line.call.len(), 24);

    // A follower does not hold up the end.
    node.shutdown.cancel();
    assert_eq!(logs.next().await.unwrap(), None);
    node.task.await.unwrap().unwrap();
}

#[tokio::test]
async fn the_description_has_every_route_and_its_security() {
    let node = start().await;
    let document = serde_json::to_value(openapi()).unwrap();
    assert_eq!(document["openapi"], "3.1.0");
    let paths = document["paths"].as_object().unwrap();
    let mut routes = Vec::new();
    for (path, item) in paths {
        for (method, operation) in item.as_object().unwrap() {
            let open = ["/healthz", "/readyz"].contains(&path.as_str());
            assert_eq!(
                operation.get("security").is_some(),
                !open,
                "{method} {path}"
            );
            let path = path.replace(['{', '}'], "");
            routes.push((method.to_uppercase(), path));
        }
    }
    assert_eq!(routes.len(), 24, "{routes:?}");
    for (method, path) in routes {
        let (_, _, problem) = node.ask(&method, &path, Some(TOKEN), "").await;
        let detail = problem.map(|problem| problem.detail).unwrap_or_default();
        assert!(
            !detail.starts_with("there is nothing at"),
            "{method} {path}"
        );
        assert!(
            !detail.contains("does not take that method"),
            "{method} {path}"
        );
    }
    for schema in [
        "FunctionSpec",
        "FunctionInfo",
        "Problem",
        "Status",
        "Deploy",
    ] {
        assert!(
            document["components"]["schemas"][schema].is_object(),
            "{schema}"
        );
    }
}
