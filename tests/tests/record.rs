//! Recording calls with `mote invoke --record`.

use std::fs;

use mote_api::recording::{self, Content};
use mote_tests::guest;
use mote_tests::node::Node;
use serde_json::json;

#[test]
fn calls_are_added_to_a_file_as_they_were() {
    let node = Node::start();
    node.deploy("f", &guest::says("one"), &json!({}));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("calls.http");
    let record = |arguments: &[&str]| {
        let path = file.to_str().unwrap();
        node.mote(&[&["invoke", "--record", path], arguments].concat())
    };
    record(&["f/a?b", "two\nlines", "-H", "X-Name: value"]);
    fs::write(folder.path().join("image"), b"\x00\xff").unwrap();
    record(&[
        "f",
        "--body-file",
        folder.path().join("image").to_str().unwrap(),
    ]);
    record(&["nothing"]);

    let text = fs::read_to_string(&file).unwrap();
    let all = recording::parse(&text).unwrap();
    assert_eq!(all.len(), 3, "{text}");
    assert_eq!(
        (all[0].method.as_str(), all[0].target.as_str()),
        ("POST", "/f/a?b")
    );
    assert_eq!(all[0].headers, [("x-name".to_owned(), "value".to_owned())]);
    assert_eq!(all[0].body, Some(Content::Text("two\nlines".to_owned())));
    assert_eq!(all[0].status.unwrap(), 200);
    assert_eq!(all[0].expected_body, Some(Content::Text("one".to_owned())));
    assert_eq!(
        all[1].body,
        Some(Content::File("calls-2-request".to_owned()))
    );
    assert_eq!(
        fs::read(folder.path().join("calls-2-request")).unwrap(),
        b"\x00\xff"
    );
    assert_eq!(
        (all[2].status.unwrap().as_u16(), &all[2].expected_body),
        (404, &None)
    );
}
