//! The MutatingAdmissionPolicy that adds the log agent to pods, and its binding to namespaces.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{
    api::admissionregistration::v1::{
        JSONPatch, MatchCondition, MatchResources, MutatingAdmissionPolicy,
        MutatingAdmissionPolicyBinding, MutatingAdmissionPolicyBindingSpec,
        MutatingAdmissionPolicySpec, Mutation, NamedRuleWithOperations, Variable,
    },
    apimachinery::pkg::apis::meta::v1::{
        LabelSelector, LabelSelectorRequirement, ObjectMeta, OwnerReference,
    },
};
use katonic_log_config::layout;

use crate::{
    cel,
    installation::Installation,
    names,
    sidecar::{LOCAL_VOLUMES, VOLUMES, sidecar},
};

/// Both objects; neither does anything without the other.
#[derive(Clone, Debug, PartialEq)]
pub struct Admission {
    /// What is done to a pod.
    pub policy: MutatingAdmissionPolicy,
    /// Where it is done.
    pub binding: MutatingAdmissionPolicyBinding,
    /// The namespaces of the binding.
    pub namespaces: BTreeSet<String>,
}

/// The UID of the definition of the policies, which owns what is cluster-wide: without policies there is nothing to inject.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DefinitionUid(pub String);

/// Admission for the pods of these namespaces.
///
/// # Errors
/// When the installation or the sidecar cannot be serialised.
pub fn admission(
    installation: &Installation,
    namespaces: &BTreeSet<String>,
    definition: &DefinitionUid,
) -> Result<Admission, serde_json::Error> {
    Ok(Admission {
        policy: policy(installation, definition)?,
        binding: binding(namespaces, definition),
        namespaces: namespaces.clone(),
    })
}

fn metadata(definition: &DefinitionUid) -> ObjectMeta {
    ObjectMeta {
        name: Some(names::ADMISSION.to_owned()),
        labels: Some(
            [(
                names::MANAGED_BY_LABEL.to_owned(),
                names::FIELD_MANAGER.to_owned(),
            )]
            .into(),
        ),
        owner_references: Some(vec![OwnerReference {
            api_version: "apiextensions.k8s.io/v1".to_owned(),
            kind: "CustomResourceDefinition".to_owned(),
            name: names::POLICY_DEFINITION.to_owned(),
            uid: definition.0.clone(),
            ..OwnerReference::default()
        }]),
        ..ObjectMeta::default()
    }
}

fn policy(
    installation: &Installation,
    definition: &DefinitionUid,
) -> Result<MutatingAdmissionPolicy, serde_json::Error> {
    let in_force = serde_json::to_string(installation)?;
    Ok(MutatingAdmissionPolicy {
        metadata: ObjectMeta {
            annotations: Some([(names::INSTALLATION_ANNOTATION.to_owned(), in_force)].into()),
            ..metadata(definition)
        },
        spec: Some(MutatingAdmissionPolicySpec {
            // A mistake of ours must not stop a pod.
            failure_policy: Some("Ignore".to_owned()),
            reinvocation_policy: Some("IfNeeded".to_owned()),
            match_constraints: Some(MatchResources {
                match_policy: Some("Equivalent".to_owned()),
                resource_rules: Some(vec![NamedRuleWithOperations {
                    api_groups: Some(vec![String::new()]),
                    api_versions: Some(vec!["v1".to_owned()]),
                    resources: Some(vec!["pods".to_owned()]),
                    // Init containers cannot be changed later.
                    operations: Some(vec!["CREATE".to_owned()]),
                    scope: Some("Namespaced".to_owned()),
                    ..NamedRuleWithOperations::default()
                }]),
                object_selector: Some(LabelSelector {
                    match_expressions: Some(vec![LabelSelectorRequirement {
                        key: names::INJECT_LABEL.to_owned(),
                        operator: "NotIn".to_owned(),
                        values: Some(vec![names::INJECT_NO.to_owned()]),
                    }]),
                    ..LabelSelector::default()
                }),
                ..MatchResources::default()
            }),
            match_conditions: Some(match_conditions()),
            variables: Some(variables()),
            // One mutation: several are not atomic when one of them fails.
            mutations: Some(vec![Mutation {
                patch_type: "JSONPatch".to_owned(),
                json_patch: Some(JSONPatch {
                    expression: Some(patch(installation)?),
                }),
                ..Mutation::default()
            }]),
            ..MutatingAdmissionPolicySpec::default()
        }),
    })
}

