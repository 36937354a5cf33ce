//! A policy as the cluster has it, usable or not.

use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
    jiff::Timestamp,
};
use katonic_logging_crds::{AuditPolicy, LoggingPolicy, LoggingPolicyStatus};
use kube_core::Resource;
use serde::Serialize;

use crate::{
    acknowledgement::Acknowledged,
    installation::Installation,
    names,
    policy::{Policy, Violation, validate},
    retention::Retention,
};

/// What kind of resource ships logs.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub enum Kind {
    /// A `LoggingPolicy`.
    #[serde(rename = "LoggingPolicy")]
    Logging,
    /// An `AuditPolicy` with sinks.
    #[serde(rename = "AuditPolicy")]
    Audit,
}

/// What an audit policy is called where it stands beside logging policies: none of these can be called so.
const AUDIT: &str = "audit/";

/// A custom resource and what validation says of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// What it is.
    pub kind: Kind,
    /// Name among all that ship logs: that of the resource, behind `audit/` for an audit policy.
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
    /// The retention that somebody has said may delete logs, as it is written.
    pub acknowledged: Option<String>,
    /// What somebody has seen of what its sinks have not got.
    pub losses_acknowledged: Acknowledged,
}

impl Candidate {
    /// The owner of what is written for it.
    pub fn owner(&self) -> OwnerReference {
        let (api_version, kind) = match self.kind {
            Kind::Logging => (LoggingPolicy::api_version(&()), LoggingPolicy::kind(&())),
            Kind::Audit => (AuditPolicy::api_version(&()), AuditPolicy::kind(&())),
        };
        OwnerReference {
            api_version: api_version.into_owned(),
            kind: kind.into_owned(),
            name: self
                .name
                .strip_prefix(AUDIT)
                .unwrap_or(&self.name)
                .to_owned(),
            uid: self.uid.clone(),
            ..OwnerReference::default()
        }
    }

    /// An audit policy that was told to agents, while nobody knows whether it is still there.
    pub(crate) fn unlisted_audit(name: &str, uid: &str) -> Self {
        let metadata = ObjectMeta {
            name: Some(name.to_owned()),
            uid: Some(uid.to_owned()),
            ..ObjectMeta::default()
        };
        Self {
            kind: Kind::Audit,
            ..Self::unreadable(&metadata, "the audit policies cannot be listed".to_owned())
        }
    }

    /// What an audit policy ships.
    pub(crate) fn of_audit(resource: &AuditPolicy, policy: Result<Policy, Vec<Violation>>) -> Self {
        let unreadable = Self::unreadable(&resource.metadata, String::new());
        let status = resource.status.clone();
        Self {
            kind: Kind::Audit,
            name: format!("{AUDIT}{}", unreadable.name),
            policy,
            status: status.map(|status| LoggingPolicyStatus {
                sinks: status.sinks,
                conditions: status.conditions,
                ..LoggingPolicyStatus::default()
            }),
            ..unreadable
        }
    }

    /// Validates a resource that could be read; takes over from `previous` what was said of the same spec already.
    ///
    /// A change of the status is a change of the resource too, and there are more of them than of the spec: the patterns
    /// of two thousand policies are not compiled again for each. The API server counts the generation up with every
    /// change of the spec and with none of the status.
    pub fn read(resource: &LoggingPolicy, previous: Option<&Self>) -> Self {
        let read = Self::unreadable(&resource.metadata, String::new());
        let known = previous.filter(|previous| {
            previous.uid == read.uid
                && previous.generation == read.generation
                && read.generation > 0
        });
        Self {
            policy: known.map_or_else(|| validate(resource), |known| known.policy.clone()),
            status: resource.status.clone(),
            ..read
        }
    }

    /// Validates a resource that could be read.
    pub fn readable(resource: &LoggingPolicy) -> Self {
        Self::read(resource, None)
    }

    /// With what the installation says, where the policy leaves that to it; none where it does not.
    pub fn resolved(&self, installation: &Installation) -> Option<Self> {
        let policy = self.policy.as_ref().ok()?;
        (!policy.of_installation.is_empty()).then(|| Self {
            policy: policy.resolved(installation),
            ..self.clone()
        })
    }

    /// Whether somebody has said that this retention may delete logs.
    pub fn acknowledges(&self, retention: Retention) -> bool {
        let acknowledged = self.acknowledged.as_ref();
        acknowledged.is_some_and(|text| text.parse() == Ok(retention))
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
        let annotation = |name: &str| metadata.annotations.as_ref()?.get(name);
        Self {
            kind: Kind::Logging,
            name: metadata.name.clone().unwrap_or_default(),
            uid: metadata.uid.clone().unwrap_or_default(),
            generation: metadata.generation.unwrap_or_default(),
            created: metadata.creation_timestamp.as_ref().map(|time| time.0),
            policy: Err(vec![Violation {
                path: "spec".to_owned(),
                message: error,
            }]),
            status: None,
            acknowledged: annotation(names::ACKNOWLEDGE_RETENTION_ANNOTATION).cloned(),
            losses_acknowledged: annotation(names::ACKNOWLEDGE_LOSSES_ANNOTATION)
                .map(|text| Acknowledged::read(text))
                .unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::policy;

    #[test]
    fn what_was_said_of_a_spec_is_said_again_only_of_the_same_spec() {
        let resource = policy("p");
        let marked = Candidate {
            policy: Err(Vec::new()),
            ..Candidate::readable(&resource)
        };
        let read = |change: &dyn Fn(&mut LoggingPolicy)| {
            let mut resource = resource.clone();
            change(&mut resource);
            Candidate::read(&resource, Some(&marked)).policy
        };
        assert_eq!(
            read(&|p| p.status = Some(LoggingPolicyStatus::default())),
            Err(Vec::new())
        );
        assert!(read(&|p| p.metadata.generation = Some(2)).is_ok());
        assert!(read(&|p| p.metadata.uid = Some("another".into())).is_ok());
        let mut unknown = resource.clone();
        unknown.metadata.generation = None;
        let before = Candidate {
            generation: 0,
            ..marked.clone()
        };
        assert!(Candidate::read(&unknown, Some(&before)).policy.is_ok());
    }
}
