//! Programs that come as packages of npm: in the `node_modules` of a function, of a folder above it, or on the path.

use std::fs;
use std::path::{Path, PathBuf};

use mote_core::error::Error;

use super::Job;
use crate::tools::{Version, Ways};

/// A program of a package that is called like it.
pub(super) struct Program {
    pub(super) name: &'static str,
    /// What it is, for whoever does not have it.
    pub(super) what: &'static str,
    pub(super) package: &'static str,
    pub(super) minimum: Version,
    /// How to get it when the function's package.json lists it.
    pub(super) listed: Ways,
    /// And when it does not, or not a new one.
    pub(super) unlisted: Ways,
}

impl Program {
    /// Finds it.
    pub(super) fn find(&self, job: &Job<'_>) -> Result<PathBuf, Error> {
        let near = job
            .folder
            .ancestors()
            .map(|folder| folder.join("node_modules/.bin").join(self.name))
            .find(|program| program.exists());
        let is_listed = job.folder.join("package.json").is_file();
        let ways = if is_listed {
            self.listed
        } else {
            self.unlisted
        };
        let program = match near {
            Some(program) => program,
            None => job.tools.need(self.name, self.what, ways)?,
        };
        // It is a script of that.
        job.tools.need("node", "Node.js", ways)?;
        match self.version(&program) {
            Some(found) if found < self.minimum => {
                let message = format!(
                    "{} {found} is too old, functions need {}",
                    self.package, self.minimum
                );
                Err(job.tools.missing(&message, self.unlisted))
            }
            _ => Ok(program),
        }
    }

    /// Of its package. To ask the program itself takes a tenth of a second.
    fn version(&self, program: &Path) -> Option<Version> {
        let text = fs::read_to_string(folder(program)?.join("package.json")).ok()?;
        let package: serde_json::Value = serde_json::from_str(&text).ok()?;
        let is_it = package.get("name")?.as_str()? == self.package;
        is_it.then(|| Version::find(package.get("version")?.as_str()?))?
    }
}

/// The folder of the package that a program is in, behind the link that npm makes.
pub(super) fn folder(program: &Path) -> Option<PathBuf> {
    let real = program.canonicalize().ok()?;
    let mut above = real.ancestors().skip(1);
    let folder = above.find(|folder| folder.join("package.json").is_file())?;
    Some(folder.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_that_of_the_package() {
        const ESBUILD: Program = Program {
            name: "esbuild",
            what: "",
            package: "esbuild",
            minimum: Version(0, 0, 0),
            listed: &[],
            unlisted: &[],
        };
        let folder = tempfile::tempdir().unwrap();
        let package = folder.path().join("lib/esbuild");
        fs::create_dir_all(package.join("bin")).unwrap();
        fs::create_dir_all(folder.path().join("bin")).unwrap();
        fs::write(package.join("bin/esbuild"), "").unwrap();
        let program = folder.path().join("bin/esbuild");
        std::os::unix::fs::symlink(package.join("bin/esbuild"), &program).unwrap();
        assert_eq!(ESBUILD.version(&program), None);
        let manifest = |name: &str| {
            let text = format!(r#"{{"name": "{name}", "version": "0.28.2"}}"#);
            fs::write(package.join("package.json"), text).unwrap();
        };
        manifest("another");
        assert_eq!(ESBUILD.version(&program), None);
        manifest("esbuild");
        assert_eq!(ESBUILD.version(&program), Some(Version(0, 28, 2)));
    }
}
