//! Places for connections: how many there are at a time, and whose goes to another one when all are taken.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::{sync::Notify, time::sleep};

/// How long a place is safe, from its beginning and from each question: whoever has one asks at once, and it arrives in
/// milliseconds.
const GRACE: Duration = Duration::from_secs(1);

/// How often whoever waits looks again.
const AGAIN: Duration = Duration::from_millis(50);

/// The places. Anybody in the cluster may take one, so none is kept by whoever says nothing while another one wants it.
#[derive(Debug)]
pub(super) struct Places {
    most: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    next: u64,
    held: BTreeMap<u64, Held>,
}

#[derive(Debug)]
struct Held {
    /// Whether a question was answered here: then it is of somebody who has a reason to ask, as far as can be known.
    has_asked: bool,
    /// Since when it has been quiet, or since when its question has been arriving.
    since: Instant,
    lost: Arc<Notify>,
}

/// A place, until it is dropped or [lost](Self::lost).
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    number: u64,
    lost: Arc<Notify>,
}

impl Places {
    /// So many.
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            most,
            taken: Mutex::default(),
        })
    }

    /// One of them. Where all are taken, the one that has been quiet for longest is lost to this: first of those in which no
    /// question was ever answered.
    pub(super) async fn take(self: &Arc<Self>) -> Place {
        loop {
            if let Some(place) = self.try_take(Instant::now()) {
                return place;
            }
            sleep(AGAIN).await;
        }
    }

    fn try_take(self: &Arc<Self>, now: Instant) -> Option<Place> {
        let mut taken = self.lock();
        if taken.held.len() >= self.most {
            let quiet = taken
                .held
                .iter()
                .filter(|(_, held)| now.saturating_duration_since(held.since) >= GRACE);
            let (number, _) = quiet.min_by_key(|(_, held)| (held.has_asked, held.since))?;
            let number = *number;
            if let Some(held) = taken.held.remove(&number) {
                held.lost.notify_one();
            }
        }
        let number = taken.next;
        taken.next += 1;
        let lost = Arc::<Notify>::default();
        let held = Held {
            has_asked: false,
            since: now,
            lost: lost.clone(),
        };
        taken.held.insert(number, held);
        Some(Place {
            places: self.clone(),
            number,
            lost,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        // A poisoned lock still guards whole places: nothing panics halfway through a change.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// A question begins to arrive, or an answer is given: `answered` says to a question that was one.
    pub(super) fn moves(&self, answered: bool) {
        if let Some(held) = self.places.lock().held.get_mut(&self.number) {
            held.since = Instant::now();
            held.has_asked |= answered;
        }
    }

    /// Until the place is another one's.
    pub(super) async fn lost(&self) {
        self.lost.notified().await;
    }

    /// Until so much time has passed without an answer having been given; for ever where one was.
    pub(super) async fn unused(&self, within: Duration) {
        sleep(within).await;
        let has_asked = |held: &Held| held.has_asked;
        if self
            .places
            .lock()
            .held
            .get(&self.number)
            .is_some_and(has_asked)
        {
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.lock().held.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    fn is_lost(place: &Place) -> bool {
        place.lost().now_or_never().is_some()
    }

    #[test]
    fn where_all_are_taken_the_one_that_never_asked_and_is_quiet_longest_goes() {
        let places = Places::new(3);
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let asker = places.try_take(start).unwrap();
        asker.moves(true);
        let first = places.try_take(after(1)).unwrap();
        let second = places.try_take(after(2)).unwrap();
        let third = places.try_take(after(3)).unwrap();
        assert!(is_lost(&first));
        assert!([&asker, &second, &third].iter().all(|one| !is_lost(one)));
        drop(first);
        assert!(places.try_take(after(4)).is_some());
        assert!(is_lost(&second) && !is_lost(&asker));
    }

    #[test]
    fn nobody_goes_who_has_just_begun() {
        let places = Places::new(1);
        let start = Instant::now();
        let first = places.try_take(start).unwrap();
        assert!(
            places
                .try_take(start + Duration::from_millis(900))
                .is_none()
        );
        assert!(!is_lost(&first));
        assert!(places.try_take(start + GRACE).is_some());
        assert!(is_lost(&first));
    }

    #[test]
    fn a_place_that_is_given_back_is_free() {
        let places = Places::new(1);
        let start = Instant::now();
        drop(places.try_take(start).unwrap());
        assert!(places.try_take(start).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_is_for_whoever_asks_soon() {
        let places = Places::new(2);
        let (silent, asking) = (places.take().await, places.take().await);
        asking.moves(true);
        let within = Duration::from_secs(5);
        silent.unused(within).await;
        let waited = tokio::time::timeout(within * 10, asking.unused(within)).await;
        assert!(waited.is_err(), "its own silence is bounded elsewhere");
    }
}
