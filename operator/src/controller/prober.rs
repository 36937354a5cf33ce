//! Finds out by dry runs whether the API server injects pods. Creates nothing, and decides nothing.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use katonic_logging_core::{
    admission::Admission,
    installation::Agent,
    probe::{self, Finding},
};
use kube::{Api, Client, api::PostParams};

use crate::cache::chain;

/// Versions of the admission policy and of its binding.
pub type Versions = (String, String);

/// Remembers what it has seen in force, so that an idle cluster is not asked again.
pub struct Prober {
    client: Client,
    in_force: BTreeMap<String, Versions>,
}

impl Prober {
    /// A prober that has seen nothing.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            in_force: BTreeMap::new(),
        }
    }

    /// What is to be said of the namespaces in which injection is not seen in force.
    pub async fn probe(
        &mut self,
        admission: &Admission,
        agent: &Agent,
        versions: &Versions,
    ) -> BTreeMap<String, Finding> {
        self.in_force
            .retain(|namespace, seen| admission.namespaces.contains(namespace) && seen == versions);
        let mut findings = BTreeMap::new();
        for namespace in &admission.namespaces {
            if self.in_force.contains_key(namespace) {
                continue;
            }
            if let Some(finding) = self.dry_run(namespace, agent).await {
                findings.insert(namespace.clone(), finding);
            } else {
                self.in_force.insert(namespace.clone(), versions.clone());
            }
        }
        findings
    }

    async fn dry_run(&self, namespace: &str, agent: &Agent) -> Option<Finding> {
        let pods = Api::<Pod>::namespaced(self.client.clone(), namespace);
        let dry_run = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        match pods.create(&dry_run, &probe::pod(agent)).await {
            Ok(created) => probe::finding(&created, agent),
            // The namespace is going away; its watch will say so.
            Err(kube::Error::Api(status)) if status.code == 404 => Some(Finding::Pending),
            Err(kube::Error::Api(status)) if (400..500).contains(&status.code) => {
                tracing::warn!(%namespace, message = %status.message, "a trial pod was refused");
                Some(Finding::Refused(status.message))
            }
            Err(error) => {
                tracing::warn!(%namespace, error = %chain(&error), "failed to try a pod");
                Some(Finding::Pending)
            }
        }
    }
}
