//! A policy as the cluster has it, usable or not.

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::ObjectMeta, jiff::Timestamp};
use katonic_logging_crds::{LoggingPolicy, LoggingPolicyStatus};

use crate::{
    installation::Installation,
    names,
    policy::{Policy, Violation, validate},
    retention::Retention,
};

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
    /// The retention that somebody has said may delete logs, as it is written.
    pub acknowledged: Option<String>,
}

impl Candidate {
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
            acknowledged: metadata
                .annotations
                .as_ref()
                .and_then(|annotations| annotations.get(names::ACKNOWLEDGE_RETENTION_ANNOTATION))
                .cloned(),
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
