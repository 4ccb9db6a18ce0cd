;; Answers the path, with the status that it names.
(func $digit (param $at i32) (result i32) (i32.sub (i32.load8_u (local.get $at)) (i32.const 48)))
(func (export "handle") (param i32 i32) (result i32) (local $at i32)
    (call $path (i32.const 16))
    (local.set $at (i32.load (i32.const 16)))
    (call $set_status (i32.add
        (i32.mul (i32.const 100) (call $digit (i32.add (local.get $at) (i32.const 1))))
        (i32.add
            (i32.mul (i32.const 10) (call $digit (i32.add (local.get $at) (i32.const 2))))
            (call $digit (i32.add (local.get $at) (i32.const 3))))))
    (i32.store (i32.const 0) (i32.const 0))
    (i32.store (i32.const 4) (local.get $at))
    (i32.store (i32.const 8) (i32.load (i32.const 20)))
    (i32.const 0))
