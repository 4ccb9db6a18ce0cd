//! A full disk: what was there stays and is readable, what does not fit is `StorageFull`, and after
//! space was freed things go on without a restart.
//!
//! The disk is a small tmpfs in a mount namespace of its own, which ends with the process: this
//! test executable, started again through `unshare`. That works for root, and for users where the
//! kernel lets them have user namespaces; elsewhere the test says that it did not run.

#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::env;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use bytes::Bytes;
use mote_core::digest::Digest;
use mote_core::error::{Error, ErrorKind};
use mote_core::registry::{ArtifactStore, FunctionRecord, Registry, Version};
use mote_core::spec::FunctionSpec;
use mote_store::artifacts::Artifacts;
use mote_store::data_dir::DataDir;
use mote_store::registry::RedbRegistry;

const FOLDER: &str = "MOTE_TEST_FULL_DISK";
/// Mounts a small disk on the first argument, and runs the rest on it.
const SCRIPT: &str = r#"mount -t tmpfs -o size=6m tmpfs "$1" && shift && exec "$@""#;

#[tokio::test]
async fn a_full_disk_fails_what_does_not_fit_and_nothing_else() {
    if let Ok(folder) = env::var(FOLDER) {
        return fill_and_free(folder.as_ref()).await;
    }
    let root = tempfile::tempdir().unwrap();
    for namespaces in [&["--mount"][..], &["--mount", "--user", "--map-root-user"]] {
        let possible = Command::new("unshare")
            .args(namespaces)
            .args(["sh", "-c", SCRIPT, "sh"])
            .arg(root.path())
            .arg("true")
            .output();
        if !possible.is_ok_and(|output| output.status.success()) {
            continue;
        }
        let output = Command::new("unshare")
            .args(namespaces)
            .args(["sh", "-c", SCRIPT, "sh"])
            .arg(root.path())
            .arg(env::current_exe().unwrap())
            .args([
                "--exact",
                "a_full_disk_fails_what_does_not_fit_and_nothing_else",
            ])
            .env(FOLDER, root.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && said.contains("1 passed"),
            "{said}"
        );
        return;
    }
    let line = "not run: a_full_disk needs `unshare` and the right to mount a tmpfs\n";
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}

async fn fill_and_free(folder: &Path) {
    let ballast = folder.join("ballast");
    let data = folder.join("data");
    fs::write(&ballast, vec![1; 1 << 20]).unwrap();
    let dir = DataDir::open(&data).unwrap();
    let registry = RedbRegistry::open(&dir).unwrap();
    let artifacts = Artifacts::open(&dir).unwrap();
    registry.save(record("first", 1, 10)).await.unwrap();
    let digest = artifacts.put(Bytes::from_static(b"first")).await.unwrap();

    // Records of 60 kB until no more fit, and then smaller ones, so that no page is left.
    let mut saved = 1;
    for bytes in [60_000, 3_000, 10] {
        let error = loop {
            match registry.save(record(&format!("f{saved}"), 1, bytes)).await {
                Ok(()) => saved += 1,
                Err(error) => break error,
            }
            assert!(saved < 10_000, "the disk is never full");
        };
        expect_full(&error);
        // Files come after it, so that the disk is full for them too.
        expect_full(
            &artifacts
                .put(Bytes::from(vec![2; 3 << 20]))
                .await
                .unwrap_err(),
        );
    }
    assert!(saved > 10);
    let upload = fs::read_dir(dir.artifacts()).unwrap().count();
    assert_eq!(upload, 1, "failed uploads leave no file");

    // What was there stays, also the old record of what could not be replaced.
    expect_full(&registry.save(record("first", 2, 60_000)).await.unwrap_err());
    let records = registry.functions().await.unwrap();
    assert_eq!(records.len(), saved);
    assert!(records.contains(&record("first", 1, 10)));
    artifacts.verify(&digest).await.unwrap();

    fs::remove_file(&ballast).unwrap();
    registry.save(record("first", 2, 60_000)).await.unwrap();
    artifacts.put(Bytes::from_static(b"second")).await.unwrap();
    drop((registry, artifacts, dir));

    let dir = DataDir::open(&data).unwrap();
    let records = RedbRegistry::open(&dir).unwrap().functions().await.unwrap();
    assert_eq!(records.len(), saved);
    assert!(records.contains(&record("first", 2, 60_000)));
}

#[track_caller]
fn expect_full(error: &Error) {
    assert_eq!(error.kind(), ErrorKind::StorageFull, "{error}");
    assert!(error.hint().is_some_and(|hint| hint.contains("free space")));
}

fn record(name: &str, number: u32, bytes: usize) -> FunctionRecord {
    let name: mote_core::name::FunctionName = name.parse().unwrap();
    let mut spec = FunctionSpec::new(name.clone());
    spec.env.insert("TEXT".to_owned(), "x".repeat(bytes));
    FunctionRecord {
        name,
        live: number,
        versions: vec![Version {
            number,
            spec,
            artifact: Digest::from_bytes([0; 32]),
            image: None,
            deployed_ms: 0,
        }],
    }
}
