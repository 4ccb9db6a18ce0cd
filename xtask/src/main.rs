//! The project's own tools, one entry for people and for continuous integration: `cargo xtask <task>`.
//!
//! They are Rust so that they are tested and work wherever the product builds.
//! Nothing here is part of the product.
#![expect(
    clippy::print_stdout,
    reason = "the findings and the summary are this program's output"
)]

mod ci;
mod tidy;

use anyhow::Result;
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
    /// Check the rules of the house without building the product.
    Tidy,
}

fn main() -> Result<ExitCode> {
    // The folder of this crate is below the root, wherever the command is called from.
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask is a folder of the workspace");
    let good = match Arguments::parse().task {
        Task::Ci(options) => ci::run(root, &options),
        Task::Tidy => {
            let findings = tidy::check(root)?;
            for finding in &findings {
                println!("{finding}");
            }
            findings.is_empty()
        }
    };
    Ok(if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
