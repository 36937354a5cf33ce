//! A workload as far as its restart is concerned.

use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
    jiff::{SignedDuration, Timestamp},
};
use katonic_log_config::layout;
use serde::Deserialize;

use crate::{coverage::WorkloadKind, names};

/// How long a workload that names no deadline may be without progress: what a Deployment has by default.
const DEADLINE: SignedDuration = SignedDuration::from_mins(10);

/// How long any workload may be without progress, whatever it names: all others wait for it, and its deadline is its owner's to
/// choose.
const LONGEST_DEADLINE: SignedDuration = SignedDuration::from_hours(1);

/// A Deployment, `StatefulSet` or `DaemonSet` as the API has it; of its template's containers, the names of those that may be the agent.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Object {
    /// Its metadata.
    pub metadata: ObjectMeta,
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    replicas: Option<i64>,
    #[serde(default)]
    paused: bool,
    progress_deadline_seconds: Option<i64>,
    update_strategy: Option<UpdateStrategy>,
    #[serde(default)]
    template: Template,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct Template {
    #[serde(default)]
    spec: TemplateSpec,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct TemplateSpec {
    #[serde(default)]
    init_containers: Vec<Named>,
}

#[derive(Clone, Debug, Deserialize)]
struct Named {
    name: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct UpdateStrategy {
    #[serde(rename = "type")]
    type_: Option<String>,
    rolling_update: Option<RollingUpdate>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct RollingUpdate {
    partition: Option<i64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    observed_generation: i64,
    replicas: i64,
    updated_replicas: i64,
    available_replicas: i64,
    ready_replicas: i64,
    current_revision: Option<String>,
    update_revision: Option<String>,
    conditions: Vec<Condition>,
    desired_number_scheduled: i64,
    updated_number_scheduled: i64,
    number_available: i64,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct Condition {
    #[serde(rename = "type")]
    type_: String,
    reason: Option<String>,
}

/// What of a workload decides about its restart.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Observed {
    /// Its UID.
    pub uid: String,
    /// Its generation.
    pub generation: i64,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// Whether its pods are all there, as they should be.
    pub health: Health,
    /// How far it is: when these change, it makes progress.
    pub numbers: Numbers,
    /// How long it may be without progress.
    pub deadline: SignedDuration,
    /// Why it cannot be restarted.
    pub obstacle: Option<Obstacle>,
    /// When the operator restarted it, if nobody else has since.
    pub restarted_by_us: Option<Timestamp>,
    /// Whether our restart is the last change of it, and has not been seen complete: what is wrong with it is our business.
    pub in_our_rollout: bool,
}

/// How far a workload is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Numbers {
    /// Pods of the present template.
    pub updated: i64,
    /// Pods that are available; ready ones of a `StatefulSet`.
    pub available: i64,
}

impl Numbers {
    /// Whether there is progress. A pod that comes and goes is none: what counts is what was not reached before.
    pub(super) fn is_better_than(self, best: Self) -> bool {
        self.updated > best.updated
            || (self.updated == best.updated && self.available > best.available)
    }
}

/// What `kubectl rollout status` would say.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Health {
    /// All pods are updated and available.
    Complete,
    /// They are not yet.
    Progressing,
    /// Kubernetes itself has given up waiting: the condition `Progressing` of a Deployment.
    DeadlineExceeded,
}

/// Why a workload cannot be restarted, or not as a whole.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Obstacle {
    /// Its template has an agent of its own, which every new pod would have again.
    InTemplate,
    /// A Deployment that is paused takes no restart.
    Paused,
    /// Its pods are only replaced when somebody deletes them.
    OnDelete,
    /// Only a part of its pods would be replaced.
    Partitioned,
}

