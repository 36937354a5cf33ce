//! What is worth an Event: what a person acts on, and that it is over.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use katonic_log_config::report::SinkState;
use katonic_logging_crds::{SinkDelivery, SinkLosses, SinkStatus};

use crate::condition::{Reason, Type};

mod rotation;
mod sinks;

pub use rotation::{Rotated, Rotations};

/// Something to tell about a policy.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Event {
    /// Whether a person has to look.
    pub warning: bool,
    /// One word.
    pub reason: String,
    /// The condition's message.
    pub note: String,
}

/// The longest note that the API takes (events.k8s.io/v1), in bytes.
const NOTE_LIMIT: usize = 1024;

/// What of a status is told by Events.
#[derive(Clone, Copy, Debug, Default)]
pub struct Said<'a> {
    /// The conditions.
    pub conditions: &'a [Condition],
    /// The sinks.
    pub sinks: &'a [SinkStatus],
}

/// What was told to be wrong, and not yet to be over. A new leader knows of it what the statuses say.
#[derive(Clone, Debug, Default)]
pub struct Open {
    policies: BTreeSet<String>,
    sinks: BTreeMap<String, BTreeSet<String>>,
}

impl Open {
    /// Forgets all but these policies.
    pub fn retain(&mut self, uids: &BTreeSet<&str>) {
        self.policies.retain(|uid| uids.contains(uid.as_str()));
        self.sinks.retain(|uid, _| uids.contains(uid.as_str()));
    }
}

/// What the change from one status of the policy with this UID to the next is worth telling: each once, when it begins, and once when
/// it is over, if it was told.
pub fn events(uid: &str, before: Said<'_>, after: Said<'_>, open: &mut Open) -> Vec<Event> {
    let is_open = open.policies.remove(uid);
    let (of_ready, stays_open) = event(before.conditions, after.conditions, is_open);
    if stays_open {
        open.policies.insert(uid.to_owned());
    }
    let lost = Reason::LinesLost.as_str();
    let is_told = of_ready.as_ref().is_some_and(|event| event.reason == lost);
    let failing = open.sinks.entry(uid.to_owned()).or_default();
    let of_states = sinks::events(before.sinks, after.sinks, failing);
    if failing.is_empty() {
        open.sinks.remove(uid);
    }
    let of_sinks = [
        first_delivery(before.sinks, after.sinks),
        lines_lost(before.sinks, after.sinks).filter(|_| !is_told),
        pods_unreported(before.sinks, after.sinks),
    ];
    of_ready
        .into_iter()
        .chain(of_states)
        .chain(of_sinks.into_iter().flatten())
        .collect()
}

/// Names of the sinks of which something holds that did not hold before.
fn sinks_that(
    before: &[SinkStatus],
    after: &[SinkStatus],
    holds: impl Fn(&SinkStatus) -> bool,
) -> Option<String> {
    let held = |name: &str| {
        let known = before.iter().find(|sink| sink.name == name);
        known.is_some_and(&holds)
    };
    let new = after.iter().filter(|sink| holds(sink) && !held(&sink.name));
    let names: Vec<&str> = new.map(|sink| sink.name.as_str()).collect();
    (!names.is_empty()).then(|| names.join(", "))
}

/// The first time that a sink acknowledges anything, in the policy's present form.
fn first_delivery(before: &[SinkStatus], after: &[SinkStatus]) -> Option<Event> {
    let is_known = |delivery: &SinkDelivery| {
        delivery.first.is_some() || delivery.state == SinkState::Delivering.as_str()
    };
    // A status of a version that remembers no first time tells of none.
    let was_told = |name: &str| {
        let known = before.iter().find(|sink| sink.name == name);
        known.is_some_and(|sink| sink.delivery.as_ref().is_some_and(is_known))
    };
    let is_first = |sink: &&SinkStatus| {
        let delivery = sink.delivery.as_ref();
        delivery.is_some_and(|delivery| delivery.first.is_some()) && !was_told(&sink.name)
    };
    let names: Vec<&str> = after
        .iter()
        .filter(is_first)
        .map(|sink| sink.name.as_str())
        .collect();
    (!names.is_empty()).then(|| Event {
        warning: false,
        reason: "FirstDelivery".to_owned(),
        note: cut(format!(
            "acknowledged for the first time since the policy is as it is: {}",
            names.join(", ")
        )),
    })
}

fn lines_lost(before: &[SinkStatus], after: &[SinkStatus]) -> Option<Event> {
    let has =
        |sink: &SinkStatus, of: fn(&SinkLosses) -> i64| sink.losses.as_ref().map_or(0, of) > 0;
    let names = sinks_that(before, after, |sink| has(sink, |losses| losses.lost))?;
    Some(Event {
        warning: true,
        reason: Reason::LinesLost.as_str().to_owned(),
        note: cut(format!(
            "records for {names} are gone for good: the condition Delivering says how many, of which pods, and how to say that you have seen to it"
        )),
    })
}

