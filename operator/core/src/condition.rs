//! Conditions of a policy: their types, and the reasons that one of them can have.

use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::Timestamp,
};
use katonic_log_config::report::SinkState;

/// What is asked of a policy. `Ready` is the conjunction of those before it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Type {
    /// The policy can be used as it is written.
    Accepted,
    /// Every credential that it names is there and can be used.
    SecretsResolved,
    /// Every pod that it selects has the log agent.
    Injected,
    /// Every agent runs it as it is written.
    RolledOut,
    /// Its sinks acknowledge what they are sent, and nothing is lost.
    Delivering,
    /// Its logs are kept for as long as it asks, where anybody can see to that.
    RetentionEnforced,
    /// The event tracker is told which audit events to write.
    TrackerConfigured,
    /// The event tracker has written audit events. `Ready` does not depend on it.
    EventsSeen,
    /// It is in force.
    Ready,
    /// The operator is at it, or waits for something that may come by itself. Only while true (kstatus).
    Reconciling,
    /// A person has to do something. Only while true (kstatus).
    Stalled,
}

impl Type {
    /// As it stands in the status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "Accepted",
            Self::SecretsResolved => "SecretsResolved",
            Self::Injected => "Injected",
            Self::RolledOut => "RolledOut",
            Self::Delivering => "Delivering",
            Self::RetentionEnforced => "RetentionEnforced",
            Self::TrackerConfigured => "TrackerConfigured",
            Self::EventsSeen => "EventsSeen",
            Self::Ready => "Ready",
            Self::Reconciling => "Reconciling",
            Self::Stalled => "Stalled",
        }
    }
}

/// Why a condition is as it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reason {
    /// The policy can be used.
    Valid,
    /// The policy cannot be used as it is written.
    Invalid,
    /// The platform does not have an audit event that the policy names.
    UnknownEvent,
    /// The bundle has no room for it.
    OverBudget,
    /// Every credential is there.
    Resolved,
    /// A credential is not, see [`crate::credential::Fault`].
    Credential(crate::credential::Fault),
    /// Every selected pod has the agent.
    AllPods,
    /// No pod is selected at present.
    NoPods,
    /// Selected pods lack the agent.
    PodsWithoutAgent,
    /// Selected pods wait for the agent's image, and it cannot be had.
    AgentImageUnavailable,
    /// The agents of selected pods end again and again.
    AgentFailing,
    /// An owner that was restarted has not become healthy, and no other is restarted before it is.
    RolloutStopped,
    /// The namespace of a plane does not exist.
    NamespaceMissing,
    /// The namespace of a plane forbids the agent.
    Unsupported,
    /// The admission policy could not be written.
    AdmissionNotWritten,
    /// A bundle could not be written.
    BundleNotWritten,
    /// The API server does not inject pods yet.
    InjectionPending,
    /// The API server refuses pods that carry the agent.
    PodsRefused,
    /// The API server refuses pods that carry the agent as it is to be from now on.
    InjectionRefused,
    /// The installation wants an admission policy of an API server that has none.
    AdmissionPolicyUnsupported,
    /// Pods are injected by a webhook that is not installed.
    WebhookNotInstalled,
    /// The webhook that injects pods cannot be asked.
    WebhookNotReady,
    /// API servers get no answer from the webhook.
    WebhookUnreachable,
    /// Something of the same name is there and is not ours.
    NameTaken,
    /// The pods have not been listed yet.
    PodsUnknown,
    /// The installation cannot be used.
    InstallationInvalid,
    /// No agent runs in a selected pod.
    NoAgents,
    /// Every agent runs the policy as it is written.
    AllAgents,
    /// Some agents do not run it as it is written yet.
    RollingOut,
    /// The policy is newer than some agents.
    UnsupportedByAgent,
    /// Some agents have no memory left for the policy's patterns.
    NoRoomInAgent,
    /// Some agents refuse the bundle as it is mounted.
    BundleRefused,
    /// Some agents do not report.
    AgentsSilent,
    /// The operator has not listened for long enough to have heard of every agent.
    AgentsUnknown,
    /// Every sink acknowledges what it is sent.
    Acknowledged,
    /// No agent has had anything to send to some sinks.
    NothingSent,
    /// Records are gone for good, and nobody has acknowledged that.
    LinesLost,
    /// A sink fails.
    SinkFailing(SinkState),
    /// A sink is far behind.
    Backlogged,
    /// The store keeps the logs for as long as the policy asks.
    Enforced,
    /// Whoever runs the sinks decides how long the logs are kept.
    ProviderManaged,
    /// Nobody sees to it that the logs are kept for as long as the policy asks.
    NotManaged,
    /// The store has not been asked yet.
    RetentionPending,
    /// What the policy asks would delete logs, and nobody has said that it may.
    AcknowledgementNeeded,
    /// Rules of others delete the logs sooner.
    ExpiredByOthers,
    /// The bucket cannot lock objects, as it is asked.
    LockUnsupported,
    /// The bucket has as many rules as it can have.
    RulesFull,
    /// Another tool changes the bucket's rules again and again.
    RulesContested,
    /// The store refuses to let its rules be read or written.
    RulesDenied,
    /// The store does not take the rules that are in the bucket.
    RulesRefused,
    /// The store has no such rules.
    RulesUnsupported,
    /// There is no such bucket.
    NoSuchBucket,
    /// There is no such index.
    NoSuchIndex,
    /// Nothing can be kept there for as long as it is asked.
    RetentionUnsupported,
    /// The store does not answer.
    StoreUnreachable,
    /// What answers is not the store that is meant.
    StoreMisconfigured,
    /// The operator's clock and the store's differ.
    ClockSkewed,
    /// What the policy asks for is written.
    Configured,
    /// The event tracker's ConfigMap could not be written.
    TrackerNotWritten,
    /// There have been audit events.
    EventsSeen,
    /// There have been some, and lines that are meant as such and are none.
    EventsFaulty,
    /// There has been none, and it is early.
    NoEventsYet,
    /// There has been none for a while.
    NoEventsSeen,
    /// The user has suspended the policy.
    Suspended,
    /// Everything holds.
    InForce,
}

