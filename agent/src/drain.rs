//! The end of the pod: reads to the end, delivers, tells what could not be delivered. Runs once.

use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep, timeout_at};

use crate::{
    agent::Agent,
    deliver::Phase,
    route::Counts,
    tell::{Level, tell},
    termination::{self, SinkCounts},
};

/// Time between two looks at the files: what the runtime has written is there at once.
const LOOK: Duration = Duration::from_millis(10);

/// As many looks without a change and the files are taken for complete.
const QUIET_LOOKS: u32 = 2;

/// One part in so many of the budget is kept for counting, saving and telling.
const RESERVE: u32 = 10;

impl Agent {
    /// Delivers what is left, within the budget, and says what became of everything.
    pub(crate) async fn drain(mut self) {
        let begun = Instant::now();
        let deadline = begun + self.settings.drain * (RESERVE - 1) / RESERVE;
        self.enter(Phase::Ending);
        // The pod may have been shorter than the time between two looks.
        self.reload();
        let mut quiet = 0;
        while quiet < QUIET_LOOKS && Instant::now() < deadline {
            quiet = if self.scan() { 0 } else { quiet + 1 };
            self.shared.changed.notify_waiters();
            sleep(LOOK).await;
        }
        self.shared.source.files.borrow().finish();
        self.enter(Phase::Ended);
        let mut total = self.retired;
        let mut sinks = Vec::new();
        for running in self.routes.values_mut() {
            if timeout_at(deadline, &mut running.task).await.is_err() {
                running.task.abort();
            }
        }
        for (key, running) in &self.routes {
            let lost = running.route.give_up(&self.shared.source);
            let policy = running.route.policy_name();
            if lost > 0 {
                tell(
                    Level::Error,
                    "lines could not be delivered before the pod ended",
                    json!({"policy": policy, "sink": key.sink, "lost": lost}),
                );
            }
            let counts = running.route.counts();
            total = add(total, counts);
            sinks.push(SinkCounts {
                policy,
                sink: key.sink.clone(),
                counts,
            });
        }
        self.save_at_the_end().await;
        let message = termination::message(total, sinks);
        if let Err(error) = termination::write(&self.settings.termination_log, &message) {
            tell(
                Level::Warn,
                "failed to write the termination message",
                json!({"reason": error.to_string()}),
            );
        }
        let Counts {
            delivered,
            rejected,
            lost,
        } = total;
        tell(
            Level::Info,
            "ended",
            json!({"delivered": delivered, "rejected": rejected, "lost": lost,
                "milliseconds": u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX)}),
        );
    }

    fn enter(&self, phase: Phase) {
        self.shared.phase.set(phase);
        self.shared.changed.notify_waiters();
    }
}

fn add(one: Counts, other: Counts) -> Counts {
    Counts {
        delivered: one.delivered + other.delivered,
        rejected: one.rejected + other.rejected,
        lost: one.lost + other.lost,
    }
}
