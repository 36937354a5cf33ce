//! The log agent as part of a pod: one specification, whatever way it is injected.

use std::{collections::BTreeMap, fmt};

use k8s_openapi::{
    api::core::v1::{
        Capabilities, Container, DownwardAPIVolumeFile, DownwardAPIVolumeSource,
        EmptyDirVolumeSource, EnvVar, EnvVarSource, HostPathVolumeSource, ObjectFieldSelector,
        ProjectedVolumeSource, ResourceRequirements, SeccompProfile, SecretVolumeSource,
        SecurityContext, ServiceAccountTokenProjection, Volume, VolumeMount, VolumeProjection,
    },
    apimachinery::pkg::api::resource::Quantity,
};
use katonic_log_config::{bundle::hex, layout, report};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{digest, installation::Agent, names};

mod fingerprint;
mod form;
mod sightings;

pub use fingerprint::{ContainerDigest, Fingerprint, Lineage};
pub use form::{Form, Requirements};
pub use sightings::Sightings;

/// Volume with the logs of all pods of the node, of which the agent mounts those of its own.
pub(crate) const POD_LOGS: &str = "katonic-podlogs";
const POD_INFO: &str = "katonic-podinfo";
const STATE: &str = "katonic-log-state";
const NO_TOKEN: &str = "katonic-no-token";
const TOKEN: &str = "katonic-report-token";

/// Where Kubernetes mounts a pod's own token (`ServiceAccount` admission).
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// How long a token is good for, in seconds; the kubelet renews it after four fifths of that.
const TOKEN_LIFETIME: i64 = 3600;

/// Names of all volumes of ours.
pub const VOLUMES: [&str; 6] = [POD_LOGS, names::BUNDLE, POD_INFO, STATE, NO_TOKEN, TOKEN];

/// Volumes of ours that would keep the cluster autoscaler from removing a node: a `hostPath`, and an `emptyDir` on disk.
pub const LOCAL_VOLUMES: [&str; 2] = [POD_LOGS, STATE];

/// What is added to a pod, as JSON: of every way to inject it each makes its own form of this.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Sidecar {
    /// The container, to be put before all init containers: it starts first and stops last (KEP-753). Without
    /// its resources.
    pub container: Value,
    /// Requests and limits of the container, for pods that set none for all of their containers together.
    pub resources: Value,
    /// Its volumes.
    pub volumes: Vec<Value>,
    /// What tells it from every other one.
    pub revision: Revision,
}

impl Sidecar {
    /// The log agent of this installation.
    ///
    /// # Errors
    /// When it cannot be serialised, which no input is known to cause.
    pub fn new(agent: &Agent) -> Result<Self, serde_json::Error> {
        let container = serde_json::to_value(container(agent))?;
        let resources = serde_json::to_value(resources(agent))?;
        let volumes = volumes();
        let volumes = volumes.iter().map(serde_json::to_value);
        let volumes = volumes.collect::<Result<Vec<_>, _>>()?;
        let revision = Revision::of(&[
            &container,
            &resources,
            &Value::from(volumes.clone()),
            // What is told it of each pod.
            &Value::from(layout::ENV_GRACE_PERIOD),
        ]);
        Ok(Self {
            container,
            resources,
            volumes,
            revision,
        })
    }

    /// As pods get it: what tells it from anything else of its name.
    pub fn form(&self) -> Form {
        let mut container = self.container.clone();
        container["resources"] = self.resources.clone();
        let requirements = Some(Requirements::of(&container));
        Form::new(
            &ContainerDigest::of(&container),
            requirements,
            &self.volumes,
        )
    }
}

/// Digest of everything that is added to a pod: equal for equal agents, and short enough to be part of a name.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Revision(String);

impl Revision {
    fn of(parts: &[&Value]) -> Self {
        let annotations = [names::SAFE_TO_EVICT_ANNOTATION.to_owned()];
        let annotations = annotations
            .into_iter()
            .chain(LOCAL_VOLUMES.map(str::to_owned));
        let parts = parts.iter().map(ToString::to_string).chain(annotations);
        let bytes_of_a_name = 6;
        Self(hex(&digest::of_parts(parts)[..bytes_of_a_name]))
    }

    /// One that a pod says it is of; none where that is no revision.
    pub fn read(text: &str) -> Option<Self> {
        let is_one = text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_one.then(|| Self(text.to_owned()))
    }

