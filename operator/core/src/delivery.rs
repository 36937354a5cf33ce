//! What agents report of their deliveries, and what it comes to for each policy.
//!
//! ```text
//!  reports ── take ─▶ Fleet ─┐
//!  pods, revisions, statuses ┴─ survey ─▶ Survey { policy ─▶ Delivery } ─▶ status, metrics
//! ```
//!
//! The fleet is what this instance was told since it leads; a new one knows nothing and says so until it does. What a pod says counts
//! for the policies that take it and for no others, whatever it claims.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use katonic_log_config::report::{AuditReport, PolicyReport, Report, SinkReport};

use crate::{coverage, reporting::interval};

mod attribution;
mod ended;
mod losses;
mod remembered;
mod statement;
mod survey;
mod unidentified;

use attribution::Expected;
use ended::Ended;
use losses::Ledger;
pub use losses::{Losses, PodLosses, Unreported};
use remembered::Remembered;
pub use statement::fit;
pub use survey::{Asked, Delivery, Events, Failing, PlanePods, Refusing, SinkDelivery, Survey};
use unidentified::Register;
pub use unidentified::Unidentified;

/// A pod, as its token says.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Pod {
    /// Its UID.
    pub uid: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// What a pod's agent said last.
#[derive(Clone, Debug)]
struct Seen {
    pod: Pod,
    at: Timestamp,
    /// In how long it was told to report again.
    again_in: SignedDuration,
    report: Report,
    /// The pod, as it was seen last; none: no watch has told of it yet.
    facts: Option<Arc<coverage::Pod>>,
    /// Policies that were seen to take the pod: what it says of others does not count.
    taken_by: BTreeSet<Arc<str>>,
    /// Whether it has been looked for these since the report came and the pod was changed.
    is_attributed: bool,
    /// What it has told of records and is in no sum yet.
    uncounted: BTreeMap<Route, Totals>,
    /// Losses and rejections of it that are in the ledger.
    entered: BTreeMap<Route, (u64, u64)>,
    /// Sinks that archive its logs without the id of an execution, as the register has it.
    registered: BTreeSet<Route>,
}

/// A sink of a policy.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Route {
    /// UID of the policy.
    pub policy: String,
    /// Name of the sink.
    pub sink: String,
}

/// What became of records, as this instance has been told: sums that only grow.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Totals {
    /// Acknowledged.
    pub delivered: u64,
    /// Refused by the sink for their content.
    pub rejected: u64,
    /// Left out by the policy.
    pub dropped: u64,
    /// Given up.
    pub lost: u64,
    /// Taken by the fallback instead.
    pub fallback: u64,
}

impl Totals {
    fn of(sink: &SinkReport) -> Self {
        Self {
            delivered: sink.delivered,
            rejected: sink.rejected,
            dropped: sink.dropped,
            lost: sink.lost,
            fallback: sink.fallback,
        }
    }

    /// Adds what has come since `before`; a count that is smaller than before has begun anew.
    fn add_since(&mut self, now: Self, before: Self) {
        // Whoever claims impossible counts must not bring the sums down.
        let add = |sum: &mut u64, now, before| *sum = sum.saturating_add(grown(now, before));
        add(&mut self.delivered, now.delivered, before.delivered);
        add(&mut self.rejected, now.rejected, before.rejected);
        add(&mut self.dropped, now.dropped, before.dropped);
        add(&mut self.lost, now.lost, before.lost);
        add(&mut self.fallback, now.fallback, before.fallback);
    }

    fn add(&mut self, more: Self) {
        self.add_since(more, Self::default());
    }
}

/// By how much a count has grown; one that is smaller than before has begun anew.
fn grown(now: u64, before: u64) -> u64 {
    now.checked_sub(before).unwrap_or(now)
}

/// Every agent that has reported.
#[derive(Clone, Debug, Default)]
pub struct Fleet {
    seen: HashMap<String, Seen>,
    ended: Ended,
    /// Of which policies and sinks pods may tell; none: that is not known.
    expected: Option<Expected>,
    totals: BTreeMap<Route, Totals>,
    ledger: Ledger,
    register: Register,
    /// When each sink was last seen to fail.
    failed: BTreeMap<Route, Timestamp>,
    /// The sinks of each policy that are behind.
    behind: BTreeMap<String, BTreeSet<String>>,
    /// Policies whose statuses have been asked for that.
    recalled: BTreeSet<String>,
    /// When this instance was first asked what it knows.
    began: Option<Timestamp>,
}

