//! `LoggingPolicy`: which logs go where.

#![expect(
    clippy::duplicated_attributes,
    reason = "each printer column names its type"
)]

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{LabelSelector, LoggingPolicyStatus, Sink};

/// Which pods' logs are collected, and where they are delivered.
#[derive(Clone, CustomResource, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[kube(
    group = "logging.katonic.ai",
    version = "v1alpha1",
    kind = "LoggingPolicy",
    plural = "loggingpolicies",
    shortname = "lp",
    category = "katonic",
    status = "LoggingPolicyStatus",
    derive = "PartialEq",
    doc = "A LoggingPolicy says which pods' application logs are collected and to which sinks they are delivered. It is in force when its Ready condition is True.",
    printcolumn(
        name = "Planes",
        type_ = "string",
        json_path = ".status.planes",
        description = "Planes that the policy reaches."
    ),
    printcolumn(
        name = "Sinks",
        type_ = "integer",
        json_path = ".status.sinkCount",
        description = "Number of sinks."
    ),
    printcolumn(
        name = "Pods",
        type_ = "string",
        json_path = ".status.pods.summary",
        description = "Selected pods with the log agent, of all selected pods."
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
pub struct LoggingPolicySpec {
    /// Planes of the platform whose pods are meant: `Platform` (the namespace with the platform's services) and
    /// `Compute` (the namespace with executions; the containers that run user code are left out there).
    /// Default: both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub planes: Option<Vec<Plane>>,
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
    /// Stop collecting without deleting the policy. Lines written meanwhile are delivered when it is taken up again,
    /// as far as the kubelet still has them. Default: `false`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,
    /// Where the logs go, 1 to 16 sinks; each gets every line.
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub sinks: Vec<Sink>,
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
