//! Programs and folders of source code.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use mote_core::error::ErrorKind::{BadRequest, StorageFull, Timeout, TooLarge, Unsupported};
use tar::{EntryType, Header};

use super::super::{Kind, Limits, known, pack, remove, unpack};
use super::fixture::{Place, gzip, small, snapshot, tar};

#[test]
fn a_program_is_one_file() {
    let place = Place::new();
    let me = fs::read(std::env::current_exe().unwrap()).unwrap();
    let limits = Limits::default();
    let tree = place.try_unpack(&me, &limits).unwrap();
    assert_eq!(tree.kind, Kind::Program);
    assert!(tree.needs.unwrap().runs_here());
    assert_eq!(tree.bytes, me.len() as u64);
    let program = place.at("program");
    assert_eq!(
        fs::metadata(&program).unwrap().permissions().mode() & 0o7777,
        0o755
    );
    let listed = Command::new(&program)
        .args(["--list", "a_program_is_one"])
        .output()
        .unwrap();
    assert!(
        String::from_utf8(listed.stdout)
            .unwrap()
            .contains("a_program_is_one_file")
    );

    let tree = place.unpack(b"#!/bin/sh\necho hello $1\n");
    assert_eq!((tree.kind, tree.needs), (Kind::Program, None));
    let said = Command::new(&program).arg("you").output().unwrap();
    assert_eq!(said.stdout, b"hello you\n");
}

#[test]
fn what_is_no_artifact_is_named() {
    let place = Place::new();
    place.refuses(b"", BadRequest, "is empty");
    place.refuses(b"\0asm\x01\0\0\0", BadRequest, "WebAssembly");
    place.refuses(b"PK\x03\x04rest", Unsupported, "a zip file");
    place.refuses(b"\x28\xb5\x2f\xfdrest", Unsupported, "zstd");
    place.refuses(b"just text", BadRequest, "no program, script, tar or image");
    place.refuses(
        &[b'x'; 4096],
        BadRequest,
        "no program, script, tar or image",
    );
    place.refuses(&[0; 1024], BadRequest, "holds nothing");
    place.refuses(b"\x1f\x8b\x08\0", BadRequest, "no whole gzip file");
    place.refuses(
        &gzip(b"just text"),
        BadRequest,
        "no program, script, tar or image",
    );
    let mut other = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0".to_vec();
    other.extend([
        if cfg!(target_arch = "aarch64") {
            62
        } else {
            183
        },
        0,
        1,
        0,
    ]);
    place.refuses(
        &other,
        BadRequest,
        "exec format error: `the program` is for",
    );
    let mut object = fs::read(std::env::current_exe().unwrap()).unwrap();
    object.truncate(64);
    object[16] = 1;
    place.refuses(&object, BadRequest, "and no program");
    place.refuses(b"\x7fELF", BadRequest, "and no program");
}

#[test]
fn a_folder_keeps_files_modes_times_and_links() {
    let place = Place::new();
    let long = format!("{}/{}", "d".repeat(90), "f".repeat(150));
    let archive = tar()
        .folder("./")
        .file("./handler.py", "print(1)")
        .add(EntryType::Regular, "bin/run", "", 0o6777, b"#!/bin/sh\n")
        .file(&long, "long")
        .symlink("bin/again", "../handler.py")
        .hard_link("same.py", "./handler.py")
        .end();
    for artifact in [archive.clone(), gzip(&archive)] {
        let tree = place.unpack(&artifact);
        assert_eq!((tree.kind, tree.bytes), (Kind::Folder, 8 + 10 + 4));
        assert_eq!(place.text("bin/again"), "print(1)");
        assert_eq!(place.text(&long), "long");
        let run = fs::metadata(place.at("bin/run")).unwrap();
        assert_eq!(
            run.permissions().mode() & 0o7777,
            0o755,
            "without setuid and setgid"
        );
        assert_eq!(run.mtime(), 1_000_000_000);
        let (one, other) = (place.at("same.py"), place.at("handler.py"));
        assert_eq!(
            fs::metadata(one).unwrap().ino(),
            fs::metadata(other).unwrap().ino()
        );
        assert_eq!(
            fs::metadata(place.tree()).unwrap().permissions().mode() & 0o7777,
            0o755
        );
        assert_eq!(known(&place.tree()), Some(tree));
    }
}

