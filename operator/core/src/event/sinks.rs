//! What is told of sinks that fail and that deliver again, whatever else keeps their policy from being ready.

use std::collections::{BTreeMap, BTreeSet};

use katonic_log_config::report::SinkState;
use katonic_logging_crds::SinkStatus;

use super::{Event, cut};
use crate::condition::Reason;

/// Whether a sink that is told to be so fails.
pub(super) fn is_failing(state: &str) -> bool {
    let fine = [SinkState::Unknown, SinkState::Delivering].map(SinkState::as_str);
    Reason::of_failure(state).is_some() && !fine.contains(&state)
}

/// What the change of the sinks of a policy is worth telling. `told`: those of which it was told that they fail.
pub(super) fn events(
    before: &[SinkStatus],
    after: &[SinkStatus],
    told: &mut BTreeSet<String>,
) -> Vec<Event> {
    told.retain(|name| after.iter().any(|sink| sink.name == *name));
    let mut fail = BTreeMap::<&str, Vec<&str>>::new();
    let mut recovered = Vec::new();
    for sink in after {
        let (name, known) = (sink.name.as_str(), state(before, &sink.name));
        let Some(delivery) = &sink.delivery else {
            continue;
        };
        let now = delivery.state.as_str();
        if is_failing(now) {
            told.insert(name.to_owned());
            if known != Some(now) {
                let words = delivery.message.as_deref().unwrap_or(name);
                fail.entry(now).or_default().push(words);
            }
        } else if now == SinkState::Delivering.as_str() {
            let was_told = told.remove(name);
            if was_told || known.is_some_and(is_failing) {
                recovered.push(name);
            }
        }
    }
    let failed = fail.into_iter().map(|(reason, words)| Event {
        warning: true,
        reason: reason.to_owned(),
        note: cut(words.join("; ")),
    });
    let recovered = (!recovered.is_empty()).then(|| Event {
        warning: false,
        reason: "SinkRecovered".to_owned(),
        note: cut(format!(
            "acknowledged again, what had waited included: {}",
            recovered.join(", ")
        )),
    });
    failed.chain(recovered).collect()
}

fn state<'a>(sinks: &'a [SinkStatus], name: &str) -> Option<&'a str> {
    let sink = sinks.iter().find(|sink| sink.name == name)?;
    Some(sink.delivery.as_ref()?.state.as_str())
}

#[cfg(test)]
mod tests {
    use katonic_logging_crds::SinkDelivery;

    use super::*;

    /// Sinks that are told to be so.
    fn sinks(states: &[(&str, &str)]) -> Vec<SinkStatus> {
        let sink = |(name, state): &(&str, &str)| SinkStatus {
            name: (*name).to_owned(),
            kind: "splunk".to_owned(),
            in_force: true,
            reason: "Configured".to_owned(),
            message: None,
            delivery: Some(SinkDelivery {
                state: (*state).to_owned(),
                message: is_failing(state).then(|| format!("sink {name} is not well")),
                first: None,
            }),
            losses: None,
            unidentified: None,
            retention: None,
        };
        states.iter().map(sink).collect()
    }

    fn told(
        open: &mut BTreeSet<String>,
        before: &[(&str, &str)],
        after: &[(&str, &str)],
    ) -> Vec<(String, String)> {
        let events = events(&sinks(before), &sinks(after), open).into_iter();
        events.map(|event| (event.reason, event.note)).collect()
    }

    fn words(reason: &str, note: &str) -> Vec<(String, String)> {
        vec![(reason.to_owned(), note.to_owned())]
    }

    #[test]
    fn a_sink_that_fails_and_delivers_again_is_told_once_each() {
        let open = &mut BTreeSet::new();
        let (good, bad) = ([("a", "Delivering")], [("a", "Unreachable")]);
        assert!(told(open, &[], &good).is_empty());
        let failed = words("Unreachable", "sink a is not well");
        assert_eq!(told(open, &good, &bad), failed);
        assert!(told(open, &bad, &bad).is_empty());
        let recovered = words(
            "SinkRecovered",
            "acknowledged again, what had waited included: a",
        );
        assert_eq!(told(open, &bad, &good), recovered);
        assert!(told(open, &good, &good).is_empty());
        // By another leader too.
        assert_eq!(told(&mut BTreeSet::new(), &bad, &good), recovered);
    }

    #[test]
    fn another_failure_is_told_and_silence_is_no_recovery() {
        let open = &mut BTreeSet::new();
        let (first, second) = ([("a", "Unreachable")], [("a", "AuthenticationFailed")]);
        assert_eq!(told(open, &[], &first).len(), 1);
        let other = words("AuthenticationFailed", "sink a is not well");
        assert_eq!(told(open, &first, &second), other);
        for silent in ["Unknown", "NothingSent"] {
            let silent = [("a", silent)];
            assert!(told(open, &second, &silent).is_empty());
            // It failed before, and delivers now.
            let mut open = open.clone();
            let recovered = told(&mut open, &silent, &[("a", "Delivering")]);
            assert_eq!(recovered[0].0, "SinkRecovered");
        }
        // A sink that is gone recovers no more.
        assert!(told(open, &second, &[("b", "Delivering")]).is_empty());
        assert!(told(open, &[], &[("a", "Delivering")]).is_empty());
    }

    #[test]
    fn sinks_that_fail_together_are_one_event_for_each_reason() {
        let bad = [("a", "Rejected"), ("b", "Backlogged"), ("c", "Rejected")];
        let events = told(&mut BTreeSet::new(), &[], &bad);
        let expected = [
            words("Backlogged", "sink b is not well"),
            words("Rejected", "sink a is not well; sink c is not well"),
        ];
        assert_eq!(events, expected.concat());
    }
}
