//! Pods as a watch has last shown them: what the kubelet said of a pod that is gone by now, too.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use katonic_log_config::layout;
use katonic_logging_e2e::eventually::eventually;
use kube::{
    Api, Client, ResourceExt as _,
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event, watcher},
    },
};
use serde_json::Value;

/// How long a pod may take from its creation to its end, with room for a busy machine.
pub const WITHIN: Duration = Duration::from_mins(3);

/// A pod as it was last seen.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The last that was seen of it.
    pub pod: Pod,
    /// Whether it has been deleted since.
    pub gone: bool,
}

/// All pods of some namespaces, by UID.
#[derive(Clone, Debug, Default)]
pub struct Pods(Arc<Mutex<BTreeMap<String, Seen>>>);

impl Pods {
    /// Watches a namespace, for as long as the runtime lives.
    pub fn watch(&self, client: &Client, namespace: &str) {
        let pods = self.clone();
        let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
        tokio::spawn(async move {
            let mut events = watcher(api, watcher::Config::default())
                .default_backoff()
                .boxed();
            while let Some(event) = events.next().await {
                match event {
                    Ok(Event::Apply(pod) | Event::InitApply(pod)) => pods.saw(pod, false),
                    Ok(Event::Delete(pod)) => pods.saw(pod, true),
                    Ok(Event::Init | Event::InitDone) | Err(_) => {}
                }
            }
        });
    }

    fn saw(&self, pod: Pod, gone: bool) {
        let Some(uid) = pod.uid() else { return };
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(uid, Seen { pod, gone });
    }

    /// All pods of this owner that were ever seen, the oldest first.
    pub fn of(&self, owner_kind: &str, owner: &str) -> Vec<Seen> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_owned = |seen: &&Seen| {
            let owners = seen.pod.owner_references();
            owners
                .iter()
                .any(|one| one.kind == owner_kind && one.name == owner)
        };
        let mut pods: Vec<Seen> = all.values().filter(is_owned).cloned().collect();
        pods.sort_by_key(|seen| seen.pod.creation_timestamp());
        pods
    }

    /// A pod as it was last seen.
    pub fn last(&self, uid: &str) -> Result<Seen> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(uid)
            .cloned()
            .with_context(|| format!("no pod {uid} was seen"))
    }

    /// Waits until something is so of a pod; returns it as it is then.
    pub async fn until(&self, what: &str, pod: &Pod, holds: impl Fn(&Seen) -> bool) -> Result<Pod> {
        let uid = pod.uid().context("a pod without a UID")?;
        let name = pod.name_any();
        eventually(format!("pod {name} {what}"), WITHIN, async || {
            let seen = self.last(&uid)?;
            ensure!(holds(&seen), "its status is {:?}", seen.pod.status);
            Ok(Some(seen.pod))
        })
        .await
    }

    /// Waits until the agent of a pod has ended for good: nobody will deliver anything of the pod after this.
    pub async fn until_ended(&self, pod: &Pod) -> Result<Pod> {
        self.until("has ended", pod, |seen| {
            let phase = seen
                .pod
                .status
                .as_ref()
                .and_then(|status| status.phase.as_deref());
            seen.gone
                || (matches!(phase, Some("Succeeded" | "Failed"))
                    && agent_ended(&seen.pod).is_some())
        })
        .await
    }

    /// Waits until a pod is no more.
    pub async fn until_gone(&self, pod: &Pod) -> Result<Pod> {
        self.until("is gone", pod, |seen| seen.gone).await
    }
}

/// What the kubelet says of a container, init containers too.
pub fn container_status<'a>(pod: &'a Pod, name: &str) -> Option<&'a ContainerStatus> {
    let status = pod.status.as_ref()?;
    let all = [&status.init_container_statuses, &status.container_statuses];
    all.into_iter()
        .flatten()
        .flatten()
        .find(|container| container.name == name)
}

/// The exit code, reason and message of the agent, once it has ended.
pub fn agent_ended(pod: &Pod) -> Option<(i32, String, String)> {
    let state = container_status(pod, layout::CONTAINER)?.state.as_ref()?;
    let terminated = state.terminated.as_ref()?;
    Some((
        terminated.exit_code,
        terminated.reason.clone().unwrap_or_default(),
        terminated.message.clone().unwrap_or_default(),
    ))
}

/// The agent's own account, from its termination message.
pub fn account(pod: &Pod) -> Result<Value> {
    let (_, reason, message) = agent_ended(pod).with_context(|| {
        format!(
            "the kubelet has not told the end of the agent of {}: {:?}",
            pod.name_any(),
            container_status(pod, layout::CONTAINER)
        )
    })?;
    serde_json::from_str(&message)
        .with_context(|| format!("the agent ended as {reason} with the message {message:?}"))
}
