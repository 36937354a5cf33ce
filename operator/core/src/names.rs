//! Every name that this product gives to something; nothing else in the operator spells one out.

/// API group of the custom resources; labels and annotations of ours begin with it.
pub const GROUP: &str = "logging.katonic.ai";

/// Owner of the fields that the operator writes.
pub const FIELD_MANAGER: &str = "katonic-logging";

/// Namespace of the operator, unless it is installed elsewhere.
pub const OPERATOR_NAMESPACE: &str = "katonic-logging";

/// The ConfigMap with the installation, in the operator's namespace.
pub const INSTALLATION: &str = "katonic-logging-installation";

/// Its key.
pub const INSTALLATION_KEY: &str = "installation.yaml";

/// The bundle Secret of a plane namespace.
pub const BUNDLE: &str = "katonic-logs";

/// The admission policy and its binding: the field's names are DNS subdomains.
pub const ADMISSION: &str = "katonic-log-agent.logging.katonic.ai";

/// The definition that owns what is cluster-wide and belongs to no single policy.
pub const POLICY_DEFINITION: &str = "loggingpolicies.logging.katonic.ai";

/// The lease of the elected controller.
pub const LEASE: &str = "katonic-logging-controller";

/// Label of a pod that must not get the log agent, with the value [`INJECT_NO`].
pub const INJECT_LABEL: &str = "logging.katonic.ai/inject";

/// See [`INJECT_LABEL`].
pub const INJECT_NO: &str = "false";

/// Annotation of a bundle: digest of all that it holds.
pub const REVISION_ANNOTATION: &str = "logging.katonic.ai/revision";

/// Annotation of the admission policy: the installation that is in force, for an operator that starts while
/// the ConfigMap cannot be used.
pub const INSTALLATION_ANNOTATION: &str = "logging.katonic.ai/installation";

/// Label that says who looks after an object (Kubernetes: "Recommended Labels").
pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";

/// Label of a namespace with the Pod Security level that it enforces (Kubernetes: "Pod Security Admission").
pub const POD_SECURITY_LABEL: &str = "pod-security.kubernetes.io/enforce";

/// Annotation of a static pod's copy in the API; such a pod cannot be changed.
pub const MIRROR_ANNOTATION: &str = "kubernetes.io/config.mirror";

/// Annotation that lets the cluster autoscaler remove a node despite these volumes (autoscaler FAQ).
pub const SAFE_TO_EVICT_ANNOTATION: &str =
    "cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes";

/// Whether a text can be the name of a namespace (RFC 1123 label).
pub fn is_namespace(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&name.len())
        && name.bytes().all(inner)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

/// Whether a text can be the name of a label: `name` or `prefix/name`.
pub fn is_label_key(key: &str) -> bool {
    match key.split_once('/') {
        Some((prefix, name)) => is_subdomain(prefix) && is_label_name(name),
        None => is_label_name(key),
    }
}

/// Whether a text can be the value of a label.
pub fn is_label_value(value: &str) -> bool {
    value.is_empty() || is_label_name(value)
}

fn is_label_name(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let outer = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    name.len() <= 63
        && name.bytes().all(inner)
        && outer(name.bytes().next())
        && outer(name.bytes().last())
}

fn is_subdomain(name: &str) -> bool {
    name.len() <= 253 && name.split('.').all(is_namespace)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_keys_are_told_from_other_text() {
        for key in ["app", "app.kubernetes.io/name", "a_b.c-D", "1"] {
            assert!(is_label_key(key), "{key}");
        }
        for key in [
            "",
            "-a",
            "a/b/c",
            "/a",
            "a/",
            "Exa_mple.com/a",
            "a b",
            &"a".repeat(64),
        ] {
            assert!(!is_label_key(key), "{key}");
        }
    }

    #[test]
    fn namespaces_are_rfc_1123_labels() {
        assert!(is_namespace("katonic-platform"));
        for name in ["", "-a", "a-", "A", "a.b", &"a".repeat(64)] {
            assert!(!is_namespace(name), "{name}");
        }
    }
}
