//! The command line as people meet it, as far as it needs no node: help, errors, configuration.

use std::path::Path;
use std::process::{Command, Output};

/// Runs the program in an empty environment.
fn mote(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mote"))
        .args(arguments)
        .env_clear()
        .envs(environment.iter().copied())
        .output()
        .expect("the program was built")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("the program writes UTF-8")
}

/// Runs a command that fails; checks exit code, the start of the error, and the hint.
#[track_caller]
fn fails(arguments: &[&str], code: i32, error: &str, hint: &str) {
    let output = mote(
        arguments,
        &[("NO_COLOR", "1"), ("MOTE_DATA_DIR", "/nonexistent/mote")],
    );
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert_eq!(text(&output.stdout), "", "data on a failure");
    assert!(said.starts_with(&format!("error: {error}")), "{said}");
    assert!(
        hint.is_empty() || said.contains(&format!("hint: {hint}")),
        "{said}"
    );
}

#[test]
fn the_help_lists_every_command() {
    let output = mote(&["--help"], &[]);
    assert_eq!(output.status.code(), Some(0));
    let help = text(&output.stdout);
    let listed: Vec<&str> = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    for command in [
        "up",
        "new",
        "build",
        "dev",
        "test",
        "deploy",
        "invoke",
        "ls",
        "show",
        "rm",
        "rollback",
        "logs",
        "status",
        "wipe",
        "config",
        "completions",
    ] {
        assert!(listed.contains(&command), "{help}");
    }
    assert!(!help.contains("__compile"), "a hidden command shows");
}

#[test]
fn every_command_explains_itself_and_its_mistakes() {
    for command in [
        "up", "deploy", "invoke", "ls", "show", "rm", "rollback", "logs", "status", "wipe",
    ] {
        let output = mote(&[command, "--help"], &[]);
        assert_eq!(output.status.code(), Some(0), "{command}");
        assert!(text(&output.stdout).contains("Usage: mote "), "{command}");
        let output = mote(&[command, "--nonsense"], &[]);
        assert_eq!(output.status.code(), Some(2), "{command}");
        assert!(output.stdout.is_empty(), "{command}");
    }
}

#[test]
fn the_short_help_of_up_has_what_people_change() {
    let short = text(&mote(&["up", "-h"], &[]).stdout);
    let long = text(&mote(&["up", "--help"], &[]).stdout);
    for flag in [
        "--data-dir",
        "--http",
        "--coap",
        "--admin",
        "--workers",
        "--log-level",
        "--config",
    ] {
        assert!(short.contains(flag), "{short}");
    }
    for (flag, variable) in [
        ("--image-idle", "MOTE_IMAGE_IDLE"),
        ("--calls-max", "MOTE_CALLS_MAX"),
    ] {
        assert!(!short.contains(flag), "{short}");
        assert!(long.contains(flag) && long.contains(variable), "{long}");
    }
}

#[test]
fn without_a_node_every_command_says_so() {
    for command in [
        &["ls"][..],
        &["status"],
        &["show", "light"],
        &["rm", "light"],
        &["logs", "light"],
        &["invoke", "light"],
    ] {
        fails(
            command,
            6,
            "no node is running in /nonexistent/mote\n",
            "start one with `mote up`",
        );
    }
    fails(
        &["ls", "--node", "ftp://x"],
        2,
        "`ftp://x` is not the address of a node",
        "write its admin address",
    );
    fails(
        &["invoke", "http://127.0.0.1:1/light"],
        6,
        "nothing answers at http://127.0.0.1:1/light: connection refused",
        "start a node",
    );
    fails(
        &["invoke", "coap://127.0.0.1:1/light"],
        6,
        "nothing answers at coap://127.0.0.1:1",
        "start a node",
    );
    fails(
        &["wipe", "--node", "http://127.0.0.1:1"],
        2,
        "nobody is there to confirm a wipe",
        "give --yes",
    );
}

