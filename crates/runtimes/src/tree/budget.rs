//! What unpacking may take: bytes, entries and lengths of names, counted before anything is made,
//! and time, for what a single entry costs is bounded but can be made large.

use std::time::{Duration, Instant};

use mote_core::error::{Error, ErrorKind};

use super::failure::shown;

/// Most that an artifact may unpack to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of all files that are written, holes of sparse ones included.
    pub bytes_max: u64,
    /// Entries of all archives together, and folders made for them.
    pub entries_max: u64,
    /// Bytes of a name, and of a link's target.
    pub path_bytes_max: usize,
    /// How long it may take.
    pub time_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bytes_max: 4 << 30,
            entries_max: 500_000,
            path_bytes_max: 4096,
            time_max: Duration::from_secs(600),
        }
    }
}

/// What is left of the limits.
#[derive(Debug)]
pub(super) struct Budget {
    limits: Limits,
    bytes: u64,
    entries: u64,
    started: Instant,
}

impl Budget {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            limits: limits.clone(),
            bytes: 0,
            entries: 0,
            started: Instant::now(),
        }
    }

    pub(super) fn path_bytes_max(&self) -> usize {
        self.limits.path_bytes_max
    }

    /// Takes one entry, whatever it turns out to be.
    pub(super) fn entry(&mut self) -> Result<(), Error> {
        if self.started.elapsed() > self.limits.time_max {
            return Err(Error::new(
                ErrorKind::Timeout,
                format!(
                    "unpacking the artifact took longer than {} s, the limit",
                    self.limits.time_max.as_secs()
                ),
            ));
        }
        self.entries += 1;
        if self.entries > self.limits.entries_max {
            return Err(Error::new(
                ErrorKind::TooLarge,
                format!(
                    "the artifact has more than {} entries, the limit",
                    self.limits.entries_max
                ),
            ));
        }
        Ok(())
    }

    /// Takes so many bytes, before they are read or written.
    pub(super) fn bytes(&mut self, bytes: u64, name: &[u8]) -> Result<(), Error> {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > self.limits.bytes_max {
            return Err(self.too_large(name));
        }
        Ok(())
    }

    /// Gives the bytes back: a table of contents takes none, but no entry of it may be over the limit.
    pub(super) fn forget_bytes(&mut self) {
        self.bytes = 0;
    }

    fn too_large(&self, name: &[u8]) -> Error {
        Error::new(
            ErrorKind::TooLarge,
            format!(
                "the artifact unpacks to more than {} bytes, the limit, at `{}`",
                self.limits.bytes_max,
                shown(name)
            ),
        )
    }
}
