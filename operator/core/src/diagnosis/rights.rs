//! What the operator has to be allowed to do: the rules of the shipped manifests, one right at a time.

use k8s_openapi::api::{
    authorization::v1::{ResourceAttributes, SubjectAccessReviewSpec},
    rbac::v1::{ClusterRole, PolicyRule, Role},
};
use serde_json::Value;

use super::{APPLY, Finding};
use crate::{Installation, names};

/// The rules as they are shipped; those of the planes once, for each plane.
const CLUSTER: &str = include_str!("../../../../manifests/rbac.yaml");
const PLANE: &str = include_str!("../../../../manifests/plane/rbac.yaml");
const TRACKER: &str = include_str!("../../../../manifests/planes/platform/event-tracker.yaml");

/// What it means that a right is missing.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Weight {
    /// The operator cannot work.
    Needed,
    /// Policies with `rollout: Automatic` restart nothing.
    ForRollouts,
    /// Audit policies tell the event tracker nothing.
    ForAudit,
}

/// One thing that the operator may do.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Right {
    /// Where; none: in the whole cluster.
    pub namespace: Option<String>,
    /// What.
    pub verb: String,
    /// To objects of which group.
    pub group: String,
    /// To which, with the subresource behind a slash.
    pub resource: String,
    /// To the one of this name; none: to any.
    pub name: Option<String>,
    /// What it means that it is missing.
    pub weight: Weight,
}

impl Right {
    /// The question whether the operator's service account has it.
    pub fn asked(&self, operator_namespace: &str) -> SubjectAccessReviewSpec {
        let (resource, subresource) = match self.resource.split_once('/') {
            Some((resource, subresource)) => (resource, Some(subresource.to_owned())),
            None => (self.resource.as_str(), None),
        };
        let groups = [
            "system:serviceaccounts".to_owned(),
            format!("system:serviceaccounts:{operator_namespace}"),
            "system:authenticated".to_owned(),
        ];
        SubjectAccessReviewSpec {
            user: Some(format!(
                "system:serviceaccount:{operator_namespace}:{}",
                names::FIELD_MANAGER
            )),
            groups: Some(groups.into()),
            resource_attributes: Some(ResourceAttributes {
                namespace: self.namespace.clone(),
                verb: Some(self.verb.clone()),
                group: Some(self.group.clone()),
                resource: Some(resource.to_owned()),
                subresource,
                name: self.name.clone(),
                ..ResourceAttributes::default()
            }),
            ..SubjectAccessReviewSpec::default()
        }
    }

    fn words(&self) -> String {
        let group = match self.group.as_str() {
            "" => String::new(),
            group => format!(".{group}"),
        };
        let name = self.name.as_ref().map(|name| format!(" {name}"));
        format!(
            "{} {}{group}{}",
            self.verb,
            self.resource,
            name.unwrap_or_default()
        )
    }
}

/// Every right that the manifests give, for an operator and planes in these namespaces. Those of the planes are left out where nobody
/// knows which these are.
pub fn shipped(operator_namespace: &str, installation: Option<&Installation>) -> Vec<Right> {
    let mut rights = Vec::new();
    for document in CLUSTER.split("\n---\n") {
        let (namespace, rules) = match kind(document) {
            "ClusterRole" => (None, rules::<ClusterRole>(document, |role| role.rules)),
            "Role" => {
                let namespace = match namespace(document).as_deref() {
                    // Which every cluster has, wherever the operator is.
                    Some(names::CLAIM_NAMESPACE) => names::CLAIM_NAMESPACE,
                    _ => operator_namespace,
                };
                (Some(namespace), rules::<Role>(document, |role| role.rules))
            }
            _ => continue,
        };
        rights.extend(each(namespace, &rules, Weight::Needed));
    }
    let Some(installation) = installation else {
        return rights;
    };
    let planes = [
        &installation.platform_namespace,
        &installation.compute_namespace,
    ];
    for namespace in planes {
        for document in PLANE.split("\n---\n").filter(|one| kind(one) == "Role") {
            let weight = if document.contains("name: katonic-logging-rollout") {
                Weight::ForRollouts
            } else {
                Weight::Needed
            };
            let rules = rules::<Role>(document, |role| role.rules);
            rights.extend(each(Some(namespace), &rules, weight));
        }
    }
    for document in TRACKER.split("\n---\n").filter(|one| kind(one) == "Role") {
        let rules = rules::<Role>(document, |role| role.rules);
        let of_tracker = each(Some(planes[0]), &rules, Weight::ForAudit);
        rights.extend(of_tracker.map(|right| Right {
            name: Some(installation.audit.tracker.config_map.as_str().to_owned()),
            ..right
        }));
    }
    rights
}

