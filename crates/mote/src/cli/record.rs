//! What `mote invoke --record` writes: the call and its reply, as `mote test` repeats them.
//!
//! A body that is not text of several lines goes to a file beside the recording. Of the reply's
//! headers only its type is kept: dates, ids and lengths differ in each call.

use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, Uri, header};
use mote_api::recording::{self, Content, EXCHANGES_MAX, Exchange, FILE_BYTES_MAX};
use mote_core::error::{Error, ErrorKind};

/// Largest reply whose body is kept; of a larger one only status and type are.
const REPLY_BYTES_MAX: usize = 1 << 20;

/// A call on its way into a file.
pub(super) struct Recording {
    file: PathBuf,
    /// How many requests the file has already.
    before: usize,
    exchange: Exchange,
    body: Bytes,
    reply: Vec<u8>,
    cut: bool,
}

impl Recording {
    /// Reads what the file has, so that a call is not made in vain.
    pub(super) fn new(
        file: &Path,
        method: &Method,
        url: &str,
        headers: &[(String, String)],
        body: &Bytes,
    ) -> Result<Self, Error> {
        let before = existing(file)?;
        let uri: Option<Uri> = url.parse().ok();
        let target = uri.and_then(|uri| uri.path_and_query().cloned());
        let target = target.ok_or_else(|| {
            Error::new(
                ErrorKind::BadRequest,
                format!("`{}` has no path", url.escape_debug()),
            )
        })?;
        Ok(Self {
            file: file.to_owned(),
            before,
            exchange: Exchange {
                name: format!("{method} {target}"),
                line: 0,
                method: method.clone(),
                target: target.to_string(),
                headers: headers.to_vec(),
                body: None,
                status: None,
                expected_headers: Vec::new(),
                expected_body: None,
            },
            body: body.clone(),
            reply: Vec::new(),
            cut: false,
        })
    }

    /// A part of the reply's body.
    pub(super) fn take(&mut self, data: &[u8]) {
        self.cut |= self.reply.len() + data.len() > REPLY_BYTES_MAX;
        if !self.cut {
            self.reply.extend_from_slice(data);
        }
    }

    /// Writes the call with a failure, whose text is not compared: it may hold an id.
    pub(super) fn failed(mut self, status: StatusCode) -> Result<(), Error> {
        self.exchange.status = Some(status);
        self.write()
    }

    /// Writes the call with its reply.
    pub(super) fn answered(mut self, status: StatusCode, headers: &HeaderMap) -> Result<(), Error> {
        self.exchange.status = Some(status);
        if let Some(value) = headers
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
        {
            let name = header::CONTENT_TYPE.as_str().to_owned();
            self.exchange
                .expected_headers
                .push((name, value.to_owned()));
        }
        if self.cut {
            eprintln!(
                "note: the reply is larger than {REPLY_BYTES_MAX} bytes; its body is not recorded"
            );
        } else {
            let reply = std::mem::take(&mut self.reply);
            self.exchange.expected_body = self.content(&reply, "reply")?;
        }
        self.write()
    }

    fn write(mut self) -> Result<(), Error> {
        let body = std::mem::take(&mut self.body);
        self.exchange.body = self.content(&body, "request")?;
        let separator = if self.before > 0 { "\n" } else { "" };
        let text = format!("{separator}{}", self.exchange);
        let mut options = OpenOptions::new();
        let opened = options.append(true).create(true).open(&self.file);
        let written = opened.and_then(|mut file| file.write_all(text.as_bytes()));
        written.map_err(|error| unwritable(&self.file, &error))
    }

    /// A body as text, or in a file of its own.
    fn content(&self, bytes: &[u8], what: &str) -> Result<Option<Content>, Error> {
        if bytes.is_empty() {
            return Ok(None);
        }
        // One newline at the end is not compared, so it need not be kept.
        let line = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        if let Ok(text) = std::str::from_utf8(line)
            && Content::is_writable(text)
        {
            return Ok(Some(Content::Text(text.to_owned())));
        }
        let stem = self.file.file_stem().unwrap_or_default().to_string_lossy();
        let name = format!("{stem}-{}-{what}", self.before + 1);
        let path = self.file.with_file_name(&name);
        fs::write(&path, bytes).map_err(|error| unwritable(&path, &error))?;
        Ok(Some(Content::File(name)))
    }
}

/// How many requests a file has that may not exist yet.
fn existing(file: &Path) -> Result<usize, Error> {
    let mut text = String::new();
    let read = fs::File::open(file)
        .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text));
    let problem = match read {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => error.to_string(),
        Ok(bytes) if bytes as u64 > FILE_BYTES_MAX => {
            format!("it is larger than {FILE_BYTES_MAX} bytes")
        }
        Ok(_) => match recording::parse(&text) {
            Ok(exchanges) if exchanges.len() < EXCHANGES_MAX => return Ok(exchanges.len()),
            Ok(_) => format!("it has {EXCHANGES_MAX} requests already"),
            Err(error) => error.to_string(),
        },
    };
    let message = format!("cannot record to {}: {problem}", file.display());
    Err(Error::new(ErrorKind::BadRequest, message)
        .with_hint("name a file of recorded requests, or one that does not exist"))
}

fn unwritable(path: &Path, error: &io::Error) -> Error {
    Error::new(
        ErrorKind::BadRequest,
        format!("cannot write {}: {error}", path.display()),
    )
}
