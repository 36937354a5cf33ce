//! What kind of execution a pod belongs to.

/// The platform's kinds of executions.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// A job, started by hand or by a schedule.
    Job,
    /// An interactive workspace.
    Workspace,
    /// A published application.
    App,
    /// A published model.
    ModelApi,
}

impl Kind {
    /// The kind of a pod, if that is known: what its label of the workload's type says, else what its name does.
    ///
    /// The platform's own values of the label are `Batch`, `Scheduled`, `Workspace` and `App`; pods of a Model API are called
    /// `model-…`. Pods of a cluster (`ray-…`, `spark-…`) belong to executions of several kinds.
    pub fn of(workload_type: Option<&str>, pod: &str) -> Option<Self> {
        let word: String = workload_type
            .unwrap_or_default()
            .chars()
            .filter(char::is_ascii_alphanumeric)
            .map(|letter| letter.to_ascii_lowercase())
            .collect();
        match word.as_str() {
            "batch" | "scheduled" | "scheduledjob" | "job" => Some(Self::Job),
            "workspace" => Some(Self::Workspace),
            "app" => Some(Self::App),
            "modelapi" | "model" | "endpoint" => Some(Self::ModelApi),
            "" if pod.starts_with("model-") => Some(Self::ModelApi),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_label_says_the_kind_and_else_the_name_of_a_model() {
        for (label, pod, kind) in [
            (Some("Batch"), "run-1", Some(Kind::Job)),
            (Some("Scheduled"), "run-1", Some(Kind::Job)),
            (Some("Workspace"), "run-1", Some(Kind::Workspace)),
            (Some("App"), "run-1", Some(Kind::App)),
            (Some("ModelAPI"), "x", Some(Kind::ModelApi)),
            (Some("model_api"), "x", Some(Kind::ModelApi)),
            (None, "model-63d1", Some(Kind::ModelApi)),
            (Some("App"), "model-63d1", Some(Kind::App)),
            (None, "run-1", None),
            (Some("Launcher"), "run-1", None),
        ] {
            assert_eq!(Kind::of(label, pod), kind, "{label:?} {pod}");
        }
    }
}
