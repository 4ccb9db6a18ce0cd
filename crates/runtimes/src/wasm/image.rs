//! Compiled images: files that hold machine code, one for each artifact and engine.
//!
//! Loading one is as trusting as running a program, so an image is loaded only from the node's own
//! folder and only with the digest that was recorded when it was made.

use std::collections::HashMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use mote_core::digest::Digest;
use mote_core::error::{Error, ErrorKind};
use mote_core::runtime::{Artifact, Image};
use wasmtime::component::Component;
use wasmtime::component::types::ComponentItem;
use wasmtime::{Engine, ExternType, Module};

use super::funless::INVOKE;

/// What kind of guest an image is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// A component of the world in `sdk/wit`.
    Function,
    /// A component that exports `wasi:http/incoming-handler`.
    Http,
    /// A WASI preview-1 command.
    Command,
    /// A module that was compiled for FunLess.
    Funless,
}

impl Shape {
    const ALL: [Shape; 4] = [Shape::Function, Shape::Http, Shape::Command, Shape::Funless];

    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Function => "function",
            Self::Http => "http",
            Self::Command => "command",
            Self::Funless => "funless",
        }
    }

    /// The name for people.
    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::Function => "mote:function",
            Self::Http => "wasi:http",
            Self::Command => "wasi command",
            Self::Funless => "funless",
        }
    }

    pub(super) fn parse(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|shape| shape.label() == label)
    }

    pub(super) fn of_component(engine: &Engine, component: &Component) -> Result<Self, String> {
        let mut names = Vec::new();
        for (name, export) in component.component_type().exports(engine) {
            if name.starts_with("wasi:http/incoming-handler@0.2") {
                return Ok(Self::Http);
            }
            if name == "handle" && matches!(export.ty, ComponentItem::ComponentFunc(_)) {
                return Ok(Self::Function);
            }
            names.push(name.to_owned());
        }
        let exports = if names.is_empty() {
            "nothing".to_owned()
        } else {
            names.join(", ")
        };
        Err(format!(
            "the component exports {exports}; it should export `handle` of mote:function or wasi:http/incoming-handler 0.2"
        ))
    }

    pub(super) fn of_module(module: &Module) -> Result<Self, String> {
        // Some of its compilers leave a `_start` there as well.
        if let Some(ExternType::Func(invoke)) = module.get_export(INVOKE)
            && invoke.params().map(|ty| ty.is_i32()).eq([true])
            && invoke.results().map(|ty| ty.is_i32()).eq([true])
        {
            return Ok(Self::Funless);
        }
        match module.get_export("_start") {
            Some(ExternType::Func(start)) if start.params().len() + start.results().len() == 0 => {
                Ok(Self::Command)
            }
            _ => Err("the module exports no `_start`; deploy a WASI command or a component".into()),
        }
    }
}

/// What to do about a full disk.
pub(super) const NO_ROOM_HINT: &str =
    "free space on this disk, or remove functions that are not needed";

/// How long an image that nobody uses is kept: a deploy that made it may still be under way.
const GRACE: Duration = Duration::from_secs(3600);

/// The folder of images.
#[derive(Debug)]
pub(super) struct Images {
    folder: PathBuf,
    made: Mutex<HashMap<String, Image>>,
    next: AtomicU64,
}

/// A file under way; deleted when it is dropped.
#[derive(Debug)]
pub(super) struct Temporary(PathBuf);

