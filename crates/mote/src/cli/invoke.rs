//! `mote invoke`: call a function by its name or its address.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use mote_api::client::http::{Http, Reply, Request, Upload};
use mote_api::coap;
use mote_api::problem::{MEDIA_TYPE, Problem};
use mote_api::recorded::{self, Door, Exchange, Expected};
use mote_api::units::Period;
use mote_core::error::{Error, ErrorKind};
use mote_core::name::FunctionName;

use super::target::{Target, doors, open};
use super::{observe, output};
use crate::report::report;

/// Largest body that is read from a file or standard input.
const BODY_BYTES_MAX: u64 = 256 << 20;
/// Largest problem document.
const PROBLEM_BYTES_MAX: u64 = 64 << 10;

/// Call a function by its name or its address, and print its reply.
///
/// A reply with a status of 400 or above is printed too; the exit code then tells what kind of
/// failure it was.
#[derive(Debug, Args)]
pub(super) struct Invoke {
    /// `light`, `light.home/path?query`, `http://…` or `coap://…`.
    #[arg(value_name = "NAME|URL")]
    address: String,
    /// The body.
    body: Option<String>,
    /// The body, from a file; `-` is standard input.
    #[arg(long, value_name = "FILE", conflicts_with = "body")]
    body_file: Option<String>,
    /// The method; by default GET, or POST with a body.
    #[arg(short = 'X', long)]
    method: Option<String>,
    /// A header, `Name: value`; may be given more than once.
    #[arg(short = 'H', long, value_name = "HEADER")]
    header: Vec<String>,
    /// Print status and headers before the body.
    #[arg(short, long)]
    include: bool,
    /// Add the request and its reply to a file that `mote test` reads.
    #[arg(long, value_name = "FILE", conflicts_with = "observe")]
    record: Option<PathBuf>,
    /// Watch the function's published value over CoAP, until interrupted.
    #[arg(long)]
    observe: bool,
    /// Values to watch before it ends.
    #[arg(long, requires = "observe", value_name = "N")]
    count: Option<u64>,
    /// Longest wait for the reply.
    #[arg(long, default_value = "60s")]
    timeout: Period,
    #[command(flatten)]
    target: Target,
}

impl Invoke {
    pub(super) async fn run(self) -> Result<ExitCode, Error> {
        let body = self.read_body()?;
        let method = match &self.method {
            Some(method) => method.to_uppercase(),
            None if body.is_some() => "POST".to_owned(),
            None => "GET".to_owned(),
        };
        let url = self.url().await?;
        if url.starts_with("coap://") {
            return self.coap(&url, &method, body.unwrap_or_default()).await;
        }
        if self.observe {
            return Err(
                Error::new(ErrorKind::BadRequest, "only coap addresses can be observed")
                    .with_hint("name the function, or write coap://HOST/FUNCTION"),
            );
        }
        let time = self.timeout.0;
        match tokio::time::timeout(time, self.http(url, &method, body.unwrap_or_default())).await {
            Ok(code) => code,
            Err(_) => Err(Error::new(
                ErrorKind::Timeout,
                format!("no whole reply within {}", self.timeout),
            )
            .with_hint("wait longer with --timeout")),
        }
    }

    /// The address as it is, or where the node's door has the function.
    async fn url(&self) -> Result<String, Error> {
        if self.address.contains("://") {
            return Ok(self.address.clone());
        }
        let end = self.address.find(['/', '?']).unwrap_or(self.address.len());
        let (name, rest) = self.address.split_at(end);
        let name: FunctionName = name.parse()?;
        let doors = doors(&self.target.client()?).await?;
        let door = if self.observe {
            open(doors.coap, "coap")?
        } else {
            open(doors.http, "http")?
        };
        Ok(format!("{door}/{name}{rest}"))
    }