    /// Twelve hexadecimal digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Requests and limits of the agent.
pub(crate) fn resources(agent: &Agent) -> ResourceRequirements {
    ResourceRequirements {
        requests: Some(quantities(&agent.resources.requests)),
        limits: Some(quantities(&agent.resources.limits)),
        ..ResourceRequirements::default()
    }
}

/// The container, without its resources.
pub(crate) fn container(agent: &Agent) -> Container {
    Container {
        name: layout::CONTAINER.to_owned(),
        image: Some(agent.image.clone()),
        image_pull_policy: Some("IfNotPresent".to_owned()),
        // A native sidecar: it holds up neither the start of the pod nor the end of a Job.
        restart_policy: Some("Always".to_owned()),
        env: Some(environment(agent)),
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
            mount(NO_TOKEN, SERVICE_ACCOUNT),
            mount(TOKEN, layout::TOKEN_DIR),
        ]),
        ..Container::default()
    }
}

fn environment(agent: &Agent) -> Vec<EnvVar> {
    let fields = [
        field(layout::ENV_NAMESPACE, "metadata.namespace"),
        field(layout::ENV_POD, "metadata.name"),
        field(layout::ENV_POD_UID, "metadata.uid"),
        field(layout::ENV_NODE, "spec.nodeName"),
    ];
    let proxies = [
        ("HTTP_PROXY", &agent.proxy.http_proxy),
        ("HTTPS_PROXY", &agent.proxy.https_proxy),
        ("NO_PROXY", &agent.proxy.no_proxy),
    ];
    let set = |(name, value): (&str, &Option<String>)| {
        value.is_some().then(|| EnvVar {
            name: name.to_owned(),
            value: value.clone(),
            ..EnvVar::default()
        })
    };
    fields
        .into_iter()
        .chain(proxies.into_iter().filter_map(set))
        .collect()
}

/// Its volumes: [`VOLUMES`], in this order.
pub(crate) fn volumes() -> Vec<Volume> {
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
        token(),
    ]
}

/// The token that tells the operator whose reports these are. Nobody but the operator takes it.
fn token() -> Volume {
    let token = ServiceAccountTokenProjection {
        audience: Some(report::AUDIENCE.to_owned()),
        expiration_seconds: Some(TOKEN_LIFETIME),
        path: layout::TOKEN_FILE.to_owned(),
        ..ServiceAccountTokenProjection::default()
    };
    Volume {
        name: TOKEN.to_owned(),
        projected: Some(ProjectedVolumeSource {
            default_mode: Some(0o400),
            sources: Some(vec![VolumeProjection {
                service_account_token: Some(token),
                ..VolumeProjection::default()
            }]),
            ..ProjectedVolumeSource::default()
        }),
        ..Volume::default()
    }
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

fn quantities(quantities: &BTreeMap<String, String>) -> BTreeMap<String, Quantity> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{installation::Proxies, testing::installation};

    #[test]
    fn a_revision_is_that_of_the_agent_and_of_nothing_else() {
        let agent = installation().agent;
        let revision = |agent: &Agent| Sidecar::new(agent).unwrap().revision;
        assert_eq!(revision(&agent), revision(&agent.clone()));
        assert_eq!(revision(&agent).as_str().len(), 12);
        let changes: [fn(&mut Agent); 3] = [
            |agent| agent.image.push('1'),
            |agent| agent.resources.limits.clear(),
            |agent| agent.proxy.no_proxy = Some(".svc".into()),
        ];
        for change in changes {
            let mut another = agent.clone();
            change(&mut another);
            assert_ne!(revision(&agent), revision(&another));
        }
    }

    #[test]
    fn the_names_of_the_volumes_are_those_of_the_list() {
        let names: Vec<String> = volumes().into_iter().map(|volume| volume.name).collect();
        assert_eq!(names, VOLUMES);
    }

    #[test]
    fn proxies_are_told_by_the_usual_variables_and_only_those_that_there_are() {
        let mut agent = installation().agent;
        let variables = |agent: &Agent| -> Vec<(String, Option<String>)> {
            let env = container(agent).env.unwrap();
            let of_fields = 4;
            let proxies = env.into_iter().skip(of_fields);
            proxies.map(|one| (one.name, one.value)).collect()
        };
        assert_eq!(variables(&agent), []);
        agent.proxy = Proxies {
            https_proxy: Some("http://proxy.example.com:3128".into()),
            no_proxy: Some(".svc".into()),
            ..Proxies::default()
        };
        assert_eq!(
            variables(&agent),
            [
                (
                    "HTTPS_PROXY".into(),
                    Some("http://proxy.example.com:3128".into())
                ),
                ("NO_PROXY".into(), Some(".svc".into())),
            ]
        );
    }
}
