//! Pods that are created in a dry run: whether a namespace takes pods with the log agent, and whether injection is in force.
//!
//! An API server takes a new admission policy up some time after it was written, and the policy itself has no status; and
//! quotas, limit ranges and policies of others may refuse a pod only because of the agent in it. The answer to a dry run is
//! the only fact there is about either.

use k8s_openapi::{
    api::core::v1::{Container, Pod, PodSpec, ResourceRequirements},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use katonic_log_config::layout;

use crate::{installation::Agent, names, sidecar::sidecar};

/// A pod without the agent, for the API server to inject. Its own container asks for what the agent asks for, so that
/// rules that want requests and limits are met by it.
pub fn bare(agent: &Agent) -> Pod {
    let resources = sidecar(agent).container.resources.unwrap_or_default();
    let requests = resources.requests.unwrap_or_default();
    let limits = resources.limits.unwrap_or_default();
    let both: std::collections::BTreeMap<_, _> = requests.into_iter().chain(limits).collect();
    Pod {
        metadata: ObjectMeta {
            generate_name: Some("katonic-logging-probe-".to_owned()),
            ..ObjectMeta::default()
        },
        spec: Some(PodSpec {
            automount_service_account_token: Some(false),
            containers: vec![Container {
                name: "probe".to_owned(),
                image: Some(agent.image.clone()),
                resources: Some(ResourceRequirements {
                    requests: Some(both.clone()),
                    limits: Some(both),
                    ..ResourceRequirements::default()
                }),
                ..Container::default()
            }],
            ..PodSpec::default()
        }),
        ..Pod::default()
    }
}

/// The same pod with the agent in it already.
pub fn with_agent(agent: &Agent) -> Pod {
    let mut pod = bare(agent);
    let sidecar = sidecar(agent);
    if let Some(spec) = &mut pod.spec {
        spec.init_containers = Some(vec![sidecar.container]);
        spec.volumes = Some(sidecar.volumes);
    }
    pod
}

/// The same pod, to be left alone: where this one is refused too, the refusal is not about the agent.
pub fn opted_out(agent: &Agent) -> Pod {
    let mut pod = bare(agent);
    pod.metadata.labels =
        Some([(names::INJECT_LABEL.to_owned(), names::INJECT_NO.to_owned())].into());
    pod
}

/// Whether the pod that came back has the agent.
pub fn is_injected(created: &Pod) -> bool {
    let containers = created
        .spec
        .iter()
        .flat_map(|spec| spec.init_containers.iter().flatten());
    containers
        .into_iter()
        .any(|container| container.name == layout::CONTAINER)
}

/// Whether a refusal of the pod with the agent is about the agent.
///
/// A quota that is used up and a right that is missing are not. What a policy of somebody else denies is about the agent
/// where the same pod is taken without it (`taken_without`). Everything else counts: limits of a namespace may suit its own
/// pods and not ours, and it is better to leave pods alone than to keep them out.
pub fn is_about_agent(refusal: &str, taken_without: bool) -> bool {
    if refusal.contains("exceeded quota") || refusal.contains("cannot create resource") {
        return false;
    }
    let denied = refusal.contains("denied the request") || refusal.contains("denied request");
    !denied || taken_without
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::installation;

    #[test]
    fn a_refusal_of_any_pod_is_not_about_the_agent() {
        let quota = r#"pods "p" is forbidden: exceeded quota: compute, requested: pods=1, used: pods=9, limited: pods=9"#;
        assert!(!is_about_agent(quota, false));
        let right = r#"pods is forbidden: User "u" cannot create resource "pods" in API group """#;
        assert!(!is_about_agent(right, false));
        let webhook =
            r#"admission webhook "labels.example.com" denied the request: label team is required"#;
        assert!(!is_about_agent(webhook, false));
        assert!(is_about_agent(webhook, true));
        let limits = r#"pods "p" is forbidden: minimum memory usage per Container is 1Gi, but request is 16Mi"#;
        assert!(is_about_agent(limits, false));
        let unset = r#"pods "p" is forbidden: failed quota: q: must specify limits.cpu for: katonic-log-agent"#;
        assert!(is_about_agent(unset, false));
    }

    #[test]
    fn a_pod_with_the_agent_is_told_from_one_without() {
        let agent = installation().agent;
        assert!(is_injected(&with_agent(&agent)));
        assert!(!is_injected(&bare(&agent)));
        assert!(!is_injected(&opted_out(&agent)));
    }
}
