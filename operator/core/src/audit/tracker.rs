//! The event tracker's configuration: a ConfigMap of the platform's in which two keys are ours.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{
    api::core::v1::ConfigMap,
    apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta},
};
use serde::{Deserialize, Serialize};

use super::{Candidate, EventName, Vocabulary, event::joined};
use crate::names;

/// The name of the event tracker's ConfigMap, in the platform's namespace.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct TrackerName(String);

/// A text that is not the name of a ConfigMap.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{0}` is not the name of a ConfigMap: write for example event-tracker")]
pub struct InvalidTrackerName(String);

impl TryFrom<String> for TrackerName {
    type Error = InvalidTrackerName;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        if names::is_subdomain(&name) {
            Ok(Self(name))
        } else {
            Err(InvalidTrackerName(name))
        }
    }
}

impl From<TrackerName> for String {
    fn from(name: TrackerName) -> Self {
        name.0
    }
}

impl TrackerName {
    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for TrackerName {
    fn default() -> Self {
        Self(names::EVENT_TRACKER.to_owned())
    }
}

/// What the event tracker's ConfigMap says, as far as it is ours.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Told {
    /// The two keys as they are, where they are there.
    enabled: Option<String>,
    events: Option<String>,
    /// Whether the operator has written any of it.
    pub ours: bool,
    /// Whether there is nothing in it, nor ever was, but what the operator wrote.
    pub of_nobody_else: bool,
}

impl Told {
    /// What a ConfigMap says.
    pub fn of(config_map: &ConfigMap) -> Self {
        let key = |key: &str| config_map.data.as_ref()?.get(key).cloned();
        let metadata = &config_map.metadata;
        let managers = metadata.managed_fields.iter().flatten();
        let is_ours = |entry: &ManagedFieldsEntry| {
            entry.manager.as_deref() == Some(names::FIELD_MANAGER)
                && entry.operation.as_deref() == Some("Apply")
        };
        let keys = config_map.data.iter().flat_map(BTreeMap::keys);
        let mut foreign =
            keys.filter(|key| ![names::AUDIT_ENABLED, names::AUDIT_EVENTS].contains(&key.as_str()));
        Self {
            enabled: key(names::AUDIT_ENABLED),
            events: key(names::AUDIT_EVENTS),
            ours: managers.clone().any(is_ours),
            of_nobody_else: managers.clone().all(is_ours)
                && foreign.next().is_none()
                && config_map.binary_data.is_none()
                && metadata.labels.is_none()
                && metadata.annotations.is_none()
                && metadata.owner_references.is_none()
                && metadata.finalizers.is_none(),
        }
    }

    /// The events that are enabled.
    pub fn enabled(&self) -> BTreeSet<EventName> {
        let events = self
            .events
            .iter()
            .filter(|_| self.enabled.as_deref() == Some("true"));
        let names = events.flat_map(|events| events.split(','));
        names
            .filter_map(|name| EventName::try_from(name.trim().to_owned()).ok())
            .collect()
    }

    /// Whether it says exactly this, in the operator's name.
    pub fn says(&self, events: &BTreeSet<EventName>) -> bool {
        let wanted = data(events);
        self.ours
            && self.enabled.as_ref() == wanted.get(names::AUDIT_ENABLED)
            && self.events.as_ref() == wanted.get(names::AUDIT_EVENTS)
    }
}

/// What the event tracker should be told.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Plan {
    /// The events that it is to write; none: what was said to it is taken back.
    pub events: BTreeSet<EventName>,
    /// The events that the platform has.
    pub vocabulary: Vocabulary,
    /// UID and generation of every policy that it was made for, by name.
    made_for: BTreeMap<String, (String, i64)>,
}

impl Plan {
    /// Whether the plan knows this very policy. Of one that came or changed later it says nothing, and so must its status.
    pub fn is_made_for(&self, candidate: &Candidate) -> bool {
        let known = self.made_for.get(&candidate.name);
        known.is_some_and(|(uid, generation)| {
            *uid == candidate.uid && *generation == candidate.generation
        })
    }
}

