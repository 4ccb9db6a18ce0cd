//! Bodies longer than a block, both ways (RFC 7959).

use bytes::{Bytes, BytesMut};
use coap_lite::{CoapOption, Packet};
use mote_core::error::{Error, ErrorKind};

use super::{BODY_BYTES_MAX, Client, REQUEST_TAG, Request, Response, read_uint, uint};

/// 2.31 Continue: the server wants the next block.
const CONTINUE: u8 = 0x5f;
/// 4.13 Request Entity Too Large.
const TOO_LARGE: u8 = 0x8d;

/// The value of a Block option (RFC 7959 §2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) number: usize,
    pub(super) more: bool,
    pub(super) size: usize,
}

impl Block {
    pub(super) fn read(packet: &Packet, option: CoapOption) -> Option<Self> {
        let value = read_uint(packet.get_first_option(option)?)?;
        let exponent = value & 7;
        // 7 is reserved.
        (exponent < 7).then(|| Self {
            number: (value >> 4) as usize,
            more: value & 8 != 0,
            size: 16 << exponent,
        })
    }

    fn write(self, packet: &mut Packet, option: CoapOption) -> Result<(), Error> {
        // RFC 7959 §2.2: twenty bits of number.
        let number = u32::try_from(self.number)
            .ok()
            .filter(|number| *number < 1 << 20)
            .ok_or_else(too_large)?;
        let exponent = (self.size.trailing_zeros()).saturating_sub(4).min(6);
        packet.clear_option(option);
        packet.add_option(
            option,
            uint(number << 4 | u32::from(self.more) << 3 | exponent),
        );
        Ok(())
    }
}

impl Client {
    /// Asks, and waits for the whole answer. Not cancel-safe: a dropped request may have run.
    pub async fn request(&mut self, request: &Request) -> Result<Response, Error> {
        let answer = self.send_body(request, request.packet()).await?;
        self.rest(request, answer).await
    }

    /// Sends a request with its whole body and returns the first answer to all of it.
    pub(super) async fn send_body(
        &mut self,
        request: &Request,
        base: Packet,
    ) -> Result<Packet, Error> {
        let body = &request.payload;
        if body.len() > BODY_BYTES_MAX {
            return Err(too_large());
        }
        let mut base = base;
        if let Some(format) = request.content_format {
            base.add_option(CoapOption::ContentFormat, uint(format.into()));
        }
        let mut size = request.block_size.next_power_of_two().clamp(16, 1024);
        if body.len() <= size {
            base.payload = body.to_vec();
            return self.exchange(base).await;
        }
        let tag = fastrand::u32(..).to_be_bytes().to_vec();
        base.add_option(CoapOption::Unknown(REQUEST_TAG), tag);
        let mut offset = 0;
        loop {
            let end = body.len().min(offset + size);
            let mut packet = base.clone();
            let block = Block {
                number: offset / size,
                more: end < body.len(),
                size,
            };
            block.write(&mut packet, CoapOption::Block1)?;
            if offset == 0 {
                let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
                packet.add_option(CoapOption::Size1, uint(length));
            }
            packet.payload = body[offset..end].to_vec();
            let answer = self.exchange(packet).await?;
            let wanted = Block::read(&answer, CoapOption::Block1).map(|block| block.size);
            let code = u8::from(answer.header.code);
            // RFC 7959 §2.9.3: too large, but smaller blocks would do.
            if code == TOO_LARGE && offset == 0 && wanted.is_some_and(|wanted| wanted < size) {
                size = wanted.unwrap_or(size);
                continue;
            }
            if code != CONTINUE || end == body.len() {
                return Ok(answer);
            }
            offset = end;
            // The server may ask for smaller blocks; sizes are powers of two, so the offset fits.
            size = wanted.unwrap_or(size).min(size);
        }
    }

    /// Fetches the blocks after the first, if there are any.
    pub(super) async fn rest(
        &mut self,
        request: &Request,
        first: Packet,
    ) -> Result<Response, Error> {
        let Some(mut block) = Block::read(&first, CoapOption::Block2).filter(|block| block.more)
        else {
            let payload = Bytes::from(first.payload.clone());
            return Ok(Response::from_packet(&first, payload));
        };
        let mut body = BytesMut::from(&first.payload[..]);
        if block.number != 0 || body.len() != block.size {
            return Err(broken("the first block is not one"));
        }
        let etag = first.get_first_option(CoapOption::ETag).cloned();
        while block.more {
            let mut packet = request.packet();
            let next = Block {
                number: body.len() / block.size,
                more: false,
                size: block.size,
            };
            next.write(&mut packet, CoapOption::Block2)?;
            let answer = self.exchange(packet).await?;
            let response = Response::from_packet(&answer, Bytes::from(answer.payload.clone()));
            if response.failure().is_some() {
                return Ok(response);
            }
            block = Block::read(&answer, CoapOption::Block2)
                .filter(|block| block.number * block.size == body.len())
                .ok_or_else(|| broken("a block is not the one asked for"))?;
            if answer.get_first_option(CoapOption::ETag) != etag.as_ref() {
                return Err(broken("the value changed while its blocks were fetched")
                    .with_hint("ask again"));
            }
            if block.more && answer.payload.len() != block.size {
                return Err(broken("a block is shorter than it says"));
            }
            if body.len() + answer.payload.len() > BODY_BYTES_MAX {
                return Err(too_large());
            }
            body.extend_from_slice(&answer.payload);
        }
        Ok(Response::from_packet(&first, body.freeze()))
    }
}

fn broken(what: &str) -> Error {
    Error::new(
        ErrorKind::FunctionFailed,
        format!("the answer is broken: {what}"),
    )
}

fn too_large() -> Error {
    Error::new(
        ErrorKind::TooLarge,
        format!("a body over CoAP may have {BODY_BYTES_MAX} bytes"),
    )
    .with_hint("use HTTP for large bodies")
}
