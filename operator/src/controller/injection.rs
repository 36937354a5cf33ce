//! Puts injection in force in the way that was chosen, and takes the other way away when that one acts. Chooses nothing.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use k8s_openapi::jiff::Timestamp;
use katonic_logging_core::{
    Installation,
    admission::{Admission, DefinitionUid, admission},
    sidecar::Sidecar,
    status::{Failure, Report},
    way::{Action, Choice, Obstacle, Situation, Way, choose, injecting},
    webhook::configuration::Told,
};
use kube::Client;

use super::{
    alarm::Alarm,
    apply::{self, Applier, Outdated, failed},
    prober::{Injected, Prober},
    sources::Sources,
    switch::{Known, Progress, SETTLE, Switch},
    webhook::{self, Webhook},
};
use crate::{
    args::ControllerArgs,
    cache::{Signal, chain},
    metrics::Metrics,
};

/// When what could not be taken away is tried again.
const AGAIN: Duration = Duration::from_mins(1);

/// Both ways, and which of them acts.
pub struct Injection {
    switch: Switch,
    webhook: Webhook,
    alarm: Alarm,
    /// Whether the API server had admission policies when it last said so.
    served: Option<bool>,
    /// The way that pods were last seen to be injected by.
    in_force: Option<Way>,
    /// The way by which they get any agent at all, the wanted one or one of before.
    injecting: Option<Way>,
    /// Whether every API server acts on it.
    settled: bool,
}

/// What injection is made of.
#[derive(Clone, Copy)]
pub struct Wanted<'a> {
    /// The installation in force.
    pub installation: &'a Installation,
    /// The definition of the policies.
    pub definition: &'a DefinitionUid,
    /// Where pods are to be injected; none: nowhere.
    pub admission: Option<&'a Admission>,
}

impl Injection {
    /// Nothing is known yet.
    pub fn new(client: &Client, args: &ControllerArgs, signal: &Arc<Signal>) -> Self {
        Self {
            switch: Switch::new(client),
            webhook: Webhook::new(client, &args.namespace, args.webhook_url.clone()),
            alarm: Alarm::new(signal),
            served: None,
            in_force: None,
            injecting: None,
            settled: false,
        }
    }

    /// Whether every API server acts on what was last seen in force, not only the one that has answered.
    pub fn is_settled(&self) -> bool {
        self.settled
    }

    /// The namespaces whose pods get an agent, and those of them that get another one than the one that is wanted.
    ///
    /// # Errors
    /// When what is wanted cannot be rendered.
    pub fn injected(
        &mut self,
        sources: &Sources,
        installation: &Installation,
        definition: &DefinitionUid,
    ) -> Result<Injected, serde_json::Error> {
        let revision = admission(installation, &BTreeSet::new(), definition)?.revision;
        let mut injected = self.switch.injected(sources, &revision);
        let sidecar = Sidecar::new(&installation.agent)?;
        let by_webhook = sources.webhook.former(&sidecar);
        let agent = by_webhook.as_ref().and_then(|former| former.told.as_ref());
        let agent = agent.map(|told| told.installation.agent.clone());
        injected.agent = injected.agent.or(agent);
        let former = by_webhook.map(|former| former.namespaces);
        injected.former.extend(former.unwrap_or_default());
        let by_webhook = sources.webhook.configured().there();
        injected
            .all
            .extend(by_webhook.into_iter().flat_map(|one| one.namespaces));
        Ok(injected)
    }

