//! Each sink's record is judged by itself, and what may have expired is no damage.

use anyhow::{Context as _, Result, ensure};
use katonic_log_config::{Policy, archive::route};
use katonic_logging_e2e::{eventually::eventually, simulated::Pod};

use super::{
    Opened, Said, TRACKER, mount, number, policy_of, reader, record, remove, tracker, write,
    written,
};
use crate::{BUCKET, LIMIT, Store, end, said, start};

#[tokio::test(flavor = "multi_thread")]
async fn two_sinks_in_one_bucket_are_two_verdicts() -> Result<()> {
    const EVENTS: usize = 40;
    let Some(store) = Store::start_or_skip().await? else {
        return Ok(());
    };
    let mut copy = record(&store, 4_000, 100)?;
    copy.name = "copy".to_owned();
    let mut first = record(&store, 4_000, 100)?;
    first.name = "first".to_owned();
    let pod = tracker(&store, vec![first, copy])?;
    let mut log = pod.container(TRACKER, u64::MAX)?;
    let agent = start(&pod).await?;
    write(&mut log, 0..EVENTS)?;
    end(agent, &pod).await?;
    let auditor = reader(&store.minio).await?;
    let of = |sink: &str| route("uid-of-audit", sink);
    let said = Said::of(&store.minio, &auditor, &["verify"]).await?;
    let mut expected = ["first", "copy"].map(|sink| {
        let route = of(sink);
        format!("{route}: complete: 40 events, chain intact")
    });
    expected.sort_unstable();
    let lines: Vec<&str> = said.stdout.lines().collect();
    assert_eq!(
        (lines, said.code),
        (expected.iter().map(String::as_str).collect(), Some(0)),
        "{said:?}"
    );
    // What is done to one of them is not said of the other, and stands last.
    let keys = store.minio.keys(BUCKET, "logs/audit/").await?;
    let key = keys
        .iter()
        .find(|key| key.contains(&of("copy")) && key.ends_with(".ndjson.gz"))
        .context("no object")?;
    let mut opened = Opened::of(&store.minio, key).await?;
    opened.lines.remove(1);
    opened.put(&store.minio).await?;
    let said = Said::of(&store.minio, &auditor, &["verify"]).await?;
    let (last, code) = said.verdict();
    let damaged = format!("{}: incomplete: 39 events, 1 missing, ", of("copy"));
    assert!(last.starts_with(&damaged) && code == Some(4), "{said:?}");
    let whole = format!("{}: complete: 40 events, chain intact", of("first"));
    assert!(said.stdout.lines().any(|line| line == whole), "{said:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_beginning_that_may_have_expired_is_told_and_a_gap_is_damage_all_the_same() -> Result<()>
{
    const EVENTS: usize = 200;
    let Some(store) = Store::start_or_skip().await? else {
        return Ok(());
    };
    written(&store, EVENTS).await?;
    let auditor = reader(&store.minio).await?;
    let keys = store.minio.keys(BUCKET, "logs/audit/").await?;
    let objects: Vec<&String> = keys
        .iter()
        .filter(|key| key.ends_with(".ndjson.gz"))
        .collect();
    ensure!(objects.len() > 4, "{keys:?}");
    let first = Opened::of(&store.minio, objects[1]).await?;
    let first = number(&first.lines[0])?;
    remove(&store.minio, objects[0]).await?;
    let keeping = ["verify", "--retention", "30d"];
    let said = Said::of(&store.minio, &auditor, &keeping).await?;
    let begins = format!("not proven: it begins with event {first}, stored at 2");
    assert!(said.stdout.starts_with(&begins), "{said:?}");
    let events = EVENTS as u64 + 1 - first;
    let open = format!("not proven complete: {events} events, chain intact, 1 stream open");
    assert_eq!(said.verdict(), (open.as_str(), Some(3)), "{said:?}");
    // Where nothing expires it was removed.
    let said = Said::of(&store.minio, &auditor, &["verify"]).await?;
    assert_eq!(said.code, Some(4), "{said:?}");
    remove(&store.minio, objects[2]).await?;
    let said = Said::of(&store.minio, &auditor, &keeping).await?;
    assert_eq!(said.code, Some(4), "{said:?}");
    assert!(said.stdout.contains(" are missing, between "), "{said:?}");
    let wrong = Said::of(&store.minio, &auditor, &["verify", "--retention", "soon"]).await?;
    assert_eq!(wrong.code, Some(2), "{wrong:?}");
    assert!(
        wrong
            .stderr
            .contains("write a number of days, for example 30d, or Forever"),
        "{wrong:?}"
    );
    Ok(())
}

/// The kubelet brings the next bundle while the pod runs.
async fn put_in_force(pod: &mut Pod, store: &Store, policies: Vec<Policy>) -> Result<()> {
    let applied = |pod: &Pod| Ok::<_, anyhow::Error>(said(pod)?.matches("bundle applied").count());
    let before = applied(pod)?;
    mount(pod, store, policies)?;
    eventually("the bundle is in force", LIMIT, async || {
        Ok((applied(pod)? > before).then_some(()))
    })
    .await
}

/// A policy that is suspended, and a sink that is left out for a while.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_taken_up_again_goes_on_with_its_numbers() -> Result<()> {
    const PART: usize = 30;
    let Some(store) = Store::start_or_skip().await? else {
        return Ok(());
    };
    let auditor = reader(&store.minio).await?;
    let sink = || record(&store, 4_000, 100);
    let mut other = sink()?;
    other.name = "other".to_owned();
    let mut pod = tracker(&store, vec![sink()?])?;
    let mut log = pod.container(TRACKER, u64::MAX)?;
    let agent = start(&pod).await?;
    let stored = async |count: usize| {
        eventually(format!("{count} events are stored"), LIMIT, async || {
            let listed = Said::of(&store.minio, &auditor, &["list", "-o", "json"]).await?;
            Ok((listed.stdout.lines().count() >= count).then_some(()))
        })
        .await
    };
    write(&mut log, 0..PART)?;
    stored(PART).await?;
    // Out of force: what is written meanwhile waits in the log.
    put_in_force(&mut pod, &store, Vec::new()).await?;
    write(&mut log, PART..2 * PART)?;
    put_in_force(&mut pod, &store, vec![policy_of(vec![sink()?])]).await?;
    stored(2 * PART).await?;
    put_in_force(&mut pod, &store, vec![policy_of(vec![other.clone()])]).await?;
    write(&mut log, 2 * PART..3 * PART)?;
    put_in_force(&mut pod, &store, vec![policy_of(vec![sink()?, other])]).await?;
    write(&mut log, 3 * PART..4 * PART)?;
    end(agent, &pod).await?;
    let verified = Said::of(&store.minio, &auditor, &["verify"]).await?;
    let whole = format!(
        "{}: complete: {} events, chain intact",
        route("uid-of-audit", "archive"),
        4 * PART
    );
    assert!(
        verified.stdout.lines().any(|line| line == whole),
        "{verified:?}"
    );
    assert_eq!(verified.code, Some(0), "{verified:?}");
    Ok(())
}
