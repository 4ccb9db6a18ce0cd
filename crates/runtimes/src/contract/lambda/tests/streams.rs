//! Answers that are written while they are read.

use http_body_util::BodyExt;

use super::*;

/// The headers of a stream.
const STREAMING: &str = "Lambda-Runtime-Function-Response-Mode: streaming\r\nTransfer-Encoding: chunked\r\nContent-Type: application/vnd.awslambda.http-integration-response\r\n";

fn chunks(parts: &[&[u8]]) -> Vec<u8> {
    let mut all = Vec::new();
    for part in parts {
        all.extend_from_slice(format!("{:x}\r\n", part.len()).as_bytes());
        all.extend_from_slice(part);
        all.extend_from_slice(b"\r\n");
    }
    all
}

#[tokio::test]
async fn a_stream_is_passed_on_while_it_is_written() {
    let served = served().await;
    let program = async {
        let (id, ..) = served.next().await;
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        let head = format!(
            "POST /2018-06-01/runtime/invocation/{id}/response HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{STREAMING}\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let prelude = br#"{"statusCode":203,"headers":{"X-A":"b"},"cookies":["c=d"]}"#;
        let begun = chunks(&[prelude, b"\0\0\0\0\0", b"\0\0\0one"]);
        stream.write_all(&begun).await.unwrap();
        stream
    };
    let (reply, mut stream) = tokio::join!(served.call(post("{}")), program);
    let reply = reply.unwrap();
    assert_eq!(reply.status.as_u16(), 203);
    assert_eq!(reply.headers["x-a"], "b");
    assert_eq!(reply.headers["set-cookie"], "c=d");
    let Body::Stream(mut body) = reply.body else {
        panic!("a stream is expected");
    };
    let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(&first[..], b"one");
    assert!(served.api.busy());
    stream.write_all(&chunks(&[b"two", b""])).await.unwrap();
    let second = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(&second[..], b"two");
    assert!(body.frame().await.is_none());
    assert_eq!(read_answer(stream).await.status, 202);
    served.api.idle().await;
}

#[tokio::test]
async fn a_stream_that_fails_breaks_off() {
    let served = served().await;
    let trailers = "Lambda-Runtime-Function-Error-Type: Oops\r\nLambda-Runtime-Function-Error-Body: eyJlcnJvclR5cGUiOiJPb3BzIiwiZXJyb3JNZXNzYWdlIjoibWlkd2F5Iiwic3RhY2tUcmFjZSI6WyJhIl19\r\n\r\n";
    let headers = format!(
        "{STREAMING}Trailer: Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body\r\n"
    );
    let mut sent = chunks(&[b"{}\0\0\0\0\0\0\0\0part"]);
    sent.extend_from_slice(b"0\r\n");
    sent.extend_from_slice(trailers.as_bytes());
    let program = async {
        let (id, ..) = served.next().await;
        let path = format!("invocation/{id}/response");
        send(served.address, "POST", &path, &headers, &sent).await
    };
    let reader = async {
        let reply = served.call(post("{}")).await.unwrap();
        reply.body.collect(LIMIT).await.unwrap_err()
    };
    let (error, answered) = tokio::join!(reader, program);
    assert_eq!((error.message(), answered.status), ("Oops: midway", 202));
    assert_eq!(*served.lines.0.lock().unwrap(), ["a"]);

    for (parts, message) in [
        (
            &[&b"no json\0\0\0\0\0\0\0\0x"[..], b""][..],
            "the answer's prelude is not valid: ",
        ),
        (&[b"{}", b""], "the answer ended within its prelude"),
        (
            &[&[b' '; PRELUDE_OVER], b""],
            "the answer's prelude is larger than 65536 bytes",
        ),
    ] {
        let sent = chunks(parts);
        let (reply, _) = served
            .answered(post("{}"), "response", STREAMING, &sent)
            .await;
        let error = reply.unwrap_err();
        assert!(error.message().starts_with(message), "{error}");
    }
}

const PRELUDE_OVER: usize = (64 << 10) + 1;

#[tokio::test]
async fn a_stream_is_bounded_and_may_be_left() {
    let served = served().await;
    let big = vec![b'x'; 64 << 10];
    let mut parts: Vec<&[u8]> = vec![b"{}\0\0\0\0\0\0\0\0"];
    parts.extend(std::iter::repeat_n(&big[..], 17));
    parts.push(b"");
    let sent = chunks(&parts);
    let program = async {
        let (id, ..) = served.next().await;
        let path = format!("invocation/{id}/response");
        send(served.address, "POST", &path, STREAMING, &sent).await
    };
    let reader = async {
        let reply = served.call(post("{}")).await.unwrap();
        // A limit of the reader's own would hide the one that is tested.
        reply.body.collect(u64::MAX).await.unwrap_err()
    };
    let (error, answered) = tokio::join!(reader, program);
    assert_eq!((error.kind(), answered.status), (ErrorKind::TooLarge, 413));
    let leaver = async { drop(served.call(post("{}")).await.unwrap()) };
    let program = async {
        let (id, ..) = served.next().await;
        let path = format!("invocation/{id}/response");
        send(served.address, "POST", &path, STREAMING, &sent).await
    };
    let ((), answered) = tokio::join!(leaver, program);
    assert_eq!(answered.status, 202);
    served.api.idle().await;
}
