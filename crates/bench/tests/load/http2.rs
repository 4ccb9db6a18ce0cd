//! HTTP/2 with prior knowledge against hyper's server.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use mote_bench::load::{self, Options};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use crate::servers::{Baseline, LOCAL, all_ok, options, runtime};

/// Echoes bodies, or answers the paths of [`answer`], until the test ends.
struct Echo {
    _runtime: Runtime,
    target: String,
}

impl Echo {
    /// With as many streams as the server allows, and the requests after which it closes a connection.
    fn start(streams: u32, requests_max: usize) -> Self {
        let runtime = runtime();
        let listener = runtime.block_on(TcpListener::bind(LOCAL)).unwrap();
        let target = format!("http://{}/", listener.local_addr().unwrap());
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let left = std::sync::atomic::AtomicUsize::new(requests_max);
                    let (close, closed) = tokio::sync::oneshot::channel::<()>();
                    let close = std::sync::Mutex::new(Some(close));
                    let service = service_fn(|request| {
                        if left.fetch_sub(1, std::sync::atomic::Ordering::Relaxed) == 1 {
                            drop(close.lock().unwrap().take());
                        }
                        answer(request)
                    });
                    let connection = http2::Builder::new(TokioExecutor::new())
                        .max_concurrent_streams(streams)
                        .serve_connection(TokioIo::new(stream), service);
                    let mut connection = std::pin::pin!(connection);
                    tokio::select! {
                        _ended = connection.as_mut() => return,
                        _last = closed => connection.as_mut().graceful_shutdown(),
                    }
                    let _ended = connection.await;
                });
            }
        });
        Self {
            _runtime: runtime,
            target,
        }
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    match request.uri().path() {
        "/never" => std::future::pending().await,
        "/missing" => {
            let mut response = Response::new(Full::default());
            *response.status_mut() = StatusCode::NOT_FOUND;
            Ok(response)
        }
        "/length" => {
            let length = request.headers().get("content-length");
            let length = length.map(|length| length.to_str().unwrap().to_owned());
            Ok(Response::new(length.unwrap_or_default().into()))
        }
        _ => {
            let body = request.into_body().collect().await.unwrap().to_bytes();
            Ok(Response::new(body.into()))
        }
    }
}

fn echo(target: &str, clients: usize, requests: u64) -> Options {
    let mut options = options(target, clients, requests);
    options.http2 = true;
    options.body = Some("hello, world".into());
    options
}

#[test]
fn counts_are_exact_over_several_streams() {
    let server = Echo::start(200, usize::MAX);
    for (clients, streams, threads, rate) in [
        (1, 1, 1, None),
        (3, 8, 2, None),
        (2, 100, 1, None),
        (3, 8, 2, Some(5000.0)),
    ] {
        let mut options = echo(&server.target, clients, 20);
        options.streams = streams;
        options.threads = threads;
        options.rate = rate;
        let report = load::run(&options).unwrap();
        all_ok(&report, (clients * streams * 20) as u64);
        assert_eq!(
            (report.reconnects, report.streams),
            (0, streams),
            "{report}"
        );
        assert!(report.generator.cpu_us_per_request > 0.0);
    }
}

#[test]
fn a_server_that_allows_few_streams_gets_them_one_after_the_other() {
    let server = Echo::start(2, usize::MAX);
    let mut options = echo(&server.target, 1, 10);
    options.streams = 16;
    all_ok(&load::run(&options).unwrap(), 160);
}

#[test]
fn large_bodies_go_both_ways_and_along_a_chain() {
    let server = Echo::start(200, usize::MAX);
    let mut options = echo(&server.target, 2, 2);
    options.body = Some("0123456789".repeat(200_000));
    options.streams = 4;
    options.chain = 3;
    options.expect_body = None;
    options.expect_echo = true;
    all_ok(&load::run(&options).unwrap(), 16);
}

#[test]
fn outcomes_are_told_apart() {
    let server = Echo::start(200, usize::MAX);
    let missing = echo(&format!("{}missing", server.target), 2, 3);
    let report = load::run(&missing).unwrap();
    assert_eq!(report.failed.status.get("404"), Some(&6), "{report}");
    let mut length = echo(&format!("{}length", server.target), 1, 1);
    length.expect_body = Some("12".into());
    all_ok(&load::run(&length).unwrap(), 1);
    let mut never = echo(&format!("{}never", server.target), 2, 2);
    never.streams = 3;
    never.timeout = Duration::from_millis(50);
    let report = load::run(&never).unwrap();
    assert_eq!(
        (report.failed.timeout, report.reconnects),
        (12, 0),
        "{report}"
    );
}

#[test]
fn a_connection_that_ends_is_replaced() {
    let server = Echo::start(200, 10);
    let mut options = echo(&server.target, 1, 35);
    let report = load::run(&options).unwrap();
    assert_eq!(report.ok + report.failed.transport, 35, "{report}");
    assert!(report.ok >= 30 && report.reconnects >= 3, "{report}");
    // Several streams: who comes too late fails, and nobody waits for good.
    options.streams = 5;
    let report = load::run(&options).unwrap();
    assert_eq!(report.ok + report.failed.transport, 175, "{report}");
}

#[test]
fn a_server_without_http2_fails_and_nobody_there_is_said() {
    let server = Baseline::http();
    let report = load::run(&echo(&server.target, 2, 3)).unwrap();
    assert_eq!((report.ok, report.failed.transport), (0, 6), "{report}");
    let free = std::net::TcpListener::bind(LOCAL)
        .unwrap()
        .local_addr()
        .unwrap();
    let error = load::run(&echo(&format!("http://{free}/"), 1, 1)).unwrap_err();
    assert!(
        format!("{error:#}").contains("is the server running?"),
        "{error:#}"
    );
}

#[test]
fn several_targets_have_connections_of_their_own() {
    let servers = [Echo::start(200, usize::MAX), Echo::start(200, usize::MAX)];
    let mut options = echo("", 2, 10);
    options.targets = servers.iter().map(|server| server.target.clone()).collect();
    options.streams = 3;
    let report = load::run(&options).unwrap();
    all_ok(&report, 60);
    let sent: Vec<_> = report.targets.iter().map(|part| part.sent).collect();
    assert_eq!(sent, [30, 30], "{report}");
}
