//! What a status says of agents and sinks: whether the policy has reached every agent, and whether logs arrive.

use std::cmp::Reverse;

use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::Timestamp,
};
use katonic_log_config::{
    layout,
    report::{RefusedReason, SinkState},
};
use katonic_logging_crds::{SinkDelivery as SinkDeliveryStatus, SinkStatus};

use crate::{
    candidate::{Candidate, Kind},
    condition::{Answer, Reason, State, Type},
    delivery::{Delivery, Losses, PodLosses, Refusing, SinkDelivery, Unidentified},
    names,
    policy::Policy,
};

/// What a sink is called that acknowledges what it is sent.
const DELIVERING: &str = SinkState::Delivering.as_str();

/// Whether every agent runs the policy as it is written.
pub(super) fn rolled_out(policy: &Policy, delivery: &Delivery) -> Answer {
    let type_ = Type::RolledOut;
    if policy.suspend {
        return Answer::unknown(type_, Reason::Suspended, "the policy is suspended");
    }
    let Delivery {
        agents, current, ..
    } = delivery;
    if *agents == 0 {
        return Answer::yes(
            type_,
            Reason::NoAgents,
            "no agent runs in a selected pod at present",
        );
    }
    let counted = format!("{current} of {agents} agents run the policy as it is written");
    if let Some((reason, refusing)) = delivery.refusing.iter().next() {
        let (reason, what) = match reason {
            RefusedReason::UnsupportedByAgent | RefusedReason::Other => (
                Reason::UnsupportedByAgent,
                "are older than the policy and leave it out: restart their pods, so that they get the present agent",
            ),
            RefusedReason::NoRoom => (
                Reason::NoRoomInAgent,
                "have no memory left for its patterns and keep it as it was: shorten patterns, of this policy or of older ones that select the same pods",
            ),
        };
        return Answer::no(
            type_,
            reason,
            format!(
                "{counted}; {} {what}; {} for example says: {}",
                refusing.agents, refusing.pod, refusing.message
            ),
        );
    }
    if let Some(refusing) = &delivery.refusing_bundle
        && delivery.held_back > 0
    {
        return Answer::no(
            type_,
            Reason::BundleRefused,
            format!("{counted}; {}", refusing_bundle(refusing)),
        );
    }
    if delivery.outdated > 0 {
        return Answer::no(
            type_,
            Reason::RollingOut,
            format!("{counted}; the kubelet brings it to the others within two minutes"),
        );
    }
    if delivery.silent > 0 {
        return silent(type_, delivery, &counted);
    }
    let held_back = delivery.refusing_bundle.as_ref();
    let held_back = held_back.map(|refusing| format!("; {}", refusing_bundle(refusing)));
    Answer::yes(
        type_,
        Reason::AllAgents,
        counted + &held_back.unwrap_or_default(),
    )
}

/// Agents to which no change of any policy gets through.
fn refusing_bundle(refusing: &Refusing) -> String {
    format!(
        "{} cannot use Secret {} as it is now and go on with what it said before: restart their pods if their agent is an older one; {} for example says: {}",
        refusing.agents,
        names::BUNDLE,
        refusing.pod,
        refusing.message
    )
}

/// Nobody knows how some agents are doing.
fn silent(type_: Type, delivery: &Delivery, counted: &str) -> Answer {
    if delivery.is_learning {
        return Answer::unknown(
            type_,
            Reason::AgentsUnknown,
            "the operator has just begun and has not heard of every agent yet",
        );
    }
    let Delivery { silent, agents, .. } = delivery;
    let pod = delivery.silent_pod.as_deref().unwrap_or_default();
    let (namespace, name) = pod.split_once('/').unwrap_or_default();
    Answer::unknown(
        type_,
        Reason::AgentsSilent,
        format!(
            "{counted}; {silent} of {agents} do not report, {pod} for example: let pods of namespace {namespace} reach Service {}, which a NetworkPolicy may forbid them, and restart pods whose agent is an older one; `kubectl -n {namespace} logs {name} -c {}` says why an agent cannot report",
            names::REPORTS,
            layout::CONTAINER
        ),
    )
}

