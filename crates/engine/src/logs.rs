//! The log of a function: its last lines, in memory, and a live feed.
//!
//! Bounded by lines and bytes, oldest out first; what is dropped is counted. Kept over redeploys,
//! gone with the node.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use mote_core::invocation::InvocationId;
use mote_core::log::{Level, LogSink};
use tokio::sync::broadcast;

/// Most lines kept for a function.
pub const LINES_MAX: usize = 1000;
/// Most bytes of text kept for a function.
pub const BYTES_MAX: usize = 256 << 10;
/// Longest line; the rest is cut.
pub const LINE_BYTES_MAX: usize = 4 << 10;
/// How far a follower may fall behind before it misses lines.
const LIVE_MAX: usize = 256;

/// One line.
#[derive(Debug, PartialEq, Eq)]
pub struct Line {
    /// When, in milliseconds of Unix time.
    pub time_ms: u64,
    /// Which call wrote it.
    pub call: InvocationId,
    /// How important it is.
    pub level: Level,
    /// What it says: without its line break, otherwise as the guest wrote it.
    pub text: String,
}

/// The log of one function.
#[derive(Debug, Default)]
pub struct FunctionLog {
    kept: Mutex<Kept>,
    live: OnceLock<broadcast::Sender<Arc<Line>>>,
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct Kept {
    lines: VecDeque<Arc<Line>>,
    bytes: usize,
}

/// The lines that are kept, and those to come.
#[derive(Debug)]
pub struct LogTail {
    /// Oldest first.
    pub lines: Vec<Arc<Line>>,
    /// Every line after these.
    pub live: broadcast::Receiver<Arc<Line>>,
}

impl FunctionLog {
    /// The kept lines and a feed of the next ones, without a gap in between.
    pub fn tail(&self) -> LogTail {
        let live = self.live.get_or_init(|| broadcast::Sender::new(LIVE_MAX));
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        LogTail {
            lines: kept.lines.iter().cloned().collect(),
            live: live.subscribe(),
        }
    }

    /// Lines that made room for newer ones.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

impl LogSink for FunctionLog {
    fn line(&self, call: InvocationId, level: Level, text: &str) {
        let text = text[..text.floor_char_boundary(LINE_BYTES_MAX)].to_owned();
        let line = Arc::new(Line {
            time_ms: unix_ms(),
            call,
            level,
            text,
        });
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.bytes += line.text.len();
        kept.lines.push_back(Arc::clone(&line));
        while kept.lines.len() > LINES_MAX || kept.bytes > BYTES_MAX {
            let Some(oldest) = kept.lines.pop_front() else {
                break;
            };
            kept.bytes -= oldest.text.len();
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(live) = self.live.get() {
            // Without a follower there is nobody to tell, which is no error.
            let _ = live.send(line);
        }
    }
}

/// Milliseconds of Unix time, for logs and records; nothing else uses the wall clock.
pub(crate) fn unix_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALL: InvocationId = InvocationId {
        sequence: 1,
        node: 1,
    };

    #[test]
    fn keeps_the_newest_lines_within_its_bounds() {
        let log = FunctionLog::default();
        for number in 0..LINES_MAX + 10 {
            log.line(CALL, Level::Info, &number.to_string());
        }
        let tail = log.tail();
        assert_eq!(
            (tail.lines.len(), tail.lines[0].text.as_str()),
            (LINES_MAX, "10")
        );
        assert_eq!(log.dropped(), 10);
        for _ in 0..LINES_MAX {
            log.line(CALL, Level::Info, &"x".repeat(2 * LINE_BYTES_MAX));
        }
        let tail = log.tail();
        assert_eq!(tail.lines.len(), BYTES_MAX / LINE_BYTES_MAX);
        assert!(
            tail.lines
                .iter()
                .all(|line| line.text.len() == LINE_BYTES_MAX)
        );
    }

    #[test]
    fn a_follower_sees_what_comes_after_the_tail() {
        let log = FunctionLog::default();
        log.line(CALL, Level::Info, "before");
        let mut tail = log.tail();
        log.line(CALL, Level::Error, "after");
        assert_eq!(tail.lines.len(), 1);
        assert_eq!(tail.live.try_recv().unwrap().text, "after");
    }
}
