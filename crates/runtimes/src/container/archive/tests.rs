//! What becomes of archives, whole and broken.

use std::io::Cursor;

use futures_util::TryStreamExt as _;
use proptest::prelude::*;

use super::*;

fn archive(entries: &[(&str, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, text) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        builder
            .append_data(&mut header, name, text.as_bytes())
            .unwrap();
    }
    builder.into_inner().unwrap()
}

/// The archive that the engine is sent, as names and texts.
async fn sent(bytes: &[u8], architecture: &str) -> Result<Vec<(String, String)>, Error> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    let Source::Archive(archive) = Source::read(file.path(), architecture)? else {
        panic!("a reference");
    };
    let bytes: Vec<Bytes> = archive.stream().try_collect().await.unwrap();
    let mut entries = Vec::new();
    for entry in tar::Archive::new(Cursor::new(bytes.concat()))
        .entries()
        .unwrap()
    {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().to_string_lossy().into_owned();
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        entries.push((name, text));
    }
    Ok(entries)
}

#[tokio::test]
async fn an_archive_loses_its_names_and_nothing_else() {
    let long = format!("{}/layer.tar", "a".repeat(120));
    let manifest = r#"[{"Config":"c.json","RepoTags":["python:3"],"Layers":["l/layer.tar"]}]"#;
    let bytes = archive(&[
        (&long, "layer"),
        ("c.json", "{}"),
        ("manifest.json", manifest),
        ("repositories", r#"{"python":{"3":"x"}}"#),
        ("l/layer.tar", "another"),
    ]);
    let sent = sent(&bytes, "amd64").await.unwrap();
    let names: Vec<&str> = sent.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, [&long, "c.json", "l/layer.tar", "manifest.json"]);
    assert_eq!(sent[2].1, "another");
    let manifest: Value = serde_json::from_str(&sent[3].1).unwrap();
    assert_eq!(
        manifest,
        json!([{"Config": "c.json", "Layers": ["l/layer.tar"], "RepoTags": null}])
    );
}

#[tokio::test]
async fn an_oci_layout_gets_a_manifest_for_this_machine() {
    let hex = |digit: &str| digit.repeat(64);
    let digest = |digit: &str| format!("sha256:{}", hex(digit));
    let index = json!({"manifests": [
        {"digest": digest("1"), "platform": {"architecture": "arm64", "os": "linux"}},
        {"digest": digest("2"), "platform": {"architecture": "amd64", "os": "linux"}},
    ]});
    let manifest = json!({"config": {"digest": digest("3")}, "layers": [{"digest": digest("4")}]});
    let bytes = archive(&[
        ("oci-layout", "{}"),
        ("index.json", &index.to_string()),
        (&format!("blobs/sha256/{}", hex("2")), &manifest.to_string()),
    ]);
    let made = sent(&bytes, "amd64").await.unwrap();
    let made: Value = serde_json::from_str(&made[1].1).unwrap();
    assert_eq!(made[0]["Config"], format!("blobs/sha256/{}", hex("3")));
    assert_eq!(
        made[0]["Layers"],
        json!([format!("blobs/sha256/{}", hex("4"))])
    );
    let other = sent(&bytes, "riscv64").await.unwrap_err();
    assert!(
        other
            .message()
            .contains("is for arm64, amd64, the container engine runs riscv64"),
        "{other}"
    );
}

#[tokio::test]
async fn what_is_no_archive_of_one_image_is_refused_by_name() {
    let two = r#"[{"Config":"c","Layers":[]},{"Config":"c","Layers":[]}]"#;
    let cut = archive(&[("manifest.json", two)]);
    for (bytes, says) in [
        (b"hello".to_vec(), "not an image archive"),
        (vec![7; 2048], "not an image archive"),
        (vec![0x1f, 0x8b, 8, 0], "compressed"),
        (
            archive(&[("handler.py", "print()")]),
            "neither manifest.json",
        ),
        (archive(&[("manifest.json", two)]), "holds 2 images"),
        (
            archive(&[("manifest.json", "[")]),
            "manifest.json of the image archive is not valid",
        ),
        (archive(&[("manifest.json", "[{}]")]), "names no config"),
        (
            archive(&[("index.json", r#"{"manifests":[{"digest":"sha256:../x"}]}"#)]),
            "not sha256",
        ),
        (cut[..520].to_vec(), "cut off at byte 520"),
    ] {
        let error = sent(&bytes, "amd64").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BadRequest);
        assert!(
            error.message().contains(says),
            "{error} does not say {says}"
        );
    }
}

#[test]
fn references_are_checked() {
    let read = |text: &str| {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Source::read(file.path(), "amd64")
    };
    for good in [
        "python:3.12-slim",
        "a.b:5000/c/d@sha256:00ff",
        "sha256:00ff",
    ] {
        let source = read(&format!("image: {good}\n")).unwrap();
        assert!(matches!(source, Source::Reference(reference) if reference == good));
    }
    for wrong in [
        "",
        "../../containers/x",
        "a/../b",
        "a b",
        "-a",
        "a?force=1",
        "a//b",
        "ä",
    ] {
        let error = read(&format!("image: {wrong}")).unwrap_err();
        assert!(error.message().contains("is not a reference"), "{error}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_an_error_or_parts_of_the_file(bytes in prop::collection::vec(any::<u8>(), 0..4096), size in "[0-7]{11}", name in "\\PC{0,20}") {
        let mut header = tar::Header::new_gnu();
        let _ = header.set_path(name);
        header.as_gnu_mut().unwrap().size[..11].copy_from_slice(size.as_bytes());
        header.set_cksum();
        let mut whole = header.as_bytes().to_vec();
        whole.extend(bytes);
        let length = whole.len() as u64;
        if let Ok(parts) = parts(Cursor::new(whole), "amd64") {
            for part in parts {
                let Part::File { start, end } = part else { continue };
                prop_assert!(start <= end && end <= length);
            }
        }
    }
}
