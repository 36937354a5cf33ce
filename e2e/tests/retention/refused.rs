//! What holds retention up is told with what to do about it, and mends itself once that is done.

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::Method;
use katonic_logging_e2e::{operator::condition, receiver::Minio};
use serde_json::json;

use crate::{BUCKET, World, least_privilege, retention, rule};

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_does_not_exist_yet_is_waited_for() -> Result<()> {
    let Some(minio) = Minio::start_or_skip(None).await? else {
        return Ok(());
    };
    let world = World::of(minio, None, &least_privilege()?).await?;
    world
        .apply(&world.policy("logs", &json!({"retention": "30d"})))
        .await?;
    let says = "there is no bucket platform-logs: create it";
    let status = world.told("logs", "Unknown", "NoSuchBucket", says).await?;
    assert!(condition(&status, "Reconciling").is_some());
    world.minio.make_bucket(BUCKET).await?;
    world
        .told("logs", "True", "Enforced", "for 30 days")
        .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_that_is_missing_is_named() -> Result<()> {
    let Some(minio) = Minio::start_or_skip(None).await? else {
        return Ok(());
    };
    minio.make_bucket(BUCKET).await?;
    let allow = |actions: &[&str]| {
        json!({"Version": "2012-10-17", "Statement": [
            {"Effect": "Allow", "Action": actions, "Resource": [format!("arn:aws:s3:::{BUCKET}")]}]})
    };
    let mut rights = vec!["s3:GetBucketLocation"];
    let world = World::of(minio, None, &allow(&rights)).await?;
    world
        .apply(&world.policy("logs", &json!({"retention": "30d"})))
        .await?;
    for right in [
        "s3:GetBucketVersioning",
        "s3:GetBucketObjectLockConfiguration",
        "s3:GetLifecycleConfiguration",
        "s3:ListBucket",
        "s3:PutLifecycleConfiguration",
    ] {
        let says = format!(
            "allow the credentials of managementSecretRef {right} on arn:aws:s3:::{BUCKET}"
        );
        world.told("logs", "Unknown", "RulesDenied", &says).await?;
        rights.push(right);
        let (id, secret) = (&world.user.id, &world.user.secret);
        world.minio.user(id, secret, &allow(&rights)).await?;
    }
    world
        .told("logs", "True", "Enforced", "for 30 days")
        .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_missing_or_wrong_holds_up_the_retention_and_not_the_logs() -> Result<()> {
    let Some(world) = World::start_or_skip().await? else {
        return Ok(());
    };
    let mut policy = world.policy("logs", &json!({"retention": "30d"}));
    let store = &mut policy["spec"]["sinks"][0]["objectStorage"]["s3"];
    store["managementSecretRef"] = json!({"name": "rules"});
    world.apply(&policy).await?;
    let says =
        "Secret katonic-logging/rules does not exist: create it with the key `AWS_ACCESS_KEY_ID`";
    let status = world.told("logs", "False", "SecretMissing", says).await?;
    assert_eq!(retention(&status).state, "Unsupported");
    assert_eq!(
        condition(&status, "SecretsResolved").unwrap().status,
        "True"
    );
    assert!(status.sinks[0].in_force);
    world
        .access_key("rules", &world.user.id, "another-secret")
        .await?;
    let says = "the store does not take the credentials: correct the Secret of managementSecretRef";
    world.told("logs", "Unknown", "RulesDenied", says).await?;
    world
        .access_key("rules", &world.user.id, &world.user.secret)
        .await?;
    world
        .told("logs", "True", "Enforced", "for 30 days")
        .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_with_a_thousand_rules_keeps_them_and_says_which_have_no_place() -> Result<()> {
    let Some(world) = World::start_or_skip().await? else {
        return Ok(());
    };
    let rules: Vec<String> = (0..1_000)
        .map(|number| rule(&number.to_string(), "tmp/", 1))
        .collect();
    world.minio.set_lifecycle(BUCKET, &rules.concat()).await?;
    let written = world.rules().await?;
    assert_eq!(written.len(), 1_000);
    world
        .apply(&world.policy("logs", &json!({"retention": "30d"})))
        .await?;
    let says = "as many lifecycle rules as it can have, so what begins with logs/application/ is kept for ever and not 30d: remove a rule";
    let status = world.told("logs", "False", "RulesFull", says).await?;
    assert_eq!(retention(&status).kept.as_deref(), Some("Forever"));
    assert_eq!(world.rules().await?, written);
    assert_eq!(world.writes().await?, 0);
    world
        .minio
        .set_lifecycle(BUCKET, &rules[1..].concat())
        .await?;
    world
        .told("logs", "True", "Enforced", "for 30 days")
        .await?;
    let (_, others) = world.ours_and_others().await?;
    assert_eq!(others, written[1..]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_of_anyone_that_deletes_what_is_kept_for_ever_is_named() -> Result<()> {
    let Some(world) = World::start_or_skip().await? else {
        return Ok(());
    };
    world
        .apply(&world.policy("executions", &json!({"logs": "Execution"})))
        .await?;
    world
        .told("executions", "True", "Enforced", "for ever")
        .await?;
    world
        .minio
        .set_lifecycle(BUCKET, &rule("clean-up", "logs/", 365))
        .await?;
    let says = "what begins with logs/executions/ in bucket platform-logs is to be kept for ever, and lifecycle rule clean-up deletes what begins with logs/ after 365 days: disable the rule, or except the prefix from it";
    let status = world
        .told("executions", "False", "ExpiredByOthers", says)
        .await?;
    assert_eq!(retention(&status).state, "Drifted");
    let status = world
        .installed
        .ready("executions", "False", "ExpiredByOthers")
        .await?;
    assert!(condition(&status, "Stalled").is_some());
    // It is somebody else's, so it stays.
    assert_eq!(world.rules().await?.len(), 1);
    let disabled = rule("clean-up", "logs/", 365).replace("Enabled", "Disabled");
    world.minio.set_lifecycle(BUCKET, &disabled).await?;
    world
        .told("executions", "True", "Enforced", "for ever")
        .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_for_a_retention_that_nobody_sees_to_is_told() -> Result<()> {
    let Some(world) = World::start_or_skip().await? else {
        return Ok(());
    };
    let mut policy = world.policy("logs", &json!({}));
    let store = &mut policy["spec"]["sinks"][0]["objectStorage"]["s3"];
    let store = store.as_object_mut().context("no store")?;
    store.remove("managementSecretRef");
    world.apply(&policy).await?;
    world
        .told("logs", "Unknown", "NotManaged", "name an access key")
        .await?;
    world.installed.ready("logs", "True", "InForce").await?;
    policy["spec"]["retention"] = json!("30d");
    world.apply(&policy).await?;
    let status = world
        .told("logs", "False", "NotManaged", "name an access key")
        .await?;
    assert_eq!(retention(&status).state, "Unsupported");
    assert!(world.rules().await?.is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_and_locks_of_a_bucket_are_told() -> Result<()> {
    let Some(minio) = Minio::start_or_skip(None).await? else {
        return Ok(());
    };
    minio.make_bucket_with_lock(BUCKET).await?;
    let world = World::of(minio, None, &least_privilege()?).await?;
    let locking = "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention><Mode>GOVERNANCE</Mode><Days>45</Days></DefaultRetention></Rule></ObjectLockConfiguration>";
    let path = format!("/{BUCKET}");
    let body = Bytes::from_static(locking.as_bytes());
    let answer = world
        .minio
        .request(&Method::PUT, &path, "object-lock=", body)
        .await?;
    assert_eq!(answer.status, 200);
    world
        .apply(&world.policy("logs", &json!({"retention": "30d"})))
        .await?;
    let says = "Object Lock (GOVERNANCE) holds each object for 45 days, whatever the rules say";
    world.told("logs", "True", "Enforced", says).await?;
    let (ours, _) = world.ours_and_others().await?;
    assert!(
        ours[0].contains("<NoncurrentDays>1</NoncurrentDays>"),
        "{ours:?}"
    );
    Ok(())
}
