//! Puts, sweeps, power cuts and damage of artifacts.

use std::fs;

use super::*;

/// A store in a new data folder.
fn store() -> (tempfile::TempDir, Artifacts) {
    let root = tempfile::tempdir().unwrap();
    let dir = DataDir::open(root.path()).unwrap();
    let artifacts = Artifacts::open(&dir).unwrap();
    (root, artifacts)
}

fn names(root: &tempfile::TempDir) -> Vec<String> {
    let entries = fs::read_dir(root.path().join("artifacts")).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn make_old(path: &std::path::Path, age: Duration) {
    let file = File::options().write(true).open(path).unwrap();
    file.set_modified(SystemTime::now() - age).unwrap();
}

#[tokio::test]
async fn bytes_are_found_by_their_digest() {
    let (root, artifacts) = store();
    let digest = artifacts.put(Bytes::from_static(b"wasm")).await.unwrap();
    assert_eq!(
        artifacts.put(Bytes::from_static(b"wasm")).await.unwrap(),
        digest
    );
    assert_eq!(
        digest,
        Digest::from_bytes(*blake3::hash(b"wasm").as_bytes())
    );
    assert_eq!(fs::read(artifacts.path(&digest).unwrap()).unwrap(), b"wasm");
    assert_eq!(names(&root), [digest.to_string()]);
    artifacts.verify(&digest).await.unwrap();

    let other = Digest::from_bytes([1; 32]);
    assert_eq!(artifacts.path(&other), None);
    let error = artifacts.verify(&other).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn what_the_disk_changed_is_an_error_until_it_is_put_again() {
    let (_root, artifacts) = store();
    let digest = artifacts.put(Bytes::from_static(b"wasm")).await.unwrap();
    fs::write(artifacts.path(&digest).unwrap(), b"wasn").unwrap();
    let error = artifacts.verify(&digest).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal);
    assert!(error.message().contains("is damaged"), "{error}");
    artifacts.put(Bytes::from_static(b"wasm")).await.unwrap();
    artifacts.verify(&digest).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_nothing_uses_goes_after_its_grace() {
    let (root, artifacts) = store();
    let used = artifacts.put(Bytes::from_static(b"used")).await.unwrap();
    let unused = artifacts.put(Bytes::from_static(b"unused")).await.unwrap();
    let is_used = |digest: &Digest| *digest == used;
    // Neither clock may shorten the grace of an upload.
    make_old(&artifacts.path(&unused).unwrap(), GRACE * 1000);
    tokio::time::advance(GRACE - Duration::from_secs(1)).await;
    assert_eq!(artifacts.sweep(&is_used).await.unwrap(), 0);

    // Putting it again starts the grace again.
    artifacts.put(Bytes::from_static(b"unused")).await.unwrap();
    tokio::time::advance(Duration::from_secs(2)).await;
    assert_eq!(artifacts.sweep(&is_used).await.unwrap(), 0);

    tokio::time::advance(GRACE).await;
    assert_eq!(artifacts.sweep(&is_used).await.unwrap(), 1);
    assert_eq!(names(&root), [used.to_string()]);
    assert_eq!(artifacts.path(&unused), None);
}

#[tokio::test(start_paused = true)]
async fn files_of_an_earlier_process_go_by_their_own_time() {
    let (root, artifacts) = store();
    let mut digests = Vec::new();
    for bytes in ["old", "new", "from the future"] {
        digests.push(
            artifacts
                .put(Bytes::from_static(bytes.as_bytes()))
                .await
                .unwrap(),
        );
    }
    make_old(
        &artifacts.path(&digests[0]).unwrap(),
        GRACE + Duration::from_secs(60),
    );
    let future = File::options()
        .write(true)
        .open(artifacts.path(&digests[2]).unwrap());
    future
        .unwrap()
        .set_modified(SystemTime::now() + 10 * GRACE)
        .unwrap();
    fs::write(root.path().join("artifacts/.upload-0"), "half").unwrap();
    fs::write(root.path().join("artifacts/notes"), "not ours").unwrap();
    drop(artifacts);

    let artifacts = Artifacts::open(&DataDir::open(root.path()).unwrap()).unwrap();
    assert!(!names(&root).contains(&".upload-0".to_owned()));
    assert_eq!(artifacts.sweep(&|_| false).await.unwrap(), 1);
    assert_eq!(artifacts.path(&digests[0]), None);
    tokio::time::advance(GRACE).await;
    assert_eq!(artifacts.sweep(&|_| false).await.unwrap(), 2);
    assert_eq!(names(&root), ["notes"]);
}

#[tokio::test(start_paused = true)]
async fn a_failed_upload_leaves_nothing() {
    let (root, artifacts) = store();
    let bytes = Bytes::from_static(b"wasm");
    let digest = Digest::from_bytes(*blake3::hash(&bytes).as_bytes());
    // A folder where the file should be: the bytes get written, and the last step fails.
    let path = root.path().join("artifacts").join(digest.to_string());
    fs::create_dir(&path).unwrap();
    fs::write(path.join("x"), "").unwrap();
    artifacts.put(bytes.clone()).await.unwrap_err();
    assert_eq!(names(&root), [digest.to_string()]);

    fs::remove_dir_all(&path).unwrap();
    artifacts.put(bytes).await.unwrap();
    artifacts.verify(&digest).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_bytes_at_once_are_one_file() {
    let (root, artifacts) = store();
    for round in 0..20 {
        let bytes = Bytes::from(vec![round; 10_000]);
        let mut puts = tokio::task::JoinSet::new();
        for _ in 0..16 {
            let (artifacts, bytes) = (artifacts.clone(), bytes.clone());
            puts.spawn(async move { artifacts.put(bytes).await.unwrap() });
        }
        // Sweeps during all this take neither the file nor what is being written.
        for _ in 0..16 {
            assert_eq!(artifacts.sweep(&|_| false).await.unwrap(), 0);
        }
        let digests: HashSet<_> = puts.join_all().await.into_iter().collect();
        assert_eq!(digests.len(), 1);
        assert_eq!(names(&root).len(), usize::from(round) + 1);
    }
}

#[test]
fn remembered_times_are_bounded() {
    let mut state = State::default();
    let start = Instant::now();
    for number in 0..RECENT_MAX as u64 + 10 {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        state.remember(
            Digest::from_bytes(bytes),
            start + Duration::from_millis(number),
        );
    }
    assert_eq!(state.recent.len(), RECENT_MAX);
    assert!(
        !state.recent.contains_key(&Digest::from_bytes([0; 32])),
        "the oldest went"
    );
    state.remember(Digest::from_bytes([0xff; 32]), start + 2 * GRACE);
    assert_eq!(state.recent.len(), 1, "what is over its grace goes first");
}
