//! Injection by the webhook: its certificate, its configuration, and pods tried in dry runs that show that it acts.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use k8s_openapi::{
    api::admissionregistration::v1::MutatingWebhookConfiguration,
    jiff::{SignedDuration, Timestamp},
};
use katonic_logging_core::{
    admission::DefinitionUid,
    certificate::Peer,
    history::History,
    installation::Agent,
    names,
    sidecar::Revision,
    status::{Change, ChangeState},
    trial::{Verdict, Wait, judge},
    way,
    webhook::configuration::{Former, Reach, Told, Trust, configuration},
};
use kube::{Api, Client};

use super::{
    apply::{self, Applier},
    certificates::{Keeper, Purpose},
    prober::Prober,
    refused::TakenBack,
    sources::Owned,
    switch::{Known, Progress, SETTLE},
};
use crate::cache::{Seen, chain};

mod watch;

pub use watch::Watched;
use watch::{Configured, Installed};

const CONFIGURATION: &str = "MutatingWebhookConfiguration";

/// How long it may take until the first answer, before somebody has to look why there is none.
const ANSWERS: Duration = Duration::from_secs(10);

/// When a certificate is tried again that could not be read or written.
const AGAIN: SignedDuration = SignedDuration::from_secs(10);

/// What may go wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something of it cannot be written.
    #[error(transparent)]
    Write(#[from] apply::Error),
    /// It cannot be rendered, which no input is known to cause.
    #[error("failed to render the webhook's configuration")]
    Render(#[from] serde_json::Error),
}

/// The webhook, as the controller looks after it.
pub struct Webhook {
    configurations: Api<MutatingWebhookConfiguration>,
    keeper: Keeper,
    reach: Reach,
    trust: Option<Trust>,
    /// What was last seen to be added to pods, and where.
    in_force: Option<Told>,
    bound: BTreeSet<String>,
    has_recalled: bool,
    taken_back: Option<TakenBack<Revision>>,
    history: History,
    /// The version of the configuration that was seen to act, and where.
    shown: (String, BTreeSet<String>),
    /// When the configuration was last changed.
    changed: Instant,
    /// Whether it could be asked when it was last looked at.
    could_be_asked: bool,
}

/// What its configuration is made of.
pub struct Wanted<'a> {
    /// What it is to be told to add.
    pub told: Told,
    /// Where.
    pub namespaces: &'a BTreeSet<String>,
    /// Who owns it.
    pub definition: &'a DefinitionUid,
    /// What pods have been given, as far as is seen.
    pub history: &'a History,
}

/// What was found of it.
#[derive(Debug)]
pub struct Found {
    /// Whether it can be asked.
    pub state: way::Webhook,
    /// Until when nothing is due.
    pub until: Timestamp,
    /// When its certificate ceases to be valid, where that is ours.
    pub expires: Option<Timestamp>,
}

impl Webhook {
    /// Nothing is known yet. `url`: where API servers reach it, if not by its Service.
    pub fn new(client: &Client, namespace: &str, url: Option<Reach>) -> Self {
        let reach = url.unwrap_or_else(|| Reach::Service {
            namespace: namespace.to_owned(),
        });
        let purpose = Purpose {
            server: names::WEBHOOK,
            secret: names::WEBHOOK_CERTIFICATE,
            host: reach.host(),
            peer: Peer::ApiServer,
            shown_here: false,
        };
        Self {
            configurations: Api::all(client.clone()),
            keeper: Keeper::new(client.clone(), namespace, purpose),
            reach,
            trust: None,
            in_force: None,
            bound: BTreeSet::new(),
            has_recalled: false,
            taken_back: None,
            history: History::default(),
            shown: Default::default(),
            changed: Instant::now(),
            could_be_asked: false,
        }
    }

