//! What watches over the operator: alerts, their runbooks and the dashboard, held against Prometheus' own tools and against the metrics
//! that there are.

#![expect(
    clippy::unwrap_used,
    reason = "what fails while a test is prepared must fail the test"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Write as _,
    process::{Command, Output, Stdio},
};

use katonic_logging_e2e::{
    cluster::{
        Options, Tier,
        binaries::{Binaries, Binary},
    },
    eventually::eventually,
    operator::{Installed, Operator, SOON},
    program::workspace,
};
use serde::Deserialize;
use serde_json::{Value, json};

/// Labels that Prometheus adds to whatever it scrapes by a `ServiceMonitor`, and the one of histograms.
const OF_TARGETS: [&str; 8] = [
    "job",
    "namespace",
    "pod",
    "instance",
    "service",
    "container",
    "endpoint",
    "le",
];

/// What an expression asks for.
#[derive(Debug, Deserialize)]
struct Expression {
    #[serde(default)]
    error: Option<String>,
    selectors: Vec<Selector>,
    grouping: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Selector {
    metric: String,
    labels: Vec<String>,
}

/// The manifests as they are applied, by kind and name.
fn manifests() -> BTreeMap<(String, String), Value> {
    let kubectl = Binaries::find(&[Binary::Kubectl]).unwrap();
    let rendered = Command::new(kubectl.path(Binary::Kubectl).unwrap())
        .arg("kustomize")
        .arg(workspace().join("manifests/prometheus"))
        .output()
        .unwrap();
    succeeds(&rendered);
    let text = String::from_utf8(rendered.stdout).unwrap();
    let documents = text
        .split("\n---\n")
        .map(|one| serde_saphyr::from_str::<Value>(one).unwrap());
    let named = documents.map(|one| {
        let word = |pointer: &str| one.pointer(pointer).unwrap().as_str().unwrap().to_owned();
        ((word("/kind"), word("/metadata/name")), one)
    });
    named.collect()
}

fn manifest(kind: &str, name: &str) -> Value {
    manifests()
        .remove(&(kind.to_owned(), name.to_owned()))
        .unwrap()
}

fn succeeds(output: &Output) {
    let said = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    assert!(output.status.success(), "{}\n{}", said[0], said[1]);
}

/// The alerts: their names with what each is.
fn alerts() -> BTreeMap<String, Value> {
    let rules = manifest("PrometheusRule", "katonic-logging");
    let groups = rules["spec"]["groups"].as_array().unwrap();
    let alerts = groups
        .iter()
        .flat_map(|group| group["rules"].as_array().unwrap());
    let named = alerts.map(|alert| (alert["alert"].as_str().unwrap().to_owned(), alert.clone()));
    named.collect()
}

/// The dashboard as Grafana's sidecar takes it from the ConfigMap.
fn dashboard() -> Value {
    let dashboard = manifest("ConfigMap", "katonic-logging-dashboard");
    assert_eq!(dashboard["metadata"]["labels"]["grafana_dashboard"], "1");
    serde_json::from_str(dashboard["data"]["katonic-logging.json"].as_str().unwrap()).unwrap()
}

/// Every metric of the reference, with its labels; those of a histogram by the names that queries use.
fn metrics() -> BTreeMap<String, BTreeSet<String>> {
    let page = fs::read_to_string(workspace().join("docs/metrics.md")).unwrap();
    let mut metrics = BTreeMap::new();
    for row in page.lines().filter(|line| line.starts_with("| `katonic_")) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let name = cells[0].trim_matches('`');
        let labels = cells[2].split('`').skip(1).step_by(2).map(str::to_owned);
        let labels: BTreeSet<String> = labels.collect();
        let parts: &[&str] = match cells[1] {
            "histogram" => &["_bucket", "_sum", "_count"],
            _ => &[""],
        };
        for part in parts {
            metrics.insert(format!("{name}{part}"), labels.clone());
        }
    }
    metrics
}