#[test]
fn pax_names_and_sizes_are_read() {
    let record = |text: &str| {
        let mut length = text.len() + 3;
        length = text.len() + 2 + length.to_string().len();
        format!("{length} {text}\n")
    };
    let name = format!("{}/new\nline", "p".repeat(120));
    let text = record(&format!("path={name}")) + &record("size=5") + &record("mtime=7.25");
    let archive = tar()
        .add(
            EntryType::XGlobalHeader,
            "g",
            "",
            0o644,
            record("comment=abc").as_bytes(),
        )
        .add(EntryType::XHeader, "x", "", 0o644, text.as_bytes())
        .file("short", "hello")
        .end();
    let place = Place::new();
    place.unpack(&archive);
    assert_eq!(place.text(&name), "hello");
    assert_eq!(fs::metadata(place.at(&name)).unwrap().mtime(), 7);

    for wrong in ["", "5 a=\n", "9999 a=b\n", "x a=b\n", "7 a=bcd\n"] {
        let archive = tar()
            .add(EntryType::XHeader, "x", "", 0o644, wrong.as_bytes())
            .file("a", "")
            .end();
        match wrong {
            "" | "5 a=\n" => drop(place.unpack(&archive)),
            _ => place.refuses(&archive, BadRequest, "pax header makes no sense"),
        }
    }
    let zero = record("path=a\0b");
    let archive = tar()
        .add(EntryType::XHeader, "x", "", 0o644, zero.as_bytes())
        .file("a", "")
        .end();
    place.refuses(&archive, BadRequest, "zero byte");
    let sparse = record("GNU.sparse.major=1");
    let archive = tar()
        .add(EntryType::XHeader, "x", "", 0o644, sparse.as_bytes())
        .file("a", "")
        .end();
    place.refuses(&archive, Unsupported, "sparse");
}

#[test]
fn the_archives_of_gnu_tar_are_read() {
    if Command::new("tar").arg("--version").output().is_err() {
        eprintln!("skipped: no tar on this machine");
        return;
    }
    let source = tempfile::tempdir().unwrap();
    let holes = fs::File::create(source.path().join("holes")).unwrap();
    for at in 0..40_u64 {
        std::os::unix::fs::FileExt::write_all_at(&holes, b"here", at << 20).unwrap();
    }
    holes.set_len((40 << 20) + 17).unwrap();
    let long = format!("{}/{}/c", "a".repeat(90), "b".repeat(60));
    fs::create_dir_all(source.path().join(&long).parent().unwrap()).unwrap();
    fs::write(source.path().join(&long), "c").unwrap();
    fs::hard_link(source.path().join("holes"), source.path().join("more")).unwrap();
    std::os::unix::fs::symlink("b/".repeat(60) + "c", source.path().join("link")).unwrap();
    let place = Place::new();
    for form in ["gnu", "posix", "ustar", "oldgnu"] {
        let mut command = Command::new("tar");
        command
            .arg("-C")
            .arg(source.path())
            .arg(format!("--format={form}"))
            .args(["-cf", "-"]);
        if form.ends_with("gnu") {
            command.arg("--sparse");
        }
        if form == "ustar" {
            command.arg("--exclude=link");
        }
        let archive = command.arg(".").output().unwrap().stdout;
        place.unpack(&archive);
        for name in ["holes", "more"] {
            let same =
                fs::read(place.at(name)).unwrap() == fs::read(source.path().join(name)).unwrap();
            assert!(same, "{name} in form {form}");
        }
        assert_eq!(place.text(&long), "c");
        if form.ends_with("gnu") {
            let blocks = fs::metadata(place.at("holes")).unwrap().blocks();
            assert!(blocks < 1000, "the holes stay holes, of {blocks} blocks");
        }
    }
}

