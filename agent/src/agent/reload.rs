//! Applies bundle, credentials and labels when they change: starts, changes and ends routes. Sends nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
    rc::Rc,
    sync::Arc,
};

use katonic_log_config::{
    Bundle, Decoded, Execution, Policy, Sink, Unsupported, report::shortened,
};
use serde_json::json;

use super::{Agent, Running};
use crate::{
    archive::spool::Spool,
    cursor::{Cursors, RouteKey},
    deliver::tell_declined,
    pod::{Labels, read_labels},
    process::{
        Processing, Waits,
        shelf::{Filling, Unfit, has_patterns},
    },
    report::standing::Standing,
    route::Route,
    tell::{Level, tell},
};

/// Of so many sinks whose policy does not name them any more, or is out of force, it is remembered what they have: if they come back,
/// objects and audit events go on where they were, and are not numbered anew.
const REMEMBERED: usize = 16;

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
                self.refuse_bundle(Some(&format!("failed to read the bundle: {error}")));
                self.problem("bundle".into(), Some(error.to_string()));
                return;
            }
        };
        self.problem("bundle".into(), None);
        let Some(bytes) = bytes else {
            self.last_good = None;
            self.refuse_bundle(None);
            self.apply(&Bundle::default(), &[], false);
            tell(Level::Info, "no bundle", json!({}));
            return;
        };
        match Bundle::decode(&bytes) {
            Ok(decoded) => {
                self.refuse_bundle(None);
                self.apply_decoded(&decoded);
                self.last_good = Some(bytes);
            }
            Err(error) => {
                let reason = with_causes(&error);
                tell(
                    Level::Error,
                    "the bundle cannot be used; the last good one stays in force",
                    json!({"reason": &reason}),
                );
                self.refuse_bundle(Some(&reason));
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
        if let Some(reason) = &decoded.reporting_unsupported {
            tell(
                Level::Warn,
                "where to report is said in a form that is newer than this agent; nothing is reported",
                json!({"reason": reason}),
            );
        }
        // A policy that cannot be read may be one whose cursors are still needed.
        let complete = decoded.unsupported.is_empty();
        self.apply(&decoded.bundle, &decoded.unsupported, complete);
        tell(
            Level::Info,
            "bundle applied",
            json!({"revision": decoded.revision.to_string(), "policies": decoded.bundle.policies.len(),
                "routes": self.routes.len()}),
        );
    }

    /// Why the bundle as it is mounted is not in force, if it is not.
    fn refuse_bundle(&mut self, reason: Option<&str>) {
        let reason = reason.map(shortened);
        self.news |= self.bundle_refused != reason;
        self.bundle_refused = reason;
    }

    fn apply(&mut self, bundle: &Bundle, unsupported: &[Unsupported], complete: bool) {
        self.reporter.set(bundle.reporting.as_ref());
        let source = &self.shared.source;
        source.execution.replace(Execution::new(
            bundle.execution_id_label.as_deref(),
            &bundle.execution_id_patterns,
        ));
        source.revision.set(source.revision.get() + 1);
        let labels = source.labels.borrow().clone();
        for running in self.routes.values() {
            running.route.forget_heads();
        }
        let mut filling = std::mem::take(&mut self.shelf).refill();
        let mut wanted = BTreeMap::new();
        let mut unusable = BTreeSet::new();
        let mut standings = Vec::new();
        let policies = bundle.policies.iter().enumerate();
        for (index, policy) in policies.filter(|(_, policy)| policy.selector.matches(&labels)) {
            let processing = match self.processing(policy, &labels, &mut filling) {
                Ok(processing) => processing,
                Err(error) => {
                    standings.push(Standing::unfit(&policy.uid, &error, &self.standings));
                    // In part it could send what it was to hide.
                    tell(
                        Level::Error,
                        "a policy cannot be applied; its last good form stays in force",
                        json!({"policy": policy.name, "reason": error.to_string()}),
                    );
                    unusable.insert(policy.uid.clone());
                    continue;
                }
            };
            let revision = bundle.revisions.get(index);
            standings.push(Standing::applied(&policy.uid, revision, &processing));
            for sink in &policy.sinks {
                let key = RouteKey {
                    policy_uid: policy.uid.clone(),
                    sink: sink.name.clone(),
                };
                wanted.insert(key, (policy, Rc::clone(&processing), sink));
            }
        }
        let left_out = unsupported.iter();
        standings.extend(left_out.filter_map(|one| Standing::unsupported(one, &labels)));
        self.news |= self.standings != standings;
        self.standings = standings;
        self.shelf = filling.done();
        let gone: Vec<RouteKey> = self
            .routes
            .keys()
            .filter(|key| !wanted.contains_key(key) && !unusable.contains(&key.policy_uid))
            .cloned()
            .collect();
        for key in gone {
            if let Some(running) = self.routes.remove(&key) {
                running.task.abort();
                let declined = running.route.decline_all();
                tell_declined(&running.route, &declined);
                self.resting.insert(key, running.route.progress());
            }
        }
        for (key, (policy, processing, sink)) in wanted {
            let running = self.routes.get(&key);
            // What is on its way of a container that is no longer taken would be counted twice.
            let is_another = |running: &Running| {
                running.route.update(policy, &processing, sink)
                    || running.route.reads_declined(&self.shared.source)
            };
            if running.is_none_or(is_another) {
                self.start(key, policy, processing, sink);
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
            let mut numbered = 0;
            let (kept, dropped) =
                std::mem::take(&mut self.resting)
                    .into_iter()
                    .partition(|(key, progress)| {
                        if known(key) {
                            return true;
                        }
                        numbered += usize::from(progress.is_numbered());
                        progress.is_numbered() && numbered <= REMEMBERED
                    });
            self.resting = kept;
            for (key, progress) in Cursors::into_iter(dropped) {
                Spool::of(&self.settings.state_dir, &key).clear();
                self.retired += progress.settled();
            }
        }
        self.was_away &= bundle.policies.is_empty();
        self.shared.dirty.set(true);
        self.shared.changed.notify_waiters();
    }

    /// What a policy does with lines. Where its patterns have no room, what it was before stays in force if that has, and
    /// else its records wait.
    ///
    /// # Errors
    /// When what it was before stays in force.
    fn processing(
        &self,
        policy: &Policy,
        labels: &Labels,
        filling: &mut Filling,
    ) -> Result<Rc<Processing>, Unfit> {
        let of_policy = |(key, _): &(&RouteKey, &Running)| key.policy_uid == policy.uid;
        let running = self.routes.iter().find(of_policy);
        let route = running.map(|(_, running)| &running.route);
        // The same again changes nothing for a route.
        let same = |waits: Option<Waits>| {
            let same = route.and_then(|route| route.processing(policy));
            same.filter(|same| same.waits() == waits)
        };
        let wait = |waits| {
            let same = same(Some(waits));
            same.unwrap_or_else(|| Rc::new(Processing::waiting(waits)))
        };
        let is_taken = |container: &Arc<str>| policy.takes(labels, container);
        if has_patterns(policy) && !self.containers.iter().any(is_taken) {
            return Ok(wait(Waits::ForContainer));
        }
        let Err(unfit) = filling.put(policy) else {
            return same(None).map_or_else(|| filling.take(policy).map(Rc::new), Ok);
        };
        let before = route.and_then(|route| route.policy_in_force());
        let stays = before.is_some_and(|before| {
            let is_another = before.filters != policy.filters
                || before.multiline != policy.multiline
                || before.audit != policy.audit;
            is_another && filling.put(&before).is_ok()
        });
        match unfit {
            Unfit::NoRoom if !stays => Ok(wait(Waits::ForRoom)),
            unfit => Err(unfit),
        }
    }

    /// Applies the bundle in force again if a policy has waited for a container that has appeared.
    pub(super) fn meet_containers(&mut self) {
        let source = &self.shared.source;
        let files = source.files.borrow();
        let is_new = |container: &&Arc<str>| !self.containers.contains(*container);
        let new: Vec<Arc<str>> = files.containers().filter(is_new).cloned().collect();
        drop(files);
        let labels = source.labels.borrow();
        let mut routes = self.routes.values();
        let is_awaited = routes.any(|running| running.route.waits_for(&new, &labels));
        drop(labels);
        self.containers.extend(new);
        let decoded = self.last_good.as_deref().filter(|_| is_awaited);
        if let Some(Ok(decoded)) = decoded.map(Bundle::decode) {
            let complete = decoded.unsupported.is_empty();
            self.apply(&decoded.bundle, &decoded.unsupported, complete);
        }
    }

    /// Starts a route, or starts it anew with another sink; either way where its cursors are.
    fn start(&mut self, key: RouteKey, policy: &Policy, processing: Rc<Processing>, sink: &Sink) {
        let route = if let Some(running) = self.routes.remove(&key) {
            running.task.abort();
            running.route
        } else {
            let progress = self.resting.remove(&key).unwrap_or_default();
            let route = Route::new(
                key.clone(),
                policy.clone(),
                processing,
                sink.clone(),
                progress,
            );
            if self.was_away {
                route.was_away();
            }
            Rc::new(route)
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
