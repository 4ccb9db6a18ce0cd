//! When operations start and for how long: closed or open loop, rates, steps or a trace, from the command line's words.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::arrivals::{Arrivals, Rates, Spacing, Stretch, count, whole};
use super::options::Options;
use super::trace::{Replay, Trace};

const DURATION_DEFAULT: Duration = Duration::from_secs(5);
const WARMUP_DEFAULT: Duration = Duration::from_secs(1);
/// Requests per second that one machine will not reach.
const RATE_MAX: f64 = 1e7;
const STEPS_MAX: usize = 10_000;
const SPEED_MAX: f64 = 1e6;
/// No run is meant to be longer than a year.
const SECONDS_MAX: f64 = 366.0 * 86_400.0;

/// What makes operations start.
#[derive(Debug, Clone)]
pub(super) enum Pacing {
    /// The end of the one before.
    Closed(Length),
    /// The time.
    Open(Open),
}

/// When measuring ends in the closed loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Length {
    For(Duration),
    /// This many measured operations per client.
    Each(u64),
}

/// An open loop.
#[derive(Debug, Clone)]
pub(super) struct Open {
    pub(super) arrivals: Arrivals,
    /// Length of the measured part.
    pub(super) window: Duration,
    /// Operations per second in it, on average.
    pub(super) rate: f64,
    /// In a few words.
    pub(super) what: String,
}

impl Pacing {
    /// Returns the warm-up as well, whose default depends on the kind.
    pub(super) fn check(options: &Options) -> Result<(Self, Duration)> {
        check_conflicts(options)?;
        let length = options.requests.map_or(
            Length::For(options.duration.unwrap_or(DURATION_DEFAULT)),
            Length::Each,
        );
        let warmup = options.warmup.unwrap_or(match length {
            Length::For(_) if options.trace.is_none() && options.steps.is_none() => WARMUP_DEFAULT,
            _ => Duration::ZERO,
        });
        let open = if let Some(rate) = options.rate {
            let stretch = constant(rate, length, options.clients * options.streams)?;
            let spacing = options.arrivals.unwrap_or(Spacing::Constant);
            let what = match spacing {
                Spacing::Constant => "constant",
                Spacing::Poisson => "poisson",
            };
            rates(vec![stretch], warmup, what.to_owned(), options)
        } else if let Some(text) = &options.steps {
            let steps = parse_steps(text)?;
            let poisson = options.arrivals == Some(Spacing::Poisson);
            let what = format!(
                "{} steps{}",
                steps.len(),
                if poisson { ", poisson" } else { "" }
            );
            rates(steps, warmup, what, options)
        } else if options.trace.is_some() {
            trace(warmup, options)?
        } else {
            return Ok((Self::Closed(length), warmup));
        };
        Ok((Self::Open(open), warmup))
    }
}

fn check_conflicts(options: &Options) -> Result<()> {
    let given = [
        ("--rate", options.rate.is_some()),
        ("--steps", options.steps.is_some()),
        ("--trace", options.trace.is_some()),
    ];
    let given: Vec<_> = given.iter().filter(|(_, given)| *given).collect();
    if let [(first, _), (second, _), ..] = given[..] {
        bail!("{first} and {second} both say when requests are due, leave out one");
    }
    ensure!(
        options.arrivals.is_none() || !given.is_empty(),
        "--arrivals says how requests lie in time, add --rate, --steps or --trace"
    );
    if options.steps.is_some() || options.trace.is_some() {
        ensure!(
            options.duration.is_none() && options.requests.is_none(),
            "{} says how long the load is, leave out --duration and --requests",
            given[0].0
        );
    }
    ensure!(
        options.trace.is_some()
            || options.trace_format.is_none()
                && options.trace_minutes.is_none()
                && options.trace_speed == 1.0,
        "--trace-format, --trace-minutes and --trace-speed are about a trace, add --trace FILE"
    );
    Ok(())
}

fn constant(rate: f64, length: Length, clients: usize) -> Result<Stretch> {
    ensure!(
        rate.is_finite() && rate > 0.0 && rate <= RATE_MAX,
        "rate of {rate} requests per second, use more than 0 and at most {RATE_MAX}"
    );
    let (seconds, requests) = match length {
        Length::For(duration) => (duration.as_secs_f64(), None),
        Length::Each(each) => {
            let all = each.saturating_mul(clients as u64);
            (count(all) / rate, Some(all))
        }
    };
    ensure!(
        seconds <= SECONDS_MAX,
        "{} requests at {rate} per second take more than a year, raise --rate",
        requests.unwrap_or_else(|| whole(seconds * rate))
    );
    Ok(Stretch {
        rate,
        seconds,
        count: requests,
    })
}

fn rates(mut stretches: Vec<Stretch>, warmup: Duration, what: String, options: &Options) -> Open {
    let seconds: f64 = stretches.iter().map(|stretch| stretch.seconds).sum();
    let expected: u64 = stretches.iter().map(Stretch::expected).sum();
    // The same load for the warm-up: what the first step brings.
    let first = Stretch {
        rate: stretches[0].rate,
        seconds: warmup.as_secs_f64(),
        count: None,
    };
    if !warmup.is_zero() {
        stretches.insert(0, first);
    }
    let spacing = options.arrivals.unwrap_or(Spacing::Constant);
    Open {
        arrivals: Arrivals::Rates(Rates::new(stretches, spacing, options.seed)),
        window: Duration::from_secs_f64(seconds),
        rate: if seconds > 0.0 {
            count(expected) / seconds
        } else {
            0.0
        },
        what,
    }
}

