//! Rust, for `wasm32-unknown-unknown`: the target that rustup has everywhere, and that imports nothing but our world.
//!
//! Two ways lead to it. The compiler in use has the target's library, as after `rustup target add`; or it is Debian's
//! own compiler with the sources of its library (`rustc-web`, `rust-web-src`), from which the library is built once
//! and kept in the cache for all projects. Any other pair of compiler and sources does not compile.
//! The crate `mote-function` comes from this program: cargo is told so, and asks no registry for it.

mod project;
mod sysroot;

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use mote_core::error::Error;

use self::project::{Package, SDK};
use super::{Job, Language, Memory, Output, Recipe, World};
use crate::sdk::{File, files};
use crate::tools::{If, System, Version, Ways, ask};

const TARGET: &str = "wasm32-unknown-unknown";
/// The edition of the template.
const MINIMUM: Version = Version(1, 85, 0);
/// The stack lies at the bottom of the memory, so one that overflows traps. Rust's own default is 1 MiB, which every
/// call of every function would have to find room for.
const STACK_BYTES: u32 = 128 * 1024;

const COMPILER: Ways = &[
    (
        If::On(System::Debian),
        "run `sudo apt install rustup && rustup default stable && rustup target add wasm32-unknown-unknown`, or see https://rustup.rs",
    ),
    (
        If::On(System::Fedora),
        "run `sudo dnf install rust cargo rust-std-static-wasm32-unknown-unknown`",
    ),
    (
        If::On(System::Arch),
        "run `sudo pacman -S rustup && rustup default stable && rustup target add wasm32-unknown-unknown`",
    ),
    (
        If::On(System::Mac),
        "run `brew install rustup && rustup default stable && rustup target add wasm32-unknown-unknown`",
    ),
    (
        If::Always,
        "install Rust from https://rustup.rs, then run `rustup target add wasm32-unknown-unknown`",
    ),
];
const LIBRARY: Ways = &[
    (
        If::Has("rustup"),
        "run `rustup target add wasm32-unknown-unknown`",
    ),
    (
        If::On(System::Debian),
        "run `sudo apt install rustc-web rust-web-src lld`, or use rustup and `rustup target add wasm32-unknown-unknown`",
    ),
    (
        If::On(System::Fedora),
        "run `sudo dnf install rust-std-static-wasm32-unknown-unknown`",
    ),
    (If::On(System::Arch), "run `sudo pacman -S rust-wasm`"),
    (
        If::Always,
        "install Rust from https://rustup.rs, then run `rustup target add wasm32-unknown-unknown`",
    ),
];
const NEWER: Ways = &[
    (If::Has("rustup"), "run `rustup update`"),
    (
        If::Always,
        "install a newer Rust, such as from https://rustup.rs",
    ),
];

/// Rust.
#[derive(Debug)]
pub(super) struct Rust;

impl Language for Rust {
    fn name(&self) -> &'static str {
        "rust"
    }

    fn aliases(&self) -> &'static [&'static str] {
        &["rs"]
    }

    fn marks(&self) -> &'static [&'static str] {
        &["Cargo.toml"]
    }

    fn entry(&self) -> &'static str {
        "Cargo.toml"
    }

    fn sdk(&self) -> &'static [File] {
        files!(
            "rust":
            "Cargo.toml",
            "src/bindings.rs",
            "src/call.rs",
            "src/config.rs",
            "src/keyvalue.rs",
            "src/lib.rs",
            "src/log.rs",
            "src/percent.rs",
            "src/reply.rs",
            "src/request.rs",
            "src/rt.rs",
        )
    }

    fn template(&self) -> &'static [File] {
        files!("templates/rust": "Cargo.toml", "src/lib.rs", "mote.toml", ".gitignore", "tests/hello.http")
    }

    fn recipe(&self, job: &Job<'_>) -> Result<Recipe, Error> {
        let manifest = job.source();
        let package = Package::read(&manifest)?;
        let compiler = Compiler::find(job)?;
        project::tell_editors(manifest.parent().unwrap_or(job.folder), job.sdk);
        let mut steps = Vec::new();
        if package.only_sdk && !manifest.with_file_name("Cargo.lock").exists() {
            // Cargo would ask a registry for what it is told the place of, and this works without a network.
            let mut lock = compiler.cargo(job, &manifest, "generate-lockfile");
            lock.args(["--quiet", "--offline"]);
            steps.push(lock);
        }
        let target_dir = job.folder.join("target");
        let mut build = compiler.cargo(job, &manifest, "build");
        build
            .args(["--release", "--target", TARGET, "--target-dir"])
            .arg(&target_dir);
        steps.push(build);
        let folder = target_dir.join(TARGET).join("release");
        Ok(Recipe {
            steps,
            output: Output::Module {
                file: folder.join(format!("{}.wasm", package.module)),
                world: World::Written,
                memory: Memory::WithRoom,
            },
        })
    }
}

/// What compiles.
struct Compiler {
    cargo: PathBuf,
    from_source: Option<FromSource>,
}

/// A compiler whose library was built here.
struct FromSource {
    rustc: PathBuf,
    linker: PathBuf,
    sysroot: PathBuf,
}

