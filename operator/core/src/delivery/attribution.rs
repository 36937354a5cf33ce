//! For which policies it counts what a pod says: for those that the watches know to take it. A pod knows the UIDs of all policies of its
//! namespace's bundle, and may claim what it likes of them.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use katonic_log_config::report::Report;
use katonic_logging_crds::Plane;

use super::{Asked, Fleet, PlanePods, Seen};

/// Of which policies and sinks pods may tell: nothing else of a report is kept.
#[derive(Clone, Debug, Default)]
pub(super) struct Expected(HashMap<String, Option<BTreeSet<String>>>);

impl Expected {
    /// Of these; the sinks of one that cannot be read are those that it had before.
    fn of(policies: &[Asked<'_>], mut before: Self) -> Self {
        let policy = |policy: &Asked<'_>| {
            let sinks = policy.sinks.as_ref();
            let sinks = sinks.map(|sinks| sinks.iter().map(|&sink| sink.to_owned()).collect());
            let sinks = sinks.or_else(|| before.0.remove(policy.uid).flatten());
            (policy.uid.to_owned(), sinks)
        };
        Self(policies.iter().map(policy).collect())
    }

    /// Leaves out what a report tells of others.
    pub(super) fn restrict(&self, report: &mut Report) {
        report.policies.retain_mut(|policy| {
            let known = self.0.get(&policy.uid);
            if let Some(Some(sinks)) = known {
                policy.sinks.retain(|sink| sinks.contains(&sink.name));
            }
            known.is_some()
        });
    }
}

impl Fleet {
    /// What reports may tell of from now on; none where not all policies are known. Agents must not know of a policy before.
    pub fn expect(&mut self, policies: Option<&[Asked<'_>]>) {
        let before = self.expected.take().unwrap_or_default();
        self.expected = policies.map(|policies| Expected::of(policies, before));
    }

    /// Finds the policies that take each pod that has said something new, or has been changed.
    pub(super) fn attribute(&mut self, planes: &BTreeMap<Plane, PlanePods<'_>>) {
        let planes: HashMap<&str, &PlanePods<'_>> = planes
            .values()
            .map(|plane| (plane.namespace, plane))
            .collect();
        for seen in self.seen.values_mut() {
            if let Some(plane) = planes.get(seen.pod.namespace.as_str()) {
                seen.attribute(plane);
            }
        }
    }

    /// Adds to the sums what pods have told of the policies that take them.
    pub(super) fn count(&mut self) {
        for seen in self.seen.values_mut() {
            let taken_by = &seen.taken_by;
            let totals = &mut self.totals;
            seen.uncounted.retain(|route, growth| {
                let is_taken = taken_by.contains(route.policy.as_str());
                if is_taken {
                    totals.entry(route.clone()).or_default().add(*growth);
                }
                !is_taken
            });
        }
    }
}

impl Seen {
    fn attribute(&mut self, plane: &PlanePods<'_>) {
        let current = plane.index.pod(&self.pod.name);
        if let Some(current) = current.filter(|current| current.uid == self.pod.uid) {
            let known = self.facts.as_ref();
            if known.is_none_or(|known| !Arc::ptr_eq(known, current)) {
                self.facts = Some(current.clone());
                self.is_attributed = false;
            }
        }
        let Some(facts) = self.facts.as_ref().filter(|_| !self.is_attributed) else {
            return;
        };
        for policy in &self.report.policies {
            if !self.taken_by.contains(policy.uid.as_str())
                && let Some(uid) = plane.index.taker(&policy.uid, facts)
            {
                // It stays one that has taken the pod, whatever becomes of either.
                self.taken_by.insert(uid);
            }
        }
        self.is_attributed = true;
    }
}