impl Reason {
    /// As it stands in the status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Valid => "Valid",
            Self::Invalid => "Invalid",
            Self::UnknownEvent => "UnknownEvent",
            Self::OverBudget => "OverBudget",
            Self::Resolved => "Resolved",
            Self::Credential(fault) => fault.reason(),
            Self::AllPods => "AllPods",
            Self::NoPods => "NoPods",
            Self::PodsWithoutAgent => "PodsWithoutAgent",
            Self::AgentImageUnavailable => "AgentImageUnavailable",
            Self::AgentFailing => "AgentFailing",
            Self::RolloutStopped => "RolloutStopped",
            Self::NamespaceMissing => "NamespaceMissing",
            Self::Unsupported => "Unsupported",
            Self::AdmissionNotWritten => "AdmissionNotWritten",
            Self::BundleNotWritten => "BundleNotWritten",
            Self::InjectionPending => "InjectionPending",
            Self::PodsRefused => "PodsRefused",
            Self::InjectionRefused => "InjectionRefused",
            Self::AdmissionPolicyUnsupported => "AdmissionPolicyUnsupported",
            Self::WebhookNotInstalled => "WebhookNotInstalled",
            Self::WebhookNotReady => "WebhookNotReady",
            Self::WebhookUnreachable => "WebhookUnreachable",
            Self::NameTaken => "NameTaken",
            Self::PodsUnknown => "PodsUnknown",
            Self::InstallationInvalid => "InstallationInvalid",
            Self::NoAgents => "NoAgents",
            Self::AllAgents => "AllAgents",
            Self::RollingOut => "RollingOut",
            Self::UnsupportedByAgent => "UnsupportedByAgent",
            Self::NoRoomInAgent => "NoRoomInAgent",
            Self::BundleRefused => "BundleRefused",
            Self::AgentsSilent => "AgentsSilent",
            Self::AgentsUnknown => "AgentsUnknown",
            Self::Acknowledged => "Acknowledged",
            Self::NothingSent => "NothingSent",
            Self::LinesLost => "LinesLost",
            Self::SinkFailing(state) => state.as_str(),
            Self::Backlogged => "Backlogged",
            Self::Enforced => "Enforced",
            Self::ProviderManaged => "ProviderManaged",
            Self::NotManaged => "NotManaged",
            Self::RetentionPending => "RetentionPending",
            Self::AcknowledgementNeeded => "AcknowledgementNeeded",
            Self::ExpiredByOthers => "ExpiredByOthers",
            Self::LockUnsupported => "LockUnsupported",
            Self::RulesFull => "RulesFull",
            Self::RulesContested => "RulesContested",
            Self::RulesDenied => "RulesDenied",
            Self::RulesRefused => "RulesRefused",
            Self::RulesUnsupported => "RulesUnsupported",
            Self::NoSuchBucket => "NoSuchBucket",
            Self::NoSuchIndex => "NoSuchIndex",
            Self::RetentionUnsupported => "RetentionUnsupported",
            Self::StoreUnreachable => "StoreUnreachable",
            Self::StoreMisconfigured => "StoreMisconfigured",
            Self::ClockSkewed => "ClockSkewed",
            Self::Configured => "Configured",
            Self::TrackerNotWritten => "TrackerNotWritten",
            Self::EventsSeen => "EventsSeen",
            Self::EventsFaulty => "EventsFaulty",
            Self::NoEventsYet => "NoEventsYet",
            Self::NoEventsSeen => "NoEventsSeen",
            Self::Suspended => "Suspended",
            Self::InForce => "InForce",
        }
    }

    /// The reason that a failure of a sink was told with.
    pub fn of_failure(text: &str) -> Option<Self> {
        let failing = SinkState::ALL.map(Self::SinkFailing).into_iter();
        let mut all = failing.chain([Self::Backlogged]);
        all.find(|reason| reason.as_str() == text)
    }

    /// The reason that a sink's retention was told with.
    pub fn of_retention(text: &str) -> Option<Self> {
        use crate::credential::Fault;
        const ALL: [Reason; 21] = [
            Reason::NotManaged,
            Reason::RetentionPending,
            Reason::AcknowledgementNeeded,
            Reason::ExpiredByOthers,
            Reason::LockUnsupported,
            Reason::RulesFull,
            Reason::RulesContested,
            Reason::RulesDenied,
            Reason::RulesRefused,
            Reason::RulesUnsupported,
            Reason::NoSuchBucket,
            Reason::NoSuchIndex,
            Reason::RetentionUnsupported,
            Reason::StoreUnreachable,
            Reason::StoreMisconfigured,
            Reason::ClockSkewed,
            Reason::Credential(Fault::SecretMissing),
            Reason::Credential(Fault::SecretKeyMissing),
            Reason::Credential(Fault::CredentialEmpty),
            Reason::Credential(Fault::CredentialInvalid),
            Reason::Credential(Fault::SecretUnreadable),
        ];
        ALL.into_iter().find(|reason| reason.as_str() == text)
    }

    /// Whether nothing will change until a person acts.
    pub fn needs_a_person(self) -> bool {
        matches!(
            self,
            Self::Invalid
                | Self::UnknownEvent
                | Self::OverBudget
                | Self::RolloutStopped
                | Self::Unsupported
                | Self::InjectionRefused
                | Self::PodsRefused
                | Self::AdmissionPolicyUnsupported
                | Self::WebhookNotInstalled
                | Self::NotManaged
                | Self::AcknowledgementNeeded
                | Self::ExpiredByOthers
                | Self::LockUnsupported
                | Self::RulesFull
                | Self::RulesContested
                | Self::RulesRefused
                | Self::RulesUnsupported
                | Self::RetentionUnsupported
                | Self::NameTaken
                | Self::InstallationInvalid
                | Self::UnsupportedByAgent
                | Self::NoRoomInAgent
                | Self::BundleRefused
                | Self::LinesLost
                | Self::SinkFailing(
                    SinkState::AuthenticationFailed
                        | SinkState::Rejected
                        | SinkState::Misconfigured
                )
        )
    }
}