fn pods_unreported(before: &[SinkStatus], after: &[SinkStatus]) -> Option<Event> {
    let has = |sink: &SinkStatus| {
        sink.losses
            .as_ref()
            .is_some_and(|losses| losses.unreported > 0)
    };
    let names = sinks_that(before, after, has)?;
    Some(Event {
        warning: true,
        reason: "PodsUnreported".to_owned(),
        note: cut(format!(
            "pods ended without a last report while {names} had not acknowledged all of their lines, and nobody knows whether those arrived: the condition Delivering names the pods"
        )),
    })
}

/// What the change from some conditions to the next is worth telling, and whether something was told that is not over. A policy that
/// becomes ready for the first time is not: its status says so. Nor is one that is ready again after something of which nobody was told.
fn event(previous: &[Condition], next: &[Condition], is_open: bool) -> (Option<Event>, bool) {
    let ready = |conditions: &[Condition]| {
        let mut conditions = conditions.iter();
        let ready = conditions.find(|condition| condition.type_ == Type::Ready.as_str())?;
        Some((
            ready.status == "True",
            ready.reason.clone(),
            ready.message.clone(),
        ))
    };
    let Some((is_ready, reason, note)) = ready(next) else {
        return (None, is_open);
    };
    let before = ready(previous);
    let is_same = before
        .as_ref()
        .is_some_and(|(was_ready, was, _)| *was_ready == is_ready && *was == reason);
    if is_same {
        return (None, is_open);
    }
    let was_told = before.is_some_and(|(was_ready, was, _)| !was_ready && is_told(&was));
    let is_news = if is_ready {
        is_open || was_told
    } else {
        is_told(&reason)
    };
    let event = is_news.then(|| Event {
        warning: !is_ready,
        reason,
        note: cut(note),
    });
    let stays_open = !is_ready && (is_open || was_told || event.is_some());
    (event, stays_open)
}

/// Whether it is told that a policy is not ready for this reason.
fn is_told(reason: &str) -> bool {
    // Pods come and go, an agent that fails is started again between its failures, and all are listed: that is no news for
    // a person.
    let is_passing = [
        "AgentFailing",
        "AgentsSilent",
        "AgentsUnknown",
        "InjectionPending",
        "PodsUnknown",
        "PodsWithoutAgent",
        "RetentionPending",
        "RollingOut",
    ]
    .contains(&reason);
    // Of a sink that fails it is told whatever else is wrong.
    !is_passing && !sinks::is_failing(reason)
}

fn cut(mut note: String) -> String {
    if note.len() > NOTE_LIMIT {
        let end = (0..=NOTE_LIMIT - '…'.len_utf8())
            .rev()
            .find(|end| note.is_char_boundary(*end))
            .unwrap_or(0);
        note.truncate(end);
        note.push('…');
    }
    note
}

#[cfg(test)]
mod tests {
    use k8s_openapi::{
        apimachinery::pkg::apis::meta::v1::{Condition, Time},
        jiff::Timestamp,
    };

    use super::*;

    fn conditions(state: &str, reason: &str) -> [Condition; 1] {
        [Condition {
            type_: "Ready".into(),
            status: state.into(),
            reason: reason.into(),
            message: "ä".repeat(2000),
            observed_generation: None,
            last_transition_time: Time(Timestamp::UNIX_EPOCH),
        }]
    }

    /// What the change of one policy's conditions is worth telling: whether a person has to look, and the reason.
    fn told(open: &mut Open, before: &[Condition], after: &[Condition]) -> Option<(bool, String)> {
        let said = |conditions| Said {
            conditions,
            sinks: &[],
        };
        let mut events = events("uid", said(before), said(after), open);
        assert!(events.len() < 2, "{events:?}");
        events.pop().map(|event| (event.warning, event.reason))
    }

    #[test]
    fn a_fault_and_its_end_are_told_once() {
        let (good, bad) = (
            conditions("True", "InForce"),
            conditions("False", "SecretMissing"),
        );
        let open = &mut Open::default();
        let missing = Some((true, "SecretMissing".to_owned()));
        assert_eq!(told(open, &[], &good), None);
        assert_eq!(told(open, &good, &bad), missing);
        assert_eq!(told(open, &bad, &bad), None);
        assert_eq!(told(open, &bad, &good), Some((false, "InForce".to_owned())));
        assert_eq!(told(open, &[], &bad), missing);
        // Another leader knows it from the status.
        let open = &mut Open::default();
        assert_eq!(told(open, &bad, &good), Some((false, "InForce".to_owned())));
    }

