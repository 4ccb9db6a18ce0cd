//! A process that writes key-value data is killed at random moments, again and again, in the same
//! data folder. What a synced app was told is there; of an eventual app the newest writes may be
//! gone, and never one from the middle. What apps keep is counted exactly after every kill.
//!
//! The child is this test executable, started again with a folder in its environment.

#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::collections::BTreeSet;
use std::env;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use bytes::Bytes;
use fastrand::Rng;
use mote_core::key_value::{KeyValue, KeyValueAdmin, Usage, cost};
use mote_core::name::AppName;
use mote_store::data_dir::DataDir;
use mote_store::key_value::{Config, Quotas, RedbKeyValue, Synced};

const FOLDER: &str = "MOTE_TEST_KILL_FOLDER";
const KILLS: u32 = 15;
/// Keys of the eventual app; older ones are removed.
const KEPT: i64 = 200;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_data_survives_kill_9_as_its_app_chose() {
    if let Ok(folder) = env::var(FOLDER) {
        return write_until_killed(folder.as_ref()).await;
    }
    let seed = fastrand::u64(..);
    let mut rng = Rng::with_seed(seed);
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("data");
    let (mut synced, mut eventual) = (0, 0);
    for kill in 0..KILLS {
        // Some die while they open the file, most in the middle of commits.
        let lines = if kill % 5 == 0 { 0 } else { rng.usize(1..400) };
        for line in run_and_kill(&folder, lines, &mut rng) {
            let (app, number) = line.split_once(' ').unwrap();
            match app {
                "synced" => synced = number.parse().unwrap(),
                _ => eventual = number.parse().unwrap(),
            }
        }
        let when = format!("seed {seed}, after kill {kill}");
        check(&folder, synced, eventual, &when).await;
    }
    assert!(synced > 0 && eventual > 0, "the children got to work");
}

fn open(folder: &Path) -> RedbKeyValue {
    let config = Config {
        quotas: Quotas {
            app_bytes_max: 16 << 20,
            app_keys_max: 100_000,
            node_bytes_max: 1 << 30,
        },
        synced: Synced::Apps(BTreeSet::from([app("synced")])),
    };
    RedbKeyValue::open(&DataDir::open(folder).unwrap(), config).unwrap()
}

fn app(name: &str) -> AppName {
    name.parse().unwrap()
}

fn value(number: i64) -> Bytes {
    let length = 1 + usize::try_from(number).unwrap() % 900;
    Bytes::from(format!("{number:0length$}"))
}

async fn write_until_killed(folder: &Path) {
    let data = Arc::new(open(folder));
    let eventual = data.clone();
    tokio::spawn(async move { write(&eventual, &app("eventual")).await });
    write(&data, &app("synced")).await;
}

/// Numbers that rise over restarts. The count comes last, so that what a kill interrupted is done
/// again.
async fn write(data: &RedbKeyValue, app: &AppName) {
    loop {
        let number = number(data, app).await + 1;
        if number > KEPT {
            let old = format!("k{:09}", number - KEPT);
            data.delete(app, "default", &old).await.unwrap();
        }
        let key = format!("k{number:09}");
        data.set(app, "default", &key, value(number)).await.unwrap();
        data.increment(app, "default", "n", 1).await.unwrap();
        let line = format!("{app} {number}\n");
        // One write, so that lines stay whole, and not through the test harness.
        std::io::stdout().write_all(line.as_bytes()).unwrap();
    }
}

async fn number(data: &RedbKeyValue, app: &AppName) -> i64 {
    let number = data.get(app, "default", "n").await.unwrap();
    number.map_or(0, |text| {
        std::str::from_utf8(&text).unwrap().parse().unwrap()
    })
}

async fn check(folder: &Path, synced: i64, eventual: i64, when: &str) {
    let data = open(folder);
    for (name, acknowledged) in [("synced", synced), ("eventual", eventual)] {
        let app = app(name);
        let found = number(&data, &app).await;
        if name == "synced" {
            assert!(found >= acknowledged, "{when}: {found} of {acknowledged}");
        }
        // In order: every value from the oldest that is kept to the count, and one more perhaps.
        let page = data.list(&app, "default", None, 1000).await.unwrap();
        assert_eq!(page.next, None);
        let numbers = page.keys.iter().filter_map(|key| key[1..].parse().ok());
        let numbers: Vec<i64> = numbers.collect();
        let oldest = (found - KEPT).max(0);
        let fits = (oldest..=oldest + 1).any(|before| {
            let all = |last| (before + 1..=last).eq(numbers.iter().copied());
            all(found) || all(found + 1)
        });
        assert!(fits, "{when}: {name} counts {found} and has {numbers:?}");
        let mut sum = Usage::default();
        for key in &page.keys {
            let value = data.get(&app, "default", key).await.unwrap().unwrap();
            if key != "n" {
                assert_eq!(value, self::value(key[1..].parse().unwrap()), "{when}");
            }
            sum.keys += 1;
            sum.bytes += cost(key, value.len());
        }
        let usage = data.usage().into_iter().find(|(other, _)| *other == app);
        assert_eq!(
            usage.map_or(Usage::default(), |(_, usage)| usage),
            sum,
            "{when}"
        );
    }
}

/// Starts a child, kills it after so many lines, and returns all the lines it wrote.
fn run_and_kill(folder: &Path, lines: usize, rng: &mut Rng) -> Vec<String> {
    let mut child = Command::new(env::current_exe().unwrap())
        .args([
            "--exact",
            "acknowledged_data_survives_kill_9_as_its_app_chose",
            "--nocapture",
            "--quiet",
        ])
        .env(FOLDER, folder)
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
    said.retain(|line| line.starts_with("synced ") || line.starts_with("eventual "));
    assert!(
        !status.success() && said.len() + 5 >= lines,
        "the child ended by itself: {status}"
    );
    said
}
