//! What a function answered, or a published value, as a response: code, options, first block.

use std::sync::Arc;

use mote_core::error::Error;
use mote_engine::published::Published;

use super::{Answer, Endpoint, Pending};
use crate::coap::Time;
use crate::coap::block::{Block, Transfer};
use crate::coap::mapping;
use crate::coap::message::{Code, Opaque};
use crate::coap::observe::MAX_AGE_SECONDS;
use crate::coap::response::Response;

/// Whose reply is cut into blocks, and how the client asked for it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Recipient {
    pub(super) peer_hash: u64,
    /// The key of its block-wise transfers.
    pub(super) transfer: u64,
    pub(super) accept: Option<u16>,
    pub(super) block2: Option<Block>,
}

impl Endpoint {
    /// The response for what a call came to.
    pub(super) fn render(
        &mut self,
        now: Time,
        pending: &Pending,
        result: Result<Answer, Error>,
    ) -> Response {
        let answer = match result {
            Ok(answer) => answer,
            Err(error) => return Response::error(&error),
        };
        let recipient = Recipient {
            peer_hash: pending.origin.peer_hash,
            transfer: pending.transfer,
            accept: pending.accept,
            block2: pending.block2,
        };
        let content_type = answer.headers.get(http::header::CONTENT_TYPE);
        let transfer = Transfer {
            code: mapping::response_code(pending.origin.header.code, answer.status),
            etag: mapping::etag(&answer.headers),
            format: content_type.and_then(mapping::content_format),
            max_age: mapping::max_age(&answer.headers),
            body: answer.body,
        };
        if content_type.is_some() && !accepts(recipient.accept, &transfer) {
            return not_acceptable(recipient.accept);
        }
        self.cut(now, recipient, transfer)
    }

    /// The response for a published value.
    pub(super) fn render_published(
        &mut self,
        now: Time,
        recipient: Recipient,
        value: &Arc<Published>,
    ) -> Response {
        let content_type = value.content_type.as_ref();
        let transfer = Transfer {
            code: Code::CONTENT,
            etag: Some(Opaque::from_u64(value.etag)),
            format: content_type.and_then(mapping::content_format),
            max_age: Some(MAX_AGE_SECONDS),
            body: value.body.clone(),
        };
        if content_type.is_some() && !accepts(recipient.accept, &transfer) {
            return not_acceptable(recipient.accept);
        }
        self.cut(now, recipient, transfer)
    }

    /// The whole body if it fits one block, or its first block (RFC 7959 §2.4): the rest is kept for
    /// when it is asked for.
    pub(super) fn cut(&mut self, now: Time, to: Recipient, mut transfer: Transfer) -> Response {
        let exponent = to
            .block2
            .map_or(self.exponent, |asked| asked.exponent.min(self.exponent));
        let mut block = Block {
            number: 0,
            more: false,
            exponent,
        };
        if transfer.body.len() <= block.size() {
            // Nothing to cut; who asked for blocks is told that this is the only one.
            let asked = to.block2.map(|_| block);
            return part(&transfer, asked, 0..transfer.body.len());
        }
        block.more = true;
        if transfer.etag.is_none() {
            // Blocks of two bodies must not be mixed (§2.4).
            let hash = std::hash::BuildHasher::hash_one(&self.hasher, &transfer.body);
            transfer.etag = Some(Opaque::from_u64(hash));
        }
        let mut first = part(&transfer, Some(block), 0..block.size());
        first.size2 = u32::try_from(transfer.body.len()).ok();
        self.counters.transfers.add_one();
        if !self
            .transfers
            .keep(now, to.transfer, to.peer_hash, transfer)
        {
            self.counters.refused_transfers.add_one();
            return Response::diagnostic(
                Code::INTERNAL,
                "the reply is larger than this door keeps for block-wise transfer",
            );
        }
        first
    }

    /// A later block of a reply.
    pub(super) fn later_block(&mut self, now: Time, transfer: u64, asked: Block) -> Response {
        let Some(known) = self.transfers.get(now, transfer) else {
            return Response::diagnostic(
                Code::INCOMPLETE,
                "no block-wise transfer of this resource is under way; begin with block 0",
            );
        };
        let start = asked.offset();
        if start >= known.body.len() {
            return Response::diagnostic(Code::BAD_REQUEST, "there is no such block");
        }
        // Larger blocks than ours could not begin at their place (§2.3); they never were negotiated.
        let exponent = asked.exponent.min(self.exponent);
        let number = asked.number << (asked.exponent - exponent);
        let mut block = Block {
            number,
            more: false,
            exponent,
        };
        let end = (start + block.size()).min(known.body.len());
        block.more = end < known.body.len();
        part(&known, Some(block), start..end)
    }
}

/// The response with one part of a body.
fn part(transfer: &Transfer, block2: Option<Block>, range: std::ops::Range<usize>) -> Response {
    Response {
        etag: transfer.etag,
        format: transfer.format,
        max_age: transfer.max_age,
        block2,
        payload: transfer.body.slice(range),
        ..Response::new(transfer.code)
    }
}

fn accepts(accept: Option<u16>, transfer: &Transfer) -> bool {
    let success = transfer.code.class() == 2;
    !success || accept.is_none_or(|accept| transfer.format == Some(accept))
}

/// The format that was asked for cannot be had (RFC 7252 §5.10.4).
pub(super) fn not_acceptable(accept: Option<u16>) -> Response {
    let format = accept.unwrap_or_default();
    let text = format!("this resource is not available in content format {format}");
    Response::diagnostic(Code::NOT_ACCEPTABLE, &text)
}
