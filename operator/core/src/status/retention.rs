//! How long the logs of a policy are kept, sink by sink, and what that comes to.

use std::collections::BTreeMap;

use katonic_log_config::{ArchiveLayout, Store, Target};
use katonic_logging_crds::SinkRetention;

use crate::{
    candidate::Candidate,
    condition::{Answer, Reason, State, Type},
    names,
    policy::{Policy, Sink, is_splunk_cloud},
    retention::{
        BucketId, Custody, Kind, Outcome, PlaceStanding, Retention, Standing, Trouble,
        Unacknowledged, Versioning, place_of, prefixes, root,
    },
};

use super::Facts;

/// What Mixpanel keeps of events, in days (Mixpanel: "Data Retention").
const MIXPANEL_DAYS: u32 = 2 * 365;

/// Days that Loggly's smaller plans keep (Loggly: "Retention", Lite and Standard).
const LOGGLY_DAYS: u32 = 7;

/// Days that Splunk Cloud keeps unless an index says otherwise (Splunk: "Manage indexes in Splunk Cloud Platform").
const SPLUNK_CLOUD_DAYS: u32 = 90;

/// Longest time that New Relic keeps anything, in days (New Relic: "Manage data retention": seven years).
const NEW_RELIC_DAYS: u32 = 7 * 365;

/// Whether it is so, or nobody has to see to it; else why not.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Verdict {
    Fine,
    /// Nobody knows, and the policy has not asked.
    Unasked,
    Not(Reason),
    Unknown(Reason),
}

/// What is told of a sink.
#[derive(Clone, Debug)]
pub(super) struct Told {
    pub(super) status: SinkRetention,
    verdict: Verdict,
}

/// How long a sink keeps its logs, as its status has it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kept {
    Enforced,
    ProviderManaged,
    Drifted,
    Unsupported,
    Unknown,
}

impl Kept {
    fn as_str(self) -> &'static str {
        match self {
            Self::Enforced => "Enforced",
            Self::ProviderManaged => "ProviderManaged",
            Self::Drifted => "Drifted",
            Self::Unsupported => "Unsupported",
            Self::Unknown => "Unknown",
        }
    }
}

/// Where a sink's logs are looked after.
struct Looked {
    id: BucketId,
    root: String,
    prefixes: Vec<String>,
}

impl Looked {
    fn at(store: &Store, layout: ArchiveLayout) -> Self {
        Self {
            id: BucketId::of(store),
            root: root(store),
            prefixes: prefixes(store, layout).collect(),
        }
    }
}

fn told(kept: Kept, verdict: Verdict, message: String) -> Told {
    let reason = match verdict {
        Verdict::Not(reason) | Verdict::Unknown(reason) => reason,
        Verdict::Fine => match kept {
            Kept::Enforced => Reason::Enforced,
            Kept::Unsupported => Reason::NotManaged,
            Kept::ProviderManaged | Kept::Drifted | Kept::Unknown => Reason::ProviderManaged,
        },
        Verdict::Unasked => Reason::NotManaged,
    };
    Told {
        status: SinkRetention {
            state: kept.as_str().to_owned(),
            reason: reason.as_str().to_owned(),
            kept: None,
            location: None,
            message,
        },
        verdict,
    }
}

/// What is told of each sink, in the order of the policy.
pub(super) fn of_sinks(candidate: &Candidate, policy: &Policy, facts: Facts<'_>) -> Vec<Told> {
    let of_sink = |sink: &Sink| {
        let target = &sink.config.target;
        if let Some(setting) = place_of(sink) {
            let place = Looked {
                id: BucketId::of_setting(setting),
                root: String::new(),
                prefixes: vec![String::new()],
            };
            return archive(candidate, policy, sink, &place, facts);
        }
        match target {
            Target::ObjectStorage(storage) => {
                let place = Looked::at(&storage.store, storage.layout);
                archive(candidate, policy, sink, &place, facts)
            }
            target => by_provider(policy.retention(), target),
        }
    };
    policy.sinks.iter().map(of_sink).collect()
}

