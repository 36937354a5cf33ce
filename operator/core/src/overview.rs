//! Policies, their sinks and their pods, as a person asks for them: the model behind `katonic-logging status`.
//!
//! What is known is put together here and serialised as it is; [`text`] makes lines of it. What is known later, rates say,
//! is a field more in either.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Condition, jiff::Timestamp};
use katonic_log_config::layout;
use katonic_logging_crds::{Plane, PodCount, SinkDelivery, SinkLosses, SinkRetention, SinkStatus};
use serde::Serialize;

use crate::{
    Candidate, Installation, audit,
    bundle::selection,
    candidate::Kind,
    condition,
    coverage::{
        Agent, Expected, Owner, Parent, Pod, State, Trouble, Workload, restart_command, takes,
    },
    injection::Reason,
    names,
    restart::{Id, Obstacle},
    sidecar::Form,
};

pub mod change;
pub mod mend;
pub mod text;

/// Everything that was asked for.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Overview {
    /// The policies, by name.
    pub policies: Vec<PolicyView>,
    /// Their pods that lack the agent or have an older one; none when it was not asked for them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pods: Option<Vec<PodView>>,
}

/// One policy.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyView {
    /// What it is.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// When it was created.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<Timestamp>,
    /// Whether it is in force; none while the operator has not said so of its present form.
    pub ready: Option<bool>,
    /// Planes that it reaches.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub planes: Option<String>,
    /// What the operator says of it.
    pub conditions: Vec<ConditionView>,
    /// How long its sinks are to keep what they are sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention: Option<String>,
    /// The audit events that it enables.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<String>,
    /// Its sinks.
    pub sinks: Vec<SinkStatus>,
    /// Its pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pods: Option<PodCount>,
}

/// An answer of the operator.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConditionView {
    /// What is asked.
    #[serde(rename = "type")]
    pub type_: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// One word.
    pub reason: String,
    /// A sentence, with what to do.
    pub message: String,
    /// Since when it is so.
    pub since: Timestamp,
    /// What to do about it, where it is not as it should be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mend: Option<String>,
}

/// A pod that lacks the agent, or has an older one.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PodView {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Who makes it anew, as kubectl takes it; `-` for nobody.
    pub owner: String,
    /// Why, as in `status.pods.uncovered` of a policy; `Unknown` where the reader may not see what tells it.
    pub reason: &'static str,
    /// Since when: a pod gets the agent when it is created, or not at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// The policies that select it.
    pub policies: Vec<String>,
    /// The command that mends it, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// What a person has to know or do, where no command alone mends it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// What pods are judged by.
#[derive(Clone, Copy, Debug)]
pub struct Judged<'a> {
    /// The installation.
    pub installation: &'a Installation,
    /// The agent that the installation asks for, in all its forms.
    pub agent: &'a BTreeSet<Form>,
    /// The agents that pods were given before; or why the reader cannot know them, and neither in which other forms pods have the
    /// one that the installation asks for.
    pub former: Result<&'a BTreeSet<Form>, &'a str>,
    /// The pods of each plane, by name.
    pub pods: &'a BTreeMap<Plane, BTreeMap<String, Pod>>,
    /// The parents of `ReplicaSets`, by UID.
    pub replica_sets: &'a BTreeMap<String, Parent>,
    /// The present.
    pub now: Timestamp,
    /// Workloads that cannot simply be restarted.
    pub obstacles: &'a BTreeMap<Id, Obstacle>,
}

impl PolicyView {
    /// A policy as its status tells it.
    pub fn of(candidate: &Candidate) -> Self {
        let status = candidate.status.clone().unwrap_or_default();
        let parts = Parts {
            generation: (candidate.generation, status.observed_generation),
            conditions: status.conditions,
            sinks: status.sinks,
        };
        Self {
            created: candidate.created,
            planes: status.planes,
            retention: status.retention,
            pods: status.pods,
            ..Self::read(Kind::Logging, &candidate.name, parts)
        }
    }