fn kind(document: &str) -> &str {
    let mut lines = document.lines();
    let kind = lines.find_map(|line| line.strip_prefix("kind: "));
    kind.unwrap_or_default()
}

fn namespace(document: &str) -> Option<String> {
    let object: Value = serde_saphyr::from_str(document).ok()?;
    let namespace = object.pointer("/metadata/namespace")?;
    namespace.as_str().map(str::to_owned)
}

/// The rules of a document; a test sees to it that each can be read.
fn rules<R: serde::de::DeserializeOwned>(
    document: &str,
    of: impl Fn(R) -> Option<Vec<PolicyRule>>,
) -> Vec<PolicyRule> {
    let role = serde_saphyr::from_str(document).ok();
    role.and_then(of).unwrap_or_default()
}

/// Each right of some rules.
fn each(
    namespace: Option<&str>,
    rules: &[PolicyRule],
    weight: Weight,
) -> impl Iterator<Item = Right> {
    let mut rights = Vec::new();
    for rule in rules {
        let named = rule.resource_names.iter().flatten();
        let mut of: Vec<Option<String>> = named.cloned().map(Some).collect();
        if of.is_empty() {
            of.push(None);
        }
        for group in rule.api_groups.iter().flatten() {
            for resource in rule.resources.iter().flatten() {
                for name in &of {
                    rights.extend(rule.verbs.iter().map(|verb| Right {
                        namespace: namespace.map(str::to_owned),
                        verb: verb.clone(),
                        group: group.clone(),
                        resource: resource.clone(),
                        name: name.clone(),
                        weight,
                    }));
                }
            }
        }
    }
    rights.into_iter()
}

/// What came of asking for every right, one finding for each namespace and what the rights are for; none: the asker may not ask.
pub fn judged(rights: &[(Right, Option<bool>)]) -> Vec<Finding> {
    let mut groups: Vec<(Option<&str>, Weight)> = rights
        .iter()
        .map(|(right, _)| (right.namespace.as_deref(), right.weight))
        .collect();
    groups.sort_by_key(|(_, weight)| *weight);
    let mut seen = Vec::new();
    groups.retain(|group| {
        let is_new = !seen.contains(group);
        seen.push(*group);
        is_new
    });
    let finding = |(namespace, weight): (Option<&str>, Weight)| {
        let of_group: Vec<_> = rights
            .iter()
            .filter(|(right, _)| (right.namespace.as_deref(), right.weight) == (namespace, weight))
            .collect();
        let place = namespace.map_or_else(
            || "cluster".to_owned(),
            |namespace| format!("namespace {namespace}"),
        );
        let about = ("rights", place);
        if of_group.iter().any(|(_, allowed)| allowed.is_none()) {
            return Finding::warn(
                about,
                "you have no right to ask what the operator may do (subjectaccessreviews.authorization.k8s.io)",
            );
        }
        let missing: Vec<String> = of_group
            .iter()
            .filter(|(_, allowed)| *allowed == Some(false))
            .map(|(right, _)| right.words())
            .collect();
        if missing.is_empty() {
            let count = of_group.len();
            return Finding::ok(about, format!("the operator has all {count} rights"));
        }
        let missing = missing.join(", ");
        match weight {
            Weight::Needed => {
                Finding::fail(about, format!("the operator may not {missing}")).mended_by(APPLY)
            }
            Weight::ForRollouts => Finding::warn(
                about,
                format!("policies with `rollout: Automatic` restart nothing: the operator may not {missing}"),
            )
            .mended_by(APPLY),
            Weight::ForAudit => Finding::warn(
                about,
                format!("audit policies tell the event tracker nothing: the operator may not {missing}"),
            )
            .mended_by("name the tracker's ConfigMap in manifests/planes/platform/event-tracker.yaml, and apply it"),
        }
    };
    groups.into_iter().map(finding).collect()
}
