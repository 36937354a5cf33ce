//! What is read back: an execution, or a pod of one whose id nobody knows.

use std::fmt;

use katonic_log_config::archive::escaped;

/// Whose log is read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Subject {
    /// All pods of the execution with this id.
    Execution(String),
    /// A pod that has neither the label nor a name with an id.
    Pod {
        /// Its namespace.
        namespace: String,
        /// Its name.
        pod: String,
    },
}

impl Subject {
    /// What the names of its objects begin with, below a sink's prefix: ends in `/`. Those of a pod stand among those of others.
    pub fn folder(&self) -> String {
        let (top, name) = match self {
            Self::Execution(id) => ("executions", id),
            Self::Pod { namespace, .. } => ("unidentified", namespace),
        };
        format!("{top}/{}/", escaped(name))
    }

    /// Whether a name below the prefix is one of it, by its beginning.
    pub fn has(&self, name: &str) -> bool {
        let folder = self.folder();
        match self {
            Self::Execution(_) => name.starts_with(&folder),
            // A UID follows, and neither has `_`.
            Self::Pod { pod, .. } => name
                .strip_prefix(&folder)
                .and_then(|rest| rest.strip_prefix(&escaped(pod)))
                .is_some_and(|rest| rest.starts_with('_')),
        }
    }

    /// The id of the execution, if it is known.
    pub fn execution_id(&self) -> Option<&str> {
        match self {
            Self::Execution(id) => Some(id),
            Self::Pod { .. } => None,
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Execution(id) => write!(formatter, "execution {id}"),
            Self::Pod { namespace, pod } => write!(formatter, "pod {namespace}/{pod}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_found_by_its_whole_name_and_no_other() {
        let pod = Subject::Pod {
            namespace: "compute".into(),
            pod: "run-1".into(),
        };
        assert_eq!(pod.folder(), "unidentified/compute/");
        for (name, has) in [
            (
                "unidentified/compute/run-1_u-1/run/0000-aaaaaaaa-complete.json",
                true,
            ),
            (
                "unidentified/compute/run-10_u-1/run/0000-aaaaaaaa-complete.json",
                false,
            ),
            (
                "unidentified/other/run-1_u-1/run/0000-aaaaaaaa-complete.json",
                false,
            ),
            (
                "executions/compute/run-1_u-1/run/0000-aaaaaaaa-complete.json",
                false,
            ),
            ("unidentified/compute/run-1", false),
        ] {
            assert_eq!(pod.has(name), has, "{name}");
        }
        let execution = Subject::Execution("a/b".into());
        assert!(execution.has("executions/a!2Fb/run-1_u-1/run/x"));
        assert!(!execution.has("executions/a/run-1_u-1/run/x"));
    }
}