/// The condition.
pub(super) fn enforced(policy: &Policy, sinks: &[Told]) -> Answer {
    let sentences: Vec<String> = policy
        .sinks
        .iter()
        .zip(sinks)
        .map(|(sink, told)| format!("sink {}: {}", sink.config.name, told.status.message))
        .collect();
    let not = sinks.iter().find_map(|told| match told.verdict {
        Verdict::Not(reason) => Some((State::False, reason)),
        Verdict::Fine | Verdict::Unasked | Verdict::Unknown(_) => None,
    });
    let unknown = sinks.iter().find_map(|told| match told.verdict {
        Verdict::Unknown(reason) => Some((State::Unknown, reason)),
        Verdict::Fine | Verdict::Unasked | Verdict::Not(_) => None,
    });
    // Last, for it keeps nobody from being ready.
    let is_unasked = |told: &Told| told.verdict == Verdict::Unasked;
    let unasked = sinks.iter().any(is_unasked);
    let unasked = unasked.then_some((State::Unknown, Reason::NotManaged));
    if let Some((state, reason)) = not.or(unknown).or(unasked) {
        // What is not so comes first, and what is so is no help.
        let concerned = sentences.iter().zip(sinks);
        let concerned: Vec<&str> = concerned
            .filter(|(_, told)| told.verdict != Verdict::Fine)
            .map(|(sentence, _)| sentence.as_str())
            .collect();
        return Answer {
            type_: Type::RetentionEnforced,
            state,
            reason,
            message: concerned.join("; "),
        };
    }
    let has = |kept: Kept| sinks.iter().any(|told| told.status.state == kept.as_str());
    let reason = if has(Kept::Enforced) {
        Reason::Enforced
    } else if has(Kept::Unsupported) {
        Reason::NotManaged
    } else {
        Reason::ProviderManaged
    };
    Answer::yes(Type::RetentionEnforced, reason, sentences.join("; "))
}

/// Whoever runs the sink decides. What vendors are known to keep: their documentation.
fn by_provider(wanted: Retention, target: &Target) -> Told {
    let least = |days: u32| matches!(wanted, Retention::Days(wanted) if wanted.get() <= days);
    let message = match target {
        Target::Loggly(_) if least(LOGGLY_DAYS) => {
            "Loggly's plan decides how long events are kept".to_owned()
        }
        Target::Loggly(_) => format!(
            "Loggly's plan decides how long events are kept, and Lite and Standard keep {LOGGLY_DAYS} days, less than the {wanted} that the policy asks: see that the plan keeps more, or add an archive"
        ),
        Target::Splunk(splunk) if is_splunk_cloud(&splunk.endpoint) && !least(SPLUNK_CLOUD_DAYS) => {
            format!(
                "the index decides how long events are kept, on Splunk Cloud {SPLUNK_CLOUD_DAYS} days unless it says otherwise, less than the {wanted} that the policy asks: see that its searchable days are more, or add an archive"
            )
        }
        Target::Splunk(_) => {
            "the index decides how long events are kept (frozenTimePeriodInSecs and maxTotalDataSizeMB)".to_owned()
        }
        Target::NewRelic(_) if least(NEW_RELIC_DAYS) => {
            "the account's retention of the namespace Log decides how long logs are kept".to_owned()
        }
        Target::NewRelic(_) => format!(
            "the account's retention of the namespace Log decides how long logs are kept, at most 7 years, less than the {wanted} that the policy asks: add an archive"
        ),
        Target::Mixpanel(_) if least(MIXPANEL_DAYS) => {
            "Mixpanel decides how long events are kept, at most 2 years".to_owned()
        }
        Target::Mixpanel(_) => format!(
            "Mixpanel deletes events after 2 years, less than the {wanted} that the policy asks: add an archive as the record"
        ),
        Target::Syslog(_) | Target::Otlp(_) | Target::Http(_) | Target::ObjectStorage(_) => {
            "whoever runs the server decides how long logs are kept".to_owned()
        }
    };
    told(Kept::ProviderManaged, Verdict::Fine, message)
}

