//! The task of one route: makes batches, sends them one after the other, never gives up. Decides nothing about answers.

use std::{
    cell::{Cell, RefCell},
    io,
    rc::Rc,
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    select,
    sync::Notify,
    task::yield_now,
    time::{Instant, sleep, sleep_until, timeout_at},
};

use crate::{
    backoff::Backoff,
    bundle::Mount,
    client::Client,
    cursor::FileKey,
    route::{Batch, Route, Source},
    sink::{Cause, Destination, Verdict},
    split::{Splitting, Step},
    tell::{Level, tell},
};

/// This much to read is sent at once, without waiting for more.
const ENOUGH: u64 = 256 << 10;

/// How often an open line, or a file that cannot be read, is looked at when nothing happens.
const RECHECK: Duration = Duration::from_secs(1);

/// Splunk's default for one event (`limits.conf`, `maxEventSize`); it refuses a larger one as it refuses bad data, so
/// such a record is cut before it is put aside. Only control characters, each six bytes of JSON, make one so large.
const MAX_EVENT: usize = 5 << 20;

/// Longest wait between attempts once the pod is ending: then there is no long run to be polite for.
const LONGEST_AT_END: Duration = Duration::from_secs(1);

/// How far the agent is in its life.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Phase {
    /// The containers run.
    Running,
    /// The containers have ended; what they wrote last may still appear.
    Ending,
    /// All files are known and nothing will be added to them.
    Ended,
}

/// What the tasks of all routes share.
#[derive(Debug)]
pub struct Shared {
    /// What they read.
    pub source: Source,
    /// Where credentials are.
    pub mount: Mount,
    /// Wakes them when there is something new to read or the phase changes.
    pub changed: Notify,
    /// Ends the wait before the next attempt: a credential may have been replaced.
    pub reloaded: Notify,
    /// How far the agent is.
    pub phase: Cell<Phase>,
    /// Longest time that a line waits for others to be sent with it.
    pub flush: Duration,
    /// Whether a cursor has moved since the cursors were saved.
    pub dirty: Cell<bool>,
}

/// How a route is doing.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Health {
    Unknown,
    Delivering,
    Failing(&'static str, String),
}

/// The task of a route.
#[derive(Debug)]
pub struct Delivery {
    route: Rc<Route>,
    shared: Rc<Shared>,
    client: Option<(Destination, Client)>,
    splitting: Splitting,
    backoff: Backoff,
    health: RefCell<Health>,
    refusals: u64,
}

impl Delivery {
    /// A task that begins where the route's cursors are.
    pub fn new(route: Rc<Route>, shared: Rc<Shared>) -> Self {
        route.rewind();
        Self {
            route,
            shared,
            client: None,
            splitting: Splitting::default(),
            backoff: Backoff::default(),
            health: RefCell::new(Health::Unknown),
            refusals: 0,
        }
    }

    /// Delivers until the pod has ended and everything is delivered.
    pub async fn run(mut self) {
        while let Some(batch) = self.next_batch().await {
            self.deliver(batch).await;
        }
    }

    async fn next_batch(&mut self) -> Option<Batch> {
        let mut waiting_since = None;
        loop {
            let shared = Rc::clone(&self.shared);
            // Before looking, so that nothing that happens meanwhile is missed.
            let changed = shared.changed.notified();
            sync(&self.route, &shared);
            let pending = self.route.pending();
            if pending.any {
                let due = *waiting_since.get_or_insert_with(Instant::now) + shared.flush;
                let hurry = shared.phase.get() != Phase::Running || pending.bytes >= ENOUGH;
                if hurry || Instant::now() >= due {
                    let mut failed = Vec::new();
                    let batch =
                        self.route
                            .fill(&shared.source, self.splitting.limits(), &mut failed);
                    self.tell_unreadable(failed);
                    if batch.is_some() {
                        return batch;
                    }
                    waiting_since = None;
                    // Others have their turn, whatever there is to read.
                    yield_now().await;
                } else {
                    // Elapsed or changed: either way it is looked at again.
                    let _ = timeout_at(due, changed).await;
                }
            } else if shared.phase.get() == Phase::Ended {
                return None;
            } else if self.route.needs_time() {
                let changed = timeout_at(Instant::now() + RECHECK, changed).await;
                if changed.is_err() {
                    self.route.retry_failed();
                }
            } else {
                changed.await;
            }
        }
    }

