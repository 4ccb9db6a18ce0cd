//! The least a server must cost on the libraries that the node uses: the denominators of the promised ratios.
//!
//! They answer every request with the same line and do nothing else. What a node costs above them is what it adds.
//! Both run until the future is dropped; the HTTP one serves as many connections as it is given.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;

use anyhow::{Context, Result};
use bytes::Bytes;
use coap_lite::{ContentFormat, MessageClass, MessageType, Packet, ResponseType};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, UdpSocket};

/// What both baselines answer.
pub const BODY: &str = "hello, world\n";

/// The system's default of 208 KiB drops datagrams at 256 clients; the kernel lowers what exceeds its own limit.
const SOCKET_BUFFER_BYTES: usize = 4 << 20;

/// Answers every HTTP/1.1 request on `listener` with 200 and [`BODY`].
pub async fn http(listener: TcpListener) -> io::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(async move {
            let connection =
                http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(hello));
            // A client that hangs up ends its connection only.
            let _ended = connection.await;
        });
    }
}

/// Answers every CoAP request on `socket` with 2.05 and [`BODY`]: CON in the ACK, NON with NON.
pub async fn coap(socket: UdpSocket) -> io::Result<()> {
    let mut buffer = vec![0; 2048];
    loop {
        let (length, peer) = socket.recv_from(&mut buffer).await?;
        let Some(reply) = coap_reply(&buffer[..length]) else {
            continue;
        };
        // A reply that cannot be sent is lost like any datagram: the client asks again.
        let _lost = socket.send_to(&reply, peer).await;
    }
}

/// Opens the socket for [`coap`], with buffers that hold a thousand clients' requests.
pub fn coap_socket(address: SocketAddr) -> Result<UdpSocket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::DGRAM,
        Some(Protocol::UDP),
    )?;
    socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES)?;
    socket.set_send_buffer_size(SOCKET_BUFFER_BYTES)?;
    socket.set_nonblocking(true)?;
    socket
        .bind(&address.into())
        .with_context(|| format!("cannot listen on {address}, choose a free port or port 0"))?;
    Ok(UdpSocket::from_std(socket.into())?)
}

async fn hello(_request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut response = Response::new(Full::new(Bytes::from_static(BODY.as_bytes())));
    response.headers_mut().insert(
        http::header::CONTENT_TYPE,
        http::HeaderValue::from_static("text/plain"),
    );
    Ok(response)
}

fn coap_reply(datagram: &[u8]) -> Option<Vec<u8>> {
    let request = Packet::from_bytes(datagram).ok()?;
    let kind = match request.header.get_type() {
        MessageType::Confirmable => MessageType::Acknowledgement,
        MessageType::NonConfirmable => MessageType::NonConfirmable,
        MessageType::Acknowledgement | MessageType::Reset => return None,
    };
    let mut reply = Packet::new();
    reply.header.set_version(1);
    reply.header.set_type(kind);
    reply.header.message_id = request.header.message_id;
    reply.header.code = MessageClass::Response(ResponseType::Content);
    reply.set_token(request.get_token().to_vec());
    reply.set_content_format(ContentFormat::TextPlain);
    reply.payload = BODY.as_bytes().to_vec();
    reply.to_bytes().ok()
}
