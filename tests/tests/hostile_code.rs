//! Code that wants to harm the node before it is ever called: when it is compiled, linked or
//! started. Each is refused, or ends within its limits, and the node answers `hello` afterwards.

#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::thread;
use std::time::{Duration, Instant};

use mote_tests::guest::{self, MEMORY_AND_REALLOC, answer};
use mote_tests::node::{Node, Up};
use serde_json::json;

#[test]
fn what_was_not_granted_cannot_be_imported() {
    let node = Node::start();
    node.answers_hello();
    for (import, interface) in [
        (
            r#"(import "wasi:sockets/tcp@0.2.0" (instance (export "start" (func))))"#,
            "wasi:sockets/tcp",
        ),
        (
            r#"(import "evil:corp/backdoor@1.0.0" (instance (export "open" (func))))"#,
            "evil:corp/backdoor",
        ),
        (r#"(import "open-the-door" (func))"#, "open-the-door"),
        (
            r#"(import "mote:function/request@0.1.0" (instance (export "secrets" (func (result string)))))"#,
            "secrets",
        ),
        (
            r#"(import "mote:function/request@0.1.0" (instance (export "method" (func (result u32)))))"#,
            "method",
        ),
    ] {
        let wasm = guest::parse(&format!(
            r#"(component {import}
            (core module $guest {MEMORY_AND_REALLOC}
                (func (export "handle") (param i32 i32) (result i32) (i32.const 0)))
            (core instance $guest (instantiate $guest))
            (func $handle (param "body" (list u8)) (result (result (list u8) (error string)))
                (canon lift (core func $guest "handle")
                    (memory (core memory $guest "memory")) (realloc (core func $guest "cabi_realloc"))))
            (export "handle" (func $handle)))"#
        ));
        let reply = node.try_deploy("hostile", &wasm, &json!({}));
        assert!(
            matches!(reply.status, 400 | 415),
            "{interface}: {}",
            reply.text()
        );
        let said = reply.text();
        assert!(said.contains(interface), "{interface} is not named: {said}");
    }
    assert_eq!(node.functions(), ["hello"]);
}

#[test]
fn what_is_no_function_is_refused() {
    let node = Node::start();
    node.answers_hello();
    let wasm = |text: &str| guest::parse(text);
    for (what, bytes) in [
        ("an empty component", wasm("(component)")),
        ("an empty module", wasm("(module)")),
        (
            "a module with a function",
            wasm(r#"(module (func (export "handle")))"#),
        ),
        (
            "another type",
            wasm(
                r#"(component
                (core module $m (func (export "handle") (param i32) (result i32) local.get 0))
                (core instance $m (instantiate $m))
                (func $h (param "n" u32) (result u32) (canon lift (core func $m "handle")))
                (export "handle" (func $h)))"#,
            ),
        ),
        ("text", b"hello, world".to_vec()),
        ("a script", b"#!/bin/sh\nrm -rf /\n".to_vec()),
        ("four zeros", vec![0; 4]),
        ("the text format", b"(module)".to_vec()),
        ("only a header", b"\0asm\x0d\0\x01\0".to_vec()),
        ("a header of another version", b"\0asm\x0e\0\x01\0".to_vec()),
        ("a compressed file", b"\x1f\x8b\x08\0\0\0\0\0".to_vec()),
    ] {
        let reply = node.try_deploy("hostile", &bytes, &json!({}));
        assert!(
            matches!(reply.status, 400 | 415),
            "{what}: {}",
            reply.text()
        );
        let detail = reply.json()["detail"].as_str().unwrap().to_owned();
        assert!(
            !detail.is_empty() && !detail.contains('\n'),
            "{what}: {detail}"
        );
    }
    assert_eq!(node.functions(), ["hello"]);
    node.answers_hello();
}

#[test]
fn a_start_function_that_loops_harms_nobody() {
    let wasm = guest::component(&format!(
        r#"{MEMORY_AND_REALLOC} (func $start (loop $again (br $again))) (start $start)
        (func (export "handle") (param i32 i32) (result i32) {})"#,
        answer(16, 0)
    ));
    let node = Node::start();
    node.answers_hello();
    let start = Instant::now();
    let reply = node.try_deploy("hostile", &wasm, &json!({"cpu": "200ms"}));
    assert!(matches!(reply.status, 400 | 502 | 504), "{}", reply.text());
    assert!(start.elapsed() < Duration::from_secs(20));
    assert_eq!(node.functions(), ["hello"]);
    node.answers_hello();
}