/// Makes the plan: the union of what all policies ask for.
///
/// A policy that cannot be used asks for nothing new, and takes nothing away: what its status says that it enables stays. Of one that
/// cannot even be read nobody knows that; as long as there is one, everything stays that the tracker is told.
pub fn plan(
    vocabulary: Vocabulary,
    candidates: impl IntoIterator<Item = Candidate>,
    told: Option<&Told>,
) -> Plan {
    let mut events = BTreeSet::new();
    let mut made_for = BTreeMap::new();
    let mut is_any_unreadable = false;
    for candidate in candidates {
        made_for.insert(candidate.name, (candidate.uid, candidate.generation));
        match candidate.policy {
            Ok(policy) if policy.suspend => {}
            Ok(policy) if policy.unknown(&vocabulary).is_empty() => {
                events.extend(policy.events(&vocabulary).iter().cloned());
            }
            Ok(_) | Err(_) => match candidate.status {
                Some(status) => events.extend(known(status.events)),
                None => is_any_unreadable |= candidate.policy.is_err(),
            },
        }
    }
    if is_any_unreadable {
        let last_good = told.filter(|told| told.ours);
        events.extend(last_good.map(Told::enabled).unwrap_or_default());
    }
    Plan {
        events,
        vocabulary,
        made_for,
    }
}

/// The names of events among texts.
fn known(texts: Vec<String>) -> impl Iterator<Item = EventName> {
    texts
        .into_iter()
        .filter_map(|text| EventName::try_from(text).ok())
}

/// The ConfigMap as the operator applies it: its own keys, and no others. With no events it holds nothing: applied, it takes back
/// what the operator owns and leaves the rest.
pub fn config_map(namespace: &str, name: &TrackerName, events: &BTreeSet<EventName>) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta {
            namespace: Some(namespace.to_owned()),
            name: Some(name.as_str().to_owned()),
            ..ObjectMeta::default()
        },
        data: (!events.is_empty()).then(|| data(events)),
        ..ConfigMap::default()
    }
}

