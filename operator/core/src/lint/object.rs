//! One policy by itself: what the API server refuses of it, and what the operator says.

use std::collections::BTreeMap;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps,
};
use katonic_logging_crds::{AuditPolicy, LoggingPolicy, manifest};
use serde_json::Value;

use super::{
    finding::{Rule, Severity},
    metadata,
    schema::{self, Complaint, check, defaulted, no_such_field},
    tree::{Content, Path, Tree},
    validation::Rules,
};
use crate::{audit, candidate::Candidate, names};

/// Most bytes of an object: what etcd takes by default (etcd, "System limits").
const MOST: usize = 3 << 19;

/// The version of the policies that this program knows.
pub const VERSION: &str = "v1alpha1";

/// A policy in the files.
#[derive(Clone, Debug, PartialEq)]
pub enum Policy {
    /// A `LoggingPolicy`.
    Logging(Box<Candidate>),
    /// An `AuditPolicy`.
    Audit(Box<audit::Candidate>),
}

/// What is said of a policy.
#[derive(Clone, Debug, PartialEq)]
pub struct Said {
    /// What is wrong with it.
    pub complaints: Vec<(Severity, Complaint)>,
    /// The policy; none when the API server refuses it.
    pub policy: Option<Policy>,
}

/// The definitions, as the API server gets them.
#[derive(Debug)]
pub struct Definitions {
    schemas: BTreeMap<String, JSONSchemaProps>,
    rules: Rules,
}

impl Default for Definitions {
    fn default() -> Self {
        let definitions = manifest::all().into_iter();
        Self {
            schemas: definitions.filter_map(of_version).collect(),
            rules: Rules::default(),
        }
    }
}

fn of_version(definition: CustomResourceDefinition) -> Option<(String, JSONSchemaProps)> {
    let mut versions = definition.spec.versions.into_iter();
    let version = versions.find(|version| version.name == VERSION)?;
    Some((
        definition.spec.names.kind,
        version.schema?.open_api_v3_schema?,
    ))
}

impl Definitions {
    /// The kinds of policies.
    pub fn kinds(&self) -> impl Iterator<Item = &str> + Clone {
        self.schemas.keys().map(String::as_str)
    }

    /// The schema of a kind.
    pub fn schema(&self, kind: &str) -> Option<&JSONSchemaProps> {
        self.schemas.get(kind)
    }

    /// What is said of a policy of this kind; none of another kind.
    pub fn say(&self, kind: &str, object: &Tree, bytes: usize) -> Option<Said> {
        let schema = self.schema(kind)?;
        let mut complaints = metadata::check(object);
        complaints.extend(unknown(schema, object));
        let mut errors = Vec::new();
        for name in schema.required.iter().flatten() {
            if object
                .get(name)
                .is_none_or(|tree| tree.content == Content::Null)
            {
                errors.push(Complaint {
                    rule: Rule::RequiredField,
                    path: Path::default().field(name),
                    message: "is missing: write it, as in the samples of katonic-logging"
                        .to_owned(),
                    blocks: true,
                });
            }
        }
        // The status is the operator's: the API server drops it of an object that is created.
        let spec = schema::properties(schema).get("spec");
        let written = object
            .get("spec")
            .filter(|spec| spec.content != Content::Null);
        if let (Some(schema), Some(spec)) = (spec, written) {
            errors.extend(check(schema, spec, &Path::parse("spec")));
        }
        if bytes > MOST && object.to_json().to_string().len() > MOST {
            errors.push(Complaint {
                rule: Rule::Schema,
                path: Path::default(),
                message: format!(
                    "the policy has more than {MOST} bytes, which no cluster takes: divide it into several"
                ),
                blocks: true,
            });
        }
        let json = object.to_json();
        if !errors.iter().any(|complaint| complaint.blocks)
            && let (Some(schema), Some(spec)) = (spec, json.get("spec"))
        {
            let spec = defaulted(schema, spec);
            errors.extend(self.rules.check(schema, &spec, &Path::parse("spec")));
        }
        complaints.extend(errors);
        let mut said = Said {
            complaints: complaints
                .into_iter()
                .map(|one| (Severity::Error, one))
                .collect(),
            policy: None,
        };
        if object.get("status").is_some() {
            said.warn(
                Rule::Metadata,
                "status",
                "is written by the operator alone, and dropped: remove it",
            );
        }
        if object
            .get("metadata")
            .and_then(|metadata| metadata.get("namespace"))
            .is_some_and(|tree| tree.content != Content::Null)
        {
            said.warn(
                Rule::Metadata,
                "metadata.namespace",
                "means nothing, for a policy belongs to the whole cluster: remove it",
            );
        }
        let is_refused = said
            .complaints
            .iter()
            .any(|(severity, _)| *severity == Severity::Error);
        if !is_refused {
            let mut json = json;
            if let Some(object) = json.as_object_mut() {
                object.remove("status");
            }
            stored(&mut json);
            said.ask_operator(kind, &json);
        }
        Some(said)
    }
}

