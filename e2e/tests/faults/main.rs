//! Everything that goes wrong between a log and its sink, while a container writes: no line is missing, and what comes
//! twice has the id that it had.

mod answers;
mod clock;
mod ends;
mod names;
mod network;
mod outage;
mod real;
mod together;

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result, bail};
use katonic_log_config::{Bundle, Sink, Target};
use katonic_logging_e2e::{
    program,
    receiver::{Protocol, Received, Receiver, Record, Tally, splunk::Rules},
    simulated::{
        Agent, Load, Pod,
        policy::{self, TOKEN_FILE},
    },
};

const TOKEN: &str = "5f2a1e5b-4b0c-4c3c-8f7e-2d9f0a6b7c81";
const LIMIT: Duration = Duration::from_mins(2);
const CONTAINER: &str = "dataset-sync";

/// The live log is rotated at this size: every few seconds of a load.
const ROTATE_AT: u64 = 1_000_000;

/// More lines than any container here comes to print: it ends when a test says so.
const ENDLESS: usize = 999_999;

/// What a line to a healthy sink takes at most, whatever the others do: far from what a dead sink takes, ten seconds for a
/// connection or a minute for an answer. How much exactly it notices is measured by the benchmark.
const UNDISTURBED: Duration = Duration::from_secs(3);

/// Any port of loopback.
fn loopback() -> SocketAddr {
    ([127, 0, 0, 1], 0).into()
}

async fn collector() -> Result<Receiver> {
    Receiver::start(loopback(), Protocol::Splunk(Rules::with_token(TOKEN))).await
}

fn pod() -> Result<Pod> {
    Pod::new("katonic-compute", "run-1", &[("app", "dataset")])
}

/// A pod that sends everything to these sinks.
fn mounted(sinks: Vec<Sink>, credentials: &[(&str, &str)]) -> Result<Pod> {
    let mut pod = pod()?;
    pod.mount(&policy::bundle(sinks), credentials)?;
    Ok(pod)
}

/// The sink is given three seconds for an answer, and batches that it can answer in less on a busy machine.
fn impatient(mut sink: Sink) -> Result<Sink> {
    let Target::Splunk(splunk) = &mut sink.target else {
        bail!("another sink")
    };
    splunk.connection.timeout_ms = Some(3_000.try_into()?);
    sink.batch.max_records = Some(500.try_into()?);
    Ok(sink)
}

fn start(pod: &Pod) -> Result<Agent> {
    let program = program::build("katonic-log-agent", "katonic-log-agent")?;
    Agent::start(&program, pod, &["--flush-ms", "50"])
}

/// What an agent said of itself.
fn said(pod: &Pod) -> Result<String> {
    std::fs::read_to_string(pod.agent_output()).context("failed to read what the agent said")
}

/// Waits until an agent has said this so often.
async fn says(pod: &Pod, what: &str, times: usize) -> Result<()> {
    katonic_logging_e2e::eventually::eventually(format!("{what:?} is said"), LIMIT, async || {
        Ok((said(pod)?.matches(what).count() >= times).then_some(()))
    })
    .await
}

/// How many lines came, no matter how often.
fn some(lines: usize) -> impl FnMut(&Received) -> bool {
    move |received| received.records.len() >= lines && Tally::of(&received.records).unique >= lines
}

/// Each line came, in order for the first time, and what came again is told by its id.
fn assert_nothing_missing(receiver: &Receiver, lines: usize) -> Tally {
    let tally = receiver.inspect(|received| Tally::of(&received.records));
    assert!(tally.is_complete(lines), "{tally}");
    assert!(tally.duplicates_are_told_by_id(), "{tally}");
    assert_eq!((tally.unnumbered, tally.out_of_order), (0, 0), "{tally}");
    tally
}

/// The same for a container that was told to end when it had printed so many lines.
fn assert_all_came<'a>(records: impl IntoIterator<Item = &'a Record>, printed: usize) -> Tally {
    let tally = Tally::of(records);
    // Numbers above that were never printed, so none is missing.
    assert_eq!(tally.unique, printed, "{tally}");
    assert!(tally.duplicates_are_told_by_id(), "{tally}");
    assert_eq!((tally.unnumbered, tally.out_of_order), (0, 0), "{tally}");
    tally
}

/// A count of the agent's last message.
fn counted(pod: &Pod, fate: &str) -> Result<u64> {
    let message =
        std::fs::read_to_string(pod.termination_log()).context("no termination message")?;
    let value: serde_json::Value = serde_json::from_str(&message)?;
    value[fate].as_u64().context(message)
}

/// Every record of every sink has exactly one fate, as the agent's last message says; gives how many were delivered.
fn assert_accounted(pod: &Pod, records: usize) -> Result<u64> {
    let mut sum = 0;
    for fate in ["delivered", "rejected", "dropped", "lost", "fallback"] {
        sum += counted(pod, fate)?;
    }
    assert_eq!(sum, u64::try_from(records)?, "{}", said(pod)?);
    counted(pod, "delivered")
}

/// A container that writes evenly and its agent, which sends to one sink.
struct Scene {
    pod: Pod,
    bundle: Bundle,
    agent: Agent,
    load: Load,
    lines: usize,
}

impl Scene {
    fn begin(sink: Sink, credentials: &[(&str, &str)], lines: usize, rate: u32) -> Result<Self> {
        let bundle = policy::bundle(vec![sink]);
        let mut pod = pod()?;
        pod.mount(&bundle, credentials)?;
        let agent = start(&pod)?;
        let load = Load::start(
            pod.container(CONTAINER, ROTATE_AT)?,
            lines,
            rate.try_into()?,
        );
        Ok(Self {
            pod,
            bundle,
            agent,
            load,
            lines,
        })
    }

    /// With a collector as its sink.
    fn with_collector(receiver: &Receiver, lines: usize, rate: u32) -> Result<Self> {
        let sink = policy::splunk("splunk", &receiver.url())?;
        Self::begin(sink, &[(TOKEN_FILE, TOKEN)], lines, rate)
    }

    /// The kubelet shows other credentials.
    fn replace(&mut self, credentials: &[(&str, &str)]) -> Result<()> {
        self.pod.mount(&self.bundle, credentials)
    }

    /// The container writes its last line, the sink gets it, and the pod ends: nothing is missing, rejected or lost.
    async fn end(self, receiver: &Receiver) -> Result<Tally> {
        let Self {
            pod,
            agent,
            load,
            lines,
            ..
        } = self;
        load.finish().await?;
        receiver
            .until("every line", LIMIT, some(lines))
            .await
            .with_context(|| said(&pod).unwrap_or_default())?;
        let status = agent.terminate(LIMIT).await?;
        assert!(status.success(), "{status}: {}", said(&pod)?);
        let delivered = assert_accounted(&pod, lines)?;
        assert_eq!(delivered, u64::try_from(lines)?, "none is rejected or lost");
        Ok(assert_nothing_missing(receiver, lines))
    }
}
