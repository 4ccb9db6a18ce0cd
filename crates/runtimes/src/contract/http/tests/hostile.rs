//! Programs that break the rules, and what a call of them gets.

use super::*;

/// Sends `bytes` for the first request, then closes.
async fn once(bytes: Vec<u8>) -> HttpClient {
    let address = server(move |mut stream, _| {
        let bytes = bytes.clone();
        async move {
            head(&mut stream).await;
            // The client may have had enough of it.
            let _ = stream.write_all(&bytes).await;
        }
    })
    .await;
    client(address).0
}

#[track_caller]
fn expect(error: &Error, message: &str) {
    assert_eq!(error.kind(), ErrorKind::FunctionFailed, "{error}");
    assert!(error.message().starts_with(message), "{error}");
}

#[tokio::test]
async fn replies_that_are_none_are_named() {
    let line = "x".repeat(1 << 20);
    let long_line = format!("HTTP/1.1 200 OK\r\nX: {line}\r\nContent-Length: 0\r\n\r\n");
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(1000));
    let interim = "HTTP/1.1 100 Continue\r\n\r\n".repeat(100_000);
    for (bytes, message) in [
        ("", "the program closed the connection without a reply"),
        (
            "HTTP/1.1 200 OK\r\nX",
            "the program closed the connection in the middle of its reply",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf",
            "the program closed the connection in the middle of its reply",
        ),
        ("garbage\r\n\r\n", "the program's reply is not HTTP/1.1: "),
        (
            "SSH-2.0-OpenSSH_9.6\r\n",
            "the program's reply is not HTTP/1.1: ",
        ),
        (
            "HTTP/2.0 200 OK\r\n\r\n",
            "the program's reply is not HTTP/1.1: ",
        ),
        (
            "HTTP/1.1 200 OK\r\nbad header\r\n\r\n",
            "the program's reply is not HTTP/1.1: ",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
            "the program's reply is not HTTP/1.1: ",
        ),
        (
            "HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
            "the program answered status 101",
        ),
        (
            "HTTP/1.1 999 Odd\r\nContent-Length: 0\r\n\r\n",
            "the program answered status 999",
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            "",
        ),
        (&long_line, "the reply's head is larger than 65536 bytes"),
        (&line, "the program's reply is not HTTP/1.1: "),
        (&many, "the reply's head is "),
        (&interim, "the program sent more than 32 interim replies"),
    ] {
        let client = once(bytes.as_bytes().to_vec()).await;
        let mut offered = Some(invocation(Method::POST, "/hello", "body"));
        let reply = client.call(&mut offered, 1 << 20).await;
        let error = match reply {
            Ok(reply) => reply.body.collect(1 << 20).await.expect_err(bytes),
            Err(error) => error,
        };
        expect(&error, message);
        assert!(offered.is_none(), "the program may have acted on it");
        assert!(client.pool.take(false).is_none());
    }
}

#[tokio::test]
async fn a_stream_that_breaks_off_says_so() {
    let mut bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n".to_vec();
    bytes.extend_from_slice(&[b'x'; 80_000]);
    let reply = once(bytes).await.call(&mut get(), 1 << 20).await.unwrap();
    let error = reply.body.collect(1 << 20).await.unwrap_err();
    expect(
        &error,
        "the program closed the connection in the middle of its reply",
    );
}

#[tokio::test]
async fn a_body_without_an_end_is_cut_off() {
    let closed = Arc::new(tokio::sync::Notify::new());
    let address = {
        let closed = Arc::clone(&closed);
        server(move |mut stream, _| {
            let closed = Arc::clone(&closed);
            async move {
                head(&mut stream).await;
                let begin = b"HTTP/1.1 200 OK\r\n\r\n";
                stream.write_all(begin).await.unwrap();
                while stream.write_all(&[b'x'; 4096]).await.is_ok() {}
                closed.notify_one();
            }
        })
        .await
    };
    let (client, _) = client(address);
    let reply = client.call(&mut get(), 300_000).await.unwrap();
    let error = reply.body.collect(u64::MAX).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    closed.notified().await;
    let known = once(b"HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\n".to_vec()).await;
    let error = known.call(&mut get(), 1 << 20).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
}

#[tokio::test]
async fn dropping_a_call_closes_its_connection() {
    let (sender, mut events) = tokio::sync::mpsc::unbounded_channel();
    let address = server(move |mut stream, number| {
        let sender = sender.clone();
        async move {
            head(&mut stream).await;
            if number == 1 {
                let begin = b"HTTP/1.1 200 OK\r\n\r\nbegin";
                stream.write_all(begin).await.unwrap();
            }
            sender.send("asked").unwrap();
            assert_eq!(stream.read(&mut [0; 1]).await.unwrap_or(0), 0);
            sender.send("closed").unwrap();
        }
    })
    .await;
    let (client, _) = client(address);
    {
        let mut offered = get();
        let call = client.call(&mut offered, 100);
        tokio::pin!(call);
        tokio::select! {
            _ = &mut call => panic!("it never answers"),
            event = events.recv() => assert_eq!(event, Some("asked")),
        }
    }
    assert_eq!(events.recv().await, Some("closed"));
    let reply = client.call(&mut get(), 100).await.unwrap();
    assert_eq!(events.recv().await, Some("asked"));
    drop(reply);
    assert_eq!(events.recv().await, Some("closed"));
}

#[tokio::test]
async fn more_than_the_reply_spoils_the_connection() {
    let two = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
    let (client, _) = client(answering(two.to_vec()).await);
    for _ in 0..3 {
        let reply = client.call(&mut get(), 100).await.unwrap();
        assert_eq!(reply.body.collect(100).await.unwrap(), "ok");
    }
}

#[tokio::test]
async fn a_reply_may_come_before_the_whole_request() {
    let address = server(|mut stream, _| async move {
        head(&mut stream).await;
        let reply = b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno";
        stream.write_all(reply).await.unwrap();
        // The rest of the request is read, so that closing does not take the reply along.
        while stream.read(&mut [0; 4096]).await.is_ok_and(|read| read > 0) {}
    })
    .await;
    let (client, _) = client(address);
    let (sender, receiver) =
        tokio::sync::mpsc::channel::<Result<http_body::Frame<Bytes>, Error>>(1);
    let parts = futures_util::stream::unfold(receiver, async |mut receiver| {
        let part = receiver.recv().await?;
        Some((part, receiver))
    });
    let body = Body::Stream(Box::pin(http_body_util::StreamBody::new(parts)));
    let mut offered = Some(invocation(Method::POST, "/hello", body));
    let reply = client.call(&mut offered, 1 << 20).await.unwrap();
    assert_eq!(reply.status.as_u16(), 413);
    assert_eq!(reply.body.collect(100).await.unwrap(), "no");
    // Nobody wants the rest.
    sender.closed().await;
    assert!(client.pool.take(false).is_none());
}

#[tokio::test]
async fn a_look_whether_a_program_is_ready_does_not_hang() {
    let address = server(|mut stream, number| async move {
        head(&mut stream).await;
        if number == 0 {
            std::future::pending::<()>().await;
        }
        let reply = b"HTTP/1.1 200 OK\r\n\r\nno end";
        stream.write_all(reply).await.unwrap();
        while stream.write_all(&[b'x'; 4096]).await.is_ok() {}
    })
    .await;
    let (client, to) = client(address);
    client
        .ready(Some("/"), Duration::from_secs(30))
        .await
        .unwrap();
    assert_eq!(to.made.load(Ordering::Relaxed), 2);
}
