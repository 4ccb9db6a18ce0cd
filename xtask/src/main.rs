//! The project's own tools, one entry for people and for continuous integration: `cargo xtask <task>`.
//!
//! They are Rust so that they are tested and work wherever the product builds.
//! Nothing here is part of the product.
#![expect(
    clippy::print_stdout,
    reason = "the findings and the summary are this program's output"
)]

mod ci;
pub mod guests;
mod tidy;

use clap::{Parser, Subcommand};
use std::path::Path;
use std::process::ExitCode;

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about = "The project's own tools")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Run every check; the last line is `N passed, M failed`.
    Ci(ci::Options),
    /// Build the guests that are checked in, or check that they are what their sources build to.
    Guests {
        /// Only check, which needs no guest toolchain.
        #[arg(long)]
        check: bool,
    },
    /// Check the rules of the house without building the product.
    Tidy,
}

fn main() -> ExitCode {
    // The folder of this crate is below the root, wherever the command is called from.
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask is a folder of the workspace");
    match run(root, &Arguments::parse().task) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Does one task and says whether all was well; what was not has been printed.
fn run(root: &Path, task: &Task) -> anyhow::Result<bool> {
    match task {
        Task::Ci(options) => Ok(ci::run(root, options)),
        Task::Guests { check: true } => guests::check(root).map(|()| true),
        Task::Guests { check: false } => guests::build(root).map(|()| true),
        Task::Tidy => {
            let findings = tidy::check(root)?;
            for finding in &findings {
                println!("{finding}");
            }
            Ok(findings.is_empty())
        }
    }
}
