//! Tries pods in dry runs: whether namespaces take the log agent, and whether the API server injects it. Creates nothing.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Pod;
use katonic_logging_core::{admission::Admission, installation::Agent, probe};
use kube::{Api, Client, api::PostParams};

use crate::cache::chain;

/// Versions of the admission policy and of its binding.
pub type Versions = (String, String);

/// Remembers what it has seen, so that an idle cluster is not asked again.
pub struct Prober {
    client: Client,
    takes_agent: BTreeMap<String, Agent>,
    in_force: BTreeMap<String, Versions>,
}

impl Prober {
    /// A prober that has seen nothing.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            takes_agent: BTreeMap::new(),
            in_force: BTreeMap::new(),
        }
    }

    /// The namespaces that take pods, and refuse them with the agent; with the API server's words.
    ///
    /// A namespace about which the API server does not say is not among them: injection that works is not taken away
    /// because an answer did not come.
    pub async fn refusals<'a>(
        &mut self,
        namespaces: impl Iterator<Item = &'a String>,
        agent: &Agent,
    ) -> BTreeMap<String, String> {
        let mut refusals = BTreeMap::new();
        for namespace in namespaces {
            if self.takes_agent.get(namespace) == Some(agent) {
                continue;
            }
            let Err(error) = self.dry_run(namespace, &probe::with_agent(agent)).await else {
                self.takes_agent.insert(namespace.clone(), agent.clone());
                continue;
            };
            self.takes_agent.remove(namespace);
            let kube::Error::Api(status) = &error else {
                tracing::warn!(%namespace, error = %chain(&error), "failed to try a pod");
                continue;
            };
            if ![400, 403, 422].contains(&status.code) {
                tracing::warn!(%namespace, error = %chain(&error), "failed to try a pod");
                continue;
            }
            let without = self.dry_run(namespace, &probe::opted_out(agent)).await;
            if probe::is_about_agent(&status.message, without.is_ok()) {
                refusals.insert(namespace.clone(), status.message.clone());
            } else {
                tracing::warn!(%namespace, message = %status.message, "pods are refused, with the agent or without");
            }
        }
        refusals
    }

    /// The namespaces in which injection has not been seen in force.
    pub async fn pending(
        &mut self,
        admission: &Admission,
        agent: &Agent,
        versions: &Versions,
    ) -> BTreeSet<String> {
        self.in_force
            .retain(|namespace, seen| admission.namespaces.contains(namespace) && seen == versions);
        let mut pending = BTreeSet::new();
        for namespace in &admission.namespaces {
            if self.in_force.contains_key(namespace) {
                continue;
            }
            match self.dry_run(namespace, &probe::bare(agent)).await {
                Ok(created) if probe::is_injected(&created) => {
                    self.in_force.insert(namespace.clone(), versions.clone());
                }
                Ok(_) => {
                    pending.insert(namespace.clone());
                }
                Err(error) => {
                    tracing::warn!(%namespace, error = %chain(&error), "failed to try a pod");
                    pending.insert(namespace.clone());
                }
            }
        }
        pending
    }

    async fn dry_run(&self, namespace: &str, pod: &Pod) -> kube::Result<Pod> {
        let pods = Api::<Pod>::namespaced(self.client.clone(), namespace);
        pods.create(
            &PostParams {
                dry_run: true,
                ..PostParams::default()
            },
            pod,
        )
        .await
    }
}
