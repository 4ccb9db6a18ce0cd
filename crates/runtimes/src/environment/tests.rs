//! What environments are read, found and refused.

mod served;

use std::os::unix::fs::PermissionsExt as _;

use super::*;

fn add(home: &Path, name: &str, text: &str) {
    fs::create_dir_all(home.join(name)).unwrap();
    fs::write(home.join(name).join(FILE_NAME), text).unwrap();
}

#[test]
fn the_built_in_ones_are_written_once_and_readable_by_all() {
    let home = tempfile::tempdir().unwrap();
    let environments = Environments::open(home.path()).unwrap();
    assert_eq!(environments.names(), ["binary", "nodejs", "python3"]);
    let python = environments.find("python3").unwrap();
    assert_eq!(python.serving, Serving::Zygote);
    let loader = python.folder.join("loader.py");
    let about = fs::metadata(&loader).unwrap();
    assert_eq!(about.permissions().mode() & 0o777, 0o644);
    assert_eq!(
        fs::metadata(&python.folder).unwrap().permissions().mode() & 0o777,
        0o755
    );

    let old = home.path().join("builtin/python3-000000000000");
    fs::create_dir(&old).unwrap();
    let again = Environments::open(home.path()).unwrap();
    assert_eq!(again.find("python3").unwrap(), python);
    assert_eq!(
        fs::metadata(&loader).unwrap().modified().unwrap(),
        about.modified().unwrap()
    );
    assert!(!old.exists(), "a folder of another version stays");

    fs::write(&loader, "changed").unwrap();
    Environments::open(home.path()).unwrap();
    assert_ne!(fs::read_to_string(&loader).unwrap(), "changed");
}

#[test]
fn functions_are_known_by_their_files() {
    let home = tempfile::tempdir().unwrap();
    let environments = Environments::open(home.path()).unwrap();
    let detect = |files: &[&str]| {
        let (environment, handler) = environments.detect(|file| files.contains(&file))?;
        let last = environment.command_for(&handler).pop()?;
        Some((environment.name, handler, last))
    };
    for (files, name, handler) in [
        (&["fn.py", "requirements.txt"][..], "python3", "fn.py"),
        (&["fn.py", "handler.py"], "python3", "handler.py"),
        (&["index.js", "package.json"], "nodejs", "index.js"),
        (&["package.json", "lib.js"], "nodejs", "package.json"),
        (&["handler.mjs"], "nodejs", "handler.mjs"),
        (&["fn.sh"], "binary", "fn.sh"),
        (&["program"], "binary", "program"),
    ] {
        let found = detect(files).unwrap();
        assert_eq!(
            found,
            (name.into(), handler.into(), format!("/app/{handler}"))
        );
    }
    assert_eq!(detect(&["main.go"]), None);
    assert!(Environments::builtin_files().contains(&"fn.sh".to_owned()));
}

#[test]
fn users_add_their_own_while_the_node_runs() {
    let home = tempfile::tempdir().unwrap();
    let environments = Environments::open(home.path()).unwrap();
    let error = environments.find("lua").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.hint().unwrap().contains("binary, nodejs, python3"));

    let text = "version = 1\nfiles = [\"handler.lua\", \"fn.sh\"]\ncontract = \"stdio\"\ncommand = [\"lua\", \"/app/{handler}\"]";
    add(home.path(), "lua", text);
    add(home.path(), "broken", "version = 1");
    let (found, handler) = environments.detect(|file| file == "handler.lua").unwrap();
    assert_eq!(found, environments.find("lua").unwrap());
    assert_eq!(found.command_for(&handler), ["lua", "/app/handler.lua"]);
    assert_eq!(found.folder, home.path().join("lua"));
    // Theirs come first, also under the name of a built-in one.
    assert_eq!(
        environments.detect(|file| file == "fn.sh").unwrap().0.name,
        "lua"
    );
    add(home.path(), "nodejs", text);
    assert_eq!(environments.find("nodejs").unwrap().command[0], "lua");
    assert_eq!(
        environments.names(),
        ["binary", "broken", "lua", "nodejs", "python3"]
    );
}

#[test]
fn a_wrong_manifest_is_refused_with_its_line() {
    let good = |key: &str, value: &str| {
        let mut text = String::new();
        for (name, usual) in [
            ("version", "1"),
            ("files", "['a.py']"),
            ("contract", "'http'"),
            ("command", "['python3', '{handler}']"),
        ] {
            let value = if name == key { value } else { usual };
            text.push_str(&format!("{name} = {value}\n"));
        }
        text
    };
    let home = tempfile::tempdir().unwrap();
    let environments = Environments::open(home.path()).unwrap();
    let check = |text: &str| {
        add(home.path(), "mine", text);
        environments.find("mine")
    };
    assert!(check(&good("", "")).is_ok());
    for (text, expect) in [
        (good("version", "2"), "line 1: version 2 of the format"),
        (good("version", "'x'"), "line 1: "),
        (good("files", "[]"), "line 2: `files` names 0"),
        (
            good("files", "['../a']"),
            "line 2: `../a` is not the name of a file",
        ),
        (good("files", "['-c']"), "line 2: `-c` is not"),
        (
            good("contract", "'grpc'"),
            "line 3: contract `grpc` is not known",
        ),
        (good("command", "[]"), "line 4: `command` has no program"),
        (good("command", "['a\\u0000b']"), "line 4"),
        (
            good("command", "[\"a\\u0000b\"]"),
            "line 4: `command` has a zero byte",
        ),
        (
            good("", "") + "comand = 1",
            "line 5: unknown field `comand`",
        ),
        (
            good("", "") + "ready = 'x'",
            "line 5: ready `x` is not a path",
        ),
        (
            good("contract", "'stdio'") + "ready = '/'",
            "line 5: `ready` is not for",
        ),
        ("files = []".to_owned(), "has no `version`"),
        ("version = 1\nfiles = ['a']".to_owned(), "missing field"),
        ("version = 1\n[".to_owned(), "line 2: "),
        (
            " ".repeat(manifest::BYTES_MAX + 1),
            "larger than 65536 bytes",
        ),
    ] {
        // One of the texts is fine TOML: a literal string does not know escapes.
        if text.contains("'a\\u") {
            assert!(check(&text).is_ok());
            continue;
        }
        let error = check(&text).unwrap_err();
        assert!(error.message().contains(expect), "{error} lacks {expect}");
        assert!(error.message().contains("mine/environment.toml"), "{error}");
    }
    for name in ["builtin", "../x", "", "a/b"] {
        assert!(environments.find(name).is_err(), "{name}");
    }
}
