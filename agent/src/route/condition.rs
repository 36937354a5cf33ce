//! How a sink is doing, as reports have it. Tells nothing and sends nothing.

use std::time::Instant;

use katonic_log_config::report::SinkState;

use super::Route;
use crate::sink::Cause;

/// How a route is doing.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Health {
    /// Nothing was sent yet.
    #[default]
    Unknown,
    /// The sink has what it was sent last.
    Delivering,
    /// It has not, in one word and in many.
    Failing(Reason, String),
}

/// Why a sink has not what it was to be sent, in one word.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reason {
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
    /// What is to be written down before it is sent cannot be.
    Backlogged,
}

impl Reason {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AuthenticationFailed => "AuthenticationFailed",
            Self::Unreachable => "Unreachable",
            Self::Rejected => "Rejected",
            Self::Misconfigured => "Misconfigured",
            Self::Unconfirmed => "Unconfirmed",
            Self::Backlogged => "Backlogged",
        }
    }
}

impl From<Cause> for Reason {
    fn from(cause: Cause) -> Self {
        match cause {
            Cause::AuthenticationFailed => Self::AuthenticationFailed,
            Cause::Misconfigured => Self::Misconfigured,
        }
    }
}

impl Health {
    /// The word that reports have for it.
    pub fn state(&self) -> SinkState {
        match self {
            Self::Unknown => SinkState::Unknown,
            Self::Delivering => SinkState::Delivering,
            Self::Failing(reason, _) => match reason {
                Reason::AuthenticationFailed => SinkState::AuthenticationFailed,
                // Reports have no word for a node's disk; the sentence says that it is one.
                Reason::Unreachable | Reason::Backlogged => SinkState::Unreachable,
                Reason::Rejected => SinkState::Rejected,
                Reason::Misconfigured => SinkState::Misconfigured,
                Reason::Unconfirmed => SinkState::Unconfirmed,
            },
        }
    }
}

/// What is known of a sink beside its counts.
#[derive(Clone, Debug)]
pub struct Condition {
    /// How it is doing.
    pub health: Health,
    /// Since when its state is the one that it is.
    pub since: Instant,
    /// When it acknowledged something last.
    pub acknowledged: Option<Instant>,
    /// Why it refused a record last.
    pub rejection: Option<String>,
    /// When a record was last lost or refused.
    pub last_loss: Option<Instant>,
}

impl Default for Condition {
    fn default() -> Self {
        Self {
            health: Health::Unknown,
            since: Instant::now(),
            acknowledged: None,
            rejection: None,
            last_loss: None,
        }
    }
}

impl Route {
    /// What is known of its sink.
    pub fn condition(&self) -> Condition {
        self.condition.borrow().clone()
    }

    /// Whether something ails it, or has cost records.
    pub fn has_complaint(&self) -> bool {
        let counts = self.counts.get();
        matches!(self.condition.borrow().health, Health::Failing(..))
            || counts.lost > 0
            || counts.rejected > 0
    }

    /// Whether something has happened, since this was asked last, of which the operator is to know at once.
    pub fn take_news(&self) -> bool {
        self.news.take()
    }

    /// How it is doing by now.
    pub fn is(&self, health: &Health) {
        let mut condition = self.condition.borrow_mut();
        if condition.health.state() != health.state() {
            condition.since = Instant::now();
            self.news.set(true);
        }
        condition.health.clone_from(health);
    }

    /// Why the sink has refused a record.
    pub fn refused(&self, reason: &str) {
        let mut condition = self.condition.borrow_mut();
        if condition.rejection.as_deref() != Some(reason) {
            condition.rejection = Some(reason.to_owned());
        }
    }

    /// A record was lost or refused.
    pub(super) fn loses(&self) {
        self.condition.borrow_mut().last_loss = Some(Instant::now());
    }

    /// The sink has acknowledged records.
    pub(super) fn acknowledges(&self) {
        self.condition.borrow_mut().acknowledged = Some(Instant::now());
    }
}
