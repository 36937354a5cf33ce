//! What sinks have lost and refused: remembered until an administrator has seen it, whoever leads and whatever became of the pods.

use std::collections::BTreeMap;

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use katonic_logging_crds::{PodLosses as PodLossesStatus, SinkLosses};

use super::{Pod, Remembered, Route, grown, remembered};

/// So many pods are named; of more it is only told how many there are.
const NAMED: usize = 10;

/// Records that one sink has not got.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Losses {
    /// Given up.
    pub lost: u64,
    /// Refused for their content.
    pub rejected: u64,
    /// Pods that ended without a last report while something was pending.
    pub unreported: u64,
    /// When the operator was last told of any, in whole seconds.
    pub last: Timestamp,
    /// Why the last one was refused.
    pub rejection: Option<String>,
    /// The first pods.
    pub pods: BTreeMap<(String, String), PodLosses>,
    /// How many more there are.
    pub more_pods: u64,
}

/// Those of one pod.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct PodLosses {
    /// Given up.
    pub lost: u64,
    /// Refused for their content.
    pub rejected: u64,
    /// What is not known of a pod that ended without a last report.
    pub unreported: Option<Unreported>,
}

/// What was pending when a pod was last heard of, and nobody has heard of since.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Unreported {
    /// Bytes of its log files that the sink had not acknowledged.
    pub pending: u64,
    /// When that was, in whole seconds.
    pub heard: Timestamp,
}

impl Losses {
    /// None, as of this time.
    fn none(last: Timestamp) -> Self {
        Self {
            lost: 0,
            rejected: 0,
            unreported: 0,
            last,
            rejection: None,
            pods: BTreeMap::new(),
            more_pods: 0,
        }
    }

    /// As a status tells them.
    pub fn status(&self) -> SinkLosses {
        let count = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let pod = |((namespace, name), pod): (&(String, String), &PodLosses)| PodLossesStatus {
            namespace: namespace.clone(),
            name: name.clone(),
            lost: count(pod.lost),
            rejected: count(pod.rejected),
            pending: pod.unreported.map_or(0, |one| count(one.pending)),
            heard: pod.unreported.map(|one| Time(one.heard)),
        };
        SinkLosses {
            lost: count(self.lost),
            rejected: count(self.rejected),
            unreported: count(self.unreported),
            last: Time(self.last),
            rejection: self.rejection.clone(),
            pods: self.pods.iter().map(pod).collect(),
            more_pods: count(self.more_pods),
        }
    }

    /// As a status has told them.
    pub(crate) fn read(status: &SinkLosses) -> Self {
        let count = |number: i64| u64::try_from(number).unwrap_or_default();
        let pod = |pod: &PodLossesStatus| {
            let losses = PodLosses {
                lost: count(pod.lost),
                rejected: count(pod.rejected),
                unreported: pod.heard.as_ref().map(|heard| Unreported {
                    pending: count(pod.pending),
                    heard: heard.0,
                }),
            };
            ((pod.namespace.clone(), pod.name.clone()), losses)
        };
        Self {
            lost: count(status.lost),
            rejected: count(status.rejected),
            unreported: count(status.unreported),
            last: status.last.0,
            rejection: status.rejection.clone(),
            pods: status.pods.iter().map(pod).collect(),
            more_pods: count(status.more_pods),
        }
    }
}

/// What an agent says of one sink's losses.
pub(super) struct Told<'a> {
    /// Lost and rejected since the pod began.
    pub(super) counts: (u64, u64),
    /// What of it is entered, since this instance leads; none before: then the status may tell of the pod.
    pub(super) known: Option<(u64, u64)>,
    /// The latest that any of it can have happened.
    pub(super) latest: Timestamp,
    /// Until when an administrator has seen what there was.
    pub(super) acknowledged: Option<Timestamp>,
    /// Why the last record was refused.
    pub(super) rejection: Option<&'a str>,
    /// The present, in whole seconds.
    pub(super) now: Timestamp,
}

/// What sinks have not got.
pub(super) type Ledger = Remembered<Losses>;

impl remembered::Told for Losses {
    fn last(&self) -> Timestamp {
        self.last
    }
}

impl Ledger {
    /// Enters what a pod has lost and what was refused of it.
    pub(super) fn enter(&mut self, route: &Route, pod: &Pod, told: &Told<'_>) {
        let name = (pod.namespace.clone(), pod.name.clone());
        let of_status = || {
            let pod = self.of(route)?.pods.get(&name)?;
            Some((pod.lost, pod.rejected)).filter(|counts| *counts != (0, 0))
        };
        let (counts, known) = (told.counts, told.known);
        let is_seen = told.acknowledged.is_some_and(|until| told.latest <= until);
        let before = known.or_else(of_status);
        let (lost_before, rejected_before) =
            before.unwrap_or(if is_seen { counts } else { (0, 0) });
        let (lost, rejected) = (
            grown(counts.0, lost_before),
            grown(counts.1, rejected_before),
        );
        if lost == 0 && rejected == 0 {
            return;
        }
        let entry = self.entry(route);
        let losses = entry.or_insert_with(|| Losses::none(told.now));
        losses.lost = losses.lost.saturating_add(lost);
        losses.rejected = losses.rejected.saturating_add(rejected);
        losses.last = losses.last.max(told.now);
        if rejected > 0 {
            let rejection = told.rejection.map(str::to_owned);
            losses.rejection = rejection.or_else(|| losses.rejection.take());
        }
        if let Some(pod) = losses.pods.get_mut(&name) {
            pod.lost = pod.lost.saturating_add(lost);
            pod.rejected = pod.rejected.saturating_add(rejected);
        } else if losses.pods.len() < NAMED {
            let pod = PodLosses {
                lost,
                rejected,
                unreported: None,
            };
            losses.pods.insert(name, pod);
        } else if known.is_none_or(|known| known == (0, 0)) {
            losses.more_pods += 1;
        }
    }

    /// Enters that a pod has ended and nobody knows what became of what was pending.
    pub(super) fn enter_unreported(
        &mut self,
        route: &Route,
        pod: &Pod,
        unreported: Unreported,
        now: Timestamp,
    ) {
        let entry = self.entry(route);
        let losses = entry.or_insert_with(|| Losses::none(now));
        losses.unreported = losses.unreported.saturating_add(1);
        losses.last = losses.last.max(now);
        let name = (pod.namespace.clone(), pod.name.clone());
        let has_room = losses.pods.len() < NAMED;
        match losses.pods.get_mut(&name) {
            // Another pod of the same name, of a StatefulSet say.
            Some(pod) => pod.unreported = Some(unreported),
            None if has_room => {
                let pod = PodLosses {
                    unreported: Some(unreported),
                    ..PodLosses::default()
                };
                losses.pods.insert(name, pod);
            }
            None => losses.more_pods += 1,
        }
    }
}
