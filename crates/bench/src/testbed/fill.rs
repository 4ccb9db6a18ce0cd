//! Words in braces and what they stand for.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Result, bail};

use super::file::Value;

/// Puts axes and values into the text of an experiment file. A word that is a whole text in quotes becomes the value as
/// it is, so that it may be a number; words that are not known here stay.
pub(super) fn before_reading(text: &str, words: &BTreeMap<String, Value>) -> String {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, word, after)) = next_word(rest) {
        let Some(value) = words.get(word) else {
            filled.push_str(before);
            let _infallible = write!(filled, "{{{word}}}");
            rest = after;
            continue;
        };
        let whole = before.ends_with('"') && after.starts_with('"');
        if whole && !matches!(value, Value::Text(_)) {
            filled.push_str(&before[..before.len() - 1]);
            let _infallible = write!(filled, "{value}");
            rest = &after[1..];
        } else {
            filled.push_str(before);
            for character in value.to_string().chars() {
                match character {
                    '"' | '\\' => filled.extend(['\\', character]),
                    '\n' => filled.push_str("\\n"),
                    other => filled.push(other),
                }
            }
            rest = after;
        }
    }
    filled.push_str(rest);
    filled
}

/// Puts what is known of machines and services into a text of the file. Fails when a word is not known.
pub(super) fn with_places(text: &str, words: &BTreeMap<String, String>) -> Result<String> {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, word, after)) = next_word(rest) {
        filled.push_str(before);
        match words.get(word) {
            Some(value) => filled.push_str(value),
            None => {
                let known: Vec<_> = words.keys().map(|word| format!("{{{word}}}")).collect();
                bail!(
                    "`{{{word}}}` in `{text}` stands for nothing: it is no axis, no value, and none of {}",
                    known.join(", ")
                );
            }
        }
        rest = after;
    }
    filled.push_str(rest);
    Ok(filled)
}

/// What is before the next word in braces, the word, and what is after it.
fn next_word(text: &str) -> Option<(&str, &str, &str)> {
    let mut from = 0;
    loop {
        let open = from + text[from..].find('{')?;
        let inside = &text[open + 1..];
        let length = inside
            .find(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c)))?;
        let word = &inside[..length];
        let begins = word.starts_with(|c: char| c.is_ascii_lowercase());
        if begins && inside[length..].starts_with('}') {
            return Some((&text[..open], word, &inside[length + 1..]));
        }
        from = open + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words() -> BTreeMap<String, Value> {
        BTreeMap::from([
            ("clients".to_owned(), Value::Integer(16)),
            ("system".to_owned(), Value::Text("a \"b\"".to_owned())),
        ])
    }

    #[test]
    fn numbers_stay_numbers() {
        let filled = |text| before_reading(text, &words());
        assert_eq!(filled(r#"c = "{clients}""#), "c = 16");
        assert_eq!(
            filled(r#"c = "{clients} of {clients}""#),
            r#"c = "16 of 16""#
        );
        assert_eq!(filled(r#"s = "{system}""#), r#"s = "a \"b\"""#);
        assert_eq!(
            filled("w = { clients = 3 } {server} {"),
            "w = { clients = 3 } {server} {"
        );
    }

    #[test]
    fn a_word_that_nobody_knows_is_named() {
        let places = BTreeMap::from([("server".to_owned(), "10.0.0.1".to_owned())]);
        assert_eq!(
            with_places("http://{server}:8", &places).unwrap(),
            "http://10.0.0.1:8"
        );
        let error = with_places("http://{serve}", &places)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("{serve}") && error.contains("{server}"),
            "{error}"
        );
    }

    proptest::proptest! {
        #[test]
        fn any_text_can_be_filled(text in "[{}a-z\" é]{0,40}") {
            let filled = before_reading(&text, &BTreeMap::new());
            proptest::prop_assert_eq!(filled, text);
        }
    }
}