/// Numbers as the API server stores them: 514.0 is 514.
fn stored(json: &mut Value) {
    match json {
        Value::Array(items) => items.iter_mut().for_each(stored),
        Value::Object(fields) => fields.values_mut().for_each(stored),
        Value::Number(number) if number.is_f64() => {
            let whole = number.to_string();
            let whole = whole
                .strip_suffix(".0")
                .and_then(|whole| whole.parse::<i64>().ok());
            if let Some(whole) = whole {
                *json = whole.into();
            }
        }
        _ => {}
    }
}

/// Fields that there are not, at the top and below the spec and the status.
fn unknown(schema: &JSONSchemaProps, object: &Tree) -> Vec<Complaint> {
    let Content::Object(fields) = &object.content else {
        return Vec::new();
    };
    let known = ["apiVersion", "kind", "metadata", "spec", "status"];
    let mut complaints = Vec::new();
    for field in fields {
        let path = Path::default().field(&field.name);
        match schema::properties(schema).get(&field.name) {
            Some(schema) => complaints.extend(schema::unknown(schema, &field.value, &path)),
            None if known.contains(&field.name.as_str()) => {}
            None => complaints.push(Complaint {
                rule: Rule::UnknownField,
                path,
                message: no_such_field(&field.name, known.into_iter()),
                blocks: false,
            }),
        }
    }
    complaints
}

impl Said {
    fn say(&mut self, severity: Severity, rule: Rule, path: &str, message: impl Into<String>) {
        let complaint = Complaint {
            rule,
            path: Path::parse(path),
            message: message.into(),
            blocks: false,
        };
        self.complaints.push((severity, complaint));
    }

    fn warn(&mut self, rule: Rule, path: &str, message: &str) {
        self.say(Severity::Warning, rule, path, message);
    }

    /// What the operator says of a policy that the API server takes.
    fn ask_operator(&mut self, kind: &str, json: &Value) {
        let policy = match kind {
            "LoggingPolicy" => serde_json::from_value::<LoggingPolicy>(json.clone())
                .map(|resource| Policy::Logging(Candidate::readable(&resource).into())),
            _ => serde_json::from_value::<AuditPolicy>(json.clone())
                .map(|resource| Policy::Audit(audit::Candidate::readable(&resource).into())),
        };
        // The spec has the form of the definition by here. What is wrong may hold anything, and is not repeated.
        let Ok(policy) = policy else {
            self.say(
                Severity::Error,
                Rule::Metadata,
                "metadata",
                "has a value that is not of its field's type: see `kubectl explain lp.metadata`",
            );
            return;
        };
        let violations = match &policy {
            Policy::Logging(candidate) => candidate.policy.as_ref().err(),
            Policy::Audit(candidate) => candidate.policy.as_ref().err(),
        };
        for violation in violations.into_iter().flatten() {
            self.say(
                Severity::Error,
                Rule::Policy,
                &violation.path,
                violation.message.clone(),
            );
        }
        let written = json.pointer("/spec/sinks").and_then(Value::as_array);
        let shipping = policy
            .shipping()
            .and_then(|candidate| candidate.policy.as_ref().ok());
        for sink in shipping.iter().flat_map(|policy| &policy.sinks) {
            let place = written.and_then(|sinks| {
                sinks.iter().position(|one| {
                    one.get("name").and_then(Value::as_str) == Some(&sink.config.name)
                })
            });
            let path = place.map_or_else(
                || "spec.sinks".to_owned(),
                |place| format!("spec.sinks[{place}]"),
            );
            for warning in &sink.warnings {
                self.say(Severity::Warning, Rule::Dangerous, &path, warning.clone());
            }
        }
        for annotation in [
            names::ACKNOWLEDGE_RETENTION_ANNOTATION,
            names::ACKNOWLEDGE_LOSSES_ANNOTATION,
        ] {
            let pointer = format!("/metadata/annotations/{}", annotation.replace('/', "~1"));
            let Some(text) = json.pointer(&pointer).and_then(Value::as_str) else {
                continue;
            };
            let means = match annotation {
                names::ACKNOWLEDGE_RETENTION_ANNOTATION => {
                    text.parse::<crate::retention::Retention>().is_ok()
                }
                _ => text.trim().parse::<k8s_openapi::jiff::Timestamp>().is_ok(),
            };
            if !means {
                let example = match annotation {
                    names::ACKNOWLEDGE_RETENTION_ANNOTATION => {
                        "a number of days, for example 30d, or Forever"
                    }
                    _ => "a time, for example 2026-01-31T12:00:00Z",
                };
                self.warn(
                    Rule::Metadata,
                    "metadata.annotations",
                    &format!("{annotation} means nothing as it is written: write {example}"),
                );
            }
        }
        self.policy = Some(policy);
    }
}

impl Policy {
    /// What ships logs for it.
    pub fn shipping(&self) -> Option<&Candidate> {
        match self {
            Self::Logging(candidate) => Some(candidate),
            Self::Audit(candidate) => candidate.shipping.as_ref(),
        }
    }
}
