//! Pods that are created in a dry run: whether a namespace takes pods with the log agent, and whether injection is in force.
//!
//! An API server takes a new admission policy up some time after it was written, and the policy itself has no status; and
//! quotas, limit ranges and policies of others may refuse a pod only because of the agent in it. The answer to a dry run is
//! the only fact there is about either.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{
        Capabilities, Container, EmptyDirVolumeSource, Pod, PodSecurityContext, PodSpec,
        ResourceRequirements, SeccompProfile, SecurityContext, Volume, VolumeMount,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use katonic_log_config::layout;

use crate::{
    injection::{Decision, Reason, decide},
    installation::Agent,
    names,
    sidecar::{self, Sidecar},
};

/// What a user who is not root is in the images of most distributions.
const NOBODY: i64 = 65532;

/// What the names of trial pods begin with.
const NAME_PREFIX: &str = "katonic-logging-probe-";

/// Pods as users make them, each with something that the agent has to be added beside.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Shape {
    /// One container and nothing else: every list is missing.
    Bare,
    /// Init containers, a native sidecar of somebody else, volumes, annotations, and an end.
    Busy,
    /// What the Pod Security level `restricted` wants, said for the whole pod.
    Restricted,
}

impl Shape {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::Bare, Self::Busy, Self::Restricted];
}

/// A pod of this shape. Its own containers ask for what the agent asks for, so that rules that want requests and limits are
/// met by them, and are as restricted as a container can be.
pub fn pod(shape: Shape, agent: &Agent) -> Pod {
    let mut spec = PodSpec {
        automount_service_account_token: Some(false),
        containers: vec![container("probe", agent)],
        ..PodSpec::default()
    };
    let mut metadata = ObjectMeta {
        generate_name: Some(NAME_PREFIX.to_owned()),
        ..ObjectMeta::default()
    };
    match shape {
        Shape::Bare => {}
        Shape::Busy => {
            let volume = "scratch";
            let mount = VolumeMount {
                name: volume.to_owned(),
                mount_path: "/scratch".to_owned(),
                ..VolumeMount::default()
            };
            spec.init_containers = Some(vec![
                container("prepare", agent),
                Container {
                    restart_policy: Some("Always".to_owned()),
                    volume_mounts: Some(vec![mount]),
                    ..container("beside", agent)
                },
            ]);
            spec.volumes = Some(vec![Volume {
                name: volume.to_owned(),
                empty_dir: Some(EmptyDirVolumeSource::default()),
                ..Volume::default()
            }]);
            spec.restart_policy = Some("Never".to_owned());
            spec.active_deadline_seconds = Some(60);
            metadata.annotations = Some(
                [(
                    names::SAFE_TO_EVICT_ANNOTATION.to_owned(),
                    volume.to_owned(),
                )]
                .into(),
            );
        }
        Shape::Restricted => {
            spec.security_context = Some(PodSecurityContext {
                run_as_non_root: Some(true),
                run_as_user: Some(NOBODY),
                seccomp_profile: Some(runtime_default()),
                ..PodSecurityContext::default()
            });
        }
    }
    Pod {
        metadata,
        spec: Some(spec),
        ..Pod::default()
    }
}

fn container(name: &str, agent: &Agent) -> Container {
    let resources = sidecar::resources(agent);
    let requests = resources.requests.unwrap_or_default();
    let limits = resources.limits.unwrap_or_default();
    let both: BTreeMap<_, _> = requests.into_iter().chain(limits).collect();
    Container {
        name: name.to_owned(),
        image: Some(agent.image.clone()),
        resources: Some(ResourceRequirements {
            requests: Some(both.clone()),
            limits: Some(both),
            ..ResourceRequirements::default()
        }),
        security_context: Some(SecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(NOBODY),
            allow_privilege_escalation: Some(false),
            capabilities: Some(Capabilities {
                drop: Some(vec!["ALL".to_owned()]),
                ..Capabilities::default()
            }),
            seccomp_profile: Some(runtime_default()),
            ..SecurityContext::default()
        }),
        ..Container::default()
    }
}

