//! Small modules are started, and run again from their snapshot.

use super::*;

/// A module whose start puts a text, counts in a global, and grows the memory.
const STARTS: &str = r#"(module
    (import "wasi_snapshot_preview1" "clock_time_get" (func $clock (param i32 i64 i32) (result i32)))
    (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
    (import "mote:function/request@0.1.1" "id" (func $id (param i32)))
    (memory (export "memory") 1)
    (global $fixed i32 (i32.const 5))
    (global $count (mut i32) (i32.const 1))
    (global $long (mut i64) (i64.const -2))
    (global $double (mut f64) (f64.const 0.5))
    (data (i32.const 100) "old")
    (func $boot (i32.store8 (i32.const 8) (i32.const 7)))
    (start $boot)
    (func (export "first")
        (global.set $count (i32.add (global.get $count) (global.get $fixed)))
        (global.set $double (f64.mul (global.get $double) (f64.const 3)))
        (drop (memory.grow (i32.const 2)))
        (i32.store (i32.const 150000) (i32.const 42))
        (i32.store8 (i32.const 101) (i32.const 0))
        (drop (call $clock (i32.const 1) (i64.const 0) (i32.const 200)))
        (drop (call $random (i32.const 208) (i32.const 8))))
    (func (export "second") (global.set $count (i32.mul (global.get $count) (i32.const 2))))
    (func (export "asks") (call $id (i32.const 0)))
    (func (export "loops") (loop $again (br $again)))
    (func (export "grows") (if (i32.eq (memory.grow (i32.const 60000)) (i32.const -1)) (then (unreachable))))
    (func (export "count") (result i32) (global.get $count))
    (func (export "double") (result f64) (global.get $double)))"#;

#[track_caller]
fn module(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap()
}

/// Runs a module without a start, with nothing to import that works.
struct Run {
    store: Store<system::System>,
    instance: Instance,
}

impl Run {
    fn of(module: &[u8]) -> Self {
        let engine = Engine::default();
        let module = wasmi::Module::new(&engine, module).unwrap();
        let mut store = Store::new(&engine, system::System::new(1 << 20));
        let mut linker = Linker::new(&engine);
        system::define(&module, &mut linker).unwrap();
        let instance = linker.instantiate_and_start(&mut store, &module).unwrap();
        Self { store, instance }
    }

    fn bytes(&self, at: usize, length: usize) -> Vec<u8> {
        let memory = self.instance.get_memory(&self.store, "memory").unwrap();
        memory.data(&self.store)[at..at + length].to_vec()
    }

    fn get<T: wasmi::WasmResults>(&mut self, name: &str) -> T {
        let function = self
            .instance
            .get_typed_func::<(), T>(&self.store, name)
            .unwrap();
        function.call(&mut self.store, ()).unwrap()
    }
}

#[test]
fn memory_and_globals_are_as_the_start_left_them() {
    let taken = take(&module(STARTS), &["first", "second"]).unwrap();
    let mut run = Run::of(&taken);
    assert_eq!(run.get::<i32>("count"), 12);
    assert!((run.get::<f64>("double") - 1.5).abs() < f64::EPSILON);
    assert_eq!(run.bytes(8, 1), [7], "the module's own start");
    assert_eq!(run.bytes(100, 3), *b"o\0d");
    assert_eq!(run.bytes(150_000, 4), [42, 0, 0, 0]);
    assert_eq!(run.bytes(200, 8), 1_u64.to_le_bytes(), "the time");
    assert_ne!(run.bytes(208, 8), [0; 8], "random numbers");
    let exports = |name: &str| run.instance.get_export(&run.store, name).is_some();
    assert!(exports("asks") && !exports("first") && !exports("second"));
    assert!(!exports(MEMORY), "what is exported meanwhile stays inside");
}

#[test]
fn a_library_is_initialised_before() {
    let text = r#"(module
        (memory (export "memory") 1)
        (func (export "_initialize") (i32.store8 (i32.const 8) (i32.const 5)))
        (func (export "first") (i32.store8 (i32.const 9) (i32.add (i32.load8_u (i32.const 8)) (i32.const 1)))))"#;
    let run = Run::of(&take(&module(text), &["first"]).unwrap());
    assert_eq!(run.bytes(8, 2), [5, 6]);
    let export = run.instance.get_export(&run.store, "_initialize");
    assert!(export.is_none(), "it would be called once more");
}

#[test]
fn the_same_start_gives_the_same_bytes() {
    let module = module(STARTS);
    assert!(take(&module, &["first"]).unwrap() == take(&module, &["first"]).unwrap());
}

#[test]
fn a_module_without_data_gets_some() {
    let text = r#"(module
        (memory (export "memory") 1)
        (func (export "first") (i32.store8 (i32.const 70) (i32.const 9))))"#;
    let run = Run::of(&take(&module(text), &["first"]).unwrap());
    assert_eq!(run.bytes(69, 3), [0, 9, 0]);
}

#[test]
fn an_allocator_has_room_before_a_call() {
    // Gives the last block back when it is made smaller, and grows when there is no room.
    let text = r#"(module
        (memory (export "memory") 1)
        (global $next (mut i32) (i32.const 65536))
        (func (export "_initialize") unreachable)
        (func (export "cabi_realloc") (param $old i32) (param $had i32) (param i32) (param $size i32) (result i32)
            (local $block i32)
            (local.set $block (select (local.get $old) (global.get $next) (local.get $had)))
            (global.set $next (i32.add (local.get $block) (local.get $size)))
            (block $fits
                (br_if $fits (i32.le_u (global.get $next) (i32.mul (memory.size) (i32.const 65536))))
                (drop (memory.grow (i32.const 4))))
            (local.get $block))
        (func (export "size") (result i32) (memory.size))
        (func (export "next") (result i32) (global.get $next)))"#;
    let mut run = Run::of(&with_room(&module(text)).unwrap());
    assert_eq!(run.get::<i32>("size"), 5);
    assert_eq!(run.get::<i32>("next"), 65536 + 16);
    let export = run.instance.get_export(&run.store, "_initialize");
    assert!(export.is_some(), "it is for the call");
}

#[track_caller]
fn refused(text: &str, start: &str, why: &str) {
    let error = take(&module(text), &[start]).unwrap_err();
    assert!(error.message().contains(why), "{error}");
}

#[test]
fn a_start_that_does_what_it_may_not_is_named() {
    refused(
        STARTS,
        "asks",
        "it calls `id` of `mote:function/request@0.1.1`",
    );
    refused(STARTS, "third", "does not export `third`");
    refused(STARTS, "grows", "unreachable");
}

#[test]
fn modules_that_cannot_be_taken_are_named() {
    refused(
        r#"(module (import "env" "memory" (memory 1)) (func (export "f")))"#,
        "f",
        "it imports `memory`",
    );
    refused(
        r#"(module (func (export "f")))"#,
        "f",
        "it has 0 memories, not one",
    );
    refused(
        r#"(module (memory 1) (data "x") (func (export "f")))"#,
        "f",
        "passive data segments",
    );
    let error = take(b"#!/bin/sh", &[]).unwrap_err();
    assert!(
        error.message().contains("not a WebAssembly module"),
        "{error}"
    );
}
