//! `mote dev`: a saved file is served, a mistake leaves what runs alone, and nothing is left of it.

#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use mote_tests::eventually::eventually;
use mote_tests::http::request;
use mote_tests::project::{Project, Session, has_toolchain};
use rustix::process::Signal;

/// A session of a new function in C, when it serves.
#[track_caller]
fn session() -> Option<(Project, Session, SocketAddr)> {
    if !has_toolchain("c") {
        return None;
    }
    let project = Project::new("c", "hello");
    let session = project.develop();
    let url = session.after("curl http://");
    let (address, path) = url.split_once('/').unwrap();
    assert_eq!(path, "hello");
    let address = address.parse().unwrap();
    Some((project, session, address))
}

fn get(address: SocketAddr) -> String {
    request(address, "GET", "/hello?name=Ada", &[], &[])
        .expect(200)
        .text()
}

#[test]
fn a_saved_change_is_served_and_a_mistake_is_not() {
    let Some((project, session, address)) = session() else {
        return;
    };
    assert_eq!(get(address), "hello, Ada\n");
    session.logs("hello info  hello to Ada");
    assert!(
        session
            .after("coap-client -m get coap://")
            .ends_with("/hello")
    );

    project.edit("src/main.c", "hello, %s", "servus, %s");
    eventually("the change is served", || get(address) == "servus, Ada\n");

    project.edit("src/main.c", "mote_printf(", "mote_printf((");
    session.says("expected ')'");
    session.says("the last version that was built goes on");
    assert_eq!(get(address), "servus, Ada\n");

    project.edit("src/main.c", "mote_printf((", "mote_printf(");
    project.edit("src/main.c", "servus, %s", "moin, %s");
    eventually("the mend is served", || get(address) == "moin, Ada\n");

    // A new file counts, and so does the manifest.
    project.write(
        "src/other.c",
        "const char *other(void) { return \"other\"; }\n",
    );
    project.edit(
        "src/main.c",
        "#include",
        "const char *other(void);\n#include",
    );
    project.edit("src/main.c", "name.data);\n}", "other());\n}");
    eventually("another file is compiled", || {
        get(address) == "moin, other\n"
    });
    project.edit("mote.toml", "[function.hello]", "[function.hullo]");
    session.says("/hullo");
}

/// A session that has ended by this signal leaves no process, no folder and no port.
#[track_caller]
fn leaves_nothing(signal: Signal) {
    let Some((_project, mut session, address)) = session() else {
        return;
    };
    let folder = session.after("MOTE_DATA_DIR=");
    assert!(Path::new(&folder).is_dir());
    session.end(signal);
    eventually("the folder is gone", || !Path::new(&folder).exists());
    eventually("the port is free", || TcpListener::bind(address).is_ok());
    eventually("the processes are gone", || !in_a_command_line(&folder));
}

/// Whether any process was started with this word.
fn in_a_command_line(word: &str) -> bool {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter_map(|process| std::fs::read(process.path().join("cmdline")).ok())
        .any(|line| String::from_utf8_lossy(&line).contains(word))
}

#[test]
fn ctrl_c_leaves_nothing() {
    leaves_nothing(Signal::INT);
}

#[test]
fn a_stop_leaves_nothing() {
    leaves_nothing(Signal::TERM);
}

#[test]
fn a_kill_leaves_nothing() {
    leaves_nothing(Signal::KILL);
}

#[test]
fn a_compiler_ends_with_the_session() {
    let project = Project::new("c", "hello");
    let build = "build = { command = \"echo compiling >&2; exec sleep 7654\" }";
    project.edit("mote.toml", "build = { language = \"c\" }", build);
    for signal in [Signal::TERM, Signal::KILL] {
        let mut session = project.develop();
        session.says("compiling");
        session.end(signal);
        eventually("the compiler is gone", || {
            !in_a_command_line("sleep\u{0}7654")
        });
    }
}

#[test]
fn a_port_that_is_taken_is_said() {
    let project = Project::new("c", "hello");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let ended = project.mote(&["dev", "--http", &address, "--coap", "127.0.0.1:0"]);
    ended.failed(
        5,
        &[
            "the http door cannot listen on",
            "the node did not start",
            "--http",
        ],
    );
}
