//! The token that opens the admin API.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use mote_api::client::node::TOKEN_HINT;
use mote_core::error::{Error, ErrorKind};

use super::Admin;
use super::reply::Failure;

/// The addresses that answer without a token: they say nothing but yes or no.
const OPEN: [&str; 2] = ["/healthz", "/readyz"];

/// Lets a request through when it carries the token.
pub(super) async fn check(State(admin): State<Admin>, request: Request, next: Next) -> Response {
    if OPEN.contains(&request.uri().path()) {
        return next.run(request).await;
    }
    match carried(request.headers()) {
        Some(token) if same(token.as_bytes(), admin.config.token.as_bytes()) => {
            next.run(request).await
        }
        Some(_) => refused("the token is not this node's"),
        None => refused("this address needs the node's token"),
    }
}

fn refused(message: &'static str) -> Response {
    Failure::from(Error::new(ErrorKind::Unauthorized, message).with_hint(TOKEN_HINT))
        .into_response()
}

/// The token of an `Authorization: Bearer` header (RFC 6750 §2.1); the scheme is case-insensitive.
fn carried(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Compares in a time that depends on the lengths only, so that a wrong token does not tell how
/// much of it was right. An empty token opens nothing.
fn same(given: &[u8], expected: &[u8]) -> bool {
    if given.len() != expected.len() || expected.is_empty() {
        return false;
    }
    let mut difference = 0;
    for (a, b) in given.iter().zip(expected) {
        difference = std::hint::black_box(difference | (a ^ b));
    }
    difference == 0
}

#[cfg(test)]
mod tests {
    use super::same;

    #[test]
    fn only_the_same_token_is_the_same() {
        assert!(same(b"secret", b"secret"));
        for (given, expected) in [
            ("secreT", "secret"),
            ("secre", "secret"),
            ("", "secret"),
            ("", ""),
        ] {
            assert!(
                !same(given.as_bytes(), expected.as_bytes()),
                "{given} {expected}"
            );
        }
    }
}
