//! One request and its answer over an unreliable socket (RFC 7252 §4.2, §5.2).

use std::time::Duration;

use coap_lite::{CoapOption, MessageClass, MessageType, Packet};
use mote_core::error::{Error, ErrorKind};
use tokio::time::{Instant, timeout_at};

use super::{Client, ECHO};

/// No datagram is longer.
const DATAGRAM_BYTES_MAX: usize = 65_535;
/// 4.01 Unauthorized: what a server answers with when it wants an Echo.
const UNAUTHORIZED: u8 = 0x81;

impl Client {
    /// Sends a request under a fresh token and waits for its answer. Answers a challenge for Echo
    /// once.
    pub(super) async fn exchange(&mut self, mut packet: Packet) -> Result<Packet, Error> {
        if packet.get_token().is_empty() {
            packet.set_token(fastrand::u64(..).to_be_bytes().to_vec());
        }
        for _ in 0..2 {
            if let Some(echo) = &self.echo {
                packet.clear_option(CoapOption::Unknown(ECHO));
                packet.add_option(CoapOption::Unknown(ECHO), echo.clone());
            }
            let answer = self.once(&mut packet).await?;
            let echo = answer.get_first_option(CoapOption::Unknown(ECHO)).cloned();
            let challenged = u8::from(answer.header.code) == UNAUTHORIZED && echo.is_some();
            if echo.is_some() {
                self.echo = echo;
            }
            if !challenged {
                return Ok(answer);
            }
        }
        Err(Error::new(
            ErrorKind::Unauthorized,
            format!("{} does not accept its own Echo value", self.endpoint),
        ))
    }

    /// One message, sent again until it is acknowledged, and the answer to it.
    async fn once(&mut self, packet: &mut Packet) -> Result<Packet, Error> {
        let message_id = self.message_id();
        packet.header.set_type(MessageType::Confirmable);
        packet.header.message_id = message_id;
        let datagram = encode(packet)?;

        let begun = Instant::now();
        let deadline = begun + self.timing.answer_timeout;
        // RFC 7252 §4.2: the first wait is random, so that clients do not go in step.
        let mut wait = self.timing.ack_timeout.mul_f64(1.0 + fastrand::f64() / 2.0);
        let mut resend_at = begun + wait;
        let mut resends_left = self.timing.retransmit_max;
        let mut acknowledged = false;
        self.send(&datagram).await?;
        loop {
            let until = if acknowledged {
                deadline
            } else {
                deadline.min(resend_at)
            };
            let Ok(received) = timeout_at(until, self.receive()).await else {
                if Instant::now() >= deadline || resends_left == 0 {
                    return Err(self.silent(begun.elapsed()));
                }
                resends_left -= 1;
                wait *= 2;
                resend_at = Instant::now() + wait;
                self.send(&datagram).await?;
                continue;
            };
            let answer = received?;
            let same_id = answer.header.message_id == message_id;
            match (answer.header.get_type(), answer.header.code) {
                (MessageType::Reset, _) if same_id => {
                    return Err(Error::new(
                        ErrorKind::Unsupported,
                        format!("{} rejected the message", self.endpoint),
                    ));
                }
                // An empty ACK: the answer comes in a message of its own (RFC 7252 §5.2.2).
                (MessageType::Acknowledgement, MessageClass::Empty) if same_id => {
                    acknowledged = true
                }
                (MessageType::Acknowledgement, _)
                    if same_id && answer.get_token() == packet.get_token() =>
                {
                    return Ok(answer);
                }
                // One under another token is nobody's here; a notification of an observation stays
                // unacknowledged and so comes again (RFC 7252 §4.2).
                (
                    MessageType::Confirmable,
                    MessageClass::Response(_) | MessageClass::Reserved(_),
                ) if answer.get_token() == packet.get_token() => {
                    self.acknowledge(&answer).await?;
                    return Ok(answer);
                }
                (MessageType::NonConfirmable, _) if answer.get_token() == packet.get_token() => {
                    return Ok(answer);
                }
                _ => {}
            }
        }
    }

    /// The next message that parses. Cancel-safe.
    pub(super) async fn receive(&self) -> Result<Packet, Error> {
        let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
        loop {
            let length = self
                .socket
                .recv(&mut buffer)
                .await
                .map_err(|error| self.unreachable(&error))?;
            match Packet::from_bytes(&buffer[..length]) {
                Ok(packet) if packet.header.get_version() == 1 => return Ok(packet),
                // RFC 7252 §4.2 allows ignoring what does not parse.
                _ => {}
            }
        }
    }

    /// Acknowledges a confirmable message (RFC 7252 §4.2).
    pub(super) async fn acknowledge(&self, packet: &Packet) -> Result<(), Error> {
        self.empty(MessageType::Acknowledgement, packet).await
    }

    /// Rejects a message: nobody waits for it any more.
    pub(super) async fn reject(&self, packet: &Packet) -> Result<(), Error> {
        self.empty(MessageType::Reset, packet).await
    }

    async fn empty(&self, kind: MessageType, answered: &Packet) -> Result<(), Error> {
        let mut packet = Packet::new();
        packet.header.set_version(1);
        packet.header.set_type(kind);
        packet.header.code = MessageClass::Empty;
        packet.header.message_id = answered.header.message_id;
        self.send(&encode(&packet)?).await
    }

    async fn send(&self, datagram: &[u8]) -> Result<(), Error> {
        match self.socket.send(datagram).await {
            Ok(_) => Ok(()),
            Err(error) => Err(self.unreachable(&error)),
        }
    }

    fn message_id(&mut self) -> u16 {
        self.next_message_id = self.next_message_id.wrapping_add(1);
        self.next_message_id
    }

    fn unreachable(&self, error: &std::io::Error) -> Error {
        Error::new(
            ErrorKind::Overloaded,
            format!("nothing answers at coap://{}: {error}", self.endpoint),
        )
        .with_hint("start a node with `mote up`, or check host and port")
    }

    fn silent(&self, waited: Duration) -> Error {
        Error::new(
            ErrorKind::Timeout,
            format!(
                "coap://{} did not answer within {:.1} s",
                self.endpoint,
                waited.as_secs_f64()
            ),
        )
        .with_hint("check host and port, and that UDP gets through")
    }
}

fn encode(packet: &Packet) -> Result<Vec<u8>, Error> {
    packet.to_bytes_with_limit(DATAGRAM_BYTES_MAX).map_err(|_| {
        Error::new(
            ErrorKind::TooLarge,
            "the request does not fit into a datagram",
        )
        .with_hint("shorten path, query or options")
    })
}
