//! The runs of a pod's containers whose logs a node still has, and which of them a log that was opened is of.

use k8s_openapi::{
    api::core::v1::{ContainerState, ContainerStateTerminated, ContainerStatus, Pod},
    jiff::{SignedDuration, Timestamp},
};
use katonic_log_config::layout;

use super::restarts::Which;

/// How long after the start of a run its first line may come without a question whether there were others before it.
const PROMPT: SignedDuration = SignedDuration::from_secs(2);

/// A run of a container whose log its node still has.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Container {
    /// Name of the pod.
    pub pod: String,
    /// UID of the pod.
    pub pod_uid: String,
    /// Name of the container.
    pub name: String,
    /// How often it had been restarted.
    pub restart: u32,
    /// Whether it is the run before the last one.
    pub is_previous: bool,
    /// Whether more can come.
    pub is_running: bool,
    /// What the runtime calls this run.
    id: Option<String>,
    /// When the run began, in whole seconds.
    begun: Option<Timestamp>,
    /// Whether the pod has the agent.
    has_agent: bool,
}

/// Whose log it is that was opened for a run: the API is asked for the current log of a container, or for the one before it, and
/// gives those of whichever runs there are when the node looks.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Opened {
    /// That of the run: there is no other one in its place.
    Asked,
    /// Perhaps that of a later run. Its own is to be asked for anew, so.
    Elsewhere(Container),
    /// That of a later run; the node has the one that was asked for no more.
    Gone,
}

/// The runs of a pod's containers, of those that `takes`, whose logs can be read; each container's earlier run first.
pub fn runs(pod: &Pod, takes: impl Fn(&str) -> bool) -> Vec<Container> {
    let (Some(name), Some(uid)) = (&pod.metadata.name, &pod.metadata.uid) else {
        return Vec::new();
    };
    let spec = pod.spec.iter();
    let has_agent = spec
        .flat_map(|spec| spec.init_containers.iter().flatten())
        .any(|container| container.name == layout::CONTAINER);
    let status = pod.status.as_ref();
    let statuses = status.and_then(|status| status.container_statuses.as_ref());
    statuses
        .into_iter()
        .flatten()
        .filter(|status| takes(&status.name))
        .flat_map(|status| {
            let restart = u32::try_from(status.restart_count).unwrap_or_default();
            let Seen { current, previous } = Seen::of(status);
            let container = |run: Told, restart, is_previous| Container {
                pod: name.clone(),
                pod_uid: uid.clone(),
                name: status.name.clone(),
                restart,
                is_previous,
                is_running: run.is_running,
                id: run.id,
                begun: run.begun,
                has_agent,
            };
            let previous = previous
                .zip(restart.checked_sub(1))
                .map(|(run, restart)| container(run, restart, true));
            let current = current.map(|run| container(run, restart, false));
            previous.into_iter().chain(current)
        })
        .collect()
}

impl Container {
    /// Which run it is.
    pub fn which(&self) -> Which {
        Which {
            pod_uid: self.pod_uid.clone(),
            pod: self.pod.clone(),
            container: self.name.clone(),
            restart: self.restart,
        }
    }

    /// Whether this is the same run of the same container of the same pod.
    pub fn is_same_run(&self, other: &Self) -> bool {
        self.is_same_container(other) && self.restart == other.restart
    }

    fn is_same_container(&self, other: &Self) -> bool {
        (&self.pod_uid, &self.name) == (&other.pod_uid, &other.name)
    }

    /// Whose log was opened for this run, by what the API tells of the pod (`None`: it is gone) once the log has begun to
    /// come. Runs only follow each other: where the same one is told of before and after, no other one was between.
    ///
    /// A node restarts containers before the API tells of it, so [`Opened::Asked`] may still be the log of the next
    /// run; [`super::Succession`] keeps its lines from being shown twice.
    pub fn opened(&self, now: Option<&[Self]>) -> Opened {
        // A pod that is deleted restarts no container.
        let Some(now) = now else {
            return Opened::Asked;
        };
        match now.iter().find(|run| run.is_same_run(self)) {
            Some(run) if run.is_previous == self.is_previous && run.id == self.id => Opened::Asked,
            Some(run) => Opened::Elsewhere(run.clone()),
            None => Opened::Gone,
        }
    }

    /// Whether the archive may get what came before this first line of the log: an agent is there, and the run had time to
    /// write what a rotation then took away.
    pub fn may_have_rotated(&self, first: Timestamp) -> bool {
        let is_late = |begun| first.duration_since(begun) > PROMPT;
        self.has_agent && self.begun.is_none_or(is_late)
    }

    /// Whether anything of it comes into an archive.
    pub fn is_archived(&self) -> bool {
        self.has_agent
    }
}

/// What the API tells of a run.
struct Told {
    is_running: bool,
    id: Option<String>,
    begun: Option<Timestamp>,
}

impl Told {
    fn ended(run: &ContainerStateTerminated) -> Self {
        Self {
            is_running: false,
            id: run.container_id.clone(),
            begun: run.started_at.as_ref().map(|time| time.0),
        }
    }
}

/// Which runs of a container have logs.
struct Seen {
    current: Option<Told>,
    previous: Option<Told>,
}

