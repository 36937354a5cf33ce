//! Splunk's indexer acknowledgement: what a collector accepts is not delivered before it is indexed.

use std::{
    collections::BTreeMap,
    io::Result,
    sync::{Arc, Mutex, PoisonError},
};

use katonic_log_config::{Acknowledgement, Policy, Target};
use serde_json::{Value, json};

use crate::{
    pod::{Pod, policy, splunk},
    server::{Reply, Request, Server},
    witness::{Tally, Witness},
};

/// A collector, which has accepted some batches and indexed others.
#[derive(Debug, Default)]
struct Collector {
    /// The next number of each channel.
    next: BTreeMap<String, u64>,
    accepted: BTreeMap<(String, u64), Vec<Value>>,
    /// How many batches were accepted in all, and how often was asked.
    batches: usize,
    questions: usize,
    /// Most batches that waited at the same time.
    most: usize,
}

/// What a collector does with a question.
#[derive(Clone, Copy, Debug)]
enum Indexing {
    /// Indexes what it has accepted.
    Done,
    /// Is not so far.
    NotYet,
    /// Has lost what it had accepted, and still counts.
    Lost,
    /// Was started again.
    Restarted,
}

impl Collector {
    /// What is accepted becomes a record of the witness when it is indexed.
    fn reply(&mut self, request: &Request, indexing: impl Fn(&Self) -> Indexing) -> Reply {
        let channel = request.header("x-splunk-request-channel").to_owned();
        assert_eq!(channel.len(), 36, "a UUID");
        if request.line.starts_with("POST /services/collector/event ") {
            let id = self.next.entry(channel.clone()).or_default();
            let body = json!({"text": "Success", "code": 0, "ackId": *id});
            self.accepted
                .insert((channel, *id), request.records.clone());
            *id += 1;
            self.batches += 1;
            self.most = self.most.max(self.accepted.len());
            return Reply::AcceptAs(200, body.to_string().into_bytes(), Vec::new());
        }
        assert_eq!(request.line, "POST /services/collector/ack HTTP/1.1");
        self.questions += 1;
        match indexing(self) {
            Indexing::Done => {}
            Indexing::NotYet => return Self::answer(&BTreeMap::new()),
            Indexing::Lost => self.accepted.clear(),
            Indexing::Restarted => {
                self.accepted.clear();
                self.next.clear();
            }
        }
        let asked: Vec<u64> = request.records[0]["acks"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_u64)
            .collect();
        let mut acks = BTreeMap::new();
        let mut indexed = Vec::new();
        for id in asked {
            let records = self.accepted.remove(&(channel.clone(), id));
            acks.insert(id.to_string(), records.is_some());
            indexed.extend(records.unwrap_or_default());
        }
        let Reply::AcceptAs(status, body, _) = Self::answer(&acks) else {
            return Reply::Stall;
        };
        Reply::AcceptAs(status, body, indexed)
    }

    fn answer(acks: &BTreeMap<String, bool>) -> Reply {
        Reply::AcceptAs(
            200,
            json!({"acks": acks}).to_string().into_bytes(),
            Vec::new(),
        )
    }
}

/// A collector whose answers to questions the test decides.
fn start(
    witness: &Witness,
    indexing: impl Fn(&Collector) -> Indexing + Send + Sync + 'static,
) -> Result<(Server, Arc<Mutex<Collector>>)> {
    let collector = Arc::new(Mutex::new(Collector::default()));
    let shared = Arc::clone(&collector);
    let server = Server::start(witness, move |request| {
        let mut collector = shared.lock().unwrap_or_else(PoisonError::into_inner);
        collector.reply(request, &indexing)
    })?;
    Ok((server, collector))
}

fn acknowledging(url: &str, timeout_ms: u32) -> Result<Policy> {
    let mut target = splunk(url)?;
    if let Target::Splunk(splunk) = &mut target {
        splunk.acknowledgement = Some(Acknowledgement {
            poll_ms: 50.try_into().map_err(std::io::Error::other)?,
            timeout_ms: timeout_ms.try_into().map_err(std::io::Error::other)?,
        });
    }
    let mut policy = policy("p", target);
    policy.sinks[0].batch.max_records = Some(100.try_into().map_err(std::io::Error::other)?);
    Ok(policy)
}

fn pod_with(policy: Policy, lines: usize) -> Result<Pod> {
    let mut pod = Pod::new()?;
    pod.set("token", Some(b"secret"))?;
    pod.set_policies(vec![policy])?;
    pod.write("web", "0.log", 1..=lines)?;
    Ok(pod)
}

#[test]
fn several_batches_are_on_their_way_and_the_cursor_waits_for_the_index() -> Result<()> {
    let witness = Witness::default();
    // Nothing is indexed before twenty batches wait.
    let (server, collector) = start(&witness, |collector| {
        if collector.batches >= 20 {
            Indexing::Done
        } else {
            Indexing::NotYet
        }
    })?;
    let pod = pod_with(acknowledging(&server.url(), 60_000)?, 2000)?;
    let agent = pod.start(&witness)?;
    assert_eq!(witness.wait_lines(2000), Tally::perfect(2000));
    assert!(collector.lock().map_or(0, |collector| collector.most) >= 20);
    witness.wait_said("sink", &[("state", "Delivering")]);
    assert_eq!(agent.terminate()?.1["delivered"], 2000);
    assert_eq!(witness.tally(2000), Tally::perfect(2000));
    Ok(())
}

