//! What a container can and cannot do.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_container_has_what_it_was_granted_and_no_more() {
    let Some(node) = Node::new("c") else { return };
    let granted = tempfile::tempdir().unwrap();
    std::fs::write(granted.path().join("file"), "x").unwrap();
    let instance = node.start(|spec| {
        spec.program.as_mut().unwrap().tmp_bytes = 1 << 20;
        spec.allow.read = vec![DirectoryGrant {
            host: granted.path().to_owned(),
            guest: "/data".to_owned(),
        }];
    });
    let instance = instance.await;
    let says = async |target: &str| {
        node.call(&*instance, target)
            .await
            .unwrap()
            .trim()
            .to_owned()
    };
    assert_eq!(says("/write?/file").await, "Read-only file system");
    assert_eq!(says("/write?/data/new").await, "Read-only file system");
    assert_eq!(says("/write?/tmp/big").await, "No space left on device");
    let own = says("/self").await;
    for line in [
        "CapEff:\t0000000000000000",
        "CapBnd:\t0000000000000000",
        "NoNewPrivs:\t1",
        "Seccomp:\t2",
    ] {
        assert!(own.contains(line), "{line} is not in {own}");
    }
    let network = format!("mote-{}-home", node.tag);
    let internal = node.docker(&["network", "inspect", "--format", "{{.Internal}}", &network]);
    assert_eq!(internal, "true\n");
    drop(instance);
    node.gone().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn apps_do_not_reach_each_other() {
    let Some(node) = Node::new("d") else { return };
    let other = node
        .start(|spec| spec.name = "lamp.garden".parse().unwrap())
        .await;
    let instance = node.start(|_| {}).await;
    let neighbour = node
        .start(|spec| spec.name = "lamp.home".parse().unwrap())
        .await;
    let address = |app: &str| {
        let name = node
            .names()
            .into_iter()
            .find(|name| name.contains(app))
            .unwrap();
        let format = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
        node.docker(&["inspect", "--format", format, &name])
            .trim()
            .to_owned()
    };
    let (garden, home) = (address("lamp-garden"), address("lamp-home"));
    let says = async |address: &str| {
        node.call(&*instance, &format!("/open?{address}:8080"))
            .await
            .unwrap()
    };
    assert_eq!(says(&home).await, "connected\n");
    assert_ne!(says(&garden).await, "connected\n");
    drop((instance, other, neighbour));
    node.gone().await;
}
