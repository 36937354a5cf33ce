//! What of a pod is read and kept: labels and names of containers, nothing that runs in it.

use std::borrow::Cow;

use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use katonic_logging_core::{coverage, names};
use kube::Resource;
use serde::Deserialize;

/// A pod without its environment, its commands and its status: they are passed over while reading.
///
/// Metadata alone would not do: it has no names of containers, and so cannot tell whether the agent is there.
#[derive(Clone, Debug, Deserialize)]
pub struct PodSummary {
    metadata: ObjectMeta,
    #[serde(default)]
    spec: Spec,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    #[serde(default)]
    init_containers: Vec<Named>,
    #[serde(default)]
    containers: Vec<Named>,
    os: Option<Named>,
}

#[derive(Clone, Debug, Deserialize)]
struct Named {
    name: String,
}

impl From<PodSummary> for coverage::Pod {
    fn from(pod: PodSummary) -> Self {
        let is_mirror = pod
            .metadata
            .annotations
            .is_some_and(|all| all.contains_key(names::MIRROR_ANNOTATION));
        let is_windows = pod.spec.os.is_some_and(|os| os.name == "windows");
        let containers = pod
            .spec
            .init_containers
            .into_iter()
            .chain(pod.spec.containers);
        Self {
            labels: pod.metadata.labels.unwrap_or_default(),
            containers: containers.map(|container| container.name).collect(),
            injectable: !is_mirror && !is_windows,
        }
    }
}

impl Resource for PodSummary {
    type DynamicType = ();
    type Scope = <Pod as Resource>::Scope;

    fn kind((): &()) -> Cow<'_, str> {
        Pod::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        Pod::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        Pod::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        Pod::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kept_and_what_may_be_secret_is_not() {
        let pod = r#"{"metadata": {"name": "p", "labels": {"app": "web"}},
            "spec": {"initContainers": [{"name": "katonic-log-agent"}],
                     "containers": [{"name": "web", "env": [{"name": "PASSWORD", "value": "hunter2"}]}]},
            "status": {"phase": "Running"}}"#;
        let summary: PodSummary = serde_json::from_str(pod).unwrap();
        assert!(!format!("{summary:?}").contains("hunter2"));
        let pod = coverage::Pod::from(summary);
        assert_eq!(pod.containers, ["katonic-log-agent", "web"]);
        assert_eq!(pod.labels["app"], "web");
        assert!(pod.injectable);
    }

    #[test]
    fn static_and_windows_pods_cannot_be_injected() {
        for pod in [
            r#"{"metadata": {"annotations": {"kubernetes.io/config.mirror": "x"}}, "spec": {"containers": []}}"#,
            r#"{"metadata": {}, "spec": {"os": {"name": "windows"}, "containers": []}}"#,
        ] {
            let summary: PodSummary = serde_json::from_str(pod).unwrap();
            assert!(!coverage::Pod::from(summary).injectable);
        }
    }
}
