//! Files that are there whole or not at all.
//!
//! A report is made again while its results grow, and people read it meanwhile; a disk that fills up must not cost
//! them the one they have.

use std::fs::Permissions;
use std::io::{BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tempfile::NamedTempFile;

/// A file that is complete on the disk under another name.
#[derive(Debug)]
pub(super) struct Staged {
    file: NamedTempFile,
    path: PathBuf,
}

/// Writes what `fill` writes into a file beside `folder/name`.
pub(super) fn stage(
    folder: &Path,
    name: &str,
    fill: impl FnOnce(&mut dyn Write) -> Result<()>,
) -> Result<Staged> {
    let path = folder.join(name);
    let file = filled(folder, fill).with_context(|| {
        format!(
            "cannot write `{}`; files of an earlier report are as they were",
            path.display()
        )
    })?;
    Ok(Staged { file, path })
}

fn filled(folder: &Path, fill: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<NamedTempFile> {
    let file = tempfile::Builder::new()
        .prefix(".report-")
        // As any other file: the umask of the user takes away what it should.
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(folder)?;
    let mut buffered = BufWriter::with_capacity(64 * 1024, file);
    fill(&mut buffered)?;
    let file = buffered.into_inner().map_err(|error| error.into_error())?;
    // A disk may say that it is full only now.
    file.as_file().sync_all()?;
    Ok(file)
}

impl Staged {
    /// Puts the file in the place of an earlier one.
    pub(super) fn publish(self) -> Result<()> {
        let Self { file, path } = self;
        file.persist(&path)
            .with_context(|| format!("cannot replace `{}`", path.display()))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    #[test]
    fn a_failure_while_writing_leaves_the_earlier_file_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("runs.csv");
        std::fs::write(&path, "earlier").unwrap();
        let error = stage(folder.path(), "runs.csv", |file| {
            file.write_all(b"half")?;
            Err(std::io::Error::from(std::io::ErrorKind::StorageFull).into())
        })
        .unwrap_err();
        let text = format!("{error:#}");
        assert!(text.contains("runs.csv") && text.contains("as they were"));
        assert!(text.contains("no storage space"), "{text}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "earlier");
        assert_eq!(names(folder.path()), ["runs.csv"]);
    }

    #[test]
    fn a_published_file_is_readable_as_others_are() {
        let folder = tempfile::tempdir().unwrap();
        let usual = folder.path().join("usual");
        std::fs::write(&usual, "").unwrap();
        stage(folder.path(), "new", |file| Ok(file.write_all(b"whole")?))
            .unwrap()
            .publish()
            .unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&folder.path().join("new")), mode(&usual));
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let error = stage(Path::new("/nowhere/at/all"), "runs.csv", |_| Ok(())).unwrap_err();
        assert!(format!("{error:#}").contains("/nowhere/at/all/runs.csv"));
    }
}