impl Fleet {
    /// Takes what an agent says; whether a status may tell something else because of it. `facts`: the pod, as a watch has it.
    pub fn take(
        &mut self,
        pod: Pod,
        facts: Option<Arc<coverage::Pod>>,
        mut report: Report,
        now: Timestamp,
    ) -> bool {
        if self.ended.has(&pod.uid) {
            // Everything that it had to say is counted.
            return false;
        }
        if let Some(expected) = &self.expected {
            expected.restrict(&mut report);
        }
        // In this order each is found by [`policy_of`].
        report
            .policies
            .sort_by(|one, other| one.uid.cmp(&other.uid));
        let before = self.seen.remove(&pod.uid);
        let is_news = report.last
            || before.as_ref().is_none_or(|before| {
                has_newer_event((&before.report, before.at), (&report, now))
                    || is_news(&before.report, &report)
            });
        let growth = self.growth(before.as_ref(), &report, now);
        let mut seen = before.unwrap_or_else(|| Seen {
            pod,
            at: now,
            again_in: SignedDuration::ZERO,
            report: Report::default(),
            facts: None,
            taken_by: BTreeSet::new(),
            is_attributed: false,
            uncounted: BTreeMap::new(),
            entered: BTreeMap::new(),
            registered: BTreeSet::new(),
        });
        for (route, more) in growth {
            seen.uncounted.entry(route).or_default().add(more);
        }
        seen.at = now;
        // Of what it tells no longer nothing is kept: a pod may tell of others each time.
        let told: BTreeSet<Route> = sinks(&report).map(|(route, _)| route).collect();
        seen.uncounted.retain(|route, _| told.contains(route));
        seen.report = report;
        seen.is_attributed = false;
        let facts = facts.filter(|facts| facts.uid == seen.pod.uid);
        seen.facts = facts.or(seen.facts);
        let uid = seen.pod.uid.clone();
        self.seen.insert(uid.clone(), seen);
        // By how many there are with it, as its answer says.
        let again_in = self.interval();
        if let Some(seen) = self.seen.get_mut(&uid) {
            seen.again_in = again_in;
        }
        is_news
    }

    /// By how much the counts of each sink have grown since the report before.
    fn growth(
        &self,
        before: Option<&Seen>,
        report: &Report,
        now: Timestamp,
    ) -> Vec<(Route, Totals)> {
        // What an agent has done before there was anybody to tell is no news, but its first words are.
        let began = self.began.unwrap_or(now);
        let listened = now.duration_since(began).as_secs();
        let is_old = i64::try_from(report.uptime).unwrap_or(i64::MAX) > listened;
        let grown = sinks(report).filter_map(|(route, sink)| {
            let counted = before.and_then(|before| {
                let policy = policy_of(&before.report, &route.policy)?;
                let mut sinks = policy.sinks.iter();
                sinks.find(|sink| sink.name == route.sink).map(Totals::of)
            });
            let now = Totals::of(sink);
            let counted = counted.unwrap_or_else(|| {
                if before.is_none() && is_old {
                    now
                } else {
                    Totals::default()
                }
            });
            let mut growth = Totals::default();
            growth.add_since(now, counted);
            (growth != Totals::default()).then_some((route, growth))
        });
        grown.collect()
    }

    /// What the agent of a pod said last.
    pub fn latest(&self, uid: &str) -> Option<&Report> {
        self.seen.get(uid).map(|seen| &seen.report)
    }

    /// How many agents have reported.
    pub fn len(&self) -> usize {
        self.seen.len()
    }

    /// Whether none has.
    pub fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }

    /// How often an agent reports when nothing changes.
    fn interval(&self) -> SignedDuration {
        SignedDuration::from_secs(interval(self.len()).into())
    }

    /// What became of the records of each sink.
    pub fn totals(&self) -> &BTreeMap<Route, Totals> {
        &self.totals
    }
}

/// What a report that was taken says of a policy: two thousand of them may look for themselves in ten thousand reports.
fn policy_of<'r>(report: &'r Report, uid: &str) -> Option<&'r PolicyReport> {
    let policies = &report.policies;
    let found = policies.binary_search_by(|policy| policy.uid.as_str().cmp(uid));
    found.ok().map(|index| &policies[index])
}

/// Every sink of a report.
fn sinks(report: &Report) -> impl Iterator<Item = (Route, &SinkReport)> {
    report.policies.iter().flat_map(|policy| {
        policy.sinks.iter().map(|sink| {
            let route = Route {
                policy: policy.uid.clone(),
                sink: sink.name.clone(),
            };
            (route, sink)
        })
    })
}

/// When the newest audit event was written that a sink has, as a report of this time says.
fn last_event(sink: &SinkReport, at: Timestamp) -> Option<Timestamp> {
    let age = sink.audit.as_ref()?.last_event?;
    Some(survey::seconds_before(at, age))
}

/// Whether there has been an audit event between two reports.
fn has_newer_event(before: (&Report, Timestamp), after: (&Report, Timestamp)) -> bool {
    let newest = |(report, at): (&Report, Timestamp)| {
        let events = sinks(report).filter_map(|(_, sink)| last_event(sink, at));
        events.max()
    };
    match (newest(before), newest(after)) {
        // Ages are in whole seconds.
        (Some(before), Some(after)) => after.duration_since(before) > SignedDuration::from_secs(2),
        (before, after) => before.is_none() && after.is_some(),
    }
}

/// Whether a status may tell of one report what it does not tell of the one before.
fn is_news(before: &Report, after: &Report) -> bool {
    let without_figures = |report: &Report| {
        let mut report = Report {
            uptime: 0,
            ..report.clone()
        };
        for sink in report
            .policies
            .iter_mut()
            .flat_map(|policy| &mut policy.sinks)
        {
            *sink = SinkReport {
                name: std::mem::take(&mut sink.name),
                state: sink.state,
                message: sink.message.take(),
                rejected: sink.rejected,
                lost: sink.lost,
                lag: survey::steps(sink.lag),
                unidentified: sink.unidentified,
                // Of when the last event was it is asked with the time of the report.
                audit: sink.audit.take().map(|audit| AuditReport {
                    last_event: audit.last_event.map(|_| 0),
                    ..audit
                }),
                ..SinkReport::default()
            };
        }
        report
    };
    without_figures(before) != without_figures(after)
}

#[cfg(test)]
mod tests;
