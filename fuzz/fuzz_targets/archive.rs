//! Whatever file is deployed, unpacking it does not panic, stays within its limits, and changes
//! nothing beside its own folder.
//!
//! The first byte of the input says what the rest is: `l` two layers of an image, `t` a tar, and
//! anything else the artifact as it is. Sums and digests of the first two are set right, or hardly
//! an input would get past them.
//!
//! The module is taken in by its path: the crate around it would bring the compiler of Wasm along.

#![no_main]

use std::fs;
use std::path::Path;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use runtimes::tree;
use sha2::{Digest as _, Sha256};
use tar::Header;
use tempfile::TempDir;

#[path = "../../crates/runtimes/src"]
#[expect(dead_code, reason = "the packing half is for honest folders")]
mod runtimes {
    pub(crate) mod tree;
}

/// A new folder with a victim in it; in the machine's memory where there is such a place, for a disk
/// would be slow, and wear.
fn place() -> TempDir {
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    let folder = folder.expect("a folder for temporary files");
    fs::write(folder.path().join("victim"), "as it was").expect("a new folder takes a file");
    fs::create_dir(folder.path().join("trees")).expect("a new folder takes a folder");
    folder
}

fuzz_target!(|data: &[u8]| {
    let place = place();
    let folder = place.path();
    let artifact = folder.join("artifact");
    let bytes = match data {
        [b't', rest @ ..] => summed(rest),
        [b'l', first, rest @ ..] => {
            let (lower, upper) = rest.split_at((usize::from(*first) * 512).min(rest.len()));
            image(&[summed(lower), summed(upper)])
        }
        other => other.to_vec(),
    };
    fs::write(&artifact, bytes).expect("the folder is there");
    let into = folder.join("trees/x");
    let limits = tree::Limits {
        bytes_max: 64 << 10,
        entries_max: 64,
        path_bytes_max: 256,
        time_max: Duration::from_secs(60),
    };
    match tree::unpack(&artifact, &into, &limits) {
        Ok(found) => {
            assert!(found.bytes <= limits.bytes_max);
            assert_eq!(tree::known(&into), Some(found));
            tree::remove(&into).expect("what was unpacked can be removed");
        }
        Err(error) => assert_ne!(error.kind(), mote_core::error::ErrorKind::Internal, "{error}"),
    }
    let left = fs::read_dir(folder.join("trees")).expect("the folder is there");
    assert_eq!(left.count(), 0, "nothing is left behind");
    let beside = fs::read_dir(folder).expect("the folder is there");
    assert_eq!(beside.count(), 3, "nothing is made beside it");
    let victim = fs::read(folder.join("victim")).expect("the victim is there");
    assert_eq!(victim, b"as it was");
});

/// A tar whose headers have the right sums.
fn summed(bytes: &[u8]) -> Vec<u8> {
    let mut archive = bytes.to_vec();
    let mut at = 0;
    while let Some(block) = archive.get_mut(at..at + 512) {
        let mut header = Header::from_byte_slice(block).clone();
        if block.iter().any(|byte| *byte != 0) {
            header.set_cksum();
            block.copy_from_slice(header.as_bytes());
        }
        let size = usize::try_from(header.entry_size().unwrap_or(0)).unwrap_or(usize::MAX);
        let size = size.min(archive.len()).next_multiple_of(512);
        at += 512 + size;
    }
    archive
}

/// What `docker save` would write for these layers.
fn image(layers: &[Vec<u8>]) -> Vec<u8> {
    let hex = |bytes: &[u8]| -> String {
        Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
    };
    let ids: Vec<String> = layers.iter().map(|layer| format!("\"sha256:{}\"", hex(layer))).collect();
    let config = format!(
        r#"{{"config":{{"Cmd":["a"],"Env":["PATH=/:/b"]}},"rootfs":{{"diff_ids":[{}]}}}}"#,
        ids.join(",")
    );
    let name = format!("{}.json", hex(config.as_bytes()));
    let manifest = format!(r#"[{{"Config":"{name}","Layers":["0","1"]}}]"#);
    let mut archive = tar::Builder::new(Vec::new());
    let mut add = |name: &str, bytes: &[u8]| {
        let mut header = Header::new_gnu();
        header.set_size(bytes.len() as u64);
        archive.append_data(&mut header, name, bytes).expect("memory takes all");
    };
    add("manifest.json", manifest.as_bytes());
    add(&name, config.as_bytes());
    add("0", &layers[0]);
    add("1", &layers[1]);
    archive.into_inner().expect("memory takes all")
}
