//! A load generator for HTTP and CoAP that tells the truth: what was sent, what failed and why, how late, and
//! whether it kept up itself.
//!
//! Generators that wait for an answer before they send the next request stop measuring when the server stalls. With a
//! rate, steps or a trace this one is an open loop: requests are due at times of their own and latency counts from then.
//! Without those it is a closed loop, which finds the highest rate. Each thread runs its own clients over epoll and
//! shares nothing, so the generator costs less than the servers it measures; when that is not enough, the report says so.
//! A run is bounded by its duration or its number of requests, and one timeout more for each request of a chain.

mod options;
mod plan;
mod report;

mod target;

mod arrivals;
mod pacing;
mod trace;

mod client;
mod drive;
mod meter;
mod place;
mod tally;

mod http;
mod http2;

mod coap;

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

use crate::footprint::Footprint;
use crate::poller::allow_sockets;

use self::arrivals::Share;
use self::client::{Client, Lane};
use self::coap::Endpoint;
use self::drive::{Pace, Schedule, drive};
use self::http::Connection;
use self::http2::Stream;
use self::pacing::{Length, Pacing};
use self::place::Place;
use self::plan::Plan;
use self::report::Window;
use self::tally::Tally;
use self::target::Targets;

pub use self::arrivals::Spacing;
pub use self::options::Options;
pub use self::report::{Failed, Generator, Latency, Part, Report, Server};
pub use self::trace::Format;
pub use self::trace::generate::Generate;

/// From when the sockets are open until the first request, so that all threads start together.
const START_DELAY: Duration = Duration::from_millis(20);

/// Puts the load on the target and waits for the end.
///
/// Fails when the options make no sense or the target cannot be reached at the start; failures after that are counted.
pub fn run(options: &Options) -> Result<Report> {
    let plan = Arc::new(Plan::check(options)?);
    if let Some(pid) = options.server_pid {
        Footprint::of(pid)?;
    }
    allow_sockets(plan.clients * plan.targets.len())?;
    let (tally, schedule, server) = match &plan.targets {
        Targets::Http(targets) => {
            run_clients(&plan, options, targets, |place, target, lane, wanted| {
                Ok(vec![Connection::open(place, &plan, target, lane, wanted)?])
            })?
        }
        Targets::Http2(targets) => {
            run_clients(&plan, options, targets, |place, target, lane, wanted| {
                Stream::open(place, &plan, target, lane, wanted)
            })?
        }
        Targets::Coap(targets) => {
            run_clients(&plan, options, targets, |place, target, lane, _| {
                Ok(vec![Endpoint::open(place, &plan, target, lane)?])
            })?
        }
    };
    let end = schedule
        .end
        .or(tally.last_ok)
        .unwrap_or(schedule.measure_from);
    let window = end.saturating_duration_since(schedule.measure_from);
    Ok(Report::new(&options.targets, &plan, &tally, window, server))
}

/// `open` makes a connection to a target, at once if that is wanted, and returns the clients on it.
fn run_clients<C: Client + Send, T>(
    plan: &Plan,
    options: &Options,
    targets: &[T],
    open: impl Fn(Place, &T, &Lane, bool) -> Result<Vec<C>>,
) -> Result<(Tally, Schedule, Option<Window>)> {
    let server_pid = options.server_pid;
    let mut fleets = Vec::with_capacity(plan.threads);
    for number in 0..plan.threads {
        let lane = Lane::new()?;
        let share = plan.clients / plan.threads + usize::from(number < plan.clients % plan.threads);
        let mut clients = Vec::with_capacity(share * plan.streams);
        for connection in 0..share {
            // The first one finds out whether the targets are there; others open what they come to need.
            let first = number == 0 && connection == 0;
            let wanted = first || plan.keep_alive && targets.len() == 1;
            let mut sharing: Vec<Vec<C>> = (0..plan.streams).map(|_| Vec::new()).collect();
            for (target, asked) in targets.iter().enumerate() {
                let client = clients.len();
                let lines = open(Place { client, target }, asked, &lane, wanted)?;
                for (lines, line) in sharing.iter_mut().zip(lines) {
                    lines.push(line);
                }
            }
            clients.extend(sharing);
        }
        fleets.push((lane, clients));
    }
    let schedule = schedule(plan, Instant::now() + START_DELAY);
    let (tally, server) = thread::scope(|scope| {
        let threads: Vec<_> = fleets
            .into_iter()
            .enumerate()
            .map(|(number, (lane, clients))| {
                let schedule = share_of(&schedule, number, plan.threads);
                thread::Builder::new()
                    .name(format!("load-{number}"))
                    .spawn_scoped(scope, move || drive(clients, lane, schedule))
                    .context("cannot start a load thread")
            })
            .collect::<Result<_>>()?;
        let before = sample_at(server_pid, Some(schedule.measure_from));
        let after_window = schedule.end.map(|end| sample_at(server_pid, Some(end)));
        let mut tally = Tally::new(targets.len());
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
    let (pace, end) = match &plan.pacing {
        Pacing::Closed(Length::Each(each)) => (Pace::Closed { each: Some(*each) }, None),
        Pacing::Closed(Length::For(duration)) => {
            (Pace::Closed { each: None }, Some(measure_from + *duration))
        }
        Pacing::Open(open) => {
            let share = Share {
                arrivals: open.arrivals.clone(),
                skip: 0,
                threads: 1,
            };
            (Pace::Open(share), Some(measure_from + open.window))
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

/// Arrival `k` of the open loop belongs to thread `k` modulo the threads.
fn share_of(schedule: &Schedule, thread: usize, threads: usize) -> Schedule {
    let mut part = schedule.clone();
    if let Pace::Open(share) = &mut part.pace {
        share.skip = thread;
        share.threads = threads;
    }
    part
}

fn sample_at(pid: Option<u32>, at: Option<Instant>) -> Option<Result<Footprint>> {
    let pid = pid?;
    if let Some(at) = at {
        thread::sleep(at.saturating_duration_since(Instant::now()));
    }
    Some(Footprint::of(pid))
}
