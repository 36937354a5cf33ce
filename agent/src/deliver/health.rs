//! What a delivery says of itself: changes of state, and what became of records. Never a line's content.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::{
    process::{audit::Fault, filter::Dropped},
    route::{Declined, Ends, Health, Losses, Route, Trouble},
    tell::{Level, tell},
};

/// Where a sink is, for people.
#[derive(Clone, Debug)]
pub struct Place {
    /// Its address.
    pub address: String,
    /// The proxy on the way.
    pub proxy: Option<String>,
}

/// What was said of a route.
#[derive(Debug, Default)]
pub struct Voice {
    health: Health,
    refusals: u64,
    /// What the sink warned of last.
    warning: Option<String>,
    /// That the sink's certificate is not checked.
    insecure: bool,
    /// Records that the sink has taken and may drop for their age.
    stale: u64,
    /// Records that the policy's filters left out.
    dropped: Dropped,
    /// Records that are meant as audit events and are none.
    faults: BTreeMap<Fault, u64>,
    /// Containers that write more than the policy's rate limit lets pass.
    limited: BTreeSet<String>,
}

impl Voice {
    /// Tells how the route is doing, when that has changed.
    pub fn is(&mut self, route: &Route, place: Option<Place>, health: Health) {
        if self.health == health {
            return;
        }
        self.health = health;
        route.is(&self.health);
        let (level, state, reason) = match &self.health {
            Health::Unknown => return,
            Health::Delivering => (Level::Info, "Delivering", None),
            Health::Failing(word, reason) => (Level::Warn, word.as_str(), Some(reason)),
        };
        let mut details = describe(route);
        details["state"] = state.into();
        if let Some(reason) = reason {
            details["reason"] = reason.as_str().into();
        }
        if let Some(Place { address, proxy }) = place {
            details["address"] = address.into();
            if let Some(proxy) = proxy {
                details["proxy"] = proxy.into();
            }
        }
        tell(level, "sink", details);
    }

    /// The first of a run of refusals and then each time their number has doubled: a sink may refuse very many.
    pub fn refused(&mut self, route: &Route, reason: &str) {
        route.refused(reason);
        self.refusals += 1;
        if self.refusals.is_power_of_two() {
            let mut details = describe(route);
            details["reason"] = reason.into();
            details["rejected"] = route.counts().rejected.into();
            tell(
                Level::Error,
                "the sink refuses records for their content",
                details,
            );
        }
    }

    /// The first and then each time their number has at least doubled.
    pub fn stale(&mut self, route: &Route, records: u64) {
        let before = self.stale;
        self.stale += records;
        if self.stale > 0 && self.stale.ilog2() != before.checked_ilog2().unwrap_or(u32::MAX) {
            let mut details = describe(route);
            details["records"] = self.stale.into();
            tell(
                Level::Warn,
                "the sink has taken records that it may drop, because they are too old",
                details,
            );
        }
    }

    /// Of each kind of filter the first record that it leaves out and then each time their number has at least doubled;
    /// of a rate limit which containers exceed it, and which no longer do.
    pub fn dropped(&mut self, route: &Route, ends: &Ends) {
        let before = self.dropped;
        self.dropped += ends.dropped();
        if before.drop.checked_ilog2() != self.dropped.drop.checked_ilog2()
            || before.keep.checked_ilog2() != self.dropped.keep.checked_ilog2()
            || before.sample.checked_ilog2() != self.dropped.sample.checked_ilog2()
        {
            let mut details = describe(route);
            details["dropped"] = json!(self.dropped);
            tell(
                Level::Info,
                "the policy's filters leave records out",
                details,
            );
        }
        for (container, exceeded) in ends.limited() {
            let (level, message) = if exceeded && self.limited.insert(container.to_owned()) {
                (
                    Level::Warn,
                    "a container writes more than the policy's rate limit; the rest is dropped",
                )
            } else if !exceeded && self.limited.remove(container) {
                (
                    Level::Info,
                    "a container keeps to the policy's rate limit again",
                )
            } else {
                continue;
            };
            let mut details = describe(route);
            details["container"] = container.into();
            details["dropped"] = json!(self.dropped);
            tell(level, message, details);
        }
    }

    /// Of each reason why something that is meant as an audit event is none the first one, and then each time their number has at
    /// least doubled.
    pub fn faulty(&mut self, route: &Route, ends: &Ends) {
        for (fault, records) in ends.faults() {
            let known = self.faults.entry(*fault).or_default();
            let before = *known;
            *known += records;
            if before.checked_ilog2() != known.checked_ilog2() {
                let mut details = describe(route);
                details["reason"] = fault.as_str().into();
                details["records"] = (*known).into();
                tell(
                    Level::Warn,
                    "audit events are not as the contract has them; they are sent as they are, marked",
                    details,
                );
            }
        }
    }

    /// The same warning is told once.
    pub fn warn(&mut self, route: &Route, reason: &str) {
        if self.warning.as_deref() != Some(reason) {
            let mut details = describe(route);
            details["reason"] = reason.into();
            tell(Level::Warn, "the sink warns", details);
            self.warning = Some(reason.to_owned());
        }
    }

    /// Files that were passed over.
    pub fn unreadable(route: &Route, troubles: &[Trouble]) {
        for trouble in troubles {
            trouble.tell(describe(route));
        }
    }

    /// Anybody could read along; told once.
    pub fn insecure(&mut self, route: &Route, address: String) {
        if std::mem::replace(&mut self.insecure, true) {
            return;
        }
        let mut details = describe(route);
        details["address"] = address.into();
        tell(
            Level::Warn,
            "the sink's certificate is not checked, as the policy says: anybody on the way can read and change what is sent",
            details,
        );
    }

    /// Lines that nobody will deliver any more.
    pub fn lost(route: &Route, losses: &Losses) {
        if losses.abandoned > 0 {
            let mut details = describe(route);
            details["lost"] = losses.abandoned.into();
            tell(
                Level::Error,
                "lines were given up with files that were deleted long ago",
                details,
            );
        }
        for gone in &losses.gone {
            gone.tell(describe(route));
        }
    }
}

/// What a policy no longer takes, and its sink has not got.
pub fn tell_declined(route: &Route, declined: &[Declined]) {
    for Declined { container, records } in declined {
        let mut details = describe(route);
        details["container"] = (**container).into();
        details["records"] = (*records).into();
        tell(
            Level::Warn,
            "the policy no longer takes a container of which its sink has not got everything; unless it takes it again, the rest is dropped",
            details,
        );
    }
}

fn describe(route: &Route) -> Value {
    json!({"policy": route.policy_name(), "sink": route.key.sink})
}
