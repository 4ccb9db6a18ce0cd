//! Archives written by hand, byte by byte where a writer would refuse, and the place where they
//! are unpacked: a new folder with a victim beside it.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use mote_core::error::{Error, ErrorKind};
use sha2::{Digest as _, Sha256};
use tar::{EntryType, Header};
use tempfile::TempDir;

use super::super::machine::this_architecture;
use super::super::{Limits, Tree, unpack};

/// An archive in the making.
#[derive(Clone, Default)]
pub(super) struct Tar(pub(super) Vec<u8>);

impl Tar {
    pub(super) fn add(
        mut self,
        kind: EntryType,
        name: &str,
        target: &str,
        mode: u32,
        bytes: &[u8],
    ) -> Self {
        self = self.long(name, b'L').long(target, b'K');
        let mut header = Header::new_gnu();
        put(&mut header.as_old_mut().name, name);
        put(&mut header.as_old_mut().linkname, target);
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(bytes.len() as u64);
        header.set_mtime(1_000_000_000);
        self.raw(&mut header, bytes)
    }

    fn long(self, text: &str, kind: u8) -> Self {
        if text.len() <= 100 {
            return self;
        }
        let mut header = Header::new_gnu();
        put(&mut header.as_old_mut().name, "././@LongLink");
        header.set_entry_type(EntryType::new(kind));
        header.set_size(text.len() as u64 + 1);
        self.raw(&mut header, format!("{text}\0").as_bytes())
    }

