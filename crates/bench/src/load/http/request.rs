//! An HTTP/1.1 request as bytes: all of it once, or its head with another body each time.

use anyhow::{Context, Result};
use http::{HeaderName, HeaderValue};

use crate::load::target::FUNCTION;

/// Everything before the length of the body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::load) struct Head {
    /// Between the parts goes the number of a function.
    parts: Vec<Vec<u8>>,
}

impl Head {
    /// Checks what the command line says about the request.
    pub(in crate::load) fn new(
        uri: &http::Uri,
        method: &str,
        headers: &[String],
        keep_alive: bool,
    ) -> Result<Self> {
        http::Method::from_bytes(method.as_bytes())
            .with_context(|| format!("method `{method}` is not a method"))?;
        let path = uri
            .path_and_query()
            .map_or("/", http::uri::PathAndQuery::as_str);
        let authority = uri.authority().map_or("", http::uri::Authority::as_str);
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {authority}\r\n");
        if !keep_alive {
            head.push_str("connection: close\r\n");
        }
        for header in headers {
            let (name, value) = parse_header(header)?;
            let value = value.to_str().context("checked to be text")?;
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        // Headers may say what they like.
        let (line, rest) = head.split_once("\r\n").unwrap_or((&head, ""));
        let mut parts: Vec<_> = line
            .split(FUNCTION)
            .map(|part| part.as_bytes().to_vec())
            .collect();
        if let Some(last) = parts.last_mut() {
            last.extend_from_slice(b"\r\n");
            last.extend_from_slice(rest.as_bytes());
        }
        Ok(Self { parts })
    }

    /// Whether requests differ by function.
    pub(in crate::load) fn names_function(&self) -> bool {
        self.parts.len() > 1
    }

    /// The whole request.
    pub(in crate::load) fn with(&self, body: &[u8], function: u32) -> Vec<u8> {
        let mut request = Vec::new();
        for (index, part) in self.parts.iter().enumerate() {
            if index > 0 {
                request.extend_from_slice(function.to_string().as_bytes());
            }
            request.extend_from_slice(part);
        }
        if !body.is_empty() {
            request.extend_from_slice(format!("content-length: {}\r\n", body.len()).as_bytes());
        }
        request.extend_from_slice(b"\r\n");
        request.extend_from_slice(body);
        request
    }
}

/// A header of the command line, as "name: value".
pub(in crate::load) fn parse_header(header: &str) -> Result<(HeaderName, HeaderValue)> {
    let (name, value) = header
        .split_once(':')
        .with_context(|| format!("header `{header}` has no colon, write \"name: value\""))?;
    let name = HeaderName::from_bytes(name.trim().as_bytes())
        .with_context(|| format!("header name `{name}` is not valid"))?;
    let text = value.trim();
    let value = HeaderValue::from_str(text)
        .ok()
        .filter(|value| value.to_str().is_ok())
        .with_context(|| format!("header value `{text}` is not valid"))?;
    Ok((name, value))
}
