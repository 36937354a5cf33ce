//! What the operator may do, what it asks for, and how little an idle one does.

use std::{collections::BTreeSet, time::Duration};

use k8s_openapi::api::{
    admissionregistration::v1::{MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding},
    coordination::v1::Lease,
    core::v1::Pod,
};
use katonic_logging_core::names;
use katonic_logging_e2e::{
    cluster::{Options, Tier},
    eventually::eventually,
    operator::{Installed, PLATFORM, SOON},
};
use kube::{
    Api,
    api::{
        ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams,
    },
};
use serde_json::{Value, json};

use crate::{data, in_force, installed, pod};

#[tokio::test]
async fn the_operator_asks_for_nothing_that_its_rules_refuse_and_an_idle_one_writes_nothing() {
    let options = Options {
        audit_log: true,
        ..Options::default()
    };
    let installed = Installed::start(Tier::ApiServer, options).await.unwrap();
    installed
        .sink_secret("nobodys", "token", "hidden")
        .await
        .unwrap();
    let operator = in_force(&installed).await;
    installed
        .sink_secret("splunk", "token", "rotated")
        .await
        .unwrap();
    eventually("the new credential is written", SOON, async || {
        Ok((data(&installed, PLATFORM).await["splunk_token"].0 == b"rotated").then_some(()))
    })
    .await
    .unwrap();
    installed.ready("logs", "True", "InForce").await.unwrap();
    let requests = |since: usize| -> Vec<Value> {
        let log = std::fs::read_to_string(installed.cluster.audit_log().unwrap()).unwrap();
        log.lines()
            .skip(since)
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .filter(|entry| {
                entry["user"]["username"] == "system:serviceaccount:katonic-logging:katonic-logging"
            })
            .filter(|entry| entry["stage"] == "ResponseComplete")
            .collect()
    };
    let writes = |since: usize| -> Vec<Value> {
        let read = ["get", "list", "watch"].map(Value::from);
        requests(since)
            .into_iter()
            .filter(|entry| {
                !read.contains(&entry["verb"]) && entry["objectRef"]["resource"] != "leases"
            })
            .collect()
    };
    let refused: Vec<Value> = requests(0)
        .into_iter()
        .filter(|entry| entry["responseStatus"]["code"] == 403)
        .collect();
    assert!(refused.is_empty(), "{refused:#?}");
    assert!(!writes(0).is_empty(), "the audit log was read");
    let read_secrets: BTreeSet<String> = requests(0)
        .into_iter()
        .filter(|entry| entry["verb"] == "get" && entry["objectRef"]["resource"] == "secrets")
        .filter_map(|entry| Some(entry["objectRef"]["name"].as_str()?.to_owned()))
        .collect();
    assert!(
        read_secrets.contains("splunk") && !read_secrets.contains("nobodys"),
        "{read_secrets:?}"
    );
    // Idle from here on: the lease is renewed twice, so time has passed, and nothing else is written.
    let leases: Api<Lease> = Api::namespaced(installed.client.clone(), names::OPERATOR_NAMESPACE);
    let renewed = async || {
        leases
            .get(names::LEASE)
            .await
            .map(|lease| lease.spec.and_then(|spec| spec.renew_time))
    };
    let settled = std::fs::read_to_string(installed.cluster.audit_log().unwrap())
        .unwrap()
        .lines()
        .count();
    for _ in 0..2 {
        let last = renewed().await.unwrap();
        eventually(
            "the lease is renewed",
            Duration::from_secs(40),
            async || Ok((renewed().await? != last).then_some(())),
        )
        .await
        .unwrap();
    }
    assert_eq!(writes(settled), Vec::<Value>::new());
    let (_, metrics) = operator.get("/metrics").await.unwrap();
    assert!(
        metrics.contains(r#"katonic_logging_writes_total{kind="Secret",outcome="success"}"#),
        "{metrics}"
    );
    assert!(!metrics.contains("rotated") && !operator.log().unwrap().contains("rotated"));
}

#[tokio::test]
async fn the_operator_may_try_a_pod_and_never_create_one() {
    let installed = installed().await;
    let operator = installed
        .cluster
        .client_for(names::OPERATOR_NAMESPACE, "katonic-logging")
        .await
        .unwrap();
    let pods: Api<Pod> = Api::namespaced(operator, PLATFORM);
    let dry_run = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    pods.create(&dry_run, &pod("trial", "web")).await.unwrap();
    eventually("the API server has the policy", SOON, async || {
        let refused = pods
            .create(&PostParams::default(), &pod("real", "web"))
            .await;
        if refused.is_ok() {
            // Before the API server has taken the policy up; the test is about what follows.
            let grace = DeleteParams::default().grace_period(0);
            let pods: Api<Pod> = Api::namespaced(installed.client.clone(), PLATFORM);
            pods.delete("real", &grace).await?;
        }
        let message = refused.err().map(|error| error.to_string());
        Ok(message.filter(|message| message.contains("in dry runs only")))
    })
    .await
    .unwrap();
    pods.create(&dry_run, &pod("trial", "web")).await.unwrap();
}

#[tokio::test]
async fn the_operator_may_restart_workloads_and_change_nothing_else_of_them() {
    let installed = installed().await;
    let operator = installed
        .cluster
        .client_for(names::OPERATOR_NAMESPACE, "katonic-logging")
        .await
        .unwrap();
    let template = json!({
        "metadata": {"labels": {"app": "web"}, "annotations": {"team": "search"}},
        "spec": {"containers": [{"name": "web", "image": "localhost/web:v1"}]},
    });
    for kind in ["Deployment", "StatefulSet", "DaemonSet"] {
        let workload = json!({
            "apiVersion": "apps/v1", "kind": kind, "metadata": {"name": "web", "labels": {"app": "web"}},
            "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": template},
        });
        let workload: DynamicObject = serde_json::from_value(workload).unwrap();
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("apps", "v1", kind));
        let all = |client| Api::<DynamicObject>::namespaced_with(client, PLATFORM, &resource);
        all(installed.client.clone())
            .create(&PostParams::default(), &workload)
            .await
            .unwrap();
        let workloads = all(operator.clone());
        let patch = async |patch: Value| {
            let patched = workloads
                .patch("web", &PatchParams::default(), &Patch::Merge(patch))
                .await;
            patched.map_err(|error| error.to_string())
        };
        let other = json!({"spec": {"template": {"metadata": {"annotations": {"team": "ads"}}}}});
        eventually("the API server has the policy", SOON, async || {
            let refused = patch(other.clone()).await.err();
            if refused.is_none() {
                // Before the API server has taken the policy up; the test is about what follows.
                let back = json!({"spec": {"template": {"metadata": {"annotations": {"team": "search"}}}}});
                let _ = patch(back).await;
            }
            Ok(refused.filter(|message| message.contains("may change no annotation but")))
        })
        .await
        .unwrap();
        let restart = json!({"spec": {"template": {"metadata": {"annotations": {
            names::RESTARTED_AT_ANNOTATION: "2026-01-01T00:00:00Z",
        }}}}});
        patch(restart).await.unwrap();
        for change in [
            json!({"spec": {"template": {"metadata": {"annotations": {"team": null}}}}}),
            json!({"spec": {"template": {"metadata": {"annotations": {"owner": "me"}}}}}),
            json!({"spec": {"template": {"metadata": {"labels": {"more": "yes"}}}}}),
            json!({"spec": {"template": {"spec": {"containers": [{"name": "web", "image": "localhost/mine:v1"}]}}}}),
            json!({"spec": {"template": {"spec": {"hostNetwork": true}}}}),
            json!({"spec": {"minReadySeconds": 5}}),
            json!({"spec": {"revisionHistoryLimit": 0}}),
            json!({"metadata": {"labels": {"app": "mine"}}}),
            json!({"metadata": {"annotations": {"owner": "me"}}}),
            json!({"metadata": {"finalizers": ["example.com/mine"]}}),
        ] {
            let refused = patch(change.clone()).await.unwrap_err();
            assert!(
                refused.contains("katonic-logging may"),
                "{kind} {change}: {refused}"
            );
        }
    }
}

