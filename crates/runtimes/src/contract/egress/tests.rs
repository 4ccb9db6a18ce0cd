//! The proxy with real sockets on both sides.

use std::sync::Mutex;

use proptest::prelude::*;

use super::*;

/// A proxy with these grants, and the lines of its log.
async fn proxy(grants: &[String]) -> (SocketAddr, Arc<Mutex<Vec<String>>>, CancellationToken) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let lines: Arc<Mutex<Vec<String>>> = Arc::default();
    let log: Log = {
        let lines = Arc::clone(&lines);
        Arc::new(move |line: &str| lines.lock().unwrap().push(line.to_owned()))
    };
    let shutdown = CancellationToken::new();
    tokio::spawn(serve(listener, grants.to_vec(), log, shutdown.clone()));
    (address, lines, shutdown)
}

/// An origin that tells what head it got, and closes.
async fn origin() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let Ok((head, _)) = read_head(&mut stream).await else {
                    return;
                };
                let reply = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", head.len());
                stream.write_all(reply.as_bytes()).await.unwrap();
                stream.write_all(&head).await.unwrap();
            });
        }
    });
    port
}

async fn ask(proxy: SocketAddr, text: &str) -> String {
    let mut stream = TcpStream::connect(proxy).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn a_granted_origin_is_reached_both_ways() {
    let port = origin().await;
    let (proxy, lines, _shutdown) = proxy(&[format!("http://127.0.0.1:{port}")]).await;
    let whole = ask(
        proxy,
        &format!(
            "GET http://127.0.0.1:{port}/a?b=c HTTP/1.1\r\nHost: other.example.org\r\n\
             Connection: keep-alive, X-Secret\r\nX-Secret: 1\r\nProxy-Authorization: Basic x\r\nX-Kept: 2\r\n\r\n"
        ),
    )
    .await;
    assert!(whole.starts_with("HTTP/1.1 200 OK\r\n"), "{whole}");
    let head = whole.split_once("\r\n\r\n").unwrap().1;
    assert_eq!(
        head,
        format!(
            "GET /a?b=c HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\nX-Kept: 2\r\n\r\n"
        )
    );
    // The first bytes of the tunnel may come with the request.
    let tunnel = ask(
        proxy,
        &format!(
            "CONNECT 127.0.0.1:{port} HTTP/1.1\r\nHost: x\r\n\r\nGET /inside HTTP/1.1\r\n\r\n"
        ),
    )
    .await;
    assert!(
        tunnel.starts_with("HTTP/1.1 200 Connection established\r\n\r\nHTTP/1.1 200 OK\r\n"),
        "{tunnel}"
    );
    assert!(tunnel.ends_with("GET /inside HTTP/1.1\r\n\r\n"), "{tunnel}");
    assert!(lines.lock().unwrap().is_empty());
}

#[tokio::test]
async fn what_is_not_granted_is_denied_with_the_line_that_grants_it() {
    let port = origin().await;
    let (proxy, lines, _shutdown) = proxy(&["https://api.example.org".to_owned()]).await;
    let cases = [
        (
            format!("GET http://127.0.0.1:{port}/ HTTP/1.1\r\n\r\n"),
            format!("allow.http = [\"http://127.0.0.1:{port}\"]"),
        ),
        (
            "CONNECT other.example.org:443 HTTP/1.1\r\n\r\n".to_owned(),
            "allow.http = [\"https://other.example.org\"]".to_owned(),
        ),
        (
            "CONNECT api.example.org:80 HTTP/1.1\r\n\r\n".to_owned(),
            "allow.http = [\"http://api.example.org\"]".to_owned(),
        ),
        (
            "GET http://api.example.org/ HTTP/1.1\r\n\r\n".to_owned(),
            "allow.http = [\"http://api.example.org\"]".to_owned(),
        ),
    ];
    for (request, line) in cases {
        let answer = ask(proxy, &request).await;
        assert!(answer.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{answer}");
        assert!(answer.contains(&line), "{answer}");
        assert!(lines.lock().unwrap().pop().unwrap().ends_with(&line));
    }
}

#[tokio::test]
async fn a_name_does_not_lead_to_this_node() {
    let port = origin().await;
    // The resolver takes this spelling of 127.0.0.1 for a name.
    let (proxy, lines, _shutdown) = proxy(&[format!("http://127.1:{port}")]).await;
    for request in [
        format!("GET http://127.1:{port}/ HTTP/1.1\r\n\r\n"),
        format!("CONNECT 127.1:{port} HTTP/1.1\r\n\r\n"),
    ] {
        let answer = ask(proxy, &request).await;
        assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
        assert!(answer.contains("it resolves to 127.0.0.1"), "{answer}");
        assert!(lines.lock().unwrap().pop().is_some());
    }
}

#[tokio::test]
async fn what_is_no_request_for_a_proxy_is_told_so() {
    let (proxy, _lines, _shutdown) = proxy(&[]).await;
    let long = format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(HEAD_MAX.0));
    for (request, status) in [
        ("nonsense\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
        ("GET https://a.example.org/ HTTP/1.1\r\n\r\n", "400"),
        ("GET ftp://a.example.org/ HTTP/1.1\r\n\r\n", "400"),
        ("CONNECT a.example.org HTTP/1.1\r\n\r\n", "400"),
        (&long, "431"),
    ] {
        let answer = ask(proxy, request).await;
        let start = format!("HTTP/1.1 {status} ");
        assert!(answer.starts_with(&start), "{request:.40}: {answer}");
    }
}

#[tokio::test]
async fn an_origin_that_is_not_there_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let (proxy, ..) = proxy(&[format!("http://127.0.0.1:{port}")]).await;
    let answer = ask(proxy, &format!("CONNECT 127.0.0.1:{port} HTTP/1.1\r\n\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
}

#[tokio::test]
async fn connections_are_bounded_and_end_with_the_shutdown() {
    let (proxy, _lines, shutdown) = proxy(&[]).await;
    let mut held = Vec::new();
    for _ in 0..CONNECTIONS_MAX {
        held.push(TcpStream::connect(proxy).await.unwrap());
    }
    let mut one_more = TcpStream::connect(proxy).await.unwrap();
    one_more.write_all(b"nonsense\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    let early = timeout(
        Duration::from_millis(200),
        one_more.read_to_string(&mut answer),
    );
    assert!(early.await.is_err(), "there is no room for it: {answer}");
    drop(held.pop());
    one_more.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    shutdown.cancel();
    let mut byte = [0; 1];
    let end = held[0].read(&mut byte).await;
    assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
}

#[tokio::test(start_paused = true)]
async fn a_slow_head_and_an_idle_tunnel_end() {
    let (near, far) = tokio::join!(pair(), pair());
    let ((mut program, mut proxy_program), (mut proxy_origin, mut origin)) = (near, far);
    let tunnel = async {
        tunnel::run(&mut proxy_program, &mut proxy_origin, IDLE_MAX).await;
    };
    let started = tokio::time::Instant::now();
    tunnel.await;
    assert!(started.elapsed() >= IDLE_MAX);
    drop((proxy_program, proxy_origin));
    let mut byte = [0; 1];
    assert_eq!(program.read(&mut byte).await.unwrap(), 0);
    assert_eq!(origin.read(&mut byte).await.unwrap(), 0);

    let proxy = Proxy {
        grants: Vec::new(),
        log: Arc::new(|_| {}),
    };
    let (mut program, proxy_program) = pair().await;
    program.write_all(b"GET http://").await.unwrap();
    let started = tokio::time::Instant::now();
    let (mut answer, mut ended) = (
        String::new(),
        std::pin::pin!(proxy.connection(proxy_program)),
    );
    tokio::select! {
        () = &mut ended => panic!("it waits for the program to read"),
        read = program.read_to_string(&mut answer) => { read.unwrap(); }
    }
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(started.elapsed() >= HEAD_TIME_MAX);
}

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (one, other) = tokio::join!(TcpStream::connect(address), listener.accept());
    (one.unwrap(), other.unwrap().0)
}

proptest! {
    #[test]
    fn any_bytes_are_a_request_or_a_refusal(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse(&bytes);
    }

    #[test]
    fn what_is_passed_on_is_one_head_for_the_origin_that_is_checked(
        target in "http://[a-z@:.\\[\\]0-9]{1,20}(/[ -~]{0,20})?",
        names in prop::collection::vec("(?i)host|connection|proxy-authorization|upgrade|x-[a-z]{1,5}", 0..8),
        value in "[ -~]{0,20}",
    ) {
        let lines: String = names.iter().map(|name| format!("{name}: {value}\r\n")).collect();
        let request = format!("GET {target} HTTP/1.1\r\n{lines}\r\n");
        if let Ok(Asked { origin, head: Some(head) }) = parse(request.as_bytes()) {
            let mut lines = [httparse::EMPTY_HEADER; HEAD_MAX.1];
            let mut passed = httparse::Request::new(&mut lines);
            prop_assert_eq!(passed.parse(head.as_bytes()), Ok(httparse::Status::Complete(head.len())));
            prop_assert!(passed.path.unwrap().starts_with('/'));
            let values = |name: &str| {
                let is = |header: &&httparse::Header<'_>| header.name.eq_ignore_ascii_case(name);
                passed.headers.iter().filter(is).map(|header| header.value.to_vec()).collect::<Vec<_>>()
            };
            let port = if origin.port == 80 { String::new() } else { format!(":{}", origin.port) };
            prop_assert_eq!(values("host"), [format!("{}{port}", origin.host).into_bytes()]);
            prop_assert_eq!(values("connection"), [b"close"]);
            prop_assert!(values("proxy-authorization").is_empty());
        }
    }
}
