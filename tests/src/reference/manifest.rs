//! Every key of a manifest: those of a function are a spec's, as a node describes it.

use mote_api::manifest::{CODE_KEYS, TOP_KEYS};
use mote_core::spec::{FunctionSpec, Program, RuntimeKind};
use serde_json::Value;

use super::api::{kind, words};
use super::{code, table};

const WORDS: &str = "\
`mote.toml` describes the functions of an app; unknown keys are errors.
A size is a number of bytes, or a text such as `\"64MiB\"`; a duration is a text such as `\"10s\"` or `\"1m 30s\"`.

";

/// Schemas whose keys are tables in a manifest, with the key they stand below.
const TABLES: &[(&str, &str)] = &[
    ("Allow", "allow."),
    ("Directory", "allow.read[]."),
    ("Scale", "scale."),
];

pub(super) fn body(description: &Value) -> String {
    let mut text = WORDS.to_owned();
    text.push_str(&table(&["key", "what it is for"], &named(TOP_KEYS)));
    text.push_str("\n## Where the code of a function is\n\n");
    text.push_str(&table(&["key", "what it is for"], &named(CODE_KEYS)));
    text.push_str("\n## What a function may use\n\n");
    let mut rows = Vec::new();
    keys(description, "FunctionSpec", "", &mut rows);
    // `source` and `image` are told above.
    rows.retain(|row| !CODE_KEYS.iter().any(|(key, _)| row[0] == code(key)));
    text.push_str(&table(&["key", "type", "default", "what it is for"], &rows));
    text.push_str("\n`mote deploy` checks a manifest before anything is sent; [Limits](../guide/limits.md) and [Capabilities](../guide/capabilities.md) say what the keys mean together.\n");
    text
}

fn named(keys: &[(&str, &str)]) -> Vec<Vec<String>> {
    let rows = keys
        .iter()
        .map(|(key, words)| vec![code(key), (*words).to_owned()]);
    rows.collect()
}

fn keys(description: &Value, schema: &str, above: &str, rows: &mut Vec<Vec<String>>) {
    let properties = &description["components"]["schemas"][schema]["properties"];
    for (key, property) in properties.as_object().unwrap() {
        let inner = inner(property);
        let table = TABLES
            .iter()
            .find(|(name, _)| inner.is_some_and(|inner| inner == *name));
        if let Some((name, above)) = table {
            keys(description, name, above, rows);
            continue;
        }
        rows.push(vec![
            code(&format!("{above}{key}")),
            kind(property),
            default(key, &property["default"]),
            words(property).to_owned(),
        ]);
    }
}

/// The schema that a key or the elements of its list refer to.
fn inner(property: &Value) -> Option<&str> {
    let reference = property["$ref"]
        .as_str()
        .or_else(|| property["items"]["$ref"].as_str())?;
    reference.rsplit('/').next()
}

/// A key's default; of those that are for programs only, that of a program.
fn default(key: &str, value: &Value) -> String {
    let value = if value.is_null() {
        &program()[key]
    } else {
        value
    };
    match value {
        Value::Null => code(""),
        Value::Array(all) if all.is_empty() => code(""),
        Value::Object(all) if all.is_empty() => code(""),
        value => code(&value.to_string()),
    }
}

/// A program of which nobody said anything.
fn program() -> Value {
    let mut spec = FunctionSpec::new("program".parse().unwrap());
    spec.runtime = RuntimeKind::Process;
    spec.program = Some(Program::default());
    serde_json::to_value(mote_api::spec::FunctionSpec::from(&spec)).unwrap()
}
