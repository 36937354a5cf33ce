//! What a look through an installation finds: a verdict on each thing that a support engineer would look at, with what to do. Asks
//! nothing itself.

use serde::Serialize;

mod guards;
mod parts;
mod policies;
mod rights;
mod text;

pub use guards::{Guard, guard, guards};
pub use parts::{
    Probe, Reading, certificate, claim, definition, deployment, injection, installed,
    is_about_rights, lease, namespace, reports, secret, trial_pod,
};
pub use policies::{policies, sinks};
pub use rights::{Answer, Right, Weight, judged, of_webhook, shipped};
pub use text::text;

/// How it stands with one thing.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// Something is missing, or could not be looked at; what is in force goes on.
    Warn,
    /// Somebody has to act.
    Fail,
}

/// One thing that was looked at.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// What kind of thing it is, in one word.
    pub check: &'static str,
    /// Which one.
    pub subject: String,
    /// How it stands.
    pub verdict: Verdict,
    /// A sentence.
    pub message: String,
    /// A command, or where it says what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mend: Option<String>,
}

impl Finding {
    fn new(
        (check, subject): (&'static str, impl Into<String>),
        verdict: Verdict,
        message: impl Into<String>,
    ) -> Self {
        let line = |text: String| text.replace(char::is_control, " ");
        Self {
            check,
            subject: subject.into(),
            verdict,
            message: line(message.into()),
            mend: None,
        }
    }

    /// It is as it should be.
    pub fn ok(about: (&'static str, impl Into<String>), message: impl Into<String>) -> Self {
        Self::new(about, Verdict::Ok, message)
    }

    /// See [`Verdict::Warn`].
    pub fn warn(about: (&'static str, impl Into<String>), message: impl Into<String>) -> Self {
        Self::new(about, Verdict::Warn, message)
    }

    /// See [`Verdict::Fail`].
    pub fn fail(about: (&'static str, impl Into<String>), message: impl Into<String>) -> Self {
        Self::new(about, Verdict::Fail, message)
    }

    /// With what to do.
    #[must_use]
    pub fn mended_by(self, mend: impl Into<String>) -> Self {
        Self {
            mend: Some(mend.into()),
            ..self
        }
    }
}

/// All that was looked at.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Diagnosis {
    /// In the order in which one thing needs the other.
    pub findings: Vec<Finding>,
}

impl Diagnosis {
    /// The worst of all.
    pub fn verdict(&self) -> Verdict {
        let verdicts = self.findings.iter().map(|finding| finding.verdict);
        verdicts.max().unwrap_or(Verdict::Ok)
    }
}

/// What puts the shipped manifests into the cluster again.
const APPLY: &str = "kubectl apply --server-side -k manifests";

/// What puts the shipped webhook into it again.
const APPLY_WEBHOOK: &str = "kubectl apply --server-side -k manifests/webhook";

#[cfg(test)]
mod tests;
