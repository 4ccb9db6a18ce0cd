//! An emulated link: two hosts on this machine, with a wide-area network between them.
//!
//! Each host is a network namespace with a TUN device. A thread for each direction takes every packet off one device
//! and writes it to the other when the model says so, or not at all. That needs no `netem` in the kernel, and nothing
//! stays behind however this ends: namespaces without a name, and the devices in them, go with the process.
//! The link cannot be faster than its threads get processor time, so how late packets were written is in the report.

mod host;
mod model;
mod relay;
mod settings;

use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use serde::Serialize;

use crate::process;

pub use self::host::Host;
pub use self::model::{Fate, Model};
pub use self::relay::Direction;
pub use self::settings::{Impairments, Preset, Settings};

/// A link between two hosts, which works until it is dropped.
#[derive(Debug)]
pub struct Link {
    /// The near host, at 10.77.0.1.
    pub near: Host,
    /// The far one, at 10.77.0.2.
    pub far: Host,
    impairments: [Impairments; 2],
    stop: Arc<AtomicBool>,
    counters: Arc<Counters>,
    threads: Vec<thread::JoinHandle<Result<Direction>>>,
}

/// What threads of a link count while it is up.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) arrived: AtomicU64,
    pub(crate) late: AtomicU64,
    pub(crate) dropped: AtomicU64,
    pub(crate) ended: AtomicBool,
}

/// Whether a link was the one that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeptUp {
    pub(crate) arrived: u64,
    /// Of these, those that were more than a millisecond and a twentieth of the delay late.
    pub(crate) late: u64,
    /// Packets for which there was no room to wait.
    pub(crate) dropped: u64,
    /// Whether a direction does not work any more.
    pub(crate) ended: bool,
}

/// A packet that is later than this and a twentieth of the delay is late.
const LATE: Duration = Duration::from_millis(1);

/// What became of the packets.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// What was asked for, there and back.
    pub settings: [Impairments; 2],
    /// From the near host to the far one.
    pub there: Direction,
    /// From the far host to the near one.
    pub back: Direction,
}

impl Link {
    /// Makes both hosts and the link, with what is done to packets there and back. `seed`: the same fates for the same
    /// packets. Needs root and `/dev/net/tun`.
    pub fn up(impairments: [Impairments; 2], seed: u64) -> Result<Self> {
        for direction in &impairments {
            direction.check()?;
        }
        let near = Host::new("10.77.0.1", "10.77.0.2")?;
        let far = Host::new("10.77.0.2", "10.77.0.1")?;
        let stop = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        let counters = Arc::new(Counters::default());
        let ways = [(&near, &far), (&far, &near)].into_iter().zip(&impairments);
        for (number, ((from, to), impairments)) in ways.enumerate() {
            let (from, to) = (from.device()?, to.device()?);
            let model = Model::new(
                impairments.clone(),
                seed.wrapping_mul(2).wrapping_add(number as u64),
            );
            let (stop, counters) = (Arc::clone(&stop), Arc::clone(&counters));
            let late = LATE + impairments.delay / 20;
            let relay = move || {
                let ran = relay::run(&from, &to, model, &stop, (&counters, late));
                counters.ended.store(true, Ordering::Relaxed);
                ran
            };
            let thread = thread::Builder::new().name(format!("link-{number}"));
            threads.push(
                thread
                    .spawn(relay)
                    .context("cannot start a thread for the link")?,
            );
        }
        Ok(Self {
            near,
            far,
            impairments,
            stop,
            counters,
            threads,
        })
    }

    /// How it kept up so far, both directions together.
    pub(crate) fn kept_up(&self) -> KeptUp {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        KeptUp {
            arrived: of(&self.counters.arrived),
            late: of(&self.counters.late),
            dropped: of(&self.counters.dropped),
            ended: self.counters.ended.load(Ordering::Relaxed),
        }
    }

    /// Ends it and tells what became of the packets.
    pub fn down(mut self) -> Result<Report> {
        self.stop.store(true, Ordering::Relaxed);
        let mut directions = self.threads.drain(..).map(|thread| {
            let joined = thread.join();
            joined.map_err(|_| anyhow!("a thread of the link panicked"))?
        });
        let mut next = || directions.next().context("the link has two directions")?;
        Ok(Report {
            settings: self.impairments.clone(),
            there: next()?,
            back: next()?,
        })
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // What it failed of was of interest to whoever asked for the report.
            let _ = thread.join();
        }
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (name, direction) in [("there", &self.there), ("back ", &self.back)] {
            let [mean, p99, worst] = direction.late_us;
            let Direction {
                sent,
                arrived,
                lost,
                dropped,
                doubled,
                refused,
                ..
            } = direction;
            writeln!(
                f,
                "{name}  {sent} packets, {arrived} arrived, {lost} lost, {dropped} without room, {doubled} twice, \
                 {refused} refused; late by {mean:.0} µs on average, p99 {p99:.0}, worst {worst:.0}"
            )?;
        }
        Ok(())
    }
}

/// Runs a command on the near host while another, a line for the shell, runs on the far one.
pub fn across(settings: &Settings) -> Result<(ExitStatus, Report)> {
    let impairments = settings.impairments()?;
    let link = Link::up([impairments.clone(), impairments], settings.seed)?;
    let server = match &settings.serve {
        Some(line) => {
            let mut shell = Command::new("sh");
            // So that ending it ends what it runs.
            shell
                .args(["-c", &format!("exec {line}")])
                .stdin(Stdio::null());
            Some(Served(link.far.spawn(shell)?))
        }
        None => None,
    };
    let (program, arguments) = settings
        .command
        .split_first()
        .context("no command to run")?;
    let mut command = Command::new(program);
    command.args(arguments);
    let status = link.near.spawn(command)?.wait()?;
    drop(server);
    Ok((status, link.down()?))
}

/// The far host's command, which ends with this.
struct Served(Child);

impl Drop for Served {
    fn drop(&mut self) {
        // A node that is not killed leaves nothing behind. Nothing is left to do about what cannot be ended.
        let _ended = process::stop("the far host's command", &mut self.0);
    }
}
