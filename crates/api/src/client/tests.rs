//! The client against real sockets with scripted answers.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use mote_core::error::ErrorKind;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::node::Node;
use super::{Client, LogQuery};

/// A server that reads one request whole, sends `answer`, and returns what it read.
async fn scripted(answer: &'static str) -> (Client, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut read = Vec::new();
        loop {
            let mut piece = [0; 4096];
            let count = stream.read(&mut piece).await.unwrap();
            read.extend_from_slice(&piece[..count]);
            let text = String::from_utf8_lossy(&read).into_owned();
            let Some((head, body)) = text.split_once("\r\n\r\n") else {
                continue;
            };
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "))
                .map_or(0, |value| value.parse().unwrap());
            if body.len() >= length {
                break;
            }
        }
        stream.write_all(answer.as_bytes()).await.unwrap();
        String::from_utf8(read).unwrap()
    });
    let client = Client::new(Node::remote(&address, Some("secret".to_owned())).unwrap());
    (client, server)
}

#[tokio::test]
async fn a_problem_becomes_the_error_it_was() {
    let (client, server) = scripted(
        "HTTP/1.1 404 Not Found\r\ncontent-type: application/problem+json\r\nconnection: close\r\n\r\n\
         {\"type\":\"about:blank\",\"title\":\"Not found\",\"status\":404,\"detail\":\"function `x` is not deployed\",\"kind\":\"not_found\",\"hint\":\"run `mote ls`\"}",
    )
    .await;
    let error = client.function(&"x".parse().unwrap()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(error.message(), "function `x` is not deployed");
    assert_eq!(error.hint(), Some("run `mote ls`"));
    let request = server.await.unwrap();
    assert!(
        request.starts_with("GET /v1/functions/x.default HTTP/1.1\r\n"),
        "{request}"
    );
    assert!(
        request.contains("authorization: Bearer secret\r\n"),
        "{request}"
    );
}

#[tokio::test]
async fn an_upload_tells_how_far_it_is() {
    let (client, server) =
        scripted("HTTP/1.1 200 OK\r\ncontent-length: 26\r\n\r\n{\"digest\":\"d\",\"bytes\":200}")
            .await;
    let heard = Arc::new(Mutex::new(Vec::new()));
    let digest = "ab".repeat(32).parse().unwrap();
    let body = Bytes::from(vec![b'x'; 200_000]);
    let progress = {
        let heard = Arc::clone(&heard);
        move |sent| heard.lock().unwrap().push(sent)
    };
    let artifact = client.put_artifact(&digest, body, progress).await.unwrap();
    assert_eq!(artifact.bytes, 200);
    assert_eq!(*heard.lock().unwrap(), [65_536, 131_072, 196_608, 200_000]);
    assert!(server.await.unwrap().contains("content-length: 200000\r\n"));
}

#[tokio::test]
async fn log_lines_come_one_by_one() {
    let (client, server) = scripted(
        "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n\
         {\"time_ms\":1,\"call\":\"a\",\"level\":\"info\",\"text\":\"one\"}\n\n\
         {\"time_ms\":2,\"call\":\"b\",\"level\":\"warn\",\"text\":\"two\"}\n",
    )
    .await;
    let query = LogQuery {
        follow: true,
        tail: Some(5),
        level: Some(mote_core::log::Level::Info),
    };
    let mut logs = client
        .logs(&"x.home".parse().unwrap(), query)
        .await
        .unwrap();
    assert_eq!(logs.next().await.unwrap().unwrap().text, "one");
    assert_eq!(logs.next().await.unwrap().unwrap().level, "warn");
    assert_eq!(logs.next().await.unwrap(), None);
    let request = server.await.unwrap();
    assert!(
        request.starts_with("GET /v1/functions/x.home/logs?follow=true&tail=5&level=info "),
        "{request}"
    );
}

#[tokio::test]
async fn a_node_that_is_down_is_said_to_be() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let client = Client::new(Node::remote(&address, None).unwrap());
    let error = client.status().await.unwrap_err();
    assert!(
        error
            .message()
            .starts_with(&format!("no node answers at http://{address}")),
        "{error}"
    );
    assert!(error.hint().unwrap().contains("mote up"));
}

#[tokio::test]
async fn a_wrong_token_has_a_remedy() {
    let (client, _server) =
        scripted("HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n").await;
    let error = client.status().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized);
    assert!(error.hint().is_some());
}
