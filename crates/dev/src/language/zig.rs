//! Zig, without an SDK: the template calls the world as it is, in a dozen lines.
//!
//! The target is `wasm32-freestanding`, so a module imports nothing but the world.

use std::path::Path;
use std::process::Command;

use super::{Job, Language, Memory, Output, Recipe, World};
use crate::sdk::{File, files};
use crate::tools::{If, System, Tools, Version, Ways, ask};

/// What the template is written for.
const MINIMUM: Version = Version(0, 15, 0);

const COMPILER: Ways = &[
    (If::On(System::Arch), "run `sudo pacman -S zig`"),
    (If::On(System::Alpine), "run `sudo apk add zig`"),
    (If::On(System::Mac), "run `brew install zig`"),
    (If::On(System::Fedora), "run `sudo dnf install zig`"),
    (If::Has("pipx"), "run `pipx install ziglang`"),
    (
        If::On(System::Debian),
        "run `sudo apt install pipx && pipx install ziglang`",
    ),
    (If::Always, "install Zig from https://ziglang.org/download"),
];

/// Zig.
#[derive(Debug)]
pub(super) struct Zig;

impl Language for Zig {
    fn name(&self) -> &'static str {
        "zig"
    }

    fn marks(&self) -> &'static [&'static str] {
        &["src/main.zig"]
    }

    fn entry(&self) -> &'static str {
        "src/main.zig"
    }

    fn template(&self) -> &'static [File] {
        files!("templates/zig": "src/main.zig", "mote.toml", ".gitignore", "tests/hello.http")
    }

    fn recipe(&self, job: &Job<'_>) -> Result<Recipe, mote_core::error::Error> {
        let missing = |message: &str| job.tools.missing(message, COMPILER);
        let mut command = program(job.tools, job.folder)
            .ok_or_else(|| missing("the Zig compiler is missing: there is no `zig` on PATH"))?;
        let said = ask_of(&command, "version", job.folder);
        if let Some(found) = Version::find(&said).filter(|found| *found < MINIMUM) {
            return Err(missing(&format!(
                "zig {found} is too old, functions need {MINIMUM}"
            )));
        }
        let module = job.work.join("module.wasm");
        command
            .current_dir(job.folder)
            .arg("build-exe")
            .arg(job.entry)
            .args(["-target", "wasm32-freestanding", "-fno-entry", "-rdynamic"])
            .args(["-O", "ReleaseSmall", "--name", "module"])
            .arg(format!("-femit-bin={}", module.display()))
            .arg("--cache-dir")
            .arg(job.work.join("zig"));
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

/// Zig on the path, or in the Python that is there.
pub(super) fn program(tools: &Tools, folder: &Path) -> Option<Command> {
    let own = ["zig", "python-zig"]
        .iter()
        .find_map(|program| tools.find(program));
    if let Some(zig) = own {
        return Some(Command::new(zig));
    }
    let pythons = ["python3", "python"]
        .iter()
        .filter_map(|program| tools.find(program));
    let python = pythons
        .into_iter()
        .find(|python| ask(python, &["-c", "import ziglang"], folder).is_some())?;
    let mut command = Command::new(python);
    command.args(["-m", "ziglang"]);
    Some(command)
}

/// What a program says to one more word.
fn ask_of(command: &Command, word: &str, folder: &Path) -> String {
    let words: Vec<&str> = command
        .get_args()
        .filter_map(|argument| argument.to_str())
        .chain([word])
        .collect();
    ask(command.get_program(), &words, folder).unwrap_or_default()
}
