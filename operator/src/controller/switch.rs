//! Puts injection in force: a changed admission policy is tried beside the one that is, and takes its place when it has
//! passed. Users' pods are injected by the one or by the other all the while.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use k8s_openapi::api::admissionregistration::v1::{
    MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding,
};
use katonic_logging_core::{
    admission::{Admission, Revision, Slot},
    history::History,
    installation::Agent,
    names, plan,
    sidecar::{Fingerprint, Sidecar},
    status::{Change, ChangeState},
    trial::{Refusal, Verdict, Wait, judge},
};
use kube::{Api, Client};

use super::{
    apply::{Applier, Error},
    prober::{self, Injected, Prober},
    refused::{Attempt, Refused},
    sources::{AdmissionBinding, AdmissionPolicy, Circumstances, Owned, Sources},
};

const POLICY: &str = "MutatingAdmissionPolicy";
const BINDING: &str = "MutatingAdmissionPolicyBinding";

/// How long other API servers than the one that answered, and pods of the webhook, may take until they act on what was written:
/// each API server looks for admission policies every second, and all else is watched.
pub const SETTLE: Duration = Duration::from_secs(3);

/// How long an API server may take until it applies a policy at all.
const TAKEN_UP: Duration = Duration::from_secs(30);

/// What is in force, what is tried, and what was refused.
pub struct Switch {
    policies: Api<MutatingAdmissionPolicy>,
    bindings: Api<MutatingAdmissionPolicyBinding>,
    in_force: Option<InForce>,
    /// The namespaces that are injected.
    bound: BTreeSet<String>,
    /// When the binding was last switched, or first seen.
    switched: Instant,
    tried: Option<Tried>,
    refused: Refused<Revision>,
    history: History,
}

/// The admission policy in force.
#[derive(Clone)]
struct InForce {
    slot: Slot,
    revision: Option<Revision>,
    /// The agent that pods get by it; none if the binding does not tell.
    agent: Option<Agent>,
    /// As it was when it came into force: what the installation has become meanwhile would make another one.
    object: MutatingAdmissionPolicy,
}

struct Tried {
    revision: Revision,
    since: Instant,
}

/// What is known when injection is put in force.
#[derive(Clone, Copy)]
pub struct Known<'a> {
    /// What is watched.
    pub sources: &'a Sources,
    /// The agent that trial pods are made like.
    pub agent: &'a Agent,
    /// The namespaces that there are.
    pub namespaces: &'a BTreeMap<String, plan::Namespace>,
    /// What of them can make them refuse pods.
    pub circumstances: &'a BTreeMap<String, Circumstances>,
    /// A namespace that refuses the change already before it is written.
    pub held: Option<&'a Refusal>,
    /// The agents of running pods.
    pub in_use: &'a BTreeSet<Fingerprint>,
}

impl Known<'_> {
    /// An attempt to put this in force now.
    pub fn attempt<R: Clone>(self, revision: &R) -> Attempt<R> {
        Attempt {
            revision: revision.clone(),
            circumstances: self.circumstances.clone(),
            requested_at: self.sources.requested_at(),
        }
    }
}

/// How far it is.
#[derive(Debug, Default)]
pub struct Progress {
    /// A change that is not in force.
    pub change: Option<Change>,
    /// Namespaces in which what is in force has not been seen to act.
    pub pending: BTreeSet<String>,
    /// Whether every API server has had time to act on what is in force.
    pub settled: bool,
    /// Whether something remains to be done soon.
    pub soon: bool,
    /// When there is something to do though nothing has changed.
    pub due: Option<Duration>,
}

/// The admission objects as the cluster has them.
struct Seen {
    policies: BTreeMap<Slot, AdmissionPolicy>,
    binding: Option<AdmissionBinding>,
    trial: Option<Owned>,
    history: History,
}

