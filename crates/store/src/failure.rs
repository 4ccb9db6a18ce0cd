//! What a failed disk operation means to a person: one mapping, for files and database alike.

use std::fmt::Display;
use std::io;

use mote_core::error::{Error, ErrorKind};

/// Turns an I/O error into the error table's words. `doing` says what failed, with the path.
pub(crate) fn io(doing: impl Display, error: &io::Error) -> Error {
    let message = format!("{doing}: {error}");
    match error.kind() {
        // A file-size limit (`ulimit -f`) is a quota like any other.
        io::ErrorKind::StorageFull
        | io::ErrorKind::QuotaExceeded
        | io::ErrorKind::FileTooLarge => Error::new(ErrorKind::StorageFull, message)
            .with_hint("free space on this disk, or remove functions that are not needed"),
        io::ErrorKind::PermissionDenied => Error::new(ErrorKind::Forbidden, message)
            .with_hint("run the node as the owner of the data folder, or choose another folder with --data-dir"),
        io::ErrorKind::ReadOnlyFilesystem => Error::new(ErrorKind::Internal, message)
            .with_hint("the disk is mounted read-only, often after a disk error: check `dmesg`"),
        _ => Error::new(ErrorKind::Internal, message),
    }
}

/// Turns a database error into the error table's words. `repair` is what to do about a file that is
/// damaged.
pub(crate) fn database(doing: impl Display, error: &redb::Error, repair: &'static str) -> Error {
    match error {
        redb::Error::Io(cause) => io(doing, cause),
        redb::Error::Corrupted(_) => {
            Error::new(ErrorKind::Internal, format!("{doing}: {error}")).with_hint(repair)
        }
        redb::Error::UpgradeRequired(_) => {
            Error::new(ErrorKind::Unsupported, format!("{doing}: {error}"))
                .with_hint("start the version of mote that wrote this data folder")
        }
        redb::Error::DatabaseAlreadyOpen => Error::new(
            ErrorKind::Conflict,
            format!("{doing}: another process has it open"),
        ),
        redb::Error::ValueTooLarge(_) => {
            Error::new(ErrorKind::TooLarge, format!("{doing}: {error}"))
        }
        _ => Error::new(ErrorKind::Internal, format!("{doing}: {error}")),
    }
}
