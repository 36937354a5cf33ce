//! Objects as they stand in files: the change that the API server makes to pods, made before it sees them.

use std::fmt;

use serde_json::Value;

use crate::{
    injection::{Decision, Reason, decide},
    installation::Installation,
    node::{Misfit, Node},
    sidecar::Sidecar,
};

/// What became of an object.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// Its kind, namespace and name.
    pub object: String,
    /// What was done.
    pub outcome: Outcome,
}

/// What was done to an object.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Its pods get the agent.
    Injected,
    /// They do not.
    Left(Reason),
    /// It is in a namespace that is no plane.
    ElsewhereThan([String; 2]),
    /// It makes no pods, or none that are known here.
    NoPods,
}

impl fmt::Display for Told {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { object, outcome } = self;
        match outcome {
            Outcome::Injected => write!(formatter, "{object}: added the log agent"),
            Outcome::Left(reason) => write!(formatter, "{object}: left as it is, because {reason}"),
            Outcome::ElsewhereThan([platform, compute]) => write!(
                formatter,
                "{object}: left as it is, because its namespace is neither {platform} nor {compute}"
            ),
            Outcome::NoPods => write!(
                formatter,
                "{object}: left as it is, because it makes no pods"
            ),
        }
    }
}

/// Why a document cannot be changed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Error {
    /// It is no object of Kubernetes.
    #[error("it is not an object of Kubernetes: apiVersion and kind are missing")]
    NotAnObject,
    /// An item of a List cannot be changed.
    #[error("item {number} of its list: {error}")]
    Item {
        /// Its place in the list, from 1.
        number: usize,
        /// Why.
        error: Box<Self>,
    },
    /// A patch does not fit, which no manifest is known to cause.
    #[error(transparent)]
    Patch(#[from] Misfit),
}

/// Adds the agent to the pods of an object, or of each object of a List, and says what became of each.
///
/// An object that names no namespace is taken for one of a plane: whoever applies it says where.
///
/// # Errors
/// When the document is no object.
pub fn inject(
    document: &mut Node,
    sidecar: &Sidecar,
    installation: &Installation,
) -> Result<Vec<Told>, Error> {
    let kind = document.text("kind").ok_or(Error::NotAnObject)?.to_owned();
    let version = document.text("apiVersion").ok_or(Error::NotAnObject)?;
    let group = version.split_once('/').map_or("", |(group, _)| group);
    if kind.ends_with("List")
        && let Some(Node::List(_)) = document.get("items")
    {
        let mut told = Vec::new();
        if let Some(Node::List(items)) = document.get_mut("items") {
            for (index, item) in items.iter_mut().enumerate() {
                let injected = inject(item, sidecar, installation).map_err(|error| Error::Item {
                    number: index + 1,
                    error: error.into(),
                });
                told.extend(injected?);
            }
        }
        return Ok(told);
    }
    let object = name(&kind, document);
    let outcome = match pods(group, &kind) {
        None => Outcome::NoPods,
        Some(path) => inject_pods(document, path, sidecar, installation)?,
    };
    Ok(vec![Told { object, outcome }])
}

fn inject_pods(
    document: &mut Node,
    fields: &[&str],
    sidecar: &Sidecar,
    installation: &Installation,
) -> Result<Outcome, Error> {
    let planes = [
        &installation.platform_namespace,
        &installation.compute_namespace,
    ];
    let namespace = metadata(document, "namespace");
    if namespace.is_some_and(|namespace| !planes.iter().any(|plane| *plane == namespace)) {
        return Ok(Outcome::ElsewhereThan(planes.map(String::clone)));
    }
    let template = fields
        .iter()
        .try_fold(document, |node, field| node.get_mut(field));
    let Some(template) = template else {
        return Ok(Outcome::Left(Reason::Malformed));
    };
    Ok(match decide(&Value::from(&*template), sidecar) {
        Decision::Inject(patch) => {
            template.apply(&patch)?;
            Outcome::Injected
        }
        Decision::Leave(reason) => Outcome::Left(reason),
    })
}

/// Where the pod of an object is, or the template of its pods.
fn pods(group: &str, kind: &str) -> Option<&'static [&'static str]> {
    match (group, kind) {
        ("", "Pod") => Some(&[]),
        ("", "ReplicationController")
        | ("apps", "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet")
        | ("batch", "Job") => Some(&["spec", "template"]),
        ("batch", "CronJob") => Some(&["spec", "jobTemplate", "spec", "template"]),
        _ => None,
    }
}

