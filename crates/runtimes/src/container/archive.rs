//! What an artifact for a container is: a line that names an image, or an archive that holds one.
//!
//! An archive is never loaded as it came: its names for the image would replace those of others in
//! the engine. So it is given a manifest without names, for archives of `docker save` as for OCI
//! layouts, which older engines do not load by themselves. The rest is passed on from the file.
//! Bounded are the entries and the manifests; the layers are the engine's.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures_util::Stream;
use mote_core::error::{Error, ErrorKind};
use serde_json::{Value, json};

#[cfg(test)]
mod tests;

/// What an artifact is.
#[derive(Debug)]
pub(super) enum Source {
    /// An image that the engine has, or pulls.
    Reference(String),
    /// An image that is loaded.
    Archive(Archive),
}

/// An archive with one image, without its names.
#[derive(Debug)]
pub(super) struct Archive {
    path: PathBuf,
    parts: Vec<Part>,
}

/// A piece of what the engine is sent.
#[derive(Debug)]
enum Part {
    File { start: u64, end: u64 },
    Bytes(Bytes),
}

/// Longest file that names an image.
const REFERENCE_FILE_MAX: u64 = 1 << 10;
/// Longest name of an image.
const REFERENCE_MAX: usize = 512;
/// Most entries of an archive: ten for each of the 127 layers that an image may have.
const ENTRIES_MAX: usize = 1270;
/// Longest manifest.
const MANIFEST_MAX: u64 = 4 << 20;
/// Bytes of the file that are sent at once.
const CHUNK: u64 = 256 << 10;
/// Entries that are replaced by our manifest.
const REPLACED: [&str; 4] = ["manifest.json", "repositories", "index.json", "oci-layout"];

impl Source {
    /// Finds out what an artifact is. Blocking. `architecture` chooses among the images of an
    /// archive for several machines. Fails with `BadRequest` on what is neither.
    pub(super) fn read(path: &Path, architecture: &str) -> Result<Self, Error> {
        let unreadable = |error: io::Error| {
            let message = format!("could not read the artifact {}: {error}", path.display());
            Error::new(ErrorKind::Internal, message)
        };
        let mut file = File::open(path).map_err(unreadable)?;
        let length = file.metadata().map_err(unreadable)?.len();
        if length <= REFERENCE_FILE_MAX {
            let mut text = String::new();
            let read = file.read_to_string(&mut text);
            if let Some(reference) = read.ok().and_then(|_| text.trim().strip_prefix("image:")) {
                return Ok(Self::Reference(check_reference(reference.trim())?));
            }
        }
        let mut magic = [0; 2];
        file.seek(SeekFrom::Start(0)).map_err(unreadable)?;
        if length >= 2 {
            file.read_exact(&mut magic).map_err(unreadable)?;
        }
        if magic == [0x1f, 0x8b] {
            return Err(bad("the image archive is compressed")
                .with_hint("deploy the tar itself: gunzip it first"));
        }
        file.seek(SeekFrom::Start(0)).map_err(unreadable)?;
        let parts = parts(file, architecture)?;
        Ok(Self::Archive(Archive {
            path: path.to_owned(),
            parts,
        }))
    }
}

impl Archive {
    /// The bytes that the engine loads.
    pub(super) fn stream(&self) -> impl Stream<Item = io::Result<Bytes>> + Send + use<> {
        let mut parts = Vec::new();
        for part in &self.parts {
            match part {
                Part::Bytes(bytes) => parts.push(Part::Bytes(bytes.clone())),
                Part::File { start, end } => {
                    let mut at = *start;
                    while at < *end {
                        let next = end.min(&(at + CHUNK)).to_owned();
                        parts.push(Part::File {
                            start: at,
                            end: next,
                        });
                        at = next;
                    }
                }
            }
        }
        parts.reverse();
        let path = self.path.clone();
        futures_util::stream::try_unfold((parts, None), move |(mut parts, file)| {
            let path = path.clone();
            async move {
                let Some(part) = parts.pop() else {
                    return Ok(None);
                };
                match part {
                    Part::Bytes(bytes) => Ok(Some((bytes, (parts, file)))),
                    Part::File { start, end } => {
                        let (bytes, file) = read_at(path, file, start, end).await?;
                        Ok(Some((bytes, (parts, Some(file)))))
                    }
                }
            }
        })
    }
}

