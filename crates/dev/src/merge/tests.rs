//! What is merged says and does the same, and what cannot be merged stays as it is.

mod run;

use proptest::prelude::*;

use super::*;

/// Two libraries with the memory, the table and the addresses of a main module, as wit-component links them: host
/// functions that need the memory come through a shim and a fix-up.
const LINKED: &str = r#"(component
    (import "host" (instance $host
        (export "tick" (func (param "n" u32) (result u32)))
        (export "say" (func (param "text" string)))
        (export "give" (func (result string)))
        (export "never" (func (param "text" string)))))
    (core module $main
        (type $say (func (param i32 i32)))
        (import "shim" "0" (func $say (type $say)))
        (memory (export "memory") 2)
        (table (export "table") 8 funcref)
        (global (export "stack") (mut i32) (i32.const 4096))
        (global (export "a:memory_base") i32 (i32.const 1024))
        (global (export "a:table_base") i32 (i32.const 1))
        (global (export "b:memory_base") i32 (i32.const 2048))
        (global (export "b:table_base") i32 (i32.const 3))
        (global (export "b:datum") (mut i32) (i32.const 2052))
        (func (export "realloc") (param i32 i32 i32 i32) (result i32)
            (call $say (i32.const 1024) (i32.const 1)) (i32.const 3000))
        (func (export "twice") (param i32) (result i32)
            (call_indirect (param i32) (result i32) (local.get 0) (i32.const 7)))
        (data (i32.const 1024) "main")
        (data (i32.const 2052) "datum"))
    (core module $a
        (import "env" "memory" (memory 1))
        (import "env" "table" (table 3 funcref))
        (import "env" "stack" (global $stack (mut i32)))
        (import "env" "memory_base" (global $memory i32))
        (import "env" "table_base" (global $table i32))
        (import "GOT" "datum" (global $datum (mut i32)))
        (import "env" "twice" (func $twice (param i32) (result i32)))
        (import "env" "tick" (func $tick (param i32) (result i32)))
        (import "env" "drop" (func $drop (param i32)))
        (import "env" "say" (func $say (param i32 i32)))
        (import "env" "give" (func $give (param i32)))
        (import "env" "never" (func $never (param i32 i32)))
        (type $one (func (param i32) (result i32)))
        (elem (global.get $table) func $first $second)
        (data (i32.const 1028) "a")
        (func $first (param i32) (result i32) (i32.add (local.get 0) (global.get $memory)))
        (func $second (param i32) (result i32) (call $tick (local.get 0)))
        (export "tick" (func $tick))
        (func (export "unused") (call $never (i32.const 0) (i32.const 0)))
        (func (export "sum") (param i32) (result i32)
            (global.set $stack (i32.sub (global.get $stack) (i32.const 16)))
            (i32.store (global.get $stack) (i32.load (global.get $datum)))
            (call $say (global.get $stack) (i32.const 4))
            (call $give (global.get $stack))
            (call $drop (i32.const 9))
            (i32.add
                (call $twice (call_indirect (type $one) (local.get 0) (global.get $table)))
                (call_indirect (type $one) (global.get $stack) (i32.add (global.get $table) (i32.const 1))))))
    (core module $b
        (import "env" "memory" (memory 1))
        (import "env" "table" (table 1 funcref))
        (import "env" "memory_base" (global $memory i32))
        (import "env" "table_base" (global $table i32))
        (import "a" "sum" (func $sum (param i32) (result i32)))
        (type $one (func (param i32) (result i32)))
        (elem (table 0) (offset (i32.add (global.get $table) (i32.const 1))) funcref (ref.func $double) (ref.null func))
        (elem $later func $double)
        (data $text "later")
        (func $double (param i32) (result i32) (i32.mul (local.get 0) (i32.const 2)))
        (func (export "sum") (param i32) (result i32) (call $sum (local.get 0)))
        (func (export "copy") (param i32) (result i32)
            (memory.init $text (i32.const 100) (i32.const 0) (i32.const 5))
            (table.init 0 $later (i32.const 5) (i32.const 0) (i32.const 1))
            (call_indirect (type $one) (i32.load (i32.const 100)) (i32.const 5)))
        (func (export "traps") (param i32) (result i32)
            (call_indirect (type $one) (local.get 0) (i32.const 0))))
    (core module $init
        (import "env" "table" (table 8 funcref))
        (import "b" "double" (func $double (param i32) (result i32)))
        (elem (i32.const 7) func $double))
    (core module $doubles
        (func (export "double") (param i32) (result i32) (i32.shl (local.get 0) (i32.const 1))))
    (core module $shim
        (type $say (func (param i32 i32)))
        (type $give (func (param i32)))
        (table (export "$imports") 3 3 funcref)
        (func (export "0") (type $say) local.get 0 local.get 1 i32.const 0 call_indirect (type $say))
        (func (export "1") (type $give) local.get 0 i32.const 1 call_indirect (type $give))
        (func (export "2") (type $say) local.get 0 local.get 1 i32.const 2 call_indirect (type $say)))
    (core module $fixup
        (import "" "0" (func (param i32 i32)))
        (import "" "1" (func (param i32)))
        (import "" "2" (func (param i32 i32)))
        (import "" "$imports" (table 3 3 funcref))
        (elem (i32.const 0) func 0 1 2))
    (core instance $shim (instantiate $shim))
    (core instance $main (instantiate $main (with "shim" (instance $shim))))
    (core func $tick (canon lower (func $host "tick")))
    (type $thing (resource (rep i32)))
    (core func $drop (canon resource.drop $thing))
    (core instance $a-env
        (export "memory" (memory $main "memory"))
        (export "table" (table $main "table"))
        (export "stack" (global $main "stack"))
        (export "memory_base" (global $main "a:memory_base"))
        (export "table_base" (global $main "a:table_base"))
        (export "twice" (func $main "twice"))
        (export "tick" (func $tick))
        (export "drop" (func $drop))
        (export "say" (func $shim "0"))
        (export "give" (func $shim "1"))
        (export "never" (func $shim "2")))
    (core instance $got (export "datum" (global $main "b:datum")))
    (core instance $a (instantiate $a (with "env" (instance $a-env)) (with "GOT" (instance $got))))
    (core instance $b-env
        (export "memory" (memory $main "memory"))
        (export "table" (table $main "table"))
        (export "memory_base" (global $main "b:memory_base"))
        (export "table_base" (global $main "b:table_base")))
    (core instance $b (instantiate $b (with "env" (instance $b-env)) (with "a" (instance $a))))
    (alias core export $main "memory" (core memory $memory))
    (alias core export $main "realloc" (core func $realloc))
    (core func $say (canon lower (func $host "say") (memory $memory)))
    (core func $give (canon lower (func $host "give") (memory $memory) (realloc $realloc)))
    (core func $never (canon lower (func $host "never") (memory $memory)))
    (core instance $late
        (export "0" (func $say)) (export "1" (func $give)) (export "2" (func $never))
        (export "$imports" (table $shim "$imports")))
    (core instance (instantiate $fixup (with "" (instance $late))))
    (core instance $doubles (instantiate $doubles))
    (core instance (instantiate $init (with "env" (instance $main)) (with "b" (instance $doubles))))
    (func (export "sum") (param "n" u32) (result u32) (canon lift (core func $b "sum") (memory $memory)))
    (func (export "copy") (param "n" u32) (result u32) (canon lift (core func $b "copy") (memory $memory)))
    (func (export "traps") (param "n" u32) (result u32) (canon lift (core func $b "traps")))
    (func (export "tick") (param "n" u32) (result u32) (canon lift (core func $tick)))
    (func (export "again") (param "n" u32) (result u32) (canon lift (core func $a "tick"))))"#;

