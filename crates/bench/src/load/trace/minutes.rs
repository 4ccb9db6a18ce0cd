//! Azure Functions 2019 and invitro: a line for each function, a column for each minute.

use std::io::BufRead;
use std::ops::Range;

use anyhow::{Context, Result, ensure};

use super::csv::{Lines, cells};
use super::{Load, Trace};

/// Cells that are not 0, of eight bytes each: 256 MB. A whole day of Azure 2019 has some 20 million.
const CELLS_MAX: usize = 32 << 20;
/// More than the line length allows to be told apart anyway.
const MINUTES_MAX: u32 = 100_000;

pub(super) fn read(mut lines: Lines<impl BufRead>, wanted: Option<Range<u32>>) -> Result<Trace> {
    let (_, header) = lines
        .next()?
        .context("line 1: the file is empty, it should begin with HashOwner,HashApp,HashFunction,Trigger,1,2,…")?;
    let columns = Columns::of(header)?;
    let minutes = wanted.unwrap_or(0..columns.minutes);
    ensure!(
        minutes.start < minutes.end && minutes.end <= columns.minutes,
        "minutes {}..{} of a trace of {}, use --trace-minutes 0..{} or a part of it",
        minutes.start,
        minutes.end,
        columns.minutes,
        columns.minutes
    );
    let mut counts = vec![Vec::new(); (minutes.end - minutes.start) as usize];
    let (mut functions, mut held) = (0u32, 0usize);
    while let Some((number, line)) = lines.next()? {
        let mut found = 0;
        for (minute, cell) in (0..columns.minutes).zip(cells(line).skip(columns.first)) {
            found += 1;
            if !minutes.contains(&minute) {
                continue;
            }
            let count: u32 = cell.parse().ok().with_context(|| {
                format!(
                    "line {number}: `{}` in minute {} is no number of invocations",
                    cell.escape_debug(),
                    minute + 1
                )
            })?;
            if count > 0 {
                counts[(minute - minutes.start) as usize].push((functions, count));
                held += 1;
            }
        }
        ensure!(
            found == columns.minutes,
            "line {number}: has {found} minutes and the header {}, is it cut off?",
            columns.minutes
        );
        ensure!(
            held <= CELLS_MAX,
            "line {number}: more than {CELLS_MAX} numbers that are not 0, take fewer minutes with --trace-minutes A..B"
        );
        functions = functions
            .checked_add(1)
            .with_context(|| format!("line {number}: more functions than can be numbered"))?;
    }
    Ok(Trace {
        functions,
        minutes,
        load: Load::Counts(counts),
    })
}

/// What the header says.
struct Columns {
    /// The column of the first minute.
    first: usize,
    minutes: u32,
}

impl Columns {
    /// invitro leaves out the trigger at times, so minutes begin at the column `1` and count up.
    fn of(header: &str) -> Result<Self> {
        let names: Vec<_> = cells(header).collect();
        ensure!(
            names
                .iter()
                .any(|name| name.eq_ignore_ascii_case("HashFunction")),
            "line 1: no column HashFunction, it should be HashOwner,HashApp,HashFunction,Trigger,1,2,…; \
             one call a line is --trace-format azure2021"
        );
        let first = names
            .iter()
            .position(|name| *name == "1")
            .context("line 1: no column 1 for the first minute")?;
        let counting = names[first..]
            .iter()
            .zip(1u32..)
            .take_while(|(name, minute)| name.parse() == Ok(*minute))
            .count();
        ensure!(
            first + counting == names.len(),
            "line 1: column {} is `{}` and should be minute {}",
            first + counting + 1,
            names[first + counting].escape_debug(),
            counting + 1
        );
        let minutes = u32::try_from(counting)
            .ok()
            .filter(|&minutes| minutes <= MINUTES_MAX)
            .with_context(|| format!("line 1: more than {MINUTES_MAX} minutes"))?;
        Ok(Self { first, minutes })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &[u8], minutes: Option<Range<u32>>) -> Result<Trace> {
        read(Lines::new(text), minutes)
    }

    #[track_caller]
    fn refused(text: &str, minutes: Option<Range<u32>>, words: &[&str]) {
        let error = format!("{:#}", parse(text.as_bytes(), minutes).unwrap_err());
        for word in words {
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn reads_both_headers_and_part_of_the_minutes() {
        let azure = "HashOwner,HashApp,HashFunction,Trigger,1,2,3\no,a,f,http,0,2,7\r\n\no,a,g,timer,1,0,1\n";
        let trace = parse(azure.as_bytes(), None).unwrap();
        assert_eq!(trace.functions, 2);
        let counts = vec![vec![(1, 1)], vec![(0, 2)], vec![(0, 7), (1, 1)]];
        assert_eq!(trace.load, Load::Counts(counts));
        assert_eq!(trace.invocations(), 11);
        let invitro = "HashOwner,HashApp,HashFunction,1,2,3\no,a,f,0,2,7\n";
        let trace = parse(invitro.as_bytes(), Some(1..2)).unwrap();
        assert_eq!(trace.load, Load::Counts(vec![vec![(0, 2)]]));
        assert_eq!(
            (trace.minutes.clone(), trace.length().as_secs()),
            (1..2, 60)
        );
    }

    #[test]
    fn says_which_line_is_wrong() {
        let header = "HashOwner,HashApp,HashFunction,Trigger,1,2\n";
        refused("", None, &["line 1", "empty"]);
        refused(
            "app,func,end_timestamp,duration\n",
            None,
            &["line 1", "azure2021"],
        );
        refused("HashFunction,1,3\n", None, &["line 1", "`3`", "minute 2"]);
        refused(
            &format!("{header}o,a,f,http,1,x\n"),
            None,
            &["line 2", "`x`", "minute 2"],
        );
        refused(
            &format!("{header}o,a,f,http,1,-1\n"),
            None,
            &["line 2", "`-1`"],
        );
        refused(
            &format!("{header}o,a,f,http,1,2\no,a,f,http,1\n"),
            None,
            &["line 3", "1 minutes"],
        );
        refused(header, Some(1..3), &["1..3", "--trace-minutes 0..2"]);
        let long = "x".repeat(300_000);
        refused(&long, None, &["line 1", "longer"]);
        assert!(format!("{:#}", parse(b"\xff\xfe\n", None).unwrap_err()).contains("line 1"));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(HashFunction,(1,2|1,2,3|x)\n)?([a-z0-9,.\"\n-]|[0-9],){0,200}", from in 0u32..4, length in 0u32..4) {
            let _any = parse(text.as_bytes(), Some(from..from + length));
            let _any = parse(text.as_bytes(), None);
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _any = parse(&bytes, None);
        }
    }
}
