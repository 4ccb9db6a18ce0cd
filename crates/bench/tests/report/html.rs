//! The page, read whole as XML: what stands in it, and that nothing gets out of its place or grows without end.

use std::collections::BTreeMap;

use mote_bench::environment::Platform;
use mote_bench::report::{self, Material};
use mote_bench::results::{Figure, Kind, Metric, Published};
use roxmltree::{Document, Node, ParsingOptions};

use crate::example;

const HOSTILE: &str =
    "</style></svg><script>alert(1)</script>\"'&amp;<b>\u{0}\u{1b}[2J\u{202e}çŒé漢字🦀";

pub(crate) fn page(material: &Material) -> String {
    let folder = tempfile::tempdir().unwrap();
    report::write(material, folder.path()).unwrap();
    std::fs::read_to_string(folder.path().join("report.html")).unwrap()
}

#[track_caller]
pub(crate) fn parsed(page: &str) -> Document<'_> {
    let options = ParsingOptions {
        allow_dtd: true,
        ..ParsingOptions::default()
    };
    Document::parse_with_options(page, options).unwrap()
}

pub(crate) fn all<'a, 'p>(document: &'a Document<'p>, name: &str) -> Vec<Node<'a, 'p>> {
    let nodes = document.descendants();
    nodes.filter(|node| node.has_tag_name(name)).collect()
}

pub(crate) fn text(node: Node<'_, '_>) -> String {
    let texts = node.descendants().filter(Node::is_text);
    texts.filter_map(|node| node.text()).collect()
}

pub(crate) fn figure(kind: Kind, each: Option<&str>, series: Option<&str>, x: &[&str]) -> Figure {
    Figure {
        kind,
        title: "A figure".to_owned(),
        caption: String::new(),
        tests: Vec::new(),
        only: BTreeMap::new(),
        each: each.map(str::to_owned),
        series: series.map(str::to_owned),
        x: x.iter().map(|axis| (*axis).to_owned()).collect(),
        y: Metric::Median,
        log: false,
    }
}

const KINDS: [Kind; 5] = [Kind::Cdf, Kind::Lines, Kind::Box, Kind::Strip, Kind::Table];

#[test]
fn each_figure_has_a_heading_and_each_picture_its_words() {
    let page = page(&example::material());
    let document = parsed(&page);
    let headings: Vec<String> = all(&document, "figcaption").into_iter().map(text).collect();
    assert!(headings[0].starts_with("Table 1. Overhead"), "{headings:?}");
    assert!(headings[1].starts_with("Figure 1. Latency"), "{headings:?}");
    assert_eq!(headings.len(), 7);

    let mut ids = std::collections::HashSet::new();
    for node in document.descendants() {
        if let Some(id) = node.attribute("id") {
            assert!(ids.insert(id), "{id} is there twice");
        }
    }
    let pictures: Vec<Node<'_, '_>> = all(&document, "svg")
        .into_iter()
        .filter(|svg| svg.attribute("aria-hidden").is_none())
        .collect();
    assert_eq!(pictures.len(), 6 + 2 + 1 + 1 + 1, "a panel for each value");
    for svg in pictures {
        assert_eq!(svg.attribute("role"), Some("img"));
        for id in svg.attribute("aria-labelledby").unwrap().split(' ') {
            assert!(ids.contains(id), "{id} is not there");
        }
    }
    for table in all(&document, "table") {
        assert!(table.children().any(|node| node.has_tag_name("caption")));
        let headers = table.descendants().filter(|node| node.has_tag_name("th"));
        assert!(headers.into_iter().all(|th| th.has_attribute("scope")));
    }
}

#[test]
fn the_papers_numbers_stand_below_ours() {
    let page = page(&example::material());
    let document = parsed(&page);
    let rows: Vec<String> = all(&document, "tr")
        .iter()
        .filter(|row| row.attribute("class") == Some("paper"))
        .map(|row| {
            let cells: Vec<String> = row.children().map(text).collect();
            cells.join("|")
        })
        .collect();
    assert_eq!(
        rows,
        [
            "|rpi.metal (paper)|14 – 3|40 – 6|40 – 4|31 – 3|24 – 3",
            "|vm.large (paper)|9 – 2|35 – 4|36 – 3|27 – 2|20 – 2",
        ]
    );
}

