//! Whether a component fits the node and its own manifest, known before anything is deployed.
//!
//! A node refuses a component whose imports it does not have, and denies what the manifest does not grant when it is
//! used, perhaps only in a rare case. Here both are read from the component's imports and exports alone.
//! What a module of WASI preview 1 calls is the adapter's business, and always there.

use mote_core::error::{Error, ErrorKind};
use mote_core::spec::FunctionSpec;
use serde::Serialize;
use wasmparser::{ComponentExternalKind, Encoding, Parser, Payload};

/// Interfaces of the node by package: the version up to its minor, or all of a draft, which no other is like; and the
/// names.
const INTERFACES: &[(&str, &str, &[&str])] = &[
    (
        "mote:function",
        "0.1",
        &["request", "response", "log", "call"],
    ),
    (
        "wasi:cli",
        "0.2",
        &[
            "environment",
            "exit",
            "stdin",
            "stdout",
            "stderr",
            "terminal-input",
            "terminal-output",
            "terminal-stdin",
            "terminal-stdout",
            "terminal-stderr",
        ],
    ),
    ("wasi:clocks", "0.2", &["wall-clock", "monotonic-clock"]),
    ("wasi:config", "0.2.0-rc.1", &["store"]),
    ("wasi:filesystem", "0.2", &["types", "preopens"]),
    ("wasi:http", "0.2", &["types", "outgoing-handler"]),
    ("wasi:io", "0.2", &["error", "poll", "streams"]),
    ("wasi:keyvalue", "0.2.0-draft2", &["store", "atomics"]),
    (
        "wasi:random",
        "0.2",
        &["random", "insecure", "insecure-seed"],
    ),
    (
        "wasi:sockets",
        "0.2",
        &[
            "instance-network",
            "ip-name-lookup",
            "network",
            "tcp",
            "tcp-create-socket",
            "udp",
            "udp-create-socket",
        ],
    ),
];
/// The version of `mote:function` that this program has the WIT of.
const FUNCTION_PATCH: u32 = 1;
/// What a node can call.
const EXPORTS: &[(&str, &str)] = &[
    ("wasi:http/incoming-handler", "0.2"),
    ("wasi:cli/run", "0.2"),
];
/// The function of our own world.
const HANDLE: &str = "handle";

/// Something that does not fit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Misfit {
    /// What does not fit.
    pub(crate) what: String,
    /// What to do about it.
    pub(crate) hint: String,
    /// Whether the function works as long as it does not use it.
    pub(crate) is_note: bool,
}

impl Misfit {
    fn fault(what: String, hint: impl Into<String>) -> Self {
        Self {
            what,
            hint: hint.into(),
            is_note: false,
        }
    }
}

/// What of a component does not fit a node, or the manifest. Modules import nothing that could not fit.
pub(crate) fn misfits(wasm: &[u8], spec: &FunctionSpec) -> Result<Vec<Misfit>, Error> {
    let (imports, exports) = names(wasm)?;
    let Some(exports) = exports else {
        return Ok(Vec::new());
    };
    let mut found: Vec<Misfit> = imports
        .iter()
        .filter_map(|import| unknown(import).or_else(|| ungranted(import, spec)))
        .collect();
    found.extend(not_callable(&exports));
    // One line is enough for all interfaces of a package that need the same.
    found.dedup_by(|a, b| a.what == b.what);
    Ok(found)
}

/// An interface by its parts: `wasi:http/types@0.2.12`.
struct Interface<'a> {
    package: &'a str,
    name: &'a str,
    version: &'a str,
}

impl<'a> Interface<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (path, version) = text.split_once('@').unwrap_or((text, ""));
        let (package, name) = path.split_once('/')?;
        Some(Self {
            package,
            name,
            version,
        })
    }

    /// `0.2` of `0.2.12`.
    fn minor(&self) -> &'a str {
        let mut dots = self.version.match_indices('.').skip(1);
        dots.next()
            .map_or(self.version, |(at, _)| &self.version[..at])
    }

    /// The number after that.
    fn patch(&self) -> u32 {
        let rest = self.version[self.minor().len()..].trim_start_matches('.');
        rest.parse().unwrap_or(0)
    }

    /// Two numbers to compare.
    fn order(version: &str) -> (u32, u32) {
        let mut numbers = version.split('.').map(|number| number.parse().unwrap_or(0));
        (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
    }
}

