//! What pods have been given, and since when: kept in the objects that inject, for whoever counts pods or restarts owners later.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    injection::Specification,
    names,
    sidecar::{Fingerprint, Revision, Sidecar},
};

/// How many agents are remembered. What is older has no name but that it is not ours.
const AGENTS: usize = 16;

/// The agents that pods have been given, and since when the last one.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct History {
    /// The last one first.
    #[serde(default)]
    agents: Vec<Given>,
    /// What is done to pods of each namespace, with the time since when. That is the API server's, as that of a restart is: it is
    /// missing until the object has been read back.
    #[serde(default)]
    since: BTreeMap<String, BTreeMap<Specification, Option<Timestamp>>>,
}

#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
struct Given {
    revision: Revision,
    fingerprint: Fingerprint,
}

impl History {
    /// What the annotations of an object that injects remember; nothing where that cannot be read. `changed` says when the
    /// operator has written it last.
    pub fn read(annotations: &BTreeMap<String, String>, changed: Option<Timestamp>) -> Self {
        let written = annotations.get(names::HISTORY_ANNOTATION);
        let read = written.and_then(|written| serde_json::from_str(written).ok());
        let mut read: Self = read.unwrap_or_default();
        for since in read.since.values_mut().flat_map(BTreeMap::values_mut) {
            *since = since.or(changed);
        }
        read
    }

    /// As an annotation.
    ///
    /// # Errors
    /// When it cannot be serialised, which no input is known to cause.
    pub(crate) fn annotation(&self) -> Result<(String, String), serde_json::Error> {
        let key = names::HISTORY_ANNOTATION.to_owned();
        Ok((key, serde_json::to_string(self)?))
    }

    /// Takes note that pods of these namespaces get this agent. `known` is what is remembered in the cluster.
    pub fn note(&mut self, sidecar: &Sidecar, namespaces: &BTreeSet<String>, known: &Self) {
        let specification = Specification::of(sidecar);
        self.since
            .retain(|namespace, _| namespaces.contains(namespace));
        for namespace in namespaces {
            let since = self.since.entry(namespace.clone()).or_default();
            since.retain(|one, _| *one == specification);
            let known = known.since(namespace, &specification);
            let since = since.entry(specification.clone()).or_default();
            // Another object may have injected the same before.
            *since = since.iter().copied().chain(known).min();
        }
        self.agents.retain(|one| one.revision != sidecar.revision);
        let given = Given {
            revision: sidecar.revision.clone(),
            fingerprint: sidecar.fingerprint(),
        };
        self.agents.insert(0, given);
        self.learn_agents(known);
    }

    /// With all that another object remembers.
    #[must_use]
    pub fn and(mut self, other: &Self) -> Self {
        self.learn_agents(other);
        for (namespace, specifications) in &other.since {
            let all = self.since.entry(namespace.clone()).or_default();
            for (specification, since) in specifications {
                let before = all.get(specification).copied().flatten();
                let since = before.into_iter().chain(*since).min();
                all.insert(specification.clone(), since);
            }
        }
        self
    }

    /// Since when pods of a namespace get what is specified; none while nobody knows.
    pub fn since(&self, namespace: &str, specification: &Specification) -> Option<Timestamp> {
        *self.since.get(namespace)?.get(specification)?
    }

    fn learn_agents(&mut self, known: &Self) {
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

    fn planes() -> BTreeSet<String> {
        ["katonic-compute".to_owned(), "katonic-platform".to_owned()].into()
    }

    fn at(seconds: i64) -> Option<Timestamp> {
        Some(Timestamp::from_second(seconds).unwrap())
    }

    /// Writes the annotation at this time, and reads it back.
    fn written(history: &History, seconds: i64) -> History {
        History::read(&[history.annotation().unwrap()].into(), at(seconds))
    }

    #[test]
    fn the_time_is_that_of_what_is_done_to_pods_and_not_of_the_last_write() {
        let first = sidecar("localhost/agent:v1");
        let of = |history: &History, sidecar| {
            history.since("katonic-compute", &Specification::of(sidecar))
        };
        let mut history = History::default();
        history.note(&first, &planes(), &History::default());
        assert_eq!(of(&history, &first), None);
        let seen = written(&history, 10);
        assert_eq!(of(&seen, &first), at(10));
        history.note(&first, &planes(), &seen);
        // Another authority for the webhook, or another window for restarts.
        let seen = written(&history, 20);
        assert_eq!(of(&seen, &first), at(10));
        // An operator that starts anew knows no more than what is written.
        let mut anew = History::default();
        anew.note(&first, &planes(), &seen);
        assert_eq!(anew, history);
        // Another agent, and a namespace that was none of a plane meanwhile, begin anew.
        let second = sidecar("localhost/agent:v2");
        history.note(&second, &planes(), &seen);
        let seen = written(&history, 30);
        assert_eq!((of(&seen, &second), of(&seen, &first)), (at(30), None));
        history.note(&second, &["katonic-platform".to_owned()].into(), &seen);
        let seen = written(&history, 40);
        assert_eq!(of(&seen, &second), None);
        history.note(&second, &planes(), &seen);
        let seen = written(&history, 50);
        assert_eq!(of(&seen, &second), at(50));
        let platform = Specification::of(&second);
        assert_eq!(seen.since("katonic-platform", &platform), at(30));
    }

    #[test]
    fn where_two_objects_inject_the_same_the_first_one_counts() {
        let agent = sidecar("localhost/agent:v1");
        let specification = Specification::of(&agent);
        let mut by_policy = History::default();
        by_policy.note(&agent, &planes(), &History::default());
        let by_policy = written(&by_policy, 10);
        let mut by_webhook = History::default();
        by_webhook.note(&agent, &planes(), &History::default());
        let by_webhook = written(&by_webhook, 20);
        for both in [by_policy.clone().and(&by_webhook), by_webhook.and(&by_policy)] {
            assert_eq!(both.since("katonic-compute", &specification), at(10));
        }
    }

    #[test]
    fn every_agent_that_was_given_is_known_again() {
        let (first, second) = (sidecar("localhost/agent:v1"), sidecar("localhost/agent:v2"));
        let mut history = History::default();
        history.note(&first, &planes(), &History::default());
        history.note(&second, &planes(), &History::default());
        let known = history.former(&second.revision);
        assert_eq!(known, [first.fingerprint()].into());
        let written = [history.annotation().unwrap()].into();
        assert_eq!(History::read(&written, None), history);
        // Noted again, nothing changes.
        let before = history.clone();
        history.note(&second, &planes(), &before);
        assert_eq!(history, before);
        assert_eq!(History::read(&BTreeMap::new(), None), History::default());
    }

    #[test]
    fn what_one_object_remembers_the_other_takes_over_and_the_oldest_are_forgotten() {
        let mut by_policy = History::default();
        by_policy.note(&sidecar("localhost/agent:v1"), &planes(), &History::default());
        let mut by_webhook = History::default();
        let second = sidecar("localhost/agent:v2");
        by_webhook.note(&second, &planes(), &by_policy);
        let first = sidecar("localhost/agent:v1").fingerprint();
        assert_eq!(by_webhook.former(&second.revision), [first.clone()].into());
        for number in 0..AGENTS {
            let next = sidecar(&format!("localhost/agent:next-{number}"));
            by_webhook.note(&next, &planes(), &by_policy);
        }
        assert_eq!(by_webhook.agents.len(), AGENTS);
        let none = sidecar("localhost/none:v1").revision;
        assert!(!by_webhook.former(&none).contains(&first));
    }
}