/// Nothing but two modules, with places for what makes merging impossible.
fn two(first: &str, second: &str, outer: &str) -> String {
    format!(
        "(component
            (core module $a
                (memory (export \"m\") 1) (table (export \"t\") 2 funcref)
                (global (export \"g\") i32 (i32.const 1))
                (func (export \"f\")) {first})
            (core module $b
                (import \"a\" \"m\" (memory 1)) (import \"a\" \"t\" (table 2 funcref))
                (import \"a\" \"g\" (global $g i32)) (import \"a\" \"f\" (func $f))
                (func (export \"f\") (call $f)) {second})
            (core instance $a (instantiate $a))
            {outer}
            (core instance $b (instantiate $b (with \"a\" (instance $a))))
            (alias core export $a \"m\" (core memory $m))
            (func (export \"f\") (canon lift (core func $b \"f\") (memory $m))))"
    )
}

#[track_caller]
fn check(text: &str) -> Vec<u8> {
    let whole = wat::parse_str(text).unwrap();
    let merged = merge(&whole).into_owned();
    assert!(merged != whole, "is merged");
    assert!(merge(&whole) == merged, "always the same");
    assert_eq!(run::run(&merged), run::run(&whole));
    merged
}

#[track_caller]
fn stays(text: &str) {
    let whole = wat::parse_str(text).unwrap();
    assert!(is_valid(&whole), "{text}");
    assert!(merge(&whole) == whole, "{text}");
}

fn modules(component: &[u8]) -> Vec<module::Module<'_>> {
    let outer = Outer::read(component).unwrap();
    let modules = outer.modules.iter();
    modules
        .map(|module| module::Module::read(module).unwrap())
        .collect()
}

#[test]
fn linked_modules_are_one_and_do_the_same() {
    let merged = check(LINKED);
    let modules = modules(&merged);
    assert_eq!(modules.len(), 2, "the module, and what fills its imports");
    let module = &modules[0];
    let imports = module.imports.each_ref().map(Vec::len);
    assert_eq!(imports, [2, 0, 0, 0], "two functions, made before");
    assert_eq!(module.tables.len(), 2, "that of the shim is gone");
    assert_eq!(module.globals.len(), 1, "the others are constants");
    assert!(!module.data.is_empty());
    for element in &module.elements {
        if let wasmparser::ElementKind::Active { offset_expr, .. } = &element.kind {
            let first = offset_expr.get_operators_reader().read().unwrap();
            assert!(matches!(first, wasmparser::Operator::I32Const { .. }));
        }
    }
    let late = modules[1].imports[module::Kind::Function as usize].len();
    assert_eq!(late, 2, "nobody can reach the third");
}

/// A module with functions that only call what stands in its tables, and another that fills one of them.
const FORWARDS: &str = r#"(component
    (core module $a
        (type $one (func (param i32) (result i32)))
        (table (export "t") 6 funcref) (table $changed 1 funcref)
        (func $ten (type $one) (i32.add (local.get 0) (i32.const 10)))
        (func $twenty (type $one) (i32.add (local.get 0) (i32.const 20)))
        (func $other)
        (elem (i32.const 1) func $ten $ten)
        (elem (i32.const 4) func $other)
        (elem (table $changed) (i32.const 0) func $ten)
        (elem declare func $twenty)
        (func (export "1") (type $one) local.get 0 i32.const 1 call_indirect (type $one))
        (func (export "2") (type $one) local.get 0 i32.const 2 call_indirect (type $one))
        (func (export "nothing") (type $one) local.get 0 i32.const 3 call_indirect (type $one))
        (func (export "another type") (type $one) local.get 0 i32.const 4 call_indirect (type $one))
        (func (export "outside") (type $one) local.get 0 i32.const 6 call_indirect (type $one))
        (func (export "changed") (type $one) local.get 0 i32.const 0 call_indirect $changed (type $one))
        (func (export "change") (type $one)
            (table.set $changed (i32.const 0) (ref.func $twenty)) (local.get 0)))
    (core module $b
        (import "a" "t" (table 4 funcref))
        (import "a" "1" (func $to1 (param i32) (result i32)))
        (func $thirty (param i32) (result i32) (i32.add (local.get 0) (i32.const 30)))
        (elem (i32.const 2) func $thirty)
        (func (export "1") (param i32) (result i32) (call $to1 (local.get 0))))
    (core instance $a (instantiate $a))
    (core instance $b (instantiate $b (with "a" (instance $a))))
    (func (export "a") (param "n" u32) (result u32) (canon lift (core func $b "1")))
    (func (export "b") (param "n" u32) (result u32) (canon lift (core func $a "2")))
    (func (export "c") (param "n" u32) (result u32) (canon lift (core func $a "nothing")))
    (func (export "d") (param "n" u32) (result u32) (canon lift (core func $a "another type")))
    (func (export "e") (param "n" u32) (result u32) (canon lift (core func $a "outside")))
    (func (export "f") (param "n" u32) (result u32) (canon lift (core func $a "changed")))
    (func (export "g") (param "n" u32) (result u32) (canon lift (core func $a "change"))))"#;

#[test]
fn what_only_calls_what_stands_in_a_table_is_left_out() {
    let merged = check(FORWARDS);
    let (said, _) = run::run(&merged);
    assert_eq!(said.len(), 14);
    assert_eq!(said[0], "came Ok(()) [I32(13)]");
    assert_eq!(said[1], "came Ok(()) [I32(33)]");
    // All but the first two of the first module.
    assert_eq!(modules(&merged)[0].functions.len(), 10);
}

#[test]
fn a_second_time_it_is_the_same() {
    let merged = check(LINKED);
    let again = merge(&merged).into_owned();
    assert_eq!(modules(&again).len(), 2);
    assert_eq!(run::run(&again), run::run(&merged));
}

#[test]
fn two_modules_are_one() {
    let merged = check(&two("", "", ""));
    assert_eq!(modules(&merged).len(), 1);
    check(&two(
        "(data (i32.const 8) \"first\")",
        "(elem (global.get $g) func $f) (data (i32.const 10) \"second\")",
        "",
    ));
}

#[test]
fn the_last_may_start() {
    let starts = "(func $start (i32.store8 (i32.const 0) (i32.const 5))) (start $start)";
    check(&two("", starts, ""));
    // One that calls what is made last, and that sees what the others have put.
    let module = "(core module $starts
            (import \"\" \"sum\" (func $sum (param i32) (result i32)))
            (func $start (drop (call $sum (i32.const 40)))) (start $start))
        (core instance (instantiate $starts (with \"\" (instance $b))))
        (func (export \"sum\") (param \"n\" u32)";
    let merged = check(&LINKED.replace("(func (export \"sum\") (param \"n\" u32)", module));
    assert_eq!(modules(&merged).len(), 2);
    assert!(modules(&merged)[1].start.is_some());
}

#[test]
fn components_in_a_component_are_merged() {
    let inner = two("", "", "");
    let text = format!(
        "(component
            (component $inner {}
            (instance $i (instantiate $inner))
            (export \"i\" (instance $i)))",
        inner.strip_prefix("(component").unwrap()
    );
    let whole = wat::parse_str(text).unwrap();
    let merged = merge(&whole);
    let count = |wasm: &[u8]| {
        let payloads = Parser::new(0).parse_all(wasm);
        payloads
            .filter(|payload| matches!(payload, Ok(Payload::ModuleSection { .. })))
            .count()
    };
    assert_eq!((count(&whole), count(&merged)), (2, 1));
}

#[test]
fn what_cannot_be_merged_stays() {
    let runs = "(func $start) (start $start)";
    let nested = "(component $c) (instance (instantiate $c))";
    let twice = "(core instance (instantiate $a))";
    let uses = "(component $c (alias outer 1 $a (core module $m)))";
    for (first, second, outer) in [
        (runs, "", ""),
        ("", "(memory 1)", ""),
        ("(memory 1 2 shared)", "", ""),
        ("(memory i64 1)", "", ""),
        ("(table i64 1 funcref)", "", ""),
        ("(table 1 funcref (ref.func 0))", "", ""),
        ("(tag)", "", ""),
        ("(type (struct))", "", ""),
        ("(type (sub (func (param i64))))", "", ""),
        (
            "(rec (type (func (param i64))) (type (func (param f64))))",
            "",
            "",
        ),
        ("", "(data (i32.const 65535) \"ab\")", ""),
        ("", "(elem (i32.const 1) func $f $f)", ""),
        ("(global i64 (i64.add (i64.const 1) (i64.const 2)))", "", ""),
        ("", "", nested),
        ("", "", twice),
        ("", "", uses),
        ("", "", "(export \"m\" (core module $a))"),
    ] {
        stays(&two(first, second, outer));
    }
    stays(
        "(component
            (core module $a (memory 1) (func (export \"f\")))
            (core instance $a (instantiate $a))
            (func (export \"f\") (canon lift (core func $a \"f\"))))",
    );
    // A global in each of two instances.
    stays(
        "(component
            (core module $a
                (global $g (mut i32) (i32.const 0))
                (func (export \"f\") (result i32)
                    (global.set $g (i32.add (global.get $g) (i32.const 1))) (global.get $g)))
            (core instance $a (instantiate $a))
            (core instance $b (instantiate $a))
            (func (export \"a\") (result u32) (canon lift (core func $a \"f\")))
            (func (export \"b\") (result u32) (canon lift (core func $b \"f\"))))",
    );
    // More tables than a node takes in a module.
    let tables = |count: usize| {
        let sizes: String = (1..=count)
            .map(|table| format!("(drop (table.size {table}))"))
            .collect();
        let tables = "(table 1 funcref)".repeat(count);
        two(
            "",
            &format!("{tables} (func $start {sizes}) (start $start)"),
            "",
        )
    };
    check(&tables(8));
    stays(&tables(9));
    // One that leads to itself.
    let leads = "(func $leads (export \"leads\") i32.const 1 call_indirect (type 0)) (elem (i32.const 1) func $leads)";
    let calls = "(func $start (call_indirect (i32.const 1))) (start $start)";
    stays(&two(leads, calls, ""));
    let module = wat::parse_str("(module)").unwrap();
    assert!(merge(&module) == module);
    assert!(merge(b"no component") == b"no component".as_slice());
}

/// Libraries that call each other, the host and what stands in the table, with so many steps each.
fn libraries(steps: &[Vec<(u8, u8)>]) -> String {
    let mut modules = String::new();
    let mut instances = String::new();
    let mut lifts = String::new();
    for (number, steps) in steps.iter().enumerate() {
        let code: String = steps
            .iter()
            .map(|(step, value)| match step {
                0 => "(local.set 0 (i32.add (local.get 0) (global.get $base)))".to_owned(),
                1 => "(local.set 0 (call $before (local.get 0)))".to_owned(),
                2 => format!(
                    "(local.set 0 (call_indirect (type $one) (local.get 0) (i32.const {})))",
                    value % 6
                ),
                3 => format!("(i32.store8 (i32.const {value}) (local.get 0))"),
                4 => format!(
                    "(local.set 0 (i32.xor (local.get 0) (i32.load8_u (i32.const {value}))))"
                ),
                5 => "(global.set $shared (local.get 0))".to_owned(),
                6 => "(local.set 0 (global.get $shared))".to_owned(),
                7 => format!("(call $say (i32.const {value}) (i32.const 1))"),
                _ => "(local.set 0 (call $tick (local.get 0)))".to_owned(),
            })
            .collect();
        let base = number + 1;
        modules += &format!(
            "(core module $l{number}
                (type $one (func (param i32) (result i32)))
                (import \"env\" \"memory\" (memory 1)) (import \"env\" \"table\" (table 1 funcref))
                (import \"env\" \"fuel\" (global $fuel (mut i32)))
                (import \"env\" \"shared\" (global $shared (mut i32)))
                (import \"env\" \"base{base}\" (global $base i32))
                (import \"before\" \"run\" (func $before (type $one)))
                (import \"host\" \"tick\" (func $tick (type $one)))
                (import \"host\" \"0\" (func $say (param i32 i32)))
                (func $run (export \"run\") (type $one)
                    (global.set $fuel (i32.sub (global.get $fuel) (i32.const 1)))
                    (if (i32.eqz (global.get $fuel)) (then unreachable))
                    {code} (local.get 0))
                (data (i32.const {base}) \"{base}{number}\")
                (elem (global.get $base) func $run))"
        );
        let before = match number {
            0 => "main".to_owned(),
            number => format!("i{}", number - 1),
        };
        instances += &format!(
            "(core instance $i{number} (instantiate $l{number} (with \"env\" (instance $main))
                (with \"before\" (instance ${before})) (with \"host\" (instance $host))))"
        );
        lifts += &format!(
            "(func (export \"run{number}\") (param \"n\" u32) (result u32)
                (canon lift (core func $i{number} \"run\") (memory $memory)))"
        );
    }
    format!(
        "(component
            (import \"tick\" (func $tick (param \"n\" u32) (result u32)))
            (import \"say\" (func $say (param \"text\" string)))
            (core module $main
                (memory (export \"memory\") 1) (table (export \"table\") 6 funcref)
                (global (export \"fuel\") (mut i32) (i32.const 40))
                (global (export \"shared\") (mut i32) (i32.const 9))
                (global (export \"base1\") i32 (i32.const 1)) (global (export \"base2\") i32 (i32.const 2))
                (global (export \"base3\") i32 (i32.const 3)) (global (export \"base4\") i32 (i32.const 4))
                (elem (i32.const 0) func $run)
                (func $run (export \"run\") (param i32) (result i32) (i32.add (local.get 0) (i32.const 1))))
            (core module $shim
                (type $say (func (param i32 i32))) (table (export \"t\") 1 1 funcref)
                (func (export \"0\") (type $say)
                    local.get 0 local.get 1 i32.const 0 call_indirect (type $say)))
            (core module $fixup
                (import \"\" \"0\" (func (param i32 i32))) (import \"\" \"t\" (table 1 1 funcref))
                (elem (i32.const 0) func 0))
            {modules}
            (core instance $shim (instantiate $shim))
            (core instance $main (instantiate $main))
            (core func $ticks (canon lower (func $tick)))
            (core instance $host (export \"tick\" (func $ticks)) (export \"0\" (func $shim \"0\")))
            {instances}
            (alias core export $main \"memory\" (core memory $memory))
            (core func $says (canon lower (func $say) (memory $memory)))
            (core instance $late (export \"0\" (func $says)) (export \"t\" (table $shim \"t\")))
            (core instance (instantiate $fixup (with \"\" (instance $late))))
            {lifts})"
    )
}

proptest! {
    /// Whatever libraries call each other for.
    #[test]
    fn libraries_do_the_same(
        steps in prop::collection::vec(prop::collection::vec((0..9_u8, any::<u8>()), 0..8), 1..5),
    ) {
        let merged = check(&libraries(&steps));
        prop_assert!(modules(&merged).len() <= 2);
    }

    /// Whatever bytes: no panic, and nothing that is not valid.
    #[test]
    fn any_bytes_are_merged_or_stay(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let mut wasm = wat::parse_str(LINKED).unwrap();
        for (at, byte) in changes {
            *at.get_mut(&mut wasm) = byte;
        }
        let was_valid = is_valid(&wasm);
        let merged = merge(&wasm);
        prop_assert!(merged == wasm || is_valid(&merged));
        prop_assert!(was_valid || merged == wasm);
    }
}
