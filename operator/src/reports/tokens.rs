//! Whose a token is: asked of the API server once, and remembered for a while under the token's digest.

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use futures::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};
use k8s_openapi::jiff::Timestamp;
use katonic_logging_core::delivery::Pod;
use kube::Client;
use sha2::{Digest as _, Sha256};
use tokio::{sync::Semaphore, time::timeout};

use super::{
    Review,
    rate_limit::{Paces, RateLimit},
    review,
    token::{self, Foreign},
};
use crate::{cache::chain, health::Health};

/// Tokens that are remembered.
const REMEMBERED: usize = 32_768;

/// How long a pod's token is remembered at most: so long may somebody report whose pod is gone.
const LONGEST: Duration = Duration::from_mins(10);

/// How long the API server's word counts at least, whatever our own clock says of the token; and how long its "no" does.
const SHORTEST: Duration = Duration::from_secs(30);

/// Reviews a second that the API server is asked for, and at once: so many pods report where they report at most.
const REVIEWS: (u32, u32) = (50, 200);

/// Reviews under way at a time; others wait.
const AT_A_TIME: usize = 16;

/// How long a review may take, with its waiting.
const PATIENCE: Duration = Duration::from_secs(5);

/// Reports a second of one pod that are looked at, and at once, whichever tokens it shows. A pod has one to send every minute, and one for each change.
const REPORTS: (u32, u32) = (1, 30);

/// Why it is not known whose a token is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Stranger {
    /// Nobody's that may report.
    Foreign(Foreign),
    /// Too many ask.
    Throttled,
    /// The API server cannot be asked.
    Unavailable,
}

type Key = [u8; 32];
type Answer = Result<Pod, Stranger>;
type Ask = Box<
    dyn Fn(String) -> BoxFuture<'static, Result<Result<Pod, Foreign>, review::Error>> + Send + Sync,
>;

/// The tokens of pods.
pub(super) struct Tokens {
    ask: Ask,
    health: Arc<Health>,
    known: Mutex<Known>,
    under_way: Semaphore,
    complaint: Mutex<Option<String>>,
}

impl Tokens {
    /// Asks by this client.
    pub(super) fn reviewed_by(client: Client, health: Arc<Health>) -> Self {
        let ask = move |token| {
            let client = client.clone();
            async move { review::ask(&client, token).await }.boxed()
        };
        Self::new(Box::new(ask), health, REMEMBERED)
    }

    fn new(ask: Ask, health: Arc<Health>, room: usize) -> Self {
        Self {
            ask,
            health,
            known: Mutex::new(Known::new(room, Instant::now())),
            under_way: Semaphore::new(AT_A_TIME),
            complaint: Mutex::default(),
        }
    }

    /// The pod whose token this is.
    ///
    /// # Errors
    /// When it is nobody's that may report, or when that cannot be known now.
    pub(super) async fn pod(self: &Arc<Self>, token: &str) -> Answer {
        let now = Instant::now();
        let key = Sha256::digest(token).into();
        let asked = {
            let mut known = self.lock();
            match known.look_up(&key, now) {
                Some(Entry::Told(told)) => Ok(told.pod.clone().map_err(Stranger::Foreign)),
                Some(Entry::Pending(pending)) => Err(pending.clone()),
                None => Err(self.begin(&mut known, key, token, now)?),
            }
        };
        let pod = match asked {
            Ok(told) => told?,
            Err(pending) => pending.await?,
        };
        if self.lock().paces.take(&pod.uid, now) {
            Ok(pod)
        } else {
            Err(Stranger::Throttled)
        }
    }

    /// Begins to ask.
    fn begin(
        self: &Arc<Self>,
        known: &mut Known,
        key: Key,
        token: &str,
        now: Instant,
    ) -> Result<Pending, Stranger> {
        let clock = Timestamp::now();
        let end = token::expiry(token, clock).map_err(Stranger::Foreign)?;
        let left = Duration::try_from(end.duration_since(clock)).unwrap_or_default();
        if !known.reviews.take(now) {
            return Err(Stranger::Throttled);
        }
        let (tokens, token) = (self.clone(), token.to_owned());
        // A task of its own: whoever asked first may go away, and others wait for the same answer.
        let review = tokio::spawn(async move { tokens.review(key, token, left).await });
        let pending = async move { review.await.unwrap_or(Err(Stranger::Unavailable)) };
        let pending = pending.boxed().shared();
        known.entries.insert(key, Entry::Pending(pending.clone()));
        Ok(pending)
    }

