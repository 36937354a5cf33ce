//! The apply step: makes the cluster match a plan. Decides nothing, and never stops at the first failure.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    sync::Arc,
};

use futures::future::join_all;
use k8s_openapi::api::core::v1::Secret;
use katonic_logging_core::{
    names,
    plan::{Plan, PlanePlan, PlaneState},
    status::{Failure, Report},
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, Preconditions},
    core::PartialObjectMeta,
};
use serde::{Serialize, de::DeserializeOwned};

use super::sources::{Owned, PlaneSource, PlaneSources};
use crate::{cache::chain, health::Health, leader::Tenure, metrics::Outcome};

/// Writes objects, and remembers what it wrote: an object that is as it was left is not written again.
pub struct Applier {
    client: Client,
    tenure: Arc<Tenure>,
    health: Arc<Health>,
    written: BTreeMap<String, Written>,
}

/// An object as it was left.
#[derive(Clone, PartialEq)]
struct Written {
    body: Vec<u8>,
    resource_version: String,
    /// The version that was seen when it was written.
    over: Option<String>,
}

/// An object has changed since it was seen: whatever was decided has to be decided again.
#[derive(Debug, thiserror::Error)]
#[error("{kind} {name} has changed since it was seen")]
pub struct Outdated {
    kind: &'static str,
    name: String,
}

/// What may go wrong with one object.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Outdated(#[from] Outdated),
    #[error("failed to see whether this instance still leads")]
    Lease(#[source] kube::Error),
    #[error("{kind} {name} is there and was not made by katonic-logging: delete or rename it")]
    NameTaken { kind: &'static str, name: String },
    #[error("failed to serialise {kind} {name}")]
    Serialise {
        kind: &'static str,
        name: String,
        source: serde_json::Error,
    },
    #[error("failed to watch {kind} {name}: {reason}")]
    Unwatched {
        kind: &'static str,
        name: String,
        reason: String,
    },
    #[error("failed to apply {kind} {name}")]
    Apply {
        kind: &'static str,
        name: String,
        source: kube::Error,
    },
    #[error("failed to delete {kind} {name}")]
    Delete {
        kind: &'static str,
        name: String,
        source: kube::Error,
    },
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self {
            name_taken: matches!(error, Error::NameTaken { .. }),
            message: chain(&error),
        }
    }
}

impl Applier {
    /// An applier that has written nothing yet.
    pub fn new(client: Client, tenure: Arc<Tenure>, health: Arc<Health>) -> Self {
        Self {
            client,
            tenure,
            health,
            written: BTreeMap::new(),
        }
    }

    /// Applies the bundles of the plan.
    pub async fn apply(
        &mut self,
        plan: &Plan,
        planes: &PlaneSources,
        former: &mut BTreeSet<String>,
    ) -> Report {
        let mut report = Report::default();
        let bundles = plan
            .planes
            .iter()
            .filter_map(|(plane, plan)| Some((plan, planes.get(*plane)?)));
        let bundles: Vec<(&PlanePlan, &PlaneSource)> = bundles.collect();
        let applied = join_all(
            bundles
                .iter()
                .map(|(plan, source)| self.bundle(plan, source)),
        )
        .await;
        for ((plan, _), result) in bundles.iter().zip(applied) {
            match result {
                Ok(written) => self.remember(&secret_key(&plan.namespace), written),
                Err(error) => {
                    report.bundles.insert(plan.namespace.clone(), failed(error));
                }
            }
        }
        self.leave(former).await;
        report
    }

    /// The version of an object as it was left.
    pub fn version(&self, kind: &str, name: &str) -> Option<&str> {
        let written = self.written.get(&key(kind, name))?;
        Some(&written.resource_version)
    }

    fn remember(&mut self, key: &str, written: Option<Written>) {
        match written {
            Some(written) => self.written.insert(key.to_owned(), written),
            None => self.written.remove(key),
        };
    }

