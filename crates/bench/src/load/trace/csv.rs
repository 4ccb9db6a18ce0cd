//! Lines of a trace file and their cells. Whoever wrote the file is not trusted: lines are bounded, and every error
//! names the line and what is wrong with it.

use std::io::{BufRead, Read};

use anyhow::{Context, Result, bail, ensure};

/// Four names and 1,440 numbers of ten digits have room, ten times over.
const LINE_BYTES_MAX: u64 = 256 << 10;

/// Reads one line after the other into one buffer.
pub(super) struct Lines<R> {
    input: R,
    line: Vec<u8>,
    number: u64,
}

impl<R: BufRead> Lines<R> {
    pub(super) fn new(input: R) -> Self {
        Self {
            input,
            line: Vec::new(),
            number: 0,
        }
    }

    /// The next line that is not empty, with its number.
    pub(super) fn next(&mut self) -> Result<Option<(u64, &str)>> {
        loop {
            self.line.clear();
            self.number += 1;
            let number = self.number;
            let length = self
                .input
                .by_ref()
                .take(LINE_BYTES_MAX)
                .read_until(b'\n', &mut self.line)
                .with_context(|| format!("line {number}: cannot read it"))?;
            if length == 0 {
                return Ok(None);
            }
            ensure!(
                (length as u64) < LINE_BYTES_MAX,
                "line {number}: longer than {LINE_BYTES_MAX} bytes, is it a trace?"
            );
            if !self.line.trim_ascii().is_empty() {
                break;
            }
        }
        match std::str::from_utf8(&self.line) {
            Ok(line) => Ok(Some((self.number, line.trim_end_matches(['\n', '\r'])))),
            Err(_) => bail!("line {}: not text, is the file compressed?", self.number),
        }
    }
}

/// The cells of a line. Names and numbers need no quotes, but a spreadsheet may have put some.
pub(super) fn cells(line: &str) -> impl Iterator<Item = &str> {
    line.split(',').map(|cell| cell.trim().trim_matches('"'))
}
