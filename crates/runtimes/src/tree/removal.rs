//! Removes things from a tree, by descriptor and without following a link.
//!
//! A folder of an archive may be nested deeper than there are descriptors or room on the stack, so
//! nothing here recurses without a bound: to remove a folder, folders in it are moved up into it
//! until all of them are flat.

use std::collections::HashSet;
use std::ffi::CString;
use std::hash::{BuildHasher as _, RandomState};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

/// Most folders below one another in which a layer can hide things.
const NESTED_MAX: usize = 256;

/// Removes whatever has this name: a file, a link itself, or a folder with all that is in it.
/// Nothing there is fine.
pub(super) fn remove(parent: BorrowedFd<'_>, base: &[u8]) -> Result<(), Errno> {
    match rustix::fs::unlinkat(parent, base, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        // Linux says the first of a folder, POSIX the second.
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(errno) => return Err(errno),
    }
    let top = open(parent, base)?;
    let mut spare = 0_u64;
    loop {
        let mut found = false;
        for (name, kind) in list(&top)? {
            found = true;
            if kind != FileType::Directory {
                absent(rustix::fs::unlinkat(
                    &top,
                    name.as_c_str(),
                    AtFlags::empty(),
                ))?;
                continue;
            }
            let folder = open(top.as_fd(), name.to_bytes())?;
            for (inner, kind) in list(&folder)? {
                if kind == FileType::Directory {
                    lift(&folder, &inner, &top, &mut spare)?;
                } else {
                    absent(rustix::fs::unlinkat(
                        &folder,
                        inner.as_c_str(),
                        AtFlags::empty(),
                    ))?;
                }
            }
            absent(rustix::fs::unlinkat(
                &top,
                name.as_c_str(),
                AtFlags::REMOVEDIR,
            ))?;
        }
        if !found {
            return rustix::fs::unlinkat(parent, base, AtFlags::REMOVEDIR);
        }
    }
}

/// Moves a folder up under a name that nothing has.
fn lift(from: &OwnedFd, name: &CString, top: &OwnedFd, spare: &mut u64) -> Result<(), Errno> {
    loop {
        *spare += 1;
        let free = format!(".{spare}");
        match rustix::fs::renameat(from, name.as_c_str(), top, free.as_str()) {
            Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) => {}
            other => return other,
        }
    }
}

/// What a layer has made so far, so that what it hides of the layers below is told from it: the
/// files of a layer come before or after its whiteouts (OCI image layer specification, whiteouts).
#[derive(Default)]
pub(super) struct Made {
    keys: RandomState,
    /// Eight bytes for each, a keyed hash of folder and name.
    seen: HashSet<u64>,
}

impl Made {
    /// Notes a name in a folder.
    pub(super) fn add(&mut self, parent: BorrowedFd<'_>, base: &[u8]) -> Result<(), Errno> {
        let key = self.key(parent, base)?;
        self.seen.insert(key);
        Ok(())
    }

    fn has(&self, parent: BorrowedFd<'_>, base: &[u8]) -> Result<bool, Errno> {
        Ok(self.seen.contains(&self.key(parent, base)?))
    }

    fn key(&self, parent: BorrowedFd<'_>, base: &[u8]) -> Result<u64, Errno> {
        let folder = rustix::fs::fstat(parent)?.st_ino;
        Ok(self.keys.hash_one((folder, base)))
    }

    /// Removes what has this name, but for what the layer itself has made there.
    pub(super) fn hide(&self, parent: BorrowedFd<'_>, base: &[u8]) -> Result<(), Errno> {
        let kept = self.has(parent, base)?;
        match rustix::fs::statat(parent, base, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(it) if FileType::from_raw_mode(it.st_mode) == FileType::Directory => {}
            Ok(_) if kept => return Ok(()),
            Ok(_) => return rustix::fs::unlinkat(parent, base, AtFlags::empty()),
            Err(Errno::NOENT) => return Ok(()),
            Err(errno) => return Err(errno),
        }
        self.hide_below(open(parent, base)?)?;
        if kept {
            return Ok(());
        }
        match rustix::fs::unlinkat(parent, base, AtFlags::REMOVEDIR) {
            // Something of this layer is in it.
            Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(()),
            other => other,
        }
    }

    /// Removes what is in this folder, but for what the layer itself has made there.
    pub(super) fn hide_below(&self, top: OwnedFd) -> Result<(), Errno> {
        struct Level {
            folder: OwnedFd,
            names: Vec<CString>,
            base: CString,
        }
        let enter = |folder: OwnedFd, base: CString| -> Result<Level, Errno> {
            let mut names = Vec::new();
            for (name, kind) in list(&folder)? {
                if kind == FileType::Directory {
                    names.push(name);
                } else if !self.has(folder.as_fd(), name.to_bytes())? {
                    absent(rustix::fs::unlinkat(
                        &folder,
                        name.as_c_str(),
                        AtFlags::empty(),
                    ))?;
                }
            }
            Ok(Level {
                folder,
                names,
                base,
            })
        };
        let mut levels = vec![enter(top, CString::default())?];
        while let Some(level) = levels.last_mut() {
            if let Some(name) = level.names.pop() {
                let inner = open(level.folder.as_fd(), name.to_bytes())?;
                if levels.len() == NESTED_MAX {
                    return Err(Errno::NAMETOOLONG);
                }
                levels.push(enter(inner, name)?);
                continue;
            }
            let base = levels.pop().map(|level| level.base).unwrap_or_default();
            let Some(above) = levels.last() else {
                return Ok(());
            };
            if self.has(above.folder.as_fd(), base.to_bytes())? {
                continue;
            }
            match rustix::fs::unlinkat(&above.folder, base.as_c_str(), AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOENT) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }
}

/// Opens a folder for listing; a link to one is an error.
pub(super) fn open(parent: BorrowedFd<'_>, base: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, base, flags, Mode::empty())
}

/// What is in a folder now. As long as the folder, which the limit of entries bounds.
fn list(folder: &OwnedFd) -> Result<Vec<(CString, FileType)>, Errno> {
    let mut listed = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let kind = match entry.file_type() {
            // Some file systems do not say.
            FileType::Unknown => {
                let it = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
                FileType::from_raw_mode(it.st_mode)
            }
            kind => kind,
        };
        listed.push((name.to_owned(), kind));
    }
    Ok(listed)
}

fn absent(done: Result<(), Errno>) -> Result<(), Errno> {
    match done {
        Err(Errno::NOENT) => Ok(()),
        other => other,
    }
}
