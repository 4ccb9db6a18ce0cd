//! What of a Rust project is read and written besides building it: its `Cargo.toml`, and where its editor finds the SDK.

use std::fs;
use std::path::Path;

use mote_core::error::{Error, ErrorKind};
use toml::Table;

/// The first line of a configuration that is ours to write again.
const OURS: &str = "# Written by `mote build`, for cargo and editors: where the crate mote-function is on this machine.";
/// The crate of the SDK.
pub(super) const SDK: &str = "mote-function";

/// What a build needs to know of a package.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Package {
    /// The name of the file that cargo makes of it, without its ending.
    pub(super) module: String,
    /// Whether it depends on the SDK and on nothing else, so that no registry has to be asked anything.
    pub(super) only_sdk: bool,
}

impl Package {
    /// Reads a `Cargo.toml`.
    pub(super) fn read(manifest: &Path) -> Result<Self, Error> {
        let bad = |message: String| {
            let message = format!("{}: {message}", manifest.display());
            Error::new(ErrorKind::BadRequest, message)
        };
        let text = fs::read_to_string(manifest).map_err(|error| {
            bad(format!("cannot be read: {error}"))
                .with_hint("`entry` of a Rust function is its Cargo.toml")
        })?;
        let table: Table = text
            .parse()
            .map_err(|error: toml::de::Error| bad(error.message().to_owned()))?;
        let lib = table.get("lib");
        let types = lib.and_then(|lib| lib.get("crate-type")?.as_array());
        let is_module =
            types.is_some_and(|types| types.iter().any(|kind| kind.as_str() == Some("cdylib")));
        if !is_module {
            return Err(bad("the package is no module".to_owned())
                .with_hint("write [lib] and below it crate-type = [\"cdylib\"]"));
        }
        let package = table.get("package");
        let name = lib
            .and_then(|lib| lib.get("name"))
            .or_else(|| package.and_then(|package| package.get("name")))
            .and_then(|name| name.as_str())
            .ok_or_else(|| bad("the package has no name".to_owned()))?;
        Ok(Self {
            module: name.replace('-', "_"),
            only_sdk: dependencies(&table).all(|name| name == SDK),
        })
    }
}

/// The names of everything that a package may need.
fn dependencies(table: &Table) -> impl Iterator<Item = &String> {
    let targets = table.get("target").and_then(|target| target.as_table());
    let targets = targets.into_iter().flat_map(|targets| targets.values());
    let tables = targets.filter_map(|target| target.as_table());
    std::iter::once(table).chain(tables).flat_map(|table| {
        ["dependencies", "dev-dependencies", "build-dependencies"]
            .into_iter()
            .filter_map(|key| table.get(key)?.as_table())
            .flat_map(Table::keys)
    })
}

/// Tells `cargo` and editors, when a person or a language server runs them in the project, where the SDK is. A
/// configuration that somebody else wrote is left alone, and so is a folder that cannot be written: the build itself
/// does not need it.
pub(super) fn tell_editors(folder: &Path, sdk: &Path) {
    let path = folder.join(".cargo/config.toml");
    let there = fs::read_to_string(&path).ok();
    if there.as_ref().is_some_and(|text| !text.starts_with(OURS)) {
        return;
    }
    let place = toml::Value::from(sdk.display().to_string());
    let text = format!("{OURS}\n[patch.crates-io]\n{SDK} = {{ path = {place} }}\n");
    if there.as_ref() == Some(&text) {
        return;
    }
    let _ = fs::create_dir_all(folder.join(".cargo")).and_then(|()| fs::write(&path, text));
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIB: &str = "[lib]\ncrate-type = [\"cdylib\"]";

    #[track_caller]
    fn read(text: &str) -> Result<Package, Error> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("Cargo.toml");
        fs::write(&path, text).unwrap();
        Package::read(&path)
    }

    #[test]
    fn the_module_is_named_as_cargo_names_it() {
        let name = |text: String| read(&text).unwrap().module;
        assert_eq!(
            name(format!("[package]\nname = \"my-light\"\n{LIB}")),
            "my_light"
        );
        assert_eq!(
            name(format!("[package]\nname = \"x\"\n{LIB}\nname = \"y\"")),
            "y"
        );
        let error = read("[package]\nname = \"x\"").unwrap_err();
        assert!(error.hint().unwrap().contains("cdylib"), "{error}");
        let error = read("[package").unwrap_err();
        assert!(error.message().contains("Cargo.toml"), "{error}");
    }

    #[test]
    fn a_registry_is_asked_only_for_what_is_not_here() {
        for (dependencies, only) in [
            ("", true),
            ("[dependencies]\nmote-function = \"0.1\"", true),
            (
                "[dependencies]\nmote-function = \"0.1\"\nserde = \"1\"",
                false,
            ),
            ("[dev-dependencies]\nserde = \"1\"", false),
            ("[target.'cfg(unix)'.build-dependencies]\ncc = \"1\"", false),
        ] {
            let text = format!("[package]\nname = \"x\"\n{LIB}\n{dependencies}");
            assert_eq!(read(&text).unwrap().only_sdk, only, "{dependencies}");
        }
    }

    #[test]
    fn editors_are_told_unless_somebody_else_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".cargo/config.toml");
        tell_editors(folder.path(), Path::new("/sdk/1"));
        tell_editors(folder.path(), Path::new("/sdk/2"));
        let text = fs::read_to_string(&path).unwrap();
        let table: Table = text.parse().unwrap();
        let place = &table["patch"]["crates-io"]["mote-function"]["path"];
        assert_eq!(place.as_str(), Some("/sdk/2"));
        fs::write(&path, "[build]").unwrap();
        tell_editors(folder.path(), Path::new("/sdk/3"));
        assert_eq!(fs::read_to_string(&path).unwrap(), "[build]");
    }
}
