//! Every metric, from the page of a node on which each has been counted once.

use std::collections::BTreeMap;
use std::thread;

use serde_json::json;

use super::table;
use crate::eventually::eventually;
use crate::node::Node;
use crate::program::repository;

const WORDS: &str = "\
`GET /metrics` of the [admin API](admin.md) has them as OpenMetrics text; values are read when somebody asks.
Labels are those of the series: `function` and `app` name a function, `door` is where a call came from, `outcome` is `ok`, `function_error` (the function answered with 5xx), `cancelled` or a kind of [error](errors.md), `reason` is such a kind.
A histogram `NAME` has the series `NAME_bucket`, `NAME_sum` and `NAME_count`.

";

/// A node with at least one series of each metric.
pub(super) fn node() -> Node {
    let node = Node::start();
    let code = std::fs::read(repository().join("examples/sieve/sieve.wasm")).unwrap();
    node.deploy("sieve", &code, &json!({ "concurrency": 1 }));
    node.get("/nobody").expect(404);
    node.mote(&["kv", "set", "light", "on"]).ok();
    eventually("a call has waited for another", || {
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| node.get("/sieve").expect(200));
            }
        });
        node.metric("mote_queue_wait_seconds_count", &[]) > 0.0
    });
    node
}

/// One metric.
#[derive(Default)]
struct Metric {
    kind: String,
    help: String,
    labels: Option<Vec<String>>,
}

pub(super) fn body(node: &Node) -> String {
    let page = node.ask("GET", "/metrics", &[]).expect(200).text();
    let rows: Vec<Vec<String>> = metrics(&page)
        .into_iter()
        .map(|(name, metric)| {
            let labels = metric.labels.unwrap_or_else(|| {
                panic!(
                    "{name} has no series: let `node` in tests/src/reference/metrics.rs count one"
                )
            });
            let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
            let end = if metric.kind == "counter" {
                "_total"
            } else {
                ""
            };
            vec![
                format!("`{name}{end}`"),
                metric.kind,
                labels.join(", "),
                format!("{}.", metric.help.trim_end_matches('.')),
            ]
        })
        .collect();
    let metrics = table(&["metric", "type", "labels", "what it counts"], &rows);
    format!("{WORDS}{metrics}")
}

/// The metrics of a page, by name.
fn metrics(page: &str) -> BTreeMap<String, Metric> {
    let mut metrics: BTreeMap<String, Metric> = BTreeMap::new();
    for line in page.lines() {
        if let Some((name, help)) = described(line, "# HELP ") {
            help.clone_into(&mut metrics.entry(name.to_owned()).or_default().help);
        } else if let Some((name, kind)) = described(line, "# TYPE ") {
            kind.clone_into(&mut metrics.entry(name.to_owned()).or_default().kind);
        } else if !line.starts_with('#') {
            let end = line.find(['{', ' ']).unwrap_or(line.len());
            let (series, rest) = line.split_at(end);
            let ends = ["_total", "_bucket", "_sum", "_count"];
            let stem = ends.iter().find_map(|end| series.strip_suffix(end));
            let name = stem
                .filter(|stem| metrics.contains_key(*stem))
                .unwrap_or(series);
            let metric = metrics.get_mut(name);
            let metric = metric.unwrap_or_else(|| panic!("{series} is not described"));
            metric.labels.get_or_insert_with(|| labels(rest));
        }
    }
    metrics
}

fn described<'a>(line: &'a str, mark: &str) -> Option<(&'a str, &'a str)> {
    line.strip_prefix(mark)?.split_once(' ')
}

/// The names in `{le="1",function="x"} 3`, but for the bounds of a histogram.
fn labels(rest: &str) -> Vec<String> {
    let inside = rest
        .trim_start_matches('{')
        .split('}')
        .next()
        .unwrap_or_default();
    let names = inside.split(',').filter_map(|label| label.split_once('='));
    let names = names.map(|(name, _)| name).filter(|name| *name != "le");
    names.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::metrics;

    #[test]
    fn a_page_is_understood() {
        let page = "# HELP a It\n# TYPE a counter\na_total{x=\"1\",y=\"2\"} 3\n# HELP b_sum That\n# TYPE b_sum gauge\nb_sum 1\n# HELP c Those\n# TYPE c histogram\n# EOF\n";
        let metrics = metrics(page);
        assert_eq!(
            metrics["a"].labels,
            Some(vec!["x".to_owned(), "y".to_owned()])
        );
        assert_eq!(metrics["b_sum"].labels, Some(Vec::new()));
        assert_eq!(
            (metrics["c"].kind.as_str(), &metrics["c"].labels),
            ("histogram", &None)
        );
    }
}
