//! JavaScript and TypeScript, with esbuild, which makes one module of the function, the SDK and whatever either
//! imports, and componentize-qjs, which puts that module into an engine, QuickJS, and both into a component.
//!
//! The engine runs the jobs of promises for nobody, so the SDK has promises of its own. That only works when there are
//! no others: `async` is written as generators by esbuild, which then uses ours.
//! A component is not the same bytes every time: the engine takes the time of the build into it.

use std::fs;
use std::path::Path;
use std::process::Command;

use mote_core::error::{Error, ErrorKind};

use super::{Job, Language, Output, Recipe, npm, worlds};
use crate::sdk::{File, files};
use crate::tools::{If, System, Version, Ways};

/// What is built with. Both are pinned in the template's package.json.
const ESBUILD: npm::Program = npm::Program {
    name: "esbuild",
    what: "the bundler of JavaScript",
    package: "esbuild",
    minimum: Version(0, 25, 0),
    listed: LISTED,
    unlisted: UNLISTED,
};
const COMPONENTIZE: npm::Program = npm::Program {
    name: "componentize-qjs",
    what: "the engine of JavaScript",
    package: "componentize-qjs",
    minimum: Version(0, 4, 5),
    listed: LISTED,
    unlisted: UNLISTED,
};

const SDK: &[File] = files!(
    "javascript":
    "componentize.mjs",
    "entry.js",
    "javascript.wit",
    "lib/body.js",
    "lib/console.js",
    "lib/globals.js",
    "lib/headers.js",
    "lib/loop.js",
    "lib/promise.js",
    "lib/random.js",
    "lib/request.js",
    "lib/response.js",
    "lib/text.js",
    "lib/timers.js",
    "lib/url.js",
    "mote.d.ts",
    "mote.js",
    "package.json",
    "serve.js",
);

/// When the function's folder says what it needs.
const LISTED: Ways = &[
    (
        If::Has("npm"),
        "run `npm install` in the function's folder, or `npm install --global esbuild@0.28 componentize-qjs@0.4` for all",
    ),
    (
        If::On(System::Debian),
        "run `sudo apt install nodejs npm`, then `npm install` in the function's folder",
    ),
    (
        If::Always,
        "install Node.js from https://nodejs.org, then run `npm install` in the function's folder",
    ),
];
/// When it does not.
const UNLISTED: Ways = &[
    (
        If::Has("npm"),
        "run `npm install --save-dev esbuild@0.28 componentize-qjs@0.4` in the function's folder",
    ),
    (
        If::On(System::Debian),
        "run `sudo apt install nodejs npm`, then `npm install --save-dev esbuild@0.28 componentize-qjs@0.4`",
    ),
    (
        If::Always,
        "install Node.js from https://nodejs.org, then run `npm install --save-dev esbuild@0.28 componentize-qjs@0.4`",
    ),
];

/// JavaScript.
#[derive(Debug)]
pub(super) struct JavaScript;

/// TypeScript: JavaScript whose types are taken away. What checks them is `tsc`, which is not run.
#[derive(Debug)]
pub(super) struct TypeScript;

impl Language for JavaScript {
    fn name(&self) -> &'static str {
        "javascript"
    }

    fn aliases(&self) -> &'static [&'static str] {
        &["js"]
    }

    fn marks(&self) -> &'static [&'static str] {
        &["src/main.js"]
    }

    fn entry(&self) -> &'static str {
        "src/main.js"
    }

    fn sdk(&self) -> &'static [File] {
        SDK
    }

    fn template(&self) -> &'static [File] {
        files!(
            "templates/javascript":
            "src/main.js", "package.json", "mote.toml", ".gitignore", "tests/hello.http"
        )
    }

    fn recipe(&self, job: &Job<'_>) -> Result<Recipe, Error> {
        recipe(job)
    }
}

impl Language for TypeScript {
    fn name(&self) -> &'static str {
        "typescript"
    }

    fn aliases(&self) -> &'static [&'static str] {
        &["ts"]
    }

    fn marks(&self) -> &'static [&'static str] {
        &["src/main.ts"]
    }

    fn entry(&self) -> &'static str {
        "src/main.ts"
    }

    fn sdk_name(&self) -> &'static str {
        JavaScript.name()
    }

    fn sdk(&self) -> &'static [File] {
        SDK
    }

    fn template(&self) -> &'static [File] {
        files!(
            "templates/typescript":
            "src/main.ts", "package.json", "tsconfig.json", "mote.toml", ".gitignore", "tests/hello.http"
        )
    }

    fn recipe(&self, job: &Job<'_>) -> Result<Recipe, Error> {
        recipe(job)
    }
}

fn recipe(job: &Job<'_>) -> Result<Recipe, Error> {
    let entry = job.source();
    let esbuild = ESBUILD.find(job)?;
    let componentize = COMPONENTIZE.find(job)?;
    let package = npm::folder(&componentize).ok_or_else(|| {
        Error::new(
            ErrorKind::NotFound,
            format!("{} is in no package", componentize.display()),
        )
        .with_hint("install it with npm")
    })?;
    // What the bundle does not use is left out when there is one.
    let wit = worlds::assemble(job, "javascript.wit", |_| true)?;
    types(job)?;
    let bundle = job.work.join("bundle.js");
    let component = job.work.join("component.wasm");
    let mut bundling = Command::new(esbuild);
    bundling
        .current_dir(job.folder)
        .arg(job.sdk.join("entry.js"))
        .args([
            "--bundle",
            "--format=esm",
            "--target=es2022",
            "--log-level=warning",
        ])
        // None of the engine's promises may be left.
        .args([
            "--supported:async-await=false",
            "--supported:async-generator=false",
            "--supported:for-await=false",
        ])
        // Packages have entries for several places, of which one that runs beside a server fits best.
        .args([
            "--platform=neutral",
            "--main-fields=browser,module,main",
            "--conditions=worker,browser",
            "--define:process.env.NODE_ENV=\"production\"",
        ])
        .args(["--external:mote:*", "--external:wasi:*"])
        .arg(format!(
            "--alias:mote={}",
            job.sdk.join("mote.js").display()
        ))
        .arg(format!("--alias:the-function={}", entry.display()))
        .arg(format!("--outfile={}", bundle.display()));
    let mut making = Command::new(job.tools.need("node", "Node.js", UNLISTED)?);
    making
        .current_dir(job.work)
        .arg(job.sdk.join("componentize.mjs"))
        .arg(package.join("index.js"))
        .arg(&bundle)
        .arg(wit)
        .arg(&component);
    Ok(Recipe {
        steps: vec![bundling, making],
        output: Output::Finished(component),
    })
}

/// The types of the module `mote` and of the globals, where a tsconfig.json finds them: `.mote/mote.d.ts`.
fn types(job: &Job<'_>) -> Result<(), Error> {
    let shared = job.work.parent().unwrap_or(job.work);
    let path = shared.join("mote.d.ts");
    fs::copy(job.sdk.join("mote.d.ts"), &path)
        .map(drop)
        .map_err(|error| unwritable(&path, &error))
}

fn unwritable(path: &Path, error: &std::io::Error) -> Error {
    Error::new(
        ErrorKind::BadRequest,
        format!("cannot write {}: {error}", path.display()),
    )
    .with_hint("check disk and owner")
}