fn read(expressions: &[String]) -> Vec<Expression> {
    let binaries = Binaries::find(&[Binary::Promql]).unwrap();
    let mut reader = Command::new(binaries.path(Binary::Promql).unwrap())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let written = serde_json::to_vec(expressions).unwrap();
    reader.stdin.take().unwrap().write_all(&written).unwrap();
    let output = reader.wait_with_output().unwrap();
    succeeds(&output);
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Every expression reads, and asks for metrics and labels that there are.
fn assert_ask_for_what_there_is(expressions: &[String]) {
    let metrics = metrics();
    let of_targets = OF_TARGETS.map(str::to_owned);
    for (text, read) in expressions.iter().zip(read(expressions)) {
        assert_eq!(read.error, None, "{text}");
        assert!(!read.selectors.is_empty(), "{text} asks for nothing");
        let mut known = BTreeSet::from(of_targets.clone());
        for selector in &read.selectors {
            let labels = metrics.get(&selector.metric);
            assert!(labels.is_some(), "{}: {text}", selector.metric);
            let labels = labels.unwrap();
            known.extend(labels.iter().cloned());
            for label in &selector.labels {
                let is_there = labels.contains(label) || of_targets.contains(label);
                assert!(is_there, "{} has no label {label}: {text}", selector.metric);
            }
        }
        for label in &read.grouping {
            assert!(
                known.contains(label),
                "nothing has the label {label}: {text}"
            );
        }
    }
}

#[test]
fn an_expression_that_asks_for_what_there_is_not_is_found() {
    let read = read(&[
        "sum by (a) (rate(x_total{b=\"c\"}[5m])) / on (d) y".to_owned(),
        "sum(".to_owned(),
    ]);
    let selectors = &read[0].selectors;
    let named = selectors
        .iter()
        .map(|one| (one.metric.as_str(), one.labels.clone()));
    assert_eq!(
        named.collect::<Vec<_>>(),
        [("x_total", vec!["b".to_owned()]), ("y", vec![])]
    );
    assert_eq!(
        BTreeSet::from_iter(&read[0].grouping),
        BTreeSet::from([&"a".to_owned(), &"d".to_owned()])
    );
    assert!(
        read[1].error.as_ref().unwrap().contains("unclosed"),
        "{:?}",
        read[1]
    );
}

#[test]
fn every_alert_asks_for_metrics_that_there_are() {
    let alerts = alerts();
    assert!(alerts.len() >= 15, "{}", alerts.len());
    let expressions = alerts
        .values()
        .map(|alert| alert["expr"].as_str().unwrap().to_owned());
    assert_ask_for_what_there_is(&expressions.collect::<Vec<_>>());
}

#[test]
fn every_query_of_the_dashboard_asks_for_metrics_that_there_are() {
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels
        .iter()
        .flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    let mut expressions: Vec<String> = targets
        .map(|target| {
            target["expr"]
                .as_str()
                .unwrap()
                .replace("$__rate_interval", "5m")
        })
        .collect();
    assert!(expressions.len() >= 20, "{}", expressions.len());
    // label_values(metric, label) is Grafana's own.
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    let queries = variables
        .iter()
        .filter(|variable| variable["type"] == "query");
    expressions.extend(queries.map(|variable| {
        let query = variable["query"].as_str().unwrap();
        let inside = query
            .strip_prefix("label_values(")
            .and_then(|rest| rest.strip_suffix(')'));
        let (metric, label) = inside.unwrap().split_once(", ").unwrap();
        format!("group by ({label}) ({metric})")
    }));
    assert_ask_for_what_there_is(&expressions);
}

#[test]
fn every_alert_fires_for_what_it_is_for_and_for_nothing_else() {
    let tests = fs::read_to_string(workspace().join("e2e/tests/monitoring/alerts.yaml")).unwrap();
    for alert in alerts().keys() {
        let fires = format!("ALERTS{{alertname=\"{alert}\",alertstate=\"firing\",severity=");
        assert!(
            tests.contains(&fires) || tests.contains(&format!("alertname: {alert}\n")),
            "{alert} has no test"
        );
    }
    let folder = tempfile::tempdir().unwrap();
    let rules = manifest("PrometheusRule", "katonic-logging");
    let rules = json!({"groups": rules["spec"]["groups"]});
    fs::write(
        folder.path().join("rules.yaml"),
        serde_json::to_string(&rules).unwrap(),
    )
    .unwrap();
    fs::write(folder.path().join("alerts.yaml"), tests).unwrap();
    let binaries = Binaries::find(&[Binary::Promtool]).unwrap();
    let promtool = |arguments: &[&str]| {
        Command::new(binaries.path(Binary::Promtool).unwrap())
            .args(arguments)
            .current_dir(folder.path())
            .output()
            .unwrap()
    };
    succeeds(&promtool(&[
        "check",
        "rules",
        "--lint=all",
        "--lint-fatal",
        "rules.yaml",
    ]));
    succeeds(&promtool(&["test", "rules", "alerts.yaml"]));
}

#[test]
fn every_alert_leads_to_a_section_that_says_what_to_do() {
    let runbooks = fs::read_to_string(workspace().join("docs/runbooks.md")).unwrap();
    let headings = runbooks.lines().filter(|line| line.starts_with('#'));
    let anchors: BTreeSet<String> = headings
        .map(|line| {
            line.trim_start_matches('#')
                .trim()
                .trim_matches('`')
                .to_lowercase()
        })
        .collect();
    for (name, alert) in alerts() {
        assert!(
            anchors.contains(&name.to_lowercase()),
            "{name} has no section"
        );
        let link = alert["annotations"]["runbook_url"].as_str().unwrap();
        let anchor = link.strip_prefix("docs/runbooks.md#").unwrap();
        // A policy's reason has a section of its own, as a test of the operator sees to.
        assert!(
            anchor == "{{ $labels.reason | toLower }}" || anchors.contains(anchor),
            "{link}"
        );
        for words in ["summary", "description"] {
            assert!(
                !alert["annotations"][words].as_str().unwrap().is_empty(),
                "{name}"
            );
        }
    }
}

#[test]
fn the_monitor_finds_the_metrics_of_both_deployments() {
    let all = manifests();
    let get = |kind: &str, name: &str| &all[&(kind.to_owned(), name.to_owned())];
    let monitor = get("ServiceMonitor", "katonic-logging");
    let labels = &monitor["spec"]["selector"]["matchLabels"];
    let port = monitor["spec"]["endpoints"][0]["port"].as_str().unwrap();
    let kubernetes =
        |path: &str| fs::read_to_string(workspace().join("manifests").join(path)).unwrap();
    for (service, deployment) in [
        ("katonic-logging-metrics", kubernetes("controller.yaml")),
        (
            "katonic-logging-webhook-metrics",
            kubernetes("webhook/webhook.yaml"),
        ),
    ] {
        let service = get("Service", service);
        for (key, value) in labels.as_object().unwrap() {
            assert_eq!(&service["metadata"]["labels"][key], value);
        }
        assert_eq!(
            service["metadata"]["namespace"],
            monitor["metadata"]["namespace"]
        );
        let first = deployment.split("\n---\n").next().unwrap();
        let deployment: Value = serde_saphyr::from_str(first).unwrap();
        let template = &deployment["spec"]["template"];
        for (key, value) in service["spec"]["selector"].as_object().unwrap() {
            assert_eq!(&template["metadata"]["labels"][key], value);
        }
        assert_eq!(service["spec"]["ports"][0]["name"], port);
        let target = &service["spec"]["ports"][0]["targetPort"];
        let ports = template["spec"]["containers"][0]["ports"]
            .as_array()
            .unwrap();
        assert!(ports.iter().any(|one| one["name"] == *target), "{ports:?}");
    }
}

/// What of it the API server knows is taken, and the metrics that an operator serves are those of the reference.
#[tokio::test]
async fn an_operator_serves_no_metric_that_the_reference_does_not_have() {
    let installed = Installed::start(Tier::ApiServer, Options::default())
        .await
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    for (index, manifest) in manifests().into_values().enumerate() {
        if manifest["apiVersion"] == "v1" {
            let path = folder.path().join(format!("{index}.json"));
            fs::write(&path, manifest.to_string()).unwrap();
            let path = path.to_string_lossy();
            let applied = installed
                .cluster
                .kubectl(&["apply", "--server-side", "-f", &path])
                .await;
            applied.unwrap().ok().unwrap();
        }
    }
    let operator = Operator::start(&installed.cluster, "one").await.unwrap();
    let served = eventually("the operator leads", SOON, async || {
        let (_, served) = operator.get("/metrics").await?;
        Ok(served
            .contains("katonic_logging_leader 1\n")
            .then_some(served))
    });
    let served = served.await.unwrap();
    let known = metrics();
    let samples = served.lines().filter(|line| !line.starts_with('#'));
    for sample in samples {
        let name = sample.split(['{', ' ']).next().unwrap();
        assert!(known.contains_key(name), "{name} is not in docs/metrics.md");
    }
    assert!(served.ends_with("# EOF\n"), "{served}");
}
