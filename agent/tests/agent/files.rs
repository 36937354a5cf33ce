//! Rotation, restarts and containers that appear late.

use std::{fs, io::Result};

use crate::{
    pod::{Pod, http, policy},
    server::{Reply, Server, closed_port},
    witness::{Tally, Witness, text},
};

#[test]
fn rotation_loses_nothing_and_keeps_the_order() -> Result<()> {
    const GENERATIONS: usize = 6;
    let witness = Witness::default();
    let server = Server::start(&witness, |_| Reply::Accept)?;
    let mut pod = Pod::new()?;
    pod.set_policies(vec![policy("p", http(&server.url())?)])?;
    pod.write("web", "0.log", 1..=1000)?;
    let _agent = pod.start(&witness)?;
    for generation in 1..=GENERATIONS {
        witness.wait_lines(generation * 1000 - 900);
        let time = format!("20261123-10{generation:02}00");
        let next = generation * 1000 + 1..=generation * 1000 + 1000;
        // The runtime still writes to the renamed file before it opens the new one.
        fs::rename(
            pod.log("web", "0.log"),
            pod.log("web", &format!("0.log.{time}")),
        )?;
        let (late, rest) = (
            *next.start()..=next.start() + 9,
            next.start() + 10..=*next.end(),
        );
        pod.write("web", &format!("0.log.{time}"), late)?;
        pod.write("web", "0.log", rest)?;
    }
    let lines = (GENERATIONS + 1) * 1000;
    assert_eq!(witness.wait_lines(lines), Tally::perfect(lines));
    Ok(())
}

#[test]
fn files_that_are_rotated_away_and_deleted_while_the_sink_is_down_are_still_delivered() -> Result<()>
{
    let witness = Witness::default();
    let address = closed_port()?;
    let mut pod = Pod::new()?;
    pod.set_policies(vec![policy("p", http(&format!("http://{address}"))?)])?;
    pod.write("web", "0.log", 1..=1000)?;
    let agent = pod.start(&witness)?;
    witness.wait_said("sink", &[("state", "Unreachable")]);
    let time = |round: usize| format!("20261123-10000{round}");
    for round in 1..=6 {
        pod.rotate("web", &time(round), round * 1000 + 1..=round * 1000 + 1000)?;
        // The kubelet rotates no faster than the agent looks. It packs what was rotated before and deletes it.
        agent.wait_open("/web/0.log", round + 1)?;
        if round > 1 {
            fs::remove_file(pod.log("web", &format!("0.log.{}", time(round - 1))))?;
        }
    }
    let _server = Server::start_on(&address.to_string(), &witness, |_| Reply::Accept)?;
    witness.wait_lines(7000);
    // What was read and let go of is not read again, whatever happens next.
    pod.rotate("web", &time(7), 7001..=8000)?;
    witness.wait_lines(8000);
    let (_, message) = agent.terminate()?;
    assert_eq!(witness.tally(8000), Tally::perfect(8000));
    assert_eq!(
        (&message["delivered"], &message["lost"]),
        (&8000.into(), &0.into())
    );
    Ok(())
}

#[test]
fn restarts_and_late_containers_are_found() -> Result<()> {
    let witness = Witness::default();
    let server = Server::start(&witness, |_| Reply::Accept)?;
    let mut pod = Pod::new()?;
    pod.set_policies(vec![policy("p", http(&server.url())?)])?;
    let _agent = pod.start(&witness)?;
    witness.wait_said("bundle applied", &[]);
    pod.write("web", "0.log", 1..=100)?;
    witness.wait_lines(100);
    // The last line of a container that ended has no end, and its successor begins.
    pod.append(
        "web",
        "0.log",
        b"2026-11-23T10:15:08Z stdout P line 000101 without end\n",
    )?;
    pod.write("web", "1.log", 102..=200)?;
    witness.wait_lines(200);
    pod.write("late", "0.log", 201..=300)?;
    assert_eq!(witness.wait_lines(300), Tally::perfect(300));
    Ok(())
}

#[test]
fn an_agent_that_was_away_reads_what_was_rotated_meanwhile() -> Result<()> {
    let witness = Witness::default();
    let server = Server::start(&witness, |_| Reply::Accept)?;
    let mut pod = Pod::new()?;
    pod.set_policies(vec![policy("p", http(&server.url())?)])?;
    pod.write("web", "0.log", 1..=100)?;
    let agent = pod.start(&witness)?;
    witness.wait_lines(100);
    agent.terminate()?;
    pod.write("web", "0.log", 101..=200)?;
    pod.rotate("web", "20261123-100000", 201..=300)?;
    pod.rotate("web", "20261123-110000", 301..=400)?;
    let _agent = pod.start(&witness)?;
    assert_eq!(witness.wait_lines(400), Tally::perfect(400));
    Ok(())
}

