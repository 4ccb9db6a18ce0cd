//! AssemblyScript, without an SDK: the template calls the world as it is, in a dozen lines.
//!
//! The runtime is the one that never frees: the memory of a call is gone with it.

use std::process::Command;

use mote_core::error::Error;

use super::{Job, Language, Memory, Output, Recipe, World, npm};
use crate::sdk::{File, files};
use crate::tools::{If, System, Version};

const COMPILER: npm::Program = npm::Program {
    name: "asc",
    what: "the AssemblyScript compiler",
    package: "assemblyscript",
    minimum: Version(0, 27, 0),
    listed: &[
        (
            If::Has("npm"),
            "run `npm install` in the function's folder, or `npm install --global assemblyscript@0.28` for all",
        ),
        (
            If::On(System::Debian),
            "run `sudo apt install nodejs npm`, then `npm install` in the function's folder",
        ),
        (
            If::Always,
            "install Node.js from https://nodejs.org, then run `npm install` in the function's folder",
        ),
    ],
    unlisted: &[
        (
            If::Has("npm"),
            "run `npm install --save-dev assemblyscript@0.28` in the function's folder",
        ),
        (
            If::On(System::Debian),
            "run `sudo apt install nodejs npm`, then `npm install --save-dev assemblyscript@0.28`",
        ),
        (
            If::Always,
            "install Node.js from https://nodejs.org, then run `npm install --save-dev assemblyscript@0.28`",
        ),
    ],
};

/// AssemblyScript.
#[derive(Debug)]
pub(super) struct AssemblyScript;

impl Language for AssemblyScript {
    fn name(&self) -> &'static str {
        "assemblyscript"
    }

    fn aliases(&self) -> &'static [&'static str] {
        &["asc"]
    }

    fn marks(&self) -> &'static [&'static str] {
        &["assembly/index.ts"]
    }

    fn entry(&self) -> &'static str {
        "assembly/index.ts"
    }

    fn template(&self) -> &'static [File] {
        files!(
            "templates/assemblyscript":
            "assembly/index.ts", "package.json", "mote.toml", ".gitignore", "tests/hello.http"
        )
    }

    fn recipe(&self, job: &Job<'_>) -> Result<Recipe, Error> {
        let module = job.work.join("module.wasm");
        let mut command = Command::new(COMPILER.find(job)?);
        command
            .current_dir(job.folder)
            .arg(job.entry)
            .args(["-O3s", "--runtime", "stub", "--noAssert"])
            // A failed check traps, and tells nobody by an import that no node has.
            .args(["--use", "abort="])
            .arg("--outFile")
            .arg(&module);
        Ok(Recipe {
            steps: vec![command],
            output: Output::Module {
                file: module,
                world: World::Named("function"),
                memory: Memory::Untouched,
            },
        })
    }
}