impl Seen {
    fn of(sources: &Sources) -> Result<Self, Error> {
        let unwatched = |kind, name: &str, error: Option<String>| Error::Unwatched {
            kind,
            name: name.to_owned(),
            reason: error.unwrap_or_else(|| "it has not been listed yet".to_owned()),
        };
        let mut policies = BTreeMap::new();
        for (slot, cache) in &sources.admission_policies {
            let name = slot.name();
            let seen = cache.with(|all| all.get(name).cloned());
            if let Some(policy) = seen.ok_or_else(|| unwatched(POLICY, name, cache.error()))? {
                policies.insert(*slot, policy);
            }
        }
        let binding = sources
            .admission_binding
            .with(|all| all.get(names::ADMISSION_BINDING).cloned());
        let binding = binding.ok_or_else(|| {
            let error = sources.admission_binding.error();
            unwatched(BINDING, names::ADMISSION_BINDING, error)
        })?;
        let trial = sources
            .trial_binding
            .with(|all| all.get(names::TRIAL_BINDING).cloned());
        let trial = trial.ok_or_else(|| {
            unwatched(BINDING, names::TRIAL_BINDING, sources.trial_binding.error())
        })?;
        Ok(Self {
            policies,
            binding,
            trial,
            history: sources.history(),
        })
    }

    fn policy(&self, slot: Slot) -> Option<Owned> {
        self.policies.get(&slot).map(|policy| policy.owned.clone())
    }

    fn bound(&self) -> Option<Owned> {
        self.binding.as_ref().map(|binding| binding.owned.clone())
    }

    /// The policy that the binding binds.
    fn in_force(&self) -> Option<InForce> {
        let binding = self.binding.as_ref().filter(|binding| binding.owned.ours)?;
        let slot = binding.slot?;
        let policy = self
            .policies
            .get(&slot)
            .filter(|policy| policy.owned.ours)?;
        Some(InForce {
            slot,
            revision: policy.revision(),
            agent: binding
                .installation
                .as_ref()
                .map(|installation| installation.agent.clone()),
            object: policy.object.clone(),
        })
    }
}

fn unserialised(source: serde_json::Error) -> Error {
    Error::Serialise {
        kind: BINDING,
        name: names::ADMISSION_BINDING.to_owned(),
        source,
    }
}

impl Switch {
    /// Nothing is known yet.
    pub fn new(client: &Client) -> Self {
        Self {
            policies: Api::all(client.clone()),
            bindings: Api::all(client.clone()),
            in_force: None,
            bound: BTreeSet::new(),
            switched: Instant::now(),
            tried: None,
            refused: Refused::default(),
            history: History::default(),
        }
    }

    /// The namespaces whose pods are injected, `revision` being the one that is wanted.
    pub fn injected(&mut self, sources: &Sources, revision: &Revision) -> Injected {
        if let Ok(seen) = Seen::of(sources) {
            self.remember(&seen);
        }
        let former = match &self.in_force {
            Some(in_force) if in_force.revision.as_ref() != Some(revision) => self.bound.clone(),
            _ => BTreeSet::new(),
        };
        let in_force = self.in_force.as_ref().filter(|_| !former.is_empty());
        Injected {
            all: self.bound.clone(),
            agent: in_force.and_then(|in_force| in_force.agent.clone()),
            former,
        }
    }

    /// Finds what is in force in the cluster, where this process does not know it better.
    fn remember(&mut self, seen: &Seen) {
        if self.in_force.is_some() {
            return;
        }
        let (Some(in_force), Some(binding)) = (seen.in_force(), &seen.binding) else {
            return;
        };
        self.in_force = Some(in_force);
        self.bound.clone_from(&binding.namespaces);
        self.switched = Instant::now();
    }

    /// Takes injection away.
    ///
    /// # Errors
    /// When something of ours cannot be deleted.
    pub async fn retire(&mut self, applier: &mut Applier, sources: &Sources) -> Result<(), Error> {
        let seen = Seen::of(sources)?;
        (self.in_force, self.tried) = (None, None);
        self.refused.forget();
        self.bound.clear();
        applier
            .remove(
                &self.bindings,
                BINDING,
                names::ADMISSION_BINDING,
                seen.bound(),
            )
            .await?;
        self.remove_trial(applier, &seen).await?;
        for slot in Slot::ALL {
            self.remove_policy(applier, &seen, slot).await?;
        }
        Ok(())
    }

