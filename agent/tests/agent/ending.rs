//! How the agent ends: by SIGTERM, with and without sinks, and by SIGKILL.

use std::{
    fs,
    io::Result,
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    pod::{Pod, http, policy},
    server::{Reply, Server, closed_port},
    witness::{Tally, Witness},
};

#[test]
fn the_last_lines_are_delivered_and_the_pod_is_not_held_up() -> Result<()> {
    let witness = Witness::default();
    let server = Server::start(&witness, |_| Reply::Accept)?;
    let mut pod = Pod::new()?;
    pod.set_policies(vec![policy("p", http(&server.url())?)])?;
    pod.write("web", "0.log", 1..=10)?;
    let agent = pod.start(&witness)?;
    witness.wait_lines(10);
    pod.write("web", "0.log", 11..=1000)?;
    pod.write("late", "0.log", 1001..=1010)?;
    let begun = Instant::now();
    let (code, message) = agent.terminate()?;
    let took = begun.elapsed();
    assert_eq!(code, Some(0));
    // How quick it is when nothing else runs is measured by the benchmark.
    assert!(took < Duration::from_secs(5), "{took:?}");
    let Tally {
        unique,
        missing,
        duplicates,
        ..
    } = witness.tally(1010);
    assert_eq!((unique, missing, duplicates), (1010, 0, 0));
    let sink = json!({"policy": "p", "sink": "sink", "delivered": 1010, "rejected": 0, "dropped": 0, "lost": 0,
        "fallback": 0});
    let expected = json!({"delivered": 1010, "rejected": 0, "dropped": 0, "lost": 0, "fallback": 0, "sinks": [sink]});
    assert_eq!(message, expected);
    Ok(())
}

#[test]
fn a_pod_that_ends_at_once_loses_nothing() -> Result<()> {
    let witness = Witness::default();
    let server = Server::start(&witness, |_| Reply::Accept)?;
    let mut pod = Pod::new()?;
    pod.set_policies(vec![policy("p", http(&server.url())?)])?;
    pod.write("web", "0.log", 1..=100)?;
    let agent = pod.start(&witness)?;
    witness.wait_said("started", &[]);
    let (_, message) = agent.terminate()?;
    assert_eq!(message["delivered"], 100);
    assert_eq!(witness.tally(100), Tally::perfect(100));
    Ok(())
}

/// From the moment at which there is a handler, which is the first thing that the agent makes.
#[test]
fn a_signal_that_comes_while_the_agent_starts_is_obeyed() -> Result<()> {
    let witness = Witness::default();
    let server = Server::start(&witness, |_| Reply::Accept)?;
    for round in 1..=20 {
        let mut pod = Pod::new()?;
        pod.set_policies(vec![policy("p", http(&server.url())?)])?;
        pod.write("web", "0.log", round * 10 - 9..=round * 10)?;
        let agent = pod.start(&witness)?;
        agent.wait_handles_end()?;
        let (code, message) = agent.terminate()?;
        assert_eq!((code, &message["delivered"]), (Some(0), &json!(10)));
    }
    assert_eq!(witness.tally(200), Tally::perfect(200));
    Ok(())
}

/// The grace period is used up: the kubelet asks the agent to end while a container still runs, and kills that soon after.
#[test]
fn a_container_that_writes_on_after_the_signal_is_read_until_it_is_quiet() -> Result<()> {
    const LINES: usize = 400;
    let witness = Witness::default();
    let server = Server::start(&witness, |_| Reply::Accept)?;
    let mut pod = Pod::new()?;
    pod.set_policies(vec![policy("p", http(&server.url())?)])?;
    pod.write("web", "0.log", [1])?;
    let agent = pod.start(&witness)?;
    let message = thread::scope(|scope| {
        let stubborn = scope.spawn(|| {
            for number in 2..=LINES {
                pod.write("web", "0.log", [number])?;
                // As a program does that now and then has nothing to say.
                let pause = if number % 100 == 0 { 80 } else { 1 };
                thread::park_timeout(Duration::from_millis(pause));
            }
            Ok::<(), std::io::Error>(())
        });
        witness.wait_lines(20);
        let (_, message) = agent.terminate()?;
        stubborn.join().unwrap()?;
        Ok::<Value, std::io::Error>(message)
    })?;
    assert_eq!(witness.tally(LINES), Tally::perfect(LINES));
    assert_eq!(
        (&message["delivered"], &message["lost"]),
        (&json!(LINES), &json!(0))
    );
    Ok(())
}