#[test]
fn maps_of_holes_that_make_no_sense_are_told() {
    let place = Place::new();
    let build = |pieces: &[(u64, u64)], length: u64, bytes: &[u8]| {
        let mut header = Header::new_gnu();
        header.set_path("holes").unwrap();
        header.set_mode(0o644);
        header.set_entry_type(EntryType::GNUSparse);
        header.set_size(bytes.len() as u64);
        let gnu = header.as_gnu_mut().unwrap();
        gnu.set_real_size(length);
        for (place, (offset, bytes)) in gnu.sparse.iter_mut().zip(pieces) {
            place.set_offset(*offset);
            place.set_length(*bytes);
        }
        tar().raw(&mut header, bytes).end()
    };
    place.unpack(&build(&[(2, 3), (8, 1)], 10, b"abcd"));
    assert_eq!(place.text("holes"), "\0\0abc\0\0\0d\0");
    for (pieces, length) in [
        (&[(2, 3)][..], 10),
        (&[(2, 3), (8, 2)], 10),
        (&[(2, 3), (10, 1)], 10),
        (&[(8, 1), (2, 3)], 10),
        (&[(2, 3), (4, 1)], 10),
        (&[(u64::MAX >> 1, 3), (8, 1)], 10),
    ] {
        place.refuses(&build(pieces, length, b"abcd"), BadRequest, "map of holes");
    }
}

