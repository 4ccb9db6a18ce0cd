//! An image with nothing but the program in it, made without a registry and without an engine.
//!
//! `tar` and `sha256sum` do the work, which every system has that could run this.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tempfile::TempDir;

use super::stage::PROGRAM;

/// Where the program is in the image.
pub(super) fn command() -> String {
    format!("/{PROGRAM}")
}

/// The root of the image, as one tar.
pub(super) fn root_archive(program: &Path, archive: &Path) -> Result<()> {
    let root = TempDir::new()?;
    let inside = root.path().join(PROGRAM);
    fs::copy(program, &inside)?;
    fs::set_permissions(&inside, fs::Permissions::from_mode(0o755))?;
    // A root without it would be one in which a temporary folder has no place.
    fs::create_dir(root.path().join("tmp"))?;
    pack(root.path(), archive)
}

/// An OCI image layout in one tar (image-spec 1.0, image-layout.md).
pub(super) fn oci_archive(program: &Path, archive: &Path) -> Result<()> {
    let layout = TempDir::new()?;
    let blobs = layout.path().join("blobs/sha256");
    fs::create_dir_all(&blobs)?;
    let layer = layout.path().join("layer.tar");
    root_archive(program, &layer)?;
    let layer = Blob::moved(&layer, &blobs)?;
    let config = json!({
        "architecture": architecture(),
        "os": "linux",
        "config": {"Cmd": [command()]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", layer.digest)]},
    });
    let config = Blob::written(config.to_string().as_bytes(), &blobs)?;
    let kind = |name: &str| format!("application/vnd.oci.image.{name}");
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": kind("manifest.v1+json"),
        "config": config.descriptor(&kind("config.v1+json")),
        "layers": [layer.descriptor(&kind("layer.v1.tar"))],
    });
    let manifest = Blob::written(manifest.to_string().as_bytes(), &blobs)?;
    let index = json!({
        "schemaVersion": 2,
        "manifests": [manifest.descriptor(&kind("manifest.v1+json"))],
    });
    fs::write(layout.path().join("index.json"), index.to_string())?;
    let version = json!({"imageLayoutVersion": "1.0.0"});
    fs::write(layout.path().join("oci-layout"), version.to_string())?;
    pack(layout.path(), archive)
}

/// A file that is named by what is in it.
struct Blob {
    digest: String,
    size: u64,
}

impl Blob {
    fn written(bytes: &[u8], blobs: &Path) -> Result<Self> {
        let path = blobs.join("partial");
        fs::write(&path, bytes)?;
        Self::moved(&path, blobs)
    }

    fn moved(path: &Path, blobs: &Path) -> Result<Self> {
        let digest = sha256(path)?;
        let size = fs::metadata(path)?.len();
        fs::rename(path, blobs.join(&digest))?;
        Ok(Self { digest, size })
    }

    fn descriptor(&self, media_type: &str) -> serde_json::Value {
        json!({
            "mediaType": media_type,
            "digest": format!("sha256:{}", self.digest),
            "size": self.size,
        })
    }
}

fn pack(folder: &Path, archive: &Path) -> Result<()> {
    let packed = Command::new("tar")
        .args(["--owner=0", "--group=0", "-cf"])
        .arg(archive)
        .arg("-C")
        .arg(folder)
        .arg(".")
        .status()
        .context("cannot run tar")?;
    ensure!(packed.success(), "tar ended with {packed}");
    Ok(())
}

fn sha256(path: &Path) -> Result<String> {
    let output = Command::new("sha256sum")
        .arg(path)
        .output()
        .context("cannot run sha256sum")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let digest = text.split_whitespace().next().unwrap_or_default();
    ensure!(digest.len() == 64, "sha256sum said `{}`", text.trim());
    Ok(digest.to_owned())
}

/// As images name it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_blob_is_named_by_its_digest() {
        let folder = TempDir::new().unwrap();
        let archive = folder.path().join("image.tar");
        oci_archive(Path::new("/bin/sh"), &archive).unwrap();
        let out = folder.path().join("out");
        fs::create_dir(&out).unwrap();
        let unpacked = Command::new("tar")
            .arg("-xf")
            .arg(&archive)
            .arg("-C")
            .arg(&out)
            .status();
        assert!(unpacked.unwrap().success());
        let blobs: Vec<_> = fs::read_dir(out.join("blobs/sha256"))
            .unwrap()
            .flatten()
            .collect();
        assert_eq!(blobs.len(), 3, "layer, config and manifest");
        for blob in blobs {
            let name = blob.file_name().into_string().unwrap();
            assert_eq!(sha256(&blob.path()).unwrap(), name);
        }
        let index = fs::read_to_string(out.join("index.json")).unwrap();
        assert!(index.contains("sha256:"), "{index}");
    }
}
