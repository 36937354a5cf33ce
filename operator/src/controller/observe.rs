//! The observe step: what the plan is made of, from what is watched and from the Secrets that sinks name.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::Secret;
use katonic_log_config::Reporting;
use katonic_logging_core::{
    Candidate, Installation, Policy,
    admission::DefinitionUid,
    bundle::LastGood,
    credential::{Credential, Lookup},
    names,
    plan::Observed,
};
use katonic_logging_crds::SecretKeyRef;
use kube::{Api, Client};

use super::sources::{PlaneSources, Sources};
use crate::cache::chain;

/// How many Secrets are read at once.
const CONCURRENCY: usize = 8;

/// Payloads of the Secrets that sinks name, each read once for each of its versions.
#[derive(Debug)]
pub struct SinkSecrets {
    api: Api<Secret>,
    read: BTreeMap<String, Payload>,
}

#[derive(Debug)]
struct Payload {
    resource_version: String,
    data: Result<BTreeMap<String, Credential>, String>,
}

impl SinkSecrets {
    /// Secrets of this namespace.
    pub fn new(client: Client, namespace: &str) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            read: BTreeMap::new(),
        }
    }

    /// Looks up every reference; reads only what has changed, and forgets what nobody names any more.
    async fn look_up(
        &mut self,
        references: &BTreeSet<SecretKeyRef>,
        versions: &BTreeMap<String, String>,
    ) -> BTreeMap<SecretKeyRef, Lookup> {
        let wanted: BTreeSet<&String> =
            references.iter().map(|reference| &reference.name).collect();
        self.read.retain(|name, payload| {
            // One that could not be read is tried again.
            wanted.contains(name)
                && payload.data.is_ok()
                && versions.get(name) == Some(&payload.resource_version)
        });
        let unread: Vec<(String, String)> = versions
            .iter()
            .filter(|(name, _)| wanted.contains(name) && !self.read.contains_key(*name))
            .map(|(name, version)| (name.clone(), version.clone()))
            .collect();
        let api = &self.api;
        let payloads: Vec<_> = stream::iter(unread)
            .map(|(name, resource_version)| async move {
                let data = api
                    .get(&name)
                    .await
                    .map(credentials)
                    .map_err(|error| chain(&error));
                (
                    name,
                    Payload {
                        resource_version,
                        data,
                    },
                )
            })
            .buffer_unordered(CONCURRENCY)
            .collect()
            .await;
        self.read.extend(payloads);
        let lookup = |reference: &SecretKeyRef| match self.read.get(&reference.name) {
            None => Lookup::SecretMissing,
            Some(Payload {
                data: Err(error), ..
            }) => Lookup::Unreadable(error.clone()),
            Some(Payload { data: Ok(data), .. }) => data
                .get(&reference.key)
                .map_or(Lookup::KeyMissing, |value| Lookup::Found(value.clone())),
        };
        references
            .iter()
            .map(|reference| (reference.clone(), lookup(reference)))
            .collect()
    }
}

fn credentials(secret: Secret) -> BTreeMap<String, Credential> {
    let data = secret.data.unwrap_or_default();
    data.into_iter()
        .map(|(key, value)| (key, Credential::new(value.0)))
        .collect()
}

/// Observes the cluster.
///
/// What this process told the agents last counts as last good before what the cluster says they were told: the latter
/// may just have been tampered with.
pub async fn observe(
    sources: &Sources,
    planes: &PlaneSources,
    sink_secrets: &mut SinkSecrets,
    told: &BTreeMap<String, LastGood>,
    (installation, operator_namespace): (&Installation, &str),
    reporting: Option<Reporting>,
) -> Observed {
    let mut last_good = planes.told();
    last_good.extend(
        told.iter()
            .map(|(namespace, told)| (namespace.clone(), told.clone())),
    );
    let shipping: Vec<Candidate> = match sources.audit_policies.all() {
        Some(policies) => policies
            .values()
            .filter_map(|policy| policy.shipping_of(installation))
            .collect(),
        // Not listed is not gone: whatever they ship goes on.
        None => last_good
            .get(&installation.platform_namespace)
            .map(|told| told.audit_policies().collect())
            .unwrap_or_default(),
    };
    let candidates: Vec<Candidate> = sources
        .policies
        .all()
        .unwrap_or_default()
        .into_values()
        .map(|candidate| candidate.resolved(installation).unwrap_or(candidate))
        .chain(shipping)
        .collect();
    let references = candidates
        .iter()
        .filter_map(|candidate| candidate.policy.as_ref().ok())
        .flat_map(Policy::secrets)
        .cloned()
        .collect();
    let versions = sources.secrets.all().unwrap_or_default();
    let definition = sources
        .definition
        .with(|all| all.get(names::POLICY_DEFINITION).cloned())
        .flatten();
    Observed {
        credentials: sink_secrets.look_up(&references, &versions).await,
        candidates,
        namespaces: planes.namespaces(),
        refusals: BTreeMap::new(),
        last_good,
        definition: DefinitionUid(definition.unwrap_or_default()),
        operator_namespace: operator_namespace.to_owned(),
        reporting,
    }
}
