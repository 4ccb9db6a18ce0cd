//! `mote test`: the recorded requests of a project, sent to its functions on a node of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Args;
use mote_api::client::http::{Http, Request, Upload};
use mote_api::coap;
use mote_api::recorded::{self, Door, Exchange};
use mote_core::error::{Error, ErrorKind};
use tokio::time::timeout;

use crate::build;
use crate::node::{self, Deployed, Node};
use crate::project::Project;
use crate::report::{print, say, visible};
use crate::sdk;
use crate::tools::Tools;

/// The folder of a project with its recorded requests.
const FOLDER: &str = "tests";
/// What their files end in.
const ENDING: &str = "http";
/// Longest wait for one reply.
const REPLY_TIMEOUT: Duration = Duration::from_secs(60);
/// Largest reply.
const REPLY_BYTES_MAX: u64 = 16 << 20;
/// How much of a body is shown.
const SHOWN_CHARS_MAX: usize = 400;

/// Send the recorded requests of a folder, tests/*.http, and compare the replies.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The folder of a mote.toml.
    #[arg(default_value = ".")]
    path: PathBuf,
    /// Take what is built already.
    #[arg(long)]
    no_build: bool,
}

/// A request with the file it is from.
struct Recorded {
    file: String,
    exchange: Exchange,
}

/// What came back.
struct Answer {
    status: String,
    headers: Vec<(String, String)>,
    body: Bytes,
}

impl Options {
    /// Builds, deploys, sends and compares. Fails when one reply is not as expected.
    pub(crate) async fn run(&self) -> Result<(), Error> {
        let project = Project::read(&self.path)?;
        let recordings = read(&project.folder)?;
        if project.built().next().is_some() && !self.no_build {
            let tools = Tools::of_this_machine(sdk::cache()?);
            for outcome in build::all(&project, &tools, &build::run)? {
                say(&outcome.to_string());
            }
        }
        let node = Node::start(&node::Settings::hidden()).await?;
        let failed = match node.place.deploy(&project.folder).await {
            Ok(deployed) => all(&recordings, &deployed).await,
            Err(error) => Err(error),
        };
        node.stop().await;
        match failed? {
            0 => print(&format!("{} passed, 0 failed", recordings.len())),
            failed => {
                print(&format!(
                    "{} passed, {failed} failed",
                    recordings.len() - failed
                ))?;
                Err(Error::new(
                    ErrorKind::FunctionFailed,
                    format!(
                        "{failed} of {} replies are not as expected",
                        recordings.len()
                    ),
                )
                .with_hint("correct the function, or what the file expects"))
            }
        }
    }
}

/// Every recorded request of a project, by files in order.
fn read(folder: &Path) -> Result<Vec<Recorded>, Error> {
    let tests = folder.join(FOLDER);
    let unreadable = |path: &Path, error: &std::io::Error| {
        Error::new(
            ErrorKind::NotFound,
            format!("cannot read {}: {error}", path.display()),
        )
        .with_hint("record a request with `mote invoke NAME --record tests/NAME.http`")
    };
    let mut paths: Vec<PathBuf> = fs::read_dir(&tests)
        .map_err(|error| unreadable(&tests, &error))?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|ending| ending == ENDING))
        .collect();
    paths.sort();
    let mut recordings = Vec::new();
    for path in paths {
        let file = format!(
            "{FOLDER}/{}",
            path.file_name().unwrap_or_default().display()
        );
        let size = fs::metadata(&path)
            .map_err(|error| unreadable(&path, &error))?
            .len();
        if size > recorded::BYTES_MAX {
            return Err(Error::new(
                ErrorKind::TooLarge,
                format!("{file} is larger than {} bytes", recorded::BYTES_MAX),
            ));
        }
        let text = fs::read_to_string(&path).map_err(|error| unreadable(&path, &error))?;
        let exchanges = recorded::parse(&text).map_err(|error| error.context(&file))?;
        recordings.extend(exchanges.into_iter().map(|exchange| Recorded {
            file: file.clone(),
            exchange,
        }));
    }
    if recordings.is_empty() {
        return Err(Error::new(
            ErrorKind::NotFound,
            format!("there is no recorded request in {}", tests.display()),
        )
        .with_hint("record one with `mote invoke NAME --record tests/NAME.http`"));
    }
    Ok(recordings)
}

/// Sends them one after the other, prints what came of each, and gives how many failed.
async fn all(recordings: &[Recorded], deployed: &[Deployed]) -> Result<usize, Error> {
    let base = |url: fn(&Deployed) -> Option<&String>| {
        let first = deployed.iter().find_map(url)?;
        let (scheme, rest) = first.split_once("://")?;
        let host = rest.split('/').next()?;
        Some(format!("{scheme}://{host}"))
    };
    let doors = (base(|one| one.http.as_ref()), base(|one| one.coap.as_ref()));
    let http = Http::new();
    let mut failed = 0;
    for recording in recordings {
        let exchange = &recording.exchange;
        let start = Instant::now();
        let answer = match exchange.door {
            Door::Http => over_http(&http, doors.0.as_deref(), exchange).await,
            Door::Coap => over_coap(doors.1.as_deref(), exchange).await,
        };
        let took = start.elapsed().as_secs_f64() * 1e3;
        let wrong = match &answer {
            Ok(answer) => differences(exchange, answer),
            Err(error) => vec![error.to_string()],
        };
        let word = if wrong.is_empty() { "ok    " } else { "failed" };
        print(&format!(
            "{word}  {}:{}  {} {}  {took:.1} ms",
            recording.file, exchange.line, exchange.method, exchange.target
        ))?;
        for line in &wrong {
            print(&format!("        {}", visible(line)))?;
        }
        failed += usize::from(!wrong.is_empty());
    }
    Ok(failed)
}

