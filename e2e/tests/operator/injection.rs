//! Injection: pods that get the agent, and namespaces that refuse it.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, Pod, ResourceQuota};
use katonic_log_config::layout;
use katonic_logging_core::{admission, names};
use katonic_logging_e2e::{
    cluster::{Options, Tier},
    eventually::eventually,
    operator::{COMPUTE, Installed, Operator, PLATFORM, SOON, condition},
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use tokio::{task::JoinSet, time::interval};

use crate::{
    admission_bindings, admission_policies, apply, in_force, init_containers, installed, pod,
    with_policy,
};

/// How long a namespace may take to go and to come.
const A_CHANGE: Duration = Duration::from_mins(1);

/// How many pods a second, and for how many seconds.
const RATE: u32 = 500;
const SECONDS: u32 = 2;

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_pods_a_second_all_get_the_agent() {
    let installed = installed().await;
    let _operator = in_force(&installed).await;
    let pods: Api<Pod> = Api::namespaced(installed.client.clone(), PLATFORM);
    let dry_run = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let mut creations = JoinSet::new();
    let mut next = interval(Duration::from_secs(1) / RATE);
    for number in 0..RATE * SECONDS {
        next.tick().await;
        let (pods, dry_run) = (pods.clone(), dry_run.clone());
        creations.spawn(async move {
            pods.create(&dry_run, &pod(&format!("crowd-{number}"), "web"))
                .await
        });
    }
    let mut created = 0;
    while let Some(answer) = creations.join_next().await {
        assert_eq!(
            init_containers(&answer.unwrap().unwrap()),
            [layout::CONTAINER]
        );
        created += 1;
    }
    assert_eq!(created, RATE * SECONDS);
}

#[tokio::test]
async fn a_namespace_that_comes_to_forbid_the_agent_is_spared_while_no_operator_runs() {
    let installed = installed().await;
    in_force(&installed).await.kill().await.unwrap();
    let namespaces: Api<Namespace> = Api::all(installed.client.clone());
    let label = json!({"metadata": {"labels": {names::POD_SECURITY_LABEL: "baseline"}}});
    namespaces
        .patch(COMPUTE, &PatchParams::default(), &Patch::Merge(label))
        .await
        .unwrap();
    let pods: Api<Pod> = Api::namespaced(installed.client.clone(), COMPUTE);
    let dry_run = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    // No pod is refused, neither before the API server has seen the label nor after it.
    eventually("pods are created without the agent", SOON, async || {
        let created = pods.create(&dry_run, &pod("p", "web")).await.unwrap();
        Ok(init_containers(&created).is_empty().then_some(()))
    })
    .await
    .unwrap();
    let others: Api<Pod> = Api::namespaced(installed.client.clone(), PLATFORM);
    let created = others.create(&dry_run, &pod("p", "web")).await.unwrap();
    assert_eq!(init_containers(&created), [layout::CONTAINER]);
}

#[tokio::test]
async fn pods_created_from_then_on_get_the_agent_and_are_counted() {
    let installed = installed().await;
    let pods: Api<Pod> = Api::namespaced(installed.client.clone(), PLATFORM);
    pods.create(&PostParams::default(), &pod("before", "web"))
        .await
        .unwrap();
    let _operator = in_force_with_uncovered_pod(&installed).await;
    // The policy says no more than that the pod before lacks it: injection is in force, and no moment is waited for.
    let after = pods
        .create(&PostParams::default(), &pod("after", "web"))
        .await
        .unwrap();
    assert_eq!(init_containers(&after), [layout::CONTAINER]);
    let policies = installed.policies();
    eventually("one of two pods is covered", SOON, async || {
        let status = policies.get("logs").await?.status.unwrap_or_default();
        Ok(status
            .pods
            .is_some_and(|pods| pods.summary == "1/2")
            .then_some(()))
    })
    .await
    .unwrap();
    let mut quiet = pod("quiet", "web");
    quiet
        .labels_mut()
        .insert(names::INJECT_LABEL.into(), names::INJECT_NO.into());
    assert!(
        init_containers(&pods.create(&PostParams::default(), &quiet).await.unwrap()).is_empty()
    );
    pods.delete(
        "before",
        &DeleteParams {
            grace_period_seconds: Some(0),
            ..DeleteParams::default()
        },
    )
    .await
    .unwrap();
    let status = installed.ready("logs", "True", "InForce").await.unwrap();
    assert_eq!(status.pods.unwrap().summary, "1/1");
}

async fn in_force_with_uncovered_pod(installed: &Installed) -> Operator {
    let operator = with_policy(installed).await;
    let status = installed
        .ready("logs", "False", "PodsWithoutAgent")
        .await
        .unwrap();
    let message = &condition(&status, "Injected").unwrap().message;
    assert!(
        message.contains("1 have no owner and get it when they are next created"),
        "{message}"
    );
    operator
}

#[tokio::test]
async fn a_namespace_that_refuses_the_agent_is_told_in_the_servers_words() {
    let installed = installed().await;
    let quota = json!({
        "apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "big-containers", "namespace": COMPUTE},
        "spec": {"limits": [{"type": "Container", "min": {"memory": "1Gi"}}]},
    });
    let apply = ["apply", "-f", "-"];
    installed
        .cluster
        .kubectl_with(&apply, &quota.to_string())
        .await
        .unwrap()
        .ok()
        .unwrap();
    let _operator = with_policy(&installed).await;
    let status = installed
        .ready("logs", "False", "PodsRefused")
        .await
        .unwrap();
    let message = &condition(&status, "Stalled").unwrap().message;
    // Nobody is kept out because of us: a pod that satisfies the limit gets in, without the agent.
    let pods: Api<Pod> = Api::namespaced(installed.client.clone(), COMPUTE);
    let mut large = serde_json::to_value(pod("large", "web")).unwrap();
    large["spec"]["containers"][0]["resources"] =
        json!({"requests": {"memory": "1Gi"}, "limits": {"memory": "1Gi"}});
    let large = serde_json::from_value(large).unwrap();
    let created = pods.create(&PostParams::default(), &large).await.unwrap();
    assert!(init_containers(&created).is_empty());
    pods.delete("large", &DeleteParams::default().grace_period(0))
        .await
        .unwrap();
    assert!(
        message.contains("minimum memory usage per Container is 1Gi"),
        "{message}"
    );
    installed
        .cluster
        .kubectl(&["delete", "limitrange", "-n", COMPUTE, "big-containers"])
        .await
        .unwrap()
        .ok()
        .unwrap();
    installed.ready("logs", "True", "InForce").await.unwrap();
}

/// The namespaces in which the admission policy is bound.
async fn bound(installed: &Installed) -> Vec<String> {
    let binding = admission_bindings(installed)
        .get_opt(names::ADMISSION_BINDING)
        .await
        .unwrap();
    let spec = binding.and_then(|binding| binding.spec);
    let namespaces = spec.map(|spec| admission::bound_namespaces(&spec));
    namespaces.unwrap_or_default().into_iter().collect()
}

async fn label(installed: &Installed, namespace: &str, label: &str) {
    let arguments = ["label", "--overwrite", "namespace", namespace, label];
    let labelled = installed.cluster.kubectl(&arguments).await.unwrap();
    labelled.ok().unwrap();
}

/// Whether pods of users get in, and the agents that they get.
async fn created(installed: &Installed, namespace: &str, pod: &Value) -> Vec<String> {
    let pods: Api<Pod> = Api::namespaced(installed.client.clone(), namespace);
    let dry_run = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let pod = serde_json::from_value(pod.clone()).unwrap();
    let created = pods.create(&dry_run, &pod).await.unwrap();
    init_containers(&created)
        .into_iter()
        .map(str::to_owned)
        .collect()
}

/// Waits until a pod gets into the compute plane, without the agent.
async fn gets_in_without_the_agent(installed: &Installed) {
    let pods: Api<Pod> = Api::namespaced(installed.client.clone(), COMPUTE);
    let dry_run = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let modest = serde_json::from_value(modest()).unwrap();
    eventually("pods get in without the agent", SOON, async || {
        let created = pods.create(&dry_run, &modest).await?;
        Ok(init_containers(&created).is_empty().then_some(()))
    })
    .await
    .unwrap();
}

/// A pod that every namespace takes.
fn modest() -> Value {
    json!({
        "metadata": {"name": "modest"},
        "spec": {
            "securityContext": {"runAsNonRoot": true, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "web", "image": "localhost/none:v1",
                "resources": {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "1", "memory": "1Gi"}},
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
            }],
        },
    })
}

