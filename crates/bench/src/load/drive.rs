//! The loop of one load thread: starts requests when they are due, lets clients handle what arrives, records outcomes.
//!
//! One thread owns its clients and shares nothing while it runs. Each client has at most one request in flight and at
//! most a few entries in the timer heap, so memory does not grow with rate or time.
//! An operation is one request, or a chain of them on one client; each reply has the timeout to arrive in.
//! In the closed loop a client's next operation starts when the last one ended. In the open loop operations
//! have times at which they are due; latency counts from then, so a server (or a generator) that stalls is charged for
//! every request that it kept waiting. A due request that finds no free client within the timeout has failed.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::{Duration, Instant};

use anyhow::Result;

use super::arrivals::{Arrival, Share};
use super::client::{Client, Job, Lane};
use super::meter::Meter;
use super::place::Place;
use super::tally::{Outcome, Tally};
use crate::poller::Events;

/// Pause of a client whose server refused it, so that a dead server is not hammered.
const REST: Duration = Duration::from_millis(10);
/// A request that starts later than this though it could have started earlier is the generator's fault.
const LATE: Duration = Duration::from_millis(1);

/// When operations start and which are measured.
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
    /// Measured operations per client, or as many as fit before the end.
    Closed { each: Option<u64> },
    /// What this thread is to send.
    Open(Share),
}

impl Schedule {
    /// Whether what happens now belongs to the measured window.
    fn inside(&self, now: Instant) -> bool {
        now >= self.measure_from && self.end.is_none_or(|end| now <= end)
    }
}

/// Runs clients to the end of the schedule. The start may lie ahead. Each of `clients` has a connection or socket for
/// each target.
pub(super) fn drive<C: Client>(
    clients: Vec<Vec<C>>,
    lane: Lane,
    mut schedule: Schedule,
) -> Result<Tally> {
    let targets = clients.first().map_or(1, Vec::len);
    let due = match &mut schedule.pace {
        Pace::Closed { .. } => None,
        Pace::Open(share) => share.next(),
    };
    let mut drive = Drive {
        slots: (0u32..)
            .zip(clients)
            .map(|(turn, lines)| Slot::new(lines, turn))
            .collect(),
        lane,
        tally: Tally::new(targets),
        timers: BinaryHeap::new(),
        idle: VecDeque::new(),
        busy: 0,
        live: 0,
        meter: Meter::default(),
        targets,
        due,
        schedule,
    };
    drive.run()?;
    drive.tally.wire = drive.lane.wire;
    Ok(drive.tally)
}

struct Slot<C> {
    /// One for each target, and the one that is in use.
    lines: Vec<C>,
    active: usize,
    /// Closed loop: counts up, so that targets take turns.
    turn: u32,
    function: u32,
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
    fn new(lines: Vec<C>, turn: u32) -> Self {
        let now = Instant::now();
        Self {
            lines,
            active: 0,
            turn,
            function: 0,
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

    fn client(&mut self) -> &mut C {
        &mut self.lines[self.active]
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
    targets: usize,
    /// Open loop: what is due next.
    due: Option<Arrival>,
    schedule: Schedule,
}

impl<C: Client> Drive<C> {
    fn run(&mut self) -> Result<()> {
        let mut events = Events::new();
        let mut woken = Vec::new();
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
            // Timers and who was woken first: they free clients for what is due.
            self.fire_timers(now);
            self.lane.woken.take(&mut woken);
            for &place in &woken {
                self.ready(place);
            }
            let due = self.start_due(now);
            if self.finished(due) {
                break;
            }
            let timer = self.timers.peek().map(|Reverse((at, _))| *at);
            let at_once = (!self.lane.woken.is_empty()).then_some(now);
            let until = [due, timer, at_once].into_iter().flatten().min();
            self.lane.poller.wait(until, &mut events)?;
            for place in events.tokens().map(Place::from) {
                self.ready(place);
            }
        }
        self.meter.finish(&mut self.tally);
        Ok(())
    }

    fn ready(&mut self, place: Place) {
        let slot = &mut self.slots[place.client];
        let outcome = slot.lines[place.target].ready(&mut self.lane, Instant::now());
        if place.target == slot.active {
            self.after(place.client, outcome);
        }
    }

    fn finished(&self, due: Option<Instant>) -> bool {
        match self.schedule.pace {
            Pace::Closed { .. } => self.live == 0,
            Pace::Open(_) => self.busy == 0 && due.is_none() && self.due.is_none(),
        }
    }

    /// The client has nothing in flight: what now?
    fn next(&mut self, index: usize, now: Instant) {
        match self.schedule.pace {
            Pace::Closed { each } => self.start_closed(index, now, each),
            Pace::Open(_) => {
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
        slot.function = slot.turn;
        slot.turn = slot.turn.wrapping_add(1);
        self.begin(index, now, now, measured);
    }

    /// Starts what is due in the open loop. Returns when the next operation is due, if a client is free for it.
    fn start_due(&mut self, now: Instant) -> Option<Instant> {
        loop {
            let arrival = self.due?;
            let due = self.schedule.start + arrival.at;
            let measured = due >= self.schedule.measure_from;
            if due > now {
                return Some(due);
            }
            if now > due + self.schedule.timeout {
                if measured {
                    let target = self.target(arrival.function);
                    self.tally.record_unsent(target, self.schedule.timeout);
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
                self.slots[index].function = arrival.function;
                self.begin(index, now, due, measured);
            }
            if let Pace::Open(share) = &mut self.schedule.pace {
                self.due = share.next();
            }
        }
    }

    /// Functions and targets go round.
    fn target(&self, function: u32) -> usize {
        if self.targets == 1 {
            return 0;
        }
        function as usize % self.targets
    }

    fn begin(&mut self, index: usize, now: Instant, due: Instant, measured: bool) {
        let target = self.target(self.slots[index].function);
        let slot = &mut self.slots[index];
        slot.active = target;
        slot.due = due;
        slot.following = self.schedule.chain - 1;
        slot.busy = true;
        slot.measured = measured;
        self.busy += 1;
        if measured {
            slot.measured_sent += 1;
            self.tally.record_sent(target);
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
            function: slot.function,
        };
        let outcome = slot.client().begin(&mut self.lane, job);
        self.after(index, outcome);
    }

    /// A client was called: record the outcome if there is one, and arm its next timer.
    fn after(&mut self, index: usize, outcome: Option<Outcome>) {
        let slot = &mut self.slots[index];
        let Some(outcome) = outcome.filter(|_| slot.busy) else {
            let wake = slot.client().next_wake();
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
            self.tally.record(slot.active, outcome, latency);
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
            let client = slot.client();
            let outcome = match client.next_wake() {
                Some(wake) if wake <= now => client.wake(&mut self.lane, now),
                _ => None,
            };
            self.after(index, outcome);
        }
    }
}
