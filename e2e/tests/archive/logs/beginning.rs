//! Where a log begins, and runs of which there is nothing: what is not there although it was printed is told, and what was never
//! printed is not missed.

use anyhow::{Context as _, Result};
use katonic_log_config::Policy;
use katonic_logging_e2e::{
    eventually::eventually,
    simulated::{
        Stream,
        load::numbered_line,
        policy::{ACCESS_KEY_ID_FILE, SECRET_ACCESS_KEY_FILE},
    },
};

use super::{Said, faults::delete};
use crate::{
    BUCKET, CONTAINER, EXECUTION, LIMIT, Store, bundle, end, execution, launch, mount, pod_of,
    rights_of, start,
};

/// What the command says of what agents have archived.
async fn logs(store: &Store) -> Result<Said> {
    let rights = rights_of("readers")?;
    let reader = store
        .minio
        .user("reader", "of-the-readers", &rights)
        .await?;
    let url = store.minio.url();
    let mut arguments = vec![EXECUTION, "--bucket", BUCKET, "--prefix", "logs"];
    arguments.extend(["--endpoint", &url, "-o", "json"]);
    Said::of(&arguments, Some(&reader)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_that_print_nothing_are_recorded_and_not_missed() -> Result<()> {
    let Some(store) = Store::start_or_skip().await? else {
        return Ok(());
    };
    let pod = pod_of(&store, store.sink(1_000_000, 60_000)?)?;
    let agent = start(&pod).await?;
    let mut log = pod.container(CONTAINER, 1_000_000)?;
    log.restart()?;
    for number in 1..=100 {
        log.line(Stream::Stdout, numbered_line(number, 100).as_bytes())?;
    }
    log.restart()?;
    end(agent, &pod).await?;
    let said = logs(&store).await?;
    let verified = "verified: 100 lines, complete (3 runs)";
    assert_eq!(said.verdict(), (verified, Some(0)), "{}", said.stderr);
    let archived = store.archived().await?;
    let followed: Vec<_> = archived
        .records
        .values()
        .map(|record| (record.lines, record.about["followed"].as_bool()))
        .collect();
    assert_eq!(
        followed,
        [(0, Some(true)), (100, Some(true)), (0, Some(false))]
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_execution_that_printed_nothing_at_all_is_whole() -> Result<()> {
    let Some(store) = Store::start_or_skip().await? else {
        return Ok(());
    };
    let pod = pod_of(&store, store.sink(1_000_000, 60_000)?)?;
    let agent = start(&pod).await?;
    let _log = pod.container(CONTAINER, 1_000_000)?;
    end(agent, &pod).await?;
    let said = logs(&store).await?;
    let verified = "verified: 0 lines, complete";
    assert_eq!(said.verdict(), (verified, Some(0)), "{}", said.stderr);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn of_what_was_rotated_before_an_agent_was_there_nobody_says_that_it_is_whole() -> Result<()>
{
    let Some(store) = Store::start_or_skip().await? else {
        return Ok(());
    };
    let pod = pod_of(&store, store.sink(1_000_000, 60_000)?)?;
    let mut log = pod.container(CONTAINER, 1_000_000)?;
    for number in 1..=100 {
        log.line(Stream::Stdout, numbered_line(number, 100).as_bytes())?;
        if number == 50 {
            log.rotate()?;
        }
    }
    let agent = start(&pod).await?;
    end(agent, &pod).await?;
    let said = logs(&store).await?;
    let verdict = "not proven complete: 100 lines, nothing missing from where the archive begins; nobody has seen whether anything was before it of run-1/run";
    assert_eq!(said.verdict(), (verdict, Some(3)), "{}", said.stderr);
    Ok(())
}

/// An agent that is killed before it has archived anything goes on knowing how the run began.
#[tokio::test(flavor = "multi_thread")]
async fn how_a_run_began_survives_its_agent() -> Result<()> {
    let Some(store) = Store::start_or_skip().await? else {
        return Ok(());
    };
    let pod = pod_of(&store, store.sink(1_000_000, 60_000)?)?;
    let agent = start(&pod).await?;
    let mut log = pod.container(CONTAINER, 1_000_000)?;
    log.line(Stream::Stdout, numbered_line(1, 2).as_bytes())?;
    let state = pod.state_dir();
    eventually("what was read is saved", LIMIT, async || {
        let mut saved = std::fs::read_dir(&state)?;
        let begins = saved.any(|entry| {
            entry.is_ok_and(|entry| {
                // A digest stands before the text.
                let saved = std::fs::read(entry.path()).unwrap_or_default();
                let saved = String::from_utf8_lossy(&saved);
                saved.contains(r#""begins":true"#)
            })
        });
        Ok(begins.then_some(()))
    })
    .await?;
    agent.kill()?;
    log.rotate()?;
    log.line(Stream::Stdout, numbered_line(2, 2).as_bytes())?;
    let agent = start(&pod).await?;
    end(agent, &pod).await?;
    let said = logs(&store).await?;
    let verified = "verified: 2 lines, complete";
    assert_eq!(said.verdict(), (verified, Some(0)), "{}", said.stderr);
    Ok(())
}

/// A second policy comes when the beginning of the log is deleted already.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_of_which_the_beginning_was_gone_before_its_policy_came_begins_in_the_middle()
-> Result<()> {
    const LINES: usize = 700;
    let Some(store) = Store::start_or_skip().await? else {
        return Ok(());
    };
    let mut pod = execution()?;
    let sink = store.sink(1_000_000, 100)?;
    mount(&mut pod, &store.user, sink.clone())?;
    let agent = launch(&pod, &[])?;
    let mut log = pod.container(CONTAINER, 1_000_000)?;
    for number in 1..=LINES {
        log.line(Stream::Stdout, numbered_line(number, LINES).as_bytes())?;
        if number % 100 == 0 && number < LINES {
            // What an agent holds open is not lost to it, so each file is archived before the next one is begun.
            archives(&store, number).await?;
            log.rotate()?;
        }
    }
    archives(&store, LINES).await?;
    let first = store.minio.keys(BUCKET, "logs/").await?;
    let mut both = bundle(sink.clone());
    both.policies.push(Policy::of_everything(
        "later",
        "0b1c2d3e-7f0d-4b8e-9c58-0d5a1f6f3c12",
        vec![sink],
    ));
    let credentials = [
        (ACCESS_KEY_ID_FILE, store.user.id.as_str()),
        (SECRET_ACCESS_KEY_FILE, &store.user.secret),
    ];
    pod.mount(&both, &credentials)?;
    eventually("the later policy archives", LIMIT, async || {
        let keys = store.minio.keys(BUCKET, "logs/").await?;
        Ok((keys.len() > first.len()).then_some(()))
    })
    .await?;
    end(agent, &pod).await?;
    let said = logs(&store).await?;
    let verified = "verified: 700 lines, complete";
    assert_eq!(said.verdict(), (verified, Some(0)), "{}", said.stderr);
    // Of the later policy's archive alone a reader cannot see the first 200 lines, and is told.
    let one = first.first().context("nothing was archived")?;
    let (route, _) = one.split_once("-00000000-").context("no first object")?;
    for key in store.minio.keys(BUCKET, route).await? {
        delete(&store.minio, &key).await?;
    }
    let said = logs(&store).await?;
    said.fails(4, "the log begins in the middle, at byte 0 of log file ");
    assert!(
        said.verdict().0.starts_with("not complete: "),
        "{}",
        said.stderr
    );
    Ok(())
}

/// Waits until so many lines are archived.
async fn archives(store: &Store, lines: usize) -> Result<()> {
    eventually(format!("{lines} lines are archived"), LIMIT, async || {
        let archived = store.archived().await?;
        Ok((archived.lines().count() >= lines).then_some(()))
    })
    .await
}
