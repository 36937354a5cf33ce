//! Files that are compressed, deleted, truncated or unreadable: what can be read is delivered, the rest told and counted.

use std::{
    fs::{self, File},
    io::{Error, Result},
    os::unix::fs::symlink,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use katonic_log_config::{ContainerPattern, Policy};
use serde_json::{Value, json};

use crate::{
    pod::{Pod, http, policy, splunk},
    server::{Reply, Server, closed_port},
    witness::{Tally, Witness, text},
};

const FIRST: &str = "0.log.20261123-100000";
const SECOND: &str = "0.log.20261123-110000";

fn counts(message: &Value) -> [Option<u64>; 4] {
    ["delivered", "rejected", "dropped", "lost"].map(|name| message[name].as_u64())
}

/// A sink that accepts while it is up.
fn switched(witness: &Witness) -> Result<(Server, Switch)> {
    let switch = Switch::default();
    switch.set(true);
    let seen = switch.clone();
    let server = Server::start(witness, move |request| {
        if seen.lock().is_some_and(|since| request.begun >= since) {
            Reply::Accept
        } else {
            Reply::Refuse(503, "", String::new())
        }
    })?;
    Ok((server, switch))
}

/// Since when a sink takes what begins to come; none while it is down. What was under way when it came up is refused: the agent
/// may have given it up meanwhile.
#[derive(Clone, Debug, Default)]
struct Switch(Arc<Mutex<Option<Instant>>>);

impl Switch {
    fn set(&self, is_up: bool) {
        *self.lock() = is_up.then(Instant::now);
    }

    fn lock(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The sink is down, the agent is killed, the kubelet rotates twice: then the first file is there in compressed form.
#[test]
fn what_was_compressed_while_the_agent_was_away_is_read_on() -> Result<()> {
    let witness = Witness::default();
    let (server, is_up) = switched(&witness)?;
    let mut pod = Pod::new()?;
    pod.set_policies(vec![policy("p", http(&server.url())?)])?;
    pod.write("web", "0.log", 1..=1000)?;
    let agent = pod.start(&witness)?;
    witness.wait_lines(1000);
    pod.wait_saved(1000)?;
    is_up.set(false);
    pod.write("web", "0.log", 1001..=20_000)?;
    witness.wait_said("sink", &[("state", "Unreachable")]);
    agent.kill()?;
    pod.rotate("web", "20261123-100000", 20_001..=21_000)?;
    pod.compress("web", FIRST, false)?;
    // It is compressing the next one, too.
    fs::write(pod.log("web", &format!("{SECOND}.tmp")), b"half a file")?;
    pod.rotate("web", "20261123-110000", 21_001..=22_000)?;
    is_up.set(true);
    let agent = pod.start(&witness)?;
    witness.wait_lines(5000);
    // While the agent reads it as it was written, the kubelet removes that form.
    fs::remove_file(pod.log("web", FIRST))?;
    assert_eq!(witness.wait_lines(22_000), Tally::perfect(22_000));
    agent.kill()?;
    // Another agent, which never saw the first form, finds nothing new in the second one.
    let agent = pod.start(&witness)?;
    pod.write("web", "0.log", 22_001..=23_000)?;
    witness.wait_lines(23_000);
    let (_, message) = agent.terminate()?;
    let Tally { unique, .. } = witness.tally(23_000);
    assert_eq!(unique, 23_000);
    assert_eq!(counts(&message)[3], Some(0));
    Ok(())
}

/// The same with an agent that finds nothing but the compressed form, and with one that ran all the time.
#[test]
fn a_compressed_file_is_read_from_the_cursor_on_and_once() -> Result<()> {
    let witness = Witness::default();
    let (server, is_up) = switched(&witness)?;
    let mut pod = Pod::new()?;
    let mut in_small_batches = policy("p", http(&server.url())?);
    for sink in &mut in_small_batches.sinks {
        sink.batch.max_records = 700.try_into().ok();
    }
    pod.set_policies(vec![in_small_batches])?;
    pod.write("web", "0.log", 1..=1000)?;
    let agent = pod.start(&witness)?;
    witness.wait_lines(1000);
    pod.wait_saved(1000)?;
    is_up.set(false);
    pod.write("web", "0.log", 1001..=10_000)?;
    witness.wait_said("sink", &[("state", "Unreachable")]);
    agent.kill()?;
    pod.rotate("web", "20261123-100000", 10_001..=11_000)?;
    pod.compress("web", FIRST, true)?;
    pod.write("other", "0.log", 11_001..=12_000)?;
    is_up.set(true);
    let agent = pod.start(&witness)?;
    let tally = witness.wait_lines(12_000);
    assert_eq!((tally.unique, tally.duplicates), (12_000, 0));
    pod.rotate("web", "20261123-110000", 12_001..=13_000)?;
    witness.wait_lines(13_000);
    pod.compress("web", SECOND, true)?;
    pod.rotate("web", "20261123-120000", 13_001..=14_000)?;
    witness.wait_lines(14_000);
    let (_, message) = agent.terminate()?;
    assert_eq!(counts(&message), [14_000, 0, 0, 0].map(Some));
    assert_eq!(witness.tally(14_000).duplicates, 0);
    Ok(())
}

#[test]
fn what_was_deleted_while_the_agent_was_away_is_told_and_counted() -> Result<()> {
    let witness = Witness::default();
    let (server, is_up) = switched(&witness)?;
    let mut pod = Pod::new()?;
    pod.set_policies(vec![policy("p", http(&server.url())?)])?;
    pod.write("web", "0.log", 1..=1000)?;
    let agent = pod.start(&witness)?;
    witness.wait_lines(1000);
    is_up.set(false);
    let known = fs::metadata(pod.log("web", "0.log"))?.len();
    pod.write("web", "0.log", 1001..=2000)?;
    witness.wait_said("sink", &[("state", "Unreachable")]);
    let lost = fs::metadata(pod.log("web", "0.log"))?.len() - known;
    // Only with the next file is it known how large this one became.
    pod.rotate("web", "20261123-100000", 2001..=3000)?;
    agent.wait_open("/web/0.log", 2)?;
    pod.wait_saved(1000)?;
    pod.wait_known(2)?;
    agent.kill()?;
    fs::remove_file(pod.log("web", FIRST))?;
    is_up.set(true);
    let agent = pod.start(&witness)?;
    witness.wait("the file that is left", |seen| seen.records.len() >= 2000);
    let told = "a log file was gone before it was read to its end; the rest is lost";
    witness.wait(told, |seen| {
        seen.said.iter().any(|line| {
            line["message"] == told && line["bytes"] == lost && line["container"] == "web"
        })
    });
    let (_, message) = agent.terminate()?;
    assert_eq!(counts(&message), [2000, 0, 0, 1].map(Some));
    // It is told once.
    let agent = pod.start(&witness)?;
    let (_, message) = agent.terminate()?;
    assert_eq!(counts(&message), [2000, 0, 0, 1].map(Some));
    let seen = witness.seen();
    let told = seen.said.iter().filter(|line| line["message"] == told);
    assert_eq!(told.count(), 1);
    Ok(())
}

#[test]
fn of_a_damaged_compressed_file_the_whole_part_is_delivered_and_the_rest_told() -> Result<()> {
    let witness = Witness::default();
    let server = Server::start(&witness, |_| Reply::Accept)?;
    let mut pod = Pod::new()?;
    pod.set_policies(vec![policy("p", http(&server.url())?)])?;
    pod.write("web", FIRST, 1..=10_000)?;
    pod.compress("web", FIRST, true)?;
    pod.write("web", "0.log", 10_001..=11_000)?;
    let packed = pod.log("web", &format!("{FIRST}.gz"));
    let whole = fs::read(&packed)?;
    fs::write(&packed, &whole[..whole.len() / 2])?;
    let agent = pod.start(&witness)?;
    witness.wait_said(
        "a compressed log file is damaged; what could not be read of it is lost",
        &[("container", "web")],
    );
    witness.wait("the next file", |seen| {
        let mut texts = seen.records.iter().rev().filter_map(text);
        texts
            .next()
            .is_some_and(|text| text.starts_with("line 011000"))
    });
    let (_, message) = agent.terminate()?;
    assert_eq!(counts(&message)[3], Some(1));
    let Tally {
        unique, duplicates, ..
    } = witness.tally(11_000);
    assert!(unique > 3000 && duplicates == 0, "{unique} lines");
    Ok(())
}

#[test]
fn what_was_not_read_of_a_truncated_file_is_told_and_counted() -> Result<()> {
    let witness = Witness::default();
    let (server, is_up) = switched(&witness)?;
    is_up.set(false);
    let mut pod = Pod::new()?;
    pod.set_policies(vec![policy("p", http(&server.url())?)])?;
    // More than one batch holds.
    pod.write("web", "0.log", 1..=20_000)?;
    let agent = pod.start(&witness)?;
    witness.wait_said("sink", &[("state", "Unreachable")]);
    File::create(pod.log("web", "0.log"))?;
    pod.write("web", "0.log", 20_001..=21_000)?;
    witness.wait_said(
        "a log file was truncated; what was not read of it is lost",
        &[("container", "web")],
    );
    is_up.set(true);
    witness.wait("the new content", |seen| {
        let mut texts = seen.records.iter().rev().filter_map(text);
        texts
            .next()
            .is_some_and(|text| text.starts_with("line 021000"))
    });
    let (_, message) = agent.terminate()?;
    let unique = witness.tally(21_000).unique as u64;
    assert_eq!(counts(&message), [unique, 0, 0, 1].map(Some));
    assert!((1000..20_000).contains(&unique), "{unique}");
    witness.wait_said(
        "a log file was gone before it was read to its end; the rest is lost",
        &[("container", "web")],
    );
    Ok(())
}

#[test]
fn a_file_that_never_could_be_opened_is_told_and_counted() -> Result<()> {
    let witness = Witness::default();
    let server = Server::start(&witness, |_| Reply::Accept)?;
    let mut pod = Pod::new()?;
    pod.set_policies(vec![policy("p", http(&server.url())?)])?;
    pod.write("web", "0.log", 1..=10)?;
    // A link to itself cannot be followed, whoever asks.
    symlink("1.log", pod.log("web", "1.log"))?;
    let agent = pod.start(&witness)?;
    witness.wait_lines(10);
    let path = pod.log("web", "1.log");
    witness.wait_said(
        "failed, and tried again",
        &[("what", &path.to_string_lossy())],
    );
    let (_, message) = agent.terminate()?;
    assert_eq!(counts(&message), [10, 0, 0, 1].map(Some));
    Ok(())
}

/// Giving up what a dead sink did not get does not even cost a healthy one its connection.
#[test]
fn a_healthy_sink_does_not_notice_what_is_given_up_for_a_dead_one() -> Result<()> {
    let witness = Witness::default();
    let server = Server::start(&witness, |_| Reply::Accept)?;
    let mut pod = Pod::new()?;
    pod.set_policies(vec![
        policy("good", http(&server.url())?),
        policy("bad", http(&format!("http://{}", closed_port()?))?),
    ])?;
    pod.write("web", "0.log", 1..=1000)?;
    let agent = pod.start_with(
        &witness,
        &["--most-held-bytes", "1000", "--drain-seconds", "2"],
    )?;
    witness.wait_lines(1000);
    witness.wait_said("sink", &[("policy", "bad"), ("state", "Unreachable")]);
    pod.rotate("web", "20261123-100000", 1001..=2000)?;
    witness.wait_lines(2000);
    fs::remove_file(pod.log("web", FIRST))?;
    witness.wait_said(
        "lines were given up with files that were deleted long ago",
        &[("policy", "bad")],
    );
    pod.write("web", "0.log", 2001..=3000)?;
    assert_eq!(witness.wait_lines(3000), Tally::perfect(3000));
    assert_eq!(server.connections(), 1);
    let (_, message) = agent.terminate()?;
    assert_eq!(counts(&message), [3000, 0, 0, 3000].map(Some));
    Ok(())
}

#[test]
fn what_goes_with_a_policy_is_told_and_counted() -> Result<()> {
    let witness = Witness::default();
    let mut pod = Pod::new()?;
    let dead = format!("http://{}", closed_port()?);
    pod.set_policies(vec![policy("bad", http(&dead)?)])?;
    pod.write("web", "0.log", 1..=1000)?;
    let agent = pod.start(&witness)?;
    witness.wait_said("sink", &[("state", "Unreachable")]);
    pod.rotate("web", "20261123-100000", 1001..=2000)?;
    agent.wait_open("/web/0.log", 2)?;
    fs::remove_file(pod.log("web", FIRST))?;
    // It is known to be deleted once the descriptor says so and a look has seen it.
    agent.wait_open("(deleted)", 1)?;
    pod.write("late", "0.log", 2001..=2001)?;
    agent.wait_open("/late/0.log", 1)?;
    pod.set_policies(Vec::new())?;
    declined(&witness, "web", 2000);
    declined(&witness, "late", 1);
    // Of these nobody has ever said anything.
    pod.write("late", "0.log", 2002..=3000)?;
    let (_, message) = agent.terminate()?;
    assert_eq!(counts(&message), [0, 0, 2001, 0].map(Some));
    Ok(())
}

/// Waits until it is told how many records of a container are not wanted any more.
fn declined(witness: &Witness, container: &str, records: u64) {
    let message = "the policy no longer takes a container of which its sink has not got everything; unless it takes it again, the rest is dropped";
    witness.wait(message, |seen| {
        seen.said.iter().any(|line| {
            line["message"] == message
                && line["container"] == container
                && line["records"] == records
        })
    });
}

/// A policy that leaves this container out.
fn without(container: &str, policy: &Policy) -> Result<Policy> {
    let pattern = ContainerPattern::try_from(container.to_owned()).map_err(Error::other)?;
    let mut policy = policy.clone();
    policy.containers.exclude.insert(pattern);
    Ok(policy)
}

/// Its sink is down when the policy is changed; then the kubelet deletes a file.
#[test]
fn a_container_that_a_policy_no_longer_takes_is_dropped_to_the_record_and_not_lost() -> Result<()> {
    for is_killed in [false, true] {
        let witness = Witness::default();
        let (server, is_up) = switched(&witness)?;
        let mut pod = Pod::new()?;
        let of_all = policy("p", http(&server.url())?);
        pod.set_policies(vec![of_all.clone()])?;
        pod.write("web", "0.log", 1..=100)?;
        pod.write("other", "0.log", 101..=200)?;
        let mut agent = pod.start(&witness)?;
        witness.wait_lines(200);
        pod.wait_saved(200)?;
        is_up.set(false);
        pod.write("web", "0.log", 1001..=2000)?;
        pod.write("other", "0.log", 201..=300)?;
        witness.wait_said("sink", &[("state", "Unreachable")]);
        pod.rotate("web", "20261123-100000", 2001..=2500)?;
        agent.wait_open("/web/0.log", 2)?;
        pod.set_policies(vec![without("web", &of_all)?])?;
        declined(&witness, "web", 1500);
        // What comes now nobody wants.
        pod.write("web", "0.log", 2501..=3000)?;
        if is_killed {
            pod.wait_declined(1500)?;
            agent.kill()?;
            agent = pod.start(&witness)?;
        }
        fs::remove_file(pod.log("web", FIRST))?;
        is_up.set(true);
        let Tally { duplicates, .. } = witness.wait_lines(300);
        assert_eq!(duplicates, 0);
        let (_, message) = agent.terminate()?;
        assert_eq!(counts(&message), [300, 0, 1500, 0].map(Some), "{is_killed}");
        let seen = witness.seen();
        let lost = seen.said.iter().find(|line| line["level"] == "error");
        assert_eq!(lost, None);
    }
    Ok(())
}

#[test]
fn a_container_that_a_policy_takes_again_is_delivered_as_if_nothing_had_been() -> Result<()> {
    let witness = Witness::default();
    let (server, is_up) = switched(&witness)?;
    let mut pod = Pod::new()?;
    let of_all = policy("p", http(&server.url())?);
    pod.set_policies(vec![of_all.clone()])?;
    pod.write("web", "0.log", 1..=100)?;
    let agent = pod.start(&witness)?;
    witness.wait_lines(100);
    is_up.set(false);
    pod.write("web", "0.log", 101..=1000)?;
    witness.wait_said("sink", &[("state", "Unreachable")]);
    pod.set_policies(vec![without("web", &of_all)?])?;
    declined(&witness, "web", 900);
    pod.rotate("web", "20261123-100000", 1001..=1100)?;
    is_up.set(true);
    pod.set_policies(vec![of_all])?;
    assert_eq!(witness.wait_lines(1100), Tally::perfect(1100));
    let (_, message) = agent.terminate()?;
    assert_eq!(counts(&message), [1100, 0, 0, 0].map(Some));
    Ok(())
}

/// The pod's labels change, so that the policy takes nothing of it; they do not come back.
#[test]
fn a_pod_that_a_policy_no_longer_takes_is_dropped_to_the_record() -> Result<()> {
    let witness = Witness::default();
    let (server, is_up) = switched(&witness)?;
    let mut pod = Pod::new()?;
    let mut of_web = policy("p", http(&server.url())?);
    let label = ("app".to_owned(), "web".to_owned());
    of_web.selector.match_labels.extend([label]);
    pod.set_policies(vec![of_web])?;
    pod.write("web", "0.log", 1..=100)?;
    let agent = pod.start(&witness)?;
    witness.wait_lines(100);
    is_up.set(false);
    pod.write("web", "0.log", 101..=1000)?;
    witness.wait_said("sink", &[("state", "Unreachable")]);
    fs::write(pod.path("labels"), "app=\"another\"\n")?;
    declined(&witness, "web", 900);
    pod.write("web", "0.log", 1001..=2000)?;
    let (_, message) = agent.terminate()?;
    assert_eq!(counts(&message), [100, 0, 900, 0].map(Some));
    Ok(())
}

/// Some records are refused, some given up, some left when the pod ends: each is counted once.
#[test]
fn every_record_has_exactly_one_fate() -> Result<()> {
    const LINES: u64 = 6000;
    let witness = Witness::default();
    let is_up = Arc::new(AtomicBool::new(true));
    let next_file_tried = Arc::new(AtomicBool::new(false));
    let (seen, tried) = (Arc::clone(&is_up), Arc::clone(&next_file_tried));
    let server = Server::start(&witness, move |request| {
        if !seen.load(Ordering::SeqCst) {
            let is_of_next_file =
                |record: &Value| text(record).is_some_and(|text| text.starts_with("line 003001"));
            if request.records.iter().any(is_of_next_file) {
                tried.store(true, Ordering::SeqCst);
            }
            return Reply::Refuse(503, "", String::new());
        }
        let is_bad =
            |record: &Value| text(record).is_some_and(|text| text.starts_with("line 0005"));
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
    pod.write("web", "0.log", 1..=2000)?;
    let agent = pod.start_with(
        &witness,
        &["--most-held-bytes", "1000", "--drain-seconds", "6"],
    )?;
    // Lines 500 to 599 are refused.
    witness.wait("what is good", |seen| seen.records.len() == 1900);
    is_up.store(false, Ordering::SeqCst);
    pod.write("web", "0.log", 2001..=3000)?;
    pod.rotate("web", "20261123-100000", 3001..=4000)?;
    agent.wait_open("/web/0.log", 2)?;
    fs::remove_file(pod.log("web", FIRST))?;
    witness.wait_said(
        "lines were given up with files that were deleted long ago",
        &[("sink", "sink")],
    );
    // What was on its way when it was given up has been refused by now.
    witness.wait("an attempt with the next file", |_| {
        next_file_tried.load(Ordering::SeqCst)
    });
    is_up.store(true, Ordering::SeqCst);
    witness.wait("the next file", |seen| seen.records.len() == 2900);
    is_up.store(false, Ordering::SeqCst);
    pod.write("web", "0.log", 4001..=5000)?;
    pod.write("late", "0.log", 5001..=6000)?;
    let (code, message) = agent.terminate()?;
    assert_eq!(code, Some(0));
    assert_eq!(counts(&message), [2900, 100, 0, 3000].map(Some));
    assert_eq!(counts(&message).into_iter().flatten().sum::<u64>(), LINES);
    Ok(())
}

/// What nobody can count is told as a loss of one line at least.
#[test]
fn what_was_written_and_deleted_while_no_agent_was_running_is_told() -> Result<()> {
    let witness = Witness::default();
    let server = Server::start(&witness, |_| Reply::Accept)?;
    let mut pod = Pod::new()?;
    pod.set_policies(vec![policy("p", http(&server.url())?)])?;
    pod.write("web", "0.log", 1..=100)?;
    pod.write("job", "0.log", 101..=200)?;
    let agent = pod.start(&witness)?;
    witness.wait_lines(200);
    pod.wait_saved(200)?;
    agent.kill()?;
    // Of one the live file is rotated away and deleted, of the other the logs of two starts.
    pod.write("web", "0.log", 1001..=1010)?;
    pod.rotate("web", "20261123-100000", 201..=300)?;
    fs::remove_file(pod.log("web", "0.log.20261123-100000"))?;
    pod.write("job", "3.log", 301..=400)?;
    let agent = pod.start(&witness)?;
    // Of two containers, in whatever order.
    assert_eq!(witness.wait_lines(400).unique, 400);
    witness.wait_said(
        "a log file was deleted while no agent was running; what was written to it meanwhile is lost",
        &[("sink", "sink"), ("container", "web")],
    );
    witness.wait("the starts", |seen| {
        seen.said.iter().any(|line| {
            line["message"]
                == "a container was started and ended while no agent was running, and its log is gone; what was in it is lost"
                && (&line["container"], &line["restart"], &line["through_restart"])
                    == (&"job".into(), &1.into(), &2.into())
        })
    });
    let (_, message) = agent.terminate()?;
    assert_eq!(
        (&message["delivered"], &message["lost"]),
        (&400.into(), &2.into())
    );
    // Told once.
    let agent = pod.start(&witness)?;
    pod.write("job", "3.log", 401..=410)?;
    witness.wait_lines(410);
    let (_, message) = agent.terminate()?;
    assert_eq!(&message["lost"], 2);
    Ok(())
}
