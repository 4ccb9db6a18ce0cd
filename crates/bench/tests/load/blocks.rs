//! Bodies that do not fit one datagram: a small server that keeps the rules and checks that the client does, servers
//! that break them, and libcoap's server where it is installed.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use coap_lite::{CoapOption, MessageClass, MessageType, Packet, ResponseType};
use mote_bench::load::{self, Options, Report};

use crate::servers::{all_ok, options, responder};

/// What the small server does that others do not.
#[derive(Clone, Copy)]
struct Manners {
    /// Exponent of its blocks.
    exponent: u32,
    /// Refuses larger blocks instead of asking for smaller ones.
    refuses: bool,
    /// Loses every so many-th datagram, before and after its work in turn.
    loses_each: usize,
    /// How often it says that it does not have the blocks before.
    forgets: usize,
    /// Another ETag for each block.
    restless: bool,
    /// Answers in messages of their own.
    separate: bool,
}

const GOOD: Manners = Manners {
    exponent: 6,
    refuses: false,
    loses_each: usize::MAX,
    forgets: 0,
    restless: false,
    separate: false,
};

/// Echoes the body of each request of one client.
struct Echo {
    manners: Manners,
    seen: usize,
    forgotten: usize,
    body: Vec<u8>,
    tag: Option<Vec<u8>>,
    tags: Vec<Vec<u8>>,
    last: Option<(u16, Vec<Vec<u8>>)>,
}

fn echo(manners: Manners) -> String {
    let mut server = Echo {
        manners,
        seen: 0,
        forgotten: 0,
        body: Vec::new(),
        tag: None,
        tags: Vec::new(),
        last: None,
    };
    responder(move |datagram| server.answer(datagram))
}

fn number(packet: &Packet, option: CoapOption) -> Option<u32> {
    let value = packet.get_first_option(option)?;
    Some(
        value
            .iter()
            .fold(0, |all, &byte| all << 8 | u32::from(byte)),
    )
}

impl Echo {
    fn answer(&mut self, datagram: &[u8]) -> Vec<Vec<u8>> {
        let request = Packet::from_bytes(datagram).unwrap();
        if request.header.get_type() == MessageType::Acknowledgement {
            return Vec::new();
        }
        self.seen += 1;
        let lost = self.seen.is_multiple_of(self.manners.loses_each);
        let early = self
            .seen
            .is_multiple_of(2 * self.manners.loses_each.min(1 << 20));
        if lost && early {
            return Vec::new();
        }
        let id = request.header.message_id;
        let replies = match self.last.take().filter(|(last, _)| *last == id) {
            Some((_, replies)) => replies,
            None => self.work(&request),
        };
        self.last = Some((id, replies.clone()));
        if lost { Vec::new() } else { replies }
    }

    fn work(&mut self, request: &Packet) -> Vec<Vec<u8>> {
        let block1 = number(request, CoapOption::Block1);
        let block2 = number(request, CoapOption::Block2);
        let mut reply = Packet::new();
        reply.header.set_type(MessageType::Acknowledgement);
        reply.header.message_id = request.header.message_id;
        reply.set_token(request.get_token().to_vec());
        reply.header.code = MessageClass::Response(ResponseType::Content);
        match block1 {
            Some(block) => self.upload(request, block, &mut reply),
            None if block2.is_none_or(|block| block >> 4 == 0) => {
                self.body.clone_from(&request.payload);
            }
            None => assert!(
                request.payload.is_empty(),
                "only the first request has a body"
            ),
        }
        let whole = block1.is_none_or(|block| block & 8 == 0);
        if whole && reply.header.code == MessageClass::Response(ResponseType::Content) {
            self.reply_block(block2.unwrap_or(6), &mut reply);
        }
        if !self.manners.separate {
            return vec![reply.to_bytes().unwrap()];
        }
        reply.header.set_type(MessageType::Confirmable);
        reply.header.message_id = request.header.message_id ^ 0x5555;
        let [high, low] = request.header.message_id.to_be_bytes();
        let bytes = reply.to_bytes().unwrap();
        vec![vec![0x60, 0, high, low], bytes.clone(), bytes]
    }

