//! Makes roots of their plans, as trees of mounts that are attached nowhere.
//!
//! This runs in the process of a sandbox that still sees the host's files. It runs no program, and
//! what it makes can be passed on as one descriptor.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, FsPickFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags,
    UnmountFlags,
};

use super::super::kernel;
use super::super::message::Failure;
use super::super::root::Root;
use super::tree::{Folder, Host, Node, plan};

/// Bytes and files of the part of a root that is its own: folders, links and generated files.
const OWN_BYTES_MAX: u64 = 1 << 20;
const OWN_FILES_MAX: u64 = 8192;

/// Builds roots.
#[derive(Debug)]
pub(super) struct Builder {
    host: Host,
    /// A folder that nobody else uses, on which a root is mounted while it is built.
    site: PathBuf,
}

impl Builder {
    pub(super) fn new(host: &Path, site: &Path) -> io::Result<Self> {
        Ok(Self {
            host: Host::open(host)?,
            site: site.to_owned(),
        })
    }

    /// Makes a root, read-only, without `/proc`, `/dev` and `/tmp`, for which it has empty folders.
    pub(super) fn build(&self, root: &Root, host_name: &str) -> Result<OwnedFd, Failure> {
        let failed = |doing: &str, error: io::Error| Failure::new(doing, &error);
        let plan = plan(&self.host, root, host_name)
            .map_err(|error| failed("reading what a root is made of", error))?;
        let own = tmpfs(OWN_BYTES_MAX, OWN_FILES_MAX, "755")
            .and_then(|own| attach(own.as_fd(), &self.site))
            .map_err(|error| failed("mounting a root", error));
        let tree = own.and_then(|()| {
            self.fill(&self.site, &plan)?;
            let tree = clone_at(&self.site).map_err(|error| failed("copying a root", error))?;
            let attributes = kernel::MOUNT_READ_ONLY | kernel::MOUNT_NO_SUID | kernel::MOUNT_NO_DEV;
            kernel::restrict_mounts(tree.as_fd(), attributes)
                .map_err(|error| failed("making a root read-only", error))?;
            Ok(tree)
        });
        // Also after a failure: the next root is built in the same place.
        let _ = rustix::mount::unmount(&self.site, UnmountFlags::DETACH);
        tree
    }

    fn fill(&self, at: &Path, folder: &Folder) -> Result<(), Failure> {
        for (name, node) in folder {
            let path = at.join(name);
            let done = match node {
                Node::Folder(below) => {
                    make_folder(&path).map_err(|error| self.failed(&path, &error))?;
                    self.fill(&path, below)?;
                    continue;
                }
                Node::Link(target) => std::os::unix::fs::symlink(target, &path),
                Node::File(text) => std::fs::write(&path, text),
                Node::Bind(source) => self.bind(source, &path),
            };
            done.map_err(|error| match node {
                Node::Bind(source) => {
                    Failure::new(format!("binding `{}`", source.display()), &error)
                }
                _ => self.failed(&path, &error),
            })?;
        }
        Ok(())
    }

    fn failed(&self, path: &Path, error: &io::Error) -> Failure {
        let path = path.strip_prefix(&self.site).unwrap_or(path);
        Failure::new(format!("making `/{}`", path.display()), error)
    }

    fn bind(&self, source: &Path, target: &Path) -> io::Result<()> {
        let source = self.host.find(source)?;
        match FileType::from_raw_mode(rustix::fs::fstat(&source)?.st_mode) {
            FileType::Directory => make_folder(target)?,
            FileType::RegularFile => std::fs::write(target, "")?,
            // A device or a socket would reach out of the sandbox.
            _ => return Err(io::Error::from_raw_os_error(libc::EINVAL)),
        }
        attach(clone_of(source.as_fd())?.as_fd(), target)
    }
}

fn make_folder(path: &Path) -> io::Result<()> {
    rustix::fs::mkdir(path, Mode::from_raw_mode(0o755))?;
    Ok(())
}

/// A new file system in memory, attached nowhere.
pub(super) fn tmpfs(bytes: u64, files: u64, mode: &str) -> io::Result<OwnedFd> {
    let context = rustix::mount::fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    let context = context.as_fd();
    set_size(context, bytes, files)?;
    rustix::mount::fsconfig_set_string(context, "mode", mode)?;
    rustix::mount::fsconfig_create(context)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    Ok(rustix::mount::fsmount(
        context,
        FsMountFlags::FSMOUNT_CLOEXEC,
        attributes,
    )?)
}

/// Changes what fits into one that is mounted.
pub(super) fn resize(path: &Path, bytes: u64, files: u64) -> io::Result<()> {
    let flags = FsPickFlags::FSPICK_CLOEXEC | FsPickFlags::FSPICK_SYMLINK_NOFOLLOW;
    let context = rustix::mount::fspick(CWD, path, flags)?;
    set_size(context.as_fd(), bytes, files)?;
    Ok(rustix::mount::fsconfig_reconfigure(&context)?)
}

/// Zero would mean no limit, so it is the least that the kernel counts: one page.
fn set_size(context: BorrowedFd<'_>, bytes: u64, files: u64) -> io::Result<()> {
    rustix::mount::fsconfig_set_string(context, "size", bytes.max(4096).to_string())?;
    rustix::mount::fsconfig_set_string(context, "nr_inodes", files.max(16).to_string())?;
    Ok(())
}

/// Attaches a tree of mounts to a path.
pub(super) fn attach(tree: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    Ok(rustix::mount::move_mount(tree, "", CWD, path, flags)?)
}

/// Copies the tree of mounts at a path.
pub(super) fn clone_at(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    clone_of(rustix::fs::open(path, flags, Mode::empty())?.as_fd())
}

fn clone_of(source: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH
        | OpenTreeFlags::AT_RECURSIVE;
    Ok(rustix::mount::open_tree(source, "", flags)?)
}
