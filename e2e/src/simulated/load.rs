//! A container that prints numbered lines while a test does something else, and how long each line took to arrive.

use std::{
    num::NonZeroU32,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow};

use super::{ContainerLog, Stream};
use crate::{
    eventually::eventually,
    receiver::{Received, tally::sequence_number},
};

/// How often the container prints.
const STEP: Duration = Duration::from_millis(10);

/// The line that a tally counts: `line 000001 of 020000`, and text of various lengths after it.
pub fn numbered_line(number: usize, total: usize) -> String {
    let rest = "the rest of it ".repeat(number % 8);
    format!("line {number:06} of {total:06} {rest}")
}

/// A container that prints. Dropping this does not end it: it prints to its last line.
#[derive(Debug)]
pub struct Load {
    printing: JoinHandle<Result<ContainerLog>>,
    printed_at: Arc<Mutex<Vec<Instant>>>,
    /// It prints one more line, and that is its last.
    last: Arc<AtomicBool>,
}

/// What a container has printed.
#[derive(Debug)]
pub struct Printed {
    /// Its log, to go on with.
    pub log: ContainerLog,
    /// When each line was printed, from the first on.
    pub at: Vec<Instant>,
}

impl Load {
    /// Prints the lines 1 to `total` to standard output, evenly.
    pub fn start(log: ContainerLog, total: usize, lines_per_second: NonZeroU32) -> Self {
        Self::go_on(log, 0, total, lines_per_second)
    }

    /// As [`Self::start`], where so many lines of `total` were printed before.
    pub fn go_on(
        log: ContainerLog,
        before: usize,
        total: usize,
        lines_per_second: NonZeroU32,
    ) -> Self {
        let printed_at = Arc::default();
        let last = Arc::default();
        let task = Printing {
            before,
            total,
            lines_per_second,
            printed_at: Arc::clone(&printed_at),
            last: Arc::clone(&last),
        };
        Self {
            printing: thread::spawn(move || task.print(log)),
            printed_at,
            last,
        }
    }

    /// How many lines were printed so far.
    pub fn printed(&self) -> usize {
        lock(&self.printed_at).len()
    }

    /// Whether it has not printed its last line.
    pub fn is_printing(&self) -> bool {
        !self.printing.is_finished()
    }

    /// The container is told to end: it prints one line more and does so at once.
    pub async fn stop(self) -> Result<Printed> {
        self.last.store(true, Ordering::Release);
        self.printing.thread().unpark();
        self.finish().await
    }

    /// Waits until so many lines were printed: a moment in the middle of the load.
    pub async fn until(&self, lines: usize, limit: Duration) -> Result<()> {
        eventually(format!("{lines} lines are printed"), limit, async || {
            Ok((self.printed() >= lines).then_some(()))
        })
        .await
    }

    /// Waits for the last line.
    pub async fn finish(self) -> Result<Printed> {
        let ended = tokio::task::spawn_blocking(move || self.printing.join());
        let log = ended
            .await
            .context("failed to wait for the container")?
            .map_err(|_| anyhow!("the container panicked"))??;
        let at = std::mem::take(&mut *lock(&self.printed_at));
        Ok(Printed { log, at })
    }
}

impl Printed {
    /// How long each line took from being printed to being received for the first time, the shortest first.
    pub fn latencies(&self, received: &Received) -> Vec<Duration> {
        let mut first: Vec<Option<Instant>> = vec![None; self.at.len()];
        for (record, came_at) in received.records.iter().zip(&received.came_at) {
            let place = sequence_number(&record.line)
                .and_then(|(number, _)| first.get_mut(number.checked_sub(1)?));
            if let Some(first) = place {
                first.get_or_insert(*came_at);
            }
        }
        let mut latencies: Vec<_> = first
            .into_iter()
            .zip(&self.at)
            .filter_map(|(came_at, printed_at)| Some(came_at?.duration_since(*printed_at)))
            .collect();
        latencies.sort_unstable();
        latencies
    }
}

