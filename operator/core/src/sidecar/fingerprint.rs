//! What tells an agent in a pod from anything else of its name: computed from the pod, never taken from what the pod says of itself.

use std::collections::BTreeMap;

use katonic_log_config::{bundle::hex, layout};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::VOLUMES;

/// Bytes of a digest: nobody finds another agent of the same one.
const BYTES: usize = 16;

/// Variables of ours; the one that differs from pod to pod is not among them.
const VARIABLES: [&str; 7] = [
    layout::ENV_NAMESPACE,
    layout::ENV_POD,
    layout::ENV_POD_UID,
    layout::ENV_NODE,
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
];

/// Digest of the agent's container and volumes as a pod has them.
///
/// What an API server fills in, and what others may add beside ours, is no part of it: resources, and variables and mounts of
/// other names. Everything else is: image, command and arguments, user, our mounts, where our volumes come from.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Fingerprint(String);

/// The container's part of it: no text of the container is in it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ContainerDigest(String);

impl ContainerDigest {
    /// Of a container as JSON.
    pub fn of(container: &Value) -> Self {
        Self(digest(&[&normal_container(container)]))
    }
}

impl Fingerprint {
    /// Of a container's digest and the pod's volumes.
    pub fn new<'a>(
        container: &ContainerDigest,
        volumes: impl IntoIterator<Item = &'a Value>,
    ) -> Self {
        let mut ours: Vec<Value> = volumes
            .into_iter()
            .filter(|volume| is_one_of(&volume["name"], &VOLUMES))
            .map(normal_volume)
            .collect();
        // Others may put theirs in between.
        ours.sort_by_key(|volume| volume["name"].as_str().map(str::to_owned));
        let container = Value::from(container.0.as_str());
        Self(digest(&[&container, &Value::from(ours)]))
    }

    /// Of the init container of our name in a pod's specification; that of nothing where there is none.
    pub fn read(spec: &Value) -> Self {
        let mut init_containers = spec["initContainers"].as_array().into_iter().flatten();
        let agent = init_containers.find(|one| one["name"] == layout::CONTAINER);
        let container = ContainerDigest::of(agent.unwrap_or(&Value::Null));
        Self::new(&container, spec["volumes"].as_array().into_iter().flatten())
    }
}

fn is_one_of(name: &Value, names: &[&str]) -> bool {
    name.as_str().is_some_and(|name| names.contains(&name))
}

/// Without what an API server fills in or somebody may add beside ours.
fn normal_container(container: &Value) -> Value {
    let mut normal = container.clone();
    let Some(fields) = normal.as_object_mut() else {
        return normal;
    };
    // Limit ranges and autoscalers set them.
    fields.remove("resources");
    fields.remove("resizePolicy");
    // Kubernetes: `SetDefaults_Container`.
    for (field, default) in [
        ("terminationMessagePath", "/dev/termination-log"),
        ("terminationMessagePolicy", "File"),
    ] {
        if fields.get(field).is_some_and(|value| value == default) {
            fields.remove(field);
        }
    }
    if let Some(variables) = fields.get_mut("env").and_then(Value::as_array_mut) {
        variables.retain(|one| is_one_of(&one["name"], &VARIABLES));
        for variable in variables {
            without_version(variable.pointer_mut("/valueFrom/fieldRef"));
        }
    }
    if let Some(mounts) = fields.get_mut("volumeMounts").and_then(Value::as_array_mut) {
        mounts.retain(|one| is_one_of(&one["name"], &VOLUMES));
    }
    normal
}

fn normal_volume(volume: &Value) -> Value {
    let mut normal = volume.clone();
    if let Some(source) = normal
        .pointer_mut("/downwardAPI")
        .and_then(Value::as_object_mut)
    {
        source.remove("defaultMode");
        let items = source.get_mut("items").and_then(Value::as_array_mut);
        for item in items.into_iter().flatten() {
            without_version(item.pointer_mut("/fieldRef"));
        }
    }
    normal
}

/// Kubernetes: `SetDefaults_ObjectFieldSelector`.
fn without_version(reference: Option<&mut Value>) {
    if let Some(fields) = reference.and_then(Value::as_object_mut) {
        fields.remove("apiVersion");
    }
}