fn metadata<'a>(object: &'a Node, field: &str) -> Option<&'a str> {
    let text = object.get("metadata")?.text(field)?;
    Some(text).filter(|text| !text.is_empty())
}

fn name(kind: &str, object: &Node) -> String {
    let name = metadata(object, "name")
        .or_else(|| metadata(object, "generateName"))
        .unwrap_or("without a name");
    match metadata(object, "namespace") {
        Some(namespace) => format!("{kind} {namespace}/{name}"),
        None => format!("{kind} {name}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::installation;

    fn injected(object: &Value) -> (Value, Vec<Told>) {
        let installation = installation();
        let sidecar = Sidecar::new(&installation.agent).unwrap();
        let mut node = Node::from(object);
        let told = inject(&mut node, &sidecar, &installation).unwrap();
        (Value::from(&node), told)
    }

    fn pod() -> Value {
        json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web"}]}})
    }

    #[test]
    fn pods_of_every_kind_of_owner_get_the_agent() {
        let template = json!({"template": pod()});
        for (version, kind, spec, path) in [
            ("apps/v1", "Deployment", template.clone(), "/spec/template"),
            ("apps/v1", "StatefulSet", template.clone(), "/spec/template"),
            ("apps/v1", "DaemonSet", template.clone(), "/spec/template"),
            ("apps/v1", "ReplicaSet", template.clone(), "/spec/template"),
            (
                "v1",
                "ReplicationController",
                template.clone(),
                "/spec/template",
            ),
            ("batch/v1", "Job", template.clone(), "/spec/template"),
            (
                "batch/v1",
                "CronJob",
                json!({"jobTemplate": {"spec": template}}),
                "/spec/jobTemplate/spec/template",
            ),
            ("v1", "Pod", pod()["spec"].clone(), ""),
        ] {
            let object = json!({"apiVersion": version, "kind": kind, "metadata": {"name": "web"}, "spec": spec});
            let (object, told) = injected(&object);
            assert_eq!(told[0].outcome, Outcome::Injected, "{kind}");
            assert_eq!(told[0].object, format!("{kind} web"));
            let pod = object.pointer(path).unwrap();
            assert_eq!(
                pod["spec"]["initContainers"][0]["name"],
                "katonic-log-agent"
            );
        }
    }

    #[test]
    fn lists_are_changed_item_by_item_and_other_kinds_not_at_all() {
        let others = json!({"apiVersion": "batch.volcano.sh/v1alpha1", "kind": "Job", "metadata": {"name": "v"}, "spec": {"template": pod()}});
        let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "a"}});
        let list = json!({"apiVersion": "v1", "kind": "List", "items": [
            service,
            {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": pod()["spec"]},
            others,
        ]});
        let (changed, told) = injected(&list);
        let told: Vec<String> = told.iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "Service a/web: left as it is, because it makes no pods",
                "Pod p: added the log agent",
                "Job v: left as it is, because it makes no pods",
            ]
        );
        assert_eq!(changed["items"][0], service);
        assert_eq!(changed["items"][2], others);
    }

    #[test]
    fn pods_of_namespaces_that_are_no_plane_are_left_as_they_are() {
        let in_namespace = |namespace: &str| {
            let metadata = json!({"name": "p", "namespace": namespace});
            let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod()["spec"]});
            injected(&pod).1.remove(0)
        };
        assert_eq!(in_namespace("katonic-compute").outcome, Outcome::Injected);
        assert_eq!(
            in_namespace("default").to_string(),
            "Pod default/p: left as it is, because its namespace is neither katonic-platform nor katonic-compute"
        );
    }

    #[test]
    fn what_is_no_object_is_refused_and_an_owner_without_a_template_is_left() {
        let installation = installation();
        let sidecar = Sidecar::new(&installation.agent).unwrap();
        for document in [
            json!([]),
            json!("text"),
            json!({"kind": "Pod"}),
            json!({"apiVersion": "v1"}),
        ] {
            let error = inject(&mut Node::from(&document), &sidecar, &installation).unwrap_err();
            assert_eq!(error, Error::NotAnObject);
        }
        let list = json!({"apiVersion": "v1", "kind": "List", "items": [{"apiVersion": "v1", "kind": "Service"}, {"kind": "Pod"}]});
        let error = inject(&mut Node::from(&list), &sidecar, &installation).unwrap_err();
        assert_eq!(
            error.to_string(),
            "item 2 of its list: it is not an object of Kubernetes: apiVersion and kind are missing"
        );
        let (_, told) = injected(
            &json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}}),
        );
        assert_eq!(told[0].outcome, Outcome::Left(Reason::Malformed));
    }
}
