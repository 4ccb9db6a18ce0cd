//! The folder that is being filled, held by a descriptor.
//!
//! Everything is made, replaced and removed relative to that descriptor, so that no name and no
//! symlink of an archive can reach a place outside of it. The kernel resolves parents
//! (`openat2(2)`); where it cannot, a walk by hand does the same: it opens one component at a time
//! and never lets the system follow a link. The last component is never followed by anything.

use std::fs::File;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use mote_core::error::Error;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Timespec, Timestamps};
use rustix::io::Errno;

use super::budget::Budget;
use super::failure::{self, bad, shown};
use super::name::{Name, parts};
use super::removal;

/// Most symlinks on the way to one parent, as in the kernel.
const LINKS_MAX: usize = 40;

/// How often a path is looked up: the kernel gives up when anything on the system is renamed or mounted
/// meanwhile (openat2(2), `EAGAIN`).
const LOOKUPS_MAX: u32 = 1000;

/// Most components on that way, those of links included.
const STEPS_MAX: usize = 4096;

/// Most folders that are open at once while walking by hand.
const OPEN_MAX: usize = 256;

/// The last second of the year 9999: later times than this no file system and no person expects.
const MTIME_MAX: u64 = 253_402_300_799;

/// What a symlink on the way to a parent means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Links {
    /// It is an error: source code has no reason to have a file below a link.
    Refused,
    /// It leads to a place inside, whatever it says: images have `/bin -> usr/bin`, and files in `bin/`.
    Inside,
}

/// The folder, and what may still be put into it.
pub(super) struct Root {
    fd: OwnedFd,
    links: Links,
    /// Whether the kernel resolves parents.
    kernel: bool,
    pub(super) budget: Budget,
    /// Bytes of files written.
    pub(super) written: u64,
}

