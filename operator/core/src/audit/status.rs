//! The status of an audit policy, from what is so.

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use katonic_logging_crds::AuditPolicyStatus;

use super::{Candidate, Plan, Policy, event::joined, events};
use crate::{
    condition::{Answer, Reason, State, Type, progress},
    installation::Installation,
    status::{self, Parts, Told, ask, count, open, pods, summary, unplanned},
};

/// What a status is made of.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The installation in force; none when there has never been one.
    pub installation: Option<&'a Installation>,
    /// What the event tracker should be told; none before that was decided.
    pub plan: Option<&'a Plan>,
    /// Whether the platform's namespace is there and not being deleted.
    pub has_namespace: bool,
    /// What is known of everything that ships logs.
    pub shipping: status::Facts<'a>,
}

/// The status of an audit policy.
pub fn summarize(candidate: &Candidate, facts: Facts<'_>, now: Timestamp) -> AuditPolicyStatus {
    let policy = candidate.policy.as_ref().ok();
    let accepted = accepted(candidate, facts);
    let usable = policy.filter(|_| accepted.state == State::True);
    let shipping = facts
        .installation
        .filter(|_| usable.is_some())
        .and_then(|installation| candidate.shipping_of(installation));
    let shipped = shipping
        .as_ref()
        .map(|shipping| ask(shipping, facts.shipping, now));
    let mut questions = vec![accepted];
    if let Some(policy) = usable {
        questions.push(tracker_configured(policy, facts));
    }
    let mut shipped_ready = None;
    // Of a policy that cannot be used the sinks are told as they were: what they have lost is not less lost for it.
    let before = candidate.status.iter().filter(|_| usable.is_none());
    let mut sinks: Vec<_> = before
        .flat_map(|status| status.sinks.iter().cloned())
        .collect();
    if let Some(shipped) = shipped {
        let mut answers = shipped.questions.into_iter();
        // What is true of the sinks besides: a warning, say.
        questions.splice(..1, answers.next());
        questions.extend(answers);
        shipped_ready = Some(shipped.ready);
        sinks = shipped.sinks;
    }
    let ready = ready(candidate, facts, &questions, shipped_ready.as_ref());
    let delivery = facts.shipping.delivery.filter(|_| {
        let is_suspended = policy.is_some_and(|policy| policy.suspend);
        shipped_ready.is_some() && !is_suspended
    });
    let last_event_time = events::last(candidate, delivery);
    // Whether there are events is the platform's affair: it makes nothing ready or not.
    questions.extend(delivery.map(|delivery| events::seen(candidate, delivery, now)));
    let progress = progress(&ready);
    let previous = candidate.status.as_ref();
    let previous = previous.map_or(&[][..], |status| &status.conditions);
    let answers = questions.into_iter().chain([ready]).chain(progress);
    let conditions = answers
        .map(|answer| answer.condition(previous, candidate.generation, now))
        .collect();
    let in_force = usable.filter(|policy| !policy.suspend);
    let vocabulary = facts.plan.map(|plan| &plan.vocabulary);
    let events = in_force.zip(vocabulary);
    let events = events.map(|(policy, vocabulary)| policy.events(vocabulary));
    // What one enables that cannot be used stays as it was.
    let is_suspended = policy.is_some_and(|policy| policy.suspend);
    let stays = candidate
        .status
        .iter()
        .filter(|_| usable.is_none() && !is_suspended);
    let stays: Vec<String> = stays
        .flat_map(|status| status.events.iter().cloned())
        .collect();
    let log = shipping
        .as_ref()
        .and_then(|shipping| shipping.policy.as_ref().ok());
    AuditPolicyStatus {
        observed_generation: Some(candidate.generation),
        conditions,
        event_count: events
            .map(|events| count(events.len()))
            .or_else(|| (!stays.is_empty()).then(|| count(stays.len()))),
        events: events
            .into_iter()
            .flatten()
            .map(ToString::to_string)
            .chain(stays)
            .collect(),
        tracker: facts.installation.map(tracker),
        pods: log.and_then(|log| pods(log, facts.shipping.coverage)),
        retention: log.map(|log| log.retention().to_string()),
        sink_count: usable.map(|_| count(sinks.len())),
        delivering: summary(&sinks),
        last_event_time: last_event_time.map(Time),
        sinks,
    }
}

