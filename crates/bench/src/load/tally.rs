//! Counts what happened to the requests of one thread; the threads' tallies are added up at the end.
//!
//! Every measured operation ends in exactly one outcome. Histograms are bounded in size, whatever is recorded.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

/// Latencies are kept up to this, and longer ones as this.
const LATENCY_MAX: Duration = Duration::from_secs(600);
/// Three digits: 1,234 µs and 1,235 µs are the same, 1,240 µs is not.
const LATENCY_DIGITS: u8 = 3;

/// How one request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Ok,
    /// No answer, or a late one.
    Timeout,
    /// An answer with this status, which was not asked for.
    Status(u16),
    WrongBody,
    /// Refused, reset, or not the protocol.
    Transport,
}

/// Which replies are good.
#[derive(Debug, Clone)]
pub(super) struct Expect {
    /// Any of class 2 when there is none.
    pub(super) status: Option<u16>,
    pub(super) body: Option<Vec<u8>>,
    /// The body must be the request's.
    pub(super) echo: bool,
}

impl Expect {
    pub(super) fn judge(&self, status: u16, body: &[u8], sent: &[u8]) -> Outcome {
        let good = self
            .status
            .map_or(status / 100 == 2, |expected| expected == status);
        if !good {
            return Outcome::Status(status);
        }
        if self.echo && body != sent {
            return Outcome::WrongBody;
        }
        match &self.body {
            Some(expected) if without_newline(expected) != without_newline(body) => {
                Outcome::WrongBody
            }
            _ => Outcome::Ok,
        }
    }
}

/// A shell cannot easily say a newline, and most functions end a line with one.
fn without_newline(body: &[u8]) -> &[u8] {
    body.strip_suffix(b"\n").unwrap_or(body)
}

/// What clients count beside outcomes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Wire {
    pub(super) connects: u64,
    pub(super) retransmissions: u64,
    /// The server answered from an earlier exchange with the same id, see `coap`.
    pub(super) id_collisions: u64,
    pub(super) malformed: u64,
    /// Connections that could not be opened because all local ports were taken.
    pub(super) no_port: u64,
}

/// How operations ended: all of them, or those of one target.
#[derive(Debug, Clone)]
pub(super) struct Counts {
    pub(super) sent: u64,
    pub(super) ok: u64,
    pub(super) timeout: u64,
    pub(super) wrong_body: u64,
    pub(super) transport: u64,
    /// Due in the open loop and not sent within the timeout.
    pub(super) unsent: u64,
    pub(super) by_status: BTreeMap<u16, u64>,
    /// Nanoseconds of good answers; a timeout counts with the time it was waited for, so that it shows.
    pub(super) latency: Histogram<u64>,
}

impl Counts {
    fn new() -> Self {
        Self {
            sent: 0,
            ok: 0,
            timeout: 0,
            wrong_body: 0,
            transport: 0,
            unsent: 0,
            by_status: BTreeMap::new(),
            // It grows with the longest latency, up to 240 KB.
            latency: Histogram::new(LATENCY_DIGITS).expect("three digits are accepted"),
        }
    }

    fn record(&mut self, outcome: Outcome, latency: Duration) {
        match outcome {
            Outcome::Ok => self.ok += 1,
            Outcome::Timeout => self.timeout += 1,
            Outcome::WrongBody => self.wrong_body += 1,
            Outcome::Transport => self.transport += 1,
            Outcome::Status(status) => *self.by_status.entry(status).or_default() += 1,
        }
        if matches!(outcome, Outcome::Ok | Outcome::Timeout) {
            self.record_latency(latency);
        }
    }

    fn record_unsent(&mut self, timeout: Duration) {
        self.unsent += 1;
        self.record_latency(timeout);
    }

    fn record_latency(&mut self, latency: Duration) {
        self.latency
            .record(nanoseconds(latency.min(LATENCY_MAX)))
            .expect("the histogram grows up to the longest latency");
    }

    fn add(&mut self, other: &Self) {
        self.sent += other.sent;
        self.ok += other.ok;
        self.timeout += other.timeout;
        self.wrong_body += other.wrong_body;
        self.transport += other.transport;
        self.unsent += other.unsent;
        for (&status, count) in &other.by_status {
            *self.by_status.entry(status).or_default() += count;
        }
        self.latency
            .add(&other.latency)
            .expect("all histograms have the same digits and grow");
    }
}

