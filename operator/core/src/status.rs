//! The status of a policy, from what is so: never from what is hoped.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::Timestamp,
};
use katonic_log_config::layout;
use katonic_logging_crds::{
    LoggingPolicyStatus, Plane, PodCount, Rollout, SinkLosses, SinkStatus, UnidentifiedPods,
};

use crate::{
    bundle::{PolicyOutcome, SinkOutcome},
    candidate::Candidate,
    condition::{Answer, Reason, State, Type, progress},
    coverage::Coverage,
    delivery::{Delivery, Losses, Unidentified},
    installation::Problem,
    names,
    plan::{Plan, PlanePlan, PlaneState},
    policy::{Policy, Sink},
    restart::{Id, Standing},
    retention::{BucketId, Outcome},
    sidecar::POD_LOGS,
    way::{Choice, Obstacle},
};

mod change;
mod delivery;
mod pods;
mod retention;

use change::changing;
pub use change::{Change, ChangeState};
pub(crate) use delivery::summary;
pub(crate) use pods::pods;
use pods::{Counted, covered};

/// What writing the plan came to; what is not named was written.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Report {
    /// Bundles that could not be written, by namespace.
    pub bundles: BTreeMap<String, Failure>,
    /// The admission policy or its binding.
    pub admission: Option<Failure>,
    /// Namespaces in which a dry run has not yet shown injection in force.
    pub injection_pending: BTreeSet<String>,
    /// A change of injection that is not in force.
    pub change: Option<Change>,
    /// How pods are injected; none before it was chosen.
    pub choice: Option<Choice>,
    /// The event tracker's ConfigMap.
    pub tracker: Option<Failure>,
}

/// Why something was not written.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Failure {
    /// Something of the same name is there and is not ours: it is left alone until a person decides.
    pub name_taken: bool,
    /// The API server's own words.
    pub message: String,
}

/// What a status is made of.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The plan that was made; none when there has never been an installation to plan with.
    pub plan: Option<&'a Plan>,
    /// What writing it came to.
    pub report: &'a Report,
    /// What is wrong with the installation as it is written.
    pub problem: Option<&'a Problem>,
    /// The policy's pods in each plane; a plane is missing while its pods have not been listed.
    pub coverage: &'a BTreeMap<Plane, Coverage>,
    /// How it stands with the restarts of owners.
    pub restarts: &'a BTreeMap<Id, Standing>,
    /// What came of looking after buckets; one is missing while it has not been looked at.
    pub retention: &'a BTreeMap<BucketId, Outcome>,
    /// What the agents of its pods report; none: nobody listens to reports.
    pub delivery: Option<&'a Delivery>,
}

/// What is asked of a policy, with the answers.
pub(crate) struct Answers {
    /// Before `Ready`.
    pub(crate) questions: Vec<Answer>,
    /// Their conjunction.
    pub(crate) ready: Answer,
    /// Each sink.
    pub(crate) sinks: Vec<SinkStatus>,
}

/// Asks everything that is asked of a policy.
pub(crate) fn ask(candidate: &Candidate, facts: Facts<'_>, now: Timestamp) -> Answers {
    let reached = reached(candidate, facts.plan);
    let known = candidate.policy.as_ref().ok();
    let planned = known.filter(|_| facts.plan.is_some());
    let kept = planned.map(|policy| retention::of_sinks(candidate, policy, facts));
    // Of a policy that cannot be read the sinks are told as they were: what they have lost is not less lost for it.
    let before = candidate.status.iter().flat_map(|status| &status.sinks);
    let mut sinks = known.map_or_else(
        || before.cloned().collect(),
        |policy| sinks(policy, &reached, facts),
    );
    if let Some(reported) = facts.delivery {
        for sink in &mut sinks {
            if let Some(policy) = planned {
                sink.delivery = delivery::of_sink(candidate, policy, reported, &sink.name, now);
            }
            let known = reported.sinks.get(&sink.name);
            let losses = known.and_then(|sink| sink.losses.as_ref());
            sink.losses = losses.map(Losses::status);
            let unidentified = known.and_then(|sink| sink.unidentified.as_ref());
            sink.unidentified = unidentified.map(Unidentified::status);
        }
    }
    let questions = match &candidate.policy {
        Ok(policy) => {
            let mut questions = vec![
                accepted(policy, &reached),
                secrets_resolved(policy, &reached, facts),
                injected(policy, &reached, facts),
            ];
            if let Some(reported) = facts.delivery.filter(|_| planned.is_some()) {
                questions.push(delivery::rolled_out(policy, reported));
                questions.push(delivery::delivering(candidate, policy, reported, &sinks));
            }
            questions.push(kept.as_ref().map_or_else(
                || unplanned(Type::RetentionEnforced, facts),
                |kept| retention::enforced(policy, kept),
            ));
            questions
        }
        Err(_) => vec![rejected(candidate, &reached)],
    };
    let ready = ready(candidate, &reached, facts, &questions);
    for (sink, kept) in sinks.iter_mut().zip(kept.into_iter().flatten()) {
        sink.retention = Some(kept.status);
    }
    Answers {
        questions,
        ready,
        sinks,
    }
}

