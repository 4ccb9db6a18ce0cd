//! What a worker writes while it serves a call, as lines of that call.

use std::io;
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

    /// Reads what is there, up to a chunk, after [`readable`](Self::readable) has come back.
    pub(super) fn read(&mut self, log: &mut CallLog) {
        let mut chunk = [0; CHUNK_BYTES];
        let Some(pipe) = &self.pipe else { return };
        let read = pipe.try_read(&mut chunk);
        self.take(read, &chunk, log);
    }

    /// Reads the rest of a call that has ended.
    ///
    /// It asks the pipe itself: its readiness is told by the thread that the worker was forked on, and the answer
    /// may have been read on another one before that thread comes to it.
    pub(super) fn finish(&mut self, log: &mut CallLog) {
        let mut chunk = [0; CHUNK_BYTES];
        for _ in 0..CHUNKS_LEFT_MAX {
            let Some(pipe) = &self.pipe else { break };
            let read = rustix::io::read(pipe, &mut chunk).map_err(io::Error::from);
            if !self.take(read, &chunk, log) {
                break;
            }
        }
        if !self.line.is_empty() {
            self.flush(log);
        }
    }

    /// Passes on what was read. Returns whether there may be more.
    fn take(&mut self, read: io::Result<usize>, chunk: &[u8], log: &mut CallLog) -> bool {
        match read {
            Ok(0) => self.pipe = None,
            Ok(length) => {
                self.split(&chunk[..length], log);
                return true;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => self.pipe = None,
        }
        false
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

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::net::unix::pipe;

    use super::*;

    #[derive(Default)]
    struct Lines(Mutex<Vec<String>>);

    impl LogSink for Lines {
        fn line(&self, _: InvocationId, _: Level, text: &str) {
            self.0.lock().unwrap().push(text.to_owned());
        }
    }

    #[tokio::test]
    async fn what_was_written_before_the_answer_is_read_though_nobody_told() {
        let (theirs, ours) = pipe::pipe().unwrap();
        let lines = Arc::new(Lines::default());
        let sink = Arc::clone(&lines) as Arc<dyn LogSink>;
        let id = InvocationId {
            sequence: 1,
            node: 1,
        };
        let mut log = CallLog::new(id, sink, 1000);
        let mut output = Output::new(ours, Level::Info);
        rustix::io::write(&theirs, b"one\ntwo").unwrap();
        // No await: the runtime has not looked at the pipe yet.
        output.finish(&mut log);
        assert_eq!(*lines.0.lock().unwrap(), ["one", "two"]);
    }
}