    pub(super) fn raw(mut self, header: &mut Header, bytes: &[u8]) -> Self {
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(bytes);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub(super) fn file(self, name: &str, text: &str) -> Self {
        self.add(EntryType::Regular, name, "", 0o644, text.as_bytes())
    }

    pub(super) fn blob(self, name: &str, bytes: &[u8]) -> Self {
        self.add(EntryType::Regular, name, "", 0o644, bytes)
    }

    pub(super) fn folder(self, name: &str) -> Self {
        self.add(EntryType::Directory, name, "", 0o755, b"")
    }

    pub(super) fn symlink(self, name: &str, target: &str) -> Self {
        self.add(EntryType::Symlink, name, target, 0o777, b"")
    }

    pub(super) fn hard_link(self, name: &str, target: &str) -> Self {
        self.add(EntryType::Link, name, target, 0o644, b"")
    }

    pub(super) fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

fn put(field: &mut [u8], text: &str) {
    let most = text.len().min(field.len());
    field[..most].copy_from_slice(&text.as_bytes()[..most]);
}

pub(super) fn tar() -> Tar {
    Tar::default()
}

pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(super) fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// An image's config for an architecture, with these layers (not compressed).
pub(super) fn config(architecture: &str, layers: &[Vec<u8>], config: &str) -> String {
    let ids: Vec<String> = layers
        .iter()
        .map(|layer| format!("\"sha256:{}\"", hex(layer)))
        .collect();
    format!(
        r#"{{"architecture":"{architecture}","os":"linux","config":{config},"rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#,
        ids.join(",")
    )
}

/// Adds a manifest and its blobs to a layout; says its digest.
pub(super) fn manifest(archive: Tar, config: &str, layers: &[Vec<u8>]) -> (Tar, String) {
    let mut archive = archive.file(&format!("blobs/sha256/{}", hex(config.as_bytes())), config);
    let mut described = Vec::new();
    for layer in layers {
        archive = archive.blob(&format!("blobs/sha256/{}", hex(layer)), layer);
        described.push(format!(
            r#"{{"digest":"sha256:{}","size":{}}}"#,
            hex(layer),
            layer.len()
        ));
    }
    let text = format!(
        r#"{{"schemaVersion":2,"config":{{"digest":"sha256:{}"}},"layers":[{}]}}"#,
        hex(config.as_bytes()),
        described.join(",")
    );
    let digest = hex(text.as_bytes());
    (
        archive.file(&format!("blobs/sha256/{digest}"), &text),
        digest,
    )
}

pub(super) fn layout() -> Tar {
    tar()
        .file("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#)
        .folder("blobs/")
        .folder("blobs/sha256/")
}

/// A whole OCI layout with one image for this machine.
pub(super) fn oci(layers: &[Vec<u8>], said: &str) -> Vec<u8> {
    let (archive, digest) = manifest(layout(), &config(this_architecture(), layers, said), layers);
    archive
        .file(
            "index.json",
            &format!(r#"{{"manifests":[{{"digest":"sha256:{digest}"}}]}}"#),
        )
        .end()
}

/// What `docker save` wrote for years: a folder for each layer.
pub(super) fn docker(layers: &[Vec<u8>], said: &str) -> Vec<u8> {
    let config = config(this_architecture(), layers, said);
    let mut archive = tar().file(&format!("{}.json", hex(config.as_bytes())), &config);
    let mut names = Vec::new();
    for (at, layer) in layers.iter().enumerate() {
        let name = format!("layer{at}/layer.tar");
        let first = layers.iter().position(|other| other == layer).unwrap();
        archive = if first < at {
            archive.symlink(&name, &format!("../layer{first}/layer.tar"))
        } else {
            archive.blob(&name, layer)
        };
        names.push(format!("\"{name}\""));
    }
    let manifest = format!(
        r#"[{{"Config":"{}.json","RepoTags":null,"Layers":[{}]}}]"#,
        hex(config.as_bytes()),
        names.join(",")
    );
    archive.file("manifest.json", &manifest).end()
}

/// Where trees are made, with a victim beside them.
pub(super) struct Place {
    folder: TempDir,
    before: BTreeMap<PathBuf, String>,
}

impl Place {
    pub(super) fn new() -> Self {
        Self::below(tempfile::tempdir().unwrap())
    }

    /// In the machine's memory where it can be: a disk that is synced for each of many cases is slow.
    pub(super) fn in_memory() -> Self {
        Self::below(
            tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap()),
        )
    }

    fn below(folder: TempDir) -> Self {
        let victim = folder.path().join("victim");
        fs::create_dir_all(victim.join("deep")).unwrap();
        fs::write(victim.join("keep"), "as it was").unwrap();
        fs::write(victim.join("deep/keep"), "as it was too").unwrap();
        fs::create_dir(folder.path().join("trees")).unwrap();
        let before = snapshot(&victim);
        Self { folder, before }
    }

    pub(super) fn victim(&self) -> PathBuf {
        self.folder.path().join("victim")
    }

    pub(super) fn tree(&self) -> PathBuf {
        self.folder.path().join("trees/x")
    }

    pub(super) fn at(&self, name: &str) -> PathBuf {
        self.tree().join(name)
    }

    pub(super) fn text(&self, name: &str) -> String {
        fs::read_to_string(self.at(name)).unwrap()
    }

    #[track_caller]
    pub(super) fn unpack(&self, artifact: &[u8]) -> Tree {
        self.try_unpack(artifact, &small()).unwrap()
    }

    /// Unpacks, and checks what holds whatever the artifact is.
    #[track_caller]
    pub(super) fn try_unpack(&self, artifact: &[u8], limits: &Limits) -> Result<Tree, Error> {
        let path = self.folder.path().join("artifact");
        fs::write(&path, artifact).unwrap();
        // A tree that was there stays when another cannot take its place.
        let before = self.tree().exists();
        let got = unpack(&path, &self.tree(), limits);
        self.check(got.is_ok() || before);
        got
    }

    #[track_caller]
    pub(super) fn check(&self, whole: bool) {
        assert_eq!(
            snapshot(&self.victim()),
            self.before,
            "the victim has changed"
        );
        let list = |path: &Path| -> Vec<String> {
            let name = |entry: std::io::Result<fs::DirEntry>| {
                entry.unwrap().file_name().into_string().unwrap()
            };
            let mut names: Vec<String> = fs::read_dir(path).unwrap().map(name).collect();
            names.sort();
            names
        };
        assert_eq!(list(self.folder.path()), ["artifact", "trees", "victim"]);
        let expect: &[&str] = if whole { &["x", "x.json"] } else { &[] };
        assert_eq!(list(&self.folder.path().join("trees")), expect);
    }

    #[track_caller]
    pub(super) fn refuses(&self, artifact: &[u8], kind: ErrorKind, says: &str) {
        let error = self
            .try_unpack(artifact, &small())
            .expect_err("it must be refused");
        assert_eq!(error.kind(), kind, "{error}");
        assert!(
            error.message().contains(says),
            "`{error}` does not say `{says}`"
        );
    }
}

pub(super) fn small() -> Limits {
    Limits {
        bytes_max: 64 << 20,
        entries_max: 2000,
        path_bytes_max: 1024,
        time_max: Duration::from_secs(60),
    }
}

/// All that is in a folder, without following a link.
pub(super) fn snapshot(top: &Path) -> BTreeMap<PathBuf, String> {
    let mut seen = BTreeMap::new();
    let mut todo = vec![top.to_owned()];
    while let Some(path) = todo.pop() {
        let it = fs::symlink_metadata(&path).unwrap();
        let mode = it.permissions().mode();
        let what = if it.is_symlink() {
            format!("-> {}", fs::read_link(&path).unwrap().display())
        } else if it.is_dir() {
            todo.extend(
                fs::read_dir(&path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
            format!("{mode:o}")
        } else {
            format!("{mode:o} {} {}", it.nlink(), hex(&fs::read(&path).unwrap()))
        };
        seen.insert(path.strip_prefix(top).unwrap().to_owned(), what);
    }
    seen
}
