//! What the API server refuses of a policy, and what it says to write instead.

#![expect(
    clippy::unwrap_used,
    reason = "what fails while a test is prepared must fail the test"
)]

use std::time::Duration;

use katonic_logging_e2e::{
    cluster::{Cluster, Tier},
    eventually::eventually,
    program,
};
use serde::Deserialize;
use serde_json::{Value, json};

/// A spec that must be refused.
#[derive(Deserialize)]
struct Refused {
    what: String,
    spec: Value,
    says: String,
}

fn policy(spec: &Value) -> Value {
    policy_of("LoggingPolicy", spec)
}

fn policy_of(kind: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "logging.katonic.ai/v1alpha1",
        "kind": kind,
        "metadata": {"name": "p"},
        "spec": spec,
    })
}

async fn cluster_with_definitions() -> Cluster {
    let cluster = Cluster::start(Tier::ApiServer).await.unwrap();
    cluster.install_definitions().await.unwrap();
    cluster
}

#[tokio::test]
async fn every_mistake_is_refused_with_what_to_write_instead() {
    let cluster = cluster_with_definitions().await;
    let mut wrong = Vec::new();
    let read = |yaml: &str| -> Vec<Refused> { serde_saphyr::from_str(yaml).unwrap() };
    let logging = read(include_str!("policies/refused.yaml"));
    let audit = read(include_str!("policies/refused-audit.yaml"));
    let logging = logging
        .into_iter()
        .map(|refused| ("LoggingPolicy", refused));
    let audit = audit.into_iter().map(|refused| ("AuditPolicy", refused));
    for (kind, Refused { what, spec, says }) in logging.chain(audit) {
        let apply = ["apply", "--dry-run=server", "-f", "-"];
        let answer = cluster
            .kubectl_with(&apply, &policy_of(kind, &spec).to_string())
            .await
            .unwrap();
        if answer.success || !answer.stderr.contains(&says) {
            wrong.push(format!("{what}: {answer:?}"));
        }
        if answer.stderr.contains("hunter2") {
            wrong.push(format!("{what}: the answer repeats the password"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn good_policies_are_accepted_and_read_as_written() {
    let cluster = cluster_with_definitions().await;
    // The cases of the core hold every field that there is.
    for directory in ["manifests/samples", "operator/core/tests/cases"] {
        let policies = program::workspace().join(directory);
        let policies = policies.to_str().unwrap();
        let kubectl = async |verb: &str| {
            let answer = cluster.kubectl(&[verb, "-f", policies]).await.unwrap();
            answer.ok().unwrap()
        };
        kubectl("apply").await;
        // Nothing was filled in that the files do not say: a pipeline sees no difference.
        assert_eq!(kubectl("diff").await, "");
    }
    let null =
        policy(&json!({"sinks": [{"name": "s", "http": {"url": "https://h"}, "splunk": null}]}));
    let applied = cluster
        .kubectl_with(&["apply", "-f", "-"], &null.to_string())
        .await
        .unwrap();
    applied.ok().unwrap();
}

#[tokio::test]
async fn kubectl_explains_every_field() {
    let cluster = cluster_with_definitions().await;
    // Discovery follows the definition by a moment.
    let explain = async |arguments: &[&str]| {
        eventually("kubectl explains", Duration::from_secs(20), async || {
            Ok(Some(cluster.kubectl(arguments).await?.ok()?))
        })
        .await
        .unwrap()
    };
    for (field, says) in [
        ("sinks.splunk.endpoint", "https://hec.example.com:8088"),
        ("sinks.splunk.acknowledgement.timeout", "Default: `5m`"),
        ("sinks.loggly.tags", "[platform, production]"),
        ("sinks.newRelic.region", "`FedRAMP`. The license keys of"),
        ("sinks.syslog.transport", "Syslog"),
        ("sinks.syslog.port", "Default: `6514` with TLS"),
        ("sinks.otlp.compression", "`Zstd`"),
        ("sinks.http.proxyURL", "http://proxy.example.com:3128"),
        (
            "sinks.http.tls.clientCertificateSecretRef",
            "kubectl create secret tls",
        ),
        ("sinks.batch.flushInterval", "Example: `200ms`"),
        ("filters.redact.hashKeySecretRef", "openssl rand -hex 32"),
        ("multiline.rule", "`Java`"),
        ("fallback", "Name of one of the sinks"),
        ("retention", "logging.katonic.ai/acknowledge-retention"),
        (
            "sinks.objectStorage.s3.managementSecretRef",
            "agents never see it",
        ),
    ] {
        let explained = explain(&["explain", &format!("lp.spec.{field}")]).await;
        let text: Vec<_> = explained.split_whitespace().collect();
        assert!(text.join(" ").contains(says), "{explained}");
    }
    let tree = explain(&["explain", "lp.spec", "--recursive"]).await;
    for field in [
        "planes",
        "selector",
        "components",
        "containers",
        "multiline",
        "filters",
        "parse",
        "podLabels",
        "suspend",
        "sinks",
        "fallback",
    ] {
        assert!(tree.contains(field), "{tree}");
    }
}
