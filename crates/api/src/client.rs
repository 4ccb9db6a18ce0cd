//! A client of a node: its admin API and its HTTP door.
//!
//! One method for each thing the admin API can do. Answers are bounded in size and time; log
//! streams and uploads end when they end. For CoAP see [`crate::coap`].

pub mod data;
pub mod http;
pub mod node;

use std::time::Duration;

use ::http::{Method, StatusCode, header};
use bytes::{Bytes, BytesMut};
use mote_core::digest::Digest;
use mote_core::error::{Error, ErrorKind};
use mote_core::name::FunctionName;
use mote_core::runtime::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::problem::{Problem, kind_of};
use crate::wire;
use http::{Http, Reply, Request, Upload};
use node::Node;

/// Longest wait for an answer: a deploy compiles, and compiling has its own limit below this.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(300);
/// Largest answer that is held in memory.
const ANSWER_BYTES_MAX: u64 = 64 << 20;
/// Longest line of a log.
const LINE_BYTES_MAX: usize = 1 << 20;

/// A client of one node's admin API. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Client {
    http: Http,
    node: Node,
}

/// Which lines of a function's log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogQuery {
    /// Whether the stream goes on with new lines.
    pub follow: bool,
    /// How many past lines at most; without it, all that are kept.
    pub tail: Option<u32>,
    /// The least important level.
    pub level: Option<mote_core::log::Level>,
}

impl Client {
    /// A client of this node. Connects when it is first used.
    pub fn new(node: Node) -> Self {
        Self {
            http: Http::new(),
            node,
        }
    }

    /// The node it talks to.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// How the node is.
    pub async fn status(&self) -> Result<wire::Status, Error> {
        self.get("/v1/status").await
    }

    /// Every function, by name.
    pub async fn functions(&self) -> Result<Vec<wire::FunctionInfo>, Error> {
        let list: wire::FunctionList = self.get("/v1/functions").await?;
        Ok(list.functions)
    }

    /// One function.
    pub async fn function(&self, name: &FunctionName) -> Result<wire::FunctionInfo, Error> {
        self.get(&function_path(name)).await
    }

    /// Deploys a function: its first version, or the next.
    pub async fn deploy(
        &self,
        name: &FunctionName,
        deploy: &wire::Deploy,
    ) -> Result<wire::FunctionInfo, Error> {
        self.send_json(Method::PUT, &function_path(name), deploy)
            .await
    }

    /// Makes an earlier version live.
    pub async fn rollback(
        &self,
        name: &FunctionName,
        version: Option<u32>,
    ) -> Result<wire::FunctionInfo, Error> {
        let path = format!("{}/rollback", function_path(name));
        self.send_json(Method::POST, &path, &wire::Rollback { version })
            .await
    }

    /// Changes how many instances a function may have.
    pub async fn rescale(
        &self,
        name: &FunctionName,
        rescale: &wire::Rescale,
    ) -> Result<wire::FunctionInfo, Error> {
        let path = format!("{}/scale", function_path(name));
        self.send_json(Method::POST, &path, rescale).await
    }

    /// Removes a function with all its versions.
    pub async fn remove(&self, name: &FunctionName) -> Result<(), Error> {
        self.answer(Method::DELETE, &function_path(name), None, Upload::empty())
            .await
            .map(drop)
    }

    /// Removes every function. Returns how many there were.
    pub async fn wipe(&self) -> Result<u64, Error> {
        let wipe = wire::Wipe {
            confirm: wire::WIPE_WORD.to_owned(),
        };
        let wiped: wire::Wiped = self.send_json(Method::POST, "/v1/wipe", &wipe).await?;
        Ok(wiped.functions)
    }

    /// Uploads code. `progress` hears how many bytes have gone out so far.
    pub async fn put_artifact(
        &self,
        digest: &Digest,
        bytes: Bytes,
        progress: impl FnMut(u64) + Send + 'static,
    ) -> Result<wire::Artifact, Error> {
        let path = format!("/v1/artifacts/{digest}");
        let upload = Upload::with_progress(bytes, Box::new(progress));
        let answer = self
            .answer(Method::PUT, &path, Some("application/octet-stream"), upload)
            .await?;
        parse(&answer)
    }

    /// The log of a function.
    pub async fn logs(&self, name: &FunctionName, query: LogQuery) -> Result<Logs, Error> {
        let mut path = format!("{}/logs?follow={}", function_path(name), query.follow);
        if let Some(tail) = query.tail {
            path.push_str(&format!("&tail={tail}"));
        }
        if let Some(level) = query.level {
            path.push_str(&format!("&level={level}"));
        }
        let reply = self.send(Method::GET, &path, None, Upload::empty()).await?;
        Ok(Logs {
            reply: accepted(reply).await?,
            buffer: BytesMut::new(),
        })
    }

