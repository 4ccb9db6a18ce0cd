//! Bytes both ways between two sockets, each way as fast as its slower side.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};

/// Bytes read at once; each tunnel has two such buffers.
const CHUNK_BYTES: usize = 16 << 10;

/// Copies until both sides have ended, one has failed, or nothing has moved for `idle`.
pub(super) async fn run(one: &mut TcpStream, other: &mut TcpStream, idle: Duration) {
    let moved = AtomicBool::new(false);
    let (mut one_read, mut one_write) = one.split();
    let (mut other_read, mut other_write) = other.split();
    let copies = async {
        tokio::try_join!(
            copy(&mut one_read, &mut other_write, &moved),
            copy(&mut other_read, &mut one_write, &moved),
        )
    };
    let idle = async {
        loop {
            sleep_until(Instant::now() + idle).await;
            if !moved.swap(false, Ordering::Relaxed) {
                return;
            }
        }
    };
    tokio::select! {
        // Which side failed, both sides see by their sockets.
        _ = copies => {}
        () = idle => {}
    }
}

/// One direction; passes the end of the stream on, and leaves the other direction open.
async fn copy(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    moved: &AtomicBool,
) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let read = from.read(&mut chunk).await?;
        moved.store(true, Ordering::Relaxed);
        if read == 0 {
            return to.shutdown().await;
        }
        let mut rest = &chunk[..read];
        while !rest.is_empty() {
            let written = to.write(rest).await?;
            moved.store(true, Ordering::Relaxed);
            rest = &rest[written..];
        }
    }
}