fn archive(
    candidate: &Candidate,
    policy: &Policy,
    sink: &Sink,
    place: &Looked,
    facts: Facts<'_>,
) -> Told {
    let id = place.id.clone();
    let location = id.location(&place.root);
    let custodies = facts.plan.map(|plan| &plan.custodies);
    let Some(custody) = custodies.and_then(|custodies| custodies.buckets.get(&id)) else {
        let key = (candidate.name.clone(), sink.config.name.clone());
        let fault = custodies.and_then(|custodies| custodies.faults.get(&key));
        let Some((fault, message)) = fault else {
            return unmanaged(policy, &id);
        };
        let mut told = told(
            Kept::Unsupported,
            Verdict::Not(Reason::Credential(*fault)),
            format!("nobody looks after {id}: {message}"),
        );
        told.status.kept = known_before(candidate, sink, &location);
        told.status.location = Some(location);
        return told;
    };
    let known = match facts.retention.get(&id) {
        Some(Outcome::Trouble(trouble)) => {
            let mut told = in_trouble(trouble);
            told.status.kept = known_before(candidate, sink, &location);
            told.status.location = Some(location);
            return told;
        }
        Some(Outcome::Known(standing)) => {
            places(custody, standing, place).map(|places| (standing, places))
        }
        None => None,
    };
    let Some((standing, places)) = known else {
        // After a restart of the operator it is as it was until the bucket has been looked at.
        let kept = known_before(candidate, sink, &location);
        let before = before(candidate, sink, &location);
        return before.unwrap_or_else(|| pending(kept, location));
    };
    let mut told = stands(policy, sink, &id, standing, &places);
    told.status.location = Some(location);
    told
}

fn unmanaged(policy: &Policy, id: &BucketId) -> Told {
    let (kept, verdict) = match policy.asked_retention {
        Some(_) => (Kept::Unsupported, Verdict::Not(Reason::NotManaged)),
        None => (Kept::Unknown, Verdict::Unasked),
    };
    let what = match id.kind {
        Kind::S3 => "an access key for its lifecycle rules in managementSecretRef",
        Kind::Gcs => "a service account for its lifecycle rules in managementSecretRef",
        Kind::SplunkEnterprise | Kind::SplunkCloud | Kind::NewRelic => {
            "somebody who may change that in managementSecretRef"
        }
        Kind::Azure => {
            "a service principal for its management policy in managementSecretRef, with subscriptionId and resourceGroup,"
        }
    };
    let message = format!(
        "nobody sees to it, or has looked, that {id} keeps the logs {}: name {what} (of an archive of the installation: in logging.logStore)",
        policy.retention().in_words()
    );
    told(kept, verdict, message)
}

fn in_trouble(trouble: &Trouble) -> Told {
    let (kept, verdict) = match trouble.reason {
        // What is there is known, and that it is not as it should be.
        Reason::RulesContested | Reason::RulesRefused => {
            (Kept::Drifted, Verdict::Not(trouble.reason))
        }
        Reason::RulesUnsupported => (Kept::Unsupported, Verdict::Not(trouble.reason)),
        reason => (Kept::Unknown, Verdict::Unknown(reason)),
    };
    told(kept, verdict, trouble.message.clone())
}

/// The places of a sink; none where the bucket was last looked at for other policies than there are now.
fn places<'a>(
    custody: &Custody,
    standing: &'a Standing,
    looked: &Looked,
) -> Option<BTreeMap<String, &'a PlaceStanding>> {
    let place = |prefix: String| {
        let place = standing.places.get(&prefix)?;
        let is_asked = custody.wanted(&prefix) == Some(place.wanted);
        is_asked.then_some((prefix, place))
    };
    looked.prefixes.iter().cloned().map(place).collect()
}

/// What was told of a sink before, if it was about the same place.
fn told_before<'a>(
    candidate: &'a Candidate,
    sink: &Sink,
    location: &str,
) -> Option<&'a SinkRetention> {
    let mut sinks = candidate.status.as_ref()?.sinks.iter();
    let before = sinks.find(|before| before.name == sink.config.name)?;
    let retention = before.retention.as_ref()?;
    (retention.location.as_deref() == Some(location)).then_some(retention)
}

/// How long logs were kept when that was last known: what a next operator goes by, too.
fn known_before(candidate: &Candidate, sink: &Sink, location: &str) -> Option<String> {
    told_before(candidate, sink, location)?.kept.clone()
}

