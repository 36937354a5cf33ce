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
}

impl<V> Drop for Cache<V> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl<V: Clone + Debug + PartialEq + Send + 'static> Cache<V> {
    /// Watches objects. `facts` takes from each what is needed; `change` says what a change of it, from the first value
    /// to the second, means for the controller.
    pub fn watch<K>(
        api: Api<K>,
        config: watcher::Config,
        signal: Arc<Signal>,
        facts: impl Fn(K) -> V + Send + 'static,
        change: impl Fn(Option<&V>, Option<&V>) -> Change + Send + 'static,
    ) -> Self
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
    {
        let state = Arc::new(Mutex::new(State {
            facts: None,
            error: None,
        }));
        let shared = state.clone();
        let task = tokio::spawn(async move {
            let mut events = watcher(api, config).backoff(Retry::default()).boxed();
            let mut listing = BTreeMap::new();
            loop {
                let event = match events.try_next().await {
                    Ok(Some(event)) => event,
                    Ok(None) => return,
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
                        listing.insert(object.name_any(), facts(object));
                    }
                    Event::InitDone => {
                        let listed = Some(std::mem::take(&mut listing));
                        if state.facts != listed {
                            state.facts = listed;
                            signal.raise(Change::Plan);
                        }
                    }
                    Event::Apply(object) => {
                        let (name, new) = (object.name_any(), facts(object));
                        // A watch lists before it tells of changes.
                        let Some(known) = &mut state.facts else {
                            continue;
                        };
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

    /// All facts; `None` while they have not been listed.
    pub fn all(&self) -> Option<BTreeMap<String, V>> {
        lock(&self.state).facts.clone()
    }

    /// Looks at all facts without copying them.
    pub fn with<R>(&self, look: impl FnOnce(&BTreeMap<String, V>) -> R) -> Option<R> {
        lock(&self.state).facts.as_ref().map(look)
    }

    /// Whether the objects have been listed.
    pub fn is_synced(&self) -> bool {
        lock(&self.state).facts.is_some()
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
