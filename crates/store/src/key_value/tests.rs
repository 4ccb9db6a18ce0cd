//! What functions and people see of their data: values, pages, bounds, restarts, failing disks.

use std::sync::atomic::{AtomicU64, Ordering};

use mote_core::key_value::{KEY_OVERHEAD_BYTES, PAGE_KEYS_MAX, cost};
use redb::{ReadableDatabase as _, ReadableTable as _};

use super::*;
use crate::power_cut::{Simulated, join_all};

pub(super) const QUOTAS: Quotas = Quotas {
    app_bytes_max: 16 << 20,
    app_keys_max: 100_000,
    node_bytes_max: 1 << 30,
};

fn config(quotas: Quotas) -> Config {
    Config {
        quotas,
        synced: Synced::None,
    }
}

/// On storage in memory, with this much of the disk left.
pub(super) fn start(
    storage: &Simulated,
    config: Config,
    left: Option<&Arc<AtomicU64>>,
) -> Result<RedbKeyValue, Error> {
    let storage = storage.clone();
    let source = Source {
        exists: Box::new(|| true),
        create: Box::new(|| Ok(())),
        open: Box::new(move || {
            redb::Builder::new()
                .set_cache_size(64 << 10)
                .create_with_backend(storage.clone())
        }),
    };
    let left = left.cloned();
    let room = move || left.as_ref().map(|left| left.load(Ordering::Relaxed));
    RedbKeyValue::start(source, config, Box::new(room))
}

fn in_memory(quotas: Quotas) -> RedbKeyValue {
    start(&Simulated::default(), config(quotas), None).unwrap()
}

pub(super) fn app(name: &str) -> AppName {
    name.parse().unwrap()
}

/// One after the other: more than a queue holds.
async fn in_turn<T>(futures: Vec<BoxFuture<'_, T>>) -> Vec<T> {
    let mut done = Vec::new();
    for future in futures {
        done.push(future.await);
    }
    done
}