/// The status of a policy.
pub fn summarize(candidate: &Candidate, facts: Facts<'_>, now: Timestamp) -> LoggingPolicyStatus {
    let Answers {
        questions,
        ready,
        sinks,
    } = ask(candidate, facts, now);
    let progress = progress(&ready);
    let previous = candidate.status.as_ref();
    let previous = previous.map_or(&[][..], |status| &status.conditions);
    let answers = questions.into_iter().chain([ready]).chain(progress);
    let known = candidate.policy.as_ref().ok();
    LoggingPolicyStatus {
        observed_generation: Some(candidate.generation),
        conditions: answers
            .map(|answer| answer.condition(previous, candidate.generation, now))
            .collect(),
        planes: known.map(|policy| planes(policy).join(",")),
        logs: known.map(|policy| policy.logs.as_str().to_owned()),
        retention: known.map(|policy| policy.retention().to_string()),
        pods: known.and_then(|policy| pods(policy, facts.coverage)),
        sink_count: known.map(|policy| count(policy.sinks.len())),
        delivering: summary(&sinks),
        sinks,
    }
}

/// How much one status differs from the one before.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Difference {
    /// In the counts of pods and of agents, in figures and in words: no answer, no reason, no sink.
    Counts,
    /// In what agents report.
    Reports,
    /// In something that a person or a plan has changed.
    Plan,
}

impl Difference {
    /// Between the statuses of a policy.
    pub fn between<S: Told>(before: &S, after: &S) -> Self {
        let is_same_without = |strip: fn(Parts<'_>)| {
            let [before, after] = [before, after].map(|status| {
                let mut status = status.clone();
                strip(status.parts());
                status
            });
            before == after
        };
        if is_same_without(without_figures) {
            Self::Counts
        } else if is_same_without(without_reports) {
            Self::Reports
        } else {
            Self::Plan
        }
    }
}

/// A status of either kind of policies.
pub trait Told: Clone + PartialEq {
    /// What both kinds have.
    fn parts(&mut self) -> Parts<'_>;
}

/// What the statuses of both kinds of policies have.
#[derive(Debug)]
pub struct Parts<'a> {
    /// The conditions.
    pub conditions: &'a mut Vec<Condition>,
    /// The sinks.
    pub sinks: &'a mut [SinkStatus],
    /// The counts of pods.
    pub pods: &'a mut Option<PodCount>,
    /// The counts of sinks that deliver.
    pub delivering: &'a mut Option<String>,
    /// When the newest audit event was written, where the policy is about those.
    pub last_event: Option<&'a mut Option<Time>>,
}

impl Told for LoggingPolicyStatus {
    fn parts(&mut self) -> Parts<'_> {
        Parts {
            conditions: &mut self.conditions,
            sinks: &mut self.sinks,
            pods: &mut self.pods,
            delivering: &mut self.delivering,
            last_event: None,
        }
    }
}

