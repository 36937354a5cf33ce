//! What is told of sinks until an administrator has seen it, whoever leads: what the statuses said when an instance began, and what it
//! was told since. Does not know what that is.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

use k8s_openapi::jiff::Timestamp;

use super::Route;
use crate::acknowledgement::Acknowledged;

/// What was told of a sink.
pub(super) trait Told {
    /// When the last of it was.
    fn last(&self) -> Timestamp;
}

/// By sink.
#[derive(Clone, Debug)]
pub(super) struct Remembered<T> {
    /// Policies whose statuses have been read, by UID.
    opened: BTreeSet<String>,
    entries: BTreeMap<Route, T>,
}

impl<T> Default for Remembered<T> {
    fn default() -> Self {
        Self {
            opened: BTreeSet::new(),
            entries: BTreeMap::new(),
        }
    }
}

impl<T: Told> Remembered<T> {
    /// Reads what the status of a policy tells of its sinks, once.
    pub(super) fn open<'a>(&mut self, policy: &str, told: impl IntoIterator<Item = (&'a str, T)>) {
        if !self.opened.insert(policy.to_owned()) {
            return;
        }
        for (sink, told) in told {
            let route = Route {
                policy: policy.to_owned(),
                sink: sink.to_owned(),
            };
            self.entries.insert(route, told);
        }
    }

    /// Forgets policies that are gone, and sinks.
    pub(super) fn retain(
        &mut self,
        is_policy: impl Fn(&str) -> bool,
        is_sink: impl Fn(&Route) -> bool,
    ) {
        self.opened.retain(|policy| is_policy(policy));
        self.entries.retain(|route, _| is_sink(route));
    }

    /// An administrator has seen what was told until then.
    pub(super) fn acknowledge(&mut self, policy: &str, acknowledged: &Acknowledged) {
        if *acknowledged == Acknowledged::default() {
            return;
        }
        // Those of this policy alone: there are thousands, and an annotation stays.
        let seen: Vec<Route> = self
            .of_policy(policy)
            .filter(|(route, told)| {
                let until = acknowledged.until(&route.sink);
                until.is_some_and(|until| told.last() <= until)
            })
            .map(|(route, _)| route.clone())
            .collect();
        for route in seen {
            self.entries.remove(&route);
        }
    }

    /// The sinks of a policy of which something is told.
    pub(super) fn sinks<'a>(&'a self, policy: &'a str) -> impl Iterator<Item = &'a str> {
        self.of_policy(policy).map(|(route, _)| route.sink.as_str())
    }

    fn of_policy<'a>(&'a self, policy: &'a str) -> impl Iterator<Item = (&'a Route, &'a T)> {
        let first = Route {
            policy: policy.to_owned(),
            sink: String::new(),
        };
        let routes = self.entries.range(first..);
        routes.take_while(move |(route, _)| route.policy == policy)
    }

    /// What is told of a sink.
    pub(super) fn of(&self, route: &Route) -> Option<&T> {
        self.entries.get(route)
    }

    /// Where that is to be entered.
    pub(super) fn entry(&mut self, route: &Route) -> Entry<'_, Route, T> {
        self.entries.entry(route.clone())
    }
}
