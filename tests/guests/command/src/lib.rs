//! A WASI preview-1 command: it writes what it reads in upper case and exits with a code it is told.
//!
//! The code comes from the environment variable `HTTP_X_EXIT`, which holds the header `X-Exit` of
//! the request as CGI (RFC 3875 section 4.1.18) names it; without it the command ends with 0.
//! It speaks to the system by raw calls, as programs in any language do below their library.
//! Bounded: it holds one piece of its input at a time.
#![no_std]

extern crate alloc;

use alloc::vec;
use core::ptr;
use lean as _;

const STDIN: u32 = 0;
const STDOUT: u32 = 1;
const PIECE_BYTES: usize = 4096;
const EXIT_VARIABLE: &[u8] = b"HTTP_X_EXIT=";
/// What the command ends with when a system call fails (`EX_IOERR` of sysexits.h).
const EXIT_BROKEN_PIPE: u32 = 74;

/// A piece of memory that a system call reads from or writes to.
#[repr(C)]
struct Slice {
    start: *mut u8,
    length: usize,
}

#[link(wasm_import_module = "wasi_snapshot_preview1")]
unsafe extern "C" {
    fn fd_read(fd: u32, slices: *const Slice, count: usize, read: *mut usize) -> u32;
    fn fd_write(fd: u32, slices: *const Slice, count: usize, written: *mut usize) -> u32;
    fn environ_sizes_get(count: *mut usize, bytes: *mut usize) -> u32;
    fn environ_get(pointers: *mut *mut u8, buffer: *mut u8) -> u32;
    fn proc_exit(code: u32) -> !;
}

/// Where a command starts.
#[unsafe(no_mangle)]
extern "C" fn _start() {
    let code = match upper_case() {
        Ok(()) => wanted_exit_code(),
        Err(_) => EXIT_BROKEN_PIPE,
    };
    if code != 0 {
        // SAFETY: it takes no memory and does not return.
        unsafe { proc_exit(code) }
    }
}

/// Copies standard input to standard output. The error is the number of the failed system call.
fn upper_case() -> Result<(), u32> {
    let mut piece = [0; PIECE_BYTES];
    loop {
        let read = read(&mut piece)?;
        if read == 0 {
            return Ok(());
        }
        let mut rest = &mut piece[..read];
        rest.make_ascii_uppercase();
        while !rest.is_empty() {
            let written = write(rest)?;
            rest = &mut rest[written..];
        }
    }
}

/// The number in `HTTP_X_EXIT`, 0 when it is not there or no number.
fn wanted_exit_code() -> u32 {
    let (mut count, mut bytes) = (0, 0);
    // SAFETY: both pointers are to numbers that live during the call.
    if unsafe { environ_sizes_get(&raw mut count, &raw mut bytes) } != 0 {
        return 0;
    }
    let mut pointers = vec![ptr::null_mut(); count];
    let mut buffer = vec![0; bytes];
    // SAFETY: the buffers have the sizes the system has just named.
    if unsafe { environ_get(pointers.as_mut_ptr(), buffer.as_mut_ptr()) } != 0 {
        return 0;
    }
    buffer
        .split(|byte| *byte == 0)
        .find_map(|variable| variable.strip_prefix(EXIT_VARIABLE))
        .and_then(|code| core::str::from_utf8(code).ok()?.parse().ok())
        .unwrap_or(0)
}

fn read(into: &mut [u8]) -> Result<usize, u32> {
    let slice = slice_of(into);
    let mut read = 0;
    // SAFETY: the slice and the counter live during the call.
    match unsafe { fd_read(STDIN, &raw const slice, 1, &raw mut read) } {
        0 => Ok(read),
        error => Err(error),
    }
}

fn write(from: &mut [u8]) -> Result<usize, u32> {
    let slice = slice_of(from);
    let mut written = 0;
    // SAFETY: the slice and the counter live during the call.
    match unsafe { fd_write(STDOUT, &raw const slice, 1, &raw mut written) } {
        0 => Ok(written),
        error => Err(error),
    }
}

fn slice_of(bytes: &mut [u8]) -> Slice {
    Slice {
        start: bytes.as_mut_ptr(),
        length: bytes.len(),
    }
}
