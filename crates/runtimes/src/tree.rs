//! Artifacts become folders: a program, a folder of source code, or an image, each one file that
//! nobody has checked, is unpacked into a *tree* on disk.
//!
//! Nothing that an artifact says is taken on trust. A tree is filled through a descriptor of its own
//! folder, so that no name and no link leads out of it (`root`); sizes and counts are bounded before
//! anything is written ([`Limits`]); special files, owners and setuid bits are left out; what an image
//! names by a digest is checked against it. A tree is made beside its place and renamed when it is
//! whole, so that a node that is killed finds a whole tree or none.
//!
//! Everything here blocks: call it on a thread that may. A tree must not be unpacked twice at once.

mod apply;
mod budget;
mod entries;
mod failure;
mod image;
mod layer;
mod machine;
mod name;
mod pack;
mod record;
mod removal;
mod root;
mod source;
mod table;
#[cfg(test)]
mod tests;

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufReader, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use flate2::bufread::MultiGzDecoder;
use mote_core::error::Error;
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use apply::{As, apply};
use budget::Budget;
use entries::Entries;
use failure::{bad, system};
use root::{Links, Root};
use source::Span;
use table::{Form, Table};

pub use budget::Limits;
pub use image::ImageConfig;
pub use machine::{Machine, check_machine, machine_of};
pub use pack::pack;

/// The only file in the tree of a program.
pub const PROGRAM: &str = "program";

/// Most scripts that start one another, when an image's entrypoint is checked.
const INTERPRETERS_MAX: usize = 4;

/// What an artifact is, found by its first bytes and its table of contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One executable file, ELF or a `#!` script: `program` in its tree.
    Program,
    /// A folder of source code, in a tar.
    Folder,
    /// The root of a system: an OCI layout or what `docker save` writes, in a tar.
    Image,
}

impl Kind {
    /// Every kind.
    pub const ALL: &'static [Kind] = &[Self::Program, Self::Folder, Self::Image];

    /// The name for people and in records.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Program => "program",
            Self::Folder => "folder",
            Self::Image => "image",
        }
    }
}

/// What was found in an artifact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    /// What it is.
    pub kind: Kind,
    /// Bytes of the files that were written for it.
    pub bytes: u64,
    /// Devices and pipes of an image that were left out.
    pub skipped: u64,
    /// Of an image: what it says about running it.
    pub image: Option<ImageConfig>,
    /// Of an ELF program: its machine, which is one that runs here.
    pub needs: Option<Machine>,
}

/// Unpacks an artifact into the folder `into`, whose parent exists. It is made as `<into>.partial`,
/// synced and renamed when it is whole, and takes the place of what is there; after an error
/// nothing is left of it. What was found is recorded for [`known`]. Blocking.
pub fn unpack(artifact: &Path, into: &Path, limits: &Limits) -> Result<Tree, Error> {
    let mut place = Place::open(into)?;
    let file = File::open(artifact)
        .map_err(|error| system(format!("open `{}`", artifact.display()), &error))?;
    let tree = place.fill(&file, limits)?;
    place.keep(&tree)?;
    Ok(tree)
}

/// What an earlier [`unpack`] found, if its tree is still there. Blocking.
pub fn known(into: &Path) -> Option<Tree> {
    let it = std::fs::symlink_metadata(into).ok()?;
    if !it.is_dir() {
        return None;
    }
    record::read(into)
}

/// Removes a tree, its record and what is left of unpacking it; no link in it is followed, and
/// however deep it is, this ends. A tree that is not there is fine. Blocking.
pub fn remove(into: &Path) -> io::Result<()> {
    // First of all: a tree of which half is gone must not be known.
    record::remove(into)?;
    let (parent, base) = match open_parent(into) {
        Ok(opened) => opened,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for name in [base.to_vec(), partial(base), inflated(base)] {
        removal::remove(parent.as_fd(), &name)?;
    }
    Ok(())
}

/// A tree in the making. Dropped before it is whole, it removes what it made.
struct Place<'a> {
    into: &'a Path,
    parent: OwnedFd,
    base: &'a [u8],
    whole: bool,
}

impl<'a> Place<'a> {
    fn open(into: &'a Path) -> Result<Self, Error> {
        let (parent, base) = open_parent(into)
            .map_err(|error| system(format!("open the folder of `{}`", into.display()), &error))?;
        Ok(Self {
            into,
            parent,
            base,
            whole: false,
        })
    }

