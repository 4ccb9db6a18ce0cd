//! How many instances a function should have now, and why.
//!
//! [`decide`] is the policy, a pure function. It asks for one instance for each `target` calls in
//! flight or waiting, never more than doubles them in one step, never asks for more than memory
//! allows, and takes instances away that nobody called for `idle`. Every addition is a trial: when
//! calls take longer afterwards and no more of them end, the addition is taken back and not tried
//! again for a minute. That is what keeps a small board alive where the autoscaler of the survey
//! crashed it at 13 replicas (S1 §6.1).

use std::fmt;
use std::time::Duration;

use mote_core::spec::Scale;
use tokio::time::Instant;

/// What a function's instances are doing.
#[derive(Clone, Debug)]
pub struct View {
    /// Instances that run, the paused ones included.
    pub running: u32,
    /// Instances on their way.
    pub starting: u32,
    /// Those that run and were not called for as long as the scale allows them to be idle.
    pub idle: u32,
    /// Calls that run.
    pub in_flight: u32,
    /// Calls that wait for an instance.
    pub waiting: u32,
    /// Calls that one instance takes at once.
    pub slots: u32,
    /// Most instances that make sense, whatever the scale says.
    pub instances_max: u32,
    /// How many more instances the memory that is left is enough for.
    pub fitting: u32,
    /// Share of time that something waited for memory in the last ten seconds (PSI `some`), percent.
    pub pressure: f64,
    /// What calls did lately.
    pub recent: Sample,
    /// The addition that is being tried.
    pub trial: Option<Trial>,
    /// What was tried and did not help.
    pub ceiling: Option<Ceiling>,
}

/// What calls did over some time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sample {
    /// Calls that ended.
    pub calls: u64,
    /// Over so long.
    pub over: Duration,
    /// Seconds that they took, all together.
    pub seconds: f64,
}

impl Sample {
    /// Calls in a second.
    pub fn rate(&self) -> f64 {
        self.calls as f64 / self.over.as_secs_f64().max(1e-9)
    }

    /// Seconds for one call.
    pub fn latency(&self) -> f64 {
        self.seconds / (self.calls.max(1) as f64)
    }
}

/// An addition whose effect is not known yet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trial {
    /// Instances before it.
    pub from: u32,
    /// What calls did before it.
    pub before: Sample,
    /// When the last of its instances was there; `None` while they start.
    pub since: Option<Instant>,
}

/// A number of instances that more were no better than.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ceiling {
    /// That number.
    pub instances: u32,
    /// Until when it holds.
    pub until: Instant,
}

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// Instances to have.
    pub instances: u32,
    /// Why.
    pub reason: Reason,
    /// The trial that goes on, or begins.
    pub trial: Option<Trial>,
    /// The ceiling that holds.
    pub ceiling: Option<Ceiling>,
}

/// Why a function has as many instances as it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// As many as the calls need.
    Enough,
    /// Calls in flight or waiting need more.
    Load,
    /// The scale says so many at least.
    Minimum,
    /// The scale allows no more.
    Maximum,
    /// There is no memory for more.
    Memory,
    /// The system is short of memory, whatever was reserved.
    Pressure,
    /// Whether the last addition helps is not known yet.
    Trial,
    /// More made it slower.
    Worse,
    /// Some were not called for long.
    Idle,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Enough => "enough for the calls there are",
            Self::Load => "calls need more",
            Self::Minimum => "scale.min",
            Self::Maximum => "scale.max",
            Self::Memory => "no memory for more",
            Self::Pressure => "the system is short of memory",
            Self::Trial => "trying whether the last addition helps",
            Self::Worse => "more made calls slower",
            Self::Idle => "not called for long",
        })
    }
}

/// How long an addition is watched before it is judged.
pub const TRIAL: Duration = Duration::from_secs(2);
/// Calls without which nothing can be said about it.
pub const TRIAL_CALLS: u64 = 20;
/// How long what did not help is not tried again.
pub const CEILING: Duration = Duration::from_secs(60);
/// Waiting for memory, in percent of the time, above which nothing is added.
pub const PRESSURE_MAX: f64 = 20.0;

