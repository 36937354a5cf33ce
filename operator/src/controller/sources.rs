//! Everything that is watched.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::{
    api::{
        admissionregistration::v1::{MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding},
        core::v1::{ConfigMap, Namespace, Secret},
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use katonic_logging_core::{
    Candidate, Installation, admission, bundle::LastGood, coverage, names, plan,
};
use katonic_logging_crds::{LoggingPolicy, Plane};
use kube::{
    Api, Client, Resource, ResourceExt,
    core::{DeserializeGuard, PartialObjectMeta},
    runtime::watcher::Config,
};

use crate::{
    cache::{Cache, Change, Signal},
    pod::PodSummary,
};

/// An object that may be ours, as far as it matters for writing it.
#[derive(Clone, Debug, PartialEq)]
pub struct Owned {
    /// Its UID.
    pub uid: String,
    /// Its version.
    pub resource_version: String,
    /// Whether it says that it is ours.
    pub ours: bool,
}

impl Owned {
    /// What the metadata says. An object is ours when it carries our label or is owned by our kinds: if somebody
    /// takes one of them away it is still ours to repair.
    pub fn of(metadata: &ObjectMeta) -> Self {
        let labelled = metadata
            .labels
            .as_ref()
            .and_then(|labels| labels.get(names::MANAGED_BY_LABEL))
            .is_some_and(|manager| manager == names::FIELD_MANAGER);
        let is_ours = |owner: &OwnerReference| {
            let policy = owner.kind == LoggingPolicy::kind(&())
                && owner.api_version == LoggingPolicy::api_version(&());
            policy
                || (owner.kind == "CustomResourceDefinition"
                    && owner.name == names::POLICY_DEFINITION)
        };
        let owned = metadata.owner_references.iter().flatten().any(is_ours);
        Self {
            uid: metadata.uid.clone().unwrap_or_default(),
            resource_version: metadata.resource_version.clone().unwrap_or_default(),
            ours: labelled || owned,
        }
    }
}

/// A bundle as the cluster has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Bundle {
    /// The Secret.
    pub owned: Owned,
    /// What it tells the agents.
    pub told: Option<LastGood>,
}

/// The admission policy as the cluster has it.
#[derive(Clone, Debug, PartialEq)]
pub struct AdmissionPolicy {
    /// The object.
    pub owned: Owned,
    /// The installation that it was written for.
    pub installation: Option<Installation>,
}

/// What is watched whatever the installation says.
#[derive(Debug)]
pub struct Sources {
    /// The policies.
    pub policies: Cache<Candidate>,
    /// The admission policy.
    pub admission_policy: Cache<AdmissionPolicy>,
    /// Its binding.
    pub admission_binding: Cache<Owned>,
    /// Versions of the Secrets in the operator's namespace; no payload.
    pub secrets: Cache<String>,
    /// UID of the definition of the policies.
    pub definition: Cache<String>,
    installation: Cache<Option<String>>,
}

fn named(name: &str) -> Config {
    Config::default().fields(&format!("metadata.name={name}"))
}

fn plan_on_any_change<V>(_: Option<&V>, _: Option<&V>) -> Change {
    Change::Plan
}

impl Sources {
    /// Begins to watch.
    pub fn watch(client: &Client, namespace: &str, signal: &Arc<Signal>) -> Self {
        let policies = Cache::watch(
            Api::<DeserializeGuard<LoggingPolicy>>::all(client.clone()),
            Config::default(),
            signal.clone(),
            |DeserializeGuard(policy)| match policy {
                Ok(policy) => Candidate::readable(&policy),
                Err(invalid) => Candidate::unreadable(&invalid.metadata, invalid.error),
            },
            |old, new| match (old, new) {
                (Some(old), Some(new)) if old.differs_in_status_only(new) => Change::Status,
                _ => Change::Plan,
            },
        );
        let admission_policy = Cache::watch(
            Api::<PartialObjectMeta<MutatingAdmissionPolicy>>::all(client.clone()),
            named(names::ADMISSION),
            signal.clone(),
            |policy| AdmissionPolicy {
                owned: Owned::of(policy.meta()),
                installation: admission::installation_in_force(policy.annotations()),
            },
            plan_on_any_change,
        );
        let admission_binding = Cache::watch(
            Api::<PartialObjectMeta<MutatingAdmissionPolicyBinding>>::all(client.clone()),
            named(names::ADMISSION),
            signal.clone(),
            |binding| Owned::of(binding.meta()),
            plan_on_any_change,
        );
        let secrets = Cache::watch(
            Api::<PartialObjectMeta<Secret>>::namespaced(client.clone(), namespace),
            Config::default(),
            signal.clone(),
            |secret| secret.resource_version().unwrap_or_default(),
            plan_on_any_change,
        );
        let definition = Cache::watch(
            Api::<PartialObjectMeta<CustomResourceDefinition>>::all(client.clone()),
            named(names::POLICY_DEFINITION),
            signal.clone(),
            |definition| definition.uid().unwrap_or_default(),
            plan_on_any_change,
        );
        let installation = Cache::watch(
            Api::<ConfigMap>::namespaced(client.clone(), namespace),
            named(names::INSTALLATION),
            signal.clone(),
            |config_map| {
                config_map
                    .data
                    .and_then(|mut data| data.remove(names::INSTALLATION_KEY))
            },
            plan_on_any_change,
        );
        Self {
            policies,
            admission_policy,
            admission_binding,
            secrets,
            definition,
            installation,
        }
    }

