//! A change that was refused: it is left alone for a while, unless something happens that could let it pass.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use katonic_logging_core::trial::Refusal;

use super::sources::Circumstances;

/// How long it is left alone, at first and at most.
const AGAIN: (Duration, Duration) = (Duration::from_mins(1), Duration::from_mins(16));

/// The change that was refused last, by what tells it from every other one.
pub struct Refused<R>(Option<Change<R>>);

struct Change<R> {
    revision: R,
    circumstances: BTreeMap<String, Circumstances>,
    refusal: Refusal,
    until: Instant,
    wait: Duration,
}

impl<R> Default for Refused<R> {
    fn default() -> Self {
        Self(None)
    }
}

impl<R: Clone + PartialEq> Refused<R> {
    /// Why this was refused last, as long as it is to be left alone for it.
    pub fn refusal(
        &self,
        revision: &R,
        circumstances: &BTreeMap<String, Circumstances>,
    ) -> Option<Refusal> {
        let change = self.last(revision, circumstances)?;
        (Instant::now() < change.until).then(|| change.refusal.clone())
    }

    /// Remembers that this was refused; each time for twice as long.
    pub fn refuse(
        &mut self,
        revision: &R,
        circumstances: &BTreeMap<String, Circumstances>,
        refusal: Refusal,
    ) {
        tracing::error!(namespace = %refusal.namespace, message = %refusal.message, "a change of injection is refused");
        let again = self
            .last(revision, circumstances)
            .map(|change| (change.wait * 2).min(AGAIN.1));
        let wait = again.unwrap_or(AGAIN.0);
        self.0 = Some(Change {
            revision: revision.clone(),
            circumstances: circumstances.clone(),
            refusal,
            until: Instant::now() + wait,
            wait,
        });
    }

    /// Forgets it: it has passed, or nothing is wanted.
    pub fn forget(&mut self) {
        self.0 = None;
    }

    fn last(
        &self,
        revision: &R,
        circumstances: &BTreeMap<String, Circumstances>,
    ) -> Option<&Change<R>> {
        self.0
            .as_ref()
            .filter(|change| change.revision == *revision && change.circumstances == *circumstances)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_change_is_left_alone_for_longer_each_time_and_another_one_is_not() {
        let mut refused = Refused::default();
        let circumstances = BTreeMap::new();
        let refusal = Refusal {
            namespace: "a".into(),
            message: "words".into(),
        };
        assert_eq!(refused.refusal(&1, &circumstances), None);
        for minutes in [1, 2, 4, 8, 16, 16] {
            refused.refuse(&1, &circumstances, refusal.clone());
            assert_eq!(refused.refusal(&1, &circumstances), Some(refusal.clone()));
            let wait = refused.0.as_ref().unwrap().wait;
            assert_eq!(wait, Duration::from_mins(minutes));
        }
        assert_eq!(refused.refusal(&2, &circumstances), None);
        refused.forget();
        assert_eq!(refused.refusal(&1, &circumstances), None);
    }
}
