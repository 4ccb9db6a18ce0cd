//! Which layers an image has, and what it says about running it: an OCI layout, or what
//! `docker save` writes, both in one tar.
//!
//! Every document is checked against the digest that names it, and how many are read is bounded.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use mote_core::error::Error;
use serde::Deserialize;
use serde::de::IgnoredAny;
use sha2::{Digest as _, Sha256};

use super::failure::{bad, shown, unsupported};
use super::machine;
use super::table::{Part, Table, parse};

/// What an image says about running it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageConfig {
    /// The program and its first arguments.
    pub entrypoint: Vec<String>,
    /// Further arguments, or all of it where there is no entrypoint.
    pub cmd: Vec<String>,
    /// Names and values.
    pub env: Vec<(String, String)>,
    /// Where the program starts; empty for the top.
    pub working_dir: String,
    /// User, or user and group (`1000:1000`), by name or by number; empty for whoever runs it.
    pub user: String,
    /// TCP ports on which it may listen, in order.
    pub exposed_ports: Vec<u16>,
    /// As images name it: `amd64`, `arm64`.
    pub architecture: String,
    /// As images name it: `linux`.
    pub os: String,
}

/// An image of this machine's kind.
#[derive(Debug)]
pub(super) struct Image {
    pub(super) config: ImageConfig,
    /// From the lowest up.
    pub(super) layers: Vec<Layer>,
}

/// A layer, and what its bytes must hash to.
#[derive(Debug)]
pub(super) struct Layer {
    /// For people.
    pub(super) name: String,
    pub(super) part: Part,
    /// SHA-256 of its bytes as they are.
    pub(super) digest: Option<[u8; 32]>,
    /// SHA-256 of its bytes, not compressed.
    pub(super) diff_id: Option<[u8; 32]>,
}

/// Most layers; Docker allows half as many.
const LAYERS_MAX: usize = 256;

/// Most documents that are read to find one image, and most indexes inside of one another.
const DOCUMENTS_MAX: usize = 64;
const NESTED_MAX: usize = 4;

/// Finds the image in an archive. `None`: it holds none, and is a folder of something else.
pub(super) fn find(table: &Table<'_>) -> Result<Option<Image>, Error> {
    let layout = table.find("oci-layout").and_then(|part| {
        let text = table.small("oci-layout", part).ok()?;
        parse::<Layout>("oci-layout", &text).ok()
    });
    if let Some(layout) = layout {
        if !layout.version.starts_with("1.") {
            let version = layout.version.escape_debug();
            return Err(unsupported(format!(
                "the image has the layout version `{version}`, not 1.0.0"
            )));
        }
        let index: Document = table
            .json("index.json")?
            .ok_or_else(|| bad("the image has no `index.json`"))?;
        let mut search = Search {
            table,
            documents: 0,
            others: BTreeSet::new(),
        };
        return search
            .image(&index, 0)?
            .map_or_else(|| Err(search.none()), |image| Ok(Some(image)));
    }
    // A web page may have a file of this name too.
    let saved = table.find("manifest.json").and_then(|part| {
        let text = table.small("manifest.json", part).ok()?;
        serde_json::from_slice::<Vec<Saved>>(&text).ok()
    });
    match saved.as_deref() {
        None | Some([]) => Ok(None),
        Some([one]) => one.image(table).map(Some),
        Some(many) => Err(bad(format!("the archive holds {} images", many.len()))
            .with_hint("save one: docker save IMAGE")),
    }
}

#[derive(Deserialize)]
struct Layout {
    #[serde(rename = "imageLayoutVersion")]
    version: String,
}

/// An index or a manifest (OCI image specification 1.1); which one is told by what it holds.
#[derive(Deserialize)]
struct Document {
    manifests: Option<Vec<Descriptor>>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
}

#[derive(Deserialize)]
struct Descriptor {
    digest: String,
    platform: Option<Platform>,
    annotations: Option<HashMap<String, String>>,
}

#[derive(Deserialize)]
struct Platform {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
}

/// An image of `docker save`.
#[derive(Deserialize)]
struct Saved {
    #[serde(rename = "Config")]
    config: String,
    #[serde(rename = "Layers")]
    layers: Vec<String>,
}

#[derive(Deserialize)]
struct ConfigFile {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
    #[serde(default)]
    config: Option<Config>,
    rootfs: Option<Rootfs>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Config {
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    env: Option<Vec<String>>,
    working_dir: Option<String>,
    user: Option<String>,
    exposed_ports: Option<BTreeMap<String, IgnoredAny>>,
}

#[derive(Deserialize)]
struct Rootfs {
    #[serde(default)]
    diff_ids: Vec<String>,
}

struct Search<'a> {
    table: &'a Table<'a>,
    documents: usize,
    /// Platforms that the image is for, and this machine is not.
    others: BTreeSet<String>,
}

