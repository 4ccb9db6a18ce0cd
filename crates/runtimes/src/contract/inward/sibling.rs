//! Calls of siblings, and lines for the log.

use http::{HeaderName, HeaderValue, Request, StatusCode, header};
use hyper::body::Incoming;
use mote_core::error::{Error, ErrorKind};
use mote_core::host::SiblingRequest;
use mote_core::log::Level;

use super::answer::{self, Answer};
use super::{CALL_ID, Inward};
use crate::contract::headers::{percent_decoded, remove_hop_by_hop};

/// How a program asks for a call that is handed over (RFC 7240 §4.1).
const ASYNC: &str = "respond-async";
/// Most bytes of lines at once.
const LINES_BYTES_MAX: u64 = 64 << 10;

impl Inward {
    /// `/call/FUNCTION[/PATH][?QUERY]`.
    pub(super) async fn call(
        &self,
        request: Request<Incoming>,
        rest: &str,
    ) -> Result<Answer, Error> {
        let (_, caller) = self.caller(&request)?;
        let name = rest.split('/').next().unwrap_or_default();
        let path = &rest[name.len()..];
        let query = request.uri().query();
        let target = match query {
            Some(query) => format!("{path}?{query}"),
            None => path.to_owned(),
        };
        let function = percent_decoded(name).into_owned();
        let (mut parts, body) = request.into_parts();
        let handed_over = parts
            .headers
            .get_all("prefer")
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|wish| wish.trim().eq_ignore_ascii_case(ASYNC));
        let headers = &mut parts.headers;
        remove_hop_by_hop(headers);
        // The node's own, and what the door of the sibling would write.
        for name in [
            header::AUTHORIZATION,
            header::HOST,
            header::CONTENT_LENGTH,
            header::EXPECT,
        ] {
            headers.remove(name);
        }
        headers.remove(CALL_ID);
        if handed_over {
            headers.remove("prefer");
        }
        let request = SiblingRequest {
            function,
            method: parts.method,
            target,
            headers: parts.headers,
            body: answer::body(body, self.body_bytes_max).await?,
        };
        if handed_over {
            let id = self.host.spawn(&caller, request)?;
            let mut answer = answer::empty(StatusCode::ACCEPTED);
            let id =
                HeaderValue::from_bytes(&id.hex()).expect("hexadecimal digits are a valid header");
            answer
                .headers_mut()
                .insert(HeaderName::from_static(CALL_ID), id);
            return Ok(answer);
        }
        let reply = self.host.call(&caller, request).await?;
        let mut answer = answer::with(reply.status, reply.body);
        *answer.headers_mut() = reply.headers;
        let headers = answer.headers_mut();
        remove_hop_by_hop(headers);
        headers.remove(header::CONTENT_LENGTH);
        headers.remove(answer::ERROR);
        Ok(answer)
    }

    /// `POST /log?level=LEVEL`.
    pub(super) async fn log(&self, request: Request<Incoming>) -> Result<Answer, Error> {
        if request.method() != http::Method::POST {
            return Err(answer::no_method(request.method(), "POST"));
        }
        let query = request.uri().query().unwrap_or_default();
        let level = match query.strip_prefix("level=").unwrap_or("info") {
            "trace" => Level::Trace,
            "debug" => Level::Debug,
            "info" => Level::Info,
            "warn" => Level::Warn,
            "error" => Level::Error,
            other => {
                let message = format!("`{}` is not a level", other.escape_debug());
                return Err(Error::new(ErrorKind::BadRequest, message)
                    .with_hint("write trace, debug, info, warn or error"));
            }
        };
        let (id, _) = self.caller(&request)?;
        let lines = answer::body(request.into_body(), LINES_BYTES_MAX).await?;
        for line in String::from_utf8_lossy(&lines).lines() {
            self.host.line(id, level, line);
        }
        Ok(answer::empty(StatusCode::NO_CONTENT))
    }
}