fn text(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

/// Everything that is kept, and that the totals are what it comes to.
pub(super) fn contents(data: &RedbKeyValue) -> BTreeSet<(String, Vec<u8>)> {
    let read = |file: &redb::Database| {
        let mut rows = BTreeSet::new();
        if let Ok(table) = file.begin_read()?.open_table(file::VALUES) {
            for row in table.iter()? {
                let (row, value) = row?;
                rows.insert((row.value().to_owned(), value.value().to_vec()));
            }
        }
        Ok(rows)
    };
    // A disk that fails once may do so here; the time after that it is over.
    let rows = data.file.read(read).or_else(|_| data.file.read(read));
    let rows = rows.unwrap().unwrap_or_default();
    let mut sums: std::collections::BTreeMap<AppName, Usage> = std::collections::BTreeMap::new();
    for (row, value) in &rows {
        let sum = sums
            .entry(app(row.split('\0').next().unwrap()))
            .or_default();
        sum.keys += 1;
        sum.bytes += cost(row::key_of(row), value.len());
    }
    assert_eq!(data.usage(), sums.into_iter().collect::<Vec<_>>());
    rows
}

#[tokio::test]
async fn a_value_is_found_by_app_bucket_and_key() {
    let data = in_memory(QUOTAS);
    let (home, shop) = (app("home"), app("shop"));
    data.set(&home, "default", "light", text("on"))
        .await
        .unwrap();
    data.set(&home, "other", "light", text("off"))
        .await
        .unwrap();
    data.set(&shop, "default", "light", text("")).await.unwrap();
    let get = async |app, bucket| data.get(app, bucket, "light").await.unwrap();
    assert_eq!(get(&home, "default").await, Some(text("on")));
    assert_eq!(get(&home, "other").await, Some(text("off")));
    assert_eq!(get(&shop, "default").await, Some(text("")));
    assert_eq!(get(&shop, "other").await, None);
    data.set(&home, "default", "light", text("dim"))
        .await
        .unwrap();
    assert_eq!(get(&home, "default").await, Some(text("dim")));
    assert!(data.delete(&home, "default", "light").await.unwrap());
    assert!(!data.delete(&home, "default", "light").await.unwrap());
    assert_eq!(get(&home, "default").await, None);
    assert_eq!(contents(&data).len(), 2);
}

#[tokio::test]
async fn a_write_that_returned_is_read_before_it_is_synced() {
    let data = in_memory(QUOTAS);
    let home = app("home");
    for number in 0..100 {
        let value = text(&number.to_string());
        data.set(&home, "default", "n", value.clone())
            .await
            .unwrap();
        assert_eq!(data.get(&home, "default", "n").await.unwrap(), Some(value));
    }
    let counts = data.counts();
    assert!(counts.unsynced > 0, "{counts:?}");
    data.sync().await.unwrap();
    assert_eq!(data.counts().unsynced, 0);
}

#[tokio::test]
async fn increments_and_swaps_at_once_lose_nothing() {
    let data = in_memory(QUOTAS);
    let home = app("home");
    let increments = (0..200).map(|_| data.increment(&home, "default", "n", 2));
    let sums = join_all(increments.collect()).await;
    let mut sums: Vec<_> = sums.into_iter().map(Result::unwrap).collect();
    sums.sort_unstable();
    assert_eq!(sums, (1..=200).map(|n| n * 2).collect::<Vec<_>>());
    let value = data.get(&home, "default", "n").await.unwrap();
    assert_eq!(value, Some(text("400")));
    // Of many that expect the same value one has its way.
    let swaps = (0..50).map(|n| {
        data.swap(
            &home,
            "default",
            "n",
            Some(text("400")),
            text(&format!("s{n}")),
        )
    });
    let swapped = join_all(swaps.collect()).await;
    let swapped: Vec<_> = swapped.into_iter().map(Result::unwrap).collect();
    assert_eq!(swapped.iter().filter(|swapped| **swapped).count(), 1);
    let winner = swapped.iter().position(|swapped| *swapped).unwrap();
    let value = data.get(&home, "default", "n").await.unwrap();
    assert_eq!(value, Some(text(&format!("s{winner}"))));
    let error = data.increment(&home, "default", "n", 1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BadRequest);
    assert!(error.message().contains("key `n`"), "{error}");
    // A key that is not there.
    let swap = async |key, expected| {
        data.swap(&home, "default", key, expected, text("v"))
            .await
            .unwrap()
    };
    assert!(!swap("new", Some(text(""))).await);
    assert!(swap("new", None).await);
    assert!(!swap("new", None).await);
}

#[tokio::test]
async fn names_and_values_are_checked() {
    let data = in_memory(QUOTAS);
    let home = app("home");
    let long = "k".repeat(513);
    for (bucket, key) in [("", "k"), ("Big", "k"), ("default", ""), ("default", &long)] {
        let errors = [
            data.get(&home, bucket, key).await.map(drop),
            data.set(&home, bucket, key, text("v")).await,
            data.delete(&home, bucket, key).await.map(drop),
            data.increment(&home, bucket, key, 1).await.map(drop),
            data.swap(&home, bucket, key, None, text("v"))
                .await
                .map(drop),
        ];
        for error in errors {
            assert_eq!(error.unwrap_err().kind(), ErrorKind::BadRequest);
        }
    }
    let large = Bytes::from(vec![0; 70_000]);
    for refused in [
        data.set(&home, "default", "x", large.clone()).await,
        data.swap(&home, "default", "x", None, large)
            .await
            .map(drop),
    ] {
        let error = refused.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooLarge);
        assert_eq!(
            error.message(),
            "value of 70000 bytes for key `x`: the limit is 65536 bytes"
        );
    }
    assert_eq!(contents(&data).len(), 0);
}

