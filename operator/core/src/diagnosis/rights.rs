//! What the operator has to be allowed to do: the rules of the shipped manifests, one right at a time.

use k8s_openapi::api::{
    authorization::v1::{ResourceAttributes, SubjectAccessReviewSpec, SubjectAccessReviewStatus},
    rbac::v1::{ClusterRole, PolicyRule, Role},
};
use serde_json::Value;

use super::{APPLY, APPLY_WEBHOOK, Finding};
use crate::{Installation, names};

/// The rules as they are shipped; those of the planes once, for each plane.
const CLUSTER: &str = include_str!("../../../../manifests/rbac.yaml");
const PLANE: &str = include_str!("../../../../manifests/plane/rbac.yaml");
const TRACKER: &str = include_str!("../../../../manifests/planes/platform/event-tracker.yaml");

const WEBHOOK: &str = include_str!("../../../../manifests/webhook/rbac.yaml");

/// What it means that a right is missing.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Weight {
    /// The operator cannot work.
    Needed,
    /// Policies with `rollout: Automatic` restart nothing.
    ForRollouts,
    /// Audit policies tell the event tracker nothing.
    ForAudit,
    /// Pods do not get the agent from the webhook.
    ForWebhook,
}

/// What the API server says to whether somebody has a right.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Answer {
    /// Yes.
    Allowed,
    /// No.
    Denied,
    /// The asker may not ask.
    MayNotAsk,
    /// Nothing, for this reason.
    Unanswered(String),
}

impl Answer {
    /// What a review says; none: it has no status. One that met an error and found no rule that allows says nothing.
    pub fn of(status: Option<SubjectAccessReviewStatus>) -> Self {
        let Some(status) = status else {
            return Self::Unanswered("the review has no status".to_owned());
        };
        let error = status.evaluation_error.filter(|error| !error.is_empty());
        match error {
            _ if status.allowed => Self::Allowed,
            Some(error) => Self::Unanswered(error),
            None => Self::Denied,
        }
    }
}

/// One thing that the operator may do, or its webhook.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Right {
    /// The service account that has it, in the operator's namespace.
    pub account: &'static str,
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
    /// The question whether its service account has it.
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
                self.account
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
                let namespace = match metadata(document, "namespace").as_deref() {
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

/// Every right that the manifests of the webhook give: to it, and to the operator for it.
pub fn of_webhook(operator_namespace: &str) -> Vec<Right> {
    let mut rights = Vec::new();
    for document in WEBHOOK.split("\n---\n") {
        let (namespace, rules) = match kind(document) {
            "ClusterRole" => (None, rules::<ClusterRole>(document, |role| role.rules)),
            "Role" => (
                Some(operator_namespace),
                rules::<Role>(document, |role| role.rules),
            ),
            _ => continue,
        };
        // The webhook has the role of its own name, and the operator all others.
        let is_its_own = metadata(document, "name").as_deref() == Some(names::WEBHOOK);
        let of_role = each(namespace, &rules, Weight::ForWebhook);
        rights.extend(of_role.map(|right| Right {
            account: if is_its_own {
                names::WEBHOOK
            } else {
                names::FIELD_MANAGER
            },
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

fn metadata(document: &str, field: &str) -> Option<String> {
    let object: Value = serde_saphyr::from_str(document).ok()?;
    object["metadata"][field].as_str().map(str::to_owned)
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
                        account: names::FIELD_MANAGER,
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

/// What came of asking for every right, one finding for each namespace and what the rights are for.
pub fn judged(rights: &[(Right, Answer)]) -> Vec<Finding> {
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
        let has = |answer: &Answer| of_group.iter().any(|(_, one)| one == answer);
        if has(&Answer::MayNotAsk) {
            return Finding::warn(
                about,
                "you have no right to ask what the operator may do (subjectaccessreviews.authorization.k8s.io)",
            );
        }
        let missing: Vec<String> = of_group
            .iter()
            .filter(|(_, answer)| *answer == Answer::Denied)
            .map(|(right, _)| right.words())
            .collect();
        let unanswered = of_group.iter().find_map(|(_, answer)| match answer {
            Answer::Unanswered(reason) => Some(reason),
            _ => None,
        });
        if let Some(reason) = unanswered.filter(|_| missing.is_empty()) {
            return Finding::warn(
                about,
                format!(
                    "the API server did not say whether the operator has every right: {reason}"
                ),
            );
        }
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
            Weight::ForWebhook => Finding::fail(
                about,
                format!("the webhook cannot work: {missing} is not allowed to it, or to the operator for it"),
            )
            .mended_by(APPLY_WEBHOOK),
        }
    };
    groups.into_iter().map(finding).collect()
}
