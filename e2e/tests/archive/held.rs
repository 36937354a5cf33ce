//! What holds an archive up is told with what to do about it; nothing is lost, and nothing is there twice afterwards.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use http::Method;
use katonic_logging_e2e::{
    eventually::eventually,
    simulated::{Load, Stream},
};
use serde_json::json;
use tokio::task::spawn_blocking;

use crate::{
    BUCKET, CONTAINER, LIMIT, Store, assert_whole, counts, end, launch, least_privilege, mount,
    pod_of, said, says, start,
};

const LINES: usize = 2_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_does_not_exist_yet_is_waited_for() -> Result<()> {
    let Some(store) = Store::start_or_skip().await? else {
        return Ok(());
    };
    let path = format!("/{BUCKET}");
    let deleted = store
        .minio
        .request(&Method::DELETE, &path, "", Bytes::new())
        .await?;
    assert_eq!(deleted.status, 204);
    let pod = pod_of(&store, store.sink(1_000_000, 100)?)?;
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
        "HTTP 404 NoSuchBucket: there is no bucket `platform-logs`: create it, or correct bucket",
    )
    .await?;
    store.minio.make_bucket(BUCKET).await?;
    end(agent, &pod).await?;
    assert_whole(&store.archived().await?, LINES)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_that_is_missing_is_named_and_waited_for() -> Result<()> {
    let Some(mut store) = Store::start_or_skip().await? else {
        return Ok(());
    };
    let nothing = json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Action": ["s3:PutObject"], "Resource": ["arn:aws:s3:::elsewhere/*"]}]});
    store.user = store.minio.user("other", "of-another", &nothing).await?;
    let pod = pod_of(&store, store.sink(1_000_000, 100)?)?;
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
        "allow these credentials s3:PutObject on arn:aws:s3:::platform-logs/logs/*",
    )
    .await?;
    store
        .minio
        .user("other", "of-another", &least_privilege()?)
        .await?;
    end(agent, &pod).await?;
    assert_whole(&store.archived().await?, LINES)
}

/// The agent makes up for it with what this answer says; a clock that is wrong cannot be given to one process alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_with_another_time_is_answered_with_the_stores() -> Result<()> {
    let Some(store) = Store::start_or_skip().await? else {
        return Ok(());
    };
    let time = SystemTime::now() - Duration::from_hours(1);
    let path = format!("/{BUCKET}/key");
    let answer = store.minio.request_at(time, &Method::PUT, &path).await?;
    let body = String::from_utf8(answer.body.to_vec())?;
    assert!(
        answer.status == 403 && body.contains("<Code>RequestTimeTooSkewed</Code>"),
        "{body}"
    );
    let date = httpdate::parse_http_date(&answer.date.context("no date")?)?;
    let off = date.elapsed().unwrap_or_else(|error| error.duration());
    assert!(off < Duration::from_secs(30), "{off:?}");
    Ok(())
}

/// The old key is refused from one moment to the next; the new one is mounted a while later.
#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_are_rotated_while_objects_are_on_their_way_lose_nothing() -> Result<()> {
    const LINES: usize = 20_000;
    let Some(mut store) = Store::start_or_skip().await? else {
        return Ok(());
    };
    let mut pod = pod_of(&store, store.sink(50_000, 50)?)?;
    let agent = start(&pod).await?;
    let load = Load::start(pod.container(CONTAINER, 400_000)?, LINES, 4_000.try_into()?);
    for round in 1..=3 {
        load.until(LINES * round / 4, LIMIT).await?;
        let secret = format!("of-the-agents-{round}");
        store.user = store
            .minio
            .user("agent", &secret, &least_privilege()?)
            .await?;
        says(&pod, "SignatureDoesNotMatch").await?;
        let sink = store.sink(50_000, 50)?;
        mount(&mut pod, &store.user, sink)?;
    }
    load.finish().await?;
    let message = end(agent, &pod).await?;
    assert_eq!(
        counts(&message),
        json!({"delivered": LINES, "lost": 0, "dropped": 0})
    );
    assert!(!said(&pod)?.contains("of-the-agents"));
    assert_whole(&store.archived().await?, LINES)
}

/// More is written than the kubelet keeps: what it has deleted is held by the agent.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_down_while_a_large_log_is_written_and_rotated_loses_nothing() -> Result<()>
{
    const LINES: usize = 300_000;
    let Some(mut store) = Store::start_or_skip().await? else {
        return Ok(());
    };
    let pod = pod_of(&store, store.sink(16_000_000, 1_000)?)?;
    let agent = start(&pod).await?;
    store.minio.kill()?;
    // About 35 MB in files of 3 MB, of which five are kept.
    Load::start(
        pod.container(CONTAINER, 3_000_000)?,
        LINES,
        50_000.try_into()?,
    )
    .finish()
    .await?;
    says(&pod, "Unreachable").await?;
    store.minio.start_again().await?;
    let message = end(agent, &pod).await?;
    assert_eq!(
        counts(&message),
        json!({"delivered": LINES, "lost": 0, "dropped": 0})
    );
    let archived = store.archived().await?;
    assert!(
        archived.objects.len() > 6,
        "{} objects",
        archived.objects.len()
    );
    assert_whole(&archived, LINES)
}

/// A GiB in files of which the kubelet keeps a GiB, as `containerLogMaxSize` and `containerLogMaxFiles` can say: memory and the
/// agent's own disk do not grow with it.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_down_while_a_gibibyte_is_written_takes_no_more_memory_or_disk()
-> Result<()> {
    const LINE: usize = 16_000;
    const LINES: usize = (1 << 30) / LINE;
    let Some(mut store) = Store::start_or_skip().await? else {
        return Ok(());
    };
    let pod = pod_of(&store, store.sink(16_000_000, 60_000)?)?;
    let agent = start(&pod).await?;
    store.minio.kill()?;
    let mut log = pod.container(CONTAINER, 220 << 20)?;
    let rest = "x".repeat(LINE - 24);
    let written = spawn_blocking(move || {
        (1..=LINES).try_for_each(|number| {
            let line = format!("line {number:06} of {LINES:06} {rest}");
            log.line(Stream::Stdout, line.as_bytes())
        })
    });
    written.await??;
    says(&pod, "Unreachable").await?;
    // What waits for the store is one object, however much was written.
    let waiting = size_of(&pod.state_dir())?;
    assert!((1..16_000_000).contains(&waiting), "{waiting} bytes wait");
    store.minio.start_again().await?;
    eventually("nearly everything is archived", 2 * LIMIT, async || {
        let keys = store.minio.keys(BUCKET, "logs/").await?;
        Ok((keys.len() > LINE * LINES / 16_000_000).then_some(()))
    })
    .await?;
    let peak = peak(agent.id())?;
    assert!(
        peak < 32 << 10,
        "{peak} KiB of memory, and a pod gives 32 MiB"
    );
    let message = end(agent, &pod).await?;
    assert_eq!(
        counts(&message),
        json!({"delivered": LINES, "lost": 0, "dropped": 0})
    );
    // Object by object: all of it together is more than a test should hold.
    let mut numbers = Vec::with_capacity(LINES);
    for key in store.minio.keys(BUCKET, "logs/").await? {
        let content = store.minio.object(BUCKET, &key).await?;
        if key.ends_with(".ndjson.gz") {
            numbers.extend(numbers_of(&content)?);
        }
    }
    assert!(numbers.iter().copied().eq(1..=LINES), "{}", numbers.len());
    Ok(())
}

/// The numbers of the lines in an object.
fn numbers_of(object: &[u8]) -> Result<Vec<usize>> {
    let mut unpacked = BufReader::new(MultiGzDecoder::new(object));
    let mut numbers = Vec::new();
    let mut line = String::new();
    while unpacked.read_line(&mut line)? > 0 {
        let (_, rest) = line
            .split_once(r#""message":"line "#)
            .context("no numbered line")?;
        let (number, _) = rest.split_once(' ').context("no number")?;
        numbers.push(number.parse()?);
        line.clear();
    }
    Ok(numbers)
}

/// Bytes of the files in a folder.
fn size_of(folder: &Path) -> Result<u64> {
    let sizes = std::fs::read_dir(folder)?.map(|entry| Ok(entry?.metadata()?.len()));
    sizes.sum()
}

/// The most memory that a process had, in KiB.
fn peak(process: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let peak = line.and_then(|line| line.split_whitespace().nth(1));
    Ok(peak.context("no VmHWM")?.parse()?)
}

/// What cannot be archived before the pod is gone is counted and no completeness record says otherwise; an agent that is
/// started again goes on where the store has ended.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_down_at_the_end_of_the_pod_is_told_and_made_up_for() -> Result<()> {
    let Some(mut store) = Store::start_or_skip().await? else {
        return Ok(());
    };
    let pod = pod_of(&store, store.sink(100_000, 100)?)?;
    store.minio.kill()?;
    Load::start(
        pod.container(CONTAINER, u64::MAX)?,
        LINES,
        20_000.try_into()?,
    )
    .finish()
    .await?;
    let agent = launch(&pod, &["--drain-seconds", "3"])?;
    says(&pod, "Unreachable").await?;
    let message = end(agent, &pod).await?;
    assert_eq!(
        counts(&message),
        json!({"delivered": 0, "lost": LINES, "dropped": 0})
    );
    store.minio.start_again().await?;
    assert!(store.archived().await?.records.is_empty());
    let message = end(start(&pod).await?, &pod).await?;
    assert_eq!(
        counts(&message),
        json!({"delivered": LINES, "lost": 0, "dropped": 0})
    );
    assert_whole(&store.archived().await?, LINES)
}
