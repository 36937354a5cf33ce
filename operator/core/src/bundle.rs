//! The bundle Secret of one plane namespace: which sinks of which policies are told to its agents.

use std::collections::BTreeMap;

use k8s_openapi::{
    ByteString,
    api::core::v1::Secret,
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
    jiff::Timestamp,
};
use katonic_log_config as config;
use katonic_log_config::{Bundle, CredentialKey, Reporting, layout};
use katonic_logging_crds::{Logs, Plane};

use crate::{
    candidate::Candidate,
    credential::{Credential, Keyring, Refusal},
    digest,
    installation::Installation,
    names,
    policy::Policy,
};

/// How much a bundle may hold, in bytes: the API server takes 1 MiB of data in a Secret, and what stands beside the
/// data needs room in etcd's 1.5 MiB too.
pub const BUDGET: usize = 960 << 10;

type Values = BTreeMap<CredentialKey, Credential>;

/// What the agents of a namespace were told last, from the Secret that told them.
#[derive(Clone, Debug, PartialEq)]
pub struct LastGood {
    policies: BTreeMap<String, config::Policy>,
    credentials: Values,
    reporting: Option<Reporting>,
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
            reporting: bundle.reporting,
        })
    }

    /// Where they were told to report.
    pub fn reporting(&self) -> Option<&Reporting> {
        self.reporting.as_ref()
    }

    /// The audit policies that were told, as candidates that stay as they were.
    pub fn audit_policies(&self) -> impl Iterator<Item = Candidate> {
        let told = self.policies.values();
        let told = told.filter(|policy| policy.audit.is_some());
        told.map(|policy| Candidate::unlisted_audit(&policy.name, &policy.uid))
    }

    /// The sink as it was, when all of its credentials are there too.
    fn sink(&self, uid: &str, name: &str) -> Option<&config::Sink> {
        let policy = self.policies.get(uid)?;
        let mut sinks = policy.sinks.iter().chain(&policy.fallback);
        let sink = sinks.find(|sink| sink.name == name)?;
        self.credentials(sink.credentials()).map(|_| sink)
    }

    /// The policy as it was, when all of its credentials are there too.
    fn policy(&self, uid: &str) -> Option<(&config::Policy, Values)> {
        let policy = self.policies.get(uid)?;
        Some((policy, self.credentials(policy.credentials())?))
    }

    /// All of these, or none.
    fn credentials(&self, keys: Vec<&CredentialKey>) -> Option<Values> {
        keys.into_iter()
            .map(|key| Some((key.clone(), self.credentials.get(key)?.clone())))
            .collect()
    }
}

/// What became of one sink.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SinkOutcome {
    /// Why the sink as it is written cannot be used, each with a sentence.
    pub faults: Vec<Refusal>,
    /// Whether agents are told of it: as it is written, or as it was when that could be used.
    pub in_force: bool,
}

/// What became of one policy in one namespace.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct PolicyOutcome {
    /// Why its steps cannot be used, each with a sentence: then all of it is left as it was, or left out. A redaction
    /// that is skipped would tell what it is there to hide.
    pub faults: Vec<Refusal>,
    /// Its sinks by name.
    pub sinks: BTreeMap<String, SinkOutcome>,
    /// It did not fit.
    pub over_budget: bool,
    /// What tells the form that agents are told, and the credentials that go with it, from every other; none: they are told none.
    pub revision: Option<String>,
    /// What tells the credentials that agents are told with it from every other; none: it needs none, or is told to none. It
    /// stays in memory: a short credential could be guessed by it.
    pub credentials: Option<String>,
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
    /// The credentials of all policies.
    pub keyring: &'a Keyring,
    /// Where agents report.
    pub reporting: Option<&'a Reporting>,
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
    /// Credentials as their Secrets have them now.
    credentials: Values,
    /// Credentials of what stays as it was.
    kept: Values,
}

impl<'a> Entry<'a> {
    /// What the oldest have least of. Names are unique, so no two are of the same age.
    fn age(&self) -> (Option<Timestamp>, &'a str) {
        (self.candidate.created, &self.candidate.name)
    }
}

