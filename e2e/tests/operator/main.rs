//! The operator against a real API server, with its shipped manifests and the rights that they grant, and no others.

#![expect(
    clippy::unwrap_used,
    reason = "what fails while a test is prepared must fail the test"
)]

mod agents;
mod archive;
mod audit;
mod change;
mod claim;
mod credential;
mod doctor;
mod drift;
mod election;
mod injection;
mod installation;
mod policy;
mod rights;
mod status;

use std::collections::BTreeMap;

use k8s_openapi::{
    ByteString,
    api::{
        admissionregistration::v1::{MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding},
        core::v1::{ConfigMap, Pod, Secret},
    },
};
use katonic_logging_core::names;
use katonic_logging_e2e::{
    cluster::{Options, Tier},
    operator::{Installed, Operator, splunk_policy},
};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

const ENDPOINT: &str = "https://hec.example.com:8088";

async fn installed() -> Installed {
    Installed::start(Tier::ApiServer, Options::default())
        .await
        .unwrap()
}

/// An operator, and the policy `logs` with its Secret.
async fn with_policy(installed: &Installed) -> Operator {
    let operator = Operator::start(&installed.cluster, "one").await.unwrap();
    installed
        .sink_secret("splunk", "token", "abc")
        .await
        .unwrap();
    installed
        .create(&splunk_policy("logs", ENDPOINT, "splunk"))
        .await
        .unwrap();
    operator
}

/// A policy in force, its Secret and its operator.
async fn in_force(installed: &Installed) -> Operator {
    let operator = with_policy(installed).await;
    installed.ready("logs", "True", "InForce").await.unwrap();
    operator
}

fn admission_policies(installed: &Installed) -> Api<MutatingAdmissionPolicy> {
    Api::all(installed.client.clone())
}

fn admission_bindings(installed: &Installed) -> Api<MutatingAdmissionPolicyBinding> {
    Api::all(installed.client.clone())
}

async fn data(installed: &Installed, namespace: &str) -> BTreeMap<String, ByteString> {
    installed
        .bundle_secret(namespace)
        .await
        .unwrap()
        .and_then(|secret| secret.data)
        .unwrap_or_default()
}

async fn merge(secrets: &Api<Secret>, name: &str, patch: Value) {
    secrets
        .patch(name, &PatchParams::default(), &Patch::Merge(patch))
        .await
        .unwrap();
}

async fn install(installed: &Installed, yaml: &str) {
    let maps: Api<ConfigMap> = Api::namespaced(installed.client.clone(), names::OPERATOR_NAMESPACE);
    let patch = json!({"data": {names::INSTALLATION_KEY: yaml}});
    maps.patch(
        names::INSTALLATION,
        &PatchParams::default(),
        &Patch::Merge(patch),
    )
    .await
    .unwrap();
}

async fn apply(installed: &Installed, object: &Value) {
    let arguments = ["apply", "--server-side", "-f", "-"];
    let applied = installed
        .cluster
        .kubectl_with(&arguments, &object.to_string())
        .await
        .unwrap();
    applied.ok().unwrap();
}

fn installation(platform: &str, compute: &str) -> String {
    format!(
        "namespaces: {{platform: {{name: {platform}}}, compute: {{name: {compute}}}}}\n\
         logging: {{agent: {{image: 'localhost/katonic-log-agent:0.1.0'}}}}\n"
    )
}

fn pod(name: &str, container: &str) -> Pod {
    let pod = json!({
        "metadata": {"name": name},
        "spec": {"containers": [{"name": container, "image": "localhost/none:v1"}]},
    });
    serde_json::from_value(pod).unwrap()
}

fn init_containers(pod: &Pod) -> Vec<&str> {
    let spec = pod.spec.as_ref().unwrap();
    spec.init_containers
        .iter()
        .flatten()
        .map(|container| container.name.as_str())
        .collect()
}