    /// An audit policy as its status tells it.
    pub fn of_audit(candidate: &audit::Candidate, created: Option<Timestamp>) -> Self {
        let status = candidate.status.clone().unwrap_or_default();
        let parts = Parts {
            generation: (candidate.generation, status.observed_generation),
            conditions: status.conditions,
            sinks: status.sinks,
        };
        Self {
            created,
            retention: status.retention,
            events: status.events,
            pods: status.pods,
            ..Self::read(Kind::Audit, &candidate.name, parts)
        }
    }

    /// What it is called among policies of both kinds.
    pub fn title(&self) -> String {
        match self.kind {
            Kind::Logging => self.name.clone(),
            Kind::Audit => format!("audit/{}", self.name),
        }
    }

    /// What both kinds have.
    fn read(kind: Kind, name: &str, parts: Parts) -> Self {
        let Parts {
            generation: (generation, observed),
            conditions,
            sinks,
        } = parts;
        let is_current = observed == Some(generation);
        let ready = conditions
            .iter()
            .find(|condition| is_current && condition.type_ == "Ready")
            .map(|condition| condition.status == "True");
        let view = |condition: Condition| ConditionView {
            type_: condition.type_,
            status: condition.status,
            reason: condition.reason,
            message: printable(&condition.message),
            since: condition.last_transition_time.0,
            mend: None,
        };
        Self {
            kind,
            name: name.to_owned(),
            created: None,
            ready,
            planes: None,
            retention: None,
            events: Vec::new(),
            pods: None,
            conditions: conditions.into_iter().map(view).collect(),
            sinks: sinks
                .into_iter()
                .map(|sink| SinkStatus {
                    message: sink.message.as_deref().map(printable),
                    delivery: sink.delivery.map(|delivery| SinkDelivery {
                        message: delivery.message.as_deref().map(printable),
                        ..delivery
                    }),
                    losses: sink.losses.map(|losses| SinkLosses {
                        rejection: losses.rejection.as_deref().map(printable),
                        ..losses
                    }),
                    retention: sink.retention.map(|retention| SinkRetention {
                        message: printable(&retention.message),
                        ..retention
                    }),
                    ..sink
                })
                .collect(),
        }
    }

    /// With what to do about each condition that is not as it should be.
    #[must_use]
    pub fn mended(mut self) -> Self {
        let is_bad = |condition: &ConditionView| {
            let question = condition.type_.as_str();
            // The conjunction, and how far it is, repeat what another one says.
            let repeats = ["Ready", "Reconciling", "Stalled"].contains(&question);
            !repeats && condition.status != "True" && condition.reason != "Suspended"
        };
        let bad = self
            .conditions
            .iter()
            .map(|one| is_bad(one).then(|| mend::of(&self, &one.reason)));
        let mends: Vec<Option<String>> = bad.collect();
        for (condition, mend) in self.conditions.iter_mut().zip(mends) {
            condition.mend = mend;
        }
        self
    }
}

/// What the statuses of both kinds have.
struct Parts {
    /// Of the policy, and of the status.
    generation: (i64, Option<i64>),
    conditions: Vec<Condition>,
    sinks: Vec<SinkStatus>,
}

/// Words of others as one line: what would move a terminal's cursor or hide text in it is left out.
fn printable(words: &str) -> String {
    let printable = |character: char| {
        if character.is_control() {
            ' '
        } else {
            character
        }
    };
    words.chars().map(printable).collect()
}

/// Whether a policy says that a change of the agent is tried or refused: new pods then get the one of before, and nobody
/// here knows which that is.
fn is_changing(candidates: &[Candidate]) -> bool {
    let conditions = candidates
        .iter()
        .filter_map(|candidate| candidate.status.as_ref())
        .flat_map(|status| &status.conditions);
    let reasons = [
        condition::Reason::InjectionPending,
        condition::Reason::InjectionRefused,
    ];
    let mut injected = conditions.filter(|condition| condition.type_ == "Injected");
    injected.any(|injected| {
        reasons
            .iter()
            .any(|reason| injected.reason == reason.as_str())
    })
}