    /// Looks what there is, and gives it a certificate where it is installed.
    pub async fn look(
        &mut self,
        applier: &mut Applier,
        watched: &Watched,
        secrets: &BTreeMap<String, String>,
        now: Timestamp,
    ) -> Found {
        let found = self.find(applier, watched, secrets, now).await;
        let can_be_asked = found.state == way::Webhook::Ready;
        if !can_be_asked || !self.could_be_asked {
            // Its pods were away: that it acts has to be seen again.
            self.shown = Default::default();
            self.changed = Instant::now();
        }
        self.could_be_asked = can_be_asked;
        found
    }

    async fn find(
        &mut self,
        applier: &mut Applier,
        watched: &Watched,
        secrets: &BTreeMap<String, String>,
        now: Timestamp,
    ) -> Found {
        let found = |state| Found {
            state,
            until: Timestamp::MAX,
            expires: None,
        };
        let installed = match (&self.reach, watched.installed()) {
            (Reach::Url(_), _) => None,
            (Reach::Service { .. }, Seen::There(installed)) => Some(installed),
            (Reach::Service { .. }, Seen::Absent) => return found(way::Webhook::NotInstalled),
            (Reach::Service { .. }, Seen::Unknown) => return found(way::Webhook::Unknown),
        };
        let state = if installed
            .as_ref()
            .is_none_or(|installed| installed.available)
        {
            way::Webhook::Ready
        } else {
            way::Webhook::NotReady
        };
        let configured = match watched.configured() {
            // Unseen, it might name authorities that must not be forgotten.
            Seen::Unknown => return found(way::Webhook::Unknown),
            Seen::There(configured) => Some(configured).filter(|one| one.owned.ours),
            Seen::Absent => None,
        };
        if let Some(certificate) = installed.as_ref().and_then(|one| one.certificate.clone()) {
            let ours = configured.filter(|one| one.published_by_us);
            self.trust = Some(Trust::Injected {
                certificate,
                meanwhile: ours.and_then(|one| one.published),
            });
            return found(state);
        }
        let published = configured.and_then(|configured| configured.published);
        let kept = self
            .keeper
            .keep(
                applier,
                secrets.get(names::WEBHOOK_CERTIFICATE),
                published.as_deref(),
                installed.as_ref().map(Installed::owner),
                now,
            )
            .await;
        match kept {
            Ok((certificates, until)) => {
                self.trust = certificates.ca_bundle(now).map(Trust::CaBundle);
                Found {
                    state,
                    until,
                    expires: certificates.expires(),
                }
            }
            Err(error) => {
                tracing::error!(error = %chain(&error), "failed to look after the webhook's certificate");
                let state = match self.trust {
                    Some(_) => state,
                    None => way::Webhook::NoCertificate,
                };
                Found {
                    until: now.saturating_add(AGAIN).unwrap_or(now),
                    ..found(state)
                }
            }
        }
    }

    /// Whether it should have been seen to act by now.
    pub fn is_overdue(&self) -> bool {
        self.changed.elapsed() >= ANSWERS
    }

    /// Whether API servers cannot trust it, because cert-manager has not said whom they are to trust.
    pub fn is_untrusted(&self, watched: &Watched) -> bool {
        let configured = watched.configured().there();
        let published = configured.and_then(|configured| configured.published);
        matches!(self.trust, Some(Trust::Injected { .. })) && published.is_none()
    }

    /// Takes it away.
    ///
    /// # Errors
    /// When it cannot be deleted.
    pub async fn retire(&mut self, applier: &mut Applier, watched: &Watched) -> Result<(), Error> {
        (self.in_force, self.shown) = Default::default();
        self.bound.clear();
        self.has_recalled = true;
        self.taken_back = None;
        let observed = watched.configured().there().map(|one| one.owned);
        applier
            .remove(
                &self.configurations,
                CONFIGURATION,
                names::WEBHOOK_CONFIGURATION,
                observed,
            )
            .await?;
        Ok(())
    }

