//! A policy as the cluster has it, usable or not.

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::ObjectMeta, jiff::Timestamp};
use katonic_logging_crds::{LoggingPolicy, LoggingPolicyStatus};

use crate::policy::{Policy, Violation, validate};

/// A custom resource and what validation says of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// Name of the resource.
    pub name: String,
    /// UID of the resource.
    pub uid: String,
    /// Generation that was validated.
    pub generation: i64,
    /// When it was created: where not everything fits, the oldest stay.
    pub created: Option<Timestamp>,
    /// The policy, or all that is wrong with it.
    pub policy: Result<Policy, Vec<Violation>>,
    /// Its status as the cluster has it.
    pub status: Option<LoggingPolicyStatus>,
}

impl Candidate {
    /// Validates a resource that could be read.
    pub fn readable(resource: &LoggingPolicy) -> Self {
        Self {
            policy: validate(resource),
            status: resource.status.clone(),
            ..Self::unreadable(&resource.metadata, String::new())
        }
    }

    /// Whether nothing that a plan is made of differs.
    pub fn differs_in_status_only(&self, other: &Self) -> bool {
        Self {
            status: None,
            ..self.clone()
        } == Self {
            status: None,
            ..other.clone()
        }
    }

    /// A resource that does not have the form of its definition.
    pub fn unreadable(metadata: &ObjectMeta, error: String) -> Self {
        Self {
            name: metadata.name.clone().unwrap_or_default(),
            uid: metadata.uid.clone().unwrap_or_default(),
            generation: metadata.generation.unwrap_or_default(),
            created: metadata.creation_timestamp.as_ref().map(|time| time.0),
            policy: Err(vec![Violation {
                path: "spec".to_owned(),
                message: error,
            }]),
            status: None,
        }
    }
}
