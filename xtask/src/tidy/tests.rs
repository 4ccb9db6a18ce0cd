//! Each rule is proven by breaking it: a tidy tree, one change, and the line that must be reported.

use super::check;
use super::limits::{FILE_LINES_MAX, PROMISED_FILES};
use std::fs;
use std::path::Path;
use tempfile::TempDir;

/// A small workspace in which every rule holds.
fn tidy_tree() -> TempDir {
    let tree = TempDir::new().unwrap();
    for path in PROMISED_FILES {
        write(tree.path(), path, "text\n");
    }
    write(
        tree.path(),
        "ARCHITECTURE.md",
        "# Map\n\n```edges\nengine -> core # traits\ntests -> core, engine\n```\n",
    );
    write(
        tree.path(),
        "Cargo.toml",
        "[workspace.dependencies]\nmote-core = { path = \"crates/core\" }\n",
    );
    for (folder, package, imports) in [
        ("crates/core", "mote-core", ""),
        (
            "crates/engine",
            "mote-engine",
            "[dependencies]\nmote-core.workspace = true\n",
        ),
        (
            "crates/store",
            "mote-store",
            "[dependencies]\nredb = \"4\"\n",
        ),
        (
            "crates/mote",
            "mote",
            "[dependencies]\nclap = { version = \"4\" }\n",
        ),
        (
            "tests",
            "mote-tests",
            "[dev-dependencies]\nmote-engine.workspace = true\n",
        ),
    ] {
        let manifest =
            format!("[package]\nname = \"{package}\"\n\n{imports}\n[lints]\nworkspace = true\n");
        write(tree.path(), &format!("{folder}/Cargo.toml"), &manifest);
        write(
            tree.path(),
            &format!("{folder}/src/lib.rs"),
            "//! What is here.\n",
        );
    }
    tree
}

