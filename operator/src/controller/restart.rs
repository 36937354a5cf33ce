//! Restarts owners for policies with `rollout: Automatic`, as the core decides. Watches workloads only while there is one.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    sync::Arc,
};

use k8s_openapi::{
    api::apps::v1::{DaemonSet, Deployment, StatefulSet},
    jiff::Timestamp,
};
use katonic_logging_core::{
    coverage::{Workload, WorkloadKind},
    names,
    restart::{Decision, Facts, Id, Memory, Observed, Restart, Standing, Window},
};
use kube::{
    Api, Client, Resource,
    api::{Patch, PatchParams},
    core::NamespaceResourceScope,
    runtime::watcher::Config,
};
use serde_json::json;

use crate::{
    cache::{Cache, Change, Signal, chain},
    health::Health,
    metrics::Outcome,
    workload::WorkloadSummary,
};

/// Decides and carries out restarts.
pub struct Roller {
    client: Client,
    health: Arc<Health>,
    signal: Arc<Signal>,
    namespaces: BTreeMap<String, Workloads>,
    memory: Memory,
}

/// The workloads of one namespace.
struct Workloads {
    deployments: Cache<Observed>,
    stateful_sets: Cache<Observed>,
    daemon_sets: Cache<Observed>,
}

/// What came of a decision.
#[derive(Debug, Default)]
pub struct Told {
    /// How it stands with each owner.
    pub standing: BTreeMap<Id, Standing>,
    /// When to decide again if nothing changes before.
    pub wake: Option<Timestamp>,
}

impl Roller {
    /// Has restarted nothing yet.
    pub fn new(client: Client, health: Arc<Health>, signal: Arc<Signal>) -> Self {
        Self {
            client,
            health,
            signal,
            namespaces: BTreeMap::new(),
            memory: Memory::default(),
        }
    }

    /// Restarts the owner whose turn it is, if any. `wanted` is `None` while no policy wants restarts.
    pub async fn roll(
        &mut self,
        wanted: Option<&BTreeSet<Id>>,
        in_force: &BTreeMap<String, Option<Timestamp>>,
        namespaces: &BTreeSet<String>,
        window: Option<&Window>,
        now: Timestamp,
    ) -> Told {
        let Some(wanted) = wanted else {
            self.namespaces.clear();
            return Told::default();
        };
        self.watch(namespaces);
        let mut workloads = BTreeMap::new();
        for (namespace, watched) in &self.namespaces {
            match watched.all(namespace) {
                Ok(Some(all)) => workloads.extend(all),
                // Nothing is decided before everything is known.
                Ok(None) => return Told::default(),
                Err(message) => return unwatched(wanted, &message),
            }
        }
        let facts = Facts {
            wanted,
            workloads: &workloads,
            in_force,
            window,
            now,
        };
        let mut decision = self.memory.decide(facts);
        if let Some(restart) = decision.restart.take() {
            self.restart(&restart, now).await;
            decision = self.memory.decide(facts);
        }
        let Decision { standing, wake, .. } = decision;
        Told { standing, wake }
    }

    fn watch(&mut self, namespaces: &BTreeSet<String>) {
        self.namespaces
            .retain(|namespace, _| namespaces.contains(namespace));
        for namespace in namespaces {
            if !self.namespaces.contains_key(namespace) {
                let watched = Workloads::watch(&self.client, namespace, &self.signal);
                self.namespaces.insert(namespace.clone(), watched);
            }
        }
    }

