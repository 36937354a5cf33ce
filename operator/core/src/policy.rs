//! A logging policy after validation: nothing that follows can be surprised by it.

use std::collections::{BTreeMap, BTreeSet};

use katonic_log_config as config;
use katonic_log_config::{
    ContainerFilter, ContainerPattern, CredentialKey, Endpoint, Expression, Selector,
};
use katonic_logging_crds as api;
use katonic_logging_crds::{LabelSelectorOperator, LoggingPolicy, Plane, SecretKeyRef};

use crate::names;

/// A policy that can be planned with.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// Planes that it reaches, never none.
    pub planes: BTreeSet<Plane>,
    /// Whether it is taken out of force for the time being.
    pub suspend: bool,
    /// Pods.
    pub selector: Selector,
    /// Components; empty: all.
    pub components: BTreeSet<String>,
    /// Containers.
    pub containers: ContainerFilter,
    /// Sinks, in the order of the policy.
    pub sinks: Vec<Sink>,
}

/// A sink of a policy.
#[derive(Clone, Debug, PartialEq)]
pub struct Sink {
    /// Its kind, as the policy's field is called.
    pub kind: &'static str,
    /// What the agents are told of it.
    pub config: config::Sink,
    /// The credentials that it needs.
    pub credentials: BTreeMap<CredentialKey, CredentialSource>,
    /// What is allowed and dangerous.
    pub warnings: Vec<String>,
}

/// Where a credential comes from, and what it has to be.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CredentialSource {
    /// Secret and key.
    pub secret: SecretKeyRef,
    /// What it is used for.
    pub usage: Usage,
}

/// What a credential is used for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Usage {
    /// In a header: visible ASCII (RFC 9110 §5.5).
    Header,
    /// As trusted certificates: PEM.
    Certificates,
}

/// One thing that is wrong with a policy.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Violation {
    /// Where, as a path into the object.
    pub path: String,
    /// What, and what to write instead.
    pub message: String,
}

/// Turns a custom resource into a policy.
///
/// The API server has refused most of what is refused here; this is the same once more for objects that were stored
/// under an earlier definition, and the step that makes types of text.
///
/// # Errors
/// Everything that is wrong, not only the first.
pub fn validate(resource: &LoggingPolicy) -> Result<Policy, Vec<Violation>> {
    let mut reader = Reader::default();
    let spec = &resource.spec;
    let planes: BTreeSet<Plane> = spec.planes.as_ref().map_or_else(
        || Plane::ALL.into(),
        |planes| planes.iter().copied().collect(),
    );
    if planes.is_empty() {
        reader.violation(
            "spec.planes",
            "is empty: name a plane, or leave the field out for both",
        );
    }
    let selector = reader.selector(spec.selector.as_ref());
    let containers = reader.containers(spec.containers.as_ref());
    if spec.sinks.is_empty() {
        reader.violation("spec.sinks", "is empty: a policy needs at least one sink");
    }
    let mut names = BTreeSet::new();
    let mut sinks = Vec::new();
    for (index, sink) in spec.sinks.iter().enumerate() {
        let path = format!("spec.sinks[{index}]");
        if !names.insert(&sink.name) {
            reader.violation(
                format!("{path}.name"),
                format!("`{}` is the name of an earlier sink", sink.name),
            );
        }
        sinks.extend(reader.sink(&path, sink));
    }
    let policy = Policy {
        planes,
        suspend: spec.suspend.unwrap_or(false),
        selector,
        components: spec.components.iter().flatten().cloned().collect(),
        containers,
        sinks,
    };
    if reader.violations.is_empty() {
        Ok(policy)
    } else {
        Err(reader.violations)
    }
}

/// Collects what is wrong while it reads.
#[derive(Default)]
struct Reader {
    violations: Vec<Violation>,
}

impl Reader {
    fn violation(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.violations.push(Violation {
            path: path.into(),
            message: message.into(),
        });
    }

    /// The value, or a violation with the error's words.
    fn take<T, E: std::fmt::Display>(
        &mut self,
        path: impl Into<String>,
        result: Result<T, E>,
    ) -> Option<T> {
        result
            .map_err(|error| self.violation(path, error.to_string()))
            .ok()
    }