/// Whether what is sent arrives. `sinks` says so of each.
pub(super) fn delivering(
    candidate: &Candidate,
    policy: &Policy,
    delivery: &Delivery,
    sinks: &[SinkStatus],
) -> Answer {
    let type_ = Type::Delivering;
    if policy.suspend {
        return Answer::unknown(type_, Reason::Suspended, "the policy is suspended");
    }
    let known = |name: &str| delivery.sinks.get(name);
    let of_policy = || policy.sinks.iter().map(|sink| sink.config.name.as_str());
    let sentences = |what: &dyn Fn(&str, &SinkDelivery) -> Option<String>| -> Vec<String> {
        let sentences = of_policy().filter_map(|name| what(name, known(name)?));
        sentences.collect()
    };
    let failing = sentences(&|name, sink| failing(name, sink, delivery.agents));
    let lost = sentences(&|name, sink| {
        let losses = sink.losses.as_ref().filter(|losses| losses.lost > 0)?;
        Some(lost(candidate, name, losses))
    });
    let rejected = sentences(&|name, sink| {
        let losses = sink.losses.as_ref()?;
        let is_alone = losses.lost == 0 && losses.rejected > 0;
        is_alone.then(|| self::rejected(candidate, name, losses))
    });
    let unreported = sentences(&|name, sink| {
        let losses = sink
            .losses
            .as_ref()
            .filter(|losses| losses.unreported > 0)?;
        Some(self::unreported(candidate, name, losses))
    });
    let unidentified = sentences(&|name, sink| {
        let pods = sink.unidentified.as_ref()?;
        Some(self::unidentified(candidate, name, pods))
    });
    // What is told although it keeps nobody from being ready.
    let told = rejected.into_iter().chain(unreported).chain(unidentified);
    let told: Vec<String> = told.collect();
    let worst = of_policy()
        .filter_map(|name| known(name)?.worst())
        .max_by_key(|(state, failing)| (failing.agents, Reverse(*state)));
    let reason = if !lost.is_empty() {
        Some(Reason::LinesLost)
    } else if let Some((state, _)) = worst {
        Some(Reason::SinkFailing(state))
    } else {
        (!failing.is_empty()).then_some(Reason::Backlogged)
    };
    if let Some(reason) = reason {
        let all = lost.into_iter().chain(failing).chain(told);
        return Answer::no(type_, reason, all.collect::<Vec<_>>().join("; "));
    }
    let before = failed_before(candidate);
    if let Some((reason, message)) = before
        && of_policy().any(|name| known(name).is_some_and(|sink| sink.was_failing))
    {
        return Answer::no(type_, reason, message);
    }
    let told = told.iter().map(|one| format!("; {one}"));
    let told: String = told.collect();
    if delivery.silent > 0 && delivery.silent == delivery.agents {
        let nothing = "nobody knows whether logs arrive";
        return silent(type_, delivery, nothing);
    }
    let quiet: Vec<&str> = sinks
        .iter()
        .filter(|sink| state(sink) != Some(DELIVERING))
        .map(|sink| sink.name.as_str())
        .collect();
    if quiet.is_empty() {
        let message = format!("every sink acknowledges what it is sent{told}");
        Answer::yes(type_, Reason::Acknowledged, message)
    } else {
        let message = format!("nothing was sent to {} yet{told}", quiet.join(", "));
        Answer::yes(type_, Reason::NothingSent, message)
    }
}

/// The failure that was told last, of the same form of the policy.
fn failed_before(candidate: &Candidate) -> Option<(Reason, String)> {
    let told = previous(candidate)?;
    let reason = Reason::of_failure(&told.reason)?;
    (told.status == State::False.as_str()).then(|| (reason, told.message.clone()))
}

