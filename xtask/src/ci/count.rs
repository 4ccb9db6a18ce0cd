//! Counting tests by reading what `cargo test` prints while it is passed on.

use anyhow::{Context, Result};
use std::io::{BufRead, Write};

/// How many tests ended in which way.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) passed: u64,
    pub(super) failed: u64,
    pub(super) ignored: u64,
}

impl Count {
    /// Adds another count to this one.
    pub(super) fn add(&mut self, other: &Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
    }
}

/// Copies `from` to `to` line by line and sums the summaries of the test programs in it.
/// What a failed test printed is shown indented by nothing, so a test that prints such a summary would be counted too.
pub(super) fn pass_on(mut from: impl BufRead, mut to: impl Write) -> Result<Count> {
    let mut total = Count::default();
    let mut line = Vec::new();
    loop {
        line.clear();
        if from
            .read_until(b'\n', &mut line)
            .context("cannot read the output of the tests")?
            == 0
        {
            return Ok(total);
        }
        if let Some(count) = parse_summary(&String::from_utf8_lossy(&line)) {
            total.add(&count);
        }
        to.write_all(&line)
            .and_then(|()| to.flush())
            .context("cannot pass on the output of the tests")?;
    }
}

/// `test result: ok. 3 passed; 0 failed; 1 ignored; …`
fn parse_summary(line: &str) -> Option<Count> {
    let rest = line.strip_prefix("test result: ")?;
    let (_, numbers) = rest.split_once(". ")?;
    let mut count = Count::default();
    for part in numbers.split(';') {
        let Some((number, what)) = part.trim().split_once(' ') else {
            continue;
        };
        let Ok(number) = number.parse() else { continue };
        match what.trim_end() {
            "passed" => count.passed = number,
            "failed" => count.failed = number,
            "ignored" => count.ignored = number,
            _ => {}
        }
    }
    Some(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "\
running 3 tests
test a ... ok
test b ... FAILED
test result: FAILED. 1 passed; 1 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.01s

running 2 tests
test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.30s
";

    #[test]
    fn sums_all_test_programs_and_passes_everything_on() {
        let mut passed_on = Vec::new();
        let count = pass_on(OUTPUT.as_bytes(), &mut passed_on).unwrap();
        assert_eq!(
            count,
            Count {
                passed: 3,
                failed: 1,
                ignored: 1
            }
        );
        assert_eq!(passed_on, OUTPUT.as_bytes());
    }

    #[test]
    fn bytes_that_are_no_text_are_passed_on() {
        let output = b"\xff\xfe no newline";
        let mut passed_on = Vec::new();
        assert_eq!(
            pass_on(output.as_slice(), &mut passed_on).unwrap(),
            Count::default()
        );
        assert_eq!(passed_on, output);
    }
}
