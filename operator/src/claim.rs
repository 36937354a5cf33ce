//! The claim's shell: takes it, keeps it, and waits while another installation has it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use k8s_openapi::api::{
    coordination::v1::Lease,
    core::v1::{ConfigMap, Namespace, ObjectReference},
};
use katonic_logging_core::{
    claim::{Home, Standing, claim, holder, refusal, standing},
    names,
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{Patch, PatchParams},
    core::PartialObjectMeta,
    runtime::{
        events::{Event, EventType, Recorder, Reporter},
        watcher::Config,
    },
};

use crate::{
    cache::{Cache, Change, Signal, chain},
    health::Health,
};

/// How often an installation that has to wait looks whether the other one is gone.
const WAIT: Duration = Duration::from_secs(5);

/// How long a waiting installation leaves a claim that is free to the one that had it.
const PRECEDENCE: Duration = Duration::from_secs(10);

/// How long the claim as it is read may be behind what was written.
const GATHER: Duration = Duration::from_millis(100);

/// This installation's claim to be the only one in the cluster.
pub struct Claim {
    client: Client,
    leases: Api<Lease>,
    home: Home,
    seen: Cache<Lease>,
    signal: Arc<Signal>,
    health: Arc<Health>,
}

impl Claim {
    /// The claim of the installation in this namespace.
    ///
    /// # Errors
    /// When the namespace cannot be read.
    pub async fn of(client: &Client, namespace: &str, health: &Arc<Health>) -> kube::Result<Self> {
        let own = Api::<PartialObjectMeta<Namespace>>::all(client.clone())
            .get_metadata(namespace)
            .await?;
        let leases = Api::namespaced(client.clone(), names::CLAIM_NAMESPACE);
        let signal = Arc::new(Signal::default());
        let seen = Cache::watch(
            leases.clone(),
            Config::default().fields(&format!("metadata.name={}", names::CLAIM)),
            signal.clone(),
            |lease: Lease, _| lease,
            |_, _| Change::Plan,
        );
        Ok(Self {
            client: client.clone(),
            leases,
            home: Home {
                namespace: namespace.to_owned(),
                uid: own.uid().unwrap_or_default(),
            },
            seen,
            signal,
            health: health.clone(),
        })
    }

    /// Waits until this installation is the one that works. Tells people while it is not.
    pub async fn taken(&self) {
        let mut told = None;
        let mut free_since = None;
        loop {
            match self.look().await {
                Ok(Some(Standing::Theirs(holder))) => {
                    free_since = None;
                    let refusal = refusal(&self.home, &holder);
                    if told.as_ref() != Some(&refusal) {
                        self.tell(&refusal).await;
                        told = Some(refusal);
                    }
                }
                // Somebody has deleted it: the installation that works is to have it again.
                Ok(Some(Standing::Free))
                    if told.is_some()
                        && free_since.get_or_insert_with(Instant::now).elapsed() < PRECEDENCE => {}
                Ok(Some(standing)) => match self.take(&standing).await {
                    Ok(true) => break,
                    Ok(false) => {}
                    Err(error) => {
                        tracing::warn!(error = %chain(&error), "failed to claim the cluster for this installation");
                    }
                },
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(error = %chain(&error), "failed to see whose cluster this is");
                }
            }
            // A change of the claim is seen at once; that its holder's namespace is gone is not.
            let _ = tokio::time::timeout(WAIT, self.signal.changed(GATHER)).await;
        }
        if told.is_some() {
            tracing::info!(namespace = %self.home.namespace, "the other installation is gone: this one works now");
        }
        self.health.set_refused(None);
    }

    /// Waits until another installation has the claim; takes it again when it is only gone. Says whose it is.
    pub async fn lost(&self) -> String {
        loop {
            self.signal.changed(GATHER).await;
            let kept = match self.look().await {
                Ok(Some(Standing::Theirs(holder))) => return holder,
                Ok(Some(Standing::Ours) | None) => Ok(true),
                Ok(Some(standing)) => self.take(&standing).await,
                Err(error) => Err(error),
            };
            if let Err(error) = kept {
                tracing::warn!(error = %chain(&error), "failed to keep the claim of this installation");
                tokio::time::sleep(WAIT).await;
                self.signal.raise(Change::Plan);
            }
        }
    }

    /// How this installation stands to the claim; none while that is not known.
    async fn look(&self) -> kube::Result<Option<Standing>> {
        let Some(seen) = self.seen.with(|all| all.get(names::CLAIM).cloned()) else {
            return Ok(None);
        };
        let living = match seen.as_ref().and_then(holder) {
            Some(holder) if holder != self.home.namespace => {
                Api::<PartialObjectMeta<Namespace>>::all(self.client.clone())
                    .get_metadata_opt(holder)
                    .await?
                    .and_then(|namespace| namespace.uid())
            }
            _ => None,
        };
        Ok(Some(standing(seen.as_ref(), &self.home, living.as_deref())))
    }

    /// Takes a claim that is not another one's, or renews it; whether that worked out.
    async fn take(&self, standing: &Standing) -> kube::Result<bool> {
        let mut wanted = claim(&self.home);
        // Each installation has a field manager of its own, so that of two that take a free claim at once the API server
        // lets one have it: the other one's holder is in conflict with it.
        let manager = format!("{}-{}", names::FIELD_MANAGER, self.home.namespace);
        let mut parameters = PatchParams::apply(&manager);
        if *standing == Standing::Abandoned {
            // Of two that take over the same one, the API server lets one.
            wanted.metadata.resource_version = self
                .seen
                .with(|all| all.get(names::CLAIM)?.resource_version())
                .flatten();
            parameters = parameters.force();
        }
        let patch = Patch::Apply(&wanted);
        match self.leases.patch(names::CLAIM, &parameters, &patch).await {
            Ok(_) => Ok(true),
            // Another one was faster; the watch will say who.
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn tell(&self, refusal: &str) {
        tracing::error!("{refusal}");
        self.health.set_refused(Some(refusal.to_owned()));
        let about = ObjectReference {
            api_version: Some(ConfigMap::api_version(&()).into_owned()),
            kind: Some(ConfigMap::kind(&()).into_owned()),
            name: Some(names::INSTALLATION.to_owned()),
            namespace: Some(self.home.namespace.clone()),
            ..ObjectReference::default()
        };
        let event = Event {
            type_: EventType::Warning,
            reason: "AnotherInstallation".to_owned(),
            note: Some(refusal.to_owned()),
            action: "ClaimCluster".to_owned(),
            secondary: None,
        };
        let reporter = Reporter {
            controller: names::FIELD_MANAGER.to_owned(),
            instance: None,
        };
        let recorder = Recorder::new(self.client.clone(), reporter);
        if let Err(error) = recorder.publish(&event, &about).await {
            tracing::warn!(error = %chain(&error), "failed to write an Event");
        }
    }
}
