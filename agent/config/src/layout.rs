//! Where the sidecar finds what it needs: the contract between injection and agent.

/// Name of the injected container, and of the directory of its own log, which it never reads.
pub const CONTAINER: &str = "katonic-log-agent";

/// Mount of the pod's own log directory: `<container>/<restart>.log` below it.
pub const LOG_DIR: &str = "/var/log/pod";

/// Mount of the bundle Secret: [`BUNDLE_FILE`] and one file for each credential.
pub const BUNDLE_DIR: &str = "/etc/katonic-logs";

/// Key of the configuration in the bundle Secret, so also its file name below [`BUNDLE_DIR`].
pub const BUNDLE_FILE: &str = "bundle.json.gz";

/// Downward API file with the pod's labels, one `key="escaped value"` a line.
pub const LABELS_FILE: &str = "/etc/podinfo/labels";

/// Mount of the token with which the agent reports.
pub const TOKEN_DIR: &str = "/var/run/secrets/logging.katonic.ai";

/// The token below [`TOKEN_DIR`]; the kubelet renews it.
pub const TOKEN_FILE: &str = "token";

/// Directory of the cursors: an `emptyDir`, so it outlives a restart of the container.
pub const STATE_DIR: &str = "/var/lib/katonic-log-agent";

/// File that the kubelet shows as the container's termination message.
pub const TERMINATION_LOG: &str = "/dev/termination-log";

/// Environment variable with the pod's namespace.
pub const ENV_NAMESPACE: &str = "POD_NAMESPACE";

/// Environment variable with the pod's name.
pub const ENV_POD: &str = "POD_NAME";

/// Environment variable with the pod's UID.
pub const ENV_POD_UID: &str = "POD_UID";

/// Environment variable with the name of the node.
pub const ENV_NODE: &str = "NODE_NAME";

/// Environment variable with the seconds that the pod's specification gives it to end.
pub const ENV_GRACE_PERIOD: &str = "TERMINATION_GRACE_PERIOD_SECONDS";