/// Renders the bundle of a plane.
///
/// # Guarantees
/// Equal inputs give equal bytes, whatever their order. A sink that cannot be used is left as it was, or left out; no
/// other sink and no other policy is affected.
///
/// # Errors
/// When the bundle cannot be encoded.
pub fn render<'a>(
    context: Context<'_>,
    plane: Plane,
    candidates: &'a [Candidate],
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
    entries.sort_by_key(Entry::age);
    let encode = |entries: &[Entry<'a>]| {
        encoded(context, entries).map_err(|source| Error {
            namespace: namespace.to_owned(),
            source,
        })
    };
    let mut written = encode(&entries)?;
    if size(&written.data) > BUDGET {
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
                let fits = size(&encode(&fitting)?.data) <= BUDGET;
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
        written = encode(&entries)?;
    }
    for entry in &entries {
        if let Some(outcome) = outcomes.get_mut(&entry.candidate.name) {
            outcome.credentials = credentials(&entry.policy, &written.data);
        }
    }
    let Encoded { data, revisions } = written;
    for (name, revision) in revisions {
        if let Some(outcome) = outcomes.get_mut(name) {
            outcome.revision = Some(revision);
        }
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
    encode: &impl Fn(&[Entry<'a>]) -> Result<Encoded<'a>, Error>,
) -> Result<(), Error> {
    let before = fitting.len();
    fitting.extend(entries.iter().cloned());
    if size(&encode(fitting)?.data) <= BUDGET {
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
    let user_containers = installation.user_containers.iter().cloned();
    match (plane, policy.logs) {
        (Plane::Platform, _) => {}
        // What user code prints is no application log.
        (Plane::Compute, Logs::Application) => containers.exclude.extend(user_containers),
        (Plane::Compute, Logs::Execution) => containers.include = user_containers.collect(),
    }
    config::Policy {
        selector: policy.selector.clone(),
        components: policy.components.clone(),
        containers,
        audit: policy.audit.clone(),
        multiline: policy.processing.multiline.clone(),
        filters: policy.processing.filters.clone(),
        parse: policy.processing.parse,
        pod_labels: policy.processing.pod_labels.clone(),
        ..config::Policy::of_everything(&candidate.name, &candidate.uid, Vec::new())
    }
}

fn entry<'a>(
    context: Context<'_>,
    plane: Plane,
    candidate: &'a Candidate,
    policy: &Policy,
    last_good: Option<&LastGood>,
) -> (Option<Entry<'a>>, PolicyOutcome) {
    let (mut credentials, faults) = context.keyring.resolve(&policy.processing.needs);
    if !faults.is_empty() {
        return as_it_was(context, candidate, policy, faults, last_good);
    }
    let mut outcome = PolicyOutcome::default();
    let mut rendered = selection(policy, candidate, context.installation, plane);
    let mut kept = Values::new();
    for sink in &policy.sinks {
        let (values, faults) = context.keyring.resolve(&sink.needs);
        let usable = if faults.is_empty() {
            credentials.extend(values);
            Some(&sink.config)
        } else {
            last_good.and_then(|last_good| {
                let earlier = last_good.sink(&candidate.uid, &sink.config.name)?;
                kept.extend(last_good.credentials(earlier.credentials())?);
                Some(earlier)
            })
        };
        let in_force = usable.is_some();
        if sink.is_fallback {
            rendered.fallback = usable.cloned();
        } else {
            rendered.sinks.extend(usable.cloned());
        }
        outcome
            .sinks
            .insert(sink.config.name.clone(), SinkOutcome { faults, in_force });
    }
    // A fallback alone has nothing to fall back from.
    let entry = (!rendered.sinks.is_empty()).then_some(Entry {
        candidate,
        policy: rendered,
        credentials,
        kept,
    });
    if entry.is_none() {
        outcome
            .sinks
            .values_mut()
            .for_each(|sink| sink.in_force = false);
    }
    (entry, outcome)
}

/// A policy whose steps lack a credential: all of it stays as it was.
fn as_it_was<'a>(
    context: Context<'_>,
    candidate: &'a Candidate,
    policy: &Policy,
    faults: Vec<Refusal>,
    last_good: Option<&LastGood>,
) -> (Option<Entry<'a>>, PolicyOutcome) {
    let entry = kept(candidate, last_good);
    let told = |name: &str| {
        entry.as_ref().is_some_and(|entry| {
            let mut sinks = entry.policy.sinks.iter().chain(&entry.policy.fallback);
            sinks.any(|sink| sink.name == name)
        })
    };
    let outcome_of = |sink: &crate::policy::Sink| {
        let name = sink.config.name.clone();
        let (_, faults) = context.keyring.resolve(&sink.needs);
        let in_force = told(&name);
        (name, SinkOutcome { faults, in_force })
    };
    let sinks = policy.sinks.iter().map(outcome_of).collect();
    let outcome = PolicyOutcome {
        faults,
        sinks,
        ..PolicyOutcome::default()
    };
    (entry, outcome)
}

/// A policy that can no longer be used goes on as it was.
fn kept<'a>(candidate: &'a Candidate, last_good: Option<&LastGood>) -> Option<Entry<'a>> {
    let (policy, kept) = last_good?.policy(&candidate.uid)?;
    Some(Entry {
        candidate,
        policy: policy.clone(),
        credentials: Values::new(),
        kept,
    })
}

