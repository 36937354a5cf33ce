//! How the operator tells the agents that it has given to pods from those of before, and from containers that only bear their name.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use k8s_openapi::api::core::v1::Pod;
use katonic_log_config::layout;
use katonic_logging_core::names;
use katonic_logging_e2e::{
    eventually::eventually,
    operator::{Installed, Operator, PLATFORM},
};
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use crate::{admission_bindings, apply, in_force, init_containers, installed, pod};

/// How long counts may take to follow: what others make of the agent is looked at when the last look is half a minute old.
const A_LOOK: Duration = Duration::from_mins(2);

fn pods(installed: &Installed) -> Api<Pod> {
    Api::namespaced(installed.client.clone(), PLATFORM)
}

/// A pod as injection makes it, to be changed and written by hand.
async fn injected(installed: &Installed) -> Value {
    let dry_run = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let created = pods(installed).create(&dry_run, &pod("p", "web")).await;
    let mut created = serde_json::to_value(created.unwrap()).unwrap();
    // The API server gives each pod a volume of its own for the token.
    for volume in created["spec"]["volumes"].as_array().unwrap().clone() {
        let name = volume["name"].as_str().unwrap();
        if name.starts_with("kube-api-access-") {
            let text = created.to_string().replace(name, "kube-api-access");
            created = serde_json::from_str(&text).unwrap();
        }
    }
    json!({"metadata": {"annotations": created["metadata"]["annotations"]}, "spec": created["spec"]})
}

/// Creates the pod with another agent.
async fn create(installed: &Installed, name: &str, like: &Value, change: impl FnOnce(&mut Value)) {
    let mut pod = like.clone();
    pod["metadata"]["name"] = json!(name);
    change(&mut pod["spec"]["initContainers"][0]);
    let pod: Pod = serde_json::from_value(pod).unwrap();
    let created = pods(installed).create(&PostParams::default(), &pod).await;
    assert_eq!(init_containers(&created.unwrap()), [layout::CONTAINER]);
}

