//! What a policy says of a change of injection that is not in force.

use std::collections::BTreeSet;

use crate::{
    condition::{Answer, Reason, Type},
    names,
    trial::{Refusal, Wait},
};

/// A change of injection that is not in force.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Change {
    /// Whether an agent of before is injected meanwhile.
    pub former: bool,
    /// The namespaces that it is a change for.
    pub namespaces: BTreeSet<String>,
    /// What there is to it.
    pub state: ChangeState,
}

/// How far a change of injection has come.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ChangeState {
    /// It is tried.
    Tried(Wait),
    /// Pods with it are refused.
    Refused(Refusal),
}

/// The answer to whether pods get the agent, while a change of it is not in force.
pub(super) fn changing(change: &Change) -> Answer {
    match &change.state {
        ChangeState::Refused(Refusal { namespace, message }) => {
            let (what, consequence) = if change.former {
                let consequence = "pods go on getting the former one".to_owned();
                ("the changed log agent", consequence)
            } else {
                ("the log agent", without(change))
            };
            Answer::no(
                Type::Injected,
                Reason::InjectionRefused,
                format!(
                    "namespace {namespace} refuses pods with {what}, so {consequence}: {message}; change `logging.agent` in ConfigMap {}, or what refuses it",
                    names::INSTALLATION
                ),
            )
        }
        ChangeState::Tried(wait) => {
            let consequence = if change.former {
                "a change of the log agent is tried with dry runs of pods; until it has passed, pods get the former one".to_owned()
            } else {
                format!(
                    "the log agent is tried with dry runs of pods; until it has passed, {}",
                    without(change)
                )
            };
            let cause = match wait {
                Wait::TakenUp => String::new(),
                Wait::Answer(Refusal { namespace, message }) => {
                    format!("; no answer from namespace {namespace}: {message}")
                }
            };
            Answer::unknown(
                Type::Injected,
                Reason::InjectionPending,
                format!("{consequence}{cause}"),
            )
        }
    }
}

fn without(change: &Change) -> String {
    let namespaces: Vec<&str> = change.namespaces.iter().map(String::as_str).collect();
    format!("no pod of {} gets it", namespaces.join(" and "))
}
