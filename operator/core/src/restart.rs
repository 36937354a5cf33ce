//! Which owner of pods without the agent, or with an older one, is restarted next: one at a time, and not the next before
//! it is healthy.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use crate::coverage::Workload;

mod window;
mod workload;

pub use window::{InvalidWindow, Window};
pub use workload::{Health, Numbers, Object, Observed, Obstacle};

/// How long a restart's pods have to show up with the agent before it is said that they do not.
const GRACE: SignedDuration = SignedDuration::from_secs(30);

/// How long a restart that was refused is not tried again.
const REFUSAL: SignedDuration = SignedDuration::from_mins(1);

/// A workload of a namespace.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Id {
    /// Its namespace.
    pub namespace: String,
    /// Kind and name.
    pub workload: Workload,
}

/// What a decision is made of.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Owners of pods that a restart mends, of all policies that want it so.
    pub wanted: &'a BTreeSet<Id>,
    /// The workloads of all planes.
    pub workloads: &'a BTreeMap<Id, Observed>,
    /// Namespaces in which new pods get the agent as it is specified, with the time since when at least.
    pub in_force: &'a BTreeMap<String, Option<Timestamp>>,
    /// When restarts may begin; always, if there is none.
    pub window: Option<&'a Window>,
    /// The present.
    pub now: Timestamp,
}

/// What is remembered from one decision to the next. What matters after a restart of the operator is in the cluster.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    current: Option<Current>,
    /// Whether the workload that an earlier process restarted has been looked for.
    resumed: bool,
    /// When each workload was restarted last, by UID.
    restarted: BTreeMap<String, Timestamp>,
    /// Restarts after which every pod had the agent, by the workload's UID: what lacks it later has another cause.
    succeeded: BTreeMap<String, Timestamp>,
    refused: BTreeMap<Id, (String, Timestamp)>,
}

/// The workload that was restarted and is not healthy yet.
#[derive(Clone, Debug)]
struct Current {
    id: Id,
    uid: String,
    /// Generation that the restart gave it: what is seen of an earlier one is from before.
    generation: i64,
    /// The best that was seen, and when.
    best: Option<Numbers>,
    since: Timestamp,
}

/// What is to be done, and what is to be told.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Decision {
    /// Restart this one.
    pub restart: Option<Restart>,
    /// How it stands with each owner that is wanted, and with the one that was restarted last.
    pub standing: BTreeMap<Id, Standing>,
    /// When to decide again if nothing changes before.
    pub wake: Option<Timestamp>,
}

/// A workload to restart: this very object.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Restart {
    /// Which.
    pub id: Id,
    /// Its UID.
    pub uid: String,
}

/// How it stands with the restart of a workload.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Standing {
    /// It was restarted, and its pods are being replaced.
    Restarting,
    /// It was restarted and has not become healthy in the time that it has: nothing else is restarted until it is.
    Stopped,
    /// Others come first.
    Queued,
    /// The window is closed.
    Closed {
        /// When it opens.
        opens: Timestamp,
    },
    /// It cannot be restarted as it is.
    Obstructed(Obstacle),
    /// It is not healthy, or somebody else is rolling it out: it is not touched before that is over.
    Busy,
    /// It was restarted since injection is in force, and pods of it still lack the agent: a restart is no help.
    InVain {
        /// When.
        restarted: Timestamp,
    },
    /// The API server refused the restart.
    Refused(String),
}

impl Memory {
    /// Decides what comes next.
    pub fn decide(&mut self, facts: Facts<'_>) -> Decision {
        let mut decision = Decision::default();
        self.refused
            .retain(|id, (_, at)| facts.wanted.contains(id) && facts.now < *at + REFUSAL);
        let uids: BTreeSet<&str> = facts
            .workloads
            .values()
            .map(|observed| observed.uid.as_str())
            .collect();
        self.restarted.retain(|uid, _| uids.contains(uid.as_str()));
        self.succeeded.retain(|uid, _| uids.contains(uid.as_str()));
        self.take_note_of_success(facts, &mut decision);
        self.resume(facts);
        let is_free = self.follow(facts, &mut decision);
        for id in facts.wanted {
            if decision.standing.contains_key(id) {
                continue;
            }
            let Some(observed) = facts.workloads.get(id).filter(|one| !one.deleting) else {
                // It is gone, and its pods go with it.
                continue;
            };
            let standing = self.standing(id, observed, facts, &mut decision);
            if standing == Standing::Queued && is_free && decision.restart.is_none() {
                decision.restart = Some(Restart {
                    id: id.clone(),
                    uid: observed.uid.clone(),
                });
            }
            decision.standing.insert(id.clone(), standing);
        }
        decision
    }

    /// Takes note of a restart that was carried out.
    pub fn restarted(&mut self, restart: &Restart, generation: i64, now: Timestamp) {
        self.restarted.insert(restart.uid.clone(), now);
        self.current = Some(Current {
            id: restart.id.clone(),
            uid: restart.uid.clone(),
            generation,
            best: None,
            since: now,
        });
    }

