//! The MutatingAdmissionPolicy that adds the log agent to pods, its binding to namespaces, and the one that tries it.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{
    api::{
        admissionregistration::v1::{
            JSONPatch, MatchResources, MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding,
            MutatingAdmissionPolicyBindingSpec, MutatingAdmissionPolicySpec, Mutation,
            NamedRuleWithOperations, Variable,
        },
        core::v1::Pod,
    },
    apimachinery::pkg::apis::meta::v1::{
        LabelSelector, LabelSelectorRequirement, ObjectMeta, OwnerReference,
    },
};
use katonic_log_config::{bundle::hex, layout};
use sha2::{Digest, Sha256};

use crate::{
    cel,
    history::History,
    injection,
    installation::{Agent, Installation},
    names::{self, POD_SECURITY_LABEL},
    plan::FORBIDDING_LEVELS,
    sidecar::{LOCAL_VOLUMES, Sidecar},
};

/// Label that every namespace has, with its name (Kubernetes: "Well-Known Labels").
const NAMESPACE_LABEL: &str = "kubernetes.io/metadata.name";

/// Injection as it should be: what is done to a pod, and where.
#[derive(Clone, Debug, PartialEq)]
pub struct Admission {
    /// What tells it from every other one.
    pub revision: Revision,
    /// The namespaces in which pods should be injected.
    pub namespaces: BTreeSet<String>,
    spec: MutatingAdmissionPolicySpec,
    installation: Installation,
    definition: DefinitionUid,
}

/// Digest of what an admission policy does to pods.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Revision(String);

impl Revision {
    /// The revision of an admission policy that was written once.
    pub fn read(annotations: &BTreeMap<String, String>) -> Option<Self> {
        annotations
            .get(names::REVISION_ANNOTATION)
            .cloned()
            .map(Self)
    }

    /// Whether an admission policy of this revision was applied to the trial pod that came back.
    pub fn is_applied_to(&self, pod: &Pod) -> bool {
        pod.metadata
            .annotations
            .as_ref()
            .and_then(|annotations| annotations.get(names::ADMISSION_REVISION_ANNOTATION))
            == Some(&self.0)
    }
}

/// Which of its two names an admission policy has. RBAC can name two; it cannot name a pattern, and admission policies
/// cannot watch over admission policies.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Slot {
    /// The first.
    A,
    /// The second.
    B,
}

impl Slot {
    /// Both.
    pub const ALL: [Self; 2] = [Self::A, Self::B];

    /// The policy's name.
    pub fn name(self) -> &'static str {
        let [a, b] = names::ADMISSION_POLICIES;
        match self {
            Self::A => a,
            Self::B => b,
        }
    }

    /// The one with this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|slot| slot.name() == name)
    }

    /// The other one.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
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
    let patch = patch(installation)?;
    // The revision is part of the policy, so it is the digest of the policy without it.
    let digest = Sha256::digest(serde_json::to_vec(&spec(patch.clone()))?);
    let bytes_to_tell_apart = 6;
    let revision = Revision(hex(&digest[..bytes_to_tell_apart]));
    let patch = format!("{patch}\n+ {}", mark_trials(&revision));
    Ok(Admission {
        spec: spec(patch),
        revision,
        namespaces: namespaces.clone(),
        installation: installation.clone(),
        definition: definition.clone(),
    })
}

impl Admission {
    /// What is added to a pod.
    ///
    /// # Errors
    /// When it cannot be serialised.
    pub fn sidecar(&self) -> Result<Sidecar, serde_json::Error> {
        Sidecar::new(&self.installation.agent)
    }

    /// What is done to a pod.
    pub fn policy(&self, slot: Slot) -> MutatingAdmissionPolicy {
        let revision = (
            names::REVISION_ANNOTATION.to_owned(),
            self.revision.0.clone(),
        );
        MutatingAdmissionPolicy {
            metadata: ObjectMeta {
                annotations: Some([revision].into()),
                ..metadata(slot.name(), &self.definition)
            },
            spec: Some(self.spec.clone()),
        }
    }

