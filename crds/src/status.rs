//! What the operator says of a policy.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is so, as the operator last saw it.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LoggingPolicyStatus {
    /// The `metadata.generation` that this status is about; -1 before the operator has seen the policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Accepted`, `SecretsResolved`, `Injected` and their conjunction `Ready`; `Reconciling` and `Stalled` only while true.
    #[serde(default)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// Planes that the policy reaches, joined by commas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub planes: Option<String>,
    /// Selected pods, and how many of them have the log agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pods: Option<PodCount>,
    /// Number of sinks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sink_count: Option<i32>,
    /// Each sink of the policy.
    #[serde(default)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub sinks: Vec<SinkStatus>,
}

/// Selected pods and how many of them have the log agent.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PodCount {
    /// Pods that have not ended and that the policy selects.
    pub selected: i32,
    /// Those of them that run the log agent.
    pub injected: i32,
    /// Both as text: `injected/selected`.
    pub summary: String,
}

/// One sink of a policy.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SinkStatus {
    /// Name of the sink.
    pub name: String,
    /// Kind of the sink: `splunk` or `http`.
    pub kind: String,
    /// Whether a configuration of this sink is written for the agents: the present one, or an earlier one
    /// when `reason` says why the present one cannot be used.
    pub in_force: bool,
    /// One word: `Configured`, or why the sink as it is written cannot be used.
    pub reason: String,
    /// A sentence for people, with what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}
