//! An agent that is ended from outside, or never starts.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::{admissionregistration::v1::MutatingAdmissionPolicyBinding, core::v1::Pod};
use katonic_log_config::layout;
use katonic_logging_core::{
    installation::Agent,
    names,
    sidecar::{Form, Sidecar},
};
use katonic_logging_crds::Plane;
use katonic_logging_e2e::{
    eventually::eventually,
    images,
    operator::{COMPUTE, condition, splunk_policy},
};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::{
    cases::{all, case},
    process::agent_processes,
    seen::{WITHIN, container_status},
    world::{EXECUTOR, World, running, running_with, test},
};

#[test]
fn a_pod_outlives_its_agent_and_no_line_is_lost() {
    test(async |world| {
        all(vec![case(
            "killed for its memory",
            killed_for_its_memory(world),
        )])
        .await;
    });
}

#[test]
fn an_agent_that_does_not_run_is_told_by_its_pod_and_by_the_policy() {
    test(async |world| {
        all(vec![
            case("an image that is missing", image_is_missing(world)),
            case("an agent that ends again and again", agent_fails(world)),
        ])
        .await;
    });
}

/// A pod that was injected by an installation with another agent; a policy of its own tells of it.
async fn injected_with(world: &World, name: &str, image: &str, arguments: &[&str]) -> Result<Pod> {
    let agent: Agent = serde_json::from_value(json!({"image": image}))?;
    let sidecar = Sidecar::new(&agent)?;
    let mut container = serde_json::to_value(&sidecar.container)?;
    if !arguments.is_empty() {
        container["args"] = json!(arguments);
    }
    let spec = json!({"initContainers": [container], "volumes": sidecar.volumes});
    remember(world, &sidecar, &Form::read(&spec)).await?;
    let pod = running_with(
        &["workspace", "500"],
        json!({"metadata": {"labels": {"case": name}}, "spec": spec}),
    );
    let mut policy = splunk_policy(name, &world.receiver.url(), "splunk");
    policy.spec.planes = Some(vec![Plane::Compute]);
    let selector = json!({"matchLabels": {"case": name}});
    policy.spec.selector = Some(serde_json::from_value(selector)?);
    world.installed.create(&policy).await?;
    world.pod(name, pod).await
}

/// Lets the operator remember that pods were given this agent once.
async fn remember(world: &World, sidecar: &Sidecar, form: &Form) -> Result<()> {
    let bindings: Api<MutatingAdmissionPolicyBinding> = Api::all(world.installed.client.clone());
    let given = json!({"revision": sidecar.revision, "forms": [form]});
    eventually("the history is written", WITHIN, async || {
        let binding = bindings.get(names::ADMISSION_BINDING).await?;
        let annotation = binding.annotations().get(names::HISTORY_ANNOTATION);
        let mut history: Value = serde_json::from_str(annotation.context("no history")?)?;
        let agents = history["agents"].as_array_mut().context("no agents")?;
        if agents.contains(&given) {
            return Ok(Some(()));
        }
        agents.push(given.clone());
        let patch = Patch::Merge(json!({"metadata": {
            "resourceVersion": binding.resource_version(),
            "annotations": {names::HISTORY_ANNOTATION: history.to_string()},
        }}));
        // Somebody else may have been faster: then it is tried again.
        let parameters = PatchParams::default();
        let _ = bindings
            .patch(names::ADMISSION_BINDING, &parameters, &patch)
            .await;
        Ok(None)
    })
    .await
}

/// Waits until a policy is not ready for this reason, and its message says all this.
async fn told(world: &World, policy: &str, reason: &str, words: &[&str]) -> Result<()> {
    let policies = world.installed.policies();
    eventually(format!("{policy} tells {reason}"), WITHIN, async || {
        let status = policies.get(policy).await?.status.unwrap_or_default();
        let injected = condition(&status, "Injected").cloned();
        let is_told = injected.as_ref().is_some_and(|injected| {
            injected.status == "False"
                && injected.reason == reason
                && words.iter().all(|words| injected.message.contains(words))
        });
        ensure!(is_told, "it is {injected:?}");
        let uncovered = status.pods.map(|pods| pods.uncovered).unwrap_or_default();
        ensure!(
            uncovered
                .iter()
                .any(|pods| pods.reason == reason && pods.count == 1),
            "{uncovered:?}"
        );
        Ok(Some(()))
    })
    .await
}

