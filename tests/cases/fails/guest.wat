;; `/fail` says why and traps; anything else goes well.
(data (i32.const 100) "no such luckwellasked to fail")
(func (export "handle") (param i32 i32) (result i32)
    (call $path (i32.const 16))
    (if (i32.eq (i32.load8_u offset=1 (i32.load (i32.const 16))) (i32.const 102))
        (then
            (call $log (i32.const 2) (i32.const 116) (i32.const 13))
            (call $log (i32.const 4) (i32.const 100) (i32.const 12))
            unreachable))
    (i32.store (i32.const 0) (i32.const 0))
    (i32.store (i32.const 4) (i32.const 112))
    (i32.store (i32.const 8) (i32.const 4))
    (i32.const 0))