impl Compiler {
    /// Takes the first of the two ways that is there.
    fn find(job: &Job<'_>) -> Result<Self, Error> {
        let tools = job.tools;
        let debian = sysroot::debian();
        let rustc = match (tools.find("rustc"), &debian) {
            (Some(rustc), _) => rustc,
            (None, Some(debian)) => debian.rustc.clone(),
            (None, None) => {
                return Err(tools.missing(
                    "a Rust compiler is missing: there is no `rustc` on PATH",
                    COMPILER,
                ));
            }
        };
        let cargo = tools.need("cargo", "Rust's build tool", COMPILER)?;
        // In the project's folder, where a rust-toolchain.toml may name another compiler.
        let sysroot = ask(&rustc, &["--print", "sysroot"], job.folder).map(PathBuf::from);
        let installed = sysroot
            .as_deref()
            .is_some_and(|sysroot| has_library(sysroot, TARGET));
        if installed {
            let version = ask(&rustc, &["--version"], job.folder).unwrap_or_default();
            return match Version::find(&version) {
                Some(found) if found < MINIMUM => Err(tools.missing(
                    &format!("rustc {found} is too old, functions need {MINIMUM}"),
                    NEWER,
                )),
                _ => Ok(Self {
                    cargo,
                    from_source: None,
                }),
            };
        }
        let Some(debian) = debian else {
            return Err(tools.missing(
                &format!("{} has no library for {TARGET}", rustc.display()),
                LIBRARY,
            ));
        };
        let linker = linker(job, sysroot.as_deref())?;
        let sysroot = debian.sysroot(tools, &cargo, &linker)?;
        Ok(Self {
            cargo,
            from_source: Some(FromSource {
                rustc: debian.rustc,
                linker,
                sysroot,
            }),
        })
    }

    /// Cargo with a subcommand, set up for this compiler and the SDK.
    fn cargo(&self, job: &Job<'_>, manifest: &Path, subcommand: &str) -> Command {
        let mut command = Command::new(&self.cargo);
        command
            .current_dir(manifest.parent().unwrap_or(job.folder))
            .args([subcommand, "--manifest-path"])
            .arg(manifest)
            .arg("--config")
            .arg(setting(
                &format!("patch.crates-io.{SDK}.path"),
                &job.sdk.into(),
            ))
            .arg("--config")
            .arg(setting(
                "target.wasm32-unknown-unknown.rustflags",
                &self.flags(job).into(),
            ))
            // These would replace the flags above instead of adding to them.
            .env_remove("RUSTFLAGS")
            .env_remove("CARGO_ENCODED_RUSTFLAGS");
        if let Some(source) = &self.from_source {
            command
                .env("RUSTC", &source.rustc)
                .arg("--config")
                .arg(setting(
                    "target.wasm32-unknown-unknown.linker",
                    &source.linker.as_path().into(),
                ));
        }
        command
    }

    /// Flags that decide the bytes. Paths of this machine are replaced, so that a build elsewhere with the same
    /// compiler gives the same module.
    fn flags(&self, job: &Job<'_>) -> Vec<String> {
        let mut flags: Vec<String> = env::var("RUSTFLAGS")
            .unwrap_or_default()
            .split_whitespace()
            .map(str::to_owned)
            .collect();
        flags.push(format!("-Clink-arg=-zstack-size={STACK_BYTES}"));
        if let Some(source) = &self.from_source {
            flags.push(format!("--sysroot={}", source.sysroot.display()));
        }
        let cargo_home = env::var_os("CARGO_HOME")
            .map(PathBuf::from)
            .or_else(|| env::home_dir().map(|home| home.join(".cargo")));
        let mut remap = |path: &Path, to: &str| {
            flags.push(format!("--remap-path-prefix={}={to}", path.display()));
        };
        if let Some(cargo_home) = cargo_home {
            remap(&cargo_home, "/cargo");
        }
        remap(job.sdk, "/mote-function");
        remap(job.folder, "/function");
        flags
    }
}

/// `key = value` for cargo's `--config`.
fn setting(key: &str, value: &Setting) -> OsString {
    let value = match value {
        Setting::Text(text) => toml::Value::from(text.as_str()),
        Setting::List(list) => toml::Value::from(list.clone()),
    };
    format!("{key}={value}").into()
}

enum Setting {
    Text(String),
    List(Vec<String>),
}

impl From<&Path> for Setting {
    fn from(path: &Path) -> Self {
        Self::Text(path.display().to_string())
    }
}

impl From<Vec<String>> for Setting {
    fn from(list: Vec<String>) -> Self {
        Self::List(list)
    }
}

/// The linker that came with the compiler in use, else the one on the path.
fn linker(job: &Job<'_>, sysroot: Option<&Path>) -> Result<PathBuf, Error> {
    let bundled = sysroot
        .and_then(|sysroot| sysroot.join("lib/rustlib").read_dir().ok())
        .into_iter()
        .flatten()
        .flatten()
        .map(|target| target.path().join("bin/rust-lld"))
        .find(|linker| linker.is_file());
    bundled
        .or_else(|| job.tools.find("wasm-ld"))
        .ok_or_else(|| {
            job.tools.missing(
                "there is neither rust-lld nor wasm-ld to link with",
                &[
                    (If::On(System::Debian), "run `sudo apt install lld`"),
                    (If::Always, "install LLVM's lld"),
                ],
            )
        })
}

/// Whether a sysroot has the standard library of a target.
fn has_library(sysroot: &Path, target: &str) -> bool {
    let library = sysroot.join("lib/rustlib").join(target).join("lib");
    library.read_dir().is_ok_and(|entries| {
        entries
            .flatten()
            .any(|entry| entry.file_name().to_string_lossy().starts_with("libstd-"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_toml() {
        let flags = vec!["a\"b".to_owned(), "c".to_owned()];
        assert_eq!(setting("k.x", &flags.into()), "k.x=['a\"b', \"c\"]");
    }
}