impl Search<'_> {
    /// The first image for this machine below an index.
    fn image(&mut self, document: &Document, nested: usize) -> Result<Option<Image>, Error> {
        match (&document.manifests, &document.config, &document.layers) {
            (Some(manifests), None, None) if nested < NESTED_MAX => {
                for descriptor in manifests {
                    if let Some(image) = self.described(descriptor, nested)? {
                        return Ok(Some(image));
                    }
                }
                Ok(None)
            }
            (None, Some(config), Some(layers)) => self.manifest(config, layers),
            (Some(_), None, None) => Err(bad(format!(
                "the image has indexes nested over {NESTED_MAX} deep"
            ))),
            // Read as an index by some and as a manifest by others, it would be two images.
            _ => Err(bad(
                "a document of the image is neither an index nor a manifest",
            )),
        }
    }

    fn described(
        &mut self,
        descriptor: &Descriptor,
        nested: usize,
    ) -> Result<Option<Image>, Error> {
        // Statements about an image stand beside it, as if they were images.
        let annotations = descriptor.annotations.as_ref();
        if annotations.is_some_and(|all| all.contains_key("vnd.docker.reference.type")) {
            return Ok(None);
        }
        if let Some(platform) = &descriptor.platform
            && !self.is_ours(&platform.os, &platform.architecture)
        {
            return Ok(None);
        }
        match self.document(&descriptor.digest)? {
            Some(text) => self.image(&parse(&descriptor.digest, &text)?, nested + 1),
            None => Err(missing(&descriptor.digest)),
        }
    }

    fn manifest(
        &mut self,
        config: &Descriptor,
        layers: &[Descriptor],
    ) -> Result<Option<Image>, Error> {
        let text = self
            .document(&config.digest)?
            .ok_or_else(|| missing(&config.digest))?;
        let file: ConfigFile = parse(&config.digest, &text)?;
        if !self.is_ours(&file.os, &file.architecture) {
            return Ok(None);
        }
        check_count(layers.len())?;
        let mut found = Vec::with_capacity(layers.len());
        for layer in layers {
            let (name, digest) = blob(&layer.digest)?;
            found.push(Layer {
                part: self
                    .table
                    .find(&name)
                    .ok_or_else(|| missing(&layer.digest))?,
                name: layer.digest.clone(),
                digest: Some(digest),
                diff_id: None,
            });
        }
        Ok(Some(Image {
            config: file.checked()?,
            layers: found,
        }))
    }

    /// A document by its digest, checked; `None` if it is not there.
    fn document(&mut self, digest: &str) -> Result<Option<Vec<u8>>, Error> {
        self.documents += 1;
        if self.documents > DOCUMENTS_MAX {
            return Err(bad(format!(
                "the image has more than {DOCUMENTS_MAX} documents"
            )));
        }
        let (name, expect) = blob(digest)?;
        let Some(part) = self.table.find(&name) else {
            return Ok(None);
        };
        let text = self.table.small(&name, part)?;
        check_digest(digest, &expect, &text)?;
        Ok(Some(text))
    }

    fn is_ours(&mut self, os: &str, architecture: &str) -> bool {
        // Old tools say neither.
        let ours = matches!(os, "linux" | "")
            && [machine::this_architecture(), ""].contains(&architecture);
        if !ours && os != "unknown" && self.others.len() < DOCUMENTS_MAX {
            let platform = format!("{os}/{architecture}");
            self.others.insert(shown(platform.as_bytes()));
        }
        ours
    }

    fn none(&self) -> Error {
        if self.others.is_empty() {
            return bad("the image has no manifest");
        }
        let others: Vec<&str> = self.others.iter().map(String::as_str).collect();
        wrong_platform(&others.join(", "))
    }
}

