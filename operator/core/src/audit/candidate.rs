//! An audit policy as the cluster has it, usable or not.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use katonic_logging_crds::{AuditPolicy, AuditPolicySpec, AuditPolicyStatus};

use super::{Policy, validate};
use crate::{installation::Installation, policy::Violation};

/// A custom resource and what validation says of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// Name of the resource.
    pub name: String,
    /// UID of the resource.
    pub uid: String,
    /// Generation that was validated.
    pub generation: i64,
    /// The policy, or all that is wrong with it.
    pub policy: Result<Policy, Vec<Violation>>,
    /// What it ships, as any policy that ships logs; none: it ships nothing.
    pub shipping: Option<crate::Candidate>,
    /// Its status as the cluster has it.
    pub status: Option<AuditPolicyStatus>,
}

impl Candidate {
    /// Validates a resource that could be read.
    pub fn readable(resource: &AuditPolicy) -> Self {
        let policy = validate(resource);
        let shipped = match &policy {
            Ok(policy) => policy.shipping.clone().map(Ok),
            Err(violations) => Some(Err(violations.clone())),
        };
        Self {
            shipping: shipped.map(|shipped| crate::Candidate::of_audit(resource, shipped)),
            policy,
            status: resource.status.clone(),
            ..Self::unreadable(&resource.metadata, String::new())
        }
    }

    /// A resource that does not have the form of its definition.
    pub fn unreadable(metadata: &ObjectMeta, error: String) -> Self {
        let violations = vec![Violation {
            path: "spec".to_owned(),
            message: error,
        }];
        let resource = AuditPolicy {
            metadata: metadata.clone(),
            spec: AuditPolicySpec::default(),
            status: None,
        };
        let shipping = crate::Candidate::of_audit(&resource, Err(violations.clone()));
        Self {
            name: metadata.name.clone().unwrap_or_default(),
            uid: metadata.uid.clone().unwrap_or_default(),
            generation: metadata.generation.unwrap_or_default(),
            policy: Err(violations),
            // It may have shipped before.
            shipping: Some(shipping),
            status: None,
        }
    }

    /// What it ships on this platform; a policy that names events which the platform does not have is left as it was.
    pub fn shipping_of(&self, installation: &Installation) -> Option<crate::Candidate> {
        let shipping = self.shipping.clone()?;
        let Ok(policy) = &self.policy else {
            return Some(shipping);
        };
        let unknown = policy.unknown(&installation.vocabulary());
        if unknown.is_empty() || policy.suspend {
            return Some(shipping.resolved(installation).unwrap_or(shipping));
        }
        let violation = Violation {
            path: "spec.events".to_owned(),
            message: "has events that the platform does not have".to_owned(),
        };
        Some(crate::Candidate {
            policy: Err(vec![violation]),
            ..shipping
        })
    }

    /// Whether nothing that a plan is made of differs.
    pub fn differs_in_status_only(&self, other: &Self) -> bool {
        let without_status = |candidate: &Self| Self {
            status: None,
            shipping: candidate.shipping.clone().map(|shipping| crate::Candidate {
                status: None,
                ..shipping
            }),
            ..candidate.clone()
        };
        without_status(self) == without_status(other)
    }
}
