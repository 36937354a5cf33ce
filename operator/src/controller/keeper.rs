//! Looks after buckets in the background: each by a task of its own, so that a store that hangs delays nobody. Decides nothing.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use katonic_logging_core::retention::{
    BucketId, Custodies, Custody, Outcome, Retention, Seen, Standing, Trouble, decide, questions,
};
use tokio::{
    sync::{Semaphore, watch},
    task::JoinHandle,
    time::timeout,
};

use crate::{
    bucket::{Bucket, Written as WriteOutcome},
    cache::{Change, Signal},
    health::Health,
    metrics::Outcome as Written,
};

/// Buckets that are looked at at the same time.
const CONCURRENCY: usize = 8;

/// How long one look may take, with all that is written.
const LOOK: Duration = Duration::from_mins(5);

/// How long to wait after trouble, at first; at most as long as between two looks.
const RETRY: Duration = Duration::from_secs(1);

/// Reads of the rules in one look. S3 and Azure have no condition for writing them, so what was written is read back, and written
/// again at every second read where it is not there: a read may be older than a write (Amazon S3: "data consistency model").
const READS: u32 = 6;

/// Wait before the second read; twice as long before each that follows.
const READ_BACK: Duration = Duration::from_millis(100);

/// Looks, one after the other, that found rules of ours changed, before another tool is taken to want them otherwise.
const CONTESTED: u32 = 3;

type Outcomes = Arc<Mutex<BTreeMap<BucketId, Outcome>>>;

/// Looks after buckets.
#[derive(Debug)]
pub struct Keeper {
    tasks: BTreeMap<BucketId, Task>,
    outcomes: Outcomes,
    permits: Arc<Semaphore>,
    interval: Duration,
    signal: Arc<Signal>,
    health: Arc<Health>,
}

#[derive(Debug)]
struct Task {
    custody: watch::Sender<Custody>,
    handle: JoinHandle<()>,
}

impl Drop for Task {
    fn drop(&mut self) {
        self.handle.abort();
    }
}

impl Keeper {
    /// One that looks after nothing yet, and at each bucket again after `interval`.
    pub fn new(interval: Duration, signal: &Arc<Signal>, health: &Arc<Health>) -> Self {
        Self {
            tasks: BTreeMap::new(),
            outcomes: Outcomes::default(),
            permits: Arc::new(Semaphore::new(CONCURRENCY)),
            interval,
            signal: signal.clone(),
            health: health.clone(),
        }
    }

    /// Looks after these buckets from now on, and after no others.
    pub fn follow(&mut self, custodies: &Custodies) {
        self.tasks
            .retain(|bucket, _| custodies.buckets.contains_key(bucket));
        lock(&self.outcomes).retain(|bucket, _| custodies.buckets.contains_key(bucket));
        for (bucket, custody) in &custodies.buckets {
            if let Some(task) = self.tasks.get(bucket) {
                task.custody.send_if_modified(|known| {
                    let is_other = !known.asks_the_same(custody);
                    known.clone_from(custody);
                    is_other
                });
            } else {
                let task = self.look_after(bucket.clone(), custody.clone());
                self.tasks.insert(bucket.clone(), task);
            }
        }
    }

    /// What came of it; a bucket is missing while it has not been looked at.
    pub fn outcomes(&self) -> BTreeMap<BucketId, Outcome> {
        lock(&self.outcomes).clone()
    }

