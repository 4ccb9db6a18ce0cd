//! A value that is not on the command line, where other people of the machine could read it: from a
//! file or from standard input.

use std::io::{IsTerminal as _, Read as _};

use mote_core::error::{Error, ErrorKind};

use crate::report::say;

/// The bytes of a file, `-` or `None` being standard input; at most so many.
pub(super) fn read(file: Option<&str>, bytes_max: usize) -> Result<Vec<u8>, Error> {
    let mut value = Vec::new();
    let limit = bytes_max as u64 + 1;
    let (name, read) = match file.filter(|file| *file != "-") {
        None => {
            if std::io::stdin().is_terminal() {
                say("write the value, and end it with Ctrl-D on a line of its own");
            }
            let read = std::io::stdin().take(limit).read_to_end(&mut value);
            ("standard input", read)
        }
        Some(file) => {
            let open = std::fs::File::open(file);
            let read = open.and_then(|open| open.take(limit).read_to_end(&mut value));
            (file, read)
        }
    };
    read.map_err(|error| {
        let message = format!("cannot read the value from {name}: {error}");
        Error::new(ErrorKind::BadRequest, message)
    })?;
    if value.len() > bytes_max {
        let message = format!("the value in {name} is larger than {bytes_max} bytes");
        return Err(Error::new(ErrorKind::TooLarge, message));
    }
    Ok(value)
}
