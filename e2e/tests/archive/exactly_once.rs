//! Whatever happens to the agent, each line is in the archive once.

use std::time::{Duration, Instant};

use anyhow::Result;
use katonic_log_config::{ArchiveLayout, Bundle, Filter, Pattern};
use katonic_logging_e2e::{
    eventually::eventually,
    receiver::{Authority, Minio},
    simulated::{
        Load, Stream,
        load::numbered_line,
        policy::{self, ACCESS_KEY_ID_FILE, CA_FILE, SECRET_ACCESS_KEY_FILE},
    },
};
use serde_json::json;

use crate::{
    BUCKET, CONTAINER, EXECUTION, LABEL, LIMIT, Store, assert_whole, counts, end, launch, pod_of,
    said, start,
};

/// Kills of the agent, each at a moment that nobody has chosen.
const KILLS: u32 = 100;

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_killed_a_hundred_times_archives_each_line_once() -> Result<()> {
    const LINES: usize = 60_000;
    let Some(store) = Store::start_or_skip().await? else {
        return Ok(());
    };
    // Objects are cut by the clock, not by their size: none would be cut alike a second time.
    let pod = pod_of(&store, store.sink(4_000_000, 50)?)?;
    let mut agent = launch(&pod, &[])?;
    // The kubelet keeps five files: half a minute of this load, so that nothing is gone before an agent has seen it.
    let log = pod.container(CONTAINER, 1_000_000)?;
    let load = Load::start(log, LINES, 1_500.try_into()?);
    for kill in 0..KILLS {
        // From the first steps of the process to the middle of several objects.
        let life = Duration::from_millis(u64::from(kill.wrapping_mul(2_654_435_761) >> 20) % 800);
        tokio::time::sleep(life).await;
        agent.kill()?;
        agent = launch(&pod, &[])?;
    }
    load.finish().await?;
    agent.kill()?;
    end(start(&pod).await?, &pod).await?;
    let archived = store.archived().await?;
    assert_whole(&archived, LINES)?;
    assert!(
        archived.objects.len() > 30,
        "{} objects",
        archived.objects.len()
    );
    let files: std::collections::BTreeSet<_> = archived
        .objects
        .values()
        .map(|object| &object.file)
        .collect();
    assert!(files.len() > 5, "rotated {} times", files.len());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_killed_in_the_middle_has_each_line_once() -> Result<()> {
    const LINES: usize = 20_000;
    let Some(mut store) = Store::start_or_skip().await? else {
        return Ok(());
    };
    let pod = pod_of(&store, store.sink(100_000, 100)?)?;
    let agent = start(&pod).await?;
    let load = Load::start(pod.container(CONTAINER, 400_000)?, LINES, 2_000.try_into()?);
    for part in 1..=4 {
        load.until(LINES * part / 5, LIMIT).await?;
        store.minio.kill()?;
        store.minio.start_again().await?;
    }
    load.finish().await?;
    let message = end(agent, &pod).await?;
    assert_eq!(
        counts(&message),
        json!({"delivered": LINES, "lost": 0, "dropped": 0})
    );
    assert_whole(&store.archived().await?, LINES)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_of_a_short_job_is_one_object_within_a_second_of_its_end() -> Result<()> {
    let Some(store) = Store::start_or_skip().await? else {
        return Ok(());
    };
    let pod = pod_of(&store, store.sink(16_000_000, 60_000)?)?;
    let agent = start(&pod).await?;
    let mut log = pod.container(CONTAINER, u64::MAX)?;
    for number in 1..=10 {
        log.line(Stream::Stdout, numbered_line(number, 10).as_bytes())?;
    }
    let ended = Instant::now();
    let message = end(agent, &pod).await?;
    let took = ended.elapsed();
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert_eq!(
        counts(&message),
        json!({"delivered": 10, "lost": 0, "dropped": 0})
    );
    let archived = store.archived().await?;
    assert_whole(&archived, 10)?;
    let keys: Vec<_> = archived.objects.keys().collect();
    let [key] = keys[..] else {
        panic!("{keys:?}");
    };
    let folder = format!("logs/executions/{EXECUTION}/run-1_{}/run/0000-", pod.uid);
    assert!(key.starts_with(&folder), "{key}");
    Ok(())
}

/// Restarts, both streams, lines that are cut by a rotation, and a policy that leaves lines out.
#[tokio::test(flavor = "multi_thread")]
async fn each_run_of_a_container_has_a_completeness_record_of_its_own() -> Result<()> {
    const LINES: usize = 3_000;
    let Some(store) = Store::start_or_skip().await? else {
        return Ok(());
    };
    let mut pod = pod_of(&store, store.sink(16_000_000, 60_000)?)?;
    let mut bundle = Bundle {
        execution_id_label: Some(LABEL.to_owned()),
        ..policy::bundle(vec![store.sink(100_000, 1_000)?])
    };
    bundle.policies[0].filters = vec![Filter::Drop(Pattern::try_from("^noise".to_owned())?)];
    let (id, secret) = (&store.user.id, &store.user.secret);
    let credentials = [
        (ACCESS_KEY_ID_FILE, id.as_str()),
        (SECRET_ACCESS_KEY_FILE, secret),
    ];
    pod.mount(&bundle, &credentials)?;
    let agent = start(&pod).await?;
    let mut log = pod.container(CONTAINER, 60_000)?;
    for number in 1..=LINES {
        log.line(Stream::Stderr, b"noise")?;
        log.line(Stream::Stdout, numbered_line(number, LINES).as_bytes())?;
        if number % 1_000 == 0 && number < LINES {
            log.restart()?;
        }
    }
    // The first run is recorded while the pod runs: the container was restarted.
    let first = format!("logs/executions/{EXECUTION}/run-1_{}/run/0000-", pod.uid);
    eventually("the first run is recorded", LIMIT, async || {
        let keys = store.minio.keys(BUCKET, &first).await?;
        Ok(keys
            .iter()
            .any(|key| key.ends_with("-complete.json"))
            .then_some(()))
    })
    .await?;
    let message = end(agent, &pod).await?;
    assert_eq!(
        counts(&message),
        json!({"delivered": LINES, "lost": 0, "dropped": LINES})
    );
    let archived = store.archived().await?;
    assert_whole(&archived, LINES)?;
    let runs: Vec<_> = archived
        .records
        .values()
        .map(|record| {
            (
                record.about["restart"].as_u64(),
                record.lines,
                record.dropped,
            )
        })
        .collect();
    assert_eq!(
        runs,
        [
            (Some(0), 1_000, 1_000),
            (Some(1), 1_000, 1_000),
            (Some(2), 1_000, 1_000)
        ]
    );
    let record = archived.records.values().next().expect("a record");
    assert_eq!(record.about["execution_id"], EXECUTION);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_with_tls_gets_every_line_once() -> Result<()> {
    const LINES: usize = 2_000;
    let authority = Authority::new()?;
    let Some(minio) = Minio::start_or_skip(Some(&authority)).await? else {
        return Ok(());
    };
    let store = Store::prepared(minio).await?;
    let mut pod = pod_of(&store, store.sink(1_000_000, 1_000)?)?;
    let bundle = Bundle {
        execution_id_label: Some(LABEL.to_owned()),
        ..policy::bundle(vec![policy::archive(
            &store.minio.url(),
            BUCKET,
            ArchiveLayout::Application,
            1_000_000,
            1_000,
        )?])
    };
    let (id, secret) = (&store.user.id, &store.user.secret);
    let ca = authority.certificate_pem();
    let credentials = [
        (ACCESS_KEY_ID_FILE, id.as_str()),
        (SECRET_ACCESS_KEY_FILE, secret),
        (CA_FILE, &ca),
    ];
    pod.mount(&bundle, &credentials)?;
    let agent = start(&pod).await?;
    Load::start(
        pod.container(CONTAINER, u64::MAX)?,
        LINES,
        20_000.try_into()?,
    )
    .finish()
    .await?;
    end(agent, &pod).await?;
    let archived = store.archived().await?;
    assert_whole(&archived, LINES)?;
    let key = archived.objects.keys().next().expect("an object");
    let folder = format!("logs/application/katonic-compute/run-1_{}/run/", pod.uid);
    assert!(key.starts_with(&folder), "{key}");
    assert!(!said(&pod)?.contains(secret.as_str()));
    Ok(())
}
