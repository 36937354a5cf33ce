//! What a batch means once the sink has it. Knows no body and no cursor.

use std::{collections::BTreeMap, sync::Arc};

use super::track::End;
use crate::process::{audit::Fault, filter::Dropped, trail::Memory};

/// How far each file is settled, and how many records are delivered, once a batch is acknowledged.
///
/// It outlives the body of its batch, so that a sink may confirm late. Ends are given back in the order in which they
/// were taken, or not at all: then [`Route::rewind`](super::Route::rewind) begins again at the last ones that were.
#[derive(Debug, Default)]
pub struct Ends {
    pub(super) records: u64,
    /// How many of the records are so old that the sink may drop them.
    pub(super) stale: u64,
    /// How many records, at least, could not be read any more.
    pub(super) lost: u64,
    /// What the policy's filters left out.
    pub(super) dropped: Dropped,
    /// How many of the records are meant as audit events and are none, by reason.
    pub(super) faults: BTreeMap<Fault, u64>,
    /// What is remembered of the containers that were read, if anything is.
    pub(super) passed: Vec<(Arc<str>, Memory)>,
    pub(super) places: Vec<End>,
}

impl Ends {
    /// How many records are so old that the sink may drop them though it has taken them.
    pub fn stale(&self) -> u64 {
        self.stale
    }

    /// What the policy's filters left out.
    pub fn dropped(&self) -> Dropped {
        self.dropped
    }

    /// How many of the records are meant as audit events and are none, by reason.
    pub fn faults(&self) -> &BTreeMap<Fault, u64> {
        &self.faults
    }

    /// Which containers have written more than a rate limit lets pass, and which have not.
    pub fn limited(&self) -> impl Iterator<Item = (&str, bool)> {
        self.passed
            .iter()
            .map(|(container, memory)| (&**container, memory.limits.is_exceeded()))
    }

    /// Settles with these what was read after them and needs no answer of its own.
    pub fn then(&mut self, later: Self) {
        self.records += later.records;
        self.stale += later.stale;
        self.lost += later.lost;
        self.dropped += later.dropped;
        for (fault, records) in later.faults {
            *self.faults.entry(fault).or_default() += records;
        }
        for (container, passed) in later.passed {
            match self
                .passed
                .iter_mut()
                .find(|(known, _)| *known == container)
            {
                Some((_, known)) => *known = passed,
                None => self.passed.push((container, passed)),
            }
        }
        for place in later.places {
            match self
                .places
                .iter_mut()
                .find(|known| known.file == place.file)
            {
                Some(known) => *known = place,
                None => self.places.push(place),
            }
        }
    }
}
