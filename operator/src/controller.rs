//! The controller: observe, plan, apply and summarize, whenever something has changed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use k8s_openapi::jiff::Timestamp;
use katonic_logging_core::{
    bundle::LastGood,
    credential::Lookup,
    installation::{Installation, Problem},
    plan::{Observed, Plan, plan},
    status::Report,
};
use kube::Client;
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    args::ControllerArgs,
    cache::{Change, Signal, chain},
    health::{self, Health},
    leader::Election,
    metrics::Outcome,
};

mod apply;
mod observe;
mod prober;
mod publish;
mod sources;

use apply::Applier;
use observe::SinkSecrets;
use prober::Prober;
use publish::Publisher;
use sources::{PlaneSources, Sources};

/// How long changes that only the status tells of are gathered.
const GATHER: Duration = Duration::from_secs(1);

/// How long a pass may take before it is given up and begun anew.
const PASS_TIMEOUT: Duration = Duration::from_mins(2);

/// How long to wait before a namespace is asked again whether its pods are injected, at first and at most; API servers take
/// a second or two.
const PROBE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// How often what could not be written is tried again, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));

/// Runs the controller until it is told to stop.
///
/// # Errors
/// When it cannot be started, or when it loses the lease: the next instance, or this one started anew, goes on.
pub async fn run(args: ControllerArgs) -> anyhow::Result<()> {
    let client = Client::try_default()
        .await
        .context("failed to find the API server")?;
    let health = Arc::new(Health::default());
    let served = tokio::spawn(health::serve(args.health_address, health.clone()));
    let mut terminate = signal(SignalKind::terminate()).context("failed to listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("failed to listen for SIGINT")?;
    let stopped = async {
        tokio::select! {
            _ = terminate.recv() => Ok(()),
            _ = interrupt.recv() => Ok(()),
            served = served => match served {
                Ok(Err(error)) => Err(anyhow::Error::new(error).context("failed to serve health and metrics")),
                _ => Err(anyhow::anyhow!("the health endpoint ended")),
            },
        }
    };
    tokio::pin!(stopped);
    let mut election = tokio::select! {
        election = join(&client, &args) => election,
        stopped = &mut stopped => return stopped,
    };
    health.set_ready();
    let ended = tokio::select! {
        ended = lead(&client, &args, &health, &mut election) => ended,
        stopped = &mut stopped => stopped,
    };
    health.metrics.set_leader(false);
    election
        .resign()
        .await
        .context("failed to give the lease back")?;
    tracing::info!("the lease is given back");
    ended
}

/// Joins the election; waits for an API server that is not there yet.
async fn join(client: &Client, args: &ControllerArgs) -> Election {
    let mut wait = RETRY.0;
    loop {
        match Election::join(client.clone(), &args.namespace, &args.identity).await {
            Ok(election) => return election,
            Err(error) => tracing::warn!(error = %chain(&error), "failed to join the election"),
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(RETRY.1);
    }
}

async fn lead(
    client: &Client,
    args: &ControllerArgs,
    health: &Arc<Health>,
    election: &mut Election,
) -> anyhow::Result<()> {
    if !election.won().await {
        anyhow::bail!("the election has ended");
    }
    tracing::info!(identity = %args.identity, "elected");
    health.metrics.set_leader(true);
    let controller = Controller::new(client.clone(), args.namespace.clone(), health.clone());
    tokio::select! {
        never = controller.work() => match never {},
        () = election.lost() => anyhow::bail!("the lease was lost"),
    }
}

/// What the controller remembers between two passes.
struct Controller {
    client: Client,
    namespace: String,
    health: Arc<Health>,
    signal: Arc<Signal>,
    sources: Sources,
    installation: InForce,
    planes: Option<PlaneSources>,
    sink_secrets: SinkSecrets,
    applier: Applier,
    prober: Prober,
    publisher: Publisher,
    last_good: BTreeMap<String, LastGood>,
    /// Namespaces that were planes once and may still hold a bundle of ours.
    former: BTreeSet<String>,
    plan: Option<Plan>,
    report: Report,
}

/// The installation that is in force, and what is wrong with the one that is written.
#[derive(Default)]
struct InForce {
    installation: Option<Installation>,
    problem: Option<Problem>,
}

/// When the next pass is due if nothing changes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Next {
    /// Never: everything is as it should be, or waits for a person.
    Settled,
    /// At once: the API server is about to take up what was written.
    Soon,
    /// After a while: something was not written.
    Retry,
}

impl Next {
    fn after(report: &Report, observed: &Observed, left: bool) -> Self {
        let failed = report
            .bundles
            .values()
            .chain(&report.admission)
            .any(|failure| !failure.name_taken);
        let unreadable = observed
            .credentials
            .values()
            .any(|lookup| matches!(lookup, Lookup::Unreadable(_)));
        if failed || unreadable || !observed.refusals.is_empty() || !left {
            Self::Retry
        } else if report.injection_pending.is_empty() {
            Self::Settled
        } else {
            Self::Soon
        }
    }
}

impl Controller {
    fn new(client: Client, namespace: String, health: Arc<Health>) -> Self {
        let signal = Arc::new(Signal::default());
        Self {
            sources: Sources::watch(&client, &namespace, &signal),
            sink_secrets: SinkSecrets::new(client.clone(), &namespace),
            prober: Prober::new(client.clone()),
            applier: Applier::new(client.clone(), health.clone()),
            publisher: Publisher::new(client.clone(), &namespace, health.clone()),
            installation: InForce::default(),
            planes: None,
            last_good: BTreeMap::new(),
            former: BTreeSet::new(),
            plan: None,
            report: Report::default(),
            client,
            namespace,
            health,
            signal,
        }
    }

    async fn work(mut self) -> std::convert::Infallible {
        let (mut soon, mut retry) = (PROBE.0, RETRY.0);
        let mut again = None;
        loop {
            let changed = self.signal.changed(GATHER);
            let change = match again {
                Some(wait) => {
                    // Whatever woke it, or nothing: what is not settled is tried again.
                    let _ = tokio::time::timeout(wait, changed).await;
                    Change::Plan
                }
                None => changed.await,
            };
            self.health.begins();
            let passed = tokio::time::timeout(PASS_TIMEOUT, self.pass(change)).await;
            self.health.ended();
            let next = passed.unwrap_or_else(|_| {
                tracing::error!("a pass took longer than two minutes and is begun anew");
                Next::Retry
            });
            (again, soon, retry) = match next {
                Next::Settled => (None, PROBE.0, RETRY.0),
                Next::Soon => (Some(soon), (soon * 2).min(PROBE.1), RETRY.0),
                Next::Retry => (Some(retry), PROBE.0, (retry * 2).min(RETRY.1)),
            };
        }
    }

    /// One pass.
    async fn pass(&mut self, change: Change) -> Next {
        if !self.sources.are_synced() {
            return Next::Settled;
        }
        let mut next = Next::Settled;
        if change == Change::Plan || self.plan.is_none() {
            match self.reconcile().await {
                Ok(after) => next = after,
                Err(error) => {
                    tracing::error!(error = %chain(error.as_ref()), "failed to reconcile");
                    next = Next::Retry;
                }
            }
        }
        let hopeless =
            self.installation.installation.is_none() && self.installation.problem.is_some();
        if self.plan.is_none() && !hopeless {
            // Nothing is known yet that a status could tell.
            return next;
        }
        let facts = publish::Known {
            plan: self.plan.as_ref(),
            report: &self.report,
            problem: self.installation.problem.as_ref(),
            installation: self.installation.installation.as_ref(),
            planes: self.planes.as_ref(),
        };
        let published = self
            .publisher
            .publish(&self.sources, facts, Timestamp::now())
            .await;
        if published { next } else { Next::Retry }
    }

    /// Makes the plan and applies it.
    async fn reconcile(&mut self) -> anyhow::Result<Next> {
        self.take_installation().await;
        let Some(installation) = &self.installation.installation else {
            return Ok(Next::Settled);
        };
        let Some(planes) = &self.planes else {
            return Ok(Next::Settled);
        };
        if !planes.are_listed() {
            // What is not known yet would be told as missing.
            return Ok(Next::Settled);
        }
        let began = Instant::now();
        let mut observed = observe::observe(
            &self.sources,
            planes,
            &mut self.sink_secrets,
            &self.last_good,
            &self.namespace,
        )
        .await;
        if !observed.candidates.is_empty() {
            observed.refusals = self
                .prober
                .refusals(observed.namespaces.keys(), &installation.agent)
                .await;
        }
        let plan = plan(installation, &observed);
        self.health
            .metrics
            .reconciled(Outcome::of(&plan), began.elapsed());
        let plan = plan?;
        self.report = self
            .applier
            .apply(&plan, &self.sources, planes, &mut self.former)
            .await;
        if let (Some(admission), Some(versions)) =
            (&plan.admission, self.applier.admission_versions())
            && self.report.admission.is_none()
        {
            self.report.injection_pending = self
                .prober
                .pending(admission, &installation.agent, &versions)
                .await;
        }
        for plane in plan.planes.values() {
            if !self.report.bundles.contains_key(&plane.namespace) {
                let told = plane
                    .bundle
                    .as_ref()
                    .and_then(|bundle| LastGood::read(bundle.data.as_ref()?));
                match told {
                    Some(told) => self.last_good.insert(plane.namespace.clone(), told),
                    None => self.last_good.remove(&plane.namespace),
                };
            }
        }
        self.plan = Some(plan);
        Ok(Next::after(&self.report, &observed, self.former.is_empty()))
    }

    /// Puts the installation in force that is written, or keeps the last good one.
    async fn take_installation(&mut self) {
        let written = match self.sources.installation() {
            Some(yaml) => Installation::validate(&yaml, &self.namespace),
            None => Err(Problem::missing(&self.namespace)),
        };
        let problem = match written {
            Ok(installation) => {
                self.put_in_force(installation);
                None
            }
            Err(problem) => {
                // After a restart the last good one is where it was last used.
                if self.installation.installation.is_none()
                    && let Some(installation) = self.sources.installation_in_force()
                {
                    self.put_in_force(installation);
                }
                Some(problem)
            }
        };
        if self.installation.problem != problem {
            self.publisher.tell_installation(problem.as_ref()).await;
            self.installation.problem = problem;
        }
    }

    fn put_in_force(&mut self, installation: Installation) {
        let before = self
            .installation
            .installation
            .take()
            .or_else(|| self.sources.installation_in_force());
        if let Some(before) = before {
            self.former
                .extend([before.platform_namespace, before.compute_namespace]);
        }
        for namespace in [
            &installation.platform_namespace,
            &installation.compute_namespace,
        ] {
            self.former.remove(namespace);
        }
        // A namespace that becomes a plane again begins anew.
        let former = &self.former;
        self.last_good
            .retain(|namespace, _| !former.contains(namespace));
        if self
            .planes
            .as_ref()
            .is_none_or(|planes| !planes.are_of(&installation))
        {
            self.planes = Some(PlaneSources::watch(
                &self.client,
                &installation,
                &self.signal,
            ));
        }
        self.installation.installation = Some(installation);
    }
}
