//! Guests that want to harm the node or each other. Each fails as a value, within its limits, and
//! the node answers `hello` afterwards.

use std::time::{Duration, Instant};

use mote_tests::guest::{self, MEMORY_AND_REALLOC, answer};
use mote_tests::http::{Connection, Reply};
use mote_tests::node::{Node, Up};
use serde_json::{Value, json};

/// Deploys a guest, calls it once, and checks that the node is well.
#[track_caller]
fn called(wasm: &[u8], spec: &Value) -> (Node, Reply) {
    let mut node = Node::start();
    node.answers_hello();
    node.deploy("hostile", wasm, spec);
    let reply = node.post("/hostile", b"body");
    node.answers_hello();
    assert!(node.is_alive());
    (node, reply)
}

/// A guest whose `handle` is these instructions, beside these other fields.
#[track_caller]
fn handles(fields: &str, code: &str) -> Vec<u8> {
    guest::component(&format!(
        r#"{MEMORY_AND_REALLOC} {fields}
        (func (export "handle") (param $body i32) (param $length i32) (result i32)
            (local $i i32) {code})"#
    ))
}

#[test]
fn a_loop_ends_with_its_cpu_time() {
    let start = Instant::now();
    let (node, reply) = called(&guest::loops(), &json!({"cpu": "200ms"}));
    let detail = reply.problem(504, "timeout");
    assert!(
        detail.contains("200ms") && detail.contains("CPU"),
        "{detail}"
    );
    assert!(reply.json()["hint"].as_str().unwrap().contains("`cpu`"));
    assert!(start.elapsed() < Duration::from_secs(10));
    let labels = ["function=\"hostile\"", "outcome=\"timeout\""];
    assert_eq!(node.metric("mote_calls_total", &labels), 1.0);
}

#[test]
fn others_are_served_while_eight_loop() {
    let node = Up::new().flag("--workers", "2").start();
    node.answers_hello();
    node.deploy(
        "loops",
        &guest::loops(),
        &json!({"cpu": "3s", "timeout": "20s"}),
    );
    let mut looping: Vec<_> = (0..8).map(|_| Connection::open(node.http())).collect();
    for connection in &mut looping {
        connection.request("GET", "/loops", &[], b"");
    }
    mote_tests::eventually::eventually("eight calls run", || {
        node.function("loops")["in_flight"] == 8
    });
    // A median says more than the worst of a busy machine.
    let mut times: Vec<Duration> = (0..21)
        .map(|_| {
            let start = Instant::now();
            node.get("/hello").expect(200);
            start.elapsed()
        })
        .collect();
    times.sort();
    assert_eq!(
        node.function("loops")["in_flight"],
        8,
        "the loops have ended already"
    );
    assert!(times[10] < Duration::from_millis(250), "{times:?}");
    node.ask("GET", "/v1/status", b"").expect(200);
    for connection in &mut looping {
        connection.reply("GET").unwrap().problem(504, "timeout");
    }
    node.answers_hello();
}

#[test]
fn a_loop_in_the_code_that_only_prepares_a_call_ends_too() {
    // In `cabi_realloc`, which the node calls for the body.
    let realloc = guest::component(
        r#"(memory (export "memory") 1)
        (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
            (loop $again (br $again)) unreachable)
        (func (export "handle") (param i32 i32) (result i32) (i32.const 0))"#,
    );
    let (_, reply) = called(&realloc, &json!({"cpu": "200ms"}));
    reply.problem(504, "timeout");
}

#[test]
fn recursion_without_end_is_a_failure() {
    let wasm = handles(
        "(func $deeper (param i32) (result i32) (i32.add (i32.const 1) (call $deeper (local.get 0))))",
        "(call $deeper (i32.const 1))",
    );
    let (_, reply) = called(&wasm, &json!({}));
    let detail = reply.problem(502, "function_failed");
    assert!(detail.contains("stack"), "{detail}");
}

