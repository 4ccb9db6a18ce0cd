//! Guests for `wasi:http` in the text format: for what a library for guests would not do.

use super::{MEMORY_AND_REALLOC, parse};

/// A component of `wasi:http/incoming-handler` that builds header fields. `code` is the
/// instructions of its `handle`, which never answers. They find `$i` and `$one`, locals of 32 bits,
/// and:
/// - `$memory` of one page, which can grow,
/// - `$fields (result i32)`, a new set of fields,
/// - `$append (param i32 i32 i32 i32 i32 i32)`: the set, a name, a value, and where the result goes,
/// - `$set`, the same with a list of values.
#[track_caller]
pub fn builds_fields(code: &str) -> Vec<u8> {
    parse(&format!(
        r#"(component
            (import "wasi:http/types@0.2.0" (instance $types
                (export "incoming-request" (type (sub resource)))
                (export "response-outparam" (type (sub resource)))
                (export "fields" (type $fields (sub resource)))
                (type $errors (variant (case "invalid-syntax") (case "forbidden") (case "immutable")))
                (export "header-error" (type $error (eq $errors)))
                (export "[constructor]fields" (func (result (own $fields))))
                (export "[method]fields.append" (func
                    (param "self" (borrow $fields)) (param "name" string)
                    (param "value" (list u8))
                    (result (result (error $error)))))
                (export "[method]fields.set" (func
                    (param "self" (borrow $fields)) (param "name" string)
                    (param "value" (list (list u8)))
                    (result (result (error $error)))))))
            (core module $memory {MEMORY_AND_REALLOC})
            (core instance $memory (instantiate $memory))
            (core func $fields (canon lower (func $types "[constructor]fields")))
            (core func $append (canon lower (func $types "[method]fields.append")
                (memory (core memory $memory "memory"))))
            (core func $set (canon lower (func $types "[method]fields.set")
                (memory (core memory $memory "memory"))))
            (core instance $http
                (export "memory" (memory $memory "memory"))
                (export "fields" (func $fields))
                (export "append" (func $append)) (export "set" (func $set)))
            (core module $guest
                (import "http" "memory" (memory $memory 1))
                (import "http" "fields" (func $fields (result i32)))
                (import "http" "append" (func $append (param i32 i32 i32 i32 i32 i32)))
                (import "http" "set" (func $set (param i32 i32 i32 i32 i32 i32)))
                (func (export "handle") (param $request i32) (param $out i32)
                    (local $i i32) (local $one i32)
                    {code}))
            (core instance $guest (instantiate $guest (with "http" (instance $http))))
            (alias export $types "incoming-request" (type $request))
            (alias export $types "response-outparam" (type $out))
            (func $handle (param "request" (own $request)) (param "response-out" (own $out))
                (canon lift (core func $guest "handle")))
            (instance $handler (export "handle" (func $handle)))
            (export "wasi:http/incoming-handler@0.2.0" (instance $handler)))"#
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_well_formed() {
        assert!(builds_fields("").starts_with(b"\0asm"));
    }
}
