//! Azure Functions 2021: a line for each call, by the time it ended.

use std::collections::HashMap;
use std::io::BufRead;
use std::ops::Range;

use anyhow::{Context, Result, ensure};

use super::csv::{Lines, cells};
use super::{Load, Trace, nanoseconds};

/// Of 16 bytes each: 256 MB. The two weeks of the Azure trace have two million.
const CALLS_MAX: usize = 16 << 20;
/// Names are kept while the file is read.
const FUNCTIONS_MAX: usize = 1 << 20;
const NAME_BYTES_MAX: usize = 1 << 10;
/// A year, in seconds.
const SECONDS_MAX: f64 = 366.0 * 86_400.0;

pub(super) fn read(mut lines: Lines<impl BufRead>, wanted: Option<Range<u32>>) -> Result<Trace> {
    if let Some(minutes) = &wanted {
        ensure!(
            minutes.start < minutes.end,
            "no minutes in {}..{}, use for example --trace-minutes 0..10",
            minutes.start,
            minutes.end
        );
    }
    let (_, header) = lines.next()?.context(
        "line 1: the file is empty, it should begin with app,func,end_timestamp,duration",
    )?;
    let columns = Columns::of(header)?;
    let mut functions: HashMap<String, u32> = HashMap::new();
    let mut calls = Vec::new();
    let mut last = 0;
    while let Some((number, line)) = lines.next()? {
        let call = columns
            .call(line)
            .with_context(|| format!("line {number}"))?;
        let known = functions.get(&call.name).copied();
        let function = match known {
            Some(function) => function,
            None => {
                ensure!(
                    functions.len() < FUNCTIONS_MAX,
                    "line {number}: more than {FUNCTIONS_MAX} functions"
                );
                let next = u32::try_from(functions.len()).expect("bounded");
                functions.insert(call.name, next);
                next
            }
        };
        let minute = whole_minute(call.start);
        if wanted
            .as_ref()
            .is_none_or(|minutes| minutes.contains(&minute))
        {
            ensure!(
                calls.len() < CALLS_MAX,
                "line {number}: more than {CALLS_MAX} invocations, take fewer minutes with --trace-minutes A..B"
            );
            last = last.max(minute);
            calls.push((nanoseconds(call.start * 1e9), function));
        }
    }
    let minutes = wanted.unwrap_or(0..last + 1);
    let from = u64::from(minutes.start) * 60_000_000_000;
    for (at, _) in &mut calls {
        *at = at.saturating_sub(from);
    }
    calls.sort_unstable();
    Ok(Trace {
        functions: u32::try_from(functions.len()).expect("bounded"),
        minutes,
        load: Load::Calls(calls),
    })
}

/// Where the columns are.
struct Columns {
    app: usize,
    function: usize,
    end: usize,
    duration: usize,
}

struct Call {
    name: String,
    /// Seconds since the trace began.
    start: f64,
}

impl Columns {
    fn of(header: &str) -> Result<Self> {
        let place = |wanted: &str| {
            cells(header)
                .position(|name| name == wanted)
                .with_context(|| {
                    format!(
                        "line 1: no column {wanted}, it should be app,func,end_timestamp,duration; \
                             invocations per minute are --trace-format azure2019"
                    )
                })
        };
        Ok(Self {
            app: place("app")?,
            function: place("func")?,
            end: place("end_timestamp")?,
            duration: place("duration")?,
        })
    }

    fn call(&self, line: &str) -> Result<Call> {
        let cells: Vec<_> = cells(line).collect();
        let cell = |place: usize| {
            cells
                .get(place)
                .copied()
                .with_context(|| format!("has {} columns, is it cut off?", cells.len()))
        };
        let seconds = |place: usize, what: &str| -> Result<f64> {
            let cell = cell(place)?;
            cell.parse::<f64>()
                .ok()
                .filter(|seconds| (0.0..SECONDS_MAX).contains(seconds))
                .with_context(|| format!("{what} `{}` is no time in seconds", cell.escape_debug()))
        };
        let name = format!("{},{}", cell(self.app)?, cell(self.function)?);
        ensure!(
            name.len() <= NAME_BYTES_MAX,
            "name of {} bytes, at most {NAME_BYTES_MAX}",
            name.len()
        );
        // Clocks of two machines may disagree by a little.
        let start = seconds(self.end, "end_timestamp")? - seconds(self.duration, "duration")?;
        Ok(Call {
            name,
            start: start.max(0.0),
        })
    }
}

fn whole_minute(seconds: f64) -> u32 {
    u32::try_from(nanoseconds(seconds / 60.0)).expect("less than a year")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEADER: &str = "app,func,end_timestamp,duration\n";

    fn parse(text: &str, minutes: Option<Range<u32>>) -> Result<Trace> {
        read(Lines::new(text.as_bytes()), minutes)
    }

    #[test]
    fn calls_are_ordered_by_their_start() {
        let text = format!("{HEADER}a,f,70.5,0.5\na,g,100,90\nb,f,61.5,0.25\na,f,0.001,0.002\n");
        let trace = parse(&text, None).unwrap();
        let expected = vec![
            (0, 0),
            (10_000_000_000, 1),
            (61_250_000_000, 2),
            (70_000_000_000, 0),
        ];
        assert_eq!(trace.load, Load::Calls(expected));
        assert_eq!((trace.functions, trace.minutes), (3, 0..2));
        let later = parse(&text, Some(1..2)).unwrap();
        assert_eq!(
            later.load,
            Load::Calls(vec![(1_250_000_000, 2), (10_000_000_000, 0)])
        );
        assert_eq!(
            later.functions, 3,
            "a function has the same number in every part"
        );
    }

    #[test]
    fn says_which_line_is_wrong() {
        for (text, words) in [
            (
                "HashOwner,HashApp,HashFunction,Trigger,1\n".to_owned(),
                ["line 1", "azure2019"],
            ),
            (format!("{HEADER}a,f,1\n"), ["line 2", "3 columns"]),
            (format!("{HEADER}a,f,1,1\na,f,x,1\n"), ["line 3", "`x`"]),
            (format!("{HEADER}a,f,1,-1\n"), ["line 2", "`-1`"]),
            (format!("{HEADER}a,f,1e99,1\n"), ["line 2", "`1e99`"]),
            (format!("{HEADER}a,f,NaN,1\n"), ["line 2", "`NaN`"]),
            (
                format!("{HEADER}{},f,1,1\n", "a".repeat(2000)),
                ["line 2", "2002 bytes"],
            ),
        ] {
            let error = format!("{:#}", parse(&text, None).unwrap_err());
            assert!(words.iter().all(|word| error.contains(word)), "{error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(app,func,end_timestamp,duration\n)?([a-z]{0,2},[a-z]{0,2},[0-9.e-]{0,6},[0-9.e-]{0,4}\n){0,20}", from in 0u32..4, length in 0u32..4) {
            let _any = parse(&text, Some(from..from + length));
            if let Ok(trace) = parse(&text, None) {
                let Load::Calls(calls) = &trace.load else { panic!("calls") };
                prop_assert!(calls.is_sorted());
                prop_assert!(calls.iter().all(|(at, function)| *function < trace.functions && u128::from(*at) <= trace.length().as_nanos()));
            }
        }
    }
}
