//! The agent's archive in a real store of objects, and in Google's and Azure's as they document themselves: each line is in it
//! exactly once, and what holds it up is told.

mod audit;
mod azure;
mod cloud;
mod exactly_once;
mod gcs;
mod held;
mod identity;
mod layout;
mod locked;
mod logs;

use std::{path::PathBuf, sync::OnceLock, time::Duration};

use anyhow::{Context as _, Result};
use katonic_log_config::{ArchiveLayout, Bundle, Sink};
use katonic_logging_e2e::{
    eventually::eventually,
    program,
    receiver::{
        Archived, Minio, Tally,
        minio::{User, documented_policy},
    },
    simulated::{
        Agent, Pod,
        policy::{self, ACCESS_KEY_ID_FILE, SECRET_ACCESS_KEY_FILE},
    },
};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_mins(2);
const BUCKET: &str = "platform-logs";
const EXECUTION: &str = "63d16b3ebe3729589c5bd9d8";
const LABEL: &str = "dominodatalab.com/execution-id";
const CONTAINER: &str = "run";

/// What the documentation gives to these users of the archive.
fn rights_of(whose: &str) -> Result<Value> {
    documented_policy(whose, BUCKET, "logs")
}

fn least_privilege() -> Result<Value> {
    rights_of("agents")
}

/// A store with the bucket, and the user of the agents, who has no right but the documented one.
struct Store {
    minio: Minio,
    user: User,
}

impl Store {
    async fn start_or_skip() -> Result<Option<Self>> {
        let Some(minio) = Minio::start_or_skip(None).await? else {
            return Ok(None);
        };
        Self::prepared(minio).await.map(Some)
    }

    async fn prepared(minio: Minio) -> Result<Self> {
        minio.make_bucket(BUCKET).await?;
        let user = minio
            .user("agent", "of-the-agents", &least_privilege()?)
            .await?;
        Ok(Self { minio, user })
    }

    fn sink(&self, max_bytes: u32, max_age_ms: u32) -> Result<Sink> {
        let url = self.minio.url();
        policy::archive(
            &url,
            BUCKET,
            ArchiveLayout::Executions,
            max_bytes,
            max_age_ms,
        )
    }

    async fn archived(&self) -> Result<Archived> {
        self.minio.archived(BUCKET, "logs/").await
    }
}

/// A pod of the compute plane, and the bundle that its agent has.
fn pod_of(store: &Store, sink: Sink) -> Result<Pod> {
    let mut pod = execution()?;
    mount(&mut pod, &store.user, sink)?;
    Ok(pod)
}

fn execution() -> Result<Pod> {
    Pod::new("katonic-compute", "run-1", &[(LABEL, EXECUTION)])
}

fn mount(pod: &mut Pod, user: &User, sink: Sink) -> Result<()> {
    let credentials = [
        (ACCESS_KEY_ID_FILE, user.id.as_str()),
        (SECRET_ACCESS_KEY_FILE, &user.secret),
    ];
    pod.mount(&bundle(sink), &credentials)
}

fn bundle(sink: Sink) -> Bundle {
    Bundle {
        execution_id_label: Some(LABEL.to_owned()),
        ..policy::bundle(vec![sink])
    }
}

fn launch(pod: &Pod, flags: &[&str]) -> Result<Agent> {
    launch_with(pod, flags, &[])
}

fn launch_with(pod: &Pod, flags: &[&str], environment: &[(String, String)]) -> Result<Agent> {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    if PROGRAM.get().is_none() {
        let built = program::build("katonic-log-agent", "katonic-log-agent")?;
        PROGRAM.get_or_init(|| built);
    }
    let program = PROGRAM.get().context("the agent is not built")?;
    Agent::start_with(program, pod, flags, environment)
}

/// As [`launch`], and waits until it would not be ended by a signal.
async fn start(pod: &Pod) -> Result<Agent> {
    start_with(pod, &[]).await
}

/// As [`start`], with these variables.
async fn start_with(pod: &Pod, environment: &[(String, String)]) -> Result<Agent> {
    let started = |pod: &Pod| said(pod).map_or(0, |said| said.matches(r#""started""#).count());
    let before = started(pod);
    let agent = launch_with(pod, &[], environment)?;
    eventually("the agent has started", LIMIT, async || {
        Ok((started(pod) > before).then_some(()))
    })
    .await?;
    Ok(agent)
}

fn said(pod: &Pod) -> Result<String> {
    std::fs::read_to_string(pod.agent_output()).context("failed to read what the agent said")
}

async fn says(pod: &Pod, what: &str) -> Result<()> {
    let heard = eventually(format!("{what:?} is said"), LIMIT, async || {
        Ok(said(pod)?.contains(what).then_some(()))
    });
    heard.await.with_context(|| said(pod).unwrap_or_default())
}

/// The termination message.
fn message(pod: &Pod) -> Result<Value> {
    let text = std::fs::read_to_string(pod.termination_log()).context("no termination message")?;
    serde_json::from_str(&text).with_context(|| format!("not a message: {text}"))
}

async fn end(agent: Agent, pod: &Pod) -> Result<Value> {
    let status = agent.terminate(LIMIT).await?;
    assert!(status.success(), "{status}: {}", said(pod)?);
    message(pod)
}

/// Every line is there exactly once, in order, and the completeness records prove it.
fn assert_whole(archived: &Archived, lines: usize) -> Result<()> {
    let tally = Tally::of(archived.lines());
    let expected = Tally {
        expected: lines,
        unique: lines,
        ..Tally::default()
    };
    assert_eq!(tally, expected);
    let verified = archived.verify()?;
    assert_eq!(verified, lines as u64);
    Ok(())
}

/// What is counted once in the message.
fn counts(message: &Value) -> Value {
    json!({"delivered": message["delivered"], "lost": message["lost"], "dropped": message["dropped"]})
}
