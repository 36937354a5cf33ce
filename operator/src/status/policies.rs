//! The policies of both kinds, as a person asks for them.

use katonic_logging_core::{Candidate, Policy, audit, overview::PolicyView};
use katonic_logging_crds::{AuditPolicy, LoggingPolicy, Plane, SecretKeyRef};
use kube::{Api, Client, api::ListParams, core::DeserializeGuard};

use super::Error;
use crate::access::{self, list};

/// The policies of a cluster.
pub struct Policies {
    /// The logging policies, by name.
    pub logging: Vec<Candidate>,
    /// The audit policies, by name.
    pub audit: Vec<audit::Candidate>,
    /// Why the audit policies are not there, if they could not be read.
    pub without_audit: Option<String>,
}

impl Policies {
    /// Reads them. Who may not read audit policies is shown the others.
    pub async fn read(client: &Client) -> Result<Self, Error> {
        let api: Api<DeserializeGuard<LoggingPolicy>> = Api::all(client.clone());
        let listed = list(&api, &ListParams::default()).await;
        let logging = listed.map_err(|error| match error {
            // The group is not served: its definition is missing.
            kube::Error::Api(status) if status.code == 404 => Error::NotInstalled,
            error => access::Error::read("LoggingPolicies", &error).into(),
        })?;
        let api: Api<DeserializeGuard<AuditPolicy>> = Api::all(client.clone());
        let listed = list(&api, &ListParams::default()).await;
        let (audit, without_audit) = match listed {
            Ok(listed) => (listed, None),
            Err(error) => {
                let error = access::Error::read("AuditPolicies", &error);
                (Vec::new(), Some(error.to_string()))
            }
        };
        Ok(Self {
            logging: logging.into_iter().map(logging_policy).collect(),
            audit: audit.into_iter().map(audit_policy).collect(),
            without_audit,
        })
    }

    /// Those of these names; all, if none is named.
    pub fn named(mut self, names: &[String]) -> Result<Self, Error> {
        if names.is_empty() {
            return Ok(self);
        }
        let is_there = |name: &&String| {
            self.logging.iter().any(|one| one.name == **name)
                || self.audit.iter().any(|one| one.name == **name)
        };
        if let Some(missing) = names.iter().find(|name| !is_there(name)) {
            return Err(Error::NoPolicy(missing.clone()));
        }
        self.logging.retain(|one| names.contains(&one.name));
        self.audit.retain(|one| names.contains(&one.name));
        Ok(self)
    }

    /// Whether any of them collects anything in a plane.
    pub fn reach(&self, plane: Plane) -> bool {
        let shipping = self.audit.iter().filter_map(|one| one.shipping.as_ref());
        let mut all = self.logging.iter().chain(shipping);
        all.any(|one| {
            let policy = one.policy.as_ref();
            policy.is_ok_and(|policy| !policy.suspend && policy.planes.contains(&plane))
        })
    }

    /// What they name of Secrets.
    pub fn secrets(&self) -> impl Iterator<Item = &SecretKeyRef> {
        let shipping = self.audit.iter().filter_map(|one| one.shipping.as_ref());
        let all = self.logging.iter().chain(shipping);
        let usable = all.filter_map(|one| one.policy.as_ref().ok());
        usable
            .filter(|policy| !policy.suspend)
            .flat_map(Policy::secrets)
    }

    /// As they are shown.
    pub fn views(&self) -> Vec<PolicyView> {
        let logging = self.logging.iter().map(PolicyView::of);
        let audit = self.audit.iter().map(audit_view);
        logging.chain(audit).map(PolicyView::mended).collect()
    }
}

/// A logging policy, whatever it looks like.
pub fn logging_policy(DeserializeGuard(policy): DeserializeGuard<LoggingPolicy>) -> Candidate {
    match policy {
        Ok(policy) => Candidate::readable(&policy),
        Err(invalid) => Candidate::unreadable(&invalid.metadata, invalid.error),
    }
}

/// An audit policy, whatever it looks like.
pub fn audit_policy(DeserializeGuard(policy): DeserializeGuard<AuditPolicy>) -> audit::Candidate {
    match policy {
        Ok(policy) => audit::Candidate::readable(&policy),
        Err(invalid) => audit::Candidate::unreadable(&invalid.metadata, invalid.error),
    }
}

/// An audit policy as it is shown.
pub fn audit_view(candidate: &audit::Candidate) -> PolicyView {
    let created = candidate.shipping.as_ref();
    PolicyView::of_audit(candidate, created.and_then(|shipping| shipping.created))
}