#[tokio::test]
async fn pages_hold_every_key_once_in_order() {
    let data = in_memory(QUOTAS);
    let home = app("home");
    let keys: Vec<_> = (0..2500).map(|number| format!("k{number:05}")).collect();
    let sets = keys
        .iter()
        .map(|key| data.set(&home, "default", key, text("v")));
    let sets: Vec<_> = sets.collect();
    for done in in_turn(sets).await {
        done.unwrap();
    }
    // Neighbours that begin the same.
    data.set(&home, "default-", "x", text("v")).await.unwrap();
    data.set(&app("home2"), "default", "x", text("v"))
        .await
        .unwrap();
    for (max, pages) in [(1000, 3), (u32::MAX, 3), (7, 358)] {
        let (mut seen, mut count, mut after) = (Vec::new(), 0, None);
        loop {
            let page = data
                .list(&home, "default", after.as_deref(), max)
                .await
                .unwrap();
            assert!(page.keys.len() <= max.min(PAGE_KEYS_MAX) as usize);
            seen.extend(page.keys);
            count += 1;
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!((&seen, count), (&keys, pages), "{max}");
    }
    // The key of a cursor may have gone.
    data.delete(&home, "default", &keys[6]).await.unwrap();
    let page = data
        .list(&home, "default", Some(&keys[6]), 0)
        .await
        .unwrap();
    assert_eq!(page.keys, [keys[7].clone()]);
    let empty = data.list(&home, "empty", None, 10).await.unwrap();
    assert_eq!(empty, KeyPage::default());
}

#[tokio::test]
async fn a_page_of_large_values_is_short() {
    let data = in_memory(QUOTAS);
    let home = app("home");
    for number in 0..40 {
        let value = Bytes::from(vec![1; 60_000]);
        data.set(&home, "default", &format!("k{number:02}"), value)
            .await
            .unwrap();
    }
    let page = data.list(&home, "default", None, 1000).await.unwrap();
    assert!((10..30).contains(&page.keys.len()), "{}", page.keys.len());
    assert_eq!(page.next.as_ref(), page.keys.last());
}

#[tokio::test]
async fn buckets_are_listed_while_they_have_keys() {
    let data = in_memory(QUOTAS);
    let home = app("home");
    for bucket in ["b", "a", "a-1", "0", "aa"] {
        for key in ["x", "y"] {
            data.set(&home, bucket, key, text("v")).await.unwrap();
        }
    }
    let list = async |after, max| data.buckets(&home, after, max).await.unwrap();
    assert_eq!(list(None, 10).await.keys, ["0", "a", "a-1", "aa", "b"]);
    let page = list(None, 2).await;
    assert_eq!(
        (page.keys, page.next.as_deref()),
        (vec!["0".to_owned(), "a".to_owned()], Some("a"))
    );
    assert_eq!(list(Some("a"), 2).await.keys, ["a-1", "aa"]);
    data.clear(&home, Some("a")).await.unwrap();
    assert_eq!(list(None, 10).await.keys, ["0", "a-1", "aa", "b"]);
    assert_eq!(
        data.buckets(&app("shop"), None, 10).await.unwrap(),
        KeyPage::default()
    );
}

#[tokio::test]
async fn clearing_takes_what_it_names_and_nothing_else() {
    let data = in_memory(QUOTAS);
    let (home, shop) = (app("home"), app("shop"));
    let keys: Vec<_> = (0..2345).map(|number| number.to_string()).collect();
    for done in in_turn(
        keys.iter()
            .map(|key| data.set(&home, "many", key, text("v")))
            .collect(),
    )
    .await
    {
        done.unwrap();
    }
    data.set(&home, "default", "x", text("v")).await.unwrap();
    data.set(&shop, "many", "x", text("v")).await.unwrap();
    assert_eq!(data.clear(&home, Some("many")).await.unwrap(), 2345);
    assert_eq!(contents(&data).len(), 2);
    assert_eq!(data.clear(&home, None).await.unwrap(), 1);
    assert_eq!(data.clear(&home, None).await.unwrap(), 0);
    assert_eq!(data.usage().len(), 1);
    assert_eq!(contents(&data).len(), 1);
    assert_eq!(data.counts().unsynced, 0, "a clearing is on the disk");
}

#[tokio::test]
async fn quotas_are_exact() {
    let quotas = Quotas {
        app_bytes_max: 1000,
        app_keys_max: 3,
        node_bytes_max: 1500,
    };
    let data = in_memory(quotas);
    let home = app("home");
    let set = async |app: &AppName, key: &str, bytes: u64| {
        let value = Bytes::from(vec![0; usize::try_from(bytes).unwrap()]);
        data.set(app, "default", key, value).await
    };
    let full = |outcome: Result<(), Error>, says: &str| {
        let error = outcome.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StorageFull);
        assert!(error.message().contains(says), "{error}");
    };
    // To the byte: a key of one byte with this value fills the app.
    let fits = 1000 - 1 - KEY_OVERHEAD_BYTES;
    full(set(&home, "k", fits + 1).await, "1001 bytes");
    set(&home, "k", fits).await.unwrap();
    full(set(&home, "l", 0).await, "app `home`");
    full(
        data.increment(&home, "default", "l", 1).await.map(drop),
        "key `l`",
    );
    full(
        data.swap(&home, "default", "l", None, text(""))
            .await
            .map(drop),
        "key `l`",
    );
    set(&home, "k", 1).await.unwrap();
    set(&home, "l", 1).await.unwrap();
    set(&home, "m", 1).await.unwrap();
    full(set(&home, "n", 1).await, "3 keys");
    // All apps together: 198 bytes are taken.
    let shop = app("shop");
    set(&shop, "k", 900).await.unwrap();
    full(set(&app("third"), "k", 300).await, "of the node");
    // In one batch too, where the first that fit are taken.
    data.clear(&home, None).await.unwrap();
    let keys = ["a", "b", "c", "d", "e"];
    let sets = keys.map(|key| data.set(&home, "default", key, text("")));
    let done = join_all(sets.into()).await;
    assert_eq!(done.iter().filter(|done| done.is_ok()).count(), 3);
    assert_eq!(contents(&data).len(), 4);
    let counts = data.counts();
    assert_eq!(counts.refused[0], ("quota", 8), "{counts:?}");
    let refused = ("set", "storage_full", 6);
    assert!(counts.operations.contains(&refused), "{counts:?}");
}

