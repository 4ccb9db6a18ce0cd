//! Programs that take more than they may: processes, memory, room in `/tmp`.

use mote_tests::node::Node;
use mote_tests::source::{python, server, shell};

use crate::{BAD_REPLY, Mark, fails, program, says};

#[test]
fn a_bomb_of_forks_is_bounded_and_swept_up() {
    let node = Node::start();
    if !node.isolates_fully() {
        return;
    }
    let mark = Mark::new();
    let forks = r#"
import os, sys, time
made = 0
try:
    while made < 1000:
        if os.fork() == 0: time.sleep(600)
        made += 1
except OSError as e:
    print(made, e.strerror)
"#;
    let lines = format!("processes = 32\nenv = {{ MARK = \"{}\" }}", mark.0);
    let counts = program("f", "stdio", &lines, forks);
    node.deploy_source(&counts);
    // Twice: what one call left would count against the next.
    for _ in 0..2 {
        let text = node.post("/f", b"").expect(200).text();
        let (made, why) = text.split_once(' ').unwrap();
        let made: u32 = made.parse().unwrap();
        assert!((20..32).contains(&made), "{text}");
        says(why, "Resource temporarily unavailable");
    }
    let bomb = format!("exec sh -c 'f() {{ f | f & }}; f; sleep 600' {}", mark.0);
    node.deploy_source(&shell(
        "bomb",
        "timeout = \"2s\"\nprocesses = 32\ncpus = 0.5",
        &bomb,
    ));
    let status = node.post("/bomb", b"").status;
    assert!(matches!(status, 502 | 504), "{status}");
    mark.gone();
    assert!(node.post("/f", b"").expect(200).text().contains("Resource"));
    // In a program that stays it is the program's own trouble, and ends with it.
    let code = format!(
        "import subprocess\nmade = []\ntry:\n    while len(made) < 1000: made.append(subprocess.Popen(['sleep', '{}']))\nexcept OSError: pass\nanswer(h, str(len(made)))",
        mark.0
    );
    node.deploy_source(&server("s", "processes = 32", &code));
    let made: u32 = node.get("/s").expect(200).text().parse().unwrap();
    assert!((1..32).contains(&made), "{made}");
    assert!(mark.processes() > 0);
    node.mote(&["rm", "s"]).ok();
    mark.gone();
    node.answers_hello();
}

#[test]
fn one_that_takes_too_much_memory_is_killed_and_that_is_said() {
    let node = Node::start();
    if !node.isolates_fully() {
        return;
    }
    let eats = "exec python3 -c 'bytearray(1 << 30)'";
    node.deploy_source(&shell("e", "memory = \"64MiB\"", eats));
    says(&fails(&node, "e", b"", BAD_REPLY), "memory");
    // By a child, whose parent lives on to tell.
    let child = "python3 -c 'bytearray(1 << 30)'; echo \"ended with $?\"";
    node.deploy_source(&shell("c", "memory = \"64MiB\"", child));
    let reply = node.post("/c", b"");
    assert!(
        reply.status == 502 || reply.text().contains("ended with 137"),
        "{reply:?}"
    );
    let eats = "if h.path == '/eat': bytearray(1 << 30)\nanswer(h, 'fine')";
    node.deploy_source(&server("h", "memory = \"64MiB\"", eats));
    for _ in 0..2 {
        assert_eq!(node.get("/h").expect(200).text(), "fine");
        says(
            &node.get("/h/eat").problem(502, "function_failed"),
            "memory",
        );
    }
    node.answers_hello();
}

#[test]
fn a_handler_that_takes_too_much_memory_is_killed_and_that_is_said() {
    let node = Node::start();
    if !node.isolates_fully() {
        return;
    }
    let eats = "def fn(i, h):\n    if i == 'eat': bytearray(1 << 30)\n    return 'fine'\n";
    node.deploy_source(&python("z", "memory = \"64MiB\"", eats));
    for _ in 0..2 {
        assert_eq!(node.post("/z", b"").expect(200).text(), "fine");
        says(&fails(&node, "z", b"eat", BAD_REPLY), "memory");
    }
    node.answers_hello();
}

#[test]
fn one_that_uses_up_its_processor_time_is_killed_and_that_is_said() {
    let node = Node::start();
    let lines = "cpu = \"1s\"\ntimeout = \"50s\"";
    node.deploy_source(&shell("c", lines, "while :; do :; done"));
    let reply = node.post("/c", b"").expect(502);
    says(&reply.text(), "raise `cpu`");
    node.answers_hello();
}

#[test]
fn what_fills_tmp_fills_its_own() {
    let node = Node::start();
    if !node.isolates_fully() {
        return;
    }
    let fills = "head -c 20000000 /dev/zero > /tmp/full; stat -c %s /tmp/full";
    node.deploy_source(&shell("f", "tmp = \"1MiB\"", fills));
    let size = |text: &str| text.trim().parse::<u64>().unwrap();
    for _ in 0..2 {
        let text = node.post("/f", b"").expect(200).text();
        assert!((1..=1 << 20).contains(&size(&text)), "{text}");
    }
    says(&node.log_of("f"), "No space left on device");
    // Many small files take room too.
    let many = "i=0; while [ $i -lt 100000 ] && true > /tmp/$i; do i=$((i+1)); done; echo $i";
    node.deploy_source(&shell("m", "tmp = \"1MiB\"\ntimeout = \"50s\"", many));
    let text = node.post("/m", b"").expect(200).text();
    assert!(size(&text) < 100_000, "{text}");
    // Another function has all of its own.
    node.deploy_source(&shell(
        "o.other",
        "tmp = \"1MiB\"",
        "head -c 500000 /dev/zero > /tmp/x && echo wrote",
    ));
    assert_eq!(node.post("/o.other", b"").expect(200).text(), "wrote\n");
    // Nowhere else can be written to at all.
    let elsewhere = "for f in / /app /usr /etc /var /dev /proc /sys /run /home; do (: > $f/x) 2>/dev/null && echo $f; done; true";
    node.deploy_source(&shell("w", "", elsewhere));
    assert_eq!(node.post("/w", b"").expect(200).text(), "");
    node.answers_hello();
}
