//! A process that saves records and artifacts is killed at random moments, again and again, in the
//! same data folder. Whatever it said was saved must be there, whole.
//!
//! The child is this test executable, started again with a folder in its environment.

#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use bytes::Bytes;
use fastrand::Rng;
use mote_core::digest::Digest;
use mote_core::registry::{ArtifactStore, FunctionRecord, Registry, Version};
use mote_core::spec::FunctionSpec;
use mote_store::artifacts::Artifacts;
use mote_store::data_dir::DataDir;
use mote_store::registry::RedbRegistry;

const FOLDER: &str = "MOTE_TEST_KILL_FOLDER";
const ROUND: &str = "MOTE_TEST_KILL_ROUND";
const KILLS: u32 = 20;
const SAVERS: u32 = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_work_survives_kill_9() {
    if let Ok(folder) = env::var(FOLDER) {
        let round = env::var(ROUND).unwrap().parse().unwrap();
        return save_until_killed(folder.as_ref(), round).await;
    }
    let seed = fastrand::u64(..);
    let mut rng = Rng::with_seed(seed);
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("data");
    // What was acknowledged of each function, and in which round something was tried last.
    let mut saved: BTreeMap<u32, u32> = BTreeMap::new();
    let mut stored: BTreeSet<Digest> = BTreeSet::new();
    for round in 0..KILLS {
        // Some die while they open the store, most in the middle of commits.
        let lines = if round % 5 == 0 { 0 } else { rng.usize(1..150) };
        for line in run_and_kill(&folder, round, lines, &mut rng) {
            match line.split(' ').collect::<Vec<_>>()[..] {
                ["saved", function, number] => {
                    saved.insert(function.parse().unwrap(), number.parse().unwrap());
                }
                ["stored", digest] => drop(stored.insert(digest.parse().unwrap())),
                _ => panic!("the child said `{line}`"),
            }
        }
        let when = format!("seed {seed}, after kill {round}");
        check(&folder, &saved, &stored, &when).await;
    }
    assert!(
        saved.len() == SAVERS as usize && !stored.is_empty(),
        "the children got to work"
    );
}

/// Starts a child, kills it after so many lines, and returns all the lines it wrote.
fn run_and_kill(folder: &Path, round: u32, lines: usize, rng: &mut Rng) -> Vec<String> {
    let mut child = Command::new(env::current_exe().unwrap())
        .args([
            "--exact",
            "acknowledged_work_survives_kill_9",
            "--nocapture",
            "--quiet",
        ])
        .env(FOLDER, folder)
        .env(ROUND, round.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut said: Vec<_> = output.by_ref().take(lines).map(Result::unwrap).collect();
    // Anywhere between two lines, not just after one.
    for _ in 0..rng.u32(..200_000) {
        std::hint::spin_loop();
    }
    child.kill().unwrap();
    let status = child.wait().unwrap();
    said.extend(output.map(Result::unwrap));
    said.retain(|line| line.starts_with("saved ") || line.starts_with("stored "));
    assert!(
        !status.success() && said.len() + 5 >= lines,
        "the child ended by itself: {status}"
    );
    said
}

async fn check(folder: &Path, saved: &BTreeMap<u32, u32>, stored: &BTreeSet<Digest>, when: &str) {
    let dir = DataDir::open(folder).unwrap_or_else(|error| panic!("{when}: {error}"));
    let registry = RedbRegistry::open(&dir).unwrap_or_else(|error| panic!("{when}: {error}"));
    let records = registry.functions().await.unwrap();
    for found in &records {
        // Every byte of a record follows from its function and number, so half of one shows.
        let function = found.name.function()[1..].parse().unwrap();
        assert_eq!(*found, record(function, found.live), "{when}");
    }
    for (function, number) in saved {
        let found = records
            .iter()
            .find(|found| found.name == record(*function, 0).name);
        let live = found.map_or(0, |found| found.live);
        assert!(
            live >= *number,
            "{when}: f{function} was saved as {number} and is {live}"
        );
    }
    let artifacts = Artifacts::open(&dir).unwrap();
    for digest in stored {
        let whole = artifacts.verify(digest).await;
        assert!(whole.is_ok(), "{when}: {whole:?}");
    }
    for file in std::fs::read_dir(dir.artifacts()).unwrap() {
        let name = file.unwrap().file_name().into_string().unwrap();
        artifacts.verify(&name.parse().unwrap()).await.unwrap();
    }
}

async fn save_until_killed(folder: &Path, round: u32) {
    let dir = DataDir::open(folder).unwrap();
    let registry = Arc::new(RedbRegistry::open(&dir).unwrap());
    let artifacts = Artifacts::open(&dir).unwrap();
    let mut savers = tokio::task::JoinSet::new();
    for function in 0..SAVERS {
        let registry = registry.clone();
        savers.spawn(async move {
            for number in round * 1_000_000 + 1.. {
                registry.save(record(function, number)).await.unwrap();
                say(&format!("saved {function} {number}\n"));
            }
        });
    }
    for number in 0..u64::MAX {
        let bytes = Bytes::from(format!("{round} {number} ").repeat(2000));
        let digest = artifacts.put(bytes).await.unwrap();
        say(&format!("stored {digest}\n"));
    }
}

/// One write, so that lines stay whole, and not through the test harness.
fn say(line: &str) {
    std::io::stdout().write_all(line.as_bytes()).unwrap();
}

fn record(function: u32, number: u32) -> FunctionRecord {
    let name: mote_core::name::FunctionName = format!("f{function}").parse().unwrap();
    let mut spec = FunctionSpec::new(name.clone());
    let length = 1 + number as usize % 5000;
    spec.env
        .insert("TEXT".to_owned(), format!("{number:0length$}"));
    let mut digest = [0; 32];
    digest[..4].copy_from_slice(&number.to_le_bytes());
    FunctionRecord {
        name,
        live: number,
        versions: vec![Version {
            number,
            spec,
            artifact: Digest::from_bytes(digest),
            image: None,
            deployed_ms: u64::from(number),
        }],
    }
}
