//! Ends of the agent at fifty random moments under load: a container prints, and lines are on their way.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use futures::future::try_join_all;
use katonic_logging_e2e::{
    receiver::{Received, Receiver, Tally, tally::sequence_number},
    simulated::{
        Agent, ContainerLog, Load, Moments, Pod,
        load::Printed,
        policy::{self, TOKEN_FILE},
    },
};
use tokio::time::sleep;

use super::{
    CONTAINER, ENDLESS, LIMIT, ROTATE_AT, TOKEN, assert_accounted, assert_all_came, collector,
    mounted, said, says, some, start,
};

/// Pods at the same time; an agent waits more than it works.
const PODS: usize = 5;
/// Ends of the agent of each pod: fifty in all.
const ENDS: usize = 10;

const LINES_PER_SECOND: u32 = 500;

/// Longest life of an agent: it starts, reads, sends and saves in it.
const LONGEST: Duration = Duration::from_millis(600);

/// Finer than the time between two moments at which a container prints.
const LOOK: Duration = Duration::from_millis(1);

/// A pod whose agent ends again and again.
struct Scene {
    receiver: Receiver,
    pod: Pod,
    /// Lines that were printed by containers that have ended.
    printed: usize,
    came: Came,
}

/// Which lines came, as far as was looked.
#[derive(Default)]
struct Came {
    seen: usize,
    numbers: BTreeSet<usize>,
}

impl Came {
    fn look(&mut self, receiver: &Receiver) -> usize {
        receiver.inspect(|received| {
            let new = &received.records[self.seen..];
            let numbers = new
                .iter()
                .filter_map(|record| sequence_number(&record.line));
            self.numbers.extend(numbers.map(|(number, _)| number));
            self.seen = received.records.len();
        });
        self.numbers.len()
    }
}

impl Scene {
    async fn begin() -> Result<Self> {
        let receiver = collector().await?;
        let sink = policy::splunk("splunk", &receiver.url())?;
        Ok(Self {
            pod: mounted(vec![sink], &[(TOKEN_FILE, TOKEN)])?,
            receiver,
            printed: 0,
            came: Came::default(),
        })
    }

    fn print(&self, log: ContainerLog) -> Result<Load> {
        let rate = LINES_PER_SECOND.try_into()?;
        Ok(Load::go_on(log, self.printed, ENDLESS, rate))
    }

    /// A moment, or the first after it at which lines are on their way.
    async fn under_load(&mut self, load: &Load, moment: Duration) -> Result<()> {
        sleep(moment).await;
        let begun = Instant::now();
        while self.came.look(&self.receiver) >= self.printed + load.printed() {
            ensure!(begun.elapsed() < LIMIT, "nothing is on its way any more");
            sleep(LOOK).await;
        }
        ensure!(load.is_printing(), "the container has ended before");
        Ok(())
    }

    /// The signal, and then, within milliseconds, the end of the container. What was printed before the signal is delivered
    /// when the agent has ended; says whether what was printed after it is, too.
    async fn terminate(&mut self, agent: Agent, load: Load) -> Result<(ContainerLog, bool)> {
        let signalled = Instant::now();
        // The first of them has sent the signal when the second begins.
        let (status, stopped) = tokio::join!(agent.terminate(LIMIT), load.stop());
        let (status, Printed { log, at }) = (status?, stopped?);
        let after = at.last().context("nothing was printed")?;
        ensure!(*after >= signalled, "it printed nothing after the signal");
        let said = said(&self.pod)?;
        assert!(status.success(), "{status}: {said}");
        let came = self.came.look(&self.receiver);
        // The last one may only be about to be written.
        let before = at.iter().filter(|at| **at < signalled).count();
        let least = self.printed + before.saturating_sub(1);
        let missing = (1..=least).find(|number| !self.came.numbers.contains(number));
        assert_eq!(missing, None, "of {least} lines: {said}");
        let delivered = assert_accounted(&self.pod, came)?;
        assert_eq!(delivered, u64::try_from(came)?, "{said}");
        self.printed += at.len();
        Ok((log, came == self.printed))
    }

    /// The container has ended for good, and everything that it has printed came.
    async fn end(&self) -> Result<Tally> {
        let started = said(&self.pod)?.matches("\"started\"").count();
        let agent = start(&self.pod)?;
        says(&self.pod, "\"started\"", started + 1).await?;
        let printed = self.printed;
        let every = self
            .receiver
            .until("every line", LIMIT, some(printed))
            .await;
        every.with_context(|| said(&self.pod).unwrap_or_default())?;
        assert!(agent.terminate(LIMIT).await?.success());
        // Cursors and counts are saved together, so what is sent again is counted once.
        let delivered = assert_accounted(&self.pod, printed)?;
        assert_eq!(delivered, u64::try_from(printed)?);
        let records = |received: &Received| assert_all_came(&received.records, printed);
        Ok(self.receiver.inspect(records))
    }
}

async fn terminate_again_and_again(mut moments: Moments) -> Result<()> {
    let mut scene = Scene::begin().await?;
    let mut log = scene.pod.container(CONTAINER, ROTATE_AT)?;
    let mut whole = 0;
    for end in 1..=ENDS {
        let agent = start(&scene.pod)?;
        let load = scene.print(log)?;
        // Before that it has no handler for the signal.
        says(&scene.pod, "\"started\"", end).await?;
        scene.under_load(&load, moments.next(LONGEST)).await?;
        let ended = scene.terminate(agent, load).await;
        let (next, is_whole) = ended.with_context(|| format!("end {end}"))?;
        whole += usize::from(is_whole);
        log = next;
    }
    let tally = scene.end().await?;
    assert_eq!(tally.duplicates, 0, "cursors are saved at the end");
    // On a busy machine a container's last line can be so late that no agent waits for it.
    assert!(whole > ENDS / 2, "{whole} of {ENDS} ends");
    Ok(())
}

#[tokio::test]
async fn ended_at_fifty_random_moments_it_has_delivered_all_that_was_written_before() -> Result<()>
{
    let mut moments = Moments::of_any_seed()?;
    let pods = (0..PODS).map(|_| terminate_again_and_again(moments.split()));
    try_join_all(pods).await.map(drop)
}

/// Every other time at any moment of its life, and in between after it has delivered something.
async fn kill_again_and_again(mut moments: Moments) -> Result<()> {
    let mut scene = Scene::begin().await?;
    let load = scene.print(scene.pod.container(CONTAINER, ROTATE_AT)?)?;
    for end in 1..=ENDS {
        let before = scene.receiver.inspect(|received| received.records.len());
        let agent = start(&scene.pod)?;
        if end % 2 == 0 {
            let more = move |received: &Received| received.records.len() > before;
            scene.receiver.until("its lines", LIMIT, more).await?;
        }
        scene.under_load(&load, moments.next(LONGEST)).await?;
        agent.kill()?;
    }
    scene.printed = load.stop().await?.at.len();
    scene.end().await.map(drop)
}

#[tokio::test]
async fn killed_at_fifty_random_moments_it_loses_nothing_and_repeats_only_what_is_told_by_id()
-> Result<()> {
    let mut moments = Moments::of_any_seed()?;
    let pods = (0..PODS).map(|_| kill_again_and_again(moments.split()));
    try_join_all(pods).await.map(drop)
}
