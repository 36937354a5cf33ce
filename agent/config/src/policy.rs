//! One policy as an agent applies it: which of its pod's containers, and to which sinks.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{Audit, CredentialKey, Filter, Multiline, Selector, Sink};

/// Labels that say which component a pod is, in the order in which they are asked.
pub const COMPONENT_LABELS: [&str; 2] = ["app.kubernetes.io/name", "app"];

/// A logging policy that reaches the namespace of the bundle.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Policy {
    /// Name of the custom resource.
    pub name: String,
    /// UID of the custom resource: a policy that is deleted and made again is another one.
    pub uid: String,
    /// The pods.
    #[serde(default)]
    pub selector: Selector,
    /// Components by name; empty: all. See [`Policy::takes`].
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub components: BTreeSet<String>,
    /// The containers.
    #[serde(default)]
    pub containers: ContainerFilter,
    /// Of their logs the audit events are meant, and nothing else; none: every line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit: Option<Audit>,
    /// How lines that belong together are found; none: each line is a record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub multiline: Option<Multiline>,
    /// What is done to each record, in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<Filter>,
    /// What a record's text is taken for.
    #[serde(default, skip_serializing_if = "Parse::is_text")]
    pub parse: Parse,
    /// The pod's labels that go with each record; none: all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_labels: Option<BTreeSet<String>>,
    /// Where their logs go; each sink gets every record.
    pub sinks: Vec<Sink>,
    /// Gets nothing but what the others could not deliver before the pod ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<Sink>,
}

/// What a record's text is taken for.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Parse {
    /// Text.
    #[default]
    Text,
    /// A JSON object, where it is one: its members become fields where the sink has fields.
    Json,
}

impl Parse {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
    fn is_text(&self) -> bool {
        *self == Self::Text
    }
}

/// Containers by name: taken when a pattern of `include` matches and none of `exclude`.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ContainerFilter {
    /// Patterns of which one must match; empty: all containers.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub include: BTreeSet<ContainerPattern>,
    /// Patterns of which none may match.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub exclude: BTreeSet<ContainerPattern>,
}

/// A container's name in which `*` stands for any characters, none included.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContainerPattern(String);

impl Policy {
    /// A policy that takes every container and leaves every line as it is.
    pub fn of_everything(name: &str, uid: &str, sinks: Vec<Sink>) -> Self {
        Self {
            name: name.to_owned(),
            uid: uid.to_owned(),
            selector: Selector::default(),
            components: BTreeSet::new(),
            containers: ContainerFilter::default(),
            audit: None,
            multiline: None,
            filters: Vec::new(),
            parse: Parse::Text,
            pod_labels: None,
            sinks,
            fallback: None,
        }
    }

    /// Every credential that it needs, each once and in order.
    pub fn credentials(&self) -> Vec<&CredentialKey> {
        let sinks = self.sinks.iter().chain(&self.fallback);
        let mut keys: Vec<_> = sinks
            .flat_map(Sink::credentials)
            .chain(self.filters.iter().filter_map(Filter::credential))
            .collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    /// Whether the logs of this container of a pod with these labels belong to the policy.
    ///
    /// A component is what `app.kubernetes.io/name` or `app` says of the pod, or else a container's own name:
    /// where a label names the component, all containers of the pod are taken.
    pub fn takes(&self, labels: &BTreeMap<String, String>, container: &str) -> bool {
        self.selector.matches(labels)
            && (self.components.is_empty()
                || self.components.contains(container)
                || COMPONENT_LABELS
                    .iter()
                    .filter_map(|key| labels.get(*key))
                    .any(|component| self.components.contains(component)))
            && self.containers.takes(container)
    }
}

impl ContainerFilter {
    /// Whether a container of this name is taken.
    pub fn takes(&self, container: &str) -> bool {
        (self.include.is_empty()
            || self
                .include
                .iter()
                .any(|pattern| pattern.matches(container)))
            && !self
                .exclude
                .iter()
                .any(|pattern| pattern.matches(container))
    }
}

impl ContainerPattern {
    /// Whether the whole name matches.
    pub fn matches(&self, name: &str) -> bool {
        let mut parts = self.0.split('*');
        let first = parts.next().unwrap_or_default();
        let Some(mut rest) = name.strip_prefix(first) else {
            return false;
        };
        let mut parts: Vec<&str> = parts.collect();
        let Some(last) = parts.pop() else {
            return rest.is_empty();
        };
        for part in parts {
            match rest.find(part) {
                Some(at) => rest = &rest[at + part.len()..],
                None => return false,
            }
        }
        rest.ends_with(last)
    }
}

impl TryFrom<String> for ContainerPattern {
    type Error = InvalidPattern;

    fn try_from(pattern: String) -> Result<Self, Self::Error> {
        let allowed = |byte: u8| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'*'
        };
        if (1..=63).contains(&pattern.len()) && pattern.bytes().all(allowed) {
            Ok(Self(pattern))
        } else {
            Err(InvalidPattern(pattern))
        }
    }
}

impl From<ContainerPattern> for String {
    fn from(pattern: ContainerPattern) -> Self {
        pattern.0
    }
}

/// A pattern that no container's name can match.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{0}` is not a container's name or pattern: use 1 to 63 of a-z, 0-9, `-` and `*`")]
pub struct InvalidPattern(String);

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> ContainerPattern {
        ContainerPattern::try_from(text.to_owned()).unwrap()
    }

    fn policy() -> Policy {
        Policy::of_everything("p", "u", Vec::new())
    }

    #[test]
    fn a_star_stands_for_any_characters() {
        assert!(pattern("*").matches("nginx"));
        assert!(pattern("nucleus-*").matches("nucleus-frontend"));
        assert!(pattern("*-proxy").matches("istio-proxy"));
        assert!(pattern("a*b*c").matches("abc"));
        assert!(pattern("a*b*c").matches("a-b-b-c"));
        assert!(!pattern("a*b*c").matches("acb"));
        assert!(!pattern("nginx").matches("nginx-2"));
        assert!(!pattern("a*a").matches("a"));
    }

    #[test]
    fn what_no_container_can_be_called_is_refused() {
        for text in ["", "Web", "a_b", "[ab]", "a.b", &"a".repeat(64)] {
            assert!(
                ContainerPattern::try_from(text.to_owned()).is_err(),
                "{text:?}"
            );
        }
    }

    #[test]
    fn a_component_is_found_by_label_or_container_name() {
        let policy = Policy {
            components: BTreeSet::from(["keycloak".to_owned()]),
            ..policy()
        };
        let label = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.to_owned())]);
        assert!(policy.takes(&label("app.kubernetes.io/name", "keycloak"), "sidecar"));
        assert!(policy.takes(&label("app", "keycloak"), "sidecar"));
        assert!(policy.takes(&label("app", "identity"), "keycloak"));
        assert!(!policy.takes(&label("app", "identity"), "sidecar"));
    }

    #[test]
    fn exclude_wins_over_include() {
        let containers = ContainerFilter {
            include: BTreeSet::from([pattern("*")]),
            exclude: BTreeSet::from([pattern("istio-proxy")]),
        };
        let policy = Policy {
            containers,
            ..policy()
        };
        assert!(policy.takes(&BTreeMap::new(), "web"));
        assert!(!policy.takes(&BTreeMap::new(), "istio-proxy"));
    }
}
