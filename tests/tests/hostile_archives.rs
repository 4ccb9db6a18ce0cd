//! Archives that want out, that are larger than they look, or that are none: refused at deploy by
//! name and place, through the command line as through the admin API, and nothing of them is kept.

#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::path::Path;
use std::process::Command;

use mote_tests::node::Node;
use mote_tests::program::run;
use mote_tests::source::{Source, skipped};

/// One entry of an archive (POSIX ustar), with whatever its header claims.
#[derive(Clone, Copy)]
struct Entry<'a> {
    name: &'a str,
    kind: u8,
    link: &'a str,
    /// Bytes that the header says; the data may be shorter.
    size: u64,
    data: &'a [u8],
}

const FILE: Entry<'_> = Entry {
    name: "file",
    kind: b'0',
    link: "",
    size: 1,
    data: b"x",
};
const TEN_GB: u64 = 10_000_000_000;

impl Entry<'_> {
    fn header(&self) -> [u8; 512] {
        let mut header = [0_u8; 512];
        header[..self.name.len()].copy_from_slice(self.name.as_bytes());
        header[100..107].copy_from_slice(b"0000755");
        header[108..115].copy_from_slice(b"0000000");
        header[116..123].copy_from_slice(b"0000000");
        header[124..136].copy_from_slice(&number(self.size));
        header[136..147].copy_from_slice(b"00000000000");
        header[156] = self.kind;
        header[157..157 + self.link.len()].copy_from_slice(self.link.as_bytes());
        header[257..263].copy_from_slice(b"ustar\0");
        header[263..265].copy_from_slice(b"00");
        header
    }

    fn bytes(&self) -> Vec<u8> {
        whole(self.header(), self.data)
    }
}

/// A size as headers have it: octal, or where that has no room, in base 256 as GNU writes it.
fn number(size: u64) -> [u8; 12] {
    let mut field = [0; 12];
    if size < 1 << 33 {
        field[..11].copy_from_slice(format!("{size:011o}").as_bytes());
    } else {
        field[0] = 0x80;
        field[4..].copy_from_slice(&size.to_be_bytes());
    }
    field
}

/// A header with its sum, the data, and padding.
fn whole(mut header: [u8; 512], data: &[u8]) -> Vec<u8> {
    header[148..156].copy_from_slice(b"        ");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut bytes = header.to_vec();
    bytes.extend_from_slice(data);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

/// A GNU sparse file of 10 GB that is all hole.
fn sparse() -> Vec<u8> {
    let entry = Entry {
        kind: b'S',
        size: 0,
        data: b"",
        ..FILE
    };
    let mut header = entry.header();
    header[257..265].copy_from_slice(b"ustar  \0");
    // One piece without bytes, at the end.
    header[386..398].copy_from_slice(&number(TEN_GB));
    header[398..410].copy_from_slice(&number(0));
    header[483..495].copy_from_slice(&number(TEN_GB));
    whole(header, b"")
}

/// A file whose size only its pax header says.
fn pax(record: &str) -> Vec<u8> {
    let mut length = record.len() + 3;
    if length.to_string().len() + record.len() + 2 != length {
        length += 1;
    }
    let text = format!("{length} {record}\n");
    let extension = Entry {
        name: "pax",
        kind: b'x',
        size: text.len() as u64,
        data: text.as_bytes(),
        ..FILE
    };
    [extension.bytes(), FILE.bytes()].concat()
}

fn archive(entries: &[Vec<u8>]) -> Vec<u8> {
    let handler = Entry {
        name: "handler.py",
        data: b"\n",
        ..FILE
    };
    [handler.bytes(), entries.concat(), vec![0; 1024]].concat()
}

fn one(entry: Entry<'_>) -> Vec<u8> {
    archive(&[entry.bytes()])
}

fn gzip(bytes: &[u8]) -> Option<Vec<u8>> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plain");
    std::fs::write(&path, bytes).unwrap();
    let mut command = Command::new("gzip");
    command.arg(&path);
    let Ok(status) = command.status() else {
        skipped("there is no gzip to compress an archive with");
        return None;
    };
    assert!(status.success());
    Some(std::fs::read(folder.path().join("plain.gz")).unwrap())
}

#[track_caller]
fn is_empty(folder: &Path) {
    let names: Vec<_> = std::fs::read_dir(folder).unwrap().collect();
    assert!(names.is_empty(), "{names:?}");
}

