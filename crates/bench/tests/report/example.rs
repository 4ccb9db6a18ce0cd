//! An experiment that nobody ran: numbers with the shape of real ones, for what is made of results.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the numbers are small"
)]

use std::collections::BTreeMap;

use fastrand::Rng;
use mote_bench::environment::{Environment, System};
use mote_bench::report::Material;
use mote_bench::results::{Figure, Kind, Measured, Metric, Published, Run};

const NETWORKS: [(&str, f64, f64); 5] = [
    ("loc", 0.0, 0.0),
    ("cld", 50.0, 7.0),
    ("ewst", 50.0, 5.0),
    ("etyp", 33.0, 3.4),
    ("eopt", 20.0, 2.0),
];
const SYSTEMS: [(&str, f64); 3] = [("mote", 0.4), ("container", 2.1), ("bare program", 0.3)];
const CLIENTS: [u64; 6] = [1, 4, 16, 64, 256, 1024];
const THREADS: [u64; 5] = [100, 200, 300, 400, 500];

/// Figures of every kind, with all that a page has to say: warnings, gaps, failed runs, a paper's numbers.
pub(crate) fn material() -> Material {
    let mut random = Rng::with_seed(7);
    let mut runs = Vec::new();
    runs.extend(overhead(&mut random));
    runs.extend(concurrency(&mut random));
    runs.extend(scalability(&mut random));
    runs.extend(workflow(&mut random));
    Material {
        name: "edge".to_owned(),
        title: "Functions on the edge of an emulated network".to_owned(),
        about: "The measurements of the BenchFaaS paper and of the tinyFaaS thesis, on one machine.\n\nEvery number of this example is made up.".to_owned(),
        source: "F. Carpio, M. Michalke, A. Jukan: BenchFaaS (2022)".to_owned(),
        seed: 42,
        quick: false,
        axes: vec![
            axis("network", NETWORKS.map(|(name, ..)| name)),
            axis("system", SYSTEMS.map(|(name, _)| name)),
            axis("clients", CLIENTS.map(|n| n.to_string())),
            axis("threads", THREADS.map(|n| n.to_string())),
            axis("chained by", ["client", "server"]),
        ],
        tests: ["overhead", "concurrency", "scalability", "workflow"].map(str::to_owned).to_vec(),
        figures: figures(),
        published: published(),
        runs,
        missing: 0,
        notes: vec!["The link and the system under test share two cores.".to_owned()],
    }
}

/// Many series with long names, in figures of every kind: what is hard to place.
pub(crate) fn crowded() -> Material {
    let mut random = Rng::with_seed(8);
    let mut runs = Vec::new();
    let sizes = [
        "1 kB of JSON",
        "10 kB of JSON",
        "100 kB of JSON",
        "1000 kB of JSON",
        "an image of 1.4 MB from the camera at the door",
    ];
    let systems = [
        "mote",
        "mote, fused",
        "tinyFaaS",
        "faasd",
        "Lean OpenWhisk",
        "Kubeless",
        "OpenFaaS on K3s",
        "bare program",
    ];
    for (place, size) in sizes.iter().enumerate() {
        for (index, system) in systems.iter().enumerate() {
            let median = 2.0 * (1.6_f64).powi(index as i32) * (2.5_f64).powi(place as i32);
            let axes = [("payload", *size), ("system", *system)];
            let mut run = run(
                "payload",
                &axes,
                1,
                &latencies(&mut random, 300, median, 0.3),
            );
            if index % 3 == 1 {
                let measured = run.measured.as_mut().unwrap();
                measured.warnings.push("the machine was busy".to_owned());
            }
            runs.push(run);
        }
    }
    let kinds = [Kind::Table, Kind::Cdf, Kind::Lines, Kind::Box, Kind::Strip];
    let figures = kinds.into_iter().flat_map(|kind| {
        [None, Some("payload".to_owned())].map(|each| Figure {
            kind,
            title: format!("{kind:?}"),
            caption: String::new(),
            tests: Vec::new(),
            only: BTreeMap::new(),
            x: vec![if each.is_some() { "test" } else { "payload" }.to_owned()],
            each,
            series: Some("system".to_owned()),
            y: Metric::Median,
            log: kind != Kind::Strip,
        })
    });
    Material {
        name: "crowded".to_owned(),
        title: "Payload".to_owned(),
        axes: vec![axis("payload", sizes), axis("system", systems)],
        figures: figures.collect(),
        published: vec![Published {
            test: "payload".to_owned(),
            only: BTreeMap::from([("payload".to_owned(), "1 kB of JSON".to_owned())]),
            metric: Metric::MedianIqr,
            value: 18.0,
            iqr: Some(2.0),
            of: "rpi.metal".to_owned(),
        }],
        runs,
        ..Material::default()
    }
}

