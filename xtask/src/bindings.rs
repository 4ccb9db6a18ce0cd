//! `cargo xtask bindings`: what generators write from `sdk/wit` into the SDKs, checked in.
//!
//! A function's build then needs no generator and none of its packages, and people can read what runs. A test of this
//! module fails when the worlds or the generator have changed and what is checked in has not.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use wit_bindgen_core::wit_parser::Resolve;
use wit_bindgen_core::{Files, WorldGenerator};

const WIT: &str = "sdk/wit";
const RUST: &str = "sdk/rust/src/bindings.rs";

/// Writes every file anew.
pub(crate) fn write(root: &Path) -> Result<()> {
    fs::write(root.join(RUST), rust(root)?).with_context(|| format!("cannot write {RUST}"))
}

/// The bindings of the Rust SDK.
fn rust(root: &Path) -> Result<Vec<u8>> {
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_dir(root.join(WIT))?;
    let world = resolve.select_world(&[package], Some("function"))?;
    let options = wit_bindgen_rust::Opts {
        generate_all: true,
        // A dozen lines of the SDK stand in for the generator's run-time crate.
        runtime_path: Some("crate::rt".to_owned()),
        pub_export_macro: true,
        export_macro_name: Some("export_function".to_owned()),
        default_bindings_module: Some("mote_function::bindings".to_owned()),
        ..wit_bindgen_rust::Opts::default()
    };
    let mut files = Files::default();
    options.build().generate(&mut resolve, world, &mut files)?;
    let (_, generated) = files
        .iter()
        .find(|(name, _)| name.ends_with(".rs"))
        .context("the generator wrote no Rust")?;
    Ok(generated.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_checked_in_is_what_the_generator_writes() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let there = fs::read(root.join(RUST)).unwrap();
        assert!(
            there == rust(&root).unwrap(),
            "{RUST} is not current: run `cargo xtask bindings` and commit what it writes"
        );
    }
}
