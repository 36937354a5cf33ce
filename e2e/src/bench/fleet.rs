//! The operator at the size that it is planned for: all policies applied at once, and a fleet of agents that report over TLS, each
//! with a token of its own.
//!
//! Pods are objects of a real API server, injected by the admission policy and told to be running; agents are simulated and speak
//! the real protocol. Writes are counted in the API server's own audit log.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::{
    authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec},
    core::v1::{Pod, ServiceAccount},
};
use katonic_log_config::{
    Bundle, Policy, layout,
    report::{AUDIENCE, PolicyReport, Report, SinkReport, SinkState},
};
use katonic_logging_core::names;
use katonic_logging_crds::{LabelSelector, LoggingPolicy, labels::LabelText};
use kube::{
    Api, Client, ResourceExt as _,
    api::{Patch, PatchParams, PostParams},
    runtime::{WatchStreamExt as _, watcher},
};
use serde::Deserialize;
use serde_json::json;
use tokio::{task::spawn_blocking, time::Instant};

use super::{
    Figure,
    process::{peak, processor_time},
};
use crate::{
    cluster::{Cluster, Options, Tier, progress::Progress},
    eventually::eventually,
    images::Image,
    operator::{COMPUTE, Installed, Operator, condition, splunk_policy},
    simulated::reporter::Reporter,
    webhook::Address,
};

/// What the product is planned for (`docs/performance.md`).
const POLICIES: usize = 2_000;
const PODS: usize = 10_000;

/// Apps that pods and policies share: about three policies take a pod.
const APPS: usize = 700;

/// Requests at a time.
const AT_A_TIME: usize = 32;

/// What the operator may take, in MiB, and write for each policy that is applied (`docs/performance.md`).
const MOST_MEMORY: f64 = 64.0;
const MOST_WRITES: f64 = 3.0;

const PATIENCE: Duration = Duration::from_mins(10);

pub(super) async fn measure() -> Result<Vec<Figure>> {
    let program = spawn_blocking(|| Image::Operator.executable()).await??;
    let options = Options {
        audit_log: true,
        ..Options::default()
    };
    let installed = Installed::new(Cluster::start_with(Tier::ApiServer, options).await?).await?;
    let address = Address::free()?.socket();
    let (listen, url) = (address.to_string(), format!("https://{address}"));
    let arguments = ["--report-address", &listen, "--report-url", &url];
    let operator = Operator::run_shipped(&program, &installed.cluster, "bench", &arguments).await?;
    let process = operator.pid()?;
    installed.sink_secret("splunk", "token", "measured").await?;
    let mut writes = Writes::of(&installed)?;
    let mut figures = Vec::new();

    let progress = Progress::start("measuring the operator: 2,000 policies at once");
    let took = apply_policies(&installed).await?;
    let written = writes.since()?;
    progress.done();
    figures.extend([
        Figure::told(
            &format!("{POLICIES} policies applied at once, to bundles and statuses"),
            took.as_secs_f64(),
            "s",
        ),
        Figure::at_most(
            "writes for each of them",
            ratio(written.values().sum(), POLICIES),
            "",
            MOST_WRITES,
        ),
    ]);
    figures.push(Figure::told(
        "operator's memory with them",
        peak(process).context("the operator has ended")?,
        "MiB",
    ));

    let progress = Progress::start("measuring the operator: 10,000 pods");
    injecting(&installed.client).await?;
    let bundle = installed.bundle(COMPUTE).await?.context("no bundle")?;
    let reporting = bundle
        .reporting
        .clone()
        .context("agents are not told where to report")?;
    let fleet = Fleet {
        reporter: Reporter::new(&reporting, address)?,
        agents: agents(&installed, &bundle).await?,
    };
    progress.done();
    figures.push(Figure::told(
        &format!("operator's memory with {PODS} pods"),
        peak(process).context("the operator has ended")?,
        "MiB",
    ));

    let progress = Progress::start("measuring the operator: reports of 10,000 agents");
    fleet.report(1).await?;
    all_delivering(&installed).await?;
    writes.since()?;
    let before = processor_time(process)?;
    let interval = fleet.report(2).await?;
    let spent = processor_time(process)? - before;
    // Whatever a report is worth to the operator, it writes within this time.
    tokio::time::sleep(Duration::from_secs(10)).await;
    let idle: usize = writes.since()?.values().sum();
    progress.done();
    figures.extend([
        Figure::at_most(
            &format!("operator's memory with {POLICIES} policies, {PODS} pods and their reports"),
            peak(process).context("the operator has ended")?,
            "MiB",
            MOST_MEMORY,
        ),
        Figure::told("processor time for each report", spent / count(PODS), "ms"),
        Figure::told("interval of their reports", f64::from(interval), "s"),
        Figure::told(
            "operator's processor for them",
            spent / f64::from(interval),
            "mCPU",
        ),
        Figure::at_most(
            "writes while nothing but figures changes",
            count(idle),
            "",
            0.0,
        ),
    ]);

    let progress = Progress::start("measuring the operator: a sink that fails");
    figures.push(failure(&installed, &fleet).await?);
    progress.done();
    Ok(figures)
}

