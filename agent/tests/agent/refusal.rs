//! Sinks that refuse: too large, a bad record, everything.

use std::{
    io::Result,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use serde_json::json;

use crate::{
    pod::{Pod, http, policy, splunk},
    server::{Reply, Server},
    witness::{Tally, Witness, numbered, text},
};

#[test]
fn a_batch_that_is_too_large_is_split() -> Result<()> {
    let witness = Witness::default();
    let server = Server::start(&witness, |request| {
        if request.size > 100_000 {
            Reply::Refuse(413, "", String::new())
        } else {
            Reply::Accept
        }
    })?;
    let mut pod = Pod::new()?;
    pod.set_policies(vec![policy("p", http(&server.url())?)])?;
    pod.write("web", "0.log", 1..=5000)?;
    let agent = pod.start(&witness)?;
    assert_eq!(witness.wait_lines(5000), Tally::perfect(5000));
    assert_eq!(agent.terminate()?.1["rejected"], 0);
    Ok(())
}

#[test]
fn a_record_that_is_too_large_alone_is_cut_and_says_so() -> Result<()> {
    let witness = Witness::default();
    let server = Server::start(&witness, |request| {
        if request.size > 10_000 {
            Reply::Refuse(413, "", String::new())
        } else {
            Reply::Accept
        }
    })?;
    let mut pod = Pod::new()?;
    pod.set_policies(vec![policy("p", http(&server.url())?)])?;
    pod.write("web", "0.log", 1..=10)?;
    pod.append(
        "web",
        "0.log",
        format!("2026-11-23T10:15:08Z stdout F {}\n", "y".repeat(50_000)).as_bytes(),
    )?;
    pod.write("web", "0.log", 11..=20)?;
    let agent = pod.start(&witness)?;
    assert_eq!(witness.wait_lines(20), Tally::perfect(20));
    assert_eq!(agent.terminate()?.1["delivered"], 21);
    let seen = witness.seen();
    let cut = seen
        .records
        .iter()
        .filter_map(text)
        .find(|text| text.starts_with('y'));
    let cut = cut.map(|text| text.trim_start_matches('y'));
    assert_eq!(cut, Some(" [katonic-log-agent: line cut]"));
    Ok(())
}

/// The sink refuses two records, naming them or not; the other 998 arrive, once each.
#[test]
fn a_poison_record_is_put_aside_and_the_rest_goes_on() -> Result<()> {
    for names in [true, false] {
        let witness = Witness::default();
        let server = Server::start(&witness, move |request| {
            let poison = [numbered(7), numbered(700)];
            let is_poison = |text: &str| poison.iter().any(|poison| poison == text);
            match request
                .records
                .iter()
                .position(|one| text(one).is_some_and(is_poison))
            {
                None => Reply::Accept,
                Some(at) => {
                    let mut body = json!({"text": "Error in handling indexed fields", "code": 15});
                    if names {
                        body["invalid-event-number"] = at.into();
                    }
                    Reply::Refuse(400, "", body.to_string())
                }
            }
        })?;
        let mut pod = Pod::new()?;
        pod.set("token", Some(b"secret"))?;
        pod.set_policies(vec![policy("p", splunk(&server.url())?)])?;
        pod.write("web", "0.log", 1..=1000)?;
        let agent = pod.start(&witness)?;
        witness.wait("998 lines", |seen| seen.records.len() >= 998);
        let (_, message) = agent.terminate()?;
        assert_eq!(
            witness.tally(1000),
            Tally {
                unique: 998,
                missing: 2,
                duplicates: 0,
                out_of_order: 0
            }
        );
        assert_eq!(message["delivered"], 998);
        assert_eq!(message["rejected"], 2);
        assert_eq!(message["lost"], 0);
        witness.wait_said("the sink refuses records for their content", &[]);
    }
    Ok(())
}

#[test]
fn a_server_that_refuses_everything_makes_the_agent_wait_and_drops_nothing() -> Result<()> {
    let witness = Witness::default();
    let wrong = Server::start(&witness, |_| Reply::Refuse(400, "", "not here".into()))?;
    let mut pod = Pod::new()?;
    pod.set_policies(vec![policy("p", http(&wrong.url())?)])?;
    pod.write("web", "0.log", 1..=100)?;
    let agent = pod.start(&witness)?;
    witness.wait_said("sink", &[("state", "Misconfigured")]);
    let right = Server::start(&witness, |_| Reply::Accept)?;
    pod.set_policies(vec![policy("p", http(&right.url())?)])?;
    assert_eq!(witness.wait_lines(100), Tally::perfect(100));
    assert_eq!(agent.terminate()?.1["rejected"], 0);
    Ok(())
}

#[test]
fn a_wrong_index_holds_until_it_is_allowed() -> Result<()> {
    let witness = Witness::default();
    let server = Server::start(&witness, |request| {
        match request.records[0]["index"].as_str() {
            Some("allowed") => Reply::Accept,
            _ => Reply::Refuse(
                400,
                "",
                r#"{"text":"Incorrect index","code":7,"invalid-event-number":0}"#.into(),
            ),
        }
    })?;
    let mut pod = Pod::new()?;
    pod.set("token", Some(b"secret"))?;
    pod.set_policies(vec![policy("p", splunk(&server.url())?)])?;
    pod.write("web", "0.log", 1..=100)?;
    let _agent = pod.start(&witness)?;
    witness.wait_said(
        "sink",
        &[("reason", "HTTP 400, HEC code 7: Incorrect index")],
    );
    let mut target = splunk(&server.url())?;
    if let katonic_log_config::Target::Splunk(splunk) = &mut target {
        splunk.index = Some("allowed".to_owned());
    }
    pod.set_policies(vec![policy("p", target)])?;
    assert_eq!(witness.wait_lines(100), Tally::perfect(100));
    Ok(())
}

/// Something that refuses the first thing it is sent is more likely the wrong address than the right one with a bad
/// record; the next records tell the two apart.
#[test]
fn a_first_record_that_is_refused_does_not_hold_the_others_up() -> Result<()> {
    let witness = Witness::default();
    let server = Server::start(&witness, |request| {
        let is_poison = |text: &str| text == numbered(1) || text == numbered(2);
        if request
            .records
            .iter()
            .any(|one| text(one).is_some_and(is_poison))
        {
            Reply::Refuse(400, "", String::new())
        } else {
            Reply::Accept
        }
    })?;
    let mut pod = Pod::new()?;
    pod.set_policies(vec![policy("p", http(&server.url())?)])?;
    pod.write("web", "0.log", 1..=1000)?;
    let agent = pod.start(&witness)?;
    witness.wait("998 lines", |seen| seen.records.len() >= 998);
    let (_, message) = agent.terminate()?;
    for (name, count) in [("delivered", 998), ("rejected", 2), ("lost", 0)] {
        assert_eq!(message[name], count, "{message}");
    }
    assert_eq!(witness.tally(1000).duplicates, 0);
    Ok(())
}

/// As a proxy does that takes the compression away and leaves the header.
#[test]
fn a_collector_that_finds_everything_invalid_makes_the_agent_wait() -> Result<()> {
    let witness = Witness::default();
    let wrong = Server::start(&witness, |_| {
        let body = r#"{"text":"Invalid data format","code":6,"invalid-event-number":0}"#;
        Reply::Refuse(400, "", body.into())
    })?;
    let mut pod = Pod::new()?;
    pod.set("token", Some(b"secret"))?;
    pod.set_policies(vec![policy("p", splunk(&wrong.url())?)])?;
    pod.write("web", "0.log", 1..=1000)?;
    let agent = pod.start(&witness)?;
    witness.wait_said("sink", &[("state", "Misconfigured")]);
    let right = Server::start(&witness, |_| Reply::Accept)?;
    pod.set_policies(vec![policy("p", splunk(&right.url())?)])?;
    assert_eq!(witness.wait_lines(1000), Tally::perfect(1000));
    let (_, message) = agent.terminate()?;
    for (name, count) in [("delivered", 1000), ("rejected", 0), ("lost", 0)] {
        assert_eq!(message[name], count, "{message}");
    }
    Ok(())
}

/// A gateway that answers 400 to everything for a while is not taken at its word for long.
#[test]
fn a_sink_that_refuses_everything_for_a_while_costs_a_few_records_and_not_all() -> Result<()> {
    const LINES: usize = 5000;
    let witness = Witness::default();
    let is_well = Arc::new(AtomicBool::new(true));
    let well = Arc::clone(&is_well);
    let server = Server::start(&witness, move |_| {
        if well.load(Ordering::SeqCst) {
            Reply::Accept
        } else {
            Reply::Refuse(400, "", String::new())
        }
    })?;
    let mut pod = Pod::new()?;
    pod.set_policies(vec![policy("p", http(&server.url())?)])?;
    pod.write("web", "0.log", 1..=100)?;
    let agent = pod.start(&witness)?;
    witness.wait_lines(100);
    is_well.store(false, Ordering::SeqCst);
    pod.write("web", "0.log", 101..=LINES)?;
    witness.wait_said("sink", &[("state", "Rejected")]);
    is_well.store(true, Ordering::SeqCst);
    witness.wait("the rest", |seen| seen.records.len() >= LINES - 8);
    let (_, message) = agent.terminate()?;
    for (name, count) in [("delivered", LINES - 8), ("rejected", 8), ("lost", 0)] {
        assert_eq!(message[name], count, "{message}");
    }
    Ok(())
}

/// That the old address has taken records says nothing of the new one.
#[test]
fn an_address_that_is_changed_has_to_show_itself_anew() -> Result<()> {
    let witness = Witness::default();
    let right = Server::start(&witness, |_| Reply::Accept)?;
    let wrong = Server::start(&witness, |_| Reply::Refuse(400, "", String::new()))?;
    let mut pod = Pod::new()?;
    pod.set_policies(vec![policy("p", http(&right.url())?)])?;
    pod.write("web", "0.log", 1..=100)?;
    let agent = pod.start(&witness)?;
    witness.wait_lines(100);
    pod.set_policies(vec![policy("p", http(&wrong.url())?)])?;
    witness.wait("the other address", |seen| {
        let applied = |line: &&serde_json::Value| line["message"] == "bundle applied";
        seen.said.iter().filter(applied).count() == 2
    });
    pod.write("web", "0.log", 101..=200)?;
    witness.wait_said("sink", &[("state", "Misconfigured")]);
    pod.set_policies(vec![policy("p", http(&right.url())?)])?;
    assert_eq!(witness.wait_lines(200), Tally::perfect(200));
    let (_, message) = agent.terminate()?;
    for (name, count) in [("delivered", 200), ("rejected", 0), ("lost", 0)] {
        assert_eq!(message[name], count, "{message}");
    }
    Ok(())
}

/// Something on the way finds everything too large for a while: short lines are not rejected for it, and batches are
/// large again afterwards.
#[test]
fn a_size_that_was_refused_for_a_while_costs_no_line_and_is_tried_again() -> Result<()> {
    const LINES: usize = 60_000;
    let witness = Witness::default();
    let server = Server::start(&witness, |request| match request.number {
        2..15 => Reply::Refuse(413, "", String::new()),
        _ => Reply::Accept,
    })?;
    let mut pod = Pod::new()?;
    let mut policy = policy("p", http(&server.url())?);
    policy.sinks[0].batch.max_bytes = Some(100_000.try_into().map_err(std::io::Error::other)?);
    pod.set_policies(vec![policy])?;
    pod.write("web", "0.log", 1..=LINES)?;
    let agent = pod.start(&witness)?;
    assert_eq!(witness.wait_lines(LINES), Tally::perfect(LINES));
    let (_, message) = agent.terminate()?;
    for (name, count) in [("delivered", LINES), ("rejected", 0), ("lost", 0)] {
        assert_eq!(message[name], count, "{message}");
    }
    // About 240 batches if all were full; with ever smaller ones there would be tens of thousands.
    let requests = witness.seen().requests;
    assert!(requests < 600, "{requests} requests");
    Ok(())
}
