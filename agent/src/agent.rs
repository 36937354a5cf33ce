//! The agent as a whole: applies the bundle, looks at files and credentials, saves cursors. Sends nothing itself.

mod descriptors;
mod reload;
mod reporting;
mod saving;

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use katonic_log_config::layout;
use serde_json::json;
use tokio::{
    select,
    signal::unix::Signal,
    sync::Notify,
    task::{JoinHandle, spawn_local},
    time::{MissedTickBehavior, interval},
};

use saving::{Outcome, Saving};

use crate::{
    archive::Archive,
    bundle::{Mount, Version},
    counts::Counts,
    cursor::{Cursors, RouteKey, State, Store},
    deliver::{Delivery, Phase, Shared, sync},
    files::{Changes, Files},
    process::shelf::Shelf,
    report::{Reporter, standing::Standing},
    route::{Route, Source, Workshop},
    settings::Settings,
    tell::{Level, tell},
};

/// How often open files are asked for their size.
const POLL: Duration = Duration::from_millis(200);

/// How many polls lie between two looks at directories, bundle, credentials and labels.
const POLLS_PER_SCAN: u64 = 5;

/// The running agent.
#[derive(Debug)]
pub struct Agent {
    pub(crate) settings: Settings,
    pub(crate) shared: Rc<Shared>,
    pub(crate) routes: BTreeMap<RouteKey, Running>,
    saving: Saving,
    /// Cursors of routes that no bundle has named yet.
    pub(crate) resting: Cursors,
    /// Whether the cursors are those of the agent before this one: no policy was in force yet.
    was_away: bool,
    /// Counts of routes that are gone.
    pub(crate) retired: Counts,
    version: Option<Version>,
    /// The bundle in force, as it was mounted.
    last_good: Option<Vec<u8>>,
    /// The patterns in use.
    shelf: Shelf,
    /// Containers that have written something so far.
    containers: BTreeSet<Arc<str>>,
    problems: BTreeMap<String, String>,
    begun: Instant,
    pub(crate) reporter: Reporter,
    /// What is in force of each policy that selects the pod, from the oldest to the newest.
    standings: Vec<Standing>,
    /// Why the bundle as it is mounted is not in force.
    bundle_refused: Option<String>,
    /// Whether one of the two has changed.
    news: bool,
    /// Log files and directories that cannot be read, with the reason.
    unreadable: BTreeMap<PathBuf, String>,
}

/// A route and its task.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) route: Rc<Route>,
    pub(crate) task: JoinHandle<()>,
}

impl Running {
    pub(crate) fn start(route: Rc<Route>, shared: &Rc<Shared>) -> Self {
        let task = if route.archive().is_some() {
            let archive = Archive::new(Rc::clone(&route), Rc::clone(shared));
            spawn_local(archive.run())
        } else {
            let delivery = Delivery::new(Rc::clone(&route), Rc::clone(shared));
            spawn_local(delivery.run())
        };
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
        let (state, problem) = store.load();
        if let Some(problem) = problem {
            let message = match state {
                Some(_) => "older cursors are used; some lines are sent twice",
                None => "every log is read again from its beginning",
            };
            tell(Level::Warn, message, json!({"reason": problem.to_string()}));
        }
        let State {
            sequence,
            cursors: resting,
            retired,
        } = state.unwrap_or_default();
        let source = Source {
            pod: settings.pod.clone(),
            labels: RefCell::default(),
            execution: RefCell::default(),
            files: RefCell::new(Files::new(
                &settings.log_dir,
                layout::CONTAINER,
                settings.most_held,
                descriptors::limit(),
            )),
            revision: Cell::default(),
            workshop: RefCell::new(Workshop::default()),
            room: Rc::default(),
        };
        let shared = Shared {
            source,
            mount: Mount::new(&settings.bundle_dir),
            state_dir: settings.state_dir.clone(),
            changed: Notify::new(),
            reloaded: Notify::new(),
            phase: Cell::new(Phase::Running),
            flush: settings.flush,
            dirty: Cell::default(),
        };
        let reporter = Reporter::new(&settings.token_dir);
        Self {
            settings,
            shared: Rc::new(shared),
            routes: BTreeMap::new(),
            saving: Saving::new(store, sequence),
            resting,
            was_away: true,
            retired,
            version: None,
            last_good: None,
            shelf: Shelf::default(),
            containers: BTreeSet::new(),
            problems: BTreeMap::new(),
            begun: Instant::now(),
            reporter,
            standings: Vec::new(),
            bundle_refused: None,
            news: false,
            unreadable: BTreeMap::new(),
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
                // First the files: what a policy needs depends on whether it takes any.
                let changes = self.shared.source.files.borrow_mut().scan();
                self.take(changes);
                self.reload();
                self.look_at_lags();
            } else {
                let changes = self.shared.source.files.borrow_mut().poll();
                self.take(changes);
            }
            self.save().await;
            self.report().await;
            count += 1;
        }
        self.drain().await;
    }

    /// Makes what has changed of the files known to everybody; says whether anything has.
    pub(crate) fn take(&mut self, changes: Changes) -> bool {
        if changes.set {
            self.meet_containers();
        }
        let source = &self.shared.source;
        let any = changes.any || changes.set;
        if changes.set || changes.abandoned {
            self.shared.dirty.set(true);
            source.revision.set(source.revision.get() + 1);
            for running in self.routes.values_mut() {
                if changes.abandoned && running.route.holds_abandoned() {
                    // It may wait for a dead sink with a batch of what is given up.
                    running.restart(&self.shared);
                }
                // Also those that wait, before the kubelet deletes what they have not seen.
                sync(&running.route, &self.shared);
            }
        }
        for (container, restart) in changes.truncated {
            tell(
                Level::Error,
                "a log file was truncated; what was not read of it is lost",
                json!({"container": container, "restart": restart}),
            );
        }
        if let Some(failed) = changes.failed {
            self.tell_unreadable(failed);
        }
        if any {
            self.shared.changed.notify_waiters();
        }
        any
    }

    /// Tells what cannot be read, once for each reason.
    fn tell_unreadable(&mut self, failed: BTreeMap<PathBuf, String>) {
        for (path, reason) in &failed {
            if self.unreadable.get(path) != Some(reason) {
                tell(
                    Level::Error,
                    "failed, and tried again",
                    json!({"what": path.display().to_string(), "reason": reason}),
                );
            }
        }
        self.unreadable = failed;
    }

    /// What is saved.
    pub(crate) fn state(&self) -> State {
        let mut cursors = self.resting.clone();
        for (key, running) in &self.routes {
            cursors.insert(key.clone(), running.route.progress());
        }
        State {
            sequence: 0,
            cursors,
            retired: self.retired,
        }
    }

    /// Saves the cursors if they have changed and it is time.
    async fn save(&mut self) {
        let outcome = self.saving.outcome().await;
        if let Some(outcome) = outcome {
            self.saved(outcome);
        }
        if self.saving.is_due(self.shared.dirty.get()) {
            self.shared.dirty.set(false);
            let state = self.state();
            self.saving.begin(state);
        }
    }

    /// Saves the cursors for an agent that is started again.
    pub(crate) async fn save_at_the_end(&mut self, state: State) {
        let outcome = self.saving.last(state).await;
        self.saved(outcome);
    }

    /// A failure costs duplicates after a restart.
    fn saved(&mut self, outcome: Outcome) {
        let reason = match outcome {
            Outcome::Saved => None,
            Outcome::Failed(reason) => {
                self.shared.dirty.set(true);
                Some(reason)
            }
        };
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
