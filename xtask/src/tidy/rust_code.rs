//! Rust source with its comments and literals blanked out, so that a rule can look for a word of code.
//!
//! A lexer of five states instead of a parser: it needs no dependency and never fails, also on code that does not
//! compile. Lengths and lines stay as they were, so that positions in the answer are positions in the file.

/// Replaces every comment, string, byte string and character literal by spaces, keeping line breaks.
pub(super) fn without_comments_and_literals(source: &str) -> String {
    let bytes = source.as_bytes();
    let mut code = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at] {
            b'/' if bytes[at..].starts_with(b"//") => end_of_line(bytes, at),
            b'/' if bytes[at..].starts_with(b"/*") => end_of_block_comment(bytes, at),
            b'"' => end_of_string(bytes, at + 1),
            b'r' if !continues_a_word(bytes, at) => end_of_raw_string(bytes, at + 1).unwrap_or(at),
            b'b' | b'c' if !continues_a_word(bytes, at) && bytes.get(at + 1) == Some(&b'r') => {
                end_of_raw_string(bytes, at + 2).unwrap_or(at)
            }
            b'\'' => end_of_character(bytes, at).unwrap_or(at),
            _ => at,
        };
        for byte in code[at..end].iter_mut().filter(|byte| **byte != b'\n') {
            *byte = b' ';
        }
        at = end.max(at + 1);
    }
    // Literals are blanked from delimiter to delimiter, so no character is cut in two.
    String::from_utf8(code).expect("only whole characters were replaced by ASCII")
}

/// The 1-based lines on which `word` stands alone in `code`.
pub(super) fn lines_with_word(code: &str, word: &str) -> Vec<usize> {
    let is_word = |character: char| character.is_alphanumeric() || character == '_';
    let has_word = |line: &str| {
        line.split(|character| !is_word(character))
            .any(|part| part == word)
    };
    code.lines()
        .zip(1..)
        .filter(|(line, _)| has_word(line))
        .map(|(_, number)| number)
        .collect()
}

/// The 1-based line of a byte position.
pub(super) fn line_at(code: &str, position: usize) -> usize {
    code.as_bytes()[..position]
        .iter()
        .filter(|byte| **byte == b'\n')
        .count()
        + 1
}

fn continues_a_word(bytes: &[u8], at: usize) -> bool {
    at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_')
}

fn end_of_line(bytes: &[u8], from: usize) -> usize {
    bytes[from..]
        .iter()
        .position(|byte| *byte == b'\n')
        .map_or(bytes.len(), |length| from + length)
}

/// Block comments nest.
fn end_of_block_comment(bytes: &[u8], from: usize) -> usize {
    let mut depth = 0_usize;
    let mut at = from;
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if bytes[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    bytes.len()
}

fn end_of_string(bytes: &[u8], from: usize) -> usize {
    let mut at = from;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// `from` is behind the `r`; nothing when this is a raw name such as `r#type`, or no string at all.
fn end_of_raw_string(bytes: &[u8], from: usize) -> Option<usize> {
    let hashes = bytes[from..]
        .iter()
        .take_while(|byte| **byte == b'#')
        .count();
    let start = from + hashes;
    if bytes.get(start) != Some(&b'"') {
        return None;
    }
    let mut closing = vec![b'"'];
    closing.resize(1 + hashes, b'#');
    let rest = &bytes[start + 1..];
    let length = rest
        .windows(closing.len())
        .position(|window| window == closing);
    Some(length.map_or(bytes.len(), |length| start + 1 + length + closing.len()))
}

/// Nothing when the quote begins a lifetime.
fn end_of_character(bytes: &[u8], from: usize) -> Option<usize> {
    let first = *bytes.get(from + 1)?;
    if first == b'\\' {
        let length = bytes
            .get(from + 3..)?
            .iter()
            .position(|byte| *byte == b'\'')?;
        return Some(from + 3 + length + 1);
    }
    let width = match first {
        0x00..=0x7f => 1,
        0xc0..=0xdf => 2,
        0xe0..=0xef => 3,
        _ => 4,
    };
    (bytes.get(from + 1 + width) == Some(&b'\'')).then_some(from + 2 + width)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(source: &str, expect: &str) {
        let code = without_comments_and_literals(source);
        assert_eq!(code, expect);
        assert_eq!(code.len(), source.len(), "positions moved");
    }

    #[test]
    fn comments_are_blanked_and_lines_kept() {
        check("a // b\nc", "a     \nc");
        check("a /* b /* c */\n d */ e", "a             \n      e");
        check("a /* open", "a        ");
    }

    #[test]
    fn literals_are_blanked() {
        check(r#"f("x\"y") z"#, "f(      ) z");
        check(r##"f(r#"x"y"#) z"##, "f(        ) z");
        check("f('\"') g", "f(   ) g");
        check(r"f('\'') g", "f(    ) g");
        check(r"f('\u{41}') g", "f(        ) g");
        check("f('é') g", "f(    ) g");
        check("f(b\"x\") g(br\"y\")", "f(b   ) g(     )");
    }

    #[test]
    fn lifetimes_and_raw_names_are_code() {
        check("fn f<'a>(x: &'a str) {}", "fn f<'a>(x: &'a str) {}");
        check("let r#type = r;", "let r#type = r;");
    }

    #[test]
    fn a_word_is_not_a_part_of_a_name() {
        assert_eq!(
            lines_with_word("unsafe_code\nunsafe {}\nnot_unsafe", "unsafe"),
            [2]
        );
    }
}
