//! Programs that die: only their own calls fail, they come back, and five deaths are told.

use mote_tests::eventually::eventually;
use mote_tests::node::Node;
use mote_tests::source::{python, server, shell};

use crate::{BAD_REPLY, UNAVAILABLE, coap, fails, says};

#[track_caller]
fn deaths(node: &Node, name: &str) -> u64 {
    node.function(name)["instances"]["deaths"].as_u64().unwrap()
}

#[test]
fn a_death_fails_its_own_calls_and_is_healed() {
    let node = Node::start();
    let code = "if h.path == '/die': os._exit(9)\nanswer(h, 'fine')";
    node.deploy_source(&server("d", "scale = { min = 2, max = 2 }", code));
    node.await_instances("d", 2);
    // Another function of the same app, in the same sandbox, has a call under way all the time.
    let waits = r#"if h.path == '/wait':
    while not os.path.exists('/tmp/go'): time.sleep(0.01)
    answer(h, 'waited')
else:
    open('/tmp/go', 'w').close()
    answer(h, 'told')"#;
    node.deploy_source(&server(
        "o",
        "scale = { max = 1 }\ntimeout = \"50s\"",
        waits,
    ));
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| node.get("/o/wait"));
        for _ in 0..2 {
            let died = node.post("/d/die", b"").problem(502, "function_failed");
            says(&died, "exited with status 9");
            assert_eq!(node.get("/d").expect(200).text(), "fine");
            node.await_instances("d", 2);
        }
        assert_eq!(node.get("/o").expect(200).text(), "told");
        assert_eq!(waiting.join().unwrap().expect(200).text(), "waited");
    });
    eventually("both deaths are seen", || deaths(&node, "d") == 2);
    says(&node.mote(&["show", "d"]).ok(), "2 died");
    node.answers_hello();
}

#[test]
fn a_call_that_kills_its_instance_kills_no_other() {
    let node = Node::start();
    let code = "if h.path == '/die': os._exit(9)\nanswer(h, 'fine')";
    node.deploy_source(&server("d", "scale = { min = 3, max = 3 }", code));
    node.await_instances("d", 3);
    // So that there are connections that were kept, on which a call may be sent again.
    for _ in 0..6 {
        node.get("/d").expect(200);
    }
    node.get("/d/die").expect(502);
    eventually("the death is seen", || deaths(&node, "d") > 0);
    node.await_instances("d", 3);
    assert_eq!(deaths(&node, "d"), 1);
}

#[test]
fn a_process_or_worker_that_dies_says_how() {
    let node = Node::start();
    // It would kill whatever it can see.
    if !node.isolates_fully() {
        return;
    }
    node.deploy_source(&shell(
        "s",
        "",
        "echo last words >&2; exec python3 -c 'import ctypes; ctypes.string_at(0)'",
    ));
    let told = fails(&node, "s", b"", BAD_REPLY);
    says(&told, "signal");
    says(&told, "last words");
    node.deploy_source(&shell("c", "", "exit 3"));
    says(&fails(&node, "c", b"", BAD_REPLY), "exited with status 3");
    let handler = "import os\ndef fn(i, h):\n    if i == 'die': os.kill(os.getpid(), 9)\n    if i == 'parent': os.kill(os.getppid(), 9)\n    return 'fine'\n";
    node.deploy_source(&python("z", "", handler));
    for body in ["die", "die", "parent"] {
        let reply = node.post("/z", body.as_bytes());
        // The death of the parent may come after the answer.
        let expected = reply.status == 502 || (body == "parent" && reply.status == 200);
        assert!(expected, "{body}: {reply:?}");
        eventually("it answers again", || node.post("/z", b"").status == 200);
    }
    // Not by its own id alone: everything it may signal.
    node.deploy_source(&shell("k", "", "kill -KILL -1; echo alive"));
    let status = node.post("/k", b"").status;
    assert!(matches!(status, 200 | 502), "{status}");
    eventually("others of its app answer", || {
        node.post("/z", b"").status == 200
    });
    node.answers_hello();
}

#[test]
fn five_deaths_are_unhealthy_until_one_works() {
    let node = Node::start();
    let crash = "if h.path == '/die': os._exit(9)\nanswer(h, 'fine')";
    node.deploy_source(&server("u", "scale = { max = 1 }", crash));
    let mut refused = None;
    eventually("five deaths in a minute are unhealthy", || {
        let reply = node.get("/u/die");
        let unhealthy = reply.status == 503 && reply.text().contains("unhealthy");
        refused = unhealthy.then_some(reply);
        unhealthy
    });
    let refused = refused.unwrap();
    assert!(refused.header("retry-after").is_some(), "{refused:?}");
    let told = refused.problem(UNAVAILABLE.0, "overloaded");
    says(&told, "5 of its instances died within a minute");
    says(&told, "exited with status 9");
    assert_eq!(node.function("u")["state"], "unhealthy");
    says(&node.mote(&["ls"]).ok(), "unhealthy");
    let shown = node.mote(&["show", "u"]).ok();
    says(&shown, "unhealthy");
    says(&shown, "exited with status 9");
    // Back-off lets one be tried now and then; until that one has died too, calls are answered.
    let code = coap(&node, "u", b"").code;
    assert!(matches!(code, (5, 3) | (2, _)), "{code:?}");
    node.answers_hello();

    node.deploy_source(&server("u", "", "answer(h, 'mended')"));
    assert_eq!(node.get("/u").expect(200).text(), "mended");
    assert_ne!(node.function("u")["state"], "unhealthy");
    assert!(!node.mote(&["ls"]).ok().contains("unhealthy"));
}
