//! Taking the connections of a program, not more of them at once than a bound.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Pause after an accept that failed.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves each connection in a task of its own; more than `connections` at once wait. Never ends; dropping it closes
/// the connections.
pub(super) async fn run<F>(
    listener: TcpListener,
    connections: usize,
    serve: impl Fn(TcpStream) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let room = Arc::new(Semaphore::new(connections));
    let mut open = JoinSet::new();
    while let Ok(seat) = Arc::clone(&room).acquire_owned().await {
        while open.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, _)) => {
                // Only a matter of speed.
                let _ = stream.set_nodelay(true);
                let served = serve(stream);
                open.spawn(async move {
                    served.await;
                    drop(seat);
                });
            }
            // The node is out of descriptors; giving way is all that helps.
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}