    /// Takes note of a restart that was refused, with the API server's words.
    pub fn refused(&mut self, restart: &Restart, message: String, now: Timestamp) {
        self.refused.insert(restart.id.clone(), (message, now));
    }

    /// When a workload was restarted last by us, as far as anybody knows.
    fn last_restart(&self, observed: &Observed) -> Option<Timestamp> {
        let restarted = self.restarted.get(&observed.uid).copied();
        restarted.max(observed.restarted_by_us)
    }

    fn take_note_of_success(&mut self, facts: Facts<'_>, decision: &mut Decision) {
        for (id, observed) in facts.workloads {
            let Some(restarted) = self.last_restart(observed) else {
                continue;
            };
            let is_known = self.succeeded.get(&observed.uid) == Some(&restarted);
            if is_known || facts.wanted.contains(id) || observed.health != Health::Complete {
                continue;
            }
            let known = restarted + GRACE;
            if facts.now < known {
                // What is seen of the pods may be older than what is seen of their owner.
                wake(decision, known);
            } else {
                self.succeeded.insert(observed.uid.clone(), restarted);
            }
        }
    }

    /// Finds the workload that an earlier process has restarted and not seen healthy.
    fn resume(&mut self, facts: Facts<'_>) {
        if self.resumed {
            return;
        }
        self.resumed = true;
        // Of several, which there are when the injection changed in the middle, the last one is the one that is waited for.
        let unfinished = facts
            .workloads
            .iter()
            .filter(|(id, observed)| {
                let in_force = facts.in_force.get(&id.namespace).copied().flatten();
                let ours = observed.restarted_by_us;
                observed.health != Health::Complete
                    && observed.in_our_rollout
                    && ours.is_some_and(|at| in_force <= Some(at))
            })
            .max_by_key(|(_, observed)| observed.restarted_by_us);
        self.current = unfinished.map(|(id, observed)| Current {
            id: id.clone(),
            uid: observed.uid.clone(),
            generation: observed.generation,
            best: None,
            since: facts.now,
        });
    }

    /// Follows the workload that was restarted last; whether another may be restarted.
    fn follow(&mut self, facts: Facts<'_>, decision: &mut Decision) -> bool {
        let Some(current) = &mut self.current else {
            return true;
        };
        let observed = facts
            .workloads
            .get(&current.id)
            .filter(|observed| observed.uid == current.uid && !observed.deleting);
        let Some(observed) = observed else {
            self.current = None;
            return true;
        };
        let is_stale = observed.generation < current.generation;
        if observed.health == Health::Complete && !is_stale {
            self.current = None;
            return true;
        }
        if current
            .best
            .is_none_or(|best| observed.numbers.is_better_than(best))
        {
            current.best = Some(observed.numbers);
            current.since = facts.now;
        }
        let deadline = current.since + observed.deadline;
        let given_up = observed.health == Health::DeadlineExceeded && !is_stale;
        let standing = if given_up || facts.now >= deadline {
            Standing::Stopped
        } else {
            wake(decision, deadline);
            Standing::Restarting
        };
        decision.standing.insert(current.id.clone(), standing);
        false
    }

    fn standing(
        &self,
        id: &Id,
        observed: &Observed,
        facts: Facts<'_>,
        decision: &mut Decision,
    ) -> Standing {
        if let Some((message, at)) = self.refused.get(id) {
            wake(decision, *at + REFUSAL);
            return Standing::Refused(message.clone());
        }
        if let Some(obstacle) = observed.obstacle {
            return Standing::Obstructed(obstacle);
        }
        let restarted = self
            .last_restart(observed)
            .filter(|at| self.succeeded.get(&observed.uid) != Some(at));
        let in_force = facts.in_force.get(&id.namespace);
        let was_in_vain = restarted.filter(|at| in_force.is_some_and(|since| *since <= Some(*at)));
        if observed.health != Health::Complete {
            return Standing::Busy;
        }
        if let Some(restarted) = was_in_vain {
            let known = restarted + GRACE;
            if facts.now < known {
                // What is seen of the pods may be older than what is seen of their owner.
                wake(decision, known);
                return Standing::Busy;
            }
            return Standing::InVain { restarted };
        }
        if in_force.is_none() {
            return Standing::Busy;
        }
        match facts.window {
            Some(window) if !window.is_open(facts.now) => {
                let opens = window.opens(facts.now);
                wake(decision, opens);
                Standing::Closed { opens }
            }
            _ => Standing::Queued,
        }
    }
}

fn wake(decision: &mut Decision, at: Timestamp) {
    decision.wake = Some(decision.wake.map_or(at, |wake| wake.min(at)));
}

#[cfg(test)]
mod tests;