    fn upload(&mut self, request: &Packet, block: u32, reply: &mut Packet) {
        let (index, more, exponent) = (block >> 4, block & 8, block & 7);
        let own = exponent.min(self.manners.exponent);
        reply.add_option(CoapOption::Block1, option(index << 4 | more | own));
        if own < exponent && self.manners.refuses {
            reply.header.code = MessageClass::Response(ResponseType::RequestEntityTooLarge);
            return;
        }
        let tag = request.get_first_option(CoapOption::Unknown(292)).cloned();
        if index == 0 {
            self.body.clear();
            assert!(
                !self.tags.contains(tag.as_ref().unwrap()),
                "a tag for each body"
            );
            self.tags.push(tag.clone().unwrap());
            self.tag.clone_from(&tag);
            assert!(number(request, CoapOption::Size1).unwrap() > 16 << exponent);
        }
        assert_eq!(tag, self.tag, "one body has one tag");
        if index == 2 && self.forgotten < self.manners.forgets {
            self.forgotten += 1;
            // The client begins anew, with the same body and so the same tag.
            self.tags.clear();
            reply.header.code = MessageClass::Response(ResponseType::RequestEntityIncomplete);
            return;
        }
        assert_eq!(self.body.len(), (index as usize) * (16 << exponent));
        self.body.extend_from_slice(&request.payload);
        if more != 0 {
            assert_eq!(request.payload.len(), 16 << exponent);
            reply.header.code = MessageClass::Response(ResponseType::Continue);
        }
    }

    fn reply_block(&self, asked: u32, reply: &mut Packet) {
        let exponent = (asked & 7).min(self.manners.exponent);
        let start = (asked >> 4) as usize * (16 << (asked & 7));
        let end = (start + (16 << exponent)).min(self.body.len());
        let more = u32::from(end < self.body.len());
        let index = u32::try_from(start >> (exponent + 4)).unwrap();
        if index > 0 || more > 0 {
            reply.add_option(
                CoapOption::Block2,
                option(index << 4 | more << 3 | exponent),
            );
        }
        let etag = if self.manners.restless { index } else { 7 };
        reply.add_option(CoapOption::ETag, vec![u8::try_from(etag & 0xff).unwrap()]);
        reply.payload = self.body[start..end].to_vec();
    }
}

fn option(number: u32) -> Vec<u8> {
    let bytes = number.to_be_bytes();
    let zeros = bytes.iter().take_while(|&&byte| byte == 0).count();
    bytes[zeros..].to_vec()
}

/// Echo of `bytes` letters, which tell places of the body apart.
fn echo_options(target: &str, bytes: usize, requests: u64) -> Options {
    let mut options = options(target, 1, requests);
    let body: String = ('a'..='z').cycle().step_by(3).take(bytes).collect();
    options.body = Some(body);
    options.expect_body = None;
    options.expect_echo = true;
    options.ack_timeout = Duration::from_millis(50);
    options
}

#[track_caller]
fn echoes(manners: Manners, bytes: usize) -> Report {
    let report = load::run(&echo_options(&echo(manners), bytes, 3)).unwrap();
    all_ok(&report, 3);
    assert_eq!(report.malformed, 0, "{report}");
    report
}

#[test]
fn bodies_of_any_size_come_back_whole() {
    for bytes in [1, 1023, 1024, 1025, 2048, 10_000, 102_400, 1_024_000] {
        echoes(GOOD, bytes);
    }
}

#[test]
fn the_server_makes_blocks_smaller() {
    let small = Manners {
        exponent: 2,
        ..GOOD
    };
    for refuses in [false, true] {
        // A body that fits one datagram comes back in blocks.
        for bytes in [100, 1025, 10_000] {
            echoes(Manners { refuses, ..small }, bytes);
        }
    }
}

#[test]
fn the_client_makes_blocks_smaller() {
    for (size, bytes) in [(16, 17), (16, 1000), (64, 64), (256, 10_000)] {
        let mut options = echo_options(&echo(GOOD), bytes, 2);
        options.block_size = size;
        all_ok(&load::run(&options).unwrap(), 2);
    }
}