    /// Sends a batch until the sink has it or says what is wrong with it.
    async fn deliver(&mut self, batch: Batch) {
        let records = batch.body.records;
        loop {
            let verdict = match self.attempt(&batch).await {
                // Something that refuses the first thing it is sent is more likely the wrong address than the
                // right one with a bad record; waiting loses nothing.
                Verdict::Refused {
                    reason,
                    record: None,
                } if records == 1 && self.route.counts().delivered == 0 && self.is_generic() => {
                    Verdict::Hold {
                        cause: Cause::Misconfigured,
                        reason: format!("{reason} for the first record sent"),
                    }
                }
                verdict => verdict,
            };
            let step = match verdict {
                Verdict::Delivered => {
                    self.is(&Health::Delivering);
                    self.backoff.reset();
                    self.splitting.delivered(records);
                    self.route.delivered(&batch);
                    self.shared.dirty.set(true);
                    return;
                }
                Verdict::Retry { reason, after } => {
                    self.is(&Health::Failing("Unreachable", reason));
                    self.pause(after).await;
                    continue;
                }
                Verdict::Hold { cause, reason } => {
                    let cause = match cause {
                        Cause::AuthenticationFailed => "AuthenticationFailed",
                        Cause::Misconfigured => "Misconfigured",
                    };
                    self.is(&Health::Failing(cause, reason));
                    self.pause(None).await;
                    continue;
                }
                Verdict::Split => {
                    let step = self.splitting.too_large(records, batch.body.size);
                    (step, "too large for the sink".to_owned())
                }
                Verdict::Refused { reason, .. } if records == 1 && batch.body.size > MAX_EVENT => {
                    (self.splitting.too_large(1, batch.body.size), reason)
                }
                Verdict::Refused { record, reason } => {
                    (self.splitting.refused(records, record), reason)
                }
            };
            match step {
                (Step::Smaller, _) => self.route.rewind(),
                (Step::Reject, reason) => {
                    self.route.rejected(&batch);
                    self.shared.dirty.set(true);
                    self.tell_refused(&reason);
                }
            }
            return;
        }
    }

    async fn attempt(&mut self, batch: &Batch) -> Verdict {
        let target = self.route.target();
        // Also a credential that was just replaced is used at once.
        let destination = match Destination::resolve(&target, &self.shared.mount.current()) {
            Ok(destination) => destination,
            Err(error) => {
                return Verdict::Hold {
                    cause: Cause::AuthenticationFailed,
                    reason: error.to_string(),
                };
            }
        };
        let kind = destination.kind;
        let mut client = match self.client.take() {
            Some((known, client)) if known == destination => client,
            _ => match Client::new(&destination) {
                Ok(client) => client,
                Err(error) => {
                    return Verdict::Hold {
                        cause: Cause::Misconfigured,
                        reason: error.to_string(),
                    };
                }
            },
        };
        match client.post(batch.body.bytes.clone()).await {
            Ok(response) => {
                self.client = Some((destination, client));
                kind.judge(&response.answer())
            }
            Err(failure) => Verdict::Retry {
                reason: failure.to_string(),
                after: None,
            },
        }
    }

    fn is_generic(&self) -> bool {
        matches!(self.route.target(), katonic_log_config::Target::Http(_))
    }

    /// Waits before the next attempt; not longer than a moment once the pod is ending.
    async fn pause(&mut self, asked: Option<Duration>) {
        let wait = self.backoff.next(asked);
        let start = Instant::now();
        loop {
            let running = self.shared.phase.get() == Phase::Running;
            let end = start
                + if running {
                    wait
                } else {
                    wait.min(LONGEST_AT_END)
                };
            if Instant::now() >= end {
                return;
            }
            if running {
                select! {
                    () = sleep_until(end) => return,
                    () = self.shared.reloaded.notified() => return,
                    // Perhaps of phase.
                    () = self.shared.changed.notified() => {}
                }
            } else {
                sleep(end - Instant::now()).await;
            }
        }
    }

    fn is(&self, health: &Health) {
        let before = self.health.replace(health.clone());
        if before == *health {
            return;
        }
        let (level, state, reason) = match health {
            Health::Unknown => return,
            Health::Delivering => (Level::Info, "Delivering", None),
            Health::Failing(state, reason) => (Level::Warn, *state, Some(reason)),
        };
        let mut details = self.describe();
        details["state"] = state.into();
        if let Some(reason) = reason {
            details["reason"] = reason.as_str().into();
        }
        if let Some((destination, _)) = &self.client {
            details["address"] = destination.address().into();
        }
        tell(level, "sink", details);
    }

    /// The first of a run of refusals and then each time their number has doubled: a sink may refuse very many.
    fn tell_refused(&mut self, reason: &str) {
        self.refusals += 1;
        if self.refusals.is_power_of_two() {
            let mut details = self.describe();
            details["reason"] = reason.into();
            details["rejected"] = self.route.counts().rejected.into();
            tell(
                Level::Error,
                "the sink refuses records for their content",
                details,
            );
        }
    }

    fn tell_unreadable(&self, failed: Vec<(FileKey, io::Error)>) {
        for (key, error) in failed {
            let mut details = self.describe();
            details["container"] = key.container.into();
            details["restart"] = key.restart.into();
            details["reason"] = error.to_string().into();
            tell(Level::Error, "failed to read a log file", details);
        }
    }

    fn describe(&self) -> Value {
        describe(&self.route)
    }
}

/// Shows a route the files that there are by now.
pub fn sync(route: &Route, shared: &Shared) {
    let lost = route.sync(&shared.source);
    if lost > 0 {
        shared.dirty.set(true);
        let mut details = describe(route);
        details["lost"] = lost.into();
        tell(
            Level::Error,
            "lines were given up with files that were deleted long ago",
            details,
        );
    }
}

fn describe(route: &Route) -> Value {
    json!({"policy": route.policy_name(), "sink": route.key.sink})
}
