//! Label selectors as Kubernetes defines them.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// Pods by their labels; all of it must hold, and an empty selector selects every pod.
///
/// The semantics are those of `metav1.LabelSelector`: `NotIn` and `DoesNotExist` also hold for a pod without the label.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Selector {
    /// Labels that a pod must have with exactly these values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub match_labels: BTreeMap<String, String>,
    /// Further requirements.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub match_expressions: Vec<Expression>,
}

/// One requirement on one label.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Expression {
    /// The label.
    pub key: String,
    /// What must hold of it.
    pub operator: Operator,
}

/// What must hold of a label.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Operator {
    /// The label has one of these values.
    In(BTreeSet<String>),
    /// The label is missing or has none of these values.
    NotIn(BTreeSet<String>),
    /// The label is there.
    Exists,
    /// The label is missing.
    DoesNotExist,
}

impl Selector {
    /// Whether a pod with these labels is selected.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.match_labels
            .iter()
            .all(|(key, value)| labels.get(key) == Some(value))
            && self
                .match_expressions
                .iter()
                .all(|expression| expression.matches(labels))
    }
}

impl Expression {
    fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        let value = labels.get(&self.key);
        match &self.operator {
            Operator::In(values) => value.is_some_and(|value| values.contains(value)),
            Operator::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    fn expression(operator: Operator) -> Selector {
        Selector {
            match_expressions: vec![Expression {
                key: "tier".into(),
                operator,
            }],
            ..Selector::default()
        }
    }

    #[test]
    fn an_empty_selector_selects_every_pod() {
        assert!(Selector::default().matches(&labels(&[])));
    }

    #[test]
    fn every_label_must_match() {
        let selector = Selector {
            match_labels: labels(&[("app", "web"), ("tier", "front")]),
            ..Selector::default()
        };
        assert!(selector.matches(&labels(&[("app", "web"), ("tier", "front"), ("x", "y")])));
        assert!(!selector.matches(&labels(&[("app", "web")])));
        assert!(!selector.matches(&labels(&[("app", "web"), ("tier", "back")])));
    }

    #[test]
    fn operators_mean_what_kubernetes_says_of_a_missing_label() {
        let front = || BTreeSet::from(["front".to_owned()]);
        let missing = labels(&[]);
        assert!(!expression(Operator::In(front())).matches(&missing));
        assert!(expression(Operator::NotIn(front())).matches(&missing));
        assert!(!expression(Operator::Exists).matches(&missing));
        assert!(expression(Operator::DoesNotExist).matches(&missing));
        let present = labels(&[("tier", "front")]);
        assert!(expression(Operator::In(front())).matches(&present));
        assert!(!expression(Operator::NotIn(front())).matches(&present));
        assert!(expression(Operator::Exists).matches(&present));
        assert!(!expression(Operator::DoesNotExist).matches(&present));
    }
}