/// An import that no node of this version has.
fn unknown(import: &str) -> Option<Misfit> {
    let not_there = || {
        Misfit::fault(
            format!("it imports `{import}`, which a node does not have"),
            "leave out the library or the call that needs it; docs/guide/build.md lists what there is",
        )
    };
    let Some(interface) = Interface::parse(import) else {
        return Some(not_there());
    };
    let package = INTERFACES
        .iter()
        .find(|(package, ..)| *package == interface.package);
    let Some((package, version, names)) = package else {
        return Some(not_there());
    };
    let is_newer = Interface::order(interface.minor()) > Interface::order(version);
    let is_newer_patch = *package == "mote:function" && interface.patch() > FUNCTION_PATCH;
    if is_newer || is_newer_patch {
        return Some(newer(import, &interface, version));
    }
    let is_version = [interface.minor(), interface.version].contains(version);
    let fits = is_version && names.contains(&interface.name);
    (!fits).then(not_there)
}

fn newer(item: &str, interface: &Interface<'_>, version: &str) -> Misfit {
    if interface.package == "mote:function" {
        return Misfit::fault(
            format!("it needs `{item}`, of a newer mote than this one"),
            format!(
                "update mote, or build it with the SDK of mote {}",
                env!("CARGO_PKG_VERSION")
            ),
        );
    }
    Misfit::fault(
        format!(
            "it needs `{item}`: that is WASI {}, and this mote runs WASI {version}",
            interface.minor()
        ),
        format!("build it for WASI {version}, such as with the target wasm32-wasip2"),
    )
}

/// An import that the manifest denies.
fn ungranted(import: &str, spec: &FunctionSpec) -> Option<Misfit> {
    let interface = Interface::parse(import)?;
    match (interface.package, interface.name) {
        ("wasi:http", "outgoing-handler") if spec.allow.http.is_empty() => Some(Misfit::fault(
            "it makes HTTP requests, and the manifest allows none".to_owned(),
            "write allow.http = [\"https://api.example.org\"] with the origins it may reach",
        )),
        ("wasi:keyvalue", _) if !spec.allow.keyvalue => Some(Misfit::fault(
            "it uses key-value data, and the manifest does not allow it".to_owned(),
            "write allow.keyvalue = true",
        )),
        ("wasi:config", _) if spec.env.is_empty() && spec.allow.secrets.is_empty() => {
            Some(Misfit {
                what: "it reads settings, and the manifest has none".to_owned(),
                hint: "write env = { NAME = \"value\" }, or allow.secrets = [\"NAME\"]".to_owned(),
                is_note: true,
            })
        }
        _ => None,
    }
}

/// A component with nothing to call.
fn not_callable(exports: &[String]) -> Option<Misfit> {
    let mut newest = None;
    for export in exports {
        let Some(interface) = Interface::parse(export) else {
            if export == HANDLE {
                return None;
            }
            continue;
        };
        let path = format!("{}/{}", interface.package, interface.name);
        let known = EXPORTS.iter().find(|(name, _)| *name == path);
        match known {
            Some((_, version)) if interface.minor() == *version => return None,
            Some((_, version)) => newest = Some(newer(export, &interface, version)),
            // Its name in WASI 0.3.
            None if path == "wasi:http/handler" => newest = Some(newer(export, &interface, "0.2")),
            None => {}
        }
    }
    Some(newest.unwrap_or_else(|| {
        Misfit::fault(
            "it exports nothing that a node calls".to_owned(),
            "export `handle` of the world mote:function/function, or wasi:http/incoming-handler@0.2",
        )
    }))
}

