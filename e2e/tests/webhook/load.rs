//! Many pods at once.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use katonic_logging_e2e::{cluster::Options, operator::PLATFORM};
use kube::{Api, api::PostParams};
use tokio::{task::JoinSet, time::interval};

use super::{World, agents, pod};

/// How many pods a second, and for how many seconds.
const RATE: u32 = 500;
const SECONDS: u32 = 4;

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_pods_a_second_are_all_created() {
    let (world, webhook) = World::in_force(Options::default()).await;
    let pods: Api<Pod> = Api::namespaced(world.installed.client.clone(), PLATFORM);
    let dry_run = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let mut creations = JoinSet::new();
    let mut next = interval(Duration::from_secs(1) / RATE);
    for _ in 0..RATE * SECONDS {
        next.tick().await;
        let (pods, dry_run) = (pods.clone(), dry_run.clone());
        creations.spawn(async move { pods.create(&dry_run, &pod()).await });
    }
    let (mut injected, mut let_in) = (0, 0);
    while let Some(created) = creations.join_next().await {
        match agents(&created.unwrap().unwrap()) {
            1 => injected += 1,
            0 => let_in += 1,
            more => panic!("a pod with {more} agents"),
        }
    }
    assert_eq!(injected + let_in, RATE * SECONDS);
    // On a machine that is too slow for this, API servers give up waiting, and let pods in.
    assert!(injected > 0, "{injected} injected, {let_in} let in");
    let (_, metrics) = webhook.get("/metrics").await.unwrap();
    assert!(!metrics.contains(r#"decision="Failed""#), "{metrics}");
}
