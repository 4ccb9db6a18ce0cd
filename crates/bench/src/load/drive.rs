//! The loop of one load thread: starts requests when they are due, lets clients handle what arrives, records outcomes.
//!
//! One thread owns its clients and shares nothing while it runs. Each client has at most one request in flight and at
//! most a few entries in the timer heap, so memory does not grow with rate or time.
//! An operation is one request, or a chain of them on one client; each reply has the timeout to arrive in.
//! In the closed loop a client's next operation starts when the last one ended. In the open loop operations are numbered
//! and number `k` is due at `start + k / rate`; latency counts from then, so a server (or a generator) that stalls is
//! charged for every request that it kept waiting. A due request that finds no free client within the timeout has failed.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::{Duration, Instant};

use anyhow::Result;
use rustix::time::{ClockId, clock_gettime};

use super::poller::{Events, Poller};
use super::tally::{Outcome, Tally, Wire};

/// Pause of a client whose server refused it, so that a dead server is not hammered.
const REST: Duration = Duration::from_millis(10);
/// A request that starts later than this though it could have started earlier is the generator's fault.
const LATE: Duration = Duration::from_millis(1);
/// Datagrams and reads go through one buffer per thread.
const SCRATCH_BYTES: usize = 64 << 10;

/// What the clients of one thread share.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) poller: Poller,
    pub(super) scratch: Vec<u8>,
    pub(super) wire: Wire,
}

impl Lane {
    pub(super) fn new() -> Result<Self> {
        Ok(Self {
            poller: Poller::new()?,
            scratch: vec![0; SCRATCH_BYTES],
            wire: Wire::default(),
        })
    }
}

/// One request to send.
#[derive(Debug, Clone, Copy)]
pub(super) struct Job {
    pub(super) now: Instant,
    pub(super) deadline: Instant,
    /// It goes on with a chain: its body is that of the last reply.
    pub(super) follows: bool,
}

/// One connection or socket. Each method may end the request in flight; then it returns how.
pub(super) trait Client {
    /// Sends a request.
    fn begin(&mut self, lane: &mut Lane, job: Job) -> Option<Outcome>;
    /// The socket may be readable or writable.
    fn ready(&mut self, lane: &mut Lane, now: Instant) -> Option<Outcome>;
    /// The time of [`Client::next_wake`] has come.
    fn wake(&mut self, lane: &mut Lane, now: Instant) -> Option<Outcome>;
    /// When to wake the client if nothing arrives.
    fn next_wake(&self) -> Option<Instant>;
}

/// When requests start and which are measured.
#[derive(Debug, Clone)]
pub(super) struct Schedule {
    pub(super) start: Instant,
    pub(super) measure_from: Instant,
    /// End of the measured window, when it is known beforehand.
    pub(super) end: Option<Instant>,
    pub(super) timeout: Duration,
    /// Requests of one operation.
    pub(super) chain: u32,
    pub(super) pace: Pace,
}

#[derive(Debug, Clone)]
pub(super) enum Pace {
    /// Measured requests per client, or as many as fit before the end.
    Closed { each: Option<u64> },
    /// This thread sends numbers `next`, `next + step`, … below `total`; those from `measured_from` on are measured.
    Open {
        rate: f64,
        next: u64,
        step: u64,
        measured_from: u64,
        total: u64,
    },
}

impl Schedule {
    fn due(&self, number: u64, rate: f64) -> Instant {
        #[expect(clippy::cast_precision_loss, reason = "exact below 2^53 requests")]
        let seconds = number as f64 / rate;
        self.start + Duration::from_secs_f64(seconds)
    }

    /// Whether what happens now belongs to the measured window.
    fn inside(&self, now: Instant) -> bool {
        now >= self.measure_from && self.end.is_none_or(|end| now <= end)
    }
}

/// Runs `clients` to the end of the schedule. The start may lie ahead.
pub(super) fn drive<C: Client>(clients: Vec<C>, lane: Lane, schedule: Schedule) -> Result<Tally> {
    let mut drive = Drive {
        slots: clients.into_iter().map(Slot::new).collect(),
        lane,
        tally: Tally::new(),
        timers: BinaryHeap::new(),
        idle: VecDeque::new(),
        busy: 0,
        live: 0,
        meter: Meter::default(),
        schedule,
    };
    drive.run()?;
    drive.tally.wire = drive.lane.wire;
    Ok(drive.tally)
}

struct Slot<C> {
    client: C,
    /// The earliest entry in the heap that is this slot's.
    armed: Option<Instant>,
    resting_until: Option<Instant>,
    /// When the operation was due, and whether it is measured.
    due: Instant,
    /// For the request in flight, and how many follow it.
    deadline: Instant,
    following: u32,
    busy: bool,
    measured: bool,
    measured_sent: u64,
    free_since: Instant,
}

