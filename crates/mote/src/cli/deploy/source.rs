//! Plain source: which folders are, and the packages that they ask for.
//!
//! Packages are installed here, into a copy of the folder, so that they are part of the artifact and
//! the node needs no index. No code of a package runs meanwhile: Python's come as wheels, and npm's
//! scripts are left out. Bounded by a time for each installer.

mod requirements;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use mote_core::error::{Error, ErrorKind};
use mote_runtimes::environment::Environments;
use tempfile::TempDir;

/// Longest run of an installer.
const INSTALL_MAX: Duration = Duration::from_secs(600);
/// How much of what a failed installer said is shown.
const SAID_LINES: usize = 8;
/// What names Python's packages.
const REQUIREMENTS: &str = "requirements.txt";
/// Where Python's packages go, and are looked for.
const PACKAGES: &str = "packages";
/// Deepest folder that is copied.
const DEPTH_MAX: usize = 64;

/// Whether a folder without a manifest is source that a node knows how to run.
pub(super) fn is_known(folder: &Path) -> bool {
    let files = Environments::builtin_files();
    files.iter().any(|file| folder.join(file).is_file())
}

/// The folder to pack: a copy with the packages that it asks for, or itself when it asks for none.
pub(super) fn with_packages(
    folder: &Path,
    say: &mut dyn FnMut(&str),
) -> Result<Option<TempDir>, Error> {
    let python = wants_python(folder);
    let node = wants_node(folder);
    if !python && !node {
        return Ok(None);
    }
    let staging = tempfile::tempdir().map_err(|error| failed("making a folder", &error))?;
    copy(folder, staging.path(), 0).map_err(|error| failed("copying the source", &error))?;
    if python {
        say("installing what requirements.txt names");
        // In the copy only: pip reads what was checked, and nothing that it might read otherwise.
        let list = staging.path().join(REQUIREMENTS);
        let checked = requirements::checked(&list)?;
        fs::write(&list, checked).map_err(|error| failed("writing a list", &error))?;
        install("python3", &pip(), staging.path())?;
    }
    if node {
        say("installing what package.json names");
        install("npm", &npm(folder), staging.path())?;
    }
    Ok(Some(staging))
}

/// Packages that are there already are taken as they are.
fn wants_python(folder: &Path) -> bool {
    folder.join(REQUIREMENTS).is_file() && !folder.join(PACKAGES).exists()
}

fn wants_node(folder: &Path) -> bool {
    if folder.join("node_modules").exists() {
        return false;
    }
    let manifest = fs::read(folder.join("package.json")).unwrap_or_default();
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap_or_default();
    let dependencies = manifest["dependencies"].as_object();
    dependencies.is_some_and(|names| !names.is_empty())
}

fn pip() -> Vec<&'static str> {
    vec![
        "-m",
        "pip",
        "install",
        "--quiet",
        "--only-binary",
        ":all:",
        "--no-compile",
        "--disable-pip-version-check",
        "--root-user-action=ignore",
        "--target",
        PACKAGES,
        "-r",
        REQUIREMENTS,
    ]
}

fn npm(folder: &Path) -> Vec<&'static str> {
    let locked = folder.join("package-lock.json").is_file();
    let install = if locked { "ci" } else { "install" };
    vec![
        install,
        "--omit=dev",
        "--ignore-scripts",
        "--no-audit",
        "--no-fund",
        // Where no registry answers, that is said within seconds.
        "--fetch-retries=1",
        "--fetch-retry-maxtimeout=2000",
    ]
}

fn install(program: &str, arguments: &[&str], folder: &Path) -> Result<(), Error> {
    let hint = "install the packages into `packages/` (Python) or `node_modules/` yourself and deploy again";
    let log = tempfile::NamedTempFile::new().map_err(|error| failed("making a file", &error))?;
    let output = || log.reopen().map(Stdio::from);
    let outputs = output().and_then(|out| Ok((out, output()?)));
    let (out, err) = outputs.map_err(|error| failed("making a file", &error))?;
    let mut child = Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(err)
        .spawn()
        .map_err(|error| {
            Error::new(
                ErrorKind::BadRequest,
                format!("`{program}` cannot be run to install packages: {error}"),
            )
            .with_hint(hint)
        })?;
    let ended = wait(&mut child);
    let why = match ended {
        Some(status) if status.success() => return Ok(()),
        Some(_) => "failed".to_owned(),
        None => format!("took longer than {} s", INSTALL_MAX.as_secs()),
    };
    let said = fs::read(log.path()).unwrap_or_default();
    let said = String::from_utf8_lossy(&said);
    let lines: Vec<&str> = said
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    let last = lines[lines.len().saturating_sub(SAID_LINES)..].join(" | ");
    let message = format!("installing packages with `{program}` {why}: {last}");
    Err(Error::new(ErrorKind::BadRequest, message).with_hint(hint))
}

