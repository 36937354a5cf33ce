//! Agents that are in their pods and do not run, as the kubelet tells of them.

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use katonic_log_config::layout;

use super::State;

/// Whether a container is the agent, by its name.
pub fn is_agent(container: &str) -> bool {
    container == layout::CONTAINER
}

/// Why the agent of a pod does not run.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Trouble {
    /// Its image cannot be had, in the kubelet's words. The pod waits for it: its own containers start after the agent.
    Image(String),
    /// It ends again and again. The pod's own containers run.
    Failing {
        /// How it last ended.
        words: String,
        /// When it counts as mended if it runs until then; none while it does not run.
        until: Option<Timestamp>,
    },
}

/// A run of the agent that has ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Ended {
    /// Reason and exit code.
    pub words: String,
    /// How long it was.
    pub lasted: SignedDuration,
}

/// A pod whose agent does not run.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Troubled {
    /// Its name.
    pub pod: String,
    /// What is wrong.
    pub trouble: Trouble,
}

/// What the kubelet says while it waits with an image (`pkg/kubelet/images/types.go`).
const IMAGE: [&str; 7] = [
    "ErrImagePull",
    "ImagePullBackOff",
    "ErrImageNeverPull",
    "InvalidImageName",
    "ImageInspectError",
    "RegistryUnavailable",
    "SignatureValidationFailed",
];

/// While a container that has ended waits for its next start (`pkg/kubelet/container`).
const FAILING: &str = "CrashLoopBackOff";

/// How long a container runs until its earlier ends count no longer, for the kubelet as for us (Kubernetes: "Pod Lifecycle,
/// Container restarts").
const FORGIVEN: SignedDuration = SignedDuration::from_mins(10);

/// The restart from which on a container ends again and again: the first is made at once, each later one after a wait.
const AGAIN: u32 = 2;

impl Trouble {
    /// What is wrong with a container that waits; `last_end` says how it last ended.
    ///
    /// A pod whose image does not come is told in two turns: once that pulling has failed, and then that it is tried again
    /// later, with the same words after others. Only the words that stay are kept, so that a status does not change with each.
    pub fn of_waiting(reason: &str, message: &str, last_end: &str) -> Option<Self> {
        if reason == FAILING {
            return Some(Self::Failing {
                words: last_end.to_owned(),
                until: None,
            });
        }
        if !IMAGE.contains(&reason) {
            return None;
        }
        let words = message.split_once("ErrImagePull: ").map(|(_, words)| words);
        Some(Self::Image(match words {
            Some(words) => words.to_owned(),
            None if message.is_empty() => reason.to_owned(),
            None => message.to_owned(),
        }))
    }

    /// What is wrong with a container that runs `since` then, after so many restarts: between two ends it is no better than
    /// while it waits for its next start.
    pub fn of_running(since: Timestamp, restarts: u32, last: &Ended) -> Option<Self> {
        let until = since.checked_add(FORGIVEN).ok();
        last.is_one_of_many(restarts).then(|| Self::Failing {
            words: last.words.clone(),
            until,
        })
    }

    /// What is wrong with a container that has just ended, after so many restarts.
    pub fn of_ended(restarts: u32, last: &Ended) -> Option<Self> {
        last.is_one_of_many(restarts).then(|| Self::Failing {
            words: last.words.clone(),
            until: None,
        })
    }

    /// Whether it is over at this time, if nothing is heard until then.
    pub fn is_mended(&self, now: Timestamp) -> bool {
        self.until().is_some_and(|until| until <= now)
    }

    /// When it will be over, if nothing is heard until then.
    pub fn until(&self) -> Option<Timestamp> {
        match self {
            Self::Image(_) => None,
            Self::Failing { until, .. } => *until,
        }
    }

    /// The state of a pod that has it.
    pub fn state(&self) -> State {
        match self {
            Self::Image(_) => State::AgentImageUnavailable,
            Self::Failing { .. } => State::AgentFailing,
        }
    }

    /// The words of others.
    pub fn words(&self) -> &str {
        match self {
            Self::Image(words) | Self::Failing { words, .. } => words,
        }
    }
}

impl Ended {
    fn is_one_of_many(&self, restarts: u32) -> bool {
        restarts >= AGAIN && self.lasted < FORGIVEN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_that_does_not_come_is_told_in_the_same_words_each_time() {
        let pull = r#"failed to pull image "localhost/none:v1": not found"#;
        let first = Trouble::of_waiting("ErrImagePull", pull, "");
        let back_off =
            format!(r#"Back-off pulling image "localhost/none:v1": ErrImagePull: {pull}"#);
        assert_eq!(first, Some(Trouble::Image(pull.into())));
        assert_eq!(
            Trouble::of_waiting("ImagePullBackOff", &back_off, ""),
            first
        );
        let never = Trouble::of_waiting("ErrImageNeverPull", "", "");
        assert_eq!(never, Some(Trouble::Image("ErrImageNeverPull".into())));
    }

    #[test]
    fn an_agent_that_ends_again_and_again_is_failing_while_it_runs_too() {
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        let ended = |seconds| Ended {
            words: "Error, exit code 1".into(),
            lasted: SignedDuration::from_secs(seconds),
        };
        let failing = |until| {
            Some(Trouble::Failing {
                words: "Error, exit code 1".into(),
                until,
            })
        };
        let waits = Trouble::of_waiting("CrashLoopBackOff", "back-off 20s", "Error, exit code 1");
        assert_eq!(waits, failing(None));
        assert_eq!(Trouble::of_ended(2, &ended(3)), failing(None));
        let runs = Trouble::of_running(at(100), 2, &ended(3));
        assert_eq!(runs, failing(Some(at(700))));
        let runs = runs.unwrap();
        assert!(!runs.is_mended(at(699)));
        assert!(runs.is_mended(at(700)));
        assert!(!waits.unwrap().is_mended(at(700)));
        // The first end, and one after a long run, may be of any cause.
        assert_eq!(Trouble::of_running(at(100), 1, &ended(3)), None);
        assert_eq!(Trouble::of_running(at(100), 9, &ended(600)), None);
        assert_eq!(Trouble::of_ended(1, &ended(3)), None);
    }

    #[test]
    fn an_agent_that_only_starts_is_in_no_trouble() {
        assert_eq!(Trouble::of_waiting("PodInitializing", "", ""), None);
        assert_eq!(Trouble::of_waiting("ContainerCreating", "", ""), None);
        let failing = Trouble::of_waiting(
            "CrashLoopBackOff",
            "back-off 5m0s",
            "OOMKilled, exit code 137",
        );
        assert_eq!(
            failing,
            Some(Trouble::Failing {
                words: "OOMKilled, exit code 137".into(),
                until: None,
            })
        );
    }
}
