//! The life of a release on a real API server: installed, upgraded, rolled back, taken away and installed again.

use std::{fs, path::Path, process::Stdio};

use anyhow::{Result, ensure};
use katonic_logging_e2e::{
    cluster::{Cluster, Tier},
    eventually::eventually,
    operator::{COMPUTE, PLATFORM, SOON},
    program::{self, workspace},
};
use kube::{Api, core::DynamicObject, discovery::ApiResource};

use super::{chart, helm, objects, succeeded, template};

const NAMESPACE: &str = "katonic-logging";

struct Release {
    cluster: Cluster,
    home: tempfile::TempDir,
}

impl Release {
    async fn new() -> Self {
        let cluster = Cluster::start(Tier::ApiServer).await.unwrap();
        for namespace in [PLATFORM, COMPUTE] {
            cluster.namespace(namespace).await.unwrap();
        }
        let home = tempfile::tempdir().unwrap();
        Self { cluster, home }
    }

    /// Runs Helm; what it prints.
    fn helm(&self, arguments: &[&str]) -> String {
        let output = helm(self.home.path())
            .args(arguments)
            .args(["--namespace", NAMESPACE, "--kubeconfig"])
            .arg(self.cluster.kubeconfig())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        succeeded(&output)
    }

    fn upgrade(&self, chart: &Path, values: &[&str]) -> String {
        let chart = chart.to_string_lossy();
        let mut arguments = vec![
            "upgrade",
            "--install",
            "--create-namespace",
            "logging",
            &chart,
        ];
        for value in values {
            arguments.extend(["--set", value]);
        }
        self.helm(&arguments)
    }

    async fn kubectl(&self, arguments: &[&str]) -> String {
        self.cluster.kubectl(arguments).await.unwrap().ok().unwrap()
    }

    async fn replicas(&self) -> String {
        let arguments = [
            "-n",
            NAMESPACE,
            "get",
            "deployment",
            "katonic-logging",
            "-o",
            "jsonpath={.spec.replicas}",
        ];
        self.kubectl(&arguments).await
    }

    /// Which of these objects, by kind and name, there are.
    async fn there(&self, names: &[&str]) -> Vec<String> {
        let mut arguments = vec!["-n", NAMESPACE, "get", "--ignore-not-found", "-o", "name"];
        arguments.extend(names);
        let found = self.kubectl(&arguments).await;
        found.lines().map(str::to_owned).collect()
    }

    /// Once it is served: the sample of audit events, which needs no Secret.
    async fn apply_a_policy(&self) {
        let sample = workspace().join("manifests/samples/model-events.yaml");
        let sample = sample.to_string_lossy();
        eventually("a policy is taken", SOON, async || {
            let applied = self.cluster.kubectl(&["apply", "-f", &sample]).await?;
            Ok(Some(applied.ok()?))
        })
        .await
        .unwrap();
    }

    /// Nothing is left of what the chart gives, the definitions aside where they are kept.
    async fn is_gone(&self, with_definitions: bool) -> Result<()> {
        let client = self.cluster.client().await?;
        let rendered = template(&[
            "--namespace",
            NAMESPACE,
            "--set",
            "webhook.enabled=true,controller.replicas=2",
        ]);
        for ([version, kind, namespace, name], object) in objects(&succeeded(&rendered)) {
            let (group, version) = version.split_once('/').unwrap_or(("", &version));
            let plural = match kind.as_str() {
                "ValidatingAdmissionPolicy" => "validatingadmissionpolicies".to_owned(),
                _ => format!("{}s", kind.to_lowercase()),
            };
            let resource = ApiResource {
                group: group.to_owned(),
                version: version.to_owned(),
                api_version: object["apiVersion"].as_str().unwrap_or_default().to_owned(),
                kind: kind.clone(),
                plural,
            };
            let api: Api<DynamicObject> = if namespace.is_empty() {
                Api::all_with(client.clone(), &resource)
            } else {
                Api::namespaced_with(client.clone(), &namespace, &resource)
            };
            let is_there = api.get_opt(&name).await?.is_some();
            let is_kept = kind == "CustomResourceDefinition" && !with_definitions;
            ensure!(
                is_there == is_kept,
                "{kind} {namespace}/{name} is there: {is_there}"
            );
        }
        Ok(())
    }

    async fn gone(&self, with_definitions: bool) {
        eventually("nothing of the release is left", SOON, async || {
            self.is_gone(with_definitions).await.map(Some)
        })
        .await
        .unwrap();
    }
}

/// The chart of a version whose definitions lack a field.
fn older(folder: &Path) -> std::path::PathBuf {
    let older = folder.join("katonic-logging");
    let copied = std::process::Command::new("cp")
        .arg("-r")
        .arg(chart())
        .arg(&older)
        .output();
    succeeded(&copied.unwrap());
    let path = older.join("files/crds/loggingpolicies.logging.katonic.ai.yaml");
    let definition = fs::read_to_string(&path).unwrap();
    let mut definition = super::documents(&definition).remove(0);
    let schema = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties";
    let fields = definition
        .pointer_mut(schema)
        .unwrap()
        .as_object_mut()
        .unwrap();
    fields.remove("podLabels").unwrap();
    fs::write(path, definition.to_string()).unwrap();
    older
}

