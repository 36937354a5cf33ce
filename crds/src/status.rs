//! What the operator says of a policy.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
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
    /// `Accepted`, `SecretsResolved`, `Injected`, `RolledOut`, `Delivering`, `RetentionEnforced` and their conjunction `Ready`;
    /// `Reconciling` and `Stalled` only while true.
    #[serde(default)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// Planes that the policy reaches, joined by commas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub planes: Option<String>,
    /// Whose output is collected: `Application` or `Execution`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logs: Option<String>,
    /// How long the policy's logs are to be kept: a number of days, or `Forever`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<String>,
    /// Selected pods, and how many of them have the log agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pods: Option<PodCount>,
    /// Number of sinks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sink_count: Option<i32>,
    /// Sinks that acknowledge what every agent sends them, of all sinks, as text: `2/3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivering: Option<String>,
    /// Each sink of the policy.
    #[serde(default)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub sinks: Vec<SinkStatus>,
}

/// Selected pods and how many of them have the log agent.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PodCount {
    /// Pods that have not ended and that the policy selects.
    pub selected: i32,
    /// Those of them that run the log agent.
    pub injected: i32,
    /// Both as text: `injected/selected`.
    pub summary: String,
    /// Pods that lack the log agent or have an older one, by reason; those that cannot have it, or refuse it, are not part
    /// of `selected`. `katonic-logging status --pods` lists the pods.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["reason".into()]))]
    pub uncovered: Vec<PodsByReason>,
}

/// Pods that lack the log agent, or have an older one, for the same reason.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PodsByReason {
    /// `OlderAgent`: the agent is of an older specification, or has less than is asked for, and works. `AgentImageUnavailable`: the pod waits for the agent's
    /// image, which cannot be pulled. `AgentFailing`: the agent ends again and again. `CreatedBefore`: the pod was created before
    /// injection was in force, or while it was not. `NamespaceRefused`: its namespace forbids the agent. Not part of `selected`
    /// are `OptedOut`: it has the label `logging.katonic.ai/inject: "false"`; `TrialLabel`: it has
    /// the label `logging.katonic.ai/trial` of the operator's own trials; `MirrorPod` and `Windows`: it cannot have the
    /// agent; `NameTaken`, `PodLevelResources` and `TooLarge`: it cannot have it as it is written; `ForeignAgent`: it has a sidecar
    /// of the agent's name that is not as injection writes it.
    pub reason: String,
    /// How many.
    pub count: i32,
}

/// One sink of a policy.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SinkStatus {
    /// Name of the sink.
    pub name: String,
    /// Kind of the sink: `splunk`, `loggly`, `newRelic`, `syslog`, `otlp`, `http` or `objectStorage`.
    pub kind: String,
    /// Whether a configuration of this sink is written for the agents: the present one, or an earlier one
    /// when `reason` says why the present one cannot be used.
    pub in_force: bool,
    /// One word: `Configured`, or why the sink as it is written cannot be used.
    pub reason: String,
    /// A sentence for people, with what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Whether what agents send arrives, as they report it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivery: Option<SinkDelivery>,
    /// What the sink has not got, until somebody has acknowledged it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub losses: Option<SinkLosses>,
    /// Pods whose execution nobody knows: their logs are archived below `unidentified/`, until somebody has acknowledged it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unidentified: Option<UnidentifiedPods>,
    /// How long the logs are kept where this sink puts them, and who sees to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<SinkRetention>,
}

/// Whether what agents send to a sink arrives.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SinkDelivery {
    /// `Delivering`: it acknowledges what every agent sends. `NothingSent`: no agent has had anything to send. `Unreachable`,
    /// `AuthenticationFailed`, `Rejected`, `Misconfigured` or `Unconfirmed`: it fails, for one agent at least. `Backlogged`: it
    /// acknowledges, and is far behind. `Unknown`: no agent has reported.
    pub state: String,
    /// A sentence for people, with what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// When the operator first heard that the sink acknowledges what it is sent, in the policy's present form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<Time>,
}

/// Records that a sink has not got, or of which nobody knows whether it has. The annotation `logging.katonic.ai/acknowledge-losses` with `<sink>@<last>`, or with `<last>` for all sinks, ends it.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SinkLosses {
    /// Records that nobody will get any more.
    pub lost: i64,
    /// Records that the sink has refused for their content.
    pub rejected: i64,
    /// Pods that ended without a last report while the sink had not acknowledged all of their lines: killed before they could
    /// say anything, or lost with their node. Nobody knows whether those lines arrived.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unreported: i64,
    /// When the operator last heard of any.
    pub last: Time,
    /// Why the last record was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejection: Option<String>,
    /// The first pods whose records they are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["namespace".into(), "name".into()]))]
    pub pods: Vec<PodLosses>,
    /// How many more pods there are.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more_pods: i64,
}

/// Records of one pod that a sink has not got.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PodLosses {
    /// The pod's namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Records that nobody will get any more.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lost: i64,
    /// Records that the sink has refused for their content.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub rejected: i64,
    /// Bytes of its log files that the sink had not acknowledged when the pod was last heard of, if it ended without a last report.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub pending: i64,
    /// When such a pod was last heard of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heard: Option<Time>,
}

/// Pods of executions that have neither the label with the execution's id nor a name that says it. The annotation
/// `logging.katonic.ai/acknowledge-losses` with `<sink>@<last>`, or with `<last>` for all sinks, ends it.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UnidentifiedPods {
    /// How many.
    pub count: i64,
    /// When the operator last heard of one.
    pub last: Time,
    /// The first of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["namespace".into(), "name".into()]))]
    pub pods: Vec<PodName>,
}

/// A pod.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PodName {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(number: &i64) -> bool {
    *number == 0
}

/// How long logs are kept where a sink puts them, and who sees to it.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SinkRetention {
    /// `Enforced`: the store keeps them for as long as the policy asks. `ProviderManaged`: whoever runs the sink decides.
    /// `Drifted`: the store keeps them for another time, and `message` says what to do. `Unsupported`: nobody sees to it.
    /// `Unknown`: the store has not been asked yet, could not be, or nobody may ask it.
    pub state: String,
    /// One word: why.
    pub reason: String,
    /// For how long they are kept, where that is known: a number of days, or `Forever`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<String>,
    /// What all of it begins with, where the operator looks after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// A sentence for people, with what to do.
    pub message: String,
}
