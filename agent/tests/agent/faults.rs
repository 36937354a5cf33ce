//! Networks that break at every moment of an exchange: nothing is lost, and what arrives twice is the same record.

use std::{
    io::{Error, Result},
    time::Duration,
};

use katonic_log_config::{Compression, Policy, Target};
use serde_json::{Value, json};

use crate::{
    pod::{Pod, http, policy},
    relay::{Fate, Relay},
    server::{Reply, Server, closed_port},
    witness::{Tally, Witness},
};

/// Small batches, and an answer may take so long.
fn impatient(url: &str, timeout_ms: u32) -> Result<Policy> {
    let mut target = http(url)?;
    if let Target::Http(http) = &mut target {
        http.connection.timeout_ms = Some(timeout_ms.try_into().map_err(Error::other)?);
    }
    let mut policy = policy("p", target);
    policy.sinks[0].batch.max_records = Some(500.try_into().map_err(Error::other)?);
    Ok(policy)
}

/// Delivers lines through a relay; gives how often one arrived twice.
fn deliver_through(
    lines: usize,
    timeout_ms: u32,
    fate: impl Fn(usize) -> Fate + Send + Sync + 'static,
) -> Result<usize> {
    let witness = Witness::default();
    let server = Server::start(&witness, |_| Reply::Accept)?;
    let relay = Relay::start(server.address(), fate)?;
    let mut pod = Pod::new()?;
    pod.set_policies(vec![impatient(&relay.url(), timeout_ms)?])?;
    pod.write("web", "0.log", 1..=lines)?;
    let agent = pod.start(&witness)?;
    witness.wait_lines(lines);
    let (_, message) = agent.terminate()?;
    let expected = json!({"delivered": lines, "rejected": 0, "lost": 0});
    for name in ["delivered", "rejected", "lost"] {
        assert_eq!(message[name], expected[name], "{message}");
    }
    let tally = witness.tally(lines);
    assert_eq!((tally.unique, tally.missing), (lines, 0));
    let seen = witness.seen();
    let id = |record: &Value| {
        (
            record["record_id"].to_string(),
            record["message"].to_string(),
        )
    };
    let mut ids: Vec<_> = seen.records.iter().map(id).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), lines, "a line that arrived twice has one id");
    Ok(tally.duplicates)
}

#[test]
fn resets_before_and_during_the_body_cost_nothing() -> Result<()> {
    let duplicates = deliver_through(5000, 10_000, |number| match number {
        0 => Fate::ResetAfter(0),
        1 => Fate::ResetAfter(100),
        2 => Fate::ResetAfter(1500),
        _ => Fate::Works,
    })?;
    assert_eq!(duplicates, 0);
    Ok(())
}

#[test]
fn an_answer_that_is_lost_costs_duplicates_and_no_line() -> Result<()> {
    let duplicates = deliver_through(5000, 10_000, |number| match number {
        0 | 2 => Fate::LosesAnswer,
        _ => Fate::Works,
    })?;
    assert!(
        duplicates > 0 && duplicates.is_multiple_of(500),
        "{duplicates}"
    );
    Ok(())
}

#[test]
fn a_connection_that_carries_nothing_is_given_up() -> Result<()> {
    let duplicates = deliver_through(1000, 3_000, |number| match number {
        0 | 1 => Fate::HalfOpen,
        _ => Fate::Works,
    })?;
    assert_eq!(duplicates, 0);
    Ok(())
}

#[test]
fn an_answer_that_comes_byte_by_byte_is_waited_for_as_long_as_the_policy_says() -> Result<()> {
    let duplicates = deliver_through(500, 20_000, |_| Fate::Drips(Duration::from_millis(2)))?;
    assert_eq!(duplicates, 0);
    let duplicates = deliver_through(1000, 300, |number| match number {
        0..3 => Fate::Drips(Duration::from_millis(100)),
        _ => Fate::Works,
    })?;
    assert!(duplicates > 0);
    Ok(())
}

/// As proxies do: the answer comes while the body is still on its way, and the connection is reset behind it.
#[test]
fn a_body_that_is_refused_before_it_was_read_is_sent_in_smaller_pieces() -> Result<()> {
    const LINES: usize = 20_000;
    let witness = Witness::default();
    let server = Server::start(&witness, |_| Reply::Accept)?;
    let relay = Relay::start(server.address(), |_| Fate::RefusesUnread(200_000))?;
    let mut target = http(&relay.url())?;
    if let Target::Http(http) = &mut target {
        http.connection.compression = Compression::None;
    }
    let mut pod = Pod::new()?;
    pod.set_policies(vec![policy("p", target)])?;
    pod.write("web", "0.log", 1..=LINES)?;
    let agent = pod.start(&witness)?;
    assert_eq!(witness.wait_lines(LINES), Tally::perfect(LINES));
    let (_, message) = agent.terminate()?;
    for (name, count) in [("delivered", LINES), ("rejected", 0), ("lost", 0)] {
        assert_eq!(message[name], count, "{message}");
    }
    Ok(())
}

/// A sink asks for five minutes, and then the pod ends.
#[test]
fn the_end_of_the_pod_does_not_wait_as_long_as_a_sink_asks_for() -> Result<()> {
    let witness = Witness::default();
    let server = Server::start(&witness, |request| match request.number {
        0 => Reply::Refuse(503, "Retry-After: 300\r\n", String::new()),
        _ => Reply::Accept,
    })?;
    let mut pod = Pod::new()?;
    pod.set_policies(vec![policy("p", http(&server.url())?)])?;
    pod.write("web", "0.log", 1..=1000)?;
    let agent = pod.start(&witness)?;
    witness.wait_said("sink", &[("state", "Unreachable")]);
    let (code, message) = agent.terminate()?;
    assert_eq!(code, Some(0));
    assert_eq!(witness.tally(1000), Tally::perfect(1000));
    assert_eq!(message["delivered"], 1000, "{message}");
    Ok(())
}

/// What each of them holds while it waits is what it needs to begin again.
#[test]
fn forty_dead_sinks_cost_little() -> Result<()> {
    const EACH: u64 = 64 << 10;
    let with = |dead: usize, below: u64| -> Result<u64> {
        let witness = Witness::default();
        let server = Server::start(&witness, |_| Reply::Accept)?;
        let closed = format!("http://{}", closed_port()?);
        let mut pod = Pod::new()?;
        let mut policies = vec![policy("healthy", http(&server.url())?)];
        for number in 0..dead {
            policies.push(policy(&format!("dead-{number}"), http(&closed)?));
        }
        pod.set_policies(policies)?;
        pod.write("web", "0.log", 1..=20_000)?;
        let agent = pod.start(&witness)?;
        assert_eq!(witness.wait_lines(20_000), Tally::perfect(20_000));
        for number in 0..dead {
            let name = format!("dead-{number}");
            let dead = [("policy", name.as_str()), ("state", "Unreachable")];
            witness.wait_said("sink", &dead);
        }
        agent.wait_resident(below)
    };
    let one = with(1, u64::MAX)?;
    let many = with(41, one + 40 * EACH)?;
    assert!(
        many < one + 40 * EACH,
        "{many} bytes with forty more, {one} without"
    );
    Ok(())
}
