//! A sink that is away for long: the files are the queue, also when they are rotated, compressed and deleted meanwhile.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context as _, Result};
use katonic_logging_e2e::{
    eventually::eventually,
    receiver::{Receiver, Tally},
    simulated::{
        Agent, ContainerLog, Pod, Stream,
        load::numbered_line,
        policy::{self, TOKEN_FILE},
    },
};

use super::{
    CONTAINER, LIMIT, TOKEN, assert_accounted, assert_nothing_missing, collector, mounted, says,
    some, start,
};

const ROTATIONS: usize = 4;
/// Lines of each file.
const LINES: usize = 2_000;
const TOTAL: usize = (ROTATIONS + 1) * LINES;

/// How long the sink is away, by the times of the lines.
const AWAY: Duration = Duration::from_mins(10);

struct Outage {
    pod: Pod,
    receiver: Receiver,
    log: ContainerLog,
}

impl Outage {
    /// Some lines are delivered, then the sink is away.
    async fn begin() -> Result<(Self, Agent)> {
        let receiver = collector().await?;
        let sink = policy::splunk("splunk", &receiver.url())?;
        let pod = mounted(vec![sink], &[(TOKEN_FILE, TOKEN)])?;
        let mut outage = Self {
            log: pod.container(CONTAINER, u64::MAX)?,
            pod,
            receiver,
        };
        outage.write(1..=LINES / 2)?;
        let agent = start(&outage.pod)?;
        let half = some(LINES / 2);
        outage
            .receiver
            .until("the first lines", LIMIT, half)
            .await?;
        outage.receiver.close_port().await;
        outage.write(LINES / 2 + 1..=LINES)?;
        says(&outage.pod, "Unreachable", 1).await?;
        Ok((outage, agent))
    }

    fn write(&mut self, numbers: impl IntoIterator<Item = usize>) -> Result<()> {
        for number in numbers {
            self.log
                .line(Stream::Stdout, numbered_line(number, TOTAL).as_bytes())?;
        }
        Ok(())
    }

    /// Time passes, and the log is rotated and goes on.
    fn rotate(&mut self, rotation: usize) -> Result<()> {
        let share = AWAY.as_secs() / u64::try_from(ROTATIONS)?;
        self.log.set_clock(share.try_into()?);
        self.log.rotate()?;
        self.write(rotation * LINES + 1..=(rotation + 1) * LINES)
    }

    /// The sink is back; each line came, and they cover the time.
    async fn end(mut self, agent: Agent) -> Result<Tally> {
        self.receiver.open_port().await?;
        self.receiver
            .until("every line", LIMIT, some(TOTAL))
            .await?;
        assert!(agent.terminate(LIMIT).await?.success());
        assert_eq!(assert_accounted(&self.pod, TOTAL)?, u64::try_from(TOTAL)?);
        let times: Vec<f64> = self.receiver.inspect(|received| {
            let times = received.records.iter();
            times
                .filter_map(|record| record.about("time").parse().ok())
                .collect()
        });
        let (first, last) = (times.first(), times.last());
        let covered = last.context("no time")? - first.context("no time")?;
        assert!(covered >= AWAY.as_secs_f64(), "{covered} s of log time");
        Ok(assert_nothing_missing(&self.receiver, TOTAL))
    }
}

#[tokio::test]
async fn ten_minutes_of_log_time_and_four_rotations_are_caught_up_with() -> Result<()> {
    let (mut outage, agent) = Outage::begin().await?;
    for rotation in 1..=ROTATIONS {
        outage.rotate(rotation)?;
        // Real rotations are at least ten seconds apart.
        holds(&agent, rotation + 1).await?;
    }
    let tally = outage.end(agent).await?;
    assert_eq!(tally.duplicates, 0, "{tally}");
    Ok(())
}

/// The agent is killed as well: the next one finds what the kubelet has compressed.
#[tokio::test]
async fn an_agent_that_is_killed_meanwhile_reads_on_in_what_was_compressed() -> Result<()> {
    let (mut outage, agent) = Outage::begin().await?;
    outage.rotate(1)?;
    holds(&agent, 2).await?;
    agent.kill()?;
    for rotation in 2..=ROTATIONS {
        outage.rotate(rotation)?;
    }
    let names = std::fs::read_dir(outage.pod.log_dir().join(CONTAINER))?;
    let packed = names.flatten().filter(|entry| {
        entry
            .path()
            .extension()
            .is_some_and(|ending| ending == "gz")
    });
    assert_eq!(packed.count(), 3);
    let agent = start(&outage.pod)?;
    outage.end(agent).await?;
    Ok(())
}

/// Waits until the agent holds so many log files open.
async fn holds(agent: &Agent, files: usize) -> Result<()> {
    let descriptors = format!("/proc/{}/fd", agent.id());
    let what = format!("the agent holds {files} files open");
    eventually(what, LIMIT, async || {
        let mut open = BTreeSet::new();
        for entry in std::fs::read_dir(&descriptors)? {
            // A descriptor may be closed in between.
            let Ok(target) = std::fs::read_link(entry?.path()) else {
                continue;
            };
            if target
                .to_string_lossy()
                .contains(&format!("/{CONTAINER}/0.log"))
            {
                open.insert(target);
            }
        }
        Ok((open.len() >= files).then_some(()))
    })
    .await
}