#[test]
fn memory_is_bounded_by_its_limit() {
    // Grows until it is refused, and answers how many MiB it got.
    let grows = handles(
        "",
        &format!(
            "(loop $more
                (if (i32.ne (memory.grow (i32.const 16)) (i32.const -1)) (then
                    (i32.store8 (i32.sub (i32.mul (memory.size) (i32.const 65536)) (i32.const 1)) (i32.const 1))
                    (br $more))))
            (local.set $i (i32.div_u (memory.size) (i32.const 16)))
            (i32.store8 (i32.const 16) (i32.add (i32.const 48) (i32.div_u (local.get $i) (i32.const 10))))
            (i32.store8 (i32.const 17) (i32.add (i32.const 48) (i32.rem_u (local.get $i) (i32.const 10))))
            {}",
            answer(16, 2)
        ),
    );
    let (_, reply) = called(&grows, &json!({"memory": "20MiB"}));
    assert_eq!(
        reply.expect(200).text(),
        "19",
        "one page and 19 MiB fit in 20"
    );
    // One that does not look at what it got.
    let careless = handles(
        "",
        "(loop $more (drop (memory.grow (i32.const 16)))
            (i32.store8 (i32.sub (i32.mul (i32.const 65536) (i32.add (local.get $i) (i32.const 1))) (i32.const 1)) (i32.const 1))
            (local.set $i (i32.add (local.get $i) (i32.const 1)))
            (br $more)) unreachable",
    );
    let (_, reply) = called(&careless, &json!({"memory": "20MiB"}));
    reply.problem(502, "function_failed");
    assert!(
        reply.json()["hint"].as_str().unwrap().contains("`memory`"),
        "{reply:?}"
    );
}

#[test]
fn a_first_memory_over_the_limit_is_a_failure() {
    let large = guest::component(
        r#"(memory (export "memory") 1600)
        (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 0))
        (func (export "handle") (param i32 i32) (result i32) (i32.const 0))"#,
    );
    let mut node = Node::start();
    node.answers_hello();
    let deployed = node.try_deploy("hostile", &large, &json!({"memory": "1MiB"}));
    if deployed.status < 300 {
        let reply = node.get("/hostile");
        reply.problem(502, "function_failed");
        assert!(
            reply.json()["hint"].as_str().unwrap().contains("`memory`"),
            "{reply:?}"
        );
    } else {
        deployed.problem(400, "bad_request");
    }
    node.answers_hello();
    assert!(node.is_alive());
}