    async fn bundle(
        &self,
        plan: &PlanePlan,
        source: &PlaneSource,
    ) -> Result<Option<Written>, Error> {
        if plan.state == PlaneState::NamespaceMissing {
            return Ok(None);
        }
        let api = Api::<Secret>::namespaced(self.client.clone(), &plan.namespace);
        let Some(observed) = source
            .bundle
            .with(|all| all.get(names::BUNDLE).map(|bundle| bundle.owned.clone()))
        else {
            // Unseen, it might hold the last good form of a sink that cannot be used at present.
            let reason = source
                .bundle
                .error()
                .unwrap_or_else(|| "it has not been listed yet".to_owned());
            let name = format!("{}/{}", plan.namespace, names::BUNDLE);
            return Err(Error::Unwatched {
                kind: "Secret",
                name,
                reason,
            });
        };
        let Some(wanted) = &plan.bundle else {
            return self
                .delete(&api, "Secret", names::BUNDLE, observed, None)
                .await
                .map(|()| None);
        };
        let before = self.written.get(&secret_key(&plan.namespace));
        let (applied, mut written) = self
            .converge(&api, "Secret", wanted, observed, before, None)
            .await?;
        if let Some(applied) = applied
            && let Some(resource_version) = self.prune(&api, wanted, &applied).await?
        {
            written.resource_version = resource_version;
        }
        Ok(Some(written))
    }

    /// Writes an object that belongs to the whole cluster, unless it is as it was left or is not any more what was seen of it.
    pub async fn write<K>(
        &mut self,
        api: &Api<K>,
        kind: &'static str,
        wanted: &K,
        observed: Option<Owned>,
    ) -> Result<(), Error>
    where
        K: Resource + Clone + Debug + Serialize + DeserializeOwned,
    {
        let key = key(kind, &wanted.name_any());
        let before = self.written.get(&key);
        let version = newest(observed.as_ref(), before);
        let (_, written) = self
            .converge(api, kind, wanted, observed, before, version)
            .await?;
        self.remember(&key, Some(written));
        Ok(())
    }

    /// Deletes an object that belongs to the whole cluster, if it is there and is ours.
    pub async fn remove<K>(
        &mut self,
        api: &Api<K>,
        kind: &'static str,
        name: &str,
        observed: Option<Owned>,
    ) -> Result<(), Error>
    where
        K: Clone + Debug + DeserializeOwned,
    {
        let key = key(kind, name);
        let version = newest(observed.as_ref(), self.written.get(&key));
        self.remember(&key, None);
        self.delete(api, kind, name, observed, version).await
    }

    /// Server-side apply, unless the object is as it was left. Equal content is no write in the API server either;
    /// this spares the request. With a `version`, nothing is written over any other one.
    async fn converge<K>(
        &self,
        api: &Api<K>,
        kind: &'static str,
        wanted: &K,
        observed: Option<Owned>,
        before: Option<&Written>,
        version: Option<String>,
    ) -> Result<(Option<K>, Written), Error>
    where
        K: Resource + Clone + Debug + Serialize + DeserializeOwned,
    {
        let name = wanted.name_any();
        let full_name = wanted
            .namespace()
            .map_or_else(|| name.clone(), |namespace| format!("{namespace}/{name}"));
        if observed.as_ref().is_some_and(|observed| !observed.ours) {
            return Err(Error::NameTaken {
                kind,
                name: full_name,
            });
        }
        let body = serde_json::to_vec(wanted).map_err(|source| Error::Serialise {
            kind,
            name: full_name.clone(),
            source,
        })?;
        if let (Some(before), Some(observed)) = (before, &observed)
            && before.body == body
            && before.resource_version == observed.resource_version
        {
            return Ok((None, before.clone()));
        }
        self.tenure.holds().await.map_err(Error::Lease)?;
        let mut wanted = wanted.clone();
        wanted.meta_mut().resource_version.clone_from(&version);
        let parameters = PatchParams::apply(names::FIELD_MANAGER).force();
        let applied = match api.patch(&name, &parameters, &Patch::Apply(wanted)).await {
            Err(kube::Error::Api(status)) if version.is_some() && is_outdated(&status) => {
                return Err(Outdated { kind, name }.into());
            }
            applied => applied,
        };
        self.health.metrics.wrote(kind, Outcome::of(&applied));
        let applied = applied.map_err(|source| Error::Apply {
            kind,
            name: full_name,
            source,
        })?;
        let resource_version = applied.resource_version().unwrap_or_default();
        Ok((
            Some(applied),
            Written {
                body,
                resource_version,
                over: observed.map(|observed| observed.resource_version),
            },
        ))
    }

