//! Clocks that are set while a container writes: the agent measures time by itself and reads files in their order.

use std::{
    fs::File,
    time::{Duration, SystemTime},
};

use anyhow::Result;
use katonic_logging_e2e::simulated::{
    Stream,
    load::numbered_line,
    policy::{self, TOKEN_FILE},
};

use super::{CONTAINER, LIMIT, TOKEN, assert_accounted, collector, mounted, some, start};

const HOUR: i64 = 3600;
const LINES: usize = 1_000;

#[tokio::test]
async fn clocks_that_are_set_back_and_forth_lose_and_repeat_nothing() -> Result<()> {
    let receiver = collector().await?;
    let sink = policy::splunk("splunk", &receiver.url())?;
    let pod = mounted(vec![sink], &[(TOKEN_FILE, TOKEN)])?;
    let mut log = pod.container(CONTAINER, u64::MAX)?;
    let live = pod.log_dir().join(CONTAINER).join("0.log");
    let jumps = [0, 24 * HOUR, -48 * HOUR, HOUR, -HOUR, 366 * 24 * HOUR];
    let total = jumps.len() * LINES;
    let mut agent = start(&pod)?;
    for (round, jump) in jumps.into_iter().enumerate() {
        log.set_clock(jump);
        let first = round * LINES + 1;
        for number in first..first + LINES / 2 {
            log.line(Stream::Stdout, numbered_line(number, total).as_bytes())?;
        }
        receiver
            .until("the first half", LIMIT, some(first + LINES / 2 - 1))
            .await?;
        // The file system's clock is set, too.
        let far = Duration::from_secs(jump.unsigned_abs());
        let now = SystemTime::now();
        let modified = if jump < 0 { now - far } else { now + far };
        File::options()
            .append(true)
            .open(&live)?
            .set_modified(modified)?;
        for number in first + LINES / 2..first + LINES {
            log.line(Stream::Stdout, numbered_line(number, total).as_bytes())?;
        }
        receiver
            .until("the second half", LIMIT, some(first + LINES - 1))
            .await?;
        // Set back, the clock gives the next rotated file a name that sorts before the others'.
        log.rotate()?;
        if round == 3 {
            assert!(agent.terminate(LIMIT).await?.success());
            agent = start(&pod)?;
        }
    }
    assert!(agent.terminate(LIMIT).await?.success());
    assert_eq!(assert_accounted(&pod, total)?, u64::try_from(total)?);
    let tally = super::assert_nothing_missing(&receiver, total);
    assert_eq!(tally.duplicates, 0, "{tally}");
    Ok(())
}
