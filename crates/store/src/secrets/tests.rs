//! Setting, reading and removing; restarts, bounds and damaged rows.

use mote_core::secrets::VALUE_BYTES_MAX;
use proptest::prelude::*;

use super::*;
use crate::data_dir::DataDir;

fn app(name: &str) -> AppName {
    name.parse().unwrap()
}

async fn open(root: &tempfile::TempDir) -> (RedbRegistry, RedbSecrets) {
    let registry = RedbRegistry::open(&DataDir::open(root.path()).unwrap()).unwrap();
    let secrets = RedbSecrets::open(&registry).await.unwrap();
    (registry, secrets)
}

#[tokio::test]
async fn secrets_belong_to_their_app_and_outlive_the_process() {
    let root = tempfile::tempdir().unwrap();
    let (registry, secrets) = open(&root).await;
    let (home, shop) = (app("home"), app("shop"));
    secrets.set(&home, "KEY", "old".into()).await.unwrap();
    secrets.set(&home, "KEY", "new\nline".into()).await.unwrap();
    secrets.set(&home, "ANOTHER", "ä".into()).await.unwrap();
    secrets.set(&shop, "GONE", "x".into()).await.unwrap();
    assert!(secrets.remove(&shop, "GONE").await.unwrap());
    assert!(!secrets.remove(&shop, "GONE").await.unwrap());
    let check = |secrets: &RedbSecrets| {
        assert_eq!(secrets.names(&home), ["ANOTHER", "KEY"]);
        assert_eq!(secrets.get(&home, "KEY").as_deref(), Some("new\nline"));
        assert_eq!(secrets.get(&shop, "KEY"), None);
        assert_eq!(secrets.names(&shop), [""; 0]);
    };
    check(&secrets);
    drop((registry, secrets));
    check(&open(&root).await.1);
}

#[tokio::test]
async fn what_is_over_a_bound_is_refused_by_name_and_keeps_the_old_value() {
    let root = tempfile::tempdir().unwrap();
    let (_registry, secrets) = open(&root).await;
    let home = app("home");
    secrets.set(&home, "KEY", "old".into()).await.unwrap();
    let refused = [
        ("key", "v".to_owned(), ErrorKind::BadRequest),
        ("KEY", String::new(), ErrorKind::BadRequest),
        ("KEY", "v".repeat(VALUE_BYTES_MAX + 1), ErrorKind::TooLarge),
    ];
    for (name, value, kind) in refused {
        let error = secrets.set(&home, name, value.into()).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
    }
    assert_eq!(secrets.get(&home, "KEY").as_deref(), Some("old"));
}

#[tokio::test]
async fn an_app_and_a_node_have_room_for_so_many() {
    let root = tempfile::tempdir().unwrap();
    let (_registry, secrets) = open(&root).await;
    // As a change does it, without a thousand of them.
    let filled = |count: usize, value: &str| {
        let mut all = Snapshot::default();
        for number in 0..count {
            all.set(Secret {
                app: app("home"),
                name: format!("S{number}").into(),
                value: value.into(),
            });
        }
        Arc::new(all)
    };
    secrets.all.store(filled(PER_APP_MAX, "v"));
    let error = secrets.set(&app("home"), "MORE", "v".into()).await;
    let error = error.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    assert!(error.message().contains("app `home`"), "{error}");
    secrets.set(&app("home"), "S7", "w".into()).await.unwrap();
    secrets.set(&app("shop"), "MORE", "v".into()).await.unwrap();

    let large = "v".repeat(VALUE_BYTES_MAX);
    let count = BYTES_MAX / (VALUE_BYTES_MAX + 16);
    secrets.all.store(filled(count, &large));
    let mut outcome = Ok(());
    for name in ["A", "B", "C"] {
        outcome = secrets.set(&app("shop"), name, large.as_str().into()).await;
    }
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::StorageFull);
    secrets.set(&app("home"), "S7", "w".into()).await.unwrap();
}

#[tokio::test]
async fn a_newer_secret_is_refused_and_kept() {
    let root = tempfile::tempdir().unwrap();
    let (registry, _) = open(&root).await;
    let newer = Change {
        table: Table::Secrets,
        key: "home/KEY".to_owned(),
        value: Some(vec![2, b'x']),
    };
    registry.commits().change(newer).await.unwrap();
    let error = RedbSecrets::open(&registry).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.message().contains("home/KEY"), "{error}");
    let older = Change {
        table: Table::Secrets,
        key: "home/KEY".to_owned(),
        value: None,
    };
    let error = registry.commits().change(older).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

#[test]
fn nothing_shows_a_value() {
    let error = decode("home/KEY", b"\x01hid\0den").map(drop).unwrap_err();
    assert!(!format!("{error:?} {:?}", error.hint()).contains("hid"));
}

proptest! {
    #[test]
    fn any_row_is_decoded_or_named(key in "\\PC{0,40}|[a-z]{1,4}/[A-Z]{1,4}", bytes: Vec<u8>) {
        if let Ok(secret) = decode(&key, &bytes) {
            prop_assert_eq!(self::key(&secret.app, &secret.name), key);
            prop_assert_eq!([&[VERSION], secret.value.as_bytes()].concat(), bytes);
        }
    }
}