    /// Brings the cluster one step nearer to what is wanted.
    ///
    /// # Errors
    /// When something cannot be written; what is in force stays.
    pub async fn advance(
        &mut self,
        applier: &mut Applier,
        prober: &mut Prober,
        wanted: &Admission,
        known: Known<'_>,
    ) -> Result<Progress, Error> {
        let seen = Seen::of(known.sources)?;
        self.remember(&seen);
        self.history.follow(known.in_use);
        self.bound
            .retain(|namespace| wanted.namespaces.contains(namespace));
        let in_force = self.in_force.clone();
        let is_wanted = |in_force: &InForce| in_force.revision.as_ref() == Some(&wanted.revision);
        let state = match &in_force {
            Some(in_force) if is_wanted(in_force) => None,
            former => {
                let former = former.as_ref();
                let state = self
                    .change(applier, prober, wanted, known, &seen, former)
                    .await?;
                let is_held_up = matches!(
                    state,
                    Some(ChangeState::Refused(_) | ChangeState::Tried(Wait::Answer(_)))
                );
                if let Some(former) = former.filter(|_| is_held_up) {
                    self.take_in(applier, prober, wanted, &seen, former).await?;
                }
                state
            }
        };
        match state {
            Some(state) => Ok(Progress {
                change: Some(Change {
                    former: in_force.is_some(),
                    namespaces: wanted.namespaces.clone(),
                    state,
                }),
                ..Progress::default()
            }),
            None => self.keep(applier, prober, wanted, known, &seen).await,
        }
    }

    /// What is wanted is not in force: tries it. None once it is.
    async fn change(
        &mut self,
        applier: &mut Applier,
        prober: &Prober,
        wanted: &Admission,
        known: Known<'_>,
        seen: &Seen,
        former: Option<&InForce>,
    ) -> Result<Option<ChangeState>, Error> {
        if let Some(former) = former {
            self.restore(applier, seen, former).await?;
            if let Some(agent) = &former.agent {
                self.learn(prober, &Sidecar::new(agent).map_err(unserialised)?);
            }
            self.bind(applier, seen, wanted, former.slot, former.agent.as_ref())
                .await?;
            if !self.is_settled() {
                // Another API server may still bind what was in force before: the other name is not free yet.
                return Ok(Some(ChangeState::Tried(Wait::TakenUp)));
            }
        }
        if let Some(refusal) = known.held.cloned().or_else(|| self.refusal(wanted, known)) {
            self.withdraw(applier, seen, former).await?;
            return Ok(Some(ChangeState::Refused(refusal)));
        }
        let slot = former.map_or_else(
            || {
                let begun = seen.policies.iter().find(|(_, policy)| {
                    policy.owned.ours && policy.revision().as_ref() == Some(&wanted.revision)
                });
                begun.map_or(Slot::A, |(slot, _)| *slot)
            },
            |former| former.slot.other(),
        );
        let verdict = self
            .trial(
                applier,
                prober,
                wanted,
                known,
                seen,
                slot,
                &wanted.namespaces,
            )
            .await?;
        let since = self
            .tried
            .as_ref()
            .map_or_else(Instant::now, |tried| tried.since);
        match verdict {
            Verdict::Refuse { refusal, .. } => {
                self.refuse(wanted, known, refusal.clone());
                self.withdraw(applier, seen, former).await?;
                Ok(Some(ChangeState::Refused(refusal)))
            }
            Verdict::Wait(wait) => Ok(Some(ChangeState::Tried(wait))),
            // Only one API server has answered; the others need the policy before they are told to apply it.
            Verdict::Accept(_) if former.is_some() && since.elapsed() < SETTLE => {
                Ok(Some(ChangeState::Tried(Wait::TakenUp)))
            }
            Verdict::Accept(namespaces) => {
                self.bound = namespaces;
                self.bind(applier, seen, wanted, slot, None).await?;
                self.in_force = Some(InForce {
                    slot,
                    revision: Some(wanted.revision.clone()),
                    agent: Some(known.agent.clone()),
                    object: wanted.policy(slot),
                });
                self.switched = Instant::now();
                self.tried = None;
                self.refused.forget();
                Ok(None)
            }
        }
    }