/// The stamp that all runs of the example carry.
pub(crate) fn environment() -> Environment {
    Environment {
        system: System {
            kernel: "6.18.2".to_owned(),
            cpu: "AMD EPYC 9B14".to_owned(),
            cores: 2,
            load_average: 0.42,
        },
        version: "0.1.0".to_owned(),
        command: "mote-testbed run experiments/edge.toml --seed 42".to_owned(),
        unix_seconds: 1_793_000_000,
        network: Some("tun".to_owned()),
        platform: None,
    }
}

/// A run at a point, with `latencies_ms`, of which what lies over a second came too late.
pub(crate) fn run(test: &str, axes: &[(&str, &str)], repetition: u32, latencies_ms: &[f64]) -> Run {
    let mut buckets: BTreeMap<u64, u64> = BTreeMap::new();
    for ms in latencies_ms {
        let us = ms * 1000.0;
        let step = 10_f64.powf(us.log10().floor() - 2.0).max(1.0);
        *buckets
            .entry(((us / step).round() * step) as u64)
            .or_default() += 1;
    }
    let late = latencies_ms.iter().filter(|ms| **ms > 1000.0).count() as u64;
    let due = latencies_ms.len() as u64;
    let mut failed = BTreeMap::new();
    if late > 0 {
        failed.insert("timeout".to_owned(), late);
    }
    Run {
        test: test.to_owned(),
        axes: axes
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        repetition,
        measured: Some(Measured {
            seconds: 20.0,
            due,
            ok: due - late,
            failed,
            per_second: (due - late) as f64 / 20.0,
            latency: buckets
                .into_iter()
                .map(|(us, count)| (us as f64, count))
                .collect(),
            server_cpu_us: Some(21.5),
            server_pss_mb: Some(14.2),
            warnings: Vec::new(),
            values: BTreeMap::new(),
        }),
        failure: None,
        environment: Environment {
            unix_seconds: 1_793_000_000 + u64::from(repetition) * 60,
            ..environment()
        },
    }
}

/// Log-normal around `median`, as latencies are.
pub(crate) fn latencies(random: &mut Rng, count: usize, median: f64, sigma: f64) -> Vec<f64> {
    let normal = |random: &mut Rng| (0..12).map(|_| random.f64()).sum::<f64>() - 6.0;
    (0..count)
        .map(|_| median * (sigma * normal(random)).exp())
        .collect()
}

fn axis<T: Into<String>, const N: usize>(name: &str, values: [T; N]) -> (String, Vec<String>) {
    (name.to_owned(), values.map(Into::into).to_vec())
}

fn overhead(random: &mut Rng) -> Vec<Run> {
    let mut runs = Vec::new();
    for (network, delay, deviation) in NETWORKS {
        for (system, service) in SYSTEMS {
            for repetition in 1..=5 {
                let base = latencies(random, 100, service, 0.2);
                let jitter = latencies(random, 100, 1.0, 0.3);
                let all: Vec<f64> = base
                    .iter()
                    .zip(jitter)
                    .map(|(base, jitter)| base + delay + deviation * (jitter - 1.0))
                    .collect();
                let axes = [("network", network), ("system", system)];
                let mut run = run("overhead", &axes, repetition, &all);
                if network == "cld" && system == "container" && repetition < 3 {
                    run.measured.as_mut().unwrap().warnings.push(
                        "the generator computed 93 % of the time of its 1 thread: it limits requests per second and latency".to_owned(),
                    );
                }
                if network == "etyp" && system == "bare program" {
                    run.measured = None;
                    run.failure = Some("the far host did not answer within 10 s".to_owned());
                }
                runs.push(run);
            }
        }
    }
    runs
}

fn concurrency(random: &mut Rng) -> Vec<Run> {
    let mut runs = Vec::new();
    for clients in CLIENTS {
        for (system, service) in SYSTEMS {
            for repetition in 1..=3 {
                let queue = 1.0 + clients as f64 * if system == "container" { 0.7 } else { 0.12 };
                let all = latencies(random, 4000, service * queue, 0.45);
                let axes = [("clients", &*clients.to_string()), ("system", system)];
                runs.push(run("concurrency", &axes, repetition, &all));
            }
        }
    }
    runs
}

