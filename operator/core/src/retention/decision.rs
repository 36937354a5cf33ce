//! What has to be done to a bucket, and how it stands with it then.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU32,
};

use katonic_log_config::ArchiveLayout;

use super::{
    Conflict, Custody, Retention,
    conflict::conflicts,
    custody::Place,
    lifecycle::{Expiry, Lifecycle, Merged, Rule},
    xml::Malformed,
};

/// A bucket as it is.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Its lifecycle rules.
    pub lifecycle: Lifecycle,
    /// Whether it keeps versions.
    pub versioning: Versioning,
    /// How long it locks each object by itself.
    pub lock: Option<BucketLock>,
    /// Whether there are logs of an earlier day, for the prefixes of which [`questions`] wants to know.
    pub logs: BTreeMap<String, bool>,
}

/// Whether a bucket keeps versions of its objects.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Versioning {
    /// It never did.
    Never,
    /// It does.
    Enabled,
    /// It did, and still has them.
    Suspended,
}

/// How long a bucket locks each object by itself (Amazon S3: "Locking objects with Object Lock", default retention; Cloud Storage:
/// "Bucket Lock", retention policy).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BucketLock {
    /// `GOVERNANCE` or `COMPLIANCE`, of Google's `locked` or `not locked`; none: it can lock objects and does it only where it is
    /// asked.
    pub mode: Option<String>,
    /// For so many days.
    pub days: Option<u32>,
}

/// What has to be done, and how it stands then.
#[derive(Clone, Debug)]
pub struct Decision {
    /// The rules that have to be written; there may be none of them.
    pub write: Option<Lifecycle>,
    /// How it stands once they are.
    pub standing: Standing,
}

/// How it stands with a bucket.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Standing {
    /// Its places, by what their keys begin with.
    pub places: BTreeMap<String, PlaceStanding>,
    /// Whether it keeps versions.
    pub versioning: Versioning,
    /// How long it locks each object by itself.
    pub lock: Option<BucketLock>,
    /// What bounds how long it keeps anything.
    pub limits: Limits,
}

/// What bounds how long anything is kept, besides rules.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Limits {
    /// The longest that can be set, in days.
    pub days: Option<NonZeroU32>,
    /// Above how much what is oldest is deleted sooner, in MB.
    pub megabytes: Option<u64>,
}

/// How it stands with a place.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PlaceStanding {
    /// The longest that is asked.
    pub wanted: Retention,
    /// What it is by our rule, or because we have none there.
    pub kept: Retention,
    /// Id of our rule.
    pub rule: String,
    /// Policies that ask for the longest.
    pub longest: BTreeSet<String>,
    /// The other address at which all of them archive to a bucket of this name; none: at least one asks it of this bucket.
    pub address: Option<String>,
    /// Why it is not kept shorter, as it is asked.
    pub unacknowledged: Option<Unacknowledged>,
    /// Whether our rule has no place among the bucket's.
    pub is_full: bool,
    /// Whether nothing there can be kept for so long.
    pub is_beyond_reach: bool,
    /// Rules of others that delete sooner.
    pub conflicts: Vec<Conflict>,
}

/// Why something is not kept shorter, as it is asked: it would delete logs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Unacknowledged {
    /// Nobody has said that it may.
    Nobody,
    /// A policy cannot be used, and may ask for longer.
    Unusable(String),
}

/// What is asked of a place and what is there, before anything is known of its logs.
struct Asked<'a> {
    prefix: &'a str,
    place: &'a Place,
    wanted: Retention,
    current: Retention,
    /// Whether what is there is to be kept shorter than ever before.
    lowers: bool,
    acknowledged: bool,
}

impl<'a> Asked<'a> {
    fn all(custody: &'a Custody, lifecycle: &'a Lifecycle) -> impl Iterator<Item = Self> {
        custody.places.iter().filter_map(|(prefix, place)| {
            let wanted = custody.wanted(prefix)?;
            let current = current(lifecycle, &place.rule, prefix);
            let was = place.established.is_some_and(|known| known <= wanted);
            let acknowledged = custody
                .claims(prefix)
                .any(|claim| claim.retention == wanted && claim.acknowledged);
            Some(Self {
                prefix,
                place,
                wanted,
                current,
                lowers: wanted < current && !was,
                acknowledged: acknowledged && custody.unusable.is_none(),
            })
        })
    }
}

/// What our rule makes of a place now.
fn current(lifecycle: &Lifecycle, id: &str, prefix: &str) -> Retention {
    let rule = lifecycle.rule(id).filter(|facts| facts.covers(prefix));
    let days = rule.and_then(|facts| match facts.expiry {
        Some(Expiry::Days(days)) => NonZeroU32::new(days),
        _ => None,
    });
    days.map_or(Retention::Forever, Retention::Days)
}

fn limits(lifecycle: &Lifecycle) -> Limits {
    match lifecycle {
        Lifecycle::Setting(setting) => Limits {
            days: setting.most,
            megabytes: setting.most_megabytes,
        },
        Lifecycle::S3(_) | Lifecycle::Gcs(_) | Lifecycle::Azure(_) => Limits::default(),
    }
}

