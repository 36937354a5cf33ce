//! The end of the pod: reads to the end, delivers, tells what could not be delivered. Runs once.

mod fallback;

use std::{collections::BTreeMap, time::Duration};

use serde_json::json;
use tokio::{
    join,
    time::{Instant, sleep, timeout},
};

use crate::{
    agent::{Agent, Running},
    counts::Counts,
    cursor::RouteKey,
    deliver::Phase,
    tell::{Level, tell},
    termination::{self, SinkCounts},
};
use fallback::Watch;

/// Time between two looks at the files: what the runtime has written is there at once.
const LOOK: Duration = Duration::from_millis(10);

/// As many looks without a change and the files are taken for complete.
const QUIET_LOOKS: u32 = 2;

/// As many where something was written after the signal. Then the grace period is used up and a container runs on: the
/// kubelet kills it, within two seconds (`minimumGracePeriodInSeconds`), and gives the agent as long from now on.
const QUIET_LOOKS_AFTER_WRITING: u32 = 30;

/// One part in so many of the budget is kept for counting, saving and telling.
const RESERVE: u32 = 10;

/// Counting may take as much longer than the budget as one part in so many of it: the pod has a sixth of its grace period left then.
const OVERTIME: u32 = 10;

/// And at least so long, which a short grace period may not have: then the message that is there already stays.
const LEAST_COUNTING: Duration = Duration::from_secs(2);

/// Time between two looks at sinks that have not ended.
const TICK: Duration = Duration::from_millis(50);

/// How often the message is renewed that is there if the kubelet does not wait for the end.
const RENEW: Duration = Duration::from_millis(500);

/// About how many bytes of each sink are not accounted for.
type PendingBytes = BTreeMap<RouteKey, u64>;

