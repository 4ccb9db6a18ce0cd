//! The function that every language has: see the table in README.md of the folder above.

use mote_function::call::{Call, Kind};
use mote_function::{Reply, Request, config, debug, error, handler, info, keyvalue, trace, warn};
use serde::{Deserialize, Serialize};

handler!(handle);

type Answer = Result<Reply, Box<dyn std::error::Error>>;

fn handle(request: Request) -> Answer {
    let path = request.path();
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    match parts[..] {
        ["echo"] => Ok(echo(request)),
        ["json"] => Ok(sum(&request)),
        ["error"] => Err("no such luck".into()),
        ["status", status] => Ok(status
            .parse()
            .map_or_else(|_| no_path(), |status: u16| Reply::text(format!("status {status}")).status(status))),
        ["headers"] => Ok(headers(&request)),
        ["where", ..] => Ok(r#where(&request)),
        ["log"] => {
            trace!("this is trace");
            debug!("this is debug");
            info!("this is info");
            warn!("this is warn");
            error!("this is error");
            Ok(Reply::text("logged"))
        }
        ["publish"] => Ok(Reply::text(format!("published {}", request.text())).publish()),
        ["sibling", what] => sibling(what, &request),
        ["kv"] => keys(),
        ["kv", key] => value(key, &request),
        ["config", key] => Ok(config::get(key).map_or_else(no_key, Reply::text)),
        _ => Ok(no_path()),
    }
}

fn echo(request: Request) -> Reply {
    let kind = request.header("content-type");
    let reply = Reply::bytes(request.into_body());
    match kind {
        Some(kind) => reply.header("content-type", kind),
        None => reply,
    }
}

#[derive(Deserialize)]
struct In {
    name: String,
    numbers: Vec<i64>,
}

#[derive(Serialize)]
struct Out {
    greeting: String,
    sum: i64,
}

fn sum(request: &Request) -> Reply {
    let answered = request.json::<In>().and_then(|all| {
        Reply::json(&Out {
            greeting: format!("hello, {}", all.name),
            sum: all.numbers.iter().sum(),
        })
    });
    answered.unwrap_or_else(|error| Reply::text(format!("bad JSON: {error}")).status(400))
}

fn headers(request: &Request) -> Reply {
    let test = request.header("x-test");
    let all = request.headers();
    let many: Vec<&str> = all.iter().filter(|(name, _)| name == "x-many").map(|(_, value)| value.as_str()).collect();
    Reply::text(format!("x-test: {}\nx-many: {}\n", or_dash(test), or_dash(Some(many.join(", ")))))
        .header("x-reply", "yes")
        .append_header("x-several", "one")
        .append_header("x-several", "two")
}

fn r#where(request: &Request) -> Reply {
    let lines = [
        Some(request.method()),
        Some(request.path()),
        request.query(),
        request.query_value("name"),
    ];
    Reply::text(lines.map(|line| or_dash(line) + "\n").concat())
}

fn sibling(what: &str, request: &Request) -> Answer {
    match what {
        "invoke" => {
            let call = Call::post("sibling", request.body()).target("/echo").header("content-type", "text/x-sibling");
            let answer = call.send()?;
            let kind = answer.header("content-type").unwrap_or_default();
            Ok(Reply::text(format!("{} {kind} {}", answer.status, answer.text())))
        }
        "both" => {
            let start = |body: &str| Call::post("sibling", body).target("/echo").start();
            let (one, two) = (start("one")?, start("two")?);
            Ok(Reply::text(format!("{} {}", one.wait()?.text(), two.wait()?.text())))
        }
        "spawn" => {
            let id = Call::new("PUT", "sibling").target("/kv/spawned").body(request.body()).spawn()?;
            if id.is_empty() {
                return Err("the spawned call has no id".into());
            }
            Ok(Reply::text("spawned"))
        }
        "status" => {
            let answer = Call::get("sibling").target("/error").send()?;
            Ok(Reply::text(answer.status.to_string()))
        }
        "nobody" => match Call::get("nobody").send() {
            Err(error) if error.kind == Kind::NotFound => Ok(Reply::text("not-found")),
            other => Err(format!("nobody answered: {other:?}").into()),
        },
        _ => Ok(no_path()),
    }
}

fn value(key: &str, request: &Request) -> Answer {
    let bucket = keyvalue::open("default")?;
    Ok(match request.method().as_str() {
        "PUT" => {
            bucket.set(key, request.body())?;
            Reply::text("set")
        }
        "DELETE" => {
            bucket.delete(key)?;
            Reply::text("deleted")
        }
        "POST" => {
            let by = request.query_value("by").unwrap_or_default().parse()?;
            Reply::text(bucket.increment(key, by)?.to_string())
        }
        _ => bucket.get(key)?.map_or_else(no_key, |value| Reply::bytes(value).header("content-type", "text/plain")),
    })
}

fn keys() -> Answer {
    let bucket = keyvalue::open("default")?;
    let mut text = String::new();
    let mut cursor: Option<String> = None;
    loop {
        let page = bucket.keys(cursor.as_deref())?;
        for key in page.keys {
            text += &key;
            text.push('\n');
        }
        cursor = page.cursor;
        if cursor.is_none() {
            return Ok(Reply::text(text));
        }
    }
}

fn or_dash(text: Option<String>) -> String {
    text.filter(|text| !text.is_empty()).unwrap_or_else(|| "-".to_owned())
}

fn no_key() -> Reply {
    Reply::text("no such key").status(404)
}

fn no_path() -> Reply {
    Reply::text("no such path").status(404)
}