fn data(events: &BTreeSet<EventName>) -> BTreeMap<String, String> {
    [
        (names::AUDIT_ENABLED, "true".to_owned()),
        (names::AUDIT_EVENTS, joined(events, ",")),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
    use katonic_logging_crds::{AuditPolicy, AuditPolicySpec, AuditPolicyStatus};

    use super::*;

    fn candidate(name: &str, events: &[&str], suspend: bool) -> Candidate {
        let spec = AuditPolicySpec {
            events: (!events.is_empty())
                .then(|| events.iter().copied().map(str::to_owned).collect()),
            suspend: suspend.then_some(true),
            ..AuditPolicySpec::default()
        };
        Candidate::readable(&AuditPolicy::new(name, spec))
    }

    fn vocabulary() -> Vocabulary {
        Vocabulary::with(&BTreeSet::new())
    }

    fn names_of(plan: &Plan) -> Vec<&str> {
        plan.events.iter().map(EventName::as_str).collect()
    }

    fn managed(manager: &str, operation: &str) -> ManagedFieldsEntry {
        ManagedFieldsEntry {
            manager: Some(manager.to_owned()),
            operation: Some(operation.to_owned()),
            ..ManagedFieldsEntry::default()
        }
    }

    fn written(events: &[&str], managers: &[(&str, &str)]) -> ConfigMap {
        let events = events
            .iter()
            .map(|name| EventName::try_from((*name).to_owned()).unwrap());
        let mut config_map = config_map("platform", &TrackerName::default(), &events.collect());
        let managers = managers
            .iter()
            .map(|(manager, operation)| managed(manager, operation));
        config_map.metadata.managed_fields = Some(managers.collect());
        config_map
    }

    const OURS: (&str, &str) = (names::FIELD_MANAGER, "Apply");

    #[test]
    fn policies_enable_the_union_of_their_events() {
        let candidates = [
            candidate("a", &["ModelCreated", "ModelArchived"], false),
            candidate("b", &["ModelArchived", "ModelSettingsChanged"], false),
            candidate("c", &["ModelVersionStarted"], true),
        ];
        let plan = plan(vocabulary(), candidates, None);
        assert_eq!(
            names_of(&plan),
            ["ModelArchived", "ModelCreated", "ModelSettingsChanged"]
        );
    }

    #[test]
    fn a_policy_that_names_no_event_means_all_of_them() {
        let plan = plan(vocabulary(), [candidate("a", &[], false)], None);
        assert_eq!(plan.events, *vocabulary().all());
    }

    #[test]
    fn without_a_policy_or_with_a_suspended_one_nothing_is_enabled() {
        let told = Told::of(&written(&["ModelCreated"], &[OURS]));
        assert_eq!(
            names_of(&plan(vocabulary(), [], Some(&told))),
            Vec::<&str>::new()
        );
        let suspended = [candidate("a", &[], true)];
        assert_eq!(
            names_of(&plan(vocabulary(), suspended, Some(&told))),
            Vec::<&str>::new()
        );
    }

    #[test]
    fn a_policy_that_cannot_be_used_takes_nothing_away_and_adds_nothing() {
        let good = || candidate("good", &["ModelArchived"], false);
        let mut bad = candidate("bad", &["ModelBroken", "ModelVersionStarted"], false);
        let alone = plan(vocabulary(), [bad.clone(), good()], None);
        assert_eq!(names_of(&alone), ["ModelArchived"]);
        // Whatever has become of the tracker's ConfigMap meanwhile.
        bad.status = Some(AuditPolicyStatus {
            events: vec!["ModelCreated".to_owned()],
            ..AuditPolicyStatus::default()
        });
        let plan = plan(vocabulary(), [bad, good()], Some(&Told::default()));
        assert_eq!(names_of(&plan), ["ModelArchived", "ModelCreated"]);
    }

    #[test]
    fn while_a_policy_cannot_be_read_everything_stays_that_the_operator_has_enabled() {
        let told = Told::of(&written(&["ModelCreated"], &[OURS]));
        let unreadable = Candidate::unreadable(&ObjectMeta::default(), "no".to_owned());
        let plan_with = plan(
            vocabulary(),
            [
                unreadable.clone(),
                candidate("good", &["ModelArchived"], false),
            ],
            Some(&told),
        );
        assert_eq!(names_of(&plan_with), ["ModelArchived", "ModelCreated"]);
        let by_others = Told::of(&written(&["ModelCreated"], &[("kubectl", "Update")]));
        for told in [None, Some(&by_others)] {
            let plan = plan(vocabulary(), [unreadable.clone()], told);
            assert_eq!(names_of(&plan), Vec::<&str>::new());
        }
    }

    #[test]
    fn what_is_told_is_read_back() {
        let events: BTreeSet<EventName> = vocabulary().all().clone();
        let told = Told::of(&written(
            &events.iter().map(EventName::as_str).collect::<Vec<_>>(),
            &[OURS],
        ));
        assert!(told.says(&events));
        assert_eq!(told.enabled(), events);
        let fewer = events.iter().take(1).cloned().collect();
        assert!(!told.says(&fewer));
        let mut disabled = written(&["ModelCreated"], &[OURS]);
        let data = disabled.data.as_mut().unwrap();
        data.insert(names::AUDIT_ENABLED.to_owned(), "false".to_owned());
        assert_eq!(Told::of(&disabled).enabled(), BTreeSet::new());
    }

    #[test]
    fn what_somebody_else_has_any_part_in_is_not_ours_alone() {
        assert!(Told::of(&written(&["ModelCreated"], &[OURS])).of_nobody_else);
        let others = [
            written(&["ModelCreated"], &[OURS, ("helm", "Update")]),
            {
                let mut one = written(&["ModelCreated"], &[OURS]);
                one.data.as_mut().unwrap().insert("url".into(), "x".into());
                one
            },
            {
                let mut one = written(&["ModelCreated"], &[OURS]);
                one.metadata.labels = Some([("app".to_owned(), "tracker".to_owned())].into());
                one
            },
        ];
        for other in &others {
            let told = Told::of(other);
            assert!(told.ours && !told.of_nobody_else);
        }
    }

    #[test]
    fn taking_back_names_no_key() {
        let config_map = config_map("platform", &TrackerName::default(), &BTreeSet::new());
        assert_eq!(config_map.data, None);
    }

    #[test]
    fn a_name_that_no_object_can_have_is_refused() {
        assert!(TrackerName::try_from("event-tracker.config".to_owned()).is_ok());
        for name in ["", "Event", "a_b", "a/b"] {
            let error = TrackerName::try_from(name.to_owned()).unwrap_err();
            let error = error.to_string();
            assert!(error.contains("for example event-tracker"), "{error}");
        }
    }
}