    /// Server-side apply leaves keys that somebody else has added: a bundle holds ours and no others.
    async fn prune(
        &self,
        api: &Api<Secret>,
        wanted: &Secret,
        applied: &Secret,
    ) -> Result<Option<String>, Error> {
        let (Some(ours), Some(all)) = (&wanted.data, &applied.data) else {
            return Ok(None);
        };
        let foreign: serde_json::Map<String, serde_json::Value> = all
            .keys()
            .filter(|key| !ours.contains_key(*key))
            .map(|key| (key.clone(), serde_json::Value::Null))
            .collect();
        if foreign.is_empty() {
            return Ok(None);
        }
        // A JSON merge patch removes what is null (RFC 7396).
        let patch = Patch::Merge(serde_json::json!({"data": foreign}));
        let parameters = PatchParams {
            field_manager: Some(names::FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let pruned = api.patch(names::BUNDLE, &parameters, &patch).await;
        self.health.metrics.wrote("Secret", Outcome::of(&pruned));
        let name = names::BUNDLE.to_owned();
        let pruned = pruned.map_err(|source| Error::Apply {
            kind: "Secret",
            name,
            source,
        })?;
        Ok(pruned.resource_version())
    }

    /// Deletes what is ours, and only the very object that was seen; with a `version`, only as it was then.
    async fn delete<K>(
        &self,
        api: &Api<K>,
        kind: &'static str,
        name: &str,
        observed: Option<Owned>,
        version: Option<String>,
    ) -> Result<(), Error>
    where
        K: Clone + Debug + DeserializeOwned,
    {
        let Some(observed) = observed.filter(|observed| observed.ours) else {
            return Ok(());
        };
        let preconditions = Preconditions {
            uid: Some(observed.uid),
            resource_version: version,
        };
        self.tenure.holds().await.map_err(Error::Lease)?;
        let parameters = DeleteParams {
            preconditions: Some(preconditions),
            ..DeleteParams::default()
        };
        let deleted = match api.delete(name, &parameters).await {
            // Somebody else was faster: it is gone, or it is another one now and will be seen.
            Err(kube::Error::Api(status)) if [404, 409].contains(&status.code) => return Ok(()),
            result => result,
        };
        self.health.metrics.wrote(kind, Outcome::of(&deleted));
        deleted.map(drop).map_err(|source| Error::Delete {
            kind,
            name: name.to_owned(),
            source,
        })
    }

    /// Takes the bundle out of namespaces that are planes no longer.
    async fn leave(&mut self, former: &mut BTreeSet<String>) {
        for namespace in former.clone() {
            match self.leave_one(&namespace).await {
                Ok(()) => {
                    former.remove(&namespace);
                    self.written.remove(&secret_key(&namespace));
                }
                Err(kube::Error::Api(status)) if status.code == 403 => {
                    // Without the right to look there, it is for whoever took it away; owner references still bind it.
                    tracing::warn!(%namespace, "no right to remove the bundle of a former plane");
                    former.remove(&namespace);
                }
                Err(error) => {
                    tracing::warn!(%namespace, error = %chain(&error), "failed to leave a former plane");
                }
            }
        }
    }

    async fn leave_one(&self, namespace: &str) -> Result<(), kube::Error> {
        let metadata = Api::<PartialObjectMeta<Secret>>::namespaced(self.client.clone(), namespace);
        let Some(found) = metadata.get_metadata_opt(names::BUNDLE).await? else {
            return Ok(());
        };
        let api = Api::<Secret>::namespaced(self.client.clone(), namespace);
        match self
            .delete(
                &api,
                "Secret",
                names::BUNDLE,
                Some(Owned::of(found.meta())),
                None,
            )
            .await
        {
            Err(Error::Delete { source, .. } | Error::Lease(source)) => Err(source),
            _ => Ok(()),
        }
    }
}

/// The version of an object as far as it is known: what was seen of it, or what was made of that since.
fn newest(observed: Option<&Owned>, before: Option<&Written>) -> Option<String> {
    let observed = &observed?.resource_version;
    let since = before.filter(|before| before.over.as_ref() == Some(observed));
    Some(since.map_or_else(|| observed.clone(), |since| since.resource_version.clone()))
}

/// Whether an answer says that an object is not the version that was named, or is gone.
fn is_outdated(status: &kube::core::Status) -> bool {
    status.code == 409
        || status
            .message
            .contains("resourceVersion should not be set on objects to be created")
}

/// Logs why something was not written, for the status to tell.
pub fn failed(error: Error) -> Failure {
    let failure = Failure::from(error);
    tracing::error!(error = %failure.message, "failed to apply");
    failure
}

fn key(kind: &str, name: &str) -> String {
    format!("{kind} {name}")
}

fn secret_key(namespace: &str) -> String {
    key("Secret", namespace)
}

impl std::fmt::Debug for Applier {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The bodies hold credentials.
        formatter
            .debug_struct("Applier")
            .field("written", &self.written.keys())
            .finish_non_exhaustive()
    }
}
