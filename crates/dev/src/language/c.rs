//! C, with Zig's C compiler, which brings all that is needed, or clang with wasi-libc.
//!
//! Every `.c` file beside the entry is compiled, together with the SDK. A function that stays off stdio and files
//! imports nothing of WASI.

use std::path::{Path, PathBuf};
use std::process::Command;

use mote_core::error::{Error, ErrorKind};

use super::{Job, Language, Memory, Output, Recipe, World, zig};
use crate::sdk::{File, files};
use crate::tools::{If, System, Tools, Ways};

const TARGET: &str = "wasm32-wasi";
/// What is compiled with every function.
const SDK_SOURCES: &[&str] = &["mote.c", "keyvalue.c", "call.c"];
/// Where distributions put wasi-libc.
const SYSROOTS: &[&str] = &["/usr/share/wasi-sysroot", "/usr"];

const COMPILER: Ways = &[
    (If::On(System::Arch), "run `sudo pacman -S zig`"),
    (If::On(System::Alpine), "run `sudo apk add zig`"),
    (If::On(System::Mac), "run `brew install zig`"),
    (If::On(System::Fedora), "run `sudo dnf install zig`"),
    (If::Has("pipx"), "run `pipx install ziglang`"),
    (
        If::On(System::Debian),
        "run `sudo apt install pipx && pipx install ziglang`, or `sudo apt install clang lld wasi-libc libclang-rt-dev-wasm32`",
    ),
    (If::Has("pip3"), "run `pip3 install --user ziglang`"),
    (
        If::Always,
        "install Zig from https://ziglang.org/download, or clang with wasi-libc",
    ),
];

/// C.
#[derive(Debug)]
pub(super) struct C;

impl Language for C {
    fn name(&self) -> &'static str {
        "c"
    }

    fn marks(&self) -> &'static [&'static str] {
        &["src/main.c"]
    }

    fn entry(&self) -> &'static str {
        "src/main.c"
    }

    fn sdk(&self) -> &'static [File] {
        files!("c": "abi.h", "call.c", "keyvalue.c", "mote.c", "mote.h")
    }

    fn template(&self) -> &'static [File] {
        files!("templates/c": "src/main.c", "mote.toml", ".gitignore", "tests/hello.http")
    }

    fn recipe(&self, job: &Job<'_>) -> Result<Recipe, Error> {
        let module = job.work.join("module.wasm");
        let mut command = compiler(job.tools, job.folder)?;
        command
            .current_dir(job.folder)
            .args([
                "-mexec-model=reactor",
                "-std=c17",
                "-Os",
                "-Wall",
                "-Wextra",
                "-Wl,--strip-all",
            ])
            .arg(format!(
                "-ffile-prefix-map={}=/function",
                job.folder.display()
            ))
            .arg(format!("-ffile-prefix-map={}=/mote", job.sdk.display()))
            .arg("-I")
            .arg(job.sdk)
            .args(sources(job)?)
            .args(SDK_SOURCES.iter().map(|name| job.sdk.join(name)))
            .arg("-o")
            .arg(&module);
        Ok(Recipe {
            steps: vec![command],
            output: Output::Module {
                file: module,
                world: World::Named("function"),
                memory: Memory::WithRoom,
            },
        })
    }
}

/// The entry and every other `.c` file beside it, relative to the folder and in a fixed order.
fn sources(job: &Job<'_>) -> Result<Vec<PathBuf>, Error> {
    let beside = job.entry.parent().unwrap_or(Path::new(""));
    let unreadable = |error: std::io::Error| {
        Error::new(
            ErrorKind::NotFound,
            format!("cannot read {}: {error}", job.source().display()),
        )
        .with_hint("name the source with build = { language = \"c\", entry = \"…\" }")
    };
    job.source().metadata().map_err(unreadable)?;
    let mut sources = Vec::new();
    for entry in job.folder.join(beside).read_dir().map_err(unreadable)? {
        let path = beside.join(entry.map_err(unreadable)?.file_name());
        if path.extension().is_some_and(|ending| ending == "c") {
            sources.push(path);
        }
    }
    sources.sort();
    Ok(sources)
}

/// A C compiler for [`TARGET`], the first that is there.
fn compiler(tools: &Tools, folder: &Path) -> Result<Command, Error> {
    if let Some(mut zig) = zig::program(tools, folder) {
        zig.args(["cc", "-target", TARGET]);
        return Ok(zig);
    }
    if let Some(clang) = tools.find("clang")
        && let Some(sysroot) = SYSROOTS.iter().find(|sysroot| has_libc(Path::new(sysroot)))
    {
        let mut command = Command::new(clang);
        command
            .arg(format!("--target={TARGET}"))
            .arg(format!("--sysroot={sysroot}"));
        return Ok(command);
    }
    Err(tools.missing(
        "a C compiler for WebAssembly is missing: there is neither zig nor clang with wasi-libc",
        COMPILER,
    ))
}

fn has_libc(sysroot: &Path) -> bool {
    sysroot.join("lib").join(TARGET).join("libc.a").is_file()
}
