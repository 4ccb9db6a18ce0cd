//! The harness itself: what other tests rely on.

use mote_tests::guest;
use mote_tests::node::Node;
use serde_json::json;

#[test]
fn a_node_starts_serves_stops_and_starts_again() {
    let mut node = Node::start();
    node.answers_hello();
    node.deploy("text", &guest::says("from text"), &json!({}));
    assert_eq!(node.get("/text").expect(200).text(), "from text");
    assert_eq!(node.functions(), ["hello", "text"]);
    node.stop();
    node.restart();
    assert_eq!(node.get("/text").expect(200).text(), "from text");
    node.kill();
    node.restart();
    assert_eq!(node.get("/text").expect(200).text(), "from text");
    assert_eq!(node.metric("mote_calls_total", &["function=\"text\""]), 1.0);
}

#[test]
fn a_guest_can_use_the_whole_world() {
    let node = Node::start();
    // Answers with its path: pointer and length as they were written to 16 and 20.
    let code = r#"(func (export "handle") (param i32 i32) (result i32)
        (call $path (i32.const 16))
        (i32.store (i32.const 0) (i32.const 0))
        (i64.store (i32.const 4) (i64.load (i32.const 16)))
        (i32.const 0))"#;
    node.deploy("where", &guest::component_of_world(code), &json!({}));
    assert_eq!(node.get("/where/is/it?x").expect(200).text(), "/is/it");
}
