//! Every metric of a node: its name, labels and help in one place, as OpenMetrics text.
//!
//! Nothing here is on the path of a call: the values are read from the counters of the plan's
//! entries when somebody asks. Label values are function names, so there are as many series as
//! functions deployed, times a fixed number; outcomes that never happened are left out.

use std::fmt;
use std::sync::atomic::Ordering;

use mote_core::error::ErrorKind;
use mote_core::invocation::Origin;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use crate::invoker::Invoker;
use crate::outcome::{Histogram, Outcome};
use crate::plan::Entry;
use crate::pool::group::Group;

/// A value that a part outside of the engine adds to the page, read when somebody asks.
pub struct Probe {
    /// Name without the `mote_` in front and without a `_total` at the end.
    pub name: &'static str,
    /// What it counts, as a sentence without a full stop.
    pub help: &'static str,
    /// Whether it only rises.
    pub counter: bool,
    /// Reads it.
    pub read: Box<dyn Fn() -> u64 + Send + Sync>,
}

impl fmt::Debug for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Probe").field(&self.name).finish()
    }
}

/// Values of a part outside of the engine that differ in their labels. Their number is the part's to
/// bound.
pub struct Family {
    /// Name without the `mote_` in front and without a `_total` at the end.
    pub name: &'static str,
    /// What they count, as a sentence without a full stop.
    pub help: &'static str,
    /// Whether they only rise.
    pub counter: bool,
    /// The names of the labels.
    pub labels: &'static [&'static str],
    /// Reads them: the value of each label, in the order of their names, and the number.
    pub read: Box<dyn Fn() -> Vec<(Vec<String>, u64)> + Send + Sync>,
}

impl fmt::Debug for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Family").field(&self.name).finish()
    }
}

/// The whole page.
pub fn page(invoker: &Invoker, probes: &[Probe], families: &[Family]) -> String {
    let mut registry = Registry::with_prefix("mote");
    registry.register_collector(Box::new(Page {
        invoker: invoker.clone(),
    }));
    let mut text = String::new();
    let mut written = encode(&mut text, &registry);
    // Probes borrow, and a collector may not; so their lines go in front of the end mark.
    if let Some(end) = text.rfind("# EOF") {
        text.truncate(end);
    }
    written = written.and_then(|()| {
        probes
            .iter()
            .try_for_each(|probe| write_probe(&mut text, probe))
    });
    written = written.and_then(|()| {
        families
            .iter()
            .try_for_each(|family| write_family(&mut text, family))
    });
    written.expect("writing to a string does not fail");
    text.push_str("# EOF\n");
    text
}

fn write_probe(
    text: &mut String,
    Probe {
        name,
        help,
        counter,
        read,
    }: &Probe,
) -> fmt::Result {
    use fmt::Write as _;
    let suffix = write_head(text, name, help, *counter)?;
    writeln!(text, "mote_{name}{suffix} {}", read())
}

fn write_family(text: &mut String, family: &Family) -> fmt::Result {
    use fmt::Write as _;
    let Family { name, help, .. } = family;
    let suffix = write_head(text, name, help, family.counter)?;
    for (values, number) in (family.read)() {
        write!(text, "mote_{name}{suffix}")?;
        for (place, (label, value)) in family.labels.iter().zip(&values).enumerate() {
            let before = if place == 0 { '{' } else { ',' };
            let value = value.replace('\\', "\\\\").replace('"', "\\\"");
            write!(text, "{before}{label}=\"{}\"", value.replace('\n', "\\n"))?;
        }
        writeln!(text, "}} {number}")?;
    }
    Ok(())
}

/// What stands in front of a metric; returns the end of its name.
fn write_head(
    text: &mut String,
    name: &str,
    help: &str,
    counter: bool,
) -> Result<&'static str, fmt::Error> {
    use fmt::Write as _;
    let (kind, suffix) = if counter {
        ("counter", "_total")
    } else {
        ("gauge", "")
    };
    writeln!(text, "# HELP mote_{name} {help}.")?;
    writeln!(text, "# TYPE mote_{name} {kind}")?;
    Ok(suffix)
}

#[derive(Debug)]
struct Page {
    invoker: Invoker,
}

impl Collector for Page {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let plan = self.invoker.catalog();
        let shared = self.invoker.shared();
        let entries: Vec<&Entry> = plan.entries().map(AsRef::as_ref).collect();

        let mut calls = encoder.encode_descriptor(
            "calls",
            "Calls that ended, by function, door and outcome",
            None,
            MetricType::Counter,
        )?;
        for entry in &entries {
            for origin in Origin::ALL {
                for outcome in Outcome::all() {
                    let count = entry.state.counters.calls(*origin, outcome);
                    if count > 0 {
                        let [function, app] = labels(entry);
                        let set = [
                            function,
                            app,
                            ("outcome", outcome.label()),
                            ("door", origin.label()),
                        ];
                        calls
                            .encode_family(&set)?
                            .encode_counter::<NoLabelSet, _, u64>(&count, None)?;
                    }
                }
            }
        }

