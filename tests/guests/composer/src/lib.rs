//! A function that does what its path says, with siblings, key-value data and settings: the other
//! end of the tests of composition.
//!
//! | path | what it does |
//! | --- | --- |
//! | `/call/NAME/REST` | calls a sibling with `/REST`, its own method, headers and body, and relays the reply |
//! | `/fan/N/NAME/REST` | starts N such calls, then waits for all; the bodies in order |
//! | `/drop/NAME/REST` | starts one and drops it |
//! | `/leave/NAME/REST` | starts one and neither waits for it nor drops it |
//! | `/stale` | waits for the one that an earlier call of this store left |
//! | `/twice/NAME/REST` | starts one and waits for it twice; the second answer |
//! | `/spawn/NAME/REST` | hands one over; its id |
//! | `/meet/MINE/OTHER` | sets the key MINE, and waits until there is the key OTHER |
//! | `/kv/VERB/KEY` | `get`, `set`, `delete`, `exists`, `list` (after KEY), `add` (the body's number), `swap`, `race` |
//! | `/open/BUCKET` | opens a bucket and counts its keys |
//! | `/config`, `/config/KEY` | all settings, or one |
//! | `/burn/N` | N millions of a small loop |
//! | `/trap`, `/fail` | traps; answers an error |
//!
//! Anything else is told what arrived. Errors are said as `KIND: MESSAGE` with status 200.
#![no_std]

extern crate alloc;

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::hint::black_box;
use core::sync::atomic::{AtomicU32, Ordering};

use lean as _;
use mote::function::call::{self, Pending, Reply};
use mote::function::{request, response};
use wasi::config::store as config;
use wasi::keyvalue::atomics::{self, Cas, CasError};
use wasi::keyvalue::store::{self, Bucket};

wit_bindgen::generate!({ path: "../../../sdk/wit", world: "function", generate_all });

struct Composer;

impl Guest for Composer {
    fn handle(body: Vec<u8>) -> Result<Vec<u8>, String> {
        let path = request::path();
        let mut parts = path.splitn(4, '/').skip(1);
        let mut part = || parts.next().unwrap_or_default();
        let done = match (part(), part(), part()) {
            ("call", name, _) => invoke(name, rest_of(&path), body),
            ("fan", count, _) => fan(count, &path, &body),
            ("drop", name, _) => start(name, rest_of(&path), body).map(|pending| {
                drop(pending);
                b"dropped".to_vec()
            }),
            ("leave", name, _) => leave(name, rest_of(&path), body),
            ("stale", ..) => stale(),
            ("twice", name, _) => twice(name, rest_of(&path), body),
            ("spawn", name, _) => call::spawn(&asked(name, rest_of(&path), body))
                .map(String::into_bytes)
                .map_err(said),
            ("meet", mine, other) => meet(mine, other).map_err(refused),
            ("kv", verb, key) => keyvalue(verb, key, body),
            ("open", name, _) => store::open(name)
                .and_then(|bucket| bucket.list_keys(None))
                .map(|keys| keys.keys.len().to_string().into_bytes())
                .map_err(refused),
            ("config", key, _) => Ok(settings(key).into_bytes()),
            ("burn", rounds, _) => Ok(burn(rounds)),
            ("trap", ..) => core::arch::wasm32::unreachable(),
            ("fail", ..) => return Err("the script says so".into()),
            _ => Ok(arrived(&path, &body)),
        };
        Ok(done.unwrap_or_else(String::into_bytes))
    }
}

export!(Composer);

/// What follows a sibling's name in the path `/VERB/NAME/REST`.
fn rest_of(path: &str) -> &str {
    let third = path.match_indices('/').nth(2);
    third.map_or("", |(at, _)| &path[at..])
}

fn asked(name: &str, target: &str, body: Vec<u8>) -> call::Request {
    let query = request::query().map(|query| format!("?{query}"));
    let headers = request::headers().into_iter();
    call::Request {
        function: name.into(),
        method: request::method(),
        target: format!("{target}{}", query.unwrap_or_default()),
        // What a client says of its connection is not for siblings.
        headers: headers
            .filter(|(name, _)| name.starts_with("x-") || name == "connection")
            .collect(),
        body,
    }
}

fn relay(reply: Reply) -> Vec<u8> {
    response::set_status(reply.status);
    for (name, value) in reply.headers {
        response::set_header(&name, &value);
    }
    reply.body
}

fn said(error: call::Error) -> String {
    format!("{:?}: {}", error.kind, error.message)
}

fn refused(error: store::Error) -> String {
    match error {
        store::Error::NoSuchStore => "NoSuchStore: ".into(),
        store::Error::AccessDenied => "AccessDenied: ".into(),
        store::Error::Other(message) => format!("Other: {message}"),
    }
}

fn invoke(name: &str, target: &str, body: Vec<u8>) -> Result<Vec<u8>, String> {
    call::invoke(&asked(name, target, body))
        .map(relay)
        .map_err(said)
}

fn start(name: &str, target: &str, body: Vec<u8>) -> Result<Pending, String> {
    call::start(&asked(name, target, body)).map_err(said)
}

/// `/fan/N/NAME/REST`, where `{}` in the rest is the number of the call.
fn fan(count: &str, path: &str, body: &[u8]) -> Result<Vec<u8>, String> {
    let what = &path["/fan/".len() + count.len() + 1..];
    let (name, rest) = what.split_at(what.find('/').unwrap_or(what.len()));
    let count: u32 = count.parse().unwrap_or_default();
    let mut pending = Vec::new();
    for number in 0..count {
        let target = rest.replace("%7B%7D", &number.to_string());
        pending.push(start(name, &target, body.to_vec())?);
    }
    let mut all = Vec::new();
    for one in pending {
        all.extend(one.wait().map_err(said)?.body);
        all.push(b'\n');
    }
    Ok(all)
}

