//! The event tracker's ConfigMap: watched, told what the audit policies ask for, and left as it was when the last of them goes.

use std::{collections::BTreeSet, sync::Arc};

use k8s_openapi::api::core::v1::ConfigMap;
use katonic_logging_core::{
    Installation,
    audit::{Plan, Told, TrackerName, config_map},
    names,
    status::Failure,
};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, Preconditions},
};

use super::{
    apply::{Error, failed},
    sources::named,
};
use crate::{
    cache::{Cache, Change, Signal},
    health::Health,
    leader::Tenure,
    metrics::Outcome,
};

const KIND: &str = "ConfigMap";

/// A ConfigMap as the cluster has it.
#[derive(Clone, Debug, PartialEq)]
struct Seen {
    told: Told,
    uid: String,
    resource_version: String,
}

/// The ConfigMap of one event tracker.
#[derive(Debug)]
struct Tracker {
    namespace: String,
    name: TrackerName,
    seen: Cache<Seen>,
}

impl Tracker {
    fn watch(client: &Client, installation: &Installation, signal: &Arc<Signal>) -> Self {
        let namespace = installation.platform_namespace.clone();
        let name = installation.audit.tracker.config_map.clone();
        let seen = Cache::watch(
            Api::<ConfigMap>::namespaced(client.clone(), &namespace),
            named(name.as_str()),
            signal.clone(),
            |config_map, _| Seen {
                told: Told::of(&config_map),
                uid: config_map.uid().unwrap_or_default(),
                resource_version: config_map.resource_version().unwrap_or_default(),
            },
            |old, new| match (old, new) {
                // The tracker's other settings are nobody's business here.
                (Some(old), Some(new)) if old.told == new.told => Change::Status,
                _ => Change::Plan,
            },
        );
        Self {
            namespace,
            name,
            seen,
        }
    }

    fn is_of(&self, installation: &Installation) -> bool {
        self.namespace == installation.platform_namespace
            && self.name == installation.audit.tracker.config_map
    }

    fn seen(&self) -> Option<Seen> {
        self.seen.one(self.name.as_str()).there()
    }

    fn full_name(&self) -> String {
        format!("{}/{}", self.namespace, self.name.as_str())
    }
}

/// Tells the event tracker.
pub struct Trackers {
    client: Client,
    tenure: Arc<Tenure>,
    health: Arc<Health>,
    signal: Arc<Signal>,
    present: Option<Tracker>,
    /// Those that the installation named before, until what was said to them is taken back.
    former: Vec<Tracker>,
}

impl Trackers {
    /// Nothing is watched yet.
    pub fn new(
        client: Client,
        tenure: Arc<Tenure>,
        health: Arc<Health>,
        signal: Arc<Signal>,
    ) -> Self {
        Self {
            client,
            tenure,
            health,
            signal,
            present: None,
            former: Vec::new(),
        }
    }

    /// Watches the tracker of this installation, and the one of the installation that was in force before, if that is another.
    pub fn follow(&mut self, installation: &Installation, before: Option<&Installation>) {
        if let Some(tracker) = self.present.take_if(|tracker| !tracker.is_of(installation)) {
            self.former.push(tracker);
        } else if self.present.is_none()
            && let Some(before) = before.filter(|before| {
                before.platform_namespace != installation.platform_namespace
                    || before.audit.tracker != installation.audit.tracker
            })
        {
            self.former
                .push(Tracker::watch(&self.client, before, &self.signal));
        }
        self.former.retain(|tracker| !tracker.is_of(installation));
        if self.present.is_none() {
            self.present = Some(Tracker::watch(&self.client, installation, &self.signal));
        }
    }

    /// Whether the ConfigMap has been seen, or is known not to be to be had.
    pub fn are_settled(&self) -> bool {
        self.present
            .as_ref()
            .is_some_and(|tracker| tracker.seen.is_settled())
    }

    /// What the tracker was told last.
    pub fn told(&self) -> Option<Told> {
        Some(self.present.as_ref()?.seen()?.told)
    }

    /// Whether every former tracker is as it was before.
    pub fn have_left(&self) -> bool {
        self.former.is_empty()
    }

