//! What would delete logs waits until somebody says that it may; what keeps them longer does not.

use anyhow::Result;
use katonic_logging_e2e::operator::{Operator, condition};
use serde_json::json;

use crate::{BUCKET, World, retention, rule};

#[tokio::test(flavor = "multi_thread")]
async fn logs_that_are_there_are_deleted_only_once_somebody_has_agreed() -> Result<()> {
    let Some(world) = World::start_or_skip().await? else {
        return Ok(());
    };
    world.fill().await?;
    world
        .apply(&world.policy("logs", &json!({"retention": "90d"})))
        .await?;
    let says = "what begins with logs/application/ in bucket platform-logs is kept for ever, and 90d would delete all of it that is older: if that is meant, annotate policy logs with logging.katonic.ai/acknowledge-retention=90d";
    let status = world
        .told("logs", "False", "AcknowledgementNeeded", says)
        .await?;
    assert_eq!(retention(&status).state, "Drifted");
    let status = world
        .installed
        .ready("logs", "False", "AcknowledgementNeeded")
        .await?;
    assert!(condition(&status, "Stalled").is_some());
    world.acknowledge("logs", "9d").await?;
    world
        .told("logs", "False", "AcknowledgementNeeded", says)
        .await?;
    assert!(world.rules().await?.is_empty());
    world.acknowledge("logs", "90d").await?;
    world
        .told("logs", "True", "Enforced", "for 90 days")
        .await?;
    // Less again.
    world
        .apply(&world.policy("logs", &json!({"retention": "7d"})))
        .await?;
    let says = "is kept for 90 days, and 7d would delete";
    world
        .told("logs", "False", "AcknowledgementNeeded", says)
        .await?;
    let (ours, _) = world.ours_and_others().await?;
    assert!(ours[0].contains("<Days>90</Days>"), "{ours:?}");
    // More again.
    world
        .apply(&world.policy("logs", &json!({"retention": "Forever"})))
        .await?;
    world.told("logs", "True", "Enforced", "for ever").await?;
    assert!(world.rules().await?.is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shorter_policy_alone_does_not_shorten_what_the_longer_one_kept() -> Result<()> {
    let Some(world) = World::start_or_skip().await? else {
        return Ok(());
    };
    world
        .apply(&world.policy("long", &json!({"retention": "90d"})))
        .await?;
    world
        .told("long", "True", "Enforced", "for 90 days")
        .await?;
    world.fill().await?;
    world
        .apply(&world.policy("short", &json!({"retention": "30d"})))
        .await?;
    world
        .told(
            "short",
            "True",
            "Enforced",
            "because policy long asks for 90d",
        )
        .await?;
    world.installed.delete("long").await?;
    let says = "annotate policy short with logging.katonic.ai/acknowledge-retention=30d";
    world
        .told("short", "False", "AcknowledgementNeeded", says)
        .await?;
    let (ours, _) = world.ours_and_others().await?;
    assert!(ours[0].contains("<Days>90</Days>"), "{ours:?}");
    assert_eq!(world.minio.keys(BUCKET, "logs/").await?.len(), 1_001);
    world.acknowledge("short", "30d").await?;
    world
        .told("short", "True", "Enforced", "for 30 days")
        .await?;
    Ok(())
}

/// What was agreed to is known from the status, also to a next operator: somebody else's change is put right without asking.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_agreed_to_survives_the_operator() -> Result<()> {
    let Some(mut world) = World::start_or_skip().await? else {
        return Ok(());
    };
    world
        .apply(&world.policy("logs", &json!({"retention": "30d"})))
        .await?;
    world
        .told("logs", "True", "Enforced", "for 30 days")
        .await?;
    world.fill().await?;
    let operator = Operator::start_with(
        &world.setup.installed.cluster,
        "two",
        &["--retention-interval", "1"],
    );
    let operator = std::mem::replace(&mut world.setup.operator, operator.await?);
    assert!(operator.terminate().await?);
    world
        .minio
        .set_lifecycle(BUCKET, &rule("others", "tmp/", 1))
        .await?;
    katonic_logging_e2e::eventually::eventually(
        "our rule is there again",
        crate::LIMIT,
        async || {
            let (ours, _) = world.ours_and_others().await?;
            Ok((ours.len() == 1).then_some(()))
        },
    )
    .await?;
    world
        .told("logs", "True", "Enforced", "for 30 days")
        .await?;
    Ok(())
}
