//! Errors on the wire: RFC 9457 problem details, with the kind's label and a hint beside them.

use std::time::Duration;

use mote_core::error::{Error, ErrorKind};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The media type of a [`Problem`] (RFC 9457 §6.1).
pub const MEDIA_TYPE: &str = "application/problem+json";

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// `about:blank`: the status says what kind of problem it is (RFC 9457 §4.2.1).
    #[serde(rename = "type", default = "about_blank")]
    pub type_uri: String,
    /// The kind, for people.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What happened, with the value it happened to.
    #[serde(default)]
    pub detail: String,
    /// The kind, for programs; the same label as in the metrics.
    #[serde(default)]
    pub kind: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Seconds after which trying again makes sense.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_s: Option<u64>,
}

fn about_blank() -> String {
    "about:blank".to_owned()
}

impl From<&Error> for Problem {
    fn from(error: &Error) -> Self {
        let kind = error.kind();
        Self {
            type_uri: about_blank(),
            title: kind.title().to_owned(),
            status: kind.http_status().as_u16(),
            detail: error.message().to_owned(),
            kind: kind.label().to_owned(),
            hint: error.hint().map(str::to_owned),
            retry_after_s: error.retry_after().map(|delay| delay.as_secs()),
        }
    }
}

impl From<Problem> for Error {
    fn from(problem: Problem) -> Self {
        let kind = ErrorKind::from_label(&problem.kind).unwrap_or_else(|| kind_of(problem.status));
        let message = if problem.detail.is_empty() {
            problem.title
        } else {
            problem.detail
        };
        let mut error = Self::new(kind, message);
        if let Some(hint) = problem.hint {
            error = error.with_hint(hint);
        }
        match problem.retry_after_s {
            Some(seconds) => error.with_retry_after(Duration::from_secs(seconds)),
            None => error,
        }
    }
}

/// The kind that fits an HTTP status best.
pub fn kind_of(status: u16) -> ErrorKind {
    let exact = ErrorKind::ALL
        .iter()
        .find(|kind| kind.http_status().as_u16() == status);
    match (exact, status) {
        (Some(kind), _) => *kind,
        (None, 400..500) => ErrorKind::BadRequest,
        _ => ErrorKind::Internal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_survives_the_wire() {
        for kind in ErrorKind::ALL {
            let error = Error::new(*kind, "function `resize` is not deployed")
                .with_hint("run `mote ls`")
                .with_retry_after(Duration::from_secs(3));
            let text = serde_json::to_string(&Problem::from(&error)).unwrap();
            let back = Error::from(serde_json::from_str::<Problem>(&text).unwrap());
            assert_eq!(back.kind(), *kind);
            assert_eq!(back.message(), error.message());
            assert_eq!(back.hint(), error.hint());
            assert_eq!(back.retry_after(), error.retry_after());
        }
    }

    #[test]
    fn foreign_statuses_have_a_kind() {
        for (status, kind) in [
            (404, ErrorKind::NotFound),
            (418, ErrorKind::BadRequest),
            (503, ErrorKind::Overloaded),
            (599, ErrorKind::Internal),
        ] {
            assert_eq!(kind_of(status), kind);
        }
    }
}