/// Reads a piece of a file that is opened when it is not yet.
async fn read_at(
    path: PathBuf,
    file: Option<File>,
    start: u64,
    end: u64,
) -> io::Result<(Bytes, File)> {
    let read = tokio::task::spawn_blocking(move || {
        let mut file = file.map_or_else(|| File::open(path), Ok)?;
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        file.by_ref().take(end - start).read_to_end(&mut bytes)?;
        if bytes.len() as u64 != end - start {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok((bytes.into(), file))
    });
    read.await.map_err(io::Error::other)?
}

/// One entry of an archive.
struct Entry {
    name: String,
    /// Where it begins, with the headers before its own, and where the next one does.
    start: u64,
    end: u64,
    data: u64,
    size: u64,
}

/// An archive whose entries are known.
struct Index<F> {
    file: F,
    entries: Vec<Entry>,
}

fn parts<F: Read + Seek>(file: F, architecture: &str) -> Result<Vec<Part>, Error> {
    let mut index = Index::new(file)?;
    let manifest = index.manifest(architecture)?.to_string();
    let mut parts: Vec<Part> = Vec::new();
    for entry in &index.entries {
        if REPLACED.contains(&entry.name.as_str()) {
            continue;
        }
        match parts.last_mut() {
            Some(Part::File { end, .. }) if *end == entry.start => *end = entry.end,
            _ => parts.push(Part::File {
                start: entry.start,
                end: entry.end,
            }),
        }
    }
    let mut header = tar::Header::new_ustar();
    header.set_size(manifest.len() as u64);
    header.set_mode(0o644);
    header.set_path("manifest.json").expect("the name is short");
    header.set_cksum();
    let mut last = header.as_bytes().to_vec();
    last.extend_from_slice(manifest.as_bytes());
    last.resize(last.len().next_multiple_of(512) + 1024, 0);
    parts.push(Part::Bytes(last.into()));
    Ok(parts)
}

impl<F: Read + Seek> Index<F> {
    fn new(file: F) -> Result<Self, Error> {
        let not = |error: io::Error| {
            bad(format!("the artifact is not an image archive: {error}")).with_hint(
                "deploy a line `image: REFERENCE`, or the tar that `docker save` or an OCI tool writes",
            )
        };
        let mut archive = tar::Archive::new(file);
        let mut entries: Vec<Entry> = Vec::new();
        for entry in archive.entries_with_seek().map_err(not)? {
            let entry = entry.map_err(not)?;
            if entries.len() == ENTRIES_MAX {
                return Err(bad(format!(
                    "the image archive has more than {ENTRIES_MAX} entries"
                )));
            }
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let (data, size) = (entry.raw_file_position(), entry.size());
            let end = size
                .checked_next_multiple_of(512)
                .and_then(|padded| data.checked_add(padded))
                .ok_or_else(|| bad("the image archive has an entry without an end"))?;
            entries.push(Entry {
                name: name.strip_prefix("./").unwrap_or(&name).to_owned(),
                start: entries.last().map_or(0, |last| last.end),
                end,
                data,
                size,
            });
        }
        let mut file = archive.into_inner();
        let length = file.seek(SeekFrom::End(0)).map_err(not)?;
        if entries.last().is_some_and(|last| last.end > length) {
            return Err(bad(format!(
                "the image archive is cut off at byte {length}"
            )));
        }
        Ok(Self { file, entries })
    }

    /// The manifest of the one image, as `docker load` takes it, without names.
    fn manifest(&mut self, architecture: &str) -> Result<Value, Error> {
        if self.find("manifest.json").is_some() {
            let manifest = self.json("manifest.json")?;
            let images = manifest.as_array().map_or(0, Vec::len);
            if images != 1 {
                return Err(
                    bad(format!("the image archive holds {images} images, not one"))
                        .with_hint("save one image: docker save IMAGE"),
                );
            }
            let (config, layers) = (&manifest[0]["Config"], &manifest[0]["Layers"]);
            if !config.is_string() || !layers.is_array() {
                return Err(bad(
                    "manifest.json of the image archive names no config and layers",
                ));
            }
            return Ok(json!([{ "Config": config, "Layers": layers, "RepoTags": null }]));
        }
        if self.find("index.json").is_none() {
            return Err(bad("the archive holds no image: it has neither manifest.json nor index.json").with_hint(
                "deploy the tar that `docker save` or an OCI tool writes; for plain source write runtime = \"process\", or image = \"NAME:TAG\" beside it",
            ));
        }
        let mut manifest = self.json("index.json")?;
        // An index may name an index for several machines, which names manifests.
        for _ in 0..3 {
            if manifest["config"].is_object() {
                break;
            }
            let digest = choose(&manifest, architecture)?;
            manifest = self.json(&blob(&digest)?)?;
        }
        let layers = manifest["layers"].as_array().map_or(&[][..], Vec::as_slice);
        let layers: Result<Vec<String>, Error> =
            layers.iter().map(|layer| blob(&layer["digest"])).collect();
        Ok(
            json!([{ "Config": blob(&manifest["config"]["digest"])?, "Layers": layers?, "RepoTags": null }]),
        )
    }

    fn find(&self, name: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.name == name)
    }

    fn json(&mut self, name: &str) -> Result<Value, Error> {
        let Some(&Entry { data, size, .. }) = self.find(name) else {
            return Err(bad(format!("the image archive has no entry {name}")));
        };
        if size > MANIFEST_MAX {
            return Err(bad(format!(
                "{name} of the image archive has {size} bytes, more than {MANIFEST_MAX}"
            )));
        }
        let invalid = |error: &dyn std::fmt::Display| {
            bad(format!("{name} of the image archive is not valid: {error}"))
        };
        let mut text = Vec::new();
        let sought = self.file.seek(SeekFrom::Start(data));
        sought.map_err(|error| invalid(&error))?;
        let read = self.file.by_ref().take(size).read_to_end(&mut text);
        read.map_err(|error| invalid(&error))?;
        serde_json::from_slice(&text).map_err(|error| invalid(&error))
    }
}

