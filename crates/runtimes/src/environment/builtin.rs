//! The environments that are part of the program, and how they get onto the disk.
//!
//! Each is written once, to a folder that has a digest of its files in its name, so that a newer program
//! never changes files under a function that runs. Folders of other versions are removed at the start,
//! when nothing runs yet.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::FILE_NAME;

/// An environment of the program.
pub(super) struct Builtin {
    pub(super) name: &'static str,
    /// Names and texts; the manifest is the first.
    files: &'static [(&'static str, &'static str)],
}

macro_rules! builtin {
    ($name:literal $(, $file:literal)*) => {
        Builtin {
            name: $name,
            files: &[
                (FILE_NAME, include_str!(concat!("../../../../environments/", $name, "/environment.toml"))),
                $(($file, include_str!(concat!("../../../../environments/", $name, "/", $file))),)*
            ],
        }
    };
}

/// All of them, in the order in which they are asked whether they know a function.
pub(super) const ALL: &[Builtin] = &[
    builtin!("python3", "loader.py", "over_http.py"),
    builtin!("nodejs", "loader.cjs"),
    builtin!("binary"),
];

impl Builtin {
    pub(super) fn manifest(&self) -> &'static str {
        self.files[0].1
    }

    fn folder_name(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        for (name, text) in self.files {
            hasher.update(&(name.len() as u64).to_le_bytes());
            hasher.update(name.as_bytes());
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        }
        format!("{}-{}", self.name, &hasher.finalize().to_hex()[..12])
    }

    /// Whether a folder holds these files and their whole texts.
    fn is_at(&self, folder: &Path) -> bool {
        self.files.iter().all(|(name, text)| {
            fs::read(folder.join(name)).is_ok_and(|found| found == text.as_bytes())
        })
    }

    fn write(&self, folder: &Path) -> io::Result<()> {
        if self.is_at(folder) {
            return Ok(());
        }
        let partial = folder.with_extension("partial");
        for leftover in [&partial, folder] {
            remove(leftover)?;
        }
        make_folder(&partial)?;
        for (name, text) in self.files {
            let path = partial.join(name);
            fs::write(&path, text)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644))?;
        }
        fs::rename(&partial, folder)
    }
}

/// Writes all of them below a folder. Returns name, manifest and folder of each.
pub(super) fn write(home: &Path) -> io::Result<Vec<(&'static str, &'static str, PathBuf)>> {
    make_folder(home)?;
    let mut written = Vec::new();
    for builtin in ALL {
        let folder = home.join(builtin.folder_name());
        builtin.write(&folder)?;
        written.push((builtin.name, builtin.manifest(), folder));
    }
    for entry in fs::read_dir(home)? {
        let path = entry?.path();
        if !written.iter().any(|(_, _, folder)| *folder == path) {
            remove(&path)?;
        }
    }
    Ok(written)
}

/// Programs run as other users read these.
fn make_folder(folder: &Path) -> io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(folder)?;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))
}

fn remove(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(about) if about.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}
