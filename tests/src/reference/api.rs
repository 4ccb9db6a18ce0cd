//! The admin API, from the description that a node gives of it.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::Value;

use super::{code, one_line, table};
use crate::node::Node;

const WORDS: &str = "\
Everything that `mote` does to a node it does by this API, on `127.0.0.1:8080` by default.
All but `/healthz` and `/readyz` want `Authorization: Bearer TOKEN`, the text of the file `token` in the data directory.
`GET /openapi.json` has the whole description, for tools.
An error is a problem document ([errors](errors.md)).

";

/// The description (OpenAPI 3.1).
pub(super) fn description(node: &Node) -> Value {
    node.ask("GET", "/openapi.json", &[]).expect(200).json()
}

pub(super) fn body(description: &Value) -> String {
    let mut text = WORDS.to_owned();
    let mut named = BTreeSet::new();
    let mut rows = Vec::new();
    for (path, methods) in description["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let body = schema_of(&operation["requestBody"]);
            let success = ["200", "201"].map(|status| schema_of(&operation["responses"][status]));
            let success = success.into_iter().flatten().next();
            for name in body.iter().chain(&success) {
                name_all(description, name, &mut named);
            }
            rows.push(vec![
                code(&format!("{} {path}", method.to_uppercase())),
                summary(operation),
                body.as_deref().map_or_else(String::new, linked),
                success.as_deref().map_or_else(String::new, linked),
            ]);
        }
    }
    text.push_str(&table(&["request", "what it does", "body", "reply"], &rows));
    for name in named {
        write!(text, "\n## {name}\n\n").unwrap();
        text.push_str(&fields(description, &name));
    }
    text
}

/// Names a schema and all that its fields refer to, but for those that have words or a page of their own.
fn name_all(description: &Value, name: &str, named: &mut BTreeSet<String>) {
    if matches!(name, "Size" | "Period" | "FunctionSpec") || !named.insert(name.to_owned()) {
        return;
    }
    let properties = description["components"]["schemas"][name]["properties"].as_object();
    for property in properties.into_iter().flat_map(|all| all.values()) {
        for inner in [
            property,
            &property["items"],
            &property["additionalProperties"],
        ] {
            let choices = inner["oneOf"].as_array().into_iter().flatten();
            for reference in choices
                .chain([inner])
                .filter_map(|one| one["$ref"].as_str())
            {
                name_all(description, &name_of(reference), named);
            }
        }
    }
}

/// The first sentences and the parameters in the query.
fn summary(operation: &Value) -> String {
    let mut text = one_line(operation["summary"].as_str().unwrap_or_default());
    let parameters = operation["parameters"].as_array();
    let query = parameters
        .into_iter()
        .flatten()
        .filter(|one| one["in"] == "query");
    for parameter in query {
        let name = parameter["name"].as_str().unwrap();
        let words = parameter["description"].as_str().unwrap_or_default();
        write!(text, " `?{name}=`: {words}.").unwrap();
    }
    text
}

/// The name of the schema of a body.
fn schema_of(body: &Value) -> Option<String> {
    let content = body["content"].as_object()?;
    let reference = content
        .values()
        .find_map(|media| media["schema"]["$ref"].as_str())?;
    Some(name_of(reference))
}

fn linked(name: &str) -> String {
    format!("[{name}](#{})", name.to_lowercase())
}

/// A table of a schema's fields.
fn fields(description: &Value, name: &str) -> String {
    let schema = &description["components"]["schemas"][name];
    let properties = schema["properties"].as_object();
    let rows: Vec<Vec<String>> = properties
        .into_iter()
        .flatten()
        .map(|(field, schema)| vec![code(field), kind(schema), one_line(words(schema))])
        .collect();
    let about = one_line(schema["description"].as_str().unwrap_or_default());
    format!("{about}\n\n{}", table(&["field", "type", "meaning"], &rows))
}

/// What a field is for; of one that may be missing the words are a level further down.
pub(super) fn words(schema: &Value) -> &str {
    let own = schema["description"].as_str();
    let choices = schema["oneOf"].as_array();
    own.or_else(|| {
        choices?
            .iter()
            .find_map(|choice| choice["description"].as_str())
    })
    .unwrap_or_default()
}

/// The type of a field, in words.
pub(super) fn kind(schema: &Value) -> String {
    if let Some(reference) = schema["$ref"].as_str() {
        return match name_of(reference).as_str() {
            "Size" => "size".to_owned(),
            "Period" => "duration".to_owned(),
            "FunctionSpec" => "as in the [manifest](manifest.md)".to_owned(),
            other => linked(other),
        };
    }
    if let Some(choices) = schema["oneOf"].as_array() {
        let some = choices.iter().filter(|choice| choice["type"] != "null");
        return some.map(kind).collect::<Vec<_>>().join(" or ");
    }
    let names: Vec<&str> = match &schema["type"] {
        Value::String(name) => vec![name],
        Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let name = names
        .into_iter()
        .find(|name| *name != "null")
        .unwrap_or_default();
    match name {
        "string" => "text".to_owned(),
        "integer" | "number" => "number".to_owned(),
        "boolean" => "true or false".to_owned(),
        "array" => format!("list of {}", kind(&schema["items"])),
        "object" => "table".to_owned(),
        other => other.to_owned(),
    }
}

fn name_of(reference: &str) -> String {
    reference.rsplit('/').next().unwrap_or_default().to_owned()
}
