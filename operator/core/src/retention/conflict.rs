//! Rules of others that delete logs before their time.

use std::{collections::BTreeSet, fmt};

use super::{
    Retention,
    lifecycle::{Expiry, Facts, Lifecycle},
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
            formatter.write_str("all that is there")?;
        } else {
            write!(formatter, "what begins with {prefix}")?;
        }
        match expiry {
            Expiry::Days(0) => formatter.write_str(" at once"),
            Expiry::Days(1) => formatter.write_str(" after 1 day"),
            Expiry::Days(days) => write!(formatter, " after {days} days"),
            Expiry::Date(date) => write!(formatter, " from {date} on, however old it is"),
            Expiry::Before(date) => write!(formatter, " if it was stored before {date}"),
            Expiry::Unknown => formatter.write_str(", and it cannot be read when"),
        }
    }
}

/// The rules but `ours` that reach what begins with `prefix` and delete it sooner than `wanted`.
///
/// Which rule reaches what: Amazon S3, "Examples of S3 Lifecycle configurations"; Cloud Storage, "Object Lifecycle Management";
/// Azure, "Lifecycle management policy definition". Of several the one that deletes first acts. A filter by size, by class or by
/// the end of a name may let any object through.
pub(super) fn conflicts(
    lifecycle: &Lifecycle,
    ours: &BTreeSet<String>,
    prefix: &str,
    wanted: Retention,
) -> Vec<Conflict> {
    let is_ours = |facts: &Facts| facts.id.as_ref().is_some_and(|id| ours.contains(id));
    let is_sooner = |expiry: &Expiry| match (expiry, wanted) {
        (Expiry::Days(days), Retention::Days(wanted)) => *days < wanted.get(),
        (Expiry::Days(_), Retention::Forever)
        | (Expiry::Date(_) | Expiry::Before(_) | Expiry::Unknown, _) => true,
    };
    let rules = lifecycle.rules().enumerate();
    rules
        .filter(|(_, facts)| !is_ours(facts))
        .filter_map(|(index, facts)| {
            let reached = facts.reaches(prefix)?;
            let expiry = facts.expiry.clone().filter(is_sooner)?;
            let id = facts.id.clone().filter(|id| !id.is_empty());
            Some(Conflict {
                rule: id.unwrap_or_else(|| format!("number {} (it has no id)", index + 1)),
                prefix: reached.to_owned(),
                expiry,
            })
        })
        .collect()
}