/// The digest of the manifest for this machine. The only one is taken whatever it is for, so that
/// the error about a wrong machine names the image's.
fn choose(index: &Value, architecture: &str) -> Result<Value, Error> {
    let manifests = index["manifests"].as_array().map_or(&[][..], Vec::as_slice);
    let images: Vec<&Value> = manifests
        .iter()
        .filter(|manifest| manifest["platform"]["architecture"] != "unknown")
        .collect();
    if let [only] = images[..] {
        return Ok(only["digest"].clone());
    }
    let fits = |manifest: &&&Value| {
        manifest["platform"]["architecture"] == architecture
            && manifest["platform"]["os"] == "linux"
    };
    if let Some(image) = images.iter().find(fits) {
        return Ok(image["digest"].clone());
    }
    let machines: Vec<&str> = images
        .iter()
        .filter_map(|manifest| manifest["platform"]["architecture"].as_str())
        .take(16)
        .collect();
    Err(bad(format!(
        "exec format error: the image archive is for {}, the container engine runs {architecture}",
        if machines.is_empty() {
            "no machine".to_owned()
        } else {
            machines.join(", ")
        }
    )))
}

/// Where an OCI layout keeps a blob.
fn blob(digest: &Value) -> Result<String, Error> {
    let digest = digest.as_str().unwrap_or_default();
    let hex = digest.strip_prefix("sha256:").unwrap_or_default();
    if hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(format!("blobs/sha256/{hex}"));
    }
    let shown: String = digest.chars().take(80).collect();
    Err(bad(format!(
        "the image archive names the digest `{}`, which is not sha256",
        shown.escape_debug()
    )))
}

/// Checks a reference: it becomes a part of a path of the engine's API.
pub(super) fn check_reference(reference: &str) -> Result<String, Error> {
    let valid = reference.len() <= REFERENCE_MAX
        && reference.starts_with(|first: char| first.is_ascii_alphanumeric())
        && !reference.contains("..")
        && !reference.contains("//")
        && reference
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-/:@".contains(&byte));
    if valid {
        return Ok(reference.to_owned());
    }
    let shown: String = reference.chars().take(80).collect();
    Err(bad(format!(
        "image `{}` is not a reference",
        shown.escape_debug()
    ))
    .with_hint("write it as `image: registry.example.org/name:tag` or with `@sha256:…`"))
}

fn bad(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::BadRequest, message)
}