/// The limit is for all memories of a call together, those of other modules in it included.
#[test]
fn several_memories_share_one_limit() {
    let modules: String = (0..4)
        .map(|n| {
            format!(
                r#"(core module $m{n} (memory (export "memory") 1)
                    (func (export "grow") (result i32) (memory.grow (i32.const 160))))
                (core instance $m{n} (instantiate $m{n}))
                "#
            )
        })
        .collect();
    let imports: String = (0..4)
        .map(|n| format!(r#"(import "m{n}" "grow" (func $grow{n} (result i32)))"#))
        .collect();
    let with: String = (0..4)
        .map(|n| format!(r#"(with "m{n}" (instance $m{n}))"#))
        .collect();
    // Counts how many of four memories could grow by 10 MiB.
    let count: String = (0..4)
        .map(|n| {
            format!(
                "(local.set $i (i32.add (local.get $i) (i32.ne (call $grow{n}) (i32.const -1))))"
            )
        })
        .collect();
    let text = format!(
        r#"(component {modules}
        (core module $guest {imports} {MEMORY_AND_REALLOC}
            (func (export "handle") (param i32 i32) (result i32) (local $i i32)
                {count}
                (i32.store8 (i32.const 16) (i32.add (i32.const 48) (local.get $i)))
                {}))
        (core instance $guest (instantiate $guest {with}))
        (func $handle (param "body" (list u8)) (result (result (list u8) (error string)))
            (canon lift (core func $guest "handle")
                (memory (core memory $guest "memory")) (realloc (core func $guest "cabi_realloc"))))
        (export "handle" (func $handle)))"#,
        answer(16, 1)
    );
    let wasm = guest::parse(&text);
    let (_, reply) = called(&wasm, &json!({"memory": "25MiB"}));
    assert_eq!(reply.expect(200).text(), "2", "two times 10 MiB fit in 25");
}

#[test]
fn tables_are_bounded() {
    let wasm = handles(
        "(table $t 1 funcref)",
        &format!(
            "(local.set $i (table.grow $t (ref.null func) (i32.const 90000)))
            (i32.store8 (i32.const 16) (i32.add (i32.const 48) (i32.ne (local.get $i) (i32.const -1))))
            (local.set $i (table.grow $t (ref.null func) (i32.const 90000)))
            (i32.store8 (i32.const 17) (i32.add (i32.const 48) (i32.ne (local.get $i) (i32.const -1))))
            {}",
            answer(16, 2)
        ),
    );
    let (_, reply) = called(&wasm, &json!({"table": 100_000}));
    assert_eq!(reply.expect(200).text(), "10");
}

#[test]
fn traps_are_failures() {
    for (what, code) in [
        ("unreachable", "unreachable"),
        ("divide", "(i32.div_u (i32.const 1) (local.get $i))"),
        ("out of bounds", "(i32.load (i32.const -4))"),
        ("indirect", "(call_indirect $t (result i32) (i32.const 0))"),
    ] {
        let (_, reply) = called(&handles("(table $t 1 funcref)", code), &json!({}));
        let detail = reply.problem(502, "function_failed");
        assert!(
            !detail.contains('\n') && detail.len() < 600,
            "{what}: {detail}"
        );
    }
}

#[test]
fn a_gigabyte_of_log_is_bounded() {
    // 64 MiB of lines for as long as it takes, in texts of 16 KiB.
    let code = format!(
        r#"(func (export "handle") (param i32 i32) (result i32) (local $i i32)
            (memory.fill (i32.const 1024) (i32.const 120) (i32.const 16384))
            (local.set $i (i32.const 65536))
            (loop $more
                (call $log (i32.const 2) (i32.const 1024) (i32.const 16384))
                (local.set $i (i32.sub (local.get $i) (i32.const 1)))
                (br_if $more (local.get $i)))
            {})"#,
        answer(16, 2)
    );
    let spec = json!({"cpu": "30s", "timeout": "60s", "log": "64KiB"});
    let (node, reply) = called(&guest::component_of_world(&code), &spec);
    assert_eq!(reply.expect(200).body, [0, 0], "the reply does not suffer");
    let log = node
        .ask("GET", "/v1/functions/hostile/logs", b"")
        .expect(200);
    assert!(
        log.body.len() < 200_000,
        "{} bytes are kept",
        log.body.len()
    );
    assert!(log.text().contains("xxx"), "the start of it is kept");
    assert!(node.memory_kib("VmRSS") < 200_000);
}

#[test]
fn log_lines_cannot_forge_others() {
    let code = format!(
        r#"(data (i32.const 1024) "one\0atwo\0d\0athree \1b[31mred\00 {{\22level\22:\22error\22}}")
        (func (export "handle") (param i32 i32) (result i32)
            (call $log (i32.const 2) (i32.const 1024) (i32.const 45))
            {})"#,
        answer(16, 0)
    );
    let (node, _) = called(&guest::component_of_world(&code), &json!({}));
    let text = node
        .ask("GET", "/v1/functions/hostile/logs", b"")
        .expect(200)
        .text();
    let lines: Vec<Value> = text
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    assert_eq!(lines.len(), 3, "{text}");
    assert!(lines.iter().all(|line| line["level"] == "info"), "{text}");
    // A terminal gets no control characters.
    let shown = node.mote(&["logs", "hostile"]).ok();
    assert!(
        !shown.contains('\x1b') && !shown.contains('\0'),
        "{shown:?}"
    );
}

#[test]
fn garbage_for_an_answer_is_a_failure() {
    for (what, result) in [
        ("a pointer out of bounds", "(i32.const -8)"),
        ("a pointer that is not aligned", "(i32.const 3)"),
        ("a list out of bounds", "(i64.store (i32.const 4) (i64.const 0x10_7ffffff0)) (i32.const 0)"),
        ("a huge list", "(i64.store (i32.const 4) (i64.const 0xffffffff_00000000)) (i32.const 0)"),
        ("an unknown case", "(i32.store (i32.const 0) (i32.const 7)) (i32.const 0)"),
        (
            "an error that is no text",
            "(i32.store (i32.const 0) (i32.const 1)) (i32.store (i32.const 4) (i32.const 64)) (i32.store (i32.const 8) (i32.const 2))
            (i32.store16 (i32.const 64) (i32.const 0xfffe)) (i32.const 0)",
        ),
    ] {
        let (_, reply) = called(&handles("", result), &json!({}));
        assert_eq!(reply.status, 502, "{what}: {}", reply.text());
        reply.problem(502, "function_failed");
    }
}

#[test]
fn a_realloc_that_lies_is_a_failure() {
    for pointer in ["-1", "-8", "2147483640", "65535"] {
        let wasm = guest::component(&format!(
            r#"(memory (export "memory") 1)
            (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const {pointer}))
            (func (export "handle") (param i32 i32) (result i32) (i32.const 0))"#
        ));
        let (_, reply) = called(&wasm, &json!({}));
        reply.problem(502, "function_failed");
    }
}

