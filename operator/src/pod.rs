//! What of a pod is read and kept: labels, owner and names, nothing that runs in it.

use std::{borrow::Cow, collections::BTreeMap, fmt};

use k8s_openapi::{
    api::core::v1::Pod,
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{ObjectMeta, Time},
    },
    jiff::{SignedDuration, Timestamp},
};
use katonic_log_config::layout;
use katonic_logging_core::{
    coverage::{self, Agent, Ended, Trouble},
    sidecar::{ContainerDigest, Form, Requirements, VOLUMES},
};
use kube::Resource;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error as _, Visitor},
};
use serde_json::Value;

/// A pod without its environment, its commands and its status: they are passed over while reading, and no more of them is
/// kept than how long they are.
///
/// Metadata alone would not do: it has no names of containers, and so cannot tell whether the agent is there.
#[derive(Clone, Debug, Deserialize)]
pub struct PodSummary {
    metadata: ObjectMeta,
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Status,
}

/// How the agent is doing: a sidecar is told of among the init containers.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    #[serde(default)]
    init_container_statuses: Vec<ContainerStatus>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ContainerStatus {
    name: String,
    #[serde(default)]
    state: ContainerState,
    #[serde(default)]
    last_state: ContainerState,
    #[serde(default)]
    restart_count: u32,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct ContainerState {
    waiting: Option<Waiting>,
    running: Option<Running>,
    terminated: Option<Terminated>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Running {
    started_at: Option<Time>,
}

#[derive(Clone, Debug, Deserialize)]
struct Waiting {
    #[serde(default)]
    reason: String,
    #[serde(default)]
    message: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Terminated {
    #[serde(default)]
    reason: String,
    exit_code: i32,
    started_at: Option<Time>,
    finished_at: Option<Time>,
}

impl Terminated {
    fn ended(&self) -> Ended {
        let times = self.started_at.as_ref().zip(self.finished_at.as_ref());
        Ended {
            words: format!("{}, exit code {}", self.reason, self.exit_code),
            // Of a run that ended with its node the kubelet knows no times: it says nothing of the agent.
            lasted: times.map_or(SignedDuration::MAX, |(started, finished)| {
                finished.0.duration_since(started.0)
            }),
        }
    }
}

impl Status {
    fn agent(&self) -> Option<&ContainerStatus> {
        let mut statuses = self.init_container_statuses.iter();
        statuses.find(|status| coverage::is_agent(&status.name))
    }

    /// Since when the agent runs.
    fn running(&self) -> Option<Timestamp> {
        let running = self.agent()?.state.running.as_ref()?;
        Some(running.started_at.as_ref()?.0)
    }

    /// Why the agent does not run.
    fn trouble(&self) -> Option<Trouble> {
        let agent = self.agent()?;
        let last = agent.last_state.terminated.as_ref().map(Terminated::ended);
        let ContainerState {
            waiting,
            running,
            terminated,
        } = &agent.state;
        if let Some(waiting) = waiting {
            let words = last.map(|last| last.words).unwrap_or_default();
            Trouble::of_waiting(&waiting.reason, &waiting.message, &words)
        } else if let Some(terminated) = terminated {
            Trouble::of_ended(agent.restart_count, &terminated.ended())
        } else {
            let since = running.as_ref()?.started_at.as_ref()?.0;
            Trouble::of_running(since, agent.restart_count, &last?)
        }
    }
}

/// What injection looks at.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    #[serde(default)]
    init_containers: Vec<InitContainer>,
    #[serde(default)]
    containers: Vec<Container>,
    #[serde(default)]
    volumes: Vec<Volume>,
    os: Option<Named>,
    node_selector: Option<BTreeMap<String, String>>,
    resources: Option<Resources>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Container {
    name: String,
    restart_policy: Option<String>,
    #[serde(default)]
    volume_mounts: Vec<Named>,
    #[serde(default)]
    volume_devices: Vec<Named>,
    resources: Option<Resources>,
    #[serde(default)]
    command: Vec<Length>,
    #[serde(default)]
    args: Vec<Length>,
    #[serde(default)]
    env: Vec<Variable>,
}

/// One of which it matters whether it is the agent: then all of it is looked at, and nothing of it kept but
/// a digest and what it requires.
#[derive(Clone, Debug, Serialize)]
struct InitContainer {
    #[serde(flatten)]
    container: Container,
    #[serde(skip)]
    agent: Option<(ContainerDigest, Requirements)>,
}

impl<'de> Deserialize<'de> for InitContainer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let all = Value::deserialize(deserializer)?;
        let is_agent = all["name"] == layout::CONTAINER;
        Ok(Self {
            agent: is_agent.then(|| (ContainerDigest::of(&all), Requirements::of(&all))),
            container: Container::deserialize(all).map_err(D::Error::custom)?,
        })
    }
}

/// A volume: its source only where it has one of our names.
#[derive(Clone, Debug, Serialize)]
struct Volume {
    name: String,
    #[serde(skip)]
    ours: Option<Value>,
}

impl<'de> Deserialize<'de> for Volume {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let all = Value::deserialize(deserializer)?;
        let Named { name } = Named::deserialize(&all).map_err(D::Error::custom)?;
        let is_ours = VOLUMES.contains(&name.as_str());
        Ok(Self {
            name,
            ours: is_ours.then_some(all),
        })
    }
}

