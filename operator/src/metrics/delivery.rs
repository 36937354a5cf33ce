//! What agents report, as metrics: a few series for each policy and each of its sinks, and none for those that are gone.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

use katonic_logging_core::delivery::{Delivery, Fleet, Survey, Totals};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, Ord, PartialEq, PartialOrd)]
struct RecordLabels {
    policy: String,
    sink: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, Ord, PartialEq, PartialOrd)]
struct SinkLabels {
    policy: String,
    sink: String,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, Ord, PartialEq, PartialOrd)]
struct AgentLabels {
    policy: String,
    state: &'static str,
}

/// Metrics of deliveries.
#[derive(Debug, Default)]
pub struct DeliveryMetrics {
    records: Family<RecordLabels, Counter>,
    agents: Family<AgentLabels, Gauge>,
    failing: Family<SinkLabels, Gauge>,
    lag: Family<SinkLabels, Gauge>,
    pending: Family<SinkLabels, Gauge>,
    acknowledged: Family<SinkLabels, Gauge>,
    unacknowledged: Family<RecordLabels, Gauge>,
    unreported: Family<SinkLabels, Gauge>,
    told: Mutex<Told>,
}

/// The series that there are.
#[derive(Debug, Default)]
struct Told {
    records: BTreeSet<RecordLabels>,
    agents: BTreeSet<AgentLabels>,
    sinks: BTreeSet<SinkLabels>,
    acknowledged: BTreeSet<SinkLabels>,
    unacknowledged: BTreeSet<RecordLabels>,
    unreported: BTreeSet<SinkLabels>,
}

impl DeliveryMetrics {
    /// Registers them.
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "records",
            "Records of a policy by what became of them at a sink, as agents have reported since this instance leads",
            self.records.clone(),
        );
        registry.register(
            "agents",
            "Agents that run in pods of a policy, by whether they run it as it is written",
            self.agents.clone(),
        );
        registry.register(
            "sink_failing_agents",
            "Agents for which a sink of a policy has failed for a while",
            self.failing.clone(),
        );
        registry.register_with_unit(
            "sink_lag",
            "How far a sink of a policy is behind, for the worst of its agents",
            Unit::Seconds,
            self.lag.clone(),
        );
        registry.register_with_unit(
            "sink_pending",
            "What a sink of a policy has not acknowledged of the log files of all agents",
            Unit::Bytes,
            self.pending.clone(),
        );
        registry.register(
            "sink_last_acknowledgement_timestamp_seconds",
            "When a sink of a policy last acknowledged anything, in seconds since 1970",
            self.acknowledged.clone(),
        );
        registry.register(
            "unreported_pods",
            "Pods that ended without a last report while something was pending for a sink, until somebody has acknowledged it",
            self.unreported.clone(),
        );
        registry.register(
            "unacknowledged_records",
            "Records that a sink has not got, as the policy's status tells them until somebody has acknowledged it",
            self.unacknowledged.clone(),
        );
    }

    /// Follows what agents have reported.
    pub fn follow(&self, fleet: &Fleet, survey: &Survey) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::take(&mut *told);
        for (route, totals) in fleet.totals() {
            let policy = &survey.of(&route.policy).policy;
            if policy.is_empty() {
                continue;
            }
            for (outcome, total) in outcomes(totals) {
                let labels = RecordLabels {
                    policy: policy.clone(),
                    sink: route.sink.clone(),
                    outcome,
                };
                // What there has never been needs no series.
                if total > 0 || before.records.contains(&labels) {
                    let counter = self.records.get_or_create(&labels);
                    counter.inc_by(total.saturating_sub(counter.get()));
                    drop(counter);
                    told.records.insert(labels);
                }
            }
        }
        for delivery in survey.deliveries() {
            self.follow_policy(delivery, &mut told);
        }
        for labels in before.records.difference(&told.records) {
            self.records.remove(labels);
        }
        for labels in before.agents.difference(&told.agents) {
            self.agents.remove(labels);
        }
        for labels in before.sinks.difference(&told.sinks) {
            self.failing.remove(labels);
            self.lag.remove(labels);
            self.pending.remove(labels);
        }
        for labels in before.acknowledged.difference(&told.acknowledged) {
            self.acknowledged.remove(labels);
        }
        for labels in before.unreported.difference(&told.unreported) {
            self.unreported.remove(labels);
        }
        for labels in before.unacknowledged.difference(&told.unacknowledged) {
            self.unacknowledged.remove(labels);
        }
    }

    fn follow_policy(&self, delivery: &Delivery, told: &mut Told) {
        let policy = &delivery.policy;
        let refusing: usize = delivery.refusing.values().map(|one| one.agents).sum();
        let refusing = refusing + delivery.held_back;
        let states = [
            ("current", delivery.current),
            ("outdated", delivery.outdated),
            ("refusing", refusing),
            ("silent", delivery.silent),
        ];
        for (state, agents) in states {
            let labels = AgentLabels {
                policy: policy.clone(),
                state,
            };
            self.agents.get_or_create(&labels).set(gauge(agents));
            told.agents.insert(labels);
        }
        for (name, sink) in &delivery.sinks {
            let labels = SinkLabels {
                policy: policy.clone(),
                sink: name.clone(),
            };
            let failing = sink.failing.values().map(|one| one.agents).sum();
            self.failing.get_or_create(&labels).set(gauge(failing));
            let lag = i64::try_from(sink.lag).unwrap_or(i64::MAX);
            self.lag.get_or_create(&labels).set(lag);
            let pending = i64::try_from(sink.pending).unwrap_or(i64::MAX);
            self.pending.get_or_create(&labels).set(pending);
            if let Some(at) = sink.acknowledged {
                self.acknowledged.get_or_create(&labels).set(at.as_second());
                told.acknowledged.insert(labels.clone());
            }
            let unreported = sink.losses.as_ref().map_or(0, |losses| losses.unreported);
            if unreported > 0 {
                let pods = i64::try_from(unreported).unwrap_or(i64::MAX);
                self.unreported.get_or_create(&labels).set(pods);
                told.unreported.insert(labels.clone());
            }
            told.sinks.insert(labels);
            let losses = sink.losses.iter();
            let losses =
                losses.flat_map(|losses| [("lost", losses.lost), ("rejected", losses.rejected)]);
            for (outcome, records) in losses.filter(|(_, records)| *records > 0) {
                let labels = RecordLabels {
                    policy: policy.clone(),
                    sink: name.clone(),
                    outcome,
                };
                let records = i64::try_from(records).unwrap_or(i64::MAX);
                self.unacknowledged.get_or_create(&labels).set(records);
                told.unacknowledged.insert(labels);
            }
        }
    }
}