impl Saved {
    fn image(&self, table: &Table<'_>) -> Result<Image, Error> {
        let part = table
            .find(&self.config)
            .ok_or_else(|| missing(&self.config))?;
        let text = table.small(&self.config, part)?;
        if let Some(expect) = named_digest(&self.config) {
            check_digest(&self.config, &expect, &text)?;
        }
        let mut file: ConfigFile = parse(&self.config, &text)?;
        let known = ["", machine::this_architecture()].contains(&file.architecture.as_str());
        if !known || !matches!(file.os.as_str(), "" | "linux") {
            let platform = format!("{}/{}", file.os, file.architecture);
            return Err(wrong_platform(&shown(platform.as_bytes())));
        }
        check_count(self.layers.len())?;
        let diff_ids = file
            .rootfs
            .take()
            .map(|rootfs| rootfs.diff_ids)
            .unwrap_or_default();
        if diff_ids.len() != self.layers.len() {
            return Err(bad(format!(
                "the image lists {} layers and digests of {}",
                self.layers.len(),
                diff_ids.len()
            )));
        }
        let mut layers = Vec::with_capacity(self.layers.len());
        for (name, diff_id) in self.layers.iter().zip(&diff_ids) {
            let (_, diff_id) = blob(diff_id)?;
            let part = table.find(name).ok_or_else(|| missing(name))?;
            layers.push(Layer {
                name: name.clone(),
                part,
                digest: None,
                diff_id: Some(diff_id),
            });
        }
        Ok(Image {
            config: file.checked()?,
            layers,
        })
    }
}

impl ConfigFile {
    fn checked(self) -> Result<ImageConfig, Error> {
        let said = self.config.unwrap_or_default();
        let mut exposed_ports = Vec::new();
        for port in said.exposed_ports.unwrap_or_default().keys() {
            let (number, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
            if let (Ok(number @ 1..), "tcp") = (number.parse::<u16>(), protocol) {
                exposed_ports.push(number);
            }
        }
        exposed_ports.sort_unstable();
        exposed_ports.dedup();
        let mut env = Vec::new();
        for line in said.env.unwrap_or_default() {
            let (name, value) = line.split_once('=').unwrap_or((&line, ""));
            env.push((name.to_owned(), value.to_owned()));
        }
        let config = ImageConfig {
            entrypoint: said.entrypoint.unwrap_or_default(),
            cmd: said.cmd.unwrap_or_default(),
            env,
            working_dir: said.working_dir.unwrap_or_default(),
            user: said.user.unwrap_or_default(),
            exposed_ports,
            architecture: self.architecture,
            os: self.os,
        };
        let words = config.entrypoint.iter().chain(&config.cmd);
        let pairs = config.env.iter().flat_map(|(name, value)| [name, value]);
        let places = [&config.working_dir, &config.user];
        if words
            .chain(pairs)
            .chain(places)
            .any(|text| text.contains('\0'))
        {
            return Err(bad("the image's config holds a zero byte"));
        }
        Ok(config)
    }
}

fn check_count(layers: usize) -> Result<(), Error> {
    if layers > LAYERS_MAX {
        return Err(bad(format!(
            "the image has {layers} layers, more than {LAYERS_MAX}"
        )));
    }
    Ok(())
}

fn missing(name: &str) -> Error {
    bad(format!(
        "`{}` of the image is not in the archive",
        shown(name.as_bytes())
    ))
    .with_hint("save the image with all of its layers")
}

fn wrong_platform(platforms: &str) -> Error {
    bad(format!(
        "exec format error: the image is for {platforms}, this machine is linux/{}",
        machine::this_architecture()
    ))
    .with_hint("build or pull the image for this machine's platform")
}

/// The name of a blob in a layout, and its digest.
fn blob(digest: &str) -> Result<(String, [u8; 32]), Error> {
    let hex = digest.strip_prefix("sha256:");
    match hex.and_then(|hex| Some((hex, unhex(hex)?))) {
        Some((hex, bytes)) => Ok((format!("blobs/sha256/{hex}"), bytes)),
        None => Err(unsupported(format!(
            "the image has the digest `{}`, which is no sha256",
            shown(digest.as_bytes())
        ))),
    }
}

/// The digest in the name of a config: `<hex>.json`, or a blob of a layout.
fn named_digest(name: &str) -> Option<[u8; 32]> {
    let base = name.rsplit('/').next()?;
    unhex(base.strip_suffix(".json").unwrap_or(base))
}

fn unhex(hex: &str) -> Option<[u8; 32]> {
    let lower = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if hex.len() != 64 || !hex.as_bytes().iter().all(lower) {
        return None;
    }
    let mut bytes = [0; 32];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(bytes)
}

fn check_digest(name: &str, expect: &[u8; 32], text: &[u8]) -> Result<(), Error> {
    if Sha256::digest(text).as_slice() != expect {
        return Err(other_bytes(name));
    }
    Ok(())
}

/// The error for bytes that have another digest.
pub(super) fn other_bytes(name: &str) -> Error {
    bad(format!(
        "`{}` of the image has other bytes than its digest says",
        shown(name.as_bytes())
    ))
    .with_hint("save the image again")
}
