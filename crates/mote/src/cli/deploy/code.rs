//! From what a person names to the bytes that a node is sent: the artifact.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use mote_api::manifest::{self, Source};
use mote_core::error::{Error, ErrorKind};
use mote_core::spec::RuntimeKind;
use mote_runtimes::container::REFERENCE_PREFIX;
use mote_runtimes::tree::pack;

use super::bare::Code;
use super::source;

/// Largest artifact that is read; a node takes less unless told otherwise.
const SOURCE_BYTES_MAX: u64 = 1 << 30;

/// The artifact of a function of a manifest.
pub(super) fn of(folder: &Path, source: &Source, runtime: RuntimeKind) -> Result<Bytes, Error> {
    match source {
        Source::Path(path) => {
            let path = inside(folder, path)?;
            if path.is_dir() && runtime != RuntimeKind::Wasm {
                return source_folder(&path);
            }
            file(&path, runtime)
        }
        Source::Reference(reference) => Ok(format!("{REFERENCE_PREFIX}{reference}\n").into()),
        Source::Nothing => nothing(),
    }
}

/// The artifact of a function whose program is the system's: a folder with one empty file.
fn nothing() -> Result<Bytes, Error> {
    let folder = tempfile::tempdir().and_then(|folder| {
        std::fs::write(folder.path().join("nothing"), "")?;
        Ok(folder)
    });
    let folder = folder.map_err(|error| unreadable(Path::new("a temporary folder"), &error))?;
    Ok(pack(folder.path(), SOURCE_BYTES_MAX)?.into())
}

/// What a file or folder without a manifest is, by its looks.
pub(super) fn recognised(path: &Path) -> Result<(RuntimeKind, Code<'_>), Error> {
    if path.is_dir() {
        if source::is_known(path) {
            return Ok((RuntimeKind::Process, Code::Folder(path)));
        }
        return Err(Error::new(
            ErrorKind::BadRequest,
            format!("{} has no {} and no source that is known", path.display(), manifest::FILE_NAME),
        )
        .with_hint("name a .wasm file, add a handler.py, handler.js or fn.sh, or write a manifest: version = 1, [function.NAME], source = \"NAME.wasm\""));
    }
    let mut head = [0; 4];
    let mut file = std::fs::File::open(path).map_err(|error| unreadable(path, &error))?;
    let read = file
        .read(&mut head)
        .map_err(|error| unreadable(path, &error))?;
    let program = head.starts_with(b"\x7fELF") || head.starts_with(b"#!");
    let kind = if program && read > 2 {
        RuntimeKind::Process
    } else {
        RuntimeKind::Wasm
    };
    Ok((kind, Code::File(path)))
}

/// A file as it is.
pub(super) fn file(path: &Path, runtime: RuntimeKind) -> Result<Bytes, Error> {
    let about = std::fs::metadata(path).map_err(|error| unreadable(path, &error))?;
    if about.len() > SOURCE_BYTES_MAX || !about.is_file() {
        return Err(Error::new(
            ErrorKind::TooLarge,
            format!(
                "{} is not a file of at most {SOURCE_BYTES_MAX} bytes",
                path.display()
            ),
        ));
    }
    let code = std::fs::read(path).map_err(|error| unreadable(path, &error))?;
    if runtime == RuntimeKind::Wasm && !code.starts_with(b"\0asm") {
        return Err(Error::new(
            ErrorKind::BadRequest,
            format!("{} is not WebAssembly", path.display()),
        )
        .with_hint("build the function first; `mote deploy` takes a .wasm file, a program, or a folder with source or a mote.toml"));
    }
    Ok(code.into())
}

/// A folder as an archive, with the packages that its source asks for.
pub(super) fn source_folder(folder: &Path) -> Result<Bytes, Error> {
    let staging = source::with_packages(folder, &mut |line| crate::report::say(line))?;
    let packed = match &staging {
        Some(staging) => pack(staging.path(), SOURCE_BYTES_MAX)?,
        None => pack(folder, SOURCE_BYTES_MAX)?,
    };
    Ok(packed.into())
}

/// A source of a manifest, which no link may lead out of its folder.
fn inside(folder: &Path, source: &Path) -> Result<PathBuf, Error> {
    let path = folder.join(source);
    let real = path
        .canonicalize()
        .map_err(|error| unreadable(&path, &error))?;
    let home = folder
        .canonicalize()
        .map_err(|error| unreadable(folder, &error))?;
    if real.starts_with(&home) {
        return Ok(real);
    }
    Err(Error::new(
        ErrorKind::BadRequest,
        format!(
            "source `{}` is a link out of {}",
            source.display(),
            folder.display()
        ),
    )
    .with_hint("copy the file into the folder"))
}

/// The error for what cannot be read.
pub(super) fn unreadable(path: &Path, error: &std::io::Error) -> Error {
    let kind = match error.kind() {
        std::io::ErrorKind::NotFound => ErrorKind::NotFound,
        _ => ErrorKind::BadRequest,
    };
    Error::new(kind, format!("cannot read {}: {error}", path.display()))
        .with_hint("check path and permissions")
}
