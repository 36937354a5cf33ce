//! `AuditPolicy`: which audit events are recorded.

#![expect(
    clippy::duplicated_attributes,
    reason = "each printer column names its type"
)]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::{PodCount, Sink, SinkStatus};

/// Which audit events the platform records.
#[derive(Clone, CustomResource, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[kube(
    group = "logging.katonic.ai",
    version = "v1alpha1",
    kind = "AuditPolicy",
    plural = "auditpolicies",
    shortname = "ap",
    category = "katonic",
    status = "AuditPolicyStatus",
    derive = "PartialEq",
    doc = "An AuditPolicy enables audit events of the platform: its event tracker then writes each of them into its log, as a line of JSON. It is in force when its Ready condition is True.",
    printcolumn(
        name = "Events",
        type_ = "integer",
        json_path = ".status.eventCount",
        description = "Number of audit events that the policy enables."
    ),
    printcolumn(
        name = "Sinks",
        type_ = "integer",
        json_path = ".status.sinkCount",
        description = "Number of sinks that they are sent to."
    ),
    printcolumn(
        name = "Retention",
        type_ = "string",
        json_path = ".status.retention",
        description = "How long they are kept there."
    ),
    printcolumn(
        name = "Tracker",
        type_ = "string",
        json_path = ".status.tracker",
        description = "The ConfigMap that tells the event tracker."
    ),
    printcolumn(
        name = "Last Event",
        type_ = "date",
        json_path = ".status.lastEventTime",
        description = "How long ago the last audit event was written, to five minutes."
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
    validation = ("!has(self.retention) || has(self.sinks)", "retention is for what sinks keep: add sinks, or remove retention"),
    validation = ("!has(self.retention) || self.retention == 'Forever' || (has(self.acknowledgeShortRetention) && self.acknowledgeShortRetention) || int(self.retention.replace('d', '')) >= 30", "retention is less than 30d, and what is gone proves nothing: raise it, or write acknowledgeShortRetention: true"),
    validation = ("!has(self.acknowledgeShortRetention) || !self.acknowledgeShortRetention || (has(self.retention) && self.retention != 'Forever' && int(self.retention.replace('d', '')) < 30)", "acknowledgeShortRetention is for a retention of less than 30d: remove it"),
    validation = ("!has(self.sinks) || (has(self.retention) && self.retention == 'Forever') || self.sinks.all(s, !has(s.objectStorage) || !has(s.objectStorage.s3) || !has(s.objectStorage.s3.objectLock) || s.objectStorage.s3.objectLock.days <= (has(self.retention) ? int(self.retention.replace('d', '')) : 365))", "objectLock.days is more than retention, and what is locked cannot be deleted in time: raise retention (365d by default), or lower objectLock.days"),
    validation = ("!has(self.source) || has(self.sinks)", "source says where sinks get audit events from: add sinks, or remove source")
)]
pub struct AuditPolicySpec {
    /// Audit events by name: `ModelCreated`, `ModelVersionPublished`, `ModelVersionStopped`, `ModelVersionStarted`,
    /// `ModelArchived`, `ModelCollaboratorAdded`, `ModelCollaboratorChanged`, `ModelCollaboratorRemoved`, `ModelSettingsChanged`,
    /// and what the installation adds to them (`logging.audit.events`). What several policies name is enabled once. Default: all.
    /// Example: `[ModelCreated, ModelArchived]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 63)))]
    #[x_kube(merge_strategy = ListMerge::Set, validation = ("self.all(e, e.matches('^[A-Z][A-Za-z0-9]*$'))", "events holds what is not the name of an event: write it as the event tracker does, a capital letter and then letters and digits, for example ModelCreated"))]
    pub events: Option<Vec<String>>,
    /// Where the agents find the audit events. Default: as its fields say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<AuditSource>,
    /// Where the events go besides the event tracker's log, at most 16 sinks, each with a name and exactly one kind. What filters,
    /// samples or limits of logging policies leave out of a log reaches them all the same. Default: none; the events are then in the
    /// log alone, and go wherever logging policies send it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub sinks: Option<Vec<Sink>>,
    /// How long the sinks keep the events, counted from when they arrive there: a number of days, or `Forever`. An archive with
    /// `managementSecretRef` is made so, and kept so; of every other sink the status says who decides instead. Less than before
    /// deletes events, so it waits for the annotation `logging.katonic.ai/acknowledge-retention` with the same value. Default:
    /// `365d`. Example: `Forever`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 7))]
    #[x_kube(validation = (r"self == 'Forever' || self.matches('^[1-9][0-9]{0,4}d$')", "is not a time for which audit events can be kept: write a number of days, for example 365d, or Forever"))]
    pub retention: Option<String>,
    /// That less than 30 days of `retention` are meant. Default: `false`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledge_short_retention: Option<bool>,
    /// Enable and send nothing without deleting the policy. Events that are in the log already are sent when it is taken up again,
    /// as far as the kubelet still has them. Default: `false`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,
}

/// Where the agents find audit events.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditSource {
    /// Components of the platform plane that write audit events: by the label `app.kubernetes.io/name` or `app` of a pod, else by
    /// the name of a container. Default: `[event-tracker]`. Example: `[event-tracker, model-registry]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 63)))]
    #[x_kube(merge_strategy = ListMerge::Set, validation = ("self.all(c, !format.labelValue().validate(c).hasValue())", "a component is not the value of a label or the name of a container: at most 63 letters, digits, `-`, `_` or `.`, for example event-tracker"))]
    pub components: Option<Vec<String>>,
}

/// What is so, as the operator last saw it.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditPolicyStatus {
    /// The `metadata.generation` that this status is about; -1 before the operator has seen the policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Accepted`, `TrackerConfigured`, with sinks also `SecretsResolved`, `Injected`, `RolledOut`, `Delivering` and
    /// `RetentionEnforced`, and their conjunction `Ready`; `Reconciling` and `Stalled` only while true. With sinks also `EventsSeen`,
    /// on which `Ready` does not depend.
    #[serde(default)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// The events that the policy enables.
    #[serde(default)]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub events: Vec<String>,
    /// Number of events that the policy enables.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_count: Option<i32>,
    /// Namespace and name of the ConfigMap that tells the event tracker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tracker: Option<String>,
    /// Pods that write audit events, and how many of them have the log agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pods: Option<PodCount>,
    /// How long the sinks are to keep the events: a number of days, or `Forever`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<String>,
    /// Number of sinks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sink_count: Option<i32>,
    /// Sinks that acknowledge what every agent sends them, of all sinks, as text: `2/3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivering: Option<String>,
    /// When the last audit event was written that a sink has, by its node's clock; written anew when it is five minutes later. None
    /// without sinks: nobody looks for events then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_event_time: Option<Time>,
    /// Each sink of the policy.
    #[serde(default)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub sinks: Vec<SinkStatus>,
}
