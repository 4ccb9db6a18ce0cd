//! Python, with componentize-py, which puts the function, its packages and CPython into one component and imports the
//! function's module while it does so.
//!
//! The packages of the function are those in the folder `packages` beside its manifest, where
//! `pip install --target packages` puts them. Those with native code do not work.
//! A component is not the same bytes every time: CPython takes a random seed into it. What was made of the same files
//! before is left as it is.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use mote_core::error::{Error, ErrorKind};

use super::{Job, Language, Output, Recipe, worlds};
use crate::sdk::{File, files};
use crate::tools::{If, System, Version, Ways, ask};

/// What it writes as bindings is what the SDK uses since then.
const MINIMUM: Version = Version(0, 25, 0);
/// Of an environment of the project's own, before what is on the path.
const ENVIRONMENTS: &[&str] = &[".venv", "venv"];
/// What sources say when they use an interface: a word of the module `mote`.
const WORDS: &[(&str, &[&str])] = &[
    ("mote:function/call", &["call", "start", "spawn"]),
    ("wasi:config/store", &["config"]),
    ("wasi:keyvalue/store", &["kv"]),
    ("wasi:keyvalue/atomics", &["kv"]),
];
/// Names of bindings that would depend on what else is there.
const NAMES: &[&str] = &[
    "wasi:config/store@0.2.0-rc.1=config_store",
    "wasi:keyvalue/store@0.2.0-draft2=keyvalue_store",
];
/// Most sources that are looked into, and most bytes of them: with more, a function is taken to use everything.
const SOURCES_MAX: usize = 1000;
const SOURCE_BYTES_MAX: u64 = 16 << 20;
/// Most files whose times are compared: a function with more is made anew every time.
const FILES_MAX: usize = 10_000;
/// Files beside the sources that are made of them, or try them.
const OUTSIDE: &[&str] = &["wasm", "http"];
/// A module of the SDK, which imports the function's.
const ENTRY_MODULE: &str = "mote_entry";

const COMPONENTIZE: Ways = &[
    (If::Has("pipx"), "run `pipx install componentize-py`"),
    (If::Has("uv"), "run `uv tool install componentize-py`"),
    (
        If::On(System::Debian),
        "run `sudo apt install pipx && pipx install componentize-py`",
    ),
    (
        If::Always,
        "run `python3 -m venv .venv && .venv/bin/pip install componentize-py` in the function's folder",
    ),
];
const NEWER: Ways = &[
    (If::Has("pipx"), "run `pipx upgrade componentize-py`"),
    (If::Always, "run `pip install --upgrade componentize-py`"),
];

/// Python.
#[derive(Debug)]
pub(super) struct Python;

impl Language for Python {
    fn name(&self) -> &'static str {
        "python"
    }

    fn aliases(&self) -> &'static [&'static str] {
        &["py", "python3"]
    }

    fn marks(&self) -> &'static [&'static str] {
        &["handler.py"]
    }

    fn entry(&self) -> &'static str {
        "handler.py"
    }

    fn sdk(&self) -> &'static [File] {
        files!(
            "python":
            "mote/__init__.py",
            "mote/_call.py",
            "mote/_host.py",
            "mote/_local.py",
            "mote/_request.py",
            "mote/_response.py",
            "mote/_serve.py",
            "mote/_warm.py",
            "mote/config.py",
            "mote/kv.py",
            "mote/log.py",
            "mote/py.typed",
            "mote_entry.py",
            "python.wit",
        )
    }

    fn template(&self) -> &'static [File] {
        files!("templates/python": "handler.py", "mote.toml", ".gitignore", "tests/hello.http")
    }

    fn recipe(&self, job: &Job<'_>) -> Result<Recipe, Error> {
        let entry = job.source();
        let name = module_name(&entry)?;
        let (componentize, version) = componentize(job)?;
        let named = job.work.join("named");
        fs::create_dir_all(&named)
            .and_then(|()| fs::write(named.join("mote_module.py"), format!("NAME = \"{name}\"\n")))
            .map_err(|error| {
                Error::new(
                    ErrorKind::BadRequest,
                    format!("cannot write {}: {error}", named.display()),
                )
                .with_hint("check disk and owner")
            })?;
        let component = job.work.join("component.wasm");
        let output = Output::Finished(component.clone());
        let packages = job.folder.join("packages");
        let mut paths = vec![entry.parent().unwrap_or(job.folder), job.sdk, &named];
        if packages.is_dir() {
            paths.push(&packages);
        }
        let with = format!("{version} {name}");
        if is_made(&component, &[job.folder, job.sdk], &with)? {
            return Ok(Recipe {
                steps: Vec::new(),
                output,
            });
        }
        let used = words(job.folder);
        let wit = worlds::assemble(job, "python.wit", |interface| {
            let words = WORDS.iter().find(|(name, _)| *name == interface);
            words.is_none_or(|(_, words)| {
                used.as_ref()
                    .is_none_or(|used| words.iter().any(|word| used.contains(*word)))
            })
        })?;
        let mut command = Command::new(componentize);
        command
            .current_dir(job.folder)
            .args(["--quiet", "--world", "python", "--wit-path"])
            .arg(wit);
        for name in NAMES {
            command.args(["--import-interface-name", name]);
        }
        command
            .args(["componentize", ENTRY_MODULE, "--output"])
            .arg(&component);
        for path in paths {
            command.arg("--python-path").arg(path);
        }
        Ok(Recipe {
            steps: vec![command],
            output,
        })
    }
}

