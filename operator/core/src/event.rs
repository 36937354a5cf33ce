//! What is worth an Event: what a person acts on, and that it is over.

use katonic_logging_crds::LoggingPolicyStatus;

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

/// What the change from one status to the next is worth telling. A policy that becomes ready for the first time is
/// not: its status says so.
pub fn event(previous: Option<&LoggingPolicyStatus>, next: &LoggingPolicyStatus) -> Option<Event> {
    let ready = |status: &LoggingPolicyStatus| {
        let ready = status
            .conditions
            .iter()
            .find(|condition| condition.type_ == Type::Ready.as_str())?;
        Some((
            ready.status == "True",
            ready.reason.clone(),
            ready.message.clone(),
        ))
    };
    let (is_ready, reason, note) = ready(next)?;
    let before = previous.and_then(ready);
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
        "InjectionPending",
        "PodsUnknown",
        "PodsWithoutAgent",
        "RetentionPending",
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

    fn status(state: &str, reason: &str) -> LoggingPolicyStatus {
        let ready = Condition {
            type_: "Ready".into(),
            status: state.into(),
            reason: reason.into(),
            message: "ä".repeat(2000),
            observed_generation: None,
            last_transition_time: Time(Timestamp::UNIX_EPOCH),
        };
        LoggingPolicyStatus {
            conditions: vec![ready],
            ..LoggingPolicyStatus::default()
        }
    }

    #[test]
    fn a_fault_and_its_end_are_told_once() {
        let (good, bad) = (status("True", "InForce"), status("False", "SecretMissing"));
        assert_eq!(event(None, &good), None);
        assert!(event(None, &bad).unwrap().warning);
        assert!(event(Some(&good), &bad).unwrap().warning);
        assert_eq!(event(Some(&bad), &bad), None);
        assert!(!event(Some(&bad), &good).unwrap().warning);
    }

    #[test]
    fn pods_that_come_and_go_are_no_news() {
        assert_eq!(
            event(
                Some(&status("True", "InForce")),
                &status("False", "PodsWithoutAgent")
            ),
            None
        );
    }

    #[test]
    fn a_note_fits_into_an_event() {
        assert!(event(None, &status("False", "Invalid")).unwrap().note.len() <= NOTE_LIMIT);
    }
}
