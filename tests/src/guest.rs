//! Guests written in the text format: components of the function world around a few lines of core
//! code, for what no compiler would make.

pub mod http;

/// A guest with nothing but a function `handle`. `code` is the fields of a core module: it exports
/// `memory`, `cabi_realloc` and `handle` (param i32 i32) (result i32), and imports nothing.
#[track_caller]
pub fn component(code: &str) -> Vec<u8> {
    parse(&format!(
        r#"(component
            (core module $guest {code})
            (core instance $guest (instantiate $guest))
            {LIFT})"#
    ))
}

/// A guest that imports the whole world. `code` is the fields of a core module that finds there:
/// `$memory` of one page, exported by another module with a `cabi_realloc` that only goes up from
/// 32 KiB; `$method $path $query $headers $id (param i32)`, `$header (param i32 i32 i32)`,
/// `$set_status (param i32)`, `$set_header (param i32 i32 i32 i32)`, `$publish`, and `$log (param
/// i32 i32 i32)`. It exports `handle`.
#[track_caller]
pub fn component_of_world(code: &str) -> Vec<u8> {
    parse(&format!(
        r#"(component
            (import "mote:function/request@0.1.0" (instance $request
                (export "method" (func (result string)))
                (export "path" (func (result string)))
                (export "query" (func (result (option string))))
                (export "header" (func (param "name" string) (result (option string))))
                (export "headers" (func (result (list (tuple string string)))))
                (export "id" (func (result string)))))
            (import "mote:function/response@0.1.0" (instance $response
                (export "set-status" (func (param "status" u16)))
                (export "set-header" (func (param "name" string) (param "value" string)))
                (export "publish" (func))))
            (import "mote:function/log@0.1.0" (instance $log
                (type $levels (enum "trace" "debug" "info" "warn" "error"))
                (export "level" (type $level (eq $levels)))
                (export "log" (func (param "level" $level) (param "message" string)))))
            (core module $memory {MEMORY_AND_REALLOC})
            (core instance $memory (instantiate $memory))
            {lowered}
            (core instance $world
                (export "memory" (memory $memory "memory"))
                (export "method" (func $method)) (export "path" (func $path))
                (export "query" (func $query)) (export "header" (func $header))
                (export "headers" (func $headers)) (export "id" (func $id))
                (export "set-status" (func $set_status)) (export "set-header" (func $set_header))
                (export "publish" (func $publish)) (export "log" (func $log)))
            (core module $code
                (import "world" "memory" (memory $memory 1))
                (import "world" "method" (func $method (param i32)))
                (import "world" "path" (func $path (param i32)))
                (import "world" "query" (func $query (param i32)))
                (import "world" "header" (func $header (param i32 i32 i32)))
                (import "world" "headers" (func $headers (param i32)))
                (import "world" "id" (func $id (param i32)))
                (import "world" "set-status" (func $set_status (param i32)))
                (import "world" "set-header" (func $set_header (param i32 i32 i32 i32)))
                (import "world" "publish" (func $publish))
                (import "world" "log" (func $log (param i32 i32 i32)))
                {code})
            (core instance $code (instantiate $code (with "world" (instance $world))))
            (core instance $guest
                (export "memory" (memory $memory "memory"))
                (export "cabi_realloc" (func $memory "cabi_realloc"))
                (export "handle" (func $code "handle")))
            {LIFT})"#,
        lowered = [
            ("request", "method"),
            ("request", "path"),
            ("request", "query"),
            ("request", "header"),
            ("request", "headers"),
            ("request", "id"),
            ("response", "set-status"),
            ("response", "set-header"),
            ("response", "publish"),
            ("log", "log"),
        ]
        .map(|(interface, name)| lower(interface, name))
        .concat(),
    ))
}

/// Fields of a core module: a memory of one page and a `cabi_realloc` that only goes up, from
/// 32 KiB, and grows the memory when it has to.
pub const MEMORY_AND_REALLOC: &str = r#"
    (memory (export "memory") 1)
    (global $next (mut i32) (i32.const 32768))
    (func (export "cabi_realloc") (param $old i32) (param $old_size i32) (param $align i32) (param $size i32) (result i32)
        (local $at i32)
        (local.set $at (i32.and
            (i32.add (global.get $next) (i32.const 7))
            (i32.const -8)))
        (global.set $next (i32.add (local.get $at) (local.get $size)))
        (block $fits
            (loop $more
                (br_if $fits (i32.le_u
                    (global.get $next)
                    (i32.mul (memory.size) (i32.const 65536))))
                (if (i32.eq (memory.grow (i32.const 1)) (i32.const -1)) (then unreachable))
                (br $more)))
        (local.get $at))
"#;

/// A guest that does `code` and then answers `text`. `code` is instructions, which find locals
/// `$i $j $k` and the memory and `cabi_realloc` of [`MEMORY_AND_REALLOC`].
#[track_caller]
pub fn does(code: &str, text: &str) -> Vec<u8> {
    component(&format!(
        r#"{MEMORY_AND_REALLOC}
        (data (i32.const 16) "{text}")
        (func (export "handle") (param $body i32) (param $length i32) (result i32)
            (local $i i32) (local $j i32) (local $k i64)
            {code}
            {answer})"#,
        answer = answer(16, text.len()),
    ))
}

/// A guest that answers `text`.
#[track_caller]
pub fn says(text: &str) -> Vec<u8> {
    does("", text)
}

