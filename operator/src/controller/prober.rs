//! Tries pods in dry runs: whether namespaces take the log agent, and whether the API server injects it. Creates nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use futures::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use katonic_logging_core::{
    admission::Revision,
    installation::Agent,
    names,
    plan::{self, Refused},
    probe::{self, Blame, Shape, Without},
    sidecar::{self, Form, Sightings},
    trial::{Outcome, Refusal, together},
};
use kube::{Api, Client, api::PostParams};

use super::sources::Circumstances;
use crate::cache::chain;

/// How long an API server may take until a limit range, say, that has been seen here counts there too.
const CIRCUMSTANCES: Duration = Duration::from_secs(2);

/// How long an answer counts while pods come and go: what others' policies have come to refuse is not known otherwise.
const STALE: Duration = Duration::from_secs(30);

/// Remembers what it has seen, so that an idle cluster is not asked again.
pub struct Prober {
    client: Client,
    takes_agent: BTreeMap<String, Taken>,
    in_force: BTreeMap<String, Seen>,
    sightings: Mutex<Sightings>,
}

/// A namespace took a pod with the agent.
struct Taken {
    agent: Agent,
    circumstances: Circumstances,
    at: Instant,
    /// Until when the answer may be one about circumstances of before.
    uncertain_until: Option<Instant>,
}

impl Taken {
    fn is_stale(&self) -> bool {
        self.at.elapsed() >= STALE
    }
}

/// A namespace in which injection was seen in force.
#[derive(PartialEq)]
struct Seen {
    /// UID of the namespace.
    namespace: String,
    versions: Versions,
}

/// Versions of an admission policy and of its binding.
type Versions = (String, String);

/// What is in force.
pub struct InForce<'a> {
    /// Revision of the admission policy.
    pub revision: &'a Revision,
    /// Versions of it and of its binding.
    pub versions: Versions,
    /// Whether it has been there long enough for every API server to apply it.
    pub settled: bool,
}

/// The labels of a pod.
pub type Labels = BTreeMap<String, String>;

/// The namespaces whose pods are injected.
#[derive(Debug, Default)]
pub struct Injected {
    /// All of them.
    pub all: BTreeSet<String>,
    /// Those whose pods get another agent than the one that is wanted.
    pub former: BTreeSet<String>,
    /// That agent, where it is known: what a namespace that joins them would get.
    pub agent: Option<Agent>,
}

/// Which namespaces take the agent.
#[derive(Debug, Default)]
pub struct Checked {
    /// Those that take pods, and refuse them with the agent.
    pub refusals: BTreeMap<String, Refused>,
    /// One that refuses the agent as it is to be, and takes it as it is.
    pub held: Option<Refusal>,
    /// Whether to ask again soon.
    pub uncertain: bool,
}

/// What an API server said about a pod.
enum Answer {
    Created(Box<Pod>),
    Refused(String),
    None(String),
}

impl Answer {
    fn without_agent(&self) -> Without<'_> {
        match self {
            Self::Created(_) => Without::Taken,
            Self::Refused(message) => Without::Refused(message),
            Self::None(_) => Without::Unanswered,
        }
    }
}

