//! What a status says of the events themselves: when the last one was written, and whether there has been any.

use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::Condition,
    jiff::{SignedDuration, Timestamp},
};
use katonic_logging_crds::AuditPolicyStatus;

use super::Candidate;
use crate::{
    condition::{Answer, Reason, State, Type},
    delivery::Delivery,
    names,
};

/// How long a policy may be without any event before that is told.
const WHILE: SignedDuration = SignedDuration::from_mins(15);

/// A later event is told when it is so much later: a busy platform must not be a write of the status for each report.
const STEP: SignedDuration = SignedDuration::from_mins(5);

/// When the last event was written, as the status is to tell it.
pub(super) fn last(candidate: &Candidate, delivery: Option<&Delivery>) -> Option<Timestamp> {
    let told = candidate
        .status
        .as_ref()
        .and_then(|status| status.last_event_time.as_ref())
        .map(|time| time.0);
    let seen = delivery.and_then(|delivery| delivery.events.last);
    let seen = seen.and_then(|seen| Timestamp::from_second(seen.as_second()).ok());
    match (told, seen) {
        (Some(told), Some(seen)) if seen.duration_since(told) < STEP => Some(told),
        (told, seen) => seen.or(told),
    }
}

/// Whether there has been any event.
pub(super) fn seen(candidate: &Candidate, delivery: &Delivery, now: Timestamp) -> Answer {
    let type_ = Type::EventsSeen;
    let events = &delivery.events;
    let has_been = last(candidate, Some(delivery)).is_some();
    if events.faulty > 0 {
        let fault = events.fault.as_deref().unwrap_or_default();
        let message = format!(
            "Rejected {}: {fault}; these lines are meant as audit events and are not as docs/audit-events.md has them: they are sent as they are, marked with audit_fault; correct the event tracker",
            events.faulty
        );
        return if has_been {
            Answer::yes(type_, Reason::EventsFaulty, message)
        } else {
            Answer::no(type_, Reason::EventsFaulty, message)
        };
    }
    if has_been {
        return Answer::yes(
            type_,
            Reason::EventsSeen,
            "the event tracker writes audit events",
        );
    }
    if delivery.agents > 0 && events.agents == 0 {
        return Answer::unknown(
            type_,
            Reason::AgentsUnknown,
            "no agent has told yet whether there are audit events: one that is older than the operator does not, until its pod is restarted",
        );
    }
    let status = candidate.status.as_ref();
    let before = status.and_then(condition);
    let is_long = before.is_some_and(|before| {
        before.status == State::False.as_str()
            || before.reason == Reason::NoEventsYet.as_str()
                && now.duration_since(before.last_transition_time.0) >= WHILE
    });
    if is_long {
        return Answer::no(
            type_,
            Reason::NoEventsSeen,
            format!(
                "the event tracker has written no audit event yet; if there should have been some: it has to look at ConfigMap {} as docs/audit-events.md says, and spec.source.components to name what writes them",
                names::EVENT_TRACKER
            ),
        );
    }
    Answer::unknown(
        type_,
        Reason::NoEventsYet,
        "no audit event has been seen yet",
    )
}

/// When it is to be looked again whether there has been any event.
pub fn due(status: &AuditPolicyStatus, now: Timestamp) -> Option<Timestamp> {
    let waits = condition(status).filter(|seen| seen.reason == Reason::NoEventsYet.as_str())?;
    let due = waits.last_transition_time.0.saturating_add(WHILE).ok()?;
    (due > now).then_some(due)
}

fn condition(status: &AuditPolicyStatus) -> Option<&Condition> {
    let mut conditions = status.conditions.iter();
    conditions.find(|condition| condition.type_ == Type::EventsSeen.as_str())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};

    use super::*;
    use crate::delivery::Events;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_796_029_964 + seconds).unwrap()
    }

    fn delivery(events: Events) -> Delivery {
        Delivery {
            agents: 1,
            events,
            ..Delivery::default()
        }
    }

    fn events(last: Option<i64>) -> Events {
        Events {
            agents: 1,
            last: last.map(at),
            ..Events::default()
        }
    }

    /// A policy whose status says this.
    fn told(answer: Option<(Answer, i64)>, last: Option<i64>) -> Candidate {
        let condition = answer.map(|(answer, seconds)| answer.condition(&[], 1, at(seconds)));
        Candidate {
            status: Some(AuditPolicyStatus {
                conditions: condition.into_iter().collect(),
                last_event_time: last.map(|last| Time(at(last))),
                ..AuditPolicyStatus::default()
            }),
            ..Candidate::unreadable(&ObjectMeta::default(), String::new())
        }
    }

    #[test]
    fn after_a_while_without_any_event_it_is_told() {
        let none = delivery(events(None));
        let first = seen(&told(None, None), &none, at(0));
        assert_eq!(
            (first.state, first.reason),
            (State::Unknown, Reason::NoEventsYet)
        );
        let waiting = told(Some((first, 0)), None);
        let status = waiting.status.as_ref().unwrap();
        assert_eq!(due(status, at(1)), Some(at(900)));
        assert_eq!(due(status, at(900)), None);
        assert_eq!(seen(&waiting, &none, at(899)).reason, Reason::NoEventsYet);
        let long = seen(&waiting, &none, at(900));
        assert_eq!(
            (long.state, long.reason),
            (State::False, Reason::NoEventsSeen)
        );
        let long = told(Some((long, 900)), None);
        assert_eq!(seen(&long, &none, at(901)).reason, Reason::NoEventsSeen);
        assert_eq!(due(long.status.as_ref().unwrap(), at(901)), None);
        let some = delivery(events(Some(902)));
        let some = seen(&long, &some, at(903));
        assert_eq!((some.state, some.reason), (State::True, Reason::EventsSeen));
    }

    #[test]
    fn agents_that_tell_nothing_are_no_sign_that_there_is_nothing() {
        let older = delivery(Events::default());
        let waiting = seen(&told(None, None), &delivery(events(None)), at(0));
        let waiting = told(Some((waiting, 0)), None);
        let unknown = seen(&waiting, &older, at(10_000));
        assert_eq!(
            (unknown.state, unknown.reason),
            (State::Unknown, Reason::AgentsUnknown)
        );
    }

    #[test]
    fn the_last_event_is_told_in_steps_and_is_not_forgotten() {
        let last_of = |told_last, seen_last| {
            let delivery = delivery(events(seen_last));
            last(&told(None, told_last), Some(&delivery))
        };
        assert_eq!(last_of(None, Some(5)), Some(at(5)));
        assert_eq!(last_of(Some(5), Some(304)), Some(at(5)));
        assert_eq!(last_of(Some(5), Some(305)), Some(at(305)));
        assert_eq!(last_of(Some(5), None), Some(at(5)), "its pod is gone");
        assert_eq!(last_of(Some(500), Some(5)), Some(at(500)));
        assert_eq!(last(&told(None, None), None), None);
    }

    #[test]
    fn lines_that_are_no_events_are_counted_with_the_reason() {
        let faulty = |last| {
            delivery(Events {
                faulty: 3,
                fault: Some("missing actor".to_owned()),
                ..events(last)
            })
        };
        let answer = seen(&told(None, None), &faulty(Some(1)), at(2));
        assert_eq!(
            (answer.state, answer.reason),
            (State::True, Reason::EventsFaulty)
        );
        assert!(answer.message.starts_with("Rejected 3: missing actor; "));
        let answer = seen(&told(None, None), &faulty(None), at(2));
        assert_eq!(answer.state, State::False);
    }
}