#[test]
fn a_number_of_a_paper_stands_beside_what_it_is_of() {
    let mut material = example::material();
    let one = |only: &[(&str, &str)], of: &str| Published {
        test: "scalability".to_owned(),
        only: only
            .iter()
            .map(|(axis, value)| ((*axis).to_owned(), (*value).to_owned()))
            .collect(),
        metric: Metric::Rate,
        value: 877.0,
        iqr: None,
        of: of.to_owned(),
    };
    material.published = vec![
        one(
            &[("threads", "200"), ("system", "mote"), ("network", "loc")],
            "of a cell",
        ),
        one(&[("threads", "300"), ("network", "loc")], "of a row"),
    ];
    let table = Figure {
        tests: vec!["scalability".to_owned()],
        y: Metric::Rate,
        ..figure(Kind::Table, Some("network"), Some("system"), &["threads"])
    };
    material.figures = vec![
        table.clone(),
        Figure {
            kind: Kind::Lines,
            ..table
        },
    ];
    let page = page(&material);
    let document = parsed(&page);
    let tables = all(&document, "table");
    let row = |table: usize, row: usize| -> Vec<String> {
        let rows: Vec<Node<'_, '_>> = tables[table]
            .descendants()
            .filter(|node| node.has_tag_name("tr"))
            .collect();
        rows[row + 2].children().map(text).collect()
    };
    assert!(row(0, 1)[1].ends_with("877 of a cell"), "{:?}", row(0, 1));
    assert!(!row(1, 1)[1].contains("877"), "{:?}", row(1, 1));
    assert_eq!(row(0, 2).last().unwrap(), "877");
    assert_eq!(row(1, 2).last().unwrap(), "–");
    let legend: Vec<String> = all(&document, "li").into_iter().map(text).collect();
    assert!(
        legend.contains(&"of a row (paper)".to_owned()),
        "{legend:?}"
    );
    assert!(
        legend.contains(&"mote, of a cell (paper)".to_owned()),
        "{legend:?}"
    );
}

#[test]
fn what_must_not_be_overlooked_is_said() {
    let mut material = example::material();
    material.missing = 17;
    material.quick = true;
    material.runs[3].environment.system.kernel = "6.19.0".to_owned();
    let page = page(&material);
    let document = parsed(&page);
    let banners: Vec<String> = all(&document, "p")
        .into_iter()
        .filter(|p| p.attribute("role") == Some("note"))
        .map(text)
        .collect();
    let begin = [
        "Partial report. 17 of 260",
        "Quick run.",
        "Several environments.",
        "5 of 243 runs failed.",
        "† 8 of 243",
    ];
    assert_eq!(banners.len(), begin.len(), "{banners:?}");
    for (banner, begin) in banners.iter().zip(begin) {
        assert!(banner.starts_with(begin), "{banner}");
    }
    let notes: Vec<String> = all(&document, "li").into_iter().map(text).collect();
    for wanted in [
        "† network cld, overhead, system container: the generator computed 93 %",
        "Not measured: network etyp, overhead, system bare program: the far host",
        "No runs: system bare program, threads 300, network loc",
        "Answered well and in time: system container, clients 256: 98.7 %",
    ] {
        assert!(
            notes.iter().any(|note| note.starts_with(wanted)),
            "{wanted}: {notes:#?}"
        );
    }
}

#[test]
fn a_curve_levels_off_at_what_was_answered_in_time() {
    // Half of all, of which some have the latency of those that came too late.
    let latencies = [vec![2.0; 20], vec![1000.0; 40], vec![1500.0; 40]].concat();
    let mut run = example::run("late", &[], 1, &latencies);
    run.measured.as_mut().unwrap().ok = 50;
    let material = Material {
        runs: vec![run],
        figures: vec![figure(Kind::Cdf, None, None, &[])],
        ..Material::default()
    };
    let page = page(&material);
    let document = parsed(&page);
    let paths = all(&document, "path");
    let curve = paths.iter().find(|path| {
        path.attribute("class")
            .is_some_and(|class| class.starts_with("line"))
    });
    let d = curve.unwrap().attribute("d").unwrap();
    // Up from the ground, level to the right edge: `M x ground H x V level H right`.
    let number = |text: &str| text.parse::<f64>().unwrap();
    let ground = number(d.split([' ', 'H']).nth(1).unwrap());
    let level = number(d.rsplit(['V', 'H']).nth(1).unwrap());
    let grid = all(&document, "line")
        .into_iter()
        .filter(|line| line.attribute("class") == Some("grid"));
    let top = grid
        .map(|line| number(line.attribute("y1").unwrap()))
        .fold(f64::INFINITY, f64::min);
    assert!(
        (level - f64::midpoint(ground, top)).abs() < 0.2,
        "{d}, {top}"
    );
}