/// The names of a component's imports, and of its exports; no exports for a module.
fn names(wasm: &[u8]) -> Result<(Vec<String>, Option<Vec<String>>), Error> {
    let broken = |error: wasmparser::BinaryReaderError| {
        Error::new(
            ErrorKind::BadRequest,
            format!("not a WebAssembly file: {error}"),
        )
    };
    let mut imports = Vec::new();
    let mut exports = Vec::new();
    let mut depth = 0_u32;
    for payload in Parser::new(0).parse_all(wasm) {
        match payload.map_err(broken)? {
            Payload::Version {
                encoding: Encoding::Module,
                ..
            } if depth == 0 => return Ok((imports, None)),
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section {
                    imports.push(import.map_err(broken)?.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                for export in section {
                    let export = export.map_err(broken)?;
                    let callable = matches!(
                        export.kind,
                        ComponentExternalKind::Func | ComponentExternalKind::Instance
                    );
                    if callable {
                        exports.push(export.name.name.to_owned());
                    }
                }
            }
            _ => {}
        }
    }
    Ok((imports, Some(exports)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use mote_core::name::FunctionName;

    /// A component with these imports and exports, and nothing behind them.
    fn component(imports: &[&str], exports: &[&str]) -> Vec<u8> {
        let imports = imports
            .iter()
            .map(|name| format!("(import \"{name}\" (instance))"));
        let exports = exports.iter().enumerate().map(|(index, name)| {
            format!("(instance $e{index}) (export \"{name}\" (instance $e{index}))")
        });
        let text: String = imports.chain(exports).collect();
        wat::parse_str(format!("(component {text})")).unwrap()
    }

    fn spec() -> FunctionSpec {
        FunctionSpec::new(FunctionName::new("light", "home").unwrap())
    }

    const INCOMING: &[&str] = &["wasi:http/incoming-handler@0.2.3"];

    #[track_caller]
    fn check(imports: &[&str], exports: &[&str], spec: &FunctionSpec, expect: &[(&str, &str)]) {
        let found = misfits(&component(imports, exports), spec).unwrap();
        assert_eq!(found.len(), expect.len(), "{found:?}");
        for (misfit, (what, hint)) in found.iter().zip(expect) {
            assert!(misfit.what.contains(what), "{misfit:?}");
            assert!(misfit.hint.contains(hint), "{misfit:?}");
        }
    }

    #[test]
    fn what_a_node_has_fits() {
        let all = [
            "mote:function/log@0.1.0",
            "wasi:io/streams@0.2.9",
            "wasi:cli/stderr@0.2.0",
            "wasi:http/types@0.2.12",
        ];
        check(&all, INCOMING, &spec(), &[]);
        assert_eq!(misfits(b"\0asm\x01\0\0\0", &spec()).unwrap(), []);
    }

    #[test]
    fn what_is_not_granted_names_the_line() {
        let imports = [
            "wasi:http/outgoing-handler@0.2.12",
            "wasi:keyvalue/store@0.2.0-draft2",
            "wasi:keyvalue/atomics@0.2.0-draft2",
            "wasi:config/store@0.2.0-rc.1",
        ];
        let lines = [
            ("makes HTTP requests", "allow.http = [\"https://"),
            ("key-value data", "allow.keyvalue = true"),
            ("reads settings", "env = {"),
        ];
        check(&imports, INCOMING, &spec(), &lines);
        let mut granted = spec();
        granted
            .allow
            .http
            .push("https://api.example.org".to_owned());
        granted.allow.keyvalue = true;
        granted.env.insert("ROOM".to_owned(), "kitchen".to_owned());
        check(&imports, INCOMING, &granted, &[]);
    }

    #[test]
    fn what_is_newer_or_nowhere_is_named() {
        let newer = "that is WASI 0.3, and this mote runs WASI 0.2";
        check(
            &["wasi:clocks/wall-clock@0.3.0"],
            INCOMING,
            &spec(),
            &[(newer, "wasip2")],
        );
        check(
            &[],
            &["wasi:http/handler@0.3.0"],
            &spec(),
            &[(newer, "wasip2")],
        );
        check(
            &[],
            &["wasi:cli/run@0.3.0-rc-2026"],
            &spec(),
            &[(newer, "wasip2")],
        );
        check(
            &["mote:function/log@0.1.9"],
            INCOMING,
            &spec(),
            &[("a newer mote", "update mote")],
        );
        check(
            &["wasi:nn/graph@0.2.0"],
            INCOMING,
            &spec(),
            &[(
                "`wasi:nn/graph@0.2.0`, which a node does not have",
                "leave out",
            )],
        );
        check(
            &["wasi:keyvalue/store@0.2.0-draft"],
            INCOMING,
            &spec(),
            &[("does not have", "")],
        );
        check(
            &["wasi:http/proxy@0.2.0"],
            INCOMING,
            &spec(),
            &[("does not have", "")],
        );
        check(
            &[],
            &["acme:shop/cart@1.0.0"],
            &spec(),
            &[("nothing that a node calls", "handle")],
        );
    }
}