#[derive(Clone, Debug, Deserialize, Serialize)]
struct Variable {
    name: Length,
    value: Option<Length>,
}

/// Bytes of a text. The text itself may be secret, and it is most of a pod.
#[derive(Clone, Copy, Debug, Serialize)]
struct Length(usize);

impl<'de> Deserialize<'de> for Length {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = Length;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a text")
            }

            fn visit_str<E>(self, text: &str) -> Result<Length, E> {
                Ok(Length(text.len()))
            }
        }

        deserializer.deserialize_str(Text)
    }
}

#[derive(Clone, Debug, Deserialize, Serialize)]
struct Resources {
    requests: Option<BTreeMap<String, Quantity>>,
    limits: Option<BTreeMap<String, Quantity>>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
struct Named {
    name: String,
}

impl From<PodSummary> for coverage::Pod {
    fn from(pod: PodSummary) -> Self {
        let mut init_containers = pod.spec.init_containers.iter();
        let container = init_containers.find_map(|one| one.agent.as_ref());
        let volumes = pod.spec.volumes.iter();
        let volumes = volumes.filter_map(|volume| volume.ours.as_ref());
        let shares = pod.spec.resources.is_some();
        let form = container.map(|(container, requirements)| {
            let requirements = (!shares).then(|| requirements.clone());
            Form::new(container, requirements, volumes)
        });
        // Nothing in it cannot be JSON; null would be a pod without containers.
        let spec = serde_json::to_value(&pod.spec).unwrap_or_default();
        let mut read = Self {
            trouble: pod.status.trouble(),
            running: pod.status.running(),
            ..Self::read(pod.metadata, &spec)
        };
        // The summary has not all that it is made of.
        if let (Agent::Present(agent), Some(form)) = (&mut read.agent, form) {
            *agent = form;
        }
        read
    }
}

impl Resource for PodSummary {
    type DynamicType = ();
    type Scope = <Pod as Resource>::Scope;

    fn kind((): &()) -> Cow<'_, str> {
        Pod::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        Pod::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        Pod::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        Pod::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kept_and_what_may_be_secret_is_not() {
        let pod = r#"{"metadata": {"name": "p", "labels": {"app": "web"}},
            "spec": {"initContainers": [
                        {"name": "katonic-log-agent", "restartPolicy": "Always", "env": [{"name": "HTTPS_PROXY", "value": "http://u:hunter2@p"}],
                         "resources": {"requests": {"cpu": "10m"}, "limits": {"memory": "32Mi"}},
                         "volumeMounts": [{"name": "katonic-podlogs", "mountPath": "/"}]},
                        {"name": "migrate"}],
                     "volumes": [{"name": "katonic-logs", "secret": {}}], "os": {"name": "linux"},
                     "containers": [{"name": "web", "env": [{"name": "PASSWORD", "value": "hunter2"}]}]},
            "status": {"phase": "Running"}}"#;
        let summary: PodSummary = serde_json::from_str(pod).unwrap();
        assert!(!format!("{summary:?}").contains("hunter2"));
        let all: Value = serde_json::from_str(pod).unwrap();
        let pod = coverage::Pod::from(summary);
        assert_eq!(pod.containers, ["migrate", "web"]);
        assert_eq!(pod.labels["app"], "web");
        // All that tells one agent from another is read, and kept as a digest.
        assert_eq!(pod.agent, Agent::Present(Form::read(&all["spec"])));
    }