#[test]
fn the_end_of_the_pod_waits_for_the_index_and_counts_what_is_not_in_it() -> Result<()> {
    let witness = Witness::default();
    // The last of thirty batches come when the pod has ended.
    let (server, _collector) = start(&witness, |collector| {
        if collector.batches >= 30 {
            Indexing::Done
        } else {
            Indexing::NotYet
        }
    })?;
    let pod = pod_with(acknowledging(&server.url(), 60_000)?, 2000)?;
    let agent = pod.start(&witness)?;
    witness.wait("twenty batches", |seen| seen.requests >= 20);
    pod.write("web", "0.log", 2001..=3000)?;
    let (_, message) = agent.terminate()?;
    assert_eq!(
        (&message["delivered"], &message["lost"]),
        (&json!(3000), &json!(0))
    );
    assert_eq!(witness.tally(3000), Tally::perfect(3000));

    let witness = Witness::default();
    let (server, _collector) = start(&witness, |_| Indexing::NotYet)?;
    let pod = pod_with(acknowledging(&server.url(), 60_000)?, 2000)?;
    let agent = pod.start_with(&witness, &["--drain-seconds", "2"])?;
    witness.wait("twenty batches", |seen| seen.requests >= 20);
    let (_, message) = agent.terminate()?;
    assert_eq!(
        (&message["delivered"], &message["lost"]),
        (&json!(0), &json!(2000))
    );
    Ok(())
}

#[test]
fn what_an_indexer_lost_is_sent_again() -> Result<()> {
    let witness = Witness::default();
    let (server, _collector) = start(&witness, |collector| {
        if collector.questions <= 3 {
            Indexing::Lost
        } else {
            Indexing::Done
        }
    })?;
    let pod = pod_with(acknowledging(&server.url(), 500)?, 2000)?;
    let agent = pod.start(&witness)?;
    let Tally {
        unique, missing, ..
    } = witness.wait_lines(2000);
    assert_eq!((unique, missing), (2000, 0));
    witness.wait_said(
        "sink",
        &[
            ("reason", "no acknowledgement within 0.5 s"),
            ("state", "Unconfirmed"),
        ],
    );
    let (_, message) = agent.terminate()?;
    assert_eq!(
        (&message["delivered"], &message["lost"]),
        (&json!(2000), &json!(0))
    );
    Ok(())
}

/// Its numbers begin again, so one of them could be taken for another.
#[test]
fn a_collector_that_was_started_again_is_not_believed() -> Result<()> {
    let witness = Witness::default();
    let (server, _collector) = start(&witness, |collector| {
        if collector.questions == 2 {
            Indexing::Restarted
        } else {
            Indexing::Done
        }
    })?;
    let pod = pod_with(acknowledging(&server.url(), 2000)?, 5000)?;
    let agent = pod.start(&witness)?;
    let Tally {
        unique, missing, ..
    } = witness.wait_lines(5000);
    assert_eq!((unique, missing), (5000, 0));
    let (_, message) = agent.terminate()?;
    assert_eq!(
        (&message["delivered"], &message["lost"]),
        (&json!(5000), &json!(0))
    );
    Ok(())
}

#[test]
fn what_was_not_indexed_when_the_agent_was_killed_is_sent_again() -> Result<()> {
    let witness = Witness::default();
    let (server, collector) = start(&witness, |collector| {
        if collector.questions >= 10 {
            Indexing::Done
        } else {
            Indexing::NotYet
        }
    })?;
    let pod = pod_with(acknowledging(&server.url(), 60_000)?, 1000)?;
    let agent = pod.start(&witness)?;
    witness.wait("ten batches", |seen| seen.requests >= 10);
    agent.kill()?;
    if let Ok(mut collector) = collector.lock() {
        collector.accepted.clear();
    }
    let agent = pod.start(&witness)?;
    let Tally {
        unique, missing, ..
    } = witness.wait_lines(1000);
    assert_eq!((unique, missing), (1000, 0));
    assert_eq!(agent.terminate()?.1["delivered"], 1000);
    Ok(())
}

#[test]
fn a_token_without_acknowledgement_is_told_and_costs_nothing() -> Result<()> {
    let witness = Witness::default();
    let server = Server::start(&witness, |_| Reply::Accept)?;
    let pod = pod_with(acknowledging(&server.url(), 500)?, 1000)?;
    let agent = pod.start(&witness)?;
    assert_eq!(witness.wait_lines(1000), Tally::perfect(1000));
    witness.wait_said("the sink warns", &[]);
    assert_eq!(agent.terminate()?.1["delivered"], 1000);
    Ok(())
}