    /// Writes the configuration, and tries whether it acts and whether namespaces take what it adds. What a namespace refuses,
    /// before it is written or then, leaves the webhook told to add the former agent.
    ///
    /// # Errors
    /// When it cannot be written; what is in force stays.
    pub async fn advance(
        &mut self,
        applier: &mut Applier,
        prober: &Prober,
        wanted: Wanted<'_>,
        known: Known<'_>,
    ) -> Result<Progress, Error> {
        let namespaces = wanted.namespaces;
        let configured = known.sources.webhook.configured();
        if self.trust.is_none() || configured == Seen::Unknown {
            return Ok(Progress {
                pending: namespaces.clone(),
                ..Progress::default()
            });
        }
        let configured = configured.there();
        self.recall(configured.as_ref());
        self.history.follow(known.in_use);
        let added = self.in_force.as_ref().unwrap_or(&wanted.told);
        let added = added.sidecar.revision.clone();
        self.history.saw(&added, prober.take_forms(&added));
        self.bound
            .retain(|namespace| namespaces.contains(namespace));
        let observed = configured.map(|configured| configured.owned);
        let attempt = known.attempt(&wanted.told.sidecar.revision);
        self.taken_back.take_if(|one| !one.is_of(&attempt));
        self.reconsider(prober, known.agent).await;
        let held = self.hold(applier, prober, &wanted, known, observed.clone());
        if let Some(change) = held.await? {
            return Ok(Progress {
                change: Some(change),
                due: self.taken_back.as_ref().and_then(TakenBack::asks_in),
                ..Progress::default()
            });
        }
        let version = self
            .write(applier, &wanted.told, namespaces, &wanted, observed.clone())
            .await?;
        let settled = self.changed.elapsed() >= SETTLE;
        let mut progress = Progress {
            settled,
            ..Progress::default()
        };
        if self.shown == (version.clone(), namespaces.clone()) {
            return Ok(progress);
        }
        let revision = &wanted.told.sidecar.revision;
        let outcomes = prober
            .trials_of_webhook(namespaces, known.agent, revision)
            .await;
        self.history.saw(revision, prober.take_forms(revision));
        match judge(&outcomes, namespaces, settled) {
            Verdict::Accept(shown) if shown == *namespaces && self.history.undated().is_empty() => {
                (self.in_force, self.bound) = (Some(wanted.told.clone()), shown.clone());
                self.taken_back = None;
                // What there was before is told no longer. Whatever acted on what is written still does.
                let changed = self.changed;
                let version = self
                    .write(applier, &wanted.told, namespaces, &wanted, observed)
                    .await?;
                self.changed = changed;
                self.shown = (version, shown);
            }
            Verdict::Accept(shown) => {
                progress.pending = namespaces.difference(&shown).cloned().collect();
                // It is written once more when it has been read back.
                progress.pending.extend(self.history.undated());
            }
            Verdict::Refuse {
                refusal,
                namespaces: refusing,
            } => {
                if self.in_force.is_none() {
                    self.bound.clear();
                } else if self.adds(&wanted.told) {
                    self.bound.retain(|namespace| !refusing.contains(namespace));
                }
                // Else they have the former agent, and keep it.
                self.taken_back = Some(TakenBack::new(attempt, refusal, refusing));
                progress.change = self.hold(applier, prober, &wanted, known, observed).await?;
                self.reconsider(prober, known.agent).await;
                progress.due = self.taken_back.as_ref().and_then(TakenBack::asks_in);
            }
            Verdict::Wait(wait @ Wait::Answer(_)) => {
                progress.change = Some(Change {
                    former: false,
                    namespaces: namespaces.clone(),
                    state: ChangeState::Tried(wait),
                });
            }
            Verdict::Wait(Wait::TakenUp) => {
                tracing::debug!(?outcomes, "the webhook is not in force yet");
                progress.pending.clone_from(namespaces);
            }
        }
        Ok(progress)
    }

    /// Whether what is wanted is in force already, where the webhook is bound.
    fn adds(&self, told: &Told) -> bool {
        let in_force = self.in_force.as_ref();
        in_force.is_some_and(|one| one.sidecar.revision == told.sidecar.revision)
    }