impl<C> Slot<C> {
    fn new(client: C) -> Self {
        let now = Instant::now();
        Self {
            client,
            armed: None,
            resting_until: None,
            due: now,
            deadline: now,
            following: 0,
            busy: false,
            measured: false,
            measured_sent: 0,
            free_since: now,
        }
    }
}

struct Drive<C> {
    slots: Vec<Slot<C>>,
    lane: Lane,
    tally: Tally,
    timers: BinaryHeap<Reverse<(Instant, usize)>>,
    /// Open loop: clients without a request, longest free first so that all are used.
    idle: VecDeque<usize>,
    busy: usize,
    /// Clients that will still send or wait for something.
    live: usize,
    meter: Meter,
    schedule: Schedule,
}

impl<C: Client> Drive<C> {
    fn run(&mut self) -> Result<()> {
        let mut events = Events::new();
        self.live = self.slots.len();
        while Instant::now() < self.schedule.start {
            self.lane
                .poller
                .wait(Some(self.schedule.start), &mut events)?;
        }
        for index in 0..self.slots.len() {
            self.next(index, Instant::now());
        }
        loop {
            let now = Instant::now();
            self.meter.sample(&self.schedule, now);
            // Timers first: they free clients for what is due.
            self.fire_timers(now);
            let due = self.start_due(now);
            if self.finished(due) {
                break;
            }
            let timer = self.timers.peek().map(|Reverse((at, _))| *at);
            let until = [due, timer].into_iter().flatten().min();
            self.lane.poller.wait(until, &mut events)?;
            for index in events.clients() {
                let now = Instant::now();
                let outcome = self.slots[index].client.ready(&mut self.lane, now);
                self.after(index, outcome);
            }
        }
        self.meter.finish(&mut self.tally);
        Ok(())
    }

    fn finished(&self, due: Option<Instant>) -> bool {
        match self.schedule.pace {
            Pace::Closed { .. } => self.live == 0,
            Pace::Open { next, total, .. } => self.busy == 0 && due.is_none() && next >= total,
        }
    }

    /// The client has nothing in flight: what now?
    fn next(&mut self, index: usize, now: Instant) {
        match self.schedule.pace {
            Pace::Closed { each } => self.start_closed(index, now, each),
            Pace::Open { .. } => {
                self.slots[index].free_since = now;
                self.idle.push_back(index);
            }
        }
    }

    fn start_closed(&mut self, index: usize, now: Instant, each: Option<u64>) {
        let slot = &mut self.slots[index];
        let measured = now >= self.schedule.measure_from;
        let over = self.schedule.end.is_some_and(|end| now >= end);
        if over || each.is_some_and(|each| measured && slot.measured_sent >= each) {
            self.live -= 1;
            return;
        }
        self.begin(index, now, now, measured);
    }

    /// Starts what is due in the open loop. Returns when the next request is due, if a client is free for it.
    fn start_due(&mut self, now: Instant) -> Option<Instant> {
        loop {
            let Pace::Open {
                rate,
                next,
                step,
                measured_from,
                total,
            } = self.schedule.pace
            else {
                return None;
            };
            if next >= total {
                return None;
            }
            let due = self.schedule.due(next, rate);
            let measured = next >= measured_from;
            if due > now {
                return Some(due);
            }
            if now > due + self.schedule.timeout {
                if measured {
                    self.tally.record_unsent(self.schedule.timeout);
                    self.tally.lag_max = self.tally.lag_max.max(now - due);
                }
            } else {
                let Some(index) = self.idle.pop_front() else {
                    // Whichever comes first: a client becomes free, or the request is too late.
                    return Some(due + self.schedule.timeout + Duration::from_nanos(1));
                };
                if measured {
                    self.tally.lag_max = self.tally.lag_max.max(now - due);
                    let possible = due.max(self.slots[index].free_since);
                    if now.saturating_duration_since(possible) > LATE {
                        self.tally.late += 1;
                    } else if now - due > LATE {
                        self.tally.waited += 1;
                    }
                }
                self.begin(index, now, due, measured);
            }
            if let Pace::Open { next, .. } = &mut self.schedule.pace {
                *next += step;
            }
        }
    }

    fn begin(&mut self, index: usize, now: Instant, due: Instant, measured: bool) {
        let slot = &mut self.slots[index];
        slot.due = due;
        slot.following = self.schedule.chain - 1;
        slot.busy = true;
        slot.measured = measured;
        self.busy += 1;
        if measured {
            slot.measured_sent += 1;
            self.tally.sent += 1;
        }
        self.send(index, now, due + self.schedule.timeout, false);
    }

