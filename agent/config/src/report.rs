//! What an agent tells the operator of its deliveries, and what it is answered.
//!
//! An agent posts a [`Report`] as JSON to [`PATH`] of the address that its bundle names, with the token that the kubelet gives it for
//! [`AUDIENCE`]. Which pod it is, the operator learns from the token alone. A report replaces the one before it: counts are sums since
//! the pod began, and one that is lost costs freshness and nothing else.
//!
//! Every time is an age in whole seconds at the moment of sending, because clocks of nodes differ. Agents and operators are of
//! different versions: each leaves out what it does not know, and whatever is added later has a default.

use serde::{Deserialize, Serialize};

use crate::Endpoint;

/// Where reports are posted, below the operator's address.
pub const PATH: &str = "/v1/report";

/// Whom the token is for; it is worth nothing at the API server.
pub const AUDIENCE: &str = "reports.logging.katonic.ai";

/// The largest report that is sent or read, in bytes.
pub const MAX_SIZE: usize = 64 << 10;

/// The longest sentence of a report, in characters.
pub const MAX_SENTENCE: usize = 200;

/// Where agents report, as their bundle says.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Reporting {
    /// The operator's address: that of its Service, by number, so that a pod needs no name server for it.
    pub url: Endpoint,
    /// The name in its certificate.
    pub server_name: String,
    /// The authorities of which one has signed its certificate, as PEM.
    pub certificate_authorities: String,
}

/// How one agent is doing.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Report {
    /// Version of the agent.
    pub agent: String,
    /// Age of the agent's process, in seconds.
    pub uptime: u64,
    /// Whether the pod has ended and nothing more will come.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub last: bool,
    /// Why the bundle as it is mounted is not in force; the last good one is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bundle_refused: Option<String>,
    /// The policies that select this pod.
    pub policies: Vec<PolicyReport>,
    /// Policies that are left out for want of room, those that have nothing to complain of first.
    #[serde(skip_serializing_if = "is_zero")]
    pub omitted: u64,
}

/// How one policy is doing in one pod.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PolicyReport {
    /// UID of the custom resource.
    pub uid: String,
    /// The policy's revision in the bundle, of the form that is in force; none: no form of it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Why the form in the bundle is not in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<Refused>,
    /// Its sinks.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sinks: Vec<SinkReport>,
}

/// Why an agent does not apply a policy as the bundle has it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Refused {
    /// In one word.
    pub reason: RefusedReason,
    /// In a sentence, of at most [`MAX_SENTENCE`] characters.
    pub message: String,
}

/// Why an agent does not apply a policy, in one word.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub enum RefusedReason {
    /// It is newer than the agent.
    UnsupportedByAgent,
    /// Its patterns do not fit into the agent's memory beside those of older policies.
    NoRoom,
    /// Something that the operator does not know.
    #[serde(other)]
    Other,
}

/// How one sink of one policy is doing in one pod.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SinkReport {
    /// Its name in the policy.
    pub name: String,
    /// In one word.
    pub state: SinkState,
    /// For how long it has been so, in seconds.
    #[serde(skip_serializing_if = "is_zero")]
    pub since: u64,
    /// What is wrong, as far as it may be told; at most [`MAX_SENTENCE`] characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Age of the last acknowledgement, in seconds; none: there was none since the agent was started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acknowledged: Option<u64>,
    /// Bytes of log files that are not acknowledged.
    #[serde(skip_serializing_if = "is_zero")]
    pub pending: u64,
    /// How far behind the sink is, in seconds: for how long the oldest line that is not acknowledged has been in its file.
    #[serde(skip_serializing_if = "is_zero")]
    pub lag: u64,
    /// Records that it has acknowledged.
    #[serde(skip_serializing_if = "is_zero")]
    pub delivered: u64,
    /// Records that it has refused for their content.
    #[serde(skip_serializing_if = "is_zero")]
    pub rejected: u64,
    /// Why it refused the last of them; at most [`MAX_SENTENCE`] characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rejection: Option<String>,
    /// Records that the policy leaves out.
    #[serde(skip_serializing_if = "is_zero")]
    pub dropped: u64,
    /// Records that nobody will get any more.
    #[serde(skip_serializing_if = "is_zero")]
    pub lost: u64,
    /// Age of the last loss or rejection, in seconds; none: it is older than the agent's process, if there was any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_loss: Option<u64>,
    /// Records that the policy's fallback has instead.
    #[serde(skip_serializing_if = "is_zero")]
    pub fallback: u64,
    /// Whether it archives logs of an execution whose id nobody knows.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub unidentified: bool,
}

