//! Every kind of end.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::{batch::v1::Job, core::v1::Pod, scheduling::v1::PriorityClass};
use katonic_logging_e2e::{images, operator::COMPUTE};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, EvictParams, PostParams},
};
use serde_json::{Value, json};

use crate::{
    cases::{all, case},
    log_files::{Delivered, LogFile},
    process::until_no_process,
    seen::{account, agent_ended, container_status},
    world::{EXECUTOR, SECOND_CHANCE, UNREACHABLE, World, container, running, running_with, test},
};

/// Lines for as long as a test may take, and more at SIGTERM.
const UNTIL_TOLD: [&str; 5] = ["farewell", "100000", "200", "--rate", "100"];

/// The same without an end.
const UNTIL_KILLED: [&str; 4] = ["stubborn", "100000", "--rate", "100"];

#[test]
fn a_job_loses_no_line_however_it_ends() {
    test(async |world| {
        all(vec![
            case("succeeds", succeeds(world)),
            case("fails", fails(world)),
            case("is deleted", is_deleted(world)),
            case("hits its deadline", hits_its_deadline(world)),
            case("is evicted through the API", is_evicted(world)),
            case(
                "is evicted by the kubelet",
                is_evicted_by_the_kubelet(world),
            ),
            case("is killed for its memory", is_killed_for_its_memory(world)),
            case(
                "has an init container that fails three times",
                has_a_failing_init_container(world),
            ),
        ])
        .await;
    });
}

#[test]
fn a_pod_that_gets_no_time_loses_no_line_that_a_healthy_sink_can_take() {
    test(async |world| {
        all(vec![
            case("ignores SIGTERM until it is killed", ignores_sigterm(world)),
            case("has one second", has_one_second(world)),
            case("is deleted by force", is_deleted_by_force(world)),
            case("exceeds its own deadline", exceeds_its_own_deadline(world)),
            case("is preempted", is_preempted(world)),
        ])
        .await;
    });
}

#[test]
fn lines_that_nobody_takes_are_told_at_the_end_of_the_pod() {
    test(async |world| {
        all(vec![
            case("with the whole grace period left", nobody_takes(world)),
            case("with nothing left of it", nobody_takes_in_time(world)),
            case("or taken by the fallback in time", fallback_takes(world)),
        ])
        .await;
    });
}

#[test]
fn a_node_is_drained_without_loss_once_kubectl_may_delete_the_agents_cursors() {
    test(async |world| drained(world).await.unwrap());
}

/// Every line of a pod that has ended arrived once, in order.
async fn complete(world: &World, pod: &Pod, file: &LogFile, at_least: usize) -> Result<Pod> {
    let ended = world.pods.until_ended(pod).await?;
    let delivered = world.delivered(pod, EXECUTOR, file)?;
    ensure!(delivered.written >= at_least, "{delivered}");
    delivered.exactly(delivered.written)?;
    Ok(ended)
}

/// The agent's account says the same.
fn agent_says_so(pod: &Pod, lines: usize) -> Result<()> {
    let account = account(pod)?;
    let says = [
        &account["delivered"],
        &account["rejected"],
        &account["lost"],
    ];
    ensure!(
        says == [&json!(lines), &json!(0), &json!(0)] && account["ending"].is_null(),
        "{account}"
    );
    Ok(())
}

async fn succeeds(world: &World) -> Result<()> {
    let pod = world
        .job("succeeds", json!({}), &running(&["lines", "5000"]))
        .await?;
    let file = world.log_file(&pod, EXECUTOR, 0).await?;
    let ended = complete(world, &pod, &file, 5000).await?;
    agent_says_so(&ended, 5000)
}

async fn fails(world: &World) -> Result<()> {
    let pod = world
        .job("fails", json!({}), &running(&["fail", "5000"]))
        .await?;
    let file = world.log_file(&pod, EXECUTOR, 0).await?;
    let ended = complete(world, &pod, &file, 5000).await?;
    agent_says_so(&ended, 5000)?;
    let phase = ended.status.and_then(|status| status.phase);
    ensure!(phase.as_deref() == Some("Failed"), "{phase:?}");
    Ok(())
}