/// What an earlier call of this store left.
static LEFT: AtomicU32 = AtomicU32::new(u32::MAX);

fn leave(name: &str, target: &str, body: Vec<u8>) -> Result<Vec<u8>, String> {
    let pending = start(name, target, body)?;
    LEFT.store(pending.take_handle(), Ordering::Relaxed);
    Ok(b"left".to_vec())
}

fn stale() -> Result<Vec<u8>, String> {
    // SAFETY: the handle is this component's own; `leave` gave it away.
    let pending = unsafe { Pending::from_handle(LEFT.load(Ordering::Relaxed)) };
    pending.wait().map(|reply| reply.body).map_err(said)
}

fn twice(name: &str, target: &str, body: Vec<u8>) -> Result<Vec<u8>, String> {
    let pending = start(name, target, body)?;
    pending.wait().map_err(said)?;
    pending.wait().map(|reply| reply.body).map_err(said)
}

fn meet(mine: &str, other: &str) -> Result<Vec<u8>, store::Error> {
    let bucket = store::open("meeting")?;
    bucket.set(mine, b"here")?;
    while !bucket.exists(other)? {}
    Ok(format!("{mine} met {other}").into_bytes())
}

fn keyvalue(verb: &str, key: &str, body: Vec<u8>) -> Result<Vec<u8>, String> {
    let bucket = store::open("default").map_err(refused)?;
    let text = |value: Option<Vec<u8>>| value.unwrap_or_else(|| b"none".to_vec());
    let done = match verb {
        "get" => bucket.get(key).map(text),
        "set" => bucket.set(key, &body).map(|()| b"set".to_vec()),
        "delete" => bucket.delete(key).map(|()| b"deleted".to_vec()),
        "exists" => bucket
            .exists(key)
            .map(|there| there.to_string().into_bytes()),
        "list" => list(&bucket, Some(key).filter(|key| !key.is_empty())),
        "add" => {
            let number = core::str::from_utf8(&body).unwrap_or_default().trim();
            let sum = atomics::increment(&bucket, key, number.parse().unwrap_or_default());
            sum.map(|sum| sum.to_string().into_bytes())
        }
        "swap" => return swap(&bucket, key, &body),
        "race" => return race(&bucket, key, &body),
        _ => Ok(b"what?".to_vec()),
    };
    done.map_err(refused)
}

fn list(bucket: &Bucket, after: Option<&str>) -> Result<Vec<u8>, store::Error> {
    let page = bucket.list_keys(after)?;
    let cursor = page.cursor.unwrap_or_else(|| "none".into());
    Ok(format!("{} after that {cursor}", page.keys.join(",")).into_bytes())
}

fn unswapped(error: CasError) -> String {
    match error {
        CasError::StoreError(error) => refused(error),
        CasError::CasFailed(_) => "CasFailed".into(),
    }
}

/// Sets a key to what it is with the body at its end, whatever others do meanwhile.
fn swap(bucket: &Bucket, key: &str, body: &[u8]) -> Result<Vec<u8>, String> {
    let mut cas = Cas::new(bucket, key).map_err(refused)?;
    loop {
        let mut value = cas.current().map_err(refused)?.unwrap_or_default();
        value.extend_from_slice(body);
        match atomics::swap(cas, &value) {
            Ok(()) => return Ok(value),
            Err(CasError::CasFailed(again)) => cas = again,
            Err(error) => return Err(unswapped(error)),
        }
    }
}

/// Looks at a key, lets somebody else change it, and swaps: once in vain, once with what it got.
fn race(bucket: &Bucket, key: &str, body: &[u8]) -> Result<Vec<u8>, String> {
    let cas = Cas::new(bucket, key).map_err(refused)?;
    bucket.set(key, b"somebody else's").map_err(refused)?;
    let again = match atomics::swap(cas, body) {
        Err(CasError::CasFailed(again)) => again,
        Ok(()) => return Ok(b"swapped what was changed".to_vec()),
        Err(error) => return Err(unswapped(error)),
    };
    let seen = again.current().map_err(refused)?.unwrap_or_default();
    atomics::swap(again, body).map_err(unswapped)?;
    Ok(seen)
}

fn settings(key: &str) -> String {
    if !key.is_empty() {
        let value = config::get(key).ok().flatten();
        return value.unwrap_or_else(|| "none".into());
    }
    let all = config::get_all().unwrap_or_default();
    all.into_iter()
        .map(|(key, value)| format!("{key}={value}\n"))
        .collect()
}

fn burn(rounds: &str) -> Vec<u8> {
    let rounds: u64 = rounds.parse().unwrap_or_default();
    let mut sum = 0_u64;
    for round in 0..rounds * 1_000_000 {
        sum = black_box(sum.wrapping_mul(31).wrapping_add(round));
    }
    format!("burnt {}", sum % 10).into_bytes()
}

fn arrived(path: &str, body: &[u8]) -> Vec<u8> {
    response::set_header("x-composer", "yes");
    let query = request::query().unwrap_or_else(|| "-".into());
    let test = request::header("x-test").unwrap_or_else(|| "-".into());
    let mut text = format!("{} {path} {query} {test} ", request::method()).into_bytes();
    text.extend_from_slice(body);
    text
}
