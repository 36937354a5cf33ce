//! The agent as a whole: applies the bundle, looks at files and credentials, saves cursors. Sends nothing itself.

mod reload;

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    io,
    rc::Rc,
    time::Duration,
};

use katonic_log_config::layout;
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
    cursor::{Crash, Cursors, RouteKey, Store},
    deliver::{Delivery, Phase, Shared, sync},
    files::Files,
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
    saving: Option<JoinHandle<io::Result<()>>>,
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
            saving: None,
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
        self.save_aside().await;
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
        if changes.set || changes.abandoned {
            // Also those that wait for a sink, before the kubelet deletes what they have not seen.
            for running in self.routes.values() {
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

    fn cursors(&self) -> Cursors {
        let mut cursors = self.resting.clone();
        for (key, running) in &self.routes {
            cursors.insert(key.clone(), running.route.progress(&self.shared.source));
        }
        cursors
    }

    /// Begins to save the cursors beside everything else, because the disk may be slow; looks how the last time went.
    async fn save_aside(&mut self) {
        if self
            .saving
            .as_ref()
            .is_some_and(|saving| !saving.is_finished())
        {
            return;
        }
        self.finish_saving().await;
        if self.shared.dirty.replace(false) {
            let (store, cursors) = (self.store.clone(), self.cursors());
            self.saving = Some(spawn_blocking(move || store.save(&cursors, Crash::Node)));
        }
    }

    /// Waits for the end of what [`Agent::save_aside`] has begun. A failure costs duplicates after a restart.
    async fn finish_saving(&mut self) {
        let Some(saving) = self.saving.take() else {
            return;
        };
        let reason = match saving.await {
            Ok(saved) => saved.err().map(|error| error.to_string()),
            Err(error) => Some(error.to_string()),
        };
        if reason.is_some() {
            self.shared.dirty.set(true);
        }
        self.problem("cursors".into(), reason);
    }

    /// Saves the cursors for an agent that is started again.
    pub(crate) async fn save_at_the_end(&mut self) {
        // It would put older cursors over these.
        self.finish_saving().await;
        let saved = self.store.save(&self.cursors(), Crash::Process);
        self.problem("cursors".into(), saved.err().map(|error| error.to_string()));
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