/// Waits for an installer, and ends it when its time is over.
fn wait(child: &mut std::process::Child) -> Option<std::process::ExitStatus> {
    let (told, ended) = std::sync::mpsc::channel();
    let pid = rustix::process::Pid::from_child(child);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            if ended.recv_timeout(INSTALL_MAX).is_err() {
                // It has not been waited for yet, so nobody else has its number.
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        });
        let status = child.wait().ok();
        let in_time = told.send(()).is_ok();
        status.filter(|_| in_time)
    })
}

/// Copies files, folders and links as they are; what the artifact may not hold is found when it is packed.
fn copy(from: &Path, to: &Path, depth: usize) -> std::io::Result<()> {
    if depth > DEPTH_MAX {
        return Err(std::io::Error::other("folders are too deep"));
    }
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        if entry.file_name() == ".git" {
            continue;
        }
        let (source, target): (PathBuf, PathBuf) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type()?;
        if kind.is_dir() {
            fs::create_dir(&target)?;
            copy(&source, &target, depth + 1)?;
        } else if kind.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(&source)?, &target)?;
        } else if kind.is_file() {
            fs::copy(&source, &target)?;
        }
    }
    Ok(())
}

fn failed(doing: &str, error: &std::io::Error) -> Error {
    Error::new(
        ErrorKind::BadRequest,
        format!("{doing} to install packages in: {error}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn source_is_known_by_its_files_and_packages_by_theirs() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        assert!(!is_known(folder.path()));
        write("handler.py", "");
        assert!(is_known(folder.path()));
        assert!(with_packages(folder.path(), &mut |_| {}).unwrap().is_none());
        write("package.json", r#"{"dependencies":{}}"#);
        assert!(!wants_node(folder.path()));
        write("package.json", r#"{"dependencies":{"left-pad":"1"}}"#);
        assert!(wants_node(folder.path()));
        write("requirements.txt", "six");
        assert!(wants_python(folder.path()));
        fs::create_dir(folder.path().join(PACKAGES)).unwrap();
        assert!(!wants_python(folder.path()));
    }

    #[test]
    fn no_code_of_a_package_runs_meanwhile() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        let mark = folder.path().join("mark");
        fs::create_dir(folder.path().join("lib")).unwrap();
        let build = format!("open({:?}, 'w').close()", mark.display().to_string());
        write("lib/setup.py", &build);
        write("handler.py", "");
        write("requirements.txt", "./lib");
        let error = with_packages(folder.path(), &mut |_| {}).unwrap_err();
        assert!(error.message().contains("line 1: `./lib`"), "{error}");
        assert!(!mark.exists());
    }

    /// Writes a wheel of one module into the folder `wheels`.
    const WHEEL: &str = r#"
import os, zipfile
os.mkdir("wheels")
with zipfile.ZipFile("wheels/tiny-1.0-py3-none-any.whl", "w") as wheel:
    about = "tiny-1.0.dist-info/"
    wheel.writestr("tiny.py", "word = 'tiny'")
    wheel.writestr(about + "METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
    wheel.writestr(about + "WHEEL", "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    wheel.writestr(about + "RECORD", "tiny.py,,\n" + about + "METADATA,,\n" + about + "WHEEL,,\n" + about + "RECORD,,\n")
"#;

    #[test]
    fn packages_go_beside_the_code_and_not_into_the_folder() {
        let python = |arguments: &[&str], folder: &Path| {
            let mut command = Command::new("python3");
            command.args(arguments).current_dir(folder).output()
        };
        let folder = tempfile::tempdir().unwrap();
        let pip = python(&["-m", "pip", "--version"], folder.path());
        if !pip.is_ok_and(|pip| pip.status.success()) {
            eprintln!("skipped: there is no pip here");
            return;
        }
        let made = python(&["-c", WHEEL], folder.path()).unwrap();
        assert!(made.status.success(), "{made:?}");
        let list = "# from this folder\n--no-index --find-links wheels\ntiny==1.0\n";
        fs::write(folder.path().join("requirements.txt"), list).unwrap();
        fs::write(folder.path().join("handler.py"), "").unwrap();
        let staging = with_packages(folder.path(), &mut |_| {}).unwrap().unwrap();
        assert!(staging.path().join("packages/tiny.py").is_file());
        assert!(staging.path().join("handler.py").is_file());
        assert!(!folder.path().join(PACKAGES).exists());
        let kept = fs::read_to_string(folder.path().join("requirements.txt")).unwrap();
        assert_eq!(kept, list);
    }

    #[test]
    fn an_installer_that_fails_is_quoted() {
        let folder = tempfile::tempdir().unwrap();
        let error = install(
            "sh",
            &["-c", "echo no index answers >&2; exit 1"],
            folder.path(),
        );
        let error = error.unwrap_err();
        assert!(error.message().contains("no index answers"), "{error}");
        let missing = install("no-such-installer", &[], folder.path()).unwrap_err();
        assert!(missing.hint().unwrap().contains("packages/"));
    }
}
