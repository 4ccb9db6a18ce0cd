//! OCI layouts and what `docker save` writes.

use std::fs;

use mote_core::error::ErrorKind::{BadRequest, TooLarge, Unsupported};

use super::super::machine::this_architecture;
use super::super::{ImageConfig, Kind, known, pack};
use super::fixture::{Place, config, docker, gzip, hex, layout, manifest, oci, tar};

fn other() -> &'static str {
    if this_architecture() == "arm64" {
        "amd64"
    } else {
        "arm64"
    }
}

#[test]
fn an_image_is_its_layers_and_its_config() {
    let place = Place::new();
    let said = r#"{"Entrypoint":["/app","-v"],"Cmd":["x"],"Env":["PATH=/bin","A=b=c","ODD"],"WorkingDir":"/srv",
        "User":"1000:1000","ExposedPorts":{"8080/tcp":{},"53/udp":{},"90":{},"x/tcp":{}},"Volumes":null}"#;
    let layers = [
        tar()
            .folder("usr/bin")
            .symlink("bin", "usr/bin")
            .file("app", "#!/bin/sh")
            .end(),
        // Without an end mark, and with the top as some builders write it.
        tar().folder("/").file("bin/sh", "shell").0,
        tar().file("etc/name", "it").end(),
    ];
    let expect = ImageConfig {
        entrypoint: vec!["/app".into(), "-v".into()],
        cmd: vec!["x".into()],
        env: [("PATH", "/bin"), ("A", "b=c"), ("ODD", "")]
            .map(|(a, b)| (a.into(), b.into()))
            .to_vec(),
        working_dir: "/srv".into(),
        user: "1000:1000".into(),
        exposed_ports: vec![90, 8080],
        architecture: this_architecture().into(),
        os: "linux".into(),
    };
    let zipped = layers.each_ref().map(|layer| gzip(layer));
    for artifact in [
        oci(&layers, said),
        oci(&zipped, said),
        docker(&layers, said),
        gzip(&docker(&layers, said)),
    ] {
        let tree = place.unpack(&artifact);
        assert_eq!(tree.kind, Kind::Image);
        assert_eq!(tree.image.as_ref(), Some(&expect));
        assert_eq!(
            place.text("usr/bin/sh"),
            "shell",
            "through the link of a lower layer"
        );
        assert_eq!(place.text("etc/name"), "it");
        assert_eq!(known(&place.tree()), Some(tree));
    }
}

#[test]
fn whiteouts_hide_lower_layers_and_not_their_own() {
    let place = Place::new();
    let lower = tar()
        .file("gone", "")
        .file("kept", "lower")
        .file("tree/a/b", "")
        .file("opaque/old", "")
        .file("opaque/sub/old", "")
        .file("opaque/both", "lower")
        .file("again/x", "lower")
        .end();
    let upper = tar()
        .file(".wh.gone", "")
        .file(".wh.tree", "")
        .file(".wh.never", "")
        .file("nowhere/.wh.x", "")
        // Some writers put the mark after what the layer has in the folder itself.
        .file("opaque/new", "upper")
        .file("opaque/both", "upper")
        .file("opaque/sub/new", "upper")
        .file("opaque/.wh..wh..opq", "")
        .file("opaque/.wh..wh.plnk", "")
        .file("again/x", "upper")
        .file("again/.wh.x", "")
        .end();
    for artifact in [
        oci(&[lower.clone(), upper.clone()], "{}"),
        docker(&[lower, upper], "{}"),
    ] {
        place.unpack(&artifact);
        let mut names: Vec<String> = super::fixture::snapshot(&place.tree())
            .into_keys()
            .map(|path| path.display().to_string())
            .collect();
        names.retain(|name| !place.at(name).is_dir());
        assert_eq!(
            names,
            [
                "again/x",
                "kept",
                "opaque/both",
                "opaque/new",
                "opaque/sub/new"
            ]
        );
        assert_eq!(place.text("opaque/both"), "upper");
        assert_eq!(place.text("again/x"), "upper");
        assert!(!place.at("nowhere").exists());
    }
    let all = [
        tar().file("a/b", "").end(),
        tar().file("c", "").file(".wh..wh..opq", "").end(),
    ];
    place.unpack(&oci(&all, "{}"));
    assert_eq!(fs::read_dir(place.tree()).unwrap().count(), 1);
}