#[tokio::test]
async fn data_and_totals_outlive_the_process() {
    let root = tempfile::tempdir().unwrap();
    let dir = DataDir::open(root.path()).unwrap();
    let path = dir.path().join(FILE);
    let home = app("home");
    let data = RedbKeyValue::open(&dir, config(QUOTAS)).unwrap();
    assert_eq!(data.get(&home, "default", "k").await.unwrap(), None);
    assert_eq!(
        data.list(&home, "default", None, 9).await.unwrap(),
        KeyPage::default()
    );
    assert_eq!(
        data.buckets(&home, None, 9).await.unwrap(),
        KeyPage::default()
    );
    assert!(!path.exists(), "nothing was written yet");
    data.set(&home, "default", "k", text("v")).await.unwrap();
    let found = contents(&data);
    drop(data);
    use std::os::unix::fs::PermissionsExt as _;
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let data = RedbKeyValue::open(&dir, config(QUOTAS)).unwrap();
    assert_eq!(contents(&data), found);
    assert_eq!(data.usage(), [(home.clone(), Usage { keys: 1, bytes: 66 })]);
    assert_eq!(
        data.get(&home, "default", "k").await.unwrap(),
        Some(text("v"))
    );
    // It keeps its folder.
    drop(dir);
    let again = DataDir::open(root.path()).unwrap_err();
    assert_eq!(again.kind(), ErrorKind::Conflict);
}

