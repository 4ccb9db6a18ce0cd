//! Whatever entries come in whatever order, nothing outside of the tree changes.

use proptest::prelude::*;

use super::super::root::BY_HAND;
use super::fixture::{Place, Tar, docker, gzip, oci, small, snapshot, tar};
use tar::EntryType;

#[derive(Clone, Debug)]
enum Op {
    File(String, Vec<u8>),
    Folder(String),
    Symlink(String, String),
    HardLink(String, String),
    Pipe(String),
}

/// `VICTIM` stands for the absolute path of the victim.
fn name() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        8 => prop::sample::select(vec!["a", "b", "c"]),
        1 => prop::sample::select(vec!["..", ".", "", "victim", "keep", "deep", "VICTIM"]),
        1 => prop::sample::select(vec![".wh.a", ".wh.b", ".wh..wh..opq", ".wh.keep", ".wh..", ".wh..."]),
    ];
    prop::collection::vec(part, 1..4).prop_map(|parts| parts.join("/"))
}

fn target() -> impl Strategy<Value = String> {
    let out = vec![
        "/",
        "..",
        "../..",
        "../../victim",
        "../../../victim/keep",
        "VICTIM",
        "VICTIM/keep",
        "VICTIM/..",
    ];
    prop_oneof![3 => name(), 1 => prop::sample::select(out).prop_map(str::to_owned)]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => (name(), prop::collection::vec(any::<u8>(), 0..20)).prop_map(|(name, bytes)| Op::File(name, bytes)),
        2 => name().prop_map(Op::Folder),
        3 => (name(), target()).prop_map(|(name, target)| Op::Symlink(name, target)),
        2 => (name(), target()).prop_map(|(name, target)| Op::HardLink(name, target)),
        1 => name().prop_map(Op::Pipe),
    ]
}

fn archive(ops: &[Op], victim: &str) -> Tar {
    let at = |text: &str| text.replace("VICTIM", victim);
    ops.iter().fold(tar(), |tar, op| match op {
        Op::File(name, bytes) => tar.blob(&at(name), bytes),
        Op::Folder(name) => tar.folder(&at(name)),
        Op::Symlink(name, target) => tar.symlink(&at(name), &at(target)),
        Op::HardLink(name, target) => tar.hard_link(&at(name), &at(target)),
        Op::Pipe(name) => tar.add(EntryType::Fifo, &at(name), "", 0o644, b""),
    })
}

/// Unpacks with the kernel and by hand: the victim stays as it is, and both ways agree.
fn agree(place: &Place, artifact: &[u8]) -> Result<(), TestCaseError> {
    let mut seen = Vec::new();
    for by_hand in [false, true] {
        BY_HAND.set(by_hand);
        let got = place.try_unpack(artifact, &small());
        BY_HAND.set(false);
        seen.push(match got {
            Ok(tree) => Ok((tree, snapshot(&place.tree()))),
            Err(error) => Err((error.kind(), error.message().to_owned())),
        });
        super::super::remove(&place.tree()).unwrap();
    }
    prop_assert_eq!(&seen[0], &seen[1]);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn folders_change_nothing_outside(ops in prop::collection::vec(op(), 1..12)) {
        let place = Place::in_memory();
        let victim = place.victim().display().to_string();
        agree(&place, &archive(&ops, &victim).end())?;
    }

    #[test]
    fn layers_change_nothing_outside(layers in prop::collection::vec(prop::collection::vec(op(), 1..10), 1..4), form in 0..3) {
        let place = Place::in_memory();
        let victim = place.victim().display().to_string();
        let mut layers: Vec<Vec<u8>> = layers.iter().map(|ops| archive(ops, &victim).end()).collect();
        if form == 1 {
            layers = layers.iter().map(|layer| gzip(layer)).collect();
        }
        let artifact = if form == 2 { docker(&layers, "{}") } else { oci(&layers, "{}") };
        agree(&place, &artifact)?;
    }

    #[test]
    fn damage_changes_nothing_outside(ops in prop::collection::vec(op(), 1..6), hits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let place = Place::in_memory();
        let victim = place.victim().display().to_string();
        let mut artifact = oci(&[archive(&ops, &victim).end()], "{}");
        for (at, byte) in hits {
            let at = at.index(artifact.len());
            artifact[at] = byte;
        }
        agree(&place, &artifact)?;
    }
}
