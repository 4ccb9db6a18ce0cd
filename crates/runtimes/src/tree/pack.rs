//! A folder as one archive: the same bytes for the same files, on whatever machine.
//!
//! Names are sorted, times and owners are left out, modes are 0755 or 0644. A folder that holds an
//! OCI layout is packed the same way, and is an image by the `oci-layout` at its top. The whole
//! archive is in memory, so its length is bounded, and so are the entries and their depth.

use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use mote_core::error::{Error, ErrorKind};

/// Most files, folders and links in a folder, as many as are unpacked by default.
const ENTRIES_MAX: usize = 500_000;

/// Most folders below one another, as many as are unpacked.
const DEPTH_MAX: usize = 128;

/// Left out wherever they are: the history of the code is not the code, and npm's settings hold the
/// keys of registries.
const LEFT_OUT: [&str; 2] = [".git", ".npmrc"];

/// Packs a folder into an uncompressed tar of at most `bytes_max` bytes. Symlinks are kept when they
/// stay inside; they, pipes and devices are an error otherwise. Blocking.
pub fn pack(folder: &Path, bytes_max: u64) -> Result<Vec<u8>, Error> {
    if !folder.is_dir() {
        return Err(bad(format!("`{}` is no folder", folder.display())));
    }
    let archive = Bounded {
        bytes: Vec::new(),
        bytes_max,
        full: false,
    };
    let mut packer = Packer {
        archive: tar::Builder::new(archive),
        folder,
        bytes_max,
        entries: 0,
    };
    packer.add_all(Path::new(""), 1)?;
    if packer.entries == 0 {
        return Err(bad(format!("the folder `{}` is empty", folder.display())));
    }
    match packer.archive.into_inner() {
        Ok(archive) => Ok(archive.bytes),
        Err(_) => Err(too_large(folder, bytes_max)),
    }
}

/// Whether a symlink named `name`, relative to the top of a tree, stays inside of the tree.
///
/// `..` may stand at the begin of its target only: behind the name of another link it would lead
/// to who knows where. So every link of a tree starts at a place inside and only goes down from
/// there, and a way over several of them stays inside as well.
pub(super) fn stays_inside(name: &Path, target: &[u8]) -> bool {
    if target.starts_with(b"/") {
        return false;
    }
    let mut above = name.components().count().saturating_sub(1);
    let mut went_down = false;
    for part in target.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." if went_down || above == 0 => return false,
            b".." => above -= 1,
            _ => went_down = true,
        }
    }
    true
}

struct Packer<'a> {
    archive: tar::Builder<Bounded>,
    folder: &'a Path,
    bytes_max: u64,
    entries: usize,
}

