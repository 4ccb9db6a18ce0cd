//! The one place that tells a person something: talk and errors on standard error, data on standard output.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

use mote_core::error::{Error, ErrorKind};

/// Writes an error and what to do about it; the exit code is its kind's.
pub(crate) fn report(error: &Error) -> ExitCode {
    let (red, cyan, plain) = if colours() {
        ("\x1b[1;31m", "\x1b[36m", "\x1b[0m")
    } else {
        ("", "", "")
    };
    say(&format!("{red}error:{plain} {}", error.message()));
    if let Some(hint) = error.hint() {
        say(&format!("{cyan}hint:{plain} {hint}"));
    } else if error.kind() == ErrorKind::Internal {
        say(&format!(
            "{cyan}hint:{plain} this is a fault of mote; please report it with what you did"
        ));
    }
    ExitCode::from(error.kind().exit_code())
}

/// A line for people.
pub(crate) fn say(text: &str) {
    // Nobody is left to tell when standard error is closed.
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// A line of data.
pub(crate) fn print(text: &str) -> Result<(), Error> {
    writeln!(std::io::stdout(), "{text}").map_err(|error| {
        Error::new(
            ErrorKind::Internal,
            format!("cannot write to standard output: {error}"),
        )
        .with_hint("check where the output goes")
    })
}

/// Text from elsewhere without what could steer a terminal.
pub(crate) fn visible(text: &str) -> String {
    text.chars()
        .flat_map(|letter| {
            let escape = letter.is_control() && letter != '\t';
            let plain = (!escape).then_some(letter);
            let escaped = escape.then(|| letter.escape_unicode());
            plain.into_iter().chain(escaped.into_iter().flatten())
        })
        .collect()
}

/// A size for people: `113.4 KiB`.
pub(crate) fn size(bytes: u64) -> String {
    let units = ["KiB", "MiB", "GiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    #[expect(clippy::cast_precision_loss, reason = "one digit is shown")]
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", units[unit])
}

/// Whether standard error takes colours (<https://no-color.org>).
fn colours() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && std::io::stderr().is_terminal()
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes_are_short() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1536, "1.5 KiB"),
            (5 << 20, "5.0 MiB"),
            (3 << 40, "3072.0 GiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }
}