    fn selector(&mut self, selector: Option<&api::LabelSelector>) -> Selector {
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
        if !names::is_label_key(key) {
            self.violation(path, format!("`{key}` is not the name of a label"));
        }
        for value in values
            .into_iter()
            .filter(|value| !names::is_label_value(value))
        {
            self.violation(path, format!("`{value}` is not the value of a label"));
        }
    }

    fn containers(&mut self, containers: Option<&api::ContainerSelector>) -> ContainerFilter {
        let mut patterns =
            |field: &str, patterns: Option<&Vec<String>>| -> BTreeSet<ContainerPattern> {
                let read = |(index, pattern): (usize, &String)| {
                    let path = format!("spec.containers.{field}[{index}]");
                    self.take(path, ContainerPattern::try_from(pattern.clone()))
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

    fn sink(&mut self, path: &str, sink: &api::Sink) -> Option<Sink> {
        let mut credentials = BTreeMap::new();
        let mut warnings = Vec::new();
        let (kind, target) = match (&sink.splunk, &sink.http) {
            (Some(splunk), None) => {
                let path = format!("{path}.splunk");
                let endpoint =
                    self.endpoint(format!("{path}.endpoint"), &splunk.endpoint, &mut warnings);
                let token = self.credential(
                    format!("{path}.tokenSecretRef"),
                    &splunk.token_secret_ref,
                    Usage::Header,
                    &mut credentials,
                );
                let tls = self.tls(&path, splunk.tls.as_ref(), &mut credentials, &mut warnings);
                let splunk = config::Splunk {
                    endpoint: endpoint?,
                    token: token?,
                    index: splunk.index.clone(),
                    source: splunk.source.clone(),
                    sourcetype: splunk.sourcetype.clone(),
                    tls: tls?,
                };
                ("splunk", config::Target::Splunk(splunk))
            }
            (None, Some(http)) => {
                let path = format!("{path}.http");
                let url = self.endpoint(format!("{path}.url"), &http.url, &mut warnings);
                let headers: Vec<_> = http
                    .headers
                    .iter()
                    .flatten()
                    .enumerate()
                    .map(|(index, header)| {
                        self.header(
                            &format!("{path}.headers[{index}]"),
                            header,
                            &mut credentials,
                        )
                    })
                    .collect();
                let tls = self.tls(&path, http.tls.as_ref(), &mut credentials, &mut warnings);
                let headers = headers.into_iter().collect::<Option<_>>()?;
                (
                    "http",
                    config::Target::Http(config::Http {
                        url: url?,
                        headers,
                        tls: tls?,
                    }),
                )
            }
            _ => {
                self.violation(path, "a sink has exactly one kind: set one of splunk, http");
                return None;
            }
        };
        Some(Sink {
            kind,
            config: config::Sink {
                name: sink.name.clone(),
                target,
            },
            credentials,
            warnings,
        })
    }

    fn endpoint(
        &mut self,
        path: String,
        text: &str,
        warnings: &mut Vec<String>,
    ) -> Option<Endpoint> {
        let endpoint = self.take(path, Endpoint::try_from(text.to_owned()))?;
        if endpoint.is_plain_text() {
            warnings.push("http:// sends credentials and lines unencrypted: use https:// where the server has it".into());
        }
        Some(endpoint)
    }

    fn credential(
        &mut self,
        path: String,
        secret: &SecretKeyRef,
        usage: Usage,
        credentials: &mut BTreeMap<CredentialKey, CredentialSource>,
    ) -> Option<CredentialKey> {
        let key = self.take(
            path.clone(),
            CredentialKey::of_secret(&secret.name, &secret.key),
        )?;
        let source = CredentialSource {
            secret: secret.clone(),
            usage,
        };
        let earlier = credentials.insert(key.clone(), source);
        if earlier.is_some_and(|earlier| earlier.usage != usage) {
            self.violation(
                path,
                "the same key of a Secret cannot be both a credential and a certificate",
            );
        }
        Some(key)
    }

    fn header(
        &mut self,
        path: &str,
        header: &api::HttpHeader,
        credentials: &mut BTreeMap<CredentialKey, CredentialSource>,
    ) -> Option<config::Header> {
        let name = self.take(
            format!("{path}.name"),
            config::HeaderName::try_from(header.name.clone()),
        )?;
        let value = match (&header.value, &header.value_secret_ref) {
            (Some(value), None) => config::HeaderValue::Literal(value.clone()),
            (None, Some(secret)) => {
                let path = format!("{path}.valueSecretRef");
                config::HeaderValue::Credential(self.credential(
                    path,
                    secret,
                    Usage::Header,
                    credentials,
                )?)
            }
            _ => {
                self.violation(path, "a header has exactly one of value and valueSecretRef");
                return None;
            }
        };
        Some(config::Header { name, value })
    }

    fn tls(
        &mut self,
        path: &str,
        tls: Option<&api::Tls>,
        credentials: &mut BTreeMap<CredentialKey, CredentialSource>,
        warnings: &mut Vec<String>,
    ) -> Option<config::Tls> {
        let Some(tls) = tls else {
            return Some(config::Tls::default());
        };
        let insecure_skip_verify = tls.insecure_skip_verify.unwrap_or(false);
        if insecure_skip_verify {
            warnings.push(
                "insecureSkipVerify lets whoever stands between read credentials and lines".into(),
            );
        }
        let ca = match &tls.ca_secret_ref {
            Some(secret) => {
                let path = format!("{path}.tls.caSecretRef");
                Some(self.credential(path, secret, Usage::Certificates, credentials)?)
            }
            None => None,
        };
        Some(config::Tls {
            ca,
            insecure_skip_verify,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{http_sink, policy, splunk_sink};

    fn rejects(change: impl FnOnce(&mut LoggingPolicy), path: &str, message: &str) {
        let mut resource = policy("p");
        change(&mut resource);
        let violations = validate(&resource).unwrap_err();
        let found = violations
            .iter()
            .any(|one| one.path == path && one.message.contains(message));
        assert!(found, "{violations:?}");
    }

    #[test]
    fn a_policy_reaches_both_planes_unless_it_says_otherwise() {
        assert_eq!(validate(&policy("p")).unwrap().planes, Plane::ALL.into());
        let mut resource = policy("p");
        resource.spec.planes = Some(vec![Plane::Compute]);
        assert_eq!(validate(&resource).unwrap().planes, [Plane::Compute].into());
    }

    #[test]
    fn what_an_earlier_definition_let_through_is_refused() {
        rejects(|p| p.spec.sinks.clear(), "spec.sinks", "at least one sink");
        rejects(
            |p| p.spec.planes = Some(vec![]),
            "spec.planes",
            "leave the field out",
        );
        rejects(
            |p| p.spec.sinks[0].http = http_sink("https://h").http,
            "spec.sinks[0]",
            "exactly one kind",
        );
        rejects(
            |p| p.spec.sinks.push(p.spec.sinks[0].clone()),
            "spec.sinks[1].name",
            "earlier sink",
        );
        rejects(
            |p| p.spec.sinks[0] = splunk_sink("ftp://h"),
            "spec.sinks[0].splunk.endpoint",
            "https://",
        );
        rejects(
            |p| p.spec.sinks[0] = http_sink("https://u:p@h"),
            "spec.sinks[0].http.url",
            "must not hold credentials",
        );
    }

    #[test]
    fn every_violation_is_told_at_once() {
        let mut resource = policy("p");
        resource.spec.planes = Some(vec![]);
        resource.spec.sinks = vec![splunk_sink("ftp://a"), http_sink("b")];
        assert_eq!(validate(&resource).unwrap_err().len(), 3);
    }

    #[test]
    fn a_password_in_an_address_is_never_repeated() {
        let mut resource = policy("p");
        resource.spec.sinks = vec![http_sink("https://user:hunter2@h")];
        assert!(!format!("{:?}", validate(&resource)).contains("hunter2"));
    }

    #[test]
    fn an_unencrypted_sink_is_allowed_and_warned_about() {
        let mut resource = policy("p");
        resource.spec.sinks = vec![splunk_sink("http://h:8088"), splunk_sink("https://h:8088")];
        resource.spec.sinks[1].name = "other".into();
        let sinks = validate(&resource).unwrap().sinks;
        assert!(sinks[0].warnings[0].contains("unencrypted"));
        assert!(sinks[1].warnings.is_empty());
    }
}