        let mut refused = encoder.encode_descriptor(
            "refused",
            "Requests that a door refused before they were calls",
            None,
            MetricType::Counter,
        )?;
        for origin in Origin::ALL {
            for kind in ErrorKind::ALL {
                let count = shared.refused(*origin, *kind);
                if count > 0 {
                    let set = [("door", origin.label()), ("reason", kind.label())];
                    refused
                        .encode_family(&set)?
                        .encode_counter::<NoLabelSet, _, u64>(&count, None)?;
                }
            }
        }

        for (name, help, read) in HISTOGRAMS {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
            for entry in &entries {
                let (sum, buckets) = read(entry).read();
                let count = buckets.iter().map(|(_, count)| count).sum();
                if count > 0 {
                    metric
                        .encode_family(&labels(entry))?
                        .encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
                }
            }
        }
        for (name, help, read) in GAUGES {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for entry in &entries {
                metric
                    .encode_family(&labels(entry))?
                    .encode_gauge(&read(entry))?;
            }
        }
        for (name, help, read) in COUNTERS {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for entry in &entries {
                metric
                    .encode_family(&labels(entry))?
                    .encode_counter::<NoLabelSet, _, u64>(&read(entry), None)?;
            }
        }

        let functions = i64::try_from(entries.len()).unwrap_or(i64::MAX);
        for (name, help, value) in [
            ("functions", "Functions deployed", functions),
            (
                "calls_in_flight",
                "Calls that run now",
                shared.gate.in_flight().into(),
            ),
            (
                "calls_waiting",
                "Calls that wait for room on the node",
                shared.gate.waiting().into(),
            ),
            (
                "calls_handed_over",
                "Calls that functions handed over to the node and that have not ended",
                i64::try_from(shared.spawned.count()).unwrap_or(i64::MAX),
            ),
        ] {
            encoder
                .encode_descriptor(name, help, None, MetricType::Gauge)?
                .encode_gauge(&value)?;
        }
        Ok(())
    }
}

type Read<T> = (&'static str, &'static str, fn(&Entry) -> T);
type ReadHistogram = (&'static str, &'static str, fn(&Entry) -> &Histogram);

const HISTOGRAMS: [ReadHistogram; 3] = [
    (
        "call_duration_seconds",
        "Time from admission of a call to its outcome",
        |entry| &entry.state.counters.duration,
    ),
    (
        "cold_start_seconds",
        "Time that calls waited for an instance to start",
        |entry| &entry.state.counters.cold_start,
    ),
    (
        "queue_wait_seconds",
        "Time that calls waited for a permit",
        |entry| &entry.state.counters.queue_wait,
    ),
];

const GAUGES: [Read<i64>; 6] = [
    (
        "function_in_flight",
        "Calls of the function that run now",
        |entry| entry.gate.in_flight().into(),
    ),
    (
        "function_waiting",
        "Calls of the function that wait for a permit",
        |entry| entry.gate.waiting().into(),
    ),
    (
        "function_loaded_bytes",
        "Bytes that the function's instance holds while idle",
        |entry| i64::try_from(entry.pool.loaded_bytes().unwrap_or(0)).unwrap_or(i64::MAX),
    ),
    (
        "function_instances",
        "Instances of the function that run outside of the node, the paused ones included",
        |entry| {
            let group = entry.pool.group().map(Group::view);
            group.map_or(0, |view| i64::from(view.running + view.paused))
        },
    ),
    (
        "function_instances_paused",
        "Instances of the function that are paused",
        |entry| {
            entry
                .pool
                .group()
                .map_or(0, |group| group.view().paused.into())
        },
    ),
    (
        "function_observers",
        "Watchers of the function's published values",
        |entry| i64::try_from(entry.state.published.watchers()).unwrap_or(i64::MAX),
    ),
];

const COUNTERS: [Read<u64>; 4] = [
    (
        "published",
        "Published values that differed from the one before",
        |entry| entry.state.counters.published.load(Ordering::Relaxed),
    ),
    (
        "publish_refused",
        "Values that were not published because of a limit",
        |entry| entry.state.counters.publish_refused.load(Ordering::Relaxed),
    ),
    (
        "instance_deaths",
        "Instances of the live version that died by themselves or did not start",
        |entry| entry.pool.group().map_or(0, |group| group.view().deaths),
    ),
    (
        "log_lines_dropped",
        "Log lines that made room for newer ones",
        |entry| entry.state.log.dropped(),
    ),
];

fn labels(entry: &Entry) -> [(&'static str, &str); 2] {
    [
        ("function", entry.name.function()),
        ("app", entry.name.app()),
    ]
}