fn digest(parts: &[&Value]) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        feed(&mut hasher, part);
    }
    hex(&hasher.finalize()[..BYTES])
}

/// Fields in the order of their names, whatever order they were written in; lengths are part of it.
fn feed(hasher: &mut Sha256, value: &Value) {
    match value {
        Value::Object(fields) => {
            hasher.update(b"{");
            hasher.update((fields.len() as u64).to_be_bytes());
            for (name, value) in fields.iter().collect::<BTreeMap<_, _>>() {
                feed(hasher, &Value::from(name.as_str()));
                feed(hasher, value);
            }
        }
        Value::Array(items) => {
            hasher.update(b"[");
            hasher.update((items.len() as u64).to_be_bytes());
            for item in items {
                feed(hasher, item);
            }
        }
        plain => {
            let text = plain.to_string();
            hasher.update((text.len() as u64).to_be_bytes());
            hasher.update(text);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        injection::{Decision, decide},
        sidecar::Sidecar,
        testing::installation,
    };

    fn sidecar() -> Sidecar {
        Sidecar::new(&installation().agent).unwrap()
    }

    /// The specification of a pod that was injected, as an API server completes it.
    fn injected() -> Value {
        let mut pod = json!({"metadata": {}, "spec": {"containers": [{"name": "web"}], "volumes": [{"name": "cache"}]}});
        let Decision::Inject(patch) = decide(&pod, &sidecar()) else {
            panic!("the pod is left alone");
        };
        json_patch::patch(&mut pod, &patch).unwrap();
        let mut spec = pod["spec"].take();
        let agent = &mut spec["initContainers"][0];
        agent["terminationMessagePath"] = json!("/dev/termination-log");
        agent["terminationMessagePolicy"] = json!("File");
        agent["resources"] = json!({"limits": {"cpu": "1"}});
        agent["env"][0]["valueFrom"]["fieldRef"]["apiVersion"] = json!("v1");
        let volumes = spec["volumes"].as_array_mut().unwrap();
        for volume in volumes {
            if volume["downwardAPI"].is_object() {
                volume["downwardAPI"]["defaultMode"] = json!(420);
                volume["downwardAPI"]["items"][0]["fieldRef"]["apiVersion"] = json!("v1");
            }
        }
        spec
    }

    #[test]
    fn what_was_injected_is_known_again_whatever_others_add_beside_it() {
        let ours = sidecar().fingerprint();
        let mut spec = injected();
        assert_eq!(Fingerprint::read(&spec), ours);
        let agent = &mut spec["initContainers"][0];
        let variables = agent["env"].as_array_mut().unwrap();
        variables.push(json!({"name": "OTEL_SERVICE_NAME", "value": "web"}));
        let mounts = agent["volumeMounts"].as_array_mut().unwrap();
        mounts.push(json!({"name": "kube-api-access-x7k2p", "mountPath": "/tokens"}));
        spec["volumes"].as_array_mut().unwrap().reverse();
        assert_eq!(Fingerprint::read(&spec), ours);
    }

    #[test]
    fn nothing_else_of_its_name_is_taken_for_it() {
        let ours = sidecar().fingerprint();
        let changes: [fn(&mut Value); 9] = [
            |spec| spec["initContainers"][0]["image"] = json!("localhost/another:v1"),
            |spec| spec["initContainers"][0]["command"] = json!(["sleep"]),
            |spec| spec["initContainers"][0]["args"] = json!(["--help"]),
            |spec| spec["initContainers"][0]["envFrom"] = json!([{"secretRef": {"name": "s"}}]),
            |spec| spec["initContainers"][0]["securityContext"]["runAsUser"] = json!(1000),
            |spec| spec["initContainers"][0]["volumeMounts"][0]["subPathExpr"] = json!(""),
            |spec| spec["initContainers"][0]["env"][1]["valueFrom"] = json!(null),
            |spec| spec["volumes"][1]["hostPath"]["path"] = json!("/var/empty"),
            |spec| spec["volumes"] = json!([]),
        ];
        for (number, change) in changes.into_iter().enumerate() {
            let mut spec = injected();
            change(&mut spec);
            assert_ne!(Fingerprint::read(&spec), ours, "change {number}");
        }
        let bare = json!({"containers": [{"name": "web"}]});
        assert_ne!(Fingerprint::read(&bare), ours);
    }
}