    /// Where it is done: to all pods of the namespaces, but those that try something else. `former` is the agent that they
    /// get, where it is not the one of this installation; `history` what they got before.
    ///
    /// # Errors
    /// When the installation cannot be serialised.
    pub fn binding(
        &self,
        slot: Slot,
        namespaces: &BTreeSet<String>,
        former: Option<&Agent>,
        history: &History,
    ) -> Result<MutatingAdmissionPolicyBinding, serde_json::Error> {
        let mut installation = self.installation.clone();
        if let Some(former) = former {
            installation.agent.clone_from(former);
        }
        let in_force = (
            names::INSTALLATION_ANNOTATION.to_owned(),
            serde_json::to_string(&installation)?,
        );
        Ok(MutatingAdmissionPolicyBinding {
            metadata: ObjectMeta {
                annotations: Some([in_force, history.annotation()?].into()),
                ..metadata(names::ADMISSION_BINDING, &self.definition)
            },
            spec: Some(binding(
                slot,
                namespaces,
                "NotIn",
                &[names::TRIAL_OF_CANDIDATE, names::TRIAL_OF_WEBHOOK],
            )),
        })
    }

    /// Where it is tried: only pods that are created to try it.
    pub fn trial_binding(
        &self,
        slot: Slot,
        namespaces: &BTreeSet<String>,
    ) -> MutatingAdmissionPolicyBinding {
        MutatingAdmissionPolicyBinding {
            metadata: metadata(names::TRIAL_BINDING, &self.definition),
            spec: Some(binding(
                slot,
                namespaces,
                "In",
                &[names::TRIAL_OF_CANDIDATE],
            )),
        }
    }
}

pub(crate) fn metadata(name: &str, definition: &DefinitionUid) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
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

fn spec(patch: String) -> MutatingAdmissionPolicySpec {
    MutatingAdmissionPolicySpec {
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
            object_selector: Some(injection::object_selector()),
            ..MatchResources::default()
        }),
        match_conditions: Some(injection::match_conditions()),
        variables: Some(variables()),
        // One mutation: several are not atomic when one of them fails.
        mutations: Some(vec![Mutation {
            patch_type: "JSONPatch".to_owned(),
            json_patch: Some(JSONPatch {
                expression: Some(patch),
            }),
            ..Mutation::default()
        }]),
        ..MutatingAdmissionPolicySpec::default()
    }
}

fn variables() -> Vec<Variable> {
    let ours: Vec<String> = LOCAL_VOLUMES.iter().map(|name| cel::string(name)).collect();
    [
        ("safeKey", cel::string(names::SAFE_TO_EVICT_ANNOTATION)),
        (
            "safeBefore",
            r#"has(object.metadata.annotations) && variables.safeKey in object.metadata.annotations ? object.metadata.annotations[variables.safeKey] : """#
                .to_owned(),
        ),
        (
            "safeVolumes",
            format!(
                r#"((variables.safeBefore == "" ? [] : [variables.safeBefore]) + [{}].filter(v, !(v in variables.safeBefore.split(",")))).join(",")"#,
                ours.join(", ")
            ),
        ),
    ]
    .map(|(name, expression)| Variable {
        name: name.to_owned(),
        expression,
    })
    .into()
}