    #[test]
    fn nobody_is_told_that_something_is_over_of_which_nobody_was_told() {
        let good = conditions("True", "InForce");
        let open = &mut Open::default();
        for passing in ["AgentsUnknown", "RollingOut", "PodsWithoutAgent"] {
            for status in ["Unknown", "False"] {
                let passing = conditions(status, passing);
                assert_eq!(told(open, &good, &passing), None);
                assert_eq!(told(open, &passing, &good), None);
            }
        }
    }

    #[test]
    fn a_fault_that_was_told_is_over_when_the_policy_is_ready_whatever_there_was_between() {
        let good = conditions("True", "InForce");
        let (bad, passing) = (
            conditions("False", "SecretMissing"),
            conditions("False", "RollingOut"),
        );
        let open = &mut Open::default();
        assert!(told(open, &good, &bad).is_some());
        assert_eq!(told(open, &bad, &passing), None);
        assert_eq!(
            told(open, &passing, &good),
            Some((false, "InForce".to_owned()))
        );
        assert_eq!(told(open, &good, &passing), None);
        assert_eq!(told(open, &passing, &good), None, "once");
        // And a policy that is gone is forgotten.
        assert!(told(open, &good, &bad).is_some());
        open.retain(&["another"].into());
        assert_eq!(told(open, &passing, &good), None);
    }

    fn sink(first: bool, state: &str, lost: i64, unreported: i64) -> [SinkStatus; 1] {
        let time = || Time(Timestamp::UNIX_EPOCH);
        [SinkStatus {
            name: "splunk".into(),
            kind: "splunk".into(),
            in_force: true,
            reason: "Configured".into(),
            message: None,
            delivery: Some(SinkDelivery {
                state: state.into(),
                message: None,
                first: first.then(time),
            }),
            losses: Some(SinkLosses {
                lost,
                rejected: 0,
                unreported,
                last: time(),
                rejection: None,
                pods: Vec::new(),
                more_pods: 0,
            }),
            unidentified: None,
            retention: None,
        }]
    }

    fn reasons(before: &[SinkStatus], after: &[SinkStatus]) -> Vec<String> {
        let said = |sinks| Said {
            sinks,
            conditions: &[],
        };
        let events = events("uid", said(before), said(after), &mut Open::default());
        let events = events.into_iter();
        events.map(|event| event.reason).collect()
    }

    #[test]
    fn the_first_delivery_is_told_once() {
        let (quiet, first) = (
            sink(false, "NothingSent", 0, 0),
            sink(true, "Delivering", 0, 0),
        );
        assert_eq!(reasons(&[], &quiet), [""; 0]);
        assert_eq!(reasons(&quiet, &first), ["FirstDelivery"]);
        assert_eq!(reasons(&[], &first), ["FirstDelivery"]);
        for later in ["Delivering", "NothingSent"] {
            assert_eq!(
                reasons(&sink(true, later, 0, 0), &first),
                [""; 0],
                "{later}"
            );
        }
        assert_eq!(
            reasons(&sink(true, "Unreachable", 0, 0), &first),
            ["SinkRecovered"]
        );
        // As a version wrote it that did not remember.
        assert_eq!(reasons(&sink(false, "Delivering", 0, 0), &first), [""; 0]);
    }

    #[test]
    fn what_is_lost_or_not_known_is_told_when_it_begins_whatever_else_is_wrong() {
        let none = sink(true, "Delivering", 0, 0);
        assert_eq!(
            reasons(&none, &sink(true, "Delivering", 3, 0)),
            ["LinesLost"]
        );
        assert_eq!(
            reasons(&none, &sink(true, "Delivering", 0, 1)),
            ["PodsUnreported"]
        );
        let more = sink(true, "Delivering", 9, 7);
        assert_eq!(reasons(&sink(true, "Delivering", 3, 1), &more), [""; 0]);
        let bad = conditions("False", "LinesLost");
        let said = Said {
            conditions: &bad,
            sinks: &more,
        };
        let told = events("uid", Said::default(), said, &mut Open::default()).into_iter();
        let told: Vec<String> = told.map(|event| event.reason).collect();
        let expected = ["LinesLost", "FirstDelivery", "PodsUnreported"];
        assert_eq!(told, expected, "and not twice");
    }

    #[test]
    fn a_note_fits_into_an_event() {
        assert!(
            event(&[], &conditions("False", "Invalid"), false)
                .0
                .unwrap()
                .note
                .len()
                <= NOTE_LIMIT
        );
    }
}
