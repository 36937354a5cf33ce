//! Which of the pods that a policy selects have the log agent, and why the others have not.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::ObjectMeta, jiff::Timestamp};
use katonic_log_config::{Policy, layout};
use serde_json::{Value, json};

use crate::{
    injection::{self, Reason},
    sidecar::Form,
};

mod index;
mod owner;
mod trouble;

pub use index::Index;
pub use owner::{Owner, Parent, Workload, WorkloadKind, restart_command};
pub use trouble::{Ended, Trouble, Troubled, is_agent};

/// What of a pod decides whether a policy takes it, whether it has the agent, and how it could get it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Pod {
    /// Its UID.
    pub uid: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Names of its own containers, init containers included.
    pub containers: Vec<String>,
    /// The agent in it.
    pub agent: Agent,
    /// What makes it anew.
    pub parent: Parent,
    /// When it was created.
    pub created: Option<Timestamp>,
    /// Whether it is about to end: then nothing can be missing in it any more.
    pub terminating: bool,
    /// Why the agent in it does not run.
    pub trouble: Option<Trouble>,
    /// Since when the agent in it runs; none while it does not.
    pub running: Option<Timestamp>,
}

/// The agent in a pod.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Agent {
    /// There is none, and one made anew would have it.
    #[default]
    Missing,
    /// There is none, and one made anew would have none either.
    Refused(Reason),
    /// There is a sidecar of its name that mounts the logs.
    Present(Form),
}

/// What pods of a namespace are compared with.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Expected {
    /// The agent that new pods get, in all its forms; none while it is not known, and then every agent is taken for it.
    pub agent: Option<BTreeSet<Form>>,
    /// The agents that pods were given before; none where they cannot be known, and then every other agent is taken for one.
    pub former: Option<BTreeSet<Form>>,
    /// Whether the namespace forbids the agent.
    pub refused: bool,
}

/// What an agent in a pod is to those that pods are given.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kinship {
    /// The one that new pods get.
    Current,
    /// One that pods were given before, or the one that they get with less than is asked for.
    Older,
    /// None that is remembered, though a program of the same image: a version of ours from before what is remembered.
    Related,
    /// Anything else.
    Foreign,
}

impl Expected {
    fn kinship(&self, found: &Form) -> Kinship {
        let Some(current) = &self.agent else {
            return Kinship::Current;
        };
        if current.iter().any(|one| one.is(found)) {
            return Kinship::Current;
        }
        let Some(former) = &self.former else {
            return Kinship::Older;
        };
        if former.iter().any(|one| one.is(found)) {
            return Kinship::Older;
        }
        if current.iter().any(|one| one.is_met_by(found)) {
            return Kinship::Current;
        }
        let mut known = current.iter().chain(former);
        if known
            .clone()
            .any(|one| one.fingerprint() == found.fingerprint())
        {
            Kinship::Older
        } else if known.any(|one| one.is_related_to(found)) {
            Kinship::Related
        } else {
            Kinship::Foreign
        }
    }
}

/// Whether a pod has the agent that new pods get, or why not. In the order in which they are told.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum State {
    /// It has it.
    Current,
    /// It has an agent of an older specification, or one that somebody has given less than is asked for.
    OlderAgent,
    /// See [`Trouble::Image`].
    AgentImageUnavailable,
    /// See [`Trouble::Failing`].
    AgentFailing,
    /// It was created before injection was in force, or while it was not.
    CreatedBefore,
    /// Its namespace forbids the agent.
    NamespaceRefused,
    /// See [`Reason::OptedOut`].
    OptedOut,
    /// See [`Reason::TrialLabel`].
    TrialLabel,
    /// See [`Reason::MirrorPod`].
    MirrorPod,
    /// See [`Reason::Windows`].
    Windows,
    /// See [`Reason::NameTaken`].
    NameTaken,
    /// See [`Reason::PodLevelResources`].
    PodLevelResources,
    /// See [`Reason::TooLarge`].
    TooLarge,
    /// It has a sidecar of the agent's name that is none: its author has written it, or somebody has changed it on its way.
    ForeignAgent,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 14] = [
        Self::Current,
        Self::OlderAgent,
        Self::AgentImageUnavailable,
        Self::AgentFailing,
        Self::CreatedBefore,
        Self::NamespaceRefused,
        Self::OptedOut,
        Self::TrialLabel,
        Self::MirrorPod,
        Self::Windows,
        Self::NameTaken,
        Self::PodLevelResources,
        Self::TooLarge,
        Self::ForeignAgent,
    ];

    /// As it stands in statuses, metrics and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Current => "Current",
            Self::OlderAgent => "OlderAgent",
            Self::AgentImageUnavailable => "AgentImageUnavailable",
            Self::AgentFailing => "AgentFailing",
            Self::CreatedBefore => "CreatedBefore",
            Self::NamespaceRefused => "NamespaceRefused",
            Self::OptedOut => "OptedOut",
            Self::TrialLabel => "TrialLabel",
            Self::MirrorPod => "MirrorPod",
            Self::Windows => "Windows",
            Self::NameTaken => "NameTaken",
            Self::PodLevelResources => "PodLevelResources",
            Self::TooLarge => "TooLarge",
            Self::ForeignAgent => "ForeignAgent",
        }
    }

    /// Whether the pod runs the agent, an older one included.
    pub fn is_injected(self) -> bool {
        matches!(self, Self::Current | Self::OlderAgent)
    }

    /// Whether the agent belongs into the pod: not where its user or its kind rules it out.
    pub fn is_selected(self) -> bool {
        matches!(
            self,
            Self::Current
                | Self::OlderAgent
                | Self::AgentImageUnavailable
                | Self::AgentFailing
                | Self::CreatedBefore
                | Self::NamespaceRefused
        )
    }

    /// Whether the pod has the agent that new pods get once its owner has made it anew.
    pub fn is_mended_by_restart(self) -> bool {
        matches!(self, Self::OlderAgent | Self::CreatedBefore)
    }
}

