//! What a function begins with: embedded files, a folder, or a git repository.
//!
//! A template comes from anywhere, so nothing of it is run, and nothing of it lands outside the new folder: it has
//! plain files and folders only, and the manifest it brings must read well. Bounded in files and bytes.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use mote_api::manifest;
use mote_core::error::{Error, ErrorKind};

use crate::language::Language;

/// Most files of a template.
const FILES_MAX: usize = 1000;
/// Largest template.
const BYTES_MAX: u64 = 16 << 20;
/// Deepest folder of a template.
const DEPTH_MAX: usize = 16;
/// What belongs to the repository and not to the template.
const LEFT_OUT: &[&str] = &[".git"];

/// Files with names to fill in.
#[derive(Debug)]
pub(super) struct Template {
    files: Vec<File>,
    /// Where it is from, for errors.
    from: String,
}

/// One file of a new function.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct File {
    /// Below the folder: plain names only.
    path: PathBuf,
    bytes: Vec<u8>,
    executable: bool,
}

impl Template {
    /// The one of a language.
    pub(super) fn of(language: &dyn Language) -> Self {
        let files = language.template().iter().map(|file| File {
            path: PathBuf::from(file.path),
            bytes: file.bytes.to_vec(),
            executable: false,
        });
        Self {
            files: files.collect(),
            from: format!("the template of `{}`", language.name()),
        }
    }

    /// A folder's, or a git repository's.
    pub(super) fn fetch(from: &str) -> Result<Self, Error> {
        let folder = Path::new(from);
        if folder.is_dir() {
            return Self::read(folder, from);
        }
        let is_address = from.contains("://") || from.ends_with(".git") || from.starts_with("git@");
        if !is_address {
            return Err(Error::new(
                ErrorKind::NotFound,
                format!(
                    "template `{from}` is neither a folder nor the address of a git repository"
                ),
            )
            .with_hint(
                "write a path, or an address such as https://example.org/templates/lamp.git",
            ));
        }
        let clone = tempfile::tempdir().map_err(|error| unreadable(from, &error))?;
        git(from, clone.path())?;
        Self::read(clone.path(), from)
    }

    fn read(folder: &Path, from: &str) -> Result<Self, Error> {
        let mut template = Self {
            files: Vec::new(),
            from: format!("template `{from}`"),
        };
        let mut bytes = 0;
        template.collect(folder, Path::new(""), &mut bytes, 0)?;
        Ok(template)
    }

    /// Adds what is in a folder, by names in order.
    fn collect(
        &mut self,
        root: &Path,
        below: &Path,
        bytes: &mut u64,
        depth: usize,
    ) -> Result<(), Error> {
        let failed =
            |path: &Path, error: &std::io::Error| unreadable(&path.display().to_string(), error);
        let folder = root.join(below);
        let mut names = fs::read_dir(&folder)
            .and_then(|entries| {
                entries
                    .map(|entry| Ok(entry?.file_name()))
                    .collect::<std::io::Result<Vec<_>>>()
            })
            .map_err(|error| failed(&folder, &error))?;
        names.sort();
        for name in names {
            let path = below.join(&name);
            let full = root.join(&path);
            if LEFT_OUT.iter().any(|out| *out == name) {
                continue;
            }
            let about = fs::symlink_metadata(&full).map_err(|error| failed(&full, &error))?;
            if about.is_dir() && depth < DEPTH_MAX {
                self.collect(root, &path, bytes, depth + 1)?;
                continue;
            }
            if !about.is_file() {
                let what = if about.is_symlink() {
                    "a link, which may lead out of its folder"
                } else if about.is_dir() {
                    "too deep"
                } else {
                    "neither file nor folder"
                };
                return Err(self.refused(&format!("{} is {what}", path.display())));
            }
            *bytes += about.len();
            if *bytes > BYTES_MAX || self.files.len() == FILES_MAX {
                return Err(self.refused(&format!(
                    "it has more than {FILES_MAX} files or {BYTES_MAX} bytes"
                )));
            }
            self.files.push(File {
                path,
                bytes: fs::read(&full).map_err(|error| failed(&full, &error))?,
                executable: about.permissions().mode() & 0o111 != 0,
            });
        }
        Ok(())
    }

    /// Its files for a function of this name, checked.
    pub(super) fn files(&self, name: &str) -> Result<Vec<File>, Error> {
        let files: Vec<File> = self.files.iter().map(|file| file.named(name)).collect();
        let manifest = files
            .iter()
            .find(|file| file.path == Path::new(manifest::FILE_NAME));
        let Some(manifest) = manifest else {
            return Err(self.refused(&format!("it has no {}", manifest::FILE_NAME)));
        };
        let text = String::from_utf8_lossy(&manifest.bytes);
        manifest::parse(&text).map_err(|error| {
            error.context(format_args!("{}: {}", self.from, manifest::FILE_NAME))
        })?;
        Ok(files)
    }

    fn refused(&self, why: &str) -> Error {
        Error::new(
            ErrorKind::BadRequest,
            format!("{} is refused: {why}", self.from),
        )
        .with_hint("a template is a folder of plain files with a mote.toml")
    }
}

