//! What is deployed, and what becomes of it in the engine.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_start_says_why() {
    let Some(node) = Node::new("h") else { return };
    let command = |words: &'static [&'static str]| {
        move |spec: &mut FunctionSpec| {
            spec.program.as_mut().unwrap().command =
                words.iter().map(|word| (*word).to_owned()).collect();
        }
    };
    let missing = node
        .prepare(STATIC.as_bytes(), command(&["/nothing"]))
        .await
        .unwrap();
    let error = missing.start(node.host()).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::FunctionFailed);
    let python = b"image: mote-test/python-node";
    let ends = node
        .prepare(
            python,
            command(&["python3", "-c", "print('no luck'); exit(7)"]),
        )
        .await
        .unwrap();
    let error = ends.start(node.host()).await.err().unwrap();
    assert!(
        error
            .message()
            .contains("not ready: the container ended (exited with status 7): \"no luck\""),
        "{error}"
    );
    let none = node
        .prepare(b"image: mote-test/none:1", |_| {})
        .await
        .err()
        .unwrap();
    assert_eq!(none.kind(), ErrorKind::NotFound);
    assert!(none.hint().unwrap().contains("pull = true"), "{none}");
    let pull = |spec: &mut FunctionSpec| spec.program.as_mut().unwrap().pull = true;
    let none = node
        .prepare(b"image: localhost:1/none:1", pull)
        .await
        .err()
        .unwrap();
    assert_eq!(none.kind(), ErrorKind::NotFound);
    node.gone().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_is_loaded_without_its_names_and_swept() {
    let Some(node) = Node::new("i") else { return };
    // Made new, so that it is in the engine by no other name.
    let name = format!("mote-test/loaded-{}", node.tag);
    let id = node.docker(&["create", "mote-test/static"]);
    let id = id.trim();
    node.docker(&["commit", "-m", &node.tag, id, &name]);
    node.docker(&["rm", id]);
    let tar = node.folder.path().join("image.tar");
    node.docker(&["save", "-o", tar.to_str().unwrap(), &name]);
    node.docker(&["rmi", &name]);
    // Another image has its name meanwhile.
    node.docker(&["tag", "mote-test/python-node", &name]);
    let image = |name: &str| node.docker(&["image", "inspect", "--format", "{{.Id}}", name]);
    let other = image(&name);

    let prepared = node
        .prepare(&std::fs::read(&tar).unwrap(), |_| {})
        .await
        .unwrap();
    let instance = prepared.start(node.host()).await.unwrap();
    assert_eq!(node.call(&*instance, "/").await.unwrap(), "hello\n");
    assert_eq!(image(&name), other, "the name still means what it did");
    drop(instance);
    node.gone().await;

    let file = prepared.image().unwrap().file;
    let ours = format!("mote-{}:{}", node.tag, file.trim_start_matches("sha256-"));
    node.containers.sweep(&|_| false).unwrap();
    image(&ours);
    // A later run finds it, and may remove it at once when nothing uses it.
    let next = Containers::new(node.containers.0.config.clone());
    next.clear().await.unwrap();
    next.sweep(&|used| used == file).unwrap();
    image(&ours);
    next.sweep(&|_| false).unwrap();
    let list = || node.docker(&["images", "-q", &ours]);
    let removed = async {
        while !list().is_empty() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(Duration::from_secs(10), removed).await.unwrap();
    node.docker(&["rmi", &name]);
    image("mote-test/python-node");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_oci_layout_runs() {
    let Some(node) = Node::new("m") else { return };
    // The engine's own archive of the image, laid out anew as OCI tools do.
    let saved = node.folder.path().join("saved.tar");
    node.docker(&["save", "-o", saved.to_str().unwrap(), "mote-test/static"]);
    let mut files = HashMap::new();
    for entry in tar::Archive::new(std::fs::File::open(&saved).unwrap())
        .entries()
        .unwrap()
    {
        let mut entry = entry.unwrap();
        let mut bytes = Vec::new();
        std::io::copy(&mut entry, &mut bytes).unwrap();
        files.insert(entry.path().unwrap().to_string_lossy().into_owned(), bytes);
    }
    let manifest: serde_json::Value = serde_json::from_slice(&files["manifest.json"]).unwrap();
    let config = &files[manifest[0]["Config"].as_str().unwrap()];
    let layer = &files[manifest[0]["Layers"][0].as_str().unwrap()];
    // The names are not checked by the engine; what the config says of the layer is.
    let (a, b, c) = ("a".repeat(64), "b".repeat(64), "c".repeat(64));
    let index = format!(r#"{{"manifests":[{{"digest":"sha256:{a}"}}]}}"#);
    let inner =
        format!(r#"{{"config":{{"digest":"sha256:{b}"}},"layers":[{{"digest":"sha256:{c}"}}]}}"#);
    let mut layout = tar::Builder::new(Vec::new());
    for (name, bytes) in [
        (
            "oci-layout".to_owned(),
            br#"{"imageLayoutVersion":"1.0.0"}"#.as_slice(),
        ),
        ("index.json".to_owned(), index.as_bytes()),
        (format!("blobs/sha256/{a}"), inner.as_bytes()),
        (format!("blobs/sha256/{b}"), config),
        (format!("blobs/sha256/{c}"), layer),
    ] {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        layout.append_data(&mut header, name, bytes).unwrap();
    }
    let prepared = node
        .prepare(&layout.into_inner().unwrap(), |_| {})
        .await
        .unwrap();
    let instance = prepared.start(node.host()).await.unwrap();
    assert_eq!(node.call(&*instance, "/").await.unwrap(), "hello\n");
    drop(instance);
    node.gone().await;
    node.docker(&[
        "rmi",
        &format!(
            "mote-{}:{}",
            node.tag,
            prepared.image().unwrap().file.trim_start_matches("sha256-")
        ),
    ]);
}
