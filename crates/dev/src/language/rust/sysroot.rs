//! The standard library for Wasm, built once from the sources that Debian packages beside its compiler.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use mote_core::error::{Error, ErrorKind};
use tempfile::Builder;

use super::TARGET;
use crate::report::say;
use crate::tools::{Tools, ask};

const RUSTC: &str = "/usr/bin/rustc";
const SOURCES: &str = "/usr/lib/rustlib/src/rust/library";

/// Debian's compiler, with the sources of its library.
#[derive(Debug)]
pub(super) struct Debian {
    /// The compiler.
    pub(super) rustc: PathBuf,
}

/// It, when it is there. The sources of rustup's `rust-src` do not compile with it, nor these with another compiler.
pub(super) fn debian() -> Option<Debian> {
    let whole = Path::new(RUSTC).is_file() && Path::new(SOURCES).join("Cargo.lock").is_file();
    whole.then(|| Debian {
        rustc: PathBuf::from(RUSTC),
    })
}

impl Debian {
    /// A sysroot with the library for [`TARGET`]; built when the cache has none of this compiler.
    pub(super) fn sysroot(
        &self,
        tools: &Tools,
        cargo: &Path,
        linker: &Path,
    ) -> Result<PathBuf, Error> {
        let version = ask(&self.rustc, &["--version"], Path::new("/")).unwrap_or_default();
        let name: String = version
            .chars()
            .map(|letter| {
                if letter.is_ascii_alphanumeric() || letter == '.' {
                    letter
                } else {
                    '-'
                }
            })
            .collect();
        let library = tools.once(&format!("rust/{name}"), |folder| {
            say(&format!(
                "building Rust's standard library for {TARGET} with {version}: once, about a minute"
            ));
            let sysroot = Builder::new()
                .prefix("sysroot-")
                .tempdir_in(folder)
                .map_err(|error| failed(&error.to_string()))?
                .keep();
            self.build(&sysroot, cargo, linker)
        })?;
        // A library that was built again is another one, and must not have the name of what functions were built with.
        let mut sysroots = fs::read_dir(&library).into_iter().flatten().flatten();
        sysroots
            .next()
            .map(|sysroot| sysroot.path())
            .ok_or_else(|| failed(&format!("{} is empty", library.display())))
    }

    /// Builds an empty package, and keeps what was built for it.
    fn build(&self, sysroot: &Path, cargo: &Path, linker: &Path) -> Result<(), Error> {
        let io = |error: std::io::Error| failed(&error.to_string());
        let package = tempfile::tempdir().map_err(io)?;
        let folder = package.path();
        fs::create_dir(folder.join("src")).map_err(io)?;
        fs::write(folder.join("src/lib.rs"), "").map_err(io)?;
        fs::write(
            folder.join("Cargo.toml"),
            "[package]\nname = \"empty\"\nedition = \"2024\"\n[workspace]\n",
        )
        .map_err(io)?;
        // Bitcode is for functions that are optimised together with the library; cargo would leave it out.
        let flags = format!("--remap-path-prefix={SOURCES}=/rust\x1f-Cembed-bitcode=yes");
        let mut command = Command::new(cargo);
        command
            .current_dir(folder)
            .args(["build", "--quiet", "--release", "--target", TARGET])
            .args(["-Zbuild-std=std,panic_abort", "--target-dir"])
            .arg(folder.join("target"))
            // The library can only be built with unstable features; functions use none.
            .env("RUSTC_BOOTSTRAP", "1")
            .env("RUSTC", &self.rustc)
            .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker)
            .env_remove("RUSTFLAGS")
            .env("CARGO_ENCODED_RUSTFLAGS", flags)
            .stdout(std::io::stderr());
        let vendor = Path::new(SOURCES).join("vendor");
        if vendor.is_dir() {
            // The library's own dependencies are beside it, so no registry is asked for them.
            command
                .args([
                    "--config",
                    "source.crates-io.replace-with=\"vendored\"",
                    "--config",
                ])
                .arg(format!(
                    "source.vendored.directory=\"{}\"",
                    vendor.display()
                ));
        }
        let status = command.status().map_err(io)?;
        if !status.success() {
            return Err(failed(&format!("cargo ended with {status}")));
        }
        let library = sysroot.join("lib/rustlib").join(TARGET).join("lib");
        fs::create_dir_all(&library).map_err(io)?;
        let built = folder.join("target").join(TARGET).join("release/deps");
        for entry in fs::read_dir(built).map_err(io)? {
            let path = entry.map_err(io)?.path();
            let name = path.file_name().unwrap_or(OsStr::new("")).to_owned();
            let text = name.to_string_lossy();
            if text.ends_with(".rlib") && !text.starts_with("libempty-") {
                fs::copy(&path, library.join(&name)).map_err(io)?;
            }
        }
        Ok(())
    }
}

fn failed(what: &str) -> Error {
    Error::new(
        ErrorKind::BadRequest,
        format!("cannot build Rust's standard library for {TARGET}: {what}"),
    )
    .with_hint("use rustup instead: `rustup target add wasm32-unknown-unknown`")
}