#[test]
fn what_cannot_be_deployed_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    fails(
        &["deploy", &path("missing.wasm")],
        4,
        &format!("cannot read {}", path("missing.wasm")),
        "check path",
    );
    std::fs::write(path("text.wasm"), "not wasm").unwrap();
    fails(
        &["deploy", &path("text.wasm")],
        2,
        &format!("{} is not WebAssembly", path("text.wasm")),
        "build the function",
    );
    fails(
        &["deploy", folder.path().to_str().unwrap()],
        2,
        &format!("{} has no mote.toml", folder.path().display()),
        "name a .wasm file",
    );
    std::fs::write(path("My Light.wasm"), b"\0asm").unwrap();
    fails(
        &["deploy", &path("My Light.wasm"), "--memory", "9GiB"],
        2,
        "memory = 9663676416 is outside",
        "",
    );
    std::fs::write(path("1.wasm"), b"\0asm").unwrap();
    fails(
        &["deploy", &path("1.wasm")],
        2,
        "function name `1` is not valid",
        "choose a name with --name",
    );
    fails(
        &["deploy", &path("1.wasm"), "--name", "one", "--env", "KEY"],
        2,
        "--env KEY has no value",
        "write --env KEY=VALUE",
    );
    fails(
        &["deploy", &path("1.wasm"), "--name", "one"],
        6,
        "no node is running",
        "start one",
    );

    std::fs::write(
        path("mote.toml"),
        "version = 1\n[function.a]\nsource = \"text.wasm\"\nmemry = 1\n",
    )
    .unwrap();
    let manifest = format!(
        "{}: line 4: unknown key `memry` of function `a`",
        path("mote.toml")
    );
    fails(
        &["deploy", folder.path().to_str().unwrap()],
        2,
        &manifest,
        "did you mean `memory`?",
    );
    fails(
        &["deploy", &path("mote.toml"), "--memory", "1MiB"],
        2,
        "--memory is for a file or a folder",
        "write it into mote.toml",
    );
    let outside = tempfile::NamedTempFile::new().unwrap();
    std::os::unix::fs::symlink(outside.path(), path("link.wasm")).unwrap();
    std::fs::write(
        path("mote.toml"),
        "version = 1\n[function.a]\nsource = \"link.wasm\"\n",
    )
    .unwrap();
    fails(
        &["deploy", &path("mote.toml")],
        2,
        "function `a`: source `link.wasm` is a link out of",
        "copy the file",
    );
}

#[test]
fn the_configuration_shows_value_and_origin() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("node.toml");
    std::fs::write(&file, "# mine\ncoap = \"off\"\ndrain = \"3s\"\n").unwrap();
    let data_dir = folder.path().to_str().unwrap();
    let environment = [
        ("MOTE_DATA_DIR", data_dir),
        ("MOTE_DRAIN", "4s"),
        ("MOTE_HTTP", "127.0.0.1:1"),
    ];
    let arguments = ["config", "show", "--json", "--http", "127.0.0.1:0"];
    let output = mote(&arguments, &environment);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let rows: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let find = |key: &str| {
        let row = rows
            .as_array()
            .unwrap()
            .iter()
            .find(|row| row["key"] == key)
            .unwrap();
        (
            row["value"].as_str().unwrap().to_owned(),
            row["origin"].as_str().unwrap().to_owned(),
        )
    };
    let said = |value: &str, origin: &str| (value.to_owned(), origin.to_owned());
    assert_eq!(find("http"), said("127.0.0.1:0", "--http"));
    assert_eq!(find("drain"), said("4s", "MOTE_DRAIN"));
    assert_eq!(find("coap"), said("off", &format!("{}:2", file.display())));
    assert_eq!(find("calls_max"), said("512", "default"));
    // The same on every machine, for the reference.
    for (key, default, takes) in [
        ("calls_max", "512", "a number from 1 to 1000000"),
        (
            "memory_bytes_max",
            "three quarters of what the node may use",
            "a size such as \"64MiB\"",
        ),
    ] {
        let rows = rows.as_array().unwrap();
        let row = rows.iter().find(|row| row["key"] == key).unwrap();
        assert_eq!(
            (&row["default"], &row["takes"]),
            (&default.into(), &takes.into())
        );
    }

    let table = text(&mote(&["config", "show"], &environment).stdout);
    assert!(table.starts_with("KEY "), "{table}");
    assert!(
        table
            .lines()
            .any(|line| line.starts_with("drain ") && line.ends_with("MOTE_DRAIN")),
        "{table}"
    );
    std::fs::write(&file, "drian = \"3s\"\n").unwrap();
    let output = mote(&["config", "show"], &environment);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        text(&output.stderr)
            .contains("node.toml:1: unknown key `drian`\nhint: did you mean `drain`?")
    );
}

#[test]
fn where_a_node_keeps_its_data_follows_the_person() {
    if Path::new("/proc/self").exists() && rustix_is_root() {
        let output = mote(&["config", "show"], &[]);
        assert!(text(&output.stdout).contains(" /var/lib/mote "));
        return;
    }
    let output = mote(&["config", "show"], &[("HOME", "/home/ada")]);
    assert!(text(&output.stdout).contains(" /home/ada/.local/share/mote "));
    let output = mote(
        &["config", "show"],
        &[("HOME", "/home/ada"), ("XDG_DATA_HOME", "/data")],
    );
    assert!(text(&output.stdout).contains(" /data/mote "));
}

/// Whether the tests run as the administrator, whose data is the system's.
fn rustix_is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[test]
fn completions_are_printed_for_every_shell() {
    for shell in ["bash", "zsh", "fish"] {
        let output = mote(&["completions", shell], &[]);
        assert_eq!(output.status.code(), Some(0));
        assert!(text(&output.stdout).contains("rollback"), "{shell}");
    }
}

#[test]
fn colours_are_for_terminals_only() {
    let output = mote(&["ls"], &[("MOTE_DATA_DIR", "/nonexistent/mote")]);
    assert!(!text(&output.stderr).contains('\x1b'));
}
