;; Logs a line and answers.
(data (i32.const 100) "the kettle boilslogged")
(func (export "handle") (param i32 i32) (result i32)
    (call $log (i32.const 2) (i32.const 100) (i32.const 16))
    (i32.store (i32.const 0) (i32.const 0))
    (i32.store (i32.const 4) (i32.const 116))
    (i32.store (i32.const 8) (i32.const 6))
    (i32.const 0))
