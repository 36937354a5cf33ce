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

/// Annotation of the installation's ConfigMap: another value asks the operator to try at once what was refused.
pub const REQUESTED_AT_ANNOTATION: &str = "logging.katonic.ai/requested-at";

/// The bundle Secret of a plane namespace.
pub const BUNDLE: &str = "katonic-logs";

/// The binding of the admission policy in force.
pub const ADMISSION_BINDING: &str = "katonic-log-agent.logging.katonic.ai";

/// The binding of an admission policy that is tried, for trial pods alone.
pub const TRIAL_BINDING: &str = "katonic-log-agent-trial.logging.katonic.ai";

/// Names of the admission policy: two, so that another one can be tried beside the one in force.
pub const ADMISSION_POLICIES: [&str; 2] = [
    "katonic-log-agent-a.logging.katonic.ai",
    "katonic-log-agent-b.logging.katonic.ai",
];

/// The webhook: its Deployment, its Service and its service account, in the operator's namespace.
pub const WEBHOOK: &str = "katonic-logging-webhook";

/// The webhook's configuration, and the webhook in it.
pub const WEBHOOK_CONFIGURATION: &str = "katonic-log-agent.logging.katonic.ai";

/// The Secret with the webhook's certificate, in the operator's namespace.
pub const WEBHOOK_CERTIFICATE: &str = "katonic-logging-webhook-tls";

/// Where agents report: a Service and its `EndpointSlice`, in the operator's namespace.
pub const REPORTS: &str = "katonic-logging-reports";

/// The port of that Service, by name.
pub const REPORTS_PORT: &str = "https";

/// The Secret with the certificate that reports are received with, in the operator's namespace.
pub const REPORTS_CERTIFICATE: &str = "katonic-logging-reports-tls";

/// The definition that owns what is cluster-wide and belongs to no single policy.
pub const POLICY_DEFINITION: &str = "loggingpolicies.logging.katonic.ai";

/// The ConfigMap that tells the platform's event tracker, unless the installation names another.
pub const EVENT_TRACKER: &str = "event-tracker";

/// Its key that says whether audit events are written, `true` or not.
pub const AUDIT_ENABLED: &str = "audit.enabled";

/// Its key with the names of the events that are written, with commas between them.
pub const AUDIT_EVENTS: &str = "audit.events";

/// The lease of the elected controller.
pub const LEASE: &str = "katonic-logging-controller";

/// The lease of the one installation of a cluster.
pub const CLAIM: &str = "katonic-logging";

/// Namespace of [`CLAIM`]: one that every cluster has and that cannot be deleted.
pub const CLAIM_NAMESPACE: &str = "default";

/// Label of a pod that must not get the log agent, with the value [`INJECT_NO`].
pub const INJECT_LABEL: &str = "logging.katonic.ai/inject";

/// See [`INJECT_LABEL`].
pub const INJECT_NO: &str = "false";

/// Annotation of an injected pod: revision of the agent that was added to it.
pub const AGENT_REVISION_ANNOTATION: &str = "logging.katonic.ai/agent-revision";

/// Label of a pod that is created in a dry run to try an admission policy; its value says which one.
pub const TRIAL_LABEL: &str = "logging.katonic.ai/trial";

/// Value of [`TRIAL_LABEL`]: the policy that is to come into force, and not the one that is.
pub const TRIAL_OF_CANDIDATE: &str = "candidate";

/// Value of [`TRIAL_LABEL`]: the policy that is in force.
pub const TRIAL_OF_IN_FORCE: &str = "in-force";

/// Value of [`TRIAL_LABEL`]: the webhook, and no admission policy.
pub const TRIAL_OF_WEBHOOK: &str = "webhook";

/// Annotation of a trial pod: revision of the admission policy that was applied to it.
pub const ADMISSION_REVISION_ANNOTATION: &str = "logging.katonic.ai/admission-revision";

/// Annotation of a bundle and of an admission policy: digest of all that it holds.
pub const REVISION_ANNOTATION: &str = "logging.katonic.ai/revision";

/// Annotation of a policy: the retention that may delete logs, as the policy asks for it.
pub const ACKNOWLEDGE_RETENTION_ANNOTATION: &str = "logging.katonic.ai/acknowledge-retention";

/// Annotation of a policy: until when somebody has seen what its sinks have not got, as its status tells the time.
pub const ACKNOWLEDGE_LOSSES_ANNOTATION: &str = "logging.katonic.ai/acknowledge-losses";

/// Annotation of the admission policy's binding: the installation that is in force, for an operator that starts while
/// the ConfigMap cannot be used.
pub const INSTALLATION_ANNOTATION: &str = "logging.katonic.ai/installation";

/// Annotation of the webhook's configuration: what the webhook adds to pods, as the controller decided.
pub const SIDECAR_ANNOTATION: &str = "logging.katonic.ai/sidecar";

/// Annotation of the admission policy's binding and of the webhook's configuration: the agents that pods have been given.
pub const HISTORY_ANNOTATION: &str = "logging.katonic.ai/history";

/// Annotation of the webhook's configuration while it is tried: what pods got before, and where, for an operator that takes over
/// in the middle.
pub const FORMER_ANNOTATION: &str = "logging.katonic.ai/former";

/// Annotation that tells cert-manager's cainjector where the authorities of a webhook come from (cert-manager: "CA Injector").
/// On the webhook's Deployment it says that certificates are cert-manager's.
pub const INJECT_CA_ANNOTATION: &str = "cert-manager.io/inject-ca-from";

/// Label with the name of an application (Kubernetes: "Recommended Labels").
pub const NAME_LABEL: &str = "app.kubernetes.io/name";

/// Label that says who looks after an object (Kubernetes: "Recommended Labels").
pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";

/// Label of an `EndpointSlice` with the Service that it belongs to (Kubernetes: "`EndpointSlices`, Ownership").
pub const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

/// Label of an `EndpointSlice` that says who looks after it, so that no other controller does (Kubernetes: "`EndpointSlices`,
/// Management"); the value is [`GROUP`].
pub const ENDPOINTS_MANAGED_BY_LABEL: &str = "endpointslice.kubernetes.io/managed-by";

/// Label of a namespace with the Pod Security level that it enforces (Kubernetes: "Pod Security Admission").
pub const POD_SECURITY_LABEL: &str = "pod-security.kubernetes.io/enforce";

/// Annotation of a static pod's copy in the API; such a pod cannot be changed.
pub const MIRROR_ANNOTATION: &str = "kubernetes.io/config.mirror";

/// Annotation of a template that `kubectl rollout restart` sets: a change of it makes the pods anew.
pub const RESTARTED_AT_ANNOTATION: &str = "kubectl.kubernetes.io/restartedAt";

/// Label of a node with its operating system, which pods select by (Kubernetes: "Well-Known Labels").
pub const OS_LABEL: &str = "kubernetes.io/os";

/// Operating system that the agent does not run on, in a pod's `os.name` as in [`OS_LABEL`].
pub const WINDOWS: &str = "windows";

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

/// Whether a text can be the name of most objects (RFC 1123 subdomain).
pub fn is_subdomain(name: &str) -> bool {
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
