//! The bundle Secret of one plane namespace: which sinks of which policies are told to its agents.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{
    ByteString,
    api::core::v1::Secret,
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use katonic_log_config as config;
use katonic_log_config::{Bundle, CredentialKey, layout};
use katonic_logging_crds::{LoggingPolicy, Plane, SecretKeyRef};
use kube_core::Resource;
use sha2::{Digest, Sha256};

use crate::{
    candidate::Candidate,
    credential::{Credential, Fault, Lookup, resolve},
    installation::Installation,
    names,
    policy::{Policy, Sink},
};

/// How much a bundle may hold, in bytes: the API server takes 1 MiB of data in a Secret, and what stands beside the
/// data needs room in etcd's 1.5 MiB too.
pub const BUDGET: usize = 960 << 10;

/// What the agents of a namespace were told last, from the Secret that told them.
#[derive(Clone, Debug, PartialEq)]
pub struct LastGood {
    policies: BTreeMap<String, config::Policy>,
    credentials: BTreeMap<CredentialKey, Credential>,
}

impl LastGood {
    /// Reads a bundle Secret; `None` when it holds no bundle.
    pub fn read(data: &BTreeMap<String, ByteString>) -> Option<Self> {
        let bundle = Bundle::decode(&data.get(layout::BUNDLE_FILE)?.0)
            .ok()?
            .bundle;
        let credentials = data
            .iter()
            .filter(|(key, _)| *key != layout::BUNDLE_FILE)
            .filter_map(|(key, value)| {
                Some((
                    CredentialKey::try_from(key.clone()).ok()?,
                    Credential::new(value.0.clone()),
                ))
            })
            .collect();
        let policies = bundle
            .policies
            .into_iter()
            .map(|policy| (policy.uid.clone(), policy))
            .collect();
        Some(Self {
            policies,
            credentials,
        })
    }

    /// The sink as it was, when all of its credentials are there too.
    fn sink(&self, uid: &str, name: &str) -> Option<&config::Sink> {
        let sink = self
            .policies
            .get(uid)?
            .sinks
            .iter()
            .find(|sink| sink.name == name)?;
        self.is_complete(sink).then_some(sink)
    }

    fn is_complete(&self, sink: &config::Sink) -> bool {
        sink.credentials()
            .iter()
            .all(|key| self.credentials.contains_key(key))
    }
}

/// What became of one sink.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SinkOutcome {
    /// Why the sink as it is written cannot be used, each with a sentence.
    pub faults: Vec<(Fault, String)>,
    /// Whether agents are told of it: as it is written, or as it was when that could be used.
    pub in_force: bool,
}

/// What became of one policy in one namespace.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct PolicyOutcome {
    /// Its sinks by name.
    pub sinks: BTreeMap<String, SinkOutcome>,
    /// It did not fit.
    pub over_budget: bool,
}

/// The bundle of a namespace, and what became of each policy that reaches it.
#[derive(Clone, Debug)]
pub struct Rendered {
    /// The Secret; none when no agent has to be told anything.
    pub secret: Option<Secret>,
    /// By name of the policy.
    pub outcomes: BTreeMap<String, PolicyOutcome>,
}

/// What rendering needs to know.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The installation that is in force.
    pub installation: &'a Installation,
    /// Namespace of the sinks' Secrets.
    pub operator_namespace: &'a str,
    /// What was found of them.
    pub credentials: &'a BTreeMap<SecretKeyRef, Lookup>,
}

/// Why a bundle could not be rendered.
#[derive(Debug, thiserror::Error)]
#[error("failed to encode the bundle of {namespace}")]
pub struct Error {
    namespace: String,
    #[source]
    source: config::bundle::EncodeError,
}

#[derive(Clone)]
struct Entry<'a> {
    candidate: &'a Candidate,
    policy: config::Policy,
    credentials: BTreeMap<CredentialKey, Credential>,
}

