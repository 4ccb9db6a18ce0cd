//! Bare hyper: what an HTTP door costs before it does anything. Prints its address, then serves until it is ended.

use std::io::Write;
use std::net::SocketAddr;

use anyhow::{Context, Result};
use clap::Parser;
use tokio::net::TcpListener;
use tokio::runtime::Builder;

/// Answers every HTTP/1.1 request with "hello, world".
#[derive(Debug, Parser)]
struct Arguments {
    /// Address to listen on; port 0 picks a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    address: SocketAddr,
    /// Threads that serve; one thread runs without a scheduler between threads.
    #[arg(long, default_value_t = 2)]
    workers: usize,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let mut builder = if arguments.workers > 1 {
        Builder::new_multi_thread()
    } else {
        Builder::new_current_thread()
    };
    if arguments.workers > 1 {
        builder.worker_threads(arguments.workers);
    }
    builder.enable_all().build()?.block_on(async {
        let listener = TcpListener::bind(arguments.address)
            .await
            .with_context(|| format!("cannot listen on {}", arguments.address))?;
        writeln!(std::io::stdout(), "http http://{}", listener.local_addr()?)?;
        mote_bench::baseline::http(listener).await?;
        Ok(())
    })
}
