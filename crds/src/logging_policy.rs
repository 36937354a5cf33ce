//! `LoggingPolicy`: which logs go where.

#![expect(
    clippy::duplicated_attributes,
    reason = "each printer column names its type"
)]

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Filter, LabelSelector, LoggingPolicyStatus, Multiline, Parse, Sink};

/// Which pods' logs are collected, and where they are delivered.
#[derive(Clone, CustomResource, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[kube(
    group = "logging.katonic.ai",
    version = "v1alpha1",
    kind = "LoggingPolicy",
    plural = "loggingpolicies",
    shortname = "lp",
    category = "katonic",
    status = "LoggingPolicyStatus",
    derive = "PartialEq",
    doc = "A LoggingPolicy says which pods' logs are collected and to which sinks they are delivered. It is in force when its Ready condition is True.",
    printcolumn(
        name = "Planes",
        type_ = "string",
        json_path = ".status.planes",
        description = "Planes that the policy reaches."
    ),
    printcolumn(
        name = "Logs",
        type_ = "string",
        json_path = ".status.logs",
        description = "Whose output is collected."
    ),
    printcolumn(
        name = "Sinks",
        type_ = "integer",
        json_path = ".status.sinkCount",
        description = "Number of sinks."
    ),
    printcolumn(
        name = "Retention",
        type_ = "string",
        json_path = ".status.retention",
        description = "How long its logs are kept."
    ),
    printcolumn(
        name = "Pods",
        type_ = "string",
        json_path = ".status.pods.summary",
        description = "Selected pods with the log agent, of all selected pods."
    ),
    printcolumn(
        name = "Delivering",
        type_ = "string",
        json_path = ".status.delivering",
        description = "Sinks that acknowledge what is sent to them, of all sinks."
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#,
        description = "Whether the policy is in force."
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].reason"#,
        description = "Why it is, or is not."
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("!has(self.logs) || self.logs != 'Execution' || !has(self.planes) || self.planes.all(p, p == 'Compute')", "execution logs are those of the compute plane: write planes: [Compute], or leave planes out"),
    validation = ("!has(self.logs) || self.logs != 'Execution' || !has(self.containers) || !has(self.containers.include)", "execution logs are those of the containers that the installation names (logging.userContainers): remove containers.include; containers.exclude leaves some of them out"),
    validation = ("self.sinks.all(s, !has(s.mixpanel))", "Mixpanel takes events and no log lines: name it in an AuditPolicy"),
    validation = ("!has(self.fallback) || self.sinks.exists(s, s.name == self.fallback)", "fallback is not the name of one of the sinks: write the `name` of a sink of this policy"),
    validation = ("!has(self.fallback) || size(self.sinks) > 1", "fallback gets only what the other sinks could not deliver: add another sink beside it, or remove fallback"),
    validation = ("(has(self.retention) ? self.retention == 'Forever' : has(self.logs) && self.logs == 'Execution') || self.sinks.all(s, !has(s.objectStorage) || !has(s.objectStorage.s3) || !has(s.objectStorage.s3.objectLock) || s.objectStorage.s3.objectLock.days <= (has(self.retention) ? int(self.retention.replace('d', '')) : 30))", "objectLock.days is more than retention, and what is locked cannot be deleted in time: raise retention (30d by default), or lower objectLock.days")
)]
pub struct LoggingPolicySpec {
    /// Planes of the platform whose pods are meant: `Platform` (the namespace with the platform's services) and
    /// `Compute` (the namespace with executions). Default: both; `Compute` for execution logs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub planes: Option<Vec<Plane>>,
    /// `Application`: what the platform's services print, and in the compute plane what supports user code. `Execution`: what
    /// user code prints, in the containers of the compute plane that the installation names (`logging.userContainers`).
    /// Default: `Application`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Logs")]
    pub logs: Option<Logs>,
    /// Pods by their labels. Default: all pods of the planes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
    /// Components by name. A pod's component is its label `app.kubernetes.io/name` or `app`; where neither names it,
    /// a container of this name is taken. Default: all. Example: `[nucleus-frontend, keycloak]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 63)))]
    #[x_kube(merge_strategy = ListMerge::Set, validation = ("self.all(c, !format.labelValue().validate(c).hasValue())", "a component is not the value of a label or the name of a container: at most 63 letters, digits, `-`, `_` or `.`, for example nucleus-frontend"))]
    pub components: Option<Vec<String>>,
    /// Containers by name. Default: all containers of the pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub containers: Option<ContainerSelector>,
    /// Which lines make one record, such as the lines of a stack trace. Default: each line is a record.
    /// Example: `{rule: Java}` or `{firstLine: '^\d{4}-\d\d-\d\d'}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub multiline: Option<Multiline>,
    /// What is done to each record before it is sent, in this order, at most 32 steps. All sinks of the policy get the same.
    /// Default: nothing.
    /// Example: `[{drop: {pattern: 'GET /healthz'}}, {redact: {pattern: 'password=\S+'}}]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub filters: Option<Vec<Filter>>,
    /// What a record's text is taken for: `Text`, or `JSON`: where it is a JSON object, its members become fields of the
    /// record in sinks that have fields. Default: `Text`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Parse")]
    pub parse: Option<Parse>,
    /// The pod's labels that go with each record, by their names; `[]` for none. Default: all labels of the pod.
    /// Example: `[app.kubernetes.io/name, team]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 317)))]
    #[x_kube(merge_strategy = ListMerge::Set, validation = ("self.all(l, !format.qualifiedName().validate(l).hasValue())", "podLabels holds what is not the name of a label: write `name` or `prefix/name`, for example app.kubernetes.io/name"))]
    pub pod_labels: Option<Vec<String>>,
    /// How long its logs are kept where they go, counted from when they arrive there: a number of days, or `Forever`. An
    /// archive with `managementSecretRef` is made so, and kept so; of every other sink the status says who decides instead.
    /// Where several policies archive into the same place, the longest of theirs holds. Less than before deletes logs, so it
    /// waits for the annotation `logging.katonic.ai/acknowledge-retention` with the same value. Default: `30d`; for execution
    /// logs `Forever`. Example: `365d`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 7))]
    #[x_kube(validation = (r"self == 'Forever' || self.matches('^[1-9][0-9]{0,4}d$')", "is not a time for which logs can be kept: write a number of days, for example 30d, or Forever"))]
    pub retention: Option<String>,
    /// What becomes of running pods that lack the log agent or have an older one. `Manual`: the status names the commands
    /// that restart their owners. `Automatic`: the operator restarts each `Deployment`, `StatefulSet` and `DaemonSet` of them,
    /// one after the other, as `kubectl rollout restart` does, and stops at the first that does not become healthy. Pods of
    /// Jobs and pods without an owner get the agent when they are next created. Default: `Manual`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Rollout")]
    pub rollout: Option<Rollout>,
    /// Stop collecting without deleting the policy. Lines written meanwhile are delivered when it is taken up again,
    /// as far as the kubelet still has them. Default: `false`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,
    /// Where the logs go, 1 to 16 sinks. Besides its name each has exactly one of `splunk`, `loggly`, `newRelic`, `syslog`,
    /// `otlp`, `http` and `objectStorage`.
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub sinks: Vec<Sink>,
    /// Name of one of the sinks, which then gets nothing but what the others could not deliver before a pod ended.
    /// Default: none; what cannot be delivered is then counted as lost and told. Example: `archive`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub fallback: Option<String>,
}