    fn look_after(&self, id: BucketId, custody: Custody) -> Task {
        let (sender, mut asked) = watch::channel(custody);
        let outcomes = self.outcomes.clone();
        let (permits, interval) = (self.permits.clone(), self.interval);
        let (signal, health) = (self.signal.clone(), self.health.clone());
        let handle = tokio::spawn(async move {
            let (mut retry, mut found_changed) = (RETRY, 0);
            let mut is_settled = false;
            // The status says so, too, a little later: what somebody changes meanwhile is put right without asking.
            let mut kept = BTreeMap::new();
            loop {
                let mut custody = asked.borrow_and_update().clone();
                for (prefix, place) in &mut custody.places {
                    place.established = kept.get(prefix).copied().or(place.established);
                }
                let looked = {
                    // Closed by nobody.
                    let _permit = permits.acquire().await;
                    timeout(LOOK, look(&custody, &health)).await
                };
                let looked = looked.unwrap_or_else(|_| {
                    Err(Trouble::unreachable(
                        &id,
                        "it took longer than five minutes",
                    ))
                });
                health.metrics.looked(Written::of(&looked));
                let (outcome, wait) = match looked {
                    Ok(Looked { standing, wrote }) => {
                        retry = RETRY;
                        if wrote && is_settled {
                            found_changed += 1;
                            tracing::warn!(bucket = %id, "somebody has changed lifecycle rules of ours: they are put right");
                        } else {
                            found_changed = 0;
                        }
                        is_settled = true;
                        kept.extend(established(&standing));
                        if found_changed < CONTESTED {
                            (Outcome::Known(standing), interval)
                        } else {
                            (Outcome::Trouble(Trouble::contested(&id)), interval)
                        }
                    }
                    Err(trouble) => {
                        tracing::warn!(bucket = %id, reason = trouble.reason.as_str(), message = %trouble.message, "failed to look after a bucket");
                        let wait = retry.min(interval);
                        retry = (retry * 2).min(interval);
                        (Outcome::Trouble(trouble), wait)
                    }
                };
                let before = lock(&outcomes).insert(id.clone(), outcome.clone());
                if before.as_ref() != Some(&outcome) {
                    signal.raise(Change::Status);
                }
                match timeout(wait, asked.changed()).await {
                    // Nobody has changed anything.
                    Err(_) => {}
                    Ok(Ok(())) => {
                        (is_settled, found_changed, retry) = (false, 0, RETRY);
                    }
                    Ok(Err(_)) => return,
                }
            }
        });
        Task {
            custody: sender,
            handle,
        }
    }
}

/// How long each place is kept, where that is as it is asked.
fn established(standing: &Standing) -> impl Iterator<Item = (String, Retention)> {
    let places = standing.places.iter();
    places
        .filter(|(_, place)| place.kept == place.wanted)
        .map(|(prefix, place)| (prefix.clone(), place.kept))
}

fn lock(outcomes: &Outcomes) -> std::sync::MutexGuard<'_, BTreeMap<BucketId, Outcome>> {
    outcomes.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a look has found and done.
struct Looked {
    standing: Standing,
    wrote: bool,
}

/// Looks at a bucket, and makes it as it should be.
async fn look(custody: &Custody, health: &Health) -> Result<Looked, Trouble> {
    let mut bucket = Bucket::new(custody)?;
    let id = custody.id.clone();
    let (versioning, lock) = bucket.safeguards().await?;
    let mut wrote = false;
    let mut wait = READ_BACK;
    let mut logs: BTreeMap<String, bool> = BTreeMap::new();
    let mut read = 0;
    while read < READS {
        let rules = bucket.rules().await?;
        let mut open = questions(custody, &rules.lifecycle);
        open.retain(|prefix| !logs.contains_key(prefix));
        for prefix in &open {
            let has_logs = bucket.has_earlier_logs(prefix).await?;
            logs.insert(prefix.clone(), has_logs);
        }
        if !open.is_empty() {
            // That takes a while. What others have written meanwhile is to be among what is written: between a read and the
            // write that is made of it there is no other request.
            continue;
        }
        let seen = Seen {
            lifecycle: rules.lifecycle.clone(),
            versioning,
            lock: lock.clone(),
            logs: logs.clone(),
        };
        let decision = decide(custody, &seen).map_err(|error| Trouble::unreadable(&id, &error))?;
        let Some(lifecycle) = decision.write else {
            return Ok(Looked {
                standing: decision.standing,
                wrote,
            });
        };
        if read % 2 == 0 {
            let written = bucket.write_rules(&lifecycle, &rules).await;
            health
                .metrics
                .wrote("LifecycleConfiguration", Written::of(&written));
            wrote |= written? == WriteOutcome::Done;
        }
        tokio::time::sleep(wait).await;
        wait *= 2;
        read += 1;
    }
    Err(Trouble::contested(&id))
}

#[cfg(test)]
mod tests;
