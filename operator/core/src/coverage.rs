//! How many of the pods that a policy selects have the log agent.

use std::collections::BTreeMap;

use katonic_log_config::{Policy, layout};

use crate::names;

/// What of a pod decides whether a policy takes it and whether it is covered.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Pod {
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Names of its containers, init containers included.
    pub containers: Vec<String>,
    /// Whether the API server can change it at all: not so for the copy of a static pod, and for Windows.
    pub injectable: bool,
}

/// Pods of a policy, by what is known of them.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Coverage {
    /// Selected pods that the agent belongs in.
    pub selected: usize,
    /// Those that have it.
    pub injected: usize,
    /// Selected pods that refuse it by label; they count as neither.
    pub opted_out: usize,
    /// Selected pods that cannot have it; they count as neither.
    pub not_injectable: usize,
}

impl Coverage {
    /// Both together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            selected: self.selected + other.selected,
            injected: self.injected + other.injected,
            opted_out: self.opted_out + other.opted_out,
            not_injectable: self.not_injectable + other.not_injectable,
        }
    }
}

/// Counts the pods of one namespace.
pub fn coverage<'a>(policy: &Policy, pods: impl IntoIterator<Item = &'a Pod>) -> Coverage {
    let mut coverage = Coverage::default();
    for pod in pods {
        let is_agent = |name: &String| name == layout::CONTAINER;
        let mut containers = pod.containers.iter().filter(|name| !is_agent(name));
        if !containers.any(|container| policy.takes(&pod.labels, container)) {
            continue;
        }
        if pod.containers.iter().any(is_agent) {
            coverage.selected += 1;
            coverage.injected += 1;
        } else if pod
            .labels
            .get(names::INJECT_LABEL)
            .is_some_and(|value| value == names::INJECT_NO)
        {
            coverage.opted_out += 1;
        } else if pod.injectable {
            coverage.selected += 1;
        } else {
            coverage.not_injectable += 1;
        }
    }
    coverage
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Installation, bundle::selection, candidate::Candidate, testing};
    use katonic_logging_crds::Plane;

    fn pod(containers: &[&str], labels: &[(&str, &str)]) -> Pod {
        Pod {
            labels: labels
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
            containers: containers.iter().map(|name| (*name).to_owned()).collect(),
            injectable: true,
        }
    }

    fn policy(plane: Plane) -> Policy {
        let installation: Installation = testing::installation();
        let candidate = Candidate::readable(&testing::policy("p"));
        selection(
            candidate.policy.as_ref().unwrap(),
            &candidate,
            &installation,
            plane,
        )
    }

    #[test]
    fn only_pods_that_the_agent_belongs_in_are_counted() {
        let pods = [
            pod(&["web", "katonic-log-agent"], &[]),
            pod(&["web"], &[]),
            pod(&["web"], &[("logging.katonic.ai/inject", "false")]),
            Pod {
                injectable: false,
                ..pod(&["web"], &[])
            },
        ];
        assert_eq!(
            coverage(&policy(Plane::Platform), &pods),
            Coverage {
                selected: 2,
                injected: 1,
                opted_out: 1,
                not_injectable: 1
            }
        );
    }

    #[test]
    fn a_compute_pod_with_nothing_but_user_code_is_not_selected() {
        let pods = [
            pod(&["run", "katonic-log-agent"], &[]),
            pod(&["run", "executor"], &[]),
        ];
        assert_eq!(coverage(&policy(Plane::Compute), &pods).selected, 1);
        assert_eq!(coverage(&policy(Plane::Platform), &pods).selected, 2);
    }
}