impl Prober {
    /// A prober that has seen nothing.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            takes_agent: BTreeMap::new(),
            in_force: BTreeMap::new(),
            sightings: Mutex::default(),
        }
    }

    /// Whether a namespace would be asked again. Where no pod comes or goes, nobody needs the answer.
    pub fn is_stale(&self) -> bool {
        self.takes_agent.values().any(Taken::is_stale)
    }

    /// Asks each namespace that does not forbid it by its own level whether it takes a pod with the agent. `samples` are
    /// labels of a pod that is there.
    ///
    /// A namespace about which the API server does not say is not among the refusals: injection that works is not taken
    /// away because an answer did not come. Where policies of others let no trial pod in, it is not begun either.
    pub async fn check(
        &mut self,
        namespaces: &BTreeMap<String, plan::Namespace>,
        agent: &Agent,
        injected: &Injected,
        circumstances: &BTreeMap<String, Circumstances>,
        samples: &BTreeMap<String, Labels>,
    ) -> Checked {
        let mut checked = Checked::default();
        let open = namespaces.iter().filter(|(_, namespace)| {
            !namespace.terminating && namespace.forbidding_level().is_none()
        });
        for (name, _) in open {
            let Some(circumstances) = circumstances.get(name) else {
                continue;
            };
            let now = Instant::now();
            let before = self.takes_agent.get(name);
            let changed = before.is_some_and(|taken| taken.circumstances != *circumstances);
            let uncertain_until = if changed {
                Some(now + CIRCUMSTANCES)
            } else {
                before.and_then(|taken| taken.uncertain_until)
            };
            let known =
                before.is_some_and(|taken| taken.agent == *agent && !changed && !taken.is_stale());
            if known && uncertain_until.is_none_or(|until| now < until) {
                checked.uncertain |= uncertain_until.is_some();
                continue;
            }
            let refused = self.refusal(name, agent, samples.get(name)).await;
            // What works is not taken away because nothing can be learnt.
            let refused =
                refused.filter(|refused| !(refused.is_untried() && injected.all.contains(name)));
            if let Some(refused) = refused {
                self.takes_agent.remove(name);
                if self.keeps_to(name, agent, injected).await {
                    checked.held = Some(Refusal {
                        namespace: name.clone(),
                        message: refused.words().to_owned(),
                    });
                } else {
                    checked.refusals.insert(name.clone(), refused);
                }
            } else {
                let taken = Taken {
                    agent: agent.clone(),
                    circumstances: circumstances.clone(),
                    at: now,
                    uncertain_until: uncertain_until.filter(|until| now < *until),
                };
                checked.uncertain |= taken.uncertain_until.is_some();
                self.takes_agent.insert(name.clone(), taken);
            }
        }
        checked
    }

    /// Why a namespace refuses the agent, if it does. `sample` are the labels of a pod that is there: with them others may
    /// let a trial pod in that they keep out without.
    async fn refusal(
        &self,
        namespace: &str,
        agent: &Agent,
        sample: Option<&Labels>,
    ) -> Option<Refused> {
        let none = Labels::new();
        let refused = self.refusal_of(namespace, agent, &none).await;
        match (refused, sample) {
            (Some(refused), Some(sample)) if refused.is_untried() && !sample.is_empty() => {
                self.refusal_of(namespace, agent, sample).await
            }
            (refused, _) => refused,
        }
    }

    async fn refusal_of(&self, namespace: &str, agent: &Agent, labels: &Labels) -> Option<Refused> {
        let shapes = Shape::ALL.into_iter();
        let shapes = shapes.map(|shape| self.takes(namespace, shape, agent, labels));
        let answers = join_all(shapes).await;
        let is_taken = answers.contains(&Ok(true));
        let refused = answers.into_iter().filter_map(Result::err);
        // A shape that nobody may have there says nothing where another one is taken.
        let refused = refused.filter(|refused| !(is_taken && refused.is_untried()));
        refused.min_by_key(Refused::is_untried)
    }

    /// Whether a namespace takes a pod of this shape with the agent; false where the answer is not about the agent.
    async fn takes(
        &self,
        namespace: &str,
        shape: Shape,
        agent: &Agent,
        labels: &Labels,
    ) -> Result<bool, Refused> {
        let with = probe::with_agent(shape, agent);
        let message = match self.dry_run_like(namespace, with, labels).await {
            Answer::Created(created) => {
                self.remember(&created);
                return Ok(true);
            }
            Answer::None(message) => {
                tracing::warn!(%namespace, %message, "failed to try a pod");
                return Ok(false);
            }
            Answer::Refused(message) => message,
        };
        let without = probe::opted_out(probe::pod(shape, agent));
        let without = self.dry_run_like(namespace, Ok(without), labels).await;
        match probe::blame(&message, without.without_agent()) {
            Blame::Agent => {}
            Blame::AnyPod => {
                tracing::warn!(%namespace, %message, "pods are refused, with the agent or without");
                return Ok(false);
            }
            Blame::Unclear => return Err(Refused::Untried(message)),
        }
        let unprivileged = probe::with_unprivileged_agent(shape, agent);
        let unprivileged = self.dry_run_like(namespace, unprivileged, labels).await;
        Err(match unprivileged {
            Answer::Created(_) => Refused::Unsupported(message),
            _ => Refused::Pods(message),
        })
    }

    /// Whether pods of a namespace that refuses the agent as it is to be have, or can have, the one that others get meanwhile.
    async fn keeps_to(&self, namespace: &str, agent: &Agent, injected: &Injected) -> bool {
        if injected.former.contains(namespace) {
            return self.takes_agent_in_force(namespace, agent).await;
        }
        match &injected.agent {
            Some(former) if !injected.all.contains(namespace) => {
                let joining = BTreeSet::from([namespace.to_owned()]);
                !self.taking(&joining, former).await.is_empty()
            }
            _ => false,
        }
    }

    /// Whether a namespace takes pods with the agent that is injected at present.
    async fn takes_agent_in_force(&self, namespace: &str, agent: &Agent) -> bool {
        let bare = probe::trying(probe::pod(Shape::Bare, agent), names::TRIAL_OF_IN_FORCE);
        // What the agent as it is to be asks for may be too much or too little for any container there, so one of another
        // is tried too.
        for pod in [probe::asking_for_nothing(bare.clone()), bare] {
            if let Answer::Created(created) = self.dry_run(namespace, &pod).await {
                self.remember(&created);
                return probe::is_injected(&created);
            }
        }
        false
    }

    /// What becomes of pods that try the admission policy of this revision.
    pub async fn trials(
        &self,
        namespaces: &BTreeSet<String>,
        agent: &Agent,
        revision: &Revision,
    ) -> BTreeMap<String, Outcome> {
        let trial = async |namespace: &String| {
            let candidate = names::TRIAL_OF_CANDIDATE;
            let shapes =
                Shape::ALL.map(|shape| self.try_one(namespace, shape, candidate, agent, revision));
            (namespace.clone(), together(join_all(shapes).await))
        };
        join_all(namespaces.iter().map(trial))
            .await
            .into_iter()
            .collect()
    }

    /// What becomes of pods that only the webhook can have injected, with an agent of this revision.
    pub async fn trials_of_webhook(
        &self,
        namespaces: &BTreeSet<String>,
        agent: &Agent,
        revision: &sidecar::Revision,
    ) -> BTreeMap<String, Outcome> {
        let is_of = |pod: &Pod| {
            let annotations = pod.metadata.annotations.as_ref();
            let has = annotations.and_then(|all| all.get(names::AGENT_REVISION_ANNOTATION));
            let is_of =
                probe::is_injected(pod) && has.map(String::as_str) == Some(revision.as_str());
            if is_of {
                self.remember(pod);
            }
            is_of
        };
        let trial = async |namespace: &String| {
            let webhook = names::TRIAL_OF_WEBHOOK;
            let shapes = Shape::ALL.into_iter();
            let shapes = shapes.map(|shape| self.try_pod(namespace, shape, webhook, agent, is_of));
            (namespace.clone(), together(join_all(shapes).await))
        };
        join_all(namespaces.iter().map(trial))
            .await
            .into_iter()
            .collect()
    }

    /// What becomes of pods that carry what the webhook would add to them: what others say of them, they say of those.
    pub async fn trials_with_agent(
        &self,
        namespaces: &BTreeSet<String>,
        agent: &Agent,
    ) -> BTreeMap<String, Outcome> {
        let trial = async |namespace: &String| {
            let shapes = Shape::ALL.into_iter();
            let shapes = shapes.map(async |shape| match probe::with_agent(shape, agent) {
                Ok(with) => {
                    let webhook = names::TRIAL_OF_WEBHOOK;
                    let with = probe::trying(with, webhook);
                    let without = probe::trying(probe::pod(shape, agent), webhook);
                    let is_taken = |pod: &Pod| {
                        self.remember(pod);
                        probe::is_injected(pod)
                    };
                    self.compare(namespace, &with, without, is_taken).await
                }
                Err(error) => Outcome::Unanswered(chain(&error)),
            });
            (namespace.clone(), together(join_all(shapes).await))
        };
        join_all(namespaces.iter().map(trial))
            .await
            .into_iter()
            .collect()
    }

    /// Those of these namespaces that take every pod with this agent.
    pub async fn taking(&self, namespaces: &BTreeSet<String>, agent: &Agent) -> BTreeSet<String> {
        let outcomes = self.trials_with_agent(namespaces, agent).await;
        let taking = outcomes
            .into_iter()
            .filter(|(_, outcome)| *outcome == Outcome::Passed);
        taking.map(|(namespace, _)| namespace).collect()
    }

    async fn try_one(
        &self,
        namespace: &str,
        shape: Shape,
        policy: &str,
        agent: &Agent,
        revision: &Revision,
    ) -> Outcome {
        let is_applied = |pod: &Pod| revision.is_applied_to(pod);
        self.try_pod(namespace, shape, policy, agent, is_applied)
            .await
    }

    /// What becomes of one pod that tries what its label says.
    pub async fn try_pod(
        &self,
        namespace: &str,
        shape: Shape,
        trial: &str,
        agent: &Agent,
        is_applied: impl Fn(&Pod) -> bool,
    ) -> Outcome {
        let pod = probe::trying(probe::pod(shape, agent), trial);
        self.compare(namespace, &pod.clone(), pod, is_applied).await
    }

    /// What becomes of a pod, and whether it is about the agent: `without` is the same one, to be left alone.
    async fn compare(
        &self,
        namespace: &str,
        pod: &Pod,
        without: Pod,
        is_applied: impl Fn(&Pod) -> bool,
    ) -> Outcome {
        let message = match self.dry_run(namespace, pod).await {
            Answer::Created(created) if is_applied(&created) => return Outcome::Passed,
            Answer::Created(_) => return Outcome::NotYet,
            Answer::None(message) => return Outcome::Unanswered(message),
            Answer::Refused(message) => message,
        };
        if probe::is_of_rights(&message) {
            return Outcome::Unanswered(message);
        }
        let without = self.dry_run(namespace, &probe::opted_out(without)).await;
        match probe::blame(&message, without.without_agent()) {
            Blame::Agent => Outcome::Refused(message),
            Blame::AnyPod | Blame::Unclear => Outcome::Silent(message),
        }
    }

    /// The namespaces in which what is in force has not been seen to act. One that takes no pod at present, with the agent
    /// or without, cannot show it.
    pub async fn pending(
        &mut self,
        namespaces: &BTreeSet<String>,
        agent: &Agent,
        in_force: &InForce<'_>,
        known: &BTreeMap<String, plan::Namespace>,
    ) -> BTreeSet<String> {
        let now = |namespace: &String| Seen {
            namespace: known
                .get(namespace)
                .map(|known| known.uid.clone())
                .unwrap_or_default(),
            versions: in_force.versions.clone(),
        };
        self.in_force
            .retain(|namespace, seen| namespaces.contains(namespace) && *seen == now(namespace));
        let mut pending = BTreeSet::new();
        for namespace in namespaces {
            if self.in_force.contains_key(namespace) {
                continue;
            }
            let is_seen_again = AtomicBool::new(true);
            let is_applied = |pod: &Pod| {
                let is_applied = in_force.revision.is_applied_to(pod);
                if is_applied {
                    is_seen_again.store(self.remember(pod), Ordering::Relaxed);
                }
                is_applied
            };
            let trial = names::TRIAL_OF_IN_FORCE;
            let outcome = self
                .try_pod(namespace, Shape::Bare, trial, agent, &is_applied)
                .await;
            if !is_seen_again.load(Ordering::Relaxed) {
                // A form counts when two pods have shown it. The answer is the same one.
                self.try_pod(namespace, Shape::Busy, trial, agent, &is_applied)
                    .await;
            }
            match outcome {
                Outcome::Passed => {
                    self.in_force.insert(namespace.clone(), now(namespace));
                }
                Outcome::Silent(message) if in_force.settled => {
                    tracing::warn!(%namespace, %message, "no pod is taken, so none shows that injection is in force");
                    self.in_force.insert(namespace.clone(), now(namespace));
                }
                Outcome::Refused(message) => {
                    tracing::warn!(%namespace, %message, "a pod with the agent is refused");
                    self.takes_agent.remove(namespace);
                    pending.insert(namespace.clone());
                }
                Outcome::Unanswered(message) => {
                    tracing::warn!(%namespace, %message, "failed to try a pod");
                    pending.insert(namespace.clone());
                }
                Outcome::NotYet | Outcome::Silent(_) => {
                    pending.insert(namespace.clone());
                }
            }
        }
        pending
    }

    /// In which forms trial pods have come back with the agent of this revision since this was asked last: as they are when
    /// everybody who changes pods has had his turn.
    pub fn take_forms(&self, revision: &sidecar::Revision) -> BTreeSet<Form> {
        self.sightings().take(revision)
    }

    /// Takes note of the agent in a trial pod; whether another one had it in the same form.
    fn remember(&self, pod: &Pod) -> bool {
        let annotations = pod.metadata.annotations.as_ref();
        let revision = annotations.and_then(|all| all.get(names::AGENT_REVISION_ANNOTATION));
        let Some(revision) = revision.and_then(|text| sidecar::Revision::read(text)) else {
            return false;
        };
        // Nothing in it cannot be JSON.
        let spec = serde_json::to_value(&pod.spec).unwrap_or_default();
        self.sightings().saw(revision, Form::read(&spec))
    }

    fn sightings(&self) -> MutexGuard<'_, Sightings> {
        self.sightings
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    async fn dry_run_like(
        &self,
        namespace: &str,
        pod: Result<Pod, probe::Error>,
        labels: &Labels,
    ) -> Answer {
        match pod {
            Ok(pod) => {
                let pod = probe::labelled_like(pod, labels);
                self.dry_run(namespace, &pod).await
            }
            Err(error) => Answer::None(chain(&error)),
        }
    }

    async fn dry_run(&self, namespace: &str, pod: &Pod) -> Answer {
        let pods = Api::<Pod>::namespaced(self.client.clone(), namespace);
        let parameters = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        match pods.create(&parameters, pod).await {
            Ok(created) => Answer::Created(Box::new(created)),
            Err(kube::Error::Api(status)) if probe::is_no_answer(&status.message) => {
                Answer::None(status.message.clone())
            }
            // Invalid as a whole, forbidden, or broken by a patch that does not fit the pod.
            Err(kube::Error::Api(status)) if [400, 403, 422, 500].contains(&status.code) => {
                Answer::Refused(status.message.clone())
            }
            Err(error) => Answer::None(chain(&error)),
        }
    }
}
