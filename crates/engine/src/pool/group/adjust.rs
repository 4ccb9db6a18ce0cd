//! Carrying out what the policy decides: start, stop, pause.

use std::sync::Arc;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{PAUSE_AFTER, STOP_GRACE, Shared, State, Totals};
use crate::pool::member::{Member, Seat};
use crate::scale::{self, Reason, TRIAL, View};

impl Shared {
    /// Observes, decides and carries out, once.
    pub(super) fn adjust(self: &Arc<Self>, now: Instant) {
        let mut state = self.lock();
        if state.closed {
            return;
        }
        let decision = scale::decide(&self.observe(&state, now), &state.scale, now);
        let there = state.there();
        let begins = decision.trial.is_some() && state.trial.is_none();
        state.trial = decision.trial;
        state.ceiling = decision.ceiling;
        if state.decided != (decision.instances, decision.reason) {
            let (instances, reason) = (decision.instances, decision.reason);
            tracing::debug!(function = %self.parts.name, from = there, to = instances, %reason, "scaled");
            state.decided = (instances, reason);
        }
        if begins {
            state.samples.clear();
        }
        let more = decision.instances.saturating_sub(there);
        let fewer = there.saturating_sub(decision.instances);
        for _ in 0..more {
            state.starting += 1;
            self.start(state.health.not_before(now));
        }
        if fewer > 0 {
            self.stop_idle(&mut state, fewer, now);
        }
    }

    /// See [`super::Group::tick`].
    pub(super) fn tick(self: &Arc<Self>, now: Instant, pressure: f64) -> bool {
        {
            let mut state = self.lock();
            state.pressure = pressure;
            let totals = self.totals();
            state.samples.push_back((now, totals));
            while state.samples.len() > 1
                && now.saturating_duration_since(state.samples[1].0) >= TRIAL
            {
                state.samples.pop_front();
            }
            let all_there = state.starting == 0;
            let running = state.running();
            // A trial is judged by what comes after its last start; one whose starts all failed is none.
            if let Some(trial) = &mut state.trial
                && all_there
                && trial.since.is_none()
            {
                trial.since = Some(now);
                let failed = running <= trial.from;
                state.samples.clear();
                state.samples.push_back((now, totals));
                if failed {
                    state.trial = None;
                }
            }
        }
        self.adjust(now);
        self.pause_idle(now);
        let state = self.lock();
        state.there() > 0 || state.waiting > 0 || state.scale.min > 0
    }

    fn observe(&self, state: &State, now: Instant) -> View {
        let idle = |seat: &&Seat| {
            seat.member.in_use() == 0
                && now.saturating_duration_since(seat.last_used) >= state.scale.idle
        };
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        View {
            running: state.running(),
            starting: state.starting,
            idle: count(state.seats.iter().filter(idle).count()),
            in_flight: state.seats.iter().map(|seat| seat.member.in_use()).sum(),
            waiting: state.waiting,
            slots: self.instances.slots.get(),
            instances_max: self.instances.max,
            fitting: self.fitting(),
            pressure: state.pressure,
            recent: state.recent(self.totals(), now),
            trial: state.trial,
            ceiling: state.ceiling,
        }
    }

    fn totals(&self) -> Totals {
        let (calls, seconds) = self.parts.state.counters.duration.totals();
        Totals { calls, seconds }
    }

    /// Stops up to `count` instances without a call, those idle for longest first. With the reason
    /// that more made calls slower, or that there may be no more, busy ones leave the group too and
    /// are stopped when their calls have ended.
    pub(super) fn stop_idle(&self, state: &mut State, count: u32, now: Instant) {
        let busy_too = matches!(state.decided.1, Reason::Worse | Reason::Maximum);
        for _ in 0..count {
            let candidates = state.seats.iter().enumerate();
            let leaving = candidates
                .filter(|(_, seat)| seat.member.in_use() == 0 || busy_too)
                .min_by_key(|(_, seat)| (seat.member.in_use(), seat.last_used))
                .map(|(place, _)| place);
            let Some(place) = leaving else {
                return;
            };
            let seat = state.seats.swap_remove(place);
            seat.member.left.cancel();
            let idle = now.saturating_duration_since(seat.last_used);
            tracing::debug!(function = %self.parts.name, instance = seat.member.number, ?idle, "stopping");
            tokio::spawn(retire(seat.member));
        }
    }

    fn pause_idle(self: &Arc<Self>, now: Instant) {
        let mut state = self.lock();
        let idle_max = PAUSE_AFTER.min(state.scale.idle / 2);
        for seat in &mut state.seats {
            let idle = now.saturating_duration_since(seat.last_used);
            let free = seat.member.in_use() == 0;
            if free && seat.can_pause && !seat.paused && idle >= idle_max {
                seat.paused = true;
                tokio::spawn(pause(Arc::downgrade(self), Arc::clone(&seat.member)));
            }
        }
    }

    /// See [`super::Group::close`].
    pub(super) fn close(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut state = self.lock();
        state.closed = true;
        let seats = std::mem::take(&mut state.seats);
        drop(state);
        self.changed.notify_waiters();
        async move {
            let mut ending = JoinSet::new();
            for seat in seats {
                seat.member.left.cancel();
                ending.spawn(retire(seat.member));
            }
            ending.join_all().await;
        }
    }
}

impl State {
    pub(super) fn running(&self) -> u32 {
        u32::try_from(self.seats.len()).unwrap_or(u32::MAX)
    }

    pub(super) fn there(&self) -> u32 {
        self.running() + self.starting
    }
}

/// Lets calls that still run on it end, then stops it.
async fn retire(member: Arc<Member>) {
    // Calls are bounded by their deadlines, and so is this.
    member.until_free().await;
    // A paused one could not hear that it should stop.
    if let Err(error) = member.wake().await {
        tracing::debug!(%error, "an instance that is to stop did not wake");
    }
    member.instance.stop(STOP_GRACE).await;
}

async fn pause(group: super::WeakShared, member: Arc<Member>) {
    let taken = || {
        let group = group.upgrade();
        group.is_none_or(|group| {
            let mut state = group.lock();
            state
                .seat(member.number)
                .is_none_or(|seat| seat.member.in_use() > 0)
        })
    };
    let paused = match member.doze(&taken).await {
        Ok(paused) => paused,
        Err(error) => {
            tracing::debug!(%error, "an instance could not be paused");
            false
        }
    };
    if paused {
        return;
    }
    let taken_meanwhile = taken();
    if let Some(group) = group.upgrade()
        && let Some(seat) = group.lock().seat(member.number)
    {
        seat.paused = false;
        // One that was called just now is asked again; one that cannot be paused is not.
        seat.can_pause = taken_meanwhile;
    }
}
