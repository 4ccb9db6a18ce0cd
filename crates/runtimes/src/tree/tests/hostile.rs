//! Archives that want out.

use std::fs;
use std::os::fd::AsFd as _;

use mote_core::error::ErrorKind::{BadRequest, Unsupported};
use tar::EntryType;

use super::super::root::BY_HAND;
use super::super::{Kind, remove};
use super::fixture::{Place, Tar, oci, tar};

/// Runs a test with parents resolved by the kernel and by hand.
fn both(test: impl Fn(&Place)) {
    for by_hand in [false, true] {
        BY_HAND.set(by_hand);
        test(&Place::new());
    }
    BY_HAND.set(false);
}

#[test]
fn names_that_lead_out_are_refused() {
    both(|place| {
        let absolute = place.victim().join("keep").display().to_string();
        for (name, says) in [
            ("../../victim/keep", "holds `..`"),
            ("a/../../../victim/keep", "holds `..`"),
            ("..", "holds `..`"),
            (absolute.as_str(), "is absolute"),
            ("", "empty name"),
        ] {
            let entries: [&dyn Fn(Tar) -> Tar; 4] = [
                &|tar| tar.file(name, "changed"),
                &|tar| tar.folder(name),
                &|tar| tar.symlink(name, "x"),
                &|tar| tar.file("a", "").hard_link(name, "a"),
            ];
            for add in entries {
                let layer = add(tar().file("first", "1"));
                place.refuses(&layer.clone().end(), BadRequest, says);
                place.refuses(&oci(&[layer.end()], "{}"), BadRequest, says);
            }
        }
    });
}

#[test]
fn nothing_is_written_through_a_symlink() {
    both(|place| {
        let absolute = place.victim().display().to_string();
        for target in [
            "../../victim",
            "../../../../../../../../../..",
            "/",
            absolute.as_str(),
        ] {
            let below = format!(
                "{}/keep",
                if target.ends_with("..") {
                    &absolute
                } else {
                    ""
                }
            );
            let archive = tar()
                .symlink("l", target)
                .file(&format!("l{below}"), "changed")
                .end();
            place.refuses(&archive, BadRequest, "leads out of the folder");
            // In an image it means a place inside.
            place.unpack(&oci(&[archive], "{}"));
        }
        let inside = tar()
            .folder("d")
            .symlink("l", "d")
            .file("l/f", "through")
            .end();
        place.refuses(&inside, BadRequest, "a symlink that is not followed");
        // The last component is replaced and not followed, whatever it leads to.
        let keep = format!("{absolute}/keep");
        let layer = tar()
            .symlink("l", &keep)
            .file("l", "mine")
            .symlink("m", &keep)
            .folder("m")
            .end();
        place.unpack(&oci(&[layer], "{}"));
        assert_eq!(place.text("l"), "mine");
        assert!(fs::symlink_metadata(place.at("m")).unwrap().is_dir());
    });
}

#[test]
fn a_way_over_two_links_leads_nowhere_either() {
    both(|place| {
        // `d/l/..` is the top, by its name alone it would be `d`.
        let archive = tar()
            .folder("d")
            .symlink("d/l", ".")
            .symlink("d/x", "l/../../victim")
            .end();
        place.refuses(&archive, BadRequest, "`d/x` leads out of the folder");
        let layer = tar()
            .folder("d")
            .symlink("d/l", ".")
            .symlink("d/x", "l/../../../victim")
            .file("d/x/keep", "changed")
            .end();
        place.unpack(&oci(&[layer], "{}"));
        assert_eq!(place.text("victim/keep"), "changed", "inside of the tree");
        let looping = tar()
            .symlink("a", "b")
            .symlink("b", "a")
            .file("a/f", "")
            .end();
        place.refuses(
            &oci(&[looping], "{}"),
            BadRequest,
            "a symlink that is not followed",
        );
        let below_file = tar().file("f", "").file("f/g", "").end();
        place.refuses(
            &oci(&[below_file], "{}"),
            BadRequest,
            "below something that is no folder",
        );
    });
}