    /// Has pods that carry what was refused ask whether it would be taken now: nobody else's pods are refused for that.
    async fn reconsider(&mut self, prober: &Prober, agent: &Agent) {
        let asks = self.taken_back.as_ref().and_then(TakenBack::asks);
        let Some(namespaces) = asks else {
            return;
        };
        let outcomes = prober.trials_with_agent(namespaces, agent).await;
        self.taken_back.take_if(|one| one.answered(&outcomes));
    }

    /// Where pods with what is wanted are refused: leaves the webhook told of the former agent, and of the namespaces that have
    /// it, or have come since and take it. None where nothing is refused.
    async fn hold(
        &mut self,
        applier: &mut Applier,
        prober: &Prober,
        wanted: &Wanted<'_>,
        known: Known<'_>,
        observed: Option<Owned>,
    ) -> Result<Option<Change>, Error> {
        let told = &wanted.told;
        let is_new = !self.adds(told);
        let held = known.held.filter(|_| is_new);
        let taken_back = self.taken_back.as_ref().map(TakenBack::refusal);
        let Some(refusal) = held.or(taken_back).cloned() else {
            return Ok(None);
        };
        let joining: BTreeSet<String> =
            wanted.namespaces.difference(&self.bound).cloned().collect();
        if let Some(former) = self.in_force.as_ref().filter(|_| is_new) {
            let agent = &former.installation.agent;
            self.bound.extend(prober.taking(&joining, agent).await);
        }
        let change = Change {
            former: is_new && (self.in_force.is_some() || held.is_some()),
            namespaces: if is_new {
                wanted.namespaces.clone()
            } else {
                joining
            },
            state: ChangeState::Refused(refusal),
        };
        // Without it, what cannot be read stays: it is what pods get.
        if self.in_force.is_some() || held.is_none() {
            let mut stays = told.clone();
            if let Some(former) = &self.in_force {
                stays.sidecar = former.sidecar.clone();
                stays.installation.agent = former.installation.agent.clone();
            }
            let bound = self.bound.clone();
            self.write(applier, &stays, &bound, wanted, observed)
                .await?;
        }
        Ok(Some(change))
    }

    /// Finds what an operator before this one had put in force, which is not what it had begun to try. Later, what is in the
    /// cluster may be what this one tries.
    fn recall(&mut self, configured: Option<&Configured>) {
        if std::mem::replace(&mut self.has_recalled, true) {
            return;
        }
        if let Some(configured) = configured.filter(|configured| configured.owned.ours) {
            let (told, namespaces) = match &configured.former {
                Some(former) => (&former.told, &former.namespaces),
                None => (&configured.told, &configured.namespaces),
            };
            self.in_force.clone_from(told);
            self.bound.clone_from(namespaces);
        }
    }

    /// Writes the configuration, unless it is as it was left; returns its version.
    async fn write(
        &mut self,
        applier: &mut Applier,
        told: &Told,
        namespaces: &BTreeSet<String>,
        wanted: &Wanted<'_>,
        observed: Option<Owned>,
    ) -> Result<String, Error> {
        let version = |applier: &Applier| {
            let version = applier.version(CONFIGURATION, names::WEBHOOK_CONFIGURATION);
            version.unwrap_or_default().to_owned()
        };
        let before = version(applier);
        let Some(trust) = &self.trust else {
            return Ok(before);
        };
        if namespaces.is_empty() {
            let name = names::WEBHOOK_CONFIGURATION;
            applier
                .remove(&self.configurations, CONFIGURATION, name, observed)
                .await?;
        } else {
            let former = (!self.adds(told)).then(|| Former {
                told: self.in_force.clone(),
                namespaces: self.bound.clone(),
            });
            let before = former.as_ref().and_then(|former| former.told.as_ref());
            let before = before.map(|told| &told.sidecar);
            self.history
                .note(&told.sidecar, before, namespaces, wanted.history);
            let object = configuration(
                told,
                former.as_ref(),
                &self.history,
                namespaces,
                wanted.definition,
                &self.reach,
                trust,
            )?;
            applier
                .write(&self.configurations, CONFIGURATION, &object, observed)
                .await?;
        }
        let now = version(applier);
        if now != before {
            self.changed = Instant::now();
        }
        Ok(now)
    }
}