#[test]
fn damaged_code_is_refused() {
    let mut node = Node::start();
    node.answers_hello();
    let whole = mote_tests::deploy::example("light");
    for length in (0..whole.len()).step_by(100) {
        let reply = node.try_deploy("hostile", &whole[..length], &json!({}));
        assert!(
            matches!(reply.status, 400 | 415),
            "cut at {length}: {}",
            reply.text()
        );
    }
    // Random changes may leave it valid; then it may do anything but harm.
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    for round in 0..60 {
        let mut bytes = whole.clone();
        for _ in 0..random.usize(1..8) {
            let at = random.usize(8..bytes.len());
            bytes[at] = random.u8(..);
        }
        let reply = node.try_deploy("damaged", &bytes, &json!({"cpu": "100ms"}));
        assert!(
            matches!(reply.status, 200 | 201 | 400 | 415 | 502 | 504),
            "round {round}, seed {seed}: {}",
            reply.text()
        );
        if reply.status < 300 {
            node.post("/damaged", b"on");
        }
    }
    for length in [1, 8, 9, 100, 10_000, 1_000_000] {
        let mut bytes: Vec<u8> = (0..length).map(|_| random.u8(..)).collect();
        let reply = node.try_deploy("hostile", &bytes, &json!({}));
        assert!(
            matches!(reply.status, 400 | 415),
            "{length}, seed {seed}: {}",
            reply.text()
        );
        // The same behind a header, so that a parser reads it.
        for header in [*b"\0asm\x0d\0\x01\0", *b"\0asm\x01\0\0\0"] {
            if let Some(start) = bytes.get_mut(..8) {
                start.copy_from_slice(&header);
                let reply = node.try_deploy("hostile", &bytes, &json!({}));
                assert!(
                    matches!(reply.status, 400 | 415),
                    "{length}, seed {seed}: {}",
                    reply.text()
                );
            }
        }
    }
    assert!(!node.functions().contains(&"hostile".to_owned()));
    node.answers_hello();
    assert!(node.is_alive());
}

/// A core module with this many functions of one byte each, in a component: text would take long.
fn with_functions(count: u32) -> Vec<u8> {
    fn number(mut value: u32, to: &mut Vec<u8>) {
        loop {
            let byte = (value & 0x7f) as u8;
            value >>= 7;
            to.push(if value == 0 { byte } else { byte | 0x80 });
            if value == 0 {
                return;
            }
        }
    }
    let section = |id: u8, content: &[u8]| {
        let mut bytes = vec![id];
        number(u32::try_from(content.len()).unwrap(), &mut bytes);
        bytes.extend_from_slice(content);
        bytes
    };
    let mut module = b"\0asm\x01\0\0\0".to_vec();
    module.extend(section(1, &[1, 0x60, 0, 0]));
    let mut functions = Vec::new();
    number(count, &mut functions);
    functions.extend(vec![0; count as usize]);
    module.extend(section(3, &functions));
    let mut bodies = Vec::new();
    number(count, &mut bodies);
    (0..count).for_each(|_| bodies.extend([2, 0, 0x0b]));
    module.extend(section(10, &bodies));
    let mut component = b"\0asm\x0d\0\x01\0".to_vec();
    component.extend(section(1, &module));
    component
}

#[test]
fn a_bomb_for_the_compiler_ends_within_its_limits() {
    let mut node = Up::new()
        .flag("--compile-memory-bytes", "512MiB")
        .flag("--compile-cpu", "5s")
        .flag("--compile-timeout", "30s")
        .start();
    node.answers_hello();
    let bomb = with_functions(1_000_000);
    let start = Instant::now();
    let others = thread::scope(|scope| {
        let deploy = scope.spawn(|| node.try_deploy("hostile", &bomb, &json!({})));
        let mut calls = 0;
        while !deploy.is_finished() {
            node.get("/hello").expect(200);
            calls += 1;
        }
        let reply = deploy.join().unwrap();
        // It is no function, so it is refused even if it compiles.
        assert_eq!(reply.status, 400, "{}", reply.text());
        calls
    });
    assert!(others > 0, "nobody was served meanwhile");
    assert!(start.elapsed() < Duration::from_secs(40));
    // One function that is hard to compile: 200,000 nested blocks.
    let deep = format!(
        "(module (func {} {}))",
        "block ".repeat(200_000),
        "end ".repeat(200_000)
    );
    if let Ok(bytes) = std::panic::catch_unwind(|| guest::parse(&deep)) {
        let reply = node.try_deploy("hostile", &bytes, &json!({}));
        assert!(matches!(reply.status, 400 | 415), "{}", reply.text());
    }
    assert_eq!(node.functions(), ["hello"]);
    node.answers_hello();
    assert!(node.is_alive());
    assert!(
        node.memory_kib("VmHWM") < 400_000,
        "the node compiled by itself"
    );
}