impl Packer<'_> {
    /// Adds what is in the folder at `inside`, which is relative to the top.
    fn add_all(&mut self, inside: &Path, depth: usize) -> Result<(), Error> {
        let folder = self.folder.join(inside);
        let mut names: Vec<OsString> = Vec::new();
        for entry in fs::read_dir(&folder).map_err(|error| unreadable(&folder, &error))? {
            names.push(
                entry
                    .map_err(|error| unreadable(&folder, &error))?
                    .file_name(),
            );
            if names.len() > ENTRIES_MAX {
                return Err(self.too_many());
            }
        }
        names.sort_unstable();
        for name in names {
            if LEFT_OUT.iter().any(|left| name == *left) {
                continue;
            }
            self.entries += 1;
            if self.entries > ENTRIES_MAX {
                return Err(self.too_many());
            }
            let name = inside.join(name);
            let path = self.folder.join(&name);
            let it = fs::symlink_metadata(&path).map_err(|error| unreadable(&path, &error))?;
            if it.is_dir() {
                if depth == DEPTH_MAX {
                    return Err(bad(format!(
                        "`{}` is nested more than {DEPTH_MAX} deep",
                        path.display()
                    )));
                }
                let header = header(tar::EntryType::Directory, 0o755, 0);
                self.append(&name, header, &mut io::empty())?;
                self.add_all(&name, depth + 1)?;
            } else if it.is_symlink() {
                self.add_link(&name, &path)?;
            } else if it.is_file() {
                self.add_file(&name, &path, &it)?;
            } else {
                return Err(bad(format!(
                    "`{}` is a pipe, a socket or a device",
                    path.display()
                ))
                .with_hint("move it out of the folder"));
            }
        }
        Ok(())
    }

    fn add_file(&mut self, name: &Path, path: &Path, it: &Metadata) -> Result<(), Error> {
        // Before a byte is read, so that one large file does not take a minute to be refused.
        if it.len() > self.bytes_max {
            return Err(too_large(self.folder, self.bytes_max));
        }
        let changed = || bad(format!("`{}` changed while it was packed", path.display()));
        let file = File::open(path).map_err(|error| unreadable(path, &error))?;
        let opened = file.metadata().map_err(|error| unreadable(path, &error))?;
        if (opened.dev(), opened.ino(), opened.len()) != (it.dev(), it.ino(), it.len()) {
            return Err(changed());
        }
        let mode = if it.permissions().mode() & 0o111 == 0 {
            0o644
        } else {
            0o755
        };
        let mut bytes = file.take(it.len());
        self.append(
            name,
            header(tar::EntryType::Regular, mode, it.len()),
            &mut bytes,
        )?;
        if bytes.limit() != 0 {
            return Err(changed());
        }
        Ok(())
    }

    fn add_link(&mut self, name: &Path, path: &Path) -> Result<(), Error> {
        let target = fs::read_link(path).map_err(|error| unreadable(path, &error))?;
        if !stays_inside(name, target.as_os_str().as_bytes()) {
            return Err(bad(format!(
                "the symlink `{}` leads out of the folder, to `{}`",
                path.display(),
                target.display()
            ))
            .with_hint("copy what it leads to into the folder, or write a relative target with `..` only at its begin"));
        }
        let mut header = header(tar::EntryType::Symlink, 0o777, 0);
        self.archive
            .append_link(&mut header, name, &target)
            .map_err(|error| self.unwritten(name, &error))
    }

    fn append(
        &mut self,
        name: &Path,
        mut header: tar::Header,
        bytes: &mut dyn Read,
    ) -> Result<(), Error> {
        self.archive
            .append_data(&mut header, name, bytes)
            .map_err(|error| self.unwritten(name, &error))
    }

    fn unwritten(&self, name: &Path, error: &io::Error) -> Error {
        if self.archive.get_ref().full {
            return too_large(self.folder, self.bytes_max);
        }
        unreadable(&self.folder.join(name), error)
    }

    fn too_many(&self) -> Error {
        Error::new(
            ErrorKind::TooLarge,
            format!(
                "`{}` holds more than {ENTRIES_MAX} files",
                self.folder.display()
            ),
        )
    }
}

fn header(kind: tar::EntryType, mode: u32, bytes: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(bytes);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

/// The archive so far.
struct Bounded {
    bytes: Vec<u8>,
    bytes_max: u64,
    full: bool,
}

impl Write for Bounded {
    fn write(&mut self, more: &[u8]) -> io::Result<usize> {
        if (self.bytes.len() + more.len()) as u64 > self.bytes_max {
            self.full = true;
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(more);
        Ok(more.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn bad(message: String) -> Error {
    Error::new(ErrorKind::BadRequest, message)
}

fn unreadable(path: &Path, error: &io::Error) -> Error {
    bad(format!("read `{}`: {error}", path.display()))
}

fn too_large(folder: &Path, bytes_max: u64) -> Error {
    Error::new(
        ErrorKind::TooLarge,
        format!(
            "`{}` packs to more than {bytes_max} bytes, the limit",
            folder.display()
        ),
    )
    .with_hint("deploy a folder that holds only what the function needs")
}
