//! What a function sees as its file system.

use std::path::{Component, Path, PathBuf};

use mote_core::error::{Error, ErrorKind};
use serde::{Deserialize, Serialize};

/// Most roots of one sandbox.
pub const ROOTS_MAX: usize = 1024;

/// Most binds of one root.
const BINDS_MAX: usize = 128;

/// The file system of a function: made once, and shared read-only by its processes; only `/tmp` is
/// writable, and each process tree has its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    /// What is there before anything is added.
    pub base: Base,
    /// Files and folders of the host that are added, read-only.
    pub binds: Vec<Bind>,
    /// Bytes that fit into the `/tmp` of one process tree.
    pub tmp_bytes: u64,
}

/// What a root starts from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Base {
    /// The programs and libraries of this system, and the little of its `/etc` that they need.
    System,
    /// An unpacked image.
    Image(PathBuf),
}

/// A file or folder of the host inside a root, read-only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bind {
    /// Where it is on the host.
    pub host: PathBuf,
    /// Where the program finds it; an absolute path without `..`.
    pub guest: PathBuf,
}

/// A root of one sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RootId(pub(super) u64);

impl Root {
    /// Whether it can be made as it is written; whether its host paths exist is seen when it is.
    pub(super) fn check(&self) -> Result<(), Error> {
        if self.binds.len() > BINDS_MAX {
            return Err(bad(format!(
                "{} files and folders in a root, more than {BINDS_MAX}",
                self.binds.len()
            )));
        }
        if let Base::Image(folder) = &self.base {
            host_path(folder)?;
        }
        for bind in &self.binds {
            host_path(&bind.host)?;
            if guest_names(&bind.guest).is_none() {
                return Err(bad(format!(
                    "guest path `{}` is not one that can be given",
                    bind.guest.display()
                ))
                .with_hint("use an absolute path without `..` outside of /proc, /dev and /tmp"));
            }
        }
        Ok(())
    }

    /// How a program finds `guest`: as it is in a private root, or else as the host's path below
    /// which it was bound.
    pub fn visible(&self, private: bool, guest: &Path) -> PathBuf {
        if private {
            return guest.to_owned();
        }
        let longest = self
            .binds
            .iter()
            .filter_map(|bind| Some((bind, guest.strip_prefix(&bind.guest).ok()?)))
            .max_by_key(|(bind, _)| bind.guest.components().count());
        match (longest, &self.base) {
            (Some((bind, rest)), _) if rest.as_os_str().is_empty() => bind.host.clone(),
            (Some((bind, rest)), _) => bind.host.join(rest),
            (None, Base::Image(folder)) => folder.join(guest.strip_prefix("/").unwrap_or(guest)),
            (None, Base::System) => guest.to_owned(),
        }
    }
}

/// The names along a guest path, or nothing when it cannot be given.
pub(super) fn guest_names(path: &Path) -> Option<Vec<String>> {
    let mut components = path.components();
    if components.next() != Some(Component::RootDir) {
        return None;
    }
    let mut names = Vec::new();
    for component in components {
        match component {
            Component::Normal(name) => names.push(name.to_str()?.to_owned()),
            _ => return None,
        }
    }
    let first = names.first()?;
    let reserved = ["proc", "dev", "tmp"].contains(&first.as_str());
    (!reserved && !path.as_os_str().as_encoded_bytes().contains(&0)).then_some(names)
}

fn host_path(path: &Path) -> Result<(), Error> {
    if path.is_absolute() && path.to_str().is_some_and(|text| !text.contains('\0')) {
        return Ok(());
    }
    Err(bad(format!(
        "host path `{}` is not an absolute path in UTF-8",
        path.display()
    )))
}

fn bad(message: String) -> Error {
    Error::new(ErrorKind::BadRequest, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(guest: &str) -> Root {
        Root {
            base: Base::System,
            binds: vec![Bind {
                host: "/srv/code".into(),
                guest: guest.into(),
            }],
            tmp_bytes: 0,
        }
    }

    #[test]
    fn guest_paths_lead_nowhere_else() {
        for good in ["/app", "/opt/a/b", "/etc/app.conf"] {
            assert!(root(good).check().is_ok(), "{good}");
        }
        for bad in [
            "/",
            "",
            "app",
            "/app/../etc",
            "/proc/x",
            "/dev/null",
            "/tmp",
            "/tmp/x",
            "/a\0b",
        ] {
            assert!(root(bad).check().is_err(), "{bad}");
        }
    }

    #[test]
    fn without_a_private_root_paths_are_the_hosts() {
        let root = root("/app");
        let at = |private, guest: &str| root.visible(private, Path::new(guest));
        assert_eq!(at(true, "/app/x"), Path::new("/app/x"));
        assert_eq!(at(false, "/app/x"), Path::new("/srv/code/x"));
        assert_eq!(at(false, "/app"), Path::new("/srv/code"));
        assert_eq!(at(false, "/usr/bin/sh"), Path::new("/usr/bin/sh"));
    }
}
