//! How what goes wrong with an archive is told: bad archives are the caller's, a full disk is the
//! disk's, and everything else is the node's.

use std::borrow::Cow;
use std::fmt::Display;
use std::io;

use mote_core::error::{Error, ErrorKind};
use rustix::io::Errno;

/// Most characters of a name in a message; names come from archives that nobody has checked.
const SHOWN_MAX: usize = 200;

/// An archive that makes no sense or wants what it may not have.
pub(super) fn bad(message: impl Into<Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::BadRequest, message)
}

/// An archive of a form that is not read here.
pub(super) fn unsupported(message: impl Into<Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Unsupported, message)
}

/// A failure of the system below.
pub(super) fn system(doing: impl Display, error: &io::Error) -> Error {
    let kind = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::StorageFull,
        _ => ErrorKind::Internal,
    };
    let told = Error::new(kind, format!("{doing}: {error}"));
    if kind == ErrorKind::StorageFull {
        return told.with_hint("free space below the data directory, or remove functions");
    }
    told
}

/// A failure to make an entry: some of them are the fault of the archive.
pub(super) fn entry(name: &[u8], errno: Errno) -> Error {
    let name = shown(name);
    match errno {
        Errno::NOTDIR => bad(format!("`{name}` lies below something that is no folder")),
        Errno::LOOP => bad(format!(
            "`{name}` lies behind a symlink that is not followed"
        )),
        Errno::NAMETOOLONG => bad(format!("`{name}` has a name that is too long")),
        Errno::XDEV => bad(format!("`{name}` leads out of the tree")),
        Errno::MLINK => bad(format!("`{name}` is one hard link too many")),
        _ => system(format!("unpack `{name}`"), &errno.into()),
    }
}

/// A name for people: printable, and not longer than a line or two.
pub(super) fn shown(name: &[u8]) -> String {
    let text = String::from_utf8_lossy(name);
    let mut shown: String = text.chars().take(SHOWN_MAX).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown.escape_debug().to_string()
}
