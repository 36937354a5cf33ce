//! What tells an agent in a pod from anything else of its name: computed from the pod, never taken from what the pod says of itself.

use std::collections::BTreeMap;

use katonic_log_config::{bundle::hex, layout};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{POD_LOGS, SERVICE_ACCOUNT, VOLUMES, directory};
use crate::names;

/// Bytes of a digest: nobody finds another agent of the same one.
const BYTES: usize = 16;

/// Variables that injection sets; the one that differs from pod to pod is not among them.
const VARIABLES: [&str; 7] = [
    layout::ENV_NAMESPACE,
    layout::ENV_POD,
    layout::ENV_POD_UID,
    layout::ENV_NODE,
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
];

/// Variables that say which way the agent's connections take, in whatever case (`hyper_util::client::proxy::matcher`). Of all
/// others that it reads, clouds add theirs to every container of a pod that has an identity.
const PROXIES: [&str; 5] = [
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "REQUEST_METHOD",
];

/// What the agent reads or runs beside its own mounts: its program, and what its connections are made by.
const FILES: [&str; 4] = [
    "/katonic-log-agent",
    "/etc/hosts",
    "/etc/resolv.conf",
    layout::TERMINATION_LOG,
];

/// Digest of the agent's container and volumes as a pod has them, requests and limits left out.
///
/// What an API server fills in is no part of it, and neither is what others may add beside ours: variables that the agent does not
/// ask which way to go, and mounts that hide nothing of what it reads. Everything else is: image, command and arguments, user, our
/// variables and mounts, where our volumes come from.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Fingerprint(String);

/// Digest of what makes a container an agent of ours, of whatever version: which image without its tag, that it runs what the
/// image has, as which user, and whose logs and which bundle it reads.
///
/// What older versions wrote otherwise, and what an installation chooses, is no part of it. A version that changes any of this has
/// to know the lineages of before, too.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Lineage(String);

/// What is kept of a container: no text of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ContainerDigest {
    fingerprint: String,
    lineage: String,
}

impl ContainerDigest {
    /// Of a container as JSON.
    pub fn of(container: &Value) -> Self {
        Self {
            fingerprint: digest(&[&normal_container(container)]),
            lineage: digest(&[&descent(container)]),
        }
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
        let container = Value::from(container.fingerprint.as_str());
        Self(digest(&[&container, &Value::from(ours)]))
    }
}

impl Lineage {
    /// Of a container's digest and the pod's volumes.
    pub fn new<'a>(
        container: &ContainerDigest,
        volumes: impl IntoIterator<Item = &'a Value>,
    ) -> Self {
        let sources: BTreeMap<&str, [&Value; 2]> = volumes
            .into_iter()
            .filter_map(|volume| {
                let name = volume["name"].as_str();
                let name = name.filter(|name| [POD_LOGS, names::BUNDLE].contains(name))?;
                let path = &volume["hostPath"]["path"];
                Some((name, [path, &volume["secret"]["secretName"]]))
            })
            .collect();
        let container = Value::from(container.lineage.as_str());
        Self(digest(&[&container, &json!(sources)]))
    }
}

/// What of a container [`Lineage`] is about.
fn descent(container: &Value) -> Value {
    let list = |field: &str| container[field].as_array().into_iter().flatten();
    let reads = list("volumeMounts").filter(|mount| {
        is_one_of(&mount["name"], &[POD_LOGS, names::BUNDLE]) || is_in_the_way(mount)
    });
    let reads = reads.map(|mount| {
        let fields = ["name", "mountPath", "subPath", "subPathExpr"];
        fields.map(|field| &mount[field])
    });
    let detours =
        list("env").filter(|one| is_proxy(&one["name"]) && !is_one_of(&one["name"], &VARIABLES));
    let runs = ["command", "args", "workingDir", "envFrom", "lifecycle"];
    let runs = runs.map(|field| &container[field]);
    json!({
        "restartPolicy": container["restartPolicy"],
        "repository": container["image"].as_str().map(repository),
        "runs": runs,
        "user": container["securityContext"]["runAsUser"],
        "reads": reads.collect::<Vec<_>>(),
        "detours": detours.collect::<Vec<_>>(),
    })
}

/// A reference to an image without its tag and digest.
fn repository(image: &str) -> &str {
    let image = image.split('@').next().unwrap_or(image);
    let name = image.rfind('/').map_or(0, |slash| slash + 1);
    let tag = image[name..]
        .find(':')
        .map_or(image.len(), |colon| name + colon);
    &image[..tag]
}

fn is_proxy(name: &Value) -> bool {
    let name = name.as_str().unwrap_or_default();
    PROXIES.iter().any(|one| one.eq_ignore_ascii_case(name))
}

/// Whether somebody else's mount hides what the agent reads, or a part of it.
fn is_in_the_way(mount: &Value) -> bool {
    let holds = |directory: &str, path: &str| {
        let below = path.strip_prefix(directory.trim_end_matches('/'));
        below.is_some_and(|below| below.is_empty() || below.starts_with('/'))
    };
    let ours = [
        layout::LOG_DIR,
        layout::BUNDLE_DIR,
        directory(layout::LABELS_FILE),
        layout::STATE_DIR,
        layout::TOKEN_DIR,
        SERVICE_ACCOUNT,
    ];
    let theirs = mount["mountPath"].as_str().unwrap_or_default();
    !is_one_of(&mount["name"], &VOLUMES)
        && ours
            .iter()
            .chain(&FILES)
            .any(|path| holds(theirs, path) || holds(path, theirs))
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
    // Compared by themselves.
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
        variables.retain(|one| is_one_of(&one["name"], &VARIABLES) || is_proxy(&one["name"]));
        for variable in variables {
            without_version(variable.pointer_mut("/valueFrom/fieldRef"));
        }
    }
    if let Some(mounts) = fields.get_mut("volumeMounts").and_then(Value::as_array_mut) {
        mounts.retain(|one| is_one_of(&one["name"], &VOLUMES) || is_in_the_way(one));
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
    use super::*;

    #[test]
    fn the_repository_of_an_image_is_its_name_without_tag_and_digest() {
        for (image, name) in [
            ("agent", "agent"),
            ("agent:v1", "agent"),
            ("localhost:5000/a/agent", "localhost:5000/a/agent"),
            (
                "localhost:5000/a/agent:v1@sha256:00",
                "localhost:5000/a/agent",
            ),
            ("r.example.com/agent@sha256:00", "r.example.com/agent"),
        ] {
            assert_eq!(repository(image), name);
        }
    }
}
