//! What a program writes to its standard output and error: lines of its function's log.
//!
//! A program that stays writes also between calls, so its lines go to the sink that the last call
//! brought, and until the first call to a small buffer. How much is taken is bounded, per minute for
//! a program that stays and per call for one that does not; what is over is read and dropped, and
//! that is said once. The last line is kept for the message when the program fails.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mote_core::invocation::InvocationId;
use mote_core::log::{Level, LogSink};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::time::Instant;

/// Longest line; what is longer is cut into several.
const LINE_BYTES_MAX: usize = 4 << 10;
/// Lines kept until there is a sink.
const EARLY_LINES_MAX: usize = 64;
/// How often what a program that stays may write is renewed.
const WINDOW: Duration = Duration::from_secs(60);

/// The log of one program.
pub(super) struct Output {
    state: Mutex<State>,
    limit: u64,
}

struct State {
    sink: Option<(Arc<dyn LogSink>, InvocationId)>,
    early: VecDeque<(Level, String)>,
    last_error: String,
    window: Instant,
    left: u64,
    told: bool,
}

impl Output {
    /// A log that takes `limit` bytes in each minute.
    pub(super) fn new(limit: u64) -> Arc<Self> {
        let state = State {
            sink: None,
            early: VecDeque::new(),
            last_error: String::new(),
            window: Instant::now(),
            left: limit,
            told: false,
        };
        Arc::new(Self {
            state: Mutex::new(state),
            limit,
        })
    }

    /// From now on lines belong to this call.
    pub(super) fn attach(&self, sink: &Arc<dyn LogSink>, call: InvocationId) {
        let mut state = self.lock();
        for (level, line) in std::mem::take(&mut state.early) {
            sink.line(call, level, &line);
        }
        state.sink = Some((Arc::clone(sink), call));
    }

    /// A line that the node adds.
    pub(super) fn say(&self, level: Level, line: &str) {
        self.lock().put(level, line);
    }

    /// The last line of standard error, to explain a failure; empty when there was none.
    pub(super) fn last_error(&self) -> String {
        self.lock().last_error.clone()
    }

    /// Reads a pipe to its end. Cancel-safe: what was read is in the log.
    pub(super) async fn read(&self, pipe: OwnedFd, level: Level) -> io::Result<()> {
        let mut pipe = pipe::Receiver::from_owned_fd(pipe)?;
        let mut buffer = Vec::with_capacity(LINE_BYTES_MAX);
        loop {
            let read = pipe.read_buf(&mut buffer).await?;
            let whole = read == 0;
            self.take_lines(&mut buffer, whole, level);
            if whole {
                return Ok(());
            }
        }
    }

    fn take_lines(&self, buffer: &mut Vec<u8>, whole: bool, level: Level) {
        let mut taken = 0;
        while let Some(length) = line_length(&buffer[taken..], whole) {
            let line = String::from_utf8_lossy(&buffer[taken..taken + length]);
            let line = line.trim_end_matches(['\n', '\r']);
            if !line.is_empty() {
                self.line(level, line);
            }
            taken += length;
        }
        buffer.drain(..taken);
    }

    fn line(&self, level: Level, line: &str) {
        let mut state = self.lock();
        let now = Instant::now();
        if now.saturating_duration_since(state.window) >= WINDOW {
            (state.window, state.left, state.told) = (now, self.limit, false);
        }
        if level == Level::Warn {
            line.clone_into(&mut state.last_error);
        }
        let cost = line.len() as u64;
        if let Some(left) = state.left.checked_sub(cost) {
            state.left = left;
            state.put(level, line);
        } else if !state.told {
            state.told = true;
            let line = format!("more than {} bytes of log; the rest is dropped", self.limit);
            state.put(Level::Error, &line);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn put(&mut self, level: Level, line: &str) {
        match &self.sink {
            Some((sink, call)) => sink.line(*call, level, line),
            None => {
                if self.early.len() == EARLY_LINES_MAX {
                    self.early.pop_front();
                }
                self.early.push_back((level, line.to_owned()));
            }
        }
    }
}

/// Bytes of the first line in the buffer, its end included; `None` when it may go on.
fn line_length(buffer: &[u8], whole: bool) -> Option<usize> {
    let head = &buffer[..buffer.len().min(LINE_BYTES_MAX)];
    match head.iter().position(|byte| *byte == b'\n') {
        Some(end) => Some(end + 1),
        None if head.len() == LINE_BYTES_MAX || (whole && !head.is_empty()) => Some(head.len()),
        None => None,
    }
}

impl std::fmt::Debug for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Output").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Lines(Mutex<Vec<String>>);

    impl LogSink for Lines {
        fn line(&self, _: InvocationId, level: Level, text: &str) {
            self.0.lock().unwrap().push(format!("{level} {text}"));
        }
    }

    const CALL: InvocationId = InvocationId {
        sequence: 1,
        node: 1,
    };

    #[tokio::test]
    async fn lines_before_the_first_call_are_kept_and_the_rest_is_bounded() {
        let output = Output::new(40);
        let (read, write) = rustix::pipe::pipe().unwrap();
        rustix::io::write(&write, b"early\nhalf").unwrap();
        drop(write);
        output.read(read, Level::Warn).await.unwrap();
        assert_eq!(output.last_error(), "half");
        let lines = Arc::new(Lines::default());
        let sink = Arc::clone(&lines) as Arc<dyn LogSink>;
        output.attach(&sink, CALL);
        for _ in 0..9 {
            output.line(Level::Info, "0123456789");
        }
        let lines = lines.0.lock().unwrap().clone();
        assert_eq!(&lines[..3], ["warn early", "warn half", "info 0123456789"]);
        assert_eq!(lines.len(), 6, "{lines:?}");
        assert!(lines[5].starts_with("error more than 40 bytes"));
    }

    #[test]
    fn lines_end_where_they_should() {
        assert_eq!(line_length(b"ab\nc", false), Some(3));
        assert_eq!(line_length(b"abc", false), None);
        assert_eq!(line_length(b"abc", true), Some(3));
        assert_eq!(line_length(b"", true), None);
        assert_eq!(line_length(&[b'x'; 5000], false), Some(LINE_BYTES_MAX));
    }
}