fn write(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// Writes one file into a tidy tree and compares the beginnings of what is reported.
#[track_caller]
fn breaking(path: &str, text: &str, expect: &[&str]) {
    let tree = tidy_tree();
    write(tree.path(), path, text);
    let findings: Vec<String> = check(tree.path())
        .unwrap()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(findings.len(), expect.len(), "{findings:#?}");
    for (finding, expect) in findings.iter().zip(expect) {
        assert!(
            finding.starts_with(expect),
            "{finding:?} does not begin with {expect:?}"
        );
        assert!(
            finding.contains("; "),
            "{finding:?} does not say what to do"
        );
    }
}

fn manifest(package: &str, tables: &str) -> String {
    format!("[package]\nname = \"{package}\"\n[lints]\nworkspace = true\n{tables}")
}

#[test]
fn a_tidy_tree_has_no_findings() {
    breaking("crates/core/src/spec.rs", "//! Specs.\n", &[]);
}

#[test]
fn an_edge_that_is_not_listed() {
    let report = "crates/store/Cargo.toml:6: `store` imports `core`, an edge";
    let path = "crates/store/Cargo.toml";
    breaking(
        path,
        &manifest("mote-store", "[dependencies]\nmote-core.workspace = true\n"),
        &[report],
    );
    breaking(
        path,
        &manifest(
            "mote-store",
            "[dev-dependencies]\nmote-core = { path = \"../core\" }\n",
        ),
        &[report],
    );
    breaking(
        path,
        &manifest(
            "mote-store",
            "[build-dependencies]\nbase = { package = \"mote-core\" }\n",
        ),
        &[report],
    );
    breaking(
        path,
        &manifest(
            "mote-store",
            "[target.'cfg(unix)'.dependencies]\nmote-core = \"1\"\n",
        ),
        &[report],
    );
    breaking(
        path,
        &manifest("mote-store", "[dependencies.mote-core]\nworkspace = true\n"),
        &["crates/store/Cargo.toml:5: `store` imports `core`"],
    );
}

#[test]
fn an_edge_under_another_name() {
    let tree = tidy_tree();
    write(
        tree.path(),
        "Cargo.toml",
        "[workspace.dependencies]\nbase = { package = \"mote-core\", path = \"x\" }\n",
    );
    write(
        tree.path(),
        "crates/store/Cargo.toml",
        &manifest("mote-store", "[dependencies]\nbase.workspace = true\n"),
    );
    let findings = check(tree.path()).unwrap();
    assert_eq!(findings.len(), 1, "{findings:#?}");
    assert!(
        findings[0]
            .to_string()
            .starts_with("crates/store/Cargo.toml:6: `store` imports `core`")
    );
}

#[test]
fn an_edge_of_an_unknown_crate() {
    let document = "```edges\nengine -> core\ntests -> engine\ncluster -> core\n```\n";
    breaking(
        "ARCHITECTURE.md",
        document,
        &["ARCHITECTURE.md:4: the edge `cluster -> core` names `cluster`"],
    );
}

#[test]
fn edges_that_cannot_be_read() {
    breaking(
        "ARCHITECTURE.md",
        "no block\n",
        &["ARCHITECTURE.md:1: has no ```edges block"],
    );
    breaking(
        "ARCHITECTURE.md",
        "```edges\nengine -> core\ntests -> engine\ncore\n```\n",
        &["ARCHITECTURE.md:4: `core` is no edge"],
    );
}

#[test]
fn a_third_party_crate_outside_its_place() {
    for (package, line) in [
        ("wasmtime-wasi", 6),
        ("redb", 6),
        ("axum", 6),
        ("clap_complete", 6),
        ("async-nats", 6),
    ] {
        breaking(
            "crates/core/Cargo.toml",
            &manifest("mote-core", &format!("[dependencies]\n{package} = \"1\"\n")),
            &[&format!(
                "crates/core/Cargo.toml:{line}: `core` imports `{package}` outside its place"
            )],
        );
    }
    breaking(
        "crates/core/Cargo.toml",
        &manifest("mote-core", "[dependencies]\nclapper = \"1\"\n"),
        &[],
    );
}

#[test]
fn a_manifest_that_says_too_little() {
    let path = "crates/core/Cargo.toml";
    breaking(
        path,
        "[package]\nname = \"mote-core\"\n",
        &["crates/core/Cargo.toml:1: does not inherit the workspace lints"],
    );
    breaking(
        "crates/more/Cargo.toml",
        "[package]\n",
        &["crates/more/Cargo.toml:1: names no package"],
    );
    breaking(
        "crates/more/Cargo.toml",
        "[",
        &["crates/more/Cargo.toml:1: is not valid TOML"],
    );
}

#[test]
fn a_file_without_a_module_doc() {
    let report = "crates/core/src/spec.rs:1: has no module doc";
    breaking("crates/core/src/spec.rs", "pub struct Spec;\n", &[report]);
    breaking(
        "crates/core/src/spec.rs",
        "/// Not of the module.\npub struct Spec;\n",
        &[report],
    );
    breaking("crates/core/src/spec.rs", "", &[report]);
    breaking("crates/core/src/spec.rs", "#![allow(x)]\n\n//! Doc.\n", &[]);
    breaking(
        "crates/store/src/artifacts/file.rs",
        "\n",
        &["crates/store/src/artifacts/file.rs:1: has no module doc"],
    );
    breaking("tests/cases/echo/guest.rs", "fn main() {}\n", &[]);
    breaking("fuzz/artifacts/names/file.rs", "", &[]);
    breaking("crates/store/target/file.rs", "", &[]);
    breaking("examples/echo/src/bindings.rs", "fn main() {}\n", &[]);
}

#[test]
fn a_name_that_says_nothing() {
    breaking(
        "crates/core/src/spec/mod.rs",
        "//! Doc.\n",
        &["crates/core/src/spec/mod.rs:1: is a mod.rs"],
    );
    breaking(
        "crates/core/src/utils.rs",
        "//! Doc.\n",
        &["crates/core/src/utils.rs:1: the name `utils`"],
    );
    breaking(
        "tests/common/node.rs",
        "//! Doc.\n",
        &["tests/common/node.rs:1: the name `common`"],
    );
    breaking(
        "sdk/python/helpers.py",
        "",
        &["sdk/python/helpers.py:1: the name `helpers`"],
    );
    breaking("node_modules/common/utils.js", "", &[]);
}

#[test]
fn a_long_file() {
    let longest = "//! Doc.\n".repeat(FILE_LINES_MAX);
    breaking("crates/core/src/spec.rs", &longest, &[]);
    breaking(
        "crates/core/src/spec.rs",
        &format!("{longest}//! More.\n"),
        &["crates/core/src/spec.rs:601: has 601 lines, more than 600"],
    );
}

#[test]
fn unsafe_outside_its_places() {
    let code = "//! Doc, unsafe.\n// unsafe\nfn f() { let _ = \"unsafe\"; }\nunsafe fn g() {}\n";
    breaking(
        "crates/engine/src/pool.rs",
        code,
        &["crates/engine/src/pool.rs:4: `unsafe` outside its places"],
    );
    breaking(
        "crates/ingress/src/coap.rs",
        code,
        &["crates/ingress/src/coap.rs:4: `unsafe` outside its places"],
    );
    breaking("crates/ingress/src/coap/udp.rs", code, &[]);
    breaking("crates/runtimes/src/wasm.rs", code, &[]);
    breaking("sdk/rust/src/lib.rs", code, &[]);
    breaking("tests/guests/echo/src/lib.rs", code, &[]);
}

#[test]
fn a_clock_that_tests_cannot_pause() {
    let report = "crates/engine/src/pool.rs:2: uses `std::time::Instant`";
    breaking(
        "crates/engine/src/pool.rs",
        "//! Doc.\nuse std::time::Instant;\n",
        &[report],
    );
    breaking(
        "crates/engine/src/pool.rs",
        "//! Doc.\nuse std::time::{\n    Duration, Instant,\n};\n",
        &[report],
    );
    breaking(
        "crates/engine/src/pool.rs",
        "//! Doc.\nuse std::time::Duration;\nuse tokio::time::Instant;\n",
        &[],
    );
    breaking(
        "crates/bench/src/load.rs",
        "//! Doc.\nuse std::time::Instant;\n",
        &[],
    );
}

#[test]
fn a_promised_file_that_is_missing() {
    for path in PROMISED_FILES {
        let tree = tidy_tree();
        fs::remove_file(tree.path().join(path)).unwrap();
        let findings = check(tree.path()).unwrap();
        assert_eq!(findings.len(), 1, "{findings:#?}");
        assert!(
            findings[0]
                .to_string()
                .starts_with(&format!("{path}:1: is promised and missing"))
        );
    }
}

#[test]
fn a_link_that_leads_nowhere() {
    breaking(
        "docs/a.md",
        "[x](glossary.md) [y](../README.md#none) [z](https://host/x)\n",
        &["docs/a.md:1: `README.md` has no heading `#none`"],
    );
    breaking(
        "docs/a.md",
        "\n[x](gone.md)\n",
        &["docs/a.md:2: the link `gone.md` leads nowhere"],
    );
    breaking(
        "docs/a.md",
        "[x](../../outside.md)\n",
        &["docs/a.md:1: the link `../../outside.md` leads nowhere"],
    );
    breaking("docs/a.md", "# Here it is\n[x](#here-it-is)\n", &[]);
}
