//! The programs of this machine: where they are, how new, and what to install when they are not there.
//!
//! Nothing is ever installed from here: a person decides what goes onto the machine. The hint is one command that
//! works on the system it is given on.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use mote_core::error::{Error, ErrorKind};

/// What a build may use.
#[derive(Clone, Debug)]
pub(crate) struct Tools {
    path: Vec<PathBuf>,
    system: System,
    cache: PathBuf,
}

/// A system, by how things are installed on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum System {
    /// apt
    Debian,
    /// dnf
    Fedora,
    /// pacman
    Arch,
    /// apk
    Alpine,
    /// Homebrew
    Mac,
    /// Anything else.
    Other,
}

/// When a way to install something can be taken.
#[derive(Clone, Copy, Debug)]
pub(crate) enum If {
    /// On this system.
    On(System),
    /// When this program is there.
    Has(&'static str),
    /// Always.
    Always,
}

/// Ways to install one thing, the best first: `(If::Has("rustup"), "rustup target add …")`.
pub(crate) type Ways = &'static [(If, &'static str)];

/// Three numbers, compared in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version(pub(crate) u32, pub(crate) u32, pub(crate) u32);

impl Tools {
    /// Those on `PATH`, with a cache folder.
    pub(crate) fn of_this_machine(cache: PathBuf) -> Self {
        let path = std::env::var_os("PATH").unwrap_or_default();
        Self {
            path: std::env::split_paths(&path).collect(),
            system: System::of_this_machine(),
            cache,
        }
    }

    /// The folder for what can be made again.
    pub(crate) fn cache(&self) -> &Path {
        &self.cache
    }

    /// A program on `PATH`.
    pub(crate) fn find(&self, program: &str) -> Option<PathBuf> {
        self.path
            .iter()
            .map(|folder| folder.join(program))
            .find(|path| is_program(path))
    }

    /// A program on `PATH`, or the error that says how to get `what`.
    pub(crate) fn need(&self, program: &str, what: &str, ways: Ways) -> Result<PathBuf, Error> {
        self.find(program).ok_or_else(|| {
            self.missing(
                &format!("{what} is missing: there is no `{program}` on PATH"),
                ways,
            )
        })
    }

    /// The error for a toolchain that is not there, or not good enough; its hint is the first way that can be taken.
    pub(crate) fn missing(&self, message: &str, ways: Ways) -> Error {
        let possible = |when: &If| match when {
            If::On(system) => *system == self.system,
            If::Has(program) => self.find(program).is_some(),
            If::Always => true,
        };
        let way = ways.iter().find(|(when, _)| possible(when));
        let error = Error::new(ErrorKind::NotFound, message.to_owned());
        match way {
            Some((_, way)) => error.with_hint(*way),
            None => error,
        }
    }

    /// Makes something once for all projects of this machine: gives `<cache>/<name>`, and calls `make` with an empty
    /// folder to fill when it is not there yet. Another process that makes the same meanwhile is waited for.
    pub(crate) fn once(
        &self,
        name: &str,
        make: impl FnOnce(&Path) -> Result<(), Error>,
    ) -> Result<PathBuf, Error> {
        let whole = self.cache.join(name);
        if whole.is_dir() {
            return Ok(whole);
        }
        let failed = |error: std::io::Error| {
            Error::new(
                ErrorKind::Internal,
                format!("cannot write {}: {error}", whole.display()),
            )
            .with_hint("check disk and owner, or set XDG_CACHE_HOME to another folder")
        };
        let parent = whole.parent().unwrap_or(&self.cache);
        fs::create_dir_all(parent).map_err(failed)?;
        let lock = fs::File::create(whole.with_extension("lock")).map_err(failed)?;
        lock.lock().map_err(failed)?;
        if whole.is_dir() {
            return Ok(whole);
        }
        let partial = tempfile::tempdir_in(parent).map_err(failed)?;
        make(partial.path())?;
        fs::rename(partial.keep(), &whole).map_err(failed)?;
        Ok(whole)
    }
}

/// What a program prints in a folder, when it succeeds; for looks that take no time, such as `rustc --version`.
pub(crate) fn ask(program: impl AsRef<OsStr>, arguments: &[&str], folder: &Path) -> Option<String> {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    output.status.success().then_some(text)
}