    /// Tells the tracker what the plan says; why it could not be told otherwise.
    pub async fn apply(&mut self, plan: &Plan, has_namespace: bool) -> Option<Failure> {
        let mut left = Vec::new();
        for tracker in std::mem::take(&mut self.former) {
            let error = tracker.seen.error();
            if error.is_some_and(|error| error.contains("forbidden")) && !tracker.seen.is_synced() {
                // Without the right to look there, it is for whoever took it away.
                continue;
            }
            // What has changed meanwhile is seen, and looked at again.
            if tracker.seen.is_synced() {
                if tracker.seen().is_none_or(|seen| !seen.told.ours) {
                    continue;
                }
                if let Err(error) = self.take_back(&tracker).await {
                    failed(error);
                }
            }
            left.push(tracker);
        }
        self.former = left;
        let tracker = self.present.as_ref().filter(|_| has_namespace)?;
        if let Some(reason) = tracker.seen.error().filter(|_| !tracker.seen.is_synced()) {
            if plan.events.is_empty() {
                return None;
            }
            return Some(failed(Error::Unwatched {
                kind: KIND,
                name: tracker.full_name(),
                reason,
            }));
        }
        let told = if plan.events.is_empty() {
            self.take_back(tracker).await
        } else {
            self.tell(tracker, plan).await
        };
        told.err().map(failed)
    }

    async fn tell(&self, tracker: &Tracker, plan: &Plan) -> Result<(), Error> {
        let seen = tracker.seen();
        if seen.is_some_and(|seen| seen.told.says(&plan.events)) {
            return Ok(());
        }
        self.tenure.holds().await.map_err(Error::Lease)?;
        let wanted = config_map(&tracker.namespace, &tracker.name, &plan.events);
        self.write(tracker, wanted).await.map(drop)
    }

    /// Takes back what is ours in it; the ConfigMap goes too if nobody else has ever had a part in it.
    async fn take_back(&self, tracker: &Tracker) -> Result<(), Error> {
        let Some(seen) = tracker.seen().filter(|seen| seen.told.ours) else {
            return Ok(());
        };
        self.tenure.holds().await.map_err(Error::Lease)?;
        if !seen.told.of_nobody_else {
            let mut nothing = config_map(&tracker.namespace, &tracker.name, &BTreeSet::new());
            // So that one that is gone meanwhile is not made anew.
            nothing.metadata.resource_version = Some(seen.resource_version);
            return match self.write(tracker, nothing).await {
                // It has changed since: the watch will say so.
                Err(Error::Apply {
                    source: kube::Error::Api(status),
                    ..
                }) if [404, 409].contains(&status.code) => Ok(()),
                written => written,
            };
        }
        let parameters = DeleteParams {
            preconditions: Some(Preconditions {
                uid: Some(seen.uid),
                resource_version: Some(seen.resource_version),
            }),
            ..DeleteParams::default()
        };
        let api = Api::<ConfigMap>::namespaced(self.client.clone(), &tracker.namespace);
        let deleted = match api.delete(tracker.name.as_str(), &parameters).await {
            Err(kube::Error::Api(status)) if [404, 409].contains(&status.code) => return Ok(()),
            deleted => deleted,
        };
        self.health.metrics.wrote(KIND, Outcome::of(&deleted));
        deleted.map(drop).map_err(|source| Error::Delete {
            kind: KIND,
            name: tracker.full_name(),
            source,
        })
    }

    async fn write(&self, tracker: &Tracker, wanted: ConfigMap) -> Result<(), Error> {
        let api = Api::<ConfigMap>::namespaced(self.client.clone(), &tracker.namespace);
        let parameters = PatchParams::apply(names::FIELD_MANAGER).force();
        let name = tracker.name.as_str();
        let applied = api.patch(name, &parameters, &Patch::Apply(wanted)).await;
        self.health.metrics.wrote(KIND, Outcome::of(&applied));
        applied.map(drop).map_err(|source| Error::Apply {
            kind: KIND,
            name: tracker.full_name(),
            source,
        })
    }
}

impl std::fmt::Debug for Trackers {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Trackers")
            .field("present", &self.present)
            .field("former", &self.former)
            .finish_non_exhaustive()
    }
}
