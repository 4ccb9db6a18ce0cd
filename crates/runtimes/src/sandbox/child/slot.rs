//! Roots in use: a root has slots, and a process tree runs in one.
//!
//! A slot is a copy of the root's mounts with a `/tmp` of its own. Making one takes a dozen system
//! calls and giving one up makes the kernel wait for its other processors, so slots are kept and
//! used again; `/tmp` is made anew when somebody touched it, after the call and not during the next.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access as _, AccessFs, BitFlags, PathBeneath, Ruleset, RulesetAttr as _,
    RulesetCreatedAttr as _, RulesetError,
};
use rustix::fs::{Mode, OFlags};
use rustix::mount::UnmountFlags;

use super::super::message::Failure;
use super::super::root::{Base, Root};
use super::build;

/// The newest Landlock rules that are used where the kernel has them.
const LANDLOCK: ABI = ABI::V5;

/// Slots that a root keeps for later.
const SPARE_MAX: usize = 64;

/// Bytes of `/tmp` for one of its files, beyond which no more files can be made.
const TMP_BYTES_PER_FILE: u64 = 4096;
const TMP_FILES: (u64, u64) = (256, 1 << 20);

/// A root that was made.
#[derive(Debug)]
pub(super) struct Made {
    root: Root,
    /// Where it is; nothing without a private root.
    place: Option<PathBuf>,
    spare: Vec<Slot>,
    slots: u64,
}

/// What a process tree runs in.
#[derive(Debug)]
pub(super) struct Slot {
    /// Its root folder. Nothing: the host's.
    pub(super) folder: Option<OwnedFd>,
    /// What Landlock lets it do.
    pub(super) ruleset: Option<OwnedFd>,
    place: PathBuf,
    tmp: Option<Untouched>,
}

/// What an untouched `/tmp` looks like.
#[derive(Debug, PartialEq, Eq)]
struct Untouched {
    changed: (i64, i64),
    files_free: u64,
}

impl Made {
    /// Puts a root into its place. `tree`: its mounts, where there are private roots.
    pub(super) fn new(id: u64, root: Root, tree: Option<OwnedFd>) -> Result<Self, Failure> {
        let place = PathBuf::from(format!("/roots/{id}"));
        let private = tree.is_some();
        if let Some(tree) = tree {
            let placed = place_tree(&tree, &place);
            placed.map_err(|error| Failure::new("placing a root", &error))?;
        }
        let mut made = Self {
            root,
            place: private.then_some(place),
            spare: Vec::new(),
            slots: 0,
        };
        let first = made.slot()?;
        made.spare.push(first);
        Ok(made)
    }

    /// A slot whose `/tmp` is empty.
    pub(super) fn slot(&mut self) -> Result<Slot, Failure> {
        if let Some(spare) = self.spare.pop() {
            return Ok(spare);
        }
        self.slots += 1;
        self.make_slot()
            .map_err(|error| Failure::new("making a slot of a root", &error))
    }

    fn make_slot(&self) -> io::Result<Slot> {
        let Some(root) = &self.place else {
            return Ok(Slot {
                folder: None,
                ruleset: host_ruleset(&self.root),
                place: PathBuf::new(),
                tmp: None,
            });
        };
        let place = PathBuf::from(format!("{}.{}", root.display(), self.slots));
        rustix::fs::mkdir(&place, Mode::from_raw_mode(0o755))?;
        let made = || -> io::Result<Slot> {
            build::attach(build::clone_at(root)?.as_fd(), &place)?;
            let mut slot = Slot {
                folder: Some(open_folder(&place)?),
                ruleset: None,
                place: place.clone(),
                tmp: None,
            };
            slot.renew(self.root.tmp_bytes)?;
            Ok(slot)
        };
        made().inspect_err(|_| unmount(&place))
    }

    /// Whether the next slot has to be made.
    pub(super) fn is_exhausted(&self) -> bool {
        self.spare.is_empty()
    }

    /// Takes a slot back, for the next; its processes have ended.
    pub(super) fn give_back(&mut self, mut slot: Slot) {
        if slot.folder.is_none() {
            return;
        }
        let usable = slot.is_untouched() || slot.renew(self.root.tmp_bytes).is_ok();
        if usable && self.spare.len() < SPARE_MAX {
            self.spare.push(slot);
        } else {
            slot.remove();
        }
    }

    /// Lets go of the root and of its slots that are not in use.
    pub(super) fn remove(self) {
        for slot in self.spare {
            slot.remove();
        }
        if let Some(place) = &self.place {
            unmount(place);
        }
    }
}

impl Slot {
    /// Lets go of it.
    pub(super) fn remove(self) {
        if self.folder.is_some() {
            unmount(&self.place);
        }
    }

