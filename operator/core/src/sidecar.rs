//! The log agent as part of a pod: one specification, whatever way it is injected.

use k8s_openapi::{
    api::core::v1::{
        Capabilities, Container, DownwardAPIVolumeFile, DownwardAPIVolumeSource,
        EmptyDirVolumeSource, EnvVar, EnvVarSource, HostPathVolumeSource, ObjectFieldSelector,
        ResourceRequirements, SeccompProfile, SecretVolumeSource, SecurityContext, Volume,
        VolumeMount,
    },
    apimachinery::pkg::api::resource::Quantity,
};
use katonic_log_config::layout;

use crate::{installation::Agent, names};

const POD_LOGS: &str = "katonic-podlogs";
const POD_INFO: &str = "katonic-podinfo";
const STATE: &str = "katonic-log-state";
const NO_TOKEN: &str = "katonic-no-token";

/// Names of all volumes of ours.
pub const VOLUMES: [&str; 5] = [POD_LOGS, names::BUNDLE, POD_INFO, STATE, NO_TOKEN];

/// Volumes of ours that would keep the cluster autoscaler from removing a node: a `hostPath`, and an `emptyDir` on disk.
pub const LOCAL_VOLUMES: [&str; 2] = [POD_LOGS, STATE];

/// What is added to a pod.
#[derive(Clone, Debug)]
pub struct Sidecar {
    /// The container, to be put before all init containers: it starts first and stops last (KEP-753).
    pub container: Container,
    /// Its volumes.
    pub volumes: Vec<Volume>,
}

/// The log agent of this installation.
pub fn sidecar(agent: &Agent) -> Sidecar {
    Sidecar {
        container: container(agent),
        volumes: volumes(),
    }
}

fn container(agent: &Agent) -> Container {
    Container {
        name: layout::CONTAINER.to_owned(),
        image: Some(agent.image.clone()),
        image_pull_policy: Some("IfNotPresent".to_owned()),
        // A native sidecar: it holds up neither the start of the pod nor the end of a Job.
        restart_policy: Some("Always".to_owned()),
        env: Some(vec![
            field(layout::ENV_NAMESPACE, "metadata.namespace"),
            field(layout::ENV_POD, "metadata.name"),
            field(layout::ENV_POD_UID, "metadata.uid"),
            field(layout::ENV_NODE, "spec.nodeName"),
        ]),
        resources: Some(ResourceRequirements {
            requests: Some(quantities(&agent.resources.requests)),
            limits: Some(quantities(&agent.resources.limits)),
            ..ResourceRequirements::default()
        }),
        security_context: Some(SecurityContext {
            // Log files are readable by root alone. Said together with runAsNonRoot, because a pod that demands
            // non-root for all its containers would otherwise not start.
            run_as_user: Some(0),
            run_as_non_root: Some(false),
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            capabilities: Some(Capabilities {
                drop: Some(vec!["ALL".to_owned()]),
                ..Capabilities::default()
            }),
            seccomp_profile: Some(SeccompProfile {
                type_: "RuntimeDefault".to_owned(),
                ..SeccompProfile::default()
            }),
            ..SecurityContext::default()
        }),
        volume_mounts: Some(vec![
            VolumeMount {
                // The kubelet expands this from the container's environment: only this pod's logs are seen.
                sub_path_expr: Some(format!(
                    "$({})_$({})_$({})",
                    layout::ENV_NAMESPACE,
                    layout::ENV_POD,
                    layout::ENV_POD_UID
                )),
                ..mount(POD_LOGS, layout::LOG_DIR)
            },
            // The whole directory: a mount of a single file is never updated.
            mount(names::BUNDLE, layout::BUNDLE_DIR),
            mount(POD_INFO, directory(layout::LABELS_FILE)),
            VolumeMount {
                read_only: None,
                ..mount(STATE, layout::STATE_DIR)
            },
            // Keeps the ServiceAccount admission plugin from giving the agent the pod's own token.
            mount(NO_TOKEN, "/var/run/secrets/kubernetes.io/serviceaccount"),
        ]),
        ..Container::default()
    }
}

fn volumes() -> Vec<Volume> {
    vec![
        Volume {
            name: POD_LOGS.to_owned(),
            host_path: Some(HostPathVolumeSource {
                path: "/var/log/pods".to_owned(),
                type_: Some("Directory".to_owned()),
            }),
            ..Volume::default()
        },
        Volume {
            name: names::BUNDLE.to_owned(),
            // Optional: a pod never waits for its logging.
            secret: Some(SecretVolumeSource {
                secret_name: Some(names::BUNDLE.to_owned()),
                optional: Some(true),
                default_mode: Some(0o400),
                ..SecretVolumeSource::default()
            }),
            ..Volume::default()
        },
        Volume {
            name: POD_INFO.to_owned(),
            downward_api: Some(DownwardAPIVolumeSource {
                items: Some(vec![DownwardAPIVolumeFile {
                    path: file_name(layout::LABELS_FILE).to_owned(),
                    field_ref: Some(ObjectFieldSelector {
                        field_path: "metadata.labels".to_owned(),
                        ..ObjectFieldSelector::default()
                    }),
                    ..DownwardAPIVolumeFile::default()
                }]),
                ..DownwardAPIVolumeSource::default()
            }),
            ..Volume::default()
        },
        empty_dir(STATE, "64Mi", None),
        empty_dir(NO_TOKEN, "1Ki", Some("Memory")),
    ]
}

fn field(name: &str, path: &str) -> EnvVar {
    EnvVar {
        name: name.to_owned(),
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                field_path: path.to_owned(),
                ..ObjectFieldSelector::default()
            }),
            ..EnvVarSource::default()
        }),
        ..EnvVar::default()
    }
}

fn mount(name: &str, path: &str) -> VolumeMount {
    VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only: Some(true),
        ..VolumeMount::default()
    }
}

fn empty_dir(name: &str, limit: &str, medium: Option<&str>) -> Volume {
    Volume {
        name: name.to_owned(),
        empty_dir: Some(EmptyDirVolumeSource {
            medium: medium.map(str::to_owned),
            size_limit: Some(Quantity(limit.to_owned())),
            ..EmptyDirVolumeSource::default()
        }),
        ..Volume::default()
    }
}

fn quantities(
    quantities: &std::collections::BTreeMap<String, String>,
) -> std::collections::BTreeMap<String, Quantity> {
    quantities
        .iter()
        .map(|(name, quantity)| (name.clone(), Quantity(quantity.clone())))
        .collect()
}

fn directory(path: &str) -> &str {
    path.rsplit_once('/')
        .map_or(path, |(directory, _)| directory)
}

fn file_name(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}
