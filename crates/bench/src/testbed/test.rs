//! A test of the experiment file: load, and what to expect.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Deserializer, de};

use super::file::{Value, When, one_or_more, time};

/// Largest body that is made up.
const BODY_BYTES_MAX: usize = 64 << 20;

/// Load and what to expect, made at every point of some axes.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Test {
    pub(super) name: String,
    /// Its axes; all of the matrix when there are none here.
    pub(super) axes: Option<Vec<String>>,
    /// Where it is on other axes, which are not gone through.
    #[serde(default, deserialize_with = "crate::results::texts")]
    pub(super) at: BTreeMap<String, String>,
    /// The machine that the load comes from.
    pub(super) from: String,
    /// The platform whose processor time and memory are read, when it is on this system.
    pub(super) platform: Option<String>,
    /// A function whose instances are counted meanwhile, on that platform, which is Mote.
    pub(super) observe: Option<String>,
    #[serde(default)]
    pub(super) when: When,

    /// One address, or several.
    #[serde(deserialize_with = "one_or_more")]
    pub(super) target: Vec<String>,
    pub(super) clients: usize,
    /// Operations of each client.
    pub(super) requests: Option<u64>,
    #[serde(default, deserialize_with = "time")]
    pub(super) duration: Option<Duration>,
    /// Operations of all clients together.
    pub(super) requests_in_all: Option<u64>,
    /// Operations per second of all clients; 0 is as fast as it goes.
    pub(super) rate: Option<f64>,
    /// The same for each client.
    pub(super) rate_each: Option<f64>,
    #[serde(default)]
    pub(super) arrivals: Arrivals,
    /// Rates and how long each, as `--steps` of the load generator takes them.
    pub(super) steps: Option<String>,
    #[serde(default, deserialize_with = "time")]
    pub(super) warmup: Option<Duration>,
    #[serde(default, deserialize_with = "time")]
    pub(super) timeout: Option<Duration>,
    #[serde(default, deserialize_with = "time")]
    pub(super) ack_timeout: Option<Duration>,
    pub(super) threads: Option<usize>,
    pub(super) method: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub(super) body: Option<String>,
    /// A file beside the experiment file.
    pub(super) body_file: Option<String>,
    /// A JSON text of so many bytes, which may be written as `10KB`.
    #[serde(default, deserialize_with = "bytes")]
    pub(super) body_bytes: Option<usize>,
    #[serde(default, deserialize_with = "crate::results::texts")]
    pub(super) headers: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "text")]
    pub(super) expect_status: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub(super) expect_body: Option<String>,
    /// The reply has to be the body that was sent.
    #[serde(default)]
    pub(super) expect_echo: bool,
    #[serde(default = "yes")]
    pub(super) keep_alive: bool,
    /// CoAP without acknowledgements.
    #[serde(default)]
    pub(super) non: bool,
    #[serde(default)]
    pub(super) http2: bool,
    /// Requests of one operation, one after the other.
    pub(super) chain: Option<u32>,
}

/// When requests are due at a rate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Arrivals {
    #[default]
    Constant,
    Poisson,
}