/// Deploys an archive in both ways; it must be refused with this exit code and these words.
#[track_caller]
fn refused(node: &Node, what: &str, bytes: &[u8], (status, exit): (u16, i32), words: &[&str]) {
    let manifest = "runtime = \"process\"\nsource = \"code.tar\"";
    let source = Source::new()
        .file("code.tar", bytes)
        .manifest("a", manifest);
    let ended = node.try_deploy_source(&source);
    assert_eq!(ended.code, Some(exit), "{what}: {ended:?}");
    for word in words {
        assert!(
            ended.stderr.contains(word),
            "{what}: `{word}` is not in {ended:?}"
        );
    }
    let reply = node.try_deploy("a", bytes, &serde_json::json!({ "runtime": "process" }));
    assert_eq!(reply.status, status, "{what}: {}", reply.text());
    is_empty(&node.data_dir().join("trees"));
    assert!(node.functions().is_empty(), "{what}");
}

const BAD: (u16, i32) = (400, 2);
const LARGE: (u16, i32) = (413, 2);
const STRANGE: (u16, i32) = (415, 2);

#[test]
fn names_and_links_that_lead_out_are_refused() {
    let node = Node::start();
    let victim = tempfile::tempdir().unwrap();
    let away = victim.path().join("x").display().to_string();
    let kept = victim.path().join("kept");
    let file = |name| Entry { name, ..FILE };
    let link = |kind, name, link| Entry {
        name,
        kind,
        link,
        size: 0,
        data: b"",
    };
    let folder = victim.path().display().to_string();
    let cases = [
        ("up", one(file("../escaped")), "holds `..`"),
        ("up later", one(file("a/../../escaped")), "holds `..`"),
        ("absolute", one(file(&away)), "is absolute"),
        ("a link to all", one(link(b'2', "l", "/")), "leads out"),
        ("a link up", one(link(b'2', "l", "../../x")), "leads out"),
        ("a link of its own", one(link(b'2', "l", "")), "target"),
        (
            "a hard link up",
            one(link(b'1', "l", "../../token")),
            "holds `..`",
        ),
        (
            "a hard link away",
            one(link(b'1', "l", "/etc/passwd")),
            "is absolute",
        ),
        (
            "through a link",
            archive(&[link(b'2', "l", &folder).bytes(), file("l/kept").bytes()]),
            "leads out",
        ),
        (
            "through a link inside",
            archive(&[link(b'2', "l", ".").bytes(), file("l/x").bytes()]),
            "symlink",
        ),
        (
            "the top",
            one(Entry {
                name: "./",
                kind: b'2',
                link: "x",
                size: 0,
                data: b"",
            }),
            "top",
        ),
    ];
    std::fs::write(&kept, "as it was").unwrap();
    for (what, bytes, word) in cases {
        refused(&node, what, &bytes, BAD, &[word]);
    }
    let long = pax(&format!("path=../{}", "x".repeat(40)));
    refused(
        &node,
        "a long name up",
        &archive(&[long]),
        BAD,
        &["holds `..`"],
    );
    assert_eq!(std::fs::read_to_string(&kept).unwrap(), "as it was");
    assert_eq!(std::fs::read_dir(victim.path()).unwrap().count(), 1);
    assert!(!node.data_dir().join("escaped").exists());
    node.answers_hello();
}

#[test]
fn devices_and_pipes_are_refused() {
    let node = Node::start();
    for (kind, word) in [
        (b'3', "a character device"),
        (b'4', "a block device"),
        (b'6', "a pipe"),
        (b'Z', "unknown type"),
    ] {
        let entry = Entry {
            name: "sda",
            kind,
            link: "",
            size: 0,
            data: b"",
        };
        refused(&node, word, &one(entry), STRANGE, &[word, "sda"]);
    }
    node.answers_hello();
}

#[test]
fn ten_gigabytes_of_nothing_are_refused_before_they_are_written() {
    let node = Node::start();
    let claims = Entry {
        size: TEN_GB,
        ..FILE
    };
    let limit = "unpacks to more than";
    let mut cases = vec![
        ("a size", one(claims)),
        ("a sparse file", archive(&[sparse()])),
        ("a pax size", archive(&[pax(&format!("size={TEN_GB}"))])),
    ];
    let zipped: Vec<_> = cases
        .iter()
        .filter_map(|(_, bytes)| Some(("compressed", gzip(bytes)?)))
        .collect();
    cases.extend(zipped);
    for (what, bytes) in cases {
        refused(&node, what, &bytes, LARGE, &[limit, "file"]);
    }
    // Less than the limit each, and more together.
    let two = Entry {
        size: 3 << 30,
        ..FILE
    };
    let bytes = archive(&[two.bytes()]);
    refused(&node, "a size that is not there", &bytes, BAD, &["cut off"]);
    // Newer sparse files hide their length in a name; they are not unpacked as something else.
    let newer = archive(&[pax("GNU.sparse.realsize=10000000000")]);
    let reply = node.try_deploy("a", &newer, &serde_json::json!({ "runtime": "process" }));
    assert!(
        matches!(reply.status, 201 | 400 | 413 | 415),
        "{}",
        reply.text()
    );
    node.answers_hello();
}