    async fn restart(&mut self, restart: &Restart, now: Timestamp) {
        let restarted = match restart.id.workload.kind {
            WorkloadKind::Deployment => self.patch::<Deployment>(restart, now).await,
            WorkloadKind::StatefulSet => self.patch::<StatefulSet>(restart, now).await,
            WorkloadKind::DaemonSet => self.patch::<DaemonSet>(restart, now).await,
        };
        let Id {
            namespace,
            workload,
        } = &restart.id;
        match restarted {
            Ok(generation) => {
                tracing::info!(%namespace, %workload, "restarted, so that its pods get the log agent");
                self.memory.restarted(restart, generation, now);
            }
            // Gone, or another one of the same name: the watch will say so.
            Err(kube::Error::Api(status)) if [404, 409].contains(&status.code) => {}
            Err(error) => {
                let message = chain(&error);
                tracing::warn!(%namespace, %workload, error = %message, "failed to restart");
                self.memory.refused(restart, message, now);
            }
        }
    }

    /// Sets what `kubectl rollout restart` sets, and nothing else, on this very object; returns its new generation.
    async fn patch<K>(&self, restart: &Restart, now: Timestamp) -> kube::Result<i64>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug,
    {
        let api: Api<WorkloadSummary<K>> =
            Api::namespaced(self.client.clone(), &restart.id.namespace);
        let patch = Patch::Merge(json!({
            "metadata": {"uid": restart.uid},
            "spec": {"template": {"metadata": {"annotations": {
                names::RESTARTED_AT_ANNOTATION: now.to_string(),
            }}}},
        }));
        let parameters = PatchParams {
            field_manager: Some(names::FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let name = &restart.id.workload.name;
        let patched = api.patch(name, &parameters, &patch).await;
        let kind = match restart.id.workload.kind {
            WorkloadKind::Deployment => "Deployment",
            WorkloadKind::StatefulSet => "StatefulSet",
            WorkloadKind::DaemonSet => "DaemonSet",
        };
        self.health.metrics.wrote(kind, Outcome::of(&patched));
        Ok(patched?.object.metadata.generation.unwrap_or_default())
    }
}

/// No owner can be restarted, because it cannot be seen how it is.
fn unwatched(wanted: &BTreeSet<Id>, message: &str) -> Told {
    let refused = || Standing::Refused(message.to_owned());
    Told {
        standing: wanted.iter().map(|id| (id.clone(), refused())).collect(),
        wake: None,
    }
}

impl Workloads {
    fn watch(client: &Client, namespace: &str, signal: &Arc<Signal>) -> Self {
        Self {
            deployments: watch::<Deployment>(client, namespace, signal, WorkloadKind::Deployment),
            stateful_sets: watch::<StatefulSet>(
                client,
                namespace,
                signal,
                WorkloadKind::StatefulSet,
            ),
            daemon_sets: watch::<DaemonSet>(client, namespace, signal, WorkloadKind::DaemonSet),
        }
    }

    /// Every workload; `None` while they have not been listed, and why they cannot be.
    fn all(&self, namespace: &str) -> Result<Option<BTreeMap<Id, Observed>>, String> {
        let mut workloads = BTreeMap::new();
        for (kind, cache) in [
            (WorkloadKind::Deployment, &self.deployments),
            (WorkloadKind::StatefulSet, &self.stateful_sets),
            (WorkloadKind::DaemonSet, &self.daemon_sets),
        ] {
            let Some(all) = cache.all() else {
                return cache.error().map_or(Ok(None), Err);
            };
            let id = |name| Id {
                namespace: namespace.to_owned(),
                workload: Workload { kind, name },
            };
            workloads.extend(all.into_iter().map(|(name, observed)| (id(name), observed)));
        }
        Ok(Some(workloads))
    }
}

fn watch<K>(
    client: &Client,
    namespace: &str,
    signal: &Arc<Signal>,
    kind: WorkloadKind,
) -> Cache<Observed>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + 'static,
{
    Cache::watch(
        Api::<WorkloadSummary<K>>::namespaced(client.clone(), namespace),
        Config::default(),
        signal.clone(),
        move |workload, _| workload.object.observe(kind),
        |_, _| Change::Status,
    )
}

impl Debug for Roller {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Roller")
            .field("namespaces", &self.namespaces.keys())
            .field("memory", &self.memory)
            .finish_non_exhaustive()
    }
}