/// What a Secret holds, and the revisions of the policies in it.
struct Encoded<'a> {
    data: BTreeMap<String, ByteString>,
    /// By the policy's name, in the order of the bundle.
    revisions: Vec<(&'a str, String)>,
}

fn encoded<'a>(
    context: Context<'_>,
    entries: &[Entry<'a>],
) -> Result<Encoded<'a>, config::bundle::EncodeError> {
    let mut by_age: Vec<&Entry<'a>> = entries.iter().collect();
    // Agents have room for the patterns of so many policies, and those of the oldest come first.
    by_age.sort_by_key(|entry| entry.age());
    let mut data = BTreeMap::new();
    // A key that is there twice, as it was and as it is, is as it is: what cannot be used must not hold up the others.
    let kept = entries.iter().flat_map(|entry| &entry.kept);
    let current = entries.iter().flat_map(|entry| &entry.credentials);
    for (key, value) in kept.chain(current) {
        data.insert(
            String::from(key.clone()),
            ByteString(value.expose().to_vec()),
        );
    }
    let revisions = by_age.iter().filter_map(|entry| {
        let revision = revision(&entry.policy, &data)?;
        Some((entry.candidate.name.as_str(), revision))
    });
    let revisions: Vec<(&str, String)> = revisions.collect();
    let installation = context.installation;
    let bundle = Bundle {
        execution_id_label: Some(installation.execution_id_label.clone()),
        execution_id_patterns: installation.execution_id_patterns.clone(),
        reporting: context.reporting.cloned(),
        revisions: revisions
            .iter()
            .map(|(_, revision)| revision.clone())
            .collect(),
        policies: by_age.iter().map(|entry| entry.policy.clone()).collect(),
    };
    data.insert(layout::BUNDLE_FILE.to_owned(), ByteString(bundle.encode()?));
    Ok(Encoded { data, revisions })
}

/// What tells a policy with its credentials from every other form of it: agents repeat it, so it must say nothing of what a credential
/// is to whoever does not have the bundle. None where it cannot be serialised, which no input is known to cause.
fn revision(policy: &config::Policy, data: &BTreeMap<String, ByteString>) -> Option<String> {
    let policy_itself = serde_json::to_vec(policy).ok()?;
    let parts = [policy_itself].into_iter().chain(values(policy, data));
    Some(short_digest(parts.collect()))
}

/// What tells the credentials of a policy from every other.
fn credentials(policy: &config::Policy, data: &BTreeMap<String, ByteString>) -> Option<String> {
    let parts: Vec<Vec<u8>> = values(policy, data).collect();
    (!parts.is_empty()).then(|| short_digest(parts))
}

/// The credentials of a policy, each after its key.
fn values(
    policy: &config::Policy,
    data: &BTreeMap<String, ByteString>,
) -> impl Iterator<Item = Vec<u8>> {
    policy.credentials().into_iter().flat_map(|key| {
        let key = String::from(key.clone());
        let value = data.get(&key).map(|value| value.0.clone());
        [key.into_bytes(), value.unwrap_or_default()]
    })
}

fn short_digest(parts: Vec<Vec<u8>>) -> String {
    let bytes_of_a_revision = 6;
    let digest = digest::of_parts(parts);
    config::bundle::hex(&digest[..bytes_of_a_revision])
}

fn size(data: &BTreeMap<String, ByteString>) -> usize {
    data.iter()
        .map(|(key, value)| key.len() + value.0.len())
        .sum()
}

fn secret(namespace: &str, entries: &[Entry<'_>], data: BTreeMap<String, ByteString>) -> Secret {
    let owners: BTreeMap<&str, OwnerReference> = entries
        .iter()
        .map(|entry| (entry.candidate.name.as_str(), entry.candidate.owner()))
        .collect();
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
            annotations: Some(
                [(names::REVISION_ANNOTATION.to_owned(), content_digest(&data))].into(),
            ),
            // The Secret goes with the last of them, even while no operator runs.
            owner_references: Some(owners.into_values().collect()),
            ..ObjectMeta::default()
        },
        type_: Some("Opaque".to_owned()),
        data: Some(data),
        ..Secret::default()
    }
}

/// Digest of everything that an agent sees of a bundle.
fn content_digest(data: &BTreeMap<String, ByteString>) -> String {
    let parts = data
        .iter()
        .flat_map(|(key, value)| [key.as_bytes(), &value.0]);
    config::bundle::hex(&digest::of_parts(parts))
}

#[cfg(test)]
mod tests;