/// The pod of a Job that prints until it is told to end, once it has printed something.
async fn until_told(world: &World, name: &str, spec: Value) -> Result<(Pod, LogFile)> {
    let pod = world.job(name, spec, &running(&UNTIL_TOLD)).await?;
    let file = world.log_file(&pod, EXECUTOR, 0).await?;
    world.wrote(&file, 100).await?;
    Ok((pod, file))
}

async fn is_deleted(world: &World) -> Result<()> {
    let (pod, file) = until_told(world, "deleted", json!({})).await?;
    let jobs: Api<Job> = world.api(COMPUTE);
    jobs.delete("deleted", &DeleteParams::background()).await?;
    let ended = complete(world, &pod, &file, 300).await?;
    // The kubelet tells it before the pod is gone.
    agent_says_so(&ended, file.numbers()?.len())
}

async fn hits_its_deadline(world: &World) -> Result<()> {
    let spec = json!({"activeDeadlineSeconds": 10});
    let (pod, file) = until_told(world, "deadline", spec).await?;
    let ended = complete(world, &pod, &file, 201).await?;
    agent_says_so(&ended, file.numbers()?.len())
}

async fn is_evicted(world: &World) -> Result<()> {
    let (pod, file) = until_told(world, "evicted", json!({})).await?;
    let pods: Api<Pod> = world.api(COMPUTE);
    pods.evict(&pod.name_any(), &EvictParams::default()).await?;
    let ended = complete(world, &pod, &file, 300).await?;
    agent_says_so(&ended, file.numbers()?.len())
}

/// The kubelet counts a container's log as its disk, and gives an evicted pod one second.
async fn is_evicted_by_the_kubelet(world: &World) -> Result<()> {
    let limits = json!({"limits": {"ephemeral-storage": "1Mi"}});
    let mut executor = container(&["stubborn", "1000000", "--rate", "2000"]);
    executor["resources"] = limits;
    let pod = running_with(&[], json!({"spec": {"containers": [executor]}}));
    let pod = world.job("disk", json!({}), &pod).await?;
    let file = world.log_file(&pod, EXECUTOR, 0).await?;
    let ended = complete(world, &pod, &file, 10_000).await?;
    let reason = ended.status.and_then(|status| status.reason);
    ensure!(reason.as_deref() == Some("Evicted"), "{reason:?}");
    Ok(())
}

async fn is_killed_for_its_memory(world: &World) -> Result<()> {
    let mut executor = container(&["hoard", "2000"]);
    executor["resources"] = json!({"limits": {"memory": "24Mi"}});
    let pod = running_with(&[], json!({"spec": {"containers": [executor]}}));
    let pod = world.job("memory", json!({}), &pod).await?;
    let file = world.log_file(&pod, EXECUTOR, 0).await?;
    let ended = complete(world, &pod, &file, 2000).await?;
    agent_says_so(&ended, 2000)?;
    let reason = container_status(&ended, EXECUTOR)
        .and_then(|status| status.state.clone()?.terminated?.reason);
    ensure!(reason.as_deref() == Some("OOMKilled"), "{reason:?}");
    Ok(())
}

async fn has_a_failing_init_container(world: &World) -> Result<()> {
    let setup = json!({
        "name": "setup",
        "image": images::WORKLOAD,
        "args": ["attempts", "3", "/memory", "300"],
        "volumeMounts": [{"name": "memory", "mountPath": "/memory"}],
    });
    let pod = running_with(
        &["lines", "500"],
        json!({"spec": {
            "restartPolicy": "OnFailure",
            "initContainers": [setup],
            "volumes": [{"name": "memory", "emptyDir": {}}],
        }}),
    );
    let pod = world.job("setup", json!({"backoffLimit": 6}), &pod).await?;
    let file = world.log_file(&pod, EXECUTOR, 0).await?;
    let ended = complete(world, &pod, &file, 500).await?;
    // The kubelet keeps the files of the last two runs.
    let numbers: Vec<usize> = (1..=1200).collect();
    Delivered::of(&numbers, &world.records(&pod, "setup")).exactly(1200)?;
    agent_says_so(&ended, 1700)
}

