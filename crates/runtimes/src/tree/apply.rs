//! Puts the entries of one archive into a tree: a folder of source code, or one layer of an image.
//!
//! A later entry replaces an earlier one of the same name, as with `tar`. Owners and the bits that
//! give a program more rights than its caller (setuid, setgid, sticky) are left out.

use std::os::fd::AsFd as _;

use mote_core::error::Error;

use super::entries::{Entries, Entry, What};
use super::failure::{self, bad, shown, system, unsupported};
use super::name::Name;
use super::pack;
use super::removal::{self, Made};
use super::root::Root;
use super::source::Source;

/// What an archive is to a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum As {
    /// All of it, and what does not belong into source code is an error.
    Folder,
    /// Changes to the layers before it.
    Layer,
}

/// The prefix of a name that hides one of a lower layer.
const WHITEOUT: &[u8] = b".wh.";

/// Hides all that lower layers have in its folder.
const OPAQUE: &[u8] = b".wh..wh..opq";

/// Applies all entries; says how many devices and pipes were left out.
pub(super) fn apply<S: Source>(
    entries: &mut Entries<S>,
    root: &mut Root,
    kind: As,
) -> Result<u64, Error> {
    let mut made = Made::default();
    let mut skipped = 0;
    while let Some(entry) = entries.next(&mut root.budget)? {
        if kind == As::Layer && entry.what == What::Folder && is_top(&entry.name) {
            continue;
        }
        let name = Name::parse(&entry.name, root.budget.path_bytes_max())?;
        let Some((folder, base)) = name.split() else {
            if entry.what == What::Folder {
                continue;
            }
            return Err(bad("an entry that is no folder has the name of the top"));
        };
        if let What::Special(what) = entry.what {
            if kind == As::Folder {
                return Err(unsupported(format!("`{}` is {what}", shown(&entry.name)))
                    .with_hint("leave it out of the folder"));
            }
            skipped += 1;
            continue;
        }
        if kind == As::Layer && base.starts_with(WHITEOUT) {
            hide(root, &made, folder, base).map_err(|error| error.context("apply a whiteout"))?;
            continue;
        }
        let parent = root.make_parent(folder)?;
        put(entries, root, kind, &entry, &name, &parent)?;
        if kind == As::Layer {
            made.add(parent.as_fd(), base)
                .map_err(|errno| failure::entry(name.bytes(), errno))?;
        }
    }
    Ok(skipped)
}

/// Some builders write the top of a layer as `/`; other absolute names are an error.
fn is_top(name: &[u8]) -> bool {
    name.iter().all(|byte| *byte == b'/') && !name.is_empty()
}

fn put<S: Source>(
    entries: &mut Entries<S>,
    root: &mut Root,
    kind: As,
    entry: &Entry,
    name: &Name,
    parent: &impl std::os::fd::AsFd,
) -> Result<(), Error> {
    let parent = parent.as_fd();
    let base = name.split().map_or(&b""[..], |(_, base)| base);
    let named = |errno| failure::entry(name.bytes(), errno);
    match &entry.what {
        What::File => {
            let mut file = root.file(parent, base).map_err(named)?;
            entries.copy(name.bytes(), &mut file)?;
            root.written += entry.bytes;
            root.finish(&file, entry.mode, entry.mtime).map_err(named)
        }
        What::Sparse(length, pieces) => {
            let mut file = root.file(parent, base).map_err(named)?;
            let failed = |error| system(format!("write `{}`", shown(name.bytes())), &error);
            for (at, bytes) in pieces {
                std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(*at)).map_err(failed)?;
                entries.copy_some(*bytes, name.bytes(), &mut file)?;
            }
            file.set_len(*length).map_err(failed)?;
            root.written += length;
            root.finish(&file, entry.mode, entry.mtime).map_err(named)
        }
        What::Folder => root.folder(parent, base, entry.mode).map_err(named),
        What::Symlink(target) => {
            check_target(name, target, root.budget.path_bytes_max())?;
            if kind == As::Folder && !pack::stays_inside(name.path(), target) {
                return Err(bad(format!(
                    "the symlink `{}` leads out of the folder, to `{}`",
                    shown(name.bytes()),
                    shown(target)
                ))
                .with_hint(
                    "write a relative target inside of the folder, with `..` only at its begin",
                ));
            }
            root.symlink(parent, base, target).map_err(named)
        }
        What::HardLink(target) => {
            let target = Name::parse(target, root.budget.path_bytes_max())
                .map_err(|error| error.context(format!("hard link `{}`", shown(name.bytes()))))?;
            root.hard_link(parent, name, base, &target)
        }
        What::Special(_) => Ok(()),
    }
}

fn check_target(name: &Name, target: &[u8], bytes_max: usize) -> Result<(), Error> {
    if target.is_empty() || target.len() > bytes_max || target.contains(&0) {
        return Err(bad(format!(
            "the symlink `{}` has a target that is empty, longer than {bytes_max} bytes, or holds a zero byte",
            shown(name.bytes())
        )));
    }
    Ok(())
}

/// Removes what a whiteout hides (OCI image layer specification, whiteouts).
fn hide(root: &mut Root, made: &Made, folder: &[u8], base: &[u8]) -> Result<(), Error> {
    let hidden = &base[WHITEOUT.len()..];
    let opaque = base == OPAQUE;
    // Notes of the file system that this form comes from; they name nothing in the tree.
    if hidden.starts_with(WHITEOUT) && !opaque {
        return Ok(());
    }
    if matches!(hidden, b"" | b"." | b"..") {
        return Err(bad(format!(
            "`{}` hides nothing that has a name",
            shown(base)
        )));
    }
    let named = |errno| failure::entry(base, errno);
    let Some(parent) = root.find_parent(folder)? else {
        return Ok(());
    };
    if opaque {
        let top = removal::open(parent.as_fd(), b".").map_err(named)?;
        made.hide_below(top).map_err(named)
    } else {
        made.hide(parent.as_fd(), hidden).map_err(named)
    }
}
