//! One request and its reply, block by block when they do not fit one datagram (RFC 7959): a state machine without I/O.
//!
//! A body goes out in Block1 blocks, each after the answer to the one before, with a Request-Tag so that a server never
//! mixes two of them (RFC 9175 §3.3). A reply comes in as Block2 blocks, which are asked for one after the other and
//! belong together by their ETag. Either side may make blocks smaller, never larger.
//! A reply is bounded by [`BODY_BYTES_MAX`], a body by the block numbers, and a transfer begins anew once at most.

use super::message::Message;
use super::option::{self, Block, Uint};
use super::request::Head;

/// Block numbers have 20 bits (RFC 7959 §2.2).
const BLOCKS_MAX: usize = 1 << 20;
/// As for HTTP: enough for every body that a function may return.
const BODY_BYTES_MAX: usize = 64 << 20;
/// RFC 7252 §5.10.
const ETAG_BYTES_MAX: usize = 8;

/// RFC 7959 §2.9.1: the block was taken, send the next one.
const CONTINUE: u16 = 231;
/// RFC 7959 §2.9.2: the server does not have the blocks before this one.
const INCOMPLETE: u16 = 408;
/// RFC 7959 §2.9.3: the body is too large, or only the block is.
const TOO_LARGE: u16 = 413;

/// Where an exchange stands. Reused for the next one, so that its memory is.
#[derive(Debug)]
pub(super) struct Transfer {
    /// What the next request carries.
    stage: Stage,
    /// Exponents of the block sizes, which only ever shrink.
    up: u8,
    down: u8,
    again: bool,
    tag: [u8; 4],
    etag: Vec<u8>,
    reply: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The whole body in one datagram.
    Single,
    /// The block of the body that starts here.
    Upload { start: usize },
    /// No body: asks for the block of the reply after those that are here.
    Download,
}

/// What a response means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Send what [`Transfer::write`] makes of it now.
    Next,
    /// The response is the reply.
    Whole,
    /// The reply is [`Transfer::reply`].
    Assembled,
    /// The response breaks the protocol.
    Malformed,
    /// Two replies were mixed: the resource changed between two blocks.
    Mixed,
}

impl Transfer {
    pub(super) fn new() -> Self {
        Self {
            stage: Stage::Single,
            up: 0,
            down: 0,
            again: false,
            tag: [0; 4],
            etag: Vec::new(),
            reply: Vec::new(),
        }
    }

    /// Begins with a body of `length` bytes and blocks of `16 << exponent` bytes at most.
    /// `tag` differs from those of other bodies that this client sent to this server.
    pub(super) fn begin(&mut self, length: usize, exponent: u8, tag: u32) {
        self.stage = if length <= size(exponent) {
            Stage::Single
        } else {
            Stage::Upload { start: 0 }
        };
        self.up = exponent;
        self.down = exponent;
        self.again = false;
        self.tag = tag.to_be_bytes();
        self.etag.clear();
        self.reply.clear();
    }

    /// Replaces `message` by the next request, without id and token.
    pub(super) fn write(&self, head: &Head, body: &[u8], message: &mut Vec<u8>) {
        let ask = |number| Block {
            number,
            more: false,
            exponent: self.down,
        };
        // RFC 7959 §2.4: the client says how large it wants the first block, if not as large as can be.
        let early = (self.down < Block::EXPONENT_MAX).then(|| ask(0).to_option());
        let early = early.iter().map(|value| (option::BLOCK2, value.as_slice()));
        match self.stage {
            Stage::Single => {
                let options: Vec<_> = early.collect();
                head.write(&options, body, message);
            }
            Stage::Upload { start } => {
                let end = (start + size(self.up)).min(body.len());
                let block = Block {
                    number: number(start, self.up),
                    more: end < body.len(),
                    exponent: self.up,
                };
                let block1 = block.to_option();
                let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
                let size1 = Uint::new(length);
                let options: Vec<_> = early
                    .filter(|_| !block.more)
                    .chain([(option::BLOCK1, block1.as_slice())])
                    // RFC 7959 §4: how much is coming.
                    .chain((start == 0).then_some((option::SIZE1, size1.as_slice())))
                    .chain([(option::REQUEST_TAG, &self.tag[..])])
                    .collect();
                head.write(&options, &body[start..end], message);
            }
            Stage::Download => {
                let block2 = ask(number(self.reply.len(), self.down)).to_option();
                head.write(&[(option::BLOCK2, block2.as_slice())], &[], message);
            }
        }
    }