#[test]
fn what_a_dead_sink_did_not_get_is_counted_exactly() -> Result<()> {
    let witness = Witness::default();
    let server = Server::start(&witness, |_| Reply::Accept)?;
    let mut pod = Pod::new()?;
    let dead = format!("http://{}", closed_port()?);
    pod.set_policies(vec![
        policy("good", http(&server.url())?),
        policy("bad", http(&dead)?),
    ])?;
    pod.write("web", "0.log", 1..=3000)?;
    pod.append(
        "web",
        "0.log",
        b"2026-11-23T10:15:08Z stdout P half a line\n",
    )?;
    let agent = pod.start_with(&witness, &["--drain-seconds", "2"])?;
    witness.wait_lines(3000);
    let begun = Instant::now();
    let (code, message) = agent.terminate()?;
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert_eq!(code, Some(0));
    let sinks = [("bad", 0, 3001), ("good", 3001, 0)].map(|(policy, delivered, lost)| {
        json!({"policy": policy, "sink": "sink", "delivered": delivered, "rejected": 0, "dropped": 0, "lost": lost,
            "fallback": 0})
    });
    let expected = json!({"delivered": 3001, "rejected": 0, "dropped": 0, "lost": 3001, "fallback": 0, "sinks": sinks});
    assert_eq!(message, expected);
    let told = "lines could not be delivered before the pod ended";
    witness.wait(told, |seen| {
        seen.said
            .iter()
            .any(|line| line["message"] == told && line["lost"] == 3001)
    });
    Ok(())
}

#[test]
fn a_killed_agent_goes_on_where_the_sink_was() -> Result<()> {
    const LINES: usize = 60_000;
    let witness = Witness::default();
    let server = Server::start(&witness, |_| Reply::Accept)?;
    let mut pod = Pod::new()?;
    pod.set_policies(vec![policy("p", http(&server.url())?)])?;
    pod.write("web", "0.log", 1..=LINES)?;
    for batches in [1, 3, 8] {
        let before = witness.seen().requests;
        let agent = pod.start(&witness)?;
        witness.wait("some batches", |seen| seen.requests >= before + batches);
        agent.kill()?;
    }
    let agent = pod.start(&witness)?;
    let Tally {
        unique, missing, ..
    } = witness.wait_lines(LINES);
    assert_eq!((unique, missing), (LINES, 0));
    agent.terminate()?;
    // What was sent twice has the same id.
    let seen = witness.seen();
    let id = |record: &Value| {
        (
            record["message"].to_string(),
            record["record_id"].to_string(),
        )
    };
    let mut records: Vec<_> = seen.records.iter().map(id).collect();
    records.sort();
    records.dedup();
    assert_eq!(records.len(), LINES);
    Ok(())
}

#[test]
fn a_clean_restart_repeats_nothing() -> Result<()> {
    let witness = Witness::default();
    let server = Server::start(&witness, |_| Reply::Accept)?;
    let mut pod = Pod::new()?;
    pod.set_policies(vec![policy("p", http(&server.url())?)])?;
    pod.write("web", "0.log", 1..=100)?;
    let agent = pod.start(&witness)?;
    witness.wait_lines(100);
    agent.terminate()?;
    pod.write("web", "0.log", 101..=200)?;
    let agent = pod.start(&witness)?;
    assert_eq!(witness.wait_lines(200), Tally::perfect(200));
    let (_, message) = agent.terminate()?;
    assert_eq!(
        message["delivered"], 200,
        "counts are of the pod, not of the process"
    );
    Ok(())
}

#[test]
fn torn_cursors_cost_duplicates_and_no_line() -> Result<()> {
    let witness = Witness::default();
    let server = Server::start(&witness, |_| Reply::Accept)?;
    let mut pod = Pod::new()?;
    pod.set_policies(vec![policy("p", http(&server.url())?)])?;
    pod.write("web", "0.log", 1..=100)?;
    let agent = pod.start(&witness)?;
    witness.wait_lines(100);
    agent.terminate()?;
    for saved in fs::read_dir(pod.path("state"))? {
        let path = saved?.path();
        let whole = fs::read(&path)?;
        fs::write(&path, &whole[..whole.len() - 1])?;
    }
    pod.write("web", "0.log", 101..=200)?;
    let agent = pod.start(&witness)?;
    witness.wait_said("every log is read again from its beginning", &[]);
    let tally = witness.wait_lines(200);
    assert_eq!(
        tally,
        Tally {
            duplicates: 100,
            ..Tally::perfect(200)
        }
    );
    agent.terminate()?;
    Ok(())
}

/// The kubelet may have no more time than this: what is known by then is said before.
#[test]
fn an_agent_that_is_killed_at_its_end_has_said_what_it_knew() -> Result<()> {
    let witness = Witness::default();
    let server = Server::start(&witness, |_| Reply::Accept)?;
    let mut pod = Pod::new()?;
    pod.set_policies(vec![
        policy("good", http(&server.url())?),
        policy("bad", http(&format!("http://{}", closed_port()?))?),
    ])?;
    pod.write("web", "0.log", 1..=1000)?;
    let written = fs::metadata(pod.log("web", "0.log"))?.len();
    let agent = pod.start(&witness)?;
    witness.wait_lines(1000);
    agent.signal_end()?;
    pod.wait_termination("all files are read", |message| {
        message["ending"] == true && message["delivered"] == 1000
    })?;
    agent.kill()?;
    let message = pod.termination()?;
    let sink = |name: &str, delivered: u64, pending: u64| {
        json!({"policy": name, "sink": "sink", "delivered": delivered, "rejected": 0, "dropped": 0, "lost": 0,
            "fallback": 0, "pending_bytes": pending})
    };
    assert_eq!(
        message["sinks"],
        json!([sink("bad", 0, written), sink("good", 1000, 0)])
    );
    Ok(())
}