/// How many instances to have now, and why.
pub fn decide(view: &View, scale: &Scale, now: Instant) -> Decision {
    let max = scale.max.min(view.instances_max).max(1);
    let min = scale.min.min(max);
    let there = view.running + view.starting;
    let target = scale
        .target
        .unwrap_or(view.slots)
        .clamp(1, view.slots.max(1));
    let wanted = (view.in_flight + view.waiting).div_ceil(target);

    let ceiling = view.ceiling.filter(|ceiling| now < ceiling.until);
    let mut trial = view.trial;
    if let Some(judged) = judge(view, now) {
        trial = None;
        if judged == Verdict::Worse {
            let from = view.trial.map_or(there, |trial| trial.from).max(min).max(1);
            return Decision {
                instances: from.min(there),
                reason: Reason::Worse,
                trial: None,
                ceiling: Some(Ceiling {
                    instances: from,
                    until: now + CEILING,
                }),
            };
        }
    }
    let keep = |instances, reason| Decision {
        instances,
        reason,
        trial,
        ceiling,
    };

    let desired = wanted.max(min);
    if there > max {
        return keep(max, Reason::Maximum);
    }
    if desired > there {
        // The first one helps whatever else is true; the others must be worth it.
        let first = there == 0;
        let (mut limit, mut reason) = (there.max(1) * 2, Reason::Load);
        let mut bound = |number: u32, why: Reason| {
            if number < limit {
                (limit, reason) = (number, why);
            }
        };
        bound(max, Reason::Maximum);
        bound(there.saturating_add(view.fitting), Reason::Memory);
        if !first && desired > min {
            if let Some(ceiling) = ceiling {
                bound(ceiling.instances.max(min), Reason::Worse);
            }
            if view.pressure > PRESSURE_MAX {
                bound(there, Reason::Pressure);
            }
            if trial.is_some() {
                bound(there, Reason::Trial);
            }
        }
        if limit <= there {
            return keep(there, reason);
        }
        let instances = desired.min(limit).max(u32::from(limit > 0));
        let by_minimum = instances <= min && wanted < min;
        let begins = !first && !by_minimum;
        return Decision {
            instances,
            reason: if by_minimum {
                Reason::Minimum
            } else {
                Reason::Load
            },
            trial: if begins {
                Some(Trial {
                    from: there,
                    before: view.recent,
                    since: None,
                })
            } else {
                trial
            },
            ceiling,
        };
    }

    // Never those that the minimum or the calls need, and only as many as were idle for long.
    let surplus = there.saturating_sub(desired).min(view.idle);
    if surplus > 0 {
        return keep(there - surplus, Reason::Idle);
    }
    if there == min && min > 0 {
        return keep(there, Reason::Minimum);
    }
    keep(there, Reason::Enough)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Worse,
    Good,
}

/// What became of the trial; `None` while nothing can be said.
fn judge(view: &View, now: Instant) -> Option<Verdict> {
    let trial = view.trial?;
    let since = trial.since?;
    let after = view.recent;
    if now.saturating_duration_since(since) < TRIAL {
        return None;
    }
    // Without calls before there is nothing to compare with; more were wanted, so be it.
    if trial.before.calls < TRIAL_CALLS {
        return Some(Verdict::Good);
    }
    if after.calls < TRIAL_CALLS {
        let long = now.saturating_duration_since(since) >= 5 * TRIAL;
        return long.then_some(Verdict::Good);
    }
    let slower = after.latency() > 1.1 * trial.before.latency();
    let no_more = after.rate() < 1.05 * trial.before.rate();
    Some(if slower && no_more {
        Verdict::Worse
    } else {
        Verdict::Good
    })
}

#[cfg(test)]
mod tests;
