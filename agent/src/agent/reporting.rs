//! Gathers what the operator is told of this pod. Sends nothing.

use std::time::{Duration, Instant};

use katonic_log_config::{
    Report,
    report::{PolicyReport, SinkReport, shortened},
};

use super::{Agent, Running};
use crate::{
    counts::Counts,
    cursor::RouteKey,
    report::{Sending, page, standing::Standing},
    route::{Condition, Health, Route},
};

/// How long the end of the pod waits for its last report: a healthy operator answers in a few milliseconds.
const LAST: Duration = Duration::from_millis(150);

/// The same where records were lost or rejected since the pod began to end.
const LAST_WITH_LOSSES: Duration = Duration::from_secs(2);

impl Agent {
    /// Reports if something has changed or it is time.
    pub(super) async fn report(&mut self) {
        self.reporter.look().await;
        let mut news = std::mem::take(&mut self.news);
        for running in self.routes.values() {
            news |= running.route.take_news();
        }
        if news {
            self.reporter.changed();
        }
        if self.reporter.is_due()
            && let Some(authorization) = self.reporter.authorization()
        {
            let body = self.gather(false);
            self.reporter.begin(authorization, body);
        }
    }

    /// The last report, on its way for as long as the end of the pod waits for it; `before`: what became of everything
    /// before the pod began to end.
    pub(crate) fn last_report(&mut self, before: Counts, left: Duration) -> Option<Sending> {
        if !self.reporter.is_wanted() {
            return None;
        }
        let authorization = self.reporter.authorization()?;
        let after = self.total();
        let patience = if after.lost > before.lost || after.rejected > before.rejected {
            LAST_WITH_LOSSES
        } else {
            LAST
        };
        let body = self.gather(true);
        self.reporter.last(authorization, body, patience.min(left))
    }

    /// Takes down how far each sink is behind.
    pub(super) fn look_at_lags(&self) {
        if self.reporter.is_wanted() {
            let now = Instant::now();
            for running in self.routes.values() {
                running.route.look(now);
            }
        }
    }

    fn gather(&self, last: bool) -> Vec<u8> {
        let now = Instant::now();
        let head = Report {
            agent: env!("CARGO_PKG_VERSION").to_owned(),
            uptime: now.saturating_duration_since(self.begun).as_secs(),
            last,
            bundle_refused: self.bundle_refused.clone(),
            ..Report::default()
        };
        let (first, then): (Vec<&Standing>, Vec<&Standing>) = self
            .standings
            .iter()
            .partition(|standing| self.has_complaint(standing));
        let policies = first.into_iter().chain(then);
        page::fill(head, policies.map(|of| self.report_of(of, now, last)))
    }

    fn has_complaint(&self, standing: &Standing) -> bool {
        let mut sinks = self.sinks_of(standing);
        standing.refused.is_some() || sinks.any(|running| running.route.has_complaint())
    }

    fn report_of(&self, standing: &Standing, now: Instant, last: bool) -> PolicyReport {
        let sinks = self.sinks_of(standing);
        PolicyReport {
            uid: standing.uid.clone(),
            revision: standing.revision.clone(),
            refused: standing.refused.clone(),
            sinks: sinks
                .map(|running| sink_report(&running.route, now, last))
                .collect(),
        }
    }

    fn sinks_of(&self, standing: &Standing) -> impl Iterator<Item = &Running> {
        let first = RouteKey {
            policy_uid: standing.uid.clone(),
            sink: String::new(),
        };
        let from = self.routes.range(first..);
        let of_policy = from.take_while(|(key, _)| key.policy_uid == standing.uid);
        of_policy.map(|(_, running)| running)
    }
}

fn sink_report(route: &Route, now: Instant, last: bool) -> SinkReport {
    let Counts {
        delivered,
        rejected,
        dropped,
        lost,
        fallback,
    } = route.counts();
    let Condition {
        health,
        since,
        acknowledged,
        rejection,
        last_loss,
    } = route.condition();
    let age = |of: Instant| now.saturating_duration_since(of).as_secs();
    SinkReport {
        name: route.key.sink.clone(),
        state: health.state(),
        since: age(since),
        message: match &health {
            Health::Unknown | Health::Delivering => None,
            Health::Failing(_, reason) => Some(shortened(reason)),
        },
        acknowledged: acknowledged.map(age),
        // Once all is counted, nothing waits.
        pending: if last { 0 } else { route.unacknowledged() },
        lag: if last { 0 } else { route.lag(now).as_secs() },
        delivered,
        rejected,
        rejection: rejection.as_deref().map(shortened),
        dropped,
        lost,
        last_loss: last_loss.map(age),
        fallback,
        unidentified: route.is_unidentified(),
    }
}