impl Temporary {
    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // It is gone already when it was kept; what cannot be deleted now is swept later.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Images {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self {
            folder,
            made: Mutex::default(),
            next: AtomicU64::new(0),
        }
    }

    pub(super) fn path(&self, image: &Image) -> PathBuf {
        self.folder.join(&image.file)
    }

    /// The image of an artifact, recorded earlier or made by this process, if its file is there.
    pub(super) fn known(&self, artifact: &Artifact, fingerprint: &str) -> Option<(Image, Shape)> {
        let made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        for shape in Shape::ALL {
            let file = file_name(&artifact.digest, fingerprint, shape);
            let recorded = artifact.image.as_ref().filter(|image| image.file == file);
            let Some(image) = recorded.or_else(|| made.get(&file)) else {
                continue;
            };
            let there =
                std::fs::metadata(self.path(image)).is_ok_and(|file| file.len() == image.bytes);
            if there {
                return Some((image.clone(), shape));
            }
        }
        None
    }

    /// A place for an image under way.
    pub(super) fn temporary(&self) -> Result<Temporary, Error> {
        std::fs::create_dir_all(&self.folder)
            .map_err(|error| self.io("create the folder of images", &error))?;
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        Ok(Temporary(
            self.folder
                .join(format!("{}-{number}.tmp", std::process::id())),
        ))
    }

    /// Keeps what was compiled.
    pub(super) async fn keep(
        &self,
        temporary: Temporary,
        artifact: &Artifact,
        fingerprint: &str,
        shape: Shape,
    ) -> Result<Image, Error> {
        let file = file_name(&artifact.digest, fingerprint, shape);
        let target = self.folder.join(&file);
        let kept = tokio::task::spawn_blocking(move || -> std::io::Result<(Digest, u64)> {
            let (digest, bytes) = digest(temporary.path())?;
            std::fs::File::open(temporary.path())?.sync_all()?;
            std::fs::rename(temporary.path(), target)?;
            Ok((digest, bytes))
        });
        let kept = kept
            .await
            .map_err(|error| Error::new(ErrorKind::Internal, error.to_string()))?;
        let (digest, bytes) = kept.map_err(|error| self.io("keep an image", &error))?;
        let image = Image {
            file: file.clone(),
            digest,
            bytes,
        };
        self.made
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(file, image.clone());
        Ok(image)
    }

    /// Checks that a file is what was recorded. Fails with `Internal` when it is not, and deletes
    /// it, so that it is made again.
    pub(super) fn verify(&self, image: &Image) -> Result<(), Error> {
        let path = self.path(image);
        let (digest, _) = digest(&path).map_err(|error| self.io("read an image", &error))?;
        if digest == image.digest {
            return Ok(());
        }
        let _ = std::fs::remove_file(&path);
        let message = format!("image {} is damaged and was deleted", image.file);
        Err(Error::new(ErrorKind::Internal, message)
            .with_hint("deploy the function again, or restart the node"))
    }

    /// Deletes images that are not used and old enough.
    pub(super) fn sweep(&self, used: &dyn Fn(&str) -> bool) -> Result<(), Error> {
        let failed = |error| self.io("sweep the folder of images", &error);
        let entries = match std::fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(failed(error)),
        };
        for entry in entries {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            let old = entry.metadata().and_then(|file| file.modified()).ok();
            let old = old
                .and_then(|time| time.elapsed().ok())
                .is_some_and(|age| age >= GRACE);
            if old && !name.to_str().is_some_and(used) {
                std::fs::remove_file(entry.path()).map_err(failed)?;
                let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
                made.remove(&*name.to_string_lossy());
            }
        }
        Ok(())
    }

    fn io(&self, doing: &str, error: &std::io::Error) -> Error {
        let message = format!("could not {doing} in {}: {error}", self.folder.display());
        match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                Error::new(ErrorKind::StorageFull, message).with_hint(NO_ROOM_HINT)
            }
            _ => Error::new(ErrorKind::Internal, message),
        }
    }
}

/// Loads a component's image that was verified.
#[expect(unsafe_code, reason = "loading machine code is what an image is for")]
pub(super) fn load_component(engine: &Engine, path: &Path) -> wasmtime::Result<Component> {
    // SAFETY: the file is in the node's own folder, and its digest was compared with the one
    // recorded when this node's compiler wrote it.
    unsafe { Component::deserialize_file(engine, path) }
}

/// Loads a module's image that was verified.
#[expect(unsafe_code, reason = "loading machine code is what an image is for")]
pub(super) fn load_module(engine: &Engine, path: &Path) -> wasmtime::Result<Module> {
    // SAFETY: as for `load_component`.
    unsafe { Module::deserialize_file(engine, path) }
}

fn file_name(artifact: &Digest, fingerprint: &str, shape: Shape) -> String {
    format!("{artifact}-{fingerprint}-{}.cwasm", shape.label())
}

fn digest(path: &Path) -> std::io::Result<(Digest, u64)> {
    let mut file = std::fs::File::open(path)?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 64 << 10];
    let mut bytes = 0;
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok((Digest::from_bytes(*hasher.finalize().as_bytes()), bytes));
        }
        bytes += read as u64;
        hasher.update(&buffer[..read]);
    }
}
