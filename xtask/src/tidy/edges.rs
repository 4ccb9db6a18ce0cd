//! Which crate may import which: the manifests against the ```` ```edges ```` block of ARCHITECTURE.md.
//!
//! The block allows edges, one crate a line (`ingress -> core, api, engine`); a manifest may use fewer, never more.
//! Dependencies of tests and build scripts count too: a boundary that tests may cross is not one.
//! The same pass keeps heavy third-party crates in the crate that hides them.

use super::Findings;
use super::limits::{ARCHITECTURE, HOMES};
use super::tree::Tree;
use anyhow::Result;
use std::collections::{BTreeMap, BTreeSet};
use toml::{Table, Value};

const DEPENDENCY_TABLES: &[&str] = &["dependencies", "dev-dependencies", "build-dependencies"];

/// Checks imports between our crates and of third-party crates.
pub(super) fn check(tree: &Tree, findings: &mut Findings) -> Result<()> {
    let manifests = read_manifests(tree, findings)?;
    check_lints(&manifests, findings);
    check_homes(&manifests, findings);
    if tree.exists(ARCHITECTURE) {
        check_edges(&manifests, &tree.text(ARCHITECTURE)?, findings);
    }
    Ok(())
}

/// One crate of ours, named by its folder as the documents do.
struct Manifest {
    folder: String,
    path: String,
    package: String,
    lints_workspace: bool,
    imports: Vec<Import>,
}

struct Import {
    package: String,
    line: usize,
}

fn check_edges(manifests: &[Manifest], document: &str, findings: &mut Findings) {
    let Some(allowed) = parse_block(document, findings) else {
        findings.add(
            ARCHITECTURE,
            1,
            "has no ```edges block",
            "list the allowed imports there, one `engine -> core` a line",
        );
        return;
    };
    let folders: BTreeMap<&str, &str> = manifests
        .iter()
        .map(|manifest| (manifest.package.as_str(), manifest.folder.as_str()))
        .collect();
    let known: BTreeSet<&str> = folders.values().copied().collect();
    for ((from, to), line) in &allowed {
        for name in [from, to]
            .into_iter()
            .filter(|name| !known.contains(name.as_str()))
        {
            findings.add(
                ARCHITECTURE,
                *line,
                format!(
                    "the edge `{from} -> {to}` names `{name}`, which is no crate of this workspace"
                ),
                "remove the edge or correct the name",
            );
        }
    }
    for manifest in manifests {
        for import in &manifest.imports {
            let Some(to) = folders.get(import.package.as_str()) else {
                continue;
            };
            if !allowed.contains_key(&(manifest.folder.clone(), (*to).to_owned())) {
                findings.add(
                    &manifest.path,
                    import.line,
                    format!(
                        "`{}` imports `{to}`, an edge that {ARCHITECTURE} does not allow",
                        manifest.folder
                    ),
                    format!(
                        "go through a trait of core, or argue for `{} -> {to}` in its edges block",
                        manifest.folder
                    ),
                );
            }
        }
    }
}

fn check_homes(manifests: &[Manifest], findings: &mut Findings) {
    for manifest in manifests {
        for import in &manifest.imports {
            for home in HOMES
                .iter()
                .filter(|home| belongs(&import.package, home.family))
            {
                if !home.folders.contains(&manifest.folder.as_str()) {
                    findings.add(
                        &manifest.path,
                        import.line,
                        format!(
                            "`{}` imports `{}` outside its place",
                            manifest.folder, import.package
                        ),
                        format!(
                            "only {} may; use what that crate offers",
                            home.folders.join(", ")
                        ),
                    );
                }
            }
        }
    }
}

fn check_lints(manifests: &[Manifest], findings: &mut Findings) {
    for manifest in manifests
        .iter()
        .filter(|manifest| !manifest.lints_workspace)
    {
        // The fuzz crate is a workspace of its own and cannot inherit.
        if manifest.folder != "fuzz" {
            findings.add(
                &manifest.path,
                1,
                "does not inherit the workspace lints",
                "add `[lints]` with `workspace = true`",
            );
        }
    }
}

fn belongs(package: &str, family: &str) -> bool {
    package
        .strip_prefix(family)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '_']))
}

