//! Which execution of the platform a pod belongs to. Reads nothing.

use std::collections::BTreeMap;

use regex_automata::meta::Regex;

use crate::Pattern;

/// Where the id of an execution is found.
#[derive(Clone, Debug, Default)]
pub struct Execution {
    label: Option<String>,
    patterns: Vec<Regex>,
}

impl Execution {
    /// As the installation says. A pattern that does not compile here is passed over: it was tried by the operator.
    pub fn new(label: Option<&str>, patterns: &[Pattern]) -> Self {
        let patterns = patterns.iter();
        Self {
            label: label.map(str::to_owned),
            patterns: patterns
                .filter_map(|pattern| pattern.compile().ok())
                .collect(),
        }
    }

    /// The id: the value of the label, else what a pattern finds in the pod's name.
    pub fn id(&self, pod: &str, labels: &BTreeMap<String, String>) -> Option<String> {
        let label = self.label.as_ref().and_then(|label| labels.get(label));
        let by_label = label.filter(|id| !id.is_empty()).cloned();
        by_label.or_else(|| {
            let found = self.patterns.iter().find_map(|pattern| {
                let mut groups = pattern.create_captures();
                pattern.captures(pod.as_bytes(), &mut groups);
                groups.get_group(1).filter(|id| !id.is_empty())
            })?;
            pod.get(found.range()).map(str::to_owned)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn execution(patterns: &[&str]) -> Execution {
        let pattern = |text: &&str| Pattern::try_from((*text).to_owned()).unwrap();
        let patterns: Vec<Pattern> = patterns.iter().map(pattern).collect();
        Execution::new(Some("id"), &patterns)
    }

    #[test]
    fn the_label_comes_first_and_then_the_first_pattern_that_matches() {
        let execution = execution(&["^run-([0-9a-f]{6})-", "^(?:ray|mpi)-([0-9a-f]{6})"]);
        let id = |name: &str, label: Option<&str>| {
            let labels = label.map(|value| ("id".to_owned(), value.to_owned()));
            execution.id(name, &labels.into_iter().collect())
        };
        assert_eq!(id("run-63d16b-x", Some("a")).as_deref(), Some("a"));
        assert_eq!(id("run-63d16b-x", Some("")).as_deref(), Some("63d16b"));
        assert_eq!(id("ray-63d16b-head", None).as_deref(), Some("63d16b"));
        assert_eq!(id("web-1", None), None);
    }
}
