//! A module that was started once: its memory after that is its memory at the begin of every call.
//!
//! Some languages do a lot before the first line of a handler runs. A call has a fresh memory, so each would pay for
//! it: 0.4 ms of 0.5 in Go. Instead the start runs here, in an interpreter, and what it left in the memory and in the
//! globals is written into the module. Run again, it gives the same bytes: the start sees a fixed time and fixed
//! random numbers, which is why the language's SDK must ask for new ones at the first call.
//!
//! Bounded in steps and in memory. What is not done: tables and passive segments are left as they are, so a start
//! that changes those is none for us, and a module that imports memories or globals is refused.

mod parts;
mod system;

use mote_core::error::{Error, ErrorKind};
use wasm_encoder::{DataSection, ExportKind, ExportSection, Module, RawSection};
use wasmi::{CompilationMode, Config, Engine, Instance, Linker, Store, Val};

use self::parts::{Parts, Section};
use crate::segments::spans;

/// Steps of the interpreter that a start may take; Go's takes two million.
const STEPS_MAX: u64 = 2_000_000_000;
/// Memory that a start may use.
const MEMORY_BYTES_MAX: usize = 256 << 20;

/// What a library of WASI must have called before anything else of it is.
const INITIALIZE: &str = "_initialize";

/// Runs functions that the module exports, in this order and after its own start, and gives a module that begins where
/// they ended. They are not exported any more.
pub(crate) fn take(module: &[u8], starts: &[&str]) -> Result<Vec<u8>, Error> {
    let parts = Parts::read(module)?;
    let own = parts.has_export(INITIALIZE).then_some(INITIALIZE);
    let starts: Vec<&str> = own.into_iter().chain(starts.iter().copied()).collect();
    let state = run(&parts, |instance, store| {
        starts
            .iter()
            .try_for_each(|start| call(instance, store, start, ()))
    })?;
    Ok(write(&parts, &state, &starts))
}

/// What a module exports for those who hand it a list.
const REALLOC: &str = "cabi_realloc";
/// Room that a call finds, and what stays taken of it, in bytes.
const ROOM: (i32, i32) = (120_000, 16);

/// A module whose allocator has room before a call begins. It takes memory and gives nearly all of it back.
///
/// An allocator takes its first memory from the system by growing, which the system answers by changing the protection
/// of pages, for the call and again after it: with other processors at work, 40 % of what a small call costs. Pages that
/// nobody writes to are none. For allocators that give back what `cabi_realloc` makes smaller.
pub(crate) fn with_room(module: &[u8]) -> Result<Vec<u8>, Error> {
    let parts = Parts::read(module)?;
    let state = run(&parts, |instance, store| {
        let block: i32 = call(instance, store, REALLOC, (0, 0, 8, ROOM.0))?;
        let _: i32 = call(instance, store, REALLOC, (block, ROOM.0, 8, ROOM.1))?;
        Ok(())
    })?;
    Ok(write(&parts, &state, &[]))
}

/// What a start leaves.
struct State {
    memory: Vec<u8>,
    /// Of each mutable global its number and value.
    globals: Vec<(u32, Val)>,
}

/// Names under which the module's inside is exported while it runs.
const MEMORY: &str = "mote:memory";

fn global(number: u32) -> String {
    format!("mote:global-{number}")
}

/// The module with its memory and its mutable globals exported.
fn open(parts: &Parts<'_>) -> Vec<u8> {
    let mut exports = parts.exports(|_| true);
    exports.export(MEMORY, ExportKind::Memory, 0);
    for number in parts.mutable_globals() {
        exports.export(&global(number), ExportKind::Global, number);
    }
    assemble(parts, &exports, |_, _| false)
}