#[test]
fn a_reply_over_the_limit_is_a_failure() {
    for (what, case) in [("ok", 0), ("err", 1)] {
        let wasm = handles(
            "",
            &format!(
                "(drop (memory.grow (i32.const 100)))
                (memory.fill (i32.const 1024) (i32.const 120) (i32.const 5000000))
                (i32.store (i32.const 0) (i32.const {case}))
                (i32.store (i32.const 4) (i32.const 1024))
                (i32.store (i32.const 8) (i32.const 5000000))
                (i32.const 0)"
            ),
        );
        let (_, reply) = called(&wasm, &json!({"body": "1MiB"}));
        assert!(
            reply.body.len() <= 1 << 20,
            "{what}: {} bytes came",
            reply.body.len()
        );
        assert!(
            matches!(reply.status, 500 | 502),
            "{what}: {}",
            reply.status
        );
    }
}

#[test]
fn statuses_and_headers_that_are_none_are_failures() {
    for status in ["0", "99", "100", "101", "199", "600", "9999", "65535"] {
        let code = format!(
            r#"(func (export "handle") (param i32 i32) (result i32)
                (call $set_status (i32.const {status})) {})"#,
            answer(16, 0)
        );
        let (_, reply) = called(&guest::component_of_world(&code), &json!({}));
        let detail = reply.problem(502, "function_failed");
        assert!(detail.contains(status), "{detail}");
    }
    for (name, value) in [
        ("", "x"),
        ("a b", "x"),
        ("x\\0d\\0ay", "x"),
        ("x", "y\\0d\\0aset-cookie: z"),
        ("x", "\\00"),
        ("content-length", "5"),
        ("transfer-encoding", "chunked"),
        ("connection", "close"),
    ] {
        let long = |text: &str| text.len() - 2 * text.matches('\\').count();
        let code = format!(
            r#"(data (i32.const 1024) "{name}") (data (i32.const 2048) "{value}")
            (func (export "handle") (param i32 i32) (result i32)
                (call $set_header (i32.const 1024) (i32.const {}) (i32.const 2048) (i32.const {})) {})"#,
            long(name),
            long(value),
            answer(16, 0)
        );
        let (_, reply) = called(&guest::component_of_world(&code), &json!({}));
        reply.problem(502, "function_failed");
    }
}

/// Headers are kept by the node and not in the guest's memory, so they need a bound of their own.
#[test]
fn headers_without_end_are_bounded() {
    let code = format!(
        r#"(data (i32.const 1024) "x-more")
        (func (export "handle") (param i32 i32) (result i32) (local $i i32)
            (memory.fill (i32.const 2048) (i32.const 121) (i32.const 20000))
            (local.set $i (i32.const 30000))
            (loop $more
                (call $set_header (i32.const 1024) (i32.const 6) (i32.const 2048) (i32.const 20000))
                (local.set $i (i32.sub (local.get $i) (i32.const 1)))
                (br_if $more (local.get $i)))
            {})"#,
        answer(16, 0)
    );
    let (node, reply) = called(
        &guest::component_of_world(&code),
        &json!({"cpu": "20s", "timeout": "30s"}),
    );
    let peak = node.memory_kib("VmHWM");
    assert!(peak < 300_000, "the node needed {peak} KiB");
    reply.problem(502, "function_failed");
}

