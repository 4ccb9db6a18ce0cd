(module
    ;; A WASI command that writes its environment, each variable followed by a zero.
    (import "wasi_snapshot_preview1" "environ_sizes_get" (func $sizes (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "environ_get" (func $environ (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (func (export "_start")
        (if (call $sizes (i32.const 64) (i32.const 68)) (then unreachable))
        (if (call $environ (i32.const 1024) (i32.const 8192)) (then unreachable))
        (i32.store (i32.const 0) (i32.const 8192))
        (i32.store (i32.const 4) (i32.load (i32.const 68)))
        (if (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16)) (then unreachable))))
