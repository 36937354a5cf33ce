//! Watched objects, reduced to what is needed of them the moment they arrive.

use std::{
    collections::BTreeMap,
    fmt::Debug,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt, TryStreamExt};
use kube::{
    Api, Resource, ResourceExt,
    runtime::{
        WatchStreamExt,
        utils::Backoff,
        watcher::{self, Event, watcher},
    },
};
use serde::de::DeserializeOwned;
use tokio::{sync::Notify, task::JoinHandle};

/// How long until an API server without such objects is asked again.
const UNSERVED: Duration = Duration::from_secs(20);

/// What has changed since the controller last looked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Change {
    /// Something that the plan is made of.
    Plan,
    /// Something that only the status tells of.
    Status,
}

/// Wakes the controller; many changes at once wake it once.
#[derive(Debug, Default)]
pub struct Signal {
    plan: AtomicBool,
    status: AtomicBool,
    notify: Notify,
}

impl Signal {
    /// Says that something has changed.
    pub fn raise(&self, change: Change) {
        match change {
            Change::Plan => self.plan.store(true, Ordering::SeqCst),
            Change::Status => self.status.store(true, Ordering::SeqCst),
        }
        self.notify.notify_one();
    }

    /// Waits for a change. Where only the status is concerned, more changes are waited for: a thousand pods that start
    /// together are one news.
    pub async fn changed(&self, gather: Duration) -> Change {
        loop {
            if self.plan.swap(false, Ordering::SeqCst) {
                self.status.store(false, Ordering::SeqCst);
                return Change::Plan;
            }
            if self.status.load(Ordering::SeqCst) {
                let woken = tokio::time::timeout(gather, async {
                    while !self.plan.load(Ordering::SeqCst) {
                        self.notify.notified().await;
                    }
                });
                if woken.await.is_err() {
                    self.status.store(false, Ordering::SeqCst);
                    return Change::Status;
                }
            } else {
                self.notify.notified().await;
            }
        }
    }
}

/// What is known of one object.
#[derive(Clone, Debug, PartialEq)]
pub enum Seen<V> {
    /// Nothing yet.
    Unknown,
    /// That it is not there.
    Absent,
    /// These facts.
    There(V),
}

impl<V> Seen<V> {
    /// The facts, if it is there.
    pub fn there(self) -> Option<V> {
        match self {
            Self::There(facts) => Some(facts),
            Self::Unknown | Self::Absent => None,
        }
    }
}

/// The facts about all objects of one watch, by name. The watch ends with the cache.
#[derive(Debug)]
pub struct Cache<V> {
    state: Arc<Mutex<State<V>>>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct State<V> {
    facts: Option<BTreeMap<String, V>>,
    error: Option<String>,
    /// Whether the API server has such objects at all; none while it has not said.
    served: Option<bool>,
}

impl<V> State<V> {
    /// The API server has no such objects; whether that is news.
    fn forget(&mut self, error: &watcher::Error) -> bool {
        self.error = Some(chain(error));
        self.facts = None;
        self.served.replace(false) != Some(false)
    }
}

/// What a cache knows, for somebody who does not keep the watch going.
#[derive(Debug)]
pub struct View<V>(Arc<Mutex<State<V>>>);

impl<V: Clone> View<V> {
    /// What is known of this object.
    pub fn one(&self, name: &str) -> Option<V> {
        lock(&self.0).facts.as_ref()?.get(name).cloned()
    }
}

impl<V> Drop for Cache<V> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl<V: Clone + Debug + PartialEq + Send + 'static> Cache<V> {
    /// Watches objects. `facts` takes from each what is needed, beside what was taken from it before; `change` says what a change of it, from the first value
    /// to the second, means for the controller.
    pub fn watch<K>(
        api: Api<K>,
        config: watcher::Config,
        signal: Arc<Signal>,
        facts: impl Fn(K, Option<&V>) -> V + Send + 'static,
        change: impl Fn(Option<&V>, Option<&V>) -> Change + Send + 'static,
    ) -> Self
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
    {
        let state = Arc::new(Mutex::new(State {
            facts: None,
            error: None,
            served: None,
        }));
        let shared = state.clone();
        let task = tokio::spawn(async move {
            let mut events = watcher(api, config).backoff(Retry::default()).boxed();
            let mut listing = BTreeMap::new();
            loop {
                let event = match events.try_next().await {
                    Ok(Some(event)) => event,
                    Ok(None) => return,
                    Err(error) if is_unserved(&error) => {
                        if lock(&shared).forget(&error) {
                            tracing::info!(kind = %K::kind(&()), "the API server has no such objects");
                            signal.raise(Change::Plan);
                        }
                        // It may be upgraded one day.
                        tokio::time::sleep(UNSERVED).await;
                        continue;
                    }
                    Err(error) => {
                        tracing::warn!(kind = %K::kind(&()), error = %chain(&error), "failed to watch");
                        let first = lock(&shared).error.replace(chain(&error)).is_none();
                        if first {
                            signal.raise(Change::Plan);
                        }
                        continue;
                    }
                };
                let mut state = lock(&shared);
                state.error = None;
                match event {
                    Event::Init => listing = BTreeMap::new(),
                    Event::InitApply(object) => {
                        let name = object.name_any();
                        let before = state.facts.as_ref().and_then(|known| known.get(&name));
                        let new = facts(object, before);
                        listing.insert(name, new);
                    }
                    Event::InitDone => {
                        let listed = Some(std::mem::take(&mut listing));
                        let newly_served = state.served.replace(true) != Some(true);
                        if state.facts != listed || newly_served {
                            state.facts = listed;
                            signal.raise(Change::Plan);
                        }
                    }
                    Event::Apply(object) => {
                        // A watch lists before it tells of changes.
                        let Some(known) = &mut state.facts else {
                            continue;
                        };
                        let name = object.name_any();
                        let new = facts(object, known.get(&name));
                        if known.get(&name) != Some(&new) {
                            signal.raise(change(known.get(&name), Some(&new)));
                            known.insert(name, new);
                        }
                    }
                    Event::Delete(object) => {
                        let old = state
                            .facts
                            .as_mut()
                            .and_then(|known| known.remove(&object.name_any()));
                        signal.raise(change(old.as_ref(), None));
                    }
                }
            }
        });
        Self { state, task }
    }

