//! Finds a compiler for `wasm32-unknown-unknown` and runs it over a workspace of guests.
//!
//! Two kinds work: the target's library as rustup installs it, or Debian's `rustc-web` with
//! `rust-web-src`, from whose sources the library is built. Any other pair of compiler and library
//! sources does not compile. Guests need only `core` and `alloc`, so no WASI library is involved.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

const TARGET: &str = "wasm32-unknown-unknown";
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_SOURCES: &str = "/usr/lib/rustlib/src/rust/library";

/// The stack lies at the bottom of a guest's memory, so one that overflows traps. With this much,
/// stack, data and the first allocations of a small guest share the one page it starts with.
const STACK_BYTES: u32 = 32 * 1024;

/// A compiler that can build guests.
pub(super) enum Toolchain {
    /// The compiler in use has the target's library.
    Installed { rustc: PathBuf },
    /// Debian's compiler, which builds the library from source.
    Debian { linker: PathBuf },
}

/// Takes the first of the two that is there.
pub(super) fn find() -> Result<Toolchain> {
    let rustc = PathBuf::from(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    let sysroot = PathBuf::from(output(Command::new(&rustc).args(["--print", "sysroot"]))?);
    let library = sysroot.join("lib/rustlib").join(TARGET).join("lib");
    if has_core(&library) {
        return Ok(Toolchain::Installed { rustc });
    }
    if Path::new(DEBIAN_RUSTC).exists() && Path::new(DEBIAN_SOURCES).join("Cargo.lock").exists() {
        let linker = linker(&sysroot)?;
        return Ok(Toolchain::Debian { linker });
    }
    bail!(
        "no compiler for {TARGET}: run `rustup target add {TARGET}`, or on Debian `scripts/install-guest-toolchain.sh`"
    )
}

impl Toolchain {
    /// The compiler's own name for itself.
    pub(super) fn version(&self) -> Result<String> {
        output(Command::new(self.rustc()).arg("--version"))
    }

    /// Builds every crate of `workspace` and returns the folder with the modules.
    pub(super) fn build(&self, root: &Path, workspace: &Path) -> Result<PathBuf> {
        let target_dir = env::var_os("CARGO_TARGET_DIR")
            .map_or_else(|| root.join("target"), PathBuf::from)
            .join("guests");
        let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command
            .current_dir(workspace)
            .args(["build", "--release", "--target", TARGET])
            .env("CARGO_TARGET_DIR", &target_dir)
            .env("CARGO_ENCODED_RUSTFLAGS", flags(root).join("\x1f"))
            .env("RUSTC", self.rustc());
        if let Self::Debian { linker } = self {
            command
                .arg("-Zbuild-std=core,alloc,panic_abort")
                // The library can only be built with unstable features; the guests use none.
                .env("RUSTC_BOOTSTRAP", "1")
                .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker);
        }
        let status = command.status().context("cannot run cargo")?;
        ensure!(
            status.success(),
            "the guests in {} do not build",
            workspace.display()
        );
        Ok(target_dir.join(TARGET).join("release"))
    }

    fn rustc(&self) -> &Path {
        match self {
            Self::Installed { rustc } => rustc,
            Self::Debian { .. } => Path::new(DEBIAN_RUSTC),
        }
    }
}

/// Flags that decide the bytes. Paths of this machine are replaced, so that a build elsewhere with
/// the same compiler gives the same binary.
fn flags(root: &Path) -> Vec<String> {
    let mut flags = vec![
        format!("-Clink-arg=-zstack-size={STACK_BYTES}"),
        format!("--remap-path-prefix={}=/mote", root.display()),
    ];
    let cargo_home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| env::home_dir().map(|home| home.join(".cargo")));
    if let Some(cargo_home) = cargo_home {
        flags.push(format!(
            "--remap-path-prefix={}=/cargo",
            cargo_home.display()
        ));
    }
    flags
}

/// The linker that came with the compiler in use, else the one on the path.
fn linker(sysroot: &Path) -> Result<PathBuf> {
    let version = output(Command::new(DEBIAN_RUSTC).arg("-vV"))?;
    let host = version
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .context("rustc -vV names no host")?;
    let bundled = sysroot.join("lib/rustlib").join(host).join("bin/rust-lld");
    let path = env::var_os("PATH").unwrap_or_default();
    let on_path = env::split_paths(&path).map(|folder| folder.join("wasm-ld"));
    std::iter::once(bundled)
        .chain(on_path)
        .find(|linker| linker.is_file())
        .context(
            "no linker: neither rust-lld nor wasm-ld; run `scripts/install-guest-toolchain.sh`",
        )
}

fn has_core(library: &Path) -> bool {
    library.read_dir().is_ok_and(|entries| {
        entries
            .flatten()
            .any(|entry| entry.file_name().to_string_lossy().starts_with("libcore-"))
    })
}

fn output(command: &mut Command) -> Result<String> {
    let shown = format!("{command:?}");
    let output = command
        .output()
        .with_context(|| format!("cannot run {shown}"))?;
    ensure!(output.status.success(), "{shown} failed");
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
