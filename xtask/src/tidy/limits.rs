//! The tables `tidy` checks against: where things may live and what may be long.
//!
//! They stand in one file so that widening a rule is a visible, reviewed change of one line with its reason beside it.

/// Files that must exist: other pages, tools and people rely on their names.
pub(crate) const PROMISED_FILES: &[&str] = &[
    "README.md",
    "ARCHITECTURE.md",
    "SPECIFICATION.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "LICENSE",
    "Makefile",
    "docs/glossary.md",
    "docs/invariants.md",
    "docs/status.md",
];

/// The page that holds the ```` ```edges ```` block.
pub(crate) const ARCHITECTURE: &str = "ARCHITECTURE.md";

/// One heavy third-party family, and the only folders that may import it.
pub(crate) struct Home {
    /// A crate name; names that continue it with `-` or `_` belong to the family.
    pub(crate) family: &'static str,
    /// Folder names of the crates that may import it.
    pub(crate) folders: &'static [&'static str],
}

/// A crate exists because it hides one of these; an import elsewhere defeats it.
pub(crate) const HOMES: &[Home] = &[
    Home {
        family: "wasmtime",
        folders: &["runtimes"],
    },
    Home {
        family: "redb",
        folders: &["store"],
    },
    Home {
        family: "async-nats",
        folders: &["cluster"],
    },
    Home {
        family: "axum",
        folders: &["ingress"],
    },
    Home {
        family: "clap",
        folders: &["mote", "bench", "dev", "xtask"],
    },
];

/// The longest a source file may be before it needs an entry in [`LONG_FILES`].
pub(crate) const FILE_LINES_MAX: usize = 600;

/// Source files that are longer on purpose: path and the reason why splitting would read worse.
/// An entry whose file has become short or has gone is itself a failure.
pub(crate) const LONG_FILES: &[(&str, &str)] = &[];

/// File and folder names that say nothing about what is inside.
pub(crate) const EMPTY_NAMES: &[&str] = &[
    "util", "utils", "common", "helper", "helpers", "manager", "managers",
];

/// Endings of files that are written by people and read top to bottom.
pub(crate) const SOURCE_ENDINGS: &[&str] = &[
    "rs", "go", "py", "js", "mjs", "ts", "c", "h", "cpp", "zig", "sh",
];

/// Host code, where `unsafe` is a rule of ours; guests run in a sandbox and meet a C calling convention.
pub(crate) const HOST_FOLDERS: &[&str] =
    &["crates/", "tests/src/", "tests/tests/", "xtask/", "fuzz/"];

/// Where host code may be `unsafe`: a folder with its slash, or one file.
pub(crate) const UNSAFE_PLACES: &[&str] = &[
    "crates/runtimes/",
    "crates/bench/",
    "crates/mote/tests/sandbox/denied.rs",
    "crates/ingress/src/coap/udp.rs",
];

/// Code whose tests pause the clock, so it may only ask `tokio::time` for the time.
pub(crate) const PAUSABLE_FOLDERS: &[&str] = &[
    "crates/core/src/",
    "crates/engine/src/",
    "crates/ingress/src/",
];

/// `.rs` files that need no module doc: test cases are data, bindings are generated.
pub(crate) fn needs_no_module_doc(path: &str) -> bool {
    let generated = (path.starts_with("examples/") || path.starts_with("sdk/"))
        && path.ends_with("/bindings.rs");
    generated || path.starts_with("tests/cases/")
}
