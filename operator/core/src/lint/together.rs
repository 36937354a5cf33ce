//! What can be said of several objects only: policies that ask different things of one place, Secrets, the installation.

use std::collections::{BTreeMap, BTreeSet};

use katonic_log_config::Target;
use katonic_logging_crds::SecretKeyRef;

use super::{
    Held,
    finding::{Finding, Rule, Severity},
    object::Policy,
    secret::Secrets,
    tree::{Content, Path, Tree},
};
use crate::{
    candidate::Candidate,
    credential::{Fault, Keyring, Lookup},
    installation::Installation,
    policy::{self, Management},
    retention::{BucketId, Retention, prefixes},
};

/// Policies whose form is good, and what stands beside them.
pub struct Together<'a> {
    /// The policies, in the order of the files.
    pub held: &'a [Held],
    /// The Secrets.
    pub secrets: &'a Secrets,
    /// The installation, where the files have one.
    pub installation: Option<&'a Installation>,
    /// Namespace of the operator and of the Secrets.
    pub namespace: &'a str,
}

/// A policy as it is on this platform.
struct Resolved<'a> {
    held: &'a Held,
    candidate: Candidate,
}

impl Together<'_> {
    /// Everything that there is to say.
    pub fn findings(&self) -> Vec<Finding> {
        let mut findings = self.unknown_events();
        let mut resolved = Vec::new();
        for held in self.held {
            let Some(candidate) = held.policy.shipping() else {
                continue;
            };
            let on_platform = self
                .installation
                .and_then(|installation| candidate.resolved(installation));
            if let Some(Err(violations)) = on_platform.as_ref().map(|one| &one.policy) {
                findings.extend(violations.iter().map(|violation| {
                    held.finding(
                        Severity::Error,
                        Rule::Installation,
                        &Path::parse(&violation.path),
                        violation.message.clone(),
                    )
                }));
            }
            resolved.push(Resolved {
                held,
                candidate: on_platform.unwrap_or_else(|| candidate.clone()),
            });
        }
        for one in &resolved {
            findings.extend(self.missing_credentials(one));
        }
        findings.extend(conflicts(&resolved));
        findings
    }

    fn unknown_events(&self) -> Vec<Finding> {
        let Some(installation) = self.installation else {
            return Vec::new();
        };
        let vocabulary = installation.vocabulary();
        let audit = self.held.iter().filter_map(|held| match &held.policy {
            Policy::Audit(candidate) => Some((held, candidate.policy.as_ref().ok()?)),
            Policy::Logging(_) => None,
        });
        let known: Vec<String> = vocabulary.all().iter().map(ToString::to_string).collect();
        audit
            .flat_map(|(held, policy)| {
                let known = &known;
                let unknown = policy.unknown(&vocabulary).into_iter();
                unknown.map(move |event| {
                    let event = event.to_string();
                    let meant = super::nearest::nearest(&event, known.iter().map(String::as_str));
                    let mend = meant.map_or_else(
                        || "write one that the platform has, or add it to logging.audit.events of the installation".to_owned(),
                        |meant| format!("did you mean `{meant}`?"),
                    );
                    let at = held.place_of_item("events", &event);
                    held.finding(
                        Severity::Error,
                        Rule::Installation,
                        &at,
                        format!("the platform has no audit event `{event}`: {mend}"),
                    )
                })
            })
            .collect()
    }

    /// Secrets that are not there, lack a key, or hold what is of no use.
    fn missing_credentials(&self, one: &Resolved<'_>) -> Vec<Finding> {
        let Ok(policy) = &one.candidate.policy else {
            return Vec::new();
        };
        let mut lookups: BTreeMap<SecretKeyRef, Lookup> = BTreeMap::new();
        let mut sealed: BTreeSet<SecretKeyRef> = BTreeSet::new();
        for reference in policy.secrets() {
            match self.secrets.look_up(reference) {
                Some(lookup) => {
                    lookups.insert(reference.clone(), lookup);
                }
                None => {
                    sealed.insert(reference.clone());
                }
            }
        }
        let mut findings = Vec::new();
        let missing = lookups
            .iter()
            .filter(|(_, lookup)| **lookup == Lookup::SecretMissing);
        let missing: BTreeSet<&str> = missing
            .map(|(reference, _)| reference.name.as_str())
            .collect();
        for name in missing {
            let keys = lookups.keys().filter(|reference| reference.name == name);
            let keys: Vec<String> = keys
                .map(|reference| format!("`{}`", reference.key))
                .collect();
            let namespace = self.namespace;
            let message = match self.secrets.elsewhere(name) {
                Some(other) => format!(
                    "Secret {name} is in namespace {other} in these files, and the operator looks for it in its own: put it into {namespace}, with {}",
                    keys.join(" and ")
                ),
                None => format!(
                    "Secret {namespace}/{name} is not among these files: see that it is in the cluster with {}, and say so with --secret {name}",
                    keys.join(" and ")
                ),
            };
            let at = one.held.place_of_secret(name);
            findings.push(
                one.held
                    .finding(Severity::Warning, Rule::Secret, &at, message),
            );
        }
        let needs: Vec<_> = policy.needs().chain(policy.management_needs()).collect();
        let keyring = Keyring::open(needs.iter().copied(), &lookups, self.namespace);
        let mut told = BTreeSet::new();
        for need in needs {
            // Of a pair with a half that nobody can see nothing is said.
            for source in need.sources.values() {
                let alone = policy::Needs {
                    sources: need
                        .sources
                        .iter()
                        .filter(|(_, one)| *one == source)
                        .map(|(key, one)| (key.clone(), one.clone()))
                        .collect(),
                    pairs: BTreeMap::new(),
                };
                let refusals = keyring.resolve(&alone).1;
                refused(
                    one.held,
                    &source.secret,
                    refusals,
                    &sealed,
                    &mut told,
                    &mut findings,
                );
            }
            if let Some(key) = need
                .pairs
                .values()
                .next()
                .and_then(|key| need.sources.get(key))
            {
                let refusals = keyring.resolve(need).1;
                let of_pair = refusals
                    .into_iter()
                    .filter(|(_, message)| message.contains("is not that of its certificate"));
                refused(
                    one.held,
                    &key.secret,
                    of_pair.collect(),
                    &sealed,
                    &mut told,
                    &mut findings,
                );
            }
        }
        findings
    }
}

