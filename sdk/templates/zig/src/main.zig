//! Says hello to whoever is named in the query. There is no SDK: the few functions of the world that are used here are
//! called as they are (see sdk/wit/function.wit and the canonical ABI of the component model).

const std = @import("std");

/// What the host writes a list or a string into; it asks for the memory below.
const Text = extern struct {
    pointer: [*]const u8,
    length: usize,

    fn slice(text: Text) []const u8 {
        return text.pointer[0..text.length];
    }
};

const world = struct {
    const Optional = extern struct { is_some: u8, text: Text };

    extern "mote:function/request@0.1.1" fn query(result: *Optional) void;
    extern "mote:function/log@0.1.1" fn log(level: u32, message: [*]const u8, length: usize) void;
};

const info = 2;

/// Every call has a fresh memory, so nothing is ever given back.
const allocator = std.heap.wasm_allocator;

export fn cabi_realloc(old: ?[*]u8, old_size: usize, _: usize, size: usize) [*]u8 {
    // Of nothing there would be no address, and 8 is the largest alignment of the world.
    const new = allocator.alignedAlloc(u8, .@"8", @max(size, 1)) catch @trap();
    if (old) |bytes| @memcpy(new[0..old_size], bytes[0..old_size]);
    return new.ptr;
}

/// The result<list<u8>, string> that the host reads after `handle` has returned.
var result: extern struct { is_error: u8, text: Text } = undefined;

export fn handle(body: [*]const u8, length: usize) *const anyopaque {
    _ = body[0..length];
    if (answer()) |text| {
        result = .{ .is_error = 0, .text = .{ .pointer = text.ptr, .length = text.len } };
    } else |problem| {
        const text = @errorName(problem);
        result = .{ .is_error = 1, .text = .{ .pointer = text.ptr, .length = text.len } };
    }
    return &result;
}

fn answer() ![]const u8 {
    const name = try parameter("name") orelse "world";
    const message = try std.fmt.allocPrint(allocator, "hello to {s}", .{name});
    world.log(info, message.ptr, message.len);
    return std.fmt.allocPrint(allocator, "hello, {s}\n", .{name});
}

/// A parameter of the query, without its percent encoding.
fn parameter(name: []const u8) !?[]const u8 {
    var query: world.Optional = undefined;
    world.query(&query);
    if (query.is_some == 0) return null;
    var pairs = std.mem.splitScalar(u8, query.text.slice(), '&');
    while (pairs.next()) |pair| {
        const end = std.mem.indexOfScalar(u8, pair, '=') orelse continue;
        if (!std.mem.eql(u8, pair[0..end], name)) continue;
        const value = try allocator.dupe(u8, pair[end + 1 ..]);
        std.mem.replaceScalar(u8, value, '+', ' ');
        return std.Uri.percentDecodeInPlace(value);
    }
    return null;
}
