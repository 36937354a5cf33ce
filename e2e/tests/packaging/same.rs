//! The chart gives what the kustomizations give.

use std::{collections::BTreeSet, fs};

use serde_json::Value;

use super::{Objects, chart, combined, documents, kustomized, objects, succeeded, template};
use katonic_logging_e2e::program::workspace;

const NAMESPACE: [&str; 2] = ["--namespace", "katonic-logging"];

/// Without what only one of both can have: Helm makes the namespace itself, and has tests and a word of its own on definitions.
fn comparable(mut objects: Objects) -> Objects {
    objects.retain(|[_, kind, _, name], _| kind != "Namespace" && name != "katonic-logging-test");
    for object in objects.values_mut() {
        if let Some(annotations) = object["metadata"].get_mut("annotations") {
            annotations
                .as_object_mut()
                .unwrap()
                .remove("helm.sh/resource-policy");
            if annotations == &serde_json::json!({}) {
                object["metadata"]
                    .as_object_mut()
                    .unwrap()
                    .remove("annotations");
            }
        }
        // The same installation is written in many ways.
        if let Some(text) = object.pointer_mut("/data/installation.yaml") {
            let mut installation = documents(text.as_str().unwrap()).remove(0);
            // No store of logs is none, whichever way it is said.
            let store = installation["blob_storage"].take();
            if !store.is_null() && store != serde_json::json!({}) {
                installation["blob_storage"] = store;
            }
            *text = installation;
        }
    }
    objects
}

fn assert_same(of_kustomize: Objects, of_helm: Objects) {
    let [of_kustomize, of_helm] = [of_kustomize, of_helm].map(comparable);
    let [kustomize, helm] =
        [&of_kustomize, &of_helm].map(|objects| objects.keys().cloned().collect::<Vec<_>>());
    assert_eq!(kustomize, helm);
    for (identity, object) in &of_kustomize {
        assert_eq!(object, &of_helm[identity], "{identity:?}");
    }
}

fn assert_same_with(resources: &[&str], components: &[&str], values: &[&str]) {
    let mut arguments = NAMESPACE.to_vec();
    for value in values {
        arguments.extend(["--set", value]);
    }
    let of_helm = objects(&succeeded(&template(&arguments)));
    assert_same(combined(resources, components), of_helm);
}

#[test]
fn with_default_values() {
    assert_same_with(&[""], &[], &[]);
}

#[test]
fn with_several_replicas() {
    assert_same_with(&[""], &["ha"], &["controller.replicas=2"]);
}

#[test]
fn with_the_webhook() {
    assert_same_with(&["", "webhook"], &[], &["webhook.enabled=true"]);
}

#[test]
fn with_the_webhook_and_certificates_of_cert_manager() {
    let values = ["webhook.enabled=true", "webhook.certManager.enabled=true"];
    assert_same_with(&["", "webhook-cert-manager"], &[], &values);
}

#[test]
fn with_prometheus() {
    assert_same_with(&["", "prometheus"], &[], &["prometheus.enabled=true"]);
}

#[test]
fn with_everything() {
    let values = [
        "controller.replicas=2",
        "webhook.enabled=true",
        "prometheus.enabled=true",
    ];
    assert_same_with(&["", "webhook", "prometheus"], &["ha"], &values);
}

#[test]
fn in_other_namespaces_with_another_tracker_and_images_of_a_registry() {
    const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    // What an administrator edits by hand for that.
    let folder = tempfile::tempdir().unwrap();
    copy(&workspace().join("manifests"), folder.path(), &|text| {
        text.replace("namespace: katonic-logging\n", "namespace: logs\n")
            .replace("name: katonic-logging\n  labels:\n    app.kubernetes.io/name: katonic-logging\n    pod-security", "name: logs\n  labels:\n    pod-security")
            .replace("system:serviceaccount:katonic-logging:", "system:serviceaccount:logs:")
            .replace("katonic-logging/katonic-logging-webhook", "logs/katonic-logging-webhook")
            .replace("katonic-logging-webhook.katonic-logging.svc", "katonic-logging-webhook.logs.svc")
            .replace("name: katonic-platform", "name: main")
            .replace("namespace: katonic-platform", "namespace: main")
            .replace("name: katonic-compute", "name: work")
            .replace("namespace: katonic-compute", "namespace: work")
            .replace("resourceNames: [event-tracker]", "resourceNames: [tracker]")
            .replace("  # audit: {events: [DatasetDeleted], tracker: {configMap: event-tracker}}", "  audit: {tracker: {configMap: tracker}}")
            .replace("localhost/katonic-logging:0.1.0", &format!("registry.example.com:5000/logging/operator@{DIGEST}"))
            .replace("localhost/katonic-log-agent:0.1.0", "registry.example.com:5000/logging/agent:v7")
    });
    let of_kustomize = [".", "webhook-cert-manager", "prometheus"]
        .into_iter()
        .flat_map(|one| kustomized(&folder.path().join(one)))
        .collect();
    let digest = format!("images.operator.digest={DIGEST}");
    let mut arguments = vec!["--namespace", "logs"];
    for value in [
        "installation.namespaces.platform.name=main",
        "installation.namespaces.compute.name=work",
        "installation.logging.audit.tracker.configMap=tracker",
        "images.operator.repository=registry.example.com:5000/logging/operator",
        digest.as_str(),
        "images.agent.repository=registry.example.com:5000/logging/agent",
        "images.agent.tag=v7",
        "webhook.enabled=true",
        "webhook.certManager.enabled=true",
        "prometheus.enabled=true",
    ] {
        arguments.extend(["--set", value]);
    }
    assert_same(of_kustomize, objects(&succeeded(&template(&arguments))));
}

