//! Where a delivery's batches come from: waits until there is enough, or for long enough. Sends nothing.

use std::{rc::Rc, time::Duration};

use tokio::{
    task::yield_now,
    time::{Instant, timeout_at},
};

use super::{Phase, Shared, sync};
use crate::{
    batch::{Body, Limits},
    route::{Ends, Filled, Route, Trouble},
};

/// This much to read is sent at once, without waiting for more.
const ENOUGH: u64 = 256 << 10;

/// How often an open line, or a file that cannot be read, is looked at when nothing happens.
const RECHECK: Duration = Duration::from_secs(1);

/// What there is.
#[derive(Debug)]
pub enum Fed {
    /// Something to send.
    Batch(Body, Ends),
    /// Something was read and there is nothing in it to send.
    Nothing(Ends),
    /// Files that could not be read.
    Unreadable(Vec<Trouble>),
    /// No record can be made, for this reason: a credential is missing.
    Held(String),
    /// Nothing is left, and nothing will come.
    Over,
}

/// The unread part of a route.
#[derive(Debug)]
pub struct Feed {
    route: Rc<Route>,
    shared: Rc<Shared>,
    flush: Duration,
    waiting_since: Option<Instant>,
    next: Option<Fed>,
}

impl Feed {
    /// The unread part of a route.
    pub fn new(route: Rc<Route>, shared: Rc<Shared>) -> Self {
        Self {
            flush: route.flush().unwrap_or(shared.flush),
            route,
            shared,
            waiting_since: None,
            next: None,
        }
    }

    /// What comes next. Nothing is lost when it is not waited for to the end.
    pub async fn next(&mut self, limits: Limits) -> Fed {
        if let Some(next) = self.next.take() {
            return next;
        }
        loop {
            let shared = Rc::clone(&self.shared);
            // Before looking, so that nothing that happens meanwhile is missed.
            let changed = shared.changed.notified();
            sync(&self.route, &shared);
            let pending = self.route.pending();
            if pending.any {
                let due = *self.waiting_since.get_or_insert_with(Instant::now) + self.flush;
                let hurry = shared.phase.get() != Phase::Running
                    || pending.bytes >= ENOUGH
                    || pending.overdue;
                if hurry || Instant::now() >= due {
                    // Others have their turn, whatever there is to read.
                    yield_now().await;
                    return self.fill(limits);
                }
                // Elapsed or changed: either way it is looked at again.
                let _ = timeout_at(due, changed).await;
            } else if shared.phase.get() == Phase::Ended {
                return Fed::Over;
            } else {
                let recheck = self.route.needs_time().then(|| Instant::now() + RECHECK);
                let due = self.route.due().map(Instant::from_std);
                let Some(next) = recheck.into_iter().chain(due).min() else {
                    changed.await;
                    continue;
                };
                let changed = timeout_at(next, changed).await;
                if changed.is_err() && recheck == Some(next) {
                    self.route.retry_failed();
                }
            }
        }
    }

    fn fill(&mut self, limits: Limits) -> Fed {
        let ready = match self.route.ready(&self.shared.mount.current()) {
            Ok(ready) => ready,
            Err(error) => return Fed::Held(error.to_string()),
        };
        self.waiting_since = None;
        let mut troubles = Vec::new();
        let Filled { body, ends } =
            self.route
                .fill(&self.shared.source, &ready, limits, &mut troubles);
        let fed = match body {
            Some(body) => Fed::Batch(body, ends),
            None => Fed::Nothing(ends),
        };
        if troubles.is_empty() {
            return fed;
        }
        self.next = Some(fed);
        Fed::Unreadable(troubles)
    }

    /// Forgets what was read and not yet given, because the route is read again.
    pub fn reset(&mut self) {
        self.next = None;
    }
}
