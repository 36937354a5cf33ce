//! Everything that is watched.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use k8s_openapi::{
    api::{
        admissionregistration::v1::{MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding},
        core::v1::{
            ConfigMap, LimitRange, LimitRangeSpec, Namespace, ResourceQuota, ResourceQuotaSpec,
            Secret,
        },
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{ObjectMeta, OwnerReference},
    },
    jiff::Timestamp,
};
use katonic_log_config::Reporting;
use katonic_logging_core::{
    Candidate, Installation,
    admission::{self, Revision, Slot},
    audit,
    bundle::LastGood,
    coverage::{self, Agent},
    history::History,
    names, plan,
    sidecar::Fingerprint,
    way::Way,
};
use katonic_logging_crds::{AuditPolicy, LoggingPolicy, Plane};
use kube::{
    Api, Client, Resource, ResourceExt,
    core::{DeserializeGuard, PartialObjectMeta},
    runtime::watcher::Config,
};

use super::webhook::Watched;
use crate::{
    cache::{Cache, Change, Signal, View},
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
    /// When the operator changed it last.
    pub changed: Option<Timestamp>,
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
            let policy = (owner.kind == LoggingPolicy::kind(&())
                || owner.kind == AuditPolicy::kind(&()))
                && owner.api_version == LoggingPolicy::api_version(&());
            policy
                || (owner.kind == "CustomResourceDefinition"
                    && owner.name == names::POLICY_DEFINITION)
        };
        let by_us = metadata
            .managed_fields
            .iter()
            .flatten()
            .filter(|entry| entry.manager.as_deref() == Some(names::FIELD_MANAGER));
        let changed = by_us
            .filter_map(|entry| entry.time.as_ref())
            .map(|time| time.0)
            .max();
        let owned = metadata.owner_references.iter().flatten().any(is_ours);
        Self {
            uid: metadata.uid.clone().unwrap_or_default(),
            resource_version: metadata.resource_version.clone().unwrap_or_default(),
            ours: labelled || owned,
            changed,
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

/// An admission policy as the cluster has it.
#[derive(Clone, Debug, PartialEq)]
pub struct AdmissionPolicy {
    /// The object.
    pub owned: Owned,
    /// What it does, without what the API server adds to every object.
    pub object: MutatingAdmissionPolicy,
}

impl AdmissionPolicy {
    fn of(policy: MutatingAdmissionPolicy) -> Self {
        let owned = Owned::of(&policy.metadata);
        let metadata = ObjectMeta {
            name: policy.metadata.name,
            labels: policy.metadata.labels,
            annotations: policy.metadata.annotations,
            owner_references: policy.metadata.owner_references,
            ..ObjectMeta::default()
        };
        let object = MutatingAdmissionPolicy {
            metadata,
            spec: policy.spec,
        };
        Self { owned, object }
    }

    /// The revision that it says it is of.
    pub fn revision(&self) -> Option<Revision> {
        Revision::read(self.object.annotations())
    }
}

/// The binding of the admission policy as the cluster has it.
#[derive(Clone, Debug, PartialEq)]
pub struct AdmissionBinding {
    /// The object.
    pub owned: Owned,
    /// The policy that it binds, where that is one of ours.
    pub slot: Option<Slot>,
    /// The namespaces that it binds it to.
    pub namespaces: BTreeSet<String>,
    /// The installation that it was written for.
    pub installation: Option<Installation>,
    /// What pods have been given.
    pub history: History,
}

impl AdmissionBinding {
    fn of(binding: &MutatingAdmissionPolicyBinding) -> Self {
        let spec = binding.spec.as_ref();
        let owned = Owned::of(&binding.metadata);
        Self {
            slot: spec.and_then(|spec| Slot::named(spec.policy_name.as_deref()?)),
            namespaces: spec.map(admission::bound_namespaces).unwrap_or_default(),
            installation: admission::installation_in_force(binding.annotations()),
            history: History::read(binding.annotations(), owned.changed),
            owned,
        }
    }
}

/// The ConfigMap with the installation.
#[derive(Clone, Debug, PartialEq)]
struct Written {
    yaml: Option<String>,
    requested_at: Option<String>,
}

impl Written {
    fn of(config_map: ConfigMap) -> Self {
        let annotations = config_map.metadata.annotations;
        let data = config_map.data;
        Self {
            yaml: data.and_then(|mut data| data.remove(names::INSTALLATION_KEY)),
            requested_at: annotations
                .and_then(|mut all| all.remove(names::REQUESTED_AT_ANNOTATION)),
        }
    }
}

/// What is watched whatever the installation says.
#[derive(Debug)]
pub struct Sources {
    /// The policies.
    pub policies: Cache<Candidate>,
    /// The audit policies.
    pub audit_policies: Cache<audit::Candidate>,
    /// The admission policies, each under its name.
    pub admission_policies: [(Slot, Cache<AdmissionPolicy>); 2],
    /// The binding of the one in force.
    pub admission_binding: Cache<AdmissionBinding>,
    /// The binding of one that is tried.
    pub trial_binding: Cache<Owned>,
    /// Versions of the Secrets in the operator's namespace; no payload.
    pub secrets: Cache<String>,
    /// UID of the definition of the policies.
    pub definition: Cache<String>,
    /// The webhook.
    pub webhook: Watched,
    installation: Cache<Written>,
}

/// The one object of this name.
pub fn named(name: &str) -> Config {
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
            |DeserializeGuard(policy), before| match policy {
                Ok(policy) => Candidate::read(&policy, before),
                Err(invalid) => Candidate::unreadable(&invalid.metadata, invalid.error),
            },
            |old, new| match (old, new) {
                (Some(old), Some(new)) if old.differs_in_status_only(new) => Change::Status,
                _ => Change::Plan,
            },
        );
        let audit_policies = Cache::watch(
            Api::<DeserializeGuard<AuditPolicy>>::all(client.clone()),
            Config::default(),
            signal.clone(),
            |DeserializeGuard(policy), _| match policy {
                Ok(policy) => audit::Candidate::readable(&policy),
                Err(invalid) => audit::Candidate::unreadable(&invalid.metadata, invalid.error),
            },
            |old, new| match (old, new) {
                (Some(old), Some(new)) if old.differs_in_status_only(new) => Change::Status,
                _ => Change::Plan,
            },
        );
        let admission_policies = Slot::ALL.map(|slot| {
            let policies = Cache::watch(
                Api::<MutatingAdmissionPolicy>::all(client.clone()),
                named(slot.name()),
                signal.clone(),
                |policy, _| AdmissionPolicy::of(policy),
                plan_on_any_change,
            );
            (slot, policies)
        });
        let admission_binding = Cache::watch(
            Api::<MutatingAdmissionPolicyBinding>::all(client.clone()),
            named(names::ADMISSION_BINDING),
            signal.clone(),
            |binding, _| AdmissionBinding::of(&binding),
            plan_on_any_change,
        );
        let trial_binding = Cache::watch(
            Api::<PartialObjectMeta<MutatingAdmissionPolicyBinding>>::all(client.clone()),
            named(names::TRIAL_BINDING),
            signal.clone(),
            |binding, _| Owned::of(binding.meta()),
            plan_on_any_change,
        );
        let secrets = Cache::watch(
            Api::<PartialObjectMeta<Secret>>::namespaced(client.clone(), namespace),
            Config::default(),
            signal.clone(),
            |secret, _| secret.resource_version().unwrap_or_default(),
            plan_on_any_change,
        );
        let definition = Cache::watch(
            Api::<PartialObjectMeta<CustomResourceDefinition>>::all(client.clone()),
            named(names::POLICY_DEFINITION),
            signal.clone(),
            |definition, _| definition.uid().unwrap_or_default(),
            plan_on_any_change,
        );
        let installation = Cache::watch(
            Api::<ConfigMap>::namespaced(client.clone(), namespace),
            named(names::INSTALLATION),
            signal.clone(),
            |config_map, _| Written::of(config_map),
            plan_on_any_change,
        );
        Self {
            policies,
            audit_policies,
            admission_policies,
            admission_binding,
            trial_binding,
            secrets,
            definition,
            webhook: Watched::begin(client, namespace, signal),
            installation,
        }
    }

    /// Whether it is known which policies there are, of both kinds.
    pub fn are_all_policies_known(&self) -> bool {
        let are_audit_policies_known =
            self.audit_policies.is_synced() || self.audit_policies.is_served() == Some(false);
        self.policies.is_synced() && are_audit_policies_known
    }

    /// Whether enough has been listed to plan with. The admission objects are not part of it: a cluster that does not
    /// serve them gets its bundles all the same. Nor are audit policies: their definition may be older than the operator.
    pub fn are_synced(&self) -> bool {
        self.policies.is_synced()
            && self.secrets.is_synced()
            && self.definition.is_synced()
            && self.installation.is_synced()
            && self.audit_policies.is_settled()
            && self
                .admission_policies
                .iter()
                .all(|(_, policies)| policies.is_settled())
            && self.admission_binding.is_settled()
            && self.trial_binding.is_settled()
            && self.webhook.is_settled()
    }

    /// `installation.yaml` as it is written.
    pub fn installation(&self) -> Option<String> {
        self.installation
            .with(|all| all.get(names::INSTALLATION)?.yaml.clone())?
    }

    /// When somebody last asked that what was refused be tried, in their words.
    pub fn requested_at(&self) -> Option<String> {
        self.installation
            .with(|all| all.get(names::INSTALLATION)?.requested_at.clone())?
    }

    /// What pods have been given, as what injects remembers.
    pub fn history(&self) -> History {
        let by_policy = self
            .admission_binding
            .with(|all| Some(all.get(names::ADMISSION_BINDING)?.history.clone()));
        let by_policy = by_policy.flatten().unwrap_or_default();
        match self.webhook.configured().there() {
            Some(configured) => by_policy.and(&configured.history),
            None => by_policy,
        }
    }

    /// The installation that what injects was written for.
    pub fn installation_in_force(&self) -> Option<Installation> {
        let by_policy = self
            .admission_binding
            .with(|all| all.get(names::ADMISSION_BINDING)?.installation.clone());
        let by_webhook = || Some(self.webhook.configured().there()?.told?.installation);
        by_policy.flatten().or_else(by_webhook)
    }

    /// The ways of injection whose objects are in the cluster and ours.
    pub fn ways(&self) -> BTreeSet<Way> {
        let policy = self.admission_binding.with(|all| {
            all.get(names::ADMISSION_BINDING)
                .is_some_and(|binding| binding.owned.ours)
        });
        let webhook = self.webhook.configured().there();
        let webhook = webhook.is_some_and(|configured| configured.owned.ours);
        let ways = [
            policy.unwrap_or_default().then_some(Way::AdmissionPolicy),
            webhook.then_some(Way::Webhook),
        ];
        ways.into_iter().flatten().collect()
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
    pub pods: Cache<Arc<coverage::Pod>>,
    object: Cache<plan::Namespace>,
    limit_ranges: Cache<Option<LimitRangeSpec>>,
    quotas: Cache<Quota>,
}

