//! What is judged of policies and of their sinks: what their statuses say, which is what agents report.

use super::Finding;
use crate::overview::{PolicyView, mend};

/// Each policy, by whether it is in force.
pub fn policies(views: &[PolicyView]) -> Vec<Finding> {
    let finding = |view: &PolicyView| {
        let about = ("policy", view.title());
        let condition = |type_: &str| view.conditions.iter().find(|one| one.type_ == type_);
        let Some(ready) = view.ready.and_then(|_| condition("Ready")) else {
            return Finding::warn(about, "the operator has not seen it in its present form");
        };
        let message = format!("{}: {}", ready.reason, ready.message);
        if ready.status == "True" {
            return Finding::ok(about, message);
        }
        let is_stalled = condition("Stalled").is_some_and(|stalled| stalled.status == "True");
        let finding = if is_stalled {
            Finding::fail(about, message)
        } else {
            Finding::warn(about, message)
        };
        finding.mended_by(mend::of(view, &ready.reason))
    };
    views.iter().map(finding).collect()
}

/// Each sink, by what the agents in the pods meet when they look its name up, greet it and send: nobody else looks from where they are.
pub fn sinks(views: &[PolicyView]) -> Vec<Finding> {
    let of_policy = |view: &PolicyView| {
        let finding = |sink: &katonic_logging_crds::SinkStatus| {
            let about = ("sink", format!("{} → {}", view.title(), sink.name));
            let Some(delivery) = &sink.delivery else {
                return Finding::warn(about, "nobody has reported whether it can be reached");
            };
            let said = delivery.message.clone().unwrap_or_default();
            match delivery.state.as_str() {
                "Delivering" => Finding::ok(about, "it acknowledges what it is sent"),
                "NothingSent" => Finding::warn(
                    about,
                    "nothing was sent to it yet, so nobody knows whether it takes anything",
                ),
                "Unknown" => Finding::warn(about, "no agent reports")
                    .mended_by(mend::of(view, "AgentsSilent")),
                state => Finding::fail(about, said).mended_by(mend::of(view, state)),
            }
        };
        view.sinks.iter().map(finding).collect::<Vec<_>>()
    };
    views.iter().flat_map(of_policy).collect()
}
