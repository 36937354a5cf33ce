//! What the operator would write to a cluster for policies in files: its own plan, for a cluster in which everything is as the files say.
//!
//! No credential is in it, nor anything that a credential could be guessed by; and what is written cannot be applied by mistake,
//! because no API server takes it for a Secret.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Secret;
use katonic_log_config::{Bundle, layout};
use katonic_logging_crds::Plane;
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    admission::{DefinitionUid, Slot},
    audit,
    candidate::{Candidate, Kind},
    credential::Lookup,
    history::History,
    installation::Installation,
    lint::{Content, object::Policy},
    plan::{self, Namespace, Observed, Plan, plan},
    policy,
    way::Mode,
};

/// What would be written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Preview {
    /// The objects, in the order in which they are written.
    pub objects: Vec<Value>,
    /// What is not among them, each with a sentence that says why.
    pub left_out: BTreeSet<String>,
}

/// Why there is no preview.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no plan.
    #[error(transparent)]
    Plan(#[from] plan::Error),
    /// An object cannot be shown, which no input is known to cause.
    #[error("failed to show an object: {0}")]
    Show(#[from] serde_json::Error),
}

/// Plans for what files hold. `namespace` is that of the operator and of the Secrets that policies name.
///
/// # Errors
/// When something cannot be serialised, which no input is known to cause.
pub fn preview(
    content: &Content,
    installation: &Installation,
    namespace: &str,
) -> Result<Preview, Error> {
    let observed = observed(content, installation, namespace);
    let plan = plan(installation, &observed)?;
    let mut preview = Preview::default();
    preview.told_to_tracker(content, installation)?;
    for plane in Plane::ALL {
        if let Some(bundle) = plan
            .planes
            .get(&plane)
            .and_then(|plane| plane.bundle.as_ref())
        {
            preview.objects.push(hidden(bundle)?);
        }
    }
    preview.injection(&plan, installation)?;
    preview
        .left_out
        .extend(left_out(&plan, &observed.candidates));
    Ok(preview)
}

/// A cluster as the files say that it is: with both namespaces, and with the Secrets that nobody can look into from here.
fn observed(content: &Content, installation: &Installation, namespace: &str) -> Observed {
    let candidates = content.policies.iter().filter_map(|policy| match policy {
        Policy::Logging(candidate) => {
            let resolved = candidate.resolved(installation);
            Some(resolved.unwrap_or_else(|| (**candidate).clone()))
        }
        Policy::Audit(candidate) => candidate.shipping_of(installation),
    });
    let candidates: Vec<Candidate> = candidates
        .map(|candidate| Candidate {
            // Agents tell policies apart by their UIDs, which a cluster gives them.
            uid: format!("UID of {}", of(&candidate)),
            ..candidate
        })
        .collect();
    let usable = candidates
        .iter()
        .filter_map(|candidate| candidate.policy.as_ref().ok());
    let references = usable.flat_map(policy::Policy::secrets);
    let credentials = references.map(|reference| {
        (
            reference.clone(),
            content
                .secrets
                .look_up(reference)
                .unwrap_or(Lookup::Assumed),
        )
    });
    Observed {
        credentials: credentials.collect(),
        namespaces: Plane::ALL
            .map(|plane| {
                (
                    installation.namespace(plane).to_owned(),
                    Namespace::default(),
                )
            })
            .into(),
        refusals: BTreeMap::new(),
        last_good: BTreeMap::new(),
        definition: DefinitionUid(String::new()),
        operator_namespace: namespace.to_owned(),
        reporting: None,
        candidates,
    }
}

/// The policy as people call it.
fn of(candidate: &Candidate) -> String {
    let owner = candidate.owner();
    format!("{} {}", owner.kind, owner.name)
}

impl Preview {
    fn told_to_tracker(
        &mut self,
        content: &Content,
        installation: &Installation,
    ) -> Result<(), Error> {
        let audits = content.policies.iter().filter_map(|policy| match policy {
            Policy::Audit(candidate) => Some((**candidate).clone()),
            Policy::Logging(_) => None,
        });
        let told = audit::plan(installation.vocabulary(), audits, None);
        if !told.events.is_empty() {
            let name = &installation.audit.tracker.config_map;
            let namespace = &installation.platform_namespace;
            self.objects
                .push(shown(&audit::config_map(namespace, name, &told.events))?);
        }
        Ok(())
    }

    fn injection(&mut self, plan: &Plan, installation: &Installation) -> Result<(), Error> {
        let Some(admission) = &plan.admission else {
            return Ok(());
        };
        if installation.injection.mode == Mode::Webhook {
            self.left_out.insert(
                "the configuration of the webhook: it holds the authorities of its certificate, which a cluster has made".to_owned(),
            );
            return Ok(());
        }
        let binding = admission.binding(Slot::A, &admission.namespaces, None, &History::default());
        self.objects.push(shown(&admission.policy(Slot::A))?);
        self.objects.push(shown(&binding?)?);
        Ok(())
    }
}

/// Without the owners, whose UIDs no file knows.
fn shown(object: &impl Serialize) -> Result<Value, serde_json::Error> {
    let mut object = serde_json::to_value(object)?;
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("ownerReferences");
    }
    Ok(object)
}