    /// Gives pods of namespaces that have come while a change is held up what is in force, where they take it: until somebody
    /// mends what holds it up, they would get no agent at all.
    async fn take_in(
        &mut self,
        applier: &mut Applier,
        prober: &Prober,
        wanted: &Admission,
        seen: &Seen,
        former: &InForce,
    ) -> Result<(), Error> {
        let Some(agent) = &former.agent else {
            return Ok(());
        };
        let joining: BTreeSet<String> =
            wanted.namespaces.difference(&self.bound).cloned().collect();
        let taking = prober.taking(&joining, agent).await;
        if taking.is_empty() {
            return Ok(());
        }
        self.bound.extend(taking);
        self.bind(applier, seen, wanted, former.slot, Some(agent))
            .await
    }

    /// What is wanted is in force: keeps it so, takes in namespaces that are new, and clears away what was in force before.
    async fn keep(
        &mut self,
        applier: &mut Applier,
        prober: &mut Prober,
        wanted: &Admission,
        known: Known<'_>,
        seen: &Seen,
    ) -> Result<Progress, Error> {
        let Some(slot) = self.in_force.as_ref().map(|in_force| in_force.slot) else {
            return Ok(Progress::default());
        };
        let mut progress = Progress::default();
        let policy = wanted.policy(slot);
        applier
            .write(&self.policies, POLICY, &policy, seen.policy(slot))
            .await?;
        self.bind(applier, seen, wanted, slot, None).await?;
        let joining: BTreeSet<String> =
            wanted.namespaces.difference(&self.bound).cloned().collect();
        let state = if joining.is_empty() {
            None
        } else if let Some(refusal) = self.refusal(wanted, known) {
            Some(ChangeState::Refused(refusal))
        } else {
            match self
                .trial(applier, prober, wanted, known, seen, slot, &joining)
                .await?
            {
                Verdict::Accept(namespaces) => {
                    self.bound.extend(namespaces);
                    self.bind(applier, seen, wanted, slot, None).await?;
                    self.switched = Instant::now();
                    self.tried = None;
                    None
                }
                Verdict::Wait(wait) => Some(ChangeState::Tried(wait)),
                Verdict::Refuse { refusal, .. } => {
                    self.refuse(wanted, known, refusal.clone());
                    Some(ChangeState::Refused(refusal))
                }
            }
        };
        let trying = matches!(state, Some(ChangeState::Tried(_)));
        progress.change = state.map(|state| Change {
            former: false,
            namespaces: joining,
            state,
        });
        let settled = self.is_settled();
        progress.settled = settled;
        let versions = applier
            .version(POLICY, slot.name())
            .zip(applier.version(BINDING, names::ADMISSION_BINDING));
        if let Some((policy, binding)) = versions {
            let in_force = prober::InForce {
                revision: &wanted.revision,
                versions: (policy.to_owned(), binding.to_owned()),
                settled,
            };
            progress.pending = prober
                .pending(&self.bound, known.agent, &in_force, known.namespaces)
                .await;
            if self.learn(prober, &wanted.sidecar().map_err(unserialised)?) {
                self.bind(applier, seen, wanted, slot, None).await?;
            }
        }
        // It is written once more when it has been read back, and acts anew then.
        progress.pending.extend(self.history.undated());
        let missing = wanted.namespaces.difference(&self.bound).cloned();
        progress
            .pending
            .extend(missing.filter(|_| progress.change.is_none()));
        if !trying {
            self.remove_trial(applier, seen).await?;
        }
        // Other API servers than the one that answered may still apply the policy of before.
        if settled && progress.pending.is_empty() {
            self.remove_policy(applier, seen, slot.other()).await?;
        } else {
            progress.soon = seen.policy(slot.other()).is_some();
        }
        Ok(progress)
    }