/// Renders the bundle of a plane.
///
/// # Guarantees
/// Equal inputs give equal bytes, whatever their order. A sink that cannot be used is left as it was, or left out; no
/// other sink and no other policy is affected.
///
/// # Errors
/// When the bundle cannot be encoded.
pub fn render(
    context: Context<'_>,
    plane: Plane,
    candidates: &[Candidate],
    last_good: Option<&LastGood>,
) -> Result<Rendered, Error> {
    let namespace = context.installation.namespace(plane);
    let mut outcomes = BTreeMap::new();
    let mut entries = Vec::new();
    for candidate in candidates {
        let (entry, outcome) = match &candidate.policy {
            Ok(policy) if policy.suspend || !policy.planes.contains(&plane) => continue,
            Ok(policy) => entry(context, plane, candidate, policy, last_good),
            Err(_) => match kept(candidate, last_good) {
                Some(entry) => (Some(entry), PolicyOutcome::default()),
                None => continue,
            },
        };
        outcomes.insert(candidate.name.clone(), outcome);
        entries.extend(entry);
    }
    // Oldest first: where not everything fits, they stay.
    entries.sort_by(|one, other| {
        let key = |entry: &Entry<'_>| (entry.candidate.created, entry.candidate.name.clone());
        key(one).cmp(&key(other))
    });
    let encode = |entries: &[Entry<'_>]| {
        data(context.installation, entries).map_err(|source| Error {
            namespace: namespace.to_owned(),
            source,
        })
    };
    let mut data = encode(&entries)?;
    if size(&data) > BUDGET {
        let (mut fitting, mut left_out) = (Vec::new(), Vec::new());
        fit(
            std::mem::take(&mut entries),
            &mut fitting,
            &mut left_out,
            &encode,
        )?;
        for candidate in left_out {
            let outcome: &mut PolicyOutcome = outcomes.entry(candidate.name.clone()).or_default();
            outcome.over_budget = true;
            // What it was before may still fit.
            let kept = kept(candidate, last_good);
            let in_force = if let Some(kept) = kept {
                fitting.push(kept);
                let fits = size(&encode(&fitting)?) <= BUDGET;
                if !fits {
                    fitting.pop();
                }
                fits
            } else {
                false
            };
            outcome
                .sinks
                .values_mut()
                .for_each(|sink| sink.in_force = in_force);
        }
        entries = fitting;
        data = encode(&entries)?;
    }
    let secret = (!entries.is_empty()).then(|| secret(namespace, &entries, data));
    Ok(Rendered { secret, outcomes })
}

/// Keeps of `entries`, from the first on, each that still fits. A group that fits is taken at once, one that does not is
/// halved: few that are too large cost few encodings.
fn fit<'a>(
    mut entries: Vec<Entry<'a>>,
    fitting: &mut Vec<Entry<'a>>,
    left_out: &mut Vec<&'a Candidate>,
    encode: &impl Fn(&[Entry<'_>]) -> Result<BTreeMap<String, ByteString>, Error>,
) -> Result<(), Error> {
    let before = fitting.len();
    fitting.extend(entries.iter().cloned());
    if size(&encode(fitting)?) <= BUDGET {
        return Ok(());
    }
    fitting.truncate(before);
    if let [entry] = &entries[..] {
        left_out.push(entry.candidate);
        return Ok(());
    }
    let younger = entries.split_off(entries.len() / 2);
    fit(entries, fitting, left_out, encode)?;
    fit(younger, fitting, left_out, encode)
}

/// What the agents of a plane are told of a policy, whatever becomes of its sinks.
pub fn selection(
    policy: &Policy,
    candidate: &Candidate,
    installation: &Installation,
    plane: Plane,
) -> config::Policy {
    let mut containers = policy.containers.clone();
    if plane == Plane::Compute {
        // What user code prints is no application log.
        containers
            .exclude
            .extend(installation.user_containers.iter().cloned());
    }
    config::Policy {
        name: candidate.name.clone(),
        uid: candidate.uid.clone(),
        selector: policy.selector.clone(),
        components: policy.components.clone(),
        containers,
        sinks: Vec::new(),
    }
}

fn entry<'a>(
    context: Context<'_>,
    plane: Plane,
    candidate: &'a Candidate,
    policy: &Policy,
    last_good: Option<&LastGood>,
) -> (Option<Entry<'a>>, PolicyOutcome) {
    let mut outcome = PolicyOutcome::default();
    let mut rendered = selection(policy, candidate, context.installation, plane);
    let mut credentials = BTreeMap::new();
    for sink in &policy.sinks {
        let (values, faults) = resolve_all(context, sink);
        let usable = if faults.is_empty() {
            credentials.extend(values);
            Some(&sink.config)
        } else {
            let kept =
                last_good.and_then(|last_good| last_good.sink(&candidate.uid, &sink.config.name));
            credentials.extend(
                kept.into_iter()
                    .flat_map(|kept| kept_credentials(kept, last_good)),
            );
            kept
        };
        rendered.sinks.extend(usable.cloned());
        let sink_outcome = SinkOutcome {
            faults,
            in_force: usable.is_some(),
        };
        outcome.sinks.insert(sink.config.name.clone(), sink_outcome);
    }
    let entry = (!rendered.sinks.is_empty()).then_some(Entry {
        candidate,
        policy: rendered,
        credentials,
    });
    (entry, outcome)
}

