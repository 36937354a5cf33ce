//! Which agents pods have been given: kept in the objects that inject them, so that whoever counts pods later knows them again.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{
    names,
    sidecar::{Fingerprint, Revision, Sidecar},
};

/// How many agents are remembered. What is older has no name but that it is not ours.
const AGENTS: usize = 16;

/// The agents that pods have been given.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct History {
    /// The last one first.
    #[serde(default)]
    agents: Vec<Given>,
}

#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
struct Given {
    revision: Revision,
    fingerprint: Fingerprint,
}

impl History {
    /// What the annotations of an object that injects remember; nothing where that cannot be read.
    pub fn read(annotations: &BTreeMap<String, String>) -> Self {
        let written = annotations.get(names::HISTORY_ANNOTATION);
        let read = written.and_then(|written| serde_json::from_str(written).ok());
        read.unwrap_or_default()
    }

    /// As an annotation.
    ///
    /// # Errors
    /// When it cannot be serialised, which no input is known to cause.
    pub(crate) fn annotation(&self) -> Result<(String, String), serde_json::Error> {
        let key = names::HISTORY_ANNOTATION.to_owned();
        Ok((key, serde_json::to_string(self)?))
    }

    /// Takes note that pods get this agent. `known` is what other objects remember.
    pub fn note(&mut self, sidecar: &Sidecar, known: &Self) {
        self.agents.retain(|one| one.revision != sidecar.revision);
        let given = Given {
            revision: sidecar.revision.clone(),
            fingerprint: sidecar.fingerprint(),
        };
        self.agents.insert(0, given);
        self.learn(known);
    }

    /// Takes over what others remember.
    pub fn learn(&mut self, known: &Self) {
        for given in &known.agents {
            if !self.agents.iter().any(|one| one.revision == given.revision) {
                self.agents.push(given.clone());
            }
        }
        self.agents.truncate(AGENTS);
    }

    /// The agents other than this one.
    pub fn former(&self, revision: &Revision) -> BTreeSet<Fingerprint> {
        let former = self.agents.iter().filter(|one| one.revision != *revision);
        former.map(|one| one.fingerprint.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::installation;

    fn sidecar(image: &str) -> Sidecar {
        let mut agent = installation().agent;
        agent.image = image.to_owned();
        Sidecar::new(&agent).unwrap()
    }

    #[test]
    fn every_agent_that_was_given_is_known_again() {
        let (first, second) = (sidecar("localhost/agent:v1"), sidecar("localhost/agent:v2"));
        let mut history = History::default();
        history.note(&first, &History::default());
        history.note(&second, &History::default());
        let known = history.former(&second.revision);
        assert_eq!(known, [first.fingerprint()].into());
        let written = [history.annotation().unwrap()].into();
        assert_eq!(History::read(&written), history);
        // Noted again, nothing changes.
        let before = history.clone();
        history.note(&second, &before);
        assert_eq!(history, before);
        assert_eq!(History::read(&BTreeMap::new()), History::default());
    }

    #[test]
    fn what_one_object_remembers_the_other_takes_over_and_the_oldest_are_forgotten() {
        let mut by_policy = History::default();
        by_policy.note(&sidecar("localhost/agent:v1"), &History::default());
        let mut by_webhook = History::default();
        let second = sidecar("localhost/agent:v2");
        by_webhook.note(&second, &by_policy);
        let first = sidecar("localhost/agent:v1").fingerprint();
        assert_eq!(by_webhook.former(&second.revision), [first.clone()].into());
        for number in 0..AGENTS {
            let next = sidecar(&format!("localhost/agent:next-{number}"));
            by_webhook.note(&next, &by_policy);
        }
        assert_eq!(by_webhook.agents.len(), AGENTS);
        let none = sidecar("localhost/none:v1").revision;
        assert!(!by_webhook.former(&none).contains(&first));
    }
}
