//! The guests this repository carries: functions in Rust, built to the `.wasm` files beside their sources.
//!
//! The binaries are committed, so that trying an example and running the tests needs no Wasm
//! toolchain. `build` makes them and writes down which sources each came from; `check` needs no
//! toolchain and fails when a source and its binary no longer belong together.
//! Bounded: a guest over 200 KiB is refused, it would be a surprise in the history of the repository.

mod lock;
mod sources;
mod toolchain;
mod wasm;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use lock::{Entry, Lock};

/// The largest binary that is committed.
const WASM_BYTES_MAX: u64 = 200 * 1024;

/// The Cargo workspaces that hold guests: what people read, what experiments measure, and what only tests run.
const WORKSPACES: [&str; 3] = ["examples", "experiments/functions", "tests/guests"];

/// Builds every guest below `root`, writes its `.wasm` beside its sources and brings
/// `examples/guests.lock` up to date.
pub fn build(root: &Path) -> Result<()> {
    let root = root
        .canonicalize()
        .with_context(|| format!("no folder {}", root.display()))?;
    let toolchain = toolchain::find()?;
    let mut lock = Lock::new(toolchain.version()?);
    for workspace in WORKSPACES {
        let guests = sources::guests(&root, workspace)?;
        if guests.is_empty() {
            continue;
        }
        let built = toolchain.build(&root, &root.join(workspace))?;
        for guest in guests {
            let file = built.join(format!("{}.wasm", guest.name.replace('-', "_")));
            let core = fs::read(&file).with_context(|| format!("no module {}", file.display()))?;
            let wasm =
                wasm::finish(&core).with_context(|| format!("cannot finish guest `{guest}`"))?;
            fs::write(root.join(guest.wasm()), &wasm)
                .with_context(|| format!("cannot write {}", guest.wasm().display()))?;
            let entry = Entry::of(&root, &guest)?;
            eprintln!("{guest}: {} bytes", entry.bytes);
            lock.guest.insert(guest.to_string(), entry);
        }
    }
    lock.write(&root)?;
    check(&root)
}

/// Compares every guest below `root` with `examples/guests.lock`; the error names each guest whose
/// sources changed without a build, whose binary is not the one that was built, or that is too large.
pub fn check(root: &Path) -> Result<()> {
    let lock = Lock::read(root)?;
    let mut faults = Vec::new();
    let mut known = Vec::new();
    for workspace in WORKSPACES {
        for guest in sources::guests(root, workspace)? {
            let name = guest.to_string();
            match lock.guest.get(&name) {
                None => faults.push(format!("guest `{name}` was never built")),
                Some(recorded) => faults.extend(compare(root, &guest, recorded)?),
            }
            known.push(name);
        }
    }
    for name in lock.guest.keys().filter(|name| !known.contains(name)) {
        faults.push(format!("guest `{name}` has no sources any more"));
    }
    if !faults.is_empty() {
        bail!(
            "{}\nrun `cargo xtask guests` and commit what it writes",
            faults.join("\n")
        );
    }
    Ok(())
}

/// What is wrong with one guest, in words.
fn compare(root: &Path, guest: &Guest, recorded: &Entry) -> Result<Vec<String>> {
    if !root.join(guest.wasm()).is_file() {
        return Ok(vec![format!(
            "guest `{guest}` lacks its binary {}",
            guest.wasm().display()
        )]);
    }
    let found = Entry::of(root, guest)?;
    let mut faults = Vec::new();
    if found.sources != recorded.sources {
        faults.push(format!(
            "guest `{guest}`: its sources changed after its binary was built"
        ));
    }
    if found.wasm != recorded.wasm || found.bytes != recorded.bytes {
        faults.push(format!(
            "guest `{guest}`: its binary is not the one that was built"
        ));
    }
    if found.bytes > WASM_BYTES_MAX {
        faults.push(format!(
            "guest `{guest}`: its binary has {} bytes, more than {WASM_BYTES_MAX}",
            found.bytes
        ));
    }
    Ok(faults)
}

/// One guest: a folder `<workspace>/<name>` with a crate that builds to a module.
#[derive(Debug)]
struct Guest {
    workspace: &'static str,
    name: String,
}

impl Guest {
    fn folder(&self) -> PathBuf {
        Path::new(self.workspace).join(&self.name)
    }

    fn wasm(&self) -> PathBuf {
        self.folder().join(format!("{}.wasm", self.name))
    }
}

impl std::fmt::Display for Guest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.workspace, self.name)
    }
}

#[cfg(test)]
mod tests;