/// Whose output is meant.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum Logs {
    /// The platform's.
    #[default]
    Application,
    /// User code's.
    Execution,
}

impl Logs {
    /// As it is written in a policy.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Application => "Application",
            Self::Execution => "Execution",
        }
    }
}

/// What becomes of running pods that lack the log agent or have an older one.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum Rollout {
    /// The status names the commands that restart their owners.
    #[default]
    Manual,
    /// The operator restarts their owners, one after the other.
    Automatic,
}

/// A part of the platform, each in a namespace that the installation names.
#[derive(
    Clone, Copy, Debug, Deserialize, Eq, JsonSchema, Ord, PartialEq, PartialOrd, Serialize,
)]
pub enum Plane {
    /// The platform's own services.
    Platform,
    /// User executions and builds.
    Compute,
}

impl Plane {
    /// Every plane.
    pub const ALL: [Self; 2] = [Self::Platform, Self::Compute];

    /// As it is written in a policy.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Platform => "Platform",
            Self::Compute => "Compute",
        }
    }
}

/// Containers by name; `*` stands for any characters.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerSelector {
    /// Containers to take. Default: `["*"]`. Example: `["nucleus-*"]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 63)))]
    #[x_kube(merge_strategy = ListMerge::Set, validation = ("self.all(c, c.matches('^[-a-z0-9*]+$'))", "a container's name has lower-case letters, digits and `-`; `*` stands for any characters: write for example nucleus-*"))]
    pub include: Option<Vec<String>>,
    /// Containers to leave out, even when `include` names them. Default: none. Example: `[istio-proxy]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 63)))]
    #[x_kube(merge_strategy = ListMerge::Set, validation = ("self.all(c, c.matches('^[-a-z0-9*]+$'))", "a container's name has lower-case letters, digits and `-`; `*` stands for any characters: write for example nucleus-*"))]
    pub exclude: Option<Vec<String>>,
}
