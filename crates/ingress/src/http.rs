//! The HTTP door: HTTP/1.1 and HTTP/2 without TLS, for functions.
//!
//! What bounds it: connections, header bytes and time, body bytes and time, the bytes of bodies that
//! are being collected over all connections, and how long a client may leave a reply unread. A
//! client that reaches a bound is answered or cut off, and counted.

use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::TokioExecutor;
use hyper_util::server::conn::auto::Builder;
use mote_core::error::Error;
use mote_engine::invoker::Invoker;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::io::{Activity, Guarded, Patience};
use self::request::Door;
use crate::workers::Workers;

mod events;
mod io;
mod reply;
mod request;

/// The door's limits.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Connections at once; one more is closed.
    pub connections_max: u32,
    /// How long a client may take for the head of a request.
    pub header_timeout: Duration,
    /// How long a client may stay idle between two requests.
    pub idle_timeout: Duration,
    /// How long a client may take for a body, and may leave a reply unread.
    pub body_timeout: Duration,
    /// Bytes of request bodies that are collected or in calls at once, over all connections.
    pub collecting_bytes_max: u32,
}

/// Most bytes of a request's head.
const HEAD_BYTES_MAX: usize = 32 << 10;
/// Most streams of one HTTP/2 connection.
const STREAMS_MAX: u32 = 128;

/// Counts of the door, for the metrics page.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections accepted.
    pub accepted: AtomicU64,
    /// Connections closed at once because there were too many.
    pub refused: AtomicU64,
    /// Connections open now.
    pub open: AtomicU64,
}

/// Serves until shutdown, then lets requests under way finish.
pub async fn run(
    listener: TcpListener,
    config: Config,
    counters: Arc<Counters>,
    invoker: Invoker,
    workers: Workers,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let door = Arc::new(Door::new(config, invoker, shutdown.clone()));
    let connections = Arc::new(Semaphore::new(config.connections_max as usize));
    let tasks = TaskTracker::new();
    while let Some(accepted) = shutdown.run_until_cancelled(listener.accept()).await {
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) if is_of_one_connection(&error) => continue,
            Err(error) => {
                // Out of file descriptors, most likely: others have to end first.
                tracing::warn!(%error, "could not accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        counters.accepted.fetch_add(1, Ordering::Relaxed);
        let Ok(permit) = Arc::clone(&connections).try_acquire_owned() else {
            counters.refused.fetch_add(1, Ordering::Relaxed);
            continue;
        };
        // From here on the stream is its worker's, and has to wait for its data there.
        let stream = match stream.into_std() {
            Ok(stream) => stream,
            Err(error) => {
                tracing::debug!(%peer, %error, "a connection was lost on the way to its worker");
                continue;
            }
        };
        let (door, shutdown, open) = (Arc::clone(&door), shutdown.clone(), Open::new(&counters));
        let seat = workers.least_busy();
        let worker = seat.handle().clone();
        let connection = async move {
            serve(stream, peer, door, shutdown).await;
            drop((permit, open, seat));
        };
        tasks.spawn_on(connection, &worker);
    }
    tasks.close();
    tasks.wait().await;
    Ok(())
}

async fn serve(
    stream: std::net::TcpStream,
    peer: SocketAddr,
    door: Arc<Door>,
    shutdown: CancellationToken,
) {
    let stream = match TcpStream::from_std(stream) {
        Ok(stream) => stream,
        Err(error) => {
            tracing::warn!(%peer, %error, "a connection cannot be waited for");
            return;
        }
    };
    // Replies are written in one piece; waiting for more only delays them.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%peer, %error, "could not turn off delays");
    }
    let config = door.config;
    let patience = Patience {
        idle: config.idle_timeout,
        head: config.header_timeout,
        unread: config.body_timeout,
    };
    let activity = Activity::new();
    let guarded = Guarded::new(stream, patience, Arc::clone(&activity));
    // Every request counts a reference; connections of other threads should not wait for that.
    let door = Arc::new(door);
    let service = service_fn(move |request| {
        let door = Arc::clone(&door);
        let under_way = activity.request();
        async move { Ok::<_, Infallible>(door.handle(request, under_way).await) }
    });
    let mut builder = Builder::new(TokioExecutor::new());
    // Time is kept by the connection, for less than hyper's own timers cost.
    builder
        .http1()
        .max_buf_size(HEAD_BYTES_MAX)
        .header_read_timeout(None)
        .pipeline_flush(true);
    builder
        .http2()
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(u32::try_from(HEAD_BYTES_MAX).unwrap_or(u32::MAX));
    let connection = builder.serve_connection(guarded, service);
    let mut connection = std::pin::pin!(connection);
    // Looked at whenever the connection is: a token of its own has locks that no other thread takes.
    let shutdown = shutdown.child_token();
    let ended = tokio::select! {
        biased;
        ended = connection.as_mut() => ended,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "a connection ended early");
    }
}

/// Errors of `accept` that tell of the connection and not of the listener (accept(2)).
fn is_of_one_connection(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted
    )
}

/// Counts an open connection until it is dropped.
struct Open(Arc<Counters>);

impl Open {
    fn new(counters: &Arc<Counters>) -> Self {
        counters.open.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(counters))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl fmt::Debug for Open {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Open")
    }
}
