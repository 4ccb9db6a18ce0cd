//! A load generator for HTTP/1.1 and CoAP that tells the truth: what was sent, what failed and why, how late, and
//! whether it kept up itself.
//!
//! Generators that wait for an answer before they send the next request stop measuring when the server stalls. With a
//! rate this one is an open loop: requests are due at fixed times and latency counts from then. Without one it is a
//! closed loop, which finds the highest rate. Each thread runs its own clients over epoll and shares nothing, so the
//! generator costs less than the servers it measures; when that is not enough, the report says so.
//! A run is bounded by its duration or its number of requests, and one timeout more.

mod options;
mod plan;
mod report;

mod drive;
mod poller;
mod tally;

mod http;

mod coap;

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::footprint::Footprint;

use self::coap::Endpoint;
use self::drive::{Client, Lane, Pace, Schedule, drive};
use self::http::Connection;
use self::plan::{Length, Plan, Target};
use self::report::Window;
use self::tally::Tally;

pub use self::options::Options;
pub use self::report::{Failed, Generator, Latency, Report, Server};

/// From when the sockets are open until the first request, so that all threads start together.
const START_DELAY: Duration = Duration::from_millis(20);
/// Standard streams, poller and timer of each thread, files of the surrounding program.
const DESCRIPTORS_SPARE: u64 = 256;

/// Puts the load on the target and waits for the end.
///
/// Fails when the options make no sense or the target cannot be reached at the start; failures after that are counted.
pub fn run(options: &Options) -> Result<Report> {
    let plan = Arc::new(Plan::check(options)?);
    if let Some(pid) = options.server_pid {
        Footprint::of(pid)?;
    }
    allow_descriptors(plan.clients)?;
    let (tally, schedule, server) = match &plan.target {
        Target::Http(target) => run_clients(&plan, options.server_pid, |index, lane| {
            Connection::open(index, &plan, target, lane)
        })?,
        Target::Coap(target) => run_clients(&plan, options.server_pid, |index, lane| {
            Endpoint::open(index, &plan, target, lane)
        })?,
    };
    let end = schedule
        .end
        .or(tally.last_ok)
        .unwrap_or(schedule.measure_from);
    let window = end.saturating_duration_since(schedule.measure_from);
    Ok(Report::new(&options.target, &plan, &tally, window, server))
}

fn run_clients<C: Client + Send>(
    plan: &Plan,
    server_pid: Option<u32>,
    open: impl Fn(usize, &Lane) -> Result<C>,
) -> Result<(Tally, Schedule, Option<Window>)> {
    let mut fleets = Vec::with_capacity(plan.threads);
    for number in 0..plan.threads {
        let lane = Lane::new()?;
        let share = plan.clients / plan.threads + usize::from(number < plan.clients % plan.threads);
        let clients = (0..share)
            .map(|index| open(index, &lane))
            .collect::<Result<Vec<C>>>()?;
        fleets.push((lane, clients));
    }
    let schedule = schedule(plan, Instant::now() + START_DELAY);
    let (tally, server) = thread::scope(|scope| {
        let threads: Vec<_> = fleets
            .into_iter()
            .zip(0u64..)
            .map(|((lane, clients), number)| {
                let schedule = share_of(&schedule, number, plan.threads);
                thread::Builder::new()
                    .name(format!("load-{number}"))
                    .spawn_scoped(scope, move || drive(clients, lane, schedule))
                    .context("cannot start a load thread")
            })
            .collect::<Result<_>>()?;
        let before = sample_at(server_pid, Some(schedule.measure_from));
        let after_window = schedule.end.map(|end| sample_at(server_pid, Some(end)));
        let mut tally = Tally::new();
        for thread in threads {
            tally.add(
                &thread
                    .join()
                    .map_err(|_| anyhow!("a load thread panicked"))??,
            );
        }
        let after = after_window.unwrap_or_else(|| sample_at(server_pid, None));
        let server = match (server_pid, before, after) {
            (Some(pid), Some(before), Some(after)) => Some(Window {
                pid,
                before: before?,
                after: after.context("the server ended during the run")?,
            }),
            _ => None,
        };
        Ok::<_, anyhow::Error>((tally, server))
    })?;
    Ok((tally, schedule, server))
}

/// The whole load's schedule; [`share_of`] gives each thread its part.
fn schedule(plan: &Plan, start: Instant) -> Schedule {
    let measure_from = start + plan.warmup;
    let (pace, end) = match (plan.rate, plan.length) {
        (None, Length::Each(each)) => (Pace::Closed { each: Some(each) }, None),
        (None, Length::For(duration)) => {
            (Pace::Closed { each: None }, Some(measure_from + duration))
        }
        (Some(rate), length) => {
            let measured_from = whole(rate * plan.warmup.as_secs_f64());
            let measured = match length {
                Length::For(duration) => whole(rate * duration.as_secs_f64()),
                Length::Each(each) => each.saturating_mul(plan.clients as u64),
            };
            let total = measured_from.saturating_add(measured);
            let pace = Pace::Open {
                rate,
                next: 0,
                step: 1,
                measured_from,
                total,
            };
            #[expect(clippy::cast_precision_loss, reason = "exact below 2^53 requests")]
            let seconds = measured as f64 / rate;
            // A window longer than a year is as good as none.
            let window =
                Duration::try_from_secs_f64(seconds).unwrap_or(Duration::from_secs(1 << 25));
            (
                pace,
                Some(measure_from + window.min(Duration::from_secs(1 << 25))),
            )
        }
    };
    Schedule {
        start,
        measure_from,
        end,
        timeout: plan.timeout,
        chain: plan.chain,
        pace,
    }
}

/// Number `k` of the open loop belongs to thread `k` modulo the threads.
fn share_of(schedule: &Schedule, thread: u64, threads: usize) -> Schedule {
    let mut share = schedule.clone();
    if let Pace::Open { next, step, .. } = &mut share.pace {
        *next = thread;
        *step = threads as u64;
    }
    share
}

/// How many requests are due in a time; at least one.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "rates and times are checked to be positive, and `as` saturates"
)]
fn whole(requests: f64) -> u64 {
    requests.ceil() as u64
}

fn sample_at(pid: Option<u32>, at: Option<Instant>) -> Option<Result<Footprint>> {
    let pid = pid?;
    if let Some(at) = at {
        thread::sleep(at.saturating_duration_since(Instant::now()));
    }
    Some(Footprint::of(pid))
}

/// A thousand sockets need more descriptors than many systems give by default.
fn allow_descriptors(clients: usize) -> Result<()> {
    let needed = clients as u64 + DESCRIPTORS_SPARE;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    let raised = Rlimit {
        current: Some(limit.maximum.map_or(needed, |maximum| maximum.min(needed))),
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, raised)?;
    anyhow::ensure!(
        limit.maximum.is_none_or(|maximum| maximum >= needed),
        "{clients} clients need {needed} open files and the limit is {}, raise it with `ulimit -Hn {needed}`",
        limit.maximum.unwrap_or_default()
    );
    Ok(())
}
