//! The agent as a whole: applies the bundle, looks at files and credentials, saves cursors. Sends nothing itself.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    error::Error,
    rc::Rc,
    time::Duration,
};

use katonic_log_config::{Bundle, Decoded, layout};
use serde_json::json;
use tokio::{
    select,
    signal::unix::Signal,
    sync::Notify,
    task::{JoinHandle, spawn_blocking, spawn_local},
    time::{MissedTickBehavior, interval},
};

use crate::{
    bundle::{Mount, Version},
    cursor::{Cursors, RouteKey, Store},
    deliver::{Delivery, Phase, Shared},
    files::Files,
    pod::read_labels,
    route::{Counts, Route, Source, Workshop},
    settings::Settings,
    tell::{Level, tell},
};

/// How often open files are asked for their size.
const POLL: Duration = Duration::from_millis(200);

/// How many polls lie between two looks at directories, bundle, credentials and labels, and two saves.
const POLLS_PER_SCAN: u64 = 5;

/// The running agent.
#[derive(Debug)]
pub struct Agent {
    pub(crate) settings: Settings,
    pub(crate) shared: Rc<Shared>,
    pub(crate) routes: BTreeMap<RouteKey, Running>,
    store: Store,
    /// Cursors of routes that no bundle has named yet.
    resting: Cursors,
    /// Counts of routes that are gone.
    pub(crate) retired: Counts,
    version: Option<Version>,
    /// The bundle in force, as it was mounted.
    last_good: Option<Vec<u8>>,
    problems: BTreeMap<String, String>,
}

/// A route and its task.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) route: Rc<Route>,
    pub(crate) task: JoinHandle<()>,
}

impl Running {
    fn start(route: Rc<Route>, shared: &Rc<Shared>) -> Self {
        let delivery = Delivery::new(Rc::clone(&route), Rc::clone(shared));
        let task = spawn_local(delivery.run());
        Self { route, task }
    }

    fn restart(&mut self, shared: &Rc<Shared>) {
        self.task.abort();
        *self = Self::start(Rc::clone(&self.route), shared);
    }
}

impl Agent {
    /// Prepares an agent; reads the cursors of the one before it.
    pub fn new(settings: Settings) -> Self {
        let store = Store::new(&settings.state_dir);
        let resting = store.load().unwrap_or_else(|error| {
            tell(
                Level::Warn,
                "every log is read again from its beginning",
                json!({"reason": error.to_string()}),
            );
            Cursors::new()
        });
        let source = Source {
            pod: settings.pod.clone(),
            labels: RefCell::default(),
            execution_id_label: RefCell::default(),
            files: RefCell::new(Files::new(
                &settings.log_dir,
                layout::CONTAINER,
                settings.most_held,
            )),
            revision: Cell::default(),
            workshop: RefCell::new(Workshop::default()),
        };
        let shared = Shared {
            source,
            mount: Mount::new(&settings.bundle_dir),
            changed: Notify::new(),
            reloaded: Notify::new(),
            phase: Cell::new(Phase::Running),
            flush: settings.flush,
            dirty: Cell::default(),
        };
        Self {
            settings,
            shared: Rc::new(shared),
            routes: BTreeMap::new(),
            store,
            resting,
            retired: Counts::default(),
            version: None,
            last_good: None,
            problems: BTreeMap::new(),
        }
    }

    /// Works until the signal comes, then drains. To be run on a `LocalSet`.
    pub async fn run(mut self, mut terminate: Signal) {
        let mut ticks = interval(POLL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut count = 0_u64;
        loop {
            select! {
                _ = terminate.recv() => break,
                _ = ticks.tick() => {}
            }
            if count.is_multiple_of(POLLS_PER_SCAN) {
                self.look().await;
            } else if self.shared.source.files.borrow().poll() {
                self.shared.changed.notify_waiters();
            }
            count += 1;
        }
        self.drain().await;
    }

    async fn look(&mut self) {
        self.reload();
        if self.scan() {
            self.shared.changed.notify_waiters();
        }
        if self.shared.dirty.replace(false) {
            self.save().await;
        }
    }

    /// Looks at the directories; says whether there is anything new.
    pub(crate) fn scan(&mut self) -> bool {
        let source = &self.shared.source;
        let changes = source.files.borrow_mut().scan();
        if changes.set || changes.abandoned {
            source.revision.set(source.revision.get() + 1);
        }
        if changes.abandoned {
            // Those that wait for a dead sink must let go of what they hold.
            for running in self.routes.values_mut() {
                running.restart(&self.shared);
            }
        }
        for (container, restart) in changes.truncated {
            tell(
                Level::Error,
                "a log file was truncated; what was not read of it is lost",
                json!({"container": container, "restart": restart}),
            );
        }
        let failed: Vec<(String, String)> = changes
            .failed
            .into_iter()
            .map(|(path, reason)| (path.display().to_string(), reason))
            .collect();
        self.problems.retain(|what, _| {
            !what.starts_with('/') || failed.iter().any(|(path, _)| path == what)
        });
        for (path, reason) in failed {
            self.problem(path, Some(reason));
        }
        changes.any || changes.set
    }

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
    fn start(
        &mut self,
        key: RouteKey,
        policy: &katonic_log_config::Policy,
        target: &katonic_log_config::Target,
    ) {
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

    /// Saves the cursors; a failure is told and costs duplicates after a restart.
    pub(crate) async fn save(&mut self) {
        let mut cursors = self.resting.clone();
        for (key, running) in &self.routes {
            cursors.insert(key.clone(), running.route.progress(&self.shared.source));
        }
        let store = self.store.clone();
        // The disk may be slow, and deliveries go on meanwhile.
        let saved = spawn_blocking(move || store.save(&cursors)).await;
        let reason = match saved {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(error) => Some(error.to_string()),
        };
        if reason.is_some() {
            self.shared.dirty.set(true);
        }
        self.problem("cursors".into(), reason);
    }

    /// Tells a problem once, until it is another one.
    fn problem(&mut self, what: String, reason: Option<String>) {
        let Some(reason) = reason else {
            self.problems.remove(&what);
            return;
        };
        if self.problems.get(&what) != Some(&reason) {
            tell(
                Level::Error,
                "failed, and tried again",
                json!({"what": what, "reason": reason}),
            );
            self.problems.insert(what, reason);
        }
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
