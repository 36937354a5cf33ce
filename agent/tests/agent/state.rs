//! What the agent keeps between two lives, where it cannot keep it, and how little it needs while it lives.

use std::{
    fs::{self, File},
    io::{Result, Write},
    os::unix::fs::symlink,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use serde_json::Value;

use crate::{
    pod::{Pod, http, policy, splunk},
    server::{Reply, Server, closed_port},
    witness::{Tally, Witness, numbered, text},
};

/// `/dev/full` refuses every byte, as a full disk does.
#[test]
fn with_a_full_disk_the_agent_says_so_and_goes_on() -> Result<()> {
    let witness = Witness::default();
    let server = Server::start(&witness, |_| Reply::Accept)?;
    let mut pod = Pod::new()?;
    pod.set_policies(vec![policy("p", http(&server.url())?)])?;
    pod.write("web", "0.log", 1..=100)?;
    symlink("/dev/full", pod.path("state").join("cursors.new"))?;
    let agent = pod.start(&witness)?;
    assert_eq!(witness.wait_lines(100), Tally::perfect(100));
    witness.wait_said(
        "failed, and tried again",
        &[
            ("what", "cursors"),
            ("reason", "No space left on device (os error 28)"),
        ],
    );
    // Then there is room.
    pod.wait_saved(100)?;
    agent.kill()?;
    pod.write("web", "0.log", 101..=200)?;
    let _agent = pod.start(&witness)?;
    assert_eq!(witness.wait_lines(200), Tally::perfect(200));
    Ok(())
}

#[test]
fn a_directory_that_cannot_be_written_is_told_once_and_costs_nothing_while_the_agent_lives()
-> Result<()> {
    let witness = Witness::default();
    let server = Server::start(&witness, |_| Reply::Accept)?;
    let mut pod = Pod::new()?;
    pod.set_policies(vec![policy("p", http(&server.url())?)])?;
    pod.write("web", "0.log", 1..=100)?;
    let state = pod.path("state");
    fs::remove_dir(&state)?;
    fs::write(&state, "")?;
    let agent = pod.start(&witness)?;
    let told = |seen: &Value| seen["what"] == "cursors";
    for round in 1..=3 {
        witness.wait_lines(round * 100);
        witness.wait("the reason", |seen| seen.said.iter().any(told));
        pod.write("web", "0.log", round * 100 + 1..=round * 100 + 100)?;
    }
    assert_eq!(witness.wait_lines(400), Tally::perfect(400));
    let (code, message) = agent.terminate()?;
    assert_eq!((code, &message["delivered"]), (Some(0), &400.into()));
    let said = &witness.seen().said;
    assert_eq!(said.iter().filter(|said| told(said)).count(), 1);
    Ok(())
}

#[test]
fn without_saved_cursors_every_line_comes_again_with_its_id() -> Result<()> {
    let witness = Witness::default();
    let server = Server::start(&witness, |_| Reply::Accept)?;
    let mut pod = Pod::new()?;
    pod.set_policies(vec![policy("p", http(&server.url())?)])?;
    pod.write("web", "0.log", 1..=100)?;
    for round in 1..=2 {
        let state = pod.path(&format!("no-directory-{round}"));
        fs::write(&state, "")?;
        let agent = pod.start_with(&witness, &["--state-dir", &state.to_string_lossy()])?;
        witness.wait("all lines", |seen| seen.records.len() == round * 100);
        let (code, _) = agent.terminate()?;
        assert_eq!(code, Some(0));
    }
    let seen = witness.seen();
    let ids = |records: &[Value]| -> Vec<Value> {
        records
            .iter()
            .map(|record| record["record_id"].clone())
            .collect()
    };
    assert_eq!(ids(&seen.records[..100]), ids(&seen.records[100..]));
    Ok(())
}

/// Whatever is replaced while batches are on their way, every line arrives, and what comes twice has the same id.
#[test]
fn bundles_and_credentials_that_change_in_the_middle_of_a_batch_lose_nothing() -> Result<()> {
    const LINES: usize = 20_000;
    let witness = Witness::default();
    let token = Arc::new(AtomicUsize::new(0));
    let valid = Arc::clone(&token);
    let server = Server::start(&witness, move |request| {
        let expected = format!("Splunk token-{}", valid.load(Ordering::SeqCst));
        if request.header("authorization") == expected {
            Reply::Accept
        } else {
            Reply::Refuse(403, "", r#"{"text":"Invalid token","code":4}"#.into())
        }
    })?;
    let mut pod = Pod::new()?;
    let published = |round: usize| -> Result<_> {
        let mut one = policy("p", splunk(&server.url())?);
        for sink in &mut one.sinks {
            // Another one each time.
            sink.batch.max_records = u32::try_from(100 + round)
                .ok()
                .and_then(|n| n.try_into().ok());
        }
        Ok(vec![one])
    };
    pod.set("token", Some(b"token-0"))?;
    pod.set_policies(published(0)?)?;
    pod.write("web", "0.log", 1..=LINES)?;
    let agent = pod.start(&witness)?;
    for round in 1..=6 {
        let before = witness.seen().records.len();
        witness.wait("some progress", |seen| {
            seen.records.len() > before + 300 || seen.records.len() >= LINES
        });
        // Neither waits for the other.
        token.store(round, Ordering::SeqCst);
        pod.set_policies(published(round)?)?;
        pod.set("token", Some(format!("token-{round}").as_bytes()))?;
    }
    let Tally {
        unique, missing, ..
    } = witness.wait_lines(LINES);
    assert_eq!((unique, missing), (LINES, 0));
    let (_, message) = agent.terminate()?;
    assert_eq!(
        (&message["delivered"], &message["lost"]),
        (&LINES.into(), &0.into())
    );
    let seen = witness.seen();
    let id = |record: &Value| {
        (
            text(record).unwrap_or_default().to_owned(),
            record["fields"]["record_id"].to_string(),
        )
    };
    let mut ids: Vec<_> = seen.records.iter().map(id).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), LINES);
    Ok(())
}

