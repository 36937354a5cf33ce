//! Counts that follow changes of pods and policies, so that no pass asks every policy about every pod.
//!
//! Pods that no policy can tell apart form a class: they have the same containers, and the same labels as far as any policy
//! asks for them. A policy is asked about each class once, a pod changes the counts of the policies that take its class, and
//! what has not changed costs a comparison of pointers.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use k8s_openapi::jiff::Timestamp;
use katonic_log_config::{Operator, Policy, policy::COMPONENT_LABELS};
use katonic_logging_crds::Plane;

use super::{Counts, Coverage, Expected, Mend, Parent, Pod, State, Trouble, Troubled, takes};
use crate::{Installation, bundle::selection, candidate::Candidate};

/// Stands for every value of a label that no policy asks for. No label can have it, so no policy takes it for another one.
const OTHER: &str = "\0";

/// The pods of one plane and the policies that reach it.
#[derive(Debug)]
pub struct Index {
    plane: Plane,
    installation: Option<Installation>,
    expected: Expected,
    now: Timestamp,
    /// Labels that make a difference to any policy, with the values that do. They only become more: a policy that goes is no
    /// reason to sort anew.
    labels: BTreeMap<String, BTreeSet<String>>,
    policies: BTreeMap<String, usize>,
    slots: Vec<Slot>,
    free_slots: Vec<usize>,
    ids: HashMap<Arc<Key>, usize>,
    classes: Vec<Class>,
    free_classes: Vec<usize>,
    pods: BTreeMap<String, Placed>,
}

#[derive(Debug)]
struct Slot {
    uid: Arc<str>,
    generation: i64,
    policy: Option<Policy>,
    counts: Counts,
}

#[derive(Debug, Eq, Hash, PartialEq)]
struct Key {
    labels: BTreeMap<String, String>,
    containers: Vec<String>,
}

#[derive(Debug)]
struct Class {
    key: Arc<Key>,
    /// The slots whose policies take it.
    taken_by: Bits,
    pods: usize,
    counts: Counts,
    mend: Mend,
}

#[derive(Debug)]
struct Placed {
    pod: Arc<Pod>,
    class: usize,
    state: Option<State>,
}

impl Index {
    /// An index without pods and policies.
    pub fn new(plane: Plane) -> Self {
        Self {
            plane,
            installation: None,
            expected: Expected::default(),
            now: Timestamp::MIN,
            labels: BTreeMap::new(),
            policies: BTreeMap::new(),
            slots: Vec::new(),
            free_slots: Vec::new(),
            ids: HashMap::new(),
            classes: Vec::new(),
            free_classes: Vec::new(),
            pods: BTreeMap::new(),
        }
    }

    /// Takes over what the pods are compared with.
    pub fn follow_expected(&mut self, expected: &Expected) {
        if self.expected != *expected {
            let pods = self.take_pods();
            self.expected = expected.clone();
            self.place_all(pods);
        }
    }

