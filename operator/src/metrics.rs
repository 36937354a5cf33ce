//! The operator's metrics, in OpenMetrics text.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use katonic_logging_core::{
    coverage::{Counts, State},
    way::Way,
};
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Metric, Registry, Unit},
};

use crate::reports;

mod delivery;
mod readiness;
#[cfg(test)]
pub(crate) mod reference;

pub use delivery::DeliveryMetrics;
pub use readiness::Readiness;

/// Counters of the controller.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// What agents report.
    pub delivery: DeliveryMetrics,
    reconciles: Family<OutcomeLabels, Counter>,
    duration: Histogram,
    writes: Family<WriteLabels, Counter>,
    policies: Family<ReadyLabels, Gauge>,
    /// Policies that are not ready.
    pub readiness: Readiness,
    pods: Family<PodLabels, Gauge>,
    counted: Mutex<BTreeMap<String, Counts>>,
    leader: Gauge,
    injection: Family<WayLabels, Gauge>,
    injection_wanted: Gauge,
    certificate: Gauge,
    looks: Family<OutcomeLabels, Counter>,
    reports: Family<OutcomeLabels, Counter>,
    reviews: Family<OutcomeLabels, Counter>,
    reporting: Gauge,
    reports_certificate: Gauge,
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

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct PodLabels {
    policy: String,
    state: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct WayLabels {
    way: &'static str,
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

    /// As a label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
        }
    }
}

/// A metric that has no value yet.
fn registered<M: Metric + Clone + Default>(registry: &mut Registry, name: &str, help: &str) -> M {
    let metric = M::default();
    registry.register(name, help, metric.clone());
    metric
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("katonic_logging");
        let reconciles = registered(
            &mut registry,
            "reconciles",
            "Passes that have made a plan and applied it, or could not",
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
        let policies = registered(
            &mut registry,
            "policies",
            "Logging policies, by whether they are ready",
        );
        let readiness = Readiness::default();
        readiness.register(&mut registry);
        let pods = registered(
            &mut registry,
            "pods",
            "Running pods that a policy takes, by whether they have the log agent that new pods get, or why not",
        );
        let leader = registered(
            &mut registry,
            "leader",
            "Whether this instance holds the lease",
        );
        let injection = registered(
            &mut registry,
            "injection",
            "Ways that pods are injected: 1 for each that has been seen in force, be it with an agent of before",
        );
        let injection_wanted = registered(
            &mut registry,
            "injection_wanted",
            "Whether any policy wants new pods to get the log agent",
        );
        let certificate = registered(
            &mut registry,
            "webhook_certificate_expiry_timestamp_seconds",
            "When the certificate made for the webhook ceases to be valid, in seconds since 1970; 0: there is none",
        );
        let looks = registered(
            &mut registry,
            "bucket_looks",
            "Times that the lifecycle rules of a bucket were looked at",
        );
        let delivery = DeliveryMetrics::default();
        delivery.register(&mut registry);
        let reports = registered(
            &mut registry,
            "reports",
            "Reports that pods have sent, by what became of them",
        );
        let reviews = registered(
            &mut registry,
            "token_reviews",
            "Times that the API server was asked whose the token of a report is, by its answer",
        );
        let reporting = registered(
            &mut registry,
            "reporting_pods",
            "Pods whose reports are at hand",
        );
        let reports_certificate = registered(
            &mut registry,
            "reports_certificate_expiry_timestamp_seconds",
            "When the certificate that reports are received with ceases to be valid, in seconds since 1970; 0: there is none",
        );
        Self {
            registry,
            delivery,
            reconciles,
            duration,
            writes,
            policies,
            readiness,
            pods,
            counted: Mutex::default(),
            leader,
            injection,
            injection_wanted,
            certificate,
            looks,
            reports,
            reviews,
            reporting,
            reports_certificate,
        }
    }
}

impl Metrics {
    /// A pass has made a plan and applied it, or could not.
    pub fn reconciled(&self, outcome: Outcome) {
        let outcome = outcome.as_str();
        let labels = OutcomeLabels { outcome };
        self.reconciles.get_or_create(&labels).inc();
    }

