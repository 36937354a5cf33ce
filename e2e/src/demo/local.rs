//! The demo without a node: a real API server, the operator and the agents as local processes, simulated pod logs.
//!
//! The API server injects the agent into the pods as always; nobody runs them, so what a node would do is done here.

use std::{collections::BTreeMap, fs, net::Ipv4Addr, path::Path, process::Command, time::Duration};

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::{Pod, Secret};
use katonic_log_config::layout;
use katonic_logging_core::names;
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, PostParams},
};
use serde_json::Value;
use tokio::task::spawn_blocking;

use super::{
    Account, LINES, Outcome, PATIENCE, SUPPORTING, apply_policies, archive::Archive, collect, show,
    show::Steps, sink::Sink, workloads,
};
use crate::{
    cluster::{
        Cluster, Tier,
        progress::{Progress, say},
    },
    eventually::eventually,
    operator::{COMPUTE, Installed, Operator, PLATFORM},
    program,
    receiver::Receiver,
    simulated::{self, Agent, Stream},
};

/// What a pod is given to end by default.
const GRACE: Duration = Duration::from_secs(30);

/// Runs the demo without a node, because of `reason`.
pub async fn run(keep: bool, reason: &str) -> Result<Outcome> {
    say(&format!(
        "{reason}: the agents run as local processes over simulated pod logs"
    ));
    if keep {
        say("KEEP=1 has no effect without a node");
    }
    let mut steps = Steps::new(6);
    steps.begin("Building what is not built yet, starting a control plane of its own");
    let (operator, agent) = spawn_blocking(|| {
        let operator = program::build("katonic-logging-operator", "katonic-logging")?;
        let agent = program::build("katonic-log-agent", "katonic-log-agent")?;
        anyhow::Ok((operator, agent))
    })
    .await??;
    let progress = Progress::start("etcd, kube-apiserver");
    let cluster = Cluster::start(Tier::ApiServer).await?;
    progress.done();

    steps.begin(
        "Starting a Splunk HTTP Event Collector that refuses what Splunk refuses, and MinIO",
    );
    let address = Ipv4Addr::LOCALHOST.into();
    let sink = Sink::new(address)?;
    let receiver = Receiver::start_tls((address, 0).into(), sink.rules(), &sink.identity).await?;
    let archive = Archive::start(address).await?;
    say(&format!(
        "listening on {} and {}",
        receiver.url(),
        archive.url()
    ));

    steps.begin("Installing the operator, its process beside the cluster");
    let installed = Installed::new(cluster).await?;
    let program = operator;
    let operator = Operator::start(&installed.cluster, "demo").await?;

    steps.begin("Applying two policies: application logs to Splunk, execution logs to an archive");
    let cluster = &installed.cluster;
    let ready_after = apply_policies(cluster, (&receiver, &sink), &archive).await?;

    steps.begin("Running the platform: a service, and a job of 20,000 lines");
    let service = Running::start(cluster, &agent, PLATFORM, workloads::frontend_pod()).await?;
    let mut log = service.pod.container(workloads::FRONTEND, u64::MAX)?;
    log.line(Stream::Stdout, b"line 000001")?;
    let job = Running::start(cluster, &agent, COMPUTE, workloads::job_pod()).await?;
    write_job(&job.pod)?;
    let account = job.end().await?;
    let note = format!("{reason}; agents as local processes over simulated pod logs");
    let read_back = archive.read_back(Command::new(program)).await?;
    let measured = (ready_after, read_back);
    let outcome = collect(&receiver, workloads::JOB, account, measured, Some(note)).await?;
    receiver
        .until("the service's line", PATIENCE, |received| {
            received
                .records
                .iter()
                .any(|record| record.field("container") == workloads::FRONTEND)
        })
        .await?;

    steps.begin("What there is to see");
    show::kubectl(cluster, &["get", "lp"]).await?;
    show::kubectl(cluster, &["get", "pods", "-A"]).await?;
    show::output("the first record of each container, as it arrived", "");
    show::records(&receiver);
    let progress = Progress::start("taking everything down");
    service.end().await?;
    operator.terminate().await?;
    spawn_blocking(move || drop(installed)).await?;
    progress.done();
    Ok(outcome)
}

