//! `katonic-logging logs` on a real node: the archive and the running pod join without a gap, and no line is there twice.

#![expect(
    clippy::unwrap_used,
    reason = "what fails while a test is prepared must fail the test"
)]

mod kinds;
mod world;

use k8s_openapi::api::core::v1::Pod;
use katonic_logging_core::names;
use katonic_logging_e2e::{eventually::eventually, images, operator::COMPUTE};
use kube::{
    Api,
    api::{DeleteParams, PostParams},
};
use serde_json::json;
use tokio::task::spawn_blocking;

use world::{LABEL, Said, WITHIN, World, id_of};

/// Read again and again while the pod prints and its agent archives: each time the archive ends somewhere else.
async fn a_running_pod_is_read_without_a_gap_or_a_duplicate(world: &World) {
    let name = "seam";
    world
        .pod(
            name,
            &["forever", "--rate", "400", "--stderr-every", "5"],
            json!({}),
        )
        .await;
    world.archived(name, 2).await;
    let mut highest = 0;
    let mut seams = 0;
    for _ in 0..12 {
        let said = world.logs(name, &[]).await;
        assert_eq!(said.code, Some(3), "{}", said.stderr);
        let numbers = said.gapless();
        assert!(numbers > highest);
        highest = numbers;
        let archived = said
            .lines
            .iter()
            .filter(|record| record["record_id"].is_string())
            .count();
        seams += usize::from(archived > 0 && archived < numbers);
        assert!(
            said.stderr.contains("not complete yet: "),
            "{}",
            said.stderr
        );
    }
    assert!(seams > 6, "in {seams} of 12 readings both had lines");
    // One of both alone has less.
    let archive = world.logs(name, &["--from", "archive"]).await;
    assert!(archive.gapless() > 0 && archive.code == Some(3));
    let pods = world.logs(name, &["--from", "pods"]).await;
    assert!(pods.gapless() >= highest, "the file was not rotated");
    let pods: Api<Pod> = Api::namespaced(world.installed.client.clone(), COMPUTE);
    pods.delete(name, &DeleteParams::default()).await.unwrap();
    eventually("the pod is gone", WITHIN, async || {
        Ok(pods.get_opt(name).await?.is_none().then_some(()))
    })
    .await
    .unwrap();
    let whole = world.logs(name, &[]).await;
    assert_eq!(whole.code, Some(0), "{}", whole.stderr);
    let lines = whole.gapless();
    assert!(lines >= highest);
    let verified = format!("verified: {}", lines / 1000);
    assert!(whole.stderr.contains(&verified), "{}", whole.stderr);
}

/// A Job's pod is followed from its beginning to its end.
async fn a_pod_is_followed_to_its_end_and_verified(world: &World) {
    const LINES: usize = 4_000;
    let name = "followed";
    world
        .pod(
            name,
            &["lines", &LINES.to_string(), "--rate", "800"],
            json!({}),
        )
        .await;
    world.runs(name).await;
    let said = world.logs(name, &["--follow"]).await;
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert_eq!(said.gapless(), LINES);
    assert!(said.numbers().is_sorted(), "{}", said.stderr);
    assert!(
        said.stderr.contains("verified: 4,000 lines, complete"),
        "{}",
        said.stderr
    );
}

/// Each run of the container is another log.
async fn restarts_are_followed(world: &World) {
    const LINES: usize = 500;
    let name = "restarted";
    let more = json!({
        "restartPolicy": "OnFailure",
        "volumes": [{"name": "memory", "emptyDir": {}}],
        "containers": [{
            "name": "run", "image": images::WORKLOAD,
            "args": ["attempts", "2", "/memory", LINES.to_string()],
            "volumeMounts": [{"name": "memory", "mountPath": "/memory"}],
        }],
    });
    world.pod(name, &[], more).await;
    world.runs(name).await;
    let said = world.logs(name, &["--follow"]).await;
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert_eq!(said.gapless(), 3 * LINES);
    assert!(
        said.stderr
            .contains("verified: 1,500 lines, complete (3 runs)"),
        "{}",
        said.stderr
    );
}