/// The edges of the document with the line each stands on, or nothing when there is no block.
fn parse_block(
    document: &str,
    findings: &mut Findings,
) -> Option<BTreeMap<(String, String), usize>> {
    let mut edges = BTreeMap::new();
    let mut lines = document.lines().zip(1..);
    lines.find(|(line, _)| line.trim_end() == "```edges")?;
    for (line, number) in lines {
        if line.starts_with("```") {
            break;
        }
        let content = line.split('#').next().unwrap_or_default().trim();
        if content.is_empty() {
            continue;
        }
        let Some((from, targets)) = content.split_once("->") else {
            findings.add(
                ARCHITECTURE,
                number,
                format!("`{content}` is no edge"),
                "write `from -> to`",
            );
            continue;
        };
        for to in targets.split(',') {
            edges.insert((from.trim().to_owned(), to.trim().to_owned()), number);
        }
    }
    Some(edges)
}

fn read_manifests(tree: &Tree, findings: &mut Findings) -> Result<Vec<Manifest>> {
    let mut aliases = BTreeMap::new();
    if tree.exists("Cargo.toml")
        && let Some(root) = parse(tree, "Cargo.toml", findings)?
        && let Some(shared) = root
            .get("workspace")
            .and_then(|workspace| workspace.get("dependencies"))
    {
        collect_names(shared, |key, package| {
            aliases.insert(key.to_owned(), package.to_owned());
        });
    }
    let mut manifests = Vec::new();
    for path in tree.files() {
        let Some(folder) = crate_folder(path) else {
            continue;
        };
        let Some(table) = parse(tree, path, findings)? else {
            continue;
        };
        let Some(package) = table
            .get("package")
            .and_then(|package| package.get("name"))
            .and_then(Value::as_str)
        else {
            findings.add(path, 1, "names no package", "add `[package]` with a `name`");
            continue;
        };
        let text = tree.text(path)?;
        let mut imports = Vec::new();
        for dependencies in dependency_tables(&table) {
            collect_names(dependencies, |key, package| {
                let package = aliases
                    .get(package)
                    .map_or(package, String::as_str)
                    .to_owned();
                imports.push(Import {
                    package,
                    line: line_of(&text, key),
                });
            });
        }
        let lints = table.get("lints").and_then(|lints| lints.get("workspace"));
        manifests.push(Manifest {
            folder: folder.to_owned(),
            path: path.to_owned(),
            package: package.to_owned(),
            lints_workspace: lints.and_then(Value::as_bool) == Some(true),
            imports,
        });
    }
    Ok(manifests)
}

/// `crates/engine/Cargo.toml` is `engine`; tests, xtask and fuzz stand at the top.
fn crate_folder(path: &str) -> Option<&str> {
    let folder = path.strip_suffix("/Cargo.toml")?;
    let name = folder.strip_prefix("crates/").unwrap_or(folder);
    let at_top = ["tests", "xtask", "fuzz"].contains(&folder);
    (at_top || (folder.starts_with("crates/") && !name.contains('/'))).then_some(name)
}

fn parse(tree: &Tree, path: &str, findings: &mut Findings) -> Result<Option<Table>> {
    match tree.text(path)?.parse::<Table>() {
        Ok(table) => Ok(Some(table)),
        Err(error) => {
            findings.add(
                path,
                1,
                format!("is not valid TOML ({})", error.message()),
                "correct it",
            );
            Ok(None)
        }
    }
}

fn dependency_tables(manifest: &Table) -> Vec<&Value> {
    let targets = manifest.get("target").and_then(Value::as_table);
    let targets = targets
        .into_iter()
        .flat_map(Table::values)
        .filter_map(Value::as_table);
    std::iter::once(manifest)
        .chain(targets)
        .flat_map(|table| DEPENDENCY_TABLES.iter().filter_map(|name| table.get(*name)))
        .collect()
}

/// Calls `each` with the key and the real package name of every dependency, which differ when it is renamed.
fn collect_names(dependencies: &Value, mut each: impl FnMut(&str, &str)) {
    for (key, value) in dependencies.as_table().into_iter().flatten() {
        let package = value.get("package").and_then(Value::as_str).unwrap_or(key);
        each(key, package);
    }
}

/// The line on which a dependency is named; the first line if it is written in a way this does not know.
fn line_of(text: &str, key: &str) -> usize {
    let names = |line: &str| {
        let line = line.trim_start();
        let plain = line
            .strip_prefix(key)
            .is_some_and(|rest| rest.starts_with([' ', '.', '=']));
        plain || line.ends_with(&format!("dependencies.{key}]"))
    };
    text.lines()
        .zip(1..)
        .find(|(line, _)| names(line))
        .map_or(1, |(_, number)| number)
}
