//! The webhook's metrics, in OpenMetrics text.

use std::time::Duration;

use katonic_logging_core::webhook::review;
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

use crate::metrics::Outcome;

/// Seconds. An answer is promised within 3 ms.
const BUCKETS: [f64; 12] = [
    0.000_05, 0.000_1, 0.000_2, 0.000_5, 0.001, 0.002, 0.003, 0.005, 0.01, 0.1, 1.0, 5.0,
];

/// Counters of the webhook.
#[derive(Debug)]
pub(super) struct Metrics {
    registry: Registry,
    admissions: Family<AdmissionLabels, Counter>,
    duration: Histogram,
    certificates: Family<OutcomeLabels, Counter>,
    expiry: Gauge,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct AdmissionLabels {
    decision: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct OutcomeLabels {
    outcome: &'static str,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("katonic_logging_webhook");
        let admissions = Family::default();
        registry.register(
            "admissions",
            "Pods that were asked about, by what became of them",
            admissions.clone(),
        );
        let duration = Histogram::new(BUCKETS);
        registry.register_with_unit(
            "admission_duration",
            "How long an answer took, from the whole question on",
            Unit::Seconds,
            duration.clone(),
        );
        let certificates = Family::default();
        registry.register(
            "certificate_loads",
            "Times that a changed certificate was taken up, or could not be",
            certificates.clone(),
        );
        let expiry = Gauge::default();
        registry.register(
            "certificate_expiry_timestamp_seconds",
            "When the certificate in use ceases to be valid, in seconds since 1970; 0: there is none",
            expiry.clone(),
        );
        Self {
            registry,
            admissions,
            duration,
            certificates,
            expiry,
        }
    }
}

impl Metrics {
    /// A question was answered, or could not be read.
    pub(super) fn answered(&self, outcome: Option<&review::Outcome>, took: Duration) {
        let (decision, reason) = outcome.map_or(("Failed", "Unreadable"), review::Outcome::labels);
        self.admissions
            .get_or_create(&AdmissionLabels { decision, reason })
            .inc();
        self.duration.observe(took.as_secs_f64());
    }

    /// A changed certificate was taken up, or could not be.
    pub(super) fn certificate(&self, outcome: Outcome) {
        let outcome = outcome.as_str();
        self.certificates
            .get_or_create(&OutcomeLabels { outcome })
            .inc();
    }

    /// When the certificate in use ceases to be valid, in seconds since 1970.
    pub(super) fn certificate_expires(&self, at: i64) {
        self.expiry.set(at);
    }

    /// All of it as text.
    ///
    /// # Errors
    /// When a metric cannot be written as text.
    pub(super) fn encode(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::reference;

    #[test]
    fn every_metric_is_in_the_reference_with_its_labels_and_no_other_is() {
        let metrics = Metrics::default();
        metrics.answered(None, Duration::from_millis(1));
        metrics.certificate(Outcome::Success);
        reference::assert_is_told(&metrics.encode().unwrap(), |name| {
            name.starts_with("katonic_logging_webhook_")
        });
    }
}
