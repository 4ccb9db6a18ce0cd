//! Key-value data on a full disk: what was acknowledged stays, what does not fit is `StorageFull`,
//! and after space was freed things go on without a restart.
//!
//! The disk is a small tmpfs in a mount namespace of its own, as in `full_disk.rs`.

#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::env;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use bytes::Bytes;
use mote_core::error::ErrorKind;
use mote_core::key_value::{KeyValue, KeyValueAdmin, VALUE_BYTES_MAX};
use mote_core::name::AppName;
use mote_store::data_dir::DataDir;
use mote_store::key_value::{Config, Quotas, RedbKeyValue, Synced};

const FOLDER: &str = "MOTE_TEST_FULL_DISK";
const NAME: &str = "a_full_disk_takes_nothing_that_was_acknowledged";
/// Mounts a small disk on the first argument, and runs the rest on it.
const SCRIPT: &str = r#"mount -t tmpfs -o size=24m tmpfs "$1" && shift && exec "$@""#;

#[tokio::test]
async fn a_full_disk_takes_nothing_that_was_acknowledged() {
    if let Ok(folder) = env::var(FOLDER) {
        return fill_and_free(folder.as_ref()).await;
    }
    let root = tempfile::tempdir().unwrap();
    for namespaces in [&["--mount"][..], &["--mount", "--user", "--map-root-user"]] {
        let script = |command: &Path| {
            let mut unshare = Command::new("unshare");
            unshare.args(namespaces).args(["sh", "-c", SCRIPT, "sh"]);
            unshare.arg(root.path()).arg(command);
            unshare
        };
        let possible = script(Path::new("true")).output();
        if !possible.is_ok_and(|output| output.status.success()) {
            continue;
        }
        let output = script(&env::current_exe().unwrap())
            .args(["--exact", NAME])
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
    let line = "not run: full_disk_key_value needs `unshare` and the right to mount a tmpfs\n";
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}

fn open(data: &Path, synced: Synced) -> RedbKeyValue {
    let quotas = Quotas {
        app_bytes_max: 1 << 30,
        app_keys_max: 100_000,
        node_bytes_max: 1 << 30,
    };
    let dir = DataDir::open(data).unwrap();
    RedbKeyValue::open(&dir, Config { quotas, synced }).unwrap()
}

async fn fill_and_free(folder: &Path) {
    let home: AppName = "home".parse().unwrap();
    let ballast = folder.join("ballast");
    let value = |number: u32| Bytes::from(vec![number.to_le_bytes()[0]; VALUE_BYTES_MAX]);
    let folder = folder.join("data");
    let mut written = 0;
    for synced in [Synced::None, Synced::All] {
        fs::write(&ballast, vec![1; 4 << 20]).unwrap();
        let data = open(&folder, synced);
        let set = async |number: u32| {
            let key = number.to_string();
            data.set(&home, "default", &key, value(number)).await
        };
        let before = written;
        let error = loop {
            match set(written).await {
                Ok(()) => written += 1,
                Err(error) => break error,
            }
            assert!(written < 10_000, "the disk is never full");
        };
        assert_eq!(error.kind(), ErrorKind::StorageFull, "{error}");
        assert!(error.hint().is_some_and(|hint| hint.contains("free space")));
        fs::remove_file(&ballast).unwrap();
        set(written).await.unwrap();
        written += 1;
        assert!(written > before + 10, "from {before} to {written}");
        assert_eq!(data.counts().lost, 0);
        drop(data);

        let data = open(&folder, Synced::None);
        for number in before..written {
            let found = data.get(&home, "default", &number.to_string()).await;
            assert!(found.unwrap() == Some(value(number)), "key {number}");
        }
        let keys = u64::from(written - before);
        assert_eq!(data.usage()[0].1.keys, keys);
        // Room for the second round.
        assert_eq!(data.clear(&home, None).await.unwrap(), keys);
    }
}