    /// Lets the program that runs in it see the code of another root, and what bears the app's name,
    /// where it has empty or neutral ones. No code of anybody has run in it yet.
    pub(super) fn adopt(&self, made: &Made, tmp_bytes: u64) -> io::Result<()> {
        let (Some(from), Some(_)) = (&made.place, &self.folder) else {
            return Err(io::ErrorKind::Unsupported.into());
        };
        for name in ["app", "etc/hosts", "etc/hostname"] {
            let tree = build::clone_at(&from.join(name))?;
            build::attach(tree.as_fd(), &self.place.join(name))?;
        }
        // Another file system in its place would not be the one that its rules let it write to.
        build::resize(&self.place.join("tmp"), tmp_bytes, tmp_files(tmp_bytes))
    }

    fn is_untouched(&self) -> bool {
        self.tmp.is_some() && look_at(&self.place.join("tmp")).ok() == self.tmp
    }

    /// Gives it an empty `/tmp`, and the rules that go with it.
    fn renew(&mut self, bytes: u64) -> io::Result<()> {
        let tmp = self.place.join("tmp");
        if self.tmp.take().is_some() {
            rustix::mount::unmount(&tmp, UnmountFlags::DETACH)?;
        }
        build::attach(build::tmpfs(bytes, tmp_files(bytes), "1777")?.as_fd(), &tmp)?;
        self.tmp = Some(look_at(&tmp)?);
        self.ruleset = private_ruleset(&self.place);
        Ok(())
    }
}

/// How many files fit into a `/tmp` of this size.
fn tmp_files(bytes: u64) -> u64 {
    let (least, most) = TMP_FILES;
    (bytes / TMP_BYTES_PER_FILE).clamp(least, most)
}

fn place_tree(tree: &OwnedFd, place: &Path) -> io::Result<()> {
    rustix::fs::mkdir(place, Mode::from_raw_mode(0o755))?;
    build::attach(tree.as_fd(), place)?;
    for own in ["/proc", "/dev"] {
        let inside = place.join(own.trim_start_matches('/'));
        build::attach(build::clone_at(Path::new(own))?.as_fd(), &inside)?;
    }
    Ok(())
}

/// Failing here means that something else is mounted or open there; the sandbox's end unmounts it.
fn unmount(place: &Path) {
    let _ = rustix::mount::unmount(place, UnmountFlags::DETACH);
    let _ = rustix::fs::rmdir(place);
}

fn open_folder(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

fn look_at(tmp: &Path) -> io::Result<Untouched> {
    let status = rustix::fs::lstat(tmp)?;
    Ok(Untouched {
        changed: (status.st_ctime as i64, status.st_ctime_nsec as i64),
        files_free: rustix::fs::statvfs(tmp)?.f_ffree,
    })
}

/// Rules that allow nothing, to try whether this kernel restricts paths at all.
pub(super) fn any_ruleset() -> Option<OwnedFd> {
    ruleset(&[])
}

/// Reading and running everything in a root, writing to `/tmp` and to the few devices.
fn private_ruleset(place: &Path) -> Option<OwnedFd> {
    let device = AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::ReadDir | AccessFs::IoctlDev;
    ruleset(&[
        (place.to_owned(), AccessFs::from_read(LANDLOCK)),
        (place.join("tmp"), AccessFs::from_all(LANDLOCK)),
        (place.join("dev"), device),
    ])
}

/// The same where the root is the host's: what a private root would have had in it.
fn host_ruleset(root: &Root) -> Option<OwnedFd> {
    let read = AccessFs::from_read(LANDLOCK);
    let mut paths = match &root.base {
        Base::System => [
            "/usr",
            "/bin",
            "/sbin",
            "/lib",
            "/lib32",
            "/lib64",
            "/etc",
            "/proc/self",
        ]
        .map(|path| (PathBuf::from(path), read))
        .to_vec(),
        Base::Image(folder) => vec![(folder.clone(), read)],
    };
    paths.extend(root.binds.iter().map(|bind| (bind.host.clone(), read)));
    let device = AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::IoctlDev;
    for name in ["null", "zero", "full", "random", "urandom"] {
        paths.push((Path::new("/dev").join(name), device));
    }
    ruleset(&paths)
}

/// Rules for the paths that exist; everything else is denied. Nothing where the kernel has no
/// Landlock.
fn ruleset(paths: &[(PathBuf, BitFlags<AccessFs>)]) -> Option<OwnedFd> {
    let build = || -> Result<Option<OwnedFd>, RulesetError> {
        let mut rules = Ruleset::default()
            .handle_access(AccessFs::from_all(LANDLOCK))?
            .create()?;
        for (path, access) in paths {
            let Ok(file) = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
            else {
                continue;
            };
            rules = rules.add_rule(PathBeneath::new(file, *access))?;
        }
        Ok(rules.into())
    };
    build().ok().flatten()
}