#[test]
fn archives_that_are_cut_off_damaged_or_empty_are_refused() {
    let node = Node::start();
    let good = one(FILE);
    let half = Entry { size: 4096, ..FILE };
    let cut = half.bytes();
    let mut damaged = good.clone();
    damaged[1024] ^= 0x55;
    let cases: [(&str, &[u8], &str); 6] = [
        ("no byte", b"", "is empty"),
        ("only an end", &[0; 1024], "holds nothing"),
        ("in an entry", &cut, "cut off"),
        ("in a header", &good[..1024 + 100], "cut off"),
        ("a bit", &damaged, "damaged"),
        ("a text", &[b'a'; 2048], "no program, script, tar or image"),
    ];
    for (what, bytes, word) in cases {
        refused(&node, what, bytes, BAD, &[word]);
    }
    if let Some(zipped) = gzip(&good) {
        let cut = &zipped[..zipped.len() - 10];
        refused(&node, "in a compression", cut, BAD, &["gzip"]);
        refused(&node, "no compression", &zipped[..10], BAD, &["gzip"]);
    }
    for (what, bytes, word) in [
        ("zip", &b"PK\x03\x04 and more of it"[..], "a zip file"),
        ("zstd", b"\x28\xb5\x2f\xfd and more of it", "zstd"),
        ("xz", b"\xfd7zXZ and more of it", "xz"),
        ("exe", b"MZ and more of it", "Windows"),
    ] {
        refused(&node, what, bytes, STRANGE, &[word]);
    }
    node.answers_hello();
}

#[test]
fn folders_with_what_is_no_code_are_refused_before_they_are_sent() {
    let node = Node::start();
    let secret = tempfile::NamedTempFile::new().unwrap();
    let manifest = "runtime = \"process\"\nsource = \".\"";
    let folder = || {
        Source::new()
            .file("handler.py", "def fn(i, h): return i\n")
            .manifest("a", manifest)
    };
    let linked = folder();
    std::os::unix::fs::symlink(secret.path(), linked.path().join("config")).unwrap();
    node.try_deploy_source(&linked).failed(2, &["config"]);
    let piped = folder();
    let mut mkfifo = Command::new("mkfifo");
    mkfifo.arg(piped.path().join("pipe"));
    run(mkfifo, &[]).ok();
    node.try_deploy_source(&piped).failed(2, &["pipe"]);
    // The source itself is a link.
    let out = Source::new().manifest("a", "runtime = \"process\"\nsource = \"code\"");
    std::os::unix::fs::symlink("/etc", out.path().join("code")).unwrap();
    node.try_deploy_source(&out).failed(2, &["link out"]);
    assert!(node.functions().is_empty());
    is_empty(&node.data_dir().join("trees"));
    node.answers_hello();
}

#[test]
fn images_that_want_out_are_refused() {
    let node = Node::start();
    let entry = |name, data: &'static [u8]| Entry {
        name,
        size: data.len() as u64,
        data,
        ..FILE
    };
    let manifest = br#"[{"Config":"c.json","RepoTags":null,"Layers":["l.tar"]}]"#;
    let config = br#"{"architecture":"none","os":"linux","config":{"Cmd":["/x"]},"rootfs":{"type":"layers","diff_ids":[]}}"#;
    let image = |layer: &[u8]| {
        let layer = Entry {
            name: "l.tar",
            size: layer.len() as u64,
            data: layer,
            ..FILE
        };
        let parts = [
            entry("manifest.json", manifest).bytes(),
            entry("c.json", config).bytes(),
            layer.bytes(),
        ];
        [parts.concat(), vec![0; 1024]].concat()
    };
    // Of another machine, by what it says of itself.
    let foreign = image(&one(FILE));
    refused(&node, "foreign", &foreign, BAD, &["none"]);
    let nowhere = [
        entry(
            "manifest.json",
            br#"[{"Config":"../../c.json","Layers":["/etc/passwd"]}]"#,
        )
        .bytes(),
        vec![0; 1024],
    ]
    .concat();
    refused(&node, "parts elsewhere", &nowhere, BAD, &["c.json"]);
    let many = br#"[{"Config":"c.json","Layers":[]},{"Config":"c.json","Layers":[]}]"#;
    let many = [entry("manifest.json", many).bytes(), vec![0; 1024]].concat();
    refused(&node, "two", &many, BAD, &["holds 2 images"]);
    node.answers_hello();
}
