//! The data folder: who owns it, which format it has, and where things are in it.
//!
//! One node owns one folder. The lock ends with the process, however it ends, so a node that was
//! killed leaves nothing to clean up. A folder of a newer format, or one that somebody else uses
//! for something else, is refused before anything in it is touched.

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mote_core::digest::Digest;
use mote_core::error::{Error, ErrorKind};

use crate::failure;

/// The format this version writes, and the newest it reads.
pub const FORMAT: u32 = 1;

const FORMAT_FILE: &str = "format";
const LOCK_FILE: &str = "lock";
const TOKEN_FILE: &str = "token";
const FOLDERS: [&str; 5] = ["artifacts", "environments", "images", "logs", "trees"];

/// What a new data folder may hold before its format is written: what an interrupted first start
/// left, what a fresh file system brings along, and what people put there beforehand, which is the
/// node's configuration and a token of their own.
const NOT_FOREIGN: [&str; 5] = [
    LOCK_FILE,
    ".format.tmp",
    "lost+found",
    "node.toml",
    TOKEN_FILE,
];

/// Longest small file read whole (`format`, `lock`, `token`); ours are under 100 bytes.
const SMALL_FILE_BYTES_MAX: u64 = 4096;

/// A data folder that this process owns. Cheap to clone; the lock is held until the last clone, and
/// the last part of the store that was opened in it, is gone.
#[derive(Clone, Debug)]
pub struct DataDir {
    path: PathBuf,
    lock: Arc<File>,
}

/// The admin token of a node.
#[derive(Clone)]
pub struct Token {
    /// What clients send.
    pub value: String,
    /// The file it is in, for people to read it from.
    pub path: PathBuf,
}

impl DataDir {
    /// Opens the folder, and creates it when there is none. Fails with `Conflict` when another node
    /// uses it or when it holds something else, and with `Unsupported` when its format is newer;
    /// in both cases nothing in it changes.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = create(path.as_ref())?;
        check_format(&path)?;
        let lock = lock(&path)?;
        // Only now can nobody else be in the middle of creating it.
        if check_format(&path)?.is_none() {
            let line = format!("{FORMAT}\n");
            write_durably(&path, FORMAT_FILE, line.as_bytes())?;
        }
        restrict(&path, 0o700)?;
        for folder in FOLDERS {
            create(&path.join(folder))?;
        }
        sync_folder(&path)?;
        Ok(Self {
            path,
            lock: Arc::new(lock),
        })
    }

    /// The folder, absolute.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where artifacts are, by digest.
    pub fn artifacts(&self) -> PathBuf {
        self.path.join("artifacts")
    }

    /// Where runtimes keep their images.
    pub fn images(&self) -> PathBuf {
        self.path.join("images")
    }

    /// Where unpacked artifacts are, by digest.
    pub fn trees(&self) -> PathBuf {
        self.path.join("trees")
    }

    /// Where environments for plain source are: the built-in ones and those of users.
    pub fn environments(&self) -> PathBuf {
        self.path.join("environments")
    }

    /// Where logs go.
    pub fn logs(&self) -> PathBuf {
        self.path.join("logs")
    }

    /// The admin token: read from its file, or made of 32 random bytes and written there, durable
    /// on return. A token that somebody wrote there by hand is taken when it has 16 to 256 visible
    /// ASCII characters.
    pub fn token(&self) -> Result<Token, Error> {
        let path = self.path.join(TOKEN_FILE);
        let value = match read_small(&path)? {
            Some(text) => checked_token(&path, text.trim())?,
            None => {
                let value = random_token()?;
                write_durably(&self.path, TOKEN_FILE, format!("{value}\n").as_bytes())?;
                value
            }
        };
        restrict(&path, 0o600)?;
        Ok(Token { value, path })
    }

    /// Keeps the lock for as long as the returned handle lives.
    pub(crate) fn held(&self) -> Arc<File> {
        self.lock.clone()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Debug output ends up in logs; the value must not.
        f.debug_struct("Token")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// Makes entries of a folder durable: files created, renamed or deleted in it.
pub(crate) fn sync_folder(path: &Path) -> Result<(), Error> {
    File::open(path)
        .and_then(|folder| folder.sync_all())
        .map_err(|error| failure::io(format!("syncing folder `{}`", path.display()), &error))
}

/// Creates a folder only we may enter, unless it exists, and returns its absolute path.
fn create(path: &Path) -> Result<PathBuf, Error> {
    let failed =
        |error: io::Error| failure::io(format!("opening data folder `{}`", path.display()), &error);
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => fs::canonicalize(path).map_err(failed),
        Ok(_) => Err(Error::new(
            ErrorKind::Conflict,
            format!("data folder `{}` is not a folder", path.display()),
        )
        .with_hint("choose another folder with --data-dir")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let created = DirBuilder::new().recursive(true).mode(0o700).create(path);
            created.map_err(failed)?;
            let path = fs::canonicalize(path).map_err(failed)?;
            if let Some(parent) = path.parent() {
                sync_folder(parent)?;
            }
            Ok(path)
        }
        Err(error) => Err(failed(error)),
    }
}