/// What was told of the same sink of the same policy before.
fn before(candidate: &Candidate, sink: &Sink, location: &str) -> Option<Told> {
    let retention = told_before(candidate, sink, location)?;
    let status = candidate.status.as_ref()?;
    if status.observed_generation != Some(candidate.generation) {
        return None;
    }
    let verdict = if retention.state == Kept::Enforced.as_str() {
        Verdict::Fine
    } else {
        let reason = Reason::of_retention(&retention.reason)?;
        if retention.state == Kept::Unknown.as_str() {
            Verdict::Unknown(reason)
        } else {
            Verdict::Not(reason)
        }
    };
    Some(Told {
        status: retention.clone(),
        verdict,
    })
}

fn pending(kept: Option<String>, location: String) -> Told {
    let mut told = told(
        Kept::Unknown,
        Verdict::Unknown(Reason::RetentionPending),
        "how long it is kept there is being looked at".to_owned(),
    );
    told.status.kept = kept;
    told.status.location = Some(location);
    told
}

fn stands(
    policy: &Policy,
    sink: &Sink,
    id: &BucketId,
    standing: &Standing,
    places: &BTreeMap<String, &PlaceStanding>,
) -> Told {
    let kept = places.values().map(|place| place.kept).min();
    let store = match &sink.config.target {
        Target::ObjectStorage(storage) => Some(&storage.store),
        _ => None,
    };
    let asks_for_locks = matches!(store, Some(Store::S3(s3)) if s3.object_lock.is_some());
    let unlocked = (asks_for_locks && standing.lock.is_none()).then(|| {
        (
            Reason::LockUnsupported,
            format!(
                "{id} has no Object Lock, so it refuses objects that are to be locked: make it anew with Object Lock, or remove objectLock"
            ),
        )
    });
    let wrong = places
        .iter()
        .find_map(|(prefix, place)| wrong(id, standing, prefix, place));
    let wrong = unlocked.or(wrong);
    let mut told = match wrong {
        Some((Reason::RetentionUnsupported, message)) => {
            let verdict = match policy.asked_retention {
                Some(_) => Verdict::Not(Reason::RetentionUnsupported),
                None => Verdict::Fine,
            };
            told(Kept::Unsupported, verdict, message)
        }
        Some((reason, message)) => told(Kept::Drifted, Verdict::Not(reason), message),
        None => told(
            Kept::Enforced,
            Verdict::Fine,
            right(policy, id, store, standing, places),
        ),
    };
    // Where nothing was set nobody knows.
    let kept = kept.filter(|kept| store.is_some() || *kept != Retention::Forever);
    told.status.kept = kept.map(|kept| kept.to_string());
    told
}

/// What is not as it is asked, and what to do.
fn wrong(
    id: &BucketId,
    standing: &Standing,
    prefix: &str,
    place: &PlaceStanding,
) -> Option<(Reason, String)> {
    let PlaceStanding { wanted, kept, .. } = place;
    let (what, is_kept) = match (id.kind, kept) {
        (Kind::S3 | Kind::Gcs | Kind::Azure, _) => (
            format!("what begins with {prefix} in {id}"),
            kept.in_words(),
        ),
        (_, Retention::Forever) => (
            format!("what is in {id}"),
            "for as long as it is by default".to_owned(),
        ),
        (_, Retention::Days(_)) => (format!("what is in {id}"), kept.in_words()),
    };
    if place.is_beyond_reach {
        let most = match standing.limits.days {
            Some(days) => format!("{id} keeps nothing for longer than {days} days"),
            None => format!("{id} keeps nothing for ever"),
        };
        return Some((
            Reason::RetentionUnsupported,
            format!(
                "{most}, and is to keep it {}; it is left as it is, {is_kept}: ask for less, or add an archive",
                wanted.in_words()
            ),
        ));
    }
    if !place.conflicts.is_empty() {
        return Some((
            Reason::ExpiredByOthers,
            format!(
                "{what} is to be kept {}, and {}: disable the rule, or except the prefix from it",
                wanted.in_words(),
                some_of(place.conflicts.iter().map(ToString::to_string), ", and")
            ),
        ));
    }
    match &place.unacknowledged {
        None => {}
        Some(Unacknowledged::Nobody) => {
            return Some((
                Reason::AcknowledgementNeeded,
                format!(
                    "{what} is kept {is_kept}, and {wanted} would delete all of it that is older: if that is meant, annotate policy {} with {}={wanted}; until then it stays as it is",
                    some_of(place.longest.iter().cloned(), " or"),
                    names::ACKNOWLEDGE_RETENTION_ANNOTATION
                ),
            ));
        }
        Some(Unacknowledged::Unusable(policy)) => {
            return Some((
                Reason::AcknowledgementNeeded,
                format!(
                    "{what} is kept {is_kept}, and not {wanted} before it is known whether policy {policy}, which cannot be used, asks for longer: correct it, or delete it"
                ),
            ));
        }
    }
    place.is_full.then(|| {
        (
            Reason::RulesFull,
            format!(
                "{id} has as many lifecycle rules as it can have, so what begins with {prefix} is kept for ever and not {wanted}: remove a rule, or archive elsewhere"
            ),
        )
    })
}