    /// Whether enough has been listed to plan with. The admission objects are not part of it: a cluster that does not
    /// serve them gets its bundles all the same.
    pub fn are_synced(&self) -> bool {
        self.policies.is_synced()
            && self.secrets.is_synced()
            && self.definition.is_synced()
            && self.installation.is_synced()
            && (self.admission_policy.is_synced() || self.admission_policy.error().is_some())
            && (self.admission_binding.is_synced() || self.admission_binding.error().is_some())
    }

    /// `installation.yaml` as it is written.
    pub fn installation(&self) -> Option<String> {
        self.installation
            .with(|all| all.get(names::INSTALLATION).cloned())??
    }

    /// The installation that the admission policy was written for.
    pub fn installation_in_force(&self) -> Option<Installation> {
        self.admission_policy
            .with(|all| all.get(names::ADMISSION)?.installation.clone())?
    }
}

/// What is watched of the planes of one installation.
#[derive(Debug)]
pub struct PlaneSources {
    planes: BTreeMap<Plane, PlaneSource>,
}

/// What is watched of one plane.
#[derive(Debug)]
pub struct PlaneSource {
    /// Its namespace's name.
    pub namespace: String,
    /// Its bundle.
    pub bundle: Cache<Bundle>,
    /// Its pods that have not ended.
    pub pods: Cache<coverage::Pod>,
    object: Cache<plan::Namespace>,
}

impl PlaneSources {
    /// Begins to watch.
    pub fn watch(client: &Client, installation: &Installation, signal: &Arc<Signal>) -> Self {
        let source = |plane| PlaneSource::watch(client, installation.namespace(plane), signal);
        Self {
            planes: Plane::ALL.map(|plane| (plane, source(plane))).into(),
        }
    }

    /// Whether these are the planes of the installation.
    pub fn are_of(&self, installation: &Installation) -> bool {
        self.planes
            .iter()
            .all(|(plane, source)| source.namespace == installation.namespace(*plane))
    }

    /// One plane.
    pub fn get(&self, plane: Plane) -> Option<&PlaneSource> {
        self.planes.get(&plane)
    }

    /// Whether everything has been listed, or is known not to be to be had.
    pub fn are_listed(&self) -> bool {
        self.planes.values().all(|source| {
            source.object.is_synced()
                && (source.bundle.is_synced() || source.bundle.error().is_some())
                && (source.pods.is_synced() || source.pods.error().is_some())
        })
    }

    /// The namespaces that exist.
    pub fn namespaces(&self) -> BTreeMap<String, plan::Namespace> {
        self.planes
            .values()
            .filter_map(|source| source.object.all())
            .flatten()
            .collect()
    }

    /// What the agents of each namespace were told last, as the cluster has it.
    pub fn told(&self) -> BTreeMap<String, LastGood> {
        let told = |source: &PlaneSource| {
            let told = source
                .bundle
                .with(|all| all.get(names::BUNDLE)?.told.clone())??;
            Some((source.namespace.clone(), told))
        };
        self.planes.values().filter_map(told).collect()
    }
}

impl PlaneSource {
    fn watch(client: &Client, namespace: &str, signal: &Arc<Signal>) -> Self {
        let object = Cache::watch(
            Api::<PartialObjectMeta<Namespace>>::all(client.clone()),
            named(namespace),
            signal.clone(),
            |namespace| plan::Namespace {
                pod_security: namespace.labels().get(names::POD_SECURITY_LABEL).cloned(),
                terminating: namespace.meta().deletion_timestamp.is_some(),
            },
            plan_on_any_change,
        );
        let bundle = Cache::watch(
            Api::<Secret>::namespaced(client.clone(), namespace),
            named(names::BUNDLE),
            signal.clone(),
            |secret| Bundle {
                owned: Owned::of(secret.meta()),
                told: secret.data.as_ref().and_then(LastGood::read),
            },
            plan_on_any_change,
        );
        let pods = Cache::watch(
            Api::<PodSummary>::namespaced(client.clone(), namespace),
            Config::default().fields("status.phase!=Succeeded,status.phase!=Failed"),
            signal.clone(),
            coverage::Pod::from,
            |_, _| Change::Status,
        );
        Self {
            namespace: namespace.to_owned(),
            bundle,
            pods,
            object,
        }
    }
}