impl System {
    fn of_this_machine() -> Self {
        if cfg!(target_os = "macos") {
            return Self::Mac;
        }
        Self::named(&fs::read_to_string("/etc/os-release").unwrap_or_default())
    }

    /// By the words of `/etc/os-release`.
    fn named(release: &str) -> Self {
        let values = release.lines().filter_map(|line| {
            let (key, value) = line.split_once('=')?;
            matches!(key, "ID" | "ID_LIKE").then(|| value.trim_matches(['"', '\'']))
        });
        let words = values.flat_map(str::split_whitespace);
        words
            .filter_map(|word| match word {
                "debian" | "ubuntu" | "raspbian" => Some(Self::Debian),
                "fedora" | "rhel" | "centos" => Some(Self::Fedora),
                "arch" => Some(Self::Arch),
                "alpine" => Some(Self::Alpine),
                _ => None,
            })
            .next()
            .unwrap_or(Self::Other)
    }
}

impl Version {
    /// The first `1.2` or `1.2.3` of a text.
    pub(crate) fn find(text: &str) -> Option<Self> {
        let words = text.split(|letter: char| !letter.is_ascii_digit() && letter != '.');
        words.filter(|word| word.contains('.')).find_map(|word| {
            let mut numbers = word.split('.');
            let mut next = || numbers.next().map(str::parse::<u32>);
            let first = next()?.ok()?;
            let second = next()?.ok()?;
            let third = next().and_then(Result::ok).unwrap_or(0);
            Some(Self(first, second, third))
        })
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    fs::metadata(path).is_ok_and(|about| about.is_file() && about.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tools(path: &Path, system: System) -> Tools {
        Tools {
            path: vec![path.to_owned()],
            system,
            cache: path.join("cache"),
        }
    }

    #[test]
    fn versions_are_found_and_compared() {
        for (text, version) in [
            (
                "rustc 1.95.0 (59807616e 2026-04-14)",
                Some(Version(1, 95, 0)),
            ),
            ("go version go1.27.3 linux/amd64", Some(Version(1, 27, 3))),
            ("v20.20.2", Some(Version(20, 20, 2))),
            ("Debian clang version 14.0.6", Some(Version(14, 0, 6))),
            ("0.17", Some(Version(0, 17, 0))),
            ("none at all", None),
        ] {
            assert_eq!(Version::find(text), version, "{text}");
        }
        assert!(Version(1, 9, 9) < Version(1, 10, 0));
    }

    #[test]
    fn systems_are_known_by_their_release() {
        for (release, system) in [
            ("ID=debian\n", System::Debian),
            (
                "NAME=Mint\nID=linuxmint\nID_LIKE=\"ubuntu debian\"\n",
                System::Debian,
            ),
            (
                "ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"",
                System::Fedora,
            ),
            ("ID=alpine", System::Alpine),
            ("ID=plan9", System::Other),
            ("", System::Other),
        ] {
            assert_eq!(System::named(release), system, "{release}");
        }
    }

    #[test]
    fn the_hint_is_one_that_works_here() {
        let folder = tempfile::tempdir().unwrap();
        const WAYS: Ways = &[
            (If::Has("rustup"), "rustup target add x"),
            (If::On(System::Debian), "apt install x"),
            (If::Always, "see https://example.org"),
        ];
        let hint = |system| {
            let error = tools(folder.path(), system).missing("x is missing", WAYS);
            assert_eq!(error.kind(), ErrorKind::NotFound);
            error.hint().unwrap().to_owned()
        };
        assert_eq!(hint(System::Debian), "apt install x");
        assert_eq!(hint(System::Mac), "see https://example.org");
        std::os::unix::fs::symlink("/bin/sh", folder.path().join("rustup")).unwrap();
        assert_eq!(hint(System::Debian), "rustup target add x");
    }

    #[test]
    fn what_is_made_once_is_made_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let tools = tools(folder.path(), System::Other);
        let fails = |path: &Path| {
            fs::write(path.join("half"), "").unwrap();
            Err(Error::new(ErrorKind::BadRequest, "no"))
        };
        assert!(tools.once("std/x", fails).is_err());
        assert!(!folder.path().join("cache/std/x").exists());
        let made = tools.once("std/x", |path| {
            fs::write(path.join("whole"), "").unwrap();
            Ok(())
        });
        assert!(made.unwrap().join("whole").is_file());
        tools.once("std/x", |_| panic!("it is there")).unwrap();
    }
}
