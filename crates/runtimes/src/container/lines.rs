//! What a container writes, as lines of its function's log.
//!
//! A container writes whenever it likes, also between calls: its lines go where those of the last
//! call went. Lines from before the first call wait for it. Bounded are the length of a line, the
//! bytes of a minute, and what waits.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mote_core::invocation::InvocationId;
use mote_core::log::{Level, LogSink};
use tokio::time::Instant;

/// Longest line; a longer one is broken.
const LINE_BYTES_MAX: usize = 4 << 10;
/// Time in which the limit of the log may be written once.
const WINDOW: Duration = Duration::from_secs(60);
/// Most lines that wait for the first call; older ones are dropped.
const EARLY_LINES_MAX: usize = 64;
/// Lines that are remembered, to say with which a container ended.
const LAST_LINES_MAX: usize = 3;

/// The log of one container.
pub(super) struct Lines {
    limit: u64,
    state: Mutex<State>,
}

struct State {
    sink: Option<(InvocationId, Arc<dyn LogSink>)>,
    early: VecDeque<(Level, String)>,
    last: VecDeque<String>,
    window: Instant,
    left: u64,
    full: bool,
}

impl Lines {
    /// A log that takes `limit` bytes a minute.
    pub(super) fn new(limit: u64) -> Self {
        Self {
            limit,
            state: Mutex::new(State {
                sink: None,
                early: VecDeque::new(),
                last: VecDeque::new(),
                window: Instant::now(),
                left: limit,
                full: false,
            }),
        }
    }

    /// Lines that come from now on belong to this call.
    pub(super) fn belong(&self, call: InvocationId, sink: &Arc<dyn LogSink>) {
        let mut state = self.lock();
        match &mut state.sink {
            Some((last, same)) if Arc::ptr_eq(same, sink) => *last = call,
            other => *other = Some((call, Arc::clone(sink))),
        }
        let early = std::mem::take(&mut state.early);
        drop(state);
        for (level, text) in early {
            sink.line(call, level, &text);
        }
    }

    /// Takes a line.
    pub(super) fn line(&self, level: Level, text: &str) {
        let mut state = self.lock();
        if state.last.len() == LAST_LINES_MAX {
            state.last.pop_front();
        }
        state.last.push_back(text.chars().take(256).collect());
        if state.window.elapsed() >= WINDOW {
            state.window = Instant::now();
            (state.left, state.full) = (self.limit, false);
        }
        let cost = text.len() as u64 + 1;
        if let Some(left) = state.left.checked_sub(cost) {
            state.left = left;
            Self::pass(state, level, text);
        } else if !state.full {
            (state.left, state.full) = (0, true);
            let text = format!(
                "the container wrote more than {} bytes of log in a minute; the rest of it is dropped",
                self.limit
            );
            Self::pass(state, Level::Warn, &text);
        }
    }

    fn pass(mut state: std::sync::MutexGuard<'_, State>, level: Level, text: &str) {
        let Some((call, sink)) = state.sink.clone() else {
            if state.early.len() == EARLY_LINES_MAX {
                state.early.pop_front();
            }
            state.early.push_back((level, text.to_owned()));
            return;
        };
        drop(state);
        sink.line(call, level, text);
    }

    /// The last lines, for an error: empty, or `: "first"; "second"`.
    pub(super) fn last(&self) -> String {
        let last = &self.lock().last;
        let quoted: Vec<String> = last.iter().map(|line| format!("{line:?}")).collect();
        if quoted.is_empty() {
            return String::new();
        }
        format!(": {}", quoted.join("; "))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lines")
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

/// One of a container's streams, cut into lines.
#[derive(Debug)]
pub(super) struct Cutter {
    level: Level,
    line: Vec<u8>,
}

impl Cutter {
    pub(super) const fn new(level: Level) -> Self {
        Self {
            level,
            line: Vec::new(),
        }
    }

    /// Takes the next bytes of the stream, and passes on the lines that they end.
    pub(super) fn push(&mut self, mut bytes: &[u8], lines: &Lines) {
        while !bytes.is_empty() {
            let room = LINE_BYTES_MAX - self.line.len();
            let end = bytes.iter().take(room).position(|byte| *byte == b'\n');
            let taken = end.unwrap_or_else(|| room.min(bytes.len()));
            self.line.extend_from_slice(&bytes[..taken]);
            if end.is_some() || self.line.len() == LINE_BYTES_MAX {
                self.flush(lines);
            }
            bytes = &bytes[taken + usize::from(end.is_some())..];
        }
    }

    /// Passes on what had no line break.
    pub(super) fn finish(&mut self, lines: &Lines) {
        if !self.line.is_empty() {
            self.flush(lines);
        }
    }

    fn flush(&mut self, lines: &Lines) {
        let text = String::from_utf8_lossy(&self.line);
        lines.line(self.level, text.trim_end_matches('\r'));
        self.line.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Kept(Mutex<Vec<String>>);

    impl LogSink for Kept {
        fn line(&self, call: InvocationId, level: Level, text: &str) {
            let line = format!("{} {level} {text}", call.sequence);
            self.0.lock().unwrap().push(line);
        }
    }

    fn call(sequence: u64) -> InvocationId {
        InvocationId { sequence, node: 0 }
    }

    #[tokio::test]
    async fn lines_wait_for_the_first_call_and_follow_the_last() {
        let (lines, kept) = (Lines::new(1000), Arc::new(Kept::default()));
        let sink: Arc<dyn LogSink> = Arc::clone(&kept) as _;
        let mut out = Cutter::new(Level::Info);
        out.push(b"star", &lines);
        out.push(b"ted\r\nrest", &lines);
        lines.belong(call(1), &sink);
        out.push(b" of it\n\n", &lines);
        lines.belong(call(2), &sink);
        out.push(b"end", &lines);
        out.finish(&lines);
        let expected = [
            "1 info started",
            "1 info rest of it",
            "1 info ",
            "2 info end",
        ];
        assert_eq!(*kept.0.lock().unwrap(), expected);
        assert_eq!(lines.last(), r#": "rest of it"; ""; "end""#);
    }

    #[tokio::test(start_paused = true)]
    async fn a_minute_has_its_limit_and_says_so_once() {
        let (lines, kept) = (Lines::new(10), Arc::new(Kept::default()));
        let sink: Arc<dyn LogSink> = Arc::clone(&kept) as _;
        lines.belong(call(1), &sink);
        for _ in 0..5 {
            lines.line(Level::Warn, "1234");
        }
        assert_eq!(kept.0.lock().unwrap().len(), 3);
        assert!(kept.0.lock().unwrap()[2].contains("more than 10 bytes"));
        tokio::time::advance(WINDOW).await;
        lines.line(Level::Warn, "1234");
        assert_eq!(kept.0.lock().unwrap().len(), 4);
    }

    #[tokio::test]
    async fn a_line_without_an_end_is_broken() {
        let (lines, kept) = (Lines::new(1 << 20), Arc::new(Kept::default()));
        let sink: Arc<dyn LogSink> = Arc::clone(&kept) as _;
        lines.belong(call(1), &sink);
        let mut out = Cutter::new(Level::Info);
        out.push(&vec![b'x'; 2 * LINE_BYTES_MAX + 1], &lines);
        assert_eq!(kept.0.lock().unwrap().len(), 2);
        assert!(out.line.len() == 1 && out.line.capacity() <= 2 * LINE_BYTES_MAX);
    }
}
