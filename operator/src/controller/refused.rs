//! A change that was refused: it is left alone, unless something happens that could let it pass.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use katonic_logging_core::trial::{Outcome, Refusal};

use super::sources::Circumstances;

/// How long a change that nobody's pods notice is left alone, at first and at most.
const AGAIN: (Duration, Duration) = (Duration::from_mins(1), Duration::from_mins(16));

/// How often pods ask whether one that others' pods notice would be taken now.
const ASK: Duration = Duration::from_secs(10);

/// A change that was tried. What is equal in all of it is refused again.
#[derive(Clone, PartialEq)]
pub struct Attempt<R> {
    /// What was to be put in force.
    pub revision: R,
    /// What can make namespaces refuse pods, as far as it is watched.
    pub circumstances: BTreeMap<String, Circumstances>,
    /// When somebody last asked for it.
    pub requested_at: Option<String>,
}

/// The change that was refused last and whose trials reach no pod of anybody's: it is tried again after a while, for what is not
/// watched.
pub struct Refused<R>(Option<Change<R>>);

struct Change<R> {
    attempt: Attempt<R>,
    refusal: Refusal,
    until: Instant,
    wait: Duration,
}

impl<R> Default for Refused<R> {
    fn default() -> Self {
        Self(None)
    }
}

impl<R: PartialEq> Refused<R> {
    /// Why this was refused last, as long as it is to be left alone for it.
    pub fn refusal(&self, attempt: &Attempt<R>) -> Option<Refusal> {
        let change = self.last(attempt)?;
        (Instant::now() < change.until).then(|| change.refusal.clone())
    }

    /// Remembers that this was refused; each time for twice as long.
    pub fn refuse(&mut self, attempt: Attempt<R>, refusal: Refusal) {
        log(&refusal);
        let again = self
            .last(&attempt)
            .map(|change| (change.wait * 2).min(AGAIN.1));
        let wait = again.unwrap_or(AGAIN.0);
        self.0 = Some(Change {
            attempt,
            refusal,
            until: Instant::now() + wait,
            wait,
        });
    }

    /// Forgets it: it has passed, or nothing is wanted.
    pub fn forget(&mut self) {
        self.0 = None;
    }

    fn last(&self, attempt: &Attempt<R>) -> Option<&Change<R>> {
        self.0.as_ref().filter(|change| change.attempt == *attempt)
    }
}

/// A change whose trial has everybody's pods refused while it lasts, and that was taken back: time alone is no reason to try it
/// again. Pods that carry what was refused are, once they are taken.
pub struct TakenBack<R> {
    attempt: Attempt<R>,
    refusal: Refusal,
    namespaces: BTreeSet<String>,
    asked: Option<Instant>,
    /// Whether pods that carry it were refused too: then their answers are about the change.
    shown: bool,
}

impl<R: PartialEq> TakenBack<R> {
    /// This was refused in these namespaces.
    pub fn new(attempt: Attempt<R>, refusal: Refusal, namespaces: BTreeSet<String>) -> Self {
        log(&refusal);
        Self {
            attempt,
            refusal,
            namespaces,
            asked: None,
            shown: false,
        }
    }

    /// Whether this is what was refused.
    pub fn is_of(&self, attempt: &Attempt<R>) -> bool {
        self.attempt == *attempt
    }

    /// Why it was refused.
    pub fn refusal(&self) -> &Refusal {
        &self.refusal
    }

    /// Where pods are to ask, if they are to ask now.
    pub fn asks(&self) -> Option<&BTreeSet<String>> {
        match self.asked {
            None => Some(&self.namespaces),
            Some(asked) => (self.shown && asked.elapsed() >= ASK).then_some(&self.namespaces),
        }
    }

    /// When they are to ask next; never, if their answers are not about it.
    pub fn asks_in(&self) -> Option<Duration> {
        let asked = self.asked.filter(|_| self.shown)?;
        Some(ASK.saturating_sub(asked.elapsed()))
    }

    /// What became of pods that carry it: whether it may be tried again.
    pub fn answered(&mut self, outcomes: &BTreeMap<String, Outcome>) -> bool {
        let are_all_taken = outcomes.values().all(|outcome| *outcome == Outcome::Passed);
        let is_first = self.asked.replace(Instant::now()).is_none();
        if is_first {
            // No answer is none that says that they are taken.
            self.shown = !are_all_taken;
        }
        self.shown && are_all_taken
    }
}

fn log(refusal: &Refusal) {
    tracing::error!(namespace = %refusal.namespace, message = %refusal.message, "a change of injection is refused");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(revision: u8, requested_at: Option<&str>) -> Attempt<u8> {
        Attempt {
            revision,
            circumstances: BTreeMap::new(),
            requested_at: requested_at.map(str::to_owned),
        }
    }

    fn refusal() -> Refusal {
        Refusal {
            namespace: "a".into(),
            message: "words".into(),
        }
    }

    #[test]
    fn a_refused_change_is_left_alone_for_longer_each_time_and_another_one_is_not() {
        let mut refused = Refused::default();
        let this = attempt(1, None);
        assert_eq!(refused.refusal(&this), None);
        for minutes in [1, 2, 4, 8, 16, 16] {
            refused.refuse(this.clone(), refusal());
            assert_eq!(refused.refusal(&this), Some(refusal()));
            let wait = refused.0.as_ref().unwrap().wait;
            assert_eq!(wait, Duration::from_mins(minutes));
        }
        assert_eq!(refused.refusal(&attempt(2, None)), None);
        assert_eq!(refused.refusal(&attempt(1, Some("now"))), None);
        refused.forget();
        assert_eq!(refused.refusal(&this), None);
    }

    fn answers(outcomes: [Outcome; 2]) -> BTreeMap<String, Outcome> {
        ["a", "b"]
            .map(str::to_owned)
            .into_iter()
            .zip(outcomes)
            .collect()
    }

    #[test]
    fn what_was_taken_back_is_tried_again_when_pods_are_taken_that_were_refused() {
        let namespaces = BTreeSet::from(["a".to_owned(), "b".to_owned()]);
        let mut taken_back = TakenBack::new(attempt(1, None), refusal(), namespaces.clone());
        assert_eq!(taken_back.asks(), Some(&namespaces));
        let refused = || Outcome::Refused("words".into());
        assert!(!taken_back.answered(&answers([refused(), refused()])));
        assert_eq!(taken_back.asks(), None);
        assert!(taken_back.asks_in() <= Some(ASK));
        for other in [
            refused(),
            Outcome::Silent("full".into()),
            Outcome::Unanswered("away".into()),
        ] {
            assert!(!taken_back.answered(&answers([Outcome::Passed, other])));
        }
        assert!(taken_back.answered(&answers([Outcome::Passed, Outcome::Passed])));
    }

    /// What pods that carry the agent cannot show is not tried again by itself, however much time has passed.
    #[test]
    fn what_no_pod_shows_is_left_alone_until_it_is_another_attempt() {
        let mut taken_back = TakenBack::new(attempt(1, None), refusal(), BTreeSet::new());
        for _ in 0..3 {
            assert!(!taken_back.answered(&answers([Outcome::Passed, Outcome::Passed])));
            assert_eq!((taken_back.asks(), taken_back.asks_in()), (None, None));
        }
        assert!(taken_back.is_of(&attempt(1, None)));
        assert!(!taken_back.is_of(&attempt(2, None)));
        assert!(!taken_back.is_of(&attempt(1, Some("now"))));
    }
}