impl Told for AuditPolicyStatus {
    fn parts(&mut self) -> Parts<'_> {
        Parts {
            conditions: &mut self.conditions,
            sinks: &mut self.sinks,
            pods: &mut self.pods,
            delivering: &mut self.delivering,
            last_event: Some(&mut self.last_event_time),
        }
    }
}

/// Namespace and name of the ConfigMap.
fn tracker(installation: &Installation) -> String {
    let name = installation.audit.tracker.config_map.as_str();
    format!("{}/{name}", installation.platform_namespace)
}

fn accepted(candidate: &Candidate, facts: Facts<'_>) -> Answer {
    let is_suspended = candidate.policy.as_ref().is_ok_and(|policy| policy.suspend);
    let no = |reason, message: String| {
        let stays = if is_suspended {
            "the policy is suspended: nothing is enabled for it"
        } else {
            "what is enabled stays enabled until this is mended"
        };
        Answer::no(Type::Accepted, reason, format!("{message}; {stays}"))
    };
    let policy = match &candidate.policy {
        Ok(policy) => policy,
        Err(violations) => {
            let sentences: Vec<String> = violations
                .iter()
                .map(|one| format!("{}: {}", one.path, one.message))
                .collect();
            return no(Reason::Invalid, sentences.join("; "));
        }
    };
    let Some(plan) = facts.plan else {
        return unplanned(Type::Accepted, facts.shipping);
    };
    let unknown = policy.unknown(&plan.vocabulary);
    if !unknown.is_empty() {
        return no(
            Reason::UnknownEvent,
            format!(
                "spec.events: the platform has no event {}: write some of {}, or add it to logging.audit.events of the installation if the event tracker has it",
                joined(&unknown, " and no event "),
                joined(plan.vocabulary.all(), ", "),
            ),
        );
    }
    Answer::yes(
        Type::Accepted,
        Reason::Valid,
        "the policy can be used as it is written",
    )
}

fn tracker_configured(policy: &Policy, facts: Facts<'_>) -> Answer {
    let type_ = Type::TrackerConfigured;
    if policy.suspend {
        return Answer::unknown(type_, Reason::Suspended, "the policy is suspended");
    }
    let (Some(installation), Some(plan)) = (facts.installation, facts.plan) else {
        return unplanned(type_, facts.shipping);
    };
    if !facts.has_namespace {
        let namespace = &installation.platform_namespace;
        return Answer::no(
            type_,
            Reason::NamespaceMissing,
            format!(
                "namespace {namespace} of plane Platform does not exist yet: create it, or name another in ConfigMap {}",
                crate::names::INSTALLATION
            ),
        );
    }
    if let Some(failure) = &facts.shipping.report.tracker {
        return Answer::no(type_, Reason::TrackerNotWritten, failure.message.clone());
    }
    let count = policy.events(&plan.vocabulary).len();
    let plural = if count == 1 { "event is" } else { "events are" };
    Answer::yes(
        type_,
        Reason::Configured,
        format!(
            "{count} {plural} enabled in ConfigMap {}, where the event tracker is told to write them into its log",
            tracker(installation)
        ),
    )
}

fn ready(
    candidate: &Candidate,
    facts: Facts<'_>,
    questions: &[Answer],
    shipped: Option<&Answer>,
) -> Answer {
    let no = |reason, message| Answer::no(Type::Ready, reason, message);
    if let Some(problem) = facts.shipping.problem {
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
    // That of what ships has looked at what is written for it, too.
    if let Some(answer) = open(questions.iter().chain(shipped)) {
        return answer;
    }
    if candidate.policy.as_ref().is_ok_and(|policy| policy.suspend) {
        return Answer::yes(
            Type::Ready,
            Reason::Suspended,
            "the policy is suspended: no event is enabled for it",
        );
    }
    let told = |type_: Type| {
        let answer = questions.iter().find(|answer| answer.type_ == type_);
        answer.map(|answer| answer.message.as_str())
    };
    let sentences = [told(Type::TrackerConfigured), told(Type::Injected)];
    let sentences: Vec<&str> = sentences.into_iter().flatten().collect();
    Answer::yes(
        Type::Ready,
        Reason::InForce,
        format!("the policy is in force; {}", sentences.join("; ")),
    )
}

#[cfg(test)]
mod tests;
