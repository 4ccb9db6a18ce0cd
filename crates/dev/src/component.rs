//! From a core module, as compilers leave it, to a component, as nodes run it.
//!
//! The module's world is either written in it, by a bindings generator, or it is one of `sdk/wit`. Only what a module
//! really imports becomes an import of the component; the adapter from WASI preview 1 is put in only when the module
//! calls that. What decides over the bytes is the module, the world and the version of this program: no time, no path.

use std::path::Path;

use mote_core::error::{Error, ErrorKind};
use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
};
use wasmparser::{Encoding, Parser, Payload};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

use crate::language::World;

/// Sections by this prefix hold the world a module was compiled for.
const WORLD_PREFIX: &str = "component-type";
/// The function that a WASI command begins with.
const COMMAND_START: &str = "_start";

/// What a Wasm file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A component.
    Component,
    /// A module that runs as a program: standard input is the request, standard output the reply.
    Command,
    /// A module that has to become a component.
    Module {
        /// Whether its world is written in it.
        has_world: bool,
    },
}

/// Looks at a file.
pub(crate) fn kind(wasm: &[u8]) -> Result<Kind, Error> {
    let mut has_world = false;
    let mut is_command = false;
    for payload in Parser::new(0).parse_all(wasm) {
        match payload.map_err(|error| broken(&error))? {
            Payload::Version {
                encoding: Encoding::Component,
                ..
            } => return Ok(Kind::Component),
            Payload::CustomSection(section) => {
                has_world |= section.name().starts_with(WORLD_PREFIX);
            }
            Payload::ExportSection(exports) => {
                for export in exports {
                    is_command |= export.map_err(|error| broken(&error))?.name == COMMAND_START;
                }
            }
            _ => {}
        }
    }
    Ok(match (is_command, has_world) {
        (true, false) => Kind::Command,
        _ => Kind::Module { has_world },
    })
}

/// Makes a component of a module. `wit` is the folder of the worlds.
pub(crate) fn encode(module: &[u8], world: World, wit: &Path) -> Result<Vec<u8>, Error> {
    let failed = |error: anyhow::Error| {
        Error::new(
            ErrorKind::BadRequest,
            format!("the module does not fit the world of a function: {error:#}"),
        )
        .with_hint("it must export `handle` and import nothing but what sdk/wit and WASI 0.1 have")
    };
    let mut module = module.to_vec();
    if let World::Named(name) = world {
        embed(&mut module, name, wit).map_err(failed)?;
    }
    let mut encoder = ComponentEncoder::default()
        .validate(true)
        .module(&module)
        .map_err(failed)?;
    if imports(&module, WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME)? {
        encoder = encoder
            .adapter(
                WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME,
                WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
            )
            .map_err(failed)?;
    }
    encoder.encode().map_err(failed)
}

/// Writes a world into a module.
fn embed(module: &mut Vec<u8>, world: &str, wit: &Path) -> Result<(), anyhow::Error> {
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_dir(wit)?;
    let world = resolve.select_world(&[package], Some(world))?;
    embed_component_metadata(module, &resolve, world, StringEncoding::UTF8)
}

/// Whether a core module imports anything of this name.
fn imports(module: &[u8], from: &str) -> Result<bool, Error> {
    for payload in Parser::new(0).parse_all(module) {
        if let Payload::ImportSection(section) = payload.map_err(|error| broken(&error))? {
            for import in section.into_imports() {
                if import.map_err(|error| broken(&error))?.module == from {
                    return Ok(true);
                }
            }
        }
    }
    Ok(false)
}

fn broken(error: &wasmparser::BinaryReaderError) -> Error {
    Error::new(
        ErrorKind::BadRequest,
        format!("not a WebAssembly file: {error}"),
    )
}