#[tokio::test]
async fn the_operator_may_write_its_own_admission_policies_and_no_others() {
    let installed = installed().await;
    let operator = installed
        .cluster
        .client_for(names::OPERATOR_NAMESPACE, "katonic-logging")
        .await
        .unwrap();
    let policies: Api<MutatingAdmissionPolicy> = Api::all(operator.clone());
    let bindings: Api<MutatingAdmissionPolicyBinding> = Api::all(operator);
    let policy = |name: &str| -> Patch<MutatingAdmissionPolicy> {
        let policy = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicy",
            "metadata": {"name": name},
            "spec": {
                "matchConstraints": {"resourceRules": [{
                    "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"],
                }]},
                "reinvocationPolicy": "Never",
                "mutations": [{"patchType": "JSONPatch", "jsonPatch": {
                    "expression": "[JSONPatch{op: 'test', path: '/kind', value: 'Pod'}]",
                }}],
            },
        });
        Patch::Apply(serde_json::from_value(policy).unwrap())
    };
    let binding = |name: &str| -> Patch<MutatingAdmissionPolicyBinding> {
        let binding = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicyBinding",
            "metadata": {"name": name}, "spec": {"policyName": names::ADMISSION_POLICIES[0]},
        });
        Patch::Apply(serde_json::from_value(binding).unwrap())
    };
    let apply = PatchParams::apply(names::FIELD_MANAGER);
    for name in names::ADMISSION_POLICIES {
        policies.patch(name, &apply, &policy(name)).await.unwrap();
    }
    for name in [names::ADMISSION_BINDING, names::TRIAL_BINDING] {
        bindings.patch(name, &apply, &binding(name)).await.unwrap();
    }
    for name in [
        "katonic-log-agent-c.logging.katonic.ai",
        "somebody-elses.example.com",
    ] {
        let refused = policies.patch(name, &apply, &policy(name)).await;
        assert!(is_forbidden(&refused.unwrap_err()), "{name}");
        let refused = bindings.patch(name, &apply, &binding(name)).await;
        assert!(is_forbidden(&refused.unwrap_err()), "{name}");
    }
}

fn is_forbidden(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 403)
}
