//! What a link does to packets, in words of the command line and as presets.

use std::time::Duration;

use anyhow::{Result, ensure};
use clap::{Args, Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};

use super::kind::Choice;
use super::relay;

/// A link and what runs across it.
#[derive(Debug, Clone, Args)]
#[command(subcommand_negates_reqs = true, args_conflicts_with_subcommands = true)]
pub struct Settings {
    #[command(subcommand)]
    pub(super) instead: Option<Instead>,

    #[command(flatten)]
    pub(super) shape: Shape,

    /// How the link is emulated
    #[arg(long, value_enum, default_value = "auto")]
    pub(super) kind: Choice,

    /// A command for the far host, 10.77.0.2, that runs until the other one has ended
    #[arg(long)]
    pub(super) serve: Option<String>,

    /// The command to run on the near host, 10.77.0.1
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub(super) command: Vec<String>,
}

/// What there is instead of two hosts.
#[derive(Debug, Clone, Subcommand)]
pub(super) enum Instead {
    /// Relay datagrams and streams across a link from socket to socket, which needs no root
    ///
    /// Runs until it is ended, and tells then what became of the packets. Of TCP no piece is lost, doubled or
    /// reordered: one that would be lost comes later by the time that sending it again takes.
    Relay(relay::Settings),
}

/// What is done to packets, the same in each direction.
#[derive(Debug, Clone, Args)]
pub struct Shape {
    /// One of the networks of the BenchFaaS paper, as a start
    #[arg(long, value_enum, default_value = "loc")]
    pub preset: Preset,

    /// Mean time that a packet takes in each direction
    #[arg(long, value_parser = humantime::parse_duration)]
    pub delay: Option<Duration>,

    /// Standard deviation of that time, which is normally distributed and never negative
    #[arg(long, value_parser = humantime::parse_duration)]
    pub deviation: Option<Duration>,

    /// How much a packet's time is that of the one before: 0 to 1
    #[arg(long)]
    pub correlation: Option<f64>,

    /// Percent of packets that are lost
    #[arg(long)]
    pub loss: Option<f64>,

    /// Percent of packets that arrive twice
    #[arg(long)]
    pub duplicate: Option<f64>,

    /// Percent of packets that take no time and so overtake others
    #[arg(long)]
    pub reorder: Option<f64>,

    /// Megabits per second in each direction
    #[arg(long)]
    pub rate: Option<f64>,

    /// Packets that wait in each direction; more are dropped
    #[arg(long)]
    pub queue: Option<usize>,

    /// Let no packet overtake another, as on one cable; its delays are then longer than asked for
    #[arg(long)]
    pub in_order: bool,

    /// The same seed gives the same fates to the same packets; netem has none
    #[arg(long, default_value_t = 1)]
    pub seed: u64,

    /// Print the report as JSON
    #[arg(long)]
    pub json: bool,
}

/// The networks of the BenchFaaS paper, §III-B: 25 ± 5 ms and 0.4 % loss to the cloud, and that divided by
/// N = 2, 3, 5 between nodes of the edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Preset {
    /// Local: nothing is done to packets
    Loc,
    /// Cloud: 25 ± 5 ms, 0.4 %
    Cld,
    /// Edge, worst case: the cloud's by 2
    Ewst,
    /// Edge, typical case: by 3
    Etyp,
    /// Edge, best case: by 5
    Eopt,
}

/// What is done to packets in one direction.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Impairments {
    /// Mean delay.
    pub delay: Duration,
    /// Its standard deviation.
    pub deviation: Duration,
    /// Of a delay with the one before, 0 to below 1.
    pub correlation: f64,
    /// Share of packets that are lost, 0 to 1, as those below.
    pub loss: f64,
    /// Share that arrives twice.
    pub duplicate: f64,
    /// Share that is not delayed.
    pub reorder: f64,
    /// Bits per second.
    pub rate: Option<f64>,
    /// Most packets that wait.
    pub queue: usize,
    /// Whether none overtakes another.
    pub in_order: bool,
}

/// As netem's own limit: what a second of 1,000 packets needs.
const QUEUE: usize = 1000;
const DELAY_MAX: Duration = Duration::from_secs(60);

