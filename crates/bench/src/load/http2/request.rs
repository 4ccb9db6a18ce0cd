//! What one HTTP/2 target is asked.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};

use crate::load::http::request::parse_header;
use crate::load::target::FUNCTION;

/// One server and what to ask it.
#[derive(Debug)]
pub(in crate::load) struct Target {
    pub(super) address: SocketAddr,
    method: Method,
    uri: Uri,
    /// The URL when the number of a function goes into it.
    named: Option<String>,
    headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Target {
    /// Checks what the command line says about the request.
    pub(in crate::load) fn new(
        address: SocketAddr,
        uri: &Uri,
        method: &str,
        headers: &[String],
        body: Vec<u8>,
    ) -> Result<Self> {
        let method = Method::from_bytes(method.as_bytes())
            .with_context(|| format!("method `{method}` is not a method"))?;
        let mut map = HeaderMap::new();
        for header in headers {
            let (name, value): (HeaderName, HeaderValue) = parse_header(header)?;
            map.append(name, value);
        }
        let url = uri.to_string();
        Ok(Self {
            address,
            method,
            uri: uri.clone(),
            named: url.contains(FUNCTION).then_some(url),
            headers: map,
            body: body.into(),
        })
    }

    /// The request for a function, with a body of so many bytes. Nothing if the URL does not take the number.
    pub(super) fn request(&self, function: u32, length: usize) -> Option<Request<()>> {
        let mut request = Request::new(());
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = match &self.named {
            None => self.uri.clone(),
            Some(url) => url.replace(FUNCTION, &function.to_string()).parse().ok()?,
        };
        *request.headers_mut() = self.headers.clone();
        if length > 0 {
            request.headers_mut().insert(CONTENT_LENGTH, length.into());
        }
        Some(request)
    }
}
