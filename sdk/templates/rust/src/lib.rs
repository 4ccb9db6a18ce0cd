//! Says hello to whoever is named in the query: `/{{name}}?name=Ada`.

use mote_function::{Request, handler, info};

handler!(handle);

fn handle(request: Request) -> String {
    let name = request.query_value("name").unwrap_or_else(|| "world".to_owned());
    info!("hello to {name}");
    format!("hello, {name}\n")
}