/// Passes over everything that agents report, and what follows from it.
fn without_reports(mut parts: Parts<'_>) {
    let reported = [
        Type::RolledOut,
        Type::Delivering,
        Type::EventsSeen,
        Type::Ready,
        Type::Reconciling,
        Type::Stalled,
    ];
    let reported = reported.map(Type::as_str);
    parts
        .conditions
        .retain(|condition| !reported.contains(&condition.type_.as_str()));
    if let Some(last) = &mut parts.last_event {
        **last = None;
    }
    for sink in &mut *parts.sinks {
        (sink.delivery, sink.losses, sink.unidentified) = (None, None, None);
    }
    without_figures(parts);
}

/// Passes over figures.
fn without_figures(parts: Parts<'_>) {
    (*parts.pods, *parts.delivering) = (None, None);
    let agents = [Reason::AllAgents, Reason::NoAgents].map(Reason::as_str);
    let counts = [
        Reason::AllPods,
        Reason::PodsWithoutAgent,
        Reason::InForce,
        Reason::RollingOut,
        Reason::AgentsSilent,
        Reason::LinesLost,
    ];
    let counts = counts.map(Reason::as_str);
    for condition in parts.conditions {
        let reason = condition.reason.as_str();
        let is_failure = Reason::of_failure(reason).is_some();
        if agents.contains(&reason) {
            condition.reason.clear();
            condition.message.clear();
        } else if counts.contains(&reason) || is_failure {
            condition.message.clear();
        }
    }
    for sink in parts.sinks {
        if let Some(delivery) = &mut sink.delivery {
            delivery.message = None;
        }
        // Whether there are any is no figure.
        if let Some(unidentified) = &mut sink.unidentified {
            *unidentified = UnidentifiedPods {
                count: unidentified.count.min(1),
                last: Time(Timestamp::UNIX_EPOCH),
                pods: Vec::new(),
            };
        }
        if let Some(losses) = &mut sink.losses {
            *losses = SinkLosses {
                lost: losses.lost.min(1),
                rejected: losses.rejected.min(1),
                unreported: losses.unreported.min(1),
                last: Time(Timestamp::UNIX_EPOCH),
                rejection: None,
                pods: Vec::new(),
                more_pods: 0,
            };
        }
    }
}

/// A plane that the policy reaches, and what became of the policy there.
struct Reached<'a> {
    plane: Plane,
    plan: &'a PlanePlan,
    outcome: Option<&'a PolicyOutcome>,
}

fn reached<'a>(candidate: &Candidate, plan: Option<&'a Plan>) -> Vec<Reached<'a>> {
    let wanted = |plane: Plane| {
        candidate
            .policy
            .as_ref()
            .is_ok_and(|policy| policy.planes.contains(&plane))
    };
    plan.iter()
        .flat_map(|plan| &plan.planes)
        .map(|(plane, plan)| Reached {
            plane: *plane,
            plan,
            outcome: plan.outcomes.get(&candidate.name),
        })
        .filter(|reached| wanted(reached.plane) || reached.outcome.is_some())
        .collect()
}