/// Applies all policies as fast as the API server takes them; how long it takes until the last one is Ready.
async fn apply_policies(installed: &Installed) -> Result<Duration> {
    let policies = installed.policies();
    let mut ready = Box::pin(
        watcher(policies.clone(), watcher::Config::default())
            .applied_objects()
            .try_filter_map(async |policy| Ok(is_ready(&policy).then(|| policy.name_any()))),
    );
    let begun = Instant::now();
    let applying = stream::iter(0..POLICIES)
        .map(|number| {
            let policies = policies.clone();
            async move {
                policies
                    .create(&PostParams::default(), &policy(number))
                    .await
            }
        })
        .buffer_unordered(AT_A_TIME)
        .try_for_each(async |_| Ok(()));
    let settling = async {
        let mut settled = BTreeSet::new();
        while settled.len() < POLICIES {
            settled.insert(ready.try_next().await?.context("the watch has ended")?);
        }
        anyhow::Ok(())
    };
    let both = async {
        let (applied, settled) = tokio::join!(applying, settling);
        applied?;
        settled
    };
    tokio::time::timeout(PATIENCE, both)
        .await
        .context("not every policy is Ready")??;
    Ok(begun.elapsed())
}

fn is_ready(policy: &LoggingPolicy) -> bool {
    let status = policy.status.as_ref();
    let ready = status.and_then(|status| condition(status, "Ready"));
    ready.is_some_and(|ready| ready.status == "True")
}

fn app(number: usize) -> String {
    format!("app-{}", number % APPS)
}

fn policy(number: usize) -> LoggingPolicy {
    let name = format!("policy-{number}");
    let mut policy = splunk_policy(&name, "https://hec.example.com:8088", "splunk");
    policy.spec.selector = Some(LabelSelector {
        match_labels: Some([("app".to_owned(), LabelText(app(number)))].into()),
        match_expressions: None,
    });
    policy
}

/// Agents, and where they report.
struct Fleet {
    reporter: Reporter,
    agents: Vec<Agent>,
}

/// An agent: its token, and the policies that take its pod.
struct Agent {
    token: String,
    policies: Arc<Vec<PolicyReport>>,
}

impl Agent {
    /// What it says when each of its sinks has had so many records.
    fn report(&self, delivered: u64) -> Report {
        let mut policies = self.policies.to_vec();
        for sink in policies.iter_mut().flat_map(|policy| &mut policy.sinks) {
            sink.delivered = delivered;
        }
        Report {
            agent: env!("CARGO_PKG_VERSION").to_owned(),
            uptime: 60,
            policies,
            ..Report::default()
        }
    }
}

impl Fleet {
    /// Every agent reports once, over a connection of its own as agents do; the longest interval that one is answered.
    async fn report(&self, delivered: u64) -> Result<u32> {
        let intervals = stream::iter(&self.agents)
            .map(|agent| self.send(agent, agent.report(delivered)))
            .buffer_unordered(AT_A_TIME);
        intervals
            .try_fold(0, async |longest, interval: u32| Ok(longest.max(interval)))
            .await
    }