/// Whether it holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum State {
    /// It holds.
    True,
    /// It does not.
    False,
    /// It is not known.
    Unknown,
}

impl State {
    /// As it stands in the status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// An answer to one question, before it has a time.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Answer {
    /// The question.
    pub type_: Type,
    /// The answer.
    pub state: State,
    /// One word for machines.
    pub reason: Reason,
    /// A sentence for people, with what to do.
    pub message: String,
}

impl Answer {
    /// It holds.
    pub fn yes(type_: Type, reason: Reason, message: impl Into<String>) -> Self {
        Self {
            type_,
            state: State::True,
            reason,
            message: message.into(),
        }
    }

    /// It does not hold.
    pub fn no(type_: Type, reason: Reason, message: impl Into<String>) -> Self {
        Self {
            type_,
            state: State::False,
            reason,
            message: message.into(),
        }
    }

    /// It is not known.
    pub fn unknown(type_: Type, reason: Reason, message: impl Into<String>) -> Self {
        Self {
            type_,
            state: State::Unknown,
            reason,
            message: message.into(),
        }
    }

    /// The answer as it stands in a status after `previous` ones. The time moves only when the state does (Kubernetes API
    /// conventions).
    pub(crate) fn condition(
        self,
        previous: &[Condition],
        generation: i64,
        now: Timestamp,
    ) -> Condition {
        let (type_, state) = (self.type_.as_str(), self.state.as_str());
        let same = previous
            .iter()
            .find(|condition| condition.type_ == type_ && condition.status == state);
        Condition {
            type_: type_.to_owned(),
            status: state.to_owned(),
            reason: self.reason.as_str().to_owned(),
            message: truncate(self.message),
            observed_generation: Some(generation),
            last_transition_time: same.map_or(Time(now), |same| same.last_transition_time.clone()),
        }
    }
}

/// Kubernetes' kstatus: both are there only while true, and say whether waiting helps.
pub(crate) fn progress(ready: &Answer) -> Option<Answer> {
    if ready.state == State::True {
        return None;
    }
    let type_ = if ready.reason.needs_a_person() {
        Type::Stalled
    } else {
        Type::Reconciling
    };
    Some(Answer::yes(type_, ready.reason, ready.message.clone()))
}

/// The API server takes 32,768 characters; nobody reads more than a few.
fn truncate(mut message: String) -> String {
    const MOST: usize = 2048;
    if let Some((end, _)) = message.char_indices().nth(MOST) {
        message.truncate(end);
        message.push('…');
    }
    message
}