/// A guest that is busy for a while and then answers `text`: `rounds` millions of a small loop, a
/// few milliseconds for each.
#[track_caller]
pub fn busy(rounds: u32, text: &str) -> Vec<u8> {
    does(
        &format!(
            "(local.set $k (i64.mul (i64.const {rounds}) (i64.const 1000000)))
            (loop $again
                (i64.store (i32.const 1024) (local.get $k))
                (local.set $k (i64.sub (local.get $k) (i64.const 1)))
                (br_if $again (i64.ne (i64.load (i32.const 1024)) (i64.const 1))))"
        ),
        text,
    )
}

/// A guest that never answers.
#[track_caller]
pub fn loops() -> Vec<u8> {
    does("(loop $again (br $again))", "never")
}

/// A guest that answers what it is told of its call, a line for each: method, path, query or `-`,
/// the header `x-test` or `-`, id, and then all headers. Its status is 201, with a header
/// `x-reply: yes`.
#[track_caller]
pub fn reflects() -> Vec<u8> {
    component_of_world(
        r#"
        (data (i32.const 100) "x-testx-replyyes-")
        (global $end (mut i32) (i32.const 8192))
        ;; Appends a text and a mark.
        (func $put (param $at i32) (param $length i32) (param $mark i32)
            (memory.copy (global.get $end) (local.get $at) (local.get $length))
            (global.set $end (i32.add (global.get $end) (local.get $length)))
            (i32.store8 (global.get $end) (local.get $mark))
            (global.set $end (i32.add (global.get $end) (i32.const 1))))
        (func $text
            (call $put (i32.load (i32.const 16)) (i32.load (i32.const 20)) (i32.const 10)))
        (func $option
            (if (i32.load8_u (i32.const 16))
                (then (call $put (i32.load (i32.const 20)) (i32.load (i32.const 24)) (i32.const 10)))
                (else (call $put (i32.const 116) (i32.const 1) (i32.const 10)))))
        (func (export "handle") (param i32 i32) (result i32)
            (local $entry i32) (local $count i32)
            (call $set_status (i32.const 201))
            (call $set_header (i32.const 106) (i32.const 7) (i32.const 113) (i32.const 3))
            (call $method (i32.const 16)) (call $text)
            (call $path (i32.const 16)) (call $text)
            (call $query (i32.const 16)) (call $option)
            (call $header (i32.const 100) (i32.const 6) (i32.const 16)) (call $option)
            (call $id (i32.const 16)) (call $text)
            (call $headers (i32.const 16))
            (local.set $entry (i32.load (i32.const 16)))
            (local.set $count (i32.load (i32.const 20)))
            (block $done
                (loop $next
                    (br_if $done (i32.eqz (local.get $count)))
                    (call $put (i32.load (local.get $entry)) (i32.load offset=4 (local.get $entry)) (i32.const 61))
                    (call $put (i32.load offset=8 (local.get $entry)) (i32.load offset=12 (local.get $entry)) (i32.const 10))
                    (local.set $entry (i32.add (local.get $entry) (i32.const 16)))
                    (local.set $count (i32.sub (local.get $count) (i32.const 1)))
                    (br $next)))
            (i32.store (i32.const 0) (i32.const 0))
            (i32.store (i32.const 4) (i32.const 8192))
            (i32.store (i32.const 8) (i32.sub (global.get $end) (i32.const 8192)))
            (i32.const 0))"#,
    )
}

/// A guest that answers with an `err` of `text`.
#[track_caller]
pub fn refuses(text: &str) -> Vec<u8> {
    component(&format!(
        r#"{MEMORY_AND_REALLOC}
        (data (i32.const 16) "{text}")
        (func (export "handle") (param $body i32) (param $length i32) (result i32)
            (i32.store (i32.const 0) (i32.const 1))
            (i32.store (i32.const 4) (i32.const 16))
            (i32.store (i32.const 8) (i32.const {length}))
            (i32.const 0))"#,
        length = text.len(),
    ))
}

/// Instructions that leave an `ok` of these bytes of the memory as the result.
pub fn answer(at: usize, length: usize) -> String {
    format!(
        "(i32.store (i32.const 0) (i32.const 0))
        (i32.store (i32.const 4) (i32.const {at}))
        (i32.store (i32.const 8) (i32.const {length}))
        (i32.const 0)"
    )
}

/// The text format as bytes.
#[track_caller]
pub fn parse(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap_or_else(|error| panic!("{error}"))
}

/// The export of the world, made of `$guest`.
const LIFT: &str = r#"
    (func $handle (param "body" (list u8)) (result (result (list u8) (error string)))
        (canon lift (core func $guest "handle")
            (memory (core memory $guest "memory"))
            (realloc (core func $guest "cabi_realloc"))))
    (export "handle" (func $handle))
"#;

fn lower(interface: &str, name: &str) -> String {
    let core = name.replace('-', "_");
    format!(
        r#"(core func ${core} (canon lower (func ${interface} "{name}")
            (memory (core memory $memory "memory"))
            (realloc (core func $memory "cabi_realloc"))))
        "#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_well_formed() {
        assert!(says("hi").starts_with(b"\0asm"));
        assert!(busy(1, "hi").starts_with(b"\0asm"));
        let code = format!(
            r#"(func (export "handle") (param i32 i32) (result i32) {})"#,
            answer(16, 0)
        );
        assert!(component_of_world(&code).starts_with(b"\0asm"));
    }
}
