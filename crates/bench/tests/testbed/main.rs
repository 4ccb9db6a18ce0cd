//! Experiments from file to results, with the real programs: a bare server as the platform, the real load generator.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail where they are")]

mod builds;
mod network;
mod ssh;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

pub(crate) const BENCH: &str = env!("CARGO_BIN_EXE_mote-bench");
pub(crate) const SERVER: &str = env!("CARGO_BIN_EXE_baseline-http");
const PATIENCE: Duration = Duration::from_secs(30);

/// An experiment on one machine: a bare server, and a test at four points.
pub(crate) const SMALL: &str = r#"
version = 1
name = "small"
title = "A small <experiment>"
repetitions = 2

[matrix]
system = ["one", "two"]
clients = [1, 3]

[values]
requests = 20

[variants.quick]
about = "fewer"
repetitions = 1
matrix = { clients = [1] }
values = { requests = 5 }

[machines.board]
kind = "process"

[platforms.bare]
kind = "command"
on = "board"
command = ["SERVER", "--address", "127.0.0.1:0", "--workers", "1"]
ready = { line = "http " }

[[tests]]
name = "hello"
from = "board"
platform = "bare"
target = "{http}/"
clients = "{clients}"
requests = "{requests}"
expect_body = "hello, world"

[[figures]]
kind = "lines"
title = "Median"
series = "system"
x = ["clients"]
y = "median"
"#;

/// A folder with an experiment file.
pub(crate) struct Place {
    pub(crate) folder: TempDir,
}

impl Place {
    pub(crate) fn with(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let text = text.replace("SERVER", SERVER);
        fs::write(folder.path().join("experiment.toml"), text).unwrap();
        Self { folder }
    }

    pub(crate) fn out(&self) -> PathBuf {
        self.folder.path().join("results")
    }

    /// The controller. No experiment here has a node, so that any program will do for one.
    pub(crate) fn command(&self, more: &[&str]) -> Command {
        let mut command = Command::new(BENCH);
        command
            .arg("run")
            .arg(self.folder.path().join("experiment.toml"))
            .arg("--out")
            .arg(self.out())
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if !more.contains(&"--mote") {
            command.args(["--mote", "/bin/true"]);
        }
        command
    }

    pub(crate) fn run(&self, more: &[&str]) -> Output {
        self.command(more).output().unwrap()
    }

