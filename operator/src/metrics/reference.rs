//! The reference of metrics, `docs/metrics.md`, as tests hold it against the code.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

/// One metric: its type and its labels.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Metric {
    type_: String,
    labels: BTreeSet<String>,
}

/// Checks that the reference has what is exposed here, with its type and its labels, and nothing else of this prefix. Every metric has
/// to have a series.
pub(crate) fn assert_is_told(exposed: &str, is_ours: impl Fn(&str) -> bool) {
    let exposed = of_exposition(exposed);
    for (name, metric) in &exposed {
        assert!(
            !metric.labels.contains("?"),
            "{name} has no series: give it one"
        );
    }
    let mut told = of_page();
    told.retain(|name, _| is_ours(name));
    assert_eq!(told, exposed, "docs/metrics.md is not what the code says");
}

/// The rows of the page's tables: name, type, labels.
fn of_page() -> BTreeMap<String, Metric> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
    let page = fs::read_to_string(page).unwrap();
    let rows = page.lines().filter(|line| line.starts_with("| `katonic_"));
    let row = |row: &str| {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        // Values stand in brackets behind a label.
        let labels = cells[2].split('`').skip(1).step_by(2);
        let labels = labels.filter(|word| !word.starts_with('='));
        let metric = Metric {
            type_: cells[1].to_owned(),
            labels: labels.map(str::to_owned).collect(),
        };
        (cells[0].trim_matches('`').to_owned(), metric)
    };
    rows.map(row).collect()
}

/// What there is in an exposition (OpenMetrics 1.0), by the names that are asked for.
fn of_exposition(text: &str) -> BTreeMap<String, Metric> {
    let mut metrics = BTreeMap::new();
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    for (name, type_) in types.filter_map(|line| line.split_once(' ')) {
        let asked = match type_ {
            "counter" => format!("{name}_total"),
            _ => name.to_owned(),
        };
        let sample = match type_ {
            "histogram" => format!("{name}_count"),
            _ => asked.clone(),
        };
        let labels = text.lines().find_map(|line| {
            let rest = line.strip_prefix(&sample)?;
            let labels = rest.strip_prefix('{').and_then(|rest| rest.split_once('}'));
            match labels {
                Some((labels, _)) => Some(labels),
                None => rest.starts_with(' ').then_some(""),
            }
        });
        let names = labels.unwrap_or("?=").split(',').filter_map(|label| {
            let name = label.split_once('=')?.0;
            Some(name.to_owned())
        });
        let metric = Metric {
            type_: type_.to_owned(),
            labels: names.collect(),
        };
        metrics.insert(asked, metric);
    }
    metrics
}
