//! The promises, one function each.
//!
//! Limits stand in `SPECIFICATION.md` too; a number there and a number here are the same promise.

mod many;
mod neighbours;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use super::Settings;
use super::measure::{Figure, Side, interleave, resting_pss_mb};
use super::table::{Limit, Row, Verdict, median};
use crate::baseline;
use crate::process::{Node, Server, address, deploy};

/// The functions whose memory at rest is promised.
const EXAMPLES: [&str; 4] = ["hello", "echo", "sieve", "light"];

/// One promise and how to find out.
pub(super) struct Promise {
    pub(super) name: &'static str,
    unit: &'static str,
    limit: Limit,
    pub(super) measure: fn(&Bench) -> Result<Found>,
}

/// What a row found.
pub(super) enum Found {
    /// Ours, theirs, and why not to trust them.
    Ratio(f64, f64, Vec<String>),
    Value(f64, Vec<String>),
    Missing(&'static str),
}

/// In the order of the table.
pub(super) const PROMISES: &[Promise] = &[
    Promise {
        name: "http hello fresh, 64 connections",
        unit: "CPU µs/req",
        limit: Limit::AtMost(1.9),
        measure: |bench| bench.http_against_baseline(None),
    },
    Promise {
        name: "http hello reuse, 64 connections",
        unit: "CPU µs/req",
        limit: Limit::AtMost(1.25),
        measure: |bench| bench.http_against_baseline(Some(1000)),
    },
    Promise {
        name: "coap hello fresh, 64 clients",
        unit: "CPU µs/req",
        limit: Limit::AtMost(2.7),
        measure: Bench::coap_against_baseline,
    },
    Promise {
        name: "http p99 at half of the highest rate",
        unit: "ms",
        limit: Limit::AtMost(2.0),
        measure: |bench| bench.p99_at_half(|node| &node.http),
    },
    Promise {
        name: "coap p99 at half of the highest rate",
        unit: "ms",
        limit: Limit::AtMost(2.0),
        measure: |bench| bench.p99_at_half(|node| &node.coap),
    },
    Promise {
        name: "http hello fresh, 2 workers against 1",
        unit: "CPU µs/req",
        limit: Limit::AtMost(1.05),
        measure: Bench::two_workers_against_one,
    },
    Promise {
        name: "http hello fresh against wasmtime serve, fresh instances",
        unit: "req/s",
        limit: Limit::AtLeast(8.0),
        measure: |bench| bench.hello_against_wasmtime_serve(None),
    },
    Promise {
        name: "http hello fresh against wasmtime serve, reused instances",
        unit: "req/s",
        limit: Limit::AtLeast(1.3),
        measure: |bench| bench.hello_against_wasmtime_serve(Some(1000)),
    },
    Promise {
        name: "http hello fresh against workerd",
        unit: "req/s",
        limit: Limit::AtLeast(4.0),
        measure: Bench::hello_against_workerd,
    },
    Promise {
        name: "http hello fresh against node:http",
        unit: "req/s",
        limit: Limit::AtLeast(1.0),
        measure: Bench::hello_against_node_http,
    },
    Promise {
        name: "coap hello against the node coap package",
        unit: "req/s",
        limit: Limit::AtLeast(5.0),
        measure: Bench::against_node_coap,
    },
    Promise {
        name: "wasi:http fresh against wasmtime serve",
        unit: "req/s",
        limit: Limit::AtLeast(2.5),
        measure: Bench::against_wasmtime_serve,
    },
    Promise {
        name: "p99 of a function among 10,000, against alone",
        unit: "ms",
        limit: Limit::AtMost(1.1),
        measure: Bench::p99_among_many,
    },
    Promise {
        name: "first call after restart",
        unit: "ms",
        limit: Limit::AtMost(5.0),
        measure: Bench::first_call_after_restart,
    },
    Promise {
        name: "memory at rest with the four examples",
        unit: "PSS MB",
        limit: Limit::AtMost(25.0),
        measure: Bench::memory_at_rest,
    },
    Promise {
        name: "memory of 1,000 idle functions",
        unit: "PSS MB more",
        limit: Limit::AtMost(10.0),
        measure: Bench::memory_of_idle_functions,
    },
    Promise {
        name: "resident memory of an idle function among 10,000",
        unit: "KB",
        limit: Limit::AtMost(30.0),
        measure: |bench| bench.memory_of_one_among_many(many::Kind::Resident),
    },
    Promise {
        name: "anonymous memory of an idle function among 10,000",
        unit: "KB",
        limit: Limit::AtMost(5.0),
        measure: |bench| bench.memory_of_one_among_many(many::Kind::Anonymous),
    },
    Promise {
        name: "size of the program",
        unit: "MB",
        limit: Limit::AtMost(30.0),
        measure: Bench::size,
    },
];

impl Promise {
    pub(super) fn row(&self, found: Result<Found>) -> Row {
        let mut row = Row {
            name: self.name,
            unit: self.unit,
            ours: None,
            theirs: None,
            value: None,
            limit: self.limit,
            verdict: Verdict::Broken,
            notes: Vec::new(),
        };
        match found {
            Ok(Found::Ratio(ours, theirs, notes)) => {
                (row.ours, row.theirs, row.value) = (Some(ours), Some(theirs), Some(ours / theirs));
                row.notes = notes;
            }
            Ok(Found::Value(value, notes)) => {
                (row.ours, row.value) = (Some(value), Some(value));
                row.notes = notes;
            }
            Ok(Found::Missing(reason)) => row.verdict = Verdict::Skipped(reason.to_owned()),
            Err(error) => row.verdict = Verdict::Failed(format!("{error:#}")),
        }
        if row.value.is_some_and(|value| self.limit.holds(value)) {
            row.verdict = Verdict::Ok;
        }
        row
    }
}

/// What the rows need: programs, functions and how long to measure.
pub(super) struct Bench {
    settings: Settings,
    baselines: PathBuf,
    /// Absolute, because nodes run elsewhere.
    examples: PathBuf,
}

impl Bench {
    pub(super) fn new(settings: &Settings) -> Result<Self> {
        let baselines = match &settings.baselines {
            Some(folder) => folder.clone(),
            None => {
                let program = std::env::current_exe().context("cannot find this program")?;
                program
                    .parent()
                    .context("a program is in a folder")?
                    .to_owned()
            }
        };
        let examples = fs::canonicalize(&settings.examples).with_context(|| {
            format!(
                "no examples at {}, give --examples",
                settings.examples.display()
            )
        })?;
        Ok(Self {
            settings: settings.clone(),
            baselines,
            examples,
        })
    }