    async fn send(&self, agent: &Agent, report: Report) -> Result<u32> {
        let body = serde_json::to_vec(&report)?;
        let sent = self.reporter.send(Some(&agent.token), &body);
        Ok(u32::try_from(sent.await?.reply()?)?)
    }
}

/// Waits until the API server injects what it was told last.
async fn injecting(client: &Client) -> Result<()> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), COMPUTE);
    let dry_run = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    eventually("pods are injected", PATIENCE, async || {
        let pod = pods.create(&dry_run, &pod(0)?).await?;
        Ok(is_injected(&pod).then_some(()))
    })
    .await
}

fn pod(number: usize) -> Result<Pod> {
    let pod = json!({
        "metadata": {"name": format!("pod-{number}"), "labels": {"app": app(number)}},
        "spec": {"containers": [{"name": "web", "image": "localhost/none:v1"}]},
    });
    Ok(serde_json::from_value(pod)?)
}

fn is_injected(pod: &Pod) -> bool {
    let spec = pod.spec.as_ref();
    let containers = spec.and_then(|spec| spec.init_containers.as_ref());
    let mut containers = containers.into_iter().flatten();
    containers.any(|container| container.name == layout::CONTAINER)
}

/// Creates the pods, with agents that run, and a token for each.
async fn agents(installed: &Installed, bundle: &Bundle) -> Result<Vec<Agent>> {
    let reports: Vec<Arc<Vec<PolicyReport>>> = (0..APPS)
        .map(|number| {
            let labels = [("app".to_owned(), app(number))].into();
            let policies = bundle.policies.iter().zip(&bundle.revisions);
            let taken = policies.filter(|(policy, _)| policy.selector.matches(&labels));
            Arc::new(taken.map(told_of).collect())
        })
        .collect();
    ensure!(
        reports.iter().all(|report| !report.is_empty()),
        "no policy takes a pod"
    );
    stream::iter(0..PODS)
        .map(|number| {
            let (client, policies) = (
                installed.client.clone(),
                Arc::clone(&reports[number % APPS]),
            );
            async move {
                let pod = running(&client, number).await?;
                let token = token(&client, &pod).await?;
                anyhow::Ok(Agent { token, policies })
            }
        })
        .buffer_unordered(AT_A_TIME)
        .try_collect()
        .await
}

/// A policy as an agent that delivers tells of it.
fn told_of((policy, revision): (&Policy, &String)) -> PolicyReport {
    let sinks = policy.sinks.iter().map(|sink| SinkReport {
        name: sink.name.clone(),
        state: SinkState::Delivering,
        since: 30,
        acknowledged: Some(1),
        ..SinkReport::default()
    });
    PolicyReport {
        uid: policy.uid.clone(),
        revision: Some(revision.clone()),
        refused: None,
        sinks: sinks.collect(),
    }
}

/// A pod whose agent runs, as a kubelet tells it.
async fn running(client: &Client, number: usize) -> Result<Pod> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), COMPUTE);
    let created = pods.create(&PostParams::default(), &pod(number)?).await?;
    ensure!(is_injected(&created), "a pod has no agent");
    let status = json!({"status": {"phase": "Running", "initContainerStatuses": [{
        "name": layout::CONTAINER, "image": "a", "imageID": "a", "ready": true, "restartCount": 0,
        "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}},
    }]}});
    let patch = Patch::Merge(status);
    pods.patch_status(&created.name_any(), &PatchParams::default(), &patch)
        .await?;
    Ok(created)
}

/// A token as the kubelet has it made for the pod's agent.
async fn token(client: &Client, pod: &Pod) -> Result<String> {
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), COMPUTE);
    let request = TokenRequest {
        spec: Some(TokenRequestSpec {
            audiences: Some(vec![AUDIENCE.to_owned()]),
            bound_object_ref: Some(BoundObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Pod".to_owned()),
                name: Some(pod.name_any()),
                uid: pod.uid(),
            }),
            expiration_seconds: Some(3600),
            ..TokenRequestSpec::default()
        }),
        ..TokenRequest::default()
    };
    let made = accounts
        .create_token_request("default", &PostParams::default(), &request)
        .await?;
    let status = made.status.context("no token was made")?;
    status.token.context("no token was made")
}