#[tokio::test]
async fn a_pod_security_level_that_forbids_the_agent_is_found_before_anything_is_written() {
    let installed = installed().await;
    label(
        &installed,
        PLATFORM,
        "pod-security.kubernetes.io/enforce=baseline",
    )
    .await;
    label(
        &installed,
        COMPUTE,
        "pod-security.kubernetes.io/enforce=restricted",
    )
    .await;
    let _operator = with_policy(&installed).await;
    let status = installed
        .ready("logs", "False", "Unsupported")
        .await
        .unwrap();
    let message = &condition(&status, "Stalled").unwrap().message;
    let advice = "set its label pod-security.kubernetes.io/enforce to privileged";
    assert!(message.contains(advice), "{message}");
    for namespace in [PLATFORM, COMPUTE] {
        assert!(installed.bundle_secret(namespace).await.unwrap().is_none());
        assert!(created(&installed, namespace, &modest()).await.is_empty());
    }
    let all = ListParams::default();
    assert!(
        admission_policies(&installed)
            .list(&all)
            .await
            .unwrap()
            .items
            .is_empty()
    );
    assert_eq!(bound(&installed).await, Vec::<String>::new());
    label(
        &installed,
        PLATFORM,
        "pod-security.kubernetes.io/enforce=privileged",
    )
    .await;
    label(
        &installed,
        COMPUTE,
        "pod-security.kubernetes.io/enforce=privileged",
    )
    .await;
    installed.ready("logs", "True", "InForce").await.unwrap();
    assert_eq!(
        created(&installed, COMPUTE, &modest()).await,
        [layout::CONTAINER]
    );
}