#[test]
fn hostile_text_stays_text() {
    let mut material = example::material();
    let hostile = || HOSTILE.to_owned();
    material.name = hostile();
    material.title = hostile();
    material.about = hostile();
    material.source = hostile();
    material.notes = vec![hostile()];
    material.tests = vec![hostile()];
    material.axes = vec![(hostile(), vec![hostile()])];
    material.runs.truncate(30);
    for run in &mut material.runs {
        run.test = hostile();
        run.axes = [(hostile(), hostile())].into();
        run.failure = Some(hostile());
        run.environment.system.kernel = hostile();
        run.environment.system.cpu = hostile();
        run.environment.command = hostile();
        run.environment.network = Some(hostile());
        run.environment.platform = Some(Platform {
            name: hostile(),
            program: Some(hostile()),
            system: Some(run.environment.system.clone()),
        });
        run.environment.version = hostile();
        if let Some(measured) = &mut run.measured {
            measured.warnings = vec![hostile()];
            measured.failed = [(hostile(), 3)].into();
            measured.values = [(hostile(), 1.0)].into();
            measured.due += 3;
        }
    }
    material.runs[1].measured = None;
    material.published = vec![Published {
        test: hostile(),
        only: BTreeMap::new(),
        metric: Metric::Median,
        value: 1.0,
        iqr: None,
        of: hostile(),
    }];
    material.figures = KINDS
        .into_iter()
        .map(|kind| Figure {
            title: hostile(),
            caption: hostile(),
            ..figure(kind, Some(HOSTILE), Some(HOSTILE), &[HOSTILE])
        })
        .collect();
    let page = page(&material);
    let document = parsed(&page);
    assert_eq!(
        all(&document, "script").len() + all(&document, "b").len(),
        0
    );
    assert_eq!(all(&document, "style").len(), 1);
    assert_eq!(all(&document, "figure").len(), KINDS.len());
    let title = text(all(&document, "h1")[0]);
    assert_eq!(
        title,
        HOSTILE.replace(['\u{0}', '\u{1b}', '\u{202e}'], "\u{fffd}")
    );
    assert!(
        !page.contains("http://") && !page.contains("https://"),
        "something from outside"
    );
}

#[test]
fn nothing_and_one_point_are_drawn_too() {
    let empty = Material {
        figures: KINDS.map(|kind| figure(kind, None, None, &[])).to_vec(),
        ..Material::default()
    };
    let nothing = page(&empty);
    assert_eq!(
        nothing.matches("Nothing was measured for this.").count(),
        KINDS.len()
    );
    parsed(&nothing);

    for latencies in [vec![3.0], vec![0.0], vec![0.000_001], vec![], vec![5000.0]] {
        for log in [false, true] {
            let mut one = example::run("one", &[("clients", "1")], 1, &latencies);
            if latencies == [0.0] {
                one.measured.as_mut().unwrap().latency = vec![(0.0, 1)];
            }
            let material = Material {
                runs: vec![one],
                figures: KINDS
                    .map(|kind| Figure {
                        log,
                        ..figure(kind, None, None, &["clients"])
                    })
                    .to_vec(),
                ..Material::default()
            };
            let page = page(&material);
            parsed(&page);
            assert!(
                !page.contains("NaN") && !page.contains("inf"),
                "{latencies:?}, log {log}"
            );
        }
    }
}

#[test]
fn thousands_of_points_make_a_page_of_bounded_size() {
    let latencies: Vec<f64> = (1..3000).map(|step| f64::from(step) * 0.37).collect();
    let mut material = Material {
        figures: KINDS
            .map(|kind| figure(kind, None, Some("series"), &["x"]))
            .to_vec(),
        ..Material::default()
    };
    material
        .figures
        .push(figure(Kind::Cdf, Some("x"), Some("series"), &[]));
    material
        .figures
        .push(figure(Kind::Strip, Some("x"), Some("series"), &["x"]));
    for x in 0..100 {
        for series in 0..40 {
            let axes = [
                ("x", &*x.to_string()),
                ("series", &*format!("number {series}")),
            ];
            material
                .runs
                .push(example::run("many", &axes, 1, &latencies[..200 + x * 10]));
        }
    }
    let page = page(&material);
    let megabytes = page.len() as f64 / 1e6;
    assert!(megabytes < 8.0, "{megabytes} MB");
    let document = parsed(&page);
    let notes: Vec<String> = all(&document, "li").into_iter().map(text).collect();
    assert!(
        notes
            .iter()
            .any(|note| note.starts_with("Only the first 28 of 40 values of series"))
    );
    assert!(
        notes
            .iter()
            .any(|note| note.starts_with("Of ") && note.contains("are drawn")),
        "{notes:#?}"
    );
}

#[test]
fn the_same_runs_make_the_same_page() {
    for material in [example::material, example::crowded] {
        assert_eq!(page(&material()), page(&material()));
    }
}
