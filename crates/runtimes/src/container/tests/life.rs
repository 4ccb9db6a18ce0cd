//! Starts, calls and ends of containers.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_container_serves_calls_and_leaves_nothing() {
    let Some(node) = Node::new("a") else { return };
    let instance = node.start(|spec| {
        spec.env
            .insert("GREETING".to_owned(), "good day".to_owned());
    });
    let instance = instance.await;
    assert_eq!(node.call(&*instance, "/").await.unwrap(), "good day\n");
    assert_eq!(
        node.send(&*instance, "/", Some(vec![b'x'; 50_000]))
            .await
            .unwrap()
            .len(),
        50_000
    );
    assert!(
        node.call(&*instance, "/env")
            .await
            .unwrap()
            .contains("PORT=8080")
    );
    node.call(&*instance, "/log").await.unwrap();
    let log = || node.log.0.lock().unwrap().clone();
    let logged = async {
        while !(log().contains(&"info to standard output".to_owned())
            && log().contains(&"warn to standard error".to_owned()))
        {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(
        timeout(Duration::from_secs(5), logged).await.is_ok(),
        "{:?}",
        log()
    );
    assert_eq!(log()[0], "info listening");
    assert_eq!(node.left().await, (1, 1));
    timeout(
        Duration::from_secs(20),
        instance.stop(Duration::from_secs(5)),
    )
    .await
    .unwrap();
    node.gone().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_instance_or_start_leaves_nothing() {
    let Some(node) = Node::new("b") else { return };
    drop(node.start(|_| {}).await);
    node.gone().await;
    let prepared = node.prepare(STATIC.as_bytes(), |_| {}).await.unwrap();
    for milliseconds in [0, 5, 20, 60, 120, 200, 300] {
        let _ = timeout(
            Duration::from_millis(milliseconds),
            prepared.start(node.host()),
        )
        .await;
    }
    node.gone().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_ends_says_how_and_fails_only_its_own_calls() {
    let Some(node) = Node::new("e") else { return };
    let prepared = node.prepare(STATIC.as_bytes(), |_| {}).await.unwrap();
    let (one, two) = tokio::join!(prepared.start(node.host()), prepared.start(node.host()));
    let (one, two) = (one.unwrap(), two.unwrap());
    let error = node.call(&*one, "/exit").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FunctionFailed);
    assert_eq!(one.exited().await.how, "exited with status 3");
    assert_eq!(node.call(&*two, "/").await.unwrap(), "hello\n");
    let error = node.call(&*two, "/eat").await.unwrap_err();
    let exit = timeout(Duration::from_secs(10), two.exited())
        .await
        .unwrap();
    assert_eq!(exit.how, "killed by signal 9 (out of memory)", "{error}");
    node.gone().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_is_ended_from_outside_is_noticed() {
    let Some(node) = Node::new("f") else { return };
    let instance = node.start(|_| {}).await;
    node.docker(&["kill", &node.names()[0]]);
    let exit = timeout(Duration::from_secs(10), instance.exited())
        .await
        .unwrap();
    assert_eq!(exit.how, "killed by signal 9");
    let instance = node.start(|_| {}).await;
    node.docker(&["rm", "-f", &node.names()[0]]);
    timeout(Duration::from_secs(10), instance.exited())
        .await
        .unwrap();
    node.gone().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_container_goes_on_and_can_be_stopped() {
    let Some(node) = Node::new("g") else { return };
    let instance = node.start(|_| {}).await;
    assert_eq!(node.call(&*instance, "/").await.unwrap(), "hello\n");
    assert!(instance.pause().await.unwrap());
    instance.resume().await.unwrap();
    assert_eq!(node.call(&*instance, "/").await.unwrap(), "hello\n");
    assert!(instance.pause().await.unwrap());
    timeout(
        Duration::from_secs(10),
        instance.stop(Duration::from_secs(3)),
    )
    .await
    .unwrap();
    node.gone().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_node_left_is_cleared() {
    let Some(node) = Node::new("j") else { return };
    let instance = node.start(|_| {}).await;
    // As a killed node does: nobody removes anything.
    std::mem::forget(instance);
    assert_eq!(node.left().await, (1, 1));
    let next = Containers::new(node.containers.0.config.clone());
    next.clear().await.unwrap();
    assert_eq!(node.left().await, (0, 0));
}
