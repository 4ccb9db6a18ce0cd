//! `mote invoke --observe`: print a published value whenever it changes.

use std::process::ExitCode;

use mote_api::coap::{Client, Request, Response};
use mote_core::error::{Error, ErrorKind};

use super::{invoke, output};
use crate::report::say;

/// Prints values, each on a line of its own, until interrupted or `count` were seen.
pub(super) async fn run(
    client: Client,
    request: &Request,
    include: bool,
    count: Option<u64>,
) -> Result<ExitCode, Error> {
    let (first, mut observation) = client.observe(request).await?;
    print(&first, include)?;
    if observation.ended() {
        return Err(
            Error::new(ErrorKind::Unsupported, "this value cannot be observed")
                .with_hint("write observable = true in the function's manifest"),
        );
    }
    say("watching; interrupt to end");
    let mut seen = 1;
    while count.is_none_or(|count| seen < count) {
        let next = tokio::select! {
            next = observation.next() => next?,
            _ = tokio::signal::ctrl_c() => break,
        };
        match next {
            Some(value) => print(&value, include)?,
            None => {
                say("the node ended the observation");
                return Ok(ExitCode::SUCCESS);
            }
        }
        seen += 1;
    }
    observation.cancel().await?;
    Ok(ExitCode::SUCCESS)
}

fn print(value: &Response, include: bool) -> Result<(), Error> {
    invoke::print(value, include)?;
    if !value.payload.ends_with(b"\n") {
        output::line("")?;
    }
    Ok(())
}
