//! Two reports held against each other.

use fastrand::Rng;
use mote_bench::report::Material;
use mote_bench::report::comparison::{Comparison, Verdict, compare};
use mote_bench::report::statistics::bootstrap::Basis;

use crate::example;

/// Repetitions of one point, each with its own median around `median`.
fn material(seed: u64, median: f64, repetitions: u32, operations: usize) -> Material {
    let mut random = Rng::with_seed(seed);
    let runs = (1..=repetitions).map(|repetition| {
        let median = median * (0.99 + 0.02 * random.f64());
        let latencies = example::latencies(&mut random, operations, median, 0.1);
        let axes = [("system", "mote"), ("clients", "16")];
        let mut run = example::run("overhead", &axes, repetition, &latencies);
        run.measured.as_mut().unwrap().per_second = 1000.0 / median;
        run
    });
    Material {
        name: format!("of {median}"),
        seed,
        runs: runs.collect(),
        ..Material::default()
    }
}

fn verdicts(comparison: &Comparison) -> [Verdict; 3] {
    let point = &comparison.points[0];
    [point.median, point.p99, point.rate].map(|one| one.verdict)
}

#[test]
fn half_the_latency_is_faster_and_twice_is_slower() {
    let (slow, fast) = (material(1, 10.0, 5, 2000), material(2, 5.0, 5, 2000));
    let comparison = compare(&slow, &fast);
    assert_eq!(verdicts(&comparison), [Verdict::Faster; 3]);
    let interval = comparison.points[0].median.interval.unwrap();
    assert_eq!(interval.basis, Basis::Repetitions);
    assert!(interval.low < 0.5 && 0.5 < interval.high || (interval.ratio - 0.5).abs() < 0.02);
    assert_eq!(verdicts(&compare(&fast, &slow)), [Verdict::Slower; 3]);
}

#[test]
fn the_same_is_noise() {
    let (a, b) = (material(1, 10.0, 5, 2000), material(2, 10.0, 5, 2000));
    assert_eq!(verdicts(&compare(&a, &b))[0], Verdict::Noise);
    assert_eq!(verdicts(&compare(&a, &a)), [Verdict::Noise; 3]);
}

#[test]
fn one_run_speaks_for_its_operations_alone() {
    let (a, b) = (material(1, 10.0, 1, 20_000), material(2, 9.0, 1, 20_000));
    let comparison = compare(&a, &b);
    assert_eq!(
        verdicts(&comparison),
        [Verdict::Faster, Verdict::Faster, Verdict::TooFewRuns]
    );
    let interval = comparison.points[0].median.interval.unwrap();
    assert_eq!(interval.basis, Basis::Operations);
    assert!(comparison.to_string().contains("fewer than three runs"));

    let few = compare(&material(1, 10.0, 2, 40), &material(2, 9.0, 2, 40));
    assert_eq!(verdicts(&few), [Verdict::TooFewRuns; 3]);
    assert!(few.to_string().contains("too few runs"), "{few}");
}

#[test]
fn what_only_one_has_and_what_is_different_is_listed() {
    let a = example::material();
    let mut b = example::material();
    b.runs.retain(|run| run.test != "workflow");
    b.runs
        .push(example::run("new", &[("system", "mote")], 1, &[1.0]));
    b.seed = 43;
    for run in &mut b.runs {
        run.environment.system.kernel = "6.19.0".to_owned();
        run.environment.system.cpu = "ARM <Cortex>-A76".to_owned();
    }
    let comparison = compare(&a, &b);
    assert_eq!(comparison.only_a.len(), 10);
    assert_eq!(comparison.only_b, ["new, system mote"]);
    let what: Vec<&str> = comparison
        .differences
        .iter()
        .map(|one| one.what.as_str())
        .collect();
    assert_eq!(what, ["cpu", "kernel", "seed"]);
    let text = comparison.to_string();
    assert!(
        text.contains("different kernel: 6.18.2 in A, 6.19.0 in B"),
        "{text}"
    );
    assert!(text.contains("only in B: new, system mote"), "{text}");

    let page = comparison.to_html();
    let options = roxmltree::ParsingOptions {
        allow_dtd: true,
        ..roxmltree::ParsingOptions::default()
    };
    roxmltree::Document::parse_with_options(&page, options).unwrap();
    assert!(page.contains("ARM &lt;Cortex&gt;-A76 in B."));
    let json: serde_json::Value = serde_json::from_str(&comparison.to_json().unwrap()).unwrap();
    assert_eq!(
        json["points"].as_array().unwrap().len(),
        comparison.points.len()
    );
    assert_eq!(json["points"][0]["median"]["verdict"], "noise");
}

#[test]
fn a_comparison_made_twice_is_the_same() {
    let (a, b) = (material(1, 10.0, 5, 500), material(2, 9.9, 5, 500));
    assert_eq!(compare(&a, &b), compare(&a, &b));
    let moving = Material {
        name: "\u{1b}[2J".to_owned(),
        ..material(2, 9.9, 5, 500)
    };
    assert!(!compare(&a, &moving).to_string().contains('\u{1b}'));
    let nothing = compare(&Material::default(), &Material::default());
    assert!(
        nothing
            .to_string()
            .contains("no point was measured by both")
    );
}