    /// Brings the cluster one step nearer to what is wanted, and says in the report how far it is; whether something remains to
    /// be done soon.
    ///
    /// # Errors
    /// When what is in the cluster is not what was seen of it; the report says nothing then.
    pub async fn advance(
        &mut self,
        applier: &mut Applier,
        prober: &mut Prober,
        wanted: Wanted<'_>,
        known: Known<'_>,
        metrics: &Metrics,
        report: &mut Report,
    ) -> Result<bool, Outdated> {
        let now = Timestamp::now();
        let sources = known.sources;
        let secrets = sources.secrets.all().unwrap_or_default();
        let found = self
            .webhook
            .look(applier, &sources.webhook, &secrets, now)
            .await;
        metrics.set_certificate_expiry(found.expires.map(Timestamp::as_second));
        let present = sources.ways();
        self.served = sources.admission_binding.is_served().or(self.served);
        let situation = Situation {
            policies_served: self.served,
            webhook: found.state,
            present: present.clone(),
            in_force: self.in_force,
            settled: self.settled,
        };
        let mode = wanted.installation.injection.mode;
        let mut choice = choose(mode, &situation, wanted.admission.is_some());
        let by_policy = self.policy(applier, prober, choice, wanted, known).await?;
        let by_webhook = self.ask(applier, prober, choice, wanted, known).await?;
        let (progress, other) = match choice.way {
            Way::AdmissionPolicy => (by_policy, by_webhook),
            Way::Webhook => (by_webhook, by_policy),
        };
        let acts = choice.is_written()
            && matches!(&progress, Ok(progress) if progress.change.is_none() && progress.pending.is_empty());
        self.in_force = acts.then_some(choice.way);
        self.settled = progress.as_ref().is_ok_and(|progress| progress.settled);
        let is_former =
            |progress: &Progress| progress.change.as_ref().is_some_and(|change| change.former);
        let injects = progress.as_ref().ok();
        let injects = injects.map(|progress| acts || is_former(progress));
        self.injecting = injecting(choice.way, injects, self.injecting, &present);
        metrics.set_injection(self.injecting);
        // The other way only stays or goes: what became of that is told by the log.
        let mut soon = other.as_ref().is_ok_and(|progress| progress.soon);
        let mut due = None;
        match progress {
            Err(failure) => report.admission = Some(failure),
            // What hinders it is told, and watched: asking again would not help.
            Ok(_) if choice.obstacle.is_some() => {}
            Ok(progress) => {
                report.change = progress.change;
                report.injection_pending = progress.pending;
                soon |= progress.soon;
                due = progress.due;
                if let Some(admission) = wanted.admission.filter(|_| !choice.is_written()) {
                    report.injection_pending.clone_from(&admission.namespaces);
                }
            }
        }
        if choice.way == Way::Webhook
            && !report.injection_pending.is_empty()
            && choice.is_written()
            && self.webhook.is_overdue()
        {
            let goes_on = choice.admission_policy == Action::Write;
            let obstacle = if self.webhook.is_untrusted(&sources.webhook) {
                Obstacle::WebhookUntrusted
            } else {
                Obstacle::WebhookUnreachable
            };
            choice.obstacle = Some((obstacle, goes_on));
        }
        let gives_way = choice.switching && self.in_force.is_some();
        soon |= gives_way && self.settled;
        // The other way gives way then, and restarts may begin.
        let settles = (self.in_force.is_some() && !self.settled).then_some(SETTLE);
        let again = other.is_err().then_some(AGAIN).or(settles);
        let again = again.into_iter().chain(due).min();
        let again = again.and_then(|again| now.saturating_add(again).ok());
        let until = again.map_or(found.until, |again| again.min(found.until));
        self.alarm.set(until);
        report.choice = Some(choice);
        Ok(soon)
    }

    async fn policy(
        &mut self,
        applier: &mut Applier,
        prober: &mut Prober,
        choice: Choice,
        wanted: Wanted<'_>,
        known: Known<'_>,
    ) -> Result<Result<Progress, Failure>, Outdated> {
        let result = match (choice.admission_policy, wanted.admission) {
            (Action::Write, Some(admission)) => {
                self.switch.advance(applier, prober, admission, known).await
            }
            (Action::Leave, _) => Ok(Progress::default()),
            _ => self
                .switch
                .retire(applier, known.sources)
                .await
                .map(|()| Progress::default()),
        };
        match result {
            Err(apply::Error::Outdated(outdated)) => Err(outdated),
            result => Ok(result.map_err(failed)),
        }
    }

    async fn ask(
        &mut self,
        applier: &mut Applier,
        prober: &Prober,
        choice: Choice,
        wanted: Wanted<'_>,
        known: Known<'_>,
    ) -> Result<Result<Progress, Failure>, Outdated> {
        let watched = &known.sources.webhook;
        let result = match (choice.webhook, wanted.admission) {
            (Action::Write, Some(admission)) => {
                let Wanted {
                    installation,
                    definition,
                    ..
                } = wanted;
                let history = known.sources.history();
                let wanted = Told::new(installation).map(|told| webhook::Wanted {
                    told,
                    namespaces: &admission.namespaces,
                    definition,
                    history: &history,
                });
                match wanted {
                    Ok(wanted) => self.webhook.advance(applier, prober, wanted, known).await,
                    Err(error) => Err(error.into()),
                }
            }
            (Action::Leave, _) => Ok(Progress::default()),
            _ => self
                .webhook
                .retire(applier, watched)
                .await
                .map(|()| Progress::default()),
        };
        match result {
            Ok(progress) => Ok(Ok(progress)),
            Err(webhook::Error::Write(apply::Error::Outdated(outdated))) => Err(outdated),
            Err(webhook::Error::Write(error)) => Ok(Err(failed(error))),
            Err(error @ webhook::Error::Render(_)) => {
                tracing::error!(error = %chain(&error), "failed to apply");
                Ok(Err(Failure {
                    name_taken: false,
                    message: chain(&error),
                }))
            }
        }
    }
}

impl std::fmt::Debug for Injection {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Injection")
            .field("in_force", &self.in_force)
            .finish_non_exhaustive()
    }
}