/// Reads the folder's format; `None` when it has none yet and may be given one. Changes nothing.
fn check_format(path: &Path) -> Result<Option<u32>, Error> {
    let Some(text) = read_small(&path.join(FORMAT_FILE))? else {
        return check_empty(path).map(|()| None);
    };
    match text.trim().parse() {
        Ok(format) if format <= FORMAT => Ok(Some(format)),
        _ => Err(Error::new(
            ErrorKind::Unsupported,
            format!(
                "data folder `{}` has format `{}`, and this version of mote knows formats up to {FORMAT}",
                path.display(),
                text.trim().escape_debug()
            ),
        )
        .with_hint("start a newer version of mote, or choose another folder with --data-dir; nothing was changed")),
    }
}

fn check_empty(path: &Path) -> Result<(), Error> {
    let failed =
        |error: io::Error| failure::io(format!("reading folder `{}`", path.display()), &error);
    for entry in fs::read_dir(path).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        if !NOT_FOREIGN.iter().any(|known| name == *known) {
            return Err(Error::new(
                ErrorKind::Conflict,
                format!(
                    "folder `{}` is not a data folder of mote, and not empty: it holds `{}`",
                    path.display(),
                    name.to_string_lossy().escape_debug()
                ),
            )
            .with_hint("choose an empty or new folder with --data-dir"));
        }
    }
    Ok(())
}

fn lock(folder: &Path) -> Result<File, Error> {
    let path = folder.join(LOCK_FILE);
    let failed = |error: io::Error| {
        failure::io(
            format!("locking data folder `{}`", folder.display()),
            &error,
        )
    };
    // Not truncated on opening: until the lock is ours, the pid in it is somebody else's.
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(in_use(folder, &path)),
        Err(TryLockError::Error(error)) => return Err(failed(error)),
    }
    file.set_len(0).map_err(failed)?;
    writeln!(file, "{}", std::process::id()).map_err(failed)?;
    Ok(file)
}

fn in_use(folder: &Path, lock: &Path) -> Error {
    let pid = read_small(lock)
        .ok()
        .flatten()
        .and_then(|text| text.trim().parse::<u32>().ok());
    // The owner writes its pid just after it got the lock, so there may be none yet.
    let owner = pid.map_or_else(
        || "another process".to_owned(),
        |pid| format!("process {pid}"),
    );
    Error::new(
        ErrorKind::Conflict,
        format!("data folder `{}` is in use by {owner}", folder.display()),
    )
    .with_hint("stop that node first, or choose another folder with --data-dir")
}

fn random_token() -> Result<String, Error> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| {
        Error::new(
            ErrorKind::Internal,
            format!("the system gave no random bytes for the admin token: {error}"),
        )
    })?;
    Ok(Digest::from_bytes(bytes).to_string())
}

fn checked_token(path: &Path, text: &str) -> Result<String, Error> {
    let valid = (16..=256).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    if valid {
        return Ok(text.to_owned());
    }
    Err(Error::new(
        ErrorKind::BadRequest,
        format!("token file `{}` holds no token", path.display()),
    )
    .with_hint(
        "delete the file to get a new token, or write 16 to 256 visible ASCII characters into it",
    ))
}

/// Writes a small file so that after a power cut it is there whole or not at all.
fn write_durably(folder: &Path, name: &str, bytes: &[u8]) -> Result<(), Error> {
    let temporary = folder.join(format!(".{name}.tmp"));
    let target = folder.join(name);
    let write = || {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, &target)
    };
    write().map_err(|error| failure::io(format!("writing `{}`", target.display()), &error))?;
    sync_folder(folder)
}

fn read_small(path: &Path) -> Result<Option<String>, Error> {
    let failed = |error: io::Error| failure::io(format!("reading `{}`", path.display()), &error);
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mut bytes = Vec::new();
    file.take(SMALL_FILE_BYTES_MAX)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

/// Takes the rights of group and others away, where there are any.
fn restrict(path: &Path, mode: u32) -> Result<(), Error> {
    let restricted = fs::metadata(path).and_then(|found| {
        if found.permissions().mode() & 0o777 == mode {
            return Ok(());
        }
        fs::set_permissions(path, Permissions::from_mode(mode))
    });
    restricted.map_err(|error| {
        failure::io(
            format!("restricting `{}` to its owner", path.display()),
            &error,
        )
    })
}

#[cfg(test)]
mod tests;
