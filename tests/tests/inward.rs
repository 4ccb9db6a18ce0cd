//! What programs ask of their node: siblings, data, settings, over every contract of processes.

use mote_tests::guest;
use mote_tests::node::Node;
use mote_tests::program::run;
use mote_tests::source::{Source, python, server, shell};
use serde_json::json;

const GRANTS: &str = "allow.call = true\nallow.keyvalue = true\nallow.secrets = [\"KEY\"]\nenv = { ROOM = \"kitchen\" }\n";

/// Python that asks the node what the body says: `METHOD PATH [BODY]`, and answers status, kind and body.
const ASK: &str = r#"
import os, urllib.request, urllib.error
def ask(line, call=None):
    method, path, *rest = line.split(" ", 2)
    headers = {"Authorization": "Bearer " + os.environ["MOTE_TOKEN"]}
    if call:
        headers["Mote-Call-Id"] = call
    if method == "SPAWN":
        method, headers["Prefer"] = "POST", "respond-async"
    request = urllib.request.Request(os.environ["MOTE_API"] + path, method=method, headers=headers, data="".join(rest).encode())
    try:
        with urllib.request.urlopen(request) as reply:
            return f"{reply.status} {reply.headers.get('mote-error')} {reply.read().decode()}"
    except urllib.error.HTTPError as reply:
        return f"{reply.code} {reply.headers.get('mote-error')} {reply.read().decode()}"
"#;

fn zygote(name: &str, lines: &str) -> Source {
    python(
        name,
        lines,
        &format!("{ASK}\ndef handle(request):\n    return ask(request.text())\n"),
    )
}

fn http(name: &str, lines: &str) -> Source {
    let code = ASK.trim().replace("import os, urllib", "import urllib");
    server(
        name,
        lines,
        &format!("{code}\nanswer(h, ask(body.decode(), h.headers['Mote-Call-Id']))"),
    )
}

fn stdio(name: &str, lines: &str) -> Source {
    let code = format!("{ASK}\nimport sys\nprint(ask(sys.stdin.read()), end='')\n");
    shell(name, lines, "exec python3 ask.py").file("ask.py", code)
}

fn set_secret(node: &Node, value: &[u8]) {
    run(node.mote_command(&["secret", "set", "KEY"]), value).ok();
}

#[test]
fn programs_reach_what_they_were_granted() {
    let node = Node::start();
    node.deploy("light", &guest::says("on"), &json!({}));
    set_secret(&node, b"hidden");
    for (name, source) in [
        ("z", zygote("z", GRANTS)),
        ("h", http("h", GRANTS)),
        ("s", stdio("s", GRANTS)),
    ] {
        node.deploy_source(&source);
        let ask = |line: &str| {
            node.post(&format!("/{name}"), line.as_bytes())
                .expect(200)
                .text()
        };
        assert_eq!(ask("GET /call/light"), "200 None on", "{name}");
        assert_eq!(ask("POST /call/light/a?b=c body"), "200 None on", "{name}");
        let missing = ask("GET /call/nothing");
        assert!(
            missing.starts_with("404 not_found function `nothing` is not deployed"),
            "{name}: {missing}"
        );
        let other = ask("GET /call/light.garden");
        assert!(other.starts_with("403 forbidden"), "{name}: {other}");
        let spawned = ask("SPAWN /call/light");
        assert!(spawned.starts_with("202 None"), "{name}: {spawned}");

        let put = ask(&format!("PUT /kv/default/{name} one two"));
        assert!(put.starts_with("204"), "{name}: {put}");
        assert_eq!(
            ask(&format!("GET /kv/default/{name}")),
            "200 None one two",
            "{name}"
        );
        assert_eq!(
            ask(&format!("POST /kv/count/{name}?increment=2")),
            "200 None 2",
            "{name}"
        );
        assert_eq!(ask("GET /config/ROOM"), "200 None kitchen", "{name}");
        assert_eq!(ask("GET /config/KEY"), "200 None hidden", "{name}");
    }
    // One that runs already sees a secret as it is now.
    set_secret(&node, b"changed");
    assert_eq!(
        node.post("/h", b"GET /config/KEY").expect(200).text(),
        "200 None changed"
    );
    // What a program wrote, the command line and the other programs read.
    assert_eq!(node.mote(&["kv", "get", "s"]).ok(), "one two");
    assert_eq!(
        node.post("/h", b"GET /kv/default/z").expect(200).text(),
        "200 None one two"
    );
}

#[test]
fn without_a_grant_there_is_nothing_to_ask() {
    let node = Node::start();
    node.deploy_source(&python(
        "p",
        "",
        "import os\ndef handle(request):\n    return str('MOTE_API' in os.environ)\n",
    ));
    assert_eq!(node.post("/p", b"").expect(200).text(), "False");
    node.deploy_source(&zygote("c", "allow.call = true\n"));
    let said = node.post("/c", b"GET /kv/default/a").expect(200).text();
    assert!(
        said.starts_with("403 forbidden function `c` may not use key-value data"),
        "{said}"
    );
    assert!(said.contains("allow.keyvalue = true"), "{said}");
}

#[test]
fn programs_that_call_in_a_circle_end_with_an_error() {
    let node = Node::start();
    node.deploy_source(&http("round", "allow.call = true\nconcurrency = 64\n"));
    node.deploy_source(&http("turn", "allow.call = true\nconcurrency = 1\n"));
    // Each asks the next: `round` asks `turn`, which asks `round`, and so on to the limit of depth or of `turn`.
    let body = "POST /call/turn POST /call/round POST /call/turn POST /call/round GET /config";
    let said = node.post("/round", body.as_bytes()).expect(200).text();
    assert!(said.contains("503 overloaded"), "{said}");
    assert!(said.starts_with("200 None 200 None "), "{said}");
    assert_eq!(
        node.post("/round", b"GET /config/ROOM")
            .expect(200)
            .text()
            .get(..3),
        Some("404")
    );
}
