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

/// How many forms of one are.
const FORMS: usize = 8;

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
    /// As it is injected, and as others then make it: what rewrites the images of all pods rewrites its too.
    forms: BTreeSet<Fingerprint>,
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
        let is_it = |one: &Given| one.revision == sidecar.revision;
        let mut given = match self.agents.iter().position(is_it) {
            Some(position) => self.agents.remove(position),
            None => Given {
                revision: sidecar.revision.clone(),
                forms: BTreeSet::new(),
            },
        };
        given.forms.insert(sidecar.fingerprint());
        self.agents.insert(0, given);
        self.learn_agents(known);
    }

    /// Takes note of what came back of trial pods that got the agent of this revision.
    pub fn saw(&mut self, revision: &Revision, forms: impl IntoIterator<Item = Fingerprint>) {
        let mut agents = self.agents.iter_mut();
        if let Some(given) = agents.find(|one| one.revision == *revision) {
            given.learn(forms);
        }
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

    /// The namespaces of which it is not known since when: the object has not been read back yet.
    pub fn undated(&self) -> BTreeSet<String> {
        let is_undated = |since: &BTreeMap<Specification, Option<Timestamp>>| {
            since.values().any(Option::is_none)
        };
        let undated = self.since.iter().filter(|(_, since)| is_undated(since));
        undated.map(|(namespace, _)| namespace.clone()).collect()
    }

    fn learn_agents(&mut self, known: &Self) {
        for given in &known.agents {
            let mut agents = self.agents.iter_mut();
            match agents.find(|one| one.revision == given.revision) {
                Some(one) => one.learn(given.forms.clone()),
                None => self.agents.push(given.clone()),
            }
        }
        self.agents.truncate(AGENTS);
    }

    /// All forms of one agent.
    pub fn forms(&self, sidecar: &Sidecar) -> BTreeSet<Fingerprint> {
        let mut agents = self.agents.iter();
        let given = agents.find(|one| one.revision == sidecar.revision);
        let mut forms = given.map_or_else(BTreeSet::new, |given| given.forms.clone());
        forms.insert(sidecar.fingerprint());
        forms
    }

    /// The agents other than this one.
    pub fn former(&self, revision: &Revision) -> BTreeSet<Fingerprint> {
        let former = self.agents.iter().filter(|one| one.revision != *revision);
        former.flat_map(|one| one.forms.clone()).collect()
    }
}

impl Given {
    fn learn(&mut self, forms: impl IntoIterator<Item = Fingerprint>) {
        for form in forms {
            if self.forms.len() < FORMS {
                self.forms.insert(form);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{fingerprint, installation};

    fn sidecar(image: &str) -> Sidecar {
        let mut agent = installation().agent;
        agent.image = image.to_owned();
        Sidecar::new(&agent).unwrap()
    }

    fn planes() -> BTreeSet<String> {
        ["katonic-compute".to_owned(), "katonic-platform".to_owned()].into()
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    /// Writes the annotation at this time, and reads it back.
    fn written(history: &History, seconds: i64) -> History {
        History::read(&[history.annotation().unwrap()].into(), Some(at(seconds)))
    }

    #[test]
    fn the_time_is_that_of_what_is_done_to_pods_and_not_of_the_last_write() {
        let first = sidecar("localhost/agent:v1");
        let of = |history: &History, sidecar| {
            history.since("katonic-compute", &Specification::of(sidecar))
        };
        let mut history = History::default();
        history.note(&first, &planes(), &History::default());
        assert_eq!((of(&history, &first), history.undated()), (None, planes()));
        let seen = written(&history, 10);
        assert_eq!(of(&seen, &first), Some(at(10)));
        history.note(&first, &planes(), &seen);
        assert_eq!(history.undated(), BTreeSet::new());
        // Another authority for the webhook, or another window for restarts.
        let seen = written(&history, 20);
        assert_eq!(of(&seen, &first), Some(at(10)));
        // An operator that starts anew knows no more than what is written.
        let mut anew = History::default();
        anew.note(&first, &planes(), &seen);
        assert_eq!(anew, history);
        // Another agent, and a namespace that was none of a plane meanwhile, begin anew.
        let second = sidecar("localhost/agent:v2");
        history.note(&second, &planes(), &seen);
        let seen = written(&history, 30);
        assert_eq!(
            (of(&seen, &second), of(&seen, &first)),
            (Some(at(30)), None)
        );
        history.note(&second, &["katonic-platform".to_owned()].into(), &seen);
        let seen = written(&history, 40);
        assert_eq!(of(&seen, &second), None);
        history.note(&second, &planes(), &seen);
        let seen = written(&history, 50);
        assert_eq!(of(&seen, &second), Some(at(50)));
        let platform = Specification::of(&second);
        assert_eq!(seen.since("katonic-platform", &platform), Some(at(30)));
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
        for both in [
            by_policy.clone().and(&by_webhook),
            by_webhook.and(&by_policy),
        ] {
            assert_eq!(both.since("katonic-compute", &specification), Some(at(10)));
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
    fn what_others_make_of_the_agent_in_every_pod_is_known_again_too() {
        let first = sidecar("localhost/agent:v1");
        let mirrored = sidecar("mirror.example.com/agent:v1").fingerprint();
        let mut history = History::default();
        history.note(&first, &planes(), &History::default());
        history.saw(&first.revision, [mirrored.clone()]);
        history.note(&first, &planes(), &History::default());
        let forms = BTreeSet::from([first.fingerprint(), mirrored.clone()]);
        assert_eq!(history.forms(&first), forms);
        let second = sidecar("localhost/agent:v2");
        let mut anew = History::default();
        anew.note(&second, &planes(), &written(&history, 10));
        assert_eq!(anew.former(&second.revision), forms);
        // What changes with every pod is nobody's rule.
        let many = (0..20).map(|number| fingerprint(&number.to_string()));
        history.saw(&first.revision, many);
        assert_eq!(history.forms(&first).len(), FORMS);
        assert!(history.forms(&first).contains(&first.fingerprint()));
    }

    #[test]
    fn what_one_object_remembers_the_other_takes_over_and_the_oldest_are_forgotten() {
        let mut by_policy = History::default();
        by_policy.note(
            &sidecar("localhost/agent:v1"),
            &planes(),
            &History::default(),
        );
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