impl Seen {
    /// As the kubelet chooses (`validateContainerLogStatus`): of a container that waits to be restarted, the run that ended
    /// last is the current one.
    fn of(status: &ContainerStatus) -> Self {
        let terminated = |state: &ContainerState| state.terminated.as_ref().map(Told::ended);
        let state = status.state.as_ref();
        let running = state.and_then(|state| state.running.as_ref());
        let begun = running.map(|running| Told {
            is_running: true,
            id: status.container_id.clone(),
            begun: running.started_at.as_ref().map(|time| time.0),
        });
        let begun = begun.or_else(|| state.and_then(terminated));
        let last = status.last_state.as_ref().and_then(terminated);
        match begun {
            Some(begun) => Self {
                current: Some(begun),
                previous: last,
            },
            None => Self {
                current: last,
                previous: None,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(status: &Value) -> Pod {
        let agent = json!([{"name": layout::CONTAINER}]);
        let mut status = status.clone();
        status["name"] = "run".into();
        status["image"] = "x".into();
        status["imageID"] = "x".into();
        status["ready"] = true.into();
        serde_json::from_value(json!({
            "metadata": {"name": "run-1", "uid": "u-1"},
            "spec": {"containers": [], "initContainers": agent},
            "status": {"containerStatuses": [status]},
        }))
        .unwrap()
    }

    fn ended(id: &str) -> Value {
        json!({"terminated": {"containerID": id, "exitCode": 1, "startedAt": "2026-11-23T10:15:07Z", "finishedAt": "2026-11-23T10:16:07Z"}})
    }

    fn running(restarts: u32) -> Vec<Container> {
        let id = format!("c-{restarts}");
        let mut status = json!({"restartCount": restarts, "containerID": id, "state": {"running": {"startedAt": "2026-11-23T10:17:07Z"}}});
        if let Some(last) = restarts.checked_sub(1) {
            status["lastState"] = ended(&format!("c-{last}"));
        }
        runs(&pod(&status), |name| name == "run")
    }

    fn told(containers: &[Container]) -> Vec<(u32, bool, bool)> {
        let told = |container: &Container| {
            (
                container.restart,
                container.is_previous,
                container.is_running,
            )
        };
        containers.iter().map(told).collect()
    }

    #[test]
    fn each_run_whose_log_is_on_the_node_is_found() {
        assert_eq!(told(&running(0)), [(0, false, true)]);
        assert_eq!(told(&running(3)), [(2, true, false), (3, false, true)]);
        // It waits to be restarted: the run that has ended is the current one.
        let waiting = json!({"restartCount": 2, "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": ended("c-2")});
        assert_eq!(told(&runs(&pod(&waiting), |_| true)), [(2, false, false)]);
        let over = json!({"restartCount": 1, "state": ended("c-1"), "lastState": ended("c-0")});
        assert_eq!(
            told(&runs(&pod(&over), |_| true)),
            [(0, true, false), (1, false, false)]
        );
        let created = json!({"restartCount": 0, "state": {"waiting": {}}});
        assert_eq!(runs(&pod(&created), |_| true), []);
        assert_eq!(runs(&pod(&over), |name| name == "other"), []);
    }

    #[test]
    fn a_log_is_that_of_the_run_while_no_other_one_is_in_its_place() {
        let asked = &running(1)[1];
        assert_eq!(asked.opened(Some(&running(1))), Opened::Asked);
        // The same run, which has ended since.
        let over = json!({"restartCount": 1, "state": ended("c-1"), "lastState": ended("c-0")});
        assert_eq!(
            asked.opened(Some(&runs(&pod(&over), |_| true))),
            Opened::Asked
        );
        assert_eq!(asked.opened(None), Opened::Asked);
    }

    #[test]
    fn a_run_that_was_restarted_is_asked_for_as_the_previous_one_and_then_gone() {
        let (previous, asked) = (&running(1)[0], &running(1)[1]);
        let later = running(2);
        assert_eq!(
            asked.opened(Some(&later)),
            Opened::Elsewhere(later[0].clone())
        );
        assert!(later[0].is_previous && later[0].is_same_run(asked));
        assert_eq!(asked.opened(Some(&running(3))), Opened::Gone);
        assert_eq!(previous.opened(Some(&later)), Opened::Gone);
        // Another pod with the same name.
        let mut other = running(1);
        other[1].pod_uid = "u-2".to_owned();
        assert_eq!(asked.opened(Some(&other[1..])), Opened::Gone);
        // The same number, and yet another container.
        let mut other = running(1);
        other[1].id = Some("x".to_owned());
        assert_eq!(
            asked.opened(Some(&other)),
            Opened::Elsewhere(other[1].clone())
        );
    }

    #[test]
    fn a_first_line_that_comes_late_may_have_had_others_before_it() {
        let run = &running(0)[0];
        let begun: Timestamp = "2026-11-23T10:17:07Z".parse().unwrap();
        let after = |milliseconds| begun + SignedDuration::from_millis(milliseconds);
        assert!(!run.may_have_rotated(after(400)));
        assert!(!run.may_have_rotated(after(-3_000)), "clocks differ");
        assert!(run.may_have_rotated(after(2_001)));
        let without = Container {
            has_agent: false,
            ..run.clone()
        };
        assert!(!without.may_have_rotated(after(60_000)) && !without.is_archived());
    }
}
