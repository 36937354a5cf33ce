//! Clocks that are set while a container writes: the agent measures time by itself and reads files in their order.

use std::{
    fs::File,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result};
use katonic_logging_e2e::{
    program,
    receiver::{Fault, Received, RetryAfter, Times},
    simulated::{
        Agent, Load, Stream, WallClock,
        load::numbered_line,
        policy::{self, TOKEN_FILE},
    },
};

use super::{
    CONTAINER, ENDLESS, LIMIT, ROTATE_AT, TOKEN, UNDISTURBED, assert_accounted, assert_all_came,
    collector, mounted, said, some, start,
};

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;
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

/// The clock of the agent's own machine: set while it waits until a date, while lines wait to be sent, and before it begins.
#[tokio::test]
async fn the_agents_own_clock_may_be_set_by_days_while_it_waits_and_no_wait_becomes_a_day()
-> Result<()> {
    /// How long the sink asks for patience.
    const ASKED: Duration = Duration::from_secs(3);
    let Some(clock) = WallClock::new_or_skip().await? else {
        return Ok(());
    };
    let receiver = collector().await?;
    let sink = policy::splunk("splunk", &receiver.url())?;
    let pod = mounted(vec![sink], &[(TOKEN_FILE, TOKEN)])?;
    let program = program::build("katonic-log-agent", "katonic-log-agent")?;
    // A day behind the sink, whose dates are then a day ahead.
    clock.set(-DAY)?;
    let flush = ["--flush-ms", "500"];
    let agent = Agent::start_with(&program, &pod, &flush, &clock.environment())?;
    let log = pod.container(CONTAINER, ROTATE_AT)?;
    let load = Load::start(log, ENDLESS, 1_000.try_into()?);
    receiver.until("some lines", LIMIT, some(500)).await?;
    let told: serde_json::Value =
        serde_json::from_str(said(&pod)?.lines().next().context("it said nothing")?)?;
    let yesterday = SystemTime::now() - Duration::from_secs(DAY.unsigned_abs());
    let behind = k8s_openapi::jiff::Timestamp::try_from(yesterday)?.to_string();
    let (day, _) = behind.split_once('T').context("no date")?;
    let time = told["time"].as_str().unwrap_or_default();
    assert!(time.starts_with(day), "{time}, not on {day}");

    // Each is set while it waits until the date that the one before was to know.
    for ahead in [-DAY, DAY, -DAY, 0, DAY] {
        let date = SystemTime::now() + ASKED;
        let before = receiver.inspect(|received| received.answers(429));
        let asked = Fault::retry_after(429, RetryAfter::At(date));
        receiver.misbehave(asked, Times::Exactly(1));
        let told = move |received: &Received| received.answers(429) > before;
        receiver.until("the date is told", LIMIT, told).await?;
        clock.set(ahead)?;
        let answered = receiver.inspect(|received| received.answered.len());
        let next = move |received: &Received| received.answered.len() > answered;
        receiver.until("the next attempt", LIMIT, next).await?;
        let pause = receiver.inspect(|received| {
            let [.., refused, next] = &received.answered[..=answered] else {
                return None;
            };
            Some(next.at - refused.at)
        });
        let pause = pause.context("too few answers")?;
        // The header has whole seconds.
        let least = ASKED.saturating_sub(Duration::from_secs(2));
        assert!(
            (least..ASKED + UNDISTURBED).contains(&pause),
            "{pause:?} when set to {ahead:+} s"
        );
    }
    // Lines wait for others at any moment of these.
    for ahead in [-DAY, DAY, 0].into_iter().cycle().take(9) {
        clock.set(ahead)?;
        let before = receiver.inspect(|received| received.records.len());
        let more = move |received: &Received| received.records.len() > before;
        receiver.until("more lines", UNDISTURBED, more).await?;
    }
    let printed = load.stop().await?.at.len();
    let every = some(printed);
    receiver.until("every line", LIMIT, every).await?;
    assert!(agent.terminate(LIMIT).await?.success(), "{}", said(&pod)?);
    assert_eq!(assert_accounted(&pod, printed)?, u64::try_from(printed)?);
    let tally = receiver.inspect(|received| assert_all_came(&received.records, printed));
    assert_eq!(tally.duplicates, 0, "{tally}");
    Ok(())
}
