//! The project's own tools, one entry for people and for continuous integration: `cargo xtask <task>`.
//!
//! They are Rust so that they are tested and work wherever the product builds.
//! Nothing here is part of the product.
#![expect(
    clippy::print_stdout,
    reason = "the findings and the summary are this program's output"
)]

mod bindings;
mod ci;
pub mod guests;
mod reference;
mod site;
mod tidy;

use clap::{Parser, Subcommand};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about = "The project's own tools")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Write the bindings of the SDKs anew from sdk/wit.
    Bindings,
    /// Run every check; the last line is `N passed, M failed`.
    Ci(ci::Options),
    /// Build the guests that are checked in, or check that they are what their sources build to.
    Guests {
        /// Only check, which needs no guest toolchain.
        #[arg(long)]
        check: bool,
    },
    /// Make the guide, the reference and all other pages a folder of static HTML.
    Docs(site::Options),
    /// Write docs/reference anew, from what the programs say.
    Reference,
    /// Check the rules of the house without building the product.
    Tidy,
}

fn main() -> ExitCode {
    let root = root();
    match run(&root, &Arguments::parse().task) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The folder above this crate. Cargo says where that is when it starts the program; what was compiled in may be
/// another checkout, when two of them share a target folder.
fn root() -> PathBuf {
    let folder = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    folder
        .parent()
        .expect("xtask is a folder of the workspace")
        .to_owned()
}

/// The folder of everything that is built.
fn target(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from)
}

/// Does one task and says whether all was well; what was not has been printed.
fn run(root: &Path, task: &Task) -> anyhow::Result<bool> {
    match task {
        Task::Bindings => bindings::write(root).map(|()| true),
        Task::Ci(options) => Ok(ci::run(root, options)),
        Task::Guests { check: true } => guests::check(root).map(|()| true),
        Task::Guests { check: false } => guests::build(root).map(|()| true),
        Task::Docs(options) => {
            let (out, pages) = site::build(root, &target(root), options)?;
            println!("{pages} pages: {}", out.join("index.html").display());
            Ok(true)
        }
        Task::Reference => reference::write(root).map(|()| true),
        Task::Tidy => {
            let findings = tidy::check(root)?;
            for finding in &findings {
                println!("{finding}");
            }
            Ok(findings.is_empty())
        }
    }
}