/// Copies the sections. `replace` writes another for one and says so.
fn assemble(
    parts: &Parts<'_>,
    exports: &ExportSection,
    replace: impl Fn(&Section<'_>, &mut Module) -> bool,
) -> Vec<u8> {
    let mut module = Module::new();
    for section in &parts.sections {
        if section.id == parts::EXPORT {
            module.section(exports);
        } else if !replace(section, &mut module) {
            module.section(&RawSection {
                id: section.id,
                data: section.body,
            });
        }
    }
    module.finish()
}

type Inside = Store<system::System>;

fn run(
    parts: &Parts<'_>,
    start: impl FnOnce(&Instance, &mut Inside) -> Result<(), Error>,
) -> Result<State, Error> {
    let mut config = Config::default();
    // Of a large module little runs.
    config
        .compilation_mode(CompilationMode::LazyTranslation)
        .consume_fuel(true);
    let engine = Engine::new(&config);
    let module = wasmi::Module::new(&engine, open(parts))
        .map_err(|error| failed(format!("the module is not valid: {error}")))?;
    let mut store = Store::new(&engine, system::System::new(MEMORY_BYTES_MAX));
    store.limiter(|system| &mut system.limits);
    store
        .set_fuel(STEPS_MAX)
        .map_err(|error| failed(error.to_string()))?;
    let mut linker = Linker::new(&engine);
    system::define(&module, &mut linker)?;
    let instance = linker
        .instantiate_and_start(&mut store, &module)
        .map_err(|error| stopped(&error))?;
    start(&instance, &mut store)?;
    Ok(state(&instance, &store, parts))
}

fn call<P: wasmi::WasmParams, R: wasmi::WasmResults>(
    instance: &Instance,
    store: &mut Inside,
    name: &str,
    given: P,
) -> Result<R, Error> {
    instance
        .get_typed_func::<P, R>(&*store, name)
        .map_err(|_| failed(format!("the module does not export `{name}`")))?
        .call(store, given)
        .map_err(|error| stopped(&error))
}

fn state(instance: &Instance, store: &Inside, parts: &Parts<'_>) -> State {
    let memory = instance
        .get_memory(store, MEMORY)
        .expect("it was exported above");
    let globals = parts.mutable_globals().map(|number| {
        let global = instance.get_global(store, &global(number));
        (number, global.expect("it was exported above").get(store))
    });
    State {
        memory: memory.data(store).to_vec(),
        globals: globals.collect(),
    }
}

/// The module with another memory and other globals.
fn write(parts: &Parts<'_>, state: &State, starts: &[&str]) -> Vec<u8> {
    let exports = parts.exports(|name| !starts.contains(&name));
    let has_data = parts
        .sections
        .iter()
        .any(|section| section.id == parts::DATA);
    let mut module = assemble(parts, &exports, |section, module| {
        match section.id {
            parts::MEMORY => module.section(&parts.memory_of(state.memory.len())),
            parts::GLOBAL => module.section(&RawSection {
                id: section.id,
                data: &parts.globals_with(&state.globals),
            }),
            parts::DATA => module.section(&data(&state.memory)),
            // All segments are active ones, and nothing names them.
            parts::START | parts::DATA_COUNT => return true,
            _ => return false,
        };
        true
    });
    if !has_data {
        // It is the last but for custom sections, which have no place.
        let section = data(&state.memory);
        wasm_encoder::Section::append_to(&section, &mut module);
    }
    module
}

fn data(memory: &[u8]) -> DataSection {
    let mut section = DataSection::new();
    for span in spans(memory) {
        let at = i32::from_ne_bytes(
            u32::try_from(span.start)
                .expect("a memory has at most 4 GiB")
                .to_ne_bytes(),
        );
        section.active(
            0,
            &wasm_encoder::ConstExpr::i32_const(at),
            memory[span].iter().copied(),
        );
    }
    section
}

fn stopped(error: &wasmi::Error) -> Error {
    let text = match error.as_trap_code() {
        Some(wasmi::TrapCode::OutOfFuel) => format!("it took more than {STEPS_MAX} steps"),
        _ => error.to_string(),
    };
    failed(text)
}

fn failed(why: impl std::fmt::Display) -> Error {
    Error::new(
        ErrorKind::BadRequest,
        format!("the function cannot be started while it is built: {why}"),
    )
    .with_hint("what runs before a call may compute and write to the log, and nothing else; do the rest in the handler")
}

#[cfg(test)]
mod tests;