fn previous(candidate: &Candidate) -> Option<&Condition> {
    let mut conditions = candidate.status.as_ref()?.conditions.iter();
    conditions.find(|condition| {
        condition.type_ == Type::Delivering.as_str()
            && condition.observed_generation == Some(candidate.generation)
    })
}

fn state(sink: &SinkStatus) -> Option<&str> {
    Some(sink.delivery.as_ref()?.state.as_str())
}

/// Why a sink does not deliver, if it does not.
fn failing(name: &str, sink: &SinkDelivery, agents: usize) -> Option<String> {
    let fails = sink.failing.iter().map(|(state, failing)| {
        format!(
            "sink {name} is {} for {} of {agents} agents, {} for example: {}",
            in_words(*state),
            failing.agents,
            failing.pod,
            failing.message
        )
    });
    let behind = (sink.behind > 0 && sink.failing.is_empty()).then(|| {
        format!(
            "sink {name} is behind for {} of {agents} agents, by {} for {}: it takes less than is written, so split the load, raise its limits, or leave out what nobody reads (spec.filters)",
            sink.behind,
            roughly(sink.lag),
            sink.lag_pod.as_deref().unwrap_or_default()
        )
    });
    let all: Vec<String> = fails.chain(behind).collect();
    (!all.is_empty()).then(|| all.join("; "))
}

/// As much of a time as a person needs; what changes every second would be written every second.
fn roughly(seconds: u64) -> String {
    match seconds {
        0..120 => "more than a minute".to_owned(),
        120..7200 => format!("{} minutes", seconds / 60),
        _ => format!("{} hours", seconds / 3600),
    }
}

fn in_words(state: SinkState) -> &'static str {
    match state {
        SinkState::AuthenticationFailed => "refusing the credential",
        SinkState::Rejected => "refusing what it is sent",
        SinkState::Misconfigured => "not what the policy says it is",
        SinkState::Unconfirmed => "taking everything and confirming nothing",
        SinkState::Unreachable => "not reachable",
        SinkState::Unknown | SinkState::Delivering | SinkState::Other => "failing",
    }
}

fn lost(candidate: &Candidate, name: &str, losses: &Losses) -> String {
    format!(
        "sink {name} will never get {} records of {}, last heard of at {}{}; when you have seen to it: `{}`",
        losses.lost,
        pods(losses, |pod| pod.lost),
        losses.last,
        if losses.rejected > 0 {
            format!(", and has refused {} for their content", losses.rejected)
        } else {
            String::new()
        },
        acknowledge(candidate, name, losses.last)
    )
}

fn unidentified(candidate: &Candidate, name: &str, pods: &Unidentified) -> String {
    let (namespace, pod) = pods.pods.first().cloned().unwrap_or_default();
    let count = pods.count();
    let (what, their) = if count == 1 {
        ("pod", "its")
    } else {
        ("pods", "their")
    };
    format!(
        "sink {name} has logs of {count} {what} whose execution nobody knows below unidentified/, {namespace}/{pod} for example: give such pods the label that logging.executionIdLabel of the installation names, or let one of logging.executionIdPatterns find the id in {their} names; `katonic-logging logs --unidentified {namespace}/{pod}` reads them; when you have seen to it: `{}`",
        acknowledge(candidate, name, pods.last),
    )
}

fn rejected(candidate: &Candidate, name: &str, losses: &Losses) -> String {
    let why = losses.rejection.as_deref();
    format!(
        "sink {name} has refused {} records of {} for their content{}; when you have seen to it: `{}`",
        losses.rejected,
        pods(losses, |pod| pod.rejected),
        why.map(|why| format!(" ({why})")).unwrap_or_default(),
        acknowledge(candidate, name, losses.last)
    )
}

