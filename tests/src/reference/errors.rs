//! The error table, which doors, command line and metrics all read.

use mote_core::error::ErrorKind;

use super::{code, table};

const WORDS: &str = "\
Every error of a node or a command is of one of these kinds.
Over HTTP it is a problem document (RFC 9457) with `kind`, `status`, `title`, `detail` and perhaps `hint`; over CoAP the code with its detail as text; a command prints it and ends with the exit code.
What a function answers itself is passed on, whatever its status.

";

pub(super) fn body() -> String {
    let rows: Vec<Vec<String>> = ErrorKind::ALL
        .iter()
        .map(|kind| {
            let (class, detail) = kind.coap_code();
            vec![
                code(kind.label()),
                kind.title().to_owned(),
                kind.http_status().as_u16().to_string(),
                format!("{class}.{detail:02}"),
                kind.exit_code().to_string(),
                if kind.retryable() { "yes" } else { "no" }.to_owned(),
            ]
        })
        .collect();
    let heading = [
        "kind",
        "title",
        "HTTP",
        "CoAP",
        "exit code",
        "may work later",
    ];
    format!("{WORDS}{}", table(&heading, &rows))
}