/// Copies a folder, with its texts changed.
fn copy(from: &std::path::Path, to: &std::path::Path, change: &dyn Fn(&str) -> String) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            if entry.file_name() != "helm" {
                fs::create_dir(&target).unwrap();
                copy(&entry.path(), &target, change);
            }
        } else {
            fs::write(target, change(&fs::read_to_string(entry.path()).unwrap())).unwrap();
        }
    }
}

#[test]
fn what_a_release_says_of_pods_is_in_both_deployments() {
    let values = serde_json::json!({
        "nodeSelector": {"kubernetes.io/arch": "arm64"},
        "tolerations": [{"key": "infra", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "priorityClassName": "system-cluster-critical",
        "podLabels": {"team": "platform", "app.kubernetes.io/name": "mine"},
        "podAnnotations": {"note": "a: \"b\""},
        "resources": {"limits": {"memory": "256Mi"}},
    });
    let file = tempfile::NamedTempFile::new().unwrap();
    let all = serde_json::json!({
        "controller": values, "webhook": values,
        "images": {"pullPolicy": "Always", "pullSecrets": [{"name": "registry"}]},
    });
    fs::write(file.path(), all.to_string()).unwrap();
    let file = file.path().to_string_lossy();
    let arguments = ["--set", "webhook.enabled=true", "--values", &file];
    let objects = objects(&succeeded(&template(&arguments)));
    let deployments = objects
        .iter()
        .filter(|(identity, _)| identity[1] == "Deployment");
    let mut seen = 0;
    for ([_, _, _, name], deployment) in deployments {
        let template = &deployment["spec"]["template"];
        for field in [
            "nodeSelector",
            "tolerations",
            "affinity",
            "priorityClassName",
        ] {
            assert_eq!(template["spec"][field], values[field]);
        }
        assert_eq!(
            template["metadata"]["annotations"],
            values["podAnnotations"]
        );
        assert_eq!(template["metadata"]["labels"]["team"], "platform");
        // By this one they are selected.
        assert_eq!(
            &template["metadata"]["labels"]["app.kubernetes.io/name"],
            name
        );
        let container = &template["spec"]["containers"][0];
        assert_eq!(container["imagePullPolicy"], "Always");
        assert_eq!(
            container["resources"],
            serde_json::json!({
                "requests": if name == "katonic-logging" { serde_json::json!({"cpu": "10m", "memory": "32Mi"}) } else { serde_json::json!({"cpu": "10m", "memory": "16Mi"}) },
                "limits": {"memory": "256Mi"},
            })
        );
        assert_eq!(
            template["spec"]["imagePullSecrets"],
            serde_json::json!([{"name": "registry"}])
        );
        seen += 1;
    }
    assert_eq!(seen, 2);
}

#[test]
fn the_charts_copies_and_versions_are_current() {
    fn walk(folder: &std::path::Path, of: &std::path::Path, seen: &mut usize) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let source = of.join(path.file_name().unwrap());
            if path.is_dir() {
                walk(&path, &source, seen);
            } else {
                let is_current = fs::read(&path).unwrap() == fs::read(&source).unwrap_or_default();
                assert!(
                    is_current,
                    "{} is not current: run `make chart`",
                    path.display()
                );
                *seen += 1;
            }
        }
    }
    let mut seen = 0;
    walk(
        &chart().join("files"),
        &workspace().join("manifests"),
        &mut seen,
    );
    assert!(seen > 10, "{seen}");
    let text = fs::read_to_string(chart().join("Chart.yaml")).unwrap();
    let chart: Value = documents(&text).remove(0);
    for version in ["version", "appVersion"] {
        assert_eq!(chart[version], env!("CARGO_PKG_VERSION"));
    }
}

#[test]
fn a_namespace_that_looks_like_a_number_stays_a_name() {
    let arguments = [
        "--namespace",
        "2026",
        "--set-string",
        "installation.namespaces.compute.name=1",
    ];
    let objects = objects(&succeeded(&template(&arguments)));
    let namespaces: BTreeSet<&str> = objects
        .keys()
        .map(|[_, _, namespace, _]| namespace.as_str())
        .collect();
    assert_eq!(
        namespaces,
        ["", "1", "2026", "default", "katonic-platform"].into()
    );
}
