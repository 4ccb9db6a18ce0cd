//! Every key of a node's configuration, from `mote config show`.

use serde_json::Value;

use super::{code, table};
use crate::program::{command, run};

const WORDS: &str = "\
A key has one meaning in three places: `calls_max` in the file is the variable `MOTE_CALLS_MAX` and the flag `--calls-max` of `mote up`.
A flag beats a variable, which beats the file, which beats the default.
The file is `node.toml` in the data directory, or what `MOTE_CONFIG` or `--config` names; each key is a line of its own, and unknown keys are errors.
`mote config show` prints what holds, and who said so.

";

const OF_CLIENTS: &str = "
## Variables of clients

| variable | what it is for |
| --- | --- |
| `MOTE_NODE` | The admin address of the node that commands talk to; by default the node of the data directory. |
| `MOTE_TOKEN` | Its token; by default that of the data directory. |
| `MOTE_DATA_DIR` | The data directory of a node on this machine. |
| `NO_COLOR` | No colours. |
";

pub(super) fn body() -> String {
    let shown = run(command(&["config", "show", "--json"]), &[]).ok();
    let keys: Vec<Value> = serde_json::from_str(&shown).unwrap();
    let text = |key: &Value, field: &str| key[field].as_str().unwrap().to_owned();
    let rows: Vec<Vec<String>> = keys
        .iter()
        .map(|key| {
            let default = text(key, "default");
            // Words about a default are no value to be written.
            let default = if default.contains(' ') {
                default
            } else {
                code(&default)
            };
            vec![
                code(&text(key, "key")),
                text(key, "doc"),
                text(key, "takes"),
                default,
            ]
        })
        .collect();
    let keys = table(&["key", "what it is for", "it is", "default"], &rows);
    format!("{WORDS}{keys}{OF_CLIENTS}")
}
