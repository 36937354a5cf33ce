//! The operator's metrics, in OpenMetrics text.

use std::time::Duration;

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};

/// Counters of the controller.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    reconciles: Family<OutcomeLabels, Counter>,
    duration: Histogram,
    writes: Family<WriteLabels, Counter>,
    policies: Family<ReadyLabels, Gauge>,
    leader: Gauge,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct OutcomeLabels {
    outcome: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct WriteLabels {
    kind: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct ReadyLabels {
    ready: &'static str,
}

/// How something went.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// Well.
    Success,
    /// Not.
    Failure,
}

impl Outcome {
    /// Of a result.
    pub fn of<T, E>(result: &Result<T, E>) -> Self {
        if result.is_ok() {
            Self::Success
        } else {
            Self::Failure
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("katonic_logging");
        let reconciles = Family::default();
        registry.register(
            "reconciles",
            "Times that a plan was made",
            reconciles.clone(),
        );
        // From 1 ms to half a minute.
        let duration = Histogram::new(exponential_buckets(0.001, 2.0, 15));
        registry.register_with_unit(
            "reconcile_duration",
            "How long observing the cluster and making the plan took",
            Unit::Seconds,
            duration.clone(),
        );
        let writes = Family::default();
        registry.register("writes", "Objects written, by kind", writes.clone());
        let policies = Family::default();
        registry.register(
            "policies",
            "Logging policies, by whether they are ready",
            policies.clone(),
        );
        let leader = Gauge::default();
        registry.register(
            "leader",
            "Whether this instance holds the lease",
            leader.clone(),
        );
        Self {
            registry,
            reconciles,
            duration,
            writes,
            policies,
            leader,
        }
    }
}

impl Metrics {
    /// A plan was made, or could not be.
    pub fn reconciled(&self, outcome: Outcome, took: Duration) {
        self.reconciles
            .get_or_create(&OutcomeLabels {
                outcome: outcome.as_str(),
            })
            .inc();
        self.duration.observe(took.as_secs_f64());
    }

    /// An object was written, or could not be.
    pub fn wrote(&self, kind: &'static str, outcome: Outcome) {
        self.writes
            .get_or_create(&WriteLabels {
                kind,
                outcome: outcome.as_str(),
            })
            .inc();
    }

    /// How many policies there are.
    pub fn count_policies(&self, ready: usize, not_ready: usize) {
        let set = |ready, count: usize| {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            self.policies
                .get_or_create(&ReadyLabels { ready })
                .set(count);
        };
        set("true", ready);
        set("false", not_ready);
    }

    /// Whether this instance holds the lease.
    pub fn set_leader(&self, leads: bool) {
        self.leader.set(leads.into());
    }

    /// All of it as text.
    ///
    /// # Errors
    /// When a metric cannot be written as text.
    pub fn encode(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_exposed() {
        let metrics = Metrics::default();
        metrics.reconciled(Outcome::Success, Duration::from_millis(3));
        metrics.wrote("Secret", Outcome::Failure);
        metrics.count_policies(2, 1);
        metrics.set_leader(true);
        let text = metrics.encode().unwrap();
        for line in [
            r#"katonic_logging_reconciles_total{outcome="success"} 1"#,
            "katonic_logging_reconcile_duration_seconds_count 1",
            r#"katonic_logging_writes_total{kind="Secret",outcome="failure"} 1"#,
            r#"katonic_logging_policies{ready="true"} 2"#,
            r#"katonic_logging_policies{ready="false"} 1"#,
            "katonic_logging_leader 1",
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
    }
}
