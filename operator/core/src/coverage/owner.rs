//! Who makes a pod anew.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

/// What a pod names as its controller.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Parent {
    /// A `ReplicaSet`, which only carries out what its own controller wants.
    ReplicaSet {
        /// Its name.
        name: String,
        /// Its UID.
        uid: String,
    },
    /// Whoever decides about the pod.
    Owner(Owner),
}

/// Who decides about a pod.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Owner {
    /// A workload that `kubectl rollout restart` knows.
    Workload(Workload),
    /// A Job of this name: its pods run once.
    Job(String),
    /// Nobody: the pod was created by itself.
    Nobody,
    /// Something that only its maker knows how to restart.
    Other {
        /// Its kind.
        kind: String,
        /// Its name.
        name: String,
    },
}

/// A workload that makes its pods anew when its template changes.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Workload {
    /// Its kind.
    pub kind: WorkloadKind,
    /// Its name.
    pub name: String,
}

/// Kinds of workloads.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum WorkloadKind {
    /// `apps/v1` Deployment.
    Deployment,
    /// `apps/v1` `StatefulSet`.
    StatefulSet,
    /// `apps/v1` `DaemonSet`.
    DaemonSet,
}

impl Default for Parent {
    fn default() -> Self {
        Self::Owner(Owner::Nobody)
    }
}

impl Parent {
    /// The controller among the owners of an object, a pod's or a `ReplicaSet`'s.
    pub fn of(owners: Option<&[OwnerReference]>) -> Self {
        let controller = owners
            .into_iter()
            .flatten()
            .find(|owner| owner.controller == Some(true));
        let Some(owner) = controller else {
            return Self::default();
        };
        let name = owner.name.clone();
        let group = owner
            .api_version
            .split_once('/')
            .map_or("", |(group, _)| group);
        let workload = |kind| {
            Self::Owner(Owner::Workload(Workload {
                kind,
                name: name.clone(),
            }))
        };
        match (group, owner.kind.as_str()) {
            ("apps", "ReplicaSet") => Self::ReplicaSet {
                name,
                uid: owner.uid.clone(),
            },
            ("apps", "Deployment") => workload(WorkloadKind::Deployment),
            ("apps", "StatefulSet") => workload(WorkloadKind::StatefulSet),
            ("apps", "DaemonSet") => workload(WorkloadKind::DaemonSet),
            ("batch", "Job") => Self::Owner(Owner::Job(name)),
            (_, kind) => Self::Owner(Owner::Other {
                kind: kind.to_owned(),
                name,
            }),
        }
    }

    /// Who decides about pods of this parent, when a `ReplicaSet`'s own parent is this.
    pub fn owner(&self, of_replica_set: Option<&Self>) -> Owner {
        let name = match self {
            Self::Owner(owner) => return owner.clone(),
            Self::ReplicaSet { name, .. } => name,
        };
        match of_replica_set {
            Some(Self::Owner(owner)) if *owner != Owner::Nobody => owner.clone(),
            // One that stands alone does not make its pods anew when its template changes.
            _ => Owner::Other {
                kind: "ReplicaSet".to_owned(),
                name: name.clone(),
            },
        }
    }
}

impl WorkloadKind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Deployment, Self::StatefulSet, Self::DaemonSet];

    /// As kubectl takes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deployment => "deployment",
            Self::StatefulSet => "statefulset",
            Self::DaemonSet => "daemonset",
        }
    }
}

/// The command of kubectl that restarts workloads of a namespace.
pub fn restart_command<'a>(
    namespace: &str,
    workloads: impl IntoIterator<Item = &'a Workload>,
) -> String {
    let names: Vec<String> = workloads.into_iter().map(ToString::to_string).collect();
    format!("kubectl -n {namespace} rollout restart {}", names.join(" "))
}

impl fmt::Display for Workload {
    /// As kubectl takes it: `deployment/web`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.kind.as_str(), self.name)
    }
}

impl fmt::Display for Owner {
    /// As kubectl takes it, as far as there is one.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Workload(workload) => workload.fmt(formatter),
            Self::Job(name) => write!(formatter, "job/{name}"),
            Self::Nobody => formatter.write_str("-"),
            Self::Other { kind, name } => {
                write!(formatter, "{}/{name}", kind.to_ascii_lowercase())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference(api_version: &str, kind: &str, controller: bool) -> OwnerReference {
        OwnerReference {
            api_version: api_version.into(),
            kind: kind.into(),
            name: "it".into(),
            uid: "uid".into(),
            controller: Some(controller),
            ..OwnerReference::default()
        }
    }

    fn parent(api_version: &str, kind: &str) -> Parent {
        Parent::of(Some(&[reference(api_version, kind, true)]))
    }

    #[test]
    fn the_controller_is_told_by_group_and_kind() {
        assert_eq!(
            parent("apps/v1", "StatefulSet").owner(None).to_string(),
            "statefulset/it"
        );
        assert_eq!(
            parent("batch/v1", "Job").owner(None),
            Owner::Job("it".into())
        );
        let other = parent("apps.example.com/v1", "StatefulSet").owner(None);
        assert!(matches!(other, Owner::Other { .. }));
        let merely_owned = [reference("apps/v1", "StatefulSet", false)];
        assert_eq!(Parent::of(Some(&merely_owned)), Parent::default());
    }

    #[test]
    fn behind_a_replica_set_stands_its_own_controller() {
        let replica_set = parent("apps/v1", "ReplicaSet");
        let deployment = parent("apps/v1", "Deployment");
        assert_eq!(
            replica_set.owner(Some(&deployment)).to_string(),
            "deployment/it"
        );
        let rollout = parent("argoproj.io/v1alpha1", "Rollout");
        assert_eq!(
            replica_set.owner(Some(&rollout)),
            Owner::Other {
                kind: "Rollout".into(),
                name: "it".into()
            }
        );
        for alone in [None, Some(&Parent::default())] {
            assert_eq!(replica_set.owner(alone).to_string(), "replicaset/it");
        }
    }
}
