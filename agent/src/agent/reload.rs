//! Applies bundle, credentials and labels when they change: starts, changes and ends routes. Sends nothing.

use std::{collections::BTreeMap, error::Error, rc::Rc};

use katonic_log_config::{Bundle, Decoded, Policy, Target};
use serde_json::json;

use super::{Agent, Running};
use crate::{
    cursor::{Cursors, RouteKey},
    pod::read_labels,
    route::Route,
    tell::{Level, tell},
};

impl Agent {
    /// Applies bundle, credentials and labels if any of them has changed.
    pub(crate) fn reload(&mut self) {
        let source = &self.shared.source;
        let mut changed = false;
        match read_labels(&self.settings.labels_file) {
            Ok(labels) => {
                self.problems.remove("labels");
                if *source.labels.borrow() != labels {
                    source.labels.replace(labels);
                    changed = true;
                }
            }
            Err(error) => self.problem("labels".into(), Some(error.to_string())),
        }
        let version = self.shared.mount.version();
        if self.version.as_ref() != Some(&version) {
            self.version = Some(version);
            changed = true;
        }
        if changed {
            self.apply_bundle();
            self.shared.reloaded.notify_waiters();
        }
    }

    fn apply_bundle(&mut self) {
        let bytes = match self.shared.mount.read_bundle() {
            Ok(bytes) => bytes,
            Err(error) => {
                // Not the operator's doing, so it is tried again without waiting for a change.
                self.version = None;
                self.problem("bundle".into(), Some(error.to_string()));
                return;
            }
        };
        self.problem("bundle".into(), None);
        let Some(bytes) = bytes else {
            self.last_good = None;
            let none = Bundle {
                execution_id_label: None,
                policies: Vec::new(),
            };
            self.apply(&none, false);
            tell(Level::Info, "no bundle", json!({}));
            return;
        };
        match Bundle::decode(&bytes) {
            Ok(decoded) => {
                self.apply_decoded(&decoded);
                self.last_good = Some(bytes);
            }
            Err(error) => {
                tell(
                    Level::Error,
                    "the bundle cannot be used; the last good one stays in force",
                    json!({"reason": with_causes(&error)}),
                );
                // The labels may be others by now.
                let last_good = self.last_good.as_deref().map(Bundle::decode);
                if let Some(Ok(decoded)) = last_good {
                    self.apply_decoded(&decoded);
                }
            }
        }
    }

    fn apply_decoded(&mut self, decoded: &Decoded) {
        for one in &decoded.unsupported {
            tell(
                Level::Warn,
                "a policy is newer than this agent and is left out",
                json!({"policy": one.policy, "reason": one.reason}),
            );
        }
        // A policy that cannot be read may be one whose cursors are still needed.
        let complete = decoded.unsupported.is_empty();
        self.apply(&decoded.bundle, complete);
        tell(
            Level::Info,
            "bundle applied",
            json!({"revision": decoded.revision.to_string(), "policies": decoded.bundle.policies.len(),
                "routes": self.routes.len()}),
        );
    }

    fn apply(&mut self, bundle: &Bundle, complete: bool) {
        let source = &self.shared.source;
        source
            .execution_id_label
            .replace(bundle.execution_id_label.clone());
        source.revision.set(source.revision.get() + 1);
        let labels = source.labels.borrow().clone();
        let mut wanted = BTreeMap::new();
        for policy in bundle
            .policies
            .iter()
            .filter(|policy| policy.selector.matches(&labels))
        {
            for sink in &policy.sinks {
                let key = RouteKey {
                    policy_uid: policy.uid.clone(),
                    sink: sink.name.clone(),
                };
                wanted.insert(key, (policy, &sink.target));
            }
        }
        let gone: Vec<RouteKey> = self
            .routes
            .keys()
            .filter(|key| !wanted.contains_key(key))
            .cloned()
            .collect();
        for key in gone {
            if let Some(running) = self.routes.remove(&key) {
                running.task.abort();
                self.resting
                    .insert(key, running.route.progress(&self.shared.source));
            }
        }
        for (key, (policy, target)) in wanted {
            let changed = match self.routes.get(&key) {
                Some(running) => {
                    running.route.forget_heads();
                    running.route.update(policy, target)
                }
                None => true,
            };
            if changed {
                self.start(key, policy, target);
            }
        }
        if complete {
            // By policy, not by pod: labels may come back.
            let known = |key: &RouteKey| {
                let policy = bundle
                    .policies
                    .iter()
                    .find(|policy| policy.uid == key.policy_uid);
                policy.is_some_and(|policy| policy.sinks.iter().any(|sink| sink.name == key.sink))
            };
            let (kept, dropped) = std::mem::take(&mut self.resting)
                .into_iter()
                .partition(|(key, _)| known(key));
            self.resting = kept;
            for progress in Cursors::into_values(dropped) {
                self.retired.delivered += progress.delivered;
                self.retired.rejected += progress.rejected;
            }
        }
        self.shared.dirty.set(true);
        self.shared.changed.notify_waiters();
    }

    /// Starts a route, or starts it anew with another sink; either way where its cursors are.
    fn start(&mut self, key: RouteKey, policy: &Policy, target: &Target) {
        let route = if let Some(running) = self.routes.remove(&key) {
            running.task.abort();
            running.route
        } else {
            let progress = self.resting.remove(&key).unwrap_or_default();
            Rc::new(Route::new(
                key.clone(),
                policy.clone(),
                target.clone(),
                progress,
            ))
        };
        let running = Running::start(route, &self.shared);
        self.routes.insert(key, running);
    }
}

/// An error with all that it stems from.
fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
