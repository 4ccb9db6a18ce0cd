//! What is joined holds the same bytes at the same places.

use wasmi::{Engine, Instance, Module, Store};

use super::*;

/// A module with a segment of each text, and what else is given.
fn module(segments: &[(usize, &str)], more: &str) -> Vec<u8> {
    let data: String = segments
        .iter()
        .map(|(at, text)| format!("(data (i32.const {at}) \"{text}\")"))
        .collect();
    wat::parse_str(format!(
        "(module (memory (export \"memory\") 4) {data} {more})"
    ))
    .unwrap()
}

/// A hundred segments of `ab`, so far apart, and one far away.
fn many(apart: usize) -> Vec<(usize, &'static str)> {
    let near = (0..100).map(|number| (1000 + number * apart, "ab"));
    near.chain([(250_000, "far")]).collect()
}

fn count(wasm: &[u8]) -> usize {
    let counts = Parser::new(0)
        .parse_all(wasm)
        .map(|payload| match payload.unwrap() {
            Payload::DataSection(section) => section.count() as usize,
            _ => 0,
        });
    counts.sum()
}

fn memory(module: &[u8]) -> Vec<u8> {
    let engine = Engine::default();
    let module = Module::new(&engine, module).unwrap();
    let mut store = Store::new(&engine, ());
    let instance = Instance::new(&mut store, &module, &[]).unwrap();
    let memory = instance.get_memory(&store, "memory").unwrap();
    memory.data(&store).to_vec()
}

#[test]
fn near_segments_are_joined_and_far_ones_are_not() {
    for (apart, left) in [
        (2, 2),
        (10, 2),
        (1000, 2),
        (GAP_BYTES + 1, 2),
        (GAP_BYTES + 2, 101),
    ] {
        let whole = module(&many(apart), "");
        let joined = join(&whole).unwrap();
        assert_eq!(count(&joined), left, "{apart} apart");
        assert!(memory(&joined) == memory(&whole), "{apart} apart");
    }
}

#[test]
fn segments_out_of_order_and_empty_ones_are_joined() {
    let mut segments = many(10);
    segments.reverse();
    segments.push((5, ""));
    let whole = module(&segments, "");
    let joined = join(&whole).unwrap();
    assert_eq!(count(&joined), 2);
    assert!(memory(&joined) == memory(&whole));
}

#[test]
fn a_module_that_needs_its_segments_keeps_them() {
    let mut overlapping = many(10);
    overlapping.push((1001, "xy"));
    for (segments, more) in [
        (overlapping, ""),
        (many(10), "(data \"passive\")"),
        (many(10), "(func (data.drop 0))"),
        (
            many(10),
            "(global $g i32 (i32.const 9)) (data (global.get $g) \"x\")",
        ),
        (many(10)[..50].to_vec(), ""),
    ] {
        let whole = module(&segments, more);
        assert!(join(&whole).unwrap() == whole, "{more}");
    }
}

#[test]
fn modules_are_joined_at_any_depth_of_a_component() {
    let inner: String = many(10)
        .iter()
        .map(|(at, text)| format!("(data (i32.const {at}) \"{text}\")"))
        .collect();
    let text = format!(
        "(component
            (import \"x\" (func $x))
            (core module $a (memory (export \"m\") 4) {inner})
            (core instance $i (instantiate $a))
            (component (core module (memory 4) {inner}) (type (func)))
            (export \"x\" (func $x)))"
    );
    let whole = wat::parse_str(text).unwrap();
    assert_eq!(count(&whole), 202);
    let joined = join(&whole).unwrap();
    assert_eq!(count(&joined), 4);
    wasmparser::Validator::new().validate_all(&joined).unwrap();
    assert!(
        join(&joined).unwrap() == joined,
        "a second time changes nothing"
    );
}

#[test]
fn spans_are_what_is_not_zero() {
    let mut memory = vec![0; 100_000];
    memory[20] = 1;
    memory[50] = 1;
    memory[90_000] = 1;
    memory[99_999] = 1;
    assert_eq!(spans(&memory), [16..64, 90_000..90_016, 99_984..100_000]);
    assert_eq!(spans(&[0; 4096]), []);
    assert_eq!(spans(&[0, 1]), vec![Range { start: 0, end: 2 }]);
}

#[test]
fn other_files_are_refused() {
    join(b"#!/bin/sh").unwrap_err();
}