#[cfg(test)]
thread_local! {
    /// Whether the roots of this thread resolve parents as on a kernel without `openat2`.
    pub(super) static BY_HAND: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// A failure with the entry's name still missing, or a whole one.
enum Stop {
    Errno(Errno),
    Error(Error),
}

impl From<Errno> for Stop {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}

impl Stop {
    fn named(self, name: &[u8]) -> Error {
        match self {
            Self::Errno(errno) => failure::entry(name, errno),
            Self::Error(error) => error,
        }
    }
}

impl Root {
    pub(super) fn new(fd: OwnedFd, links: Links, budget: Budget) -> Self {
        Self {
            fd,
            links,
            #[cfg(not(test))]
            kernel: true,
            #[cfg(test)]
            kernel: !BY_HAND.get(),
            budget,
            written: 0,
        }
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// The folder at `path`, relative to the top, made with all above it where it is missing.
    pub(super) fn make_parent(&mut self, path: &[u8]) -> Result<OwnedFd, Error> {
        match self.resolve(path) {
            Err(Errno::NOENT | Errno::AGAIN) => {
                self.walk(path, true).map_err(|stop| stop.named(path))
            }
            other => other.map_err(|errno| failure::entry(path, errno)),
        }
    }

    /// The folder at `path`, if there is one.
    pub(super) fn find_parent(&mut self, path: &[u8]) -> Result<Option<OwnedFd>, Error> {
        let found = match self.resolve(path) {
            Err(Errno::AGAIN) => self.walk(path, false),
            other => other.map_err(Stop::Errno),
        };
        match found {
            Ok(fd) => Ok(Some(fd)),
            Err(Stop::Errno(Errno::NOENT | Errno::NOTDIR)) => Ok(None),
            Err(stop) => Err(stop.named(path)),
        }
    }

    /// Makes a file, in place of whatever has its name. The descriptor is open for writing and for this file alone.
    pub(super) fn file(&mut self, parent: BorrowedFd<'_>, base: &[u8]) -> Result<File, Errno> {
        removal::remove(parent, base)?;
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(parent, base, flags, Mode::from_raw_mode(0o600))?;
        Ok(File::from(fd))
    }

    /// Gives a written file its mode and its time.
    pub(super) fn finish(&self, file: &File, mode: u32, mtime: u64) -> Result<(), Errno> {
        rustix::fs::fchmod(file, Mode::from_raw_mode(mode & 0o755 | 0o600))?;
        let time = Timespec {
            tv_sec: mtime.min(MTIME_MAX).cast_signed(),
            tv_nsec: 0,
        };
        let times = Timestamps {
            last_access: time,
            last_modification: time,
        };
        rustix::fs::futimens(file, &times)
    }

    /// Makes a folder, or gives one that is there another mode; replaces what is no folder.
    pub(super) fn folder(
        &mut self,
        parent: BorrowedFd<'_>,
        base: &[u8],
        mode: u32,
    ) -> Result<(), Errno> {
        match file_type(parent, base)? {
            Some(FileType::Directory) => {}
            Some(_) => {
                rustix::fs::unlinkat(parent, base, AtFlags::empty())?;
                rustix::fs::mkdirat(parent, base, Mode::from_raw_mode(0o700))?;
            }
            None => rustix::fs::mkdirat(parent, base, Mode::from_raw_mode(0o700))?,
        }
        set_folder_mode(parent, base, mode)
    }

    /// Makes a symlink. Its target is not looked at: nothing is ever written through it.
    pub(super) fn symlink(
        &mut self,
        parent: BorrowedFd<'_>,
        base: &[u8],
        target: &[u8],
    ) -> Result<(), Errno> {
        removal::remove(parent, base)?;
        rustix::fs::symlinkat(target, parent, base)
    }

    /// Makes a hard link to a regular file that is in the tree already.
    pub(super) fn hard_link(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &Name,
        base: &[u8],
        target: &Name,
    ) -> Result<(), Error> {
        let missing = || {
            bad(format!(
                "`{}` is a hard link to `{}`, which is no file of the archive before it",
                shown(name.bytes()),
                shown(target.bytes())
            ))
        };
        let named = |errno| failure::entry(name.bytes(), errno);
        let (folder, file) = target.split().ok_or_else(missing)?;
        let folder = self.find_parent(folder)?.ok_or_else(missing)?;
        let it = match rustix::fs::statat(&folder, file, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(it) if FileType::from_raw_mode(it.st_mode) == FileType::RegularFile => it,
            Ok(_) | Err(Errno::NOENT) => return Err(missing()),
            Err(errno) => return Err(named(errno)),
        };
        match rustix::fs::statat(parent, base, AtFlags::SYMLINK_NOFOLLOW) {
            // It is there already, perhaps as the target itself, which must not be removed first.
            Ok(old) if (old.st_dev, old.st_ino) == (it.st_dev, it.st_ino) => return Ok(()),
            Ok(_) => removal::remove(parent, base).map_err(named)?,
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(named(errno)),
        }
        match rustix::fs::linkat(&folder, file, parent, base, AtFlags::empty()) {
            // It was below the folder that the link has just replaced.
            Err(Errno::NOENT) => Err(missing()),
            other => other.map_err(named),
        }
    }

    /// Opens a file for reading as a process with this root would: links lead to places inside.
    pub(super) fn open_inside(&self, path: &[u8]) -> Result<File, Errno> {
        // Not to be held up by what is no file; there should be none, for special files are not made.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        for _ in 1..LOOKUPS_MAX {
            match rustix::fs::openat2(&self.fd, path, flags, Mode::empty(), inside) {
                Err(Errno::AGAIN) => std::thread::yield_now(),
                done => return done.map(File::from),
            }
        }
        Err(Errno::AGAIN)
    }

    fn resolve(&mut self, path: &[u8]) -> Result<OwnedFd, Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        if path.is_empty() {
            return rustix::fs::openat(&self.fd, c".", flags, Mode::empty());
        }
        if !self.kernel {
            return Err(Errno::AGAIN);
        }
        let how = ResolveFlags::NO_MAGICLINKS
            | match self.links {
                Links::Refused => ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
                Links::Inside => ResolveFlags::IN_ROOT,
            };
        let found = rustix::fs::openat2(&self.fd, path, flags, Mode::empty(), how);
        // Older than 5.6, or a filter of system calls that does not know it.
        if let Err(Errno::NOSYS | Errno::PERM) = found {
            self.kernel = false;
            return Err(Errno::AGAIN);
        }
        found
    }

    /// Resolves a path one component at a time, inside the root, and makes what is missing.
    fn walk(&mut self, path: &[u8], make: bool) -> Result<OwnedFd, Stop> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut todo: Vec<Vec<u8>> = parts(path).rev().map(<[u8]>::to_vec).collect();
        // The folders from the top down to where the walk stands; at the top it is empty.
        let mut stack: Vec<OwnedFd> = Vec::new();
        let (mut links, mut steps) = (0, 0);
        while let Some(part) = todo.pop() {
            steps += 1;
            if steps > STEPS_MAX || stack.len() == OPEN_MAX {
                return Err(Errno::NAMETOOLONG.into());
            }
            if part == b".." {
                // Only from a link; above the top is the top.
                stack.pop();
                continue;
            }
            let here = stack.last().unwrap_or(&self.fd);
            match rustix::fs::openat(here, part.as_slice(), flags, Mode::empty()) {
                Ok(fd) => stack.push(fd),
                Err(Errno::NOENT) if make => {
                    self.budget.entry().map_err(Stop::Error)?;
                    rustix::fs::mkdirat(here, part.as_slice(), Mode::from_raw_mode(0o700))?;
                    set_folder_mode(here.as_fd(), &part, 0o755)?;
                    todo.push(part);
                }
                Err(Errno::NOTDIR | Errno::LOOP) => {
                    let target = match rustix::fs::readlinkat(here, part.as_slice(), Vec::new()) {
                        Ok(target) => target.into_bytes(),
                        Err(Errno::INVAL) => return Err(Errno::NOTDIR.into()),
                        Err(errno) => return Err(errno.into()),
                    };
                    links += 1;
                    if self.links == Links::Refused || links > LINKS_MAX {
                        return Err(Errno::LOOP.into());
                    }
                    if target.starts_with(b"/") {
                        stack.clear();
                    }
                    todo.extend(parts(&target).rev().map(<[u8]>::to_vec));
                }
                Err(errno) => return Err(errno.into()),
            }
        }
        match stack.pop() {
            Some(fd) => Ok(fd),
            None => Ok(rustix::fs::openat(&self.fd, c".", flags, Mode::empty())?),
        }
    }
}

/// What stands at a name, links not followed.
fn file_type(parent: BorrowedFd<'_>, base: &[u8]) -> Result<Option<FileType>, Errno> {
    match rustix::fs::statat(parent, base, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(it) => Ok(Some(FileType::from_raw_mode(it.st_mode))),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Whoever owns the tree can always list it and remove it.
fn set_folder_mode(parent: BorrowedFd<'_>, base: &[u8], mode: u32) -> Result<(), Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = rustix::fs::openat(parent, base, flags, Mode::empty())?;
    rustix::fs::fchmod(&folder, Mode::from_raw_mode(mode & 0o755 | 0o700))
}