impl File {
    /// With the name filled in, in its path and, when it is text, in its text.
    fn named(&self, name: &str) -> Self {
        let identifier = name.replace('-', "_");
        let fill = |text: &str| {
            text.replace("{{name}}", name)
                .replace("{{identifier}}", &identifier)
        };
        let path = match self.path.to_str() {
            Some(path) => PathBuf::from(fill(path)),
            None => self.path.clone(),
        };
        let bytes = match std::str::from_utf8(&self.bytes) {
            Ok(text) => fill(text).into_bytes(),
            Err(_) => self.bytes.clone(),
        };
        Self {
            path,
            bytes,
            executable: self.executable,
        }
    }

    /// Writes it below a folder.
    pub(super) fn write(&self, folder: &Path) -> Result<(), Error> {
        let path = folder.join(&self.path);
        let parent = path.parent().unwrap_or(folder);
        fs::create_dir_all(parent)
            .and_then(|()| fs::write(&path, &self.bytes))
            .and_then(|()| {
                if !self.executable {
                    return Ok(());
                }
                let mut permissions = fs::metadata(&path)?.permissions();
                // Whoever may read it may run it.
                let read = permissions.mode() & 0o444;
                permissions.set_mode(permissions.mode() | read >> 2);
                fs::set_permissions(&path, permissions)
            })
            .map_err(|error| {
                Error::new(
                    ErrorKind::BadRequest,
                    format!("cannot write {}: {error}", path.display()),
                )
                .with_hint("check disk and owner")
            })
    }
}

/// The newest state of a repository, without its history.
fn git(address: &str, into: &Path) -> Result<(), Error> {
    let status = Command::new("git")
        .args([
            "clone",
            "--quiet",
            "--depth",
            "1",
            "--no-recurse-submodules",
            "--",
        ])
        .args([Path::new(address), into])
        .stdin(Stdio::null())
        .stdout(Stdio::from(std::io::stderr()))
        // A wrong address must not ask a person for a password.
        .env("GIT_TERMINAL_PROMPT", "0")
        .status()
        .map_err(|error| {
            Error::new(ErrorKind::NotFound, format!("cannot run `git`: {error}"))
                .with_hint("install git, or name a folder")
        })?;
    if status.success() {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::NotFound,
        format!("template `{address}` cannot be fetched: git ended with {status}"),
    )
    .with_hint("check the address with `git ls-remote`"))
}

fn unreadable(what: &str, error: &std::io::Error) -> Error {
    Error::new(
        ErrorKind::BadRequest,
        format!("cannot read {what}: {error}"),
    )
    .with_hint("check path and permissions")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::language;

    const MANIFEST: &str = "version = 1\n[function.{{name}}]\nsource = \"{{name}}.wasm\"\n";

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        folder
    }

    fn fetch(folder: &tempfile::TempDir) -> Result<Vec<File>, Error> {
        Template::fetch(folder.path().to_str().unwrap())?.files("my-lamp")
    }

    #[test]
    fn names_are_filled_in() {
        let folder = folder(&[
            ("mote.toml", MANIFEST),
            ("src/{{identifier}}.c", "// {{name}} {{other}}"),
            (".git/config", "not this"),
        ]);
        let files = fetch(&folder).unwrap();
        let found: Vec<(&str, &str)> = files
            .iter()
            .map(|file| {
                (
                    file.path.to_str().unwrap(),
                    std::str::from_utf8(&file.bytes).unwrap(),
                )
            })
            .collect();
        assert_eq!(
            found,
            [
                (
                    "mote.toml",
                    "version = 1\n[function.my-lamp]\nsource = \"my-lamp.wasm\"\n"
                ),
                ("src/my_lamp.c", "// my-lamp {{other}}"),
            ]
        );
    }

    #[track_caller]
    fn refused(folder: &tempfile::TempDir, said: &str) {
        let error = fetch(folder).unwrap_err();
        assert!(error.message().contains(said), "{error}");
    }

    #[test]
    fn what_leads_out_of_the_folder_is_named() {
        let linked = folder(&[("mote.toml", MANIFEST)]);
        std::os::unix::fs::symlink("/etc/passwd", linked.path().join("notes")).unwrap();
        refused(&linked, "notes is a link");
        let inner = folder(&[("mote.toml", MANIFEST), ("src/a", "")]);
        std::os::unix::fs::symlink("..", inner.path().join("src/up")).unwrap();
        refused(&inner, "src/up is a link");
        let up = folder(&[(
            "mote.toml",
            "version = 1\n[function.x]\nsource = \"../x.wasm\"",
        )]);
        refused(&up, "source `../x.wasm` leads out");
        let absolute = folder(&[(
            "mote.toml",
            "version = 1\n[function.x]\nsource = \"x.wasm\"\nbuild = { language = \"c\", entry = \"/etc/x.c\" }",
        )]);
        refused(&absolute, "source `/etc/x.c` leads out");
    }

    #[test]
    fn a_template_is_bounded_and_has_a_manifest() {
        refused(&folder(&[("readme", "")]), "it has no mote.toml");
        let large = folder(&[("mote.toml", MANIFEST)]);
        let file = fs::File::create(large.path().join("zero")).unwrap();
        file.set_len(BYTES_MAX).unwrap();
        refused(&large, "more than 1000 files");
        let error = Template::fetch("/nonexistent/template").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }

    #[test]
    fn our_own_templates_read_well() {
        for language in language::ALL {
            let files = Template::of(*language).files("my-lamp").unwrap();
            for file in files {
                let text = String::from_utf8(file.bytes).unwrap();
                assert!(
                    !text.contains("{{"),
                    "{}: {}",
                    language.name(),
                    file.path.display()
                );
            }
        }
    }
}
