//! Standard output and error of guests, as lines of the function's log.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use mote_core::invocation::InvocationId;
use mote_core::log::{Level, LogSink};
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};

/// Longest line; a longer one is broken.
const LINE_BYTES_MAX: usize = 4 << 10;

/// The log of one call: passes lines on until the call's limit, then says so once.
pub(super) struct CallLog {
    id: InvocationId,
    sink: Arc<dyn LogSink>,
    left: AtomicU64,
    limit: u64,
}

impl CallLog {
    pub(super) fn new(id: InvocationId, sink: Arc<dyn LogSink>, limit: u64) -> Self {
        Self {
            id,
            sink,
            left: AtomicU64::new(limit),
            limit,
        }
    }

    /// Writes one line of the guest, if there is room for it.
    pub(super) fn line(&self, level: Level, text: &str) {
        let cost = text.len() as u64 + 1;
        match self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(cost)
            }) {
            Ok(_) => self.sink.line(self.id, level, text),
            Err(_) if self.left.swap(0, Ordering::Relaxed) > 0 => {
                let text = format!(
                    "the call wrote more than its {} bytes of log; the rest is dropped",
                    self.limit
                );
                self.sink.line(self.id, Level::Warn, &text);
            }
            Err(_) => {}
        }
    }
}

/// A stream of bytes that becomes lines.
#[derive(Clone)]
pub(super) struct LogStream {
    log: Arc<CallLog>,
    level: Level,
    line: Arc<Mutex<Vec<u8>>>,
}

impl LogStream {
    pub(super) fn new(log: &Arc<CallLog>, level: Level) -> Self {
        Self {
            log: Arc::clone(log),
            level,
            line: Arc::default(),
        }
    }

    fn write(&self, mut bytes: &[u8]) {
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            line.extend_from_slice(&bytes[..end]);
            self.flush_line(&mut line);
            bytes = &bytes[end + 1..];
        }
        for chunk in bytes.chunks(LINE_BYTES_MAX) {
            line.extend_from_slice(chunk);
            if line.len() >= LINE_BYTES_MAX {
                self.flush_line(&mut line);
            }
        }
    }

    fn flush_line(&self, line: &mut Vec<u8>) {
        self.log.line(
            self.level,
            String::from_utf8_lossy(line).trim_end_matches('\r'),
        );
        line.clear();
    }
}

impl Drop for LogStream {
    fn drop(&mut self) {
        // The last clone writes what had no line break.
        if let Some(line) = Arc::get_mut(&mut self.line) {
            let mut line = std::mem::take(line.get_mut().unwrap_or_else(PoisonError::into_inner));
            if !line.is_empty() {
                self.flush_line(&mut line);
            }
        }
    }
}

impl AsyncWrite for LogStream {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.write(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl IsTerminal for LogStream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for LogStream {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }
}