#[tokio::test]
async fn a_newer_format_is_refused_and_kept() {
    let root = tempfile::tempdir().unwrap();
    let dir = DataDir::open(root.path()).unwrap();
    let path = dir.path().join(FILE);
    let data = RedbKeyValue::open(&dir, config(QUOTAS)).unwrap();
    data.set(&app("home"), "default", "k", text("v"))
        .await
        .unwrap();
    drop(data);
    let meta = redb::TableDefinition::<&str, &[u8]>::new("meta");
    let give = |format: &[u8]| {
        let file = redb::Database::open(&path).unwrap();
        let transaction = file.begin_write().unwrap();
        transaction
            .open_table(meta)
            .unwrap()
            .insert("format", format)
            .unwrap();
        transaction.commit().unwrap();
    };
    give(&[2, 7]);
    let error = RedbKeyValue::open(&dir, config(QUOTAS)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.message().contains("kv.redb"), "{error}");
    give(&[1]);
    let data = RedbKeyValue::open(&dir, config(QUOTAS)).unwrap();
    assert_eq!(contents(&data).len(), 1);
    drop(data);
    give(&[]);
    let error = RedbKeyValue::open(&dir, config(QUOTAS)).unwrap_err();
    assert!(error.message().contains("damaged"), "{error}");
}

#[test]
fn a_file_that_is_no_database_is_refused_untouched() {
    let root = tempfile::tempdir().unwrap();
    let dir = DataDir::open(root.path()).unwrap();
    let path = dir.path().join(FILE);
    for bytes in [&b"hello"[..], &[0; 8192]] {
        fs::write(&path, bytes).unwrap();
        let error = RedbKeyValue::open(&dir, config(QUOTAS)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Internal);
        assert!(error.message().contains("key-value"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), bytes);
    }
}

#[tokio::test]
async fn a_disk_without_room_takes_nothing_that_grows() {
    let left = Arc::new(AtomicU64::new(writer::RESERVE_BYTES));
    let data = start(&Simulated::default(), config(QUOTAS), Some(&left)).unwrap();
    let home = app("home");
    data.set(&home, "default", "k", text("value"))
        .await
        .unwrap();
    left.fetch_sub(1, Ordering::Relaxed);
    for (key, value) in [("k", "longer value"), ("l", "")] {
        let error = data
            .set(&home, "default", key, text(value))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StorageFull);
        assert!(error.message().contains("disk"), "{error}");
    }
    assert_eq!(
        data.counts().refused,
        [("quota", 0), ("queue", 0), ("disk", 2)]
    );
    data.set(&home, "default", "k", text("short"))
        .await
        .unwrap();
    assert!(data.delete(&home, "default", "k").await.unwrap());
    left.fetch_add(1, Ordering::Relaxed);
    data.set(&home, "default", "l", text("value"))
        .await
        .unwrap();
    assert_eq!(contents(&data).len(), 1);
}

#[tokio::test]
async fn what_does_not_fit_in_a_queue_is_refused_and_counted() {
    let data = in_memory(QUOTAS);
    let home = app("home");
    // The writer waits for the file, which somebody has alone.
    data.set(&home, "default", "k", text("v")).await.unwrap();
    let alone = data.file.alone();
    let sets = (0..600).map(|number| {
        let key = format!("k{number}");
        let (data, home) = (&data, &home);
        let set: BoxFuture<'_, _> =
            Box::pin(async move { data.set(home, "default", &key, text("v")).await });
        set
    });
    let mut sets = std::pin::pin!(join_all(sets.collect()));
    std::future::poll_fn(|cx| {
        assert!(sets.as_mut().poll(cx).is_pending());
        std::task::Poll::Ready(())
    })
    .await;
    drop(alone);
    let done = sets.await;
    let refused: Vec<_> = done.iter().filter_map(|done| done.as_ref().err()).collect();
    // 256 wait, and as many as one batch are with the thread.
    assert!(refused.len() >= 600 - 512, "{}", refused.len());
    assert!(
        refused
            .iter()
            .all(|error| error.kind() == ErrorKind::Overloaded)
    );
    let counts = data.counts();
    assert_eq!(counts.refused[1], ("queue", refused.len() as u64));
    assert_eq!(contents(&data).len(), 601 - refused.len());
}
