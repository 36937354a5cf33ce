//! Policies whose patterns are too large for one pod: the oldest are applied, the others wait and say so, and no line is lost
//! for it.

#![expect(
    clippy::unwrap_used,
    reason = "a test's own values are what they are said to be"
)]

use std::io::{Error, Result};

use katonic_log_config::{ContainerPattern, Filter, Pattern, Policy};
use serde_json::Value;

use crate::{
    pod::{Pod, http, policy},
    server::{Reply, Request, Server},
    witness::{Tally, Witness, numbered, text},
};

/// What the sidecar may have (`logging.agent.resources`).
const MEMORY: u64 = 32 << 20;

const REASON: &str = "the patterns of the policies of this pod take more than 6 MiB once compiled";

/// A policy with so many patterns of about 0.8 MiB each, which match no line and which no other policy has.
fn large(name: &str, url: &str, patterns: usize) -> Result<Policy> {
    let filter = |number| {
        let text = format!(r"\w{{15}} of {name} {number}");
        Filter::Drop(Pattern::try_from(text).unwrap())
    };
    Ok(Policy {
        filters: (0..patterns).map(filter).collect(),
        ..policy(name, http(&format!("{url}/{name}"))?)
    })
}

/// Takes only this container.
fn of(container: &str, mut policy: Policy) -> Result<Policy> {
    let pattern = ContainerPattern::try_from(container.to_owned()).map_err(Error::other)?;
    policy.containers.include.insert(pattern);
    Ok(policy)
}

/// Accepts everything and notes who sent it.
fn note_sender(request: &Request) -> Reply {
    let path = request.line.split(' ').nth(1).unwrap_or_default();
    let records = request.records.iter().map(|record| {
        let mut record = record.clone();
        record["path"] = path.into();
        record
    });
    Reply::AcceptAs(200, Vec::new(), records.collect())
}

/// The numbered lines that a policy has sent.
fn sent(witness: &Witness, policy: &str) -> Vec<String> {
    let path = format!("/{policy}");
    let seen = witness.seen();
    let records = seen.records.iter().filter(|record| record["path"] == path);
    records.filter_map(text).map(str::to_owned).collect()
}

fn wait_sent(witness: &Witness, policy: &str, lines: usize) {
    let path = format!("/{policy}");
    witness.wait(&format!("{lines} lines of {policy}"), |seen| {
        let sent = seen.records.iter().filter(|record| record["path"] == path);
        sent.count() >= lines
    });
    let expected: Vec<String> = (1..=lines).map(numbered).collect();
    assert_eq!(sent(witness, policy), expected, "{policy}");
}

/// Waits until it is told that a policy waits for room.
fn wait_told(witness: &Witness, policy: &str) {
    witness.wait(&format!("{policy} waits"), |seen| {
        seen.said.iter().any(|line| {
            let reason = line["reason"].as_str().unwrap_or_default();
            line["policy"] == policy
                && line["state"] == "Misconfigured"
                && reason.starts_with(REASON)
        })
    });
}

fn counts(message: &Value, policy: &str) -> [Option<u64>; 2] {
    let sinks = message["sinks"].as_array();
    let sink = sinks.and_then(|sinks| sinks.iter().find(|sink| sink["policy"] == policy));
    ["delivered", "lost"].map(|name| sink?[name].as_u64())
}

/// In the bundle the oldest is first. Three patterns of the first two fit, and none of those of three after it; what
/// needs less still does.
#[test]
fn forty_policies_with_large_patterns_stay_within_the_memory_and_the_oldest_are_applied()
-> Result<()> {
    const LINES: usize = 2000;
    let witness = Witness::default();
    let server = Server::start(&witness, note_sender)?;
    let url = server.url();
    let mut policies: Vec<Policy> = (0..40)
        .map(|number| large(&format!("p{:02}", 40 - number), &url, 3))
        .collect::<Result<_>>()?;
    policies.push(large("small", &url, 1)?);
    policies.push(large("plain", &url, 0)?);
    let mut pod = Pod::new()?;
    pod.set_policies(policies)?;
    pod.write("web", "0.log", 1..=LINES)?;
    let agent = pod.start_with(&witness, &["--drain-seconds", "3"])?;
    let applied = ["p40", "p39", "small", "plain"];
    for name in applied {
        wait_sent(&witness, name, LINES);
    }
    for number in 1..=38 {
        wait_told(&witness, &format!("p{number:02}"));
    }
    let peak = agent.peak()?;
    assert!(peak < MEMORY, "{} KiB", peak >> 10);
    let (code, message) = agent.terminate()?;
    assert_eq!(code, Some(0));
    let [lines, none] = [Some(LINES as u64), Some(0)];
    for name in applied {
        assert_eq!(counts(&message, name), [lines, none], "{name}");
    }
    assert_eq!(message["lost"], 38 * LINES);
    assert_eq!(message["delivered"], 4 * LINES);
    Ok(())
}

#[test]
fn a_policy_that_waits_for_room_loses_nothing_and_goes_on_when_there_is_some() -> Result<()> {
    let witness = Witness::default();
    let server = Server::start(&witness, note_sender)?;
    let url = server.url();
    let (old, young) = (large("old", &url, 5)?, large("young", &url, 5)?);
    let mut pod = Pod::new()?;
    pod.set_policies(vec![old.clone(), young.clone()])?;
    pod.write("web", "0.log", 1..=1000)?;
    let agent = pod.start(&witness)?;
    wait_sent(&witness, "old", 1000);
    wait_told(&witness, "young");
    // An agent that is started again decides as the one before it.
    pod.wait_saved(1000)?;
    agent.kill()?;
    pod.write("web", "0.log", 1001..=2000)?;
    let agent = pod.start(&witness)?;
    wait_sent(&witness, "old", 2000);
    assert!(sent(&witness, "young").is_empty());
    let mut smaller = old;
    smaller.filters.truncate(1);
    pod.set_policies(vec![smaller, young])?;
    wait_sent(&witness, "young", 2000);
    let (_, message) = agent.terminate()?;
    assert_eq!(counts(&message, "old"), [Some(2000), Some(0)]);
    assert_eq!(counts(&message, "young"), [Some(2000), Some(0)]);
    Ok(())
}