    fn send(&mut self, index: usize, now: Instant, deadline: Instant, follows: bool) {
        let slot = &mut self.slots[index];
        slot.deadline = deadline;
        let job = Job {
            now,
            deadline,
            follows,
        };
        let outcome = slot.client.begin(&mut self.lane, job);
        self.after(index, outcome);
    }

    /// A client was called: record the outcome if there is one, and arm its next timer.
    fn after(&mut self, index: usize, outcome: Option<Outcome>) {
        let slot = &mut self.slots[index];
        let Some(outcome) = outcome.filter(|_| slot.busy) else {
            let wake = slot.client.next_wake();
            self.arm(index, wake);
            return;
        };
        let now = Instant::now();
        let outcome = if now > slot.deadline && outcome != Outcome::Transport {
            Outcome::Timeout
        } else {
            outcome
        };
        if outcome == Outcome::Ok && slot.following > 0 {
            slot.following -= 1;
            self.tally.replies_in_window += u64::from(self.schedule.inside(now));
            self.send(index, now, now + self.schedule.timeout, true);
            return;
        }
        let latency = now.saturating_duration_since(slot.due);
        slot.busy = false;
        self.busy -= 1;
        if slot.measured {
            self.tally.record(outcome, latency);
        }
        self.count_window(outcome, now);
        if outcome == Outcome::Transport {
            let until = now + REST;
            self.slots[index].resting_until = Some(until);
            self.arm(index, Some(until));
        } else {
            self.next(index, now);
        }
    }

    fn count_window(&mut self, outcome: Outcome, now: Instant) {
        let inside = self.schedule.inside(now);
        if inside && !matches!(outcome, Outcome::Timeout | Outcome::Transport) {
            self.tally.replies_in_window += 1;
        }
        if inside && outcome == Outcome::Ok {
            self.tally.ok_in_window += 1;
            self.tally.last_ok = Some(now);
        }
    }

    /// Later wakes need no entry of their own: the earlier one finds them when it fires.
    fn arm(&mut self, index: usize, wake: Option<Instant>) {
        let slot = &mut self.slots[index];
        if let Some(wake) = wake
            && slot.armed.is_none_or(|armed| wake < armed)
        {
            slot.armed = Some(wake);
            self.timers.push(Reverse((wake, index)));
        }
    }

    fn fire_timers(&mut self, now: Instant) {
        while let Some(&Reverse((at, index))) = self.timers.peek() {
            if at > now {
                return;
            }
            self.timers.pop();
            let slot = &mut self.slots[index];
            if slot.armed != Some(at) {
                continue;
            }
            slot.armed = None;
            if let Some(until) = slot.resting_until {
                if until <= now {
                    slot.resting_until = None;
                    self.next(index, now);
                } else {
                    self.arm(index, Some(until));
                }
                continue;
            }
            let outcome = match slot.client.next_wake() {
                Some(wake) if wake <= now => slot.client.wake(&mut self.lane, now),
                _ => None,
            };
            self.after(index, outcome);
        }
    }
}

/// What this thread got from the processor between the start of measuring and its end.
#[derive(Debug, Default)]
struct Meter {
    from: Option<Reading>,
    to: Option<Reading>,
}

#[derive(Debug, Clone, Copy)]
struct Reading {
    cpu: Duration,
    /// Time in which the thread could have run and another one did.
    starved: Duration,
    at: Instant,
}

impl Meter {
    fn sample(&mut self, schedule: &Schedule, now: Instant) {
        if self.from.is_none() && now >= schedule.measure_from {
            self.from = Some(Reading::take(now));
        }
        if self.to.is_none() && schedule.end.is_some_and(|end| now >= end) {
            self.to = Some(Reading::take(now));
        }
    }

    fn finish(&self, tally: &mut Tally) {
        if let Some(from) = self.from {
            let to = self.to.unwrap_or_else(|| Reading::take(Instant::now()));
            tally.cpu = to.cpu.saturating_sub(from.cpu);
            tally.starved = to.starved.saturating_sub(from.starved);
            tally.wall = to.at.saturating_duration_since(from.at);
        }
    }
}

impl Reading {
    fn take(at: Instant) -> Self {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
        let nanoseconds = u32::try_from(time.tv_nsec).unwrap_or_default();
        Self {
            cpu: Duration::new(seconds, nanoseconds),
            starved: starved().unwrap_or_default(),
            at,
        }
    }
}

/// The second field of the scheduler's statistics, in nanoseconds; kernels without them count nothing.
fn starved() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    let delay = text.split_whitespace().nth(1)?.parse().ok()?;
    Some(Duration::from_nanos(delay))
}