/// Things for a sentence, with a word between them: of two thousand the first three.
fn some_of(all: impl ExactSizeIterator<Item = String>, between: &str) -> String {
    const MOST: usize = 3;
    let more = all.len().saturating_sub(MOST);
    let first: Vec<String> = all.take(MOST).collect();
    let first = first.join(&format!("{between} "));
    if more == 0 {
        first
    } else {
        format!("{first} ({more} more)")
    }
}

fn right(
    policy: &Policy,
    id: &BucketId,
    store: Option<&Store>,
    standing: &Standing,
    places: &BTreeMap<String, &PlaceStanding>,
) -> String {
    let mut sentences: Vec<String> = Vec::new();
    let rules: Vec<&str> = places
        .values()
        .filter(|place| place.kept != Retention::Forever)
        .map(|place| place.rule.as_str())
        .collect();
    let kept = places.values().map(|place| place.kept).min();
    let kept = kept.unwrap_or(Retention::Forever);
    if store.is_none() {
        sentences.push(format!("{id} keeps the logs {}", kept.in_words()));
        sentences.extend(standing.limits.megabytes.map(|megabytes| {
            format!("once it has more than {megabytes} MB it deletes what is oldest sooner")
        }));
    } else if rules.is_empty() {
        sentences.push(format!(
            "{id} keeps the logs for ever: none of its lifecycle rules deletes them"
        ));
    } else {
        sentences.push(format!(
            "{id} keeps the logs {} by its lifecycle rule {}",
            kept.in_words(),
            rules.join(" and ")
        ));
        if standing.versioning != Versioning::Never {
            sentences.push(
                "it keeps versions, so what has expired is hidden, and deleted a day later"
                    .to_owned(),
            );
        }
    }
    let asked = policy.retention();
    let longer = places.values().find(|place| place.wanted > asked);
    if let Some(place) = longer {
        let place_of_others = match &place.address {
            None => "in the same place".to_owned(),
            Some(address) => format!(
                "of a bucket of this name at {address}, which may be the same: if it is not, give one of the two another prefix"
            ),
        };
        sentences.push(format!(
            "that is longer than the {asked} of this policy, because policy {} asks for {} {place_of_others}",
            some_of(place.longest.iter().cloned(), " and"),
            place.wanted
        ));
    }
    sentences.extend(store.and_then(|store| locked(store, standing)));
    sentences.join("; ")
}

/// What holds objects, whatever the rules say.
fn locked(store: &Store, standing: &Standing) -> Option<String> {
    let of_bucket = standing.lock.as_ref();
    let by_default = of_bucket.and_then(|lock| Some((lock.mode.as_deref()?, lock.days?)));
    match store {
        Store::S3(s3) => {
            let asked = s3.object_lock.as_ref();
            // What an object asks for goes before what the bucket does by itself (Amazon S3: "Locking objects with Object Lock").
            let asked = asked.map(|lock| (lock.mode.as_str(), lock.days.get()));
            let (mode, days) = asked.or(by_default)?;
            Some(format!(
                "Object Lock ({mode}) holds each object for {days} days, whatever the rules say"
            ))
        }
        Store::Gcs(_) => {
            let (mode, days) = by_default?;
            Some(format!(
                "the bucket's retention policy ({mode}) holds each object for {days} days, whatever the rules say"
            ))
        }
        Store::Azure(_) => None,
    }
}

#[cfg(test)]
mod tests;