/// The namespaces of which a policy says that they forbid the agent.
pub fn refusing<'a>(
    candidates: &[Candidate],
    namespaces: impl IntoIterator<Item = &'a str>,
) -> BTreeSet<String> {
    let messages: Vec<&String> = candidates
        .iter()
        .filter_map(|candidate| candidate.status.as_ref())
        .flat_map(|status| &status.conditions)
        .filter(|condition| {
            condition.type_ == "Injected"
                && [
                    condition::Reason::Unsupported,
                    condition::Reason::PodsRefused,
                    condition::Reason::NamespaceMissing,
                ]
                .iter()
                .any(|reason| condition.reason == reason.as_str())
        })
        .map(|condition| &condition.message)
        .collect();
    let is_refusing = |namespace: &&str| {
        let words = format!("namespace {namespace} ");
        messages.iter().any(|message| message.contains(&words))
    };
    namespaces
        .into_iter()
        .filter(is_refusing)
        .map(str::to_owned)
        .collect()
}

/// What is said of a pod with an agent of which the reader cannot know what it is.
const UNKNOWN: &str = "Unknown";

/// Whether the agent in a pod may be anything: another form of the one that new pods get, an older one, or somebody else's.
fn is_unknown(pod: &Pod, expected: &Expected) -> bool {
    match (&pod.agent, &expected.agent) {
        (Agent::Present(found), Some(current)) => !current.iter().any(|one| one.is(found)),
        _ => false,
    }
}

/// The pods that policies select and that lack the agent or have an older one, by namespace and name.
pub fn uncovered(candidates: &[Candidate], judged: Judged<'_>) -> Vec<PodView> {
    let namespaces = judged
        .pods
        .keys()
        .map(|plane| judged.installation.namespace(*plane));
    let refusing = refusing(candidates, namespaces);
    let agent = (!is_changing(candidates)).then(|| judged.agent.clone());
    let mut views = Vec::new();
    for (plane, pods) in judged.pods {
        let namespace = judged.installation.namespace(*plane);
        let expected = Expected {
            agent: agent.clone(),
            former: judged.former.ok().cloned(),
            refused: refusing.contains(namespace),
        };
        let selections: Vec<_> = candidates
            .iter()
            .filter_map(|candidate| {
                let policy = candidate.policy.as_ref().ok()?;
                let reaches = !policy.suspend && policy.planes.contains(plane);
                let selection = selection(policy, candidate, judged.installation, *plane);
                reaches.then_some((&candidate.name, selection))
            })
            .collect();
        for (name, pod) in pods {
            let Some(state) = pod
                .state(&expected, judged.now)
                .filter(|state| *state != State::Current)
            else {
                continue;
            };
            let policies: Vec<String> = selections
                .iter()
                .filter(|(_, policy)| takes(policy, &pod.labels, &pod.containers))
                .map(|(policy, _)| (*policy).clone())
                .collect();
            if policies.is_empty() {
                continue;
            }
            let of_replica_set = match &pod.parent {
                Parent::ReplicaSet { uid, .. } => judged.replica_sets.get(uid),
                Parent::Owner(_) => None,
            };
            let owner = pod.parent.owner(of_replica_set);
            let unknown = judged.former.err().filter(|_| is_unknown(pod, &expected));
            let (reason, (command, note)) = match unknown {
                Some(why) => (UNKNOWN, (None, Some(why.to_owned()))),
                None => (
                    state.as_str(),
                    mend_pod(namespace, name, pod, state, &owner, judged.obstacles),
                ),
            };
            views.push(PodView {
                namespace: namespace.to_owned(),
                name: name.clone(),
                owner: owner.to_string(),
                reason,
                since: pod.created,
                policies,
                command,
                note,
            });
        }
    }
    views.sort_by(|one, other| (&one.namespace, &one.name).cmp(&(&other.namespace, &other.name)));
    views
}