/// Whether the component was made of the same files before. When not, it is removed, so that one that is there was made
/// without a failure of what is noted here.
fn is_made(component: &Path, folders: &[&Path], with: &str) -> Result<bool, Error> {
    let mut files = Vec::new();
    let is_known = folders.iter().all(|folder| files_below(folder, &mut files));
    files.sort();
    let key = format!("{with}\n{files:#?}\n");
    let key_path = component.with_extension("key");
    if is_known
        && component.is_file()
        && fs::read_to_string(&key_path).is_ok_and(|found| found == key)
    {
        return Ok(true);
    }
    let removed = match fs::remove_file(component) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => fs::write(&key_path, key),
    };
    removed.map(|()| false).map_err(|error| {
        Error::new(
            ErrorKind::BadRequest,
            format!("cannot write {}: {error}", key_path.display()),
        )
        .with_hint("check disk and owner")
    })
}

/// Path, size and time of everything that may be taken into a component. `false` when there are too many to look at, or
/// a link, whose own time says nothing of what it leads to.
fn files_below(folder: &Path, files: &mut Vec<(PathBuf, u64, Option<SystemTime>)>) -> bool {
    // What cannot be read cannot be taken in either.
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(about) = entry.metadata() else {
            continue;
        };
        if about.is_symlink() || files.len() >= FILES_MAX {
            return false;
        }
        if about.is_dir() {
            if !is_foreign(&entry.file_name().to_string_lossy()) && !files_below(&path, files) {
                return false;
            }
        } else if path
            .extension()
            .is_none_or(|end| !OUTSIDE.iter().any(|outside| end == *outside))
        {
            files.push((path, about.len(), about.modified().ok()));
        }
    }
    true
}

/// A folder that is not of the function.
fn is_foreign(name: &str) -> bool {
    name.starts_with('.') || ["venv", "__pycache__"].contains(&name)
}

/// The words of all sources of a function; nothing when they are too many to look into.
fn words(folder: &Path) -> Option<BTreeSet<String>> {
    let mut words = BTreeSet::new();
    let mut folders = vec![folder.to_owned()];
    let (mut sources, mut bytes) = (0, 0);
    while let Some(folder) = folders.pop() {
        // What cannot be read cannot be imported either.
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let path = entry.path();
            if path.is_dir() {
                if !is_foreign(&name) {
                    folders.push(path);
                }
            } else if name.ends_with(".py") {
                let text = fs::read(&path).unwrap_or_default();
                let text = String::from_utf8_lossy(&text);
                let split = text.split(|letter: char| !letter.is_alphanumeric() && letter != '_');
                words.extend(split.map(str::to_owned));
                sources += 1;
                bytes += text.len() as u64;
            }
            if sources > SOURCES_MAX || bytes > SOURCE_BYTES_MAX {
                return None;
            }
        }
    }
    Some(words)
}