    fn http_against_baseline(&self, reuse: Option<u32>) -> Result<Found> {
        let data = TempDir::new()?;
        let node = self.node(&data, &[])?;
        let path = match reuse {
            None => {
                self.deploy(&data, &self.examples.join("hello"))?;
                "hello"
            }
            Some(reuse) => {
                let folder = self.functions(
                    "default",
                    &["hello-reuse".to_owned()],
                    Some(reuse),
                    &self.hello_wasm(),
                )?;
                self.deploy(&data, folder.path())?;
                "hello-reuse"
            }
        };
        let ours = hello(&node.server, &node.http, path);
        let (server, url) = self.baseline("baseline-http", &["--workers", "2"])?;
        self.ratio(Figure::CpuPerRequest, &ours, &hello(&server, &url, ""))
    }

    fn coap_against_baseline(&self) -> Result<Found> {
        let (_data, node) = self.node_with_hello(&[])?;
        let (server, url) = self.baseline("baseline-coap", &[])?;
        let ours = hello(&node.server, &node.coap, "hello");
        self.ratio(Figure::CpuPerRequest, &ours, &hello(&server, &url, "hello"))
    }

    fn p99_at_half(&self, door: fn(&Node) -> &String) -> Result<Found> {
        let (_data, node) = self.node_with_hello(&[])?;
        let side = hello(&node.server, door(&node), "hello");
        let mut values = Vec::new();
        let mut notes = Vec::new();
        for _ in 0..self.settings.rounds {
            let highest = side.full(self.settings.duration)?.requests_per_second;
            let report = side.at_rate(self.settings.duration, highest / 2.0)?;
            values.push(report.latency_us.p99 / 1000.0);
            notes.extend(report.warnings);
        }
        Ok(Found::Value(median(&values), notes))
    }

    fn two_workers_against_one(&self) -> Result<Found> {
        let (_data_two, two) = self.node_with_hello(&["--workers", "2"])?;
        let (_data_one, one) = self.node_with_hello(&["--workers", "1"])?;
        self.ratio(
            Figure::CpuPerRequest,
            &hello(&two.server, &two.http, "hello"),
            &hello(&one.server, &one.http, "hello"),
        )
    }

    fn first_call_after_restart(&self) -> Result<Found> {
        let (data, mut node) = self.node_with_hello(&[])?;
        let mut values = Vec::new();
        for _ in 0..self.settings.rounds {
            node.server.stop()?;
            node = self.node(&data, &[])?;
            values.push(hello(&node.server, &node.http, "hello").once()?);
        }
        Ok(Found::Value(median(&values), Vec::new()))
    }

