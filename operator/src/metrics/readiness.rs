//! Which policies are not ready, as metrics: one series for each of them, and none for those that are.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{family::Family, gauge::Gauge},
    registry::Registry,
};

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct UnreadyLabels {
    kind: &'static str,
    policy: String,
    reason: String,
}

/// Policies that are not ready.
#[derive(Debug, Default)]
pub struct Readiness {
    unready: Family<UnreadyLabels, Gauge>,
    /// The reason of each, by kind and name.
    told: Mutex<BTreeMap<(&'static str, String), String>>,
}

impl Readiness {
    /// Registers them.
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "policy_not_ready",
            "1 for each policy that is not ready, with the reason of its condition Ready",
            self.unready.clone(),
        );
    }

    /// The policies of a kind that are not ready, each with the reason; those that are not named are ready or gone.
    pub fn follow(&self, kind: &'static str, unready: BTreeMap<String, String>) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.retain(|(of_kind, policy), reason| {
            let stays = *of_kind != kind || unready.get(policy) == Some(reason);
            if !stays {
                self.unready.remove(&UnreadyLabels {
                    kind: of_kind,
                    policy: policy.clone(),
                    reason: reason.clone(),
                });
            }
            stays
        });
        for (policy, reason) in unready {
            let labels = UnreadyLabels {
                kind,
                policy: policy.clone(),
                reason: reason.clone(),
            };
            self.unready.get_or_create(&labels).set(1);
            told.insert((kind, policy), reason);
        }
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;

    #[test]
    fn a_policy_has_one_series_for_as_long_as_it_is_not_ready() {
        let readiness = Readiness::default();
        let mut registry = Registry::with_prefix("katonic_logging");
        readiness.register(&mut registry);
        let follow = |kind, unready: &[(&str, &str)]| {
            let owned = unready
                .iter()
                .map(|(policy, reason)| ((*policy).into(), (*reason).into()));
            readiness.follow(kind, owned.collect());
            let mut text = String::new();
            encode(&mut text, &registry).unwrap();
            let series = text.lines().filter(|line| !line.starts_with('#'));
            series.map(str::to_owned).collect::<Vec<_>>()
        };
        let series = |kind: &str, reason: &str| {
            format!(
                r#"katonic_logging_policy_not_ready{{kind="{kind}",policy="logs",reason="{reason}"}} 1"#
            )
        };
        let logging = "LoggingPolicy";
        assert_eq!(
            follow(logging, &[("logs", "LinesLost")]),
            [series(logging, "LinesLost")]
        );
        assert_eq!(
            follow(logging, &[("logs", "Backlogged")]),
            [series(logging, "Backlogged")]
        );
        let both = follow("AuditPolicy", &[("logs", "Backlogged")]);
        assert_eq!(both.len(), 2);
        assert_eq!(follow(logging, &[]), [series("AuditPolicy", "Backlogged")]);
        assert!(follow("AuditPolicy", &[]).is_empty());
    }
}