    pub(crate) fn runs(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.out().join("runs.jsonl")).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// What an experiment that cannot be says.
    #[track_caller]
    pub(crate) fn fails(&self, more: &[&str], says: &[&str]) {
        let output = self.run(more);
        let said = said(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        for part in says {
            assert!(said.contains(part), "`{part}` is not in: {said}");
        }
        assert!(!self.out().join("runs.jsonl").exists(), "{said}");
    }
}

pub(crate) fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Reads what a controller says until a line has this in it.
fn wait_for(child: &mut Child, part: &str) {
    let reader = BufReader::new(child.stderr.as_mut().unwrap());
    let mut all = String::new();
    for line in reader.lines() {
        let line = line.unwrap();
        if line.contains(part) {
            return;
        }
        all.push_str(&line);
    }
    panic!("it ended without saying `{part}`: {all}");
}

/// Processes of the system whose command line has this in it.
pub(crate) fn processes_with(part: &str) -> usize {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let command_lines = entries.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    command_lines
        .filter(|line| String::from_utf8_lossy(line).contains(part))
        .count()
}

#[track_caller]
pub(crate) fn eventually(what: &str, holds: impl Fn() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < until, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn every_point_is_measured_and_reported() {
    let place = Place::with(SMALL);
    let output = place.run(&[]);
    assert!(output.status.success(), "{}", said(&output));
    let runs = place.runs();
    assert_eq!(runs.len(), 8);
    for run in &runs {
        let measured = &run["measured"];
        let clients: u64 = run["axes"]["clients"].as_str().unwrap().parse().unwrap();
        assert_eq!(measured["ok"], clients * 20, "{run}");
        let counted = measured["latency"].as_array().unwrap().iter();
        let counted: u64 = counted.map(|pair| pair[1].as_u64().unwrap()).sum();
        assert_eq!(counted, clients * 20);
        assert!(measured["server_cpu_us"].is_number(), "{run}");
        assert!(run["environment"]["kernel"].is_string());
    }
    for file in [
        "runs.csv",
        "latencies.csv",
        "report.json",
        "report.html",
        "experiment.toml",
    ] {
        let length = fs::metadata(place.out().join(file)).unwrap().len();
        assert!(length > 0, "{file}");
    }
    // Once more: everything is there already.
    let output = place.run(&[]);
    assert!(
        output.status.success() && place.runs().len() == 8,
        "{}",
        said(&output)
    );
}

#[test]
fn a_variant_is_another_experiment() {
    let place = Place::with(SMALL);
    let output = place.run(&["--quick"]);
    assert!(output.status.success(), "{}", said(&output));
    let runs = place.runs();
    assert_eq!(runs.len(), 2);
    assert!(runs.iter().all(|run| run["measured"]["ok"] == 5));
    let output = place.run(&[]);
    assert!(said(&output).contains("--out"), "{}", said(&output));
    assert_eq!(place.runs().len(), 2);
}

#[test]
fn what_cannot_be_is_said_before_anything_starts() {
    let change = |from: &str, to: &str| {
        assert!(SMALL.contains(from));
        Place::with(&SMALL.replace(from, to))
    };
    change("expect_body", "expects_body").fails(&[], &["line ", "expects_body"]);
    change("version = 1\n", "version = 7\n").fails(&[], &["version 7", "reads 1"]);
    change("clients = [1, 3]", "clients = []").fails(&[], &["`clients`", "no values"]);
    change("on = \"board\"", "on = \"table\"").fails(&[], &["`table`", "no machine"]);
    change("\"{clients}\"", "\"many\"").fails(&[], &["line ", "usize"]);
    change("series = \"system\"", "series = \"systems\"")
        .fails(&[], &["figure `Median`", "`systems`"]);
    change("name = \"hello\"", "name = \"hello\"\naxes = [\"system\"]")
        .fails(&[], &["test `hello`", "clients", "axes"]);
    change(
        "name = \"hello\"",
        "name = \"hello\"\nwhen = { sytem = \"one\" }",
    )
    .fails(&[], &["`sytem`", "no axis"]);
    change("name = \"small\"", "name = \"../small\"").fails(&[], &["../small"]);
    change("kind = \"process\"", "kind = \"machine\"").fails(&[], &["line ", "machine"]);
    change("platform = \"bare\"", "platform = \"bar\"")
        .fails(&[], &["platform `bar`", "only bare"]);
    change(
        "clients = \"{clients}\"",
        "clients = \"{clients}\"\nrate = -1",
    )
    .fails(&[], &["test `hello`", "-1"]);
    change("clients = [1, 3]", "clients = [1, \"1\"]").fails(&[], &["`clients`", "twice"]);
    change("[machines.board]", "[machines.Board]").fails(&[], &["Board"]);
    change("kind = \"process\"", "kind = \"namespace\"").fails(&[], &["`board`", "link"]);
    change(
        "kind = \"process\"",
        "kind = \"process\"\nmemory = \"much\"",
    )
    .fails(&[], &["much", "1 GiB"]);
    change("repetitions = 2", "repetitions = 4000000000").fails(&[], &["4000000000"]);
    change(
        "requests = \"{requests}\"",
        "duration = \"18446744073709551615s\"",
    )
    .fails(&["--mote", "/nonexistent"], &["/nonexistent"]);
    Place::with(SMALL).fails(&["--variant", "slow"], &["no variant `slow`", "quick"]);
    Place::with(SMALL).fails(
        &["--mote", "/nonexistent/mote"],
        &["/nonexistent/mote", "cargo build"],
    );
}

#[test]
fn what_goes_wrong_later_is_part_of_the_results() {
    let place = Place::with(&SMALL.replace("\"{http}/\"", "\"http://127.0.0.1:9/\""));
    let output = place.run(&["--quick"]);
    assert_eq!(output.status.code(), Some(1));
    let runs = place.runs();
    let failure = runs[0]["failure"].as_str().unwrap();
    assert!(failure.contains("127.0.0.1:9"), "{failure}");
    assert!(runs[0]["measured"].is_null());

    let place = Place::with(&SMALL.replace("\"{http}/\"", "\"{htttp}/\""));
    place.run(&["--quick"]);
    let failure = place.runs()[0]["failure"].to_string();
    assert!(
        failure.contains("{htttp}") && failure.contains("{http}"),
        "{failure}"
    );

    let place = Place::with(&SMALL.replace(
        "command = [\"SERVER\"",
        "command = [\"/nonexistent/server\"",
    ));
    place.run(&["--quick"]);
    let failure = place.runs()[0]["failure"].to_string();
    assert!(failure.contains("/nonexistent/server"), "{failure}");

    // A rate that no server here can have; the results are there, with the reason not to trust them.
    let text = SMALL.replace(
        "requests = \"{requests}\"",
        "duration = \"300ms\"\nwarmup = \"0ms\"\nrate = 3000000",
    );
    let place = Place::with(&text);
    place.run(&["--quick"]);
    let warnings = place.runs()[0]["measured"]["warnings"].to_string();
    assert!(warnings.contains("lower the rate"), "{warnings}");
}

#[test]
fn two_runs_do_not_write_to_one_folder() {
    let place =
        Place::with(&SMALL.replace("requests = \"{requests}\"", "requests = 20\nrate = 40"));
    let mut first = place.command(&[]).spawn().unwrap();
    wait_for(&mut first, "1/8");
    let second = place.run(&[]);
    assert_eq!(second.status.code(), Some(1));
    assert!(said(&second).contains("another run"), "{}", said(&second));
    let pid = rustix::process::Pid::from_raw(first.id().try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    first.wait().unwrap();
}

#[test]
fn a_platform_that_dies_is_set_up_again() {
    // It serves one run, and ends.
    let text = SMALL.replace(
        "command = [\"SERVER\", \"--address\", \"127.0.0.1:0\", \"--workers\", \"1\"]",
        "command = [\"sh\", \"-c\", \"SERVER --address 127.0.0.1:0 --workers 1 & sleep 1; kill $!\"]",
    );
    let place = Place::with(&text.replace("requests = \"{requests}\"", "requests = 40\nrate = 40"));
    let output = place.run(&["--quick"]);
    let runs = place.runs();
    assert_eq!(runs.len(), 2, "{}", said(&output));
    for run in runs {
        // Of both: the second did not meet a port that nobody listens at.
        let failure = run["failure"].as_str().unwrap();
        assert!(failure.contains("the server ended during the run"), "{run}");
    }
}

#[test]
fn a_service_that_stays_is_waited_for_by_its_end_alone() {
    let text = SMALL.replace(
        "[platforms.bare]",
        "[services.helper]\nstart = [\"sh\", \"-c\", \"sleep 300 & echo $!\"]\nstop = [\"kill\", \"{helper}\"]\n\n[platforms.bare]",
    );
    let place = Place::with(&text.replace("target = \"{http}/\"", "target = \"{http}/?{helper}\""));
    let output = place.run(&["--quick"]);
    assert!(output.status.success(), "{}", said(&output));
    assert!(place.runs().iter().all(|run| run["measured"]["ok"] == 5));
}

#[test]
fn goes_on_after_ctrl_c_and_after_kill() {
    // Slow enough to be stopped, and to be told from others by its address.
    let slow = SMALL
        .replace("requests = \"{requests}\"", "requests = 20\nrate = 40")
        .replace("127.0.0.1:0", "127.0.0.31:0");
    let place = Place::with(&slow);
    let begin = |signal| {
        let mut child = place.command(&[]).spawn().unwrap();
        wait_for(&mut child, "2/8");
        let pid = rustix::process::Pid::from_raw(child.id().try_into().unwrap()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
        child.wait().unwrap()
    };
    let status = begin(rustix::process::Signal::INT);
    assert_eq!(status.code(), Some(1));
    assert_eq!(place.runs().len(), 1);
    assert!(place.out().join("report.html").exists());
    eventually("a platform is left after Ctrl-C", || {
        processes_with("127.0.0.31:0") == 0
    });

    fs::remove_dir_all(place.out()).unwrap();
    begin(rustix::process::Signal::KILL);
    eventually("a platform is left after kill -9", || {
        processes_with("127.0.0.31:0") == 0
    });
    let before = place.runs().len();
    assert_eq!(before, 1);
    let output = place.run(&[]);
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(
        place.runs().len(),
        8,
        "runs that were there are not made again"
    );
}

#[test]
fn a_full_disk_keeps_what_is_there() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: a small disk needs root");
        return;
    }
    let place = Place::with(&SMALL.replace("[1, 3]", "[1, 3, 4, 5, 6, 7, 8, 9]"));
    fs::create_dir(place.out()).unwrap();
    let disk = Disk::mount(&place.out(), "20k");
    let output = place.run(&[]);
    assert_eq!(output.status.code(), Some(1));
    let said = said(&output);
    assert!(
        said.contains("No space left") && said.contains("are kept"),
        "{said}"
    );
    let runs = place.runs();
    assert!(!runs.is_empty() && runs.len() < 32, "{}", runs.len());
    drop(disk);
}

/// A small disk in memory.
struct Disk(PathBuf);

impl Disk {
    fn mount(at: &Path, size: &str) -> Self {
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(at)
            .status();
        assert!(status.unwrap().success());
        Self(at.to_owned())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _unmounted = Command::new("umount").arg(&self.0).status();
    }
}