    fn memory_at_rest(&self) -> Result<Found> {
        let data = TempDir::new()?;
        let node = self.node(&data, &[])?;
        for example in EXAMPLES {
            self.deploy(&data, &self.examples.join(example))?;
        }
        // Code that never ran is not in memory yet, which would flatter.
        hello(&node.server, &node.http, "hello").once()?;
        hello(&node.server, &node.coap, "hello").once()?;
        let megabytes = resting_pss_mb(node.server.pid())?;
        Ok(Found::Value(megabytes, Vec::new()))
    }

    fn size(&self) -> Result<Found> {
        #[expect(clippy::cast_precision_loss, reason = "exact below 2^53")]
        let bytes = fs::metadata(&self.settings.mote)?.len() as f64;
        Ok(Found::Value(bytes / 1e6, Vec::new()))
    }

    fn ratio(&self, figure: Figure, ours: &Side, theirs: &Side) -> Result<Found> {
        let (rounds, duration) = (self.settings.rounds, self.settings.duration);
        let (ours, theirs, notes) = interleave(rounds, duration, figure, ours, theirs)?;
        ensure!(
            theirs > 0.0,
            "the other server used no time that could be measured, use a longer --duration"
        );
        Ok(Found::Ratio(ours, theirs, notes))
    }

    fn node(&self, data: &TempDir, flags: &[&str]) -> Result<Node> {
        Node::up(&self.settings.mote, data.path(), flags)
    }

    fn node_with_hello(&self, flags: &[&str]) -> Result<(TempDir, Node)> {
        let data = TempDir::new()?;
        let node = self.node(&data, flags)?;
        self.deploy(&data, &self.examples.join("hello"))?;
        Ok((data, node))
    }

    fn deploy(&self, data: &TempDir, what: &Path) -> Result<()> {
        deploy(&self.settings.mote, data.path(), what)
    }

    fn baseline(&self, name: &str, flags: &[&str]) -> Result<(Server, String)> {
        let mut server = Server::start(name, Command::new(self.baselines.join(name)).args(flags))?;
        let (_, url) = server.wait_for("its address", address)?;
        Ok((server, url))
    }

    fn hello_wasm(&self) -> PathBuf {
        self.examples.join("hello/hello.wasm")
    }

    /// A folder to deploy: `names` in one app, all from the same component.
    fn functions(
        &self,
        app: &str,
        names: &[String],
        reuse: Option<u32>,
        component: &Path,
    ) -> Result<TempDir> {
        let folder = TempDir::new()?;
        fs::copy(component, folder.path().join("function.wasm"))
            .with_context(|| format!("no component at {}", component.display()))?;
        fs::write(folder.path().join("mote.toml"), manifest(app, names, reuse))?;
        Ok(folder)
    }
}

/// The function at `path` of a server, or the server itself, which must say hello.
fn hello(server: &Server, url: &str, path: &str) -> Side {
    Side {
        target: format!("{url}/{path}"),
        pid: server.pid(),
        expect_body: Some(baseline::BODY),
    }
}

fn manifest(app: &str, names: &[String], reuse: Option<u32>) -> String {
    let mut manifest = format!("version = 1\napp = \"{app}\"\n");
    for name in names {
        // Writing to a string cannot fail.
        let _written = write!(
            manifest,
            "\n[function.{name}]\nruntime = \"wasm\"\nsource = \"function.wasm\"\n"
        );
        if let Some(reuse) = reuse {
            let _written = writeln!(manifest, "reuse = {reuse}");
        }
    }
    manifest
}

#[cfg(test)]
mod tests {
    use super::super::measure::CLIENTS;
    use super::*;

    #[test]
    fn promises_are_about_the_clients_that_are_measured() {
        let about_clients = PROMISES
            .iter()
            .filter(|promise| promise.name.contains("64 c"));
        assert_eq!(about_clients.count(), 3);
        assert_eq!(CLIENTS, 64);
    }

    #[test]
    fn a_missing_part_is_skipped_and_an_error_is_not() {
        let row = |found| PROMISES[0].row(found).verdict;
        assert!(matches!(row(Ok(Found::Missing("x"))), Verdict::Skipped(_)));
        assert!(matches!(row(Err(anyhow::anyhow!("x"))), Verdict::Failed(_)));
        assert_eq!(row(Ok(Found::Ratio(3.8, 2.0, Vec::new()))), Verdict::Ok);
        assert_eq!(row(Ok(Found::Ratio(3.9, 2.0, Vec::new()))), Verdict::Broken);
    }

    #[test]
    fn manifests_name_every_function() {
        let text = manifest("idle3", &["a".to_owned(), "b".to_owned()], Some(7));
        assert_eq!(text.matches("reuse = 7").count(), 2);
        assert!(
            text.starts_with("version = 1\napp = \"idle3\"\n\n[function.a]\n"),
            "{text}"
        );
    }
}