impl Object {
    /// What decides about its restart.
    pub fn observe(&self, kind: WorkloadKind) -> Observed {
        let (health, numbers) = self.health(kind);
        let deadline = self.spec.progress_deadline_seconds;
        Observed {
            uid: self.metadata.uid.clone().unwrap_or_default(),
            generation: self.metadata.generation.unwrap_or_default(),
            deleting: self.metadata.deletion_timestamp.is_some(),
            health,
            numbers,
            deadline: deadline
                .map_or(DEADLINE, SignedDuration::from_secs)
                .min(LONGEST_DEADLINE),
            obstacle: self.obstacle(kind),
            restarted_by_us: self.restarted_by_us(),
            in_our_rollout: !self.was_rolled_out(kind) && self.is_last_changed_by_us(),
        }
    }

    /// The rules of `kubectl rollout status` (kubectl: `polymorphichelpers`).
    fn health(&self, kind: WorkloadKind) -> (Health, Numbers) {
        let status = &self.status;
        let is_seen = self.metadata.generation.unwrap_or_default() <= status.observed_generation;
        let wanted = self.spec.replicas.unwrap_or(1);
        let is_given_up = status.conditions.iter().any(|condition| {
            condition.type_ == "Progressing"
                && condition.reason.as_deref() == Some("ProgressDeadlineExceeded")
        });
        let (is_complete, numbers) = match kind {
            WorkloadKind::Deployment => (
                status.updated_replicas >= wanted
                    && status.replicas <= status.updated_replicas
                    && status.available_replicas >= status.updated_replicas,
                Numbers {
                    updated: status.updated_replicas,
                    available: status.available_replicas,
                },
            ),
            WorkloadKind::StatefulSet => {
                let partition = self.partition();
                let is_updated = if partition > 0 {
                    status.updated_replicas >= wanted - partition
                } else {
                    status.update_revision == status.current_revision
                };
                (
                    status.ready_replicas >= wanted && is_updated,
                    Numbers {
                        updated: status.updated_replicas,
                        available: status.ready_replicas,
                    },
                )
            }
            WorkloadKind::DaemonSet => (
                status.updated_number_scheduled >= status.desired_number_scheduled
                    && status.number_available >= status.desired_number_scheduled,
                Numbers {
                    updated: status.updated_number_scheduled,
                    available: status.number_available,
                },
            ),
        };
        let health = if is_seen && is_complete {
            Health::Complete
        } else if is_seen && is_given_up && kind == WorkloadKind::Deployment {
            Health::DeadlineExceeded
        } else {
            Health::Progressing
        };
        (health, numbers)
    }

    /// Whether the present template was once in all pods and all of them available, as far as the kind keeps that.
    fn was_rolled_out(&self, kind: WorkloadKind) -> bool {
        let status = &self.status;
        let is_seen = self.metadata.generation.unwrap_or_default() <= status.observed_generation;
        is_seen
            && match kind {
                WorkloadKind::Deployment => status.conditions.iter().any(|condition| {
                    condition.type_ == "Progressing"
                        && condition.reason.as_deref() == Some("NewReplicaSetAvailable")
                }),
                WorkloadKind::StatefulSet => status.update_revision == status.current_revision,
                WorkloadKind::DaemonSet => false,
            }
    }

    /// Whether nobody has changed it since our field manager did. Whoever scales it or tells its status does not count.
    fn is_last_changed_by_us(&self) -> bool {
        let Some(ours) = self.restarted_by_us() else {
            return false;
        };
        let entries = self.metadata.managed_fields.iter().flatten();
        let mut others = entries.filter(|entry| {
            entry.subresource.is_none() && entry.manager.as_deref() != Some(names::FIELD_MANAGER)
        });
        !others.any(|entry| entry.time.as_ref().is_some_and(|time| time.0 > ours))
    }

    fn partition(&self) -> i64 {
        let strategy = self.spec.update_strategy.as_ref();
        let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
        rolling.and_then(|rolling| rolling.partition).unwrap_or(0)
    }

