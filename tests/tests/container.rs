//! Containers as functions, with a real engine that the test starts and ends.

use std::process::Command;

use mote_tests::engine::Engine;
use mote_tests::eventually::eventually;
use mote_tests::node::Up;
use mote_tests::program::run;
use mote_tests::source::Source;

#[path = "../interop/tools.rs"]
mod tools;

#[test]
fn containers_serve_sleep_die_and_leave_nothing() {
    let Some(engine) = Engine::start() else {
        return;
    };
    let socket = engine.socket();
    let flag = |up: Up| up.flag("--container-socket", socket.to_str().unwrap());
    let mut node = flag(Up::new()).start();
    let container = |name: &str, lines: &str| {
        Source::new().manifest(name, &format!("runtime = \"container\"\n{lines}"))
    };
    let missing = container("x", "image = \"mote-test/none\"");
    node.try_deploy_source(&missing)
        .failed(4, &["mote-test/none", "pull"]);

    let lines = "image = \"mote-test/static\"\nscale = { idle = \"60s\", max = 2 }";
    node.deploy_source(&container("c.web", lines));
    let first = node.get("/c.web").expect(200).text();
    assert!(!first.is_empty());
    if let Some(client) = tools::program("coap-client-notls") {
        let mut command = Command::new(client);
        command
            .args(["-m", "get"])
            .arg(format!("coap://{}/c.web", node.coap()));
        assert_eq!(run(command, &[]).ok().trim_end(), first.trim_end());
    }
    let served = "command = [\"python3\", \"-m\", \"http.server\", \"8080\"]";
    node.deploy_source(&container(
        "p.web",
        &format!("image = \"mote-test/python-node\"\n{served}"),
    ));
    assert!(
        node.get("/p.web")
            .expect(200)
            .text()
            .contains("Directory listing")
    );

    // Idle, it is paused; the next call wakes it.
    eventually("it is paused", || node.function("c.web")["state"] == "warm");
    assert_eq!(node.get("/c.web").expect(200).text(), first);
    assert_eq!(node.function("c.web")["state"], "hot");

    // Killed from outside, it is replaced.
    let names = engine.docker(&["ps", "--format", "{{.Names}}"]);
    let name = names.lines().find(|name| name.contains("-c-web-")).unwrap();
    engine.docker(&["kill", name]);
    eventually("another one answers", || node.get("/c.web").status == 200);

    // What a killed node leaves is removed when it is started again, and at the end nothing is left.
    node.kill();
    assert!(!engine.docker(&["ps", "-q"]).is_empty());
    node.restart();
    assert_eq!(node.get("/c.web").expect(200).text(), first);
    assert_eq!(engine.docker(&["ps", "-q"]).lines().count(), 1);
    node.stop();
    eventually("no container is left", || {
        engine.docker(&["ps", "-aq"]).is_empty()
    });
    let networks = engine.docker(&["network", "ls", "--format", "{{.Name}}"]);
    assert!(!networks.contains("mote-"), "{networks}");
}

/// The image has the language, the node the code and its environment.
#[test]
fn plain_source_is_mounted_into_an_image() {
    let Some(engine) = Engine::start() else {
        return;
    };
    let socket = engine.socket();
    let mut node = Up::new()
        .flag("--container-socket", socket.to_str().unwrap())
        .start();
    let lines = "runtime = \"container\"\nsource = \".\"\nimage = \"mote-test/python-node\"\nmemory = \"256MiB\"";
    let script = "module.exports = (req, res) => res.json({ got: req.body });";
    let javascript = Source::new().file("handler.js", script);
    node.deploy_source(&javascript.manifest("js.code", lines));
    assert_eq!(
        node.post("/js.code", b"x").expect(200).text(),
        r#"{"got":"x"}"#
    );
    let python = Source::new().file("handler.py", "count = 0\ndef handle(request):\n    global count\n    count += 1\n    return f'{count} {request.text()}'\n");
    node.deploy_source(&python.manifest("py.code", lines));
    for _ in 0..2 {
        assert_eq!(node.post("/py.code", b"x").expect(200).text(), "1 x");
    }

    // What the image cannot run says so, and what a container does not do.
    let image = "runtime = \"container\"\nsource = \".\"\nimage = \"mote-test/static\"";
    let python = Source::new().file("handler.py", "def handle(request): return 1");
    node.try_deploy_source(&python.manifest("no.code", image))
        .failed(7, &["exec python3 failed"]);
    let shell = Source::new().file("fn.sh", "cat");
    node.try_deploy_source(&shell.manifest("sh.code", lines))
        .failed(
            2,
            &["binary", "process for each call", "runtime = \"process\""],
        );

    // The code is there again after a restart.
    node.kill();
    node.restart();
    assert_eq!(node.post("/py.code", b"y").expect(200).text(), "1 y");
    node.stop();
}

/// The next start is quicker by it, but it takes one of the engine's few subnets.
#[test]
fn an_app_keeps_its_network_and_few_do_without_containers() {
    let Some(engine) = Engine::start() else {
        return;
    };
    let socket = engine.socket();
    let mut node = Up::new()
        .flag("--container-socket", socket.to_str().unwrap())
        .start();
    let networks = || -> Vec<String> {
        let lines = engine.docker(&["network", "ls", "--format", "{{.Name}}"]);
        let ours = lines.lines().filter(|name| name.starts_with("mote-"));
        ours.map(str::to_owned).collect()
    };
    let apps: Vec<String> = (0..10).map(|number| format!("app{number}")).collect();
    for app in &apps {
        let lines =
            "runtime = \"container\"\nimage = \"mote-test/static\"\nscale = { idle = \"100ms\" }";
        node.deploy_source(&Source::new().manifest(&format!("c.{app}"), lines));
        node.await_instances(&format!("c.{app}"), 0);
    }
    eventually("eight networks are left, the latest", || {
        let left = networks();
        left.len() == 8
            && apps[2..]
                .iter()
                .all(|app| left.iter().any(|name| name.ends_with(app)))
    });
    node.get("/c.app9").expect(200);
    node.get("/c.app0").expect(200);
    for app in &apps {
        node.mote(&["rm", &format!("c.{app}")]).ok();
    }
    eventually("none is left", || networks().is_empty());
    node.stop();
}
