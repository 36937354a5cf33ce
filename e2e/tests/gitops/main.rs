//! What pipelines that apply YAML and wait for health see: nothing out of sync, and the health that there is.

#![expect(
    clippy::unwrap_used,
    reason = "what fails while a test is prepared must fail the test"
)]

use std::{
    fs,
    io::Write as _,
    process::{Command, Stdio},
};

use anyhow::ensure;
use katonic_logging_core::names;
use katonic_logging_crds::{Filter, LoggingPolicy, Match};
use katonic_logging_e2e::{
    cluster::{
        Options, Tier,
        binaries::{Binaries, Binary},
    },
    eventually::eventually,
    operator::{Installed, Operator, SOON, splunk_policy},
    program::workspace,
};
use kube::{
    Api, ResourceExt,
    api::{DynamicObject, ListParams},
    core::GroupVersionKind,
    discovery::ApiResource,
};
use serde::Deserialize;
use serde_json::{Value, json};

const ENDPOINT: &str = "https://hec.example.com:8088";

/// How two tools see an object.
#[derive(Debug, Deserialize)]
struct Health {
    argo: Word,
    kstatus: Word,
}

#[derive(Debug, Deserialize)]
struct Word {
    status: String,
    message: String,
    #[serde(default)]
    error: Option<String>,
}

/// Asks Argo CD's engine with the check that is shipped, and kstatus.
fn healths(objects: &[Value]) -> Vec<Health> {
    let script = fs::read_to_string(workspace().join("manifests/argocd/health.lua")).unwrap();
    ask(&script, objects)
}