/// Why credentials are refused that can be seen, each reason once.
fn refused(
    held: &Held,
    reference: &SecretKeyRef,
    refusals: Vec<(Fault, String)>,
    sealed: &BTreeSet<SecretKeyRef>,
    told: &mut BTreeSet<String>,
    findings: &mut Vec<Finding>,
) {
    for (fault, message) in refusals {
        let is_said_already = fault == Fault::SecretMissing || sealed.contains(reference);
        if !is_said_already && told.insert(message.clone()) {
            let at = held.place_of_secret(&reference.name);
            findings.push(held.finding(Severity::Error, Rule::Secret, &at, message));
        }
    }
}

/// What is asked of each place: by which policy, with which sink, and for how long.
type Places<'a> = BTreeMap<(BucketId, String), Vec<(&'a Held, &'a str, Retention)>>;

/// Policies that ask different things of one place, or reach it as different somebodies.
fn conflicts(resolved: &[Resolved<'_>]) -> Vec<Finding> {
    let mut places: Places<'_> = BTreeMap::new();
    let mut keepers: BTreeMap<BucketId, Vec<(&Held, &str, &Management)>> = BTreeMap::new();
    for one in resolved {
        let Ok(policy) = &one.candidate.policy else {
            continue;
        };
        for sink in policy.sinks.iter().filter(|_| !policy.suspend) {
            let name = sink.config.name.as_str();
            let id = match (&sink.config.target, &sink.management) {
                (Target::ObjectStorage(storage), _) => {
                    let id = BucketId::of(&storage.store);
                    for prefix in prefixes(&storage.store, storage.layout) {
                        let place = places.entry((id.clone(), prefix)).or_default();
                        place.push((one.held, name, policy.retention()));
                    }
                    id
                }
                (
                    _,
                    Some(Management {
                        keys: policy::ManagementKeys::Setting { setting, .. },
                        ..
                    }),
                ) => {
                    let id = BucketId::of_setting(setting);
                    let place = places.entry((id.clone(), String::new())).or_default();
                    place.push((one.held, name, policy.retention()));
                    id
                }
                _ => continue,
            };
            if let Some(management) = &sink.management {
                keepers
                    .entry(id)
                    .or_default()
                    .push((one.held, name, management));
            }
        }
    }
    let mut findings = Vec::new();
    for ((bucket, prefix), claims) in &places {
        // A rule of a place reaches what is deeper in it, too.
        let deeper = places
            .iter()
            .filter(|((other, at), _)| other == bucket && at.starts_with(prefix.as_str()));
        let longest = deeper
            .flat_map(|(_, claims)| claims)
            .max_by_key(|(_, _, retention)| *retention);
        let Some((keeper, _, longest)) = longest else {
            continue;
        };
        for (held, sink, retention) in claims
            .iter()
            .filter(|(_, _, retention)| retention < longest)
        {
            let place = if prefix.is_empty() {
                bucket.to_string()
            } else {
                format!("{bucket}, below {prefix}")
            };
            let message = format!(
                "keeps logs {} in {place}, where {} keeps them {}: the longest holds for all that is there, so write the same retention, or a prefix of its own for one of them",
                retention.in_words(),
                keeper.reference(),
                longest.in_words(),
            );
            findings.push(held.finding(
                Severity::Warning,
                Rule::Retention,
                &held.place_of_sink(sink),
                message,
            ));
        }
    }
    for (bucket, keepers) in &keepers {
        let Some(((first, _, decides), others)) = keepers.split_first() else {
            continue;
        };
        for (held, sink, _) in others
            .iter()
            .filter(|(_, _, management)| management.needs != decides.needs)
        {
            let message = format!(
                "looks after {bucket} with other credentials than {}: only those of the older policy are used, so write the same managementSecretRef in both",
                first.reference(),
            );
            findings.push(held.finding(
                Severity::Warning,
                Rule::Retention,
                &held.place_of_sink(sink),
                message,
            ));
        }
    }
    findings
}

impl Held {
    /// Something that is wrong with this policy.
    pub(super) fn finding(
        &self,
        severity: Severity,
        rule: Rule,
        path: &Path,
        message: String,
    ) -> Finding {
        let text = path.to_string();
        Finding {
            file: self.file.clone(),
            at: self.tree.spot(path),
            severity,
            rule,
            object: Some(self.reference()),
            path: (!text.is_empty()).then_some(text),
            message,
        }
    }

    /// Kind and name.
    fn reference(&self) -> String {
        format!("{} {}", self.kind, self.name)
    }

    fn place_of_sink(&self, name: &str) -> Path {
        let sinks = Path::parse("spec.sinks");
        let list = self.tree.get("spec").and_then(|spec| spec.get("sinks"));
        let Some(Content::List(items)) = list.map(|tree| &tree.content) else {
            return sinks;
        };
        let place = items
            .iter()
            .position(|item| item.text("name") == Some(name));
        place.map_or_else(|| sinks.clone(), |place| sinks.item(place))
    }

    fn place_of_item(&self, field: &str, text: &str) -> Path {
        let path = Path::parse("spec").field(field);
        let list = self.tree.get("spec").and_then(|spec| spec.get(field));
        let Some(Content::List(items)) = list.map(|tree| &tree.content) else {
            return path;
        };
        let wanted = Content::Text(text.to_owned());
        let place = items.iter().position(|item| item.content == wanted);
        place.map_or_else(|| path.clone(), |place| path.item(place))
    }

    /// The first field that names this Secret.
    fn place_of_secret(&self, name: &str) -> Path {
        fn find(tree: &Tree, at: &Path, name: &str) -> Option<Path> {
            match &tree.content {
                Content::Object(fields) => fields.iter().find_map(|field| {
                    let path = at.field(&field.name);
                    if field.name.ends_with("SecretRef") && field.value.text("name") == Some(name) {
                        return Some(path.field("name"));
                    }
                    find(&field.value, &path, name)
                }),
                Content::List(items) => {
                    let mut items = items.iter().enumerate();
                    items.find_map(|(index, item)| find(item, &at.item(index), name))
                }
                _ => None,
            }
        }
        find(&self.tree, &Path::default(), name).unwrap_or_else(|| Path::parse("spec"))
    }
}