/// A dead sink must not fill the node's disk, and what it costs is told.
#[test]
fn what_is_given_up_with_deleted_files_is_counted() -> Result<()> {
    let witness = Witness::default();
    let address = closed_port()?;
    let mut pod = Pod::new()?;
    pod.set_policies(vec![policy("p", http(&format!("http://{address}"))?)])?;
    pod.write("web", "0.log", 1..=1000)?;
    let agent = pod.start_with(&witness, &["--most-held-bytes", "1000"])?;
    witness.wait_said("sink", &[("state", "Unreachable")]);
    pod.rotate("web", "20261123-100000", 1001..=2000)?;
    fs::remove_file(pod.log("web", "0.log.20261123-100000"))?;
    witness.wait_said(
        "lines were given up with files that were deleted long ago",
        &[("sink", "sink")],
    );
    let _server = Server::start_on(&address.to_string(), &witness, |_| Reply::Accept)?;
    witness.wait("the second file", |seen| seen.records.len() >= 1000);
    let (_, message) = agent.terminate()?;
    assert_eq!(
        (&message["delivered"], &message["lost"]),
        (&1000.into(), &1000.into())
    );
    assert_eq!(witness.tally(2000).unique, 1000);
    Ok(())
}

/// A pod may end just after a rotation, with a file that is not known to be finished and another one after it.
#[test]
fn a_pod_that_ends_just_after_a_rotation_loses_nothing() -> Result<()> {
    let witness = Witness::default();
    let server = Server::start(&witness, |_| Reply::Accept)?;
    let mut pod = Pod::new()?;
    pod.set_policies(vec![policy("p", http(&server.url())?)])?;
    pod.write("web", "0.log", 1..=100)?;
    let agent = pod.start(&witness)?;
    witness.wait_lines(100);
    pod.rotate("web", "20261123-100000", 101..=200)?;
    pod.rotate("web", "20261123-100001", 201..=300)?;
    pod.write("web", "1.log", 301..=400)?;
    let (_, message) = agent.terminate()?;
    assert_eq!(witness.tally(400), Tally::perfect(400));
    assert_eq!(
        (&message["delivered"], &message["lost"]),
        (&400.into(), &0.into())
    );
    Ok(())
}

/// What the runtime writes to a file that seemed to be finished is found.
#[test]
fn a_finished_file_that_grows_after_all_is_read_on() -> Result<()> {
    let witness = Witness::default();
    let server = Server::start(&witness, |_| Reply::Accept)?;
    let mut pod = Pod::new()?;
    pod.set_policies(vec![policy("p", http(&server.url())?)])?;
    pod.write("web", "0.log", 1..=100)?;
    pod.rotate("web", "20261123-100000", 101..=200)?;
    let _agent = pod.start(&witness)?;
    // The second file is read when the first one is taken for finished.
    witness.wait_lines(200);
    pod.write("web", "0.log.20261123-100000", 201..=210)?;
    let Tally {
        unique,
        missing,
        duplicates,
        ..
    } = witness.wait_lines(210);
    assert_eq!((unique, missing, duplicates), (210, 0, 0));
    Ok(())
}

/// The runtime writes a long line in parts, and the kubelet rotates between two of them.
#[test]
fn a_line_that_rotation_cuts_is_one_record() -> Result<()> {
    let witness = Witness::default();
    let server = Server::start(&witness, |_| Reply::Accept)?;
    let mut pod = Pod::new()?;
    pod.set_policies(vec![policy("p", http(&server.url())?)])?;
    let part = |stream: &str, tag: char, text: &str| {
        format!("2026-11-23T10:15:08Z {stream} {tag} {text}\n").into_bytes()
    };
    pod.write("web", "0.log", 1..=10)?;
    pod.append("web", "0.log", &part("stdout", 'P', "line 000011, "))?;
    pod.append("web", "0.log", &part("stderr", 'F', "line 000012"))?;
    let agent = pod.start(&witness)?;
    witness.wait("the whole lines", |seen| seen.records.len() == 11);
    pod.rotate("web", "20261123-100000", [])?;
    pod.append("web", "0.log", &part("stdout", 'P', "its middle, "))?;
    pod.append("web", "0.log", &part("stderr", 'F', "line 000013"))?;
    witness.wait("the other stream", |seen| seen.records.len() == 12);
    // An agent that starts anew finds both ends of the line again.
    agent.kill()?;
    let agent = pod.start(&witness)?;
    witness.wait_said("bundle applied", &[]);
    pod.append("web", "0.log", &part("stdout", 'F', "its end"))?;
    pod.write("web", "0.log", 14..=20)?;
    let whole = "line 000011, its middle, its end";
    witness.wait(whole, |seen| {
        seen.records
            .iter()
            .filter_map(text)
            .any(|text| text == whole)
    });
    witness.wait_lines(20);
    let (_, message) = agent.terminate()?;
    assert_eq!(message["lost"], 0);
    let mut texts: Vec<_> = witness
        .seen()
        .records
        .iter()
        .filter_map(text)
        .map(str::to_owned)
        .collect();
    texts.sort();
    texts.dedup();
    assert_eq!(texts.len(), 20, "{texts:?}");
    Ok(())
}