fn rejected(candidate: &Candidate, reached: &[Reached<'_>]) -> Answer {
    let violations = candidate.policy.as_ref().err().into_iter().flatten();
    let mut sentences: Vec<String> = violations
        .map(|one| format!("{}: {}", one.path, one.message))
        .collect();
    if reached.iter().any(|reached| reached.outcome.is_some()) {
        sentences.push("what was in force before stays in force".to_owned());
    }
    Answer::no(Type::Accepted, Reason::Invalid, sentences.join("; "))
}

fn accepted(policy: &Policy, reached: &[Reached<'_>]) -> Answer {
    if reached
        .iter()
        .any(|reached| reached.outcome.is_some_and(|outcome| outcome.over_budget))
    {
        return Answer::no(
            Type::Accepted,
            Reason::OverBudget,
            format!(
                "the bundle Secret {} has no room for this policy beside the older ones: join policies that differ only in what they select, or shorten certificates",
                names::BUNDLE
            ),
        );
    }
    let warnings: Vec<String> = policy.sinks.iter().flat_map(warnings).collect();
    let message = if warnings.is_empty() {
        "the policy can be used as it is written".to_owned()
    } else {
        format!(
            "the policy can be used as it is written, with a warning: {}",
            warnings.join("; ")
        )
    };
    Answer::yes(Type::Accepted, Reason::Valid, message)
}

fn warnings(sink: &Sink) -> Vec<String> {
    sink.warnings
        .iter()
        .map(|warning| format!("sink {}: {warning}", sink.config.name))
        .collect()
}

fn secrets_resolved(policy: &Policy, reached: &[Reached<'_>], facts: Facts<'_>) -> Answer {
    if policy.suspend {
        return Answer::unknown(
            Type::SecretsResolved,
            Reason::Suspended,
            "the policy is suspended",
        );
    }
    if facts.plan.is_none() {
        return unplanned(Type::SecretsResolved, facts);
    }
    let mut first = None;
    let mut sentences = Vec::new();
    if let Some(outcome) = reached
        .iter()
        .find_map(|reached| reached.outcome.filter(|outcome| !outcome.faults.is_empty()))
    {
        first = outcome.faults.first().map(|(fault, _)| *fault);
        let consequence = if outcome.sinks.values().any(|sink| sink.in_force) {
            "the policy stays as it was last good"
        } else {
            "nothing is collected for the policy, for it would be sent without the filter"
        };
        sentences.extend(
            outcome
                .faults
                .iter()
                .map(|(_, message)| format!("filters: {message}; until then {consequence}")),
        );
    }
    for sink in &policy.sinks {
        let Some(outcome) = sink_outcome(reached, &sink.config.name) else {
            continue;
        };
        first = first.or_else(|| outcome.faults.first().map(|(fault, _)| *fault));
        sentences.extend(outcome.faults.iter().map(|(_, message)| {
            let consequence = if outcome.in_force {
                "the last good one stays in force"
            } else {
                "the sink is left out"
            };
            format!(
                "sink {}: {message}; until then {consequence}",
                sink.config.name
            )
        }));
    }
    match first {
        Some(fault) => Answer::no(
            Type::SecretsResolved,
            Reason::Credential(fault),
            sentences.join("; "),
        ),
        None => Answer::yes(
            Type::SecretsResolved,
            Reason::Resolved,
            "every credential is there",
        ),
    }
}

fn injected(policy: &Policy, reached: &[Reached<'_>], facts: Facts<'_>) -> Answer {
    let no = |reason, message| Answer::no(Type::Injected, reason, message);
    if policy.suspend {
        return Answer::unknown(Type::Injected, Reason::Suspended, "the policy is suspended");
    }
    if facts.plan.is_none() {
        return unplanned(Type::Injected, facts);
    }
    let mut unserved = reached.iter().filter_map(unserved);
    if let Some((reason, sentence)) = unserved.next() {
        let sentences = unserved.fold(sentence, |all, (_, one)| format!("{all}; {one}"));
        return no(reason, sentences);
    }
    if let Some(failure) = &facts.report.admission {
        let reason = if failure.name_taken {
            Reason::NameTaken
        } else {
            Reason::AdmissionNotWritten
        };
        return no(reason, failure.message.clone());
    }
    if let Some((obstacle, goes_on)) = facts.report.choice.and_then(|choice| choice.obstacle) {
        return obstructed(obstacle, goes_on);
    }
    let concerns = |change: &&Change| {
        let mut namespaces = reached.iter().map(|reached| &reached.plan.namespace);
        namespaces.any(|namespace| change.namespaces.contains(namespace))
    };
    if let Some(change) = facts.report.change.as_ref().filter(concerns) {
        return changing(change);
    }
    for Reached { plan, .. } in reached {
        let namespace = &plan.namespace;
        if facts.report.injection_pending.contains(namespace) {
            return Answer::unknown(
                Type::Injected,
                Reason::InjectionPending,
                format!("the API server does not inject pods of namespace {namespace} yet"),
            );
        }
    }
    let mut counted = Vec::new();
    for Reached { plane, plan, .. } in reached {
        match facts.coverage.get(plane) {
            Some(coverage) => counted.push(Counted {
                namespace: &plan.namespace,
                coverage,
            }),
            None => {
                return Answer::unknown(
                    Type::Injected,
                    Reason::PodsUnknown,
                    format!(
                        "the pods of namespace {} have not been listed yet",
                        plan.namespace
                    ),
                );
            }
        }
    }
    let is_automatic = policy.rollout == Rollout::Automatic;
    let standing = is_automatic.then_some(facts.restarts);
    covered(&counted, standing, policy.audit.is_some())
}

/// Why pods of a plane get no agent, and what to do.
fn unserved(reached: &Reached<'_>) -> Option<(Reason, String)> {
    let plane = reached.plane.as_str();
    let namespace = &reached.plan.namespace;
    let subject = format!("namespace {namespace} of plane {plane}");
    Some(match &reached.plan.state {
        PlaneState::Available => return None,
        PlaneState::NamespaceMissing => (
            Reason::NamespaceMissing,
            format!(
                "{subject} does not exist yet: create it, or name another in ConfigMap {}",
                names::INSTALLATION
            ),
        ),
        PlaneState::PodsRefused(message) => (
            Reason::PodsRefused,
            format!(
                "{subject} takes pods and refuses them with the log agent, so its pods are left alone: {message}"
            ),
        ),
        PlaneState::Untried(message) => (
            Reason::PodsRefused,
            format!(
                "{subject} refuses trial pods, with the log agent or without, so that nobody knows whether it takes the agent, and its pods are left alone until one of them has been let in to learn from: {message}"
            ),
        ),
        PlaneState::Unsupported(message) => (
            Reason::Unsupported,
            format!(
                "{subject} forbids what the log agent needs, a read-only hostPath volume of /var/log/pods and user 0, so its pods are left alone: except container {} and volume {} from what refuses them: {message}",
                layout::CONTAINER,
                POD_LOGS,
            ),
        ),
        PlaneState::PodSecurity(level) => (
            Reason::Unsupported,
            format!(
                "{subject} enforces the Pod Security level {level}, which forbids the agent's hostPath volume: set its label {} to privileged; until then its pods are left alone",
                names::POD_SECURITY_LABEL
            ),
        ),
    })
}

fn obstructed(obstacle: Obstacle, goes_on: bool) -> Answer {
    let (reason, other) = match obstacle {
        Obstacle::PoliciesUnserved => (Reason::AdmissionPolicyUnsupported, "webhook"),
        Obstacle::WebhookNotInstalled => (Reason::WebhookNotInstalled, "admission policy"),
        Obstacle::WebhookWithoutCertificate | Obstacle::WebhookNotReady => {
            (Reason::WebhookNotReady, "admission policy")
        }
        Obstacle::WebhookUnreachable | Obstacle::WebhookUntrusted => {
            (Reason::WebhookUnreachable, "admission policy")
        }
    };
    let consequence = if goes_on {
        format!("until then the {other} goes on")
    } else {
        "until then new pods are created without the log agent".to_owned()
    };
    Answer::no(Type::Injected, reason, format!("{obstacle}; {consequence}"))
}

/// There is no plan: nobody has ever said where the planes are.
pub(crate) fn unplanned(type_: Type, facts: Facts<'_>) -> Answer {
    let message = facts.problem.map_or_else(
        || "the installation has not been read yet".to_owned(),
        Problem::to_string,
    );
    Answer::unknown(type_, Reason::InstallationInvalid, message)
}

fn ready(
    candidate: &Candidate,
    reached: &[Reached<'_>],
    facts: Facts<'_>,
    questions: &[Answer],
) -> Answer {
    let no = |reason, message| Answer::no(Type::Ready, reason, message);
    if let Some(problem) = facts.problem {
        let consequence = if facts.plan.is_some() {
            "; the last good installation stays in force"
        } else {
            ""
        };
        return no(
            Reason::InstallationInvalid,
            format!("{problem}{consequence}"),
        );
    }
    let accepted = &questions[0];
    if accepted.state != State::True {
        return no(accepted.reason, accepted.message.clone());
    }
    if candidate.policy.as_ref().is_ok_and(|policy| policy.suspend) {
        return Answer::yes(
            Type::Ready,
            Reason::Suspended,
            "the policy is suspended: nothing is collected for it",
        );
    }
    for Reached { plan, .. } in reached {
        let Some(failure) = facts.report.bundles.get(&plan.namespace) else {
            continue;
        };
        let reason = if failure.name_taken {
            Reason::NameTaken
        } else {
            Reason::BundleNotWritten
        };
        return no(reason, failure.message.clone());
    }
    if let Some(answer) = open(questions) {
        return answer;
    }
    let injected = questions
        .iter()
        .find(|answer| answer.type_ == Type::Injected)
        .map_or("", |answer| answer.message.as_str());
    Answer::yes(
        Type::Ready,
        Reason::InForce,
        format!("the policy is in force; {injected}"),
    )
}

/// The first question whose answer stands in the way of `Ready`; what is not known of agents is not known of the policy.
pub(crate) fn open<'a>(questions: impl IntoIterator<Item = &'a Answer> + Clone) -> Option<Answer> {
    // Who has asked for nothing is not kept waiting because nobody has looked.
    let is_unasked =
        |answer: &Answer| answer.state == State::Unknown && answer.reason == Reason::NotManaged;
    let is_open = |answer: &&Answer| {
        answer.state != State::True && answer.reason != Reason::Suspended && !is_unasked(answer)
    };
    let is_unknown = |answer: &Answer| {
        answer.state == State::Unknown
            && [Type::RolledOut, Type::Delivering].contains(&answer.type_)
    };
    let mut all = questions.clone().into_iter().filter(is_open);
    let known = all.find(|answer| !is_unknown(answer));
    let answer = known.or_else(|| questions.into_iter().find(is_open))?;
    Some(Answer {
        type_: Type::Ready,
        state: if is_unknown(answer) {
            State::Unknown
        } else {
            State::False
        },
        ..answer.clone()
    })
}

fn planes(policy: &Policy) -> Vec<&'static str> {
    policy.planes.iter().map(|plane| plane.as_str()).collect()
}

fn sinks(policy: &Policy, reached: &[Reached<'_>], facts: Facts<'_>) -> Vec<SinkStatus> {
    let written = !reached.is_empty()
        && reached.iter().all(|reached| {
            (reached.plan.state == PlaneState::Available || reached.plan.bundle.is_some())
                && !facts.report.bundles.contains_key(&reached.plan.namespace)
        });
    let status = |sink: &Sink| {
        let outcome = sink_outcome(reached, &sink.config.name);
        let of_policy = reached.iter().filter_map(|reached| reached.outcome);
        let fault = outcome
            .iter()
            .flat_map(|outcome| &outcome.faults)
            .chain(of_policy.flat_map(|outcome| &outcome.faults))
            .next();
        let reason = match fault {
            _ if policy.suspend => Reason::Suspended.as_str(),
            Some((fault, _)) => fault.reason(),
            None if written && outcome.as_ref().is_some_and(|outcome| outcome.in_force) => {
                "Configured"
            }
            None => "NotConfigured",
        };
        let messages: Vec<String> = outcome
            .iter()
            .flat_map(|outcome| outcome.faults.iter().map(|(_, message)| message.clone()))
            .chain(sink.warnings.iter().cloned())
            .chain(sink.delivered_means.map(str::to_owned))
            .collect();
        SinkStatus {
            name: sink.config.name.clone(),
            kind: sink.kind.to_owned(),
            in_force: !policy.suspend && written && outcome.is_some_and(|outcome| outcome.in_force),
            reason: reason.to_owned(),
            message: (!messages.is_empty()).then(|| messages.join("; ")),
            delivery: None,
            losses: None,
            unidentified: None,
            retention: None,
        }
    };
    policy.sinks.iter().map(status).collect()
}

/// A sink over all planes that the policy reaches: told where it is told in each of them.
fn sink_outcome(reached: &[Reached<'_>], sink: &str) -> Option<SinkOutcome> {
    reached
        .iter()
        .filter_map(|reached| reached.outcome?.sinks.get(sink).cloned())
        .reduce(|one, other| SinkOutcome {
            in_force: one.in_force && other.in_force,
            // The credentials are the same in each plane.
            faults: one.faults,
        })
}

/// Far more pods than a cluster can have still fit.
pub(crate) fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests;