fn runtime_default() -> SeccompProfile {
    SeccompProfile {
        type_: "RuntimeDefault".to_owned(),
        ..SeccompProfile::default()
    }
}

/// The same pod, to try the policy that is to come into force ([`names::TRIAL_OF_CANDIDATE`]) or the one that is
/// ([`names::TRIAL_OF_IN_FORCE`]).
#[must_use]
pub fn trying(pod: Pod, policy: &str) -> Pod {
    labelled(pod, names::TRIAL_LABEL, policy)
}

/// The same pod, to be left alone: where this one is refused too, the refusal is not about the agent.
#[must_use]
pub fn opted_out(pod: Pod) -> Pod {
    labelled(pod, names::INJECT_LABEL, names::INJECT_NO)
}

/// The same pod with labels that a policy of somebody else may want of every pod of the namespace: those of a pod that is there.
#[must_use]
pub fn labelled_like(mut pod: Pod, labels: &BTreeMap<String, String>) -> Pod {
    let own = pod.metadata.labels.get_or_insert_default();
    for (key, value) in labels {
        own.entry(key.clone()).or_insert_with(|| value.clone());
    }
    pod
}

/// The same pod, with containers that ask for nothing.
#[must_use]
pub fn asking_for_nothing(mut pod: Pod) -> Pod {
    for container in pod.spec.iter_mut().flat_map(|spec| &mut spec.containers) {
        container.resources = None;
    }
    pod
}

fn labelled(mut pod: Pod, key: &str, value: &str) -> Pod {
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(key.to_owned(), value.to_owned());
    pod
}

