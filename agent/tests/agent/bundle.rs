//! What the agent makes of its bundle and credentials, and of their changes.

use std::{
    io::Result,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use katonic_log_config::{ContainerFilter, ContainerPattern, Selector, layout};
use serde_json::{Value, json};

use crate::{
    pod::{Pod, http, policy, splunk},
    server::{Reply, Server},
    witness::{Tally, Witness, text},
};

#[test]
fn without_a_bundle_the_agent_waits_for_one() -> Result<()> {
    let witness = Witness::default();
    let server = Server::start(&witness, |_| Reply::Accept)?;
    let mut pod = Pod::new()?;
    pod.write("web", "0.log", 1..=10)?;
    let _agent = pod.start(&witness)?;
    witness.wait_said("no bundle", &[]);
    pod.set_policies(Vec::new())?;
    witness.wait_said("bundle applied", &[]);
    pod.set_policies(vec![policy("p", http(&server.url())?)])?;
    assert_eq!(witness.wait_lines(10), Tally::perfect(10));
    Ok(())
}

#[test]
fn garbage_leaves_the_last_good_bundle_in_force() -> Result<()> {
    let witness = Witness::default();
    let server = Server::start(&witness, |_| Reply::Accept)?;
    let mut pod = Pod::new()?;
    pod.set(layout::BUNDLE_FILE, Some(b"\x1f\x8bgarbage"))?;
    pod.write("web", "0.log", 1..=10)?;
    let _agent = pod.start(&witness)?;
    let refused = "the bundle cannot be used; the last good one stays in force";
    witness.wait_said(refused, &[]);
    pod.set_policies(vec![policy("p", http(&server.url())?)])?;
    witness.wait_lines(10);
    let before = witness.seen().said.len();
    pod.set(layout::BUNDLE_FILE, Some(b"more garbage"))?;
    witness.wait(refused, |seen| {
        seen.said[before..]
            .iter()
            .any(|line| line["message"] == refused)
    });
    pod.write("web", "0.log", 11..=20)?;
    assert_eq!(witness.wait_lines(20), Tally::perfect(20));
    Ok(())
}

#[test]
fn a_replaced_token_is_used_at_once_and_never_shown() -> Result<()> {
    let witness = Witness::default();
    let server = Server::start(&witness, |request| match request.header("authorization") {
        "Splunk hunter2-good" => Reply::Accept,
        _ => Reply::Refuse(403, "", r#"{"text":"Invalid token","code":4}"#.into()),
    })?;
    let mut pod = Pod::new()?;
    pod.set_policies(vec![policy("p", splunk(&server.url())?)])?;
    pod.write("web", "0.log", 1..=100)?;
    let _agent = pod.start(&witness)?;
    let state = ("state", "AuthenticationFailed");
    witness.wait_said(
        "sink",
        &[state, ("reason", "the credential `token` is missing")],
    );
    pod.set("token", Some(b"hunter2-bad"))?;
    witness.wait_said(
        "sink",
        &[state, ("reason", "HTTP 403, HEC code 4: Invalid token")],
    );
    pod.set("token", Some(b"hunter2-good\n"))?;
    assert_eq!(witness.wait_lines(100), Tally::perfect(100));
    witness.wait_said("sink", &[("state", "Delivering")]);
    for line in &witness.seen().said {
        assert!(!line.to_string().contains("hunter2"), "{line}");
    }
    Ok(())
}

#[test]
fn labels_that_change_while_the_bundle_is_garbage_still_count() -> Result<()> {
    let witness = Witness::default();
    let server = Server::start(&witness, |_| Reply::Accept)?;
    let mut pod = Pod::new()?;
    let mut later = policy("p", http(&server.url())?);
    later
        .selector
        .match_labels
        .insert("app".to_owned(), "later".to_owned());
    pod.set_policies(vec![later])?;
    pod.write("web", "0.log", 1..=10)?;
    let _agent = pod.start(&witness)?;
    witness.wait_said("bundle applied", &[]);
    pod.set(layout::BUNDLE_FILE, Some(b"garbage"))?;
    witness.wait_said(
        "the bundle cannot be used; the last good one stays in force",
        &[],
    );
    std::fs::write(pod.path("labels"), "app=\"later\"\n")?;
    assert_eq!(witness.wait_lines(10), Tally::perfect(10));
    Ok(())
}

#[test]
fn another_address_takes_over_where_the_first_one_was() -> Result<()> {
    let witness = Witness::default();
    let first = Server::start(&witness, |_| Reply::Accept)?;
    let mut pod = Pod::new()?;
    pod.set_policies(vec![policy("p", http(&first.url())?)])?;
    pod.write("web", "0.log", 1..=10)?;
    let _agent = pod.start(&witness)?;
    witness.wait_lines(10);
    let stalled = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&stalled);
    let dead = Server::start(&Witness::default(), move |_| {
        seen.store(true, Ordering::SeqCst);
        Reply::Stall
    })?;
    pod.set_policies(vec![policy("p", http(&dead.url())?)])?;
    witness.wait("the second bundle", |seen| {
        seen.said
            .iter()
            .filter(|line| line["message"] == "bundle applied")
            .count()
            == 2
    });
    pod.write("web", "0.log", 11..=20)?;
    let second = Server::start(&witness, |_| Reply::Accept)?;
    pod.set_policies(vec![policy("p", http(&second.url())?)])?;
    assert_eq!(witness.wait_lines(20), Tally::perfect(20));
    Ok(())
}

#[test]
fn a_policy_takes_only_the_pods_and_containers_that_it_names() -> Result<()> {
    let witness = Witness::default();
    let server = Server::start(&witness, |_| Reply::Accept)?;
    let mut pod = Pod::new()?;
    let mut narrow = policy("p", http(&server.url())?);
    narrow.selector = Selector {
        match_labels: [("app".to_owned(), "later".to_owned())].into(),
        ..Selector::default()
    };
    let pattern = ContainerPattern::try_from("side-*".to_owned()).map_err(std::io::Error::other)?;
    narrow.containers = ContainerFilter {
        exclude: [pattern].into(),
        ..ContainerFilter::default()
    };
    pod.set_policies(vec![narrow])?;
    pod.write("web", "0.log", 1..=10)?;
    pod.write("side-car", "0.log", 11..=20)?;
    pod.write(layout::CONTAINER, "0.log", 21..=30)?;
    let agent = pod.start(&witness)?;
    witness.wait_said("bundle applied", &[]);
    assert_eq!(
        witness.seen().records.len(),
        0,
        "the pod does not have the label"
    );
    std::fs::write(pod.path("labels"), "app=\"later\"\n")?;
    witness.wait_lines(10);
    let (_, message) = agent.terminate()?;
    assert_eq!(message["delivered"], 10);
    let label = &witness.seen().records[0]["labels"]["app"];
    assert_eq!(label, "later");
    Ok(())
}

/// Counts are of the pod: neither a policy that goes nor an agent that is killed takes them away.
#[test]
fn what_became_of_the_records_of_a_policy_that_went_is_still_counted() -> Result<()> {
    let witness = Witness::default();
    let server = Server::start(&witness, |request| {
        let is_bad = |record| text(record).is_some_and(|text| text.starts_with("line 000005"));
        match request.records.iter().position(is_bad) {
            Some(bad) => {
                let answer =
                    json!({"text": "Invalid data format", "code": 6, "invalid-event-number": bad});
                Reply::Refuse(400, "", answer.to_string())
            }
            None => Reply::Accept,
        }
    })?;
    let mut pod = Pod::new()?;
    pod.set("token", Some(b"secret"))?;
    pod.set_policies(vec![policy("p", splunk(&server.url())?)])?;
    pod.write("web", "0.log", 1..=10)?;
    let agent = pod.start(&witness)?;
    witness.wait("all but one", |seen| seen.records.len() == 9);
    pod.set_policies(Vec::new())?;
    let applied = |policies: u64| {
        witness.wait("the bundle", |seen| {
            let last = seen
                .said
                .iter()
                .rfind(|line| line["message"] == "bundle applied");
            last.is_some_and(|line| line["policies"] == policies)
        });
    };
    applied(0);
    let (_, message) = agent.terminate()?;
    let counts =
        |message: &Value| ["delivered", "rejected", "lost"].map(|name| message[name].as_u64());
    assert_eq!(counts(&message), [Some(9), Some(1), Some(0)]);
    // The next agent knows them too.
    let agent = pod.start(&witness)?;
    witness.wait("the second start", |seen| {
        seen.said
            .iter()
            .filter(|line| line["message"] == "bundle applied")
            .count()
            == 3
    });
    let (_, message) = agent.terminate()?;
    assert_eq!(counts(&message), [Some(9), Some(1), Some(0)]);
    Ok(())
}
