//! Who may report: pods with a token of theirs for the operator, and nobody else.

use k8s_openapi::api::core::v1::Pod;
use katonic_log_config::report::AUDIENCE;
use katonic_logging_e2e::{
    cluster::Component,
    eventually::eventually,
    operator::{COMPUTE, SOON},
};
use kube::{Api, ResourceExt as _, api::DeleteParams};

use super::{World, agents_token, pod, pod_in, token};

const REPORTING: &str = "katonic_logging_reporting_pods";

#[tokio::test]
async fn a_pod_is_known_by_its_token_and_by_nothing_that_it_says() {
    let world = World::start().await;
    let reporter = world.reporter().await;
    let (first, second) = (
        pod(&world.installed, "first").await,
        pod(&world.installed, "second").await,
    );
    let tokens = [
        agents_token(&world.installed, &first).await,
        agents_token(&world.installed, &second).await,
    ];
    let answer = reporter.report(&tokens[0]).await.unwrap();
    assert_eq!(answer.interval(), 60);
    assert_eq!(answer.headers["content-type"], "application/json");
    assert_eq!(world.metric(REPORTING).await, 1);
    // Whatever the body says, it is the pod of the token.
    let uid = second.uid().unwrap();
    let body = format!(
        r#"{{"pod": {{"name": "second", "namespace": "{COMPUTE}", "uid": "{uid}"}}, "uid": "{uid}", "agent": "0.1.0"}}"#
    );
    let answer = reporter.send(Some(&tokens[0]), body.as_bytes()).await;
    answer.unwrap().interval();
    assert_eq!(world.metric(REPORTING).await, 1);
    reporter.report(&tokens[1]).await.unwrap().interval();
    assert_eq!(world.metric(REPORTING).await, 2);
    // The API server was asked once for each.
    assert_eq!(world.reviews().await, 2);
    let accepted = r#"katonic_logging_reports_total{outcome="accepted"}"#;
    assert_eq!(world.metric(accepted).await, 3);
    for token in tokens {
        let signature = token.rsplit('.').next().unwrap();
        assert!(!world.operator.log().unwrap().contains(signature));
    }
}

#[tokio::test]
async fn whoever_is_no_pod_of_the_cluster_is_refused_and_told_why() {
    let world = World::start().await;
    let reporter = world.reporter().await;
    let pod = pod(&world.installed, "web").await;
    let installed = &world.installed;
    let good = agents_token(installed, &pod).await;
    let refused = async |token: Option<&str>, words: &str| {
        let answer = reporter.send(token, b"{}").await.unwrap();
        answer.is_refused(401, words);
        assert_eq!(answer.headers["www-authenticate"], "Bearer");
        let told = |token: &str| !token.is_empty() && answer.body.contains(token);
        assert!(!token.is_some_and(told));
    };
    refused(None, "no token").await;
    refused(Some(""), "no token").await;
    refused(Some("garbage"), "no token of a service account").await;
    let other = token(installed, Some("vault.example.com"), Some(&pod)).await;
    refused(
        Some(&other),
        "not for the audience reports.logging.katonic.ai",
    )
    .await;
    let api_servers = token(installed, None, Some(&pod)).await;
    refused(Some(&api_servers), "not for the audience").await;
    let unbound = token(installed, Some(AUDIENCE), None).await;
    refused(Some(&unbound), "not bound to a pod").await;
    // None of these was worth a question.
    assert_eq!(world.reviews().await, 0);
    // With another signature, that of another token for example.
    let (claims, _) = good.rsplit_once('.').unwrap();
    let (_, signature) = other.rsplit_once('.').unwrap();
    let forged = format!("{claims}.{signature}");
    refused(Some(&forged), "the API server does not know the token").await;
    refused(Some(&forged), "the API server does not know the token").await;
    assert_eq!(world.reviews().await, 1);
    let unauthorized = r#"katonic_logging_reports_total{outcome="unauthorized"}"#;
    assert_eq!(world.metric(unauthorized).await, 8);
    assert_eq!(world.metric("katonic_logging_reporting_pods").await, 0);
    reporter.report(&good).await.unwrap().interval();
}

