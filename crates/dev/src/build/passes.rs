//! What is done to a module after its compiler, when the manifest asks for it: `preinit` and `optimise`.
//!
//! A module is started here, and optimised by a tool of others, found on `PATH`. Both are for modules: a component that a
//! toolchain made whole has either been started already by that toolchain, or is out of reach.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use mote_core::error::{Error, ErrorKind};

use super::Run;
use crate::snapshot;
use crate::tools::{If, System, Tools, Ways};

/// The export that is called once while the function is built. The SDKs write it for people.
const PREINIT_EXPORT: &str = "mote-preinit";

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
            started(&file, &to)?;
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

/// Runs what the function says is to be done once.
fn started(from: &Path, to: &Path) -> Result<(), Error> {
    let failed = |path: &Path, error: &std::io::Error| {
        Error::new(
            ErrorKind::BadRequest,
            format!("cannot use {}: {error}", path.display()),
        )
        .with_hint("check disk and owner")
    };
    let module = fs::read(from).map_err(|error| failed(from, &error))?;
    let taken = snapshot::take(&module, &[PREINIT_EXPORT]).map_err(|error| {
        if error.message().contains(PREINIT_EXPORT) {
            error.with_hint("mote_function::preinit!(…) and MOTE_PREINIT make it")
        } else {
            error
        }
    })?;
    fs::write(to, taken).map_err(|error| failed(to, &error))
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
