//! The door and the client of libcoap, which is nobody's of ours (`apt install libcoap3-bin`).

use std::process::{Output, Stdio};
use std::{env, fs, process};

use mote_ingress::coap::EchoMode;
use tokio::process::Command;

use super::body;
use super::client::Client;
use super::node::Node;

const CLIENT: &str = "coap-client-notls";

/// Runs the client. Nothing, said in a visible line, when it is not installed.
async fn run(arguments: &[&str]) -> Option<Output> {
    let mut command = Command::new(CLIENT);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    match command.output().await {
        Ok(output) => Some(output),
        Err(error) => {
            eprintln!("NOT TESTED: {CLIENT}: {error}; apt install libcoap3-bin");
            None
        }
    }
}

fn text(output: &Output) -> String {
    let both = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&both).trim().to_owned()
}

#[tokio::test]
async fn get_post_and_errors() {
    let node = Node::start().await;
    let url = |path: &str| format!("coap://{}{path}", node.address);
    for (arguments, expect) in [
        (vec!["-m", "post", "-e", "hello", &url("/echo")], "hello"),
        (
            vec!["-m", "put", "-N", "-e", "hello", &url("/echo")],
            "hello",
        ),
        (vec!["-m", "get", &url("/light")], "dark"),
        (vec!["-m", "get", &url("/slow/500")], "late"),
        (
            vec!["-m", "get", &url("/none")],
            "4.04 no function `none` on this node",
        ),
        (vec!["-m", "get", "-A", "60", &url("/light")], "4.06"),
        (vec!["-m", "get", "-O", "9,x", &url("/echo")], "4.02"),
    ] {
        let Some(output) = run(&arguments).await else {
            return;
        };
        let text = text(&output);
        assert!(text.starts_with(expect), "{arguments:?}: {text}");
    }
    assert_eq!(node.counter("duplicates"), 0);
    node.stop().await;
}

#[tokio::test]
async fn a_large_body_is_echoed() {
    let node = Node::start().await;
    let folder = env::temp_dir().join(format!("mote-coap-{}", process::id()));
    fs::create_dir_all(&folder).unwrap();
    let (sent, received) = (folder.join("sent"), folder.join("received"));
    let body = body(100 << 10);
    fs::write(&sent, &body).unwrap();
    let url = format!("coap://{}/echo", node.address);
    for size in ["1024", "256"] {
        let arguments = [
            "-m",
            "post",
            "-b",
            size,
            "-f",
            sent.to_str().unwrap(),
            "-o",
            received.to_str().unwrap(),
            &url,
        ];
        let Some(output) = run(&arguments).await else {
            return;
        };
        let echoed = fs::read(&received).unwrap_or_default();
        assert!(echoed == body, "{} bytes: {}", echoed.len(), text(&output));
        fs::remove_file(&received).unwrap();
    }
    assert_eq!(node.calls(), 2);
    fs::remove_dir_all(&folder).unwrap();
    node.stop().await;
}

#[tokio::test]
async fn the_echo_challenge_is_met() {
    let node = Node::start_with(|config| config.echo = EchoMode::Always).await;
    let url = format!("coap://{}/echo", node.address);
    let Some(output) = run(&["-m", "post", "-e", "hello", &url]).await else {
        return;
    };
    assert_eq!(text(&output), "hello");
    assert_eq!((node.counter("challenged"), node.calls()), (1, 1));
    node.stop().await;
}

#[tokio::test]
async fn observe() {
    let node = Node::start().await;
    let mut publisher = Client::new(node.address).await;
    publisher.call("PUT", "/light", b"one").await;
    let url = format!("coap://{}/light", node.address);
    let observing = tokio::spawn(async move { run(&["-w", "-s", "2", &url]).await });
    // Changes follow as soon as the observer is there.
    while node.counter("observers_now") == 0 && !observing.is_finished() {
        tokio::task::yield_now().await;
    }
    publisher.call("PUT", "/light", b"two").await;
    let Some(output) = observing.await.unwrap() else {
        return;
    };
    assert_eq!(text(&output), "one\ntwo");
    while node.counter("observers_now") != 0 {
        tokio::task::yield_now().await;
    }
    node.stop().await;
}

#[tokio::test]
async fn functions_are_listed() {
    let node = Node::start().await;
    let url = format!("coap://{}/.well-known/core", node.address);
    let Some(output) = run(&["-m", "get", &url]).await else {
        return;
    };
    let links = text(&output);
    assert_eq!(links.matches("rt=\"mote.function\"").count(), 4, "{links}");
    assert!(
        links.contains("</light>;rt=\"mote.function\";title=\"light.default\";obs"),
        "{links}"
    );
    let filtered = run(&["-m", "get", &format!("{url}?obs")]).await.unwrap();
    assert_eq!(text(&filtered).matches("</").count(), 1);
    node.stop().await;
}
