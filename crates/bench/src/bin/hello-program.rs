//! The smallest program that a node can run, to measure what the node adds to it.
//!
//! With `$PORT` it is an HTTP/1.1 server with a thread for each connection, without it a program for one call: body on
//! standard input, reply on standard output. `$LISTEN` is the address, every one by default, or `unix` for the socket
//! at `$MOTE_SOCKET` instead of the port; `$WORK_ROUNDS` makes each call compute for so long. `hello-program calibrate`
//! prints how many rounds take a millisecond here.
//! It is linked statically and needs nothing else in its root. How many calls it serves at once is bounded by whoever
//! limits its threads: a connection that gets none is closed. It ends with SIGTERM.

use std::env;
use std::hint::black_box;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use tokio::signal::unix::{SignalKind, signal};

const REPLY: &str = "hello, world\n";
const HEAD_BYTES_MAX: usize = 64 << 10;
const BODY_BYTES_MAX: usize = 1 << 20;
/// Nothing here needs more.
const STACK_BYTES: usize = 64 << 10;
/// Long enough for the clock, and the fastest of several is the one that nothing disturbed.
const CALIBRATION_ROUNDS: u64 = 20_000_000;
const CALIBRATIONS: u32 = 9;

fn main() -> Result<()> {
    if env::args().nth(1).as_deref() == Some("calibrate") {
        writeln!(io::stdout(), "{}", rounds_per_ms())?;
        return Ok(());
    }
    let rounds = match env::var("WORK_ROUNDS") {
        Ok(text) => text.parse().context("WORK_ROUNDS is not a number")?,
        Err(_) => 0,
    };
    match env::var("PORT") {
        Ok(port) => serve(&port, rounds),
        Err(_) => {
            io::copy(&mut io::stdin().lock(), &mut io::sink())?;
            work(rounds);
            io::stdout().write_all(REPLY.as_bytes())?;
            Ok(())
        }
    }
}

fn serve(port: &str, rounds: u64) -> Result<()> {
    let address = env::var("LISTEN").unwrap_or_else(|_| "0.0.0.0".to_owned());
    if address == "unix" {
        let path = env::var("MOTE_SOCKET").context("LISTEN=unix needs MOTE_SOCKET")?;
        let listener =
            UnixListener::bind(&path).with_context(|| format!("cannot listen on {path}"))?;
        thread::spawn(move || accept(listener.incoming().flatten(), rounds));
    } else {
        let address = format!("{address}:{port}");
        let listener =
            TcpListener::bind(&address).with_context(|| format!("cannot listen on {address}"))?;
        writeln!(io::stdout(), "http http://{}", listener.local_addr()?)?;
        let at_once = |stream: &TcpStream| stream.set_nodelay(true).is_ok();
        thread::spawn(move || accept(listener.incoming().flatten().filter(at_once), rounds));
    }
    // The first process of a container does not end with a signal that it does not ask for.
    tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?
        .block_on(async {
            signal(SignalKind::terminate())?.recv().await;
            Ok(())
        })
}

fn accept(streams: impl Iterator<Item = impl Read + Write + Send + 'static>, rounds: u64) {
    for stream in streams {
        // A connection that breaks, or gets no thread, ends and nothing else does.
        let _thread = thread::Builder::new()
            .stack_size(STACK_BYTES)
            .spawn(move || answer(stream, rounds));
    }
}

/// Answers every request of one connection.
fn answer(mut stream: impl Read + Write, rounds: u64) -> Result<()> {
    let reply = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {}\r\n\r\n{REPLY}",
        REPLY.len()
    );
    let mut received = Vec::new();
    let mut chunk = [0; 8 << 10];
    loop {
        while let Some(length) = request_length(&received)? {
            received.drain(..length);
            work(rounds);
            stream.write_all(reply.as_bytes())?;
        }
        match stream.read(&mut chunk)? {
            0 => return Ok(()),
            length => received.extend_from_slice(&chunk[..length]),
        }
    }
}

/// Bytes of the first request in `received`, body included, once it is all there.
fn request_length(received: &[u8]) -> Result<Option<usize>> {
    let Some(end) = received.windows(4).position(|four| four == b"\r\n\r\n") else {
        if received.len() > HEAD_BYTES_MAX {
            bail!("the head is too long");
        }
        return Ok(None);
    };
    let head = String::from_utf8_lossy(&received[..end]).to_ascii_lowercase();
    let value = |name: &str| {
        let line = head.lines().find_map(|line| line.strip_prefix(name));
        line.map(|value| value.trim_start_matches(':').trim().to_owned())
    };
    if value("transfer-encoding").is_some() {
        bail!("a body without a length is not served");
    }
    let body: usize = value("content-length").map_or(Ok(0), |text| text.parse())?;
    if body > BODY_BYTES_MAX {
        bail!("the body is too long");
    }
    let whole = end + 4 + body;
    Ok((received.len() >= whole).then_some(whole))
}

/// Computes, without memory and without the system.
fn work(rounds: u64) {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    for _ in 0..rounds {
        // xorshift64: three steps that each need the one before.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
    }
    black_box(state);
}

fn rounds_per_ms() -> u64 {
    let seconds = (0..CALIBRATIONS)
        .map(|_| {
            let start = Instant::now();
            work(black_box(CALIBRATION_ROUNDS));
            start.elapsed().as_secs_f64()
        })
        .fold(f64::INFINITY, f64::min);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a positive number far below 2^53"
    )]
    let rounds = (CALIBRATION_ROUNDS as f64 / (seconds * 1000.0)) as u64;
    rounds.max(1)
}