fn ask(script: &str, objects: &[Value]) -> Vec<Health> {
    let binaries = Binaries::find(&[Binary::Health]).unwrap();
    let mut process = Command::new(binaries.path(Binary::Health).unwrap())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let request = json!({"script": script, "objects": objects}).to_string();
    let mut stdin = process.stdin.take().unwrap();
    stdin.write_all(request.as_bytes()).unwrap();
    drop(stdin);
    let output = process.wait_with_output().unwrap();
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A policy of generation 2 with these conditions.
fn policy(observed: i64, conditions: &[(&str, &str, &str)]) -> Value {
    let conditions = conditions.iter().map(|(type_, status, reason)| {
        json!({"type": type_, "status": status, "reason": reason, "message": "words"})
    });
    json!({
        "apiVersion": "logging.katonic.ai/v1alpha1",
        "kind": "LoggingPolicy",
        "metadata": {"name": "p", "generation": 2},
        "spec": {},
        "status": {"observedGeneration": observed, "conditions": conditions.collect::<Vec<_>>()},
    })
}

#[test]
fn every_state_of_a_policy_has_its_health() {
    let cases = [
        (policy(-1, &[]), "Progressing", "InProgress"),
        (
            policy(1, &[("Ready", "True", "InForce")]),
            "Progressing",
            "InProgress",
        ),
        (
            policy(2, &[("Ready", "True", "InForce")]),
            "Healthy",
            "Current",
        ),
        (
            policy(2, &[("Ready", "True", "Suspended")]),
            "Suspended",
            "Current",
        ),
        (
            policy(
                2,
                &[
                    ("Ready", "False", "SecretMissing"),
                    ("Reconciling", "True", "SecretMissing"),
                ],
            ),
            "Progressing",
            "InProgress",
        ),
        (
            policy(
                2,
                &[
                    ("Ready", "Unknown", "AgentsSilent"),
                    ("Reconciling", "True", "AgentsSilent"),
                ],
            ),
            "Progressing",
            "InProgress",
        ),
        (
            policy(
                2,
                &[
                    ("Ready", "False", "Invalid"),
                    ("Stalled", "True", "Invalid"),
                ],
            ),
            "Degraded",
            "Failed",
        ),
    ];
    let objects: Vec<Value> = cases.iter().map(|(object, ..)| object.clone()).collect();
    for (health, (object, argo, kstatus)) in healths(&objects).iter().zip(&cases) {
        assert_eq!(health.argo.error, None, "{object}");
        assert_eq!(health.argo.status, *argo, "{object}");
        assert!(!health.argo.message.is_empty(), "{object}");
        assert_eq!(health.kstatus.error, None, "{object}");
        assert_eq!(health.kstatus.status, *kstatus, "{object}");
    }
    let mut nothing = policy(2, &[]);
    nothing.as_object_mut().unwrap().remove("status");
    assert_eq!(healths(&[nothing])[0].argo.status, "Progressing");
}

#[test]
fn a_check_that_argo_cd_would_not_take_is_found() {
    let object = policy(2, &[]);
    for (script, says) in [
        ("return {status = \"Well\"}", "\"Well\" is no status"),
        ("return 1", "not a table"),
        (
            "return {status = string.upper(\"Healthy\")}",
            "attempt to index",
        ),
        ("return {", "syntax error"),
        ("while true do end", "deadline exceeded"),
    ] {
        let health = ask(script, std::slice::from_ref(&object)).remove(0);
        let error = health.argo.error.unwrap();
        assert!(error.contains(says), "{script}: {error}");
    }
}

#[test]
fn argo_cd_is_given_the_check_for_both_kinds_and_nothing_else() {
    let binaries = Binaries::find(&[Binary::Kubectl]).unwrap();
    let output = Command::new(binaries.path(Binary::Kubectl).unwrap())
        .arg("kustomize")
        .arg(workspace().join("manifests/argocd"))
        .output()
        .unwrap();
    let config: Value = serde_saphyr::from_str(&String::from_utf8(output.stdout).unwrap()).unwrap();
    assert_eq!(
        config["metadata"],
        json!({"name": "argocd-cm", "namespace": "argocd"})
    );
    let script = fs::read_to_string(workspace().join("manifests/argocd/health.lua")).unwrap();
    let key = |kind| format!("resource.customizations.health.{}_{kind}", names::GROUP);
    let wanted = json!({key("AuditPolicy"): script, key("LoggingPolicy"): script});
    assert_eq!(config["data"], wanted);
}

/// All policies as the API server has them.
async fn policies(installed: &Installed) -> Vec<DynamicObject> {
    let mut all = Vec::new();
    for kind in ["LoggingPolicy", "AuditPolicy"] {
        let kind = GroupVersionKind::gvk(names::GROUP, "v1alpha1", kind);
        let resource = ApiResource::from_gvk(&kind);
        let api: Api<DynamicObject> = Api::all_with(installed.client.clone(), &resource);
        for mut policy in api.list(&ListParams::default()).await.unwrap().items {
            policy.types = Some(kube::core::TypeMeta {
                api_version: kind.api_version(),
                kind: kind.kind.clone(),
            });
            all.push(policy);
        }
    }
    all
}

/// Waits until the operator has said something of each policy as it is.
async fn all_seen(installed: &Installed) -> Vec<DynamicObject> {
    eventually("every policy is seen", SOON, async || {
        let all = policies(installed).await;
        for policy in &all {
            let observed = &policy.data["status"]["observedGeneration"];
            ensure!(
                observed.as_i64() == policy.metadata.generation,
                "{} is seen as of {observed}",
                policy.name_any()
            );
        }
        ensure!(!all.is_empty(), "there are none");
        Ok(Some(all))
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn what_an_operator_says_of_policies_is_their_health() {
    let installed = Installed::start(Tier::ApiServer, Options::default())
        .await
        .unwrap();
    installed
        .sink_secret("splunk", "token", "abc")
        .await
        .unwrap();
    let good = splunk_policy("good", ENDPOINT, "splunk");
    let with = |name: &str, change: fn(&mut LoggingPolicy)| {
        let mut policy = splunk_policy(name, ENDPOINT, "splunk");
        change(&mut policy);
        policy
    };
    let suspended = with("suspended", |policy| policy.spec.suspend = Some(true));
    let invalid = with("invalid", |policy| {
        policy.spec.filters = Some(vec![Filter {
            drop: Some(Match {
                pattern: "a(?=b)".to_owned(),
            }),
            ..Filter::default()
        }]);
    });
    let waiting = splunk_policy("waiting", ENDPOINT, "nobody-made-it");
    for policy in [&good, &suspended, &invalid, &waiting] {
        installed.create(policy).await.unwrap();
    }
    let unseen = policies(&installed).await;
    for health in healths(
        &unseen
            .iter()
            .map(|one| serde_json::to_value(one).unwrap())
            .collect::<Vec<_>>(),
    ) {
        assert_eq!(health.argo.status, "Progressing", "{health:?}");
        assert_eq!(health.kstatus.status, "InProgress", "{health:?}");
    }
    let _operator = Operator::start(&installed.cluster, "one").await.unwrap();
    installed.ready("good", "True", "InForce").await.unwrap();
    installed
        .ready("waiting", "False", "SecretMissing")
        .await
        .unwrap();
    installed
        .ready("invalid", "False", "Invalid")
        .await
        .unwrap();
    installed
        .ready("suspended", "True", "Suspended")
        .await
        .unwrap();
    for policy in all_seen(&installed).await {
        let health = healths(&[serde_json::to_value(&policy).unwrap()]).remove(0);
        let (argo, kstatus, words) = match policy.name_any().as_str() {
            "good" => ("Healthy", "Current", "InForce"),
            "waiting" => ("Progressing", "InProgress", "nobody-made-it"),
            "invalid" => ("Degraded", "Failed", "Invalid"),
            _ => ("Suspended", "Current", "Suspended"),
        };
        assert_eq!(health.argo.error, None, "{policy:?}");
        assert_eq!(health.argo.status, argo, "{policy:?}");
        assert!(health.argo.message.contains(words), "{health:?}");
        assert_eq!(health.kstatus.status, kstatus, "{policy:?}");
    }
}

/// `kubectl diff` shows nothing. It reads each object twice, and an operator that still works may write a status between.
async fn nothing_differs(installed: &Installed, what: &[&str]) {
    let arguments = [&["diff"], what].concat();
    eventually("kubectl sees no difference", SOON, async || {
        let said = installed.cluster.kubectl(&arguments).await?;
        ensure!(said.success, "{}{}", said.stdout, said.stderr);
        Ok(Some(()))
    })
    .await
    .unwrap();
}

/// Applies the samples, lets the operator work, and applies them again.
async fn nothing_is_out_of_sync(how: &[&str]) {
    let installed = Installed::start(Tier::ApiServer, Options::default())
        .await
        .unwrap();
    let _operator = Operator::start(&installed.cluster, "one").await.unwrap();
    let samples = workspace().join("manifests/samples");
    let samples = samples.to_string_lossy();
    let apply = async || {
        let arguments = [&["apply"], how, &["-f", &samples]].concat();
        installed
            .cluster
            .kubectl(&arguments)
            .await
            .unwrap()
            .ok()
            .unwrap()
    };
    apply().await;
    let before = all_seen(&installed).await;
    nothing_differs(&installed, &[how, &["-f", &samples]].concat()).await;
    let said = apply().await;
    if !how.contains(&"--server-side") {
        assert!(
            said.lines().all(|line| line.ends_with(" unchanged")),
            "{said}"
        );
    }
    let after = all_seen(&installed).await;
    assert_eq!(before.len(), after.len());
    for (before, after) in before.iter().zip(&after) {
        let name = before.name_any();
        assert_eq!(
            before.metadata.generation, after.metadata.generation,
            "{name}"
        );
        assert_eq!(before.metadata.labels, after.metadata.labels, "{name}");
        assert_eq!(
            before.metadata.annotations, after.metadata.annotations,
            "{name}"
        );
        assert_eq!(
            before.metadata.finalizers, after.metadata.finalizers,
            "{name}"
        );
        assert_eq!(before.data["spec"], after.data["spec"], "{name}");
    }
    nothing_differs(&installed, &[how, &["-f", &samples]].concat()).await;
    // What is shipped is as it was, too, although an operator has worked with it.
    let manifests = workspace().join("manifests");
    let manifests = manifests.to_string_lossy();
    nothing_differs(&installed, &["--server-side", "-k", &manifests]).await;
}

#[tokio::test]
async fn nothing_is_out_of_sync_after_server_side_apply() {
    nothing_is_out_of_sync(&["--server-side"]).await;
}

#[tokio::test]
async fn nothing_is_out_of_sync_after_client_side_apply() {
    nothing_is_out_of_sync(&[]).await;
}

#[tokio::test]
async fn an_operator_that_comes_before_the_definitions_waits_for_them_and_says_so() {
    let installed = Installed::start(Tier::ApiServer, Options::default())
        .await
        .unwrap();
    let definitions = workspace().join("manifests/crds");
    let definitions = definitions.to_string_lossy();
    let kubectl = async |arguments: &[&str]| {
        let said = installed.cluster.kubectl(arguments).await.unwrap();
        said.ok().unwrap()
    };
    kubectl(&["delete", "-f", &definitions]).await;
    let operator = Operator::start(&installed.cluster, "one").await.unwrap();
    eventually("the operator says what is missing", SOON, async || {
        let log = operator.log()?;
        let mut lines = log.lines();
        let is_told = lines.any(|line| {
            line.contains("\"LoggingPolicy\"")
                && line.contains("the API server has no such objects")
        });
        ensure!(is_told, "{log}");
        Ok(Some(()))
    })
    .await
    .unwrap();
    kubectl(&["apply", "--server-side", "-f", &definitions]).await;
    kubectl(&["wait", "--for=condition=Established", "-f", &definitions]).await;
    installed
        .sink_secret("splunk", "token", "abc")
        .await
        .unwrap();
    let policy = splunk_policy("logs", ENDPOINT, "splunk");
    eventually("a policy is taken", SOON, async || {
        Ok(Some(installed.create(&policy).await?))
    })
    .await
    .unwrap();
    eventually("the policy is in force", SOON * 3, async || {
        installed.ready("logs", "True", "InForce").await.map(Some)
    })
    .await
    .unwrap();
}

/// Namespaces, definitions and policies are deleted in the order that nobody would choose, with no operator left to help.
#[tokio::test]
async fn nothing_that_is_deleted_waits_for_an_operator() {
    let installed = Installed::start(Tier::Controllers, Options::default())
        .await
        .unwrap();
    let operator = Operator::start(&installed.cluster, "one").await.unwrap();
    installed
        .sink_secret("splunk", "token", "abc")
        .await
        .unwrap();
    let policy = splunk_policy("logs", ENDPOINT, "splunk");
    installed.create(&policy).await.unwrap();
    installed.audit("events", &[]).await.unwrap();
    installed.ready("logs", "True", "InForce").await.unwrap();
    all_seen(&installed).await;
    operator.kill().await.unwrap();
    let kubectl = async |arguments: &[&str]| {
        let said = installed.cluster.kubectl(arguments).await.unwrap();
        said.ok().unwrap()
    };
    let manifests = workspace().join("manifests");
    let manifests = manifests.to_string_lossy();
    // The rights, the operator and its namespace, the definitions and with them the policies: all at once.
    kubectl(&["delete", "--wait=false", "-k", &manifests]).await;
    kubectl(&[
        "delete",
        "--wait=false",
        "namespace",
        "katonic-platform",
        "katonic-compute",
    ])
    .await;
    eventually("everything is gone", SOON * 6, async || {
        let kinds = "namespaces,customresourcedefinitions,mutatingadmissionpolicies,mutatingadmissionpolicybindings,\
            validatingadmissionpolicies,validatingadmissionpolicybindings,clusterroles,clusterrolebindings";
        let left = installed.cluster.kubectl(&["get", kinds, "-o", "name"]).await?.ok()?;
        let ours: Vec<&str> = left.lines().filter(|line| line.contains("katonic")).collect();
        ensure!(ours.is_empty(), "left: {ours:?}");
        let lease = ["-n", "default", "get", "lease", "--ignore-not-found", "katonic-logging", "-o", "name"];
        ensure!(installed.cluster.kubectl(&lease).await?.ok()?.is_empty(), "the lease is left");
        Ok(Some(()))
    })
    .await
    .unwrap();
}
