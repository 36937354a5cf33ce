//! Credentials on their way to the agents: told once they are in force, or when that takes too long.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::Condition,
    jiff::{SignedDuration, Timestamp},
};

use super::{Event, cut};
use crate::condition::{Reason, State, Type};

/// How long the kubelet and the agents have before it is told that some are missing; two minutes are usual.
const LONG: SignedDuration = SignedDuration::from_mins(5);

/// What an instance has seen of credentials since it leads. A digest of them never leaves its memory.
#[derive(Clone, Debug, Default)]
pub struct Rotations {
    known: BTreeMap<String, Known>,
}

#[derive(Clone, Debug)]
struct Known {
    generation: i64,
    credentials: Option<String>,
    /// Since when others are under way, and whether it was told that some agents lack them.
    under_way: Option<(Timestamp, bool)>,
}

/// How it stands with a policy's credentials.
#[derive(Clone, Copy, Debug)]
pub struct Rotated<'a> {
    /// UID of the policy.
    pub policy: &'a str,
    /// Its generation.
    pub generation: i64,
    /// What tells the credentials that agents are told from every other.
    pub credentials: Option<&'a str>,
    /// The conditions as they are now.
    pub conditions: &'a [Condition],
}

impl Rotations {
    /// What is worth telling of a policy, and when to look again.
    pub fn follow(
        &mut self,
        rotated: Rotated<'_>,
        now: Timestamp,
    ) -> (Option<Event>, Option<Timestamp>) {
        let credentials = rotated.credentials.map(str::to_owned);
        let known = self.known.entry(rotated.policy.to_owned());
        let known = known.or_insert_with(|| Known {
            generation: rotated.generation,
            credentials: credentials.clone(),
            under_way: None,
        });
        if known.generation != rotated.generation {
            // The policy itself was changed, and tells of that.
            *known = Known {
                generation: rotated.generation,
                credentials,
                under_way: None,
            };
        } else if known.credentials != credentials {
            // What cannot be used is told by `SecretsResolved`; the last good one stays.
            known.credentials = credentials;
            known.under_way = Some((now, false));
        }
        let Some((since, was_told)) = known.under_way else {
            return (None, None);
        };
        let mut conditions = rotated.conditions.iter();
        let rolled_out = conditions.find(|one| one.type_ == Type::RolledOut.as_str());
        let Some(rolled_out) = rolled_out else {
            // Nobody hears of agents.
            known.under_way = None;
            return (None, None);
        };
        if rolled_out.status == State::True.as_str() {
            known.under_way = None;
            // Where no agent runs there is nothing to be in force.
            let is_anywhere = rolled_out.reason != Reason::NoAgents.as_str();
            return (is_anywhere.then(|| event(false, &rolled_out.message)), None);
        }
        let late = since.saturating_add(LONG).unwrap_or(Timestamp::MAX);
        if was_told {
            (None, None)
        } else if now < late {
            (None, Some(late))
        } else {
            known.under_way = Some((since, true));
            (Some(event(true, &rolled_out.message)), None)
        }
    }

    /// Forgets policies that are gone.
    pub fn retain(&mut self, policies: &BTreeSet<&str>) {
        self.known
            .retain(|policy, _| policies.contains(policy.as_str()));
    }
}

fn event(is_late: bool, rolled_out: &str) -> Event {
    let (reason, state) = if is_late {
        (
            "CredentialsDelayed",
            "are not in force everywhere after five minutes",
        )
    } else {
        ("CredentialsRotated", "are in force")
    };
    Event {
        warning: is_late,
        reason: reason.to_owned(),
        note: cut(format!("the changed credentials {state}: {rolled_out}")),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn rolled_out(status: &str, message: &str) -> [Condition; 1] {
        [Condition {
            type_: "RolledOut".into(),
            status: status.into(),
            reason: "Whatever".into(),
            message: message.into(),
            observed_generation: Some(1),
            last_transition_time: Time(at(0)),
        }]
    }

    fn follow(
        rotations: &mut Rotations,
        (generation, credentials): (i64, &str),
        conditions: &[Condition],
        second: i64,
    ) -> (Option<String>, Option<Timestamp>) {
        let rotated = Rotated {
            policy: "uid",
            generation,
            credentials: Some(credentials),
            conditions,
        };
        let (event, due) = rotations.follow(rotated, at(second));
        (
            event.map(|event| format!("{}: {}", event.reason, event.note)),
            due,
        )
    }

    #[test]
    fn changed_credentials_are_told_once_they_are_in_force_everywhere() {
        let mut rotations = Rotations::default();
        let all = rolled_out("True", "2 of 2 agents");
        let some = rolled_out("False", "1 of 2 agents");
        let nothing = (None, None);
        assert_eq!(follow(&mut rotations, (1, "a"), &all, 0), nothing);
        assert_eq!(
            follow(&mut rotations, (1, "b"), &some, 10),
            (None, Some(at(310)))
        );
        let (told, _) = follow(&mut rotations, (1, "b"), &all, 90);
        let words = "CredentialsRotated: the changed credentials are in force: 2 of 2 agents";
        assert_eq!(told.as_deref(), Some(words));
        // New pods that are behind for a moment are no rotation.
        assert_eq!(follow(&mut rotations, (1, "b"), &some, 100), nothing);
        assert_eq!(follow(&mut rotations, (1, "b"), &all, 110), nothing);
        let mut nobody = rolled_out("True", "no agent runs");
        nobody[0].reason = "NoAgents".into();
        assert_eq!(follow(&mut rotations, (1, "c"), &nobody, 120), nothing);
    }

    #[test]
    fn what_takes_too_long_is_told_once_and_so_is_its_end() {
        let mut rotations = Rotations::default();
        let (all, some) = (
            rolled_out("True", "all"),
            rolled_out("Unknown", "1 of 2 agents"),
        );
        follow(&mut rotations, (1, "a"), &all, 0);
        follow(&mut rotations, (1, "b"), &some, 10);
        let (told, _) = follow(&mut rotations, (1, "b"), &some, 310);
        assert!(told.unwrap().starts_with("CredentialsDelayed: "));
        assert_eq!(follow(&mut rotations, (1, "b"), &some, 900), (None, None));
        let (told, _) = follow(&mut rotations, (1, "b"), &all, 901);
        assert!(told.unwrap().starts_with("CredentialsRotated: "));
    }

    #[test]
    fn a_changed_policy_one_without_reports_and_one_that_is_gone_tell_of_no_rotation() {
        let mut rotations = Rotations::default();
        let all = rolled_out("True", "all");
        follow(&mut rotations, (1, "a"), &all, 0);
        assert_eq!(follow(&mut rotations, (2, "b"), &all, 1), (None, None));
        assert_eq!(follow(&mut rotations, (2, "c"), &[], 2), (None, None));
        assert_eq!(follow(&mut rotations, (2, "c"), &all, 3), (None, None));
        rotations.retain(&BTreeSet::new());
        assert_eq!(follow(&mut rotations, (2, "d"), &all, 4), (None, None));
    }
}