    async fn review(&self, key: Key, token: String, left: Duration) -> Answer {
        let asked = timeout(PATIENCE, async {
            let _turn = self.under_way.acquire().await;
            (self.ask)(token).await
        });
        let asked = asked.await.map_err(|_| "it took too long".to_owned());
        let asked = asked.and_then(|asked| asked.map_err(|error| chain(&error)));
        let now = Instant::now();
        let (outcome, answer) = match asked {
            Ok(Ok(pod)) => {
                let for_long = left.clamp(SHORTEST, LONGEST);
                self.lock().tell(key, Ok(pod.clone()), now + for_long, now);
                (Review::Authenticated, Ok(pod))
            }
            Ok(Err(foreign)) => {
                self.lock().tell(key, Err(foreign), now + SHORTEST, now);
                (Review::Refused, Err(Stranger::Foreign(foreign)))
            }
            Err(why) => {
                self.lock().entries.remove(&key);
                self.complain(Some(why));
                (Review::Failed, Err(Stranger::Unavailable))
            }
        };
        if outcome != Review::Failed {
            self.complain(None);
        }
        self.health.metrics.reviewed(outcome);
        answer
    }

    /// Says once why the API server cannot be asked, and again when that changes.
    fn complain(&self, why: Option<String>) {
        let mut complaint = self
            .complaint
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(why) = why.as_ref().filter(|why| complaint.as_ref() != Some(*why)) {
            tracing::warn!(error = %why, "nobody says whose the tokens of reports are");
        }
        *complaint = why;
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        // A poisoned lock still guards whole entries: nothing panics halfway through a change.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entries = self.lock().entries.len();
        formatter
            .debug_struct("Tokens")
            .field("entries", &entries)
            .finish_non_exhaustive()
    }
}

type Pending = Shared<BoxFuture<'static, Answer>>;

enum Entry {
    Pending(Pending),
    Told(Told),
}

/// What the API server has said.
struct Told {
    pod: Result<Pod, Foreign>,
    until: Instant,
}

/// What is remembered.
struct Known {
    entries: HashMap<Key, Entry>,
    /// What was told, by when it ends.
    by_end: BTreeSet<(Instant, Key)>,
    room: usize,
    reviews: RateLimit,
    paces: Paces,
}

impl Known {
    fn new(room: usize, now: Instant) -> Self {
        let (rate, burst) = REVIEWS;
        Self {
            entries: HashMap::new(),
            by_end: BTreeSet::new(),
            room,
            reviews: RateLimit::new(rate, burst, now),
            paces: Paces::new(REPORTS, room),
        }
    }

    fn look_up(&mut self, key: &Key, now: Instant) -> Option<&mut Entry> {
        let until = match self.entries.get(key)? {
            Entry::Told(told) => Some(told.until),
            Entry::Pending(_) => None,
        };
        if let Some(until) = until.filter(|until| *until <= now) {
            self.by_end.remove(&(until, *key));
            self.entries.remove(key);
            return None;
        }
        self.entries.get_mut(key)
    }

    /// Remembers what the API server has said; where there is no room, whatever ends first is forgotten.
    fn tell(&mut self, key: Key, pod: Result<Pod, Foreign>, until: Instant, now: Instant) {
        while let Some((end, _)) = self.by_end.first()
            && (*end <= now || self.by_end.len() >= self.room)
        {
            if let Some((_, ended)) = self.by_end.pop_first() {
                self.entries.remove(&ended);
            }
        }
        self.entries.insert(key, Entry::Told(Told { pod, until }));
        self.by_end.insert((until, key));
    }
}

#[cfg(test)]
mod tests;
