//! The chain of audit events while batches wait, are refused or are forgotten, and the agent is killed.

use katonic_log_config::{
    Audit,
    audit::{Fingerprint, Link, Said},
};

use super::*;
use crate::timestamp::TimeParser;

fn auditing() -> Policy {
    Policy {
        audit: Some(Audit::default()),
        ..plain()
    }
}

/// Lines that are meant as events, and empty ones that are none.
fn with_events(events: Vec<Event>) -> Vec<Event> {
    let line = |(stderr, partial, content): Line| {
        let content = match &*content {
            "" => String::new(),
            content => format!(r#"{{"audit":1,"event":"{content}"}}"#),
        };
        (stderr, partial, content)
    };
    let event = |event| match event {
        Event::Written(lines) => Event::Written(lines.into_iter().map(line).collect()),
        other => other,
    };
    events.into_iter().map(event).collect()
}

/// Follows the chain through what a sink has, as whoever verifies it does.
fn verify(records: &[Value]) -> Link {
    records.iter().fold(Link::default(), |before, record| {
        let time = record["time"].as_str().unwrap();
        let time = TimeParser::default().parse(time.as_bytes()).unwrap();
        let next = before.next(&Said {
            record_id: record["record_id"].as_str().unwrap(),
            written: time.micros(),
            fault: record["audit_fault"].as_str(),
            text: Fingerprint::of(record["message"].as_str().unwrap()),
        });
        assert_eq!(record["sequence"], next.sequence, "{record}");
        assert_eq!(record["chain"], next.chain(), "{record}");
        next
    })
}

proptest! {
    /// Whatever happens, what a sink has acknowledged is numbered without a gap and chained, and what is sent again has the place that
    /// it had.
    #[test]
    fn every_event_has_one_place_in_one_chain(events in events()) {
        let mut log = Log::new();
        let mut agent = Agent::new(&log, auditing());
        agent.do_all(&mut log, with_events(events));
        agent.end();
        let expected = log.expected();
        let is_meant = |line: &&String| line.starts_with('{');
        let meant = expected.iter().flatten().filter(is_meant).count();
        let last = verify(&agent.records);
        prop_assert_eq!(agent.records.len(), meant);
        prop_assert_eq!(last.sequence, meant as u64);
        let trails = agent.route.trails();
        let told: u64 = trails.iter().flat_map(|(_, trail)| trail.faults.values()).sum();
        prop_assert_eq!(told, meant as u64);
    }
}

/// A policy that is about other events from now on goes on with the chain of what was sent.
#[test]
fn another_choice_of_events_is_no_gap() {
    let event = |name: &str| {
        format!(
            r#"{{"audit":1,"event":"{name}","time":"2026-11-30T09:12:44Z","id":"1","actor":"a","target":"b"}}"#
        )
    };
    let mut log = Log::new();
    let mut policy = auditing();
    policy.audit = Some(Audit {
        events: Some(["ModelCreated".to_owned()].into()),
    });
    let mut agent = Agent::new(&log, policy);
    let both = [event("ModelCreated"), event("ModelArchived")];
    let write = |log: &mut Log| {
        let lines = both.iter().map(|line| (false, false, line.clone()));
        log.write(&lines.collect::<Vec<_>>());
    };
    let deliver = |agent: &mut Agent| {
        agent.look();
        agent.send(9);
        agent.acknowledge();
    };
    write(&mut log);
    deliver(&mut agent);
    agent.policy.audit = Some(Audit::default());
    let processing = Rc::new(Processing::of(&agent.policy).unwrap());
    let sink = agent.policy.sinks[0].clone();
    assert!(agent.route.update(&agent.policy, &processing, &sink));
    agent.start_over();
    write(&mut log);
    deliver(&mut agent);
    let names: Vec<bool> = agent
        .records
        .iter()
        .map(|record| record["message"].as_str().unwrap().contains("Created"))
        .collect();
    assert_eq!(names, [true, true, false]);
    assert_eq!(verify(&agent.records).sequence, 3);
    let trails = agent.route.trails();
    // 2026-11-23T10:15:07Z, as the log has it.
    assert_eq!(trails[0].1.newest, Some(1_795_428_907));
    log.write(&[(false, false, r#"{"audit":1}"#.to_owned())]);
    deliver(&mut agent);
    let then = std::time::UNIX_EPOCH + Duration::from_secs(1_795_428_967);
    let told = |route: &Route| route.audit_report(then).unwrap();
    let expected = AuditReport {
        last_event: Some(60),
        faulty: 1,
        fault: Some("missing event".to_owned()),
    };
    assert_eq!(told(&agent.route), expected);
    agent.restart(&log);
    assert_eq!(
        told(&agent.route),
        expected,
        "the next agent tells the same"
    );
    let log = Log::new();
    assert_eq!(Agent::new(&log, plain()).route.audit_report(then), None);
}