/// How a sink is doing, in one word.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub enum SinkState {
    /// Nothing was sent yet.
    #[default]
    Unknown,
    /// It has what it was sent last.
    Delivering,
    /// It refuses the credential, or there is none.
    AuthenticationFailed,
    /// It cannot be reached, or says that it cannot take anything at present.
    Unreachable,
    /// It refuses whatever it is sent.
    Rejected,
    /// What is asked of it cannot be done as the policy has it.
    Misconfigured,
    /// It takes everything and confirms nothing.
    Unconfirmed,
    /// Something that the operator does not know.
    #[serde(other)]
    Other,
}

impl SinkState {
    /// Every state.
    pub const ALL: [Self; 8] = [
        Self::Unknown,
        Self::Delivering,
        Self::AuthenticationFailed,
        Self::Unreachable,
        Self::Rejected,
        Self::Misconfigured,
        Self::Unconfirmed,
        Self::Other,
    ];

    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "Unknown",
            Self::Delivering => "Delivering",
            Self::AuthenticationFailed => "AuthenticationFailed",
            Self::Unreachable => "Unreachable",
            Self::Rejected => "Rejected",
            Self::Misconfigured => "Misconfigured",
            Self::Unconfirmed => "Unconfirmed",
            Self::Other => "Other",
        }
    }
}

/// What the operator says to a report.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Reply {
    /// When the next report is wanted if nothing changes, in seconds; the agent adds some chance to it.
    pub interval: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// The sentence, shortened to [`MAX_SENTENCE`] characters.
pub fn shortened(sentence: &str) -> String {
    match sentence.char_indices().nth(MAX_SENTENCE) {
        None => sentence.to_owned(),
        // The mark that something is missing needs a place too.
        Some(_) => sentence
            .chars()
            .take(MAX_SENTENCE - 1)
            .chain(['…'])
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_of_another_version_is_read_as_far_as_it_is_known() {
        let newer = r#"{"agent":"9.0.0","uptime":5,"mood":"fine","policies":[{"uid":"u","revision":"r","sinks":[
            {"name":"s","state":"Enlightened","karma":3},{"name":"t","state":"Delivering","delivered":7}],
            "refused":{"reason":"TooLoud","message":"hush"}}]}"#;
        let report: Report = serde_json::from_str(newer).unwrap();
        let policy = &report.policies[0];
        assert_eq!(policy.sinks[0].state, SinkState::Other);
        assert_eq!(policy.sinks[1].delivered, 7);
        let refused = policy.refused.as_ref().unwrap();
        assert_eq!(refused.reason, RefusedReason::Other);
        let older: Report = serde_json::from_str("{}").unwrap();
        assert_eq!(older, Report::default());
    }

    #[test]
    fn a_state_is_written_as_it_is_called() {
        for state in SinkState::ALL {
            assert_eq!(serde_json::to_value(state).unwrap(), state.as_str());
        }
    }

    #[test]
    fn three_policies_with_three_sinks_fit_into_two_kibibytes() {
        let sink = |number: usize| SinkReport {
            name: format!("sink-{number}"),
            state: SinkState::Delivering,
            since: 86_400,
            acknowledged: Some(12),
            delivered: 1_234_567_890,
            ..SinkReport::default()
        };
        let policy = |_| PolicyReport {
            uid: "01234567-89ab-cdef-0123-456789abcdef".to_owned(),
            revision: Some("0123456789ab".to_owned()),
            refused: None,
            sinks: (0..3).map(sink).collect(),
        };
        let report = Report {
            agent: "0.1.0".to_owned(),
            uptime: 86_400,
            policies: (0..3).map(policy).collect(),
            ..Report::default()
        };
        let bytes = serde_json::to_vec(&report).unwrap();
        assert!(bytes.len() <= 2048, "{} bytes", bytes.len());
    }

    #[test]
    fn a_long_sentence_is_shortened_at_a_character() {
        let long = "ü".repeat(MAX_SENTENCE + 1);
        let short = shortened(&long);
        assert_eq!(short.chars().count(), MAX_SENTENCE);
        assert!(short.ends_with('…'));
        assert_eq!(shortened(&short), short);
    }
}