    fn read_body(&self) -> Result<Option<Bytes>, Error> {
        let Some(path) = &self.body_file else {
            return Ok(self.body.clone().map(Bytes::from));
        };
        let unreadable = |error: std::io::Error| {
            Error::new(
                ErrorKind::BadRequest,
                format!("cannot read the body from {path}: {error}"),
            )
        };
        let mut body = Vec::new();
        let limit = BODY_BYTES_MAX + 1;
        let read = if path == "-" {
            std::io::stdin().take(limit).read_to_end(&mut body)
        } else {
            std::fs::File::open(path).and_then(|file| file.take(limit).read_to_end(&mut body))
        };
        match read.map_err(unreadable)? {
            length if length as u64 == limit => Err(Error::new(
                ErrorKind::TooLarge,
                format!("the body in {path} is larger than {BODY_BYTES_MAX} bytes"),
            )),
            _ => Ok(Some(body.into())),
        }
    }

    fn headers(&self) -> Result<Vec<(String, String)>, Error> {
        let parsed = self.header.iter().map(|line| {
            let (name, value) = line.split_once(':')?;
            let (name, value) = (name.trim(), value.trim());
            let valid = name.parse::<HeaderName>().is_ok() && value.parse::<HeaderValue>().is_ok();
            valid.then(|| (name.to_owned(), value.to_owned()))
        });
        parsed
            .zip(&self.header)
            .map(|(parsed, line)| {
                parsed.ok_or_else(|| {
                    Error::new(
                        ErrorKind::BadRequest,
                        format!("`{}` is not a header", line.escape_debug()),
                    )
                    .with_hint("write --header 'Name: value'")
                })
            })
            .collect()
    }

    async fn http(&self, url: String, method: &str, body: Bytes) -> Result<ExitCode, Error> {
        let method: Method = method.parse().map_err(|_| bad_method(method))?;
        let request = Request {
            method: method.clone(),
            url: url.clone(),
            headers: self.headers()?,
            body: Upload::from(body.clone()),
        };
        let mut reply = Http::new().send(request).await.map_err(|error| {
            // A server that does not take the connection leaves no hint of its own.
            match (error.kind(), error.hint()) {
                (ErrorKind::Overloaded, None) => error
                    .context(format_args!("nothing answers at {url}"))
                    .with_hint("start a node with `mote up`, or check host and port"),
                _ => error,
            }
        })?;
        if self.include {
            output::bytes(&head(&reply))?;
        }
        if let Some(path) = &self.record {
            return self.recorded(path, &url, &method, &body, reply).await;
        }
        let content_type = reply.headers.get(header::CONTENT_TYPE);
        if content_type.is_some_and(|value| value == MEDIA_TYPE) && !reply.status.is_success() {
            let status = reply.status;
            let body = reply.collect(PROBLEM_BYTES_MAX).await?;
            // The node's own failures are reported like any other; a function's are printed.
            if let Ok(problem) = serde_json::from_slice::<Problem>(&body)
                && ErrorKind::from_label(&problem.kind).is_some()
            {
                return Err(Error::from(problem));
            }
            output::bytes(&body)?;
            return Ok(answered(status));
        }
        while let Some(data) = reply.next().await? {
            output::bytes(&data)?;
        }
        Ok(answered(reply.status))
    }

    /// Prints the reply, and writes it down with its request.
    async fn recorded(
        &self,
        path: &Path,
        url: &str,
        method: &Method,
        body: &[u8],
        reply: Reply,
    ) -> Result<ExitCode, Error> {
        let status = reply.status;
        let content_type = reply.headers.get(header::CONTENT_TYPE).cloned();
        let answer = reply.collect(recorded::BYTES_MAX).await?;
        output::bytes(&answer)?;
        let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
        let content_type = content_type.and_then(|value| Some(value.to_str().ok()?.to_owned()));
        let exchange = Exchange {
            line: 0,
            door: Door::Http,
            method: method.to_string(),
            target: rest
                .find(['/', '?'])
                .map_or("/", |at| &rest[at..])
                .to_owned(),
            headers: self.headers()?,
            body: text(body, "request")?,
            expected: Expected {
                status: status.as_u16().to_string(),
                headers: content_type
                    .map(|value| ("content-type".to_owned(), value))
                    .into_iter()
                    .collect(),
                body: Some(text(&answer, "reply")?).filter(|text| !text.is_empty()),
            },
        };
        exchange.append_to(path)?;
        Ok(answered(status))
    }

