//! The processes of agents, as this machine sees those of its pods.

use std::fs;

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::Pod;
use katonic_log_config::layout;
use katonic_logging_e2e::eventually::eventually;
use kube::ResourceExt as _;

use crate::seen::WITHIN;

/// Processes of a pod's agent, as this machine sees them.
pub fn agent_processes(pod: &Pod) -> Result<Vec<i32>> {
    let mark = format!(
        "{}={}",
        layout::ENV_POD_UID,
        pod.uid().context("a pod without a UID")?
    );
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let Some(id) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        // It may have ended in between.
        let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
        if environment
            .split(|byte| *byte == 0)
            .any(|one| one == mark.as_bytes())
        {
            found.push(id);
        }
    }
    Ok(found)
}

/// Waits until the agent of a pod runs no more, whatever the API knows of the pod.
pub async fn until_no_process(pod: &Pod) -> Result<()> {
    eventually("the agent has ended", WITHIN, async || {
        Ok(agent_processes(pod)?.is_empty().then_some(()))
    })
    .await
}