/// Waits until every policy says that its sinks deliver.
async fn all_delivering(installed: &Installed) -> Result<()> {
    let policies = installed.policies();
    eventually("every sink delivers", PATIENCE, async || {
        let all = policies.list(&kube::api::ListParams::default()).await?;
        let mut statuses = all.items.iter().filter_map(|policy| policy.status.as_ref());
        let all = statuses.all(|status| {
            let delivering = condition(status, "Delivering");
            delivering.is_some_and(|delivering| delivering.reason == "Acknowledged")
        });
        Ok(all.then_some(()))
    })
    .await
}

/// From the first report of a sink that refuses its credential to the condition that says so.
async fn failure(installed: &Installed, fleet: &Fleet) -> Result<Figure> {
    let agent = fleet.agents.first().context("no agents")?;
    let uid = &agent.policies.first().context("no policy")?.uid;
    let begun = Instant::now();
    let mut report = agent.report(2);
    for sink in report
        .policies
        .iter_mut()
        .flat_map(|policy| &mut policy.sinks)
    {
        sink.state = SinkState::AuthenticationFailed;
        sink.since = 0;
        sink.message = Some("the token is refused".to_owned());
    }
    fleet.send(agent, report).await?;
    let policies = installed.policies();
    let mut changes = Box::pin(watcher(policies, watcher::Config::default()).applied_objects());
    let told = async {
        while let Some(policy) = changes.try_next().await? {
            let status = policy.status.as_ref();
            let delivering = status.and_then(|status| condition(status, "Delivering"));
            let is_told =
                delivering.is_some_and(|delivering| delivering.reason == "AuthenticationFailed");
            if is_told && policy.uid().as_deref() == Some(uid) {
                return anyhow::Ok(());
            }
        }
        anyhow::bail!("the watch has ended")
    };
    tokio::time::timeout(PATIENCE, told)
        .await
        .context("no condition tells of the failure")??;
    Ok(Figure::told(
        "a sink's failure, from the first report to the condition (15 s of it are waited for by design)",
        begun.elapsed().as_secs_f64(),
        "s",
    ))
}

/// What the operator has written, by resource.
struct Writes {
    log: PathBuf,
    user: String,
    read: usize,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    stage: String,
    verb: String,
    #[serde(rename = "requestURI")]
    uri: String,
    user: User,
    object_ref: Option<Object>,
}

#[derive(Deserialize)]
struct User {
    #[serde(default)]
    username: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Object {
    resource: Option<String>,
    api_group: Option<String>,
}

impl Writes {
    fn of(installed: &Installed) -> Result<Self> {
        let namespace = names::OPERATOR_NAMESPACE;
        Ok(Self {
            log: installed.cluster.audit_log()?,
            user: format!("system:serviceaccount:{namespace}:katonic-logging"),
            read: 0,
        })
    }

    /// Those since it was asked last. What changes nothing is none: reviews, dry runs; nor is its hold on the lease.
    fn since(&mut self) -> Result<BTreeMap<String, usize>> {
        let log = fs::read(&self.log).context("failed to read the audit log")?;
        let whole = log
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        let new = log.get(self.read..whole).unwrap_or_default();
        self.read = whole;
        let mut writes = BTreeMap::new();
        for line in new
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
        {
            let request: Request = serde_json::from_slice(line)?;
            let object = request.object_ref.as_ref();
            let resource = object.and_then(|object| object.resource.clone());
            let group = object.and_then(|object| object.api_group.as_deref());
            let is_review = group.is_some_and(|group| group.starts_with("auth"));
            let counts = request.stage == "ResponseComplete"
                && request.user.username == self.user
                && ["create", "update", "patch", "delete"].contains(&&*request.verb)
                && !request.uri.contains("dryRun=")
                && !is_review;
            if let Some(resource) = resource
                && counts
                && resource != "leases"
            {
                *writes.entry(resource).or_default() += 1;
            }
        }
        Ok(writes)
    }
}

fn count(number: usize) -> f64 {
    u32::try_from(number).map_or(f64::MAX, f64::from)
}

fn ratio(part: usize, of: usize) -> f64 {
    count(part) / count(of)
}
