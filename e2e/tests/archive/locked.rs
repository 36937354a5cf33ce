//! Objects that are locked: nobody can delete them before their time, and each line is there once all the same.

use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http::Method;
use katonic_log_config::{LockMode, ObjectLock, Sink, Target};
use katonic_logging_e2e::{receiver::Minio, simulated::Load};
use serde_json::json;

use crate::{
    BUCKET, CONTAINER, Store, assert_whole, end, least_privilege, pod_of, said, says, start,
};

const LINES: usize = 2_000;
const DAYS: u32 = 3;

/// A sink of the store whose objects are locked.
fn locking(store: &Store) -> Result<Sink> {
    let mut sink = store.sink(50_000, 100)?;
    let Target::ObjectStorage(storage) = &mut sink.target else {
        anyhow::bail!("the sink is no archive");
    };
    let katonic_log_config::Store::S3(s3) = &mut storage.store else {
        anyhow::bail!("MinIO is a store of S3's protocol");
    };
    s3.object_lock = Some(ObjectLock {
        mode: LockMode::Governance,
        days: DAYS.try_into()?,
    });
    Ok(sink)
}

/// The documented rights of agents that lock what they put.
fn rights() -> Result<serde_json::Value> {
    let mut policy = least_privilege()?;
    policy["Statement"][0]["Action"] = json!(["s3:PutObject", "s3:PutObjectRetention"]);
    Ok(policy)
}

/// The text of the first element of this name.
fn text(xml: &str, name: &str) -> Result<String> {
    let (_, rest) = xml
        .split_once(&format!("<{name}>"))
        .with_context(|| format!("no {name} in {xml}"))?;
    let (text, _) = rest.split_once('<').context("no end")?;
    Ok(text.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_are_locked_for_as_long_as_the_sink_says_also_by_an_agent_that_is_killed()
-> Result<()> {
    let Some(minio) = Minio::start_or_skip(None).await? else {
        return Ok(());
    };
    minio.make_bucket_with_lock(BUCKET).await?;
    let user = minio.user("agent", "of-the-agents", &rights()?).await?;
    let store = Store { minio, user };
    let before = SystemTime::now();
    let pod = pod_of(&store, locking(&store)?)?;
    let agent = start(&pod).await?;
    let load = Load::start(
        pod.container(CONTAINER, u64::MAX)?,
        LINES,
        2_000.try_into()?,
    );
    load.until(LINES / 2, crate::LIMIT).await?;
    agent.kill()?;
    let agent = start(&pod).await?;
    load.finish().await?;
    end(agent, &pod).await?;
    assert_whole(&store.archived().await?, LINES)?;
    let keys = store.minio.keys(BUCKET, "logs/").await?;
    ensure!(keys.len() > 2, "{keys:?}");
    for key in &keys {
        let path = format!("/{BUCKET}/{key}");
        let answer = store
            .minio
            .request(&Method::GET, &path, "retention=", Bytes::new())
            .await?;
        let xml = String::from_utf8(answer.body.to_vec())?;
        assert_eq!(text(&xml, "Mode")?, "GOVERNANCE");
        let until: k8s_openapi::jiff::Timestamp = text(&xml, "RetainUntilDate")?.parse()?;
        let locked = SystemTime::from(until).duration_since(before)?;
        let days = Duration::from_hours(u64::from(24 * DAYS));
        // To the second, from when the object was cut.
        assert!(locked + Duration::from_secs(1) >= days, "{locked:?}");
        assert!(locked < days + crate::LIMIT, "{locked:?}");
    }
    let first = keys.first().context("no object")?;
    let versions = format!("prefix={first}&versions=").replace('/', "%2F");
    let path = format!("/{BUCKET}");
    let answer = store
        .minio
        .request(&Method::GET, &path, &versions, Bytes::new())
        .await?;
    let version = text(&String::from_utf8(answer.body.to_vec())?, "VersionId")?;
    let path = format!("/{BUCKET}/{first}");
    let delete = format!("versionId={version}");
    let answer = store
        .minio
        .request(&Method::DELETE, &path, &delete, Bytes::new())
        .await?;
    // MinIO's root may lift the lock only where the request says that it should.
    assert!(answer.status >= 400, "HTTP {}", answer.status);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_without_locks_is_named_and_nothing_is_lost() -> Result<()> {
    let Some(mut store) = Store::start_or_skip().await? else {
        return Ok(());
    };
    store.user = store.minio.user("other", "of-another", &rights()?).await?;
    let pod = pod_of(&store, locking(&store)?)?;
    let agent = start(&pod).await?;
    Load::start(
        pod.container(CONTAINER, u64::MAX)?,
        LINES,
        20_000.try_into()?,
    )
    .finish()
    .await?;
    says(
        &pod,
        "the bucket `platform-logs` does not lock objects: make it anew with Object Lock, or remove objectLock",
    )
    .await?;
    // It is made anew.
    let path = format!("/{BUCKET}");
    let deleted = store
        .minio
        .request(&Method::DELETE, &path, "", Bytes::new())
        .await?;
    assert_eq!(deleted.status, 204);
    store.minio.make_bucket_with_lock(BUCKET).await?;
    end(agent, &pod).await?;
    assert_whole(&store.archived().await?, LINES)?;
    assert!(!said(&pod)?.contains(&store.user.secret));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_right_to_lock_is_named_where_it_is_missing() -> Result<()> {
    let Some(minio) = Minio::start_or_skip(None).await? else {
        return Ok(());
    };
    minio.make_bucket_with_lock(BUCKET).await?;
    let user = minio
        .user("agent", "of-the-agents", &least_privilege()?)
        .await?;
    let store = Store { minio, user };
    let pod = pod_of(&store, locking(&store)?)?;
    let agent = start(&pod).await?;
    Load::start(
        pod.container(CONTAINER, u64::MAX)?,
        LINES,
        20_000.try_into()?,
    )
    .finish()
    .await?;
    says(
        &pod,
        "allow these credentials s3:PutObject and s3:PutObjectRetention on arn:aws:s3:::platform-logs/logs/*",
    )
    .await?;
    let (id, secret) = (&store.user.id, &store.user.secret);
    store.minio.user(id, secret, &rights()?).await?;
    end(agent, &pod).await?;
    assert_whole(&store.archived().await?, LINES)
}