impl Test {
    /// What the load generator is told, with words for places still in it; `body` is the file of a body.
    pub(super) fn arguments(&self, body: Option<&Path>, seed: u64) -> Vec<String> {
        let mut all: Vec<String> = self.target.clone();
        let mut add = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                all.extend([format!("--{name}"), value]);
            }
        };
        let time = |value: Option<Duration>| {
            value.map(|value| {
                humantime::format_duration(value)
                    .to_string()
                    .replace(' ', "")
            })
        };
        add("clients", Some(self.clients.to_string()));
        add("requests", self.each().map(|value| value.to_string()));
        add("duration", time(self.duration));
        add("rate", self.rate_of_all().map(|value| value.to_string()));
        if self.arrivals == Arrivals::Poisson && self.rate_of_all().is_some() {
            add("arrivals", Some("poisson".to_owned()));
            add("seed", Some(seed.to_string()));
        }
        add("steps", self.steps.clone());
        add("warmup", time(self.warmup));
        add("timeout", time(self.timeout));
        add("ack-timeout", time(self.ack_timeout));
        add("threads", self.threads.map(|value| value.to_string()));
        add("method", self.method.clone());
        add("body-file", body.map(|path| path.display().to_string()));
        add("expect-status", self.expect_status.clone());
        add("expect-body", self.expect_body.clone());
        for (name, value) in &self.headers {
            add("header", Some(format!("{name}: {value}")));
        }
        add("chain", self.chain.map(|value| value.to_string()));
        let flags = [
            ("--no-keep-alive", !self.keep_alive),
            ("--non", self.non),
            ("--http2", self.http2),
            ("--expect-echo", self.expect_echo),
        ];
        all.extend(
            flags
                .iter()
                .filter(|(_, set)| *set)
                .map(|(name, _)| (*name).to_owned()),
        );
        all
    }

    fn rate_of_all(&self) -> Option<f64> {
        #[expect(clippy::cast_precision_loss, reason = "there are far fewer clients")]
        let clients = self.clients as f64;
        let rate = self.rate.or(self.rate_each.map(|each| each * clients));
        rate.filter(|rate| *rate > 0.0)
    }

    /// Operations of each client. As `hey` has it, a rest that does not divide is left out.
    fn each(&self) -> Option<u64> {
        let shared = |all: u64| (all / self.clients.max(1) as u64).max(1);
        self.requests.or(self.requests_in_all.map(shared))
    }

    /// The body of its requests.
    pub(super) fn body(&self, folder: &Path) -> Result<Option<Vec<u8>>> {
        if let Some(text) = &self.body {
            return Ok(Some(text.clone().into_bytes()));
        }
        if let Some(name) = &self.body_file {
            let path = folder.join(name);
            let read = std::fs::read(&path);
            return read
                .map(Some)
                .with_context(|| format!("cannot read {}", path.display()));
        }
        self.body_bytes.map(made_up).transpose()
    }

    /// Whether it can be made as it is written.
    pub(super) fn check(&self) -> Result<()> {
        let bodies = [
            self.body.is_some(),
            self.body_file.is_some(),
            self.body_bytes.is_some(),
        ];
        let pairs = [
            (
                "body, body_file and body_bytes",
                bodies.iter().filter(|given| **given).count() > 1,
            ),
            (
                "rate and rate_each",
                self.rate.is_some() && self.rate_each.is_some(),
            ),
            (
                "requests and requests_in_all",
                self.requests.is_some() && self.requests_in_all.is_some(),
            ),
            (
                "requests and duration",
                self.each().is_some() && self.duration.is_some(),
            ),
            (
                "steps and a rate",
                self.steps.is_some() && self.rate_of_all().is_some(),
            ),
        ];
        for (what, both) in pairs {
            ensure!(!both, "it has more than one of {what}");
        }
        for rate in [self.rate, self.rate_each].into_iter().flatten() {
            ensure!(
                rate.is_finite() && rate >= 0.0,
                "a rate of {rate} is impossible"
            );
        }
        ensure!(self.clients > 0, "clients = 0 makes no load");
        ensure!(!self.target.is_empty(), "it has no target");
        ensure!(
            self.observe.is_none() || self.platform.is_some(),
            "`observe` counts instances on a platform, and the test names none"
        );
        Ok(())
    }

    /// How long it takes at least, when that is known.
    pub(super) fn expected(&self) -> Option<Duration> {
        let warmup = self.warmup.unwrap_or_default();
        if let Some(duration) = self.duration {
            return Some(duration.saturating_add(warmup));
        }
        #[expect(clippy::cast_precision_loss, reason = "far below 2^53 requests")]
        let seconds = self.each()? as f64 * self.clients as f64 / self.rate_of_all()?;
        Duration::try_from_secs_f64(seconds)
            .ok()
            .map(|time| time.saturating_add(warmup))
    }
}

/// A JSON text of so many bytes, as the payload tests of BenchFaaS send.
fn made_up(bytes: usize) -> Result<Vec<u8>> {
    const BEGIN: &[u8] = b"{\"payload\":\"";
    const END: &[u8] = b"\"}";
    const FILLING: &[u8] = b"0123456789abcdef";
    ensure!(
        (BEGIN.len() + END.len()..=BODY_BYTES_MAX).contains(&bytes),
        "body_bytes = {bytes} is not from {} to {BODY_BYTES_MAX}",
        BEGIN.len() + END.len()
    );
    let filling = FILLING.iter().cycle().take(bytes - BEGIN.len() - END.len());
    Ok(BEGIN.iter().chain(filling).chain(END).copied().collect())
}

/// A number of bytes, or a size as people write it.
fn bytes<'de, D: Deserializer<'de>>(from: D) -> Result<Option<usize>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Number(usize),
        Text(String),
    }
    let Some(either) = Deserialize::deserialize(from)? else {
        return Ok(None);
    };
    match either {
        Either::Number(bytes) => Ok(Some(bytes)),
        Either::Text(text) => {
            let size: Option<bytesize::ByteSize> = text.parse().ok();
            let bytes = size.and_then(|size| usize::try_from(size.as_u64()).ok());
            let bytes =
                bytes.ok_or_else(|| de::Error::custom(format!("`{text}` is no size such as 10KB")));
            bytes.map(Some)
        }
    }
}

/// A text that may look like a number.
fn text<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    let value: Option<Value> = Deserialize::deserialize(from)?;
    Ok(value.map(|value| value.to_string()))
}

fn yes() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_of_so_many_bytes_is_json() {
        for bytes in [14, 15, 1000, 100_000] {
            let body = made_up(bytes).unwrap();
            assert_eq!(body.len(), bytes);
            serde_json::from_slice::<serde_json::Value>(&body).unwrap();
        }
        assert!(made_up(13).is_err());
        assert!(made_up(usize::MAX).is_err());
    }
}