fn outcomes(totals: &Totals) -> [(&'static str, u64); 5] {
    let Totals {
        delivered,
        rejected,
        dropped,
        lost,
        fallback,
    } = *totals;
    [
        ("delivered", delivered),
        ("rejected", rejected),
        ("dropped", dropped),
        ("lost", lost),
        ("fallback", fallback),
    ]
}

fn gauge(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::{
        collections::{BTreeMap, HashSet},
        sync::Arc,
    };

    use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
    use katonic_log_config::report::{PolicyReport, Report, SinkReport};
    use katonic_logging_core::{
        Candidate, Installation,
        acknowledgement::Acknowledged,
        coverage::{self, Index},
        delivery::{Asked, PlanePods, Pod},
        names,
    };
    use katonic_logging_crds::{LoggingPolicy, LoggingPolicySpec, Plane, SinkLosses, SinkStatus};
    use prometheus_client::encoding::text::encode;

    use super::*;

    const COMPUTE: &str = "katonic-compute";

    /// Pods that the policy `uid` takes.
    fn index() -> Index {
        let yaml = "
namespaces: {platform: {name: katonic-platform}, compute: {name: katonic-compute}}
logging: {agent: {image: 'localhost/katonic-log-agent:0.1.0'}}
";
        let installation = Installation::validate(yaml, names::OPERATOR_NAMESPACE).unwrap();
        let mut policy = LoggingPolicy::new("logs", LoggingPolicySpec::default());
        policy.metadata.uid = Some("uid".to_owned());
        policy.spec.sinks = serde_json::from_value(serde_json::json!([
            {"name": "http", "http": {"url": "https://logs.example.com"}},
        ]))
        .unwrap();
        let mut index = Index::new(Plane::Compute);
        index.follow_policies([&Candidate::readable(&policy)], &installation);
        index
    }

    /// How the policies are doing by what a pod says that has just ended.
    fn heard(fleet: &mut Fleet, asked: &Asked<'_>, report: Report, now: Timestamp) -> Survey {
        let pod = Pod {
            uid: "pod".into(),
            namespace: COMPUTE.into(),
            name: "web".into(),
        };
        let facts = coverage::Pod {
            uid: "pod".into(),
            containers: vec!["web".into()],
            ..coverage::Pod::default()
        };
        fleet.take(pod, Some(Arc::new(facts)), report, now);
        let index = index();
        let pods = PlanePods {
            namespace: COMPUTE,
            index: &index,
            revisions: BTreeMap::new(),
            live: HashSet::new(),
        };
        let planes = [(Plane::Compute, pods)].into();
        fleet.survey(&planes, std::slice::from_ref(asked), now)
    }

    impl DeliveryMetrics {
        /// Gives each metric a series.
        pub(crate) fn follow_an_example(&self) {
            let mut fleet = Fleet::default();
            let losses = SinkLosses {
                lost: 2,
                rejected: 1,
                unreported: 3,
                last: Time(Timestamp::UNIX_EPOCH),
                rejection: None,
                pods: Vec::new(),
                more_pods: 0,
            };
            let told = SinkStatus {
                name: "splunk".into(),
                kind: "splunk".into(),
                in_force: true,
                reason: "Configured".into(),
                message: None,
                delivery: None,
                losses: Some(losses),
                unidentified: None,
                retention: None,
            };
            let asked = Asked {
                name: "logs",
                uid: "uid",
                sinks: None,
                told: &[told],
                acknowledged: Acknowledged::default(),
            };
            let sink = SinkReport {
                name: "splunk".into(),
                delivered: 7,
                ..SinkReport::default()
            };
            let policy = PolicyReport {
                uid: "uid".into(),
                sinks: vec![sink],
                ..PolicyReport::default()
            };
            let report = Report {
                policies: vec![policy],
                ..Report::default()
            };
            let now = Timestamp::from_second(1000).unwrap();
            let survey = heard(&mut fleet, &asked, report, now);
            self.follow(&fleet, &survey);
            let labels = SinkLabels {
                policy: "logs".to_owned(),
                sink: "splunk".to_owned(),
            };
            self.acknowledged.get_or_create(&labels).set(1000);
        }
    }

    #[test]
    fn records_are_told_until_somebody_has_acknowledged_them() {
        let metrics = DeliveryMetrics::default();
        let mut registry = Registry::with_prefix("katonic_logging");
        metrics.register(&mut registry);
        let shown = || {
            let mut text = String::new();
            encode(&mut text, &registry).unwrap();
            text
        };
        metrics.follow_an_example();
        let series = |outcome: &str, count: u64| {
            format!(
                r#"katonic_logging_unacknowledged_records{{policy="logs",sink="splunk",outcome="{outcome}"}} {count}"#
            )
        };
        let text = shown();
        let unreported = r#"katonic_logging_unreported_pods{policy="logs",sink="splunk"} 3"#;
        for line in [series("lost", 2), series("rejected", 1), unreported.into()] {
            assert!(text.contains(&line), "{line} is missing in\n{text}");
        }
        metrics.follow(&Fleet::default(), &Survey::default());
        assert!(!shown().contains(r#"outcome="lost""#) && !shown().contains("unreported_pods{"));
    }

    #[test]
    fn records_are_counted_by_what_became_of_them_and_forgotten_with_the_policy() {
        let metrics = DeliveryMetrics::default();
        let mut registry = Registry::with_prefix("katonic_logging");
        metrics.register(&mut registry);
        let shown = || {
            let mut text = String::new();
            encode(&mut text, &registry).unwrap();
            text
        };
        let mut fleet = Fleet::default();
        let now = Timestamp::from_second(1000).unwrap();
        let asked = Asked {
            name: "logs",
            uid: "uid",
            sinks: None,
            told: &[],
            acknowledged: Acknowledged::default(),
        };
        let mut report = |delivered, lost| {
            let sink = SinkReport {
                name: "splunk".into(),
                delivered,
                lost,
                ..SinkReport::default()
            };
            let policy = PolicyReport {
                uid: "uid".into(),
                sinks: vec![sink],
                ..PolicyReport::default()
            };
            let report = Report {
                policies: vec![policy],
                ..Report::default()
            };
            let survey = heard(&mut fleet, &asked, report, now);
            metrics.follow(&fleet, &survey);
            shown()
        };
        let series = |outcome: &str, count: u64| {
            format!(
                r#"katonic_logging_records_total{{policy="logs",sink="splunk",outcome="{outcome}"}} {count}"#
            )
        };
        let text = report(7, 0);
        assert!(text.contains(&series("delivered", 7)), "{text}");
        assert!(!text.contains("lost"), "{text}");
        let text = report(9, 2);
        assert!(text.contains(&series("delivered", 9)), "{text}");
        assert!(text.contains(&series("lost", 2)), "{text}");
        assert!(
            text.contains(r#"katonic_logging_agents{policy="logs",state="current"} 0"#),
            "{text}"
        );
        let survey = fleet.survey(&BTreeMap::new(), &[], now);
        metrics.follow(&fleet, &survey);
        assert!(!shown().contains("splunk"));
    }
}
