//! Running pods that follow a policy: whom the status names, and what the operator restarts by itself.

#![expect(
    clippy::unwrap_used,
    reason = "what fails while a test is prepared must fail the test"
)]

mod controllers;
mod node;

use k8s_openapi::api::core::v1::Pod;
use katonic_log_config::layout;
use katonic_logging_core::names;
use katonic_logging_crds::{LoggingPolicy, Rollout};
use katonic_logging_e2e::operator::{Installed, splunk_policy};
use kube::{Api, Client, ResourceExt as _, api::ListParams};
use serde_json::Value;

fn automatic(name: &str, endpoint: &str) -> LoggingPolicy {
    let mut policy = splunk_policy(name, endpoint, "splunk");
    policy.spec.rollout = Some(Rollout::Automatic);
    policy
}

fn has_agent(pod: &Pod) -> bool {
    let spec = pod.spec.as_ref().unwrap();
    let mut init_containers = spec.init_containers.iter().flatten();
    init_containers.any(|container| container.name == layout::CONTAINER)
}

/// Pods of an app that are not about to end.
async fn pods_of(client: &Client, namespace: &str, app: &str) -> Vec<Pod> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let labelled = ListParams::default().labels(&format!("app={app}"));
    let found = pods.list(&labelled).await.unwrap().items;
    found
        .into_iter()
        .filter(|pod| pod.metadata.deletion_timestamp.is_none())
        .collect()
}

/// What kubectl says of an object.
async fn get(installed: &Installed, namespace: &str, object: &str) -> Value {
    let output = installed
        .cluster
        .kubectl(&["-n", namespace, "get", object, "-o", "json"])
        .await
        .unwrap();
    serde_json::from_str(&output.ok().unwrap()).unwrap()
}

/// When a workload was restarted, if it was.
async fn restarted_at(installed: &Installed, namespace: &str, workload: &str) -> Option<String> {
    let object = get(installed, namespace, workload).await;
    let annotations = &object["spec"]["template"]["metadata"]["annotations"];
    annotations[names::RESTARTED_AT_ANNOTATION]
        .as_str()
        .map(str::to_owned)
}

fn uid(pod: &Pod) -> String {
    pod.uid().unwrap()
}
