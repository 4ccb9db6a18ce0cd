//! Saves and removals, power cuts and failing disks.

use std::fs;

use mote_core::digest::Digest;
use mote_core::error::ErrorKind;
use mote_core::registry::Version;
use mote_core::spec::FunctionSpec;

use super::*;

fn record(name: &str, number: u32) -> FunctionRecord {
    let name: FunctionName = name.parse().unwrap();
    FunctionRecord {
        live: number,
        versions: vec![Version {
            number,
            spec: FunctionSpec::new(name.clone()),
            artifact: Digest::from_bytes([1; 32]),
            image: None,
            deployed_ms: 0,
        }],
        name,
    }
}

fn file(dir: &DataDir) -> std::path::PathBuf {
    dir.path().join(FILE)
}

/// Writes a record's bytes past the registry.
fn write_raw(dir: &DataDir, name: &str, bytes: &[u8]) {
    let file = redb::Database::open(file(dir)).unwrap();
    let transaction = file.begin_write().unwrap();
    let table = redb::TableDefinition::<&str, &[u8]>::new("functions");
    transaction
        .open_table(table)
        .unwrap()
        .insert(name, bytes)
        .unwrap();
    transaction.commit().unwrap();
}

#[tokio::test]
async fn records_are_listed_by_name_and_outlive_the_process() {
    let root = tempfile::tempdir().unwrap();
    let dir = DataDir::open(root.path()).unwrap();
    let registry = RedbRegistry::open(&dir).unwrap();
    assert_eq!(registry.functions().await.unwrap(), []);
    for name in ["b.home", "a.home", "a"] {
        registry.save(record(name, 1)).await.unwrap();
    }
    registry.save(record("a", 2)).await.unwrap();
    registry.remove("b.home".parse().unwrap()).await.unwrap();
    registry.remove("never-was".parse().unwrap()).await.unwrap();
    drop(registry);
    let registry = RedbRegistry::open(&dir).unwrap();
    let expected = [record("a", 2), record("a.home", 1)];
    assert_eq!(registry.functions().await.unwrap(), expected);
}

#[tokio::test]
async fn many_savers_share_commits() {
    let root = tempfile::tempdir().unwrap();
    let registry = RedbRegistry::open(&DataDir::open(root.path()).unwrap()).unwrap();
    let registry = Arc::new(registry);
    let mut saves = tokio::task::JoinSet::new();
    for number in 0..300 {
        let registry = registry.clone();
        saves.spawn(async move { registry.save(record(&format!("f{number:03}"), 1)).await });
    }
    saves
        .join_all()
        .await
        .into_iter()
        .collect::<Result<(), _>>()
        .unwrap();
    assert_eq!(registry.functions().await.unwrap().len(), 300);
}

#[tokio::test]
async fn a_newer_record_is_refused_and_kept() {
    let root = tempfile::tempdir().unwrap();
    let dir = DataDir::open(root.path()).unwrap();
    drop(RedbRegistry::open(&dir).unwrap());
    let newer = [&[4], &b"whatever a later version writes"[..]].concat();
    write_raw(&dir, "light.home", &newer);

    let registry = RedbRegistry::open(&dir).unwrap();
    let name: FunctionName = "light.home".parse().unwrap();
    let listed = registry.functions().await.map(drop);
    let saved = registry.save(record("light.home", 1)).await;
    let removed = registry.remove(name).await;
    for outcome in [listed, saved, removed] {
        let error = outcome.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.message().contains("light.home"), "{error}");
    }
    // Others are not held up.
    registry.save(record("other", 1)).await.unwrap();
    drop(registry);

    let opened = redb::Database::open(file(&dir)).unwrap();
    let table = redb::TableDefinition::<&str, &[u8]>::new("functions");
    let transaction = redb::ReadableDatabase::begin_read(&opened).unwrap();
    let table = transaction.open_table(table).unwrap();
    assert_eq!(
        table.get_owned("light.home").unwrap().unwrap().value(),
        newer
    );
}

#[tokio::test]
async fn a_damaged_record_is_named() {
    let root = tempfile::tempdir().unwrap();
    let dir = DataDir::open(root.path()).unwrap();
    drop(RedbRegistry::open(&dir).unwrap());
    write_raw(&dir, "light.home", b"\x01{\"live\":1,");
    let registry = RedbRegistry::open(&dir).unwrap();
    let error = registry.functions().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal);
    assert!(
        error
            .message()
            .starts_with("the record of function `light.home` is damaged"),
        "{error}"
    );
}

#[test]
fn a_file_that_is_no_registry_is_refused_untouched() {
    let root = tempfile::tempdir().unwrap();
    let dir = DataDir::open(root.path()).unwrap();
    for bytes in [&b"hello"[..], &[0; 8192]] {
        fs::write(file(&dir), bytes).unwrap();
        let error = RedbRegistry::open(&dir).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Internal);
        assert!(error.message().contains("registry"), "{error}");
        assert_eq!(fs::read(file(&dir)).unwrap(), bytes);
    }
}

#[tokio::test]
async fn an_interrupted_creation_is_started_over() {
    let root = tempfile::tempdir().unwrap();
    let dir = DataDir::open(root.path()).unwrap();
    fs::write(dir.path().join("registry.new"), vec![0; 100_000]).unwrap();
    let registry = RedbRegistry::open(&dir).unwrap();
    registry.save(record("a", 1)).await.unwrap();
    assert!(!dir.path().join("registry.new").exists());
}

#[tokio::test]
async fn a_registry_keeps_its_folder() {
    let root = tempfile::tempdir().unwrap();
    let dir = DataDir::open(root.path()).unwrap();
    let registry = RedbRegistry::open(&dir).unwrap();
    drop(dir);
    assert_eq!(
        DataDir::open(root.path()).unwrap_err().kind(),
        ErrorKind::Conflict
    );
    drop(registry);
    DataDir::open(root.path()).unwrap();
}
