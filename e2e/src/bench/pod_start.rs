//! From a pod's creation until it runs: without the agent, with somebody's native sidecar that does nothing, and with ours.
//!
//! On a real node, in turns. The kubelet starts a pod's own containers only after it has seen the sidecar run, so every native
//! sidecar costs a turn of its loop; what is ours to answer for is the rest.

use std::time::Duration;

use anyhow::{Context as _, Result};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use katonic_logging_core::names;
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, PostParams, WatchEvent, WatchParams},
};
use serde_json::{Value, json};
use tokio::{
    task::spawn_blocking,
    time::{Instant, timeout},
};

use super::{Figure, median};
use crate::{
    cluster::{Cluster, Tier, progress::Progress},
    images::{self, Image},
    operator::{Installed, PLATFORM, splunk_policy},
};

/// How often each is measured.
const ROUNDS: usize = 12;

/// What the agent may add to a pod with a sidecar that does nothing: it has five volumes more, one of them a Secret that the
/// kubelet has to fetch.
const BUDGET: f64 = 1.25;

const PATIENCE: Duration = Duration::from_mins(1);

pub(super) async fn measure() -> Result<Vec<Figure>> {
    if let Err(reason) = Tier::Node.available() {
        crate::cluster::progress::say(&format!("the start of pods is not measured: {reason}"));
        return Ok(Vec::new());
    }
    let cluster = Cluster::start(Tier::Node).await?;
    for image in [Image::Operator, Image::Agent] {
        let archive = spawn_blocking(move || image.build()).await??;
        cluster.load_image(&archive).await?;
    }
    let progress = Progress::start("measuring the start of pods on a node");
    let installed = Installed::new(cluster).await?;
    installed.sink_secret("splunk", "token", "measured").await?;
    let policy = splunk_policy("logs", "https://hec.example.com:8088", "splunk");
    installed.create(&policy).await?;
    installed.ready("logs", "True", "InForce").await?;
    let pods: Api<Pod> = Api::namespaced(installed.client.clone(), PLATFORM);
    let pause = json!({"name": "pause", "image": images::WORKLOAD, "args": ["pause"]});
    let mut idle = pause.clone();
    idle["name"] = json!("idle");
    idle["restartPolicy"] = json!("Always");
    let left_alone = json!({names::INJECT_LABEL: names::INJECT_NO});
    let spec = json!({"containers": [pause]});
    let with_idle = json!({"containers": [pause], "initContainers": [idle]});
    let (mut bare, mut any, mut ours) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        bare.push(start(&pods, &format!("bare-{round}"), &left_alone, &spec).await?);
        any.push(start(&pods, &format!("any-{round}"), &left_alone, &with_idle).await?);
        ours.push(start(&pods, &format!("ours-{round}"), &json!({}), &spec).await?);
    }
    progress.done();
    let [bare, any, ours] = [bare, any, ours].map(|mut all| median(&mut all));
    Ok(vec![
        Figure::at_most(
            "pod created to running with the agent, of one with a sidecar that does nothing",
            ours / any,
            "times",
            BUDGET,
        ),
        Figure::told("the same, of a pod without a sidecar", ours / bare, "times"),
        Figure::told(
            "pod created to running without a sidecar, median",
            bare,
            "ms",
        ),
        Figure::told("the same with a sidecar that does nothing", any, "ms"),
        Figure::told("the same with the agent", ours, "ms"),
    ])
}

/// Creates a pod, and ends it once it has run; from the request until a watch has shown that it runs, in milliseconds.
async fn start(pods: &Api<Pod>, name: &str, labels: &Value, spec: &Value) -> Result<f64> {
    let pod = json!({"metadata": {"name": name, "labels": labels}, "spec": spec});
    let pod = serde_json::from_value(pod).context("not a pod")?;
    let begun = Instant::now();
    let created = pods
        .create(&PostParams::default(), &pod)
        .await
        .with_context(|| format!("failed to create pod {name}"))?;
    let only = WatchParams::default().fields(&format!("metadata.name={name}"));
    let version = created.resource_version().unwrap_or_default();
    let mut events = pods.watch(&only, &version).await?.boxed();
    let running = async {
        while let Some(event) = events.next().await {
            if let WatchEvent::Modified(pod) = event?
                && pod.status.and_then(|status| status.phase).as_deref() == Some("Running")
            {
                return Ok(begun.elapsed());
            }
        }
        anyhow::bail!("the watch has ended")
    };
    let took = timeout(PATIENCE, running)
        .await
        .with_context(|| format!("pod {name} does not run"))??;
    // The next one shall not wait for the end of this.
    let gone = async {
        while let Some(event) = events.next().await {
            if let WatchEvent::Deleted(_) = event? {
                return Ok(());
            }
        }
        anyhow::bail!("the watch has ended")
    };
    pods.delete(name, &DeleteParams::default()).await?;
    timeout(PATIENCE, gone)
        .await
        .with_context(|| format!("pod {name} does not go"))??;
    Ok(took.as_secs_f64() * 1000.0)
}