impl Pod {
    /// What its metadata says, and its specification as far as [`injection`] looks at it; the text of its containers
    /// is not needed.
    pub fn read(metadata: ObjectMeta, spec: &Value) -> Self {
        let annotations = metadata.annotations.unwrap_or_default();
        let labels = metadata.labels.unwrap_or_default();
        let pod = json!({"metadata": {"labels": labels, "annotations": annotations}, "spec": spec});
        let agent = if injection::has_agent(&pod) {
            Agent::Present(Form::read(spec))
        } else {
            injection::refusal(&pod).map_or(Agent::Missing, Agent::Refused)
        };
        let containers = ["initContainers", "containers"].map(|list| spec[list].as_array());
        let names = containers
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|container| container["name"].as_str());
        let is_agent = |name: &str| name == layout::CONTAINER && matches!(agent, Agent::Present(_));
        let containers = names
            .filter(|name| !is_agent(name))
            .map(str::to_owned)
            .collect();
        Self {
            uid: metadata.uid.unwrap_or_default(),
            labels,
            containers,
            agent,
            parent: Parent::of(metadata.owner_references.as_deref()),
            created: metadata.creation_timestamp.map(|time| time.0),
            terminating: metadata.deletion_timestamp.is_some(),
            trouble: None,
            running: None,
        }
    }

    /// How it stands with the agent; `None` when the pod is about to end.
    pub fn state(&self, expected: &Expected, now: Timestamp) -> Option<State> {
        if self.terminating {
            return None;
        }
        Some(match &self.agent {
            Agent::Present(agent) => {
                let trouble = self.trouble.as_ref();
                let trouble = trouble.filter(|trouble| !trouble.is_mended(now));
                match (expected.kinship(agent), trouble) {
                    (Kinship::Current | Kinship::Older, Some(trouble)) => trouble.state(),
                    (Kinship::Current, None) => State::Current,
                    (Kinship::Older | Kinship::Related, None) => State::OlderAgent,
                    // What becomes of it is its author's business.
                    (Kinship::Related | Kinship::Foreign, _) => State::ForeignAgent,
                }
            }
            Agent::Refused(Reason::AlreadyInjected) => State::Current,
            Agent::Refused(Reason::OptedOut) => State::OptedOut,
            Agent::Refused(Reason::TrialLabel) => State::TrialLabel,
            Agent::Refused(Reason::MirrorPod) => State::MirrorPod,
            Agent::Refused(Reason::Windows) => State::Windows,
            Agent::Refused(Reason::NameTaken(_)) => State::NameTaken,
            Agent::Refused(Reason::PodLevelResources) => State::PodLevelResources,
            Agent::Refused(Reason::TooLarge) => State::TooLarge,
            Agent::Missing | Agent::Refused(Reason::Malformed) if expected.refused => {
                State::NamespaceRefused
            }
            Agent::Missing | Agent::Refused(Reason::Malformed) => State::CreatedBefore,
        })
    }
}

/// Whether a policy takes the logs of any container of a pod.
pub fn takes(policy: &Policy, labels: &BTreeMap<String, String>, containers: &[String]) -> bool {
    policy.selector.matches(labels)
        && containers
            .iter()
            .any(|container| policy.takes(labels, container))
}

/// How many pods are in each state.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts([usize; State::ALL.len()]);

impl Counts {
    /// Pods in one state.
    pub fn of(&self, state: State) -> usize {
        self.0[state as usize]
    }

    /// Pods that the agent belongs in.
    pub fn selected(&self) -> usize {
        self.sum(State::is_selected)
    }