    /// The metrics page, in the OpenMetrics text format.
    pub async fn metrics(&self) -> Result<String, Error> {
        let bytes = self
            .answer(Method::GET, "/metrics", None, Upload::empty())
            .await?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        parse(
            &self
                .answer(Method::GET, path, None, Upload::empty())
                .await?,
        )
    }

    async fn send_json<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        value: &impl Serialize,
    ) -> Result<T, Error> {
        let body = serde_json::to_vec(value).map_err(|error| {
            Error::new(ErrorKind::Internal, format!("cannot write JSON: {error}"))
        })?;
        let body = Upload::from(Bytes::from(body));
        let answer = self.answer(method, path, Some("application/json"), body);
        parse(&answer.await?)
    }

    /// The whole body of a good answer; the error of a bad one. Boxed, because every method waits
    /// for it, and the program would have its parts as often; and inlined, because otherwise this
    /// crate would have an HTTP client of its own beside the program's.
    #[inline]
    fn answer<'a>(
        &'a self,
        method: Method,
        path: &'a str,
        content_type: Option<&'static str>,
        body: Upload,
    ) -> BoxFuture<'a, Result<Bytes, Error>> {
        Box::pin(async move {
            let reply = self.send(method, path, content_type, body).await?;
            accepted(reply).await?.collect(ANSWER_BYTES_MAX).await
        })
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        content_type: Option<&'static str>,
        body: Upload,
    ) -> Result<Reply, Error> {
        let mut request = Request {
            method,
            url: format!("{}{path}", self.node.admin),
            headers: Vec::new(),
            body,
        };
        if let Some(token) = &self.node.token {
            request
                .headers
                .push((header::AUTHORIZATION.to_string(), format!("Bearer {token}")));
        }
        if let Some(content_type) = content_type {
            request
                .headers
                .push((header::CONTENT_TYPE.to_string(), content_type.to_owned()));
        }
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, self.http.send(request)).await;
        match answer {
            Ok(Err(error)) if error.kind() == ErrorKind::Overloaded && error.hint().is_none() => {
                Err(self.node.unreachable(&error))
            }
            Ok(answer) => answer,
            Err(_) => Err(Error::new(
                ErrorKind::Timeout,
                format!(
                    "the node at {} did not answer within {} s",
                    self.node.admin,
                    ANSWER_TIMEOUT.as_secs()
                ),
            )),
        }
    }
}

/// Log lines as they come.
#[derive(Debug)]
pub struct Logs {
    reply: Reply,
    buffer: BytesMut,
}

impl Logs {
    /// The next line; `None` at the end. Not cancel-safe in that a dropped read may lose the end of
    /// a line; use one reader.
    pub async fn next(&mut self) -> Result<Option<wire::LogLine>, Error> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(end + 1);
                if end == 0 {
                    continue;
                }
                return serde_json::from_slice(&line[..end])
                    .map(Some)
                    .map_err(|error| {
                        Error::new(
                            ErrorKind::Internal,
                            format!("the node sent a line that is no JSON: {error}"),
                        )
                    });
            }
            if self.buffer.len() > LINE_BYTES_MAX {
                return Err(Error::new(
                    ErrorKind::TooLarge,
                    format!("the node sent a line of more than {LINE_BYTES_MAX} bytes"),
                ));
            }
            match self.reply.next().await? {
                Some(data) => self.buffer.extend_from_slice(&data),
                None => return Ok(None),
            }
        }
    }
}

fn function_path(name: &FunctionName) -> String {
    format!("/v1/functions/{}", name.full())
}

fn parse<T: DeserializeOwned>(answer: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(answer).map_err(|error| {
        Error::new(
            ErrorKind::Unsupported,
            format!("the node answered something this mote does not understand: {error}"),
        )
        .with_hint("compare the versions with `mote status` and `mote --version`")
    })
}

async fn accepted(reply: Reply) -> Result<Reply, Error> {
    if reply.status.is_success() {
        return Ok(reply);
    }
    let status = reply.status;
    let body = reply.collect(ANSWER_BYTES_MAX).await.unwrap_or_default();
    let error = match serde_json::from_slice::<Problem>(&body) {
        Ok(problem) => Error::from(problem),
        Err(_) => Error::new(
            kind_of(status.as_u16()),
            format!("the node answered {status} without saying why"),
        )
        .with_hint("check that the address is a node's admin address"),
    };
    if status == StatusCode::UNAUTHORIZED && error.hint().is_none() {
        return Err(error.with_hint(node::TOKEN_HINT));
    }
    Err(error)
}

#[cfg(test)]
mod tests;
