//! What is wrong with a stream of audit events.

use std::fmt;

use k8s_openapi::jiff::Timestamp;

use crate::execution::{line::InvalidRecord, summary::Grouped};

/// So many are told one by one; of more the number is.
const TOLD: usize = 100;

/// Most characters of an id that are shown.
const LONGEST: usize = 80;

/// An id as it is shown: whoever has written to a record, or to a copy, must not forge a line of what is said of it.
pub(super) fn shown(id: &str) -> String {
    let tame = |one: char| if one.is_control() { '\u{fffd}' } else { one };
    id.chars().take(LONGEST).map(tame).collect()
}

/// One thing that is wrong.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Finding {
    /// Events are not there.
    Missing {
        /// The numbers of the first and the last of them.
        numbers: (u64, u64),
        /// When the event before them was written, and the one after them.
        between: (Option<Timestamp>, Option<Timestamp>),
    },
    /// What an event says, or its id, is not what its place was made of.
    Changed(Spot),
    /// An event is there that the stream has no place for.
    Inserted(Spot),
    /// An event stands after a later one.
    OutOfOrder(Spot),
    /// A record has no place.
    Unnumbered(Spot),
    /// The numbers begin anew.
    Anew(Spot),
    /// The completeness record speaks of another last event.
    Contradiction {
        /// Its number.
        sequence: u64,
    },
    /// A line of an object is a record and cannot be read as one of audit events.
    Refused {
        /// When it was written.
        time: Timestamp,
        /// Why not.
        reason: InvalidRecord,
    },
    /// A record says that it is from elsewhere than where it stands.
    Elsewhere(Spot),
}

/// A record that something is said of.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Spot {
    /// Its number; 0: it has none.
    pub sequence: u64,
    /// Its id.
    pub id: String,
    /// When its line was written.
    pub time: Timestamp,
}

impl fmt::Display for Spot {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.sequence > 0 {
            write!(formatter, "event {}, ", Grouped(self.sequence))?;
        }
        write!(formatter, "record {} of {}", self.id, self.time)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing {
                numbers: (first, last),
                between,
            } => {
                if first == last {
                    write!(formatter, "event {} is missing", Grouped(*first))?;
                } else {
                    let (first, last) = (Grouped(*first), Grouped(*last));
                    write!(formatter, "events {first} to {last} are missing")?;
                }
                match between {
                    (Some(before), Some(after)) => {
                        write!(formatter, ", between {before} and {after}")
                    }
                    (Some(before), None) => write!(formatter, ", after {before}"),
                    (None, Some(after)) => write!(formatter, ", before {after}"),
                    (None, None) => Ok(()),
                }
            }
            Self::Changed(spot) => write!(formatter, "changed: {spot}"),
            Self::Inserted(spot) => write!(formatter, "inserted: {spot}"),
            Self::OutOfOrder(spot) => write!(formatter, "out of order: {spot}"),
            Self::Unnumbered(spot) => write!(
                formatter,
                "without a place in the chain, from an agent that makes none or inserted: {spot}"
            ),
            Self::Anew(spot) => write!(
                formatter,
                "the numbers begin anew, because the agent had lost its place or by another hand: {spot}"
            ),
            Self::Contradiction { sequence } => write!(
                formatter,
                "event {} is not the one that the completeness record speaks of",
                Grouped(*sequence)
            ),
            Self::Refused { time, reason } => {
                write!(formatter, "unreadable: a record of {time}: {reason}")
            }
            Self::Elsewhere(spot) => write!(
                formatter,
                "changed: it says that another container wrote it, or another run of it: {spot}"
            ),
        }
    }
}

/// Everything that is wrong, as far as it is told one by one, and how much there is of each.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Findings {
    told: Vec<Finding>,
    untold: u64,
    /// Events that are missing.
    pub missing: u64,
    /// Events that were changed.
    pub changed: u64,
    /// Events that were inserted, and records without a place.
    pub inserted: u64,
    /// Events that stand elsewhere.
    pub moved: u64,
    /// How often a stream begins anew, or a record contradicts it.
    pub broken: u64,
    /// Records that cannot be read.
    pub refused: u64,
}

impl Findings {
    /// One more.
    pub fn add(&mut self, finding: Finding) {
        let (count, number) = self.count(&finding);
        // Numbers are what somebody has written.
        *count = count.saturating_add(number);
        if self.told.len() < TOLD {
            self.told.push(finding);
        } else {
            self.untold += 1;
        }
    }

    /// What was taken for one thing was another.
    pub fn replace(&mut self, before: &Finding, after: Finding) {
        let (count, number) = self.count(before);
        *count = count.saturating_sub(number);
        let (count, number) = self.count(&after);
        *count = count.saturating_add(number);
        if let Some(told) = self.told.iter_mut().rfind(|told| *told == before) {
            *told = after;
        }
    }

    /// Those of another stream as well.
    pub fn extend(&mut self, other: Self) {
        let room = TOLD.saturating_sub(self.told.len()).min(other.told.len());
        self.untold += other.untold + (other.told.len() - room) as u64;
        self.told.extend(other.told.into_iter().take(room));
        for (count, more) in [
            (&mut self.missing, other.missing),
            (&mut self.changed, other.changed),
            (&mut self.inserted, other.inserted),
            (&mut self.moved, other.moved),
            (&mut self.broken, other.broken),
            (&mut self.refused, other.refused),
        ] {
            *count = count.saturating_add(more);
        }
    }

    fn count(&mut self, finding: &Finding) -> (&mut u64, u64) {
        match finding {
            Finding::Missing {
                numbers: (first, last),
                ..
            } => (
                &mut self.missing,
                last.saturating_sub(*first).saturating_add(1),
            ),
            Finding::Changed(_) | Finding::Elsewhere(_) => (&mut self.changed, 1),
            Finding::Inserted(_) | Finding::Unnumbered(_) => (&mut self.inserted, 1),
            Finding::OutOfOrder(_) => (&mut self.moved, 1),
            Finding::Anew(_) | Finding::Contradiction { .. } => (&mut self.broken, 1),
            Finding::Refused { .. } => (&mut self.refused, 1),
        }
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.told.is_empty()
    }

    /// What is told one by one.
    pub fn told(&self) -> &[Finding] {
        &self.told
    }

    /// How many more there are.
    pub fn untold(&self) -> u64 {
        self.untold
    }
}
