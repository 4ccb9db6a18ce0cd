//! Data on standard output: JSON, or columns for people.

use std::io::Write as _;

use mote_core::error::{Error, ErrorKind};
use serde::Serialize;

use crate::report::visible;

/// Prints bytes as they are and sees them out.
#[expect(
    clippy::exit,
    reason = "a closed output ends the program like a signal would"
)]
pub(crate) fn bytes(data: &[u8]) -> Result<(), Error> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(data).and_then(|()| stdout.flush()) {
        // Whoever read the output has seen enough (`mote logs | head`).
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => Err(Error::new(
            ErrorKind::Internal,
            format!("cannot write to standard output: {error}"),
        )
        .with_hint("check where the output goes")),
        Ok(()) => Ok(()),
    }
}

/// Prints a line.
pub(crate) fn line(text: &str) -> Result<(), Error> {
    bytes(format!("{text}\n").as_bytes())
}

/// Prints a value as JSON.
pub(crate) fn json(value: &impl Serialize) -> Result<(), Error> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| Error::new(ErrorKind::Internal, format!("cannot write JSON: {error}")))?;
    line(&text)
}

/// Prints rows under a heading, without lines around them: easy to read and to cut.
pub(crate) fn columns(heading: &[&str], rows: Vec<Vec<String>>) -> Result<(), Error> {
    let heading = heading.iter().map(|cell| (*cell).to_owned()).collect();
    let mut table: Vec<Vec<String>> = vec![heading];
    table.extend(rows);
    let mut widths: Vec<usize> = Vec::new();
    for row in &mut table {
        widths.resize(widths.len().max(row.len()), 0);
        for (cell, width) in row.iter_mut().zip(&mut widths) {
            *cell = visible(cell);
            *width = cell.chars().count().max(*width);
        }
    }
    for row in table {
        let cells = row.iter().zip(&widths);
        let text: Vec<String> = cells
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        line(text.join("  ").trim_end())?;
    }
    Ok(())
}

/// Prints names and values, one per line.
pub(crate) fn pairs(pairs: &[(&str, String)]) -> Result<(), Error> {
    let width = pairs
        .iter()
        .map(|(name, _)| name.len())
        .max()
        .unwrap_or_default();
    for (name, value) in pairs {
        line(format!("{name:width$}  {}", visible(value)).trim_end())?;
    }
    Ok(())
}

/// A size for people: `113.4 KiB`.
pub(crate) fn size(count: u64) -> String {
    bytesize::ByteSize::b(count).display().iec().to_string()
}

/// A moment for people, in this machine's time zone.
pub(crate) fn moment(unix_ms: u64, format: &str) -> String {
    let moment = i64::try_from(unix_ms)
        .ok()
        .and_then(|millis| jiff::Timestamp::from_millisecond(millis).ok());
    match moment {
        Some(moment) => moment
            .to_zoned(jiff::tz::TimeZone::system())
            .strftime(format)
            .to_string(),
        None => "?".to_owned(),
    }
}