    /// Takes the response to what was written last, for a body of `length` bytes.
    pub(super) fn take(&mut self, message: &Message<'_>, length: usize) -> Step {
        if let Stage::Upload { start } = self.stage
            && let Some(step) = self.take_upload(start, message, length)
        {
            return step;
        }
        match message.block2 {
            _ if message.status() / 100 != 2 => Step::Whole,
            None if self.stage == Stage::Download => Step::Malformed,
            None => Step::Whole,
            Some(block) if block.number == 0 && !block.more => Step::Whole,
            Some(block) => self.take_block(block, message),
        }
    }

    /// The body of the reply after [`Step::Assembled`].
    pub(super) fn reply(&self) -> &[u8] {
        &self.reply
    }

    /// What the answer to the block from `start` means for the upload; nothing when it is the answer to all of it.
    fn take_upload(&mut self, start: usize, message: &Message<'_>, length: usize) -> Option<Step> {
        let end = start + size(self.up);
        let (status, block) = (message.status(), message.block1);
        match (status, block) {
            (TOO_LARGE, Some(block)) if start == 0 && block.exponent < self.up => {
                self.up = block.exponent;
                Some(self.send_from(0, length))
            }
            (INCOMPLETE, _) if !self.again => {
                self.again = true;
                Some(self.send_from(0, length))
            }
            (200..300, Some(block)) if end < length => {
                self.up = self.up.min(block.exponent);
                Some(self.send_from(end, length))
            }
            // The server answered though it does not have the whole body, or wants more of it than there is.
            (200..300, _) if end < length || status == CONTINUE => Some(Step::Malformed),
            _ => None,
        }
    }

    fn send_from(&mut self, start: usize, length: usize) -> Step {
        if length.div_ceil(size(self.up)) > BLOCKS_MAX {
            return Step::Malformed;
        }
        self.stage = Stage::Upload { start };
        Step::Next
    }

    fn take_block(&mut self, block: Block, message: &Message<'_>) -> Step {
        let fits = if block.more {
            message.payload.len() == size(block.exponent)
        } else {
            message.payload.len() <= size(block.exponent)
        };
        if !fits
            || block.exponent > self.down
            || block.start() != self.reply.len()
            || self.reply.len() + message.payload.len() > BODY_BYTES_MAX
            || message.etag.len() > ETAG_BYTES_MAX
        {
            return Step::Malformed;
        }
        if self.reply.is_empty() {
            self.etag.clear();
            self.etag.extend_from_slice(message.etag);
        } else if self.etag != message.etag {
            return Step::Mixed;
        }
        self.reply.extend_from_slice(message.payload);
        if !block.more {
            return Step::Assembled;
        }
        self.down = block.exponent;
        self.stage = Stage::Download;
        Step::Next
    }
}

fn size(exponent: u8) -> usize {
    16 << exponent
}