/// A bare pod that prints until it is killed, once it has printed something.
async fn until_killed(world: &World, name: &str, spec: Value) -> Result<(Pod, LogFile)> {
    let pod = running_with(&UNTIL_KILLED, json!({"spec": spec}));
    let pod = world.pod(name, pod).await?;
    let file = world.log_file(&pod, EXECUTOR, 0).await?;
    world.wrote(&file, 100).await?;
    Ok((pod, file))
}

async fn ignores_sigterm(world: &World) -> Result<()> {
    let grace = json!({"terminationGracePeriodSeconds": 5});
    let (pod, file) = until_killed(world, "stubborn", grace).await?;
    let pods: Api<Pod> = world.api(COMPUTE);
    pods.delete("stubborn", &DeleteParams::default()).await?;
    let ended = complete(world, &pod, &file, 500).await?;
    agent_says_so(&ended, file.numbers()?.len())
}

async fn has_one_second(world: &World) -> Result<()> {
    let grace = json!({"terminationGracePeriodSeconds": 1});
    let (pod, file) = until_killed(world, "hasty", grace).await?;
    let pods: Api<Pod> = world.api(COMPUTE);
    pods.delete("hasty", &DeleteParams::default()).await?;
    let ended = complete(world, &pod, &file, 100).await?;
    agent_says_so(&ended, file.numbers()?.len())
}

async fn is_deleted_by_force(world: &World) -> Result<()> {
    let (pod, file) = until_killed(world, "forced", json!({})).await?;
    let pods: Api<Pod> = world.api(COMPUTE);
    pods.delete("forced", &DeleteParams::default().grace_period(0))
        .await?;
    world.pods.until_gone(&pod).await?;
    // The API has forgotten the pod; its containers are stopped from now on.
    until_no_process(&pod).await?;
    let delivered = world.delivered(&pod, EXECUTOR, &file)?;
    delivered.exactly(delivered.written)
}

async fn exceeds_its_own_deadline(world: &World) -> Result<()> {
    let spec = json!({"activeDeadlineSeconds": 8, "terminationGracePeriodSeconds": 3});
    let (pod, file) = until_killed(world, "overdue", spec).await?;
    let ended = complete(world, &pod, &file, 200).await?;
    agent_says_so(&ended, file.numbers()?.len())
}

async fn is_preempted(world: &World) -> Result<()> {
    let classes: Api<PriorityClass> = Api::all(world.installed.client.clone());
    let class = json!({"metadata": {"name": "urgent"}, "value": 1000});
    classes
        .create(&PostParams::default(), &serde_json::from_value(class)?)
        .await?;
    let most = json!({"requests": {"cpu": format!("{}m", world.most_of_the_node().await?)}});
    let sized = |arguments: &[&str]| {
        let mut executor = container(arguments);
        executor["resources"] = most.clone();
        executor
    };
    let victim = json!({"terminationGracePeriodSeconds": 5, "containers": [sized(&UNTIL_KILLED)]});
    let (pod, file) = until_killed(world, "victim", victim).await?;
    let urgent =
        json!({"spec": {"priorityClassName": "urgent", "containers": [sized(&["lines", "500"])]}});
    let urgent = world.pod("urgent", running_with(&[], urgent)).await?;
    let ended = complete(world, &pod, &file, 100).await?;
    agent_says_so(&ended, file.numbers()?.len())?;
    let file = world.log_file(&urgent, EXECUTOR, 0).await?;
    complete(world, &urgent, &file, 500).await?;
    Ok(())
}

/// What the agent says of a sink.
fn of_sink(account: &Value, policy: &str) -> Result<Value> {
    let sinks = account["sinks"].as_array().context("no sinks")?;
    let sink = sinks.iter().find(|sink| sink["policy"] == policy);
    sink.cloned()
        .with_context(|| format!("no {policy} in {account}"))
}