/// More than the kubelet shows: what it has rotated away is in the archive by then.
async fn a_log_that_is_rotated_is_read_whole(world: &World) {
    const LINES: usize = 600_000;
    let name = "rotated";
    world
        .pod(
            name,
            &["lines", &LINES.to_string(), "--rate", "25000"],
            json!({}),
        )
        .await;
    world.archived(name, 3).await;
    let mut readings = 0;
    loop {
        let said = world.logs(name, &[]).await;
        readings += 1;
        let lines = said.gapless();
        if said.code == Some(0) {
            assert_eq!(lines, LINES);
            assert!(
                said.stderr.contains("verified: 600,000 lines, complete"),
                "{}",
                said.stderr
            );
            break;
        }
        assert_eq!(said.code, Some(3), "{}", said.stderr);
    }
    assert!(readings > 1, "the first reading already found everything");
}

/// Nothing is archived of it: its log is all there is, and that is said.
async fn a_pod_without_an_agent_is_read_and_is_not_complete(world: &World) {
    let name = "bare";
    let pods: Api<Pod> = Api::namespaced(world.installed.client.clone(), COMPUTE);
    let pod = json!({
        "metadata": {"name": name, "labels": {LABEL: id_of(name), names::INJECT_LABEL: names::INJECT_NO}},
        "spec": {
            "restartPolicy": "Never",
            "containers": [{"name": "run", "image": images::WORKLOAD, "args": ["lines", "100"]}],
        },
    });
    let pod = serde_json::from_value(pod).unwrap();
    pods.create(&PostParams::default(), &pod).await.unwrap();
    world.runs(name).await;
    let said = world.logs(name, &["--follow"]).await;
    assert_eq!(said.gapless(), 100);
    assert_eq!(said.code, Some(3), "{}", said.stderr);
    assert!(
        said.stderr.contains(
            "0 lines from the archive and 100 from pods; no completeness record of bare/run"
        ),
        "{}",
        said.stderr
    );
}

async fn what_a_person_may_not_read_is_said(world: &World) {
    let said = world.logs("nobody", &[]).await;
    assert_eq!(said.code, Some(5), "{}", said.stderr);
    assert!(
        said.stderr
            .contains("among the pods of namespace katonic-compute"),
        "{}",
        said.stderr
    );
    let said = world
        .logs("nobody", &["--credentials-secret", "log-store"])
        .await;
    assert_eq!(said.code, Some(2), "named twice: {}", said.stderr);
    let mut command = world.installed.cluster.command(&world.program).unwrap();
    command
        .args([
            "logs",
            "x",
            "--credentials-secret",
            "log-store",
            "--kubeconfig",
        ])
        .arg(&world.kubeconfig)
        .env("HOME", "/nonexistent");
    let output = spawn_blocking(move || command.output())
        .await
        .unwrap()
        .unwrap();
    let said = Said::of(output);
    assert_eq!(said.code, Some(1));
    assert!(
        said.stderr
            .contains("you have no right to read Secret katonic-logging/log-store"),
        "{}",
        said.stderr
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn archive_and_pods_are_one_log() {
    let Some(world) = World::new().await else {
        return;
    };
    // One after the other: each wants the node's two cores for itself.
    what_a_person_may_not_read_is_said(&world).await;
    a_running_pod_is_read_without_a_gap_or_a_duplicate(&world).await;
    a_pod_is_followed_to_its_end_and_verified(&world).await;
    restarts_are_followed(&world).await;
    a_pod_without_an_agent_is_read_and_is_not_complete(&world).await;
    a_log_that_is_rotated_is_read_whole(&world).await;
    Box::pin(kinds::each_kind_is_read_back_as_it_behaves(&world)).await;
}
