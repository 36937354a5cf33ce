//! Retention: how long logs are kept in stores, and what has to be done so that they are. Asks and writes nothing.
//!
//! ```text
//!  policies ── gather ─▶ Custody of each bucket ─┐
//!  the bucket as it is: Seen ────────────────────┴─ decide ─▶ Decision { change of its rules, Standing }
//! ```
//!
//! A place is what the keys of one kind of logs begin with; all policies that archive there share it, and the longest of
//! their retentions holds. Lifecycle rules of ours are told by their ids; every other rule is somebody else's. What a vendor's
//! rules look like is known to `lifecycle` alone.

mod conflict;
mod custody;
mod decision;
pub mod lifecycle;
#[cfg(test)]
mod tests;
mod trouble;
pub mod xml;

use std::{fmt, num::NonZeroU32, str::FromStr};

use katonic_logging_crds::Logs;

pub use conflict::Conflict;
pub use custody::{
    Access, BucketId, Claim, Custodies, Custody, Identity, Kind, Place, Subject, gather,
};
pub(crate) use custody::{place_of, prefixes, root};
pub use decision::{
    BucketLock, Decision, Limits, PlaceStanding, Seen, Standing, Unacknowledged, Versioning,
    decide, questions,
};
pub use trouble::{Action, Refusal, Trouble};

/// What came of looking after a bucket.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// How it stands.
    Known(Standing),
    /// Why nothing can be said of it, or nothing done.
    Trouble(Trouble),
}

/// How long logs are kept. Ordered: what is greater is kept longer.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Retention {
    /// So many days after they were stored.
    Days(NonZeroU32),
    /// Nothing deletes them.
    Forever,
}

const DAY_30: NonZeroU32 = NonZeroU32::new(30).unwrap();

/// Most digits of a number of days.
const DIGITS: usize = 5;

impl Retention {
    /// That of a policy which says nothing of it.
    pub fn of_kind(logs: Logs) -> Self {
        match logs {
            Logs::Application => Self::Days(DAY_30),
            Logs::Execution => Self::Forever,
        }
    }

    /// For sentences: `for 30 days`, `for ever`.
    pub fn in_words(self) -> String {
        match self {
            Self::Days(days) if days.get() == 1 => "for 1 day".to_owned(),
            Self::Days(days) => format!("for {days} days"),
            Self::Forever => "for ever".to_owned(),
        }
    }
}

impl fmt::Display for Retention {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Days(days) => write!(formatter, "{days}d"),
            Self::Forever => formatter.write_str("Forever"),
        }
    }
}

/// A text that is no retention.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "`{0}` is not a time for which logs can be kept: write a number of days, for example 30d, or Forever"
)]
pub struct InvalidRetention(String);

impl FromStr for Retention {
    type Err = InvalidRetention;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "Forever" {
            return Ok(Self::Forever);
        }
        let days = text.strip_suffix('d').filter(|digits| {
            digits.len() <= DIGITS
                && !digits.starts_with('0')
                && digits.bytes().all(|byte| byte.is_ascii_digit())
        });
        let days = days.and_then(|digits| digits.parse().ok());
        days.map(Self::Days)
            .ok_or_else(|| InvalidRetention(text.to_owned()))
    }
}