fn resolve_all(
    context: Context<'_>,
    sink: &Sink,
) -> (BTreeMap<CredentialKey, Credential>, Vec<(Fault, String)>) {
    let mut values = BTreeMap::new();
    let mut faults = Vec::new();
    for (key, source) in &sink.credentials {
        match resolve(
            source,
            context.credentials.get(&source.secret),
            context.operator_namespace,
        ) {
            Ok(value) => {
                values.insert(key.clone(), value);
            }
            Err(fault) => faults.push(fault),
        }
    }
    (values, faults)
}

/// A policy that can no longer be used goes on as it was.
fn kept<'a>(candidate: &'a Candidate, last_good: Option<&LastGood>) -> Option<Entry<'a>> {
    let policy = last_good?.policies.get(&candidate.uid)?.clone();
    if !policy
        .sinks
        .iter()
        .all(|sink| last_good.is_some_and(|last_good| last_good.is_complete(sink)))
    {
        return None;
    }
    let credentials = policy
        .sinks
        .iter()
        .flat_map(|sink| kept_credentials(sink, last_good))
        .collect();
    Some(Entry {
        candidate,
        policy,
        credentials,
    })
}

fn kept_credentials(
    sink: &config::Sink,
    last_good: Option<&LastGood>,
) -> Vec<(CredentialKey, Credential)> {
    let value = |key: &CredentialKey| Some((key.clone(), last_good?.credentials.get(key)?.clone()));
    sink.credentials().into_iter().filter_map(value).collect()
}

fn data(
    installation: &Installation,
    entries: &[Entry<'_>],
) -> Result<BTreeMap<String, ByteString>, config::bundle::EncodeError> {
    let mut policies: Vec<config::Policy> =
        entries.iter().map(|entry| entry.policy.clone()).collect();
    policies.sort_by(|one, other| one.name.cmp(&other.name));
    let bundle = Bundle {
        execution_id_label: Some(installation.execution_id_label.clone()),
        policies,
    };
    let mut data = BTreeMap::new();
    for (key, value) in entries.iter().flat_map(|entry| &entry.credentials) {
        data.insert(
            String::from(key.clone()),
            ByteString(value.expose().to_vec()),
        );
    }
    data.insert(layout::BUNDLE_FILE.to_owned(), ByteString(bundle.encode()?));
    Ok(data)
}

fn size(data: &BTreeMap<String, ByteString>) -> usize {
    data.iter()
        .map(|(key, value)| key.len() + value.0.len())
        .sum()
}

fn secret(namespace: &str, entries: &[Entry<'_>], data: BTreeMap<String, ByteString>) -> Secret {
    let owners: BTreeSet<(&str, &str)> = entries
        .iter()
        .map(|entry| (entry.candidate.name.as_str(), entry.candidate.uid.as_str()))
        .collect();
    let owner = |(name, uid): (&str, &str)| OwnerReference {
        api_version: LoggingPolicy::api_version(&()).into_owned(),
        kind: LoggingPolicy::kind(&()).into_owned(),
        name: name.to_owned(),
        uid: uid.to_owned(),
        ..OwnerReference::default()
    };
    Secret {
        metadata: ObjectMeta {
            name: Some(names::BUNDLE.to_owned()),
            namespace: Some(namespace.to_owned()),
            labels: Some(
                [(
                    names::MANAGED_BY_LABEL.to_owned(),
                    names::FIELD_MANAGER.to_owned(),
                )]
                .into(),
            ),
            annotations: Some([(names::REVISION_ANNOTATION.to_owned(), digest(&data))].into()),
            // The Secret goes with the last of them, even while no operator runs.
            owner_references: Some(owners.into_iter().map(owner).collect()),
            ..ObjectMeta::default()
        },
        type_: Some("Opaque".to_owned()),
        data: Some(data),
        ..Secret::default()
    }
}

/// Digest of everything that an agent sees of a bundle. Lengths are part of it, so that no two bundles look alike.
fn digest(data: &BTreeMap<String, ByteString>) -> String {
    let mut hasher = Sha256::new();
    for (key, value) in data {
        for part in [key.as_bytes(), &value.0] {
            hasher.update((part.len() as u64).to_be_bytes());
            hasher.update(part);
        }
    }
    config::bundle::hex(&hasher.finalize())
}

#[cfg(test)]
mod tests;