/// The value that so many percent of the sorted values are not above; zero when there is none.
pub fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let place = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(place).copied().unwrap_or_default()
}

/// What the container's thread works with.
struct Printing {
    before: usize,
    total: usize,
    lines_per_second: NonZeroU32,
    printed_at: Arc<Mutex<Vec<Instant>>>,
    last: Arc<AtomicBool>,
}

impl Printing {
    fn print(self, mut log: ContainerLog) -> Result<ContainerLog> {
        let begun = Instant::now();
        let all = self.total.saturating_sub(self.before);
        let mut printed = 0;
        while printed < all {
            let due =
                begun.elapsed().as_micros() * u128::from(self.lines_per_second.get()) / 1_000_000;
            let due = usize::try_from(due).unwrap_or(all).min(all);
            while printed < due && !self.is_last() {
                printed += 1;
                self.line(printed, &mut log)?;
            }
            if self.is_last() {
                return self.line(printed + 1, &mut log).map(|()| log);
            }
            thread::park_timeout(STEP);
        }
        Ok(log)
    }

    fn is_last(&self) -> bool {
        self.last.load(Ordering::Acquire)
    }

    fn line(&self, number: usize, log: &mut ContainerLog) -> Result<()> {
        // Before it is written, or it might come before it was printed.
        lock(&self.printed_at).push(Instant::now());
        let line = numbered_line(self.before + number, self.total);
        log.line(Stream::Stdout, line.as_bytes())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{receiver::Record, simulated::Pod};

    #[tokio::test]
    async fn all_lines_are_printed_and_the_first_arrival_counts() {
        let pod = Pod::new("compute", "run-1", &[]).unwrap();
        let log = pod.container("run", u64::MAX).unwrap();
        let rate = NonZeroU32::new(10_000).unwrap();
        let load = Load::start(log, 300, rate);
        load.until(100, Duration::from_secs(10)).await.unwrap();
        let printed = load.finish().await.unwrap();
        let text = std::fs::read_to_string(pod.log_dir().join("run/0.log")).unwrap();
        assert_eq!(text.lines().count(), 300);
        assert!(text.contains("stdout F line 000300 of 000300 "));
        let record = |number| Record {
            line: numbered_line(number, 300),
            ..Record::default()
        };
        let at = |number: usize, after: u64| printed.at[number - 1] + Duration::from_millis(after);
        let received = Received {
            records: vec![record(1), record(2), record(1)],
            came_at: vec![at(1, 20), at(2, 10), at(1, 900)],
            ..Received::default()
        };
        let latencies = printed.latencies(&received);
        assert_eq!(latencies, [10, 20].map(Duration::from_millis));
        assert_eq!(percentile(&latencies, 50), Duration::from_millis(10));
        assert_eq!(percentile(&latencies, 99), Duration::from_millis(20));
        assert_eq!(percentile(&[], 99), Duration::ZERO);
    }

    #[tokio::test]
    async fn a_container_that_is_told_to_end_prints_one_line_more_and_another_goes_on() {
        let pod = Pod::new("compute", "run-1", &[]).unwrap();
        let log = pod.container("run", u64::MAX).unwrap();
        // Fewer lines in all than it has time for.
        let rate = NonZeroU32::new(20).unwrap();
        let load = Load::start(log, 1_000, rate);
        load.until(2, Duration::from_secs(10)).await.unwrap();
        assert!(load.is_printing());
        let told = Instant::now();
        let first = load.stop().await.unwrap();
        assert_eq!(first.at.iter().filter(|at| **at >= told).count(), 1);
        let before = first.at.len();
        let load = Load::go_on(first.log, before, before + 3, rate);
        assert_eq!(load.finish().await.unwrap().at.len(), 3);
        let text = std::fs::read_to_string(pod.log_dir().join("run/0.log")).unwrap();
        let numbers = text.lines().filter_map(|line| {
            let (_, line) = line.split_once(" F ")?;
            sequence_number(line).map(|(number, _)| number)
        });
        assert!(numbers.eq(1..=before + 3), "{text}");
    }
}