/// Whether nothing can be kept for so long: what has a setting keeps nothing for ever.
fn is_beyond_reach(lifecycle: &Lifecycle, wanted: Retention) -> bool {
    match (lifecycle, wanted) {
        (Lifecycle::Setting(_), Retention::Forever) => true,
        (Lifecycle::Setting(setting), Retention::Days(days)) => {
            setting.most.is_some_and(|most| days > most)
        }
        (Lifecycle::S3(_) | Lifecycle::Gcs(_) | Lifecycle::Azure(_), _) => false,
    }
}

/// After how many days more what has expired is gone where versions are kept. S3 counts them from then on, and takes no less than
/// one; Azure counts from when the version was made, and Google's rule is for all versions already.
///
/// What stands behind a marker, or another version, may have been put there before its time: where logs are a record, S3 keeps it for
/// as long again, since nothing there counts from when a version was made.
fn noncurrent_days(seen: &Seen, prefix: &str, days: NonZeroU32) -> Option<NonZeroU32> {
    match (&seen.lifecycle, seen.versioning) {
        (_, Versioning::Never) | (Lifecycle::Gcs(_) | Lifecycle::Setting(_), _) => None,
        (Lifecycle::S3(_), Versioning::Enabled | Versioning::Suspended) => {
            Some(if is_record(prefix) {
                days
            } else {
                NonZeroU32::MIN
            })
        }
        (Lifecycle::Azure(_), Versioning::Enabled | Versioning::Suspended) => Some(days),
    }
}

/// Whether what is below a prefix is to prove something later: executions and audit events.
fn is_record(prefix: &str) -> bool {
    let mut application = ArchiveLayout::Application.folders().iter();
    let is_application = application.any(|folder| {
        let before = prefix.strip_suffix(folder);
        before.is_some_and(|before| before.is_empty() || before.ends_with('/'))
    });
    !is_application
}

/// The prefixes of which has to be known whether there are logs, before it is decided: those that would be kept shorter
/// without anybody having said that this may delete logs.
pub fn questions(custody: &Custody, lifecycle: &Lifecycle) -> Vec<String> {
    Asked::all(custody, lifecycle)
        .filter(|asked| asked.lowers && !asked.acknowledged)
        .map(|asked| asked.prefix.to_owned())
        .collect()
}

/// Decides what has to be done to a bucket.
///
/// # Guarantees
/// Nothing is kept shorter than it was before unless somebody has acknowledged it, or there are no logs. Rules of others stay
/// as they are. What is written is decided about as done.
///
/// # Errors
/// When the merged configuration is none, which no input is known to cause.
pub fn decide(custody: &Custody, seen: &Seen) -> Result<Decision, Malformed> {
    let ids: BTreeSet<String> = custody
        .places
        .values()
        .map(|place| place.rule.clone())
        .collect();
    let mut places = BTreeMap::new();
    let mut rules = BTreeMap::new();
    for asked in Asked::all(custody, &seen.lifecycle) {
        let Asked { prefix, place, .. } = asked;
        // What is not known to be empty is not.
        let has_logs = seen.logs.get(prefix).copied().unwrap_or(true);
        let is_beyond_reach = is_beyond_reach(&seen.lifecycle, asked.wanted);
        let waits = asked.lowers && !asked.acknowledged && has_logs && !is_beyond_reach;
        let stays = waits || is_beyond_reach;
        let kept = if stays { asked.current } else { asked.wanted };
        let rule = match kept {
            Retention::Forever => None,
            Retention::Days(days) => Some(Rule {
                prefix: prefix.to_owned(),
                days,
                noncurrent_days: noncurrent_days(seen, prefix, days),
            }),
        };
        // A setting is no rule of ours to be put right as long as it stays.
        if !(stays && matches!(seen.lifecycle, Lifecycle::Setting(_))) {
            rules.insert(place.rule.clone(), rule);
        }
        let unacknowledged = || match &custody.unusable {
            Some(policy) => Unacknowledged::Unusable(policy.clone()),
            None => Unacknowledged::Nobody,
        };
        let longest = || {
            let claims = custody.claims(prefix);
            claims.filter(|claim| claim.retention == asked.wanted)
        };
        // Of several the first; none comes before all of them.
        let address = longest().map(|claim| claim.address.clone()).min();
        let standing = PlaceStanding {
            wanted: asked.wanted,
            kept,
            rule: place.rule.clone(),
            longest: longest().map(|claim| claim.policy.clone()).collect(),
            address: address.flatten(),
            unacknowledged: waits.then(unacknowledged),
            is_full: false,
            is_beyond_reach,
            conflicts: conflicts(&seen.lifecycle, &ids, prefix, asked.wanted),
        };
        places.insert(prefix.to_owned(), standing);
    }
    let write = match seen.lifecycle.with(&rules)? {
        Merged::Same => None,
        Merged::Changed(lifecycle) => Some(lifecycle),
        Merged::TooMany => {
            // Those that are there can still be changed.
            rules.retain(|id, _| seen.lifecycle.rule(id).is_some());
            for standing in places.values_mut() {
                if !rules.contains_key(&standing.rule) && standing.kept != Retention::Forever {
                    standing.kept = Retention::Forever;
                    standing.is_full = true;
                }
            }
            match seen.lifecycle.with(&rules)? {
                Merged::Changed(lifecycle) => Some(lifecycle),
                Merged::Same | Merged::TooMany => None,
            }
        }
    };
    Ok(Decision {
        write,
        standing: Standing {
            places,
            versioning: seen.versioning,
            lock: seen.lock.clone(),
            limits: limits(&seen.lifecycle),
        },
    })
}
