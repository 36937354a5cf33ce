//! Values that the chart refuses, and in which words.

use super::{chart, helm, succeeded, template};

#[test]
fn the_chart_passes_the_strictest_check_of_helm() {
    let home = tempfile::tempdir().unwrap();
    for values in [
        "controller.replicas=1",
        "webhook.enabled=true,prometheus.enabled=true,controller.replicas=3",
    ] {
        let linted = helm(home.path())
            .args(["lint", "--strict", "--set", values])
            .arg(chart())
            .output()
            .unwrap();
        let said = succeeded(&linted);
        assert!(said.contains("0 chart(s) failed"), "{said}");
    }
}

/// A value, and what is said of it.
type Case<'a> = (&'a str, &'a [&'a str]);

const REFUSED: &[Case<'static>] = &[
    (
        "controller.replicas=two",
        &["/controller/replicas", "got string, want integer"],
    ),
    (
        "controller.replicas=0",
        &["/controller/replicas", "minimum"],
    ),
    (
        "controller.replica=2",
        &["/controller", "'replica' not allowed"],
    ),
    (
        "webhook.enabled=1",
        &["/webhook/enabled", "got number, want boolean"],
    ),
    ("webhook.replicas=1", &["/webhook/replicas", "minimum"]),
    ("webhok.enabled=true", &["'webhok' not allowed"]),
    ("crds=false", &["/crds", "got boolean, want object"]),
    (
        "images.operator=example.com/operator:1",
        &["/images/operator", "got string, want object"],
    ),
    (
        "images.operator.repository=example.com/operator:1",
        &["/images/operator/repository", "does not match pattern"],
    ),
    (
        "images.agent.digest=sha256:beef",
        &["/images/agent/digest", "does not match pattern"],
    ),
    (
        "images.pullPolicy=Sometimes",
        &["/images/pullPolicy", "'Always', 'IfNotPresent', 'Never'"],
    ),
    (
        "images.pullSecrets={registry}",
        &["/images/pullSecrets/0", "got string, want object"],
    ),
    (
        "installation.namespaces.platform.name=",
        &[
            "/installation/namespaces/platform/name",
            "does not match pattern",
        ],
    ),
    (
        "installation.namespaces.platform.name=a: b",
        &[
            "/installation/namespaces/platform/name",
            "does not match pattern",
        ],
    ),
    (
        "installation.namespaces.platform=null",
        &["/installation/namespaces", "missing property 'platform'"],
    ),
    (
        "installation.loging.userContainers={run}",
        &["/installation", "'loging' not allowed"],
    ),
    (
        "installation.logging.agent.image=example.com/agent:1",
        &["/installation/logging/agent", "'image' not allowed"],
    ),
    (
        "installation.logging.injection.mode=Sidecar",
        &[
            "/installation/logging/injection/mode",
            "'Auto', 'AdmissionPolicy', 'Webhook'",
        ],
    ),
    (
        "installation.logging.rollout.window.from=22h",
        &[
            "/installation/logging/rollout/window/from",
            "does not match pattern",
        ],
    ),
    (
        "installation.logging.audit.tracker.configMap=a]b",
        &[
            "/installation/logging/audit/tracker/configMap",
            "does not match pattern",
        ],
    ),
    (
        "controller.podLabels.release=1",
        &["/controller/podLabels/release", "got number, want string"],
    ),
    (
        "prometheus.runbooks=it's here",
        &["/prometheus/runbooks", "does not match pattern"],
    ),
];

#[test]
fn a_value_of_the_wrong_type_and_one_that_nobody_knows_are_refused_by_name() {
    let long = format!("installation.namespaces.compute.name={}", "n".repeat(64));
    let too_long: Case<'_> = (
        &long,
        &["/installation/namespaces/compute/name", "maxLength"],
    );
    for (value, says) in REFUSED.iter().copied().chain([too_long]) {
        let output = template(&["--set", value]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{value} was taken");
        for words in says {
            assert!(said.contains(words), "{value}: {said}");
        }
    }
}

#[test]
fn whatever_an_installation_can_say_can_be_said() {
    let values = serde_json::json!({"installation": {
        "blob_storage": {"logs": {"type": "s3", "s3": {"bucket": "platform-logs", "region": "eu-central-1"}}},
        "logging": {
            "logStore": {
                "credentialsSecretRef": {"name": "log-store"}, "managementSecretRef": {"name": "rules"}, "prefix": "platform",
                "endpoint": "https://s3.example.com", "tls": {"caSecretRef": {"name": "ca", "key": "ca.crt"}},
                "objectLock": {"mode": "Governance", "days": 30},
            },
            "agent": {
                "resources": {"requests": {"cpu": "1", "memory": "16Mi"}, "limits": {"cpu": "1", "memory": "32Mi"}},
                "proxy": {"httpsProxy": "http://proxy.example.com:3128", "noProxy": ".svc,10.0.0.0/8"},
            },
            "injection": {"mode": "Webhook"},
            "audit": {"events": ["DatasetDeleted"], "tracker": {"configMap": "tracker"}},
            "executionIdLabel": "example.com/run",
            "executionIdPatterns": ["^run-([0-9]+)$"],
            "userContainers": ["run", "main-*"],
            "rollout": {"window": {"days": ["Saturday", "Sunday"], "from": "22:00", "to": "04:00"}},
        },
    }});
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), values.to_string()).unwrap();
    let rendered = template(&["--values", &file.path().to_string_lossy()]);
    let objects = super::objects(&succeeded(&rendered));
    let named = objects
        .iter()
        .find(|(identity, _)| identity[3] == "katonic-logging-installation");
    let text = named.unwrap().1["data"]["installation.yaml"]
        .as_str()
        .unwrap();
    let read = katonic_logging_core::Installation::validate(text, "katonic-logging").unwrap();
    let mut wanted = values["installation"].clone();
    wanted["namespaces"] = serde_json::json!({"platform": {"name": "katonic-platform"}, "compute": {"name": "katonic-compute"}});
    wanted["logging"]["agent"]["image"] =
        format!("localhost/katonic-log-agent:{}", env!("CARGO_PKG_VERSION")).into();
    let wanted =
        katonic_logging_core::Installation::validate(&wanted.to_string(), "katonic-logging");
    assert_eq!(read, wanted.unwrap());
    assert!(
        matches!(
            read.log_store,
            katonic_logging_core::installation::LogStore::S3(_)
        ),
        "{:?}",
        read.log_store
    );
}
