//! What of a Deployment, `StatefulSet` or `DaemonSet` is read: its strategy and its numbers, nothing of its pods.

use std::{borrow::Cow, marker::PhantomData};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use katonic_logging_core::restart::Object;
use kube::Resource;
use serde::{Deserialize, Deserializer};

/// A workload of the kind `K`, of which only what a restart depends on is read.
#[derive(Clone, Debug)]
pub struct WorkloadSummary<K> {
    /// What was read.
    pub object: Object,
    kind: PhantomData<fn() -> K>,
}

impl<'de, K> Deserialize<'de> for WorkloadSummary<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self {
            object: Object::deserialize(deserializer)?,
            kind: PhantomData,
        })
    }
}

impl<K: Resource<DynamicType = ()>> Resource for WorkloadSummary<K> {
    type DynamicType = ();
    type Scope = K::Scope;

    fn kind((): &()) -> Cow<'_, str> {
        K::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        K::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        K::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        K::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.object.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.object.metadata
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::apps::v1::Deployment;

    use super::*;

    #[test]
    fn nothing_of_the_pods_is_read() {
        let deployment = r#"{"metadata": {"name": "d"}, "spec": {"replicas": 1, "template": {"spec": {
            "containers": [{"name": "web", "env": [{"name": "PASSWORD", "value": "hunter2"}]}]}}}}"#;
        let summary: WorkloadSummary<Deployment> = serde_json::from_str(deployment).unwrap();
        assert!(!format!("{summary:?}").contains("hunter2"));
        assert_eq!(summary.meta().name.as_deref(), Some("d"));
    }
}
