//! What pods have been given, and since when: kept in the objects that inject, for whoever counts pods or restarts owners later.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    injection::Specification,
    names,
    sidecar::{Fingerprint, Form, Revision, Sidecar},
};

/// How many agents are remembered. What is older is known by its lineage alone.
const AGENTS: usize = 16;

/// How many forms of one are, and how many at most where running pods have more.
const FORMS: (usize, usize) = (8, 16);

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
    /// The agents of running pods: what they have is not forgotten for what is newer.
    #[serde(skip)]
    in_use: BTreeSet<Fingerprint>,
}

#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
struct Given {
    revision: Revision,
    /// First as it is injected, then as others make it, what was seen last first: what rewrites the images of all pods rewrites
    /// its too.
    forms: Vec<Form>,
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

    /// Takes over which agents running pods have.
    pub fn follow(&mut self, in_use: &BTreeSet<Fingerprint>) {
        self.in_use.clone_from(in_use);
    }

    /// Takes note that pods of these namespaces get this agent; `former` is the one that they are to get again if it is refused,
    /// and `known` what is remembered in the cluster.
    pub fn note(
        &mut self,
        sidecar: &Sidecar,
        former: Option<&Sidecar>,
        namespaces: &BTreeSet<String>,
        known: &Self,
    ) {
        let specification = Specification::of(sidecar);
        let former = former.map(Specification::of);
        self.since
            .retain(|namespace, _| namespaces.contains(namespace));
        for namespace in namespaces {
            let since = self.since.entry(namespace.clone()).or_default();
            since.retain(|one, _| *one == specification || Some(one) == former.as_ref());
            let remembered = former
                .as_ref()
                .and_then(|former| known.since(namespace, former));
            if let Some((former, remembered)) = former.as_ref().zip(remembered) {
                let before = since.entry(former.clone()).or_default();
                *before = before.iter().copied().chain([remembered]).min();
            }
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
                forms: Vec::new(),
            },
        };
        given.begins_with(sidecar.form());
        self.agents.insert(0, given);
        self.learn_agents(known);
        for given in &mut self.agents {
            given.forget(&self.in_use);
        }
    }

    /// Takes note of what came back of trial pods that got the agent of this revision; whether any of it is new.
    pub fn saw(&mut self, revision: &Revision, forms: impl IntoIterator<Item = Form>) -> bool {
        let mut agents = self.agents.iter_mut();
        let Some(given) = agents.find(|one| one.revision == *revision) else {
            return false;
        };
        let mut is_new = false;
        for form in forms {
            is_new |= given.learn(form);
        }
        given.forget(&self.in_use);
        is_new
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
                Some(one) => one.join(given),
                None => self.agents.push(given.clone()),
            }
        }
        self.agents.truncate(AGENTS);
    }

    /// All forms of one agent.
    pub fn forms(&self, sidecar: &Sidecar) -> BTreeSet<Form> {
        let mut agents = self.agents.iter();
        let given = agents.find(|one| one.revision == sidecar.revision);
        let forms = given.into_iter().flat_map(|given| given.forms.clone());
        forms.chain([sidecar.form()]).collect()
    }

    /// The agents other than this one.
    pub fn former(&self, revision: &Revision) -> BTreeSet<Form> {
        let former = self.agents.iter().filter(|one| one.revision != *revision);
        former.flat_map(|one| one.forms.clone()).collect()
    }
}

impl Given {
    /// As it is injected, which stays first.
    fn begins_with(&mut self, injected: Form) {
        self.forms.retain(|form| *form != injected);
        self.forms.insert(0, injected);
    }

    /// What was seen last; whether it is new.
    fn learn(&mut self, form: Form) -> bool {
        if self.forms.iter().any(|known| known.is(&form)) {
            return false;
        }
        let behind_the_first = 1.min(self.forms.len());
        self.forms.insert(behind_the_first, form);
        true
    }

    /// What another object remembers of it.
    fn join(&mut self, other: &Self) {
        for form in &other.forms {
            if !self.forms.contains(form) {
                self.forms.push(form.clone());
            }
        }
    }

