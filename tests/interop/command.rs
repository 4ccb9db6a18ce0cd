//! WASI preview-1 commands in the text format, for what the guests in `tests/guests` do not do.

#![allow(dead_code, reason = "each test uses a part of it")]

use mote_tests::guest::parse;

/// A command that waits and then writes `text`.
#[track_caller]
pub(crate) fn sleeps(milliseconds: u64, text: &str) -> Vec<u8> {
    // A subscription to the monotonic clock, relative to now: 48 bytes from 64 on.
    command(&format!(
        r#"(data (i32.const 1024) "{text}")
        (func (export "_start")
            (i32.store (i32.const 80) (i32.const 1))
            (i64.store (i32.const 88) (i64.const {nanoseconds}))
            (call $poll (i32.const 64) (i32.const 128) (i32.const 1) (i32.const 192))
            (if (then unreachable))
            (call $say (i32.const 1024) (i32.const {length})))"#,
        nanoseconds = milliseconds * 1_000_000,
        length = text.len(),
    ))
}

/// A command that writes its environment, each variable followed by a zero.
#[track_caller]
pub(crate) fn environment() -> Vec<u8> {
    command(
        r#"(func (export "_start")
            (call $environ_sizes (i32.const 64) (i32.const 68))
            (if (then unreachable))
            (call $environ (i32.const 1024) (i32.const 8192))
            (if (then unreachable))
            (call $say (i32.const 8192) (i32.load (i32.const 68))))"#,
    )
}

/// A command that opens `path` below the first directory it was given, with these flags
/// (1 creates) and rights (2 reads, 64 writes). It writes the error number as two digits and a line
/// end, then what it could read.
#[track_caller]
pub(crate) fn opens(path: &str, flags: u32, rights: u64) -> Vec<u8> {
    command(&format!(
        r#"(data (i32.const 1024) "{path}")
        (func (export "_start") (local $error i32)
            (local.set $error (call $open
                (i32.const 3) (i32.const 0)
                (i32.const 1024) (i32.const {length})
                (i32.const {flags}) (i64.const {rights}) (i64.const 0) (i32.const 0)
                (i32.const 64)))
            (i32.store8 (i32.const 80)
                (i32.add (i32.const 48) (i32.div_u (local.get $error) (i32.const 10))))
            (i32.store8 (i32.const 81)
                (i32.add (i32.const 48) (i32.rem_u (local.get $error) (i32.const 10))))
            (i32.store8 (i32.const 82) (i32.const 10))
            (call $say (i32.const 80) (i32.const 3))
            (if (local.get $error) (then (return)))
            (i32.store (i32.const 96) (i32.const 8192))
            (i32.store (i32.const 100) (i32.const 4096))
            (if (call $read (i32.load (i32.const 64)) (i32.const 96) (i32.const 1) (i32.const 104))
                (then (return)))
            (call $say (i32.const 8192) (i32.load (i32.const 104))))"#,
        length = path.len(),
    ))
}

/// A module with the system calls above, a memory, and `$say`, which writes to standard output.
#[track_caller]
fn command(code: &str) -> Vec<u8> {
    parse(&format!(
        r#"(module
        (import "wasi_snapshot_preview1" "fd_write"
            (func $write (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_read"
            (func $read (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "path_open"
            (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "poll_oneoff"
            (func $poll (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "environ_sizes_get"
            (func $environ_sizes (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "environ_get"
            (func $environ (param i32 i32) (result i32)))
        (memory (export "memory") 2)
        (func $say (param $at i32) (param $length i32)
            (i32.store (i32.const 16) (local.get $at))
            (i32.store (i32.const 20) (local.get $length))
            (call $write (i32.const 1) (i32.const 16) (i32.const 1) (i32.const 24))
            (if (then unreachable)))
        {code})"#
    ))
}
