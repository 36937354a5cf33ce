//! The pods of the planes, as the watches have them when a report comes: a moment later one of a short Job has ended.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use katonic_logging_core::{coverage, delivery::Pod};

use crate::cache::View;

/// The pods of each plane, by its namespace.
#[derive(Debug, Default)]
pub struct Roster(Mutex<Option<BTreeMap<String, View<Arc<coverage::Pod>>>>>);

/// What is known of a pod.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Sighting {
    /// Nothing: nobody has said yet which namespaces are planes.
    Unknown,
    /// It is of no plane.
    Elsewhere,
    /// It is of a plane, and no watch has told of it.
    Unseen,
    /// These facts.
    Seen(Arc<coverage::Pod>),
}

impl Roster {
    /// These are the planes from now on.
    pub fn follow(&self, planes: BTreeMap<String, View<Arc<coverage::Pod>>>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(planes);
    }

    /// What is known of the pod of a token.
    pub(super) fn look_up(&self, pod: &Pod) -> Sighting {
        let planes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(planes) = planes.as_ref() else {
            return Sighting::Unknown;
        };
        let Some(pods) = planes.get(&pod.namespace) else {
            return Sighting::Elsewhere;
        };
        // Another one of the same name is another pod.
        let known = pods.one(&pod.name).filter(|known| known.uid == pod.uid);
        known.map_or(Sighting::Unseen, Sighting::Seen)
    }
}
