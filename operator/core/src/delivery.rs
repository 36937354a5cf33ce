//! Deliveries as agents report them: the last report of each pod.

use std::collections::BTreeMap;

use k8s_openapi::jiff::Timestamp;
use katonic_log_config::Report;

/// A pod that reports.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Pod {
    /// Its UID.
    pub uid: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// What every pod has reported last.
#[derive(Debug, Default)]
pub struct Fleet {
    reports: BTreeMap<String, Report>,
}

impl Fleet {
    /// Takes a report, which replaces the one before; whether something has changed that a status may tell.
    pub fn take(&mut self, pod: Pod, report: Report, _now: Timestamp) -> bool {
        let before = self.reports.insert(pod.uid, report);
        before.is_none_or(|before| before.policies.is_empty())
    }

    /// How many pods report.
    pub fn len(&self) -> usize {
        self.reports.len()
    }

    /// Whether none does.
    pub fn is_empty(&self) -> bool {
        self.reports.is_empty()
    }

    /// What a pod has reported last.
    pub fn latest(&self, uid: &str) -> Option<&Report> {
        self.reports.get(uid)
    }
}
