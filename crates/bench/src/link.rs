//! Emulated links: two hosts on this machine, with a wide-area network between them.
//!
//! Each host is a network namespace with a device for each of its links. Where the kernel has netem, it emulates the
//! link; where it has not, a thread for each direction takes every packet off one device and writes it to the other when
//! the model says so, or not at all. Nothing stays behind however this ends: namespaces without a name, and the devices
//! in them, go with the process. Where this user may make no namespaces, [`relay`] passes datagrams and streams from
//! socket to socket, with the same model.
//! A link of this program cannot be faster than its threads get processor time, so how late packets were is in the report.

mod settings;

mod kind;

mod model;
mod way;

mod host;
mod netem;
mod tun;

pub mod relay;

use std::fmt;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::Serialize;

use crate::process;

pub use self::host::Host;
pub use self::kind::{Abilities, Choice, Kind};
pub use self::model::{Fate, Model};
pub use self::relay::Relay;
use self::settings::Instead;
pub use self::settings::{Impairments, Preset, Settings, Shape};
pub use self::way::Direction;
pub(crate) use self::way::KeptUp;
use self::way::{Counters, Way};

/// A link between two hosts, which works until it is dropped.
#[derive(Debug)]
pub struct Link {
    impairments: [Impairments; 2],
    at_work: AtWork,
}

/// Who emulates it.
#[derive(Debug)]
enum AtWork {
    /// The kernel, with these hosts and their devices.
    Netem([(Host, String); 2]),
    /// Threads of this program, one for each direction.
    Tun {
        stop: Arc<AtomicBool>,
        counters: Arc<Counters>,
        threads: Vec<thread::JoinHandle<Result<Direction>>>,
    },
}

/// What became of the packets.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// How the link was emulated.
    pub kind: Kind,
    /// What was asked for, there and back.
    pub settings: [Impairments; 2],
    /// From the near host to the far one.
    pub there: Direction,
    /// From the far host to the near one.
    pub back: Direction,
}

impl Link {
    /// Connects two hosts by netem or TUN devices, with what is done to packets from the first to the second and back.
    /// `seed`: the same fates for the same packets, except by netem.
    pub fn between(
        near: &Host,
        far: &Host,
        kind: Kind,
        impairments: [Impairments; 2],
        seed: u64,
    ) -> Result<Self> {
        for direction in &impairments {
            direction.check()?;
        }
        let at_work = match kind {
            Kind::Netem => {
                let [there, back] = netem::connect(near, far, &impairments)?;
                AtWork::Netem([(near.clone(), there), (far.clone(), back)])
            }
            Kind::Tun => tunnel(near, far, &impairments, seed)?,
            Kind::Relay => bail!("a relay is between sockets, and not between hosts"),
        };
        Ok(Self {
            impairments,
            at_work,
        })
    }

    /// How it kept up so far, both directions together. The kernel does not say it of netem.
    pub(crate) fn kept_up(&self) -> Option<KeptUp> {
        match &self.at_work {
            AtWork::Netem(_) => None,
            AtWork::Tun { counters, .. } => Some(counters.kept_up()),
        }
    }

    /// Ends it and tells what became of the packets.
    pub fn down(mut self) -> Result<Report> {
        let settings = self.impairments.clone();
        let (kind, directions) = match &mut self.at_work {
            AtWork::Netem(ends) => {
                let counted = ends
                    .iter()
                    .map(|(host, device)| netem::counted(host, device));
                (Kind::Netem, counted.collect::<Result<Vec<_>>>()?)
            }
            AtWork::Tun { stop, threads, .. } => {
                stop.store(true, Ordering::Relaxed);
                let joined = threads.drain(..).map(|thread| {
                    let joined = thread.join();
                    joined.map_err(|_| anyhow!("a thread of the link panicked"))?
                });
                (Kind::Tun, joined.collect::<Result<Vec<_>>>()?)
            }
        };
        let mut directions = directions.into_iter();
        let mut next = || directions.next().context("a link has two directions");
        Ok(Report {
            kind,
            settings,
            there: next()?,
            back: next()?,
        })
    }
}