async fn nobody_takes(world: &World) -> Result<()> {
    let labels = json!({"metadata": {"labels": {UNREACHABLE: "true"}}});
    let pod = world
        .job(
            "untaken",
            json!({}),
            &running_with(&["lines", "1000"], labels),
        )
        .await?;
    let file = world.log_file(&pod, EXECUTOR, 0).await?;
    let ended = complete(world, &pod, &file, 1000).await?;
    let account = account(&ended)?;
    let lost = of_sink(&account, UNREACHABLE)?;
    let taken = of_sink(&account, "application-logs")?;
    ensure!(
        account["ending"].is_null() && lost["lost"] == 1000 && taken["delivered"] == 1000,
        "{account}"
    );
    Ok(())
}

/// The agent is killed before it can count, and what it wrote last says that there is more.
async fn nobody_takes_in_time(world: &World) -> Result<()> {
    let more = json!({
        "metadata": {"labels": {UNREACHABLE: "true"}},
        "spec": {"terminationGracePeriodSeconds": 3},
    });
    let pod = world
        .pod("no-time", running_with(&UNTIL_KILLED, more))
        .await?;
    let file = world.log_file(&pod, EXECUTOR, 0).await?;
    world.wrote(&file, 100).await?;
    let pods: Api<Pod> = world.api(COMPUTE);
    pods.delete("no-time", &DeleteParams::default()).await?;
    let ended = complete(world, &pod, &file, 200).await?;
    let (code, ..) = agent_ended(&ended).context("the agent's end was not told")?;
    let account = account(&ended)?;
    let sink = of_sink(&account, UNREACHABLE)?;
    ensure!(
        code == 137 && account["ending"] == true && sink["pending_bytes"].as_u64() > Some(0),
        "{code} {account}"
    );
    Ok(())
}

/// A few seconds are enough, because the agent knows that it has no more.
async fn fallback_takes(world: &World) -> Result<()> {
    let more = json!({
        "metadata": {"labels": {SECOND_CHANCE: "true"}},
        "spec": {"terminationGracePeriodSeconds": 8},
    });
    let pod = world.pod("second", running_with(&UNTIL_TOLD, more)).await?;
    let file = world.log_file(&pod, EXECUTOR, 0).await?;
    world.wrote(&file, 100).await?;
    let pods: Api<Pod> = world.api(COMPUTE);
    pods.delete("second", &DeleteParams::default()).await?;
    let ended = world.pods.until_ended(&pod).await?;
    let account = account(&ended)?;
    let sink = of_sink(&account, SECOND_CHANCE)?;
    let written = file.numbers()?.len();
    ensure!(
        account["ending"].is_null() && sink["fallback"] == written && sink["lost"] == 0,
        "{written} {account}"
    );
    // Once by this way, and once by the policy of all pods.
    let delivered = world.delivered(&pod, EXECUTOR, &file)?;
    ensure!(
        delivered.missing.is_empty() && (delivered.duplicates, delivered.unwritten) == (written, 0),
        "{delivered}"
    );
    Ok(())
}

async fn drained(world: &World) -> Result<()> {
    let labels = json!({"metadata": {"labels": {"app": "drained"}}});
    let pod = world
        .pod("drained", running_with(&UNTIL_TOLD, labels))
        .await?;
    let file = world.log_file(&pod, EXECUTOR, 0).await?;
    world.wrote(&file, 100).await?;
    let drain = [
        "drain",
        "node1",
        "--pod-selector=app=drained",
        "--force",
        "--timeout=60s",
    ];
    let cluster = &world.installed.cluster;
    let refused = cluster.kubectl(&drain).await?;
    let drained = cluster
        .kubectl(&[&drain[..], &["--delete-emptydir-data"]].concat())
        .await?;
    // Other tests need the node.
    cluster.kubectl(&["uncordon", "node1"]).await?.ok()?;
    ensure!(
        refused.stderr.contains("--delete-emptydir-data"),
        "{}",
        refused.stderr
    );
    drained.ok()?;
    let ended = complete(world, &pod, &file, 300).await?;
    agent_says_so(&ended, file.numbers()?.len())
}