    fn obstacle(&self, kind: WorkloadKind) -> Option<Obstacle> {
        let strategy = self.spec.update_strategy.as_ref();
        let type_ = strategy.and_then(|strategy| strategy.type_.as_deref());
        let mut of_template = self.spec.template.spec.init_containers.iter();
        if of_template.any(|one| one.name == layout::CONTAINER) {
            return Some(Obstacle::InTemplate);
        }
        match kind {
            WorkloadKind::Deployment => self.spec.paused.then_some(Obstacle::Paused),
            WorkloadKind::StatefulSet | WorkloadKind::DaemonSet if type_ == Some("OnDelete") => {
                Some(Obstacle::OnDelete)
            }
            WorkloadKind::StatefulSet => (self.partition() > 0).then_some(Obstacle::Partitioned),
            WorkloadKind::DaemonSet => None,
        }
    }

    /// When our field manager wrote the annotation. If another one has written it since, that one has it.
    fn restarted_by_us(&self) -> Option<Timestamp> {
        let entries = self.metadata.managed_fields.iter().flatten();
        entries
            .filter(|entry| entry.manager.as_deref() == Some(names::FIELD_MANAGER))
            .filter_map(|entry| entry.time.as_ref().map(|time| time.0))
            .max()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn observe(kind: WorkloadKind, object: Value) -> Observed {
        let object: Object = serde_json::from_value(object).unwrap();
        object.observe(kind)
    }

    fn health(kind: WorkloadKind, spec: &Value, status: &Value) -> Health {
        observe(
            kind,
            json!({"metadata": {"generation": 2}, "spec": spec, "status": status}),
        )
        .health
    }

    #[test]
    fn a_deployment_is_complete_when_every_new_pod_is_available_and_no_old_one_is_left() {
        let status = |change: Value| {
            let mut status = json!({
                "observedGeneration": 2, "replicas": 3, "updatedReplicas": 3, "availableReplicas": 3,
            });
            for (field, value) in change.as_object().unwrap() {
                status[field] = value.clone();
            }
            health(WorkloadKind::Deployment, &json!({"replicas": 3}), &status)
        };
        assert_eq!(status(json!({})), Health::Complete);
        for change in [
            json!({"observedGeneration": 1}),
            json!({"updatedReplicas": 2}),
            json!({"replicas": 4}),
            json!({"availableReplicas": 2}),
        ] {
            assert_eq!(status(change), Health::Progressing);
        }
        let given_up = json!({
            "availableReplicas": 2,
            "conditions": [{"type": "Progressing", "reason": "ProgressDeadlineExceeded"}],
        });
        assert_eq!(status(given_up), Health::DeadlineExceeded);
    }

    #[test]
    fn a_stateful_set_is_complete_when_its_revisions_are_one() {
        let status = |update: &str, ready: i64| {
            let status = json!({
                "observedGeneration": 2, "readyReplicas": ready,
                "currentRevision": "a", "updateRevision": update,
            });
            health(WorkloadKind::StatefulSet, &json!({"replicas": 2}), &status)
        };
        assert_eq!(status("a", 2), Health::Complete);
        assert_eq!(status("b", 2), Health::Progressing);
        assert_eq!(status("a", 1), Health::Progressing);
    }

    #[test]
    fn a_daemon_set_is_complete_when_it_is_on_every_node() {
        let status = |updated: i64, available: i64| {
            let status = json!({
                "observedGeneration": 2, "desiredNumberScheduled": 2,
                "updatedNumberScheduled": updated, "numberAvailable": available,
            });
            health(WorkloadKind::DaemonSet, &json!({}), &status)
        };
        assert_eq!(status(2, 2), Health::Complete);
        assert_eq!(status(1, 2), Health::Progressing);
        assert_eq!(status(2, 1), Health::Progressing);
    }

    /// `progressDeadlineSeconds` of 2³¹−1 is how a Deployment says that it has none.
    #[test]
    fn a_deadline_is_the_workloads_own_up_to_an_hour() {
        let deadline = |kind, spec: Value| {
            observe(kind, json!({"metadata": {}, "spec": spec}))
                .deadline
                .as_mins()
        };
        for (seconds, minutes) in [(60, 1), (3600, 60), (3601, 60), (i32::MAX, 60)] {
            let spec = json!({"progressDeadlineSeconds": seconds});
            assert_eq!(deadline(WorkloadKind::Deployment, spec), minutes);
        }
        assert_eq!(deadline(WorkloadKind::StatefulSet, json!({})), 10);
    }

    #[test]
    fn what_takes_no_restart_is_seen() {
        let obstacle =
            |kind, spec: Value| observe(kind, json!({"metadata": {}, "spec": spec})).obstacle;
        let paused = json!({"paused": true});
        assert_eq!(
            obstacle(WorkloadKind::Deployment, paused),
            Some(Obstacle::Paused)
        );
        let on_delete = || json!({"updateStrategy": {"type": "OnDelete"}});
        for kind in [WorkloadKind::StatefulSet, WorkloadKind::DaemonSet] {
            assert_eq!(obstacle(kind, on_delete()), Some(Obstacle::OnDelete));
            assert_eq!(obstacle(kind, json!({})), None);
        }
        let partition =
            json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 1}}});
        assert_eq!(
            obstacle(WorkloadKind::StatefulSet, partition),
            Some(Obstacle::Partitioned)
        );
        let template =
            json!({"template": {"spec": {"initContainers": [{"name": "katonic-log-agent"}]}}});
        let others = json!({"template": {"spec": {"initContainers": [{"name": "migrate"}]}}});
        for kind in WorkloadKind::ALL {
            assert_eq!(obstacle(kind, template.clone()), Some(Obstacle::InTemplate));
            assert_eq!(obstacle(kind, others.clone()), None);
        }
    }

    #[test]
    fn a_restart_of_ours_is_known_by_its_field_manager() {
        let entry = |manager: &str, time: &str| json!({"manager": manager, "time": time, "operation": "Update"});
        let object = json!({"metadata": {"managedFields": [
            entry("kubectl-rollout", "2026-11-26T09:00:00Z"),
            entry("katonic-logging", "2026-11-26T08:00:00Z"),
        ]}});
        let restarted = observe(WorkloadKind::Deployment, object).restarted_by_us;
        assert_eq!(restarted, Some("2026-11-26T08:00:00Z".parse().unwrap()));
        assert_eq!(
            observe(WorkloadKind::Deployment, json!({"metadata": {}})).restarted_by_us,
            None
        );
    }

    #[test]
    fn what_is_wrong_after_our_restart_is_ours_until_it_was_complete_or_somebody_else_changed_it() {
        let is_ours = |kind, status: Value, other: Value| {
            let mut other = other;
            other["manager"] = "argocd-controller".into();
            let ours = json!({"manager": "katonic-logging", "time": "2026-11-26T08:00:00Z"});
            let object = json!({
                "metadata": {"generation": 2, "managedFields": [ours, other]},
                "status": status,
            });
            observe(kind, object).in_our_rollout
        };
        let before = || json!({"time": "2026-11-26T07:00:00Z"});
        let later = || json!({"time": "2026-11-26T09:00:00Z"});
        let scaled = json!({"time": "2026-11-26T09:00:00Z", "subresource": "scale"});
        let progressing = |reason: &str| {
            let condition = json!({"type": "Progressing", "reason": reason});
            json!({"observedGeneration": 2, "conditions": [condition]})
        };
        let deployment = WorkloadKind::Deployment;
        let unfinished = || progressing("ReplicaSetUpdated");
        assert!(is_ours(deployment, unfinished(), before()));
        assert!(is_ours(deployment, unfinished(), scaled));
        assert!(!is_ours(deployment, unfinished(), later()));
        assert!(!is_ours(
            deployment,
            progressing("NewReplicaSetAvailable"),
            before()
        ));
        let set = |update: &str| json!({"observedGeneration": 2, "currentRevision": "a", "updateRevision": update});
        assert!(is_ours(WorkloadKind::StatefulSet, set("b"), before()));
        assert!(!is_ours(WorkloadKind::StatefulSet, set("a"), before()));
    }
}
