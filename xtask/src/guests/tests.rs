//! `check` over a small repository in a temporary folder: each way a guest can go stale is named.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use super::*;

/// A repository with one guest whose lock is up to date.
fn repository() -> TempDir {
    let root = TempDir::new().unwrap();
    let put = |path: &str, content: &[u8]| {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    };
    put("sdk/wit/function.wit", b"package mote:function;");
    put("examples/Cargo.toml", b"[workspace]");
    put("examples/Cargo.lock", b"version = 4");
    put("examples/lean/Cargo.toml", b"[package]\nname = \"lean\"");
    put("examples/lean/src/lib.rs", b"// shared");
    put(
        "examples/lamp/Cargo.toml",
        b"[lib]\ncrate-type = [\"cdylib\"]",
    );
    put("examples/lamp/src/lib.rs", b"// lamp");
    put("examples/lamp/README.md", b"how to use it");
    put("examples/lamp/lamp.wasm", b"\0asm");
    write_lock(root.path());
    root
}

fn write_lock(root: &Path) {
    let mut lock = Lock::new("rustc 1.0.0".to_owned());
    for guest in sources::guests(root, "examples").unwrap() {
        let entry = Entry::of(root, &guest).unwrap();
        lock.guest.insert(guest.to_string(), entry);
    }
    lock.write(root).unwrap();
}

/// `check` fails after `path` got `content`, and says `fault`.
#[track_caller]
fn refused(path: &str, content: &[u8], fault: &str) {
    let root = repository();
    check(root.path()).unwrap();
    let path = root.path().join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
    let error = check(root.path()).unwrap_err().to_string();
    assert!(error.contains(fault), "`{fault}` is not in: {error}");
}

#[test]
fn the_sources_of_a_guest_belong_to_its_binary() {
    let changed = "guest `examples/lamp`: its sources changed";
    refused("examples/lamp/src/lib.rs", b"// lantern", changed);
    refused("examples/lamp/src/new.rs", b"", changed);
    refused("examples/lean/src/lib.rs", b"// other", changed);
    refused("examples/Cargo.lock", b"version = 5", changed);
    refused("sdk/wit/function.wit", b"package mote:other;", changed);
    refused("sdk/wit/deps/config.wit", b"package wasi:config;", changed);
}

#[test]
fn the_binary_is_the_one_that_was_built() {
    refused(
        "examples/lamp/lamp.wasm",
        b"\0ASM",
        "guest `examples/lamp`: its binary is not",
    );
}

#[test]
fn what_people_read_may_change_without_a_build() {
    let root = repository();
    fs::write(root.path().join("examples/lamp/README.md"), "shorter").unwrap();
    fs::write(root.path().join("examples/lamp/mote.toml"), "version = 1").unwrap();
    check(root.path()).unwrap();
}

#[test]
fn a_guest_without_a_lock_entry_or_a_binary_or_sources_is_named() {
    refused(
        "examples/lantern/Cargo.toml",
        b"[lib]\ncrate-type = [\"cdylib\"]",
        "guest `examples/lantern` was never built",
    );

    let root = repository();
    fs::remove_file(root.path().join("examples/lamp/lamp.wasm")).unwrap();
    let error = check(root.path()).unwrap_err().to_string();
    assert!(
        error.contains("`examples/lamp` lacks its binary"),
        "{error}"
    );
    fs::remove_dir_all(root.path().join("examples/lamp")).unwrap();
    let error = check(root.path()).unwrap_err().to_string();
    assert!(error.contains("`examples/lamp` has no sources"), "{error}");
}

#[test]
fn a_binary_over_the_limit_is_refused() {
    let root = repository();
    let limit = usize::try_from(WASM_BYTES_MAX).unwrap();
    let wasm = root.path().join("examples/lamp/lamp.wasm");
    fs::write(&wasm, vec![0; limit]).unwrap();
    write_lock(root.path());
    check(root.path()).unwrap();
    fs::write(&wasm, vec![0; limit + 1]).unwrap();
    write_lock(root.path());
    let error = check(root.path()).unwrap_err().to_string();
    assert!(error.contains("204801 bytes, more than 204800"), "{error}");
}

#[test]
fn the_guests_of_this_repository_match_their_sources() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    check(&root).unwrap();
}