/// A bundle as agents read it, with a word for each credential.
fn hidden(secret: &Secret) -> Result<Value, serde_json::Error> {
    let data = secret.data.iter().flatten().map(|(key, value)| {
        let shown = match Bundle::decode(&value.0) {
            Ok(decoded) if key == layout::BUNDLE_FILE => {
                let mut bundle = serde_json::to_value(&decoded.bundle)?;
                if let Some(bundle) = bundle.as_object_mut() {
                    // They tell forms of credentials apart: a short one could be guessed by them.
                    bundle.remove("revisions");
                }
                bundle
            }
            _ if value.0.is_empty() => json!("(not among the files)"),
            _ => json!("(hidden)"),
        };
        Ok((key.clone(), shown))
    });
    let data: BTreeMap<String, Value> = data.collect::<Result<_, serde_json::Error>>()?;
    let mut object = shown(secret)?;
    object["data"] = serde_json::to_value(data)?;
    Ok(object)
}

/// What agents are not told of the policies, and why.
fn left_out(plan: &Plan, candidates: &[Candidate]) -> Vec<String> {
    let mut told = Vec::new();
    for candidate in candidates {
        let policy = of(candidate);
        if candidate.policy.as_ref().is_ok_and(|policy| policy.suspend) {
            told.push(format!("{policy}: it is suspended"));
        }
        for plane in plan.planes.values() {
            let Some(outcome) = plane.outcomes.get(&candidate.name) else {
                continue;
            };
            told.extend(
                outcome
                    .faults
                    .iter()
                    .map(|(_, why)| format!("{policy}: {why}")),
            );
            for (sink, outcome) in &outcome.sinks {
                let faults = outcome.faults.iter();
                told.extend(faults.map(|(_, why)| format!("{policy}, sink {sink}: {why}")));
            }
            if outcome.over_budget {
                told.push(format!(
                    "{policy}: it does not fit into what agents of {} can be told: fewer or smaller policies do",
                    plane.namespace
                ));
            }
        }
        if candidate.kind == Kind::Audit && candidate.policy.is_err() {
            told.push(format!("{policy}: it cannot be used on this platform"));
        }
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lint::{Source, Surroundings, read};

    const INSTALLATION: &str = "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: katonic-logging-installation}\ndata:\n  installation.yaml: |\n    namespaces: {platform: {name: katonic-platform}, compute: {name: katonic-compute}}\n    logging: {agent: {image: 'localhost/katonic-log-agent:0.1.0'}}\n";
    const SECRET: &str = "---\napiVersion: v1\nkind: Secret\nmetadata: {name: splunk}\nstringData: {token: hunter2}\n";
    const POLICY: &str = "---\napiVersion: logging.katonic.ai/v1alpha1\nkind: LoggingPolicy\nmetadata: {name: logs}\nspec:\n  sinks:\n  - name: splunk\n    splunk: {endpoint: 'https://hec.example.com:8088', tokenSecretRef: {name: splunk, key: token}}\n";
    const AUDIT: &str = "---\napiVersion: logging.katonic.ai/v1alpha1\nkind: AuditPolicy\nmetadata: {name: logins}\nspec: {events: [ModelCreated]}\n";

    fn previewed(text: &str, secrets: &[&str]) -> Preview {
        let source = Source {
            name: "a.yaml".to_owned(),
            bytes: text.as_bytes().to_vec(),
        };
        let surroundings = Surroundings {
            namespace: "katonic-logging".to_owned(),
            secrets: secrets.iter().map(ToString::to_string).collect(),
            installation: None,
        };
        let (outcome, content) = read(&[source], &surroundings);
        assert_eq!(
            outcome.count(crate::lint::finding::Severity::Error),
            0,
            "{outcome:?}"
        );
        let installation = content.installation.clone().unwrap();
        preview(&content, &installation, "katonic-logging").unwrap()
    }

    fn kinds(preview: &Preview) -> Vec<(&str, &str)> {
        preview
            .objects
            .iter()
            .map(|object| {
                let kind = object["kind"].as_str().unwrap();
                (kind, object["metadata"]["name"].as_str().unwrap())
            })
            .collect()
    }

    #[test]
    fn what_is_planned_is_shown_and_no_credential_is() {
        let preview = previewed(&format!("{POLICY}{SECRET}{INSTALLATION}"), &[]);
        assert_eq!(
            kinds(&preview),
            [
                ("Secret", "katonic-logs"),
                ("Secret", "katonic-logs"),
                (
                    "MutatingAdmissionPolicy",
                    crate::names::ADMISSION_POLICIES[0]
                ),
                (
                    "MutatingAdmissionPolicyBinding",
                    crate::names::ADMISSION_BINDING
                ),
            ]
        );
        assert_eq!(preview.left_out, BTreeSet::new());
        let text = serde_json::to_string(&preview.objects).unwrap();
        assert!(
            !text.contains("hunter2") && !text.contains("aHVudGVyMg"),
            "{text}"
        );
        assert!(
            !text.contains("ownerReferences") && !text.contains("revisions"),
            "{text}"
        );
        let bundle = &preview.objects[0]["data"][layout::BUNDLE_FILE];
        assert_eq!(bundle["policies"][0]["name"], "logs");
        assert_eq!(bundle["policies"][0]["uid"], "UID of LoggingPolicy logs");
        assert!(text.contains(r#":"(hidden)""#), "{text}");
    }

    #[test]
    fn equal_files_give_equal_previews_in_any_order() {
        let one = previewed(&format!("{POLICY}{AUDIT}{SECRET}{INSTALLATION}"), &[]);
        let other = previewed(&format!("{INSTALLATION}{SECRET}{AUDIT}{POLICY}"), &[]);
        assert_eq!(one, other);
    }

    #[test]
    fn a_sink_without_its_secret_is_left_out_and_told_unless_the_cluster_has_it() {
        let files = format!("{POLICY}{INSTALLATION}");
        let without = previewed(&files, &[]);
        assert_eq!(
            Vec::from_iter(&without.left_out),
            [
                "LoggingPolicy logs, sink splunk: Secret katonic-logging/splunk does not exist: create it with the key `token`"
            ]
        );
        assert!(!kinds(&without).contains(&("Secret", "katonic-logs")));
        let with = previewed(&files, &["splunk"]);
        assert_eq!(with.left_out, BTreeSet::new());
        let text = serde_json::to_string(&with.objects).unwrap();
        assert!(text.contains(r#":"(not among the files)""#), "{text}");
    }

    #[test]
    fn the_event_tracker_is_told_what_audit_policies_ask_for() {
        let preview = previewed(&format!("{AUDIT}{INSTALLATION}"), &[]);
        let map = &preview.objects[0];
        assert_eq!(map["kind"], "ConfigMap");
        assert_eq!(map["metadata"]["namespace"], "katonic-platform");
        assert_eq!(map["data"][crate::names::AUDIT_EVENTS], "ModelCreated");
    }

    #[test]
    fn what_is_suspended_or_done_by_the_webhook_is_told() {
        let suspended = POLICY.replace("spec:\n", "spec:\n  suspend: true\n");
        let preview = previewed(&format!("{suspended}{SECRET}{INSTALLATION}"), &[]);
        assert_eq!(preview.objects, Vec::<Value>::new());
        assert_eq!(
            Vec::from_iter(&preview.left_out),
            ["LoggingPolicy logs: it is suspended"]
        );
        let by_webhook =
            INSTALLATION.replace("logging: {", "logging: {injection: {mode: Webhook}, ");
        let preview = previewed(&format!("{POLICY}{SECRET}{by_webhook}"), &[]);
        assert_eq!(kinds(&preview).len(), 2);
        assert!(
            preview
                .left_out
                .iter()
                .any(|why| why.starts_with("the configuration of the webhook: "))
        );
    }
}
