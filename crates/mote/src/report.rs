//! The one place that tells a person what went wrong.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

use mote_core::error::{Error, ErrorKind};

/// Writes an error and what to do about it to standard error; the exit code is its kind's.
pub(crate) fn report(error: &Error) -> ExitCode {
    let mut text = String::new();
    let (red, cyan, plain) = if colours() {
        ("\x1b[1;31m", "\x1b[36m", "\x1b[0m")
    } else {
        ("", "", "")
    };
    let _ = writeln!(text, "{red}error:{plain} {}", visible(error.message()));
    if let Some(hint) = error.hint() {
        let _ = writeln!(text, "{cyan}hint:{plain} {}", visible(hint));
    } else if error.kind() == ErrorKind::Internal {
        let _ = writeln!(
            text,
            "{cyan}hint:{plain} this is a fault of mote; please report it with what you did"
        );
    }
    // Nobody is left to tell when standard error is closed.
    let _ = std::io::stderr().write_all(text.as_bytes());
    ExitCode::from(error.kind().exit_code())
}

/// Talk for people, beside the data.
pub(crate) fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{}", visible(text));
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

/// Whether standard error takes colours (<https://no-color.org>).
fn colours() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && std::io::stderr().is_terminal()
}

#[cfg(test)]
mod tests {
    use super::visible;

    #[test]
    fn nothing_steers_the_terminal() {
        assert_eq!(visible("a\x1b[2Jb\tc\n"), "a\\u{1b}[2Jb\tc\\u{a}");
    }
}