async fn image_is_missing(world: &World) -> Result<()> {
    const IMAGE: &str = "localhost/katonic-log-agent:never-pushed";
    let pod = injected_with(world, "image-missing", IMAGE, &[]).await?;
    world
        .pods
        .until("says that its image does not come", &pod, |seen| {
            let state = container_status(&seen.pod, layout::CONTAINER)
                .and_then(|status| status.state.clone());
            let waiting = state.and_then(|state| state.waiting);
            waiting.is_some_and(|waiting| {
                ["ErrImagePull", "ImagePullBackOff"]
                    .contains(&waiting.reason.unwrap_or_default().as_str())
                    && waiting.message.unwrap_or_default().contains(IMAGE)
            })
        })
        .await?;
    let words = [
        "1 of namespace katonic-compute cannot start",
        "image-missing for example",
        IMAGE,
        "push the image",
    ];
    told(world, "image-missing", "AgentImageUnavailable", &words).await?;
    // It is gone with the pod.
    let pods: Api<Pod> = world.api(COMPUTE);
    pods.delete("image-missing", &DeleteParams::default())
        .await?;
    world
        .installed
        .ready("image-missing", "True", "InForce")
        .await?;
    Ok(())
}

async fn agent_fails(world: &World) -> Result<()> {
    let pod = injected_with(world, "agent-fails", images::WORKLOAD, &["exit", "3"]).await?;
    let words = [
        "the agent ends again and again",
        "agent-fails for example (Error, exit code 3)",
        "--previous",
    ];
    told(world, "agent-fails", "AgentFailing", &words).await?;
    // The pod does its work all the same.
    let file = world.log_file(&pod, EXECUTOR, 0).await?;
    world.wrote(&file, 500).await?;
    let pods: Api<Pod> = world.api(COMPUTE);
    pods.delete("agent-fails", &DeleteParams::default()).await?;
    world
        .installed
        .ready("agent-fails", "True", "InForce")
        .await?;
    Ok(())
}

/// The cgroup with the memory of a process; v1 and v2 have it in other places.
fn memory_limit(process: i32) -> Result<PathBuf> {
    let groups = fs::read_to_string(format!("/proc/{process}/cgroup"))?;
    let of = |controllers: &str| {
        groups.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let (names, path) = (fields.next()?, fields.next()?);
            names
                .split(',')
                .any(|name| name == controllers)
                .then(|| path.trim_start_matches('/').to_owned())
        })
    };
    if let Some(path) = of("memory") {
        let folder = PathBuf::from("/sys/fs/cgroup/memory").join(path);
        return Ok(folder.join("memory.limit_in_bytes"));
    }
    let path = of("").context("the process is in no cgroup with memory")?;
    Ok(PathBuf::from("/sys/fs/cgroup")
        .join(path)
        .join("memory.max"))
}

/// The kernel takes memory from the agent until it must kill it.
async fn starve(pod: &Pod) -> Result<()> {
    let processes = agent_processes(pod)?;
    let process = *processes.first().context("the agent does not run")?;
    let limit = memory_limit(process)?;
    eventually("the agent is killed", WITHIN, async || {
        // A limit that cannot be kept is refused; at the latest with what it has now, it cannot grow any more.
        let now: u64 = match fs::read_to_string(limit.with_file_name(usage(&limit))) {
            Ok(text) => text.trim().parse()?,
            Err(_) => return Ok(Some(())),
        };
        let lower = [now / 16, now / 128, 0].map(|less| (now - less).to_string());
        let _ = lower
            .iter()
            .find(|limited| fs::write(&limit, limited).is_ok());
        let gone = !agent_processes(pod)?.contains(&process);
        Ok(gone.then_some(()))
    })
    .await
}

fn usage(limit: &std::path::Path) -> &'static str {
    if limit.ends_with("memory.max") {
        "memory.current"
    } else {
        "memory.usage_in_bytes"
    }
}

async fn killed_for_its_memory(world: &World) -> Result<()> {
    let lines = ["farewell", "20000", "200", "--rate", "400"];
    let pod = world.pod("starved", running(&lines)).await?;
    let file = world.log_file(&pod, EXECUTOR, 0).await?;
    world.wrote(&file, 1000).await?;
    starve(&pod).await?;
    let again = world
        .pods
        .until("has its agent started again", &pod, |seen| {
            container_status(&seen.pod, layout::CONTAINER).is_some_and(|status| {
                status.restart_count == 1
                    && status
                        .state
                        .as_ref()
                        .is_some_and(|state| state.running.is_some())
            })
        })
        .await?;
    let reason = container_status(&again, layout::CONTAINER)
        .and_then(|status| status.last_state.clone()?.terminated?.reason);
    ensure!(reason.as_deref() == Some("OOMKilled"), "{reason:?}");
    let executor = container_status(&again, EXECUTOR).context("no status")?;
    ensure!(
        executor.restart_count == 0
            && executor
                .state
                .as_ref()
                .is_some_and(|state| state.running.is_some()),
        "{executor:?}"
    );
    let pods: Api<Pod> = world.api(COMPUTE);
    pods.delete("starved", &DeleteParams::default()).await?;
    world.pods.until_gone(&pod).await?;
    let delivered = world.delivered(&pod, EXECUTOR, &file)?;
    // At least once: what was taken and whose cursor was not saved comes again.
    ensure!(
        delivered.written > 1200 && delivered.missing.is_empty() && delivered.unwritten == 0,
        "{delivered}"
    );
    Ok(())
}
