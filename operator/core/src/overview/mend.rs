//! What a person can do about what a policy says of itself: a command where one helps, else where it is written.

use super::PolicyView;
use crate::{candidate::Kind, names};

/// What to do for a reason of a condition.
pub fn of(view: &PolicyView, reason: &str) -> String {
    let PolicyView { name, kind, .. } = view;
    let resource = match kind {
        Kind::Logging => "lp",
        Kind::Audit => "ap",
    };
    match reason {
        "PodsWithoutAgent" | "AgentImageUnavailable" | "AgentFailing" | "UnsupportedByAgent"
            if *kind == Kind::Logging =>
        {
            format!("katonic-logging status {name} --pods")
        }
        "WebhookNotInstalled" => "kubectl apply --server-side -k manifests/webhook".to_owned(),
        "SecretUnreadable"
        | "AdmissionNotWritten"
        | "BundleNotWritten"
        | "TrackerNotWritten"
        | "PodsUnknown" => "katonic-logging doctor".to_owned(),
        "Invalid" | "UnknownEvent" => format!("kubectl edit {resource} {name}"),
        "AcknowledgementNeeded" => match &view.retention {
            Some(retention) => format!(
                "kubectl annotate --overwrite {resource} {name} {}={retention}   # if deleting older logs is meant",
                names::ACKNOWLEDGE_RETENTION_ANNOTATION
            ),
            None => page(reason),
        },
        "LinesLost" => {
            let losses = view.sinks.iter().filter_map(|sink| sink.losses.as_ref());
            match losses.map(|losses| losses.last.0).max() {
                Some(last) => format!(
                    "kubectl annotate --overwrite {resource} {name} {}={last}   # when you have seen to it",
                    names::ACKNOWLEDGE_LOSSES_ANNOTATION
                ),
                None => page(reason),
            }
        }
        _ => page(reason),
    }
}

/// Where it is written.
fn page(reason: &str) -> String {
    format!("see docs/runbooks.md#{}", reason.to_lowercase())
}