/// What nobody knows is no loss, and not nothing.
fn unreported(candidate: &Candidate, name: &str, losses: &Losses) -> String {
    let pods = losses.pods.iter().filter_map(|((namespace, pod), of_pod)| {
        let one = of_pod.unreported?;
        let (pending, heard) = (one.pending, one.heard);
        Some(format!(
            "{namespace}/{pod} ({pending} bytes, last heard of at {heard})"
        ))
    });
    let pods: Vec<String> = pods.collect();
    let named = u64::try_from(pods.len()).unwrap_or(u64::MAX);
    let more = match losses.unreported.saturating_sub(named) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!(
        "{} pods ended without a last report while sink {name} had not acknowledged all of their lines, {}{more}, and nobody knows whether those arrived; when you have seen to it: `{}`",
        losses.unreported,
        pods.join(", "),
        acknowledge(candidate, name, losses.last)
    )
}

fn pods(losses: &Losses, of: impl Fn(&PodLosses) -> u64) -> String {
    let concerned = losses.pods.iter().filter(|(_, pod)| of(pod) > 0);
    let named: Vec<String> = concerned
        .map(|((namespace, name), pod)| format!("{namespace}/{name} ({})", of(pod)))
        .collect();
    let more = match losses.more_pods {
        0 => String::new(),
        more => format!(" and {more} more pods"),
    };
    format!("{}{more}", named.join(", "))
}

fn acknowledge(candidate: &Candidate, sink: &str, last: Timestamp) -> String {
    let resource = match candidate.kind {
        Kind::Logging => "lp",
        Kind::Audit => "ap",
    };
    format!(
        "kubectl annotate --overwrite {resource} {} {}={}",
        candidate.owner().name,
        names::ACKNOWLEDGE_LOSSES_ANNOTATION,
        candidate.losses_acknowledged.and(sink, last),
    )
}

/// What a status says of the delivery to one sink.
pub(super) fn of_sink(
    candidate: &Candidate,
    policy: &Policy,
    delivery: &Delivery,
    name: &str,
    now: Timestamp,
) -> Option<SinkDeliveryStatus> {
    if policy.suspend {
        return None;
    }
    let status = candidate.status.iter();
    let is_same = previous(candidate).is_some();
    let before = status
        .flat_map(|status| &status.sinks)
        .find(|sink| is_same && sink.name == name)
        .and_then(|sink| sink.delivery.clone());
    let first = before.as_ref().and_then(|before| before.first.clone());
    let told = |state: &str, message: Option<String>| {
        Some(SinkDeliveryStatus {
            state: state.to_owned(),
            message,
            first: first.clone(),
        })
    };
    let unheard = SinkDelivery::default();
    let sink = delivery.sinks.get(name).unwrap_or(&unheard);
    if let Some(message) = failing(name, sink, delivery.agents) {
        let worst = sink.worst();
        let state = worst.map_or(Reason::Backlogged.as_str(), |(state, _)| state.as_str());
        return told(state, Some(message));
    }
    if sink.was_failing {
        return before;
    }
    if sink.acknowledging > 0 {
        return Some(SinkDeliveryStatus {
            state: DELIVERING.to_owned(),
            message: None,
            first: first.clone().or(Some(Time(now))),
        });
    }
    let worked = before.filter(|before| before.state == DELIVERING);
    if delivery.silent > 0 && delivery.silent == delivery.agents {
        return told(SinkState::Unknown.as_str(), None);
    }
    // What it took last it has; nobody has sent it anything since.
    worked.or_else(|| told(Reason::NothingSent.as_str(), None))
}

/// How many of the sinks acknowledge what they are sent.
pub(crate) fn summary(sinks: &[SinkStatus]) -> Option<String> {
    let known = sinks.iter().filter(|sink| sink.delivery.is_some());
    if known.count() == 0 {
        return None;
    }
    let delivering = sinks.iter().filter(|sink| state(sink) == Some(DELIVERING));
    Some(format!("{}/{}", delivering.count(), sinks.len()))
}

#[cfg(test)]
mod tests;