    /// For others to look at, for as long as it is there.
    pub fn view(&self) -> View<V> {
        View(self.state.clone())
    }

    /// All facts; `None` while they have not been listed.
    pub fn all(&self) -> Option<BTreeMap<String, V>> {
        lock(&self.state).facts.clone()
    }

    /// What is known of this object.
    pub fn one(&self, name: &str) -> Seen<V> {
        let one = self.with(|all| all.get(name).cloned());
        one.map_or(Seen::Unknown, |one| one.map_or(Seen::Absent, Seen::There))
    }

    /// Looks at all facts without copying them.
    pub fn with<R>(&self, look: impl FnOnce(&BTreeMap<String, V>) -> R) -> Option<R> {
        lock(&self.state).facts.as_ref().map(look)
    }

    /// Whether the objects have been listed.
    pub fn is_synced(&self) -> bool {
        lock(&self.state).facts.is_some()
    }

    /// Whether the API server has such objects at all; none while it has not said.
    pub fn is_served(&self) -> Option<bool> {
        lock(&self.state).served
    }

    /// Whether the objects have been listed, or are known not to be to be had.
    pub fn is_settled(&self) -> bool {
        self.is_synced() || self.error().is_some()
    }

    /// Why the objects cannot be watched at present.
    pub fn error(&self) -> Option<String> {
        lock(&self.state).error.clone()
    }

    /// Changes what is known of an object, after it has been written and before the watch says so.
    pub fn update(&self, name: &str, update: impl FnOnce(&mut V)) {
        if let Some(fact) = lock(&self.state)
            .facts
            .as_mut()
            .and_then(|facts| facts.get_mut(name))
        {
            update(fact);
        }
    }
}

/// Not a missing object, which a list or a watch does not ask for: a missing kind of objects.
fn is_unserved(error: &watcher::Error) -> bool {
    let (watcher::Error::InitialListFailed(error) | watcher::Error::WatchStartFailed(error)) =
        error
    else {
        return false;
    };
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

fn lock<V>(state: &Mutex<State<V>>) -> MutexGuard<'_, State<V>> {
    // A poisoned lock still guards whole facts: nothing panics halfway through a change.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An error with its causes, on one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// How long a broken watch waits: short at first, so that a right that was just given, or an API server that was just
/// restarted, is noticed soon.
#[derive(Debug)]
struct Retry(Duration);

impl Default for Retry {
    fn default() -> Self {
        Self(Self::FIRST)
    }
}

impl Retry {
    const FIRST: Duration = Duration::from_millis(200);
    const LONGEST: Duration = Duration::from_secs(10);
}

impl Iterator for Retry {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let wait = self.0;
        self.0 = (wait * 2).min(Self::LONGEST);
        Some(wait)
    }
}

impl Backoff for Retry {
    fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn changes_of_the_status_are_gathered_and_those_of_the_plan_are_not() {
        let signal = Signal::default();
        signal.raise(Change::Status);
        let start = tokio::time::Instant::now();
        assert_eq!(signal.changed(Duration::from_secs(1)).await, Change::Status);
        assert_eq!(start.elapsed(), Duration::from_secs(1));
        signal.raise(Change::Status);
        signal.raise(Change::Plan);
        assert_eq!(signal.changed(Duration::from_secs(1)).await, Change::Plan);
        assert_eq!(start.elapsed(), Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn the_plan_does_not_wait_for_the_status() {
        let signal = Arc::new(Signal::default());
        signal.raise(Change::Status);
        let other = signal.clone();
        tokio::spawn(async move { other.raise(Change::Plan) });
        let start = tokio::time::Instant::now();
        assert_eq!(signal.changed(Duration::from_secs(9)).await, Change::Plan);
        assert!(start.elapsed() < Duration::from_secs(1));
    }
}