/// A pod that the API server has and nobody runs, with its agent.
struct Running {
    pod: simulated::Pod,
    agent: Agent,
}

impl Running {
    /// Makes the pod, and does what a node does at its start.
    async fn start(
        cluster: &Cluster,
        program: &Path,
        namespace: &str,
        manifest: Value,
    ) -> Result<Self> {
        let pod = create(cluster, namespace, manifest).await?;
        let pod = on_a_node(cluster, &pod).await?;
        let agent = Agent::start(program, &pod, &[])?;
        Ok(Self { pod, agent })
    }

    /// Does what a node does at the pod's end: SIGTERM once the other containers have ended.
    async fn end(self) -> Result<Account> {
        let status = self.agent.terminate(GRACE).await?;
        ensure!(
            status.success(),
            "the agent of {} ended with {status}",
            self.pod.name
        );
        let message = fs::read_to_string(self.pod.termination_log())
            .context("the agent left no termination message")?;
        say(&format!("the agent of {} says: {message}", self.pod.name));
        serde_json::from_str(&message).context("failed to read the agent's termination message")
    }
}

/// What the Job's containers print.
fn write_job(pod: &simulated::Pod) -> Result<()> {
    let mut user = pod.container("run", u64::MAX)?;
    for number in 1..=workloads::USER_LINES {
        let line = format!("line {number:06} of {:06}", workloads::USER_LINES);
        user.line(Stream::Stdout, line.as_bytes())?;
    }
    let mut supporting = pod.container(SUPPORTING, u64::MAX)?;
    for number in 1..=LINES {
        let line = format!("line {number:06} of {LINES:06}");
        supporting.line(Stream::Stdout, line.as_bytes())?;
    }
    Ok(())
}

/// Makes a pod; the API server must have injected the agent into what comes back.
async fn create(cluster: &Cluster, namespace: &str, manifest: Value) -> Result<Pod> {
    let pod: Pod = serde_json::from_value(manifest).context("failed to write a pod")?;
    let name = pod.name_any();
    let pods: Api<Pod> = Api::namespaced(cluster.client().await?, namespace);
    let injected = format!("the agent is injected into {name}");
    // An API server has a new admission policy in force within two seconds.
    eventually(injected, PATIENCE, async || {
        let created = pods.create(&PostParams::default(), &pod).await?;
        let containers = created.spec.iter().flat_map(|spec| &spec.init_containers);
        if containers
            .flatten()
            .any(|container| container.name == layout::CONTAINER)
        {
            return Ok(Some(created));
        }
        let at_once = DeleteParams::default().grace_period(0);
        pods.delete(&name, &at_once).await?;
        Ok(None)
    })
    .await
}

/// What a node makes of a pod: its log folder, its labels, and the bundle Secret of its namespace as a mount.
async fn on_a_node(cluster: &Cluster, pod: &Pod) -> Result<simulated::Pod> {
    let namespace = pod.namespace().context("a pod without a namespace")?;
    let uid = pod.uid().context("a pod without a UID")?;
    let labels: Vec<(&str, &str)> = pod
        .labels()
        .iter()
        .map(|(label, value)| (label.as_str(), value.as_str()))
        .collect();
    let mut simulated = simulated::Pod::with_uid(&namespace, &pod.name_any(), &uid, &labels)?;
    let secrets: Api<Secret> = Api::namespaced(cluster.client().await?, &namespace);
    let secret = secrets
        .get(names::BUNDLE)
        .await
        .context("failed to read the bundle Secret")?;
    let data = secret.data.unwrap_or_default();
    let files: BTreeMap<_, _> = data
        .into_iter()
        .map(|(key, value)| (key, value.0))
        .collect();
    simulated.mount_files(&files)?;
    Ok(simulated)
}
