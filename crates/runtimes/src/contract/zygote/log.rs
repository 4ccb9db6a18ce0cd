//! What a worker writes while it serves a call, as lines of that call.

use std::sync::Arc;

use mote_core::invocation::InvocationId;
use mote_core::log::{Level, LogSink};
use tokio::net::unix::pipe::Receiver;

/// Longest line; a longer one is broken.
const LINE_BYTES_MAX: usize = 4 << 10;
/// Bytes read at once.
const CHUNK_BYTES: usize = 8 << 10;
/// Most chunks that are read after a call has answered: what fits into a pipe.
const CHUNKS_LEFT_MAX: usize = 16;

/// The log of one call: passes lines on until the call's limit, then says so once.
pub(super) struct CallLog {
    id: InvocationId,
    sink: Arc<dyn LogSink>,
    left: u64,
    limit: u64,
    full: bool,
}

/// The reading end of a worker's standard output or error.
#[derive(Debug)]
pub(super) struct Output {
    pipe: Option<Receiver>,
    level: Level,
    line: Vec<u8>,
}

impl CallLog {
    pub(super) fn new(id: InvocationId, sink: Arc<dyn LogSink>, limit: u64) -> Self {
        Self {
            id,
            sink,
            left: limit,
            limit,
            full: false,
        }
    }

    fn line(&mut self, level: Level, text: &str) {
        match self.left.checked_sub(text.len() as u64 + 1) {
            Some(left) if !self.full => {
                self.left = left;
                self.sink.line(self.id, level, text);
            }
            _ if !self.full => {
                self.full = true;
                let text = format!(
                    "the call wrote more than its {} bytes of log; the rest is dropped",
                    self.limit
                );
                self.sink.line(self.id, Level::Warn, &text);
            }
            _ => {}
        }
    }
}

impl Output {
    pub(super) fn new(pipe: Receiver, level: Level) -> Self {
        Self {
            pipe: Some(pipe),
            level,
            line: Vec::new(),
        }
    }

    /// Waits until there is something to read; for ever when there never will be. Cancel-safe.
    pub(super) async fn readable(&self) {
        match &self.pipe {
            Some(pipe) if pipe.readable().await.is_ok() => {}
            _ => std::future::pending().await,
        }
    }

    /// Reads what is there, up to a chunk. Returns whether there may be more.
    pub(super) fn read(&mut self, log: &mut CallLog) -> bool {
        let mut chunk = [0; CHUNK_BYTES];
        let Some(pipe) = &self.pipe else { return false };
        match pipe.try_read(&mut chunk) {
            Ok(0) => self.pipe = None,
            Ok(length) => {
                self.split(&chunk[..length], log);
                return true;
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => self.pipe = None,
        }
        false
    }

    /// Reads the rest of a call that has ended.
    pub(super) fn finish(&mut self, log: &mut CallLog) {
        for _ in 0..CHUNKS_LEFT_MAX {
            if !self.read(log) {
                break;
            }
        }
        if !self.line.is_empty() {
            self.flush(log);
        }
    }

    fn split(&mut self, mut bytes: &[u8], log: &mut CallLog) {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            self.extend(&bytes[..end], log);
            self.flush(log);
            bytes = &bytes[end + 1..];
        }
        self.extend(bytes, log);
    }

    fn extend(&mut self, bytes: &[u8], log: &mut CallLog) {
        for chunk in bytes.chunks(LINE_BYTES_MAX) {
            if self.line.len() + chunk.len() > LINE_BYTES_MAX {
                self.flush(log);
            }
            self.line.extend_from_slice(chunk);
        }
    }

    fn flush(&mut self, log: &mut CallLog) {
        log.line(
            self.level,
            String::from_utf8_lossy(&self.line).trim_end_matches('\r'),
        );
        self.line.clear();
    }
}
