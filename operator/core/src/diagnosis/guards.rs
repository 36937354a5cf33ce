//! What keeps the operator within its bounds, as it is shipped and as the cluster has it.

use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use serde_json::{Value, json};

use super::{APPLY, Finding};
use crate::names;

/// The guards as they are shipped, each a policy and its binding.
const SHIPPED: [&str; 3] = [
    include_str!("../../../../manifests/dry-run-only.yaml"),
    include_str!("../../../../manifests/claim-only.yaml"),
    include_str!("../../../../manifests/restart-only.yaml"),
];

/// A `ValidatingAdmissionPolicy` that keeps the operator within its bounds, with its binding.
#[derive(Clone, Debug, PartialEq)]
pub struct Guard {
    /// The name of both.
    pub name: String,
    policy: Value,
    binding: Value,
}

/// Every guard, for an operator in this namespace.
pub fn guards(operator_namespace: &str) -> Vec<Guard> {
    let account = |namespace: &str| format!("system:serviceaccount:{namespace}:");
    let guard = |shipped: &&str| {
        let own = shipped.replace(
            &account(names::OPERATOR_NAMESPACE),
            &account(operator_namespace),
        );
        let (policy, binding) = own.split_once("\n---\n")?;
        let read = |document: &str| serde_saphyr::from_str::<Value>(document).ok();
        let (policy, binding) = (read(policy)?, read(binding)?);
        Some(Guard {
            name: policy["metadata"]["name"].as_str()?.to_owned(),
            policy: policy["spec"].clone(),
            binding: binding["spec"].clone(),
        })
    };
    SHIPPED.iter().filter_map(guard).collect()
}

/// A guard as the cluster has it.
pub fn guard(
    shipped: &Guard,
    policy: Option<&ValidatingAdmissionPolicy>,
    binding: Option<&ValidatingAdmissionPolicyBinding>,
) -> Finding {
    let about = ("guard", shipped.name.as_str());
    let (Some(policy), Some(binding)) = (policy, binding) else {
        return Finding::fail(
            about,
            "it is missing, so the operator may do more than it needs",
        )
        .mended_by(APPLY);
    };
    let found = [json!(policy.spec), json!(binding.spec)];
    let of_policy = difference(&shipped.policy, &found[0], "spec".to_owned());
    let of_binding = || difference(&shipped.binding, &found[1], "the binding's spec".to_owned());
    match of_policy.or_else(of_binding) {
        None => Finding::ok(about, "it keeps the operator within its bounds"),
        Some(place) => Finding::fail(
            about,
            format!("{place} is not as this program's version ships it, so nobody knows whether it keeps the operator within its bounds"),
        )
        .mended_by(format!(
            "{APPLY}   # or use a program of the operator's version"
        )),
    }
}

/// Where what was found is not what is shipped, but for what the API server fills in.
fn difference(shipped: &Value, found: &Value, place: String) -> Option<String> {
    match (shipped, found) {
        (Value::Object(shipped), Value::Object(found)) => {
            let changed = shipped.iter().find_map(|(key, value)| {
                let found = found.get(key).unwrap_or(&Value::Null);
                difference(value, found, format!("{place}.{key}"))
            });
            let added = || {
                let mut added = found.iter();
                let added = added
                    .find(|(key, value)| !shipped.contains_key(*key) && !is_default(key, value));
                added.map(|(key, _)| format!("{place}.{key}"))
            };
            changed.or_else(added)
        }
        (Value::Array(shipped), Value::Array(found)) if shipped.len() == found.len() => {
            let mut pairs = shipped.iter().zip(found).enumerate();
            pairs.find_map(|(index, (shipped, found))| {
                difference(shipped, found, format!("{place}[{index}]"))
            })
        }
        (shipped, found) => (shipped != found).then_some(place),
    }
}

/// What the API server writes where nothing is written (Kubernetes API: `ValidatingAdmissionPolicySpec`, `MatchResources`).
fn is_default(key: &str, value: &Value) -> bool {
    let default = match key {
        "namespaceSelector" | "objectSelector" => json!({}),
        "matchPolicy" => json!("Equivalent"),
        "failurePolicy" => json!("Fail"),
        "scope" => json!("*"),
        _ => return false,
    };
    *value == default
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_guard_that_is_shipped_is_read() {
        let guards = guards("elsewhere");
        assert_eq!(guards.len(), SHIPPED.len());
        for guard in guards {
            assert!(
                guard.policy.is_object() && guard.binding.is_object(),
                "{guard:?}"
            );
            let text = guard.policy.to_string();
            let shipped = format!("system:serviceaccount:{}:", names::OPERATOR_NAMESPACE);
            assert!(!text.contains(&shipped), "{text}");
        }
    }
}
