//! Opening, locking and refusing data folders.

use super::*;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// Every file below a folder with its bytes and times.
fn contents(folder: &Path) -> Vec<(PathBuf, Vec<u8>, std::time::SystemTime)> {
    let mut found: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let bytes = if path.is_dir() {
                format!("{:?}", contents(&path)).into_bytes()
            } else {
                fs::read(&path).unwrap()
            };
            let modified = fs::metadata(&path).unwrap().modified().unwrap();
            (path, bytes, modified)
        })
        .collect();
    found.sort();
    found
}

#[test]
fn a_new_folder_belongs_to_its_owner_alone() {
    let root = tempfile::tempdir().unwrap();
    let dir = DataDir::open(root.path().join("a/b")).unwrap();
    for path in [dir.path(), &dir.artifacts(), &dir.images(), &dir.logs()] {
        assert_eq!(mode(path), 0o700, "{}", path.display());
    }
    assert_eq!(fs::read(dir.path().join("format")).unwrap(), b"1\n");
}

#[test]
fn an_empty_folder_is_taken_and_restricted() {
    let root = tempfile::tempdir().unwrap();
    fs::set_permissions(root.path(), Permissions::from_mode(0o755)).unwrap();
    fs::create_dir(root.path().join("lost+found")).unwrap();
    let dir = DataDir::open(root.path()).unwrap();
    assert_eq!(mode(dir.path()), 0o700);
}

#[test]
fn a_folder_with_other_things_in_it_is_refused_untouched() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("thesis.txt"), "years of work").unwrap();
    let before = contents(root.path());
    let error = DataDir::open(root.path()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.message().contains("thesis.txt"), "{error}");
    assert_eq!(contents(root.path()), before);
}

#[test]
fn a_newer_format_is_refused_untouched() {
    for format in ["2\n", "4294967296\n", "mote\n", ""] {
        let root = tempfile::tempdir().unwrap();
        drop(DataDir::open(root.path()).unwrap());
        fs::write(root.path().join("format"), format).unwrap();
        let before = contents(root.path());
        let error = DataDir::open(root.path()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{format:?}");
        assert!(error.hint().is_some());
        assert_eq!(contents(root.path()), before, "{format:?}");
    }
}

#[test]
fn the_second_node_is_told_who_holds_the_folder() {
    let root = tempfile::tempdir().unwrap();
    let first = DataDir::open(root.path()).unwrap();
    let error = DataDir::open(root.path()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    let path = root.path().canonicalize().unwrap();
    let expected = format!(
        "data folder `{}` is in use by process {}",
        path.display(),
        std::process::id()
    );
    assert_eq!(error.message(), expected);

    // A part that still uses the folder keeps it.
    let part = first.held();
    drop(first);
    assert!(DataDir::open(root.path()).is_err());
    drop(part);
    DataDir::open(root.path()).unwrap();
}

#[test]
fn an_interrupted_first_start_is_taken_up_again() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("lock"), "1").unwrap();
    fs::write(root.path().join(".format.tmp"), "").unwrap();
    DataDir::open(root.path()).unwrap();
    assert_eq!(fs::read(root.path().join("format")).unwrap(), b"1\n");
    assert!(!root.path().join(".format.tmp").exists());
}

#[test]
fn the_token_stays_and_is_private() {
    let root = tempfile::tempdir().unwrap();
    let dir = DataDir::open(root.path()).unwrap();
    let token = dir.token().unwrap();
    assert_eq!(token.value.len(), 64);
    assert_eq!(mode(&token.path), 0o600);
    assert!(!format!("{token:?}").contains(&token.value));
    drop(dir);
    fs::set_permissions(&token.path, Permissions::from_mode(0o644)).unwrap();
    let again = DataDir::open(root.path()).unwrap().token().unwrap();
    assert_eq!(again.value, token.value);
    assert_eq!(mode(&token.path), 0o600);

    let other = tempfile::tempdir().unwrap();
    let other = DataDir::open(other.path()).unwrap().token().unwrap();
    assert_ne!(other.value, token.value);
}

#[test]
fn a_token_file_without_a_token_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let dir = DataDir::open(root.path()).unwrap();
    let path = dir.path().join("token");
    for bad in [
        "",
        "short\n",
        "has a space in the middle\n",
        "größer-als-ascii",
    ] {
        fs::write(&path, bad).unwrap();
        assert_eq!(
            dir.token().unwrap_err().kind(),
            ErrorKind::BadRequest,
            "{bad:?}"
        );
    }
    fs::write(&path, "written-by-hand-1\n").unwrap();
    assert_eq!(dir.token().unwrap().value, "written-by-hand-1");
}