/// The name under which the function's file is imported.
fn module_name(entry: &Path) -> Result<&str, Error> {
    let name = entry
        .file_stem()
        .and_then(|stem| stem.to_str())
        .unwrap_or_default();
    let mut letters = name.chars();
    let begins = letters
        .next()
        .is_some_and(|letter| letter.is_ascii_alphabetic() || letter == '_');
    let goes_on = letters.all(|letter| letter.is_ascii_alphanumeric() || letter == '_');
    if !begins || !goes_on {
        return Err(Error::new(
            ErrorKind::BadRequest,
            format!("`{}` cannot be imported by its name", entry.display()),
        )
        .with_hint("name the file with letters, digits and underscores, such as handler.py"));
    }
    if !entry.is_file() {
        return Err(Error::new(
            ErrorKind::NotFound,
            format!("there is no {}", entry.display()),
        )
        .with_hint("name the source with build = { language = \"python\", entry = \"…\" }"));
    }
    Ok(name)
}

/// The program, and what it says of its version.
fn componentize(job: &Job<'_>) -> Result<(PathBuf, String), Error> {
    const PROGRAM: &str = "componentize-py";
    let near = ENVIRONMENTS
        .iter()
        .map(|name| job.folder.join(name).join("bin").join(PROGRAM))
        .find(|program| program.is_file());
    let program = match near {
        Some(program) => program,
        None => job
            .tools
            .need(PROGRAM, "what makes components of Python", COMPONENTIZE)?,
    };
    let said = ask(&program, &["--version"], job.folder).unwrap_or_default();
    match Version::find(&said) {
        Some(found) if found < MINIMUM => {
            let message = format!("{PROGRAM} {found} is too old, functions need {MINIMUM}");
            Err(job.tools.missing(&message, NEWER))
        }
        _ => Ok((program, said)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_component_is_made_anew_when_a_file_changes_or_is_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let work = folder.path().join(".mote");
        fs::create_dir(&work).unwrap();
        let source = folder.path().join("handler.py");
        let component = work.join("component.wasm");
        let made = || is_made(&component, &[folder.path()], "1").unwrap();
        fs::write(&source, "1").unwrap();
        assert!(!made());
        assert!(!made(), "the build failed");
        fs::write(&component, "wasm").unwrap();
        fs::write(folder.path().join("hello.http"), "not taken in").unwrap();
        assert!(made());
        fs::write(&source, "another").unwrap();
        assert!(!made());
        assert!(!component.exists());
        fs::write(&component, "wasm").unwrap();
        std::os::unix::fs::symlink(&source, folder.path().join("link.py")).unwrap();
        assert!(!made());
    }

    #[test]
    fn sources_say_what_is_used() {
        let folder = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        put("handler.py", "from mote import kv as store, log\n");
        put("lib/more.py", "mote.config.get(call_id)");
        put(".venv/x.py", "spawn");
        put("notes.txt", "start");
        let words = words(folder.path()).unwrap();
        for (word, used) in [
            ("kv", true),
            ("config", true),
            ("call", false),
            ("spawn", false),
            ("start", false),
        ] {
            assert_eq!(words.contains(word), used, "{word}");
        }
        put("large.py", &"x".repeat(17 << 20));
        assert!(super::words(folder.path()).is_none());
    }

    #[test]
    fn a_file_is_imported_by_its_name() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["handler.py", "_my_2nd.py"] {
            let path = folder.path().join(name);
            fs::write(&path, "").unwrap();
            assert_eq!(module_name(&path).unwrap(), name.trim_end_matches(".py"));
        }
        for (name, why) in [
            ("my-handler.py", "cannot be imported"),
            ("2nd.py", "cannot be imported"),
            ("\".py", "cannot be imported"),
            ("missing.py", "there is no"),
        ] {
            let error = module_name(&folder.path().join(name)).unwrap_err();
            assert!(error.message().contains(why), "{error}");
        }
    }
}
