//! Every kind of owner.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::{
    apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet},
    batch::v1::CronJob,
    core::v1::Pod,
};
use katonic_logging_e2e::{
    eventually::eventually,
    operator::{COMPUTE, PLATFORM},
};
use kube::{
    Api,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::{
    cases::{all, case},
    log_files::{Delivered, LogFile},
    seen::WITHIN,
    world::{EXECUTOR, World, merge, running, running_with, test},
};

/// What a service prints: lines while it runs, and more when it is told to end.
const SERVICE: [&str; 5] = ["farewell", "300", "200", "--rate", "100"];

/// How many lines it prints if it is left to run long enough.
const LINES: usize = 500;

#[test]
fn what_a_pod_prints_arrives_once_whatever_owns_the_pod() {
    test(async |world| {
        all(vec![
            case("a Deployment, restarted and scaled down", deployment(world)),
            case("a StatefulSet, a pod deleted", stateful_set(world)),
            case("a DaemonSet, deleted", daemon_set(world)),
            case("a Job", job(world)),
            case(
                "a Job whose container is started again",
                job_on_failure(world),
            ),
            case("a CronJob", cron_job(world)),
            case("a bare pod", bare_pod(world)),
        ])
        .await;
    });
}

/// The spec of an owner whose pods have this label.
fn owner(name: &str, more: Value) -> Value {
    let template = running_with(
        &SERVICE,
        json!({"metadata": {"labels": {"app": name}}, "spec": {"restartPolicy": "Always"}}),
    );
    let mut owner = json!({
        "metadata": {"name": name},
        "spec": {"selector": {"matchLabels": {"app": name}}, "template": template},
    });
    merge(&mut owner, more);
    owner
}

/// A pod, and the log of its supporting container.
type Logging = (Pod, LogFile);

/// Waits until so many pods of an owner have printed all but their last words.
async fn printed(world: &World, kind: &str, name: &str, pods: usize) -> Result<Vec<Logging>> {
    let pods = eventually(
        format!("{pods} pods of {name} have printed"),
        WITHIN,
        async || {
            let running = world
                .pods
                .of(kind, name)
                .into_iter()
                .filter(|seen| !seen.gone && seen.pod.metadata.deletion_timestamp.is_none());
            let mut printed = Vec::new();
            for seen in running {
                let records = world.records(&seen.pod, EXECUTOR);
                ensure!(
                    records.len() >= 300,
                    "{} lines of {:?}",
                    records.len(),
                    seen.pod.metadata.name
                );
                printed.push(seen.pod);
            }
            Ok((printed.len() == pods).then_some(printed))
        },
    )
    .await?;
    let mut logging = Vec::new();
    for pod in pods {
        let file = world.log_file(&pod, EXECUTOR, 0).await?;
        logging.push((pod, file));
    }
    Ok(logging)
}

/// Waits until a pod is gone, and counts.
async fn arrived(world: &World, (pod, file): &Logging) -> Result<()> {
    world.pods.until_gone(pod).await?;
    world.delivered(pod, EXECUTOR, file)?.exactly(LINES)
}

/// The pods of the Deployment: they belong to its `ReplicaSet`.
async fn printed_by_web(world: &World) -> Result<Vec<Logging>> {
    let sets: Api<ReplicaSet> = world.api(PLATFORM);
    let found = eventually("there is one ReplicaSet with pods", WITHIN, async || {
        let all = sets.list(&ListParams::default().labels("app=web")).await?;
        let wanted = all
            .items
            .into_iter()
            .find(|set| set.spec.replicas == Some(2));
        Ok(wanted.and_then(|set| set.metadata.name))
    })
    .await?;
    printed(world, "ReplicaSet", &found, 2).await
}

async fn deployment(world: &World) -> Result<()> {
    let deployments: Api<Deployment> = world.api(PLATFORM);
    world
        .create::<Deployment>(PLATFORM, owner("web", json!({"spec": {"replicas": 2}})))
        .await?;
    let first = printed_by_web(world).await?;
    deployments.restart("web").await?;
    for pod in &first {
        arrived(world, pod).await.context("before the restart")?;
    }
    let second = printed_by_web(world).await?;
    let none = Patch::Merge(json!({"spec": {"replicas": 0}}));
    deployments
        .patch("web", &PatchParams::default(), &none)
        .await?;
    for pod in &second {
        arrived(world, pod).await.context("after the restart")?;
    }
    Ok(())
}

async fn stateful_set(world: &World) -> Result<()> {
    let pods: Api<Pod> = world.api(PLATFORM);
    let spec = json!({"spec": {"replicas": 1, "serviceName": "database"}});
    world
        .create::<StatefulSet>(PLATFORM, owner("database", spec))
        .await?;
    let first = printed(world, "StatefulSet", "database", 1).await?;
    pods.delete("database-0", &DeleteParams::default()).await?;
    arrived(world, &first[0]).await.context("the first pod")?;
    let second = printed(world, "StatefulSet", "database", 1).await?;
    ensure!(first[0].0.metadata.uid != second[0].0.metadata.uid);
    let sets: Api<StatefulSet> = world.api(PLATFORM);
    sets.delete("database", &DeleteParams::background()).await?;
    arrived(world, &second[0])
        .await
        .context("the pod of the same name after it")
}

async fn daemon_set(world: &World) -> Result<()> {
    world
        .create::<DaemonSet>(PLATFORM, owner("daemon", json!({})))
        .await?;
    let pods = printed(world, "DaemonSet", "daemon", 1).await?;
    let sets: Api<DaemonSet> = world.api(PLATFORM);
    sets.delete("daemon", &DeleteParams::background()).await?;
    arrived(world, &pods[0]).await
}

async fn job(world: &World) -> Result<()> {
    let pod = world
        .job("import", json!({}), &running(&["lines", "2000"]))
        .await?;
    let file = world.log_file(&pod, EXECUTOR, 0).await?;
    world.pods.until_ended(&pod).await?;
    world.delivered(&pod, EXECUTOR, &file)?.exactly(2000)
}

/// Three runs of the same container, of which the kubelet keeps the files of two.
async fn job_on_failure(world: &World) -> Result<()> {
    let attempts = running_with(
        &["attempts", "2", "/memory", "500"],
        json!({"spec": {"restartPolicy": "OnFailure", "volumes": [{"name": "memory", "emptyDir": {}}], "containers": [{
            "name": EXECUTOR,
            "image": katonic_logging_e2e::images::WORKLOAD,
            "args": ["attempts", "2", "/memory", "500"],
            "volumeMounts": [{"name": "memory", "mountPath": "/memory"}],
        }]}}),
    );
    let pod = world
        .job("retried", json!({"backoffLimit": 6}), &attempts)
        .await?;
    world.pods.until_ended(&pod).await?;
    let numbers: Vec<usize> = (1..=1500).collect();
    let records = world.records(&pod, EXECUTOR);
    Delivered::of(&numbers, &records).exactly(1500)
}

async fn cron_job(world: &World) -> Result<()> {
    let pod = running(&["lines", "1000"]);
    let cron_job = json!({
        "metadata": {"name": "nightly"},
        "spec": {
            "schedule": "* * * * *",
            "jobTemplate": {"spec": {"backoffLimit": 0, "template": {"metadata": {"labels": {"app": "nightly"}}, "spec": pod["spec"]}}},
        },
    });
    world.create::<CronJob>(COMPUTE, cron_job).await?;
    // Within a minute, and then one suffices.
    let pod = eventually("the CronJob has made a pod", WITHIN, async || {
        let pods: Api<Pod> = world.api(COMPUTE);
        let found = pods
            .list(&ListParams::default().labels("app=nightly"))
            .await?;
        Ok(found.items.into_iter().next())
    })
    .await?;
    let cron_jobs: Api<CronJob> = world.api(COMPUTE);
    let suspend = Patch::Merge(json!({"spec": {"suspend": true}}));
    cron_jobs
        .patch("nightly", &PatchParams::default(), &suspend)
        .await?;
    let file = world.log_file(&pod, EXECUTOR, 0).await?;
    world.pods.until_ended(&pod).await?;
    world.delivered(&pod, EXECUTOR, &file)?.exactly(1000)
}

async fn bare_pod(world: &World) -> Result<()> {
    let pod = world.pod("bare", running(&SERVICE)).await?;
    let file = world.log_file(&pod, EXECUTOR, 0).await?;
    world.wrote(&file, 300).await?;
    world
        .api::<Pod>(COMPUTE)
        .delete("bare", &DeleteParams::default())
        .await?;
    world.pods.until_gone(&pod).await?;
    world.delivered(&pod, EXECUTOR, &file)?.exactly(LINES)
}