/// So do the header fields of `wasi:http`: those of one set, the sets that are held at once, and what
/// is copied on the way, where a list may name the same bytes ever again. Without a bound each of
/// these would take 600 MB.
#[test]
fn fields_of_wasi_http_without_end_are_bounded() {
    let new = "(local.set $one (call $fields))";
    let append = "(call $append (local.get $one) (i32.const 16) (i32.const 6)
        (i32.const 2048) (i32.const 20000) (i32.const 64))";
    let repeat = |count: u32, code: &str| {
        format!(
            "(loop $more
                {code}
                (local.set $i (i32.add (local.get $i) (i32.const 1)))
                (br_if $more (i32.lt_u (local.get $i) (i32.const {count}))))"
        )
    };
    let values = format!("{new} {}", repeat(30_000, append));
    let sets = repeat(30_000, &format!("{new} {append}"));
    // A list in the third page and the next, each value of which is the whole first page.
    let list = repeat(
        10_000,
        "(i32.store offset=131076 (i32.shl (local.get $i) (i32.const 3)) (i32.const 65536))",
    );
    let copies = format!(
        "(drop (memory.grow (i32.const 3))) {list} {new}
        (call $set (local.get $one) (i32.const 16) (i32.const 6)
            (i32.const 131072) (i32.const 10000) (i32.const 65536))"
    );

    // One worker: what is freed stays with the thread, and a machine may have many.
    let mut node = Up::new().flag("--workers", "1").start();
    node.answers_hello();
    let spec = json!({"memory": "1MiB", "cpu": "20s", "timeout": "30s"});
    for (name, code, said) in [
        ("values", values, "size of fields exceeds limit"),
        ("sets", sets, "resource table"),
        ("copies", copies, "fuel"),
    ] {
        let fill = "(memory.fill (i32.const 0) (i32.const 120) (i32.const 65536))";
        let wasm = guest::http::builds_fields(&format!("{fill} {code}"));
        node.deploy(name, &wasm, &spec);
        let before = node.memory_kib("VmHWM");
        for _ in 0..5 {
            let reply = node.get(&format!("/{name}"));
            let detail = reply.problem(502, "function_failed");
            assert!(detail.contains(said), "{name}: {detail}");
        }
        let grown = node.memory_kib("VmHWM") - before;
        assert!(grown < 300_000, "{name}: the node needed {grown} KiB more");
        node.answers_hello();
        assert!(node.is_alive());
    }
}

/// A memory of one call is never seen by another.
#[test]
fn nothing_is_left_of_a_call() {
    // Answers what it finds at 1024, and leaves a secret there.
    let wasm = handles(
        "(data (i32.const 2048) \"secret\") (global $calls (mut i32) (i32.const 0))",
        &format!(
            "(memory.copy (i32.const 16) (i32.const 1024) (i32.const 6))
            (i32.store8 (i32.const 22) (global.get $calls))
            (memory.copy (i32.const 1024) (i32.const 2048) (i32.const 6))
            (global.set $calls (i32.const 1))
            {}",
            answer(16, 7)
        ),
    );
    let node = Node::start();
    node.deploy("secret", &wasm, &json!({}));
    for _ in 0..200 {
        assert_eq!(node.get("/secret").expect(200).body, [0; 7]);
    }
    // With `reuse` the same memory serves again, as it says.
    node.deploy("secret", &wasm, &json!({"reuse": 1000}));
    let reused = (0..200).filter(|_| node.get("/secret").body.starts_with(b"secret"));
    assert!(reused.count() > 0);
}

/// Memories come from a pool that functions share; no function may empty it.
#[test]
fn a_crowd_of_memories_takes_none_from_others() {
    let memories: String = (0..15)
        .map(|n| format!(r#"(core module $m{n} (memory (export "memory") 1)) (core instance $m{n} (instantiate $m{n}))"#))
        .collect();
    let wasm = guest::parse(&format!(
        r#"(component {memories}
        (core module $guest {MEMORY_AND_REALLOC}
            (func (export "handle") (param i32 i32) (result i32) (loop $again (br $again)) unreachable))
        (core instance $guest (instantiate $guest))
        (func $handle (param "body" (list u8)) (result (result (list u8) (error string)))
            (canon lift (core func $guest "handle")
                (memory (core memory $guest "memory")) (realloc (core func $guest "cabi_realloc"))))
        (export "handle" (func $handle)))"#
    ));
    let node = Up::new().flag("--workers", "1").start();
    node.answers_hello();
    let spec = json!({"cpu": "30s", "timeout": "30s", "concurrency": 200});
    // It may be refused for its many memories; if it is not, its calls may fail for want of them.
    let deployed = node.try_deploy("hoards", &wasm, &spec);
    let mut calls: Vec<_> = (0..120).map(|_| Connection::open(node.http())).collect();
    let mut begin = |range: std::ops::Range<usize>, target: &str| {
        let before =
            node.metric("mote_calls_total", &[]) + node.metric("mote_calls_in_flight", &[]);
        let count = range.len() as f64;
        for call in &mut calls[range] {
            call.request("GET", target, &[], b"");
        }
        mote_tests::eventually::eventually("all calls came in", || {
            let now =
                node.metric("mote_calls_total", &[]) + node.metric("mote_calls_in_flight", &[]);
            now >= before + count
        });
    };
    if deployed.status < 300 {
        begin(0..100, "/hoards");
    }
    // These take what is left over between.
    node.deploy("loops", &guest::loops(), &spec);
    begin(100..120, "/loops");
    node.get("/hello").expect(200);
}
