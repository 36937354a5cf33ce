//! Pods whose execution nobody knows, so that their logs are archived where no one looks for them: remembered until an
//! administrator has seen it, whoever leads and whatever became of the pods.

use std::collections::BTreeSet;

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use katonic_logging_crds::{PodName, UnidentifiedPods};

use super::{Pod, Remembered, Route, remembered};

/// So many pods are named; of more it is only told how many there are.
const NAMED: usize = 10;

/// Pods whose logs one sink archives without the id of an execution.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Unidentified {
    /// The first pods: namespace and name.
    pub pods: BTreeSet<(String, String)>,
    /// How many more there are.
    pub more_pods: u64,
    /// When the operator was last told of any, in whole seconds.
    pub last: Timestamp,
}

impl Unidentified {
    /// How many pods.
    pub fn count(&self) -> u64 {
        self.more_pods.saturating_add(self.pods.len() as u64)
    }

    /// As a status tells them.
    pub fn status(&self) -> UnidentifiedPods {
        let pods = self.pods.iter().map(|(namespace, name)| PodName {
            namespace: namespace.clone(),
            name: name.clone(),
        });
        UnidentifiedPods {
            count: i64::try_from(self.count()).unwrap_or(i64::MAX),
            last: Time(self.last),
            pods: pods.collect(),
        }
    }

    /// As a status has told them.
    pub(super) fn read(status: &UnidentifiedPods) -> Self {
        let pods = status.pods.iter().take(NAMED);
        let pods: BTreeSet<_> = pods
            .map(|pod| (pod.namespace.clone(), pod.name.clone()))
            .collect();
        let count = u64::try_from(status.count).unwrap_or_default();
        Self {
            more_pods: count.saturating_sub(pods.len() as u64),
            pods,
            last: status.last.0,
        }
    }
}

/// Such pods of each sink.
pub(super) type Register = Remembered<Unidentified>;

impl remembered::Told for Unidentified {
    fn last(&self) -> Timestamp {
        self.last
    }
}

impl Register {
    /// Enters a pod, of which each instance is told once.
    pub(super) fn enter(&mut self, route: &Route, pod: &Pod, now: Timestamp) {
        let pods = self.entry(route);
        let pods = pods.or_insert_with(|| Unidentified {
            pods: BTreeSet::new(),
            more_pods: 0,
            last: now,
        });
        let name = (pod.namespace.clone(), pod.name.clone());
        if pods.pods.contains(&name) {
            return;
        }
        pods.last = pods.last.max(now);
        if pods.pods.len() < NAMED {
            pods.pods.insert(name);
        } else {
            pods.more_pods = pods.more_pods.saturating_add(1);
        }
    }
}