#[test]
fn the_image_for_this_machine_is_chosen() {
    let place = Place::new();
    let layer = |text: &str| vec![tar().file("which", text).end()];
    let (wrong, right) = (layer("other"), layer("this"));
    let (archive, first) = manifest(layout(), &config(other(), &wrong, "{}"), &wrong);
    let only_wrong = archive.clone();
    let (archive, second) = manifest(archive, &config(this_architecture(), &right, "{}"), &right);
    let described = |digest: &str, architecture: &str| {
        format!(
            r#"{{"digest":"sha256:{digest}","platform":{{"architecture":"{architecture}","os":"linux"}}}}"#
        )
    };
    let statement = format!(
        r#"{{"digest":"sha256:{}","annotations":{{"vnd.docker.reference.type":"attestation-manifest"}},"platform":{{"architecture":"unknown","os":"unknown"}}}}"#,
        hex(b"not there")
    );
    let all = [
        statement.clone(),
        described(&first, other()),
        described(&second, this_architecture()),
    ]
    .join(",");
    let nested = format!(r#"{{"manifests":[{all}]}}"#);
    let outer = format!(
        r#"{{"manifests":[{{"digest":"sha256:{}"}}]}}"#,
        hex(nested.as_bytes())
    );
    let archive = archive.file(&format!("blobs/sha256/{}", hex(nested.as_bytes())), &nested);
    for index in [nested.clone(), outer] {
        place.unpack(&archive.clone().file("index.json", &index).end());
        assert_eq!(place.text("which"), "this");
    }
    // By its config where the index does not say.
    let bare = format!(
        r#"{{"manifests":[{{"digest":"sha256:{first}"}},{{"digest":"sha256:{second}"}}]}}"#
    );
    place.unpack(&archive.file("index.json", &bare).end());
    assert_eq!(place.text("which"), "this");

    let says = format!(
        "the image is for linux/{}, this machine is linux/{}",
        other(),
        this_architecture()
    );
    let index = format!(
        r#"{{"manifests":[{statement},{}]}}"#,
        described(&first, other())
    );
    place.refuses(
        &only_wrong.clone().file("index.json", &index).end(),
        BadRequest,
        &says,
    );
    let index = format!(r#"{{"manifests":[{{"digest":"sha256:{first}"}}]}}"#);
    place.refuses(
        &only_wrong.clone().file("index.json", &index).end(),
        BadRequest,
        &says,
    );
    let index = format!(
        r#"{{"manifests":[{}]}}"#,
        described(&hex(b"x"), this_architecture())
    );
    place.refuses(
        &only_wrong.clone().file("index.json", &index).end(),
        BadRequest,
        "is not in the archive",
    );
    place.refuses(
        &only_wrong.file("index.json", r#"{"manifests":[]}"#).end(),
        BadRequest,
        "no manifest",
    );
}

#[test]
fn other_bytes_than_the_digest_says_are_refused() {
    let place = Place::new();
    let layers = vec![tar().file("needle", "haystack").end()];
    for build in [oci, docker] {
        let artifact = build(&layers, r#"{"User":"someone"}"#);
        for (old, new) in [("haystack", "haystick"), ("someone", "anybody")] {
            let at = artifact
                .windows(old.len())
                .position(|window| window == old.as_bytes())
                .unwrap();
            let mut changed = artifact.clone();
            changed[at..at + old.len()].copy_from_slice(new.as_bytes());
            place.refuses(&changed, BadRequest, "other bytes than its digest says");
        }
    }
    // Behind the end mark as well.
    let mut layer = tar().file("a", "").end();
    layer.extend([7; 600]);
    let artifact = oci(&[layer], "{}");
    let at = artifact
        .windows(9)
        .position(|window| window == [7; 9])
        .unwrap();
    let mut changed = artifact;
    changed[at] = 8;
    place.refuses(&changed, BadRequest, "other bytes than its digest says");
}

#[test]
fn images_that_make_no_sense_are_told() {
    let place = Place::new();
    let one = layout();
    place.refuses(&one.clone().end(), BadRequest, "no `index.json`");
    place.refuses(
        &one.clone().file("index.json", "{").end(),
        BadRequest,
        "`index.json` of the image makes no sense",
    );
    let index = r#"{"manifests":[{"digest":"sha512:ab"}]}"#;
    place.refuses(
        &one.clone().file("index.json", index).end(),
        Unsupported,
        "no sha256",
    );
    let index = r#"{"manifests":[],"layers":[],"config":{"digest":"x"}}"#;
    place.refuses(
        &one.clone().file("index.json", index).end(),
        BadRequest,
        "neither an index nor a manifest",
    );
    let index = format!("{{\"manifests\":[{}]}}", "[".repeat(100_000));
    place.refuses(
        &one.file("index.json", &index).end(),
        BadRequest,
        "makes no sense",
    );
    let newer = tar()
        .file("oci-layout", r#"{"imageLayoutVersion":"2.0.0"}"#)
        .end();
    place.refuses(&newer, Unsupported, "layout version `2.0.0`");
    let two = r#"[{"Config":"a","Layers":[]},{"Config":"b","Layers":[]}]"#;
    place.refuses(
        &tar().file("manifest.json", two).end(),
        BadRequest,
        "holds 2 images",
    );
    let lost = r#"[{"Config":"a.json","Layers":[]}]"#;
    place.refuses(
        &tar().file("manifest.json", lost).end(),
        BadRequest,
        "`a.json` of the image is not in the archive",
    );
    let tree = place.unpack(
        &tar()
            .file("manifest.json", r#"{"name":"a web page"}"#)
            .end(),
    );
    assert_eq!(tree.kind, Kind::Folder);
    let zstd = vec![0x28, 0xb5, 0x2f, 0xfd, 0, 0, 0];
    place.refuses(&oci(&[zstd], "{}"), Unsupported, "compressed with zstd");
    place.refuses(
        &oci(&[b"\x1f\x8bjunk".to_vec()], "{}"),
        BadRequest,
        "sha256:",
    );
    place.refuses(
        &oci(&[vec![b'x'; 600]], "{}"),
        BadRequest,
        "no header stands there",
    );
    place.refuses(
        &oci(&[], r#"{"Entrypoint":["a\u0000b"]}"#),
        BadRequest,
        "zero byte",
    );
    let many = vec![tar().end(); 257];
    place.refuses(&oci(&many, "{}"), BadRequest, "257 layers");
}

#[test]
fn a_layer_that_grows_is_bounded() {
    let place = Place::new();
    let bomb = gzip(&tar().blob("zeros", &vec![0; 70 << 20]).end());
    place.refuses(&oci(&[bomb], "{}"), TooLarge, "the limit, at `zeros`");
    let half = gzip(&tar().blob("zeros", &vec![0; 40 << 20]).end());
    place.refuses(
        &oci(&[half.clone(), half], "{}"),
        TooLarge,
        "the limit, at `zeros`",
    );
    // Nothing in it, and named over and over: hashing it takes time all the same.
    let mut long = tar().end();
    long.resize(1 << 20, 7);
    place.refuses(
        &oci(&vec![long; 65], "{}"),
        TooLarge,
        "the limit, at `sha256:",
    );
    // Nothing but padding, in a form where all of it is read for the digest.
    let padding = vec![0; 70 << 20];
    place.refuses(&docker(&[padding], "{}"), TooLarge, "the limit");
}

#[test]
fn an_entrypoint_for_another_machine_is_named() {
    let place = Place::new();
    let mut program = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0".to_vec();
    program.extend([if other() == "arm64" { 183 } else { 62 }, 0, 1, 0]);
    let layer = tar()
        .blob("usr/bin/app", &program)
        .symlink("bin", "/usr/bin")
        .symlink("usr/bin/link", "../../../bin/app")
        .file("usr/bin/script", "#!/bin/app -x\n")
        .end();
    for said in [
        r#"{"Entrypoint":["/usr/bin/app"]}"#,
        r#"{"Entrypoint":["/bin/link"]}"#,
        r#"{"Cmd":["app"],"Env":["PATH=/none:/bin"]}"#,
        r#"{"Cmd":["script"]}"#,
        r#"{"Cmd":["./app"],"WorkingDir":"/usr/bin"}"#,
    ] {
        place.refuses(
            &oci(std::slice::from_ref(&layer), said),
            BadRequest,
            "exec format error: `",
        );
    }
    place.unpack(&oci(&[layer], r#"{"Cmd":["/not/there"]}"#));
}

#[test]
fn a_layout_folder_is_packed_as_an_image() {
    let place = Place::new();
    let layers = [tar().file("a", "from a layout").end()];
    place.unpack(&tar().file("x", "").end());
    // What is an image in a tar is a folder once unpacked by hand, and an image again when packed.
    let source = tempfile::tempdir().unwrap();
    let mut archive = tar::Archive::new(std::io::Cursor::new(oci(&layers, "{}")));
    archive.unpack(source.path()).unwrap();
    let tree = place.unpack(&pack(source.path(), 1 << 20).unwrap());
    assert_eq!(tree.kind, Kind::Image);
    assert_eq!(place.text("a"), "from a layout");
}