    /// Writes the policy and tries it in these namespaces.
    #[expect(clippy::too_many_arguments, reason = "each of them is another thing")]
    async fn trial(
        &mut self,
        applier: &mut Applier,
        prober: &Prober,
        wanted: &Admission,
        known: Known<'_>,
        seen: &Seen,
        slot: Slot,
        namespaces: &BTreeSet<String>,
    ) -> Result<Verdict, Error> {
        let policy = wanted.policy(slot);
        applier
            .write(&self.policies, POLICY, &policy, seen.policy(slot))
            .await?;
        let binding = wanted.trial_binding(slot, namespaces);
        applier
            .write(&self.bindings, BINDING, &binding, seen.trial.clone())
            .await?;
        let since = match &self.tried {
            Some(tried) if tried.revision == wanted.revision => tried.since,
            _ => Instant::now(),
        };
        self.tried = Some(Tried {
            revision: wanted.revision.clone(),
            since,
        });
        let outcomes = prober
            .trials(namespaces, known.agent, &wanted.revision)
            .await;
        let verdict = judge(&outcomes, &self.bound, since.elapsed() >= SETTLE);
        let late = since.elapsed() >= TAKEN_UP;
        if let (Verdict::Wait(Wait::TakenUp), true, Some(namespace)) =
            (&verdict, late, namespaces.first())
        {
            let message = format!(
                "the API server applies {POLICY} {} to no trial pod, {} seconds after it was written: see whether its admission plugin {POLICY} is enabled",
                slot.name(),
                TAKEN_UP.as_secs()
            );
            return Ok(Verdict::Refuse {
                refusal: Refusal {
                    namespace: namespace.clone(),
                    message,
                },
                namespaces: namespaces.clone(),
            });
        }
        Ok(verdict)
    }

    /// Takes note of what others make of an agent; whether any of it is new.
    fn learn(&mut self, prober: &Prober, sidecar: &Sidecar) -> bool {
        let revision = &sidecar.revision;
        self.history.saw(revision, prober.take_forms(revision))
    }

    /// Whether every API server binds what is in force.
    fn is_settled(&self) -> bool {
        self.switched.elapsed() >= SETTLE
    }

    fn refusal(&self, wanted: &Admission, known: Known<'_>) -> Option<Refusal> {
        self.refused.refusal(&known.attempt(&wanted.revision))
    }

    fn refuse(&mut self, wanted: &Admission, known: Known<'_>, refusal: Refusal) {
        let attempt = known.attempt(&wanted.revision);
        self.refused.refuse(attempt, refusal);
    }

    /// Puts back what is in force if somebody has changed it.
    async fn restore(
        &self,
        applier: &mut Applier,
        seen: &Seen,
        former: &InForce,
    ) -> Result<(), Error> {
        let as_it_was = seen
            .policies
            .get(&former.slot)
            .is_some_and(|policy| policy.object == former.object);
        if as_it_was {
            return Ok(());
        }
        applier
            .write(
                &self.policies,
                POLICY,
                &former.object,
                seen.policy(former.slot),
            )
            .await
    }

    /// Binds a policy in the namespaces that are injected.
    async fn bind(
        &mut self,
        applier: &mut Applier,
        seen: &Seen,
        wanted: &Admission,
        slot: Slot,
        former: Option<&Agent>,
    ) -> Result<(), Error> {
        if self.bound.is_empty() {
            return applier
                .remove(
                    &self.bindings,
                    BINDING,
                    names::ADMISSION_BINDING,
                    seen.bound(),
                )
                .await;
        }
        let sidecar = former.map_or_else(|| wanted.sidecar(), Sidecar::new);
        self.history.note(
            &sidecar.map_err(unserialised)?,
            None,
            &self.bound,
            &seen.history,
        );
        let binding = wanted.binding(slot, &self.bound, former, &self.history);
        let binding = binding.map_err(unserialised)?;
        applier
            .write(&self.bindings, BINDING, &binding, seen.bound())
            .await
    }

    /// Takes away what was only tried.
    async fn withdraw(
        &mut self,
        applier: &mut Applier,
        seen: &Seen,
        former: Option<&InForce>,
    ) -> Result<(), Error> {
        self.tried = None;
        self.remove_trial(applier, seen).await?;
        for slot in Slot::ALL {
            if former.is_none_or(|former| former.slot != slot) {
                self.remove_policy(applier, seen, slot).await?;
            }
        }
        Ok(())
    }

    async fn remove_trial(&self, applier: &mut Applier, seen: &Seen) -> Result<(), Error> {
        applier
            .remove(
                &self.bindings,
                BINDING,
                names::TRIAL_BINDING,
                seen.trial.clone(),
            )
            .await
    }

    async fn remove_policy(
        &self,
        applier: &mut Applier,
        seen: &Seen,
        slot: Slot,
    ) -> Result<(), Error> {
        applier
            .remove(&self.policies, POLICY, slot.name(), seen.policy(slot))
            .await
    }
}