    /// Finds what the artifact is, and fills the partial folder with it.
    fn fill(&mut self, file: &File, limits: &Limits) -> Result<Tree, Error> {
        let it = file
            .metadata()
            .map_err(|error| system("read the artifact", &error))?;
        if !it.is_file() {
            return Err(bad("the artifact is no file"));
        }
        let head = table::head(file)?;
        match table::form(&head)? {
            Form::Elf | Form::Script => self.program(file, it.len(), &head, limits),
            Form::Tar => self.archive(file, it.len(), limits),
            Form::Gzip => {
                let plain = self.inflate(file, it.len(), limits)?;
                let bytes = plain
                    .metadata()
                    .map_err(|error| system("inflate the artifact", &error))?
                    .len();
                self.archive(&plain, bytes, limits)
            }
        }
    }

    fn program(
        &mut self,
        file: &File,
        bytes: u64,
        head: &[u8],
        limits: &Limits,
    ) -> Result<Tree, Error> {
        let needs = machine::check_head("the program", head)?;
        if head.starts_with(b"\x7fELF") && (needs.is_none() || !machine::is_executable(head)) {
            return Err(bad("the artifact is an ELF file, and no program")
                .with_hint("link it: an object file or a core dump does not run"));
        }
        let mut budget = Budget::new(limits);
        budget.bytes(bytes, PROGRAM.as_bytes())?;
        let mut root = self.root(Links::Refused, budget)?;
        let named = |errno| failure::entry(PROGRAM.as_bytes(), errno);
        let top = root.make_parent(b"")?;
        let mut program = root.file(top.as_fd(), PROGRAM.as_bytes()).map_err(named)?;
        let mut source = file.take(bytes);
        let copied = io::copy(&mut source, &mut program)
            .map_err(|error| system("copy the program", &error))?;
        root.finish(&program, 0o755, 0).map_err(named)?;
        finish(&root)?;
        Ok(Tree {
            kind: Kind::Program,
            bytes: copied,
            skipped: 0,
            image: None,
            needs,
        })
    }

    fn archive(&mut self, file: &File, bytes: u64, limits: &Limits) -> Result<Tree, Error> {
        let table = Table::read(file, bytes, limits)?;
        let budget = Budget::new(limits);
        let Some(image) = image::find(&table)? else {
            let mut root = self.root(Links::Refused, budget)?;
            let source = BufReader::new(Span::new(file, 0, bytes));
            let skipped = apply(&mut Entries::new(source, true), &mut root, As::Folder)?;
            finish(&root)?;
            return Ok(Tree {
                kind: Kind::Folder,
                bytes: root.written,
                skipped,
                image: None,
                needs: None,
            });
        };
        let mut root = self.root(Links::Inside, budget)?;
        let mut skipped = 0;
        // One layer can be named many times; hashing it takes time even when it holds next to nothing.
        let mut reading = Budget::new(limits);
        for layer in &image.layers {
            reading.bytes(layer.part.bytes, layer.name.as_bytes())?;
            skipped += layer::unpack(&table, layer, &mut root)?;
        }
        check_entrypoint(&root, &image.config)?;
        finish(&root)?;
        Ok(Tree {
            kind: Kind::Image,
            bytes: root.written,
            skipped,
            image: Some(image.config),
            needs: None,
        })
    }

    /// The partial folder, new and empty.
    fn root(&self, links: Links, budget: Budget) -> Result<Root, Error> {
        let partial = partial(self.base);
        let make = || -> Result<OwnedFd, Errno> {
            removal::remove(self.parent.as_fd(), &partial)?;
            rustix::fs::mkdirat(&self.parent, partial.as_slice(), Mode::from_raw_mode(0o700))?;
            removal::open(self.parent.as_fd(), &partial)
        };
        let fd = make().map_err(|errno| {
            system(
                format!("make `{}.partial`", self.into.display()),
                &errno.into(),
            )
        })?;
        Ok(Root::new(fd, links, budget))
    }