/// Far more files than the agent may have open, for a sink that is down at first.
#[test]
fn more_files_than_descriptors_lose_nothing_and_cost_little() -> Result<()> {
    const FILES: usize = 3000;
    let witness = Witness::default();
    let address = closed_port()?;
    let mut pod = Pod::new()?;
    pod.set_policies(vec![policy("p", http(&format!("http://{address}"))?)])?;
    for number in 1..=FILES {
        let name = if number == FILES {
            "0.log".to_owned()
        } else {
            format!("0.log.20261123-{number:06}")
        };
        pod.write("web", &name, number..=number)?;
    }
    let agent = pod.start_limited(&witness, 64)?;
    witness.wait_said("sink", &[("state", "Unreachable")]);
    let _server = Server::start_on(&address.to_string(), &witness, |_| Reply::Accept)?;
    assert_eq!(witness.wait_lines(FILES), Tally::perfect(FILES));
    let peak = agent.peak()?;
    let (_, message) = agent.terminate()?;
    assert_eq!(
        (&message["delivered"], &message["lost"]),
        (&FILES.into(), &0.into())
    );
    // What the kernel gives the sidecar.
    assert!(peak < 32 << 20, "{} KiB", peak >> 10);
    Ok(())
}

/// A line without an end comes in records of one mebibyte each and costs no more memory than those.
#[test]
fn a_very_long_line_needs_little_memory() -> Result<()> {
    const MEBIBYTES: usize = 64;
    const PART: usize = 16 << 10;
    let witness = Witness::default();
    let sizes = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&sizes);
    let seen = witness.clone();
    let server = Server::start(&Witness::default(), move |request| {
        for text in request.records.iter().filter_map(text) {
            counted.fetch_add(text.matches('x').count(), Ordering::SeqCst);
        }
        seen.add(|seen| seen.requests += 1);
        Reply::AcceptAs(200, Vec::new(), Vec::new())
    })?;
    let mut pod = Pod::new()?;
    pod.set_policies(vec![policy("p", http(&server.url())?)])?;
    pod.append("web", "0.log", b"2026-11-23T10:15:07Z stdout F short\n")?;
    let agent = pod.start(&witness)?;
    witness.wait("the first line", |seen| seen.requests > 0);
    let before = agent.peak()?;
    let mut file = File::options().append(true).open(pod.log("web", "0.log"))?;
    let part = "x".repeat(PART);
    for _ in 0..MEBIBYTES << 20 >> 14 {
        writeln!(file, "2026-11-23T10:15:08Z stdout P {part}")?;
    }
    // And one that not even the runtime has cut.
    write!(file, "2026-11-23T10:15:09Z stderr F ")?;
    for _ in 0..MEBIBYTES << 20 >> 14 {
        file.write_all(part.as_bytes())?;
    }
    writeln!(file)?;
    let all = (2 * MEBIBYTES) << 20;
    witness.wait("almost all of both lines", |_| {
        sizes.load(Ordering::SeqCst) >= all - (1 << 20)
    });
    let peak = agent.peak()?;
    let (_, message) = agent.terminate()?;
    assert_eq!(sizes.load(Ordering::SeqCst), all);
    assert_eq!(message["lost"], 0);
    assert!(
        peak - before < 16 << 20,
        "{} KiB more",
        (peak - before) >> 10
    );
    Ok(())
}

/// A container may end before it is seen, another one begin late, and each has its runs.
#[test]
fn init_containers_and_restarts_are_read_whenever_they_come() -> Result<()> {
    let witness = Witness::default();
    let server = Server::start(&witness, |_| Reply::Accept)?;
    let mut pod = Pod::new()?;
    pod.set_policies(vec![policy("p", http(&server.url())?)])?;
    pod.write("setup", "0.log", 1..=100)?;
    fs::create_dir(pod.path("logs").join("web"))?;
    let agent = pod.start(&witness)?;
    witness.wait_lines(100);
    // The runtime makes the file before the first line.
    pod.write("web", "0.log", [])?;
    pod.append("web", "0.log", b"2026-11-23T10:15:07Z stdout F ")?;
    pod.write("web", "1.log", 102..=200)?;
    witness.wait("the second run", |seen| seen.records.len() >= 199);
    pod.append("web", "0.log", format!("{}\n", numbered(101)).as_bytes())?;
    witness.wait_lines(200);
    // Half a line is all that this one ever wrote.
    pod.append(
        "brief",
        "0.log",
        b"2026-11-23T10:15:07Z stderr F line 000201",
    )?;
    let (_, message) = agent.terminate()?;
    assert_eq!(message["delivered"], 201);
    let tally = witness.tally(201);
    assert_eq!((tally.unique, tally.duplicates), (201, 0));
    Ok(())
}
