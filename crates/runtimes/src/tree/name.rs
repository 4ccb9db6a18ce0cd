//! Names inside a tree: checked once, where an entry is read.
//!
//! A name that could mean a place outside of the tree is an error and not cleaned up silently:
//! an archive with such a name was made by accident or with intent, and neither should be run.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use mote_core::error::Error;

use super::failure::{bad, shown};

/// Most components of a name. The deepest trees of packages have some dozens.
pub(super) const DEPTH_MAX: usize = 128;

/// A checked name: components with one slash between them. Empty for the top of the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name(Vec<u8>);

impl Name {
    /// Reads a name as archives spell it: `./a//b/` is `a/b`.
    pub(super) fn parse(raw: &[u8], bytes_max: usize) -> Result<Self, Error> {
        if raw.is_empty() {
            return Err(bad("an entry has an empty name"));
        }
        if raw.len() > bytes_max {
            return Err(bad(format!(
                "the name `{}` is longer than {bytes_max} bytes",
                shown(raw)
            )));
        }
        if raw.contains(&0) {
            return Err(bad(format!("the name `{}` holds a zero byte", shown(raw))));
        }
        if raw[0] == b'/' {
            return Err(bad(format!("the name `{}` is absolute", shown(raw))));
        }
        let mut name = Vec::with_capacity(raw.len());
        let mut depth = 0;
        for part in parts(raw) {
            if part == b".." {
                return Err(bad(format!("the name `{}` holds `..`", shown(raw))));
            }
            depth += 1;
            if !name.is_empty() {
                name.push(b'/');
            }
            name.extend_from_slice(part);
        }
        if depth > DEPTH_MAX {
            return Err(bad(format!(
                "the name `{}` has more than {DEPTH_MAX} components",
                shown(raw)
            )));
        }
        Ok(Self(name))
    }

    /// As it stands in the tree.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The folder that holds it and its own name there. `None` for the top.
    pub(super) fn split(&self) -> Option<(&[u8], &[u8])> {
        if self.0.is_empty() {
            return None;
        }
        match self.0.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => Some((&self.0[..slash], &self.0[slash + 1..])),
            None => Some((&[], &self.0)),
        }
    }

    /// As a path, relative to the top.
    pub(super) fn path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.0))
    }
}

/// The components of a name or of a link's target; `..` is left to the caller.
pub(super) fn parts(name: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    name.split(|byte| *byte == b'/')
        .filter(|part| !part.is_empty() && *part != b".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(raw: &str, expect: Result<&str, &str>) {
        match (Name::parse(raw.as_bytes(), 32), expect) {
            (Ok(name), Ok(expect)) => assert_eq!(name.bytes(), expect.as_bytes()),
            (Err(error), Err(expect)) => assert!(error.message().contains(expect), "{error}"),
            (got, expect) => panic!("{got:?} instead of {expect:?}"),
        }
    }

    #[test]
    fn names_are_relative_and_stay_inside() {
        check("a", Ok("a"));
        check("./a//b/./c/", Ok("a/b/c"));
        check("./", Ok(""));
        check("a..b/...", Ok("a..b/..."));
        check("", Err("empty"));
        check("/a", Err("absolute"));
        check("..", Err("holds `..`"));
        check("a/../b", Err("holds `..`"));
        check("a\0b", Err("zero byte"));
        check(&"x".repeat(33), Err("longer than 32"));
        let deep = Name::parse("a/".repeat(DEPTH_MAX + 1).as_bytes(), 4096);
        assert!(deep.unwrap_err().message().contains("components"));
    }

    #[test]
    fn a_name_splits_into_folder_and_rest() {
        let name = |raw: &str| Name::parse(raw.as_bytes(), 32).unwrap();
        assert_eq!(name("a/b/c").split(), Some((&b"a/b"[..], &b"c"[..])));
        assert_eq!(name("c").split(), Some((&b""[..], &b"c"[..])));
        assert_eq!(name(".").split(), None);
    }
}