    async fn coap(&self, url: &str, method: &str, body: Bytes) -> Result<ExitCode, Error> {
        if self.record.is_some() {
            return Err(
                Error::new(ErrorKind::BadRequest, "only calls over HTTP are recorded")
                    .with_hint("record it over HTTP, and write CoAP behind the request's path"),
            );
        }
        if !self.header.is_empty() {
            return Err(
                Error::new(ErrorKind::BadRequest, "headers do not exist over CoAP")
                    .with_hint("put the value into the query or the body, or call over HTTP"),
            );
        }
        let target = coap::Target::parse(url)?;
        let code = coap::Request::code(method).ok_or_else(|| bad_method(method))?;
        let mut request = coap::Request::new(code, &target);
        request.payload = body;
        let timing = coap::Timing {
            answer_timeout: self.timeout.0.max(Duration::from_millis(1)),
            ..coap::Timing::default()
        };
        let mut client = coap::Client::connect(&target.host, target.port, timing).await?;
        if self.observe {
            return observe::run(client, &request, self.include, self.count).await;
        }
        let response = client.request(&request).await?;
        print(&response, self.include)
    }
}

/// Prints an answer over CoAP; the exit code is its kind's.
pub(super) fn print(response: &coap::Response, include: bool) -> Result<ExitCode, Error> {
    let (class, detail) = response.class();
    if include {
        output::line(&format!("CoAP {class}.{detail:02}"))?;
        let options = [
            ("content-format", response.content_format.map(u32::from)),
            ("observe", response.observe),
            ("max-age", response.max_age),
        ];
        for (name, value) in options {
            if let Some(value) = value {
                output::line(&format!("{name}: {value}"))?;
            }
        }
        output::line("")?;
    }
    let Some(kind) = response.failure() else {
        output::bytes(&response.payload)?;
        return Ok(ExitCode::SUCCESS);
    };
    // The payload of a failure is a diagnostic for people (RFC 7252 §5.5.2).
    let text = String::from_utf8_lossy(&response.payload);
    let text = if text.is_empty() { kind.title() } else { &text };
    let error = Error::new(kind, format!("{class}.{detail:02} {text}"));
    Err(match kind {
        ErrorKind::NotFound => error.with_hint("`mote ls` lists the functions"),
        ErrorKind::FunctionFailed => error.with_hint("`mote logs` shows what it wrote"),
        _ => error,
    })
}

/// A body that can stand in a file of recorded requests.
fn text(body: &[u8], whose: &str) -> Result<String, Error> {
    let text = std::str::from_utf8(body).ok();
    let text = text.filter(|text| recorded::can_be_written(text));
    text.map(str::to_owned).ok_or_else(|| {
        Error::new(
            ErrorKind::Unsupported,
            format!("the body of the {whose} cannot be recorded: it is no text, or has a line that begins with ### or ends with a carriage return"),
        )
        .with_hint("nothing was written; record another request")
    })
}

/// What a function's own status means for the exit code: its 5xx is its failure, not a bug of mote.
fn answered(status: StatusCode) -> ExitCode {
    let kind = match status.as_u16() {
        ..400 => return ExitCode::SUCCESS,
        code @ 400..500 => mote_api::problem::kind_of(code),
        _ => ErrorKind::FunctionFailed,
    };
    report(
        &Error::new(kind, format!("the function answered {status}"))
            .with_hint("`mote logs` shows what it wrote"),
    )
}

fn head(reply: &Reply) -> Vec<u8> {
    let mut head = format!("HTTP {}\n", reply.status).into_bytes();
    for (name, value) in &reply.headers {
        head.extend_from_slice(name.as_str().as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value.as_bytes());
        head.push(b'\n');
    }
    head.push(b'\n');
    head
}

fn bad_method(method: &str) -> Error {
    Error::new(
        ErrorKind::BadRequest,
        format!("`{}` is not a method", method.escape_debug()),
    )
    .with_hint("write GET, POST, PUT, DELETE or PATCH")
}