    /// Leaves out what was seen longest ago, first of all what no running pod has.
    fn forget(&mut self, in_use: &BTreeSet<Fingerprint>) {
        let is_unused = |form: &Form| !in_use.contains(form.fingerprint());
        while self.forms.len() > FORMS.0 {
            let unused = self.forms.iter().skip(1).rposition(is_unused);
            match unused {
                Some(position) => drop(self.forms.remove(position + 1)),
                None => break,
            }
        }
        self.forms.truncate(FORMS.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{form, installation};

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
        history.note(&first, None, &planes(), &History::default());
        assert_eq!((of(&history, &first), history.undated()), (None, planes()));
        let seen = written(&history, 10);
        assert_eq!(of(&seen, &first), Some(at(10)));
        history.note(&first, None, &planes(), &seen);
        assert_eq!(history.undated(), BTreeSet::new());
        // Another authority for the webhook, or another window for restarts.
        let seen = written(&history, 20);
        assert_eq!(of(&seen, &first), Some(at(10)));
        // An operator that starts anew knows no more than what is written.
        let mut anew = History::default();
        anew.note(&first, None, &planes(), &seen);
        assert_eq!(anew, history);
        // Another agent, and a namespace that was none of a plane meanwhile, begin anew.
        let second = sidecar("localhost/agent:v2");
        history.note(&second, None, &planes(), &seen);
        let seen = written(&history, 30);
        assert_eq!(
            (of(&seen, &second), of(&seen, &first)),
            (Some(at(30)), None)
        );
        history.note(
            &second,
            None,
            &["katonic-platform".to_owned()].into(),
            &seen,
        );
        let seen = written(&history, 40);
        assert_eq!(of(&seen, &second), None);
        history.note(&second, None, &planes(), &seen);
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
        by_policy.note(&agent, None, &planes(), &History::default());
        let by_policy = written(&by_policy, 10);
        let mut by_webhook = History::default();
        by_webhook.note(&agent, None, &planes(), &History::default());
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
        history.note(&first, None, &planes(), &History::default());
        history.note(&second, None, &planes(), &History::default());
        let known = history.former(&second.revision);
        assert_eq!(known, [first.form()].into());
        let written = [history.annotation().unwrap()].into();
        assert_eq!(History::read(&written, None), history);
        // Noted again, nothing changes.
        let before = history.clone();
        history.note(&second, None, &planes(), &before);
        assert_eq!(history, before);
        assert_eq!(History::read(&BTreeMap::new(), None), History::default());
    }

    /// A namespace refuses what the webhook was told to add, so it is told of the former agent again.
    #[test]
    fn a_change_that_was_refused_leaves_the_former_agent_the_time_it_had() {
        let (first, second) = (sidecar("localhost/agent:v1"), sidecar("localhost/agent:v2"));
        let of = |history: &History, sidecar| {
            history.since("katonic-compute", &Specification::of(sidecar))
        };
        let mut history = History::default();
        history.note(&first, None, &planes(), &History::default());
        let seen = written(&history, 10);
        history.note(&second, Some(&first), &planes(), &seen);
        let tried = written(&history, 20);
        assert_eq!(of(&tried, &second), Some(at(20)));
        history.note(&first, None, &planes(), &tried);
        let taken_back = written(&history, 30);
        assert_eq!(
            (of(&taken_back, &first), of(&taken_back, &second)),
            (Some(at(10)), None)
        );
        // An operator that takes over meanwhile knows it from what is written.
        for former in [None, Some(&first)] {
            let mut anew = History::default();
            let next = if former.is_some() { &second } else { &first };
            anew.note(next, former, &planes(), &tried);
            assert_eq!(of(&anew, &first), Some(at(10)));
        }
        // What has passed leaves nothing of what was before.
        history.note(&second, Some(&first), &planes(), &taken_back);
        history.note(&second, None, &planes(), &written(&history, 40));
        assert_eq!(of(&history, &first), None);
    }

    #[test]
    fn what_others_make_of_the_agent_in_every_pod_is_known_again_too() {
        let first = sidecar("localhost/agent:v1");
        let mirrored = sidecar("mirror.example.com/agent:v1").form();
        let mut history = History::default();
        history.note(&first, None, &planes(), &History::default());
        assert!(history.saw(&first.revision, [mirrored.clone()]));
        assert!(!history.saw(&first.revision, [mirrored.clone(), first.form()]));
        history.note(&first, None, &planes(), &History::default());
        let forms = BTreeSet::from([first.form(), mirrored.clone()]);
        assert_eq!(history.forms(&first), forms);
        let second = sidecar("localhost/agent:v2");
        let mut anew = History::default();
        anew.note(&second, None, &planes(), &written(&history, 10));
        assert_eq!(anew.former(&second.revision), forms);
        assert!(!history.saw(&second.revision, [mirrored]));
    }

    #[test]
    fn the_newest_forms_are_kept_and_those_that_running_pods_have() {
        let agent = sidecar("localhost/agent:v1");
        let numbered = |number: usize| form(&number.to_string());
        let mut history = History::default();
        history.note(&agent, None, &planes(), &History::default());
        let in_use = BTreeSet::from([numbered(0).fingerprint().clone()]);
        history.follow(&in_use);
        for number in 0..20 {
            history.saw(&agent.revision, [numbered(number)]);
        }
        let newest = (20 - (FORMS.0 - 2)..20).map(numbered);
        let kept: BTreeSet<Form> = newest.chain([numbered(0), agent.form()]).collect();
        assert_eq!(history.forms(&agent), kept);
        // What is still written of the others comes back no more.
        let mut before = history.clone();
        before.saw(&agent.revision, [numbered(3)]);
        history.note(&agent, None, &planes(), &before);
        assert_eq!(history.forms(&agent), kept);
        // However many are in use, there is an end.
        let many = (0..100).map(numbered);
        history.follow(&many.clone().map(|one| one.fingerprint().clone()).collect());
        history.saw(&agent.revision, many);
        assert_eq!(history.forms(&agent).len(), FORMS.1);
        assert!(history.forms(&agent).contains(&agent.form()));
    }

    #[test]
    fn what_one_object_remembers_the_other_takes_over_and_the_oldest_are_forgotten() {
        let mut by_policy = History::default();
        by_policy.note(
            &sidecar("localhost/agent:v1"),
            None,
            &planes(),
            &History::default(),
        );
        let mut by_webhook = History::default();
        let second = sidecar("localhost/agent:v2");
        by_webhook.note(&second, None, &planes(), &by_policy);
        let first = sidecar("localhost/agent:v1").form();
        assert_eq!(by_webhook.former(&second.revision), [first.clone()].into());
        for number in 0..AGENTS {
            let next = sidecar(&format!("localhost/agent:next-{number}"));
            by_webhook.note(&next, None, &planes(), &by_policy);
        }
        assert_eq!(by_webhook.agents.len(), AGENTS);
        let none = sidecar("localhost/none:v1").revision;
        assert!(!by_webhook.former(&none).contains(&first));
    }
}
