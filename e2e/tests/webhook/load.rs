//! Many pods at once.

use std::time::Duration;

use http::Request;
use k8s_openapi::api::core::v1::Pod;
use katonic_logging_e2e::{
    cluster::Options,
    eventually::eventually,
    operator::{PLATFORM, SOON},
};
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
    // On a slow machine most of a crowd may be let in, and then some hundred are still served.
    assert!(
        injected >= RATE * SECONDS / 10,
        "only {injected} of {} pods have the agent",
        RATE * SECONDS
    );
    // As the webhook itself counts them; for some the API server may have given up waiting.
    let (_, metrics) = webhook.get("/metrics").await.unwrap();
    let answered = answered(&metrics);
    assert!(
        answered >= injected,
        "the webhook has injected {answered} pods, and {injected} came back with the agent"
    );
    // On a machine that is too slow for this, API servers give up waiting and let pods in; nothing else may be the reason.
    let given_up = failed_open(&world).await;
    assert!(
        let_in <= given_up,
        "{let_in} of {} pods have no agent, and the API server gave up waiting for {given_up}",
        injected + let_in
    );
    assert!(!metrics.contains(r#"decision="Failed""#), "{metrics}");
    // Nothing of it stays behind: whoever was let in is injected when he comes again.
    for _ in 0..let_in.min(50) {
        eventually("a pod is injected after the crowd", SOON, async || {
            let created = pods.create(&dry_run, &pod()).await?;
            Ok((agents(&created) == 1).then_some(()))
        })
        .await
        .unwrap();
    }
    assert_eq!(agents(&pods.create(&dry_run, &pod()).await.unwrap()), 1);
}

/// How many pods the webhook has injected.
fn answered(metrics: &str) -> u32 {
    let injected = r#"katonic_logging_webhook_admissions_total{decision="Injected","#;
    let counted = metrics.lines().filter(|line| line.starts_with(injected));
    counted
        .filter_map(|line| line.rsplit(' ').next()?.parse::<u32>().ok())
        .sum()
}

/// How many requests the API server has let through because no webhook answered, as it counts them itself.
async fn failed_open(world: &World) -> u32 {
    let metrics = Request::get("/metrics").body(Vec::new()).unwrap();
    let metrics = world.installed.client.request_text(metrics).await.unwrap();
    let counted = metrics
        .lines()
        .filter(|line| line.starts_with("apiserver_admission_webhook_fail_open_count{"))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a count, written as a float"
    )]
    counted.map(|count| count as u32).sum()
}