/// What gives a pod the agent that new pods get.
fn mend_pod(
    namespace: &str,
    name: &str,
    pod: &Pod,
    state: State,
    owner: &Owner,
    obstacles: &BTreeMap<Id, Obstacle>,
) -> (Option<String>, Option<String>) {
    let note = |note: String| (None, Some(note));
    match (&pod.agent, state) {
        (_, State::NamespaceRefused) => note(format!(
            "namespace {namespace} forbids the agent: the condition Injected says what to change"
        )),
        (_, State::AgentImageUnavailable | State::AgentFailing) => {
            note(troubled(namespace, name, pod.trouble.as_ref()))
        }
        (_, State::ForeignAgent) => note(format!(
            "its init container {} is not as injection writes it: remove it from the pod's template, or see who changes it",
            layout::CONTAINER
        )),
        (Agent::Refused(Reason::OptedOut), _) => note(format!(
            "its label {}={} refuses the agent: remove it from the pod's template to collect its logs",
            names::INJECT_LABEL,
            names::INJECT_NO
        )),
        (Agent::Refused(reason), _) => note(reason.to_string()),
        _ => remake(namespace, name, owner, obstacles),
    }
}

/// Why the agent of a pod does not run, and what to do.
fn troubled(namespace: &str, name: &str, trouble: Option<&Trouble>) -> String {
    match trouble {
        Some(Trouble::Image(words)) => format!(
            "it cannot start before the agent's image can be pulled: {}",
            printable(words)
        ),
        Some(Trouble::Failing { words, .. }) => format!(
            "its agent ends again and again ({}): `kubectl -n {namespace} logs {name} -c {} --previous` shows its last words",
            printable(words),
            layout::CONTAINER
        ),
        None => String::new(),
    }
}

/// What makes a pod anew.
fn remake(
    namespace: &str,
    name: &str,
    owner: &Owner,
    obstacles: &BTreeMap<Id, Obstacle>,
) -> (Option<String>, Option<String>) {
    let delete = || Some(format!("kubectl -n {namespace} delete pod {name}"));
    let obstacle = |workload: &Workload| {
        let id = Id {
            namespace: namespace.to_owned(),
            workload: workload.clone(),
        };
        obstacles.get(&id).copied()
    };
    match owner {
        Owner::Workload(workload) => match obstacle(workload) {
            None => (Some(restart_command(namespace, [workload])), None),
            Some(Obstacle::InTemplate) => (
                None,
                Some(format!(
                    "the template of {workload} has an agent of its own: make its manifest anew with `katonic-logging inject`, or without one"
                )),
            ),
            Some(Obstacle::Paused) => {
                let restart = restart_command(namespace, [workload]);
                let command =
                    format!("kubectl -n {namespace} rollout resume {workload} && {restart}");
                (Some(command), Some(format!("{workload} is paused")))
            }
            Some(Obstacle::OnDelete) => (
                delete(),
                Some(format!("{workload} has the update strategy OnDelete")),
            ),
            Some(Obstacle::Partitioned) => (
                delete(),
                Some(format!(
                    "{workload} has a partition, which a restart would respect"
                )),
            ),
        },
        Owner::Job(_) => (
            None,
            Some("ends by itself; the next pod of its Job gets the agent".to_owned()),
        ),
        Owner::Nobody => (
            None,
            Some("has no owner: it gets the agent when it is next created".to_owned()),
        ),
        Owner::Other { kind, .. } if kind == "ReplicaSet" => (delete(), None),
        Owner::Other { kind, .. } => (
            None,
            Some(format!("gets the agent when its {kind} makes it anew")),
        ),
    }
}

#[cfg(test)]
mod tests;