/// What a quota demands: as it is written, and as it is enforced a moment later. What is used up changes with every pod.
#[derive(Clone, Debug, PartialEq)]
struct Quota {
    written: Option<ResourceQuotaSpec>,
    enforced: Option<BTreeMap<String, Quantity>>,
}

/// What of a namespace can make it refuse pods that it took before. Of others' policies nothing is known.
#[derive(Clone, Debug, PartialEq)]
pub struct Circumstances {
    object: Option<plan::Namespace>,
    limit_ranges: Option<BTreeMap<String, Option<LimitRangeSpec>>>,
    quotas: Option<BTreeMap<String, Quota>>,
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
                && source.bundle.is_settled()
                && source.pods.is_settled()
                && source.limit_ranges.is_settled()
                && source.quotas.is_settled()
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

    /// The pods of each namespace, for who takes reports.
    pub fn pods(&self) -> BTreeMap<String, View<Arc<coverage::Pod>>> {
        let pods = |source: &PlaneSource| (source.namespace.clone(), source.pods.view());
        self.planes.values().map(pods).collect()
    }

    /// The labels of the newest pod of each namespace that has not opted out.
    pub fn samples(&self) -> BTreeMap<String, BTreeMap<String, String>> {
        let sample = |source: &PlaneSource| {
            let newest = source.pods.with(|pods| {
                let pods = pods
                    .values()
                    .filter(|pod| !pod.labels.contains_key(names::INJECT_LABEL));
                pods.max_by_key(|pod| pod.created).cloned()
            });
            Some((source.namespace.clone(), newest??.labels.clone()))
        };
        self.planes.values().filter_map(sample).collect()
    }

