//! When the fallback of a policy is used at the end of the pod, and when not. Sends nothing itself.

use std::{collections::BTreeMap, rc::Rc, time::Duration};

use serde_json::json;
use tokio::time::Instant;

use crate::{
    agent::{Agent, Running},
    cursor::RouteKey,
    route::Route,
    tell::{Level, tell},
};

/// The part of the budget after which the fallback gets what a sink that takes nothing has left.
const FOR_STUCK: (u32, u32) = (1, 2);

/// The part of the budget after which it gets what a sink has left that is merely slow. Both go on.
const FOR_SLOW: (u32, u32) = (3, 4);

/// A sink takes nothing when it has taken nothing for this part of the budget.
const STUCK: (u32, u32) = (1, 8);

/// What the end of the pod knows of its sinks.
#[derive(Debug)]
pub(super) struct Watch {
    begun: Instant,
    budget: Duration,
    /// What each sink had come to when it was last seen to move, and when.
    moved: BTreeMap<RouteKey, (u64, Instant)>,
    /// The fallbacks in use, by the policy's UID.
    fallbacks: BTreeMap<String, Running>,
}

impl Watch {
    pub(super) fn new(begun: Instant, budget: Duration) -> Self {
        Self {
            begun,
            budget,
            moved: BTreeMap::new(),
            fallbacks: BTreeMap::new(),
        }
    }

    /// Whether nothing more can come of waiting: every sink is done, or takes nothing while its fallback is done.
    pub(super) fn is_over(&mut self, agent: &Agent) -> bool {
        let mut is_over = true;
        for (key, running) in &agent.routes {
            let is_stuck = self.is_stuck(key, &running.route);
            if running.task.is_finished() {
                continue;
            }
            let fallback = self.fallbacks.get(&key.policy_uid);
            is_over &= is_stuck && fallback.is_some_and(|fallback| fallback.task.is_finished());
        }
        is_over
    }

    /// Begins to use the fallback of each policy whose sinks need it by now.
    pub(super) fn begin_due(&mut self, agent: &Agent) {
        let passed = self.begun.elapsed();
        if !is_due(passed, self.budget, true) {
            return;
        }
        let mut by_policy: BTreeMap<&String, Vec<&RouteKey>> = BTreeMap::new();
        let unfinished = agent
            .routes
            .iter()
            .filter(|(_, running)| !running.task.is_finished());
        for (key, _) in unfinished {
            by_policy.entry(&key.policy_uid).or_default().push(key);
        }
        for (policy, keys) in by_policy {
            let routes: Vec<(&RouteKey, &Rc<Route>)> = keys
                .into_iter()
                .filter_map(|key| Some((key, &agent.routes.get(key)?.route)))
                .collect();
            let is_stuck = routes.iter().any(|(key, route)| self.is_stuck(key, route));
            let is_due = is_due(passed, self.budget, is_stuck);
            if is_due && !self.fallbacks.contains_key(policy) {
                let routes: Vec<&Route> = routes.iter().map(|(_, route)| &***route).collect();
                if let Some(running) = begin(agent, &routes) {
                    self.fallbacks.insert(policy.clone(), running);
                }
            }
        }
    }

    /// The fallback in use for a policy.
    pub(super) fn of(&self, policy_uid: &str) -> Option<&Route> {
        let fallback = self.fallbacks.get(policy_uid)?;
        Some(&fallback.route)
    }

    /// Ends the fallbacks that are in use, and says what became of what they got.
    pub(super) fn end(&self) {
        for fallback in self.fallbacks.values() {
            fallback.task.abort();
            let counts = fallback.route.counts();
            tell(
                Level::Info,
                "the fallback ended",
                json!({"policy": fallback.route.policy_name(), "sink": fallback.route.key.sink,
                    "delivered": counts.delivered, "rejected": counts.rejected}),
            );
        }
    }

    fn is_stuck(&mut self, key: &RouteKey, route: &Route) -> bool {
        let counts = route.counts();
        let now = counts.delivered + counts.rejected + counts.dropped;
        let (before, since) = self.moved.entry(key.clone()).or_insert((now, self.begun));
        if *before != now {
            *before = now;
            *since = Instant::now();
        }
        since.elapsed() >= part(self.budget, STUCK)
    }
}

fn begin(agent: &Agent, routes: &[&Route]) -> Option<Running> {
    let sink = routes.first()?.fallback_sink()?;
    let files = agent.shared.source.files.borrow();
    let route = Route::fallback(routes, &sink, &files)?;
    drop(files);
    let names: Vec<&str> = routes.iter().map(|route| route.key.sink.as_str()).collect();
    tell(
        Level::Warn,
        "the fallback gets what sinks have not taken",
        json!({"policy": route.policy_name(), "sink": sink.name, "instead_of": names}),
    );
    Some(Running::start(Rc::new(route), &agent.shared))
}

/// Whether it is time for the fallback of a policy of which at least one sink has something left, or even takes nothing.
fn is_due(passed: Duration, budget: Duration, is_stuck: bool) -> bool {
    passed >= part(budget, if is_stuck { FOR_STUCK } else { FOR_SLOW })
}

fn part(budget: Duration, (of, all): (u32, u32)) -> Duration {
    budget * of / all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sink_that_is_slow_is_given_more_time_than_one_that_takes_nothing() {
        let due = |passed, is_stuck| {
            is_due(
                Duration::from_secs(passed),
                Duration::from_secs(20),
                is_stuck,
            )
        };
        assert_eq!([due(9, true), due(10, true)], [false, true]);
        assert_eq!([due(14, false), due(15, false)], [false, true]);
    }
}
