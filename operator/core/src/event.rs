//! What is worth an Event: what a person acts on, and that it is over.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::condition::Type;

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

/// What the change from some conditions to the next is worth telling. A policy that becomes ready for the first time is
/// not: its status says so.
pub fn event(previous: &[Condition], next: &[Condition]) -> Option<Event> {
    let ready = |conditions: &[Condition]| {
        let ready = conditions
            .iter()
            .find(|condition| condition.type_ == Type::Ready.as_str())?;
        Some((
            ready.status == "True",
            ready.reason.clone(),
            ready.message.clone(),
        ))
    };
    let (is_ready, reason, note) = ready(next)?;
    let before = ready(previous);
    if before
        .as_ref()
        .is_some_and(|(was_ready, was, _)| *was_ready == is_ready && *was == reason)
    {
        return None;
    }
    let recovered = is_ready && before.is_some_and(|(was_ready, ..)| !was_ready);
    // Pods come and go, an agent that fails is started again between its failures, and all are listed: that is no news for
    // a person.
    let passing = [
        "AgentFailing",
        "AgentsSilent",
        "AgentsUnknown",
        "InjectionPending",
        "PodsUnknown",
        "PodsWithoutAgent",
        "RetentionPending",
        "RollingOut",
    ]
    .contains(&reason.as_str());
    (recovered || (!is_ready && !passing)).then(|| Event {
        warning: !is_ready,
        reason,
        note: cut(note),
    })
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

    #[test]
    fn a_fault_and_its_end_are_told_once() {
        let (good, bad) = (
            conditions("True", "InForce"),
            conditions("False", "SecretMissing"),
        );
        assert_eq!(event(&[], &good), None);
        assert!(event(&[], &bad).unwrap().warning);
        assert!(event(&good, &bad).unwrap().warning);
        assert_eq!(event(&bad, &bad), None);
        assert!(!event(&bad, &good).unwrap().warning);
    }

    #[test]
    fn pods_that_come_and_go_are_no_news() {
        assert_eq!(
            event(
                &conditions("True", "InForce"),
                &conditions("False", "PodsWithoutAgent")
            ),
            None
        );
    }

    #[test]
    fn a_note_fits_into_an_event() {
        assert!(
            event(&[], &conditions("False", "Invalid"))
                .unwrap()
                .note
                .len()
                <= NOTE_LIMIT
        );
    }
}