    /// The agents of all pods.
    pub fn agents(&self) -> BTreeSet<Fingerprint> {
        let agent = |pod: &Arc<coverage::Pod>| match &pod.agent {
            Agent::Present(form) => Some(form.fingerprint().clone()),
            Agent::Missing | Agent::Refused(_) => None,
        };
        let of_plane = |source: &PlaneSource| -> BTreeSet<Fingerprint> {
            let agents = |pods: &BTreeMap<_, _>| pods.values().filter_map(agent).collect();
            source.pods.with(agents).unwrap_or_default()
        };
        self.planes.values().flat_map(of_plane).collect()
    }

    /// What of each namespace can make it refuse pods.
    pub fn circumstances(&self) -> BTreeMap<String, Circumstances> {
        let circumstances = |source: &PlaneSource| Circumstances {
            object: source
                .object
                .with(|all| all.get(&source.namespace).cloned())
                .flatten(),
            limit_ranges: source.limit_ranges.all(),
            quotas: source.quotas.all(),
        };
        self.planes
            .values()
            .map(|source| (source.namespace.clone(), circumstances(source)))
            .collect()
    }

    /// Where the agents of each namespace are told to report, as the cluster has it; one for each namespace that has a bundle, or may
    /// have one that is not seen.
    pub fn reporting(&self) -> Vec<Option<Reporting>> {
        let told = |source: &PlaneSource| {
            let told = source.bundle.with(|all| {
                let bundle = all.get(names::BUNDLE)?;
                Some(
                    bundle
                        .told
                        .as_ref()
                        .and_then(|told| told.reporting().cloned()),
                )
            });
            told.unwrap_or(Some(None))
        };
        self.planes.values().filter_map(told).collect()
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
            |namespace, _| plan::Namespace {
                pod_security: namespace.labels().get(names::POD_SECURITY_LABEL).cloned(),
                terminating: namespace.meta().deletion_timestamp.is_some(),
                uid: namespace.uid().unwrap_or_default(),
            },
            plan_on_any_change,
        );
        let bundle = Cache::watch(
            Api::<Secret>::namespaced(client.clone(), namespace),
            named(names::BUNDLE),
            signal.clone(),
            |secret, _| Bundle {
                owned: Owned::of(secret.meta()),
                told: secret.data.as_ref().and_then(LastGood::read),
            },
            plan_on_any_change,
        );
        let pods = Cache::watch(
            Api::<PodSummary>::namespaced(client.clone(), namespace),
            Config::default().fields("status.phase!=Succeeded,status.phase!=Failed"),
            signal.clone(),
            |pod, before: Option<&Arc<coverage::Pod>>| {
                let pod = coverage::Pod::from(pod);
                // The same pod stays the same pointer: whoever counts sees at once that nothing has changed.
                before
                    .filter(|before| ***before == pod)
                    .map_or_else(|| Arc::new(pod), Arc::clone)
            },
            |_, _| Change::Status,
        );
        let limit_ranges = Cache::watch(
            Api::<LimitRange>::namespaced(client.clone(), namespace),
            Config::default(),
            signal.clone(),
            |limits, _| limits.spec,
            plan_on_any_change,
        );
        let quotas = Cache::watch(
            Api::<ResourceQuota>::namespaced(client.clone(), namespace),
            Config::default(),
            signal.clone(),
            |quota, _| Quota {
                written: quota.spec,
                enforced: quota.status.and_then(|status| status.hard),
            },
            plan_on_any_change,
        );
        Self {
            namespace: namespace.to_owned(),
            bundle,
            pods,
            object,
            limit_ranges,
            quotas,
        }
    }
}