impl Agent {
    /// Delivers what is left, within the budget, and says what became of everything.
    pub(crate) async fn drain(mut self) {
        let begun = Instant::now();
        let budget = self.settings.drain * (RESERVE - 1) / RESERVE;
        let before = self.total();
        let deadline = begun + budget;
        self.enter(Phase::Ending);
        // The pod may have been shorter than the time between two looks.
        self.reload();
        // The kubelet may give less time than this takes.
        self.write_message(&self.message(&self.unacknowledged(), true));
        self.look_until_quiet(deadline).await;
        let changes = self.shared.source.files.borrow_mut().finish();
        let unopened = self.shared.source.files.borrow().unopened(&changes);
        self.take(changes);
        self.enter(Phase::Ended);
        let mut watch = Watch::new(begun, budget);
        let mut renewed = begun;
        while !watch.is_over(&self) && Instant::now() < deadline {
            watch.begin_due(&self);
            if renewed.elapsed() >= RENEW {
                renewed = Instant::now();
                self.write_message(&self.message(&self.unacknowledged(), true));
            }
            self.a_route_ends(TICK).await;
        }
        for running in self.routes.values() {
            running.task.abort();
        }
        watch.end();
        // An agent that is started again after all delivers what this one has to count as lost.
        let state = self.state();
        let until = begun + self.settings.drain * (OVERTIME + 1) / OVERTIME;
        let until = until.max(Instant::now() + LEAST_COUNTING);
        let uncounted = self.count_remains(&watch, &unopened, until.into_std());
        self.write_message(&self.message(&uncounted, false));
        let left = self.settings.drain.saturating_sub(begun.elapsed());
        let report = self.last_report(before, left);
        let (attempt, ()) = join!(
            async {
                match report {
                    Some(report) => Some(report.await),
                    None => None,
                }
            },
            self.save_at_the_end(state)
        );
        if let Some(attempt) = attempt {
            self.reporter.ended(attempt);
        }
        let Counts {
            delivered,
            rejected,
            dropped,
            lost,
            fallback,
        } = self.total();
        tell(
            Level::Info,
            "ended",
            json!({"delivered": delivered, "rejected": rejected, "dropped": dropped, "lost": lost,
                "fallback": fallback,
                "milliseconds": u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX)}),
        );
    }

    /// Looks at the files until they are complete: at once when all containers have ended before the signal, as they do
    /// unless they use up the grace period.
    async fn look_until_quiet(&mut self, deadline: Instant) {
        let mut quiet = 0;
        let mut needed = QUIET_LOOKS;
        // The first look sees what was written before the signal.
        let mut is_first = true;
        while quiet < needed && Instant::now() < deadline {
            let changes = self.shared.source.files.borrow_mut().scan_closely();
            if changes.any && !is_first {
                needed = QUIET_LOOKS_AFTER_WRITING;
            }
            is_first = false;
            quiet = if self.take(changes) { 0 } else { quiet + 1 };
            sleep(LOOK).await;
        }
    }

    /// Waits for the end of a route, for a while.
    async fn a_route_ends(&mut self, longest: Duration) {
        let mut unfinished = self
            .routes
            .values_mut()
            .filter(|running| !running.task.is_finished());
        if let Some(running) = unfinished.next() {
            // Elapsed or ended: either way it is looked at again.
            let _ = timeout(longest, &mut running.task).await;
        }
    }

    /// Counts what nobody will deliver any more, and tells it; gives about how many bytes there was no time to count.
    fn count_remains(
        &self,
        watch: &Watch,
        unopened: &[String],
        until: std::time::Instant,
    ) -> PendingBytes {
        let mut uncounted = PendingBytes::new();
        let mut routes: Vec<_> = self.routes.iter().collect();
        // The one with the longest backlog takes time from itself alone.
        routes.sort_by_cached_key(|(_, running)| running.route.unacknowledged());
        for (key, running) in routes {
            let route = &running.route;
            let source = &self.shared.source;
            let (losses, mut remains) = route.give_up(source, watch.of(&key.policy_uid), until);
            for gone in &losses.gone {
                gone.tell(json!({"policy": route.policy_name(), "sink": key.sink}));
            }
            remains.lost += route.lose_unopened(source, unopened);
            if remains.lost > 0 {
                let mut details =
                    json!({"policy": route.policy_name(), "sink": key.sink, "lost": remains.lost});
                if remains.uncounted_bytes > 0 {
                    details["uncounted_bytes"] = remains.uncounted_bytes.into();
                    uncounted.insert(key.clone(), remains.uncounted_bytes);
                }
                tell(
                    Level::Error,
                    "lines could not be delivered before the pod ended",
                    details,
                );
            }
        }
        uncounted
    }

    fn unacknowledged(&self) -> PendingBytes {
        let routes = self.routes.iter();
        routes
            .map(|(key, running)| (key.clone(), running.route.unacknowledged()))
            .collect()
    }

    /// What became of everything so far.
    pub(crate) fn total(&self) -> Counts {
        let mut total = self.retired;
        // Of policies that do not take this pod at the moment, too.
        for progress in self.resting.values() {
            total += progress.settled();
        }
        for running in self.routes.values() {
            total += running.route.counts();
        }
        total
    }

    /// What became of everything, but for these bytes.
    fn message(&self, pending: &PendingBytes, ending: bool) -> String {
        let sink = |running: &Running| SinkCounts {
            policy: running.route.policy_name(),
            sink: running.route.key.sink.clone(),
            counts: running.route.counts(),
            pending_bytes: pending.get(&running.route.key).copied(),
        };
        let sinks = self.routes.values().map(sink).collect();
        termination::message(self.total(), sinks, ending)
    }

    fn write_message(&self, message: &str) {
        if let Err(error) = termination::write(&self.settings.termination_log, message) {
            tell(
                Level::Warn,
                "failed to write the termination message",
                json!({"reason": error.to_string()}),
            );
        }
    }

    fn enter(&self, phase: Phase) {
        self.shared.phase.set(phase);
        self.shared.changed.notify_waiters();
    }
}