#[test]
fn a_folder_survives_packing() {
    let source = tempfile::tempdir().unwrap();
    let at = |name: &str| source.path().join(name);
    fs::create_dir_all(at("lib/empty")).unwrap();
    fs::create_dir(at(".git")).unwrap();
    fs::write(at(".git/config"), "history").unwrap();
    fs::write(at(".npmrc"), "keys").unwrap();
    fs::write(at("lib/z.py"), "z").unwrap();
    fs::write(at("handler.py"), "import lib").unwrap();
    fs::write(at(&"n".repeat(200)), "long").unwrap();
    fs::write(at("run"), "#!/bin/sh").unwrap();
    fs::set_permissions(at("run"), fs::Permissions::from_mode(0o700)).unwrap();
    std::os::unix::fs::symlink("../handler.py", at("lib/up")).unwrap();
    std::os::unix::fs::symlink(format!("./{}", "n".repeat(200)), at("far")).unwrap();
    let packed = pack(source.path(), 1 << 20).unwrap();
    assert_eq!(
        pack(source.path(), 1 << 20).unwrap(),
        packed,
        "the same bytes each time"
    );
    let mut archive = tar::Archive::new(packed.as_slice());
    let paths = archive
        .entries()
        .unwrap()
        .map(|entry| entry.unwrap().path().unwrap().into_owned());
    let paths: Vec<_> = paths.collect();
    assert!(paths.is_sorted(), "{paths:?}");
    let place = Place::new();
    assert_eq!(place.unpack(&packed).kind, Kind::Folder);
    fs::set_permissions(at("run"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(source.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::remove_dir_all(at(".git")).unwrap();
    fs::remove_file(at(".npmrc")).unwrap();
    assert_eq!(snapshot(&place.tree()), snapshot(source.path()));
}

#[test]
fn packing_is_bounded_and_refuses_what_leads_out() {
    #[track_caller]
    fn check(folder: &Path, bytes_max: u64, says: &str) {
        let error = pack(folder, bytes_max).unwrap_err();
        assert!(error.message().contains(says), "{error}");
    }
    let source = tempfile::tempdir().unwrap();
    check(source.path(), 1 << 20, "is empty");
    fs::write(source.path().join("a"), vec![0; 100_000]).unwrap();
    check(source.path(), 50_000, "more than 50000 bytes");
    check(source.path(), 100_100, "more than 100100 bytes");
    check(&source.path().join("a"), 1 << 20, "is no folder");
    for target in ["/tmp", "..", "x/../../a", "x/.."] {
        std::os::unix::fs::symlink(target, source.path().join("link")).unwrap();
        check(source.path(), 1 << 20, "leads out of the folder");
        fs::remove_file(source.path().join("link")).unwrap();
    }
    let _socket = std::os::unix::net::UnixListener::bind(source.path().join("socket")).unwrap();
    check(source.path(), 1 << 20, "a socket");
}

#[test]
fn later_entries_replace_earlier_ones() {
    let place = Place::new();
    let archive = tar()
        .file("a", "one")
        .file("a", "two")
        .file("b/c/d", "below")
        .file("b", "a file now")
        .file("e", "a file")
        .folder("e")
        .file("e/f", "a folder now")
        .file("g/h", "kept")
        .folder("g")
        .hard_link("a", "a")
        .symlink("l", "a")
        .file("l", "no link now")
        .end();
    place.unpack(&archive);
    assert_eq!(place.text("a"), "two");
    assert_eq!(place.text("b"), "a file now");
    assert_eq!(place.text("e/f"), "a folder now");
    assert_eq!(place.text("g/h"), "kept");
    assert_eq!(place.text("l"), "no link now");
}

#[test]
fn a_tree_is_known_until_it_is_removed() {
    let place = Place::new();
    assert_eq!(known(&place.tree()), None);
    remove(&place.tree()).unwrap();
    fs::create_dir(place.tree().with_extension("partial")).unwrap();
    fs::write(place.tree().with_extension("partial").join("left"), "").unwrap();
    let tree = place.unpack(&tar().file("one", "1").end());
    assert_eq!(known(&place.tree()), Some(tree));
    place.unpack(&tar().file("two", "2").end());
    assert!(
        !place.at("one").exists(),
        "it takes the place of the old one"
    );
    let record = place.tree().with_extension("json");
    fs::write(
        &record,
        fs::read_to_string(&record)
            .unwrap()
            .replace("\"version\":1", "\"version\":2"),
    )
    .unwrap();
    assert_eq!(known(&place.tree()), None);
    remove(&place.tree()).unwrap();
    place.check(false);
}

#[test]
fn the_limits_hold() {
    let place = Place::new();
    let mut archive = tar();
    for at in 0..2001 {
        archive = archive.file(&format!("f{at}"), "");
    }
    place.refuses(&archive.end(), TooLarge, "more than 2000 entries");
    let mut folders = tar();
    for at in 0..200 {
        folders = folders.file(&format!("{at}/b/c/d/e/f/g/h/i/j/k/f"), "");
    }
    place.refuses(&folders.end(), TooLarge, "more than 2000 entries");
    let deep = "d/".repeat(129) + "f";
    place.refuses(&tar().file(&deep, "").end(), BadRequest, "components");
    let long = ("d".repeat(200) + "/").repeat(6);
    place.refuses(
        &tar().file(&long, "").end(),
        BadRequest,
        "longer than 1024 bytes",
    );
    place.refuses(
        &tar().file(&"n".repeat(300), "").end(),
        BadRequest,
        "too long",
    );
    place.refuses(
        &tar().symlink("l", &"t".repeat(1100)).end(),
        BadRequest,
        "has a target",
    );
    place.refuses(
        &tar().file(&"n/".repeat(900), "").end(),
        BadRequest,
        "over the 1536 bytes",
    );

    let mut header = Header::new_gnu();
    header.set_path("zeros").unwrap();
    header.set_size(10 << 30);
    let declared = tar().raw(&mut header.clone(), b"").end();
    place.refuses(
        &declared,
        TooLarge,
        "more than 67108864 bytes, the limit, at `zeros`",
    );
    header.set_entry_type(EntryType::GNUSparse);
    header.set_size(0);
    header.as_gnu_mut().unwrap().set_real_size(10 << 30);
    place.refuses(
        &tar().raw(&mut header, b"").end(),
        TooLarge,
        "67108864 bytes, the limit, at `zeros`",
    );
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::XHeader);
    header.set_size(1 << 30);
    place.refuses(
        &tar().raw(&mut header, b"").end(),
        BadRequest,
        "extension header of 1073741824 bytes",
    );
    let halves = tar()
        .blob("a", &vec![0; 40 << 20])
        .blob("b", &vec![0; 40 << 20])
        .end();
    place.refuses(&halves, TooLarge, "the limit, at `b`");
    place.refuses(&gzip(&halves), TooLarge, "67108864 bytes, the limit");
    place.refuses(
        &gzip(&vec![0; 80 << 20]),
        TooLarge,
        "67108864 bytes, the limit",
    );
}

#[test]
fn unpacking_ends_in_time() {
    let limits = Limits {
        time_max: Duration::ZERO,
        ..small()
    };
    let error = Place::new()
        .try_unpack(&tar().file("a", "").end(), &limits)
        .unwrap_err();
    assert_eq!(error.kind(), Timeout, "{error}");
}

#[test]
fn an_archive_that_is_cut_off_is_told_where() {
    let place = Place::new();
    let archive = tar()
        .folder("d")
        .file("d/a", "hello")
        .file("b", &"x".repeat(700))
        .end();
    let end = archive.len() - 1024;
    let limits = small();
    for cut in 1..end {
        let error = place.try_unpack(&archive[..cut], &limits).unwrap_err();
        if cut >= 512 {
            assert!(
                error.message().contains("cut off at offset"),
                "{cut}: {error}"
            );
        }
    }
    place.unpack(&archive[..end + 512]);
    let zipped = gzip(&archive);
    for cut in 2..zipped.len() {
        place.refuses(&zipped[..cut], BadRequest, "no whole gzip file");
    }
    let mut damaged = archive;
    damaged[512 + 3] ^= 1;
    place.refuses(&damaged, BadRequest, "damaged at offset 512");
}

#[test]
fn a_full_disk_is_told() {
    const INSIDE: &str = "MOTE_TEST_SMALL_DISK";
    if let Ok(disk) = std::env::var(INSIDE) {
        // In a mount namespace of its own, on a disk of one megabyte.
        let artifact = Path::new(&disk).join("artifact");
        fs::write(&artifact, gzip(&tar().blob("big", &vec![1; 3 << 20]).end())).unwrap();
        let into = Path::new(&disk).join("x");
        let error = unpack(&artifact, &into, &small()).unwrap_err();
        assert_eq!(error.kind(), StorageFull, "{error}");
        let mut many = tar();
        for at in 0..16 {
            many = many.blob(&format!("f{at}"), &vec![1; 40 << 10]);
        }
        fs::write(&artifact, many.end()).unwrap();
        let error = unpack(&artifact, &into, &small()).unwrap_err();
        assert_eq!(error.kind(), StorageFull, "{error}");
        assert!(error.message().contains("write `f"), "{error}");
        fs::remove_file(&artifact).unwrap();
        assert_eq!(fs::read_dir(&disk).unwrap().count(), 0, "nothing is left");
        println!("checked on a small disk");
        return;
    }
    let disk = tempfile::tempdir().unwrap();
    let script = "mount -t tmpfs -o size=1m none \"$0\" && exec \"$1\" --exact --nocapture \"$2\"";
    let name = std::thread::current().name().unwrap().to_owned();
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", script])
        .arg(disk.path())
        .arg(std::env::current_exe().unwrap())
        .arg(name)
        .env(INSIDE, disk.path())
        .output();
    let Ok(output) = output else {
        eprintln!("skipped: no unshare on this machine");
        return;
    };
    let said = String::from_utf8_lossy(&output.stdout);
    if said.is_empty() && !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        eprintln!("skipped: no mount namespace here: {}", why.trim());
        return;
    }
    assert!(
        output.status.success() && said.contains("checked on a small disk"),
        "{said}"
    );
}
