//! The controller: observe, plan, apply and summarize, whenever something has changed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use katonic_logging_core::{
    audit,
    bundle::LastGood,
    credential::Lookup,
    delivery::Survey,
    installation::{Installation, Problem},
    plan::{Observed, Plan, plan},
    status::{ChangeState, Report},
};
use katonic_logging_crds::Plane;
use kube::Client;
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    args::ControllerArgs,
    cache::{Change, Signal, chain},
    claim::Claim,
    health::{self, Health},
    leader::{Election, Tenure},
    metrics::Outcome,
};

mod alarm;
mod apply;
mod census;
mod certificates;
mod injection;
mod keeper;
mod observe;
mod prober;
mod publish;
mod refused;
mod reports;
mod restart;
mod sources;
mod switch;
mod tracker;
mod webhook;

use apply::Applier;
use census::Census;
use injection::{Injection, Wanted};
use keeper::Keeper;
use observe::SinkSecrets;
use prober::{Checked, Prober};
use publish::Publisher;
use reports::Reports;
use restart::{Roller, Told};
use sources::{PlaneSources, Sources};
use tracker::Trackers;

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
    let claim = tokio::select! {
        claim = claimed(&client, &args, &health) => claim,
        stopped = &mut stopped => return stopped,
    };
    let mut election = tokio::select! {
        election = join(&client, &args) => election,
        stopped = &mut stopped => return stopped,
    };
    health.set_ready();
    let ended = tokio::select! {
        ended = lead(&client, &args, &health, &mut election) => ended,
        holder = claim.lost() => Err(anyhow::anyhow!("the operator in namespace {holder} has taken this cluster over")),
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

/// Claims the cluster for this installation; waits for an API server that is not there yet, and while another installation
/// has it.
async fn claimed(client: &Client, args: &ControllerArgs, health: &Arc<Health>) -> Claim {
    let mut wait = RETRY.0;
    loop {
        match Claim::of(client, &args.namespace, health).await {
            Ok(claim) => {
                claim.taken().await;
                return claim;
            }
            Err(error) => {
                tracing::warn!(error = %chain(&error), "failed to read the operator's namespace");
            }
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(RETRY.1);
    }
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
    let controller = Controller::new(client.clone(), args, health.clone());
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
    reports: Reports,
    injection: Injection,
    publisher: Publisher,
    census: Census,
    roller: Roller,
    keeper: Keeper,
    trackers: Trackers,
    /// When restarts and statuses have to be looked at again though nothing has changed.
    wake: Option<Timestamp>,
    last_good: BTreeMap<String, LastGood>,
    /// Namespaces that were planes once and may still hold a bundle of ours.
    former: BTreeSet<String>,
    plan: Option<Plan>,
    /// What the event tracker is told, and whether the platform's namespace is there.
    audit: Option<(audit::Plan, bool)>,
    report: Report,
}

/// What the event tracker is to be told. While the audit policies cannot be listed, nobody knows that there are none: what it was told
/// stays.
fn audit_plan(
    sources: &Sources,
    trackers: &Trackers,
    installation: &Installation,
) -> Option<audit::Plan> {
    let candidates = sources.audit_policies.all()?.into_values();
    let told = trackers.told();
    Some(audit::plan(
        installation.vocabulary(),
        candidates,
        told.as_ref(),
    ))
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

/// What a pass came to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Passed {
    next: Next,
    /// Whether what policies ask for was planned and applied; none where that was not its turn. What single objects came to is told
    /// by their own metrics and by statuses.
    reconciled: Option<Outcome>,
}

impl Passed {
    const FAILED: Self = Self {
        next: Next::Retry,
        reconciled: Some(Outcome::Failure),
    };

    fn of(next: Next) -> Self {
        Self {
            next,
            reconciled: Some(Outcome::Success),
        }
    }
}

/// What a pass comes to that is given up when it takes too long: whatever it is about, nothing else is done meanwhile.
async fn in_time(pass: impl Future<Output = Passed>) -> Passed {
    let passed = tokio::time::timeout(PASS_TIMEOUT, pass).await;
    passed.unwrap_or_else(|_| {
        tracing::error!("a pass took longer than two minutes and is begun anew");
        Passed::FAILED
    })
}

impl Default for Passed {
    fn default() -> Self {
        Self {
            next: Next::Settled,
            reconciled: None,
        }
    }
}

impl Next {
    fn after(report: &Report, observed: &Observed, left: bool, soon: bool) -> Self {
        let failed = report
            .bundles
            .values()
            .chain(&report.admission)
            .chain(&report.tracker)
            .any(|failure| !failure.name_taken);
        let unreadable = observed
            .credentials
            .values()
            .any(|lookup| matches!(lookup, Lookup::Unreadable(_)));
        let change = report.change.as_ref().map(|change| &change.state);
        let tried = matches!(change, Some(ChangeState::Tried(_)));
        let refused = matches!(change, Some(ChangeState::Refused(_)));
        if soon || tried || !report.injection_pending.is_empty() {
            Self::Soon
        } else if failed || unreadable || refused || !observed.refusals.is_empty() || !left {
            Self::Retry
        } else {
            Self::Settled
        }
    }
}

impl Controller {
    fn new(client: Client, args: &ControllerArgs, health: Arc<Health>) -> Self {
        let namespace = args.namespace.clone();
        let signal = Arc::new(Signal::default());
        let tenure = Arc::new(Tenure::new(client.clone(), &namespace, &args.identity));
        Self {
            sources: Sources::watch(&client, &namespace, &signal),
            sink_secrets: SinkSecrets::new(client.clone(), &namespace),
            prober: Prober::new(client.clone()),
            reports: Reports::new(&client, args, &signal, &health),
            injection: Injection::new(&client, args, &signal),
            applier: Applier::new(client.clone(), tenure.clone(), health.clone()),
            trackers: Trackers::new(client.clone(), tenure, health.clone(), signal.clone()),
            publisher: Publisher::new(client.clone(), &namespace, health.clone()),
            census: Census::new(client.clone()),
            roller: Roller::new(client.clone(), health.clone(), signal.clone()),
            keeper: Keeper::new(
                Duration::from_secs(args.retention_interval),
                &signal,
                &health,
            ),
            wake: None,
            installation: InForce::default(),
            planes: None,
            last_good: BTreeMap::new(),
            former: BTreeSet::new(),
            plan: None,
            audit: None,
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
            let change = match (again, self.wake) {
                (Some(wait), _) => {
                    // Whatever woke it, or nothing: what is not settled is tried again.
                    let _ = tokio::time::timeout(wait, changed).await;
                    Change::Plan
                }
                (None, Some(wake)) => {
                    let wait = wake
                        .duration_since(Timestamp::now())
                        .max(SignedDuration::ZERO);
                    let changed = tokio::time::timeout(wait.unsigned_abs(), changed).await;
                    changed.unwrap_or(Change::Status)
                }
                (None, None) => changed.await,
            };
            self.health.begins();
            let passed = in_time(self.pass(change)).await;
            self.health.ended();
            if let Some(outcome) = passed.reconciled {
                self.health.metrics.reconciled(outcome);
            }
            let next = passed.next;
            (again, soon, retry) = match next {
                Next::Settled => (None, PROBE.0, RETRY.0),
                Next::Soon => (Some(soon), (soon * 2).min(PROBE.1), RETRY.0),
                Next::Retry => (Some(retry), PROBE.0, (retry * 2).min(RETRY.1)),
            };
        }
    }

    /// One pass.
    async fn pass(&mut self, change: Change) -> Passed {
        self.wake = None;
        let mut passed = Passed::default();
        if !self.sources.are_synced() || !self.reports.are_settled() {
            return passed;
        }
        if change == Change::Plan || self.plan.is_none() || self.prober.is_stale() {
            // Plan and objects are all in it.
            match Box::pin(self.reconcile()).await {
                Ok(reconciled) => passed = reconciled,
                Err(error) => {
                    tracing::error!(error = %chain(error.as_ref()), "failed to reconcile");
                    passed = Passed::FAILED;
                }
            }
        }
        let hopeless =
            self.installation.installation.is_none() && self.installation.problem.is_some();
        if self.plan.is_none() && !hopeless {
            // Nothing is known yet that a status could tell.
            return passed;
        }
        let now = Timestamp::now();
        let restarts = self.follow_pods(now).await;
        let survey = self.survey(now);
        let facts = publish::Known {
            plan: self.plan.as_ref(),
            report: &self.report,
            installation: self.installation.installation.as_ref(),
            problem: self.installation.problem.as_ref(),
            census: &self.census,
            restarts: &restarts.standing,
            retention: &self.keeper.outcomes(),
            audit: self.audit.as_ref(),
            survey: survey.as_ref(),
        };
        let published = self.publisher.publish(&self.sources, facts, now).await;
        let audit_published = self
            .publisher
            .publish_audit(&self.sources, facts, now)
            .await;
        let due = [published.due, audit_published.due];
        let due = due.into_iter().flatten().chain(self.census.due());
        let due = due.chain(survey.and_then(|survey| survey.due));
        self.wake = restarts.wake.into_iter().chain(due).min();
        if !published.all || !audit_published.all {
            passed.next = Next::Retry;
        }
        passed
    }

    /// Counts the pods, and restarts the owner whose turn it is.
    async fn follow_pods(&mut self, now: Timestamp) -> Told {
        let (Some(planes), Some(installation)) = (&self.planes, &self.installation.installation)
        else {
            return Told::default();
        };
        self.census
            .follow(&self.sources, planes, installation, self.plan.as_ref(), now)
            .await;
        let wanted = census::wanted(&self.census, &self.sources);
        let namespaces = Plane::ALL.map(|plane| installation.namespace(plane).to_owned());
        let in_force = namespaces
            .iter()
            .filter(|namespace| self.injects(namespace));
        let history = self.sources.history();
        let specification = self.census.specification();
        let since = |namespace: &String| {
            let specification = specification.as_ref()?;
            history.since(namespace, specification)
        };
        let in_force = in_force
            .map(|namespace| (namespace.clone(), since(namespace)))
            .collect();
        let window = installation.rollout.window.as_ref();
        self.roller
            .roll(wanted.as_ref(), &in_force, &namespaces.into(), window, now)
            .await
    }

    /// What agents report of every policy; none where nobody listens.
    fn survey(&self, now: Timestamp) -> Option<Survey> {
        let fleet = self.reports.fleet()?;
        let mut fleet = fleet.lock().unwrap_or_else(PoisonError::into_inner);
        let plan = self.plan.as_ref();
        let survey = census::survey(&self.census, &mut fleet, &self.sources, plan, now);
        self.health.metrics.delivery.follow(&fleet, &survey);
        Some(survey)
    }

    /// Whether new pods of a namespace are known to get the agent as it is specified, whichever API server creates them.
    fn injects(&self, namespace: &str) -> bool {
        let injects = |plan: &Plan| {
            let admission = plan.admission.as_ref();
            admission.is_some_and(|admission| admission.namespaces.contains(namespace))
        };
        let change = self.report.change.as_ref();
        self.plan.as_ref().is_some_and(injects)
            && self.injection.is_settled()
            && self.report.admission.is_none()
            && change.is_none_or(|change| !change.namespaces.contains(namespace))
            && self
                .report
                .choice
                .is_some_and(|choice| choice.obstacle.is_none())
            && !self.report.injection_pending.contains(namespace)
    }

    /// Makes the plan and applies it.
    async fn reconcile(&mut self) -> anyhow::Result<Passed> {
        self.take_installation().await;
        let Some(installation) = &self.installation.installation else {
            return Ok(Passed::default());
        };
        let Some(planes) = &self.planes else {
            return Ok(Passed::default());
        };
        if !planes.are_listed() || !self.trackers.are_settled() {
            // What is not known yet would be told as missing.
            return Ok(Passed::default());
        }
        self.reports
            .look(&mut self.applier, &self.sources, planes, Timestamp::now())
            .await;
        let began = Instant::now();
        let mut observed = observe::observe(
            &self.sources,
            planes,
            &mut self.sink_secrets,
            &self.last_good,
            (installation, &self.namespace),
            self.reports.reporting(),
        )
        .await;
        census::expect(&self.reports, &self.sources);
        let circumstances = planes.circumstances();
        let mut checked = Checked::default();
        if !observed.candidates.is_empty() {
            let injected =
                self.injection
                    .injected(&self.sources, installation, &observed.definition)?;
            checked = self
                .prober
                .check(
                    &observed.namespaces,
                    &installation.agent,
                    &injected,
                    &circumstances,
                    &planes.samples(),
                )
                .await;
            observed.refusals = std::mem::take(&mut checked.refusals);
        }
        let plan = plan(installation, &observed);
        self.health.metrics.planned(began.elapsed());
        let plan = plan?;
        self.health.metrics.want_injection(plan.wants_injection());
        // Bundles before admission, so that the first pod that is injected finds its configuration.
        let mut report = self.applier.apply(&plan, planes, &mut self.former).await;
        let namespace = observed.namespaces.get(&installation.platform_namespace);
        let has_namespace = namespace.is_some_and(|namespace| !namespace.terminating);
        let audit = audit_plan(&self.sources, &self.trackers, installation);
        if let Some(audit) = audit {
            report.tracker = self.trackers.apply(&audit, has_namespace).await;
            self.report.tracker.clone_from(&report.tracker);
            self.audit = Some((audit, has_namespace));
        }
        let known = switch::Known {
            sources: &self.sources,
            agent: &installation.agent,
            namespaces: &observed.namespaces,
            circumstances: &circumstances,
            held: checked.held.as_ref(),
            in_use: &planes.agents(),
        };
        let wanted = Wanted {
            installation,
            definition: &observed.definition,
            admission: plan.admission.as_ref(),
        };
        let advanced = self
            .injection
            .advance(
                &mut self.applier,
                &mut self.prober,
                wanted,
                known,
                &self.health.metrics,
                &mut report,
            )
            .await;
        let soon = match advanced {
            Ok(soon) => soon || checked.uncertain,
            Err(outdated) => {
                // What it has become is about to be seen.
                tracing::info!(%outdated, "looking again");
                return Ok(Passed::of(Next::Soon));
            }
        };
        self.report = report;
        self.remember_told(&plan);
        self.keeper.follow(&plan.custodies);
        self.plan = Some(plan);
        Ok(Passed::of(Next::after(
            &self.report,
            &observed,
            self.former.is_empty() && self.trackers.have_left(),
            soon,
        )))
    }

    /// What was written is what the agents are told.
    fn remember_told(&mut self, plan: &Plan) {
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
        self.trackers.follow(&installation, before.as_ref());
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_pass_that_takes_too_long_counts_as_one_that_has_failed() {
        let passed = in_time(std::future::pending()).await;
        assert_eq!(passed.reconciled, Some(Outcome::Failure));
        assert_eq!(passed.next, Next::Retry);
        let passed = in_time(async { Passed::of(Next::Settled) }).await;
        assert_eq!(passed.reconciled, Some(Outcome::Success));
        // One that had nothing to plan says nothing of plans.
        assert_eq!(in_time(async { Passed::default() }).await.reconciled, None);
    }
}