/// A device on each host, and a thread for each direction between them.
fn tunnel(near: &Host, far: &Host, impairments: &[Impairments; 2], seed: u64) -> Result<AtWork> {
    let devices = [near.tun(far.address())?, far.tun(near.address())?];
    let [of_near, of_far] = devices.map(Arc::new);
    let stop = Arc::new(AtomicBool::new(false));
    let counters = Arc::new(Counters::default());
    let mut threads = Vec::new();
    let ways = [(&of_near, &of_far), (&of_far, &of_near)];
    for (number, ((from, to), impairments)) in ways.into_iter().zip(impairments).enumerate() {
        let way = Way::new(impairments, of_direction(seed, number), &counters)?;
        let (from, to) = (Arc::clone(from), Arc::clone(to));
        let (stop, counters) = (Arc::clone(&stop), Arc::clone(&counters));
        let run = move || {
            let ran = tun::run(&from, &to, way, &stop);
            counters.ended.store(true, Ordering::Relaxed);
            ran
        };
        let thread = thread::Builder::new().name(format!("link-{number}"));
        let thread = thread.spawn(run);
        threads.push(thread.context("cannot start a thread for the link")?);
    }
    Ok(AtWork::Tun {
        stop,
        counters,
        threads,
    })
}

/// Of a link's seed, that of one of its directions.
fn of_direction(seed: u64, number: usize) -> u64 {
    seed.wrapping_mul(2).wrapping_add(number as u64)
}

impl Drop for Link {
    fn drop(&mut self) {
        if let AtWork::Tun { stop, threads, .. } = &mut self.at_work {
            stop.store(true, Ordering::Relaxed);
            for thread in threads.drain(..) {
                // What it failed of was of interest to whoever asked for the report.
                let _ = thread.join();
            }
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "link   {}", self.kind)?;
        for (name, direction) in [("there", &self.there), ("back ", &self.back)] {
            let Direction {
                sent,
                arrived,
                lost,
                dropped,
                doubled,
                resent,
                refused,
                late_us,
            } = direction;
            write!(f, "{name}  {sent} packets, {arrived} arrived, ")?;
            let Some([mean, p99, worst]) = late_us else {
                // All that netem says.
                writeln!(f, "{lost} lost or without room")?;
                continue;
            };
            write!(f, "{lost} lost, {dropped} without room, {doubled} twice, ")?;
            if self.kind == Kind::Relay {
                write!(f, "{resent} sent again, ")?;
            }
            writeln!(
                f,
                "{refused} refused; late by {mean:.0} µs on average, p99 {p99:.0}, worst {worst:.0}"
            )?;
        }
        Ok(())
    }
}

/// Runs a command on the near host while another, a line for the shell, runs on the far one; or a relay. Returns how the
/// command ended.
pub fn run(settings: &Settings) -> Result<(ExitCode, Report)> {
    if let Some(Instead::Relay(settings)) = &settings.instead {
        return Ok((ExitCode::SUCCESS, relay::run(settings)?));
    }
    let (status, report) = across(settings)?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok((ExitCode::from(code.unwrap_or(1)), report))
}

fn across(settings: &Settings) -> Result<(ExitStatus, Report)> {
    ensure!(
        settings.kind != Choice::Relay,
        "a relay is between sockets and not between hosts: write `mote-bench link relay`"
    );
    let impairments = settings.shape.impairments()?;
    let abilities = Abilities::probe();
    let kind = abilities.kind(settings.kind, impairments.in_order)?;
    ensure!(
        kind != Kind::Relay,
        "two hosts cannot be had{}: try `mote-bench link relay`, which needs no root",
        abilities
            .why_not_tun()
            .map_or_else(String::new, |why| format!(" ({why})"))
    );
    let (near, far) = (Host::new("10.77.0.1")?, Host::new("10.77.0.2")?);
    let both = [impairments.clone(), impairments];
    let link = Link::between(&near, &far, kind, both, settings.shape.seed)?;
    let server = match &settings.serve {
        Some(line) => {
            let mut shell = Command::new("sh");
            // So that ending it ends what it runs.
            shell
                .args(["-c", &format!("exec {line}")])
                .stdin(Stdio::null());
            Some(Served(far.spawn(shell)?))
        }
        None => None,
    };
    let (program, arguments) = settings
        .command
        .split_first()
        .context("no command to run")?;
    let mut command = Command::new(program);
    command.args(arguments);
    let status = near.spawn(command)?.wait()?;
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