    /// The archive in a compressed artifact, in a file without a name: an image is read by offset,
    /// and that is not possible inside of a compression.
    fn inflate(&self, file: &File, bytes: u64, limits: &Limits) -> Result<File, Error> {
        let name = inflated(self.base);
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let make = || -> Result<OwnedFd, Errno> {
            removal::remove(self.parent.as_fd(), &name)?;
            let fd = rustix::fs::openat(
                &self.parent,
                name.as_slice(),
                flags,
                Mode::from_raw_mode(0o600),
            )?;
            rustix::fs::unlinkat(&self.parent, name.as_slice(), AtFlags::empty())?;
            Ok(fd)
        };
        let failed = |error: io::Error| system("inflate the artifact", &error);
        let mut plain = File::from(make().map_err(|errno| failed(errno.into()))?);
        let mut budget = Budget::new(limits);
        let mut source = MultiGzDecoder::new(BufReader::new(Span::new(file, 0, bytes)));
        let mut buffer = vec![0; 128 << 10];
        loop {
            let read = match source.read(&mut buffer) {
                Ok(0) => return Ok(plain),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    return Err(bad(format!("the artifact is no whole gzip file: {error}"))
                        .with_hint("upload it again"));
                }
            };
            budget.bytes(read as u64, b"the archive in it")?;
            plain.write_all(&buffer[..read]).map_err(failed)?;
        }
    }

    /// Puts the whole tree into its place. The old record goes before the old tree and the new one comes
    /// before the new tree, so that at no time a tree is known that is not whole.
    fn keep(&mut self, tree: &Tree) -> Result<(), Error> {
        let keep = || -> io::Result<()> {
            record::remove(self.into)?;
            removal::remove(self.parent.as_fd(), self.base)?;
            record::write(self.into, tree)?;
            let partial = partial(self.base);
            rustix::fs::renameat(&self.parent, partial.as_slice(), &self.parent, self.base)?;
            let parent = removal::open(self.parent.as_fd(), b".")?;
            rustix::fs::fsync(&parent)?;
            Ok(())
        };
        if let Err(error) = keep() {
            // A record without a tree is not believed; it only takes room.
            let _ = record::remove(self.into);
            return Err(system(format!("keep `{}`", self.into.display()), &error));
        }
        self.whole = true;
        Ok(())
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if !self.whole {
            // There is nobody to tell; the next try removes what is left.
            let _ = removal::remove(self.parent.as_fd(), &partial(self.base));
        }
    }
}

/// All of it on disk, and the top open to whoever may reach it.
fn finish(root: &Root) -> Result<(), Error> {
    let done = || -> Result<(), Errno> {
        rustix::fs::fchmod(root.fd(), Mode::from_raw_mode(0o755))?;
        // One pass of the file system instead of a sync for each of thousands of files.
        rustix::fs::syncfs(root.fd())
    };
    done().map_err(|errno| system("sync the tree", &errno.into()))
}

/// Fails when what an image starts with is for another machine. What is not there is no failure:
/// the function may name a command of its own.
fn check_entrypoint(root: &Root, config: &ImageConfig) -> Result<(), Error> {
    let Some(command) = config.entrypoint.first().or(config.cmd.first()) else {
        return Ok(());
    };
    let path = config.env.iter().rev().find(|(name, _)| name == "PATH");
    let path = path.map_or("/usr/local/bin:/usr/bin:/bin", |(_, value)| value.as_str());
    let mut tried: Vec<String> = match command.contains('/') {
        true => vec![format!("{}/{command}", config.working_dir)],
        false => path
            .split(':')
            .take(64)
            .map(|folder| format!("{folder}/{command}"))
            .collect(),
    };
    if command.starts_with('/') {
        tried = vec![command.clone()];
    }
    for candidate in tried {
        let mut next = candidate.into_bytes();
        for _ in 0..INTERPRETERS_MAX {
            let Ok(file) = root.open_inside(&next) else {
                break;
            };
            if !file.metadata().is_ok_and(|it| it.is_file()) {
                break;
            }
            let head =
                machine::head(&file).map_err(|error| system("read the entrypoint", &error))?;
            machine::check_head(&failure::shown(&next), &head)?;
            match machine::interpreter(&head) {
                Some(interpreter) => next = interpreter.to_vec(),
                None => return Ok(()),
            }
        }
    }
    Ok(())
}

/// The folder of a tree, and the tree's own name there.
fn open_parent(into: &Path) -> io::Result<(OwnedFd, &[u8])> {
    let base = into.file_name().map(OsStr::as_bytes);
    let base = base.ok_or(io::ErrorKind::InvalidInput)?;
    let parent = match into.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok((rustix::fs::open(parent, flags, Mode::empty())?, base))
}

fn partial(base: &[u8]) -> Vec<u8> {
    [base, b".partial"].concat()
}

fn inflated(base: &[u8]) -> Vec<u8> {
    [base, b".inflated"].concat()
}