    /// Takes over the policies. One whose UID and generation are known is not looked at again.
    pub fn follow_policies<'a>(
        &mut self,
        candidates: impl IntoIterator<Item = &'a Candidate>,
        installation: &Installation,
    ) {
        if self.installation.as_ref() != Some(installation) {
            self.installation = Some(installation.clone());
            for uid in std::mem::take(&mut self.policies).into_values() {
                self.forget(uid);
            }
        }
        let mut before = std::mem::take(&mut self.policies);
        let mut added = Vec::new();
        for candidate in candidates {
            let Ok(policy) = &candidate.policy else {
                continue;
            };
            if policy.suspend || !policy.planes.contains(&self.plane) {
                continue;
            }
            match before.remove(&candidate.uid) {
                Some(slot) if self.slots[slot].generation == candidate.generation => {
                    self.policies.insert(candidate.uid.clone(), slot);
                    continue;
                }
                Some(slot) => self.forget(slot),
                None => {}
            }
            let mut selection = selection(policy, candidate, installation, self.plane);
            // What is done to the records plays no part here.
            selection.filters = Vec::new();
            added.push((candidate, selection));
        }
        for slot in before.into_values() {
            self.forget(slot);
        }
        let mut is_sorted = true;
        for (_, selection) in &added {
            is_sorted &= !self.learn(selection);
        }
        if !is_sorted {
            let pods = self.take_pods();
            self.place_all(pods);
        }
        for (candidate, selection) in added {
            let slot = self.admit(candidate, selection);
            self.policies.insert(candidate.uid.clone(), slot);
        }
    }

    /// Takes over the pods.
    pub fn follow_pods(&mut self, pods: &BTreeMap<String, Arc<Pod>>) {
        let mut gone = Vec::new();
        let mut come = Vec::new();
        let mut known = self.pods.iter().peekable();
        let mut present = pods.iter().peekable();
        loop {
            match (known.peek(), present.peek()) {
                (None, None) => break,
                (Some((name, _)), Some((present_name, _))) if name == present_name => {
                    if let (Some((name, placed)), Some((_, pod))) = (known.next(), present.next())
                        && !Arc::ptr_eq(&placed.pod, pod)
                    {
                        gone.push(name.clone());
                        come.push((name.clone(), pod.clone()));
                    }
                }
                (Some((name, _)), other)
                    if other.is_none_or(|(present_name, _)| name < present_name) =>
                {
                    gone.extend(known.next().map(|(name, _)| name.clone()));
                }
                _ => come.extend(
                    present
                        .next()
                        .map(|(name, pod)| (name.clone(), pod.clone())),
                ),
            }
        }
        for name in gone {
            if let Some(placed) = self.pods.remove(&name) {
                self.displace(&placed);
            }
        }
        self.place_all(come);
    }

    /// Takes over the time, after all else; when it will next make a difference to a pod.
    pub fn follow_time(&mut self, now: Timestamp) -> Option<Timestamp> {
        self.now = now;
        let mut mended = Vec::new();
        let mut next = None;
        let failing = self
            .pods
            .iter()
            .filter(|(_, placed)| placed.state == Some(State::AgentFailing));
        for (name, placed) in failing {
            match placed.pod.trouble.as_ref().and_then(Trouble::until) {
                Some(until) if until <= now => mended.push((name.clone(), placed.pod.clone())),
                until => next = next.into_iter().chain(until).min(),
            }
        }
        for (name, _) in &mended {
            if let Some(placed) = self.pods.remove(name) {
                self.displace(&placed);
            }
        }
        self.place_all(mended);
        next
    }

    /// How many pods of a policy are in each state; `None` when the policy does not reach the plane.
    pub fn counts(&self, uid: &str) -> Option<Counts> {
        Some(self.slots[*self.policies.get(uid)?].counts)
    }

    /// The pods of a policy; `None` when the policy does not reach the plane.
    pub fn coverage(&self, uid: &str) -> Option<Coverage> {
        let slot = *self.policies.get(uid)?;
        let counts = self.slots[slot].counts;
        let mut mend = Mend::default();
        let mendable = |state: State| state.is_mended_by_restart() && counts.of(state) > 0;
        if State::ALL.into_iter().any(mendable) {
            let taken = self.classes.iter().filter(|class| class.taken_by.has(slot));
            for class in taken {
                mend.extend(&class.mend);
            }
        }
        let troubled = [State::AgentImageUnavailable, State::AgentFailing]
            .into_iter()
            .filter(|state| counts.of(*state) > 0)
            .filter_map(|state| self.troubled(slot, state));
        Some(Coverage {
            counts,
            mend,
            troubled: troubled.collect(),
        })
    }

    /// The pods whose agent runs, by name, each with the UIDs of the policies that take it.
    pub fn agents(&self) -> impl Iterator<Item = (&str, &Pod, impl Iterator<Item = &Arc<str>>)> {
        let runs = |placed: &&Placed| {
            placed.state.is_some_and(State::is_injected) && placed.pod.running.is_some()
        };
        let placed = self.pods.iter().filter(move |(_, placed)| runs(placed));
        placed.map(|(name, placed)| {
            let slots = self.classes[placed.class].taken_by.iter();
            let uids = slots.map(|slot| &self.slots[slot].uid);
            (name.as_str(), &*placed.pod, uids)
        })
    }

    /// A pod, by name.
    pub fn pod(&self, name: &str) -> Option<&Arc<Pod>> {
        self.pods.get(name).map(|placed| &placed.pod)
    }

    /// The UID of a policy, if that takes a pod, whether the pod is still there or not.
    pub fn taker(&self, uid: &str, pod: &Pod) -> Option<Arc<str>> {
        let slot = &self.slots[*self.policies.get(uid)?];
        let policy = slot.policy.as_ref()?;
        takes(policy, &pod.labels, &pod.containers).then(|| slot.uid.clone())
    }

    /// The UIDs of all pods.
    pub fn uids(&self) -> impl Iterator<Item = &str> {
        self.pods.values().map(|placed| placed.pod.uid.as_str())
    }

    /// The first pod of a policy that is in this state.
    fn troubled(&self, slot: usize, state: State) -> Option<Troubled> {
        let (name, placed) = self.pods.iter().find(|(_, placed)| {
            placed.state == Some(state) && self.classes[placed.class].taken_by.has(slot)
        })?;
        Some(Troubled {
            pod: name.clone(),
            trouble: placed.pod.trouble.clone()?,
        })
    }

    /// The parents of the pods that a restart mends and that any policy takes.
    pub fn parents(&self) -> BTreeSet<Parent> {
        let taken = self
            .classes
            .iter()
            .filter(|class| !class.taken_by.is_empty());
        taken
            .flat_map(|class| class.mend.parents.keys().cloned())
            .collect()
    }

    /// How many classes there are.
    pub fn classes(&self) -> usize {
        self.ids.len()
    }

    /// Learns which labels and values make a difference to a policy; whether any is new.
    fn learn(&mut self, policy: &Policy) -> bool {
        let selector = &policy.selector;
        let mut asked: Vec<(&str, Vec<&String>)> = Vec::new();
        for (key, value) in &selector.match_labels {
            asked.push((key, vec![value]));
        }
        for expression in &selector.match_expressions {
            let values = match &expression.operator {
                Operator::In(values) | Operator::NotIn(values) => values.iter().collect(),
                Operator::Exists | Operator::DoesNotExist => Vec::new(),
            };
            asked.push((&expression.key, values));
        }
        if !policy.components.is_empty() {
            let components = || policy.components.iter().collect();
            asked.extend(COMPONENT_LABELS.map(|key| (key, components())));
        }
        let mut is_new = false;
        for (key, values) in asked {
            if !self.labels.contains_key(key) {
                self.labels.insert(key.to_owned(), BTreeSet::new());
                is_new = true;
            }
            let known = self.labels.entry(key.to_owned()).or_default();
            for value in values {
                is_new |= known.insert(value.clone());
            }
        }
        is_new
    }

    fn forget(&mut self, slot: usize) {
        for class in &mut self.classes {
            class.taken_by.set(slot, false);
        }
        self.slots[slot].policy = None;
        self.slots[slot].counts = Counts::default();
        self.free_slots.push(slot);
    }

    fn admit(&mut self, candidate: &Candidate, policy: Policy) -> usize {
        let slot = self.free_slots.pop().unwrap_or(self.slots.len());
        let mut counts = Counts::default();
        for class in &mut self.classes {
            if class.pods > 0 && takes(&policy, &class.key.labels, &class.key.containers) {
                class.taken_by.set(slot, true);
                for state in State::ALL {
                    counts.add(state, class.counts.of(state));
                }
            }
        }
        let admitted = Slot {
            uid: candidate.uid.as_str().into(),
            generation: candidate.generation,
            policy: Some(policy),
            counts,
        };
        if slot == self.slots.len() {
            self.slots.push(admitted);
        } else {
            self.slots[slot] = admitted;
        }
        slot
    }

    fn take_pods(&mut self) -> Vec<(String, Arc<Pod>)> {
        let placed = std::mem::take(&mut self.pods);
        self.ids.clear();
        self.classes.clear();
        self.free_classes.clear();
        for slot in &mut self.slots {
            slot.counts = Counts::default();
        }
        let placed = placed.into_iter();
        placed.map(|(name, placed)| (name, placed.pod)).collect()
    }

    fn place_all(&mut self, pods: Vec<(String, Arc<Pod>)>) {
        for (name, pod) in pods {
            let placed = self.place(pod);
            self.pods.insert(name, placed);
        }
    }

    fn place(&mut self, pod: Arc<Pod>) -> Placed {
        let state = pod.state(&self.expected, self.now);
        let id = self.class_of(&pod);
        let class = &mut self.classes[id];
        class.pods += 1;
        if let Some(state) = state {
            class.counts.add(state, 1);
            if state.is_mended_by_restart() {
                class.mend.add(&pod.parent, 1);
            }
            for slot in class.taken_by.iter() {
                self.slots[slot].counts.add(state, 1);
            }
        }
        Placed {
            pod,
            class: id,
            state,
        }
    }

    fn displace(&mut self, placed: &Placed) {
        let class = &mut self.classes[placed.class];
        class.pods -= 1;
        if let Some(state) = placed.state {
            class.counts.subtract(state, 1);
            if state.is_mended_by_restart() {
                class.mend.subtract(&placed.pod.parent);
            }
            for slot in class.taken_by.iter() {
                self.slots[slot].counts.subtract(state, 1);
            }
        }
        if class.pods == 0 {
            self.ids.remove(&class.key);
            class.taken_by = Bits::default();
            self.free_classes.push(placed.class);
        }
    }

    fn class_of(&mut self, pod: &Pod) -> usize {
        let mut labels = BTreeMap::new();
        for (key, values) in &self.labels {
            if let Some(value) = pod.labels.get(key) {
                let told_apart = values.get(value).map_or(OTHER, String::as_str);
                labels.insert(key.clone(), told_apart.to_owned());
            }
        }
        let key = Key {
            labels,
            containers: pod.containers.clone(),
        };
        if let Some(id) = self.ids.get(&key) {
            return *id;
        }
        let mut taken_by = Bits::default();
        for (number, slot) in self.slots.iter().enumerate() {
            let policy = slot.policy.as_ref();
            if policy.is_some_and(|policy| takes(policy, &key.labels, &key.containers)) {
                taken_by.set(number, true);
            }
        }
        let key = Arc::new(key);
        let class = Class {
            key: key.clone(),
            taken_by,
            pods: 0,
            counts: Counts::default(),
            mend: Mend::default(),
        };
        let id = self.free_classes.pop().unwrap_or(self.classes.len());
        if id == self.classes.len() {
            self.classes.push(class);
        } else {
            self.classes[id] = class;
        }
        self.ids.insert(key, id);
        id
    }
}

/// A set of small numbers: two thousand policies are 250 bytes.
#[derive(Clone, Debug, Default)]
struct Bits(Vec<u64>);

impl Bits {
    fn has(&self, number: usize) -> bool {
        self.0
            .get(number / 64)
            .is_some_and(|word| word & (1 << (number % 64)) != 0)
    }

    fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    fn set(&mut self, number: usize, is_in: bool) {
        let (word, bit) = (number / 64, 1 << (number % 64));
        if is_in {
            if self.0.len() <= word {
                self.0.resize(word + 1, 0);
            }
            self.0[word] |= bit;
        } else if let Some(word) = self.0.get_mut(word) {
            *word &= !bit;
        }
    }

    fn iter(&self) -> impl Iterator<Item = usize> {
        self.0.iter().enumerate().flat_map(|(number, word)| {
            let mut rest = *word;
            std::iter::from_fn(move || {
                let bit = usize::try_from(rest.trailing_zeros()).ok()?;
                (rest != 0).then(|| {
                    rest &= rest - 1;
                    number * 64 + bit
                })
            })
        })
    }
}
