//! The same with lines that are joined and records that are filtered.

use std::num::{NonZeroU8, NonZeroU32};

use katonic_log_config::{
    Filter, Multiline, MultilineRule, Pattern, Percent, RateLimit, Redact, Replacement, Sample,
};

use super::*;

fn pattern(text: &str) -> Pattern {
    Pattern::try_from(text.to_owned()).unwrap()
}

/// Joins lines, with no limit of time; drops what has an `e`, half of what has an `o`, hides every `a`.
fn policy() -> Policy {
    Policy {
        multiline: Some(Multiline {
            rule: MultilineRule::FirstLine(pattern("^[a-m]")),
            timeout_ms: NonZeroU32::MAX,
            max_bytes: NonZeroU32::MAX,
        }),
        filters: vec![
            Filter::Drop(pattern("e")),
            Filter::Redact(Redact {
                pattern: pattern("a"),
                with: Replacement::Text("A".into()),
            }),
            Filter::Sample(Sample {
                pattern: Some(pattern("o")),
                percent: Percent::try_from(NonZeroU8::new(50).unwrap()).unwrap(),
            }),
        ],
        ..plain()
    }
}

/// Lines as the policy joins and hides them.
fn records(lines: &[String]) -> Vec<String> {
    let mut records: Vec<String> = Vec::new();
    for line in lines {
        match records.last_mut() {
            Some(last) if !line.starts_with(|first| ('a'..='m').contains(&first)) => {
                last.push('\n');
                last.push_str(line);
            }
            _ => records.push(line.clone()),
        }
    }
    records
        .iter()
        .map(|record| record.replace('a', "A"))
        .collect()
}

proptest! {
    /// Each record is the same whatever happens to batches, files and the agent, comes once and in order or is dropped
    /// for good, and all of them are accounted for.
    #[test]
    fn every_record_is_delivered_or_dropped(events in events()) {
        let mut log = Log::new();
        let mut agent = Agent::new(&log, policy());
        agent.do_all(&mut log, events);
        let expected = log.expected().map(|lines| records(&lines));
        let total = expected.iter().map(Vec::len).sum::<usize>() as u64;
        let (unsent, dropped) = agent.unsent();
        let counts = agent.route.counts();
        prop_assert_eq!(counts.delivered + counts.dropped + unsent + dropped, total);
        agent.end();
        let end = agent.route.counts();
        prop_assert_eq!(end.delivered + end.dropped, total);
        prop_assert_eq!((end.delivered, end.dropped), (counts.delivered + unsent, counts.dropped + dropped));
        for (acknowledged, expected) in agent.acknowledged.iter().zip(&expected) {
            let mut acknowledged = acknowledged.iter().peekable();
            for record in expected {
                if acknowledged.next_if_eq(&record).is_some() {
                    prop_assert!(!record.contains('e'));
                } else {
                    prop_assert!(record.contains(['e', 'o']), "{record:?}");
                }
            }
            prop_assert_eq!(acknowledged.next(), None);
        }
        prop_assert_eq!(end.lost, 0);
        prop_assert!(agent.route.tracks.borrow().is_empty());
    }

    /// However often records are read again, of each second as many pass as the limit says; only what an agent has
    /// counted goes with it.
    #[test]
    fn a_rate_limit_holds_through_refusals(events in events()) {
        let mut log = Log::new();
        let limit = RateLimit { records_per_second: NonZeroU32::new(5).unwrap() };
        let policy = Policy { filters: vec![Filter::RateLimit(limit)], ..plain() };
        let mut agent = Agent::new(&log, policy);
        let restarts = events.iter().filter(|event| matches!(event, Event::Killed)).count() as u64;
        agent.do_all(&mut log, events);
        agent.end();
        let total = log.expected().iter().map(Vec::len).sum::<usize>() as u64;
        let counts = agent.route.counts();
        prop_assert_eq!(counts.delivered + counts.dropped, total);
        prop_assert!(counts.delivered >= total.min(5));
        prop_assert!(counts.delivered <= 5 * (1 + restarts));
    }
}
