//! Compiled images that this node did not make: those of another engine, and those that were changed
//! while it was down. None is loaded; the code is compiled again, and the function answers.

#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use mote_tests::eventually::eventually;
use mote_tests::guest;
use mote_tests::node::{Node, Up};
use serde_json::json;

/// A node that was stopped, in a folder that another engine has used before it.
struct Inherited {
    node: Node,
    /// The other engine's image of the function `f`.
    foreign: Vec<u8>,
    /// Where this engine's is, and what it is.
    path: PathBuf,
    own: Vec<u8>,
}

impl Inherited {
    /// With little address space there is another engine, with other code for the same function.
    #[track_caller]
    fn from_another_engine(folder: &Path) -> Self {
        let up = Up::new().data_dir(folder);
        let mut before = up.clone().address_space_kib(1 << 20).start();
        before.deploy("f", &guest::says("one"), &json!({}));
        assert_eq!(before.get("/f").expect(200).text(), "one");
        eventually("it says that it has little address space", || {
            before.log().contains("address space")
        });
        before.stop();
        let known = images(folder);
        let foreign = fs::read(known.first().unwrap()).unwrap();

        let mut node = up.start();
        assert_eq!(node.get("/f").expect(200).text(), "one");
        node.stop();
        let both = images(folder);
        let path = both.difference(&known).next();
        let path = path.expect("it was compiled again").clone();
        let own = fs::read(&path).unwrap();
        assert!(own != foreign, "it is the same engine");
        Self {
            node,
            foreign,
            path,
            own,
        }
    }

    /// Starts the node, calls the function, and stops the node.
    #[track_caller]
    fn answers(&mut self, what: &str) {
        self.node.restart();
        let reply = self.node.get("/f");
        let answer = (reply.status, reply.text());
        assert_eq!(answer, (200, "one".to_owned()), "{what}");
        self.node.stop();
    }

    /// Puts other bytes in the place of the image, and checks that they are not run: the function
    /// answers after a restart, and the image is again what it was.
    #[track_caller]
    fn is_made_again(&mut self, what: &str, bytes: &[u8]) {
        fs::write(&self.path, bytes).unwrap();
        self.answers(what);
        assert!(fs::read(&self.path).unwrap() == self.own, "{what}");
    }
}

fn images(folder: &Path) -> BTreeSet<PathBuf> {
    let entries = fs::read_dir(folder.join("images")).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn what_another_engine_compiled_is_compiled_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut inherited = Inherited::from_another_engine(folder.path());
    // The new image is written down: next time nothing is compiled.
    let made = |path: &Path| fs::metadata(path).unwrap().modified().unwrap();
    let before = made(&inherited.path);
    inherited.answers("a second start");
    assert_eq!(made(&inherited.path), before);

    let (own, mut foreign) = (inherited.own.clone(), inherited.foreign.clone());
    foreign.resize(own.len() + 1, 0);
    inherited.is_made_again("of the other engine", &foreign);
    inherited.is_made_again("cut short", &own[..own.len() - 1]);
    inherited.is_made_again("empty", b"");
    fs::remove_file(&inherited.path).unwrap();
    inherited.answers("gone");
}

#[test]
fn an_image_of_the_right_length_and_other_bytes_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut inherited = Inherited::from_another_engine(folder.path());
    let mut changed = inherited.own.clone();
    let middle = changed.len() / 2;
    changed[middle] ^= 0xff;
    inherited.is_made_again("changed", &changed);
    let mut foreign = inherited.foreign.clone();
    foreign.resize(inherited.own.len(), 0);
    inherited.is_made_again("of the other engine", &foreign);
}