/// The patch, as an expression that makes it for each pod: the same operations as [`injection::decide`]. A list that is
/// missing is created first, since `add` to it would fail.
fn patch(installation: &Installation) -> Result<String, serde_json::Error> {
    let sidecar = Sidecar::new(&installation.agent)?;
    let container = cel::literal("Object.spec.initContainers", &sidecar.container);
    let resources = cel::literal("Object.spec.initContainers.resources", &sidecar.resources);
    let revision = cel::string(sidecar.revision.as_str());
    let revision_key = cel::string(names::AGENT_REVISION_ANNOTATION);
    let mut lines = vec![
        r#"(has(object.spec.initContainers) ? [] : [JSONPatch{op: "add", path: "/spec/initContainers", value: []}])"#
            .to_owned(),
        format!(r#"+ [JSONPatch{{op: "add", path: "/spec/initContainers/0", value: {container}}}]"#),
        format!(
            r#"+ (has(object.spec.resources) ? [] : [JSONPatch{{op: "add", path: "/spec/initContainers/0/resources", value: {resources}}}])"#
        ),
        format!(
            r#"+ [JSONPatch{{op: "add", path: "/spec/initContainers/0/env/-", value: Object.spec.initContainers.env{{name: {}, value: has(object.spec.terminationGracePeriodSeconds) ? string(object.spec.terminationGracePeriodSeconds) : "{}"}}}}]"#,
            cel::string(layout::ENV_GRACE_PERIOD),
            injection::DEFAULT_GRACE_PERIOD
        ),
        r#"+ (has(object.spec.volumes) ? [] : [JSONPatch{op: "add", path: "/spec/volumes", value: []}])"#.to_owned(),
    ];
    for volume in &sidecar.volumes {
        let volume = cel::literal("Object.spec.volumes", volume);
        lines.push(format!(
            r#"+ [JSONPatch{{op: "add", path: "/spec/volumes/-", value: {volume}}}]"#
        ));
    }
    lines.push(
        r#"+ (has(object.metadata.annotations) ? [] : [JSONPatch{op: "add", path: "/metadata/annotations", value: {}}])"#
            .to_owned(),
    );
    for (key, value) in [
        (revision_key.as_str(), revision.as_str()),
        ("variables.safeKey", "variables.safeVolumes"),
    ] {
        lines.push(format!(
            r#"+ [JSONPatch{{op: "add", path: "/metadata/annotations/" + jsonpatch.escapeKey({key}), value: {value}}}]"#
        ));
    }
    Ok(lines.join("\n"))
}

/// Says on a trial pod which policy was applied to it, whatever the policies have in common.
fn mark_trials(revision: &Revision) -> String {
    let label = cel::string(names::TRIAL_LABEL);
    format!(
        r#"(has(object.metadata.labels) && {label} in object.metadata.labels ? [JSONPatch{{op: "add", path: "/metadata/annotations/" + jsonpatch.escapeKey({}), value: {}}}] : [])"#,
        cel::string(names::ADMISSION_REVISION_ANNOTATION),
        cel::string(&revision.0)
    )
}

/// `candidates` says whether pods that try a policy are meant, or all others.
fn binding(
    slot: Slot,
    namespaces: &BTreeSet<String>,
    operator: &str,
    trials: &[&str],
) -> MutatingAdmissionPolicyBindingSpec {
    MutatingAdmissionPolicyBindingSpec {
        policy_name: Some(slot.name().to_owned()),
        match_resources: Some(MatchResources {
            namespace_selector: Some(namespace_selector(namespaces)),
            object_selector: Some(LabelSelector {
                match_expressions: Some(vec![requirement(names::TRIAL_LABEL, operator, trials)]),
                ..LabelSelector::default()
            }),
            ..MatchResources::default()
        }),
        ..MutatingAdmissionPolicyBindingSpec::default()
    }
}

/// These namespaces, as long as none of them forbids what the agent needs. The API server looks at the label itself, so that no
/// pod is refused because of us while no operator runs that could take the namespace out.
pub(crate) fn namespace_selector(namespaces: &BTreeSet<String>) -> LabelSelector {
    LabelSelector {
        match_expressions: Some(vec![
            requirement(NAMESPACE_LABEL, "In", namespaces),
            requirement(POD_SECURITY_LABEL, "NotIn", FORBIDDING_LEVELS),
        ]),
        ..LabelSelector::default()
    }
}

fn requirement(
    key: &str,
    operator: &str,
    values: impl IntoIterator<Item = impl ToString>,
) -> LabelSelectorRequirement {
    LabelSelectorRequirement {
        key: key.to_owned(),
        operator: operator.to_owned(),
        values: Some(values.into_iter().map(|value| value.to_string()).collect()),
    }
}

/// The namespaces that a selector of ours names.
pub(crate) fn selected_namespaces(selector: &LabelSelector) -> BTreeSet<String> {
    let requirements = selector.match_expressions.iter().flatten();
    requirements
        .filter(|requirement| requirement.key == NAMESPACE_LABEL && requirement.operator == "In")
        .flat_map(|requirement| requirement.values.iter().flatten().cloned())
        .collect()
}

/// The namespaces that a binding of ours names.
pub fn bound_namespaces(binding: &MutatingAdmissionPolicyBindingSpec) -> BTreeSet<String> {
    let selector = binding
        .match_resources
        .as_ref()
        .and_then(|resources| resources.namespace_selector.as_ref());
    selector.map(selected_namespaces).unwrap_or_default()
}

/// The installation that a binding was written for.
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
        let admission = rendered();
        insta::assert_yaml_snapshot!("policy", admission.policy(Slot::A));
        let binding = admission.binding(Slot::A, &admission.namespaces, None, &History::default());
        insta::assert_yaml_snapshot!("binding", binding.unwrap());
        insta::assert_yaml_snapshot!(
            "trial_binding",
            admission.trial_binding(Slot::B, &["katonic-compute".to_owned()].into())
        );
    }

    #[test]
    fn an_installation_and_its_namespaces_are_found_again_in_the_binding() {
        let admission = rendered();
        let binding = admission.binding(Slot::A, &admission.namespaces, None, &History::default());
        let binding = binding.unwrap();
        let annotations = binding.metadata.annotations.unwrap();
        assert_eq!(installation_in_force(&annotations), Some(installation()));
        assert_eq!(
            bound_namespaces(&binding.spec.unwrap()),
            admission.namespaces
        );
    }

    #[test]
    fn while_pods_get_the_former_agent_the_binding_says_so() {
        let former = Agent {
            image: "localhost/katonic-log-agent:former".into(),
            ..installation().agent
        };
        let admission = rendered();
        let binding = admission.binding(
            Slot::A,
            &admission.namespaces,
            Some(&former),
            &History::default(),
        );
        let annotations = binding.unwrap().metadata.annotations.unwrap();
        let in_force = installation_in_force(&annotations).unwrap();
        assert_eq!(in_force.agent, former);
        assert_eq!(in_force.compute_namespace, "katonic-compute");
    }

    #[test]
    fn a_revision_follows_from_what_is_done_to_pods_and_from_nothing_else() {
        let revision = |change: fn(&mut Installation)| {
            let mut installation = installation();
            change(&mut installation);
            let definition = DefinitionUid("uid".into());
            admission(&installation, &BTreeSet::new(), &definition)
                .unwrap()
                .revision
        };
        assert_eq!(revision(|_| ()), rendered().revision);
        let other_image = revision(|one| one.agent.image.push_str("-next"));
        assert_ne!(other_image, rendered().revision);
        let other_plane = revision(|one| one.compute_namespace = "elsewhere".into());
        assert_eq!(other_plane, rendered().revision);
        let policy = rendered().policy(Slot::B);
        let annotations = policy.metadata.annotations.unwrap();
        assert_eq!(Revision::read(&annotations), Some(rendered().revision));
    }

    #[test]
    fn a_slot_is_known_by_its_name() {
        for slot in Slot::ALL {
            assert_eq!(Slot::named(slot.name()), Some(slot));
            assert_ne!(slot.other(), slot);
        }
        assert_eq!(Slot::named(names::ADMISSION_BINDING), None);
    }
}
