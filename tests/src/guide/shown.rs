//! What a page shows against what was said.
//!
//! `…` in a line stands for anything, alone in a line for any lines. Columns may be as wide as they
//! are: several spaces are as good as one. Nothing shown is nothing promised.

/// Compares all that was said with all that is shown. The error shows both.
pub fn compare(shown: &[String], said: &str) -> Result<(), String> {
    if shown.is_empty() {
        return Ok(());
    }
    let shown: Vec<String> = without_end(shown.iter().map(|line| narrow(line)));
    let lines = without_end(said.lines().map(narrow));
    if are(&shown, &lines) {
        return Ok(());
    }
    Err(format!(
        "the page shows\n{}\nand it said\n{}",
        indented(&shown.join("\n")),
        indented(said)
    ))
}

/// Whether these lines were said in this order, others between them allowed; gives how many of the
/// lines said were passed.
pub fn in_order(shown: &[String], said: &[&str]) -> Option<usize> {
    let mut passed = 0;
    for pattern in shown.iter().filter(|line| line.trim() != "…") {
        let pattern = narrow(pattern);
        let at = said[passed..]
            .iter()
            .position(|line| is(&pattern, &narrow(line)))?;
        passed += at + 1;
    }
    Some(passed)
}

fn are(shown: &[String], said: &[String]) -> bool {
    let Some((first, rest)) = shown.split_first() else {
        return said.is_empty();
    };
    if first == "…" {
        return (0..=said.len()).any(|skipped| are(rest, &said[skipped..]));
    }
    match said.split_first() {
        Some((line, others)) => is(first, line) && are(rest, others),
        None => false,
    }
}

/// Whether a line is what the pattern says.
fn is(pattern: &str, line: &str) -> bool {
    let mut parts = pattern.split('…');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = line.strip_prefix(first) else {
        return false;
    };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else {
        return rest.is_empty();
    };
    for part in parts {
        let Some(at) = rest.find(part) else {
            return false;
        };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

fn narrow(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn without_end(lines: impl Iterator<Item = String>) -> Vec<String> {
    let mut lines: Vec<String> = lines.collect();
    while lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    lines
}

fn indented(text: &str) -> String {
    let lines = text.lines().map(|line| format!("    {line}"));
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[track_caller]
    fn check(shown: &str, said: &str, fits: bool) {
        assert_eq!(
            compare(&lines(shown), said).is_ok(),
            fits,
            "{shown:?} {said:?}"
        );
    }

    #[test]
    fn what_is_shown_must_be_said() {
        check("", "anything", true);
        check("hello, world", "hello, world\n\n", true);
        check("hello", "hello, world", false);
        check("a\nb", "a", false);
        check("a", "a\nb", false);
        check(
            "NAME  VERSION\nx     1",
            "NAME    VERSION\nx       1\n",
            true,
        );
    }

    #[test]
    fn three_dots_stand_for_anything() {
        check("hello, …", "hello, Ada", true);
        check("… Ada", "hello, Eve", false);
        check("a…b…c", "a1b2c", true);
        check("a…b…c", "a1c2b", false);
        check("…ab", "ab", true);
        check("first\n…\nlast", "first\nlast", true);
        check("first\n…\nlast", "first\n1\n2\nlast", true);
        check("first\n…", "second", false);
    }

    #[test]
    fn lines_in_order_may_have_others_between() {
        let said = ["a", "x", "b", "c"];
        assert_eq!(in_order(&lines("a\nb"), &said), Some(3));
        assert_eq!(in_order(&lines("b\na"), &said), None);
    }
}
