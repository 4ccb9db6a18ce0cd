//! Measures the registry: `cargo run --release -p mote-store --example measure [FOLDER]`.
//!
//! Prints how long a registry of 1000 functions takes to open and read, after a clean end and after
//! a crash, what memory it holds, and how many saves a second it acknowledges. The folder decides
//! which disk is measured; without one it is a new folder for temporary files.

#![expect(clippy::print_stdout, reason = "what is measured is the output")]
#![expect(clippy::unwrap_used, reason = "a measurement that fails has no result")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use mote_core::digest::Digest;
use mote_core::registry::{FunctionRecord, Registry, Version};
use mote_core::spec::FunctionSpec;
use mote_store::data_dir::DataDir;
use mote_store::registry::RedbRegistry;
use tokio::time::Instant;

const FUNCTIONS: usize = 1000;
const LASTING: Duration = Duration::from_secs(5);

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    match (arguments.next().as_deref(), arguments.next()) {
        (Some("--open"), Some(folder)) => open(folder.as_ref()).await,
        (Some("--crash"), Some(folder)) => crash(folder.as_ref()).await,
        (folder, _) => measure(folder.map(PathBuf::from)).await,
    }
}

async fn measure(folder: Option<PathBuf>) {
    let temporary = tempfile::tempdir().unwrap();
    let folder = folder
        .unwrap_or_else(|| temporary.path().to_owned())
        .join("measure");
    {
        let registry = Arc::new(RedbRegistry::open(&DataDir::open(&folder).unwrap()).unwrap());
        let mut saves = tokio::task::JoinSet::new();
        for number in 0..FUNCTIONS {
            let registry = registry.clone();
            saves.spawn(async move { registry.save(record(number)).await.unwrap() });
        }
        saves.join_all().await;
    }
    println!("file of {FUNCTIONS} functions: {} bytes", length(&folder));
    println!("after a clean end:");
    again("--open", &folder);
    again("--crash", &folder);
    println!("after a crash:");
    again("--open", &folder);
    for savers in [1, 64] {
        throughput(&folder, savers).await;
    }
    println!("file after that: {} bytes", length(&folder));
    std::fs::remove_dir_all(&folder).unwrap();
}

/// In a process of its own, so that its memory is that of an idle node and of nothing else.
fn again(what: &str, folder: &Path) {
    let this = std::env::current_exe().unwrap();
    let status = Command::new(this).arg(what).arg(folder).status().unwrap();
    assert!(status.success() == (what == "--open"));
}

async fn open(folder: &Path) {
    let before = memory_kib();
    let start = Instant::now();
    let dir = DataDir::open(folder).unwrap();
    let registry = RedbRegistry::open(&dir).unwrap();
    let opened = start.elapsed();
    let records = registry.functions().await.unwrap();
    let listed = start.elapsed();
    assert_eq!(records.len(), FUNCTIONS);
    let with_records = memory_kib();
    drop(records);
    println!("  open {opened:.1?}, open and read {listed:.1?}");
    println!(
        "  memory: {before} KiB before, {with_records} KiB with the records, {} KiB without",
        memory_kib()
    );
}

/// Ends without closing the file, in the middle of using it.
async fn crash(folder: &Path) {
    let registry = RedbRegistry::open(&DataDir::open(folder).unwrap()).unwrap();
    registry.save(record(0)).await.unwrap();
    std::process::abort();
}

async fn throughput(folder: &Path, savers: usize) {
    let registry = Arc::new(RedbRegistry::open(&DataDir::open(folder).unwrap()).unwrap());
    let start = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for saver in 0..savers {
        let registry = registry.clone();
        tasks.spawn(async move {
            let mut times = Vec::new();
            while start.elapsed() < LASTING {
                let asked = Instant::now();
                registry.save(record(saver)).await.unwrap();
                times.push(asked.elapsed());
            }
            times
        });
    }
    let mut times: Vec<_> = tasks.join_all().await.into_iter().flatten().collect();
    times.sort();
    println!(
        "{savers} at once: {:.0} saves a second, median {:.1?}, p99 {:.1?}",
        times.len() as f64 / start.elapsed().as_secs_f64(),
        times[times.len() / 2],
        times[times.len() * 99 / 100]
    );
}

/// About as large as a record of a function that was deployed twice.
fn record(number: usize) -> FunctionRecord {
    let name: mote_core::name::FunctionName = format!("function-{number}.measure").parse().unwrap();
    let mut spec = FunctionSpec::new(name.clone());
    spec.env.insert("ROOM".to_owned(), "kitchen".to_owned());
    spec.allow.http.push("https://api.example.org".to_owned());
    let version = |number| Version {
        number,
        spec: spec.clone(),
        artifact: Digest::from_bytes([7; 32]),
        image: None,
        deployed_ms: 1_700_000_000_000,
    };
    FunctionRecord {
        live: 2,
        versions: vec![version(1), version(2)],
        name,
    }
}

fn length(folder: &Path) -> u64 {
    std::fs::metadata(folder.join("registry.redb"))
        .unwrap()
        .len()
}

fn memory_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