/// Which block of this size starts at `start`. The lengths are checked against [`BLOCKS_MAX`].
fn number(start: usize, exponent: u8) -> u32 {
    u32::try_from(start >> (exponent + 4)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::load::coap::message::Kind;

    fn message<'a>(code: u8, blocks: [Option<Block>; 2], payload: &'a [u8]) -> Message<'a> {
        Message {
            kind: Kind::Acknowledgement,
            code,
            id: 0,
            token: &[],
            etag: &[],
            block1: blocks[0],
            block2: blocks[1],
            payload,
        }
    }

    proptest! {
        /// A server whose blocks shrink as it likes gets the body whole, and its reply arrives whole.
        #[test]
        fn both_bodies_arrive_whole(
            body in proptest::collection::vec(any::<u8>(), 0..3000),
            reply in proptest::collection::vec(any::<u8>(), 1..3000),
            exponent in 0u8..=6,
            sizes in proptest::collection::vec(0u8..=6, 1..8),
        ) {
            let head = Head::new("POST", None, "/x", None, true).unwrap();
            let mut transfer = Transfer::new();
            transfer.begin(body.len(), exponent, 1);
            let (mut arrived, mut sent, mut down) = (Vec::new(), Vec::new(), 6);
            let mut sizes = sizes.into_iter().cycle();
            for _ in 0..1000 {
                transfer.write(&head, &body, &mut sent);
                let request = Message::parse(&sent).unwrap();
                let size = sizes.next().unwrap();
                let answered = request.block1.map(|block| Block { exponent: size.min(block.exponent), ..block });
                if request.block2.is_none_or(|block| block.number == 0) {
                    if let Some(block) = request.block1 {
                        prop_assert_eq!(block.start(), arrived.len());
                    }
                    arrived.extend_from_slice(request.payload);
                }
                let response = if request.block1.is_some_and(|block| block.more) {
                    message(0x5f, [answered, None], &[])
                } else {
                    let asked = request.block2.unwrap_or(Block { number: 0, more: false, exponent: 6 });
                    down = size.min(asked.exponent).min(down);
                    let end = (asked.start() + (16 << down)).min(reply.len());
                    let number = u32::try_from(asked.start() >> (down + 4)).unwrap();
                    let block = Block { number, more: end < reply.len(), exponent: down };
                    message(0x45, [answered, Some(block)], &reply[asked.start()..end])
                };
                match transfer.take(&response, body.len()) {
                    Step::Next => {}
                    Step::Whole => {
                        prop_assert_eq!((&arrived, response.payload), (&body, &reply[..]));
                        return Ok(());
                    }
                    Step::Assembled => {
                        prop_assert_eq!((&arrived, transfer.reply()), (&body, &reply[..]));
                        return Ok(());
                    }
                    step => prop_assert!(false, "{step:?}"),
                }
            }
            prop_assert!(false, "never ends");
        }

        /// Whatever a server answers, each request can be written.
        #[test]
        fn no_answer_panics(
            length in 0usize..5000,
            answers in proptest::collection::vec(
                (any::<u8>(), proptest::option::of((0u32..8, any::<bool>(), 0u8..=6)), proptest::option::of((0u32..8, any::<bool>(), 0u8..=6)), 0usize..1100),
                1..20,
            ),
        ) {
            let head = Head::new("POST", None, "/x", None, true).unwrap();
            let body = vec![1; length];
            let mut transfer = Transfer::new();
            transfer.begin(length, 6, 1);
            let mut sent = Vec::new();
            for (code, block1, block2, payload) in answers {
                transfer.write(&head, &body, &mut sent);
                prop_assert!(Message::parse(&sent).is_some());
                let blocks = [block1, block2].map(|block| block.map(|(number, more, exponent)| Block { number, more, exponent }));
                let payload = vec![2; payload];
                if transfer.take(&message(code, blocks, &payload), length) != Step::Next {
                    break;
                }
            }
        }
    }

    #[test]
    fn a_refused_size_begins_anew_with_smaller_blocks() {
        let mut transfer = Transfer::new();
        transfer.begin(3000, 6, 1);
        let smaller = Block {
            number: 0,
            more: false,
            exponent: 5,
        };
        let refusal = message(0x8d, [Some(smaller), None], &[]);
        assert_eq!(transfer.take(&refusal, 3000), Step::Next);
        assert_eq!(
            (transfer.stage, transfer.up),
            (Stage::Upload { start: 0 }, 5)
        );
        // Refused for good: the body is too large.
        assert_eq!(transfer.take(&refusal, 3000), Step::Whole);
    }
}