/// A trial pod that cannot be made, which no input is known to cause.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its JSON is none of a pod.
    #[error("failed to render a trial pod")]
    Json(#[from] serde_json::Error),
    /// The agent cannot be added to it.
    #[error("failed to add the log agent to a trial pod")]
    Patch(#[from] json_patch::PatchError),
    /// It would get no agent.
    #[error("a trial pod gets no log agent: {0}")]
    Left(Reason),
}

/// A pod of this shape with the agent in it already: what every way of injection makes of it, annotations and variables too, so that
/// whoever refuses one refuses the other.
///
/// # Errors
/// When it cannot be made.
pub fn with_agent(shape: Shape, agent: &Agent) -> Result<Pod, Error> {
    let mut pod = serde_json::to_value(pod(shape, agent))?;
    match decide(&pod, &Sidecar::new(agent)?) {
        Decision::Inject(patch) => json_patch::patch(&mut pod, &patch)?,
        Decision::Leave(reason) => return Err(Error::Left(reason)),
    }
    Ok(serde_json::from_value(pod)?)
}

/// The same pod without what the agent cannot do without: the log files of the node, and the user that may read them.
/// Where this one is taken, it is those that are forbidden.
///
/// # Errors
/// When it cannot be made.
pub fn with_unprivileged_agent(shape: Shape, agent: &Agent) -> Result<Pod, Error> {
    let mut pod = with_agent(shape, agent)?;
    let spec = pod.spec.get_or_insert_default();
    for volume in spec.volumes.iter_mut().flatten() {
        if volume.host_path.take().is_some() {
            volume.empty_dir = Some(EmptyDirVolumeSource::default());
        }
    }
    for container in spec.init_containers.iter_mut().flatten() {
        let context = container.security_context.get_or_insert_default();
        context.run_as_user = Some(NOBODY);
        context.run_as_non_root = Some(true);
    }
    Ok(pod)
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

/// What became of the same pod without the agent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Without<'a> {
    /// It was taken.
    Taken,
    /// It was refused too; the API server's words.
    Refused(&'a str),
    /// There was no answer.
    Unanswered,
}

/// What a refusal of a pod with the agent is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Blame {
    /// The agent.
    Agent,
    /// Any pod: a quota that is used up, a right that is missing. Everything else has taken the pod.
    AnyPod,
    /// Nobody knows: both are refused in the same words of somebody else, who may have more to say.
    Unclear,
}

/// What a refusal is about.
///
/// A policy of somebody else tells the first thing that it dislikes, or all: so what it denies is about the agent where the
/// same pod is taken without it, or refused in other words. Everything else counts: limits of a namespace may suit its own pods
/// and not ours, and it is better to leave pods alone than to keep them out.
pub fn blame(refusal: &str, without: Without<'_>) -> Blame {
    if is_of_quota(refusal) || is_of_rights(refusal) {
        return Blame::AnyPod;
    }
    let denied = refusal.contains("denied the request") || refusal.contains("denied request");
    match without {
        Without::Taken => Blame::Agent,
        _ if !denied => Blame::Agent,
        Without::Refused(other) if nameless(other) != nameless(refusal) => Blame::Agent,
        Without::Refused(_) | Without::Unanswered => Blame::Unclear,
    }
}

/// Words about a trial pod without its name, which differs each time.
fn nameless(words: &str) -> String {
    let mut parts = words.split(NAME_PREFIX);
    let before = parts.next().unwrap_or_default().to_owned();
    parts.fold(before, |all, part| {
        let rest = part.trim_start_matches(|one: char| one.is_ascii_alphanumeric());
        all + NAME_PREFIX + rest
    })
}

/// Whether an error of the API server says that it could not ask somebody, or that a namespace is about to go: no answer about
/// the pod.
pub fn is_no_answer(words: &str) -> bool {
    [
        "failed calling webhook",
        "failed to call webhook",
        "does not support dry run",
        "is being terminated",
        "error looking up service account",
        "not yet ready to handle request",
        "etcdserver:",
    ]
    .iter()
    .any(|phrase| words.contains(phrase))
}

/// Whether a refusal says that a quota is used up. Quotas come last: everything else has taken the pod.
pub fn is_of_quota(refusal: &str) -> bool {
    refusal.contains("exceeded quota")
}

/// Whether a refusal says that the operator may not create pods there, not even in a dry run.
pub fn is_of_rights(refusal: &str) -> bool {
    refusal.contains("cannot create resource")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::installation;

    #[test]
    fn a_refusal_of_any_pod_is_not_about_the_agent() {
        let quota = r#"pods "p" is forbidden: exceeded quota: compute, requested: pods=1, used: pods=9, limited: pods=9"#;
        assert_eq!(blame(quota, Without::Taken), Blame::AnyPod);
        let right = r#"pods is forbidden: User "u" cannot create resource "pods" in API group """#;
        assert_eq!(blame(right, Without::Refused(right)), Blame::AnyPod);
        let limits = r#"pods "p" is forbidden: minimum memory usage per Container is 1Gi, but request is 16Mi"#;
        assert_eq!(blame(limits, Without::Refused(limits)), Blame::Agent);
        let unset = r#"pods "p" is forbidden: failed quota: q: must specify limits.cpu for: katonic-log-agent"#;
        assert_eq!(blame(unset, Without::Unanswered), Blame::Agent);
    }

    #[test]
    fn what_somebody_else_denies_is_about_the_agent_unless_the_same_words_deny_it_without() {
        let words = |name: &str, more: &str| {
            format!(
                r#"pods "katonic-logging-probe-{name}" is forbidden: admission webhook "policies.example.com" denied the request: label team is required{more}"#
            )
        };
        let refusal = words("x7k2q", "");
        assert_eq!(blame(&refusal, Without::Taken), Blame::Agent);
        assert_eq!(blame(&refusal, Without::Unanswered), Blame::Unclear);
        let same = words("9zzbb", "");
        assert_eq!(blame(&refusal, Without::Refused(&same)), Blame::Unclear);
        let longer = words("x7k2q", "; hostPath volumes are forbidden");
        assert_eq!(blame(&longer, Without::Refused(&same)), Blame::Agent);
    }

    #[test]
    fn an_outage_of_somebody_else_is_no_answer() {
        for words in [
            r#"Internal error occurred: failed calling webhook "w.example.com": failed to call webhook: Post "https://w.default.svc:443/?timeout=10s": dial tcp 10.0.0.9:443: connect: connection refused"#,
            r#"admission webhook "w.example.com" does not support dry run"#,
            r#"pods "p" is forbidden: unable to create new content in namespace katonic-compute because it is being terminated"#,
            r#"pods "p" is forbidden: error looking up service account katonic-compute/default: serviceaccount "default" not found"#,
        ] {
            assert!(is_no_answer(words), "{words}");
        }
        assert!(!is_no_answer(
            r#"admission webhook "w" denied the request: no"#
        ));
    }

    #[test]
    fn labels_of_a_pod_that_is_there_do_not_replace_those_of_the_trial() {
        let labels = [
            ("team".to_owned(), "one".to_owned()),
            (names::INJECT_LABEL.to_owned(), "yes".to_owned()),
        ];
        let pod = opted_out(pod(Shape::Bare, &installation().agent));
        let labels = labelled_like(pod, &labels.into()).metadata.labels.unwrap();
        assert_eq!(labels["team"], "one");
        assert_eq!(labels[names::INJECT_LABEL], names::INJECT_NO);
    }

    #[test]
    fn a_pod_with_the_agent_is_told_from_one_without() {
        let agent = installation().agent;
        for shape in Shape::ALL {
            let with = with_agent(shape, &agent).unwrap();
            assert!(is_injected(&with), "{shape:?}");
            assert!(!is_injected(&pod(shape, &agent)), "{shape:?}");
        }
    }

    /// Policies of others may be about any of it.
    #[test]
    fn a_pod_with_the_agent_has_all_that_injection_adds() {
        let agent = installation().agent;
        let sidecar = Sidecar::new(&agent).unwrap();
        for shape in Shape::ALL {
            let with = with_agent(shape, &agent).unwrap();
            let annotations = with.metadata.annotations.unwrap();
            assert_eq!(
                annotations[names::AGENT_REVISION_ANNOTATION],
                sidecar.revision.as_str()
            );
            let volumes = &annotations[names::SAFE_TO_EVICT_ANNOTATION];
            assert!(volumes.ends_with("katonic-podlogs,katonic-log-state"));
            let spec = with.spec.unwrap();
            let added = spec.init_containers.unwrap().remove(0);
            let mut variables = added.env.into_iter().flatten();
            assert!(variables.any(|one| one.name == layout::ENV_GRACE_PERIOD));
            assert_eq!(added.resources, Some(sidecar::resources(&agent)));
            assert!(spec.volumes.unwrap().ends_with(&sidecar::volumes()));
        }
    }

    #[test]
    fn an_unprivileged_agent_has_no_path_of_the_node_and_is_not_root() {
        for shape in Shape::ALL {
            let pod = with_unprivileged_agent(shape, &installation().agent).unwrap();
            assert!(is_injected(&pod));
            let spec = pod.spec.unwrap();
            let volumes = spec.volumes.unwrap();
            assert!(volumes.iter().all(|volume| volume.host_path.is_none()));
            let containers = spec.init_containers.unwrap();
            assert!(containers.iter().all(|container| {
                let context = container.security_context.clone().unwrap();
                context.run_as_user != Some(0) && context.run_as_non_root == Some(true)
            }));
        }
    }

    #[test]
    fn a_trial_pod_can_be_opted_out_and_stays_one() {
        let agent = installation().agent;
        let pod = trying(pod(Shape::Busy, &agent), names::TRIAL_OF_CANDIDATE);
        let labels = opted_out(pod).metadata.labels.unwrap();
        assert_eq!(labels[names::TRIAL_LABEL], names::TRIAL_OF_CANDIDATE);
        assert_eq!(labels[names::INJECT_LABEL], names::INJECT_NO);
    }
}