fn match_conditions() -> Vec<MatchCondition> {
    let container = cel::string(layout::CONTAINER);
    let mirror = cel::string(names::MIRROR_ANNOTATION);
    let volumes: Vec<String> = VOLUMES.iter().map(|name| cel::string(name)).collect();
    // A second container or volume of the same name would make a valid pod invalid.
    let taken = format!(
        "!object.spec.containers.exists(c, c.name == {container}) && (!has(object.spec.volumes) || !object.spec.volumes.exists(v, v.name in [{}]))",
        volumes.join(", ")
    );
    [
        (
            "not-yet-injected",
            format!("!has(object.spec.initContainers) || !object.spec.initContainers.exists(c, c.name == {container})"),
        ),
        ("not-a-mirror-pod", format!("!has(object.metadata.annotations) || !({mirror} in object.metadata.annotations)")),
        ("no-name-taken", taken),
        // The agent's requests on top of the containers' could exceed what such a pod sets for all of them.
        ("no-pod-level-resources", "!has(object.spec.resources)".to_owned()),
        ("not-windows", r#"!has(object.spec.os) || object.spec.os.name != "windows""#.to_owned()),
    ]
    .map(|(name, expression)| MatchCondition { name: name.to_owned(), expression })
    .into()
}

fn variables() -> Vec<Variable> {
    let safe_volumes = format!(
        r#"(has(object.metadata.annotations) && variables.safeKey in object.metadata.annotations ? object.metadata.annotations[variables.safeKey] + "," : "") + {}"#,
        cel::string(&LOCAL_VOLUMES.join(","))
    );
    [
        ("safeKey", cel::string(names::SAFE_TO_EVICT_ANNOTATION)),
        ("safeVolumes", safe_volumes),
    ]
    .map(|(name, expression)| Variable {
        name: name.to_owned(),
        expression,
    })
    .into()
}

/// The patch, as an expression that makes it for each pod. A list that is missing is created first: `add` to it would fail.
fn patch(installation: &Installation) -> Result<String, serde_json::Error> {
    let sidecar = sidecar(&installation.agent);
    let container = cel::literal(
        "Object.spec.initContainers",
        &serde_json::to_value(&sidecar.container)?,
    );
    let mut lines = vec![
        r#"(has(object.spec.initContainers) ? [] : [JSONPatch{op: "add", path: "/spec/initContainers", value: []}])"#
            .to_owned(),
        format!(r#"+ [JSONPatch{{op: "add", path: "/spec/initContainers/0", value: {container}}}]"#),
        r#"+ (has(object.spec.volumes) ? [] : [JSONPatch{op: "add", path: "/spec/volumes", value: []}])"#.to_owned(),
    ];
    for volume in &sidecar.volumes {
        let volume = cel::literal("Object.spec.volumes", &serde_json::to_value(volume)?);
        lines.push(format!(
            r#"+ [JSONPatch{{op: "add", path: "/spec/volumes/-", value: {volume}}}]"#
        ));
    }
    lines.push(
        r#"+ (has(object.metadata.annotations) ? [] : [JSONPatch{op: "add", path: "/metadata/annotations", value: {}}])"#
            .to_owned(),
    );
    lines.push(
        r#"+ [JSONPatch{op: "add", path: "/metadata/annotations/" + jsonpatch.escapeKey(variables.safeKey), value: variables.safeVolumes}]"#
            .to_owned(),
    );
    Ok(lines.join("\n"))
}

fn binding(
    namespaces: &BTreeSet<String>,
    definition: &DefinitionUid,
) -> MutatingAdmissionPolicyBinding {
    MutatingAdmissionPolicyBinding {
        metadata: metadata(definition),
        spec: Some(MutatingAdmissionPolicyBindingSpec {
            policy_name: Some(names::ADMISSION.to_owned()),
            match_resources: Some(MatchResources {
                namespace_selector: Some(LabelSelector {
                    match_expressions: Some(vec![LabelSelectorRequirement {
                        key: "kubernetes.io/metadata.name".to_owned(),
                        operator: "In".to_owned(),
                        values: Some(namespaces.iter().cloned().collect()),
                    }]),
                    ..LabelSelector::default()
                }),
                ..MatchResources::default()
            }),
            ..MutatingAdmissionPolicyBindingSpec::default()
        }),
    }
}

/// The installation that an admission policy was written for.
pub fn installation_in_force(annotations: &BTreeMap<String, String>) -> Option<Installation> {
    serde_json::from_str(annotations.get(names::INSTALLATION_ANNOTATION)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::installation;

    fn rendered() -> Admission {
        let namespaces = ["katonic-compute".to_owned(), "katonic-platform".to_owned()].into();
        admission(
            &installation(),
            &namespaces,
            &DefinitionUid("uid-of-the-definition".into()),
        )
        .unwrap()
    }

    #[test]
    fn the_objects_are_as_reviewed() {
        insta::assert_yaml_snapshot!("policy", rendered().policy);
        insta::assert_yaml_snapshot!("binding", rendered().binding);
    }

    #[test]
    fn an_installation_is_found_again_in_the_policy() {
        let annotations = rendered().policy.metadata.annotations.unwrap();
        assert_eq!(installation_in_force(&annotations), Some(installation()));
    }
}
