//! What results are stamped with of the program that was measured.

use std::fs::{self, OpenOptions};
use std::io::Write as _;

use crate::{Place, SERVER, SMALL, said};

#[test]
fn another_build_of_a_platform_is_not_mixed_with_the_first() {
    let place = Place::with(&SMALL.replace("SERVER", "./server"));
    let server = place.folder.path().join("server");
    fs::copy(SERVER, &server).unwrap();
    let output = place.run(&["--quick"]);
    assert!(output.status.success(), "{}", said(&output));
    let first = place.runs()[0]["environment"]["platform"].clone();
    assert_eq!(first["name"], "bare");
    let page = fs::read_to_string(place.out().join("report.html")).unwrap();
    let digest = first["program"].as_str().unwrap();
    assert!(page.contains(&digest[..12]) && !page.contains(digest));

    // As if it had been broken off after its first run.
    let runs = place.out().join("runs.jsonl");
    let text = fs::read_to_string(&runs).unwrap();
    let (line, _) = text.split_once('\n').unwrap();
    fs::write(&runs, format!("{line}\n")).unwrap();
    let mut changed = OpenOptions::new().append(true).open(&server).unwrap();
    changed.write_all(b"built again").unwrap();
    drop(changed);
    let output = place.run(&["--quick"]);
    let said = said(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("another build") && said.contains(digest) && said.contains("--out"),
        "{said}"
    );
    assert_eq!(place.runs().len(), 1);

    fs::copy(SERVER, &server).unwrap();
    assert!(place.run(&["--quick"]).status.success());
    assert_eq!(place.runs().len(), 2);
}