#[tokio::test]
async fn a_pod_of_another_namespace_is_told_that_it_may_not_report_and_changes_nothing() {
    let world = World::start().await;
    let reporter = world.reporter().await;
    let installed = &world.installed;
    installed.cluster.namespace("somebody-elses").await.unwrap();
    let stranger = pod_in(installed, "somebody-elses", "web").await;
    let stranger = agents_token(installed, &stranger).await;
    let own = agents_token(installed, &pod(installed, "web").await).await;
    let policy = installed.policies().get("logs").await.unwrap();
    let lost = serde_json::json!({"uptime": 1, "policies": [{
        "uid": policy.uid().unwrap(), "sinks": [{"name": "splunk", "lost": 1_u64 << 63, "delivered": 7}],
    }]});
    let lost = lost.to_string();
    let answer = reporter.send(Some(&stranger), lost.as_bytes()).await;
    answer.unwrap().is_refused(
        403,
        "the pod's namespace is none of those that the installation names",
    );
    // Its body is not read either.
    let large = vec![b' '; 1 << 20];
    let answer = reporter.send(Some(&stranger), &large).await.unwrap();
    answer.is_refused(403, "namespace");
    let forbidden = r#"katonic_logging_reports_total{outcome="forbidden"}"#;
    assert_eq!(world.metric(forbidden).await, 2);
    assert_eq!(world.metric(REPORTING).await, 0);
    // One of the plane that says the same is believed.
    let answer = reporter.send(Some(&own), lost.as_bytes()).await;
    answer.unwrap().interval();
    let told = |outcome: &str| {
        format!(
            r#"katonic_logging_unacknowledged_records{{policy="logs",sink="splunk",outcome="{outcome}"}}"#
        )
    };
    eventually("its losses are told", SOON, async || {
        let lost = world.metric(&told("lost")).await;
        Ok((lost > 0).then_some(()))
    })
    .await
    .unwrap();
    assert_eq!(world.metric(REPORTING).await, 1);
}

#[tokio::test]
async fn the_token_of_a_pod_that_is_gone_is_worth_nothing() {
    let world = World::start().await;
    let reporter = world.reporter().await;
    let gone = pod(&world.installed, "gone").await;
    let token = agents_token(&world.installed, &gone).await;
    let pods: Api<Pod> = Api::namespaced(world.installed.client.clone(), COMPUTE);
    let at_once = DeleteParams::default().grace_period(0);
    pods.delete("gone", &at_once).await.unwrap();
    // Another one of its name is another pod.
    pod(&world.installed, "gone").await;
    let answer = reporter.report(&token).await.unwrap();
    answer.is_refused(401, "its pod is gone");
}

#[tokio::test]
async fn while_the_api_server_is_away_only_those_are_known_who_were_before() {
    let world = World::start().await;
    let reporter = world.reporter().await;
    let (known, new) = (
        pod(&world.installed, "known").await,
        pod(&world.installed, "new").await,
    );
    let known = agents_token(&world.installed, &known).await;
    let new = agents_token(&world.installed, &new).await;
    reporter.report(&known).await.unwrap().interval();
    let cluster = &world.installed.cluster;
    cluster.stop_component(Component::ApiServer).unwrap();
    let answer = reporter.report(&new).await.unwrap();
    answer.is_refused(503, "the API server cannot be asked");
    assert_eq!(answer.headers["retry-after"], "10");
    reporter.report(&known).await.unwrap().interval();
    cluster.start_component(Component::ApiServer).await.unwrap();
    reporter.report(&new).await.unwrap().interval();
    let failed = r#"katonic_logging_token_reviews_total{outcome="failed"}"#;
    assert_eq!(world.metric(failed).await, 1);
}