#[tokio::test]
async fn a_release_is_installed_upgraded_with_its_definitions_rolled_back_and_taken_away() {
    let release = Release::new().await;
    let folder = tempfile::tempdir().unwrap();
    let notes = release.upgrade(&older(folder.path()), &[]);
    assert!(
        notes.contains("only nodes into which the image was loaded have it"),
        "{notes}"
    );
    assert!(!notes.contains("webhook.enabled"), "{notes}");
    assert_eq!(release.replicas().await, "1");
    release.apply_a_policy().await;
    let explain = ["get", "crd", "loggingpolicies.logging.katonic.ai", "-o"];
    let field = "jsonpath={.spec.versions[0].schema.openAPIV3Schema.properties.spec.properties.podLabels.type}";
    let explain = [&explain[..], &[field]].concat();
    assert_eq!(release.kubectl(&explain).await, "");

    release.upgrade(&chart(), &["controller.replicas=2", "webhook.enabled=true"]);
    assert_eq!(release.replicas().await, "2");
    let further = ["pdb/katonic-logging", "deployment/katonic-logging-webhook"];
    let further = async || {
        let mut there = Vec::new();
        for name in further {
            there.extend(release.there(&[name]).await);
        }
        there.len()
    };
    assert_eq!(further().await, 2);
    assert_eq!(release.kubectl(&explain).await, "array");

    let history = release.helm(&["history", "logging"]);
    assert!(history.contains("Upgrade complete"), "{history}");
    release.helm(&["rollback", "logging", "1"]);
    assert_eq!(release.replicas().await, "1");
    assert_eq!(further().await, 0);

    // Uninstalled with a policy left: it stays, and so do the definitions.
    release.helm(&["uninstall", "logging"]);
    release.gone(false).await;
    let policies = release
        .kubectl(&["get", "auditpolicies", "-o", "name"])
        .await;
    assert_eq!(policies, "auditpolicy.logging.katonic.ai/model-events\n");

    // The same release takes them over again, and takes them away when it is told to.
    release.upgrade(&chart(), &["crds.keep=false"]);
    assert_eq!(
        release
            .kubectl(&["get", "auditpolicies", "-o", "name"])
            .await,
        policies
    );
    release.helm(&["uninstall", "logging"]);
    release.gone(true).await;
}

#[tokio::test]
async fn what_was_installed_by_kustomize_is_taken_over_when_helm_is_told_to() {
    let release = Release::new().await;
    let manifests = workspace().join("manifests");
    let manifests = manifests.to_string_lossy();
    release
        .kubectl(&["apply", "--server-side", "-k", &manifests])
        .await;
    let chart = chart();
    let chart = chart.to_string_lossy();
    let install = ["install", "logging", &chart];
    let refused = helm(release.home.path())
        .args(install)
        .args(["--namespace", NAMESPACE, "--kubeconfig"])
        .arg(release.cluster.kubeconfig())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(
        !refused.status.success() && said.contains("invalid ownership metadata"),
        "{said}"
    );
    release.helm(&[&install[..], &["--take-ownership", "--force-conflicts"]].concat());
    assert_eq!(release.replicas().await, "1");
}

/// `helm test` needs a node. What it runs can be run without one, and its pod be tried.
#[tokio::test]
async fn the_charts_test_is_admitted_and_may_read_what_it_reads() {
    let release = Release::new().await;
    release.upgrade(&chart(), &[]);
    let restricted = "pod-security.kubernetes.io/enforce=restricted";
    release
        .kubectl(&["label", "namespace", NAMESPACE, restricted])
        .await;
    let rendered = template(&[
        "--namespace",
        NAMESPACE,
        "--show-only",
        "templates/tests/policies.yaml",
    ]);
    let pod = succeeded(&rendered);
    let applied = release
        .cluster
        .kubectl_with(&["apply", "--dry-run=server", "-f", "-"], &pod)
        .await;
    applied.unwrap().ok().unwrap();
    let binary = tokio::task::spawn_blocking(|| {
        program::build("katonic-logging-operator", "katonic-logging")
    });
    let binary = binary.await.unwrap().unwrap();
    let kubeconfig = release
        .cluster
        .kubeconfig_for(NAMESPACE, "katonic-logging")
        .await
        .unwrap();
    let pod = super::documents(&pod).remove(0);
    let arguments = pod["spec"]["containers"][0]["args"].as_array().unwrap();
    let arguments: Vec<&str> = arguments.iter().map(|one| one.as_str().unwrap()).collect();
    let run = || {
        let output = std::process::Command::new(&binary)
            .args(&arguments)
            .env("KUBECONFIG", &kubeconfig)
            .output()
            .unwrap();
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    // Nobody answers before the definitions are served.
    let ends = async |code: i32| {
        eventually("the test says how it is", SOON, async || {
            let said = run();
            ensure!(said.0 == Some(code), "{said:?}");
            Ok(Some(said.1))
        })
        .await
        .unwrap()
    };
    assert_eq!(ends(0).await, "");
    // Without an operator, a policy is not in force.
    release.apply_a_policy().await;
    ends(1).await;
}
