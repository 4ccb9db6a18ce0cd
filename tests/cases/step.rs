//! A call, what must come of it, and whether that came.

use std::collections::BTreeMap;

use mote_tests::node::Node;
use serde::Deserialize;

use super::doors::{Door, Outcome};

/// A call, and what must come of it over either door.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Step {
    #[serde(default = "get")]
    pub(crate) method: String,
    /// Below the function's own.
    #[serde(default)]
    pub(crate) path: String,
    pub(crate) query: Option<String>,
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, String>,
    /// The body's media type.
    pub(crate) sends: Option<String>,
    #[serde(default)]
    pub(crate) body: String,
    /// Random bytes instead of a text.
    pub(crate) body_bytes: Option<usize>,

    /// The HTTP status.
    pub(crate) http: u16,
    /// The CoAP response code. Without it, `not.coap` says why.
    pub(crate) coap: Option<String>,
    /// The whole reply, or parts of it.
    pub(crate) reply: Option<String>,
    pub(crate) begins: Option<String>,
    pub(crate) ends: Option<String>,
    #[serde(default)]
    pub(crate) has: Vec<String>,
    /// The reply is the body that was sent.
    #[serde(default)]
    pub(crate) echoes: bool,
    #[serde(default)]
    pub(crate) reply_headers: BTreeMap<String, String>,
    /// The reply's media type.
    pub(crate) gives: Option<String>,
    /// A part of what the function's log then holds.
    pub(crate) log: Option<String>,
    /// What the log then holds once more than before: the call was run, and run once.
    pub(crate) once: Option<String>,
    /// What an observer of the function sees before the call and after it.
    pub(crate) observed: Option<[String; 2]>,

    /// So many calls at once, each with a body of its own.
    pub(crate) at_once: Option<usize>,
    /// Repeated until it is as it must be: for what comes back after a while.
    #[serde(default)]
    pub(crate) until: bool,
    /// Calls go on while the function is deployed so many times, each time with its number in the
    /// variable `ROUND`, which the reply then holds.
    pub(crate) redeploys: Option<u32>,
    /// Forms and doors that cannot express this, and why.
    #[serde(default)]
    pub(crate) not: BTreeMap<String, String>,
}

fn get() -> String {
    "GET".to_owned()
}

impl Step {
    /// Why this form cannot take the step over this door.
    pub(crate) fn refused(&self, form: &str, door: &str) -> Option<&str> {
        let why = self.not.get(form).or_else(|| self.not.get(door));
        why.map(String::as_str)
    }

    /// Calls a function once. `Err` says what is not as the step wants it.
    pub(crate) fn take(&self, door: &Door, node: &Node, function: &str) -> Result<(), String> {
        let body = match self.body_bytes {
            // Bytes without a pattern: what comes back in the wrong place or to the wrong caller cannot go unseen.
            Some(count) => std::iter::repeat_with(|| fastrand::u8(..))
                .take(count)
                .collect(),
            None => self.body.clone().into_bytes(),
        };
        let outcome = door.call(node, function, self, &body);
        judge(&outcome, self, &door.wanted(self), &body)
    }
}

fn judge(outcome: &Outcome, step: &Step, code: &str, sent: &[u8]) -> Result<(), String> {
    let text = String::from_utf8_lossy(&outcome.body);
    let short: String = text.chars().take(500).collect();
    let wrong = |what: &str| {
        Err(format!(
            "{what}; got {} `{}`",
            outcome.code,
            short.escape_debug()
        ))
    };
    if outcome.code != code {
        return wrong(&format!("{code} was wanted"));
    }
    if step.echoes && outcome.body != sent {
        return wrong(&format!(
            "{} bytes were sent, {} came back",
            sent.len(),
            outcome.body.len()
        ));
    }
    if step.reply.as_ref().is_some_and(|reply| *reply != text) {
        return wrong(&format!("the reply is not {:?}", step.reply));
    }
    let begins = step
        .begins
        .as_ref()
        .is_none_or(|begin| text.starts_with(begin));
    let ends = step.ends.as_ref().is_none_or(|end| text.ends_with(end));
    if !begins || !ends {
        return wrong("begin or end is another");
    }
    if let Some(part) = step.has.iter().find(|part| !text.contains(*part)) {
        return wrong(&format!("`{part}` is missing"));
    }
    if step.gives.is_some() && step.gives != outcome.media_type {
        return wrong(&format!(
            "the media type is {:?}, not {:?}",
            outcome.media_type, step.gives
        ));
    }
    for (name, value) in &step.reply_headers {
        let found = outcome.headers.iter().find(|(known, _)| known == name);
        if found.map(|(_, found)| found) != Some(value) {
            return wrong(&format!("the header {name} is {found:?}, not {value}"));
        }
    }
    Ok(())
}