/// Somebody's policy for the compute plane: what all its pods have to be like.
async fn demand(installed: &Installed, name: &str, expression: &str, message: &str) {
    let policy = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": name},
        "spec": {
            "matchConstraints": {"resourceRules": [{
                "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"],
            }]},
            "validations": [{"expression": expression, "message": message}],
        },
    });
    let binding = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": name},
        "spec": {
            "policyName": name, "validationActions": ["Deny"],
            "matchResources": {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": COMPUTE}}},
        },
    });
    for object in [policy, binding] {
        apply(installed, &object).await;
    }
}

/// Forbids in the compute plane what the agent needs.
async fn forbid_host_paths(installed: &Installed) {
    let no_host_path =
        "!has(object.spec.volumes) || !object.spec.volumes.exists(v, has(v.hostPath))";
    let message = "hostPath volumes are not allowed";
    demand(
        installed,
        "no-host-paths.example.com",
        no_host_path,
        message,
    )
    .await;
    let mut host_path = modest();
    host_path["spec"]["volumes"] = json!([{"name": "v", "hostPath": {"path": "/tmp"}}]);
    let pods: Api<Pod> = Api::namespaced(installed.client.clone(), COMPUTE);
    let dry_run = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let host_path = serde_json::from_value(host_path).unwrap();
    eventually("the API server has taken it up", SOON, async || {
        Ok(pods
            .create(&dry_run, &host_path)
            .await
            .is_err()
            .then_some(()))
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_policy_against_host_paths_is_found_before_anything_is_written() {
    let installed = installed().await;
    forbid_host_paths(&installed).await;
    let _operator = with_policy(&installed).await;
    let status = installed
        .ready("logs", "False", "Unsupported")
        .await
        .unwrap();
    let message = &condition(&status, "Stalled").unwrap().message;
    for words in [
        "namespace katonic-compute of plane Compute forbids what the log agent needs",
        "except container katonic-log-agent and volume katonic-podlogs",
        "hostPath volumes are not allowed",
    ] {
        assert!(message.contains(words), "{message}");
    }
    eventually("the other plane is served", SOON, async || {
        Ok((bound(&installed).await == [PLATFORM]).then_some(()))
    })
    .await
    .unwrap();
    assert!(installed.bundle_secret(COMPUTE).await.unwrap().is_none());
    assert!(installed.bundle_secret(PLATFORM).await.unwrap().is_some());
    assert!(created(&installed, COMPUTE, &modest()).await.is_empty());
}

#[tokio::test]
async fn a_policy_of_others_that_comes_later_is_noticed_while_pods_come_and_go() {
    let installed = installed().await;
    let _operator = in_force(&installed).await;
    forbid_host_paths(&installed).await;
    let pods: Api<Pod> = Api::namespaced(installed.client.clone(), PLATFORM);
    let another = PostParams::default();
    eventually("the plane is left alone", A_CHANGE, async || {
        let mut pod = pod("p", "web");
        pod.metadata.name = None;
        pod.metadata.generate_name = Some("come-and-go-".into());
        pods.create(&another, &pod).await?;
        Ok((bound(&installed).await == [PLATFORM]).then_some(()))
    })
    .await
    .unwrap();
    installed
        .ready("logs", "False", "Unsupported")
        .await
        .unwrap();
    gets_in_without_the_agent(&installed).await;
}

/// Demands a label of every pod of the compute plane, and returns a pod that has it.
async fn demand_a_label(installed: &Installed) -> Value {
    let labelled = "has(object.metadata.labels) && 'team' in object.metadata.labels";
    let message = "the label team is missing";
    demand(installed, "labels.example.com", labelled, message).await;
    let pods: Api<Pod> = Api::namespaced(installed.client.clone(), COMPUTE);
    let dry_run = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    eventually("the API server has taken it up", SOON, async || {
        let refused = pods.create(&dry_run, &pod("p", "web")).await.is_err();
        Ok(refused.then_some(()))
    })
    .await
    .unwrap();
    let mut of_a_team = modest();
    of_a_team["metadata"]["labels"] = json!({"team": "one"});
    of_a_team
}

/// Waits until the policy says that nothing can be learnt about the compute plane.
async fn nothing_can_be_learnt(installed: &Installed) {
    let status = installed
        .ready("logs", "False", "PodsRefused")
        .await
        .unwrap();
    let message = &condition(&status, "Injected").unwrap().message;
    for words in [
        "namespace katonic-compute of plane Compute refuses trial pods, with the log agent or without",
        "until one of them has been let in to learn from",
        "the label team is missing",
    ] {
        assert!(message.contains(words), "{message}");
    }
}

#[tokio::test]
async fn a_namespace_that_demands_a_label_of_its_pods_is_served_once_a_pod_shows_which() {
    let installed = installed().await;
    let of_a_team = demand_a_label(&installed).await;
    let _operator = with_policy(&installed).await;
    nothing_can_be_learnt(&installed).await;
    assert!(created(&installed, COMPUTE, &of_a_team).await.is_empty());
    let pods: Api<Pod> = Api::namespaced(installed.client.clone(), COMPUTE);
    let first = serde_json::from_value(of_a_team.clone()).unwrap();
    pods.create(&PostParams::default(), &first).await.unwrap();
    eventually("the next one gets the agent", A_CHANGE, async || {
        let mut next = of_a_team.clone();
        next["metadata"]["name"] = "next".into();
        Ok((created(&installed, COMPUTE, &next).await == [layout::CONTAINER]).then_some(()))
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn what_forbids_the_agent_is_found_behind_what_forbids_every_trial_pod() {
    let installed = installed().await;
    forbid_host_paths(&installed).await;
    let of_a_team = demand_a_label(&installed).await;
    let _operator = with_policy(&installed).await;
    // Which of both the API server names is not said anywhere, and no pod of a user may depend on it.
    let policies = installed.policies();
    eventually("the plane is left alone", SOON, async || {
        let status = policies.get("logs").await?.status.unwrap_or_default();
        let injected = condition(&status, "Injected").cloned();
        let is_told = injected.as_ref().is_some_and(|injected| {
            ["PodsRefused", "Unsupported"].contains(&injected.reason.as_str())
        });
        anyhow::ensure!(is_told, "{injected:?}");
        Ok((bound(&installed).await == [PLATFORM]).then_some(()))
    })
    .await
    .unwrap();
    let pods: Api<Pod> = Api::namespaced(installed.client.clone(), COMPUTE);
    let first = serde_json::from_value(of_a_team.clone()).unwrap();
    let first = pods.create(&PostParams::default(), &first).await.unwrap();
    assert!(init_containers(&first).is_empty());
    eventually("it is known what forbids the agent", A_CHANGE, async || {
        let status = policies.get("logs").await?.status.unwrap_or_default();
        let injected = condition(&status, "Injected").cloned();
        let is_known = injected.as_ref().is_some_and(|injected| {
            injected
                .message
                .contains("hostPath volumes are not allowed")
        });
        anyhow::ensure!(is_known, "{injected:?}");
        Ok(Some(()))
    })
    .await
    .unwrap();
    assert_eq!(bound(&installed).await, [PLATFORM]);
    let mut next = of_a_team;
    next["metadata"]["name"] = "next".into();
    assert!(created(&installed, COMPUTE, &next).await.is_empty());
}

#[tokio::test]
async fn an_outage_of_somebody_elses_webhook_takes_no_injection_away() {
    let installed = installed().await;
    let operator = in_force(&installed).await;
    let webhook = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": "others.example.com"},
        "webhooks": [{
            "name": "others.example.com", "admissionReviewVersions": ["v1"], "sideEffects": "None",
            "failurePolicy": "Fail", "timeoutSeconds": 1,
            "clientConfig": {"url": "https://127.0.0.1:1/nobody"},
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": COMPUTE}},
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"]}],
        }],
    });
    apply(&installed, &webhook).await;
    let pods: Api<Pod> = Api::namespaced(installed.client.clone(), COMPUTE);
    let dry_run = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    eventually("the webhook is missed", SOON, async || {
        let refused = pods.create(&dry_run, &pod("p", "web")).await;
        Ok(refused.is_err().then_some(()))
    })
    .await
    .unwrap();
    // An operator that starts anew knows nothing of before.
    operator.kill().await.unwrap();
    let _operator = Operator::start(&installed.cluster, "two").await.unwrap();
    label(&installed, COMPUTE, "makes-it=look").await;
    installed.ready("logs", "True", "InForce").await.unwrap();
    assert_eq!(bound(&installed).await, [COMPUTE, PLATFORM]);
    let delete = [
        "delete",
        "validatingwebhookconfiguration",
        "others.example.com",
    ];
    let deleted = installed.cluster.kubectl(&delete).await.unwrap();
    deleted.ok().unwrap();
    eventually("pods are taken again, with the agent", SOON, async || {
        let created = pods.create(&dry_run, &pod("p", "web")).await?;
        Ok((init_containers(&created) == [layout::CONTAINER]).then_some(()))
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn what_a_namespace_refuses_later_is_noticed_and_its_pods_are_left_alone() {
    let installed = installed().await;
    let _operator = in_force(&installed).await;
    let limits = json!({
        "apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "later", "namespace": COMPUTE},
        "spec": {"limits": [{"type": "Container", "min": {"memory": "1Gi"}}]},
    });
    let quota = json!({
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "later", "namespace": COMPUTE},
        "spec": {"hard": {"limits.cpu": "10"}},
    });
    for (object, words) in [
        (limits, "minimum memory usage per Container is 1Gi"),
        (quota, "must specify limits.cpu for: katonic-log-agent"),
    ] {
        apply(&installed, &object).await;
        if object["kind"] == "ResourceQuota" {
            // As the quota controller would: it is enforced from then on.
            let quotas: Api<ResourceQuota> = Api::namespaced(installed.client.clone(), COMPUTE);
            let status = Patch::Merge(
                json!({"status": {"hard": object["spec"]["hard"], "used": {"limits.cpu": "0"}}}),
            );
            quotas
                .patch_status("later", &PatchParams::default(), &status)
                .await
                .unwrap();
        }
        let status = installed
            .ready("logs", "False", "PodsRefused")
            .await
            .unwrap();
        let message = &condition(&status, "Stalled").unwrap().message;
        assert!(message.contains(words), "{message}");
        // Agents that run there already are told all the same.
        assert!(installed.bundle_secret(COMPUTE).await.unwrap().is_some());
        gets_in_without_the_agent(&installed).await;
        let kind = object["kind"].as_str().unwrap();
        let delete = ["delete", kind, "-n", COMPUTE, "later"];
        let deleted = installed.cluster.kubectl(&delete).await.unwrap();
        deleted.ok().unwrap();
        installed.ready("logs", "True", "InForce").await.unwrap();
        assert_eq!(bound(&installed).await, [COMPUTE, PLATFORM]);
    }
    label(
        &installed,
        COMPUTE,
        "pod-security.kubernetes.io/enforce=restricted",
    )
    .await;
    installed
        .ready("logs", "False", "Unsupported")
        .await
        .unwrap();
    gets_in_without_the_agent(&installed).await;
}

#[tokio::test]
async fn a_namespace_deleted_while_it_is_prepared_is_served_when_it_is_there_again() {
    let installed = Installed::start(Tier::Controllers, Options::default())
        .await
        .unwrap();
    let namespaces: Api<Namespace> = Api::all(installed.client.clone());
    let rbac = katonic_logging_e2e::program::workspace().join("manifests/plane/rbac.yaml");
    let again = async || {
        eventually("the namespace is gone", A_CHANGE, async || {
            let found = namespaces.get_opt(COMPUTE).await?;
            Ok(found.is_none().then_some(()))
        })
        .await
        .unwrap();
        installed.cluster.namespace(COMPUTE).await.unwrap();
        let apply = ["apply", "-n", COMPUTE, "-f", rbac.to_str().unwrap()];
        let applied = installed.cluster.kubectl(&apply).await.unwrap();
        applied.ok().unwrap();
        eventually("its pods get the agent", A_CHANGE, async || {
            let pods: Api<Pod> = Api::namespaced(installed.client.clone(), COMPUTE);
            let dry_run = PostParams {
                dry_run: true,
                ..PostParams::default()
            };
            let created = pods.create(&dry_run, &pod("p", "web")).await?;
            Ok((init_containers(&created) == [layout::CONTAINER]).then_some(()))
        })
        .await
        .unwrap();
        installed.ready("logs", "True", "InForce").await.unwrap();
        assert!(installed.bundle(COMPUTE).await.unwrap().is_some());
    };
    let _operator = with_policy(&installed).await;
    // While it is prepared: nothing has been waited for.
    let delete = DeleteParams::default();
    namespaces.delete(COMPUTE, &delete).await.unwrap();
    again().await;
    // And when it was in force.
    namespaces.delete(COMPUTE, &delete).await.unwrap();
    let status = installed
        .ready("logs", "False", "NamespaceMissing")
        .await
        .unwrap();
    assert!(condition(&status, "Reconciling").is_some());
    again().await;
    assert_eq!(bound(&installed).await, [COMPUTE, PLATFORM]);
}
