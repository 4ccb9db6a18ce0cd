//! Instances that a test observed, in figures.

use mote_bench::results::{Figure, Kind, Metric};

use crate::example;
use crate::html::{all, figure, page, parsed, text};

#[test]
fn instances_are_a_metric_of_figures() {
    let mut material = example::material();
    material.runs.retain(|run| run.test == "overhead");
    for (number, run) in (1..).zip(&mut material.runs) {
        let measured = run.measured.as_mut();
        let Some(measured) = measured else { continue };
        measured.values = [
            ("instances_max".to_owned(), 7.0),
            ("instances_mean".to_owned(), 4.0 + f64::from(number % 2)),
        ]
        .into();
    }
    let of = |kind, y| Figure {
        y,
        ..figure(kind, None, Some("system"), &["network"])
    };
    material.figures = vec![
        of(Kind::Table, Metric::InstancesMax),
        of(Kind::Lines, Metric::InstancesMean),
    ];
    let page = page(&material);
    let document = parsed(&page);
    let cells: Vec<String> = all(&document, "td").into_iter().map(text).collect();
    assert!(cells.iter().any(|cell| cell == "7"), "{cells:?}");
    assert!(page.contains("most instances") && page.contains("instances on average"));
    // As the experiment file writes it.
    let named = r#"{"kind":"table","title":"t","each":null,"series":null,"y":"instances-max"}"#;
    let figure: Figure = serde_json::from_str(named).unwrap();
    assert_eq!(figure.y, Metric::InstancesMax);
}