/// Waits until the policy counts its pods so: how many it selects and how many run the agent, and which do not have the present one.
async fn counted(installed: &Installed, summary: &str, uncovered: &[(&str, i32)]) {
    let policies = installed.policies();
    let expected: BTreeMap<String, i32> = uncovered
        .iter()
        .map(|(reason, count)| ((*reason).to_owned(), *count))
        .collect();
    eventually(format!("{summary} and {uncovered:?}"), A_LOOK, async || {
        let status = policies.get("logs").await?.status.unwrap_or_default();
        let Some(pods) = status.pods else {
            return Ok(None);
        };
        let found = pods.uncovered.into_iter();
        let found: BTreeMap<String, i32> = found.map(|one| (one.reason, one.count)).collect();
        anyhow::ensure!(
            pods.summary == summary && found == expected,
            "{} and {found:?}",
            pods.summary
        );
        Ok(Some(()))
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn agents_are_told_by_what_they_are_also_when_nothing_is_remembered() {
    let installed = installed().await;
    let operator = in_force(&installed).await;
    let like = injected(&installed).await;
    let given = pods(&installed)
        .create(&PostParams::default(), &pod("given", "web"))
        .await
        .unwrap();
    assert_eq!(init_containers(&given), [layout::CONTAINER]);
    create(&installed, "beside", &like, |agent| {
        let variables = agent["env"].as_array_mut().unwrap();
        variables.push(json!({"name": "AWS_ROLE_ARN", "value": "arn:aws:iam::1:role/logs"}));
        agent["resources"]["limits"]["cpu"] = json!("1");
    })
    .await;
    create(&installed, "older", &like, |agent| {
        agent["image"] = json!("localhost/katonic-log-agent:0.0.9");
    })
    .await;
    create(&installed, "fewer", &like, |agent| {
        agent["resources"]["limits"]["memory"] = json!("20Mi");
    })
    .await;
    create(&installed, "foreign", &like, |agent| {
        agent["image"] = json!("localhost/miner:v1");
    })
    .await;
    create(&installed, "detour", &like, |agent| {
        let variables = agent["env"].as_array_mut().unwrap();
        variables.push(json!({"name": "https_proxy", "value": "http://elsewhere:3128"}));
    })
    .await;
    let mut trial = pod("trial", "web");
    let label = (names::TRIAL_LABEL.to_owned(), "in-force".to_owned());
    trial.metadata.labels = Some([label].into());
    let trial = pods(&installed)
        .create(&PostParams::default(), &trial)
        .await;
    assert!(init_containers(&trial.unwrap()).is_empty());
    let uncovered = [("OlderAgent", 2), ("ForeignAgent", 2), ("TrialLabel", 1)];
    counted(&installed, "4/4", &uncovered).await;

    operator.kill().await.unwrap();
    let forget = json!({"metadata": {"annotations": {names::HISTORY_ANNOTATION: null}}});
    let bindings = admission_bindings(&installed);
    let name = names::ADMISSION_BINDING;
    bindings
        .patch(name, &PatchParams::default(), &Patch::Merge(forget))
        .await
        .unwrap();
    let _operator = Operator::start(&installed.cluster, "two").await.unwrap();
    eventually("it is remembered anew", A_LOOK, async || {
        let binding = bindings.get(names::ADMISSION_BINDING).await?;
        let annotations = binding.metadata.annotations.unwrap_or_default();
        Ok(annotations
            .contains_key(names::HISTORY_ANNOTATION)
            .then_some(()))
    })
    .await
    .unwrap();
    create(&installed, "older-too", &like, |agent| {
        agent["image"] = json!("localhost/katonic-log-agent:0.0.8");
    })
    .await;
    let uncovered = [("OlderAgent", 3), ("ForeignAgent", 2), ("TrialLabel", 1)];
    counted(&installed, "5/5", &uncovered).await;
}

/// Somebody's policy that has the images of all pods come from a mirror.
fn mirrors_images() -> [Value; 2] {
    let name = "mirror.example.com";
    // Without a condition: a policy that did not match before the agent was there is not asked again.
    let image = "object.spec.initContainers[0].image";
    let is_ours = format!("has(object.spec.initContainers) && {image}.startsWith('localhost/')");
    let replaced = format!(
        "JSONPatch{{op: 'replace', path: '/spec/initContainers/0/image', value: 'mirror.example.com/' + {image}.substring(10)}}"
    );
    let policy = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicy",
        "metadata": {"name": name},
        "spec": {
            "failurePolicy": "Ignore",
            "reinvocationPolicy": "IfNeeded",
            "matchConstraints": {"resourceRules": [{
                "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"],
            }]},
            "mutations": [{"patchType": "JSONPatch", "jsonPatch": {
                "expression": format!("{is_ours} ? [{replaced}] : []"),
            }}],
        },
    });
    let binding = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicyBinding",
        "metadata": {"name": name}, "spec": {"policyName": name},
    });
    [policy, binding]
}

#[tokio::test]
async fn what_somebody_comes_to_make_of_the_agent_in_every_pod_is_learnt_while_pods_come_and_go() {
    let installed = installed().await;
    let _operator = in_force(&installed).await;
    for object in mirrors_images() {
        apply(&installed, &object).await;
    }
    let dry_run = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    eventually("images come from the mirror", A_LOOK, async || {
        let created = pods(&installed).create(&dry_run, &pod("p", "web")).await?;
        let spec = created.spec.unwrap();
        let image = spec.init_containers.unwrap().remove(0).image.unwrap();
        Ok(image.starts_with("mirror.example.com/").then_some(()))
    })
    .await
    .unwrap();
    let policies = installed.policies();
    let come = AtomicUsize::new(0);
    eventually("no pod counts as foreign", A_LOOK, async || {
        let number = come.fetch_add(1, Ordering::Relaxed);
        let another = pod(&format!("come-{number}"), "web");
        pods(&installed)
            .create(&PostParams::default(), &another)
            .await?;
        let status = policies.get("logs").await?.status.unwrap_or_default();
        let is_covered = status
            .pods
            .as_ref()
            .is_some_and(|pods| pods.injected > 0 && pods.uncovered.is_empty());
        anyhow::ensure!(is_covered, "{:?}", status.pods);
        Ok(Some(()))
    })
    .await
    .unwrap();
    let come = come.into_inner();
    counted(&installed, &format!("{come}/{come}"), &[]).await;
}