/// `RATE:DURATION,…`, such as `100:10s,2000:1s`.
fn parse_steps(text: &str) -> Result<Vec<Stretch>> {
    let steps: Vec<_> = text
        .split(',')
        .map(|step| parse_step(step.trim()).with_context(|| format!("step `{step}` of --steps")))
        .collect::<Result<_>>()?;
    ensure!(
        steps.len() <= STEPS_MAX,
        "{} steps, use at most {STEPS_MAX}",
        steps.len()
    );
    let seconds: f64 = steps.iter().map(|step| step.seconds).sum();
    ensure!(
        seconds > 0.0 && seconds <= SECONDS_MAX,
        "steps of {seconds} s together, use more than 0 and at most a year"
    );
    ensure!(
        steps.iter().any(|step| step.rate > 0.0),
        "all steps have the rate 0, give one another rate"
    );
    Ok(steps)
}

fn parse_step(step: &str) -> Result<Stretch> {
    let (rate, duration) = step
        .split_once(':')
        .context("is not RATE:DURATION, write for example 100:10s")?;
    let rate: f64 = rate
        .parse()
        .ok()
        .filter(|rate| (0.0..=RATE_MAX).contains(rate))
        .with_context(|| format!("rate `{rate}` is not a number from 0 to {RATE_MAX}"))?;
    let duration = humantime::parse_duration(duration)
        .with_context(|| format!("duration `{duration}` is not a time, write for example 10s"))?;
    Ok(Stretch {
        rate,
        seconds: duration.as_secs_f64(),
        count: None,
    })
}

fn trace(warmup: Duration, options: &Options) -> Result<Open> {
    let path = options.trace.as_ref().context("a trace")?;
    let format = options
        .trace_format
        .context("no format of the trace, add --trace-format azure2019, azure2021 or invitro")?;
    let speed = options.trace_speed;
    ensure!(
        speed.is_finite() && speed > 0.0 && speed <= SPEED_MAX,
        "trace speed {speed}, use more than 0 and at most {SPEED_MAX}"
    );
    let trace = Trace::read(path, format, options.trace_minutes.clone())?;
    let length = trace.length().div_f64(speed);
    ensure!(
        warmup < length,
        "the warm-up of {warmup:?} takes the whole trace, which lasts {length:?}, shorten --warmup"
    );
    let rate = count(trace.invocations()) / length.as_secs_f64();
    ensure!(
        rate <= RATE_MAX,
        "the trace has {rate:.0} invocations per second at {speed} times its speed, at most {RATE_MAX} can be due, lower --trace-speed"
    );
    let spacing = options.arrivals.unwrap_or(Spacing::Constant);
    Ok(Open {
        window: length - warmup,
        rate,
        what: format!(
            "trace of {} functions, minutes {}..{}, {speed} times as fast",
            trace.functions, trace.minutes.start, trace.minutes.end
        ),
        arrivals: Arrivals::Trace(Replay::new(Arc::new(trace), spacing, speed, options.seed)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(change: impl FnOnce(&mut Options), word: &str) {
        let mut options = Options::new("http://127.0.0.1:1/x");
        change(&mut options);
        let error = format!("{:#}", Pacing::check(&options).unwrap_err());
        assert!(error.contains(word), "{error}");
    }

    #[test]
    fn says_what_is_wrong() {
        refused(|o| o.rate = Some(0.0), "rate of 0 ");
        refused(|o| o.rate = Some(f64::NAN), "rate of NaN");
        refused(|o| o.arrivals = Some(Spacing::Poisson), "--arrivals");
        refused(
            |o| {
                o.rate = Some(1.0);
                o.steps = Some("1:1s".into());
            },
            "--rate and --steps",
        );
        refused(
            |o| {
                o.rate = Some(1e-9);
                o.requests = Some(1000);
            },
            "more than a year",
        );
        for (steps, word) in [
            ("", "RATE:DURATION"),
            ("10", "RATE:DURATION"),
            ("10:1s,x:1s", "rate `x`"),
            ("10:1s,10:x", "duration `x`"),
            ("-1:1s", "rate `-1`"),
            ("0:1s", "rate 0"),
            ("5:0s", "0 s together"),
        ] {
            refused(|o| o.steps = Some(steps.into()), word);
        }
        refused(
            |o| {
                o.steps = Some("1:1s".into());
                o.duration = Some(Duration::from_secs(1));
            },
            "leave out --duration",
        );
        refused(|o| o.trace_speed = 2.0, "add --trace FILE");
        refused(|o| o.trace = Some("x.csv".into()), "--trace-format");
    }

    #[test]
    fn the_warm_up_comes_before_what_is_measured() {
        let mut options = Options::new("http://127.0.0.1:1/x");
        options.steps = Some("2:1s, 4:500ms".into());
        options.warmup = Some(Duration::from_secs(1));
        let (Pacing::Open(open), warmup) = Pacing::check(&options).unwrap() else {
            panic!("open")
        };
        let at: Vec<_> = open
            .arrivals
            .map(|arrival| arrival.at.as_millis())
            .collect();
        assert_eq!(at, [0, 500, 1000, 1500, 2000, 2250]);
        assert_eq!((open.window.as_millis(), warmup.as_millis()), (1500, 1000));
        assert!((open.rate - 4.0 / 1.5).abs() < 1e-9);
    }
}