impl Preset {
    /// What the preset does.
    #[must_use]
    pub fn impairments(self) -> Impairments {
        let divided = |n: u32| Impairments {
            delay: Duration::from_millis(25) / n,
            deviation: Duration::from_millis(5) / n,
            loss: 0.004 / f64::from(n),
            ..Self::Loc.impairments()
        };
        match self {
            Self::Loc => Impairments {
                delay: Duration::ZERO,
                deviation: Duration::ZERO,
                correlation: 0.0,
                loss: 0.0,
                duplicate: 0.0,
                reorder: 0.0,
                rate: None,
                queue: QUEUE,
                in_order: false,
            },
            Self::Cld => divided(1),
            Self::Ewst => divided(2),
            Self::Etyp => divided(3),
            Self::Eopt => divided(5),
        }
    }
}

impl Settings {
    /// Whether the report is to be JSON.
    #[must_use]
    pub fn json(&self) -> bool {
        match &self.instead {
            Some(Instead::Relay(settings)) => settings.shape.json,
            None => self.shape.json,
        }
    }
}

impl Shape {
    /// The preset with what was said beside it.
    pub fn impairments(&self) -> Result<Impairments> {
        let preset = self.preset.impairments();
        let share =
            |percent: Option<f64>, preset: f64| percent.map_or(preset, |value| value / 100.0);
        let impairments = Impairments {
            delay: self.delay.unwrap_or(preset.delay),
            deviation: self.deviation.unwrap_or(preset.deviation),
            correlation: self.correlation.unwrap_or(preset.correlation),
            loss: share(self.loss, preset.loss),
            duplicate: share(self.duplicate, preset.duplicate),
            reorder: share(self.reorder, preset.reorder),
            rate: self.rate.map(|megabits| megabits * 1e6).or(preset.rate),
            queue: self.queue.unwrap_or(preset.queue),
            in_order: self.in_order,
        };
        impairments.check()?;
        Ok(impairments)
    }
}

impl Impairments {
    /// Whether this is a link that can be.
    pub fn check(&self) -> Result<()> {
        for (name, share) in [
            ("loss", self.loss),
            ("duplicate", self.duplicate),
            ("reorder", self.reorder),
        ] {
            let percent = share * 100.0;
            ensure!(
                (0.0..=1.0).contains(&share),
                "--{name} {percent} is not a percentage from 0 to 100"
            );
        }
        let correlation = self.correlation;
        ensure!(
            (0.0..1.0).contains(&correlation),
            "--correlation {correlation} is not from 0 to below 1"
        );
        for (name, time) in [("delay", self.delay), ("deviation", self.deviation)] {
            ensure!(
                time <= DELAY_MAX,
                "--{name} {} is longer than {}",
                humantime::format_duration(time),
                humantime::format_duration(DELAY_MAX)
            );
        }
        if let Some(rate) = self.rate {
            ensure!(
                rate.is_finite() && rate >= 1.0,
                "--rate {} is not a number of megabits per second above zero",
                rate / 1e6
            );
        }
        ensure!(
            self.queue > 0,
            "--queue 0 lets no packet through, write 1 or more"
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_are_those_of_the_paper() {
        let said = |preset: Preset| {
            let link = preset.impairments();
            let millis = |time: Duration| time.as_secs_f64() * 1e3;
            (
                millis(link.delay),
                millis(link.deviation),
                link.loss * 100.0,
            )
        };
        let near = |(a, b, c): (f64, f64, f64), (x, y, z): (f64, f64, f64)| {
            (a - x).abs() < 1e-3 && (b - y).abs() < 1e-3 && (c - z).abs() < 1e-3
        };
        assert!(near(said(Preset::Loc), (0.0, 0.0, 0.0)));
        assert!(near(said(Preset::Cld), (25.0, 5.0, 0.4)));
        assert!(near(said(Preset::Ewst), (12.5, 2.5, 0.2)));
        assert!(near(said(Preset::Etyp), (8.333, 1.667, 0.1333)));
        assert!(near(said(Preset::Eopt), (5.0, 1.0, 0.08)));
    }

    #[test]
    fn impossible_links_are_named() {
        let check = |change: fn(&mut Impairments), says: &str| {
            let mut link = Preset::Cld.impairments();
            change(&mut link);
            let error = link.check().unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        };
        Preset::Cld.impairments().check().unwrap();
        check(|link| link.loss = 1.5, "--loss 150");
        check(|link| link.duplicate = f64::NAN, "--duplicate");
        check(|link| link.correlation = 1.0, "--correlation 1");
        check(|link| link.delay = Duration::from_secs(61), "--delay 1m 1s");
        check(|link| link.rate = Some(0.0), "--rate 0");
        check(|link| link.queue = 0, "--queue 0");
    }
}