#[test]
fn lost_blocks_are_sent_again() {
    let report = echoes(
        Manners {
            loses_each: 7,
            ..GOOD
        },
        20_000,
    );
    assert!(report.retransmissions > 0, "{report}");
    assert_eq!(report.id_collisions, 0, "{report}");
}

#[test]
fn blocks_come_in_messages_of_their_own() {
    echoes(
        Manners {
            separate: true,
            ..GOOD
        },
        5000,
    );
}

#[test]
fn blocks_go_without_confirmation() {
    let mut options = echo_options(&echo(GOOD), 5000, 3);
    options.non = true;
    all_ok(&load::run(&options).unwrap(), 3);
}

#[test]
fn a_chain_hands_large_replies_on() {
    let mut options = echo_options(&echo(GOOD), 5000, 2);
    options.chain = 3;
    all_ok(&load::run(&options).unwrap(), 2);
}

#[test]
fn a_server_that_forgot_gets_the_body_again_once() {
    echoes(Manners { forgets: 1, ..GOOD }, 10_000);
    let target = echo(Manners { forgets: 2, ..GOOD });
    let report = load::run(&echo_options(&target, 10_000, 1)).unwrap();
    assert_eq!(report.failed.status.get("4.08"), Some(&1), "{report}");
}

#[test]
fn blocks_of_two_replies_are_not_mixed() {
    let target = echo(Manners {
        restless: true,
        ..GOOD
    });
    let report = load::run(&echo_options(&target, 10_000, 2)).unwrap();
    assert_eq!((report.ok, report.failed.wrong_body), (0, 2), "{report}");
}

#[test]
fn a_server_that_knows_no_blocks_fails() {
    let target = responder(|request| vec![crate::servers::piggybacked(request)]);
    let report = load::run(&echo_options(&target, 10_000, 2)).unwrap();
    assert_eq!(
        (report.ok, report.failed.transport, report.malformed),
        (0, 2, 2),
        "{report}"
    );
}

/// libcoap's example server, ended with the test.
struct Libcoap {
    child: Child,
    target: String,
}

impl Drop for Libcoap {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Libcoap {
    /// On a port that was free a moment ago, echoing what is put.
    fn start(more: &[&str]) -> Option<Self> {
        let free = std::net::UdpSocket::bind(crate::servers::LOCAL).unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let child = Command::new("coap-server-notls")
            .args([
                "-A",
                "127.0.0.1",
                "-p",
                &address.port().to_string(),
                "-e",
                "-d",
                "10",
                "-v",
                "7",
            ])
            .args(more)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok();
        let Some(mut child) = child else {
            eprintln!("not run: coap-server-notls is not installed (Debian: libcoap3-bin)");
            return None;
        };
        // It says where it listens once it does.
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let listens = lines.any(|line| line.unwrap().contains("created UDP"));
        assert!(listens, "coap-server-notls did not start");
        // Its log is read to the end, or it would wait for room in the pipe.
        std::thread::spawn(move || lines.count());
        Some(Self {
            child,
            target: format!("coap://{address}/example_data"),
        })
    }
}

#[test]
fn libcoap_echoes_large_bodies() {
    let Some(server) = Libcoap::start(&[]) else {
        return;
    };
    for bytes in [1, 1024, 1025, 10_240, 102_400] {
        let mut options = echo_options(&server.target, bytes, 2);
        options.method = Some("PUT".into());
        all_ok(&load::run(&options).unwrap(), 2);
        options.block_size = 256;
        all_ok(&load::run(&options).unwrap(), 2);
    }
}

/// It takes a copy of an upload's last block for a new upload, so only what it sends in blocks is tested with losses.
#[test]
fn libcoap_loses_datagrams_and_all_arrive() {
    let Some(server) = Libcoap::start(&["-l", "20%"]) else {
        return;
    };
    let list = server.target.replace("example_data", ".well-known/core");
    let mut options = options(&list, 1, 20);
    options.expect_body = None;
    options.ack_timeout = Duration::from_millis(20);
    options.block_size = 16;
    let report = load::run(&options).unwrap();
    assert!(
        report.ok > 0 && report.failed.timeout == 20 - report.ok,
        "{report}"
    );
    assert!(report.retransmissions > 0, "{report}");
}