/// The last good form of a policy stays where its new one has no room, and an older policy that grows goes first.
#[test]
fn a_policy_that_grows_too_large_stays_as_it_was_unless_older_ones_need_the_room() -> Result<()> {
    let witness = Witness::default();
    let server = Server::start(&witness, note_sender)?;
    let url = server.url();
    let old = |patterns| large("old", &url, patterns);
    // Its form can be told from what it drops.
    let young = |patterns, drops: &str| {
        let mut policy = large("young", &url, patterns)?;
        let pattern = Pattern::try_from(drops.to_owned()).map_err(Error::other)?;
        policy.filters.push(Filter::Drop(pattern));
        Ok::<_, Error>(policy)
    };
    let mut pod = Pod::new()?;
    pod.set_policies(vec![old(3)?, young(1, "no line")?])?;
    pod.write("web", "0.log", 1..=100)?;
    let agent = pod.start_with(&witness, &["--drain-seconds", "2"])?;
    wait_sent(&witness, "young", 100);
    pod.set_policies(vec![old(3)?, young(6, "line")?])?;
    let stays = "a policy cannot be applied; its last good form stays in force";
    witness.wait_said(stays, &[("policy", "young")]);
    pod.write("web", "0.log", 101..=200)?;
    wait_sent(&witness, "young", 200);
    pod.set_policies(vec![old(7)?, young(6, "line")?])?;
    witness.wait("the last bundle", |seen| {
        let applied = |line: &&Value| line["message"] == "bundle applied";
        seen.said.iter().filter(applied).count() == 3
    });
    pod.write("web", "0.log", 201..=300)?;
    wait_told(&witness, "young");
    wait_sent(&witness, "old", 300);
    let (_, message) = agent.terminate()?;
    assert_eq!(counts(&message, "old"), [Some(300), Some(0)]);
    // Nobody has looked at them, so nobody knows what its filters would have dropped.
    let sinks = message["sinks"].as_array().unwrap();
    let young = sinks.iter().find(|sink| sink["policy"] == "young").unwrap();
    assert_eq!(
        (&young["delivered"], &young["dropped"], &young["lost"]),
        (&200.into(), &0.into(), &100.into())
    );
    Ok(())
}

/// Policies for other pods' containers are in the bundle, too, and must not take the room of those that are needed here.
#[test]
fn a_policy_that_takes_no_container_of_the_pod_takes_no_room_until_it_does() -> Result<()> {
    let witness = Witness::default();
    let server = Server::start(&witness, note_sender)?;
    let url = server.url();
    let mut pod = Pod::new()?;
    pod.set_policies(vec![
        of("late", large("old", &url, 5)?)?,
        large("young", &url, 5)?,
    ])?;
    pod.write("web", "0.log", 1..=1000)?;
    let agent = pod.start_with(&witness, &["--drain-seconds", "2"])?;
    wait_sent(&witness, "young", 1000);
    pod.write("late", "0.log", 1..=500)?;
    wait_sent(&witness, "old", 500);
    wait_told(&witness, "young");
    pod.write("web", "0.log", 1001..=1200)?;
    let (_, message) = agent.terminate()?;
    assert_eq!(counts(&message, "old"), [Some(500), Some(0)]);
    // 500 of the other container, whose lines have the same numbers.
    let [delivered, lost] = counts(&message, "young").map(Option::unwrap_or_default);
    assert_eq!(delivered + lost, 1700, "{message}");
    assert!(delivered >= 1000, "{message}");
    Ok(())
}

/// What patterns keep while they run does not grow with what they are shown.
#[test]
fn no_text_makes_patterns_need_more_memory_than_there_is() -> Result<()> {
    const LINES: usize = 3000;
    let witness = Witness::default();
    let server = Server::start(&witness, |_| Reply::Accept)?;
    // Each learns something new from almost every character.
    let filter = |number: usize| {
        let text = format!(r"[a-z ]*a[a-z0-9 ]{{{}}}{number}$", 14 + number % 4);
        Filter::Keep(Pattern::try_from(format!("{text}|")).unwrap())
    };
    let mut pod = Pod::new()?;
    let mut policies = Vec::new();
    for number in 0..10 {
        policies.push(Policy {
            filters: (0..32).map(|index| filter(32 * number + index)).collect(),
            ..policy(&format!("p{number}"), http(&server.url())?)
        });
    }
    pod.set_policies(policies)?;
    let mut state = 1_u64;
    for number in 1..=LINES {
        let noise: String = std::iter::repeat_with(|| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            char::from(b"abcxyz019 "[(state >> 33) as usize % 10])
        })
        .take(300)
        .collect();
        let line = format!("2026-11-23T10:15:07Z stdout F line {number:06} {noise}\n");
        pod.append("web", "0.log", line.as_bytes())?;
    }
    let agent = pod.start(&witness)?;
    witness.wait("every line ten times", |seen| {
        seen.records.len() >= 10 * LINES
    });
    let peak = agent.peak()?;
    assert!(peak < MEMORY, "{} KiB", peak >> 10);
    let Tally { missing, .. } = witness.tally(LINES);
    assert_eq!(missing, 0);
    Ok(())
}
