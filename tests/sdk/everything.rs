//! Every part of the SDK once; the last part of the path says which.

use mote_function::call::Call;
use mote_function::{Reply, Request, config, debug, error, handler, info, keyvalue, trace, warn};

handler!(handle);

fn handle(request: Request) -> Result<Reply, String> {
    match request.path().as_str() {
        "/request" => Ok(Reply::text(format!(
            "{} {} {:?} {:?} {:?} {} {} {}",
            request.method(),
            request.path(),
            request.query(),
            request.query_value("a"),
            request.header("X-One"),
            request.headers().iter().filter(|(name, _)| name == "x-two").count(),
            request.id().len(),
            request.text(),
        ))),
        "/reply" => Ok(Reply::html("<p>").status(201).header("x-out", "a").append_header("x-out", "b").publish()),
        "/fail" => Err("no luck".to_owned()),
        "/panic" => panic!("out of luck"),
        "/log" => {
            trace!("one {}", 1);
            debug!("two");
            info!("three");
            warn!("four");
            error!("five");
            Ok(Reply::empty(204))
        }
        "/config" => Ok(Reply::text(format!("{:?} {:?} {}", config::get("ROOM"), config::get("NONE"), config::all().len()))),
        "/data" => data().map(Reply::text).map_err(|error| error.to_string()),
        "/call" => call().map(Reply::text).map_err(|error| error.to_string()),
        "/call-nobody" => match Call::get("nobody").send() {
            Err(error) => Ok(Reply::text(format!("{:?}", error.kind))),
            Ok(answer) => Ok(Reply::text(answer.text())),
        },
        _ => Ok(Reply::empty(404)),
    }
}

fn data() -> Result<String, keyvalue::Error> {
    let bucket = keyvalue::open("default")?;
    let mut out = format!("{:?}", bucket.get_text("a")?);
    bucket.set("a", "one")?;
    bucket.set("b", [0, 255])?;
    out += &format!(" {:?} {:?} {}", bucket.get_text("a")?, bucket.get("b")?, bucket.exists("c")?);
    out += &format!(" {} {}", bucket.increment("n", 5)?, bucket.increment("n", -7)?);
    out += &format!(" {:?}", bucket.keys(None)?.keys);
    let mine = bucket.swap("a")?;
    bucket.set("a", "two")?;
    let again = mine.set("mine")?.expect("somebody was faster");
    out += &format!(" {:?}", again.current()?.map(|value| value.len()));
    out += &format!(" {} {:?}", again.set("three")?.is_none(), bucket.get_text("a")?);
    for key in ["a", "b", "n", "nothing"] {
        bucket.delete(key)?;
    }
    Ok(out)
}

fn call() -> Result<String, mote_function::call::Error> {
    let first = Call::post("everything", "one").target("/request?a=1").header("x-one", "1").start()?;
    let second = Call::post("everything", "").target("/reply").start()?;
    let answer = second.wait()?;
    let id = Call::get("everything").target("/log").spawn()?;
    let failed = Call::get("everything").target("/fail").send()?;
    Ok(format!(
        "{} | {} {:?} {} | {} | {}",
        first.wait()?.text(),
        answer.status,
        answer.header("X-Out"),
        answer.text(),
        !id.is_empty(),
        failed.status,
    ))
}
