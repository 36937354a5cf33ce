//! Whatever the webhook does, pods are created.

use std::time::{Duration, Instant};

use katonic_logging_e2e::{
    cluster::Options,
    eventually::eventually,
    operator::{Installed, PLATFORM, SOON},
    receiver::{
        Fault, Protocol, Receiver, Times,
        json::Rules,
        tls::{Authority, ServerIdentity},
    },
    webhook::Webhook,
};
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde_json::json;

use super::{World, agents, pod};

/// What an API server waits for an answer, twice because a pod may be asked about again, with room for a busy machine.
const NO_LONGER: Duration = Duration::from_secs(20);

/// Really creates a pod: how many agents it has, and how long it took.
async fn create(installed: &Installed) -> (usize, Duration) {
    let pods: Api<k8s_openapi::api::core::v1::Pod> =
        Api::namespaced(installed.client.clone(), PLATFORM);
    let begun = Instant::now();
    let created = pods.create(&PostParams::default(), &pod()).await.unwrap();
    let took = begun.elapsed();
    let name = created.metadata.name.clone().unwrap();
    let at_once = DeleteParams::default().grace_period(0);
    pods.delete(&name, &at_once).await.unwrap();
    (agents(&created), took)
}

#[tokio::test]
async fn pods_are_created_while_the_webhook_is_down_or_slow_or_answers_garbage() {
    let (world, webhook) = World::in_force(Options::default()).await;
    let (certificate, key) = world.pair().await;
    assert_eq!(create(&world.installed).await.0, 1);
    webhook.kill().await.unwrap();
    assert_eq!(create(&world.installed).await.0, 0, "down");

    // Something that has the webhook's certificate, and not its manners.
    let identity = ServerIdentity::from_pem(&certificate, &key).unwrap();
    let rules = Protocol::Json(Rules::at("/inject"));
    let address = world.address.socket();
    let impostor = Receiver::start_tls(address, rules, &identity)
        .await
        .unwrap();
    let answer = |body: String| Fault::Answer {
        status: 200,
        retry_after: None,
        body,
    };
    let review = |response: serde_json::Value| {
        json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}).to_string()
    };
    for (what, fault) in [
        ("never answers", Fault::Stall),
        ("accepts and says nothing", Fault::HalfOpen),
        ("resets", Fault::Reset),
        ("takes and resets", Fault::TakeThenReset),
        ("is in trouble", Fault::status(500)),
        ("is empty", answer(String::new())),
        ("is garbage", answer("\u{0}garbage".to_owned())),
        (
            "is of somebody else",
            answer(review(json!({"uid": "another", "allowed": true}))),
        ),
        ("is no answer", answer(review(json!(null)))),
    ] {
        impostor.misbehave(fault, Times::UntilTold);
        let (agents, took) = create(&world.installed).await;
        assert_eq!(agents, 0, "the answer {what}");
        assert!(took < NO_LONGER, "the answer {what}: {took:?}");
        impostor.behave();
    }
    drop(impostor);
    let _webhook = world.webhook().await;
    eventually("pods are injected again", SOON, async || {
        Ok((world.agents_of_new_pod().await == 1).then_some(()))
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn pods_are_created_while_the_certificate_is_expired_or_of_somebody_else() {
    let (world, webhook) = World::in_force(Options::default()).await;
    webhook.kill().await.unwrap();
    // Nobody repairs what the API server is told to trust.
    let World {
        installed,
        operator,
        address,
    } = world;
    operator.kill().await.unwrap();
    let authority = Authority::new().unwrap();
    let trusted = k8s_openapi::ByteString(authority.certificate_pem().into_bytes());
    let name = katonic_logging_core::names::WEBHOOK_CONFIGURATION;
    let trust = json!({"webhooks": [{"name": name, "clientConfig": {"caBundle": trusted}}]});
    let configurations: Api<
        k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration,
    > = Api::all(installed.client.clone());
    configurations
        .patch(name, &PatchParams::default(), &Patch::Strategic(trust))
        .await
        .unwrap();
    let webhook = Webhook::without_certificate(&installed.cluster, address)
        .await
        .unwrap();
    let expired = authority.expired_server(address.socket().ip()).unwrap();
    webhook
        .mount(expired.certificate_pem(), expired.key_pem())
        .await
        .unwrap();
    webhook.ready().await.unwrap();
    assert_eq!(create(&installed).await.0, 0, "expired");
    let (_, metrics) = webhook.get("/metrics").await.unwrap();
    // The end of 2020, for whoever wants to be warned before.
    assert!(
        metrics.contains("katonic_logging_webhook_certificate_expiry_timestamp_seconds 1609372800"),
        "{metrics}"
    );

    // Taken up without a restart, for the next connection; and a pair that does not fit changes nothing.
    let good = authority.server(address.socket().ip()).unwrap();
    webhook
        .mount(good.certificate_pem(), good.key_pem())
        .await
        .unwrap();
    eventually("pods are injected", SOON, async || {
        Ok((create(&installed).await.0 == 1).then_some(()))
    })
    .await
    .unwrap();
    webhook
        .mount(good.certificate_pem(), expired.key_pem())
        .await
        .unwrap();
    eventually("the webhook says what is wrong", SOON, async || {
        Ok(webhook
            .log()?
            .contains("do not belong together")
            .then_some(()))
    })
    .await
    .unwrap();
    assert_eq!(create(&installed).await.0, 1);
    let foreign = Authority::new()
        .unwrap()
        .server(address.socket().ip())
        .unwrap();
    webhook
        .mount(foreign.certificate_pem(), foreign.key_pem())
        .await
        .unwrap();
    eventually("the webhook shows it", SOON, async || {
        let (_, metrics) = webhook.get("/metrics").await?;
        let loads = r#"katonic_logging_webhook_certificate_loads_total{outcome="success"} 3"#;
        Ok(metrics.contains(loads).then_some(()))
    })
    .await
    .unwrap();
    // Connections that are open go on; a new webhook has none.
    webhook.kill().await.unwrap();
    let webhook = Webhook::without_certificate(&installed.cluster, address)
        .await
        .unwrap();
    webhook
        .mount(foreign.certificate_pem(), foreign.key_pem())
        .await
        .unwrap();
    webhook.ready().await.unwrap();
    assert_eq!(create(&installed).await.0, 0, "of somebody else");
}

/// The API server does not say why a pod came back without the agent; a firewall before the webhook is the usual reason.
#[tokio::test]
async fn a_webhook_that_cannot_be_reached_is_told_and_found_again() {
    let world = World::new("Webhook").await;
    world.policy().await;
    let message = world.ready("False", "WebhookUnreachable").await;
    assert!(
        message.contains("allow API servers to connect to TCP port 8443"),
        "{message}"
    );
    assert!(
        message.ends_with("until then new pods are created without the log agent"),
        "{message}"
    );
    assert_eq!(create(&world.installed).await.0, 0);
    let _webhook = world.webhook().await;
    world.ready("True", "InForce").await;
    assert_eq!(create(&world.installed).await.0, 1);
}
