//! Rules of others that delete logs before their time.

use std::{collections::BTreeSet, fmt};

use super::{
    Retention,
    lifecycle::{Configuration, Expiry, Facts},
};

/// A rule that is not ours and deletes logs before their time.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Conflict {
    /// Its id, or its place where it has none.
    pub rule: String,
    /// What the keys of its objects begin with.
    pub prefix: String,
    /// When it deletes them.
    pub expiry: Expiry,
}

impl fmt::Display for Conflict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            rule,
            prefix,
            expiry,
        } = self;
        write!(formatter, "lifecycle rule {rule} deletes ")?;
        if prefix.is_empty() {
            formatter.write_str("all that is in the bucket")?;
        } else {
            write!(formatter, "what begins with {prefix}")?;
        }
        match expiry {
            Expiry::Days(1) => formatter.write_str(" after 1 day"),
            Expiry::Days(days) => write!(formatter, " after {days} days"),
            Expiry::Date(date) => write!(formatter, " from {date} on, however old it is"),
            Expiry::Unknown => formatter.write_str(", and it cannot be read when"),
        }
    }
}

/// The rules but `ours` that reach what begins with `prefix` and delete it sooner than `wanted`.
///
/// Which rule reaches what: Amazon S3, "Examples of S3 Lifecycle configurations"; of several the one that deletes first acts.
/// Rules for objects with a tag reach nothing of ours: agents set none. A filter by size may let any object through.
pub(super) fn conflicts(
    configuration: &Configuration,
    ours: &BTreeSet<String>,
    prefix: &str,
    wanted: Retention,
) -> Vec<Conflict> {
    let is_ours = |facts: &Facts| facts.id.as_ref().is_some_and(|id| ours.contains(id));
    let is_sooner = |expiry: &Expiry| match (expiry, wanted) {
        (Expiry::Days(days), Retention::Days(wanted)) => *days < wanted.get(),
        (Expiry::Days(_), Retention::Forever) | (Expiry::Date(_) | Expiry::Unknown, _) => true,
    };
    let reaches = |facts: &Facts| {
        facts.enabled
            && !facts.tagged
            && (prefix.starts_with(&facts.prefix) || facts.prefix.starts_with(prefix))
    };
    let rules = configuration.rules().enumerate();
    rules
        .filter(|(_, facts)| !is_ours(facts) && reaches(facts))
        .filter_map(|(index, facts)| {
            let expiry = facts.expiry.clone().filter(is_sooner)?;
            let id = facts.id.clone().filter(|id| !id.is_empty());
            Some(Conflict {
                rule: id.unwrap_or_else(|| format!("number {} (it has no id)", index + 1)),
                prefix: facts.prefix.clone(),
                expiry,
            })
        })
        .collect()
}
