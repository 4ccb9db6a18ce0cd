//! What is done to a module after its compiler, when the manifest asks for it: `preinit` and `optimise`.
//!
//! Both are tools of others, found on `PATH`. They work on modules: a component that a toolchain made whole has either
//! been started already by that toolchain, or is out of their reach.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use mote_core::error::{Error, ErrorKind};

use super::Run;
use crate::tools::{If, System, Tools, Ways};

/// The export that is called once while the function is built. The SDKs write it for people.
const PREINIT_EXPORT: &str = "mote-preinit";

const WIZER: Ways = &[
    (
        If::Has("npm"),
        "run `npm install --global @bytecodealliance/wizer`",
    ),
    (If::Has("cargo"), "run `cargo install wizer --all-features`"),
    (
        If::Always,
        "install it from https://github.com/bytecodealliance/wizer/releases",
    ),
];
const WASM_OPT: Ways = &[
    (If::On(System::Debian), "run `sudo apt install binaryen`"),
    (If::On(System::Fedora), "run `sudo dnf install binaryen`"),
    (If::On(System::Arch), "run `sudo pacman -S binaryen`"),
    (If::On(System::Alpine), "run `sudo apk add binaryen`"),
    (If::On(System::Mac), "run `brew install binaryen`"),
    (If::Has("npm"), "run `npm install --global binaryen`"),
    (
        If::Always,
        "install binaryen from https://github.com/WebAssembly/binaryen/releases",
    ),
];
/// What compilers of today use and a node runs. Without these the optimiser refuses a module, with all it knows it
/// would use what nodes refuse.
const FEATURES: &[&str] = &[
    "--enable-bulk-memory",
    "--enable-multivalue",
    "--enable-mutable-globals",
    "--enable-nontrapping-float-to-int",
    "--enable-reference-types",
    "--enable-sign-ext",
    "--enable-simd",
];

/// Which passes a function asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Passes {
    /// Start it while it is built.
    pub(super) preinit: bool,
    /// Make it smaller and faster.
    pub(super) optimise: bool,
}

impl Passes {
    /// Runs them over a module in `file`; gives the file that is then the module.
    pub(super) fn over(
        self,
        file: &Path,
        work: &Path,
        tools: &Tools,
        run: Run<'_>,
    ) -> Result<PathBuf, Error> {
        let mut file = file.to_owned();
        if self.preinit {
            let to = work.join("preinit.wasm");
            run(&mut wizer(tools, &file, &to)?).map_err(|error| {
                error.with_hint(format!(
                    "the module must export `{PREINIT_EXPORT}`, as mote_function::preinit!(…) or MOTE_PREINIT make it, and that must call nothing of the node"
                ))
            })?;
            file = to;
        }
        if self.optimise {
            let to = work.join("optimise.wasm");
            run(&mut wasm_opt(tools, &file, &to)?)?;
            file = to;
        }
        Ok(file)
    }

    /// The error for what is no module any more.
    pub(super) fn refuse(self) -> Result<(), Error> {
        let key = match self {
            Self { preinit: true, .. } => "preinit",
            Self { optimise: true, .. } => "optimise",
            _ => return Ok(()),
        };
        Err(Error::new(
            ErrorKind::Unsupported,
            format!("`build.{key}` is for modules, and this build makes a whole component"),
        )
        .with_hint(format!("take `{key}` away; the toolchain has its own way")))
    }
}

fn wizer(tools: &Tools, from: &Path, to: &Path) -> Result<Command, Error> {
    let program = tools.need("wizer", "wizer, which `build.preinit` needs,", WIZER)?;
    let mut command = Command::new(program);
    command
        .arg(from)
        .args(["--allow-wasi", "--init-func", PREINIT_EXPORT, "-o"])
        .arg(to);
    Ok(command)
}

fn wasm_opt(tools: &Tools, from: &Path, to: &Path) -> Result<Command, Error> {
    let program = tools.need(
        "wasm-opt",
        "binaryen, which `build.optimise` needs,",
        WASM_OPT,
    )?;
    let mut command = Command::new(program);
    command
        .arg("-O3")
        .args(FEATURES)
        .arg(from)
        .arg("-o")
        .arg(to);
    Ok(command)
}

/// Whether a file was left by an earlier build; a pass that writes nothing must not pass it off as its own.
pub(super) fn forget(work: &Path) {
    for name in ["preinit.wasm", "optimise.wasm"] {
        let _ = fs::remove_file(work.join(name));
    }
}
