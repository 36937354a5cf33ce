//! What runs on the platform of the demo, as manifests. Waits for nothing.

use serde_json::{Value, json};

use super::{LINES, SUPPORTING};
use crate::{
    images,
    operator::{COMPUTE, PLATFORM},
};

/// The name of the Job.
pub const JOB: &str = "nightly-import";

/// The name of the Deployment, and of its container.
pub const FRONTEND: &str = "nucleus-frontend";

/// The execution that the Job belongs to.
pub const EXECUTION: &str = "63d16b3ebe3729589c5bd9d8";

/// Lines of the Job's user container: execution logs, none of which may be delivered as an application log.
pub const USER_LINES: usize = 100;

/// A long-running service of the platform plane.
pub fn frontend() -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": FRONTEND, "namespace": PLATFORM},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": labels(FRONTEND)},
            "template": {
                "metadata": {"labels": labels(FRONTEND)},
                "spec": {
                    "terminationGracePeriodSeconds": 30,
                    "containers": [container(FRONTEND, &["forever", "--rate", "2"])],
                },
            },
        },
    })
}

/// A pod of the service.
pub fn frontend_pod() -> Value {
    let mut pod = frontend()["spec"]["template"].take();
    pod["metadata"]["name"] = FRONTEND.into();
    pod
}

/// An execution of the compute plane: user code, and a supporting container beside it whose lines are counted.
pub fn job() -> Value {
    json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": {"name": JOB, "namespace": COMPUTE},
        "spec": {"backoffLimit": 0, "template": job_pod()},
    })
}

/// The pod of the Job.
pub fn job_pod() -> Value {
    json!({
        "metadata": {
            "name": JOB,
            "labels": {
                "app.kubernetes.io/name": JOB,
                "dominodatalab.com/execution-id": EXECUTION,
                "dominodatalab.com/workload-type": "Batch",
            },
        },
        "spec": {
            "restartPolicy": "Never",
            "containers": [
                container("run", &["lines", &USER_LINES.to_string()]),
                container(SUPPORTING, &["lines", &LINES.to_string()]),
            ],
        },
    })
}

/// The labels of a workload.
fn labels(name: &str) -> Value {
    json!({"app.kubernetes.io/name": name})
}

fn container(name: &str, arguments: &[&str]) -> Value {
    json!({"name": name, "image": images::WORKLOAD, "args": arguments})
}
