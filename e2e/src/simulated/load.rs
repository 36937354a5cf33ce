//! A container that prints numbered lines while a test does something else, and how long each line took to arrive.

use std::{
    num::NonZeroU32,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
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
}

/// What a container has printed.
#[derive(Debug)]
pub struct Printed {
    /// Its log, to go on with.
    pub log: ContainerLog,
    /// When each line was printed, from number 1 on.
    pub at: Vec<Instant>,
}

impl Load {
    /// Prints the lines 1 to `total` to standard output, evenly.
    pub fn start(log: ContainerLog, total: usize, lines_per_second: NonZeroU32) -> Self {
        let printed_at = Arc::new(Mutex::new(Vec::with_capacity(total)));
        let shared = Arc::clone(&printed_at);
        let printing = thread::spawn(move || print(log, total, lines_per_second, &shared));
        Self {
            printing,
            printed_at,
        }
    }

    /// How many lines were printed so far.
    pub fn printed(&self) -> usize {
        lock(&self.printed_at).len()
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

fn print(
    mut log: ContainerLog,
    total: usize,
    lines_per_second: NonZeroU32,
    printed_at: &Mutex<Vec<Instant>>,
) -> Result<ContainerLog> {
    let begun = Instant::now();
    let mut printed = 0;
    while printed < total {
        let due = begun.elapsed().as_micros() * u128::from(lines_per_second.get()) / 1_000_000;
        let due = usize::try_from(due).unwrap_or(total).min(total);
        while printed < due {
            printed += 1;
            // Before it is written, or it might come before it was printed.
            lock(printed_at).push(Instant::now());
            log.line(Stream::Stdout, numbered_line(printed, total).as_bytes())?;
        }
        thread::sleep(STEP);
    }
    Ok(log)
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
}