#[test]
fn hard_links_lead_to_files_of_the_tree_alone() {
    both(|place| {
        let keep = place.victim().join("keep").display().to_string();
        for (target, says) in [
            ("../../victim/keep", "holds `..`"),
            (keep.as_str(), "is absolute"),
            ("later", "no file of the archive before it"),
            ("d", "no file of the archive before it"),
            (".", "no file of the archive before it"),
            ("", "empty name"),
        ] {
            let archive = tar()
                .folder("d")
                .hard_link("x", target)
                .file("later", "")
                .end();
            place.refuses(&archive, BadRequest, says);
            place.refuses(&oci(&[archive], "{}"), BadRequest, says);
        }
        // A link to a link would be a name for whatever that leads to.
        let layer = tar().symlink("l", &keep).hard_link("x", "l").end();
        place.refuses(
            &oci(&[layer], "{}"),
            BadRequest,
            "no file of the archive before it",
        );
        let layer = tar()
            .symlink("v", "../../victim")
            .hard_link("x", "v/keep")
            .end();
        place.refuses(
            &oci(&[layer], "{}"),
            BadRequest,
            "no file of the archive before it",
        );
        let replaced = tar().file("d/f", "").hard_link("d", "d/f").end();
        place.refuses(&replaced, BadRequest, "no file of the archive before it");
        // A file that has a second name is replaced and not written to.
        let layers = [
            tar().file("a", "old").hard_link("b", "a").end(),
            tar().file("b", "new").end(),
        ];
        place.unpack(&oci(&layers, "{}"));
        assert_eq!(
            (place.text("a"), place.text("b")),
            ("old".to_owned(), "new".to_owned())
        );
    });
}

#[test]
fn devices_and_pipes_are_never_made() {
    let place = Place::new();
    for (kind, says) in [
        (EntryType::Char, "`dev/x` is a character device"),
        (EntryType::Block, "`dev/x` is a block device"),
        (EntryType::Fifo, "`dev/x` is a pipe"),
    ] {
        let archive = tar().file("a", "").add(kind, "dev/x", "", 0o666, b"").end();
        place.refuses(&archive, Unsupported, says);
        let tree = place.unpack(&oci(&[archive], "{}"));
        assert_eq!((tree.kind, tree.skipped), (Kind::Image, 1));
        assert!(!place.at("dev/x").exists());
    }
    let odd = tar().add(EntryType::new(b'M'), "x", "", 0o644, b"").end();
    place.refuses(&odd, Unsupported, "unknown type 'M'");
}

#[test]
fn whiteouts_reach_nothing_outside() {
    both(|place| {
        let absolute = place.victim().display().to_string();
        for target in ["../../victim", absolute.as_str()] {
            for name in [".wh.keep", ".wh..wh..opq", ".wh.deep"] {
                let layers = [
                    tar().symlink("l", target).file("keep", "").end(),
                    tar().file(&format!("l/{name}"), "").end(),
                ];
                place.unpack(&oci(&layers, "{}"));
                assert!(place.at("keep").exists());
                let hidden = [layers[0].clone(), tar().file(".wh.l", "").end()];
                place.unpack(&oci(&hidden, "{}"));
                assert!(fs::symlink_metadata(place.at("l")).is_err());
            }
        }
        for name in [".wh.", ".wh..", ".wh...", "a/.wh..."] {
            let layers = [tar().folder("a").end(), tar().file(name, "").end()];
            place.refuses(&oci(&layers, "{}"), BadRequest, "hides nothing");
        }
    });
}

#[test]
fn a_tree_deeper_than_there_are_descriptors_is_removed() {
    let place = Place::new();
    place.unpack(&tar().file("a", "").symlink("b", "a").end());
    std::os::unix::fs::symlink(place.victim(), place.at("victim")).unwrap();
    let mut folder = std::os::fd::OwnedFd::from(fs::File::open(place.tree()).unwrap());
    for _ in 0..5000 {
        let mode = rustix::fs::Mode::from_raw_mode(0o755);
        for name in ["d", ".1"] {
            rustix::fs::mkdirat(&folder, name, mode).unwrap();
        }
        rustix::fs::symlinkat("/", &folder, "l").unwrap();
        folder = super::super::removal::open(folder.as_fd(), b"d").unwrap();
    }
    remove(&place.tree()).unwrap();
    place.check(false);
}

#[test]
fn links_that_nest_a_tree_end() {
    both(|place| {
        // Each link leads to the end of the one before, so real folders get deeper than any name.
        let mut layer = tar();
        let mut at = String::new();
        for link in 0..12 {
            layer = layer.folder(&format!("{at}{}", "d/".repeat(60)));
            layer = layer.symlink(&format!("l{link}"), &format!("{at}{}", "d/".repeat(60)));
            at = format!("l{link}/");
        }
        let layers = [
            layer.file(&format!("{at}f"), "").end(),
            tar().file(".wh..wh..opq", "").end(),
        ];
        let error = place.try_unpack(&oci(&layers, "{}"), &super::fixture::small());
        assert!(error.unwrap_err().message().contains("too long"));
    });
}
