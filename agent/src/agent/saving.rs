//! Saves cursors beside everything else, because the disk may be slow. Decides when, not what.

use std::{
    io,
    time::{Duration, Instant},
};

use tokio::{
    task::{JoinHandle, spawn_blocking},
    time::timeout,
};

use crate::cursor::{Crash, State, Store};

/// Shortest time between two saves.
const PAUSE: Duration = Duration::from_millis(200);

/// A save takes one part in so many of the time, however large the cursors are and however slow the disk is.
const SHARE: u32 = 20;

/// Shortest time between two saves that wait for the disk. What a crash of the node costs is sent twice.
const SYNC: Duration = Duration::from_secs(5);

/// Shortest time before the next attempt after a failure.
const AFTER_FAILURE: Duration = Duration::from_secs(1);

/// How long the end of the pod waits for a disk.
const LAST: Duration = Duration::from_secs(1);

/// Saving of cursors.
#[derive(Debug)]
pub(super) struct Saving {
    store: Store,
    sequence: u64,
    task: Option<JoinHandle<Saved>>,
    next: Instant,
    next_sync: Instant,
    /// Whether something was saved that a crash of the node would take away.
    unsynced: bool,
}

#[derive(Debug)]
struct Saved {
    result: io::Result<()>,
    took: Duration,
    against: Crash,
}

/// How a save went that had been begun.
#[derive(Debug)]
pub(super) enum Outcome {
    Saved,
    Failed(String),
}

impl Saving {
    /// Goes on after what was saved as `sequence`.
    pub(super) fn new(store: Store, sequence: u64) -> Self {
        Self {
            store,
            sequence,
            task: None,
            next: Instant::now(),
            next_sync: Instant::now() + SYNC,
            unsynced: false,
        }
    }

    /// How the last save went, once it has ended.
    pub(super) async fn outcome(&mut self) -> Option<Outcome> {
        let task = self.task.take_if(|task| task.is_finished())?;
        Some(self.ended(task.await.map_err(io::Error::other)))
    }

    fn ended(&mut self, saved: io::Result<Saved>) -> Outcome {
        let now = Instant::now();
        let reason = match saved {
            Ok(Saved {
                result,
                took,
                against,
            }) => {
                self.next = now + PAUSE.max(took * SHARE);
                if against == Crash::Node {
                    self.next_sync = now + SYNC.max(took * SHARE);
                    self.unsynced = result.is_err();
                } else {
                    self.unsynced = true;
                }
                result.err()
            }
            Err(error) => Some(error),
        };
        reason.map_or(Outcome::Saved, |error| {
            self.next = self.next.max(now + AFTER_FAILURE);
            Outcome::Failed(error.to_string())
        })
    }

    /// Whether it is time to save; `dirty` says whether anything has changed.
    pub(super) fn is_due(&self, dirty: bool) -> bool {
        let now = Instant::now();
        let sync = self.unsynced && now >= self.next_sync;
        self.task.is_none() && now >= self.next && (dirty || sync)
    }

    /// Begins to save.
    pub(super) fn begin(&mut self, state: State) {
        let against = if Instant::now() >= self.next_sync {
            Crash::Node
        } else {
            Crash::Process
        };
        self.spawn(state, against);
    }

    fn spawn(&mut self, mut state: State, against: Crash) {
        self.sequence += 1;
        state.sequence = self.sequence;
        let store = self.store.clone();
        self.task = Some(spawn_blocking(move || {
            let begun = Instant::now();
            let result = store.save(&state, against);
            Saved {
                result,
                took: begun.elapsed(),
                against,
            }
        }));
    }

    /// Saves for an agent that is started again; waits for the disk, but not long.
    pub(super) async fn last(&mut self, state: State) -> Outcome {
        let saved = async {
            if let Some(task) = self.task.take() {
                // It would put older cursors over these.
                let _ = task.await;
            }
            self.spawn(state, Crash::Process);
            match self.task.take() {
                Some(task) => task.await.map_err(io::Error::other),
                None => Err(io::ErrorKind::NotFound.into()),
            }
        };
        match timeout(LAST, saved).await {
            Ok(saved) => self.ended(saved),
            Err(_) => Outcome::Failed("the disk does not answer".to_owned()),
        }
    }
}