/// Counts of one thread, or of several added up.
#[derive(Debug, Clone)]
pub(super) struct Tally {
    pub(super) all: Counts,
    /// The same for each target, when there are several.
    pub(super) targets: Vec<Counts>,
    /// Good answers and answers of any kind inside the measured window, for the rates.
    pub(super) ok_in_window: u64,
    pub(super) replies_in_window: u64,
    pub(super) last_ok: Option<Instant>,
    /// From when a request was due until it was sent.
    pub(super) lag_max: Duration,
    /// Requests that were sent more than a millisecond late though a client was free.
    pub(super) late: u64,
    /// Requests that were sent more than a millisecond late because all clients were waiting for answers.
    pub(super) waited: u64,
    pub(super) wire: Wire,
    /// Processor time of the threads in the window, and the wall time that it is a share of.
    pub(super) cpu: Duration,
    /// Time in which the threads could have run and the processors did something else.
    pub(super) starved: Duration,
    pub(super) wall: Duration,
}

impl Tally {
    pub(super) fn new(targets: usize) -> Self {
        Self {
            all: Counts::new(),
            targets: if targets > 1 {
                vec![Counts::new(); targets]
            } else {
                Vec::new()
            },
            ok_in_window: 0,
            replies_in_window: 0,
            last_ok: None,
            lag_max: Duration::ZERO,
            late: 0,
            waited: 0,
            wire: Wire::default(),
            cpu: Duration::ZERO,
            starved: Duration::ZERO,
            wall: Duration::ZERO,
        }
    }

    /// Records that a measured operation on `target` began.
    pub(super) fn record_sent(&mut self, target: usize) {
        self.all.sent += 1;
        if let Some(counts) = self.targets.get_mut(target) {
            counts.sent += 1;
        }
    }

    /// Records how a measured operation on `target` ended after `latency`.
    pub(super) fn record(&mut self, target: usize, outcome: Outcome, latency: Duration) {
        self.all.record(outcome, latency);
        if let Some(counts) = self.targets.get_mut(target) {
            counts.record(outcome, latency);
        }
    }

    /// Records a measured operation that was due and could not be sent before it was too late.
    pub(super) fn record_unsent(&mut self, target: usize, timeout: Duration) {
        self.all.record_unsent(timeout);
        if let Some(counts) = self.targets.get_mut(target) {
            counts.record_unsent(timeout);
        }
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.all.add(&other.all);
        for (counts, other) in self.targets.iter_mut().zip(&other.targets) {
            counts.add(other);
        }
        self.ok_in_window += other.ok_in_window;
        self.replies_in_window += other.replies_in_window;
        self.last_ok = self.last_ok.max(other.last_ok);
        self.lag_max = self.lag_max.max(other.lag_max);
        self.late += other.late;
        self.waited += other.waited;
        self.wire.add(other.wire);
        self.cpu += other.cpu;
        self.starved += other.starved;
        self.wall += other.wall;
    }
}

impl Wire {
    pub(super) fn add(&mut self, other: Self) {
        self.connects += other.connects;
        self.retransmissions += other.retransmissions;
        self.id_collisions += other.id_collisions;
        self.malformed += other.malformed;
        self.no_port += other.no_port;
    }
}

/// Saturates after 584 years.
pub(super) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn judges_status_before_body() {
        let expect = Expect {
            status: None,
            body: Some(b"hi".to_vec()),
            echo: false,
        };
        assert_eq!(expect.judge(204, b"hi\n", b""), Outcome::Ok);
        assert_eq!(expect.judge(200, b"hi\n\n", b""), Outcome::WrongBody);
        assert_eq!(expect.judge(500, b"hi", b""), Outcome::Status(500));
        let exact = Expect {
            status: Some(404),
            body: None,
            echo: true,
        };
        assert_eq!(exact.judge(404, b"x", b"x"), Outcome::Ok);
        assert_eq!(exact.judge(404, b"x", b"y"), Outcome::WrongBody);
        assert_eq!(exact.judge(200, b"x", b""), Outcome::Status(200));
    }

    #[test]
    fn adding_keeps_every_count() {
        let mut first = Tally::new(2);
        first.record_sent(1);
        first.record(1, Outcome::Status(503), Duration::ZERO);
        let mut second = Tally::new(2);
        second.record(0, Outcome::Status(503), Duration::ZERO);
        second.record(1, Outcome::Ok, Duration::from_secs(1_000_000));
        second.record_unsent(0, Duration::from_secs(1));
        first.add(&second);
        let (all, targets) = (&first.all, &first.targets);
        assert_eq!(
            (all.sent, all.ok, all.unsent, all.by_status[&503]),
            (1, 1, 1, 2)
        );
        assert_eq!(
            (targets[0].unsent, targets[1].ok, targets[1].sent),
            (1, 1, 1)
        );
        assert_eq!((all.latency.len(), targets[0].latency.len()), (2, 1));
        assert!(all.latency.max() < nanoseconds(Duration::from_secs(601)));
        assert!(Tally::new(1).targets.is_empty());
    }
}
