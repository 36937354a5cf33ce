//! Which pods and containers a policy means.

use std::collections::{BTreeMap, BTreeSet};

use katonic_log_config as config;
use katonic_log_config::{ContainerFilter, ContainerPattern, Expression, Selector};
use katonic_logging_crds as api;
use katonic_logging_crds::{LabelSelectorOperator, Plane};

use super::Reader;
use crate::names;

impl Reader {
    /// User code runs in one plane, in containers that the installation names.
    pub(super) fn execution(&mut self, spec: &api::LoggingPolicySpec, planes: &BTreeSet<Plane>) {
        if planes.contains(&Plane::Platform) {
            self.violation(
                "spec.planes",
                "execution logs are those of the compute plane: write [Compute], or leave planes out",
            );
        }
        let containers = spec.containers.as_ref();
        if containers.is_some_and(|containers| containers.include.is_some()) {
            self.violation(
                "spec.containers.include",
                "execution logs are those of the containers that the installation names in logging.userContainers: remove include",
            );
        }
    }

    pub(super) fn selector(&mut self, selector: Option<&api::LabelSelector>) -> Selector {
        let Some(selector) = selector else {
            return Selector::default();
        };
        let mut match_labels = BTreeMap::new();
        for (key, value) in selector.match_labels.iter().flatten() {
            let path = format!("spec.selector.matchLabels.{key}");
            self.label(&path, key, [&value.0]);
            match_labels.insert(key.clone(), value.0.clone());
        }
        let mut match_expressions = Vec::new();
        for (index, requirement) in selector.match_expressions.iter().flatten().enumerate() {
            let path = format!("spec.selector.matchExpressions[{index}]");
            let values: BTreeSet<String> = requirement
                .values
                .iter()
                .flatten()
                .map(|value| value.0.clone())
                .collect();
            self.label(&path, &requirement.key, &values);
            let operator = match requirement.operator {
                LabelSelectorOperator::In => config::Operator::In(values.clone()),
                LabelSelectorOperator::NotIn => config::Operator::NotIn(values.clone()),
                LabelSelectorOperator::Exists => config::Operator::Exists,
                LabelSelectorOperator::DoesNotExist => config::Operator::DoesNotExist,
            };
            let takes_values = matches!(
                operator,
                config::Operator::In(_) | config::Operator::NotIn(_)
            );
            if takes_values == values.is_empty() {
                let message = if takes_values {
                    "needs values"
                } else {
                    "takes no values"
                };
                self.violation(
                    format!("{path}.values"),
                    format!("the operator {:?} {message}", requirement.operator),
                );
            }
            match_expressions.push(Expression {
                key: requirement.key.clone(),
                operator,
            });
        }
        Selector {
            match_labels,
            match_expressions,
        }
    }

    fn label<'a>(&mut self, path: &str, key: &str, values: impl IntoIterator<Item = &'a String>) {
        self.label_key(path, key);
        for value in values
            .into_iter()
            .filter(|value| !names::is_label_value(value))
        {
            self.violation(path, format!("`{value}` is not the value of a label"));
        }
    }

    pub(super) fn label_key(&mut self, path: &str, key: &str) {
        if !names::is_label_key(key) {
            self.violation(path, format!("`{key}` is not the name of a label"));
        }
    }

    pub(super) fn containers(
        &mut self,
        containers: Option<&api::ContainerSelector>,
    ) -> ContainerFilter {
        let mut patterns =
            |field: &str, patterns: Option<&Vec<String>>| -> BTreeSet<ContainerPattern> {
                let read = |(index, pattern): (usize, &String)| {
                    let path = format!("spec.containers.{field}[{index}]");
                    self.take(path, ContainerPattern::try_from(pattern.clone()))
                        .ok()
                };
                patterns
                    .into_iter()
                    .flatten()
                    .enumerate()
                    .filter_map(read)
                    .collect()
            };
        containers.map_or_else(ContainerFilter::default, |containers| ContainerFilter {
            include: patterns("include", containers.include.as_ref()),
            exclude: patterns("exclude", containers.exclude.as_ref()),
        })
    }
}
