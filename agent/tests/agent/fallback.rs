//! The fallback of a policy: what it gets at the end of the pod, and that it gets nothing before.

use std::{
    fs,
    io::Result,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use katonic_log_config::{Policy, Sink, Target};
use serde_json::{Value, json};

use crate::{
    pod::{Pod, http, policy, splunk},
    server::{Reply, Server, closed_port},
    witness::{Tally, Witness},
};

/// A policy with these sinks and a fallback.
fn with_fallback(sinks: &[(&str, &Target)], fallback: Target) -> Policy {
    let mut policy = policy("p", fallback.clone());
    policy.sinks = sinks
        .iter()
        .map(|(name, target)| Sink::new(name, (*target).clone()))
        .collect();
    policy.fallback = Some(Sink::new("fallback", fallback));
    policy
}

/// What a sink does that is up at times.
fn while_up(is_up: &AtomicBool) -> Reply {
    if is_up.load(Ordering::SeqCst) {
        Reply::Accept
    } else {
        Reply::Refuse(503, "", String::new())
    }
}

fn dead() -> Result<Target> {
    http(&format!("http://{}", closed_port()?))
}

fn counts(delivered: u64, lost: u64, fallback: u64) -> Value {
    json!([delivered, 0, 0, lost, fallback])
}

/// What the message says of a sink, or in all.
fn of(message: &Value, sink: Option<&str>) -> Value {
    let sinks = message["sinks"].as_array();
    let of = match sink {
        None => Some(message),
        Some(name) => sinks.and_then(|sinks| sinks.iter().find(|one| one["sink"] == name)),
    };
    let names = ["delivered", "rejected", "dropped", "lost", "fallback"];
    of.map(|of| names.map(|name| of[name].clone()))
        .into_iter()
        .flatten()
        .collect()
}

#[test]
fn what_dead_sinks_did_not_get_goes_to_the_fallback_once() -> Result<()> {
    let (first, healthy, witness) = (Witness::default(), Witness::default(), Witness::default());
    let is_up = Arc::new(AtomicBool::new(true));
    let seen = Arc::clone(&is_up);
    let half = Server::start(&first, move |_| while_up(&seen))?;
    let good = Server::start(&healthy, |_| Reply::Accept)?;
    let fallback = Server::start(&witness, |request| match request.header("authorization") {
        "Splunk hunter2" => Reply::Accept,
        _ => Reply::Refuse(403, "", r#"{"text":"Invalid token","code":4}"#.into()),
    })?;
    let mut pod = Pod::new()?;
    pod.set("token", Some(b"hunter2"))?;
    pod.set_policies(vec![with_fallback(
        &[
            ("dead", &dead()?),
            ("good", &http(&good.url())?),
            ("half", &http(&half.url())?),
        ],
        splunk(&fallback.url())?,
    )])?;
    pod.write("web", "0.log", 1..=1000)?;
    let agent = pod.start_with(&first, &["--drain-seconds", "3"])?;
    first.wait_lines(1000);
    is_up.store(false, Ordering::SeqCst);
    // Also from a file that is deleted, with a line that goes on in the next one.
    pod.append(
        "web",
        "0.log",
        b"2026-11-23T10:15:08Z stdout P line 001001 ",
    )?;
    pod.append("web", "0.log", b"\n")?;
    healthy.wait_lines(1000);
    pod.rotate("web", "20261123-100000", [])?;
    pod.append(
        "web",
        "0.log",
        b"2026-11-23T10:15:08Z stdout F of two parts\n",
    )?;
    pod.write("web", "0.log", 1002..=2000)?;
    healthy.wait_lines(2000);
    fs::remove_file(pod.log("web", "0.log.20261123-100000"))?;
    pod.write("late", "0.log", 2001..=3000)?;
    healthy.wait_lines(3000);
    assert_eq!(witness.seen().requests, 0, "not while the pod runs");
    let (code, message) = agent.terminate()?;
    assert_eq!(code, Some(0));
    assert_eq!(of(&message, Some("dead")), counts(0, 0, 3000));
    assert_eq!(of(&message, Some("good")), counts(3000, 0, 0));
    assert_eq!(of(&message, Some("half")), counts(1000, 0, 2000));
    assert_eq!(of(&message, None), counts(4000, 0, 5000));
    // Containers are not in order to each other.
    let tally = witness.tally(3000);
    assert_eq!((tally.unique, tally.duplicates), (3000, 0));
    Ok(())
}

#[test]
fn what_the_fallback_does_not_get_either_is_lost_and_told() -> Result<()> {
    let witness = Witness::default();
    let fallback = Server::start(&witness, |request| match request.number {
        0 => Reply::Accept,
        _ => Reply::Refuse(503, "", String::new()),
    })?;
    let mut pod = Pod::new()?;
    let mut policy = with_fallback(&[("dead", &dead()?)], http(&fallback.url())?);
    if let Some(fallback) = &mut policy.fallback {
        fallback.batch.max_records = 600.try_into().ok();
    }
    pod.set_policies(vec![policy])?;
    pod.write("web", "0.log", 1..=1000)?;
    let agent = pod.start_with(&witness, &["--drain-seconds", "2"])?;
    witness.wait_said("sink", &[("state", "Unreachable")]);
    let (code, message) = agent.terminate()?;
    assert_eq!(code, Some(0));
    assert_eq!(of(&message, Some("dead")), counts(0, 400, 600));
    witness.wait("what is lost", |seen| {
        let mut said = seen.said.iter();
        said.any(|line| line["lost"] == 400 && line["sink"] == "dead")
    });
    Ok(())
}

/// A sink that comes back goes on beside the fallback, and needs it no more.
#[test]
fn a_sink_that_takes_everything_after_all_is_not_cut_short() -> Result<()> {
    let (slow, witness) = (Witness::default(), Witness::default());
    let is_up = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&is_up);
    let sink = Server::start(&slow, move |_| while_up(&seen))?;
    let delivered = slow.clone();
    let fallback = Server::start(&witness, move |_| {
        is_up.store(true, Ordering::SeqCst);
        delivered.wait_lines(1000);
        Reply::Accept
    })?;
    let mut pod = Pod::new()?;
    let policy = with_fallback(&[("slow", &http(&sink.url())?)], http(&fallback.url())?);
    pod.set_policies(vec![policy])?;
    pod.write("web", "0.log", 1..=1000)?;
    let agent = pod.start_with(&slow, &["--drain-seconds", "10"])?;
    slow.wait_said("sink", &[("state", "Unreachable")]);
    let (_, message) = agent.terminate()?;
    assert_eq!(of(&message, Some("slow")), counts(1000, 0, 0));
    assert_eq!(slow.tally(1000), Tally::perfect(1000));
    assert!(witness.seen().requests > 0);
    Ok(())
}

/// Without knowing it, the agent would still try when the kubelet kills it.
#[test]
fn a_pod_with_a_few_seconds_to_end_gets_to_its_fallback_within_them() -> Result<()> {
    const GRACE_PERIOD: u32 = 4;
    let witness = Witness::default();
    let fallback = Server::start(&witness, |_| Reply::Accept)?;
    let mut pod = Pod::new()?;
    let policy = with_fallback(&[("dead", &dead()?)], http(&fallback.url())?);
    pod.set_policies(vec![policy])?;
    pod.write("web", "0.log", 1..=1000)?;
    let agent = pod.start_with_grace_period(&witness, GRACE_PERIOD)?;
    witness.wait_said("sink", &[("state", "Unreachable")]);
    let begun = Instant::now();
    let (code, message) = agent.terminate()?;
    assert!(begun.elapsed() < Duration::from_secs(GRACE_PERIOD.into()));
    assert_eq!(code, Some(0));
    assert_eq!(of(&message, Some("dead")), counts(0, 0, 1000));
    assert_eq!(witness.tally(1000), Tally::perfect(1000));
    Ok(())
}
