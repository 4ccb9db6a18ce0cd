//! Watching a value (RFC 7641).

use std::time::Duration;

use coap_lite::{CoapOption, MessageClass, MessageType, Packet};
use mote_core::error::Error;
use tokio::time::Instant;

use super::{Client, Request, Response, read_uint, uint};

/// RFC 7641 §3.4: after this long any number is newer.
const FRESH: Duration = Duration::from_secs(128);

/// A value that is watched.
#[derive(Debug)]
pub struct Observation {
    client: Client,
    request: Request,
    token: Vec<u8>,
    /// Number and time of the newest notification, and its message id to tell repetitions.
    newest: Option<(u32, Instant)>,
    ended: bool,
}

impl Client {
    /// Asks and stays registered. The first answer comes with it; when that has no sequence number
    /// the value cannot be watched, and the observation has ended already.
    pub async fn observe(mut self, request: &Request) -> Result<(Response, Observation), Error> {
        let token = fastrand::u64(..).to_be_bytes().to_vec();
        let mut packet = request.packet();
        packet.set_token(token.clone());
        packet.add_option(CoapOption::Observe, uint(0));
        let first = self.exchange(packet).await?;
        let response = self.rest(request, first).await?;
        let observation = Observation {
            client: self,
            request: request.clone(),
            token,
            newest: response.observe.map(|number| (number, Instant::now())),
            ended: response.observe.is_none() || response.failure().is_some(),
        };
        Ok((response, observation))
    }
}

impl Observation {
    /// Whether nothing will come any more.
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// The next newer value; `None` when the server ended the observation before. A failure code
    /// is the last answer. Not cancel-safe while a large value is fetched.
    pub async fn next(&mut self) -> Result<Option<Response>, Error> {
        while !self.ended {
            let packet = self.client.receive().await?;
            if !matches!(
                packet.header.code,
                MessageClass::Response(_) | MessageClass::Reserved(_)
            ) {
                continue;
            }
            let confirmable = packet.header.get_type() == MessageType::Confirmable;
            if packet.get_token() != self.token {
                if confirmable {
                    self.client.reject(&packet).await?;
                }
                continue;
            }
            if confirmable {
                self.client.acknowledge(&packet).await?;
            }
            if !self.newer(&packet) {
                continue;
            }
            let response = self.client.rest(&self.request, packet).await?;
            self.ended = response.failure().is_some() || response.observe.is_none();
            return Ok(Some(response));
        }
        Ok(None)
    }

    /// Says that nobody watches any more (RFC 7641 §3.6).
    pub async fn cancel(mut self) -> Result<(), Error> {
        if self.ended {
            return Ok(());
        }
        let mut packet = self.request.packet();
        packet.set_token(self.token.clone());
        packet.add_option(CoapOption::Observe, uint(1));
        self.client.exchange(packet).await.map(drop)
    }

    /// RFC 7641 §3.4: datagrams overtake each other, and numbers wrap at 24 bits.
    fn newer(&mut self, packet: &Packet) -> bool {
        let number = packet
            .get_first_option(CoapOption::Observe)
            .and_then(|value| read_uint(value));
        // Without a number it is the last answer.
        let Some(number) = number else {
            return true;
        };
        let now = Instant::now();
        let newer = self
            .newest
            .is_none_or(|(newest, at)| is_newer(newest, number) || now > at + FRESH);
        if newer {
            self.newest = Some((number, now));
        }
        newer
    }
}

fn is_newer(newest: u32, number: u32) -> bool {
    let ahead = number.wrapping_sub(newest) & 0xff_ffff;
    ahead != 0 && ahead < 1 << 23
}

#[cfg(test)]
mod tests {
    use super::is_newer;

    #[test]
    fn numbers_wrap() {
        for (newest, number, newer) in [
            (1, 2, true),
            (2, 1, false),
            (2, 2, false),
            (0xff_ffff, 0, true),
            (0, 0xff_ffff, false),
        ] {
            assert_eq!(is_newer(newest, number), newer, "{newest} {number}");
        }
    }
}