async fn over_http(http: &Http, door: Option<&str>, exchange: &Exchange) -> Result<Answer, Error> {
    let request = Request {
        method: exchange.method.parse().map_err(|_| {
            Error::new(
                ErrorKind::BadRequest,
                format!("`{}` is not a method", exchange.method),
            )
        })?,
        url: format!("{}{}", open(door)?, exchange.target),
        headers: exchange.headers.clone(),
        body: Upload::from(Bytes::from(exchange.body.clone())),
    };
    let whole = async {
        let reply = http.send(request).await?;
        let status = reply.status.as_u16().to_string();
        let headers = reply
            .headers
            .iter()
            .map(|(name, value)| {
                (
                    name.to_string(),
                    String::from_utf8_lossy(value.as_bytes()).into_owned(),
                )
            })
            .collect();
        Ok(Answer {
            status,
            headers,
            body: reply.collect(REPLY_BYTES_MAX).await?,
        })
    };
    timeout(REPLY_TIMEOUT, whole).await.map_err(|_| {
        Error::new(
            ErrorKind::Timeout,
            format!("no whole reply within {} s", REPLY_TIMEOUT.as_secs()),
        )
    })?
}

async fn over_coap(door: Option<&str>, exchange: &Exchange) -> Result<Answer, Error> {
    let target = coap::Target::parse(&format!("{}{}", open(door)?, exchange.target))?;
    let code = coap::Request::code(&exchange.method).ok_or_else(|| {
        Error::new(
            ErrorKind::BadRequest,
            format!("`{}` is not a method of CoAP", exchange.method),
        )
    })?;
    let mut request = coap::Request::new(code, &target);
    request.payload = Bytes::from(exchange.body.clone());
    let timing = coap::Timing {
        answer_timeout: REPLY_TIMEOUT,
        ..coap::Timing::default()
    };
    let mut client = coap::Client::connect(&target.host, target.port, timing).await?;
    let response = client.request(&request).await?;
    let (class, detail) = response.class();
    Ok(Answer {
        status: format!("{class}.{detail:02}"),
        headers: Vec::new(),
        body: response.payload,
    })
}

fn open(door: Option<&str>) -> Result<&str, Error> {
    door.ok_or_else(|| Error::new(ErrorKind::Forbidden, "the node has that door closed"))
}

/// What is not as expected, a line for each.
fn differences(exchange: &Exchange, answer: &Answer) -> Vec<String> {
    let expected = &exchange.expected;
    let text = String::from_utf8_lossy(&answer.body);
    let mut wrong = Vec::new();
    if expected.status != answer.status {
        wrong.push(format!(
            "status {} instead of {}: {}",
            answer.status,
            expected.status,
            short(&text)
        ));
    }
    for (name, value) in &expected.headers {
        let found = answer.headers.iter().find(|(known, _)| known == name);
        match found {
            Some((_, found)) if found == value => {}
            Some((_, found)) => wrong.push(format!("{name}: `{found}` instead of `{value}`")),
            None => wrong.push(format!("{name}: missing, `{value}` was expected")),
        }
    }
    if let Some(body) = &expected.body
        && !same_body(body, &text)
    {
        wrong.push(format!("body `{}`", short(&text)));
        wrong.push(format!("instead of `{}`", short(body)));
    }
    wrong
}

/// Equal apart from blank lines around them; JSON is compared by its value.
fn same_body(expected: &str, found: &str) -> bool {
    if expected.trim_matches(['\r', '\n']) == found.trim_matches(['\r', '\n']) {
        return true;
    }
    let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).ok();
    json(expected).is_some_and(|expected| Some(expected) == json(found))
}

fn short(text: &str) -> String {
    let text = text.trim_matches(['\r', '\n']);
    let start: String = text.chars().take(SHOWN_CHARS_MAX).collect();
    if start.len() < text.len() {
        format!("{start}…")
    } else {
        start
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_named() {
        let text =
            "GET /x\n\n### 200\n### content-type: application/json\n{\"a\": 1, \"b\": [2]}\n";
        let exchange = recorded::parse(text).unwrap().remove(0);
        let answer = |status: &str, kind: &str, body: &'static str| Answer {
            status: status.to_owned(),
            headers: vec![("content-type".to_owned(), kind.to_owned())],
            body: Bytes::from(body),
        };
        let json = "application/json";
        assert!(differences(&exchange, &answer("200", json, "{\"b\":[2],\"a\":1}")).is_empty());
        let wrong = differences(&exchange, &answer("500", "text/plain", "no"));
        let said: Vec<&str> = wrong.iter().map(String::as_str).collect();
        assert_eq!(
            said,
            [
                "status 500 instead of 200: no",
                "content-type: `text/plain` instead of `application/json`",
                "body `no`",
                "instead of `{\"a\": 1, \"b\": [2]}`",
            ]
        );
    }

    #[test]
    fn bodies_are_compared_by_what_they_mean() {
        assert!(same_body("hello", "hello\n"));
        assert!(same_body("[1,2]", "[ 1, 2 ]"));
        assert!(!same_body("[1,2]", "[2,1]"));
        assert!(!same_body("hello", "hello "));
    }
}
