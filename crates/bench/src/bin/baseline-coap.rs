//! A bare CoAP responder: what a CoAP door costs before it does anything. Prints its address, then serves until it is ended.

use std::io::Write;
use std::net::SocketAddr;

use anyhow::Result;
use clap::Parser;
use tokio::runtime::Builder;

/// Answers every CoAP request with "hello, world".
#[derive(Debug, Parser)]
struct Arguments {
    /// Address to listen on; port 0 picks a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    address: SocketAddr,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(async {
            let socket = mote_bench::baseline::coap_socket(arguments.address)?;
            writeln!(std::io::stdout(), "coap coap://{}", socket.local_addr()?)?;
            mote_bench::baseline::coap(socket).await?;
            Ok(())
        })
}
