//! A pod that is created in a dry run: whether injection is in force, and whether pods still get in with it.
//!
//! An API server takes a new admission policy up some time after it was written, and the policy itself has no status. The
//! answer to a dry run is the only fact there is.

use k8s_openapi::{
    api::core::v1::{Container, Pod, PodSpec, ResourceRequirements},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use katonic_log_config::layout;

use crate::{installation::Agent, sidecar::sidecar};

/// What a dry run has shown.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Finding {
    /// The pod came back without the agent of this installation: not yet.
    Pending,
    /// The pod was refused; the API server's words.
    Refused(String),
}

/// The pod. Its own container asks for what the agent asks for, so that a refusal is about the agent or about the
/// namespace, and not about the probe.
pub fn pod(agent: &Agent) -> Pod {
    let resources = sidecar(agent).container.resources.unwrap_or_default();
    let limits = resources.limits.unwrap_or_default();
    let requests = resources.requests.unwrap_or_default();
    let with_defaults = requests
        .iter()
        .chain(&limits)
        .map(|(name, quantity)| (name.clone(), quantity.clone()));
    let both: std::collections::BTreeMap<_, _> = with_defaults.collect();
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

/// What the pod that came back says; nothing when injection is in force as this installation wants it.
pub fn finding(created: &Pod, agent: &Agent) -> Option<Finding> {
    let containers = created
        .spec
        .iter()
        .flat_map(|spec| spec.init_containers.iter().flatten());
    let mut ours = containers.filter(|container| container.name == layout::CONTAINER);
    let in_force = ours.any(|container| container.image.as_deref() == Some(agent.image.as_str()));
    (!in_force).then_some(Finding::Pending)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::installation;

    #[test]
    fn injection_is_in_force_when_the_present_agent_is_there() {
        let agent = installation().agent;
        let mut created = pod(&agent);
        assert_eq!(finding(&created, &agent), Some(Finding::Pending));
        if let Some(spec) = &mut created.spec {
            spec.init_containers = Some(vec![sidecar(&agent).container]);
        }
        assert_eq!(finding(&created, &agent), None);
        let newer = Agent {
            image: "localhost/katonic-log-agent:9".into(),
            ..agent
        };
        assert_eq!(finding(&created, &newer), Some(Finding::Pending));
    }
}