    /// The cluster was observed and a plan was made, or could not be.
    pub fn planned(&self, took: Duration) {
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

    /// The lifecycle rules of a bucket were looked at, or could not be.
    pub fn looked(&self, outcome: Outcome) {
        let outcome = outcome.as_str();
        self.looks.get_or_create(&OutcomeLabels { outcome }).inc();
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

    /// The pods of every policy by its name; policies that are not named are forgotten. A series is there from the first
    /// pod in its state on, so there are few for each policy, and none for those that are gone.
    pub fn count_pods(&self, policies: BTreeMap<String, Counts>) {
        let mut known = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        for (policy, before) in known.iter() {
            let now = policies.get(policy);
            if now == Some(before) {
                continue;
            }
            for state in State::ALL {
                let labels = PodLabels {
                    policy: policy.clone(),
                    state: state.as_str(),
                };
                match now {
                    Some(_) if before.of(state) > 0 => {
                        self.pods.get_or_create(&labels).set(0);
                    }
                    Some(_) => {}
                    None => {
                        self.pods.remove(&labels);
                    }
                }
            }
        }
        for (policy, now) in &policies {
            if known.get(policy) == Some(now) {
                continue;
            }
            for state in State::ALL.into_iter().filter(|state| now.of(*state) > 0) {
                let labels = PodLabels {
                    policy: policy.clone(),
                    state: state.as_str(),
                };
                let count = i64::try_from(now.of(state)).unwrap_or(i64::MAX);
                self.pods.get_or_create(&labels).set(count);
            }
        }
        *known = policies;
    }

    /// Whether this instance holds the lease.
    pub fn set_leader(&self, leads: bool) {
        self.leader.set(leads.into());
    }

    /// Whether any policy wants pods to be injected.
    pub fn want_injection(&self, wanted: bool) {
        self.injection_wanted.set(wanted.into());
    }

    /// The way that pods were last seen to be injected.
    pub fn set_injection(&self, in_force: Option<Way>) {
        for way in [Way::AdmissionPolicy, Way::Webhook] {
            let labels = WayLabels { way: way.as_str() };
            let gauge = self.injection.get_or_create(&labels);
            gauge.set((in_force == Some(way)).into());
        }
    }

    /// When the webhook's certificate ceases to be valid, in seconds since 1970.
    pub fn set_certificate_expiry(&self, at: Option<i64>) {
        self.certificate.set(at.unwrap_or_default());
    }

    /// A report was taken or refused.
    pub fn reported(&self, outcome: reports::Outcome) {
        let outcome = outcome.as_str();
        self.reports.get_or_create(&OutcomeLabels { outcome }).inc();
    }

    /// The API server was asked whose a token is.
    pub fn reviewed(&self, outcome: reports::Review) {
        let outcome = outcome.as_str();
        self.reviews.get_or_create(&OutcomeLabels { outcome }).inc();
    }

    /// How many pods report.
    pub fn count_reporting_pods(&self, pods: usize) {
        self.reporting.set(i64::try_from(pods).unwrap_or(i64::MAX));
    }

    /// When the certificate that reports are received with ceases to be valid, in seconds since 1970.
    pub fn set_reports_certificate_expiry(&self, at: Option<i64>) {
        self.reports_certificate.set(at.unwrap_or_default());
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
        metrics.reconciled(Outcome::Success);
        metrics.planned(Duration::from_millis(3));
        metrics.want_injection(true);
        metrics.wrote("Secret", Outcome::Failure);
        metrics.count_policies(2, 1);
        metrics.set_leader(true);
        metrics.set_injection(Some(Way::Webhook));
        metrics.set_certificate_expiry(Some(1_800_000_000));
        metrics.reported(reports::Outcome::TooLarge);
        metrics.reviewed(reports::Review::Refused);
        metrics.count_reporting_pods(7);
        metrics.set_reports_certificate_expiry(Some(1_900_000_000));
        let text = metrics.encode().unwrap();
        for line in [
            r#"katonic_logging_reconciles_total{outcome="success"} 1"#,
            "katonic_logging_reconcile_duration_seconds_count 1",
            r#"katonic_logging_writes_total{kind="Secret",outcome="failure"} 1"#,
            r#"katonic_logging_policies{ready="true"} 2"#,
            r#"katonic_logging_policies{ready="false"} 1"#,
            "katonic_logging_leader 1",
            "katonic_logging_injection_wanted 1",
            r#"katonic_logging_injection{way="AdmissionPolicy"} 0"#,
            r#"katonic_logging_injection{way="Webhook"} 1"#,
            "katonic_logging_webhook_certificate_expiry_timestamp_seconds 1800000000",
            r#"katonic_logging_reports_total{outcome="too_large"} 1"#,
            r#"katonic_logging_token_reviews_total{outcome="refused"} 1"#,
            "katonic_logging_reporting_pods 7",
            "katonic_logging_reports_certificate_expiry_timestamp_seconds 1900000000",
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
    }

    #[test]
    fn every_metric_is_in_the_reference_with_its_labels_and_no_other_is() {
        let metrics = Metrics::default();
        metrics.reconciled(Outcome::Success);
        metrics.planned(Duration::from_millis(3));
        metrics.wrote("Secret", Outcome::Failure);
        metrics.looked(Outcome::Success);
        metrics.count_policies(2, 1);
        let unready = [("logs".to_owned(), "LinesLost".to_owned())];
        metrics.readiness.follow("LoggingPolicy", unready.into());
        let counts = [(State::Current, 3)].into_iter().collect();
        metrics.count_pods([("logs".to_owned(), counts)].into());
        metrics.set_injection(Some(Way::Webhook));
        metrics.reported(reports::Outcome::TooLarge);
        metrics.reviewed(reports::Review::Refused);
        metrics.delivery.follow_an_example();
        let of_the_webhook = "katonic_logging_webhook_";
        let own = "katonic_logging_webhook_certificate_expiry_timestamp_seconds";
        reference::assert_is_told(&metrics.encode().unwrap(), |name| {
            !name.starts_with(of_the_webhook) || name == own
        });
    }

    #[test]
    fn pods_are_counted_by_policy_and_state_and_forgotten_with_the_policy() {
        let metrics = Metrics::default();
        let count = |states: &[(State, usize)]| {
            let counts = states.iter().copied().collect();
            metrics.count_pods([("logs".to_owned(), counts)].into());
            metrics.encode().unwrap()
        };
        let series = |state: &str, count: usize| {
            format!(r#"katonic_logging_pods{{policy="logs",state="{state}"}} {count}"#)
        };
        let text = count(&[(State::Current, 3), (State::CreatedBefore, 2)]);
        assert!(text.contains(&series("CreatedBefore", 2)), "{text}");
        assert!(!text.contains("Windows"), "{text}");
        let text = count(&[(State::Current, 5)]);
        assert!(text.contains(&series("Current", 5)), "{text}");
        assert!(text.contains(&series("CreatedBefore", 0)), "{text}");
        metrics.count_pods(BTreeMap::new());
        assert!(!metrics.encode().unwrap().contains("logs"));
    }
}
