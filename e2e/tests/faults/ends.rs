//! Ends of the agent at fifty random moments under load.

use std::{
    collections::BTreeSet,
    hash::{BuildHasher as _, RandomState},
    time::Duration,
};

use anyhow::Result;
use katonic_logging_e2e::{
    receiver::{Receiver, tally::sequence_number},
    simulated::{
        Load, Pod,
        policy::{self, TOKEN_FILE},
    },
};

use super::{
    CONTAINER, LIMIT, ROTATE_AT, TOKEN, assert_accounted, assert_nothing_missing, collector,
    mounted, said, says, some, start,
};

const ENDS: usize = 50;
const LINES: usize = 40_000;
const LINES_PER_SECOND: u32 = 2_000;

/// Longest life of an agent: it starts, reads, sends, saves in it, and has at times nothing to do.
const LONGEST: Duration = Duration::from_millis(600);

fn scene(receiver: &Receiver) -> Result<(Pod, Load)> {
    let sink = policy::splunk("splunk", &receiver.url())?;
    let pod = mounted(vec![sink], &[(TOKEN_FILE, TOKEN)])?;
    let log = pod.container(CONTAINER, ROTATE_AT)?;
    Ok((pod, Load::start(log, LINES, LINES_PER_SECOND.try_into()?)))
}

/// The moment itself: nothing is waited for.
async fn random_moment() {
    let [part, ..] = RandomState::new().hash_one(()).to_le_bytes();
    tokio::time::sleep(LONGEST * u32::from(part) / 256).await;
}

#[tokio::test]
async fn ended_at_fifty_random_moments_it_has_delivered_all_that_was_written_before() -> Result<()>
{
    let receiver = collector().await?;
    let (pod, load) = scene(&receiver)?;
    for end in 1..=ENDS {
        let agent = start(&pod)?;
        says(&pod, "\"started\"", end).await?;
        random_moment().await;
        // The last one may only be about to be written.
        let written = load.printed().saturating_sub(1);
        let status = agent.terminate(LIMIT).await?;
        assert!(status.success(), "end {end}: {status}: {}", said(&pod)?);
        let came = numbers(&receiver);
        let missing: Vec<_> = (1..=written)
            .filter(|number| !came.contains(number))
            .collect();
        assert!(missing.is_empty(), "end {end}: {missing:?} of {written}");
        assert_accounted(&pod, came.len())?;
    }
    load.finish().await?;
    let agent = start(&pod)?;
    receiver.until("every line", LIMIT, some(LINES)).await?;
    assert!(agent.terminate(LIMIT).await?.success());
    assert_eq!(assert_accounted(&pod, LINES)?, u64::try_from(LINES)?);
    let tally = assert_nothing_missing(&receiver, LINES);
    assert_eq!(
        tally.duplicates, 0,
        "its cursors are saved at its end: {tally}"
    );
    Ok(())
}

#[tokio::test]
async fn killed_at_fifty_random_moments_it_loses_nothing_and_repeats_only_what_is_told_by_id()
-> Result<()> {
    let receiver = collector().await?;
    let (pod, load) = scene(&receiver)?;
    for _ in 0..ENDS {
        let agent = start(&pod)?;
        random_moment().await;
        agent.kill()?;
    }
    load.finish().await?;
    let agent = start(&pod)?;
    receiver.until("every line", LIMIT, some(LINES)).await?;
    assert!(agent.terminate(LIMIT).await?.success());
    // Cursors and counts are saved together, so what is sent again is counted once.
    assert_eq!(assert_accounted(&pod, LINES)?, u64::try_from(LINES)?);
    assert_nothing_missing(&receiver, LINES);
    Ok(())
}

fn numbers(receiver: &Receiver) -> BTreeSet<usize> {
    receiver.inspect(|received| {
        let records = received.records.iter();
        records
            .filter_map(|record| Some(sequence_number(&record.line)?.0))
            .collect()
    })
}
