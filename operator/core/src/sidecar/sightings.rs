//! What others make of the agent in every pod, told from what they make of it in one.

use std::collections::{BTreeMap, BTreeSet};

use super::{Form, Revision};

/// How many forms are held that were seen once.
const ONCE: usize = 64;

/// The agents of trial pods as they came back.
///
/// A form counts when two pods have shown it: what changes with every pod is nobody's rule, and would be learnt, and written, for
/// ever.
#[derive(Clone, Debug, Default)]
pub struct Sightings {
    once: BTreeSet<(Revision, Form)>,
    again: BTreeMap<Revision, BTreeSet<Form>>,
}

impl Sightings {
    /// A trial pod came back with this; whether one had before.
    pub fn saw(&mut self, revision: Revision, form: Form) -> bool {
        let seen = (revision, form);
        if self.once.contains(&seen) {
            let (revision, form) = seen;
            self.again.entry(revision).or_default().insert(form);
            return true;
        }
        if self.once.len() >= ONCE {
            self.once.clear();
        }
        self.once.insert(seen);
        false
    }

    /// The forms of this agent that two pods have shown since it was last asked for; of others nothing is held any longer.
    pub fn take(&mut self, revision: &Revision) -> BTreeSet<Form> {
        let mut again = std::mem::take(&mut self.again);
        again.remove(revision).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        sidecar::Sidecar,
        testing::{form, installation},
    };

    #[test]
    fn what_two_pods_show_counts_and_what_one_shows_does_not() {
        let revision = Sidecar::new(&installation().agent).unwrap().revision;
        let mut sightings = Sightings::default();
        assert!(!sightings.saw(revision.clone(), form("mirrored")));
        assert_eq!(sightings.take(&revision), BTreeSet::new());
        assert!(sightings.saw(revision.clone(), form("mirrored")));
        for number in 0..200 {
            assert!(!sightings.saw(revision.clone(), form(&number.to_string())));
        }
        assert_eq!(sightings.take(&revision), [form("mirrored")].into());
        assert_eq!(sightings.take(&revision), BTreeSet::new());
        assert!(sightings.once.len() <= ONCE);
    }
}
