//! The oldest Kubernetes, which has no admission policies that change objects, and what becomes of it.

use katonic_logging_core::names;
use katonic_logging_e2e::{
    cluster::{Minor, Options},
    eventually::eventually,
    operator::{SOON, condition},
};

use super::{
    World, admissions, install,
    switch::{Stream, bindings},
};

#[tokio::test]
async fn the_oldest_is_injected_by_the_webhook_and_after_an_upgrade_by_the_admission_policy() {
    let options = Options {
        minor: Minor::Oldest,
        ..Options::default()
    };
    let world = World::with("Auto", options).await;
    let webhook = world.webhook().await;
    world.policy().await;
    world.ready("True", "InForce").await;
    assert_eq!(world.agents_of_new_pod().await, 1);
    let (_, metrics) = world.operator.get("/metrics").await.unwrap();
    assert!(
        metrics.contains(r#"katonic_logging_injection{way="Webhook"} 1"#),
        "{metrics}"
    );

    // What this API server has not got is not asked of it in vain: it is told, and the webhook goes on.
    install(&world.installed, "AdmissionPolicy").await;
    let status = world
        .installed
        .ready("logs", "False", "AdmissionPolicyUnsupported")
        .await
        .unwrap();
    let message = &condition(&status, "Injected").unwrap().message;
    assert!(message.contains("write Auto there"), "{message}");
    assert!(
        message.ends_with("until then the webhook goes on"),
        "{message}"
    );
    assert!(condition(&status, "Stalled").is_some());
    assert_eq!(world.agents_of_new_pod().await, 1);
    install(&world.installed, "Auto").await;
    world.ready("True", "InForce").await;
    let log = world.operator.log().unwrap();
    assert!(log.contains("the API server has no such objects"), "{log}");
    assert!(!log.contains("failed to watch"), "{log}");

    let stream = Stream::across_an_upgrade(&world.installed);
    world.installed.cluster.upgrade_api_server().await.unwrap();
    eventually(
        "the admission policy has taken over",
        SOON * 3,
        async || {
            let (_, metrics) = world.operator.get("/metrics").await?;
            let by_policy = r#"katonic_logging_injection{way="AdmissionPolicy"} 1"#;
            Ok(metrics.contains(by_policy).then_some(()))
        },
    )
    .await
    .unwrap();
    world.ready("True", "InForce").await;
    assert_eq!(bindings(&world.installed).await, [names::ADMISSION_BINDING]);
    let seen = stream.end().await;
    assert!(seen.len() > 20, "{}", seen.len());
    assert!(seen.iter().all(|agents| *agents == 1), "{seen:?}");

    // An API server that has not been upgraded still needs the webhook; this one asks it about no pod any more.
    assert!(world.configuration().await.is_some());
    eventually("the webhook is asked no more", SOON, async || {
        let (_, before) = webhook.get("/metrics").await?;
        for _ in 0..20 {
            assert_eq!(world.agents_of_new_pod().await, 1);
        }
        let (_, after) = webhook.get("/metrics").await?;
        Ok((admissions(&before) == admissions(&after)).then_some(()))
    })
    .await
    .unwrap();
    install(&world.installed, "AdmissionPolicy").await;
    eventually("the webhook is not needed any more", SOON, async || {
        Ok(world.configuration().await.is_none().then_some(()))
    })
    .await
    .unwrap();
    world.ready("True", "InForce").await;
}