    #[test]
    fn an_agent_that_does_not_run_is_read_and_one_of_others_is_not() {
        let trouble = |name: &str, state: &str| {
            let pod = format!(
                r#"{{"metadata": {{}}, "spec": {{"containers": []}}, "status": {{"initContainerStatuses": [{{"name": "{name}", {state}}}]}}}}"#
            );
            coverage::Pod::from(serde_json::from_str::<PodSummary>(&pod).unwrap()).trouble
        };
        let image = r#""state": {"waiting": {"reason": "ErrImagePull", "message": "not found"}}, "lastState": {}"#;
        assert_eq!(
            trouble("katonic-log-agent", image),
            Some(Trouble::Image("not found".into()))
        );
        assert_eq!(trouble("migrate", image), None);
        let failing = r#""state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": {"terminated": {"reason": "Error", "exitCode": 1}}"#;
        assert_eq!(
            trouble("katonic-log-agent", failing),
            Some(Trouble::Failing {
                words: "Error, exit code 1".into(),
                until: None
            })
        );
        // Between two of its ends it runs, or has just ended.
        let end = r#"{"reason": "Error", "exitCode": 1, "startedAt": "2026-11-23T10:15:00Z", "finishedAt": "2026-11-23T10:15:03Z"}"#;
        let runs = format!(
            r#""restartCount": 2, "state": {{"running": {{"startedAt": "2026-11-23T10:15:13Z"}}}}, "lastState": {{"terminated": {end}}}"#
        );
        assert_eq!(
            trouble("katonic-log-agent", &runs),
            Some(Trouble::Failing {
                words: "Error, exit code 1".into(),
                until: Some("2026-11-23T10:25:13Z".parse().unwrap())
            })
        );
        let ended = format!(r#""restartCount": 2, "state": {{"terminated": {end}}}"#);
        assert_eq!(
            trouble("katonic-log-agent", &ended),
            Some(Trouble::Failing {
                words: "Error, exit code 1".into(),
                until: None
            })
        );
        let running = r#""state": {"running": {"startedAt": "2026-11-23T10:15:08Z"}}, "lastState": {"terminated": {"exitCode": 137}}"#;
        assert_eq!(trouble("katonic-log-agent", running), None);
    }

    #[test]
    fn what_keeps_the_agent_out_is_read() {
        let reason = |spec: &str| {
            let pod = format!(r#"{{"metadata": {{}}, "spec": {spec}}}"#);
            let summary: PodSummary = serde_json::from_str(&pod).unwrap();
            match coverage::Pod::from(summary).agent {
                Agent::Refused(reason) => Some(reason.as_str()),
                Agent::Missing | Agent::Present(_) => None,
            }
        };
        let container = r#""containers": [{"name": "web", "resources": {"requests": {"cpu": 1}}}]"#;
        let with = |more: &str| reason(&format!("{{{container}{more}}}"));
        assert_eq!(with(""), None);
        assert_eq!(
            with(r#", "nodeSelector": {"kubernetes.io/os": "windows"}"#),
            Some("Windows")
        );
        assert_eq!(with(r#", "os": {"name": "windows"}"#), Some("Windows"));
        assert_eq!(
            with(r#", "resources": {"limits": {"cpu": "2"}}"#),
            Some("PodLevelResources")
        );
        assert_eq!(
            with(r#", "volumes": [{"name": "katonic-logs"}]"#),
            Some("NameTaken")
        );
        for field in ["volumeMounts", "volumeDevices"] {
            let mounts = format!(
                r#"{{"containers": [{{"name": "web", "{field}": [{{"name": "katonic-logs"}}]}}]}}"#
            );
            assert_eq!(reason(&mounts), Some("NameTaken"), "{field}");
        }
        let large = "a".repeat(1 << 20);
        for text in [
            format!(r#""command": ["{large}"]"#),
            format!(r#""args": ["{large}"]"#),
            format!(
                r#""env": [{{"name": "A", "value": "{large}"}}, {{"name": "B", "valueFrom": {{}}}}]"#
            ),
        ] {
            assert_eq!(
                reason(&format!(r#"{{"containers": [{{"name": "web", {text}}}]}}"#)),
                Some("TooLarge")
            );
        }
    }
}