fn scalability(random: &mut Rng) -> Vec<Run> {
    let mut runs = Vec::new();
    for threads in THREADS {
        for (system, most) in [
            ("mote", 1900.0),
            ("container", 720.0),
            ("bare program", 2100.0),
        ] {
            for network in ["loc", "cld"] {
                for repetition in 1..=3 {
                    let due = threads as f64 * 4.0;
                    let mut run = run(
                        "scalability",
                        &[
                            ("threads", &*threads.to_string()),
                            ("system", system),
                            ("network", network),
                        ],
                        repetition,
                        &latencies(random, 500, 5.0, 0.5),
                    );
                    let measured = run.measured.as_mut().unwrap();
                    let rate = due.min(most) * (0.95 + 0.05 * random.f64());
                    measured.per_second = if network == "cld" { rate * 0.93 } else { rate };
                    if system == "container" && threads == 500 {
                        measured.warnings.push("412 requests were due and not sent: all 500 clients were waiting for answers".to_owned());
                    }
                    if system == "bare program" && threads == 300 {
                        continue;
                    }
                    runs.push(run);
                }
            }
        }
    }
    runs
}

fn workflow(random: &mut Rng) -> Vec<Run> {
    let mut runs = Vec::new();
    for (network, delay, deviation) in NETWORKS {
        for mode in ["client", "server"] {
            for repetition in 1..=3 {
                let hops = if mode == "server" && network == "cld" {
                    1.0
                } else {
                    5.0
                };
                let base = latencies(random, 100, 6.0, 0.2);
                let jitter = latencies(random, 100, 1.0, 0.35);
                let all: Vec<f64> = base
                    .iter()
                    .zip(jitter)
                    .map(|(base, jitter)| base + hops * (delay + deviation * (jitter - 1.0)))
                    .collect();
                let axes = [("network", network), ("chained by", mode)];
                runs.push(run("workflow", &axes, repetition, &all));
            }
        }
    }
    runs
}

fn figures() -> Vec<Figure> {
    let plain = |kind, title: &str, test: &str| Figure {
        kind,
        title: title.to_owned(),
        caption: String::new(),
        tests: vec![test.to_owned()],
        only: BTreeMap::new(),
        each: None,
        series: Some("system".to_owned()),
        x: Vec::new(),
        y: Metric::MedianIqr,
        log: false,
    };
    vec![
        Figure {
            caption: "What a call costs through each network, one call at a time.".to_owned(),
            series: Some("network".to_owned()),
            x: vec!["test".to_owned(), "system".to_owned()],
            ..plain(Kind::Table, "Overhead: median and interquartile range of response time", "overhead")
        },
        Figure {
            caption: "The further left a curve, the better; where it levels off is the share that was answered in time.".to_owned(),
            each: Some("clients".to_owned()),
            log: true,
            ..plain(Kind::Cdf, "Latency by number of clients", "concurrency")
        },
        Figure {
            caption: "Each thread asks every 250 ms, so 500 threads ask for 2000 a second.".to_owned(),
            x: vec!["threads".to_owned()],
            each: Some("network".to_owned()),
            y: Metric::Rate,
            ..plain(Kind::Lines, "Throughput by number of threads", "scalability")
        },
        Figure {
            x: vec!["clients".to_owned()],
            y: Metric::Median,
            log: true,
            ..plain(Kind::Lines, "Median latency by number of clients", "concurrency")
        },
        Figure {
            x: vec!["network".to_owned()],
            ..plain(Kind::Box, "Overhead by network", "overhead")
        },
        Figure {
            series: Some("chained by".to_owned()),
            x: vec!["network".to_owned()],
            caption: "Five calls one after the other, chained by the client or by the functions.".to_owned(),
            ..plain(Kind::Strip, "A workflow of five functions", "workflow")
        },
        Figure {
            x: vec!["clients".to_owned()],
            y: Metric::Success,
            ..plain(Kind::Table, "Answered in time", "concurrency")
        },
    ]
}

/// Table I of the paper, its first two rows.
fn published() -> Vec<Published> {
    let rows = [
        (
            "rpi.metal",
            [
                (14.0, 3.0),
                (40.0, 6.0),
                (40.0, 4.0),
                (31.0, 3.0),
                (24.0, 3.0),
            ],
        ),
        (
            "vm.large",
            [
                (9.0, 2.0),
                (35.0, 4.0),
                (36.0, 3.0),
                (27.0, 2.0),
                (20.0, 2.0),
            ],
        ),
    ];
    let mut published = Vec::new();
    for (of, numbers) in rows {
        for ((network, ..), (value, iqr)) in NETWORKS.iter().zip(numbers) {
            published.push(Published {
                test: "overhead".to_owned(),
                only: BTreeMap::from([("network".to_owned(), (*network).to_owned())]),
                metric: Metric::MedianIqr,
                value,
                iqr: Some(iqr),
                of: of.to_owned(),
            });
        }
    }
    published
}
