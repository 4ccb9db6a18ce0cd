//! What runs are stamped with: on the page, in the table, and where two reports differ.

use mote_bench::environment::{Platform, System};
use mote_bench::report::Material;
use mote_bench::report::comparison::compare;

use crate::html::{all, page, parsed, text};
use crate::{example, written};

/// Runs of a node on another system, across a relay.
fn elsewhere(program: &str) -> Material {
    let mut material = example::material();
    for run in &mut material.runs {
        run.environment.network = Some("relay".to_owned());
        run.environment.platform = Some(Platform {
            name: "node".to_owned(),
            program: Some(program.repeat(8)),
            system: Some(System {
                kernel: "6.1.0-rpi".to_owned(),
                cpu: "Cortex-A72".to_owned(),
                cores: 4,
                load_average: 1.5,
            }),
        });
    }
    material
}

#[test]
fn the_platforms_machine_and_program_and_the_network_are_told() {
    let material = elsewhere("0123abcd");
    let page = page(&material);
    let document = parsed(&page);
    let [terms, values] = ["dt", "dd"].map(|name| {
        all(&document, name)
            .into_iter()
            .map(text)
            .collect::<Vec<_>>()
    });
    let told = |term: &str| {
        let at = terms.iter().position(|one| one == term);
        values[at.unwrap_or_else(|| panic!("no {term} in {terms:?}"))].as_str()
    };
    assert_eq!(told("Machine of the platform"), "Cortex-A72, 4 cores");
    assert_eq!(told("Its software"), "Linux 6.1.0-rpi");
    assert_eq!(told("Emulated network"), "relay");
    assert_eq!(told("Program of node"), "BLAKE3 0123abcd0123");
    let (runs, _, json) = written(&material);
    let line = runs.lines().nth(1).unwrap();
    let program = "0123abcd".repeat(8);
    let stamps = format!(",relay,node,{program},6.1.0-rpi,Cortex-A72,4,1.5");
    assert!(line.ends_with(&stamps), "{line}");
    let platform = &json["environments"][0]["platform"];
    assert_eq!(platform["system"]["cores"], 4);
}

#[test]
fn another_program_network_or_machine_is_a_difference() {
    let here = example::material();
    let there = elsewhere("0123abcd");
    let what = |a: &Material, b: &Material| -> Vec<String> {
        let differences = compare(a, b).differences.into_iter();
        differences
            .map(|one| format!("{}: {}", one.what, one.b))
            .collect()
    };
    let all = [
        "network: relay",
        "machine of the platform: Cortex-A72, Linux 6.1.0-rpi",
        "programs: node 0123abcd0123",
    ];
    assert_eq!(what(&here, &there), all);
    assert_eq!(
        what(&there, &elsewhere("4567abcd")),
        ["programs: node 4567abcd4567"]
    );
    assert!(what(&there, &there.clone()).is_empty());
}
