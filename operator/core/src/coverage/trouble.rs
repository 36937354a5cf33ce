//! Agents that are in their pods and do not run, as the kubelet tells of them.

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
    /// It ends again and again, in the words of its last end. The pod's own containers run.
    Failing(String),
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

impl Trouble {
    /// What is wrong with a container that waits; `last_end` says how it last ended.
    ///
    /// A pod whose image does not come is told in two turns: once that pulling has failed, and then that it is tried again
    /// later, with the same words after others. Only the words that stay are kept, so that a status does not change with each.
    pub fn of_waiting(reason: &str, message: &str, last_end: &str) -> Option<Self> {
        if reason == FAILING {
            return Some(Self::Failing(last_end.to_owned()));
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

    /// The state of a pod that has it.
    pub fn state(&self) -> State {
        match self {
            Self::Image(_) => State::AgentImageUnavailable,
            Self::Failing(_) => State::AgentFailing,
        }
    }

    /// The words of others.
    pub fn words(&self) -> &str {
        match self {
            Self::Image(words) | Self::Failing(words) => words,
        }
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
            Some(Trouble::Failing("OOMKilled, exit code 137".into()))
        );
    }
}
