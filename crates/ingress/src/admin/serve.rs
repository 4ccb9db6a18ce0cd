//! The accept loop: bounded connections, bounded heads, and an end.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::Admin;

/// Most header lines of a request.
const HEADERS_MAX: usize = 64;
/// Most bytes of a head, and of a connection's read buffer.
const HEAD_BYTES_MAX: usize = 32 << 10;
/// A listener that cannot accept (no file descriptors) tries again after this long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What a client reads when every connection is taken: it is told, not left waiting.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\n\
    content-type: application/problem+json\r\nretry-after: 1\r\nconnection: close\r\ncontent-length: 135\r\n\r\n\
    {\"type\":\"about:blank\",\"title\":\"Node overloaded\",\"status\":503,\"kind\":\"overloaded\",\"detail\":\"every admin connection is taken, try later\"}";

/// Accepts until shutdown, then waits for connections and changes within the grace.
pub(super) async fn run(listener: TcpListener, router: Router, admin: &Admin) {
    let connections = Arc::new(Semaphore::new(admin.config.connections_max as usize));
    let closing = admin.shutdown.clone();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = closing.cancelled() => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "the admin door could not accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(permit) = Arc::clone(&connections).try_acquire_owned() else {
            tracing::warn!("the admin door turned a connection away: all are taken");
            // One non-blocking write: a client that does not read cannot hold up the loop.
            let _ = stream.try_write(FULL);
            continue;
        };
        let connection = connection(
            stream,
            router.clone(),
            admin.config.header_timeout,
            closing.clone(),
        );
        admin.tasks.spawn(async move {
            connection.await;
            drop(permit);
        });
    }
    drop(listener);
    admin.tasks.close();
    if tokio::time::timeout(admin.config.grace, admin.tasks.wait())
        .await
        .is_err()
    {
        tracing::warn!(
            left = admin.tasks.len(),
            "the admin door left requests behind"
        );
    }
}

async fn connection(
    stream: TcpStream,
    router: Router,
    header_timeout: Duration,
    closing: CancellationToken,
) {
    let _ = stream.set_nodelay(true);
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        .max_headers(HEADERS_MAX)
        .max_header_size(HEAD_BYTES_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    tokio::pin!(served);
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        () = closing.cancelled() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "an admin connection ended early");
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_prepared_answer_is_whole() {
        let text = std::str::from_utf8(super::FULL).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(
            head.contains(&format!("content-length: {}", body.len())),
            "{}",
            body.len()
        );
        let problem: mote_api::problem::Problem = serde_json::from_str(body).unwrap();
        assert_eq!(problem.status, 503);
    }
}
