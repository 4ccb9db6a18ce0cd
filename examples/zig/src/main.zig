//! Answers the SHA-256 of what is sent, in hexadecimal digits.
//!
//! There is no SDK: the world of a function is one export, and memory for what the host hands over
//! (see sdk/wit/function.wit and the canonical ABI of the component model).

const std = @import("std");

/// A list or a string, as the host reads and writes it.
const Text = extern struct { pointer: [*]const u8, length: usize };

/// A result<list<u8>, string>; the host reads it after `handle` has returned.
var result: extern struct { is_error: u8, text: Text } = undefined;

var digits: [2 * std.crypto.hash.sha2.Sha256.digest_length]u8 = undefined;

export fn handle(body: [*]const u8, length: usize) *const anyopaque {
    var digest: [std.crypto.hash.sha2.Sha256.digest_length]u8 = undefined;
    std.crypto.hash.sha2.Sha256.hash(body[0..length], &digest, .{});
    digits = std.fmt.bytesToHex(digest, .lower);
    result = .{ .is_error = 0, .text = .{ .pointer = &digits, .length = digits.len } };
    return &result;
}

/// The host asks for memory to write the body into. Every call has a fresh one, so nothing is ever given back.
export fn cabi_realloc(_: ?[*]u8, _: usize, _: usize, size: usize) [*]u8 {
    // Of nothing there would be no address, and 8 is the largest alignment of the world.
    const memory = std.heap.wasm_allocator.alignedAlloc(u8, .@"8", @max(size, 1)) catch @trap();
    return memory.ptr;
}