    /// Those of them that have it.
    pub fn injected(&self) -> usize {
        self.sum(State::is_injected)
    }

    /// Every state with its pods.
    pub fn states(&self) -> impl Iterator<Item = (State, usize)> + use<> {
        let counts = *self;
        State::ALL
            .into_iter()
            .map(move |state| (state, counts.of(state)))
    }

    fn sum(&self, which: impl Fn(State) -> bool) -> usize {
        let states = self.states().filter(|(state, _)| which(*state));
        states.map(|(_, pods)| pods).sum()
    }

    /// Counts more pods.
    pub fn add(&mut self, state: State, pods: usize) {
        self.0[state as usize] += pods;
    }

    /// Counts fewer pods, of those counted before.
    fn subtract(&mut self, state: State, pods: usize) {
        self.0[state as usize] -= pods;
    }
}

impl FromIterator<(State, usize)> for Counts {
    fn from_iter<I: IntoIterator<Item = (State, usize)>>(counted: I) -> Self {
        let mut counts = Self::default();
        for (state, pods) in counted {
            counts.add(state, pods);
        }
        counts
    }
}

/// Whom to restart for the pods that a restart mends, and which of them nobody can restart.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Mend {
    /// Owners of pods, with the number of pods each.
    pub parents: BTreeMap<Parent, usize>,
    /// Pods of Jobs.
    pub of_jobs: usize,
    /// Pods that belong to nobody.
    pub bare: usize,
    /// Pods of owners that only their makers know how to restart, by kind.
    pub others: BTreeMap<String, usize>,
}

impl Mend {
    /// Counts a pod of this parent.
    fn add(&mut self, parent: &Parent, pods: usize) {
        match parent {
            Parent::ReplicaSet { .. } | Parent::Owner(Owner::Workload(_)) => {
                *self.parents.entry(parent.clone()).or_default() += pods;
            }
            Parent::Owner(Owner::Job(_)) => self.of_jobs += pods,
            Parent::Owner(Owner::Nobody) => self.bare += pods,
            Parent::Owner(Owner::Other { kind, .. }) => {
                *self.others.entry(kind.clone()).or_default() += pods;
            }
        }
    }

    fn extend(&mut self, other: &Self) {
        for (parent, pods) in &other.parents {
            self.add(parent, *pods);
        }
        self.of_jobs += other.of_jobs;
        self.bare += other.bare;
        for (kind, pods) in &other.others {
            *self.others.entry(kind.clone()).or_default() += pods;
        }
    }

    fn subtract(&mut self, parent: &Parent) {
        match parent {
            Parent::ReplicaSet { .. } | Parent::Owner(Owner::Workload(_)) => {
                decrement(&mut self.parents, parent);
            }
            Parent::Owner(Owner::Job(_)) => self.of_jobs -= 1,
            Parent::Owner(Owner::Nobody) => self.bare -= 1,
            Parent::Owner(Owner::Other { kind, .. }) => decrement(&mut self.others, kind),
        }
    }

    /// The same with `ReplicaSets` replaced by what stands behind them.
    #[must_use]
    pub fn resolved(&self, owner_of: impl Fn(&Parent) -> Owner) -> Self {
        let mut resolved = Self {
            parents: BTreeMap::new(),
            ..self.clone()
        };
        for (parent, pods) in &self.parents {
            resolved.add(&Parent::Owner(owner_of(parent)), *pods);
        }
        resolved
    }

    /// The owners that can be restarted.
    pub fn workloads(&self) -> impl Iterator<Item = &Workload> {
        self.parents.keys().filter_map(|parent| match parent {
            Parent::Owner(Owner::Workload(workload)) => Some(workload),
            _ => None,
        })
    }
}

fn decrement<K: Ord + Clone>(counts: &mut BTreeMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

/// Pods of a policy in one plane.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Coverage {
    /// How many are in each state.
    pub counts: Counts,
    /// What would mend those that a restart mends.
    pub mend: Mend,
    /// Of each state in which the agent does not run, the first pod by name.
    pub troubled: Vec<Troubled>,
}

/// Counts the pods of one namespace, one by one.
pub fn coverage<'a>(
    policy: &Policy,
    expected: &Expected,
    now: Timestamp,
    pods: impl IntoIterator<Item = &'a Pod>,
) -> Coverage {
    let mut coverage = Coverage::default();
    for pod in pods {
        let Some(state) = pod.state(expected, now) else {
            continue;
        };
        if !takes(policy, &pod.labels, &pod.containers) {
            continue;
        }
        coverage.counts.add(state, 1);
        if state.is_mended_by_restart() {
            coverage.mend.add(&pod.parent, 1);
        }
    }
    coverage
}

#[cfg(test)]
mod tests;
